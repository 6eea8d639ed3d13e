//! What a row of the log says that the state has to say too: pure, so that an old state and the rows after
//! it come to the state that was lost.
//!
//! Every name that rows are given stands here, and a test reads the sources for new ones. One that is not
//! known is refused: it may be what ended a grant.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::audit::row::Row;
use crate::id::{Digest, Login, Person, RequestId, ScheduleName, SessionId, TargetId};
use crate::retention::hold::{Hold, HoldId};
use crate::retention::terms::{Due, Terms};
use crate::store::SealedRow;
use crate::store::grants::GrantState;
use crate::store::requests::RequestState;
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A report; nothing in the state stands for it.
    Nothing,
    /// A request was made. Its bytes are not in the log: only its id is kept, so that nobody gets it again.
    Asked {
        request: RequestId,
        person: Person,
        digest: Digest,
    },
    /// A request ended. What was approved is not here: the signatures are lost, and with them the grant.
    Ended {
        request: RequestId,
        to: RequestState,
        by: Option<Person>,
    },
    GrantEnded {
        request: RequestId,
        to: GrantState,
        by: Option<Person>,
        why: String,
    },
    /// A session was opened; if on a grant, that was used.
    Opened(Box<Opened>),
    /// The certificate of the session that was opened just before.
    Certified {
        session: SessionId,
        serial: u64,
    },
    /// The certificate of a `ca check`: its serial is taken for good, and it was signed for once.
    Probed(Box<Probed>),
    SessionEnded {
        session: SessionId,
        outcome: String,
    },
    Sealed {
        session: SessionId,
        sealed: Box<SealedRow>,
        retention: Box<Terms>,
    },
    /// A recording that an earlier restore found on the disk.
    Adopted(Box<Adopted>),
    Marked {
        session: SessionId,
    },
    Unmarked {
        session: SessionId,
    },
    Erasing {
        session: SessionId,
    },
    Disposed {
        session: SessionId,
    },
    HoldPlaced(Box<Hold>),
    HoldReleased {
        hold: HoldId,
        by: Person,
        reason: String,
    },
    Proven {
        auditor: Person,
        key: String,
    },
    Reviewed {
        session: SessionId,
        by: Person,
        note: String,
    },
    /// Somebody was suspended; that stands until it is lifted.
    Suspended {
        person: Person,
        by: Person,
        reason: String,
    },
    Unsuspended {
        person: Person,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Opened {
    pub session: SessionId,
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    pub kind: String,
    /// Where a forward leads, or listens.
    #[serde(default)]
    pub to: Option<String>,
    pub source: String,
    #[serde(rename = "ends_at_us")]
    pub ends_at: Option<Timestamp>,
    /// Rows of before there was such a thing do not say.
    #[serde(default)]
    pub break_glass: bool,
}

/// The facts of `session.adopt`: what the recording's manifest says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Adopted {
    pub session: SessionId,
    pub request: Option<RequestId>,
    pub person: Person,
    pub target: TargetId,
    pub login: Login,
    pub kind: String,
    pub serial: String,
    pub record: String,
    pub started_us: Timestamp,
    pub ended_us: Timestamp,
    pub outcome: String,
    pub manifest: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum BadChange {
    #[error("row {row} is a {name:?}, which this countersign cannot apply again: use the binary that wrote it")]
    Unknown { row: u64, name: String },
    #[error("row {row} ({name}) does not say what it should")]
    Facts {
        row: u64,
        name: String,
        #[source]
        source: serde_json::Error,
    },
}

/// Rows that change nothing that is stored.
const REPORTS: [&str; 34] = [
    "audit.export",
    "backup.make",
    "bastion.drain",
    "bastion.drain-cancel",
    "certificate.refuse",
    "clock.accept",
    "clock.block",
    "clock.heal",
    "door.refusals",
    // A lock is over within hours, and a code of before within a minute and a half.
    "factor.lock",
    "log.recovered",
    // Whom requests ask; those that wait are void after a restore.
    "person.away",
    "person.back",
    // The text of the policies is in the backup, or lost: only its digest is logged.
    "policy.load",
    "policy.refuse",
    "policy.reload",
    "refusal",
    "request.escalate",
    "request.join",
    // The reason is part of bytes that are lost; the request is open, so it is voided.
    "request.reason",
    "request.stage",
    "retention.run",
    "session.envelope",
    "session.export",
    "session.key",
    // It ends like any other.
    "session.kill",
    // What it led to is the row of the seal.
    "session.recover",
    "session.replay",
    "session.rescue",
    // It is in the key file itself, which is mirrored.
    "session.rewrap",
    "session.unverified",
    "session.verify",
    "session.watch",
    // The pin stands in the policies; the backup's is the older one, which lets the new host not in.
    "target.pin",
];

impl Change {
    pub fn of(row: &Row) -> Result<Self, BadChange> {
        if REPORTS.contains(&row.name.as_str()) {
            return Ok(Change::Nothing);
        }
        Ok(match row.name.as_str() {
            // Its grant is void after a restore, as all are.
            "request.submit" | "request.break-glass" => {
                let Submit { request, by, digest } = facts(row)?;
                Change::Asked { request, person: by, digest }
            }
            "request.decide" => {
                let Decide { request, by, state } = facts(row)?;
                match state.as_str() {
                    "denied" => {
                        let to = RequestState::Denied { by: by.clone(), note: LOST_NOTE.into() };
                        Change::Ended { request, to, by: Some(by) }
                    }
                    _ => Change::Nothing,
                }
            }
            "request.withdraw" => ended(row, RequestState::Withdrawn)?,
            "request.expire" => ended(row, RequestState::Expired)?,
            "request.void" => ended(row, RequestState::Void)?,
            // Whatever was open is void after a restore.
            "grant.extend" | "grant.shorten" | "session.overrun" => Change::Nothing,
            "grant.revoke" => grant(row, GrantState::Revoked)?,
            "grant.void" => grant(row, GrantState::Void)?,
            "grant.lapse" => grant(row, GrantState::Lapsed)?,
            "grant.end" => grant(row, GrantState::Ended)?,
            "session.open" => Change::Opened(Box::new(facts(row)?)),
            "certificate.issue" if row.facts.get("kind").is_some_and(|kind| kind == "check") => Change::Probed(Box::new(facts(row)?)),
            "certificate.issue" => {
                let Issue { session, serial } = facts(row)?;
                let serial = serial.parse().map_err(|error: std::num::ParseIntError| misread(row, &error))?;
                Change::Certified { session, serial }
            }
            "session.end" => {
                let End { session, outcome } = facts(row)?;
                Change::SessionEnded { session, outcome }
            }
            "session.seal" => sealed(row)?,
            "session.adopt" => Change::Adopted(Box::new(facts(row)?)),
            "session.mark" => Change::Marked { session: session(row)? },
            "session.unmark" => Change::Unmarked { session: session(row)? },
            "session.erase" => Change::Erasing { session: session(row)? },
            "session.dispose" => Change::Disposed { session: session(row)? },
            "hold.place" => {
                let Place { hold } = facts(row)?;
                Change::HoldPlaced(Box::new(hold))
            }
            "hold.release" => {
                let Freed { hold, by, reason } = facts(row)?;
                Change::HoldReleased { hold, by, reason }
            }
            "session.review" => {
                let Look { session, by, note } = facts(row)?;
                Change::Reviewed { session, by, note }
            }
            "auditor.prove" => {
                let Prove { person, key } = facts(row)?;
                Change::Proven { auditor: person, key }
            }
            "person.suspend" => {
                let Suspend { person, by, reason } = facts(row)?;
                Change::Suspended { person, by, reason }
            }
            "person.unsuspend" => {
                let Unsuspend { person } = facts(row)?;
                Change::Unsuspended { person }
            }
            _ => return Err(BadChange::Unknown { row: row.seq, name: row.name.chars().take(80).collect() }),
        })
    }
}

/// Notes are not in the log.
const LOST_NOTE: &str = "the note was lost with the database";

#[derive(Deserialize)]
struct Submit {
    request: RequestId,
    by: Person,
    digest: Digest,
}

#[derive(Deserialize)]
struct Decide {
    request: RequestId,
    by: Person,
    state: String,
}

#[derive(Deserialize)]
struct Of {
    request: RequestId,
    by: Option<Person>,
    #[serde(alias = "reason")]
    why: Option<String>,
}

#[derive(Deserialize)]
struct Issue {
    session: SessionId,
    serial: String,
}

/// A probe as its row has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Probed {
    pub check: String,
    pub asks: String,
    pub target: TargetId,
    pub login: Login,
    pub principal: String,
    pub by: String,
    #[serde(deserialize_with = "decimal")]
    pub serial: u64,
}

