//! Scenarios: who types what, and what they read.

mod many;
mod scene;
mod shapes;

use scene::{Said3, Scene};

use super::render::tests::{HOSTILE, assert_inert};
use super::reply::{Refusal, RefusalKind, Reply};
use super::wire::{self, Said};
use super::{Terminal, grammar};
use crate::access::decision::{DecisionDocument, NAMESPACE};
use crate::id::RequestId;
use crate::time::Timestamp;

fn lines(said: &str) -> Vec<&str> {
    said.lines().collect()
}

fn code_in(said: &Said3) -> String {
    let at = said.out.find("code ").unwrap_or_else(|| panic!("{said:?}")) + 5;
    said.out[at..].split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_is_asked_and_listed_for_those_it_concerns() {
    let scene = Scene::new().await;
    let said = scene.says("alice", "request deploy@web-1 --for 20m --reason INC-42 disk full").await;
    assert_eq!(said.status, 0, "{said:?}");
    assert!(said.out.contains("asked bob, carol") && said.out.contains("expires in 15 min ("), "{said:?}");
    let mine = scene.says("alice", "requests --mine").await;
    assert!(mine.out.contains("deploy@web-1") && mine.out.contains("\"INC-42 disk full\""), "{mine:?}");
    assert!(mine.out.contains("shell (with exec and file transfer)") && mine.out.contains("20m"), "{mine:?}");
    for concerned in ["bob", "erin"] {
        assert!(scene.says(concerned, "requests --pending").await.out.contains("alice"), "{concerned}");
    }
    for other in ["hugo", "oskar"] {
        assert!(!scene.says(other, "requests").await.out.contains("alice"), "{other}");
    }
    let listed = scene.says("bob", "requests --json").await.out;
    assert!(!listed.contains(&code_in(&said)), "the code is in no listing: {listed}");
}

#[tokio::test]
async fn unknown_and_not_yours_are_one_answer() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let none = RequestId::random();
    for verb in ["show", "approve", "deny", "withdraw", "revoke", "decision", "submit", "reason"] {
        let line = |id: RequestId| match verb {
            "decision" => format!("decision {id} approve"),
            "reason" => format!("reason {id} because"),
            verb => format!("{verb} {id}"),
        };
        let (theirs, nobodys) =
            (scene.says_with("hugo", &line(id), b"x", None).await, scene.says_with("hugo", &line(none), b"x", None).await);
        assert_eq!(theirs.status, nobodys.status, "{verb}");
        assert_eq!(theirs.err.replace(id.as_str(), "ID"), nobodys.err.replace(none.as_str(), "ID"), "{verb}");
        assert_eq!(theirs.status, 77, "{verb}: {theirs:?}");
    }
    // Targets: one that is not there, one that policy forbids, one that is another's.
    let mut answers: Vec<String> = Vec::new();
    for target in ["nowhere", "pay-1", "web-1"] {
        let said = scene.says("hugo", &format!("request deploy@{target} --reason x")).await;
        assert_eq!(said.status, 77);
        answers.push(said.err.replace(target, "TARGET"));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert!(scene.audited().await.iter().any(|event| event.starts_with("refusal") && event.contains("pay-1")));
}

#[tokio::test]
async fn a_slip_is_answered_from_ones_own_targets_only() {
    let scene = Scene::new().await;
    let said = scene.says("alice", "request deploy@web1 --reason x").await;
    assert_eq!(lines(&said.err)[0], "countersign: refused: deploy@web1 is unknown or not yours. Yours nearby: web-1, web-2");
    assert_eq!(lines(&said.err)[1..], ["countersign:   ssh bastion targets", "countersign: console: ssh alice@bastion"]);
    assert!(!scene.says("oskar", "request deploy@web1 --reason x").await.err.contains("web-1"));
    assert!(!scene.says("alice", "request deploy@pay1 --reason x").await.err.contains("pay-1"));
    let who = scene.who("alice");
    let directory = scene.console.directory.borrow().clone();
    assert!(super::nearby(directory, who, &"x".repeat(100_000)).await.is_empty());
}

#[tokio::test]
async fn denied_stays_denied_for_a_while() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@stage-1").await;
    assert_eq!(scene.says("bob", &format!("deny {id} --note freeze until 06:00")).await.status, 0);
    let said = scene.says("alice", "request deploy@stage-1").await;
    assert_eq!(said.status, 77);
    let expected = [
        "countersign: refused: bob denied this 0 s ago: \"freeze until 06:00\". Again:".to_owned(),
        "countersign:   ssh bastion request deploy@stage-1 --again --reason '…'".to_owned(),
        format!("countersign:   ssh bastion show {id}"),
        "countersign: console: ssh alice@bastion".to_owned(),
    ];
    assert_eq!(lines(&said.err), expected);
    let again = scene.says("alice", "request deploy@stage-1 --again --reason it is on fire").await;
    assert_eq!(again.status, 0, "{again:?}");
}

