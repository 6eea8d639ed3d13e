use super::*;

/// FC5: an event that cannot be appended: its action does not happen.
#[tokio::test]
async fn what_cannot_be_logged_does_not_happen() {
    let scene = Scene::new().await;
    let approved = scene.approved(scene.ask(&["lead"])).await;
    let pending = scene.pending("pair").await;
    let unreasoned = scene.pending("reasoned").await;
    let said = scene.signed("bob", &[pending], Verdict::Approve, None).await;
    let denied = scene.signed("bob", &[pending], Verdict::Deny, None).await;
    let alice = scene.who("alice");
    scene.store().meddle("create trigger full before insert on audit begin select raise(abort, 'disk full'); end").await;
    let before = scene.store().dump().await;
    let approvals = &scene.approvals;
    assert!(approvals.submit(&alice, scene.ask(&["soft"]), NOW).await.is_err());
    assert!(approvals.submit(&alice, scene.ask(&["pair"]), NOW).await.is_err(), "joining");
    assert!(approvals.give_reason(unreasoned, &alice, "INC-1", NOW).await.is_err());
    assert!(approvals.decide(said.clone(), &scene.who("bob"), NOW).await.is_err());
    assert!(approvals.decide(denied, &scene.who("bob"), NOW).await.is_err());
    assert!(scene.open(approved, NOW).await.is_err());
    assert!(approvals.open(scene.opening(Basis::Permitted, Want::Shell, NOW), NOW).await.is_err());
    assert!(approvals.withdraw(pending, &alice, NOW).await.is_err());
    assert!(approvals.revoke(approved, &alice, "", NOW).await.is_err());
    assert!(approvals.sweep(at(10_000)).await.is_err());
    assert_eq!(scene.store().dump().await, before);
    scene.store().meddle("drop trigger full").await;
    approvals.decide(said, &scene.who("bob"), NOW).await.unwrap();
    scene.open(approved, NOW).await.unwrap();
}

/// FC3: no database, no answers; and nothing falls over.
#[tokio::test]
async fn with_the_database_gone_everything_is_an_error() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let said = scene.signed("carol", &[id], Verdict::Deny, None).await;
    let waiting = scene.approvals.wait(scene.pending("pair").await, Waiter::Shell, NOW).await.unwrap();
    let dropped = scene.approvals.wait(scene.pending("soft").await, Waiter::Shell, NOW).await.unwrap();
    scene.store().close().await;
    let (approvals, alice) = (&scene.approvals, scene.who("alice"));
    assert!(matches!(approvals.submit(&alice, scene.ask(&["lead"]), NOW).await, Err(SubmitError::Store(_))));
    assert!(matches!(approvals.wait(id, Waiter::Shell, NOW).await, Err(ApprovalError::Store(_))));
    assert!(matches!(approvals.view(id).await, Err(ApprovalError::Store(_))));
    assert!(matches!(approvals.decide(said, &scene.who("carol"), NOW).await, Err(ApprovalError::Store(_))));
    assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Store(_))));
    let permitted = approvals.open(scene.opening(Basis::Permitted, Want::Shell, NOW), NOW).await;
    assert!(matches!(permitted, Err(OpenError::Store(_))));
    assert!(approvals.withdraw(id, &alice, NOW).await.is_err());
    assert!(approvals.revoke(id, &alice, "", NOW).await.is_err());
    assert!(approvals.revoked(id).await.is_err());
    assert!(approvals.sweep(NOW).await.is_err());
    assert!(approvals.forget_waiters(NOW).await.is_err());
    assert!(waiting.leave(NOW).await.is_err());
    drop(dropped);
    assert!(scene.store().report(crate::audit::Event::new("x", serde_json::json!({})), NOW).await.is_err());
}
