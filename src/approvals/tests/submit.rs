use super::*;
use crate::access::request::RequestDocument;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connects_at_once_make_one_request() {
    let scene = Scene::new().await;
    let mut connects = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (approvals, who, ask) = (scene.approvals.clone(), scene.who("alice"), scene.ask(&["lead"]));
        connects.spawn(async move { approvals.submit(&who, ask, NOW).await.unwrap() });
    }
    let made = connects.join_all().await;
    assert!(made.iter().all(|(id, _)| *id == made[0].0));
    assert_eq!(made.iter().filter(|(_, joined)| *joined == Joined::New).count(), 1);
    let names = scene.names().await;
    assert_eq!(names.iter().filter(|name| *name == "request.submit").count(), 1);
    assert_eq!(names.iter().filter(|name| *name == "request.join").count(), 49);
}

#[tokio::test]
async fn what_differs_does_not_join() {
    let scene = Scene::new().await;
    let first = scene.pending("lead").await;
    let other_source = scene.approvals.submit(&scene.coming(1, "198.51.100.8"), scene.ask(&["lead"]), NOW).await.unwrap();
    let mut narrow = scene.ask(&["lead"]);
    narrow.scope = Scope([Class::Shell].into());
    let narrow = scene.approvals.submit(&scene.who("alice"), narrow, NOW).await.unwrap();
    assert_eq!((other_source.1, narrow.1), (Joined::New, Joined::New));
    assert!(first != other_source.0 && first != narrow.0 && narrow.0 != other_source.0);
    let again = scene.approvals.submit(&scene.who("alice"), scene.ask(&["lead"]), at(5)).await.unwrap();
    assert_eq!(again, (first, Joined::Existing));
}