fn decimal<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct End {
    session: SessionId,
    outcome: String,
}

#[derive(Deserialize)]
struct About {
    session: SessionId,
}

#[derive(Deserialize)]
struct Seal {
    session: SessionId,
    file: String,
    sha256: Digest,
    bytes: u64,
    manifest: Digest,
    schedule: ScheduleName,
    keep_until_us: Timestamp,
    due_us: Timestamp,
    retention: Terms,
}

#[derive(Deserialize)]
struct Place {
    hold: Hold,
}

#[derive(Deserialize)]
struct Freed {
    hold: HoldId,
    by: Person,
    reason: String,
}

#[derive(Deserialize)]
struct Look {
    session: SessionId,
    by: Person,
    note: String,
}

#[derive(Deserialize)]
struct Prove {
    person: Person,
    key: String,
}

#[derive(Deserialize)]
struct Suspend {
    person: Person,
    by: Person,
    reason: String,
}

#[derive(Deserialize)]
struct Unsuspend {
    person: Person,
}

/// Facts may grow new fields; those that are asked for have to be there.
fn facts<T: DeserializeOwned>(row: &Row) -> Result<T, BadChange> {
    T::deserialize(&row.facts).map_err(|source| BadChange::Facts { row: row.seq, name: row.name.clone(), source })
}

