//! `countersign check -c DIR`: what is wrong with a directory, all of it, and the policies' own tests.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::init::KEYS;
use crate::access::decision::Level;
use crate::authority::{KeyError, KeyPlan, PublicKeys, judge};
use crate::config::schema::{self, FileKind};
use crate::config::{Directory, Problem, cases};
use crate::console::render::VERSION;
use crate::id::Person;
use crate::store::Store;
use crate::store::proofs::Proof;
use crate::store::suspensions::Suspension;
use crate::time::Timestamp;
use crate::transcript::envelope::Recipient;

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
    keys(dir, inspection.directory.as_ref(), &mut errors, &mut warnings);
    if let Some(directory) = &inspection.directory {
        let (failed, count) = cases::run_counted(directory);
        errors.extend(failed);
        cases = count;
        errors.extend(state(directory));
    }
    let directory = inspection.directory.filter(|_| errors.is_empty());
    let status = if directory.is_some() { IN_ORDER } else { OUT_OF_ORDER };
    let advice = directory.as_ref().map(|directory| advice(directory, Timestamp::now())).unwrap_or_default();
    if as_json {
        let all = |problems: &[Problem]| problems.iter().map(printed).collect::<Vec<_>>();
        let mut answer =
            json!({ "v": VERSION, "ok": status == IN_ORDER, "errors": all(&errors), "warnings": all(&warnings), "advice": advice });
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
fn advice(directory: &Directory, now: Timestamp) -> Vec<String> {
    let mut advice = soft_keys(directory);
    if directory.config.recordings.reserve.is_some() && directory.reserve() == 0 {
        let why = "no workflow in approvals.toml has rescue = true, so nobody may use a reserve";
        advice.push(format!("reserve_mb keeps nothing: {why}"));
    }
    advice.extend(not_in_files(directory, suspensions(&directory.config.state).as_deref(), now));
    advice.extend(unproved(directory, proofs(&directory.config.state).as_deref(), now));
    advice
}

fn soft_keys(directory: &Directory) -> Vec<String> {
    let soft: Vec<&str> = directory.workflows.values().filter(|w| w.level < Level::Touch).map(|w| w.name.as_str()).collect();
    let mut advice = Vec::new();
    if !soft.is_empty() {
        let names = soft.join(", ");
        advice.push(format!("for production set signature = \"touch\" in {names}: a key behind a forwarded agent signs unseen"));
    }
    let keys = &directory.config.keys.dir;
    if keys.join("host_ed25519").exists() && !keys.join("emergency_ca.pub").exists() {
        advice.push("there is no emergency CA: when this bastion is down nobody gets in; docs/emergency.md makes one".into());
    }
    advice
}

/// What auditors have proven, where a node has run here and its state can be read.
fn proofs(state: &Path) -> Option<Vec<Proof>> {
    let path = state.join("countersign.db");
    let runtime = tokio::runtime::Handle::try_current().ok().filter(|_| path.is_file())?;
    tokio::task::block_in_place(|| runtime.block_on(Store::proofs_in(&path)))
}

/// Who is suspended, where a node has run here and its state can be read.
fn suspensions(state: &Path) -> Option<Vec<Suspension>> {
    let path = state.join("countersign.db");
    let runtime = tokio::runtime::Handle::try_current().ok().filter(|_| path.is_file())?;
    tokio::task::block_in_place(|| runtime.block_on(Store::suspensions_in(&path)))
}

/// People who were suspended at the console and of whom the files do not say so yet (`users.md` 17).
fn not_in_files(directory: &Directory, suspensions: Option<&[Suspension]>, now: Timestamp) -> Vec<String> {
    let people = &directory.people;
    let listed = |one: &&Suspension| people.named(&one.person).is_some() && !people.is_suspended_in_files(&one.person);
    let line = |Suspension { person, by, reason, at }: &Suspension| {
        let why = if reason.is_empty() { String::new() } else { format!(" ({})", crate::console::visible(reason)) };
        let since = crate::time::at(*at, now);
        format!(
            "{person} is suspended, by {by} {since}{why}: write suspended = true into people.toml or take them out; the way back: countersign unsuspend {person}"
        )
    };
    suspensions.unwrap_or_default().iter().filter(listed).map(line).collect()
}

/// After this long without a proof a key may be lost without anybody knowing.
const PROVE_EVERY: Duration = Duration::from_secs(90 * 86_400);

/// Auditors who have not shown lately that they can still decrypt.
fn unproved(directory: &Directory, proofs: Option<&[Proof]>, now: Timestamp) -> Vec<String> {
    let Some(proofs) = proofs else { return Vec::new() };
    let since = |(auditor, key): (&Person, &Recipient)| {
        let proven = proofs.iter().find(|proof| proof.auditor == *auditor && proof.key == key.to_string()).map(|proof| proof.at);
        let since = match proven {
            Some(at) if now.since(at) <= PROVE_EVERY => return None,
            Some(at) => format!("for {} days", now.since(at).as_secs() / 86_400),
            None => "since this key is named".to_owned(),
        };
        Some(format!("{auditor} is unproved {since}: a lost key shows too late; they run: countersign auditors prove"))
    };
    directory.config.recordings.auditors.iter().filter_map(since).collect()
}

/// The keys that a bastion needs: one that cannot be used is an error, one that is not there only a
/// warning, since the repository of the policies has none.
fn keys(dir: &Path, directory: Option<&Directory>, errors: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let plan = directory.map_or_else(|| KeyPlan::usual(dir), |directory| directory.config.keys.clone());
    // The CAs may be elsewhere, or in an agent.
    let own =
        KEYS.map(|name| dir.join("keys").join(name)).into_iter().filter(|path| !path.ends_with("user_ca") && !path.ends_with("host_ca"));
    for path in own.chain(plan.user_ca.all().cloned()).chain(plan.host_ca.all().cloned()) {
        let fix = "restore it, or begin with countersign init";
        let public = path.extension().is_some_and(|extension| extension == "pub");
        match judge(&path) {
            _ if !path.exists() && directory.is_some() => {
                warnings.push(Problem::whole(&path, "this key is missing: the bastion will not start", fix));
            }
            _ if !path.exists() || public => {}
            // Said with the other modes.
            Ok(()) | Err(KeyError::Mode { .. }) => {}
            Err(error) => {
                let fix = format!("restore it, or make another: ssh-keygen -t ed25519 -N '' -f {}", path.display());
                errors.push(Problem::whole(&path, crate::console::with_causes(&error), fix));
            }
        }
    }
    // The list as a whole; what is wrong with one key has been said.
    if let Err(error @ (KeyError::Twice(_) | KeyError::NotPublic { .. } | KeyError::NoAgent { .. })) = PublicKeys::read(&plan) {
        errors.push(Problem::whole(&plan.dir, crate::console::with_causes(&error), "correct [keys] in countersign.toml"));
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
        for line in ["DIR/policies/targets.toml:1:10:", "DIR/policies/retention.toml:1:2:", "DIR/policies/access.cedar:15:18:"] {
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
    fn who_has_not_proved_for_90_days_is_named() {
        let dir = tempfile::tempdir().unwrap();
        super::super::init::make(dir.path(), "bastion", &super::super::init::tests::carol()).unwrap();
        let directory = Directory::load(dir.path()).unwrap();
        let (auditor, key) = directory.config.recordings.auditors.first_key_value().unwrap();
        let now = Timestamp::now();
        let said = |proofs: Option<&[Proof]>| unproved(&directory, proofs, now).join("\n");
        let proof = |days: u64| Proof { auditor: auditor.clone(), key: key.to_string(), at: now.minus(Duration::from_secs(days * 86_400)) };
        assert!(said(None).is_empty() && !said(Some(&[proof(89)])).contains(auditor.as_str()));
        assert!(said(Some(&[proof(91)])).contains(&format!("{auditor} is unproved for 91 days")));
        assert!(said(Some(&[])).contains(&format!("{auditor} is unproved since this key is named")));
        let other = Proof { key: "age1other".into(), ..proof(1) };
        assert!(said(Some(&[other])).contains(auditor.as_str()), "another key's proof counts for nothing");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let (status, text) = says(Path::new("/nowhere/at/all"));
        assert_eq!((status, text.lines().count()), (78, 2), "{text}");
    }
}