#[tokio::test]
async fn what_nobody_has_to_agree_to_is_not_asked() {
    let scene = Scene::new().await;
    let said = scene.says("alice", "request deploy@dev-1").await;
    assert_eq!(said.out, "countersign: deploy@dev-1 needs nobody's approval: connect\n");
    let targets = scene.says("alice", "targets").await.out;
    assert!(targets.contains("dev-1") && targets.contains("web-1") && !targets.contains("pay-1"), "{targets}");
    assert!(scene.says("hugo", "targets").await.out.contains("no target"));
}

#[tokio::test]
async fn the_card_is_read_from_the_signed_bytes() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 deploy@web-2 --for 20m --once --exec 'systemctl restart nginx' --reason INC-42").await;
    let said = scene.says("bob", &format!("show {id}")).await;
    let expected = [
        "who       alice, from 192.0.2.7/32",
        "where     web-1, web-2",
        "as        deploy",
        "what      one exact command",
        "command   systemctl restart nginx",
        "input     closed",
        "how long  20m from first use, one session",
        "why       INC-42",
        "needs     lead (prod: one lead must agree)",
        "asks      1 of leads for lead, level key: nobody yet",
        "approving lets alice open one exact command as deploy on 2 targets for 20m from first use, one session; each session is recorded",
    ];
    for line in expected {
        assert!(said.out.contains(&format!("  {line}")), "{line} in\n{}", said.out);
    }
    assert!(said.out.contains(&scene.who("alice").fingerprint()));
    // The row's columns may say what they like: the card follows the bytes alone.
    let mut card = match scene.console.execute(&scene.who("bob"), &grammar::Verb::show(id), Timestamp::now()).await.unwrap() {
        Reply::Request(card) => *card,
        other => panic!("{other:?}"),
    };
    let text = String::from_utf8(card.bytes.clone()).unwrap().replace("\"alice\"", "\"mallo\"");
    card.bytes = text.into_bytes();
    let reader = super::text::Reader { look: super::Look::default(), now: Timestamp::now(), voice: super::text::Voice::Companion };
    let shown = super::text::card(&card, &reader);
    assert_eq!(lines(&shown).len(), 1, "{shown}");
    assert!(shown.contains("do not have the digest"), "{shown}");
}

