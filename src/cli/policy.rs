//! `countersign policy test|explain`: a directory's policies asked on this machine, by operators and by
//! the pipeline of a policy repository.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::check::{OUT_OF_ORDER, printed};
use super::explain;
use crate::config::{Directory, cases};
use crate::console::grammar::ExplainArgs;
use crate::console::render::VERSION;
use crate::console::visible;
use crate::time::Timestamp;

/// A case failed.
const FAILED: u8 = 1;
/// The question names what does not exist (EX_USAGE).
const USAGE: u8 = 64;

/// Runs every case and names its verdict; returns the exit status.
pub fn test(dir: &Path, as_json: bool) -> anyhow::Result<u8> {
    tested(dir, as_json, &mut std::io::stdout().lock()).context("printing the verdicts")
}

fn tested(dir: &Path, as_json: bool, out: &mut impl Write) -> std::io::Result<u8> {
    let directory = match Directory::load(dir) {
        Ok(directory) => directory,
        Err(problems) => return out_of_order(dir, &problems, as_json, out),
    };
    let (ran, around) = cases::run_each(&directory);
    let failed = ran.iter().filter(|case| !case.problems.is_empty()).count() + around.len();
    let status = if failed == 0 { 0 } else { FAILED };
    if as_json {
        let case = |case: &cases::Ran| {
            json!({
                "file": case.file, "line": case.line, "what": case.what, "expected": case.expected, "is": case.is,
                "by": case.by, "ok": case.problems.is_empty(), "problems": case.problems.iter().map(printed).collect::<Vec<_>>(),
            })
        };
        let all: Vec<_> = ran.iter().map(case).collect();
        let around: Vec<_> = around.iter().map(printed).collect();
        writeln!(out, "{}", json!({ "v": VERSION, "cases": all, "failed": failed, "problems": around }))?;
        return Ok(status);
    }
    for case in &ran {
        let place = format!("{}:{}", case.file.strip_prefix(dir).unwrap_or(&case.file).display(), case.line);
        let by = if case.by.is_empty() { String::new() } else { format!(" ({})", case.by.join(", ")) };
        if case.problems.is_empty() {
            writeln!(out, "ok    {place}  {}: {}{by}", visible(&case.what), case.is)?;
        } else {
            writeln!(out, "FAIL  {place}  {}", visible(&case.what))?;
            for problem in &case.problems {
                writeln!(out, "      {problem}")?;
            }
        }
    }
    for problem in &around {
        writeln!(out, "FAIL  {problem}")?;
    }
    let count = if ran.len() == 1 { "1 case".to_owned() } else { format!("{} cases", ran.len()) };
    let verdict = if failed == 0 { "all pass".to_owned() } else { format!("{failed} failed") };
    writeln!(out, "countersign: {count}, {verdict}")?;
    Ok(status)
}

/// Says what would be ruled; returns the exit status.
pub fn explain(args: &ExplainArgs, as_json: bool) -> anyhow::Result<u8> {
    explained(args, as_json, &mut std::io::stdout().lock(), Timestamp::now()).context("printing the ruling")
}

fn explained(args: &ExplainArgs, as_json: bool, out: &mut impl Write, now: Timestamp) -> std::io::Result<u8> {
    let directory = match Directory::load(&args.dir) {
        Ok(directory) => directory,
        Err(problems) => return out_of_order(&args.dir, &problems, as_json, out),
    };
    match explain::explain(&directory, args, now) {
        Ok(explained) if as_json => {
            let mut value = serde_json::to_value(&explained).map_err(std::io::Error::other)?;
            if let Some(answer) = value.as_object_mut() {
                answer.insert("v".into(), VERSION.into());
            }
            writeln!(out, "{value}").map(|()| 0)
        }
        Ok(explained) => write!(out, "{}", explain::text(&explained)).map(|()| 0),
        Err(error) => {
            eprint!("{}", crate::console::render::prefixed(&error.to_string()));
            Ok(USAGE)
        }
    }
}

