//! Requests and grants about targets that were derived from a pattern.

use super::*;
use crate::access::family::AddressTemplate;

fn staging() -> Family {
    Family {
        pattern: "*.staging".parse().unwrap(),
        address: AddressTemplate::default(),
        labels: ["env=prod".to_owned()].into(),
        logins: vec!["deploy".parse().unwrap()],
        host_cas: vec![key(100).public_key().clone()],
        principal: PrincipalStyle::LoginAtTarget,
        entry: Entry::default(),
    }
}

/// A scene whose directory has the pattern, and members of it.
async fn scene() -> (Scene, Vec<Arc<Target>>) {
    let mut scene = Scene::new().await;
    scene.reload(|plan| plan.families.push(staging()));
    let directory = scene.approvals.directory();
    let members = ["a.staging", "b.staging"].map(|name| directory.targets.find(name).unwrap()).to_vec();
    (scene, members)
}

#[tokio::test]
async fn a_grant_is_for_the_member_that_was_named_and_outlives_a_reload() {
    let (mut scene, members) = scene().await;
    let id = scene.approved(Ask { targets: vec![members[0].clone(), scene.target("web-2")], ..scene.ask(&["lead"]) }).await;
    scene.reload(|plan| plan.targets.retain(|target| target.id.as_str() != "pay-1"));
    let open = |target: &Arc<Target>, now| Opening { target: target.clone(), ..scene.opening(Basis::Approved(id), Want::Shell, now) };
    let (grant, _) = scene.approvals.open(open(&members[0], at(1)), at(1)).await.unwrap();
    assert_eq!(grant.target.certificate_principal(&grant.login), "deploy@a.staging");
    let sibling = scene.approvals.open(open(&members[1], at(2)), at(2)).await;
    assert!(matches!(sibling, Err(OpenError::Unusable(_, "is for somebody or something else"))), "{sibling:?}");
}

#[tokio::test]
async fn another_ca_or_a_narrower_pattern_is_another_target() {
    let changes: [fn(&mut Plan); 3] = [
        |plan| plan.families[0].host_cas = vec![key(33).public_key().clone()],
        |plan| plan.families[0].pattern = "a*.staging".parse().unwrap(),
        |plan| plan.families.clear(),
    ];
    for change in changes {
        let (mut scene, members) = scene().await;
        let id = scene.submit("alice", Ask { targets: vec![members[0].clone()], ..scene.ask(&["lead"]) }).await;
        scene.reload(change);
        assert_eq!(scene.view(id).await.asked, [], "nobody may decide what is not the same any more");
        assert!(scene.decide("bob", id, Verdict::Approve).await.is_err());
    }
}