#[tokio::test]
async fn a_connection_approval_repeats_the_code() {
    let scene = Scene::new().await;
    let id = scene.asks("oskar", "deploy@stage-1").await;
    let without = scene.says("bob", &format!("approve {id}")).await;
    assert_eq!(without.status, 64);
    assert!(without.err.contains(&format!("ssh bastion approve {id} CODE")), "{without:?}");
    let wrong = scene.says("bob", &format!("approve {id} ZULU-100")).await;
    assert_eq!(wrong.status, 77, "{wrong:?}");
    let code = code_in(&scene.says("oskar", &format!("show {id}")).await);
    let own = scene.says("oskar", &format!("approve {id} {code}")).await;
    assert_eq!(own.status, 77, "{own:?}");
    let said = scene.says("bob", &format!("approve {id} {} --for 5m", code.to_lowercase())).await;
    assert_eq!(said.out, format!("countersign: approved {id} for 5m. Wrong one? ssh bastion revoke {id}\n"), "{said:?}");
    assert!(scene.says("oskar", "grants").await.out.contains("5m from first use"));
    assert_eq!(scene.says("bob", &format!("revoke {id} --reason oops")).await.status, 0);
    assert!(scene.says("oskar", "grants").await.out.contains("no approval is open"));
}

#[tokio::test]
async fn a_key_workflow_prints_the_three_lines_and_takes_what_they_bring() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let refused = scene.says("bob", &format!("approve {id} ALFA-00")).await;
    assert_eq!(refused.status, 77);
    assert_eq!(
        lines(&refused.err)[1..5],
        [
            format!("countersign:   countersign approve {id}"),
            format!("countersign:   ssh bastion decision {id} approve >d"),
            "countersign:   less d".into(),
            format!("countersign:   ssh-keygen -Y sign -n {NAMESPACE} -f KEY d && ssh bastion submit {id} <d.sig"),
        ]
    );
    let early = scene.says_with("bob", &format!("submit {id}"), b"x", None).await;
    assert_eq!(early.status, 77, "{early:?}");

    let printed = scene.says("bob", &format!("decision {id} approve --for 10m --note only to look")).await;
    let document = DecisionDocument::read(printed.out.as_bytes()).unwrap();
    assert_eq!((document.note.as_str(), document.approver.as_str()), ("only to look", "bob"));
    assert!(printed.err.contains("alice, from") && printed.err.contains(&format!("approve {id}")), "{printed:?}");

    let forged = scene.signs("carol", NAMESPACE, printed.out.as_bytes());
    assert_eq!(scene.says_with("bob", &format!("submit {id}"), forged.as_bytes(), None).await.status, 77);
    let other = scene.signs("bob", "file", printed.out.as_bytes());
    assert!(scene.says_with("bob", &format!("submit {id}"), other.as_bytes(), None).await.err.contains(NAMESPACE));
    assert_eq!(scene.says_with("bob", &format!("submit {id}"), b"", None).await.status, 64);
    assert_eq!(scene.says_with("bob", &format!("submit {id}"), &[0xff; 40_000], None).await.status, 64);

    let signature = scene.signs("bob", NAMESPACE, printed.out.as_bytes());
    let said = scene.says_with("bob", &format!("submit {id}"), signature.as_bytes(), None).await;
    assert_eq!(said.out, format!("countersign: approved {id} for 10m. Wrong one? ssh bastion revoke {id}\n"), "{said:?}");
    assert_eq!(scene.says_with("bob", &format!("submit {id}"), signature.as_bytes(), None).await.status, 77, "taken once");
}

/// The stock path with the stock tool (`users.md` 5).
#[tokio::test]
async fn ssh_keygen_signs_the_printed_bytes() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let printed = scene.says("carol", &format!("decision {id} approve")).await;
    let (d, key) = (scene.dir.path().join("d"), scene.dir.path().join("carol"));
    std::fs::write(&d, &printed.out).unwrap();
    let private = scene.key("carol").to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
    std::fs::write(&key, private.as_bytes()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let signed =
        std::process::Command::new("ssh-keygen").args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(&key).arg(&d).output().unwrap();
    assert!(signed.status.success(), "{signed:?}");
    let signature = std::fs::read(d.with_extension("sig")).unwrap();
    let said = scene.says_with("carol", &format!("submit {id}"), &signature, None).await;
    assert!(said.out.starts_with(&format!("countersign: approved {id} for 30m.")), "{said:?}");
}

