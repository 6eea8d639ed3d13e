//! Whose turn it is, over the real store: stages, who is asked when nobody answers, people who are away.

use super::*;
use crate::access::workflow::{Escalation, Wider};

fn groups(names: &[&str]) -> Vec<crate::id::Group> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// The workflow `lead` is bob's and dave's, then carol's (sec) as well; all of them are leads to the policy.
async fn escalating() -> Scene {
    let mut scene = Scene::new().await;
    scene.reload(|plan| {
        let stage = &mut plan.workflow("lead").stages[0];
        (stage.groups, stage.people) = (vec![], vec!["bob".parse().unwrap(), "dave".parse().unwrap()]);
        stage.escalation = Some(Escalation { to: groups(&["sec"]), after: Some(10 * MINUTE) });
    });
    scene
}

async fn asked(scene: &Scene, id: RequestId, seconds: u64) -> Vec<String> {
    let view = scene.approvals.view_at(id, at(seconds)).await.unwrap().unwrap();
    view.asked.iter().map(Person::to_string).collect()
}

async fn words(scene: &Scene, id: RequestId, seconds: u64) -> String {
    let view = scene.approvals.view_at(id, at(seconds)).await.unwrap().unwrap();
    view.turns.iter().filter_map(|turn| turn_words(turn, at(seconds))).collect()
}

async fn decide(scene: &Scene, name: &str, id: RequestId, verdict: Verdict, seconds: u64) -> Result<RequestState, ApprovalError> {
    let said = scene.signed(name, &[id], verdict, None).await;
    let views = scene.approvals.decide(said, &scene.who(name), at(seconds)).await?;
    Ok(views.into_iter().next().unwrap().state)
}

#[tokio::test]
async fn who_is_asked_later_may_not_agree_before_but_may_say_no() {
    let mut scene = escalating().await;
    let (id, other) = (scene.pending("lead").await, scene.submit("mallory", scene.ask(&["lead"])).await);
    scene.approvals.move_on(at(1)).await.unwrap();
    assert_eq!(asked(&scene, id, 1).await, ["bob", "dave"]);
    let early = decide(&scene, "carol", id, Verdict::Approve, 5).await;
    assert!(matches!(&early, Err(ApprovalError::NotYet { now, .. }) if now == "bob, dave"), "{early:?}");
    assert!(matches!(decide(&scene, "carol", other, Verdict::Deny, 5).await.unwrap(), RequestState::Denied { .. }));

    let before = scene.names().await.len();
    scene.approvals.move_on(at(599)).await.unwrap();
    assert_eq!(scene.names().await.len(), before, "nobody is asked before it is time");
    scene.approvals.move_on(at(600)).await.unwrap();
    scene.approvals.move_on(at(602)).await.unwrap();
    assert_eq!(scene.names().await[before..], ["request.escalate"], "once");
    let row = scene.log().await.pop().unwrap();
    let facts = row.facts.to_string();
    assert!(facts.contains("unanswered") && facts.contains("sec"), "{facts}");
    assert_eq!(words(&scene, id, 602).await, "nobody answered in 10 min; sec asked too");
    scene.restart().await;
    assert_eq!(asked(&scene, id, 603).await, ["bob", "carol", "dave"]);
    assert_eq!(decide(&scene, "carol", id, Verdict::Approve, 604).await.unwrap(), RequestState::Approved);
}

#[tokio::test]
async fn where_nobody_is_there_others_are_asked_at_once_and_stay_asked() {
    let scene = escalating().await;
    let (bob, dave) = (scene.who("bob"), scene.who("dave"));
    let id = scene.pending("lead").await;
    scene.approvals.move_on(at(1)).await.unwrap();
    scene.approvals.go_away(&bob, at(200), None, at(2)).await.unwrap();
    assert_eq!(asked(&scene, id, 3).await, ["dave"]);
    scene.approvals.go_away(&dave, at(300), None, at(4)).await.unwrap();
    assert_eq!(words(&scene, id, 5).await, "nobody can decide now (bob away until 22:16Z, dave away until 22:18Z); sec asked at once");
    scene.approvals.move_on(at(5)).await.unwrap();
    assert_eq!(asked(&scene, id, 5).await, ["carol"]);
    assert_eq!(scene.log().await.pop().unwrap().facts["why"], Wider::TooFew.as_str());
    scene.approvals.come_back(&dave, at(10)).await.unwrap();
    assert_eq!(asked(&scene, id, 11).await, ["carol", "dave"], "who was asked stays asked");
    assert_eq!(asked(&scene, id, 201).await, ["bob", "carol", "dave"], "an absence ends by itself");
    assert!(matches!(scene.approvals.come_back(&dave, at(12)).await, Err(AwayError::NotAway)));
    // Whoever is away and decides is there.
    assert_eq!(decide(&scene, "bob", id, Verdict::Approve, 100).await.unwrap(), RequestState::Approved);
}