#[tokio::test]
async fn a_request_says_all_that_was_asked_and_reads_back_from_its_row() {
    let scene = Scene::new().await;
    let mut ask = scene.ask(&["lead", "pair"]);
    ask.targets = vec![scene.target("web-2"), scene.target("web-1"), scene.target("web-2")];
    ask.scope = Scope([Class::Exec(Digest::of(b"systemctl restart nginx"))].into());
    ask.commands = vec![b"systemctl restart nginx".to_vec()];
    ask.stdin = false;
    ask.once = true;
    ask.reason = Some("  INC-42 disk full ".into());
    let view = scene.view(scene.submit("alice", ask).await).await;
    let document = RequestDocument::read(&view.bytes).unwrap();
    assert_eq!(document, view.document);
    assert_eq!(document.targets.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["web-1", "web-2"]);
    assert_eq!(document.commands, ["systemctl restart nginx"]);
    assert_eq!((document.stdin, document.once, document.reason.as_str()), (false, true, "INC-42 disk full"));
    assert_eq!(document.env, ["COLORTERM", "GIT_PROTOCOL", "LANG", "LC_*", "TERM"]);
    assert_eq!(document.source, "198.51.100.7/32");
    assert_eq!(view.tracks.iter().map(|track| track.quorum).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(view.state, RequestState::Pending);
    assert_eq!(view.digest, Digest::of(&view.bytes));
}

#[tokio::test]
async fn five_hundred_targets_fit_and_one_more_does_not() {
    let mut scene = Scene::new().await;
    scene.reload(|plan| plan.targets.extend((0..501).map(|n| target(&format!("farm-{n}.a-rather-long-domain-name.example.net"), &[]))));
    let mut ask = scene.ask(&["lead"]);
    ask.targets = scene.plan.targets.iter().filter(|t| t.id.as_str().starts_with("farm")).cloned().map(Arc::new).collect();
    let refused = scene.approvals.submit(&scene.who("alice"), ask.clone(), NOW).await;
    assert!(matches!(refused, Err(SubmitError::Targets(501))), "{refused:?}");
    ask.targets.pop();
    let id = scene.submit("alice", ask.clone()).await;
    assert_eq!(scene.view(id).await.document.targets.len(), 500);
    ask.targets.clear();
    assert!(matches!(scene.approvals.submit(&scene.who("alice"), ask, NOW).await, Err(SubmitError::Targets(0))));
}

#[tokio::test]
async fn a_window_is_cut_when_offered_and_refused_when_asked_too_long() {
    let scene = Scene::new().await;
    let asked = |duration: Option<Duration>, bound: Option<Duration>| {
        let mut ask = scene.ask(&["lead"]);
        (ask.duration, ask.terms.longest_grant) = (duration, bound);
        ask
    };
    let offered = scene.view(scene.submit("alice", asked(None, None)).await).await;
    assert_eq!(offered.document.duration(), 30 * MINUTE);
    let bounded = scene.view(scene.submit("alice", asked(None, Some(10 * MINUTE))).await).await;
    assert_eq!(bounded.document.duration(), 10 * MINUTE, "@grant cuts what the workflow offers");
    let whole = scene.view(scene.submit("alice", asked(Some(60 * MINUTE), None)).await).await;
    assert_eq!(whole.document.duration(), 60 * MINUTE);
    for too_long in [asked(Some(61 * MINUTE), None), asked(Some(11 * MINUTE), Some(10 * MINUTE))] {
        let refused = scene.approvals.submit(&scene.who("alice"), too_long, NOW).await.unwrap_err();
        assert!(refused.to_string().contains("longer than can be granted"), "{refused}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_read_cannot_be_asked_exactly() {
    let scene = Scene::new().await;
    let long = vec![b'a'; 32 * 1024 + 1];
    for (command, given) in [(&b"\xff"[..], true), (b"a\0b", true), (b"uptime", false), (&long, true)] {
        let mut ask = scene.ask(&["lead"]);
        ask.scope = Scope([Class::Exec(Digest::of(command))].into());
        ask.commands = if given { vec![command.to_vec()] } else { vec![] };
        let refused = scene.approvals.submit(&scene.who("alice"), ask, NOW).await;
        assert!(matches!(refused, Err(SubmitError::Command(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn pending_requests_are_limited_per_person_and_in_all() {
    let mut scene = Scene::new().await;
    scene.reload(|plan| (plan.limits.pending_per_person, plan.limits.pending) = (2, 3));
    let ask = |n: u64| Ask { duration: Some(Duration::from_secs(n)), ..scene.ask(&["lead"]) };
    let first = scene.submit("alice", ask(1)).await;
    scene.submit("alice", ask(2)).await;
    let before = scene.store().dump().await;
    let refused = scene.approvals.submit(&scene.who("alice"), ask(3), NOW).await;
    assert!(matches!(refused, Err(SubmitError::TooManyOfYours(2))), "{refused:?}");
    assert_eq!(scene.store().dump().await, before);
    assert_eq!(scene.approvals.submit(&scene.who("alice"), ask(1), NOW).await.unwrap().0, first, "joining is not one more");
    scene.submit("mallory", ask(1)).await;
    assert!(matches!(scene.approvals.submit(&scene.who("frank"), ask(1), NOW).await, Err(SubmitError::TooMany(3))));
    scene.approvals.withdraw(first, &scene.who("alice"), NOW).await.unwrap();
    scene.submit("frank", ask(1)).await;
}

#[tokio::test]
async fn nobody_is_asked_before_there_is_a_reason() {
    let scene = Scene::new().await;
    let id = scene.pending("reasoned").await;
    let before = scene.view(id).await;
    assert_eq!(before.state, RequestState::NeedsReason);
    assert!(matches!(scene.decide("bob", id, Verdict::Approve).await, Err(ApprovalError::NoReasonYet(_))));
    assert!(matches!(scene.approvals.give_reason(id, &scene.who("bob"), "INC-1", at(60)).await, Err(ApprovalError::Unknown(_))));
    for bad in ["", "   ", "because", "xINC-1", "INC-1\nand more lines", &"INC-1 ".repeat(200)] {
        let refused = scene.approvals.give_reason(id, &scene.who("alice"), bad, at(60)).await;
        assert!(matches!(refused, Err(ApprovalError::Reason(_))), "{bad:?}: {refused:?}");
    }
    scene.approvals.give_reason(id, &scene.who("alice"), " INC-42 disk full", at(60)).await.unwrap();
    let after = scene.view(id).await;
    assert_eq!(after.state, RequestState::Pending);
    assert_eq!(after.document.reason, "INC-42 disk full");
    assert_eq!((after.document.nonce, after.document.made_us), (before.document.nonce, before.document.made_us));
    assert_ne!(after.digest, before.digest);
    assert!(matches!(
        scene.approvals.give_reason(id, &scene.who("alice"), "INC-43", at(61)).await,
        Err(ApprovalError::Already(_, "pending"))
    ));
    assert_eq!(scene.names().await, ["request.submit", "request.reason"]);
}

#[tokio::test]
async fn a_connect_that_brings_the_reason_gives_it_to_the_request_it_joins() {
    let scene = Scene::new().await;
    let id = scene.pending("reasoned").await;
    let with = Ask { reason: Some("INC-7".into()), ..scene.ask(&["reasoned"]) };
    assert_eq!(scene.approvals.submit(&scene.who("alice"), with, at(3)).await.unwrap(), (id, Joined::Existing));
    assert_eq!(scene.state(id).await, RequestState::Pending);
    let wrong = Ask { reason: Some("please".into()), ..scene.ask(&["reasoned"]) };
    assert!(matches!(scene.approvals.submit(&scene.who("alice"), wrong, at(3)).await, Err(SubmitError::Reason(_))));
}

#[tokio::test]
async fn a_request_that_is_due_is_not_joined_before_the_sweep() {
    let scene = Scene::new().await;
    let id = scene.pending("lead").await;
    let (next, joined) = scene.approvals.submit(&scene.who("alice"), scene.ask(&["lead"]), at(15 * 60)).await.unwrap();
    assert_eq!(joined, Joined::New);
    assert_ne!(next, id);
    assert_eq!(scene.state(id).await, RequestState::Expired);
    assert_eq!(scene.names().await, ["request.submit", "request.expire", "request.submit"]);
}

#[tokio::test]
async fn what_nobody_holds_cannot_be_asked_for() {
    let scene = Scene::new().await;
    for ask in [Ask { holds: vec![], ..scene.ask(&[]) }, Ask { scope: Scope::default(), ..scene.ask(&["lead"]) }] {
        assert!(matches!(scene.approvals.submit(&scene.who("alice"), ask, NOW).await, Err(SubmitError::Nothing)));
    }
    assert!(matches!(scene.approvals.submit(&scene.who("alice"), scene.ask(&["gone"]), NOW).await, Err(SubmitError::Workflow(_))));
}

#[tokio::test]
async fn denied_stays_denied_for_ten_minutes_unless_one_asks_again() {
    let scene = Scene::new().await;
    let id = scene.submit("alice", scene.ask(&["lead"])).await;
    scene.decide("bob", id, Verdict::Deny).await.unwrap();
    let submit = async |ask: Ask, after: u64| scene.approvals.submit(&scene.who("alice"), ask, at(after)).await;
    let denied = submit(scene.ask(&["lead"]), 120).await.unwrap_err();
    assert!(denied.to_string().starts_with("bob denied this 2 min ago"), "{denied}");
    assert!(matches!(denied, SubmitError::DeniedLately { request, .. } if request == id));
    assert_eq!(scene.names().await, ["request.submit", "request.decide"], "nobody is notified");
    // Another scope is another question.
    submit(Ask { duration: Some(MINUTE), ..scene.ask(&["lead"]) }, 121).await.unwrap();
    let (again, joined) = submit(Ask { again: Again::Knowingly, ..scene.ask(&["lead"]) }, 122).await.unwrap();
    assert_eq!(joined, Joined::New);
    // And whoever connects meanwhile joins what was asked again.
    assert_eq!(submit(scene.ask(&["lead"]), 123).await.unwrap(), (again, Joined::Existing));
    scene.approvals.withdraw(again, &scene.who("alice"), at(124)).await.unwrap();
    submit(scene.ask(&["lead"]), 601).await.unwrap();
}
