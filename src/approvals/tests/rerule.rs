use super::*;

/// What lets alice in, held by the lead.
const OPEN: &str = r#"@id("sre") permit (principal in Group::"sre", action in Action::"session", resource);"#;
const LEAD: &str = r#"@id("prod") @hold("lead") forbid (principal, action in Action::"session", resource);"#;
const PAIR: &str = r#"@id("freeze") @hold("pair") forbid (principal, action in Action::"session", resource == Target::"web-1");"#;
const NEVER: &str = r#"@id("never") forbid (principal, action in Action::"session", resource == Target::"web-1");"#;

async fn scene() -> Scene {
    let mut scene = Scene::new().await;
    scene.reload(|plan| plan.policy = [POLICY, OPEN, LEAD].concat());
    scene
}

/// Reloads with these policies and rules again.
async fn reloads(scene: &mut Scene, policies: &[&str]) -> Reruled {
    scene.reload(|plan| plan.policy = policies.concat());
    scene.approvals.rerule(at(60)).await.unwrap()
}

async fn whys(scene: &Scene, name: &str) -> Vec<String> {
    let rows = scene.log().await.into_iter().filter(|row| row.name == name);
    rows.map(|row| row.facts["why"].as_str().unwrap_or_default().to_owned()).collect()
}

fn voided(requests: usize, grants: usize) -> Reruled {
    Reruled { requests, grants }
}

#[tokio::test]
async fn a_reload_that_changes_nothing_voids_nothing() {
    let mut scene = scene().await;
    let (pending, granted) = (scene.pending("lead").await, scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await);
    assert_eq!(reloads(&mut scene, &[POLICY, OPEN, LEAD]).await, voided(0, 0));
    assert_eq!(scene.state(pending).await, RequestState::Pending);
    assert_eq!(scene.grant(granted).await.state, GrantState::Open);
}

#[tokio::test]
async fn what_is_forbidden_now_is_void_used_or_not() {
    let mut scene = scene().await;
    let (pending, used) = (scene.pending("lead").await, scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await);
    scene.open(used, at(1)).await.unwrap();
    assert_eq!(reloads(&mut scene, &[POLICY, OPEN, LEAD, NEVER]).await, voided(1, 1));
    assert_eq!((scene.state(pending).await, scene.grant(used).await.state), (RequestState::Void, GrantState::Void));
    assert_eq!(whys(&scene, "request.void").await, ["the policy changed (never)"]);
    assert_eq!(whys(&scene, "grant.void").await, ["the policy changed (never)"]);
    assert_eq!(reloads(&mut scene, &[POLICY, OPEN, LEAD]).await, voided(0, 0), "for good: policy that comes back revives nothing");
    assert!(scene.open(used, at(61)).await.is_err());
}

#[tokio::test]
async fn a_new_hold_voids_what_nobody_has_used() {
    let mut scene = scene().await;
    let pending = scene.pending("lead").await;
    let unused = scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await;
    let used = scene.approved(Ask { duration: Some(MINUTE), ..scene.ask(&["lead"]) }).await;
    let elsewhere = scene.submit("alice", Ask { targets: vec![scene.target("web-2")], ..scene.ask(&["lead"]) }).await;
    scene.open(used, at(1)).await.unwrap();
    assert_eq!(reloads(&mut scene, &[POLICY, OPEN, LEAD, PAIR]).await, voided(1, 1));
    assert_eq!((scene.state(pending).await, scene.grant(unused).await.state), (RequestState::Void, GrantState::Void));
    assert_eq!((scene.state(elsewhere).await, scene.grant(used).await.state), (RequestState::Pending, GrantState::Open));
    assert_eq!(whys(&scene, "grant.void").await, ["the policy changed (freeze)"]);
}

#[tokio::test]
async fn whom_nobody_has_to_agree_with_any_more_need_not_wait() {
    let mut scene = scene().await;
    let (pending, granted) = (scene.pending("lead").await, scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await);
    assert_eq!(reloads(&mut scene, &[POLICY, OPEN]).await, voided(1, 0));
    assert_eq!((scene.state(pending).await, scene.grant(granted).await.state), (RequestState::Void, GrantState::Open));
}