fn misread(row: &Row, why: &dyn std::fmt::Display) -> BadChange {
    BadChange::Facts { row: row.seq, name: row.name.clone(), source: serde::de::Error::custom(why) }
}

fn session(row: &Row) -> Result<SessionId, BadChange> {
    facts::<About>(row).map(|about| about.session)
}

fn ended(row: &Row, to: RequestState) -> Result<Change, BadChange> {
    let Of { request, by, why: _ } = facts(row)?;
    Ok(Change::Ended { request, to, by })
}

fn grant(row: &Row, to: GrantState) -> Result<Change, BadChange> {
    let Of { request, by, why } = facts(row)?;
    Ok(Change::GrantEnded { request, to, by, why: why.unwrap_or_else(|| to.word().to_owned()) })
}

fn sealed(row: &Row) -> Result<Change, BadChange> {
    let Seal { session, file, sha256, bytes, manifest, schedule, keep_until_us, due_us, retention } = facts(row)?;
    let due = Due { schedule, keep_until: keep_until_us, delete_by: due_us };
    let sealed = Box::new(SealedRow { file, sha256, bytes, manifest, due, seq: row.seq, recipients: Vec::new() });
    Ok(Change::Sealed { session, sealed, retention: Box::new(retention) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::audit::row::{NO_ROW, V1};

    const SESSION: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn change(name: &str, facts: Value) -> Result<Change, BadChange> {
        Change::of(&Row { v: V1, seq: 9, at: Timestamp::from_micros(5), name: name.into(), facts, prev: NO_ROW })
    }

    #[test]
    fn each_row_says_what_the_state_has_to_say() {
        let request: RequestId = "K7Q3FM".parse().unwrap();
        let (bob, session): (Person, SessionId) = ("bob".parse().unwrap(), SESSION.parse().unwrap());
        let digest = Digest([7; 32]);
        let says = |name: &str, facts: Value| change(name, facts).unwrap();
        let asked = says("request.submit", json!({ "request": request, "by": "alice", "digest": digest, "state": "pending" }));
        assert_eq!(asked, Change::Asked { request, person: "alice".parse().unwrap(), digest });
        let decided = |state| says("request.decide", json!({ "request": request, "by": "bob", "state": state, "verdict": "deny" }));
        let to = RequestState::Denied { by: bob.clone(), note: LOST_NOTE.into() };
        assert_eq!(decided("denied"), Change::Ended { request, to, by: Some(bob.clone()) });
        // An approval gives nothing back: what was signed is not in the log.
        assert_eq!((decided("approved"), decided("pending")), (Change::Nothing, Change::Nothing));
        for (name, to) in
            [("request.withdraw", RequestState::Withdrawn), ("request.expire", RequestState::Expired), ("request.void", RequestState::Void)]
        {
            assert_eq!(says(name, json!({ "request": request, "by": null })), Change::Ended { request, to, by: None });
        }
        let revoked = says("grant.revoke", json!({ "request": request, "by": "bob", "reason": "wrong one" }));
        assert_eq!(revoked, Change::GrantEnded { request, to: GrantState::Revoked, by: Some(bob), why: "wrong one".into() });
        let lapsed = says("grant.lapse", json!({ "request": request, "by": null }));
        assert_eq!(lapsed, Change::GrantEnded { request, to: GrantState::Lapsed, by: None, why: "lapsed".into() });
        let issued = says("certificate.issue", json!({ "session": SESSION, "serial": "9223372036854775807", "person": "alice" }));
        assert_eq!(issued, Change::Certified { session, serial: i64::MAX.unsigned_abs() });
        assert_eq!(says("session.dispose", json!({ "session": SESSION, "certificate": {} })), Change::Disposed { session });
        let suspended = says("person.suspend", json!({ "person": "alice", "by": "bob", "reason": "lost", "key": "k" }));
        assert_eq!(suspended, Change::Suspended { person: "alice".parse().unwrap(), by: "bob".parse().unwrap(), reason: "lost".into() });
        let open = json!({
            "session": SESSION, "request": request, "person": "alice", "target": "web-1", "login": "deploy", "kind": "shell",
            "source": "192.0.2.1", "ends_at_us": 7, "policies": [],
        });
        let Change::Opened(opened) = says("session.open", open) else { panic!() };
        assert_eq!((opened.request, opened.ends_at), (Some(request), Some(Timestamp::from_micros(7))));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(matches!(change("grant.borrow", json!({})), Err(BadChange::Unknown { row: 9, .. })));
        for name in ["request.submit", "grant.revoke", "session.open", "session.seal", "hold.place", "certificate.issue"] {
            assert!(matches!(change(name, json!({ "request": "K7Q3FM" })), Err(BadChange::Facts { .. }) | Ok(Change::GrantEnded { .. })));
            assert!(matches!(change(name, json!([])), Err(BadChange::Facts { row: 9, .. })), "{name}");
        }
        let probe = json!({
            "kind": "check", "check": "c", "asks": "login", "target": "web-1", "login": "deploy", "principal": "deploy@web-1",
            "by": "root", "serial": "7", "force_command": "/bin/true",
        });
        assert!(matches!(change("certificate.issue", probe).unwrap(), Change::Probed(probe) if probe.serial == 7));
        let serial = json!({ "session": SESSION, "serial": "-1" });
        assert!(matches!(change("certificate.issue", serial), Err(BadChange::Facts { .. })));
    }

    /// A new kind of row has to say here what it means to a restored state.
    #[test]
    fn every_name_in_the_sources_is_known() {
        fn read(dir: &Path, texts: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, texts);
                } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    texts.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned());
                }
            }
        }
        let mut texts = Vec::new();
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
        // Whatever looks like a name of ours, however it comes to its row; files and settings are none.
        const SUBJECTS: [&str; 21] = [
            "audit",
            "auditor",
            "backup",
            "bastion",
            "certificate",
            "clock",
            "door",
            "factor",
            "grant",
            "hold",
            "log",
            "person",
            "policy",
            "probe",
            "request",
            "retention",
            "session",
            "sessions",
            "target",
            "totp",
            "key",
        ];
        const NO_NAMES: [&str; 6] = ["auditor.key", "key.age", "log.checkpoint", "log.jsonl", "request.json", "retention.toml"];
        let mut names = BTreeSet::new();
        for text in &texts {
            let words = text.split('"').filter(|word| {
                let (subject, verb) = word.split_once('.').unwrap_or_default();
                SUBJECTS.contains(&subject) && !verb.is_empty() && verb.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            });
            names.extend(words.filter(|word| !NO_NAMES.contains(word)).map(str::to_owned));
        }
        assert!(names.len() > 15, "{names:?}");
        let unknown: Vec<&String> = names.iter().filter(|name| matches!(change(name, json!({})), Err(BadChange::Unknown { .. }))).collect();
        assert!(unknown.is_empty(), "a restore has to know what these rows mean (store/restore/change.rs): {unknown:?}");
    }
}