#[tokio::test]
async fn one_stands_in_only_where_one_may_decide_anyway() {
    let scene = escalating().await;
    let bob = scene.who("bob");
    let away = |instead: &str| scene.approvals.go_away(&bob, at(200), Some(instead.parse().unwrap()), at(1));
    assert!(matches!(away("mallory").await, Err(AwayError::NotEligible(_))));
    assert!(matches!(away("zoe").await, Err(AwayError::Nobody(_))));
    assert!(matches!(away("bob").await, Err(AwayError::Self_)));
    assert!(matches!(scene.approvals.go_away(&bob, at(1), None, at(1)).await, Err(AwayError::Over)));
    away("dave").await.unwrap();
    let noted = scene.approvals.away(at(2)).await.unwrap().pop().unwrap();
    assert_eq!((noted.person.as_str(), noted.instead.unwrap().as_str()), ("bob", "dave"));
    scene.approvals.go_away(&bob, at(100), None, at(3)).await.unwrap();
    let all = scene.approvals.away(at(4)).await.unwrap();
    assert!(all.len() == 1 && all[0].instead.is_none(), "the last word counts: {all:?}");
    assert_eq!(scene.names().await, ["person.away", "person.away"]);
}

#[tokio::test]
async fn stages_follow_each_other_and_each_has_its_time() {
    let mut scene = Scene::new().await;
    scene.reload(|plan| {
        let workflow = plan.workflow("lead");
        let person = |name: &str| Stage { people: vec![name.parse().unwrap()], quorum: 1, ..Stage::default() };
        workflow.stages = vec![person("bob"), Stage { within: Some(MINUTE), ..person("carol") }];
    });
    let (id, slow) = (scene.pending("lead").await, scene.submit("mallory", scene.ask(&["lead"])).await);
    assert_eq!(asked(&scene, id, 0).await, ["bob"]);
    assert!(matches!(decide(&scene, "carol", id, Verdict::Approve, 1).await, Err(ApprovalError::NotYet { .. })));
    for id in [id, slow] {
        assert_eq!(decide(&scene, "bob", id, Verdict::Approve, 10).await.unwrap(), RequestState::Pending);
    }
    assert_eq!(asked(&scene, id, 11).await, ["carol"]);
    assert!(scene.log().await.pop().unwrap().name == "request.stage");
    // A restart in between loses nothing.
    scene.restart().await;
    assert_eq!(decide(&scene, "carol", id, Verdict::Approve, 69).await.unwrap(), RequestState::Approved);
    let grant = scene.grant(id).await;
    assert_eq!(grant.approvers.iter().map(Person::as_str).collect::<Vec<_>>(), ["bob", "carol"]);

    // Expiry wins, whether the sweep has come by or not.
    assert!(matches!(decide(&scene, "carol", slow, Verdict::Approve, 70).await, Err(ApprovalError::Already(_, "expired"))));
    scene.approvals.move_on(at(70)).await.unwrap();
    assert_eq!(scene.state(slow).await, RequestState::Expired);
    assert!(matches!(decide(&scene, "carol", slow, Verdict::Approve, 71).await, Err(ApprovalError::Already(_, "expired"))));
}

#[tokio::test]
async fn who_agreed_for_one_hold_is_not_asked_for_it_again_and_counts_in_both() {
    let mut scene = Scene::new().await;
    scene.reload(|plan| {
        let person = |name: &str| Stage { people: vec![name.parse().unwrap()], quorum: 1, ..Stage::default() };
        plan.workflow("lead").stages = vec![person("bob"), person("carol")];
        plan.workflow("pair").stages = vec![person("carol")];
    });
    let id = scene.submit("alice", scene.ask(&["lead", "pair"])).await;
    assert_eq!(asked(&scene, id, 0).await, ["bob", "carol"]);
    assert_eq!(decide(&scene, "carol", id, Verdict::Approve, 1).await.unwrap(), RequestState::Pending);
    assert_eq!(asked(&scene, id, 2).await, ["bob"], "carol has said it, for both");
    assert_eq!(decide(&scene, "bob", id, Verdict::Approve, 3).await.unwrap(), RequestState::Approved);
}
