//! The JSON that people's programs read, held to `docs/json.md`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::render::{answer, refused};
use super::super::reply::*;
use super::scene::Scene;
use crate::access::decision::{GrantedTerms, Level, Verdict};
use crate::access::request::tests::sample;
use crate::id::{Digest, SessionId};
use crate::time::Timestamp;

const DOCUMENT: &str = include_str!("../../../docs/json.md");
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// One of each answer, with everything in it that it may hold.
fn samples() -> Vec<Reply> {
    let (bob, alice) = (|| "bob".parse().unwrap(), || "alice".parse().unwrap());
    let (web, deploy) = (|| "web-1".parse().unwrap(), || "deploy".parse().unwrap());
    let (id, session, digest) = (sample().request, SessionId::new(NOW), Digest([7; 32]));
    let recording = || RecordingLine { session, sha256: digest, bytes: 1, file: "f".into() };
    let parts = || vec![Part { workflows: vec!["lead".parse().unwrap()], targets: vec!["web-1".parse().unwrap()] }];
    let denied = || State::Denied { by: bob(), note: "n".into() };
    let row = || LogRow { seq: 1, line: "l".into(), proof: vec![digest], checkpoint: "c".into(), continues: vec![digest] };
    let hold = || HoldLine {
        hold: "h".into(),
        case: Some("c".into()),
        on: "o".into(),
        reason: "r".into(),
        attached: Some(digest),
        by: bob(),
        placed: NOW,
    };
    let away = || AwayLine { person: bob(), until: Some(NOW), instead: Some(alice()) };
    let granted = || GrantedTerms {
        for_us: 1,
        once: true,
        scope: sample().scope,
        commands: vec!["uptime".into()],
        from_us: Some(1),
        until_us: Some(2),
    };
    let card = || Card {
        request: id,
        state: denied(),
        bytes: sample().bytes(),
        document: serde_json::json!({}),
        digest,
        code: "BRAVO-41".into(),
        level: Level::Key,
        tracks: vec![Track {
            workflow: "lead".parse().unwrap(),
            stage: 1,
            stages: 2,
            approvers: vec!["leads".into()],
            have: vec![bob()],
            quorum: 1,
            level: Level::Key,
        }],
        asked: vec![bob()],
        turns: vec!["t".into()],
        prompts: vec!["p".into()],
        granted: Some(granted()),
        approvers: vec![bob()],
        decisions: vec![DecisionLine {
            person: bob(),
            verdict: Verdict::Approve,
            level: Level::Key,
            key: Some("SHA256:k".into()),
            note: "n".into(),
            granted: Some(granted()),
            at: NOW,
        }],
        waiters: 1,
        left: Some(NOW),
        unusual: vec!["first time on web-1".into()],
        looking: vec![bob()],
    };
    let listed = Listed {
        request: id,
        state: denied(),
        person: alice(),
        source: "s".into(),
        login: deploy(),
        targets: vec![web()],
        scope: "s".into(),
        duration: "30m".into(),
        once: true,
        starts: Some(NOW),
        until: Some(NOW),
        reason: "r".into(),
        made: NOW,
        expires: NOW,
        asked: vec![bob()],
        approvers: vec![bob()],
        waiters: 1,
        left: Some(NOW),
        break_glass: true,
        unreviewed: true,
        looking: vec![bob()],
    };
    let open = OpenGrant {
        request: id,
        person: alice(),
        login: deploy(),
        targets: vec![web()],
        scope: "s".into(),
        duration: "30m".into(),
        starts: Some(NOW),
        until: Some(NOW),
        ends: Some(NOW),
        use_by: NOW,
        uses_left: Some(1),
        approvers: vec![bob()],
    };
    let target = TargetLine {
        target: "web-1".into(),
        aliases: vec![web()],
        labels: vec!["l".into()],
        login: deploy(),
        free: vec!["exec".into()],
        held: vec!["shell".into()],
        workflows: vec!["lead".parse().unwrap()],
    };
    let line = SessionLine {
        session,
        request: Some(id),
        person: alice(),
        target: web(),
        login: deploy(),
        kind: "shell".into(),
        to: Some("localhost:5432".into()),
        source: "s".into(),
        serial: 1,
        record: "full".into(),
        started: NOW,
        ends: Some(NOW),
        ended: Some(NOW),
        outcome: Some("exited 0".into()),
        live: Some(LiveLine { bytes_in: 1, bytes_out: 1, idle_s: 1, watchers: vec![bob()] }),
        sealed: Some(recording()),
        unreviewed: true,
        reviewed_by: Some(bob()),
        waits_for_auditor: true,
    };
    let seen = vec![
        SeenLine::Picture { cols: 80, rows: 24, bytes: vec![1] },
        SeenLine::Output { bytes: vec![1] },
        SeenLine::Resize { cols: 80, rows: 24 },
        SeenLine::Line { at_us: 1, text: "t".into() },
        SeenLine::Skipped { count: 1 },
        SeenLine::Ended { outcome: "exited 0".into() },
    ];
    let evidence = Evidence {
        session,
        manifest: vec![1],
        signature: "s".into(),
        body: Some(recording()),
        key_file_b64: Some("k".into()),
        sealed: Some(row()),
        expired: Some(Expired { certificate: vec![1], signature: "s".into(), row: row() }),
    };
    let schedule = || "short".parse().unwrap();
    vec![
        Reply::Requests(vec![listed]),
        Reply::Request(Box::new(card())),
        Reply::Asked(Box::new(Asked { card: card(), joined: true, free: vec![web()], parts: parts(), waited: true })),
        Reply::Would(Box::new(Would {
            login: deploy(),
            targets: vec![web()],
            scope: "s".into(),
            workflows: vec!["lead".parse().unwrap()],
            free: vec![web()],
            parts: parts(),
        })),
        Reply::Alike(Box::new(Alike {
            cards: vec![card()],
            targets: vec![AlikeTarget { target: web(), labels: vec!["l".into()], opened: true }],
            more: 1,
        })),
        Reply::Free(vec!["deploy@dev-1".into()]),
        Reply::Decided(Box::new(Decided { verdict: Verdict::Approve, requests: vec![card()] })),
        Reply::Withdrawn(id),
        Reply::Revoked(id),
        Reply::ReasonGiven(id),
        Reply::Grants(vec![open]),
        Reply::Targets(vec![target]),
        Reply::Sessions(vec![line]),
        Reply::Review(vec![ReviewLine {
            session,
            request: Some(id),
            person: alice(),
            target: web(),
            login: deploy(),
            kind: "shell".into(),
            started: NOW,
            ended: Some(NOW),
            reason: "r".into(),
        }]),
        Reply::Reviewed(ReviewedLine { session, person: alice(), target: web() }),
        Reply::Killed(Box::new(KilledLine { session, person: alice(), target: web(), login: deploy() })),
        Reply::Watch(Box::new(WatchLine {
            session,
            person: alice(),
            target: web(),
            login: deploy(),
            kind: "shell".into(),
            started: NOW,
            told: true,
        })),
        Reply::Seen(seen),
        Reply::Decision(Box::new(Issued { bytes: vec![1], verdict: Verdict::Deny, card: card(), also: vec![id], oddities: "o".into() })),
        Reply::Proof(Box::new(ProofParts {
            request: id,
            bastion: "b".into(),
            state: denied(),
            bytes: vec![1],
            decisions: vec![DecisionPart {
                person: bob(),
                verdict: Verdict::Approve,
                level: Level::Key,
                at: NOW,
                decision_b64: Some("d".into()),
                signature: Some("s".into()),
            }],
            signers: vec![SignerPart { person: bob(), key: "k".into(), left: Some(NOW) }],
            log: vec![row()],
            log_key: "l".into(),
        })),
        Reply::Recording(Box::new(evidence)),
        Reply::Checkpoint(Box::new(CheckpointLine {
            bastion: "b".into(),
            note: "n".into(),
            proof: Some(vec![digest]),
            log_key: "l".into(),
            seal_key: "s".into(),
            recovered: vec![RecoveredRow { line: "l".into(), proof: vec![digest] }],
        })),
        Reply::AuditLog(vec![AuditLine { seq: 1, at: NOW, name: "session.open".into(), facts: serde_json::json!({}) }]),
        Reply::Auditors(vec![AuditorLine { auditor: bob(), key: "k".into(), proven: Some(NOW) }]),
        Reply::Canary("age".into()),
        Reply::Proven(bob()),
        Reply::Policy(Box::new(PolicyText { policy: digest, loaded: NOW, files: BTreeMap::new() })),
        Reply::Held(Box::new(Held { hold: hold(), held: 1, gone: 1, certificates: vec![session] })),
        Reply::Released(vec!["h".into()]),
        Reply::Retention(Box::new(RetentionState {
            kept: 1,
            gone: 1,
            zone: "UTC".into(),
            grace: "g".into(),
            schedules: vec![ScheduleLine { schedule: schedule(), keep_at_least: "1d".into(), delete_after: "2d".into(), default: true }],
            bounds: vec!["b".into()],
            holds: vec![hold()],
        })),
        Reply::Plan(vec![PlanLine {
            session,
            person: alice(),
            target: web(),
            schedule: schedule(),
            due: NOW,
            marked: Some(NOW),
            held_by: Some("h".into()),
        }]),
        Reply::Swept { marked: 1, erased: 1, held: 1, unverified: 1 },
        Reply::AuditLines(vec!["l".into()]),
        Reply::Whoami(Whoami {
            person: bob(),
            groups: vec!["leads".parse().unwrap()],
            source: "s".into(),
            key: "k".into(),
            keys: vec![KeyLine { fingerprint: "f".into(), algorithm: "a".into() }],
            bastion: "b".into(),
            host: "h".into(),
            now: NOW,
        }),
        Reply::Help("h".into()),
        Reply::Away(away()),
        Reply::Suspended(Box::new(SuspendedLine {
            person: alice(),
            by: bob(),
            reason: "r".into(),
            at: NOW,
            sessions: vec![session],
            requests: 1,
            grants: 1,
        })),
        Reply::Unsuspended(alice()),
        Reply::Drain(Drain { at: Some(NOW), reason: "r".into(), live: 1 }),
        Reply::Status(Box::new(Status {
            ok: false,
            troubles: vec![Trouble { what: "disk".into(), why: "w".into(), fix: "f".into() }],
            version: "0".into(),
            clock: Some("c".into()),
            pen: Some("p".into()),
            pen_landlock: Some(true),
            live_sessions: 1,
            pending_requests: 1,
            open_grants: 1,
            free_bytes: 1,
            floor_bytes: 1,
            days_left: Some(1),
            sealing: 1,
            unsealed: 1,
            unreviewed: 1,
            marked: 1,
            overdue: 1,
            log_rows: 1,
            checkpoint: Some(NOW),
            unsigned_since: Some(NOW),
            unproved: [bob()].into(),
            notifiers: vec![NotifierLine {
                notifier: "chat".parse().unwrap(),
                delivered: 1,
                waiting: 1,
                dropped: 1,
                lost: 1,
                failed: 1,
                why: Some("w".into()),
            }],
            waiting_for_auditor: 1,
            away: vec![away()],
            suspended: vec![BarredLine { person: alice(), by: bob(), reason: "r".into(), at: NOW }],
        })),
        Reply::Setup("s".into()),
        Reply::Keys(Box::new(KeysReply::Closed(Closed {
            readers: vec![KeyReader { auditor: bob(), key: "k".into() }],
            left: 1,
            sessions: vec![session],
            behind: Some(session),
        }))),
        Reply::Keys(Box::new(KeysReply::Rewrapped(session))),
        Reply::Keys(Box::new(KeysReply::Waiting(vec![WaitingLine {
            session,
            person: alice(),
            target: web(),
            started: NOW,
            ended: Some(NOW),
        }]))),
        Reply::Keys(Box::new(KeysReply::Envelope { session, envelope: vec![1] })),
        Reply::Keys(Box::new(KeysReply::Recovered { session, sealed: true })),
    ]
}

