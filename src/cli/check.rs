//! `countersign check -c DIR`: what is wrong with a directory, all of it, and the policies' own tests.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::init::KEYS;
use crate::access::decision::Level;
use crate::authority::{KeyError, judge};
use crate::config::schema::{self, FileKind};
use crate::config::{Directory, Problem, cases};
use crate::store::Store;

/// Everything is in order; there may be warnings.
const IN_ORDER: u8 = 0;
/// Something has to be corrected (EX_CONFIG of sysexits.h).
pub(super) const OUT_OF_ORDER: u8 = 78;

/// Prints every error and warning and runs the cases; returns the exit status.
pub fn run(dir: &Path, as_json: bool) -> anyhow::Result<u8> {
    report(dir, as_json, &mut std::io::stdout().lock()).context("printing what was found")
}

/// Prints the JSON Schema of one of the files, for editors.
pub fn schema(of: FileKind) -> anyhow::Result<u8> {
    let text = serde_json::to_string_pretty(&schema::of(of))?;
    Ok(super::say(&format!("{text}\n")).err().unwrap_or(IN_ORDER))
}

/// A problem as `--json` has it: editors and pipelines go by file, line and column.
pub(super) fn printed(problem: &Problem) -> Value {
    let Problem { file, line, column, what, fix } = problem;
    json!({ "file": file, "line": line, "column": column, "what": what, "fix": fix })
}

fn report(dir: &Path, as_json: bool, out: &mut impl Write) -> std::io::Result<u8> {
    let inspection = Directory::inspect(dir);
    let mut errors = inspection.errors;
    let mut warnings = inspection.warnings;
    let mut cases = 0;
    keys(dir, &mut errors, &mut warnings, inspection.directory.is_some());
    if let Some(directory) = &inspection.directory {
        let (failed, count) = cases::run_counted(directory);
        errors.extend(failed);
        cases = count;
        errors.extend(state(directory));
    }
    let directory = inspection.directory.filter(|_| errors.is_empty());
    let status = if directory.is_some() { IN_ORDER } else { OUT_OF_ORDER };
    let advice = directory.as_ref().map(advice).unwrap_or_default();
    if as_json {
        let all = |problems: &[Problem]| problems.iter().map(printed).collect::<Vec<_>>();
        let mut answer = json!({ "ok": status == IN_ORDER, "errors": all(&errors), "warnings": all(&warnings), "advice": advice });
        if let (Some(directory), Some(answer)) = (&directory, answer.as_object_mut()) {
            let counts = [
                ("people", directory.people.iter().count()),
                ("targets", directory.targets.iter().count()),
                ("policies", directory.policy.ids().count()),
                ("cases", cases),
            ];
            answer.extend(counts.map(|(of, count)| (of.to_owned(), json!(count))));
            answer.insert("digest".into(), json!(directory.digest));
        }
        return writeln!(out, "{answer}").map(|()| status);
    }
    for error in &errors {
        writeln!(out, "{error}")?;
    }
    for warning in &warnings {
        writeln!(out, "{}", Problem { what: format!("warning: {}", warning.what), ..warning.clone() })?;
    }
    let warned = if warnings.is_empty() { String::new() } else { format!(", {}", some(warnings.len(), "warning")) };
    match directory {
        Some(directory) => {
            for line in advice {
                writeln!(out, "countersign: advice: {line}")?;
            }
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
        }
        None => writeln!(out, "countersign: {} is not in order: {}{warned}", dir.display(), some(errors.len(), "error"))?,
    }
    Ok(status)
}

/// What is allowed and could be better.
fn advice(directory: &Directory) -> Vec<String> {
    let soft: Vec<&str> = directory.workflows.values().filter(|w| w.level < Level::Touch).map(|w| w.name.as_str()).collect();
    if soft.is_empty() {
        return Vec::new();
    }
    let names = soft.join(", ");
    vec![format!("for production set signature = \"touch\" in {names}: a key behind a forwarded agent signs unseen")]
}