#[tokio::test]
async fn who_or_what_is_gone_takes_its_requests_and_grants_along() {
    #[allow(clippy::type_complexity, reason = "a table of edits")]
    let edits: [(&str, fn(&mut Plan)); 6] = [
        ("alice is not known", |plan| plan.people.retain(|entry| entry.name.as_str() != "alice")),
        ("is not alice's any more", |plan| plan.person("alice").keys = vec![key(77).public_key().clone()]),
        ("web-1 is not a target", |plan| plan.targets.retain(|target| target.id.as_str() != "web-1")),
        ("web-1 is another host", |plan| plan.targets[0].port = 2222),
        ("deploy is no login of web-1", |plan| plan.targets[0].logins = vec!["root".parse().unwrap()]),
        ("nothing permits it", |plan| plan.person("alice").groups.clear()),
    ];
    for (why, edit) in edits {
        let mut scene = scene().await;
        scene.pending("lead").await;
        let used = scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await;
        scene.open(used, at(1)).await.unwrap();
        scene.reload(|plan| {
            // The policies name web-1 no more than they have to.
            plan.policy = [POLICY, OPEN, LEAD].concat();
            edit(plan);
        });
        assert_eq!(scene.approvals.rerule(at(60)).await.unwrap(), voided(1, 1), "{why}");
        assert!(whys(&scene, "request.void").await[0].contains(why), "{:?}", whys(&scene, "request.void").await);
    }
}

/// The hour is that of the question, not of the reload.
#[tokio::test]
async fn an_hour_that_has_passed_is_no_change_of_policy() {
    let mut scene = scene().await;
    // 22:13 UTC
    let late = r#"@id("late") @hold("pair") forbid (principal, action in Action::"session", resource) when { context.hour == 23 };"#;
    let early = r#"@id("early") @hold("pair") forbid (principal, action in Action::"session", resource) when { context.hour == 22 };"#;
    scene.pending("lead").await;
    scene.reload(|plan| plan.policy = [POLICY, OPEN, LEAD, late].concat());
    assert_eq!(scene.approvals.rerule(at(3600)).await.unwrap(), voided(0, 0));
    scene.reload(|plan| plan.policy = [POLICY, OPEN, LEAD, early].concat());
    assert_eq!(scene.approvals.rerule(at(3600)).await.unwrap(), voided(1, 0));
}

/// Of several targets: what waits is void with the first, what is in use only with the last.
#[tokio::test]
async fn a_grant_in_use_over_several_targets_stands_for_the_others() {
    let mut scene = scene().await;
    let both = vec![scene.target("web-1"), scene.target("web-2")];
    let used = scene.approved(Ask { targets: both.clone(), ..scene.ask(&["lead"]) }).await;
    scene.open(used, at(1)).await.unwrap();
    let pending = scene.submit("alice", Ask { targets: both, once: true, ..scene.ask(&["lead"]) }).await;
    assert_eq!(reloads(&mut scene, &[POLICY, OPEN, LEAD, NEVER]).await, voided(1, 0));
    assert_eq!(whys(&scene, "request.void").await, ["the policy changed (never on web-1)"]);
    assert_eq!((scene.state(pending).await, scene.grant(used).await.state), (RequestState::Void, GrantState::Open));
}

#[tokio::test]
async fn a_live_session_ends_where_policy_says_no_and_goes_on_where_it_asks_more() {
    let mut scene = scene().await;
    let used = scene.approved(scene.ask(&["lead"])).await;
    let grant = scene.open(used, at(1)).await.unwrap();
    let context = crate::access::OpeningContext::of(&scene.who("alice"), vec![], at(1));
    let mut fallen = |policies: &[&str], edit: fn(&mut Plan)| {
        scene.reload(|plan| {
            plan.policy = policies.concat();
            edit(plan);
        });
        session_fallen(&scene.approvals.directory(), &grant, &context)
    };
    assert_eq!(fallen(&[POLICY, OPEN, LEAD, PAIR], |_| {}), None, "a new hold");
    assert_eq!(fallen(&[POLICY, OPEN], |_| {}), None);
    assert_eq!(fallen(&[POLICY, OPEN, NEVER], |_| {}).as_deref(), Some("never"));
    assert_eq!(fallen(&[POLICY], |_| {}).as_deref(), Some("nothing permits it"));
    let moved = fallen(&[POLICY, OPEN], |plan| plan.targets[0].port = 2222);
    assert_eq!(moved.as_deref(), Some("web-1 is another host now"), "who repins a host does not trust the one that was");
    fallen(&[POLICY, OPEN], |plan| plan.targets[0].port = 22);
    let gone = fallen(&[POLICY, OPEN], |plan| plan.targets.retain(|target| target.id.as_str() != "web-1"));
    assert_eq!(gone.as_deref(), Some("web-1 is not a target any more"));
}

/// Z-06: ruled under one set, opened under another.
#[tokio::test]
async fn what_another_set_ruled_is_not_opened() {
    let scene = scene().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let opening = Opening { policy: Digest([8; 32]), ..scene.opening(Basis::Approved(id), Want::Shell, at(1)) };
    assert!(matches!(scene.approvals.open(opening, at(1)).await, Err(OpenError::PolicyChanged)));
    assert_eq!(scene.grant(id).await.first_used, None);
}