#[tokio::test]
async fn a_denial_and_a_withdrawal_are_final() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let printed = scene.says("bob", &format!("decision {id} deny --note freeze until 06:00")).await;
    let signature = scene.signs("bob", NAMESPACE, printed.out.as_bytes());
    let said = scene.says_with("bob", &format!("submit {id}"), signature.as_bytes(), None).await;
    assert_eq!(said.out, format!("countersign: denied {id}\n"), "{said:?}");
    assert!(scene.says("alice", "requests").await.out.contains("by bob: freeze until 06:00"));
    let again = scene.says("carol", &format!("decision {id} approve")).await;
    assert_eq!((again.status, again.out.as_str()), (77, ""));
    let id = scene.asks("alice", "deploy@web-2 --reason INC-43").await;
    assert_eq!(scene.says("bob", &format!("withdraw {id}")).await.status, 77);
    assert_eq!(scene.says("alice", &format!("withdraw {id}")).await.out, format!("countersign: withdrew {id}\n"));
}

#[tokio::test]
async fn a_request_without_its_reason_waits_for_it() {
    let scene = Scene::new().await;
    let said = scene.says("alice", "request deploy@web-1").await;
    assert!(said.out.contains("waits for your reason: ssh bastion reason "), "{said:?}");
    let listed = scene.says("alice", "requests --json").await.out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = listed["requests"][0]["request"].as_str().unwrap().to_owned();
    assert_eq!(scene.says("bob", &format!("decision {id} approve")).await.status, 77);
    assert_eq!(scene.says("alice", &format!("reason {id} #42 it's the disk")).await.status, 0);
    assert!(scene.says("bob", &format!("show {id}")).await.out.contains("why       #42 it's the disk"));
}

#[tokio::test]
async fn waiting_ends_with_the_decision() {
    let scene = Scene::new().await;
    let asking = scene.says("oskar", "request deploy@stage-1 --wait");
    let deciding = async {
        let mut tries = 0;
        loop {
            let pending = scene.says("bob", "requests --pending --json").await.out;
            let pending: serde_json::Value = serde_json::from_str(&pending).unwrap();
            if let Some(id) = pending["requests"][0]["request"].as_str() {
                return scene.says("bob", &format!("deny {id} --note not today")).await;
            }
            tries += 1;
            assert!(tries < 10_000, "the request never came");
            tokio::task::yield_now().await;
        }
    };
    let (asked, denied) = tokio::join!(asking, deciding);
    assert_eq!(denied.status, 0, "{denied:?}");
    assert_eq!(asked.status, 77, "{asked:?}");
    assert!(asked.out.contains("denied by bob: not today"), "{asked:?}");
}

#[tokio::test]
async fn hostile_fields_reach_no_terminal() {
    let scene = Scene::new().await;
    let mut asked = 0;
    for (n, text) in HOSTILE.iter().enumerate() {
        let quoted = shell_words::quote(text);
        let said = scene.says("alice", &format!("request deploy@web-1 --for {}m --reason={quoted}", n + 1)).await;
        asked += u32::from(said.status == 0);
        assert_inert(&said.out);
        assert_inert(&said.err);
        for line in
            [format!("show {quoted}"), format!("request {quoted} --reason x"), format!("sessions --target {quoted}"), text.to_string()]
        {
            let said = scene.says("alice", &line).await;
            assert_inert(&said.out);
            assert_inert(&said.err);
            assert!(said.err.lines().all(|line| line.starts_with("countersign: ")), "{said:?}");
        }
    }
    assert!(asked > 5, "{asked}");
    for line in ["requests", "requests --json", "show"] {
        let said = match line {
            "show" => scene.says("bob", &format!("show {}", scene.asks("alice", "deploy@web-2 --reason='a\u{202e}b'").await)).await,
            line => scene.says("bob", line).await,
        };
        assert_inert(&said.out);
    }
    let listed = scene.says("bob", "requests").await.out;
    assert_eq!(u32::try_from(listed.lines().count()).unwrap(), asked + 2, "{listed}");
    let json: serde_json::Value = serde_json::from_str(&scene.says("bob", "requests --json").await.out).unwrap();
    assert!(json["requests"].as_array().unwrap().iter().any(|one| one["reason"].as_str() == Some(HOSTILE[4])), "the value is kept");
}

