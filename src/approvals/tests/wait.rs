use super::*;

async fn held(scene: &Scene, waiter: Waiter) -> (RequestId, Waiting) {
    let ask = Ask { waiter, ..scene.ask(&["lead"]) };
    let id = scene.submit("alice", ask).await;
    (id, scene.approvals.wait(id, waiter, NOW).await.unwrap())
}

async fn swept(scene: &Scene, id: RequestId, now: Timestamp) -> RequestState {
    scene.approvals.sweep(now).await.unwrap();
    scene.state(id).await
}

#[tokio::test]
async fn a_prompt_that_hangs_up_voids_its_request_after_ten_seconds() {
    let scene = Scene::new().await;
    let (id, waiting) = held(&scene, Waiter::Shell).await;
    waiting.leave(at(100)).await.unwrap();
    let view = scene.view(id).await;
    assert_eq!((view.waiters, view.left_at), (0, Some(at(100))));
    assert_eq!(swept(&scene, id, at(109)).await, RequestState::Pending);
    assert_eq!(swept(&scene, id, at(110)).await, RequestState::Void);
    assert_eq!(scene.names().await, ["request.submit", "request.void"]);
    assert!(matches!(scene.decide("bob", id, Verdict::Approve).await, Err(ApprovalError::Already(_, "void"))));
}

#[tokio::test]
async fn anything_else_that_hangs_up_lingers_and_a_retry_joins_it() {
    let scene = Scene::new().await;
    let (id, waiting) = held(&scene, Waiter::Other).await;
    waiting.leave(at(17)).await.unwrap();
    assert_eq!(swept(&scene, id, at(17 + 299)).await, RequestState::Pending);
    let retry = Ask { waiter: Waiter::Other, ..scene.ask(&["lead"]) };
    assert_eq!(scene.approvals.submit(&scene.who("alice"), retry, at(300)).await.unwrap(), (id, Joined::Existing));
    let waiting = scene.approvals.wait(id, Waiter::Other, at(300)).await.unwrap();
    assert_eq!(scene.view(id).await.left_at, None);
    assert_eq!(swept(&scene, id, at(500)).await, RequestState::Pending, "somebody waits again");
    waiting.leave(at(500)).await.unwrap();
    assert_eq!(swept(&scene, id, at(799)).await, RequestState::Pending);
    assert_eq!(swept(&scene, id, at(800)).await, RequestState::Expired);
}

#[tokio::test]
async fn approved_while_nobody_was_there_the_next_connect_passes() {
    let scene = Scene::new().await;
    let (id, waiting) = held(&scene, Waiter::Other).await;
    waiting.leave(at(17)).await.unwrap();
    scene.decide("bob", id, Verdict::Approve).await.unwrap();
    assert_eq!(scene.usable(&Want::Shell, at(60)).await, Some(id));
    assert_eq!(swept(&scene, id, at(299)).await, RequestState::Approved);
    scene.open(id, at(299)).await.unwrap();
}

#[tokio::test]
async fn the_last_of_several_waiters_counts_and_the_most_patient_decides() {
    let scene = Scene::new().await;
    let (id, shell) = held(&scene, Waiter::Shell).await;
    let second = scene.approvals.wait(id, Waiter::Shell, at(1)).await.unwrap();
    shell.leave(at(5)).await.unwrap();
    assert_eq!(scene.view(id).await.waiters, 1);
    assert_eq!(swept(&scene, id, at(60)).await, RequestState::Pending);
    let patient = scene.approvals.wait(id, Waiter::Other, at(61)).await.unwrap();
    patient.leave(at(62)).await.unwrap();
    second.leave(at(63)).await.unwrap();
    assert_eq!(swept(&scene, id, at(80)).await, RequestState::Pending, "it lingers for the one who retries");
}

#[tokio::test]
async fn one_made_ahead_lives_to_its_expiry_whoever_hangs_up() {
    let scene = Scene::new().await;
    let id = scene.pending("lead").await;
    let waiting = scene.approvals.wait(id, Waiter::Shell, at(1)).await.unwrap();
    waiting.leave(at(2)).await.unwrap();
    assert_eq!(swept(&scene, id, at(899)).await, RequestState::Pending);
    assert_eq!(swept(&scene, id, at(900)).await, RequestState::Expired);
}

#[tokio::test]
async fn a_connection_that_dies_before_it_waits_leaves_nothing_behind() {
    let scene = Scene::new().await;
    let id = scene.submit("alice", Ask { waiter: Waiter::Shell, ..scene.ask(&["lead"]) }).await;
    assert_eq!(swept(&scene, id, at(59)).await, RequestState::Pending);
    assert_eq!(swept(&scene, id, at(60)).await, RequestState::Void);
}

#[tokio::test]
async fn a_connect_in_the_last_moment_finds_the_request_alive() {
    let scene = Scene::new().await;
    let (id, waiting) = held(&scene, Waiter::Shell).await;
    waiting.leave(at(100)).await.unwrap();
    let again = Ask { waiter: Waiter::Shell, ..scene.ask(&["lead"]) };
    assert_eq!(scene.approvals.submit(&scene.who("alice"), again, at(109)).await.unwrap(), (id, Joined::Existing));
    assert_eq!(swept(&scene, id, at(111)).await, RequestState::Pending, "its wait is about to begin");
    let _waiting = scene.approvals.wait(id, Waiter::Shell, at(112)).await.unwrap();
    assert_eq!(swept(&scene, id, at(899)).await, RequestState::Pending);
    assert_eq!(swept(&scene, id, at(900)).await, RequestState::Expired);
}

#[tokio::test]
async fn a_waiter_that_is_dropped_has_left() {
    let scene = Scene::new().await;
    let mut hints = scene.approvals.hints();
    let now = Timestamp::now();
    let ask = Ask { waiter: Waiter::Shell, ..scene.ask(&["lead"]) };
    let (id, _) = scene.approvals.submit(&scene.who("alice"), ask, now).await.unwrap();
    drop(scene.approvals.wait(id, Waiter::Shell, now).await.unwrap());
    let gone = async {
        while scene.view(id).await.waiters > 0 {
            hints.recv().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert!(scene.view(id).await.due < now.plus(MINUTE));
}

#[tokio::test]
async fn after_a_restart_a_prompt_has_a_minute_to_come_back() {
    let mut scene = Scene::new().await;
    let (id, waiting) = held(&scene, Waiter::Shell).await;
    let other = scene.submit("mallory", Ask { waiter: Waiter::Other, ..scene.ask(&["lead"]) }).await;
    std::mem::forget(scene.approvals.wait(other, Waiter::Other, NOW).await.unwrap());
    std::mem::forget(waiting); // the process was killed
    scene.restart().await;
    scene.approvals.forget_waiters(at(30)).await.unwrap();
    assert_eq!(scene.view(id).await.waiters, 0);
    assert_eq!(swept(&scene, id, at(89)).await, RequestState::Pending);
    assert_eq!(swept(&scene, id, at(90)).await, RequestState::Void);
    assert_eq!(swept(&scene, other, at(329)).await, RequestState::Pending);
    assert_eq!(swept(&scene, other, at(330)).await, RequestState::Expired);
}

#[tokio::test]
async fn waiting_for_what_is_decided_counts_nobody() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let waiting = scene.approvals.wait(id, Waiter::Shell, NOW).await.unwrap();
    assert_eq!(scene.view(id).await.waiters, 0);
    waiting.leave(NOW).await.unwrap();
    assert!(matches!(scene.approvals.wait("000000".parse().unwrap(), Waiter::Shell, NOW).await, Err(ApprovalError::Unknown(_))));
}
