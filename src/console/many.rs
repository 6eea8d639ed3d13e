//! A list of targets on standard input (`request deploy@- <list`): read whole, each name once, sorted, or
//! not taken at all. Used by the console, and by the companion before it sends anything.

use super::grammar::{Destination, RequestArgs};
use super::render::brief;
use crate::access::request::MAX_TARGETS;

/// Longest list that is read: 500 of the longest names fit.
pub const MAX_LIST: usize = 256 * 1024;
/// Lines that are named where they are wrong.
const NAMED: usize = 5;

impl RequestArgs {
    /// Whether the targets, or some of them, stand on standard input.
    pub fn takes_list(&self) -> bool {
        self.targets.iter().any(Destination::is_list)
    }

    /// Whether it says which targets only to whoever knows the person's own.
    pub fn takes_pattern(&self) -> bool {
        self.targets.iter().any(|named| named.pattern().is_some())
    }

    /// Puts the names of a list in the place of `LOGIN@-`: one a line, with white space around it; empty
    /// lines and those that begin with `#` are none.
    pub fn with_list(mut self, list: &[u8]) -> Result<Self, String> {
        if list.len() > MAX_LIST {
            return Err(format!("the list on standard input is longer than {} KiB; ask in parts", MAX_LIST / 1024));
        }
        let text = std::str::from_utf8(list).map_err(|_| "the list on standard input is not UTF-8".to_owned())?;
        let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
        let names: Vec<(usize, &str)> = lines.filter(|(_, name)| !name.is_empty() && !name.starts_with('#')).collect();
        if names.is_empty() {
            return Err("the list on standard input names no target: one a line".into());
        }
        let (lists, mut targets): (Vec<_>, Vec<_>) = self.targets.into_iter().partition(Destination::is_list);
        let mut wrong = Vec::new();
        for list in &lists {
            for (n, name) in &names {
                match on(list, name) {
                    Ok(target) => targets.push(target),
                    Err(why) => wrong.push(format!("line {n}, {:?}: {why}", brief(name, 40))),
                }
            }
        }
        if !wrong.is_empty() {
            let more = wrong.len().saturating_sub(NAMED);
            wrong.truncate(NAMED);
            let more = if more > 0 { format!("; and {more} more lines") } else { String::new() };
            return Err(format!("the list on standard input is not one of targets: {}{more}", wrong.join("; ")));
        }
        targets.sort_by_key(ToString::to_string);
        targets.dedup();
        if targets.len() > MAX_TARGETS {
            return Err(format!("the list names {} targets, and a request 1 to {MAX_TARGETS}: ask in parts", targets.len()));
        }
        self.targets = targets;
        Ok(self)
    }
}

/// One name of a list, for the login of `LOGIN@-`.
fn on(list: &Destination, name: &str) -> Result<Destination, String> {
    if name.contains(char::is_whitespace) {
        return Err("it has white space in it; before ansible's --list-hosts put: | tail -n +2".into());
    }
    if name == "-" || name.starts_with('-') {
        return Err("no target's name begins with a hyphen".into());
    }
    let target: Destination = match &list.login {
        Some(_) if name.contains(['@', '=', '%']) => return Err("it names a login, and so does LOGIN@-; leave one out".into()),
        Some(login) => Destination { login: Some(login.clone()), target: name.to_owned() },
        None => name.parse()?,
    };
    if target.target.len() > 255 { Err("it is longer than a name may be".into()) } else { Ok(target) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::grammar::{Verb, parse};
    use proptest::prelude::*;

    fn request(line: &str) -> RequestArgs {
        match parse(&format!("request {line}")).unwrap().verb.unwrap() {
            Verb::Request(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn named(line: &str, list: &str) -> Result<Vec<String>, String> {
        request(line).with_list(list.as_bytes()).map(|args| args.targets.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_is_sorted_and_each_name_stands_once() {
        let list = "    web-2\n    web-1\n# the rest\n\n web-2\r\nweb-10\n";
        assert_eq!(named("deploy@-", list).unwrap(), ["deploy@web-1", "deploy@web-10", "deploy@web-2"]);
        assert_eq!(named("- --for 2h", "web-1\nroot@db-1").unwrap(), ["root@db-1", "web-1"]);
        assert_eq!(named("deploy@- deploy@db-1", "web-1").unwrap(), ["deploy@db-1", "deploy@web-1"]);
        assert!(request("deploy@-").takes_list() && !request("deploy@web-1").takes_list());
    }

    #[test]
    fn what_is_no_list_of_targets_is_said_by_its_lines() {
        let said = named("deploy@-", "  hosts (2):\n    web-1\n  root@web-2\n").unwrap_err();
        assert!(said.contains("line 1, \"hosts (2):\"") && said.contains("tail -n +2") && said.contains("line 3"), "{said}");
        assert!(named("deploy@-", "# nothing\n").unwrap_err().contains("names no target"));
        assert!(named("deploy@-", &"x y\n".repeat(9)).unwrap_err().contains("and 4 more lines"));
        let many: String = (0..501).map(|n| format!("web-{n}\n")).collect();
        assert!(named("deploy@-", &many).unwrap_err().contains("501 targets"));
        assert!(named("deploy@-", &many[..many.len() - 8]).is_ok(), "500 fit");
        assert!(request("deploy@-").with_list(&[0xff]).unwrap_err().contains("UTF-8"));
        assert!(request("deploy@-").with_list(&vec![b'a'; MAX_LIST + 1]).unwrap_err().contains("256 KiB"));
    }

    #[test]
    fn a_pattern_is_one_by_its_star() {
        assert!(request("'deploy@web-*'").takes_pattern() && !request("deploy@web-1").takes_pattern());
    }

    proptest! {
        #[test]
        fn no_list_panics_and_none_brings_a_list_in(list in "\\PC{0,80}") {
            if let Ok(args) = request("deploy@-").with_list(list.as_bytes()) {
                prop_assert!(!args.takes_list() && !args.targets.is_empty());
            }
        }
    }
}
