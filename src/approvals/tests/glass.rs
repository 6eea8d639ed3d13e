use super::*;
use crate::access::ruling::RecordLevel;
use crate::access::workflow::BreakGlass;

const MAY: &str =
    r#"@id("sre-break-glass") permit (principal == Person::"alice", action == Action::"break-glass", resource in Label::"env=prod");"#;

async fn scene() -> Scene {
    let mut scene = Scene::new().await;
    scene.reload(|plan| {
        plan.policy.push_str(MAY);
        plan.workflow("lead").break_glass = Some(BreakGlass { retain: Some("year".parse().unwrap()) });
    });
    scene
}

fn ask(scene: &Scene, workflows: &[&str]) -> Ask {
    Ask { reason: Some("INC-1 all down".into()), ..scene.ask(workflows) }
}

#[tokio::test]
async fn it_opens_first_in_full_and_demands_a_review() {
    let scene = scene().await;
    let id = scene.approvals.break_glass(&scene.who("alice"), ask(&scene, &["lead"]), NOW).await.unwrap();
    let view = scene.view(id).await;
    assert_eq!((view.state, view.document.break_glass, view.approvers.len()), (RequestState::Approved, true, 0));
    assert_eq!(scene.usable(&Want::Shell, at(1)).await, Some(id));
    let grant = scene.open(id, at(1)).await.unwrap();
    assert!(grant.break_glass && grant.record == RecordLevel::Full && grant.approvers.is_empty());
    assert_eq!(grant.retention.schedules.len(), 1);
    assert_eq!(scene.store().unreviewed().await.unwrap(), [grant.session]);
    let log = scene.log().await;
    let (first, open) = (&log[0], log.iter().find(|row| row.name == "session.open").unwrap());
    assert_eq!((first.name.as_str(), &first.facts["reason"]), ("request.break-glass", &"INC-1 all down".into()));
    assert_eq!(open.facts["break_glass"], true);
}

#[tokio::test]
async fn it_is_ruled_and_needs_a_reason_and_is_short() {
    let scene = scene().await;
    let glass = |who: &str, ask: Ask| {
        let (approvals, who) = (scene.approvals.clone(), scene.who(who));
        async move { approvals.break_glass(&who, ask, NOW).await }
    };
    assert!(matches!(glass("mallory", ask(&scene, &["lead"])).await, Err(SubmitError::BreakGlass)), "no permit");
    assert!(matches!(glass("alice", ask(&scene, &["lead", "pair"])).await, Err(SubmitError::BreakGlass)), "every workflow has to let it");
    let pay = Ask { targets: vec![scene.target("pay-1")], ..ask(&scene, &["lead"]) };
    assert!(matches!(glass("alice", pay).await, Err(SubmitError::BreakGlass)), "not there");
    assert!(matches!(glass("alice", scene.ask(&["lead"])).await, Err(SubmitError::Reason(_))));
    let long = Ask { duration: Some(31 * MINUTE), ..ask(&scene, &["lead"]) };
    assert!(matches!(glass("alice", long).await, Err(SubmitError::TooLong { .. })));
    assert!(scene.names().await.is_empty());
}

#[tokio::test]
async fn who_may_decide_ends_it_and_policy_is_asked_again() {
    let mut scene = scene().await;
    let open = |scene: &Scene, now| {
        let (approvals, who, ask) = (scene.approvals.clone(), scene.who("alice"), ask(scene, &["lead"]));
        async move { approvals.break_glass(&who, ask, now).await }
    };
    let id = open(&scene, NOW).await.unwrap();
    assert!(matches!(scene.decide("bob", id, Verdict::Deny).await.unwrap(), RequestState::Denied { .. }));
    assert!(matches!(scene.open(id, at(1)).await, Err(OpenError::Unusable(_, "is void"))));

    // Who was told no does not break the glass again at once, whether it was denied or revoked.
    assert!(matches!(open(&scene, at(60)).await, Err(SubmitError::BreakGlassDenied { by, .. }) if by.as_str() == "bob"));
    let id = open(&scene, at(700)).await.unwrap();
    scene.approvals.revoke(id, &scene.who("dave"), "not now", at(700)).await.unwrap();
    assert!(scene.open(id, at(701)).await.is_err());
    assert!(matches!(open(&scene, at(760)).await, Err(SubmitError::BreakGlassDenied { by, .. }) if by.as_str() == "dave"));

    // So many that nobody used are enough.
    let mut id = open(&scene, at(1400)).await.unwrap();
    for _ in 1..8 {
        id = open(&scene, at(1400)).await.unwrap();
    }
    assert!(matches!(open(&scene, at(1400)).await, Err(SubmitError::BreakGlassUnused(8))));
    scene.reload(|plan| plan.policy = POLICY.into());
    assert!(matches!(scene.open(id, at(1401)).await, Err(OpenError::Unusable(_, "has approvals that no longer stand"))));
    assert!(scene.store().unreviewed().await.unwrap().is_empty());
}
