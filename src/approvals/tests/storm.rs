//! A person connects everywhere at once: requests join, places are counted, nothing is made twice.

use std::collections::BTreeSet;

use super::*;

/// Five connects to each of forty targets, at once, with places for 32 requests.
#[tokio::test]
async fn two_hundred_connects_take_each_place_once() {
    let mut scene = Scene::new().await;
    let names: Vec<String> = (0..40).map(|n| format!("node-{n}")).collect();
    scene.reload(|plan| plan.targets.extend(names.iter().map(|name| target(name, &["env=prod"]))));
    let asks = (0..200).map(|n| {
        let ask = Ask { targets: vec![scene.target(&names[n % 40])], waiter: Waiter::Other, ..scene.ask(&["lead"]) };
        let (approvals, who) = (scene.approvals.clone(), scene.who("alice"));
        tokio::spawn(async move { approvals.submit(&who, ask, NOW).await })
    });
    let (mut made, mut joined, mut behind) = (BTreeSet::new(), 0, 0);
    for ask in asks.collect::<Vec<_>>() {
        match ask.await.unwrap() {
            Ok((id, Joined::New)) => assert!(made.insert(id)),
            Ok((_, Joined::Existing)) => joined += 1,
            Err(SubmitError::TooManyOfYours(32)) => behind += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((made.len(), joined, behind), (32, 128, 40));
    // All that wait are one question, and one signature decides them.
    let ids: Vec<RequestId> = made.iter().copied().collect();
    let documents = [scene.view(ids[0]).await.document, scene.view(ids[31]).await.document];
    assert!(documents[0].same_but_target(&documents[1]));
    let said = scene.signed("bob", &ids, Verdict::Approve, None).await;
    assert_eq!(scene.approvals.decide(said, &scene.who("bob"), NOW).await.unwrap().len(), 32);
    // Then there is room for the others; who would only join is told to wait where nobody asked before.
    let ask = |n: usize| Ask { targets: vec![scene.target(&names[n])], waiter: Waiter::Other, ..scene.ask(&["lead"]) };
    let left: Vec<usize> = (0..40).filter(|n| documents.iter().all(|one| !one.has_target(&names[*n].parse().unwrap()))).collect();
    let who = scene.who("alice");
    let refused = scene.approvals.join(&who, ask(left[0]), NOW).await;
    assert!(matches!(refused, Err(SubmitError::TooManyOfYours(0))), "{refused:?}");
    let (id, _) = scene.approvals.submit(&who, ask(left[0]), NOW).await.unwrap();
    assert_eq!(scene.approvals.join(&who, ask(left[0]), NOW).await.unwrap(), (id, Joined::Existing));
}
