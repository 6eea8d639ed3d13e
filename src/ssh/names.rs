//! What an SSH user name asks for (PURE, **D names**).

use crate::id::{Login, NotAWord, Person, RequestId, TargetId};

/// Where a connection's channels go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The bare name of the authenticated person.
    Console,
    /// `req-K7Q3FM`: the console, with this card (`users.md` 6).
    Card(RequestId),
    Target {
        /// `None`: the target's default.
        login: Option<Login>,
        /// As typed; looked up among targets and aliases.
        name: String,
    },
}

/// Splits a user name at its last `@`, `=` or `%` into login and target. `=` survives ssh:// and git
/// URLs, `%` and a second `@` do not. A bare name equal to the person's is the console.
pub fn wanted(user: &str, person: &Person) -> Result<Wanted, NotAWord> {
    let target = |name: &str| name.to_ascii_lowercase().parse::<TargetId>().map(|_| name.to_owned());
    match user.rfind(['@', '=', '%']) {
        Some(at) => {
            let (login, name) = user.split_at(at);
            Ok(Wanted::Target { login: Some(login.parse()?), name: target(name.get(1..).unwrap_or_default())? })
        }
        None if user == person.as_str() => Ok(Wanted::Console),
        None => match card(user) {
            Some(id) => Ok(Wanted::Card(id)),
            None => Ok(Wanted::Target { login: None, name: target(user)? }),
        },
    }
}

/// No person and no target has such a name: the directory refuses them.
fn card(user: &str) -> Option<RequestId> {
    let (head, id) = user.split_at_checked(4)?;
    if head.eq_ignore_ascii_case("req-") { id.to_ascii_uppercase().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_split_at_its_last_separator() {
        let alice = "alice".parse().unwrap();
        for user in ["deploy=web-1", "deploy@web-1", "deploy%web-1"] {
            let Wanted::Target { login: Some(login), name } = wanted(user, &alice).unwrap() else { panic!("{user}") };
            assert_eq!((login.as_str(), name.as_str()), ("deploy", "web-1"));
        }
        assert_eq!(wanted("alice", &alice).unwrap(), Wanted::Console);
        assert_eq!(wanted("web-1", &alice).unwrap(), Wanted::Target { login: None, name: "web-1".into() });
        for user in ["req-K7Q3FM", "req-k7q3fm"] {
            assert_eq!(wanted(user, &alice).unwrap(), Wanted::Card("K7Q3FM".parse().unwrap()));
        }
        assert_eq!(wanted("req-1", &alice).unwrap(), Wanted::Target { login: None, name: "req-1".into() });
        assert!(wanted("a=b=c", &alice).is_err(), "the login would hold a separator");
        assert!(wanted("=web-1", &alice).is_err());
        assert!(wanted("WEB-1", &alice).is_ok(), "host names do not heed case");
        for malformed in ["deploy=", "deploy=web/1", "web 1", ""] {
            assert!(wanted(malformed, &alice).is_err(), "{malformed:?}");
        }
    }
}
