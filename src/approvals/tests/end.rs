use super::*;
use crate::approvals::KillError;
use crate::transcript::Outcome;

#[tokio::test]
async fn only_the_requester_withdraws_and_it_is_for_good() {
    let scene = Scene::new().await;
    let id = scene.pending("lead").await;
    for other in ["bob", "mallory"] {
        assert!(matches!(scene.approvals.withdraw(id, &scene.who(other), NOW).await, Err(ApprovalError::Unknown(_))));
    }
    scene.approvals.withdraw(id, &scene.who("alice"), NOW).await.unwrap();
    assert_eq!(scene.state(id).await, RequestState::Withdrawn);
    assert!(matches!(scene.approvals.withdraw(id, &scene.who("alice"), NOW).await, Err(ApprovalError::Already(_, "withdrawn"))));
    assert!(matches!(scene.decide("bob", id, Verdict::Approve).await, Err(ApprovalError::Already(_, "withdrawn"))));
    scene.approvals.sweep(at(10_000)).await.unwrap();
    assert_eq!(scene.names().await, ["request.submit", "request.withdraw"]);
    let unreasoned = scene.pending("reasoned").await;
    scene.approvals.withdraw(unreasoned, &scene.who("alice"), NOW).await.unwrap();
    assert_eq!(scene.state(unreasoned).await, RequestState::Withdrawn);
}

#[tokio::test]
async fn revoking_is_for_the_requester_the_approvers_and_who_may_decide() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    scene.open(id, NOW).await.unwrap();
    for other in ["mallory", "erin"] {
        assert!(matches!(scene.approvals.revoke(id, &scene.who(other), "no", NOW).await, Err(ApprovalError::Unknown(_))));
    }
    assert_eq!(scene.approvals.revoked(id).await.unwrap(), None);
    scene.approvals.revoke(id, &scene.who("dave"), "wrong host", at(5)).await.unwrap();
    assert_eq!(scene.approvals.revoked(id).await.unwrap(), Some(("dave".parse().unwrap(), "wrong host".into())));
    assert!(matches!(scene.open(id, at(6)).await, Err(OpenError::Unusable(_, "was revoked"))));
    assert!(matches!(scene.approvals.revoke(id, &scene.who("bob"), "", at(7)).await, Err(ApprovalError::Already(_, "revoked"))));
    let pending = scene.pending("pair").await;
    assert!(matches!(scene.approvals.revoke(pending, &scene.who("bob"), "", NOW).await, Err(ApprovalError::NotGranted(_))));
    assert_eq!(scene.names().await.iter().filter(|name| *name == "grant.revoke").count(), 1);
}

#[tokio::test]
async fn a_session_is_killed_once_by_who_may_and_a_dead_one_never() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let grant = scene.open(id, NOW).await.unwrap();
    let mut kills = scene.approvals.kills();
    assert!(matches!(scene.approvals.kill(grant.session, &scene.who("mallory"), "no", NOW).await, Err(KillError::Unknown(_))));
    assert!(matches!(scene.approvals.kill(grant.session, &scene.who("alice"), "  ", NOW).await, Err(KillError::Reason(0))));
    assert_eq!(scene.approvals.ended_early(grant.session, grant.request).await.unwrap(), None);
    // One's own may always be ended.
    scene.approvals.kill(grant.session, &scene.who("alice"), "lost my laptop", at(5)).await.unwrap();
    assert_eq!(kills.recv().await.unwrap(), grant.session);
    let how = Outcome::Killed { by: "alice".into(), why: "lost my laptop".into() };
    assert_eq!(scene.approvals.ended_early(grant.session, grant.request).await.unwrap(), Some(how));
    assert!(matches!(scene.approvals.kill(grant.session, &scene.who("alice"), "again", at(6)).await, Err(KillError::Over(_))));
    scene.store().session_ended(grant.session, "killed by alice: lost my laptop", at(7)).await.unwrap();
    assert!(matches!(scene.approvals.kill(grant.session, &scene.who("alice"), "again", at(8)).await, Err(KillError::Over(_))));
    assert_eq!(scene.names().await.iter().filter(|name| *name == "session.kill").count(), 1);
}

#[tokio::test]
async fn a_used_window_ends_once_and_an_idle_sweep_writes_nothing() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    scene.open(id, at(10)).await.unwrap();
    let before = scene.store().dump().await;
    scene.approvals.sweep(at(1809)).await.unwrap();
    assert_eq!(scene.store().dump().await, before);
    scene.approvals.sweep(at(1810)).await.unwrap();
    scene.approvals.sweep(at(1811)).await.unwrap();
    assert_eq!(scene.grant(id).await.state, GrantState::Ended);
    assert_eq!(scene.names().await.iter().filter(|name| *name == "grant.end").count(), 1);
}

#[tokio::test]
async fn a_change_is_hinted_at_after_it_can_be_read() {
    let scene = Scene::new().await;
    let mut hints = scene.approvals.hints();
    let id = scene.pending("lead").await;
    assert_eq!(hints.recv().await.unwrap(), id);
    scene.decide("bob", id, Verdict::Approve).await.unwrap();
    assert_eq!(hints.recv().await.unwrap(), id);
    assert_eq!(scene.state(id).await, RequestState::Approved);
    scene.approvals.revoke(id, &scene.who("alice"), "", NOW).await.unwrap();
    assert_eq!(hints.recv().await.unwrap(), id);
    assert!(hints.try_recv().is_err());
}

#[tokio::test]
async fn a_grant_outlives_a_restart_and_its_window_does_not_restart() {
    let mut scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    scene.open(id, at(10)).await.unwrap();
    scene.restart().await;
    scene.approvals.forget_waiters(at(20)).await.unwrap();
    assert_eq!(scene.usable(&Want::Shell, at(20)).await, Some(id));
    assert_eq!(scene.open(id, at(20)).await.unwrap().ends_at, Some(at(1810)));
    assert_eq!(
        scene.store().sessions(&crate::store::SessionFilter { live_only: true, limit: 9, ..Default::default() }).await.unwrap().len(),
        2
    );
}