/// Says whether every answer has a sample: one that is new does not compile until it has a place here.
fn place(reply: &Reply) -> usize {
    match reply {
        Reply::Requests(_) => 0,
        Reply::Request(_) => 1,
        Reply::Asked(_) => 2,
        Reply::Free(_) => 3,
        Reply::Decided(_) => 4,
        Reply::Withdrawn(_) => 5,
        Reply::Revoked(_) => 6,
        Reply::ReasonGiven(_) => 7,
        Reply::Grants(_) => 8,
        Reply::Targets(_) => 9,
        Reply::Sessions(_) => 10,
        Reply::Killed(_) => 11,
        Reply::Watch(_) => 12,
        Reply::Seen(_) => 13,
        Reply::Decision(_) => 14,
        Reply::Recording(_) => 15,
        Reply::Checkpoint(_) => 16,
        Reply::AuditLog(_) => 17,
        Reply::Auditors(_) => 18,
        Reply::Canary(_) => 19,
        Reply::Proven(_) => 20,
        Reply::Policy(_) => 21,
        Reply::Held(_) => 22,
        Reply::Released(_) => 23,
        Reply::Retention(_) => 24,
        Reply::Plan(_) => 25,
        Reply::Swept { .. } => 26,
        Reply::AuditLines(_) => 27,
        Reply::Whoami(_) => 28,
        Reply::Help(_) => 29,
        Reply::Status(_) => 30,
        Reply::Drain(_) => 31,
        Reply::Setup(_) => 32,
        Reply::Keys(_) => 33,
        Reply::Would(_) => 34,
        Reply::Alike(_) => 35,
        Reply::Proof(_) => 36,
        Reply::Away(_) => 37,
        Reply::Suspended(_) => 38,
        Reply::Unsuspended(_) => 39,
        Reply::Review(_) => 40,
        Reply::Reviewed(_) => 41,
    }
}