/// The keys that a bastion needs: one that cannot be used is an error, one that is not there only a
/// warning, since the repository of the policies has none.
fn keys(dir: &Path, errors: &mut Vec<Problem>, warnings: &mut Vec<Problem>, loads: bool) {
    for path in KEYS.map(|name| dir.join("keys").join(name)) {
        let fix = "restore it, or begin with countersign init";
        match judge(&path) {
            _ if !path.exists() && loads => warnings.push(Problem::whole(&path, "this key is missing: the bastion will not start", fix)),
            _ if !path.exists() => {}
            // Said with the other modes.
            Ok(()) | Err(KeyError::Mode { .. }) => {}
            Err(error) => {
                let fix = format!("restore it, or make another: ssh-keygen -t ed25519 -N '' -f {}", path.display());
                errors.push(Problem::whole(&path, crate::console::with_causes(&error), fix));
            }
        }
    }
}

/// A database that this binary would not open (FC12).
fn state(directory: &Directory) -> Option<Problem> {
    let path = directory.config.state.join("countersign.db");
    let refused = Store::inspect(&path).err()?;
    Some(Problem::whole(&path, crate::console::with_causes(&refused), "countersign serve refuses it as it is"))
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
        let status = report(dir, false, &mut out).unwrap();
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
    fn an_editor_reads_the_same_as_json() {
        let dir = tempfile::tempdir().unwrap();
        super::super::init::make(dir.path(), "bastion", &super::super::init::tests::carol()).unwrap();
        let read = |status: u8| {
            let mut out = Vec::new();
            assert_eq!(report(dir.path(), true, &mut out).unwrap(), status);
            serde_json::from_slice::<Value>(&out).unwrap()
        };
        let good = read(0);
        assert_eq!((&good["ok"], &good["policies"], &good["errors"]), (&json!(true), &json!(4), &json!([])), "{good}");
        fs::write(dir.path().join("policies/targets.toml"), "[targets.x]\ncolour = 1\n").unwrap();
        let bad = read(78);
        let place = |error: &Value| (error["line"].clone(), error["column"].clone(), error["what"].as_str().unwrap().contains("colour"));
        assert!(bad["errors"].as_array().unwrap().iter().map(place).any(|found| found == (json!(2), json!(1), true)), "{bad}");
    }

    /// FC12, each with file and fix; each alone keeps a bastion from starting.
    #[test]
    fn a_key_or_a_database_that_serve_would_refuse_is_an_error() {
        let fresh = || {
            let dir = tempfile::tempdir().unwrap();
            super::super::init::make(dir.path(), "bastion", &super::super::init::tests::carol()).unwrap();
            dir
        };
        let database = |version: u32| {
            let mut header = vec![0; 100];
            header[..16].copy_from_slice(b"SQLite format 3\0");
            header[60..64].copy_from_slice(&version.to_be_bytes());
            header
        };
        let write = |path: &Path, bytes: &[u8], mode: u32| {
            use std::os::unix::fs::PermissionsExt;
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (file, bytes, mode, line) in [
            ("keys/user_ca", b"ssh-ed25519 AAAA".to_vec(), 0o600, "DIR/keys/user_ca: DIR/keys/user_ca is not an OpenSSH private key"),
            (
                "keys/user_ca",
                b"x".to_vec(),
                0o644,
                "DIR/keys/user_ca: others than its owner can read this key (mode 0644); chmod 600 DIR/keys/user_ca",
            ),
            ("state/countersign.db", database(99), 0o600, "DIR/state/countersign.db: the database is of version 99, this binary knows"),
            ("state/countersign.db", database(1), 0o600, "DIR/state/countersign.db: the database was made by a version before"),
            (
                "state/countersign.db",
                database(2),
                0o640,
                "DIR/state/countersign.db: others may read the database: DIR/state/countersign.db has mode 640",
            ),
        ] {
            let dir = fresh();
            write(&dir.path().join(file), &bytes, mode);
            let (status, text) = says(dir.path());
            assert_eq!(status, 78, "{text}");
            assert!(text.contains(line), "{line}\n{text}");
        }
        let dir = fresh();
        fs::remove_file(dir.path().join("keys/user_ca")).unwrap();
        let (status, text) = says(dir.path());
        assert!(status == 0 && text.contains("keys/user_ca: warning: this key is missing"), "{text}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (status, text) = says(Path::new("/nowhere/at/all"));
        assert_eq!((status, text.lines().count()), (78, 2), "{text}");
    }
}
