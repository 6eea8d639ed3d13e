//! Two who decide at once, a thousand times: one of them is first, and the rows agree on who.

use super::*;

/// Runs two changes of one request at the same time; which goes first is left to the runtime.
async fn race<A, B>(n: usize, one: impl Future<Output = A>, two: impl Future<Output = B>) -> (A, B) {
    if n.is_multiple_of(2) {
        tokio::join!(one, two)
    } else {
        let (two, one) = tokio::join!(two, one);
        (one, two)
    }
}

fn knowingly(scene: &Scene, workflow: &str) -> Ask {
    Ask { again: Again::Knowingly, ..scene.ask(&[workflow]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_against_a_no() {
    let scene = Scene::new().await;
    let (bob, dave) = (scene.who("bob"), scene.who("dave"));
    let mut yes_was_first = 0;
    for n in 0..500 {
        let id = scene.submit("alice", knowingly(&scene, "lead")).await;
        let yes = scene.signed("bob", &[id], Verdict::Approve, None).await;
        let no = scene.signed("dave", &[id], Verdict::Deny, None).await;
        let (yes, no) = race(n, scene.approvals.decide(yes, &bob, NOW), scene.approvals.decide(no, &dave, NOW)).await;
        assert!(no.is_ok(), "a no always counts while nothing was opened: {no:?}");
        assert!(matches!(scene.state(id).await, RequestState::Denied { by, .. } if by.as_str() == "dave"));
        let grant = scene.store().snapshot().await.unwrap().grant(id).await.unwrap();
        match yes {
            Ok(_) => yes_was_first += usize::from(grant.is_some_and(|grant| grant.state == GrantState::Void)),
            Err(ApprovalError::Already(_, "denied")) => assert!(grant.is_none()),
            Err(other) => panic!("{other:?}"),
        }
        assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Unusable(..))));
    }
    assert!(yes_was_first > 0, "both orders happen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_against_the_requester_who_withdraws() {
    let scene = Scene::new().await;
    let (bob, alice) = (scene.who("bob"), scene.who("alice"));
    for n in 0..250 {
        let id = scene.submit("alice", knowingly(&scene, "lead")).await;
        let yes = scene.signed("bob", &[id], Verdict::Approve, None).await;
        let (yes, gone) = race(n, scene.approvals.decide(yes, &bob, NOW), scene.approvals.withdraw(id, &alice, NOW)).await;
        match (yes, gone, scene.state(id).await) {
            (Ok(_), Err(ApprovalError::Already(_, "approved")), RequestState::Approved) => {}
            (Err(ApprovalError::Already(_, "withdrawn")), Ok(()), RequestState::Withdrawn) => {
                assert!(scene.store().snapshot().await.unwrap().grant(id).await.unwrap().is_none());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_say_yes_give_one_grant() {
    let scene = Scene::new().await;
    let (bob, dave) = (scene.who("bob"), scene.who("dave"));
    for n in 0..250 {
        let id = scene.submit("alice", knowingly(&scene, "lead")).await;
        let (one, two) =
            (scene.signed("bob", &[id], Verdict::Approve, None).await, scene.signed("dave", &[id], Verdict::Approve, None).await);
        let (one, two) = race(n, scene.approvals.decide(one, &bob, NOW), scene.approvals.decide(two, &dave, NOW)).await;
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
        assert!(matches!(one.and(two), Err(ApprovalError::Already(_, "approved"))));
        assert_eq!(scene.grant(id).await.approvers.len(), 1);
        let decides = scene.log().await.iter().filter(|row| row.name == "request.decide").count();
        assert_eq!(decides, n + 1);
    }
}