#[tokio::test]
async fn a_terminal_gets_colour_and_carriage_returns_a_pipe_gets_neither() {
    let scene = Scene::new().await;
    scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let terminal = Terminal { cols: 60, rows: 20, colour: true };
    let said = scene.says_with("bob", "requests", b"", Some(terminal)).await;
    assert!(said.out.contains("\x1b[33m") && said.out.contains("\r\n"), "{said:?}");
    let plain = scene.says_with("bob", "requests", b"", Some(Terminal { colour: false, ..terminal })).await;
    assert!(!plain.out.contains('\x1b') && plain.out.lines().all(|line| line.chars().count() <= 60), "{plain:?}");
    assert!(!scene.says("bob", "requests").await.out.contains(['\x1b', '\r']));
    let watched = scene.says_with("bob", "requests --watch", b"q", Some(terminal)).await;
    assert!(watched.status == 0 && watched.out.starts_with("\x1b[H\x1b[2J"), "{watched:?}");
}

#[tokio::test]
async fn nothing_typed_is_help_and_what_waits() {
    let scene = Scene::new().await;
    let said = scene.says("bob", "").await;
    assert!(said.status == 0 && said.out.contains("approve") && said.out.contains("nothing waits for you"), "{said:?}");
    scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    assert!(scene.says("bob", "").await.out.contains("alice"));
    let wrong = scene.says("bob", "frobnicate").await;
    assert_eq!(wrong.status, 64);
    assert!(wrong.err.starts_with("countersign: unrecognized") && wrong.err.contains("ssh bob@bastion help"), "{wrong:?}");
    assert!(scene.says("bob", "whoami").await.out.contains(&scene.who("bob").fingerprint()));
}