const PLACES: usize = 42;

/// `path` and the keys below it, for each object of a value.
fn shape(value: &Value, path: &str, shapes: &mut BTreeMap<String, BTreeSet<String>>) {
    match value {
        Value::Object(map) => {
            let keys = shapes.entry(path.to_owned()).or_default();
            keys.extend(map.iter().map(|(key, value)| format!("{key}{}", suffix(value))));
            for (key, value) in map {
                shape(value, &format!("{path}{}{key}{}", if path.is_empty() { "" } else { "." }, suffix(value)), shapes);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| shape(value, path, shapes)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn suffix(value: &Value) -> &'static str {
    if value.is_array() { "[]" } else { "" }
}

fn lines(answers: &[String]) -> String {
    let mut shapes = BTreeMap::new();
    for one in answers {
        shape(&serde_json::from_str(one).unwrap(), "", &mut shapes);
    }
    // What every answer has is said once; cards, log rows and holds stand in several.
    let line = |(path, keys): (&String, &BTreeSet<String>)| format!("{path}: {}\n", keys.iter().cloned().collect::<Vec<_>>().join(" "));
    shapes.iter().filter(|(path, keys)| !path.is_empty() && !keys.is_empty()).map(line).collect()
}

#[test]
fn every_answer_has_the_keys_that_are_documented() {
    let samples = samples();
    let places: BTreeSet<usize> = samples.iter().map(place).collect();
    assert_eq!(places.len(), PLACES, "a sample of each");
    let refusal = Refusal {
        kind: RefusalKind::Refused,
        what: "w".into(),
        why: "y".into(),
        next: vec![Next::Verb("v".into()), Next::Companion("c".into()), Next::Shell("s".into())],
        console: "c".into(),
    };
    let mut answers: Vec<String> = samples.iter().map(answer).collect();
    for one in &answers {
        let value: Value = serde_json::from_str(one).unwrap();
        assert_eq!((value["v"].as_u64(), value.as_object().unwrap().len()), (Some(1), 2), "a version and one answer: {one}");
    }
    answers.push(refused(&refusal));
    let shapes = lines(&answers);
    let documented = DOCUMENT.split("```shapes\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    assert!(
        shapes == documented,
        "docs/json.md is not what is answered. A key may be added, none removed or renamed without a new \
        version. What is answered now:\n{shapes}"
    );
    for one in &answers {
        let value: Value = serde_json::from_str(one).unwrap();
        for key in value.as_object().unwrap().keys() {
            assert!(DOCUMENT.contains(&format!("`{key}`")), "{key} is not explained");
        }
    }
}

#[tokio::test]
async fn what_verbs_answer_is_documented_and_so_are_their_errors() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let documented: BTreeMap<&str, BTreeSet<&str>> = DOCUMENT
        .split("```shapes\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(path, keys)| (path, keys.split(' ').map(|key| key.trim_end_matches("[]")).collect()))
        .collect();
    let lines = [
        "requests",
        "targets",
        "grants",
        "sessions",
        "sessions --live",
        "whoami",
        "help",
        "retention show",
        "retention plan",
        "auditors list",
    ];
    let show = format!("show {id}");
    for line in lines.into_iter().chain([show.as_str()]) {
        let said = scene.says("alice", &format!("{line} --json")).await;
        let value: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"));
        let mut shapes = BTreeMap::new();
        shape(&value, "", &mut shapes);
        for (path, keys) in shapes.iter().filter(|(path, _)| !path.is_empty() && !path.contains("document") && !path.ends_with("facts")) {
            let known = documented.get(path.as_str()).unwrap_or_else(|| panic!("{line}: {path} is not documented: {}", said.out));
            for key in keys {
                assert!(known.contains(key.trim_end_matches("[]")), "{line}: {path} has no {key} in docs/json.md");
            }
        }
    }
    for (line, status, kind) in [
        ("show ZZZZZZ --json", 77, "refused"),
        ("kill 01J9 --reason x --json", 77, "refused"),
        ("frobnicate --json", 64, "usage"),
        ("request a@b c@d --json", 64, "usage"),
    ] {
        let said = scene.says("alice", line).await;
        let value: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"));
        assert_eq!(
            (said.status, value["status"].as_u64(), value["error"]["kind"].as_str()),
            (status, Some(u64::from(status)), Some(kind)),
            "{line}"
        );
        assert!(said.err.starts_with("countersign: "), "people read it on standard error: {said:?}");
    }
}
