//! Asked for more time before the end, the cut waits for the answer: as long as was signed, and no longer.

use super::*;

const OPEN: &str = r#"@id("sre") permit (principal in Group::"sre", action in Action::"session", resource);"#;
const LEAD: &str = r#"@id("prod") @hold("lead") forbid (principal, action in Action::"session", resource);"#;

/// A grant of half an hour that is used at once, and the request for ten minutes more, made ten seconds before its end.
async fn asked() -> (Scene, RequestId, RequestId) {
    let mut scene = Scene::new().await;
    scene.reload(|plan| plan.policy = [POLICY, OPEN, LEAD].concat());
    let id = scene.approved(scene.ask(&["lead"])).await;
    assert_eq!(scene.open(id, NOW).await.unwrap().overrun, 5 * MINUTE);
    let (more, _) = scene.approvals.extend(id, &scene.who("alice"), (Some(10 * MINUTE), None), at(1790)).await.unwrap();
    (scene, id, more)
}

async fn decide(scene: &Scene, more: RequestId, verdict: Verdict, now: Timestamp) -> Result<RequestState, ApprovalError> {
    let said = scene.signed("bob", &[more], verdict, None).await;
    let views = scene.approvals.decide(said, &scene.who("bob"), now).await?;
    Ok(views.into_iter().next().unwrap().state)
}

#[tokio::test]
async fn an_answer_in_time_moves_the_end_from_where_it_was() {
    let (scene, id, more) = asked().await;
    assert_eq!(scene.view(more).await.document.not_after(), at(1800 + 300), "the approver signs how long it may wait");
    scene.approvals.sweep(at(1900)).await.unwrap();
    assert_eq!(scene.grant(id).await.state, GrantState::Open);
    assert!(matches!(scene.approvals.waits_for_more(id, at(1900)).await, Ok(Some((extension, _))) if extension == more));
    assert!(scene.open(id, at(1900)).await.is_err(), "nothing new opens past the end");
    let again = scene.approvals.extend(id, &scene.who("alice"), (None, None), at(1900)).await;
    assert!(matches!(again, Err(ExtendError::NotRunning(..))), "nor is anything asked past it: {again:?}");
    assert_eq!(decide(&scene, more, Verdict::Approve, at(1950)).await.unwrap(), RequestState::Approved);
    assert_eq!(scene.grant(id).await.ends_at, Some(at(1800 + 600)));
    scene.open(id, at(1951)).await.unwrap();
}

#[tokio::test]
async fn a_no_ends_it_and_so_does_no_answer() {
    let (scene, id, more) = asked().await;
    decide(&scene, more, Verdict::Deny, at(1900)).await.unwrap();
    assert_eq!(scene.approvals.waits_for_more(id, at(1900)).await.unwrap(), None);
    scene.approvals.sweep(at(1900)).await.unwrap();
    assert_eq!(scene.grant(id).await.state, GrantState::Ended);

    let (scene, id, more) = asked().await;
    assert_eq!(scene.approvals.waits_for_more(id, at(2100)).await.unwrap(), None);
    assert!(decide(&scene, more, Verdict::Approve, at(2100)).await.is_err(), "too late");
    scene.approvals.sweep(at(2100)).await.unwrap();
    assert_eq!((scene.grant(id).await.state, scene.state(more).await), (GrantState::Ended, RequestState::Expired));

    // A yes to less than has gone by since leaves nothing.
    let (scene, id, more) = asked().await;
    let asked = scene.view(more).await.document.asked();
    let minute = GrantedTerms { for_us: 60_000_000, ..asked };
    let said = scene.signed("bob", &[more], Verdict::Approve, Some(GrantedTerms { from_us: None, ..minute })).await;
    assert!(matches!(scene.approvals.decide(said, &scene.who("bob"), at(1900)).await, Err(ApprovalError::Already(..))));
    assert_eq!(scene.grant(id).await.ends_at, Some(at(1800)));
}

#[tokio::test]
async fn without_an_overrun_the_end_is_the_end() {
    let mut scene = Scene::new().await;
    scene.reload(|plan| {
        plan.policy = [POLICY, OPEN, LEAD].concat();
        plan.workflow("lead").overrun = Duration::ZERO;
    });
    let id = scene.approved(scene.ask(&["lead"])).await;
    scene.open(id, NOW).await.unwrap();
    let (more, _) = scene.approvals.extend(id, &scene.who("alice"), (Some(10 * MINUTE), None), at(1790)).await.unwrap();
    let document = scene.view(more).await.document;
    assert_eq!((document.overrun_us, document.not_after()), (None, at(1800)));
    scene.approvals.sweep(at(1800)).await.unwrap();
    assert_eq!(scene.grant(id).await.state, GrantState::Ended);
}

#[tokio::test]
async fn a_reload_that_gives_less_shortens_what_runs() {
    let mut scene = Scene::new().await;
    scene.reload(|plan| plan.policy = [POLICY, OPEN, LEAD].concat());
    let id = scene.approved(scene.ask(&["lead"])).await;
    scene.open(id, NOW).await.unwrap();
    scene.approvals.rerule(at(60)).await.unwrap();
    assert_eq!(scene.grant(id).await.ends_at, Some(at(1800)), "nothing has changed");
    scene.reload(|plan| plan.workflow("lead").longest_grant = 10 * MINUTE);
    scene.approvals.rerule(at(60)).await.unwrap();
    assert_eq!(scene.grant(id).await.ends_at, Some(at(600)), "as of its first use");
    scene.reload(|plan| plan.policy = [POLICY, OPEN, &LEAD.replace("@hold", "@grant(\"2m\") @hold")].concat());
    scene.approvals.rerule(at(300)).await.unwrap();
    assert_eq!(scene.grant(id).await.ends_at, Some(at(300)), "what has gone by has gone by");
    scene.reload(|plan| plan.workflow("lead").longest_grant = 60 * MINUTE);
    scene.approvals.rerule(at(301)).await.unwrap();
    assert_eq!(scene.grant(id).await.ends_at, Some(at(300)), "and nothing is widened");
    assert_eq!(scene.names().await.iter().filter(|name| *name == "grant.shorten").count(), 2);
}