#[tokio::test]
async fn sessions_are_for_auditors_and_their_own() {
    let scene = Scene::new().await;
    for name in ["alice", "bob", "erin", "hugo"] {
        assert!(scene.says(name, "sessions").await.out.contains("no session that you may see"));
        let said = scene.says(name, "replay 01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
        assert_eq!(said.status, 77);
        assert!(said.err.contains("01ARZ3NDEKTSV4RRFFQ69G5FAV is unknown or not yours"), "{said:?}");
    }
    assert_eq!(scene.says("erin", "replay last").await.status, 77);
}

#[tokio::test]
async fn the_wire_answers_what_the_console_answers() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let calls = [
        r#"{"v":1,"id":1,"verb":"whoami"}"#.to_owned(),
        r#"{"v":1,"id":2,"verb":"requests","args":{"pending":true}}"#.to_owned(),
        format!(r#"{{"v":1,"id":3,"verb":"show","args":{{"request":"{id}"}}}}"#),
        r#"{"v":1,"id":4,"verb":"frobnicate"}"#.to_owned(),
        r#"{"v":7,"id":5,"verb":"whoami"}"#.to_owned(),
        "what?".to_owned(),
        format!(r#"{{"v":1,"id":6,"verb":"show","args":{{"request":"{}"}}}}"#, RequestId::random()),
    ];
    let (status, answers) = scene.wire("bob", &(calls.join("\n") + "\n")).await;
    assert_eq!(status, 0);
    let [me, listed, card, verb, version, garbage, unknown] = &answers[..] else { panic!("{answers:?}") };
    assert!(matches!(&me.said, Said::Result(Reply::Whoami(me)) if me.bastion == "b-1" && me.keys.len() == 1));
    assert!(matches!(&listed.said, Said::Result(Reply::Requests(listed)) if listed.len() == 1));
    assert!(matches!(&card.said, Said::Result(Reply::Request(card)) if card.read().unwrap().request == id));
    let refused = |said: &Said| match said {
        Said::Error(refusal) => refusal.clone(),
        other => panic!("{other:?}"),
    };
    assert!(refused(&verb.said).why.contains("frobnicate"));
    assert!(refused(&version.said).why.contains("version 1"));
    assert_eq!(garbage.id, None);
    assert!(matches!(refused(&unknown.said), Refusal { kind: RefusalKind::Refused, .. }));
}

#[tokio::test]
async fn the_wire_ends_with_what_cannot_be_a_line() {
    let scene = Scene::new().await;
    let (status, answers) = scene.wire("bob", &"x".repeat(wire::MAX_REQUEST + 1)).await;
    assert_eq!((status, answers.len()), (64, 1));
    let (status, answers) = scene.wire("bob", &"[]\n".repeat(1000)).await;
    assert_eq!(status, 64);
    assert_eq!(answers.len(), 100, "patience ends");
}

#[tokio::test]
async fn the_companions_decision_is_taken_over_the_wire() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    let printed = scene.says("bob", &format!("decision {id} approve")).await.out;
    let signature = scene.signs("bob", NAMESPACE, printed.as_bytes());
    let verb = grammar::Verb::Decide { document_b64: data_encoding::BASE64.encode(printed.as_bytes()), signature };
    let (_, answers) = scene.wire("bob", &wire::call(1, &verb)).await;
    assert!(matches!(&answers[0].said, Said::Result(Reply::Decided(_))), "{answers:?}");
    // Another's signature on one's own connection is nobody's.
    let id = scene.asks("alice", "deploy@web-2 --reason INC-42").await;
    let printed = scene.says("bob", &format!("decision {id} approve")).await.out;
    let signature = scene.signs("bob", NAMESPACE, printed.as_bytes());
    let verb = grammar::Verb::Decide { document_b64: data_encoding::BASE64.encode(printed.as_bytes()), signature };
    let (_, answers) = scene.wire("carol", &wire::call(1, &verb)).await;
    assert!(matches!(&answers[0].said, Said::Error(_)), "{answers:?}");
}

#[tokio::test]
async fn a_watch_over_the_wire_tells_what_changed_and_ends_with_the_next_call() {
    use tokio::io::AsyncWriteExt;
    let scene = Scene::new().await;
    let (near, far) = tokio::io::duplex(1 << 20);
    let (far_in, far_out) = tokio::io::split(far);
    let (near_in, mut near_out) = tokio::io::split(near);
    let (console, who) = (scene.console.clone(), scene.who("bob"));
    let serving = tokio::spawn(async move { console.wire(&who, far_in, far_out).await });
    let mut lines = wire::Lines::new(tokio::io::BufReader::new(near_in), wire::MAX_REPLY);
    let mut next = async || -> wire::Line {
        let line = tokio::time::timeout(std::time::Duration::from_secs(20), lines.next()).await.unwrap().unwrap().unwrap();
        serde_json::from_slice(&line).unwrap()
    };
    near_out.write_all(b"{\"v\":1,\"id\":1,\"verb\":\"requests\",\"args\":{\"watch\":true}}\n").await.unwrap();
    assert!(matches!(next().await.said, Said::Event(Reply::Requests(listed)) if listed.is_empty()));
    scene.asks("alice", "deploy@web-1 --reason INC-42").await;
    assert!(matches!(next().await.said, Said::Event(Reply::Requests(listed)) if listed.len() == 1));
    near_out.write_all(b"{\"v\":1,\"id\":2,\"verb\":\"whoami\"}\n").await.unwrap();
    assert!(matches!(next().await, wire::Line { id: Some(2), said: Said::Result(Reply::Whoami(_)) }));
    near_out.shutdown().await.unwrap();
    assert_eq!(tokio::time::timeout(std::time::Duration::from_secs(20), serving).await.unwrap().unwrap(), 0);
}