fn out_of_order(dir: &Path, problems: &[crate::config::Problem], as_json: bool, out: &mut impl Write) -> std::io::Result<u8> {
    if as_json {
        writeln!(out, "{}", json!({ "v": VERSION, "errors": problems.iter().map(printed).collect::<Vec<_>>() }))?;
        return Ok(OUT_OF_ORDER);
    }
    for problem in problems {
        writeln!(out, "{problem}")?;
    }
    writeln!(out, "countersign: {} is not in order; all of it: countersign check -c {0}", dir.display())?;
    Ok(OUT_OF_ORDER)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::console::grammar::{Line, PolicyArgs, PolicyWhat, Verb};

    /// The shipped example set with a `countersign.toml` of its own.
    fn shipped() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("countersign.toml"), "bastion = \"b-1\"\nhost = \"bastion\"\n[recordings]\nmode = \"plain\"\n").unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        for below in ["", "cases"] {
            let to = dir.path().join("policies").join(below);
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(from.join(below)).unwrap().flatten().filter(|entry| entry.path().is_file()) {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        dir
    }

    fn asks(dir: &Path, line: &str) -> (u8, String) {
        let words = line.split(' ').map(|word| word.replace('_', " "));
        let mut all: Vec<String> = ["policy", "explain"].map(String::from).into();
        all.extend(words);
        all.extend(["-c".to_owned(), dir.display().to_string()]);
        let Some(Verb::Policy(PolicyArgs { what: PolicyWhat::Explain(args) })) = Line::try_parse_from(all).unwrap().verb else { panic!() };
        let mut out = Vec::new();
        let monday_noon = Timestamp::from_micros(1_767_614_400_000_000);
        let status = explained(&args, false, &mut out, monday_noon).unwrap();
        (status, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_hold_names_whom_it_takes() {
        let dir = shipped();
        let (status, text) = asks(dir.path(), "alice deploy@web-1 shell");
        assert_eq!(status, 0);
        assert_eq!(
            text,
            "alice → deploy@web-1 · shell · 2026-01-05T12:00:00Z from 192.0.2.1

  held         permitted by sre-deploy (access.cedar:20), and somebody has to agree first

  hold         prod-needs-a-lead (access.cedar:65): production: one lead must agree
  workflow     sre-lead: signature key, within 15m
  stage 1      1 of sre-leads; heads asked too after 10m, at once where too few are in reach
  asked        bob, carol

  covers       shell (with exec and file transfer)
  window       30m, at most 2h
  recorded     output; standard: kept 90 days, gone after 365 days
"
        );
    }

    #[test]
    fn who_is_not_asked_at_that_hour_is_named() {
        let dir = shipped();
        let (_, text) = asks(dir.path(), "bob deploy@web-1 shell --at 2026-01-05T23:00Z");
        assert!(text.contains("  asked        gina (carol 08-18 Berlin)\n"), "{text}");
        let (_, text) = asks(dir.path(), "alice root@web-1 shell");
        assert!(text.contains("  stage 1      1 of bob, carol, within 10m\n  stage 2      1 of heads\n"), "{text}");
    }

    #[test]
    fn a_no_names_who_says_it_and_what_is_possible_instead() {
        let dir = shipped();
        let (_, text) = asks(dir.path(), "dave deploy@pay-1 shell");
        assert!(text.contains("denied       by pci-never (access.cedar:55): card data: only through the change pipeline"), "{text}");
        let (_, text) = asks(dir.path(), "hugo deploy@web-1.staging exec --command systemctl_restart_sshd");
        assert!(text.contains("denied       nothing permits it; nobody is asked"), "{text}");
        assert!(text.contains("may there    exec \"systemctl restart nginx\" as deploy"), "{text}");
        let (_, text) = asks(dir.path(), "frank postgres@db-1 shell --at 2026-01-05T18:00Z");
        assert!(text.contains("db-outside-hours"), "{text}");
        let (_, text) = asks(dir.path(), "alice web-1.staging sftp");
        assert!(text.contains("permitted    by sre-deploy"), "{text}");
        let (_, text) = asks(dir.path(), "bob web-1 kill");
        assert!(text.contains("permitted    by leads-decide"), "{text}");
        let (_, text) = asks(dir.path(), "alice web-1 approve");
        assert!(text.contains("denied       nothing permits it"), "{text}");
    }

    #[test]
    fn what_does_not_exist_is_a_slip() {
        let dir = shipped();
        for line in [
            "zoe deploy@web-1 shell",
            "alice deploy@web-9 shell",
            "alice admin@web-1 shell",
            "alice web-1 fly",
            "alice web-1 shell --command x",
        ] {
            assert_eq!(asks(dir.path(), line), (64, String::new()), "{line}");
        }
    }

    #[test]
    fn every_case_is_named_with_its_verdict() {
        let dir = shipped();
        let mut out = Vec::new();
        assert_eq!(tested(dir.path(), false, &mut out).unwrap(), 0);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with(
                "ok    policies/cases/engineers.toml:7  alice shell deploy@web-1: hold:sre-lead (prod-needs-a-lead, sre-deploy)\n"
            ),
            "{text}"
        );
        assert!(text.ends_with(" cases, all pass\n"), "{text}");
        let wrong = "[[case]]\nperson = \"alice\"\naction = \"shell\"\ntarget = \"web-1\"\nlogin = \"deploy\"\nexpect = \"deny\"\n[[case]]\nperson = \"zoe\"\n";
        fs::write(dir.path().join("policies/cases/wrong.toml"), wrong).unwrap();
        let mut out = Vec::new();
        assert_eq!(tested(dir.path(), false, &mut out).unwrap(), 1);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("FAIL  policies/cases/wrong.toml:1  alice shell deploy@web-1\n"), "{text}");
        assert!(text.contains("wrong.toml:6:10: expected deny, is hold:sre-lead"), "{text}");
        assert!(text.contains("FAIL  policies/cases/wrong.toml:7  \n") && text.ends_with(", 2 failed\n"), "{text}");
        let mut out = Vec::new();
        assert_eq!(tested(dir.path(), true, &mut out).unwrap(), 1);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["failed"], 2);
        assert_eq!(json["cases"][0]["is"], "hold:sre-lead");
    }

    #[test]
    fn a_directory_that_does_not_load_is_not_asked() {
        let dir = shipped();
        fs::write(dir.path().join("policies/people.toml"), "x").unwrap();
        assert_eq!(asks(dir.path(), "alice web-1 shell").0, 78);
        assert_eq!(tested(dir.path(), true, &mut Vec::new()).unwrap(), 78);
    }
}
