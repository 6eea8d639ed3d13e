//! Who is suspended is out at once, and back only by others.

use super::*;

/// dave may suspend; bob only approves.
async fn scene() -> Scene {
    let mut scene = Scene::new().await;
    let more = "@id(\"suspends\") permit (principal == Person::\"dave\", action == Action::\"suspend\", resource);";
    scene.reload(|plan| plan.policy.push_str(more));
    scene
}

impl Scene {
    /// As the node does within a second.
    async fn publishes_who_is_suspended(&self) {
        let suspended = self.store().suspensions().await.unwrap().into_iter().map(|one| one.person).collect();
        self.publish.send_modify(|directory| *directory = Arc::new(directory.with_suspended(suspended)));
    }
}

#[tokio::test]
async fn what_is_theirs_ends_and_they_come_in_no_more() {
    let scene = scene().await;
    let granted = scene.approved(scene.ask(&["lead"])).await;
    let unused = scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await;
    let session = scene.open(granted, NOW).await.unwrap().session;
    let waiting = scene.pending("soft").await;
    let mut kills = scene.approvals.kills();
    let alice: Person = "alice".parse().unwrap();

    assert!(matches!(scene.approvals.suspend(&alice, &scene.who("bob"), "x", NOW).await, Err(SuspendError::NotYours)));
    assert!(matches!(scene.approvals.suspend(&alice, &scene.who("dave"), " ", NOW).await, Err(SuspendError::Reason(0))));
    let cut = scene.approvals.suspend(&alice, &scene.who("dave"), "laptop lost", at(1)).await.unwrap();

    assert_eq!((cut.sessions.as_slice(), cut.requests, cut.grants), ([session].as_slice(), 1, 2));
    assert_eq!(kills.recv().await.unwrap(), session);
    let ended = scene.approvals.ended_early(session, Some(granted)).await.unwrap().unwrap();
    assert_eq!(ended.to_string(), "killed by dave: alice is suspended: laptop lost");
    assert_eq!(scene.state(waiting).await, RequestState::Void);
    assert_eq!((scene.grant(granted).await.state, scene.grant(unused).await.state), (GrantState::Revoked, GrantState::Revoked));
    assert!(matches!(scene.approvals.suspend(&alice, &scene.who("dave"), "again", at(2)).await, Err(SuspendError::Already(_))));

    // Before the node has told everybody, the state refuses by itself.
    let opening = scene.opening(Basis::Permitted, Want::Shell, at(2));
    let refused = scene.approvals.open(opening, at(2)).await;
    assert!(refused.is_err(), "{refused:?}");
    scene.publishes_who_is_suspended().await;
    let people = scene.approvals.directory().people.clone();
    let who = scene.who("alice");
    assert_eq!(who.again(&people, at(3)).unwrap_err().to_string(), "alice is suspended");

    let names = scene.names().await;
    let since = names.iter().position(|name| name == "person.suspend").unwrap();
    assert_eq!(names[since..], ["person.suspend", "session.kill", "request.void", "grant.revoke", "grant.revoke"]);
    scene.approvals.unsuspend(&alice, &scene.who("dave"), "found", at(4)).await.unwrap();
    scene.publishes_who_is_suspended().await;
    assert!(who.again(&scene.approvals.directory().people, at(5)).is_ok());
    assert_eq!(scene.grant(granted).await.state, GrantState::Revoked, "what was ended stays so");
    let none = scene.approvals.unsuspend(&alice, &scene.who("dave"), "found", at(6)).await;
    assert!(matches!(none, Err(SuspendError::NotSuspended(_))));
}

#[tokio::test]
async fn what_an_approver_said_does_not_outlive_them() {
    let scene = scene().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let pair = scene.pending("pair").await;
    scene.decide("bob", pair, Verdict::Approve).await.unwrap();
    let bob: Person = "bob".parse().unwrap();
    scene.approvals.suspend(&bob, &scene.who("bob"), "", NOW).await.unwrap();
    let late = scene.decide("bob", scene.submit("mallory", scene.ask(&["lead"])).await, Verdict::Approve).await;
    assert!(matches!(late, Err(ApprovalError::Decision(BadDecision::Key))), "{late:?}");
    scene.publishes_who_is_suspended().await;
    assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Unusable(_, "has approvals that no longer stand"))));
    assert_eq!(scene.decide("carol", pair, Verdict::Approve).await.unwrap(), RequestState::Pending, "bob's yes is gone");
    assert_eq!(scene.decide("dave", pair, Verdict::Approve).await.unwrap(), RequestState::Approved);
    // The way back is for others.
    assert!(matches!(scene.approvals.unsuspend(&bob, &scene.who("bob"), "me again", NOW).await, Err(SuspendError::NotYours)));
}
