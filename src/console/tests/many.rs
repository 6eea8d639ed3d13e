//! Many targets in one request, many requests in one decision (`users.md` 3).

use super::scene::Scene;
use super::{code_in, lines};
use crate::access::decision::{DecisionDocument, NAMESPACE};
use crate::access::request::RequestDocument;
use crate::console::grammar::Verb;
use crate::console::reply::Reply;
use crate::console::wire::{self, Said};
use crate::id::RequestId;

async fn mine(scene: &Scene, who: &str) -> usize {
    let listed: serde_json::Value = serde_json::from_str(&scene.says(who, "requests --mine --pending --json").await.out).unwrap();
    listed["requests"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_list_on_standard_input_is_one_request() {
    let scene = Scene::new().await;
    let list = b"    web-2\n    web-1\n    dev-1\n    web-2\n";
    let said = scene.says_with("alice", "request deploy@- --for 2h --reason CHG-88", list, None).await;
    assert_eq!(said.status, 0, "{said:?}");
    let told = lines(&said.out);
    assert!(told[0].contains("is asked") && told[0].contains("asked bob, carol"), "{said:?}");
    assert_eq!(told[1..], ["countersign: for 2 targets: web-1, web-2", "countersign: dev-1 needs nobody's approval"]);
    assert_eq!(mine(&scene, "alice").await, 1);
    let again = scene.says_with("alice", "request deploy@- --for 2h --reason CHG-88", b"web-1\nweb-2\n", None).await;
    assert!(again.out.contains("was asked already"), "{again:?}");
    // All are free: nothing is made.
    let free = scene.says_with("alice", "request deploy@-", b"dev-1", None).await;
    assert_eq!(free.out, "countersign: deploy@dev-1 needs nobody's approval: connect\n");
}

#[tokio::test]
async fn every_name_that_is_not_ones_own_is_named_at_once_and_nothing_is_asked() {
    let scene = Scene::new().await;
    let said = scene.says_with("alice", "request deploy@- --reason INC-42", b"web-1\nnowhere\npay-1\n", None).await;
    assert_eq!(said.status, 77);
    let expected = "countersign: refused: deploy@nowhere, deploy@pay-1 are unknown or not yours (2 names); nothing was asked";
    assert_eq!(lines(&said.err)[0], expected);
    assert_eq!(mine(&scene, "alice").await, 0);
    let wrong = scene.says_with("alice", "request deploy@- --reason INC-42", b"hosts (2):\nweb-1", None).await;
    assert!(wrong.status == 64 && wrong.err.contains("line 1") && wrong.err.contains("<LIST"), "{wrong:?}");
    let wire = wire::call(
        1,
        &Verb::Request(match super::grammar::parse("request deploy@-").unwrap().verb.unwrap() {
            Verb::Request(args) => args,
            other => panic!("{other:?}"),
        }),
    );
    let (_, answers) = scene.wire("alice", &wire).await;
    assert!(matches!(&answers[0].said, Said::Error(refusal) if refusal.why.contains("nobody sent")), "{answers:?}");
}

#[tokio::test]
async fn a_pattern_stands_for_ones_own_and_mixed_rulings_are_said() {
    let scene = Scene::new().await;
    let would = scene.says("alice", "request 'deploy@web-*' --dry-run").await;
    let expected = [
        "countersign: would ask for shell (with exec and file transfer) as deploy on 2 targets: web-1, web-2",
        "countersign: it needs lead",
    ];
    assert_eq!(lines(&would.out), expected);
    assert_eq!(mine(&scene, "alice").await, 0, "nothing was made");
    let said = scene.says("alice", "request 'deploy@*' --reason INC-42").await;
    let told = lines(&said.out);
    assert_eq!(told[1], "countersign: for 4 targets: stage-1, stage-2, web-1, web-2", "{said:?}");
    let mixed = "of these 2 need lead (web-1, web-2), 2 need peer (stage-1, stage-2): in one request all of them need all of that";
    assert!(told[2].contains(mixed), "{said:?}");
    assert_eq!(told[3], "countersign: dev-1 needs nobody's approval");
    let none = scene.says("alice", "request 'deploy@pay-*' --reason INC-42").await;
    assert!(none.status == 77 && none.err.contains("deploy@pay-* is unknown or not yours"), "{none:?}");
}

/// Asks for each target by itself, as a storm of connects does.
async fn storm(scene: &Scene, who: &str, targets: &[&str], more: &str) -> Vec<RequestId> {
    let mut ids = Vec::new();
    for target in targets {
        ids.push(scene.asks(who, &format!("deploy@{target}{more}")).await);
    }
    ids
}

#[tokio::test]
async fn one_signature_decides_all_that_is_alike_and_nothing_that_came_later() {
    let scene = Scene::new().await;
    let ids = storm(&scene, "alice", &["web-1", "web-2"], " --reason INC-42").await;
    let other = scene.asks("alice", "deploy@web-1 --for 5m --reason INC-42").await;
    let printed = scene.says("bob", &format!("decision --like {} approve", ids[0])).await;
    assert!(printed.err.contains(&format!("and all that are like it, {}: 2 requests, 2 targets", ids[1])), "{printed:?}");
    assert!(printed.err.contains("all env=prod · none ever before"), "{printed:?}");
    let document = DecisionDocument::read(printed.out.as_bytes()).unwrap();
    assert_eq!(document.requests.len(), 2);
    let late = scene.asks("alice", "deploy@web-1 deploy@web-2 --reason INC-42").await;
    let signature = scene.signs("bob", NAMESPACE, printed.out.as_bytes());
    let said = scene.says_with("bob", &format!("submit {}", ids[0]), signature.as_bytes(), None).await;
    // In the order of their digests, as they were signed.
    let told = |a, b| format!("countersign: approved 2 requests for 30m: {a}, {b}. A wrong one? ssh bastion revoke REQ\n");
    assert!([told(ids[0], ids[1]), told(ids[1], ids[0])].contains(&said.out), "{said:?}");
    for (id, state) in [(ids[0], "approved"), (ids[1], "approved"), (other, "pending"), (late, "pending")] {
        assert!(scene.says("alice", &format!("show {id}")).await.out.contains(state), "{id} {state}");
    }
    let rows = scene.audited().await.into_iter().filter(|row| row.starts_with("request.decide")).count();
    assert_eq!(rows, 2, "each has a row of its own");
}

#[tokio::test]
async fn on_a_connection_the_list_is_decided_as_it_was_shown() {
    let scene = Scene::new().await;
    let ids = storm(&scene, "oskar", &["stage-1", "stage-2"], "").await;
    let first = ids[0];
    let shown = scene.says("bob", &format!("approve --like {first}")).await;
    assert_eq!(shown.status, 64, "{shown:?}");
    assert!(shown.err.contains("stands for 2 requests of oskar: 2 targets · all env=staging · none ever before"), "{shown:?}");
    let list_in = |err: &str| err.split("--shown ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let list = list_in(&shown.err);
    let code = code_in(&scene.says("oskar", &format!("show {first}")).await);
    for wrong in [format!("{code} --shown 0123456789abcdef"), format!("ZULU-100 --shown {list}"), code.clone()] {
        assert_ne!(scene.says("bob", &format!("approve --like {first} {wrong}")).await.status, 0, "{wrong}");
    }
    // One more comes: the list is another, and what was shown does not decide it.
    let late = scene.asks("oskar", "deploy@stage-1 deploy@stage-2").await;
    let stale = scene.says("bob", &format!("approve --like {first} {code} --shown {list}")).await;
    assert!(stale.status == 64 && stale.err.contains("is another list now: stands for 3 requests"), "{stale:?}");
    let said = scene.says("bob", &format!("approve --like {first} {code} --shown {} --for 5m", list_in(&stale.err))).await;
    assert!(said.out.starts_with("countersign: approved 3 requests for 5m: "), "{said:?}");
    assert!(scene.says("oskar", &format!("show {late}")).await.out.contains("approved"));
}

#[tokio::test]
async fn several_are_named_with_their_codes_or_signed_together() {
    let scene = Scene::new().await;
    let ids = storm(&scene, "oskar", &["stage-1", "stage-2"], "").await;
    let code = async |id: RequestId| code_in(&scene.says("oskar", &format!("show {id}")).await);
    let (one, two) = (code(ids[0]).await, code(ids[1]).await);
    let without = scene.says("bob", &format!("approve {} {one} {}", ids[0], ids[1])).await;
    assert!(without.status == 64 && without.err.contains("code"), "{without:?}");
    let swapped = scene.says("bob", &format!("approve {} {one} {} ZULU-100", ids[0], ids[1])).await;
    assert_eq!(swapped.status, 77, "{swapped:?}");
    assert_eq!(mine(&scene, "oskar").await, 2, "all or none");
    let said = scene.says("bob", &format!("approve {} {one} {} {two}", ids[0], ids[1])).await;
    assert!(said.out.contains("approved 2 requests"), "{said:?}");
    // Where a signature is needed, the companion is named.
    let ids = storm(&scene, "alice", &["web-1", "web-2"], " --reason INC-42").await;
    let refused = scene.says("bob", &format!("approve {} {}", ids[0], ids[1])).await;
    assert!(refused.err.contains(&format!("countersign approve {} {}", ids[0], ids[1])), "{refused:?}");
    let refused = scene.says("bob", &format!("approve --like {}", ids[0])).await;
    assert!(refused.err.contains(&format!("ssh bastion decision --like {} approve >d", ids[0])), "{refused:?}");
}

#[tokio::test]
async fn a_denial_of_all_that_is_alike_goes_on_denying_each_target() {
    let scene = Scene::new().await;
    let ids = storm(&scene, "alice", &["web-1", "web-2"], " --reason INC-42").await;
    let own = scene.says("alice", &format!("deny --like {}", ids[0])).await;
    assert_eq!(own.status, 77, "{own:?}");
    let said = scene.says("bob", &format!("deny --like {} --note freeze until 06:00", ids[0])).await;
    assert!(said.out.starts_with("countersign: denied 2 requests: "), "{said:?}");
    // Neither one of them, nor one of them among others.
    let one = scene.says("alice", "request deploy@web-2 --reason INC-43").await;
    assert!(lines(&one.err)[0].contains("bob denied this 0 s ago: \"freeze until 06:00\". Again:"), "{one:?}");
    let among = scene.says_with("alice", "request deploy@- --reason INC-43", b"web-1\nstage-1\n", None).await;
    assert!(among.status == 77 && lines(&among.err)[0].contains("bob denied web-1 0 s ago"), "{among:?}");
    let again = scene.says_with("alice", "request deploy@- --again --reason INC-43", b"web-1\nstage-1\n", None).await;
    assert_eq!(again.status, 0, "{again:?}");
    // And one that was denied among others.
    let id = scene.asks("alice", "deploy@stage-2 deploy@web-2 --again --reason INC-44").await;
    assert_eq!(scene.says("bob", &format!("deny {id}")).await.status, 0);
    let one = scene.says("alice", "request deploy@stage-2 --reason INC-45").await;
    assert!(one.status == 77 && one.err.contains("bob denied this"), "{one:?}");
}

#[tokio::test]
async fn what_is_alike_is_told_to_those_who_may_decide_it() {
    let scene = Scene::new().await;
    let ids = storm(&scene, "alice", &["web-1", "web-2"], " --reason INC-42").await;
    let call = wire::call(1, &Verb::Alike { request: ids[0] });
    let (_, answers) = scene.wire("bob", &call).await;
    let Said::Result(Reply::Alike(alike)) = &answers[0].said else { panic!("{answers:?}") };
    assert_eq!(alike.cards.iter().map(|card| card.request).collect::<Vec<_>>(), ids);
    let documents: Vec<RequestDocument> = alike.cards.iter().map(|card| card.read().unwrap()).collect();
    assert!(documents[1].is_like(&documents[0]));
    assert!(alike.targets.iter().all(|one| one.labels == ["env=prod"] && !one.opened), "{alike:?}");
    let (_, answers) = scene.wire("hugo", &call).await;
    assert!(matches!(&answers[0].said, Said::Error(refusal) if refusal.why == "is unknown or not yours"), "{answers:?}");
}

#[tokio::test]
async fn a_preset_is_asked_for_whole_and_said_class_by_class() {
    let scene = Scene::new().await;
    let id = scene.asks("alice", "deploy@web-1 --preset vscode --reason INC-42").await;
    let card = scene.says("bob", &format!("show {id} --json")).await.out;
    let card: serde_json::Value = serde_json::from_str(&card).unwrap();
    let expected = serde_json::json!(["exec:*", "forward-local:localhost:*", "sftp-read", "sftp-write"]);
    assert_eq!(card["request"]["document"]["scope"], expected, "{card}");
    let card = scene.says("bob", &format!("show {id}")).await.out;
    let what = card.lines().find(|line| line.trim_start().starts_with("what")).unwrap();
    assert!(what.contains("exec") && what.contains("file transfer") && what.contains("localhost"), "{card}");
    let unknown = scene.says("alice", "request deploy@web-1 --preset vscod --reason INC-42").await;
    assert_eq!(unknown.status, 64);
    assert!(unknown.err.contains("there is no preset \"vscod\" here; there are: git, vscode"), "{unknown:?}");
    let beyond = scene.says("alice", "request deploy@web-1 deploy@web-2 --preset git --reason INC-42").await;
    assert_eq!(beyond.status, 77);
    let expected = "countersign: refused: the preset git asks for agent-forward, which is not yours on web-1 and 1 more; ask without it";
    assert_eq!(lines(&beyond.err)[0], expected);
    let stranger = scene.says("hugo", "request deploy@web-1 --preset vscode --reason x").await;
    assert!(stranger.err.contains("deploy@web-1 is unknown or not yours"), "{stranger:?}");
    assert_eq!(scene.says("alice", "request deploy@web-1 --preset git --exec uptime").await.status, 64);
}
