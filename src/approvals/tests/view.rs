use super::*;

#[tokio::test]
async fn a_request_is_shown_to_its_requester_to_who_may_decide_it_and_to_auditors() {
    let scene = Scene::new().await;
    let id = scene.pending("lead").await;
    let all = RequestFilter { limit: 50, ..RequestFilter::default() };
    for (name, sees) in [("alice", 1), ("bob", 1), ("erin", 1), ("mallory", 0)] {
        let listed = scene.approvals.requests(&all, &scene.who(name), NOW).await.unwrap();
        assert_eq!(listed.len(), sees, "{name}");
        assert_eq!(scene.approvals.may_see(&scene.view(id).await, &scene.who(name), NOW), sees == 1, "{name}");
    }
}

#[tokio::test]
async fn lists_are_filtered_and_newest_first() {
    let scene = Scene::new().await;
    let first = scene.approved(scene.ask(&["lead"])).await;
    let second = scene.approvals.submit(&scene.who("mallory"), scene.ask(&["lead"]), at(1)).await.unwrap().0;
    let third = scene.approvals.submit(&scene.who("alice"), scene.ask(&["pair"]), at(2)).await.unwrap().0;
    let erin = scene.who("erin");
    let ids = |filter: RequestFilter| {
        let (approvals, erin) = (&scene.approvals, &erin);
        async move { approvals.requests(&filter, erin, NOW).await.unwrap().iter().map(|view| view.id).collect::<Vec<_>>() }
    };
    assert_eq!(ids(RequestFilter { limit: 9, ..Default::default() }).await, [third, second, first]);
    assert_eq!(ids(RequestFilter { limit: 1, ..Default::default() }).await, [third]);
    assert_eq!(ids(RequestFilter { limit: 9, open_only: true, ..Default::default() }).await, [third, second]);
    assert_eq!(ids(RequestFilter { limit: 9, person: Some("alice".parse().unwrap()), ..Default::default() }).await, [third, first]);
    let grants = scene.approvals.grants(&GrantFilter { open_only: true, limit: 9, ..Default::default() }, &erin, NOW).await.unwrap();
    assert_eq!(grants.iter().map(|view| view.grant.request).collect::<Vec<_>>(), [first]);
    let mallorys = scene.approvals.grants(&GrantFilter { limit: 9, ..Default::default() }, &scene.who("mallory"), NOW).await.unwrap();
    assert!(mallorys.is_empty());
}
