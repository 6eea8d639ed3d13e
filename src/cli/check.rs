//! `countersign check -c DIR`: what is wrong with a directory, all of it, and the policies' own tests.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

use super::init::KEYS;
use crate::access::decision::Level;
use crate::config::{Directory, Problem, cases};

/// Everything is in order; there may be warnings.
const IN_ORDER: u8 = 0;
/// Something has to be corrected (EX_CONFIG of sysexits.h).
const OUT_OF_ORDER: u8 = 78;

/// Prints every error and warning and runs the cases; returns the exit status.
pub fn run(dir: &Path) -> anyhow::Result<u8> {
    report(dir, &mut std::io::stdout().lock()).context("printing what was found")
}

fn report(dir: &Path, out: &mut impl Write) -> std::io::Result<u8> {
    let inspection = Directory::inspect(dir);
    let mut errors = inspection.errors;
    let mut warnings = inspection.warnings;
    let mut cases = 0;
    if let Some(directory) = &inspection.directory {
        let (failed, count) = cases::run_counted(directory);
        errors.extend(failed);
        cases = count;
        warnings.extend(missing_keys(dir));
    }
    for error in &errors {
        writeln!(out, "{error}")?;
    }
    for warning in &warnings {
        writeln!(out, "{}", Problem { what: format!("warning: {}", warning.what), ..warning.clone() })?;
    }
    let warned = if warnings.is_empty() { String::new() } else { format!(", {}", some(warnings.len(), "warning")) };
    match inspection.directory {
        Some(directory) if errors.is_empty() => {
            advise(&directory, out)?;
            let people = if directory.people.iter().count() == 1 {
                "1 person".to_owned()
            } else {
                format!("{} people", directory.people.iter().count())
            };
            let mut targets = some(directory.targets.iter().count(), "target");
            let families = directory.targets.families().count();
            if families > 0 {
                targets.push_str(&format!(" and {}", some(families, "pattern")));
            }
            let policies = directory.policy.ids().count();
            let policies = if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
            let cases = some(cases, "case");
            writeln!(out, "countersign: {} is in order: {people}, {targets}, {policies}, {cases} passed{warned}", dir.display())?;
            Ok(IN_ORDER)
        }
        _ => {
            writeln!(out, "countersign: {} is not in order: {}{warned}", dir.display(), some(errors.len(), "error"))?;
            Ok(OUT_OF_ORDER)
        }
    }
}

/// What is allowed and could be better.
fn advise(directory: &Directory, out: &mut impl Write) -> std::io::Result<()> {
    let soft: Vec<&str> = directory.workflows.values().filter(|w| w.level < Level::Touch).map(|w| w.name.as_str()).collect();
    if !soft.is_empty() {
        let names = soft.join(", ");
        writeln!(
            out,
            "countersign: advice: for production set signature = \"touch\" in {names}: a key behind a forwarded agent signs unseen"
        )?;
    }
    Ok(())
}

fn missing_keys(dir: &Path) -> Vec<Problem> {
    let keys = KEYS.map(|name| dir.join("keys").join(name));
    let missing = keys.iter().filter(|path| !path.exists());
    missing
        .map(|path| Problem::whole(path, "this key is missing: the bastion will not start", "restore it, or begin with countersign init"))
        .collect()
}

fn some(n: usize, of: &str) -> String {
    format!("{n} {of}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn says(dir: &Path) -> (u8, String) {
        let mut out = Vec::new();
        let status = report(dir, &mut out).unwrap();
        (status, String::from_utf8(out).unwrap().replace(&dir.display().to_string(), "DIR"))
    }

    #[test]
    fn a_new_directory_is_in_order() {
        let dir = tempfile::tempdir().unwrap();
        super::super::init::make(dir.path(), "bastion", &super::super::init::tests::carol()).unwrap();
        let (status, text) = says(dir.path());
        assert_eq!(status, 0, "{text}");
        assert!(text.starts_with("DIR/policies/people.toml:1:1: warning: there is nobody yet: no one can log in; add"), "{text}");
        assert!(text.ends_with("countersign: DIR is in order: 0 people, 0 targets, 4 policies, 0 cases passed, 1 warning\n"), "{text}");
    }

    #[test]
    fn errors_warnings_and_failed_cases_are_all_printed() {
        let dir = tempfile::tempdir().unwrap();
        super::super::init::make(dir.path(), "bastion", &super::super::init::tests::carol()).unwrap();
        let case = "[[case]]\nperson = \"alice\"\naction = \"shell\"\ntarget = \"web-1\"\nlogin = \"x\"\nexpect = \"deny\"\n";
        fs::write(dir.path().join("policies/cases/mine.toml"), case).unwrap();
        let (status, text) = says(dir.path());
        assert_eq!(status, 78);
        assert!(text.contains("DIR/policies/cases/mine.toml:2:10: there is no person alice; use one of people.toml\n"), "{text}");
        assert!(text.ends_with("countersign: DIR is not in order: 2 errors, 1 warning\n"), "{text}");

        fs::write(dir.path().join("policies/targets.toml"), "[targets.x]\n").unwrap();
        fs::write(dir.path().join("policies/retention.toml"), "[schedule.x]\n").unwrap();
        let (status, text) = says(dir.path());
        assert_eq!(status, 78);
        for line in ["DIR/policies/targets.toml:1:10:", "DIR/policies/retention.toml:1:2:", "DIR/policies/access.cedar:13:18:"] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (status, text) = says(Path::new("/nowhere/at/all"));
        assert_eq!((status, text.lines().count()), (78, 2), "{text}");
    }
}
