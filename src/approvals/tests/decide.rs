use super::*;
use crate::access::request::doc_micros;

#[tokio::test]
async fn an_approval_gives_a_grant_of_what_was_asked() {
    let scene = Scene::new().await;
    let id = scene.pending("lead").await;
    let asked = scene.view(id).await;
    assert_eq!(asked.asked.iter().map(Person::as_str).collect::<Vec<_>>(), ["bob", "carol", "dave", "frank"]);
    assert_eq!(scene.decide("bob", id, Verdict::Approve).await.unwrap(), RequestState::Approved);
    let view = scene.view(id).await;
    assert_eq!(view.bytes, asked.bytes, "the bytes never change");
    assert_eq!(view.granted.unwrap().for_us, asked.document.for_us);
    assert_eq!(view.approvers, ["bob".parse().unwrap()]);
    let grant = scene.grant(id).await;
    assert_eq!((grant.state, grant.first_used, grant.use_by), (GrantState::Open, None, at(300)));
    assert_eq!(scene.names().await, ["request.submit", "request.decide"]);
}

#[tokio::test]
async fn an_approver_grants_less_but_never_more() {
    let scene = Scene::new().await;
    let id = scene.pending("lead").await;
    let asked = GrantedTerms { for_us: 1_800_000_000, once: false, scope: scene.ask(&["lead"]).scope, ..GrantedTerms::default() };
    let before = scene.store().dump().await;
    let wider = asked.scope.union(&Scope([Class::Exec(Digest([1; 32]))].into()));
    assert!(asked.scope.contains(&wider), "an exact command lies within exec:*");
    let mut ask = scene.ask(&["lead"]);
    (ask.scope, ask.once) = (Scope([Class::Shell].into()), true);
    let narrow = scene.submit("mallory", ask).await;
    for (id, more) in [
        (id, GrantedTerms { for_us: asked.for_us + 1, ..asked.clone() }),
        (id, GrantedTerms { for_us: 0, ..asked.clone() }),
        (id, GrantedTerms { scope: Scope::default(), ..asked.clone() }),
        (narrow, GrantedTerms { once: true, ..asked.clone() }),
        (narrow, GrantedTerms { scope: Scope([Class::Shell].into()), ..asked.clone() }),
    ] {
        let said = scene.signed("bob", &[id], Verdict::Approve, Some(more)).await;
        assert!(matches!(scene.approvals.decide(said, &scene.who("bob"), NOW).await, Err(ApprovalError::More(_))));
    }
    assert_eq!(scene.store().dump().await.len(), before.len() + 3, "one more request, its target, its audit row");
    let less = GrantedTerms { for_us: 60_000_000, once: true, scope: Scope([Class::Shell].into()), ..GrantedTerms::default() };
    let said = scene.signed("bob", &[id], Verdict::Approve, Some(less.clone())).await;
    scene.approvals.decide(said, &scene.who("bob"), NOW).await.unwrap();
    assert_eq!(scene.view(id).await.granted, Some(less));
}

#[tokio::test]
async fn two_of_two_means_two_persons() {
    let scene = Scene::new().await;
    let id = scene.pending("pair").await;
    assert_eq!(scene.decide("carol", id, Verdict::Approve).await.unwrap(), RequestState::Pending);
    assert_eq!(scene.view(id).await.tracks[0].have, ["carol".parse().unwrap()]);
    let before = scene.store().dump().await;
    assert!(matches!(scene.decide("carol", id, Verdict::Approve).await, Err(ApprovalError::Already(_, "approved by you"))));
    let digest = scene.view(id).await.digest;
    let terms = GrantedTerms { for_us: 60_000_000, once: false, scope: scene.ask(&[]).scope, ..GrantedTerms::default() };
    let second_key = DecisionDocument { requests: vec![digest], verdict: Verdict::Approve, terms: Some(terms), ..decision("carol", 33) };
    let said = scene.sign("carol", 33, second_key);
    let again = scene.approvals.decide(said, &scene.who("carol"), NOW).await;
    assert!(matches!(again, Err(ApprovalError::Already(_, "approved by you"))), "{again:?}");
    assert_eq!(scene.store().dump().await, before);
    assert_eq!(scene.decide("bob", id, Verdict::Approve).await.unwrap(), RequestState::Approved);
    assert_eq!(scene.names().await, ["request.submit", "request.decide", "request.decide"]);
}

#[tokio::test]
async fn who_has_left_the_group_meanwhile_does_not_count_for_the_quorum() {
    let mut scene = Scene::new().await;
    let id = scene.pending("pair").await;
    scene.decide("carol", id, Verdict::Approve).await.unwrap();
    scene.reload(|plan| plan.person("carol").groups.clear());
    assert_eq!(scene.decide("bob", id, Verdict::Approve).await.unwrap(), RequestState::Pending);
    assert_eq!(scene.decide("dave", id, Verdict::Approve).await.unwrap(), RequestState::Approved);
    assert_eq!(scene.grant(id).await.approvers.len(), 2);
}

/// Each refused decision changes nothing at all.
#[tokio::test]
async fn a_decision_that_may_not_be_is_refused_and_leaves_no_trace() {
    let mut scene = Scene::new().await;
    let own = scene.submit("frank", scene.ask(&["lead"])).await;
    let withdrawn = scene.submit("mallory", scene.ask(&["lead"])).await;
    scene.approvals.withdraw(withdrawn, &scene.who("mallory"), NOW).await.unwrap();
    let pending = scene.pending("lead").await;
    let touched = scene.pending("touched").await;
    let soft = scene.pending("soft").await;
    let mut at_pay = scene.ask(&["lead"]);
    at_pay.targets = vec![scene.target("web-1"), scene.target("pay-1")];
    let pay = scene.submit("alice", at_pay).await;
    let code = scene.view(soft).await.code;
    let approve = Verdict::Approve;
    let granted = Some(GrantedTerms { for_us: 60_000_000, once: false, scope: scene.ask(&[]).scope, ..GrantedTerms::default() });
    let on = |digest: Digest| DecisionDocument { requests: vec![digest], verdict: approve, terms: granted.clone(), ..decision("bob", 2) };
    let mut edited = scene.view(pending).await.document;
    edited.reason = "something nicer".into();
    let pending_digest = scene.view(pending).await.digest;
    let bobs_own_words = scene.signed("bob", &[pending], approve, None).await;
    let both = scene.signed("bob", &[pending, withdrawn], approve, None).await;
    let cases: Vec<(&str, Said, &str, &str)> = vec![
        ("of one's own", scene.signed("frank", &[own], approve, None).await, "frank", "nobody decides on their own request"),
        ("own denial", scene.signed("frank", &[own], Verdict::Deny, None).await, "frank", "nobody decides on their own request"),
        ("not asked", scene.signed("mallory", &[pending], approve, None).await, "mallory", "unknown or not yours"),
        ("an auditor", scene.signed("erin", &[pending], approve, None).await, "erin", "you are not asked to decide"),
        ("one target too far", scene.signed("bob", &[pay], approve, None).await, "bob", "unknown or not yours"),
        ("withdrawn", scene.signed("bob", &[withdrawn], approve, None).await, "bob", "already withdrawn"),
        ("all or none", both, "bob", "already withdrawn"),
        ("edited after", scene.sign("bob", 2, on(Digest::of(&edited.bytes()))), "bob", "no request has the digest"),
        (
            "another bastion",
            scene.sign("bob", 2, DecisionDocument { bastion: "other".into(), ..on(pending_digest) }),
            "bob",
            "not for this bastion",
        ),
        ("brought by another", bobs_own_words, "carol", "not yours"),
        ("too weak", scene.signed("bob", &[touched], approve, None).await, "bob", "that is touched; this one is of level key"),
        (
            "unsigned",
            scene.spoken("bob", pending, approve, Some(&scene.view(pending).await.code)),
            "bob",
            "needs a signed decision; this one is of level connection",
        ),
        ("no code", scene.spoken("bob", soft, approve, None), "bob", "code does not match"),
        ("wrong code", scene.spoken("bob", soft, approve, Some("ALFA-00x")), "bob", "code does not match"),
        ("said for another", scene.spoken("carol", soft, approve, Some(&code)), "bob", "not yours"),
        ("no such request", scene.spoken("bob", "000000".parse().unwrap(), approve, Some(&code)), "bob", "unknown or not yours"),
    ];
    let before = scene.store().dump().await;
    for (what, said, by, words) in cases {
        let refused = scene.approvals.decide(said, &scene.who(by), NOW).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{what}: {refused}");
        assert_eq!(scene.store().dump().await, before, "{what}");
    }
    // Time and reloads take authority away as well.
    let late = scene.signed("bob", &[pending], approve, None).await;
    let refused = scene.approvals.decide(late.clone(), &scene.who("bob"), at(900)).await.unwrap_err();
    assert!(refused.to_string().contains("already expired"), "{refused}");
    scene.reload(|plan| plan.person("bob").groups.clear());
    assert!(matches!(scene.approvals.decide(late.clone(), &scene.who("bob"), NOW).await, Err(ApprovalError::Unknown(_))));
    scene.reload(|plan| plan.people.retain(|entry| entry.name.as_str() != "bob"));
    assert!(matches!(scene.approvals.decide(late, &scene.who("bob"), NOW).await, Err(ApprovalError::Decision(_))));
    assert_eq!(scene.store().dump().await, before);
    scene.approvals.decide(scene.spoken("carol", soft, approve, Some(&code.to_lowercase())), &scene.who("carol"), NOW).await.unwrap();
    assert_eq!(scene.state(soft).await, RequestState::Approved);
}

#[tokio::test]
async fn one_signature_decides_many() {
    let scene = Scene::new().await;
    let mut ids = Vec::new();
    for name in ["alice", "mallory", "frank"] {
        ids.push(scene.submit(name, scene.ask(&["lead"])).await);
    }
    let said = scene.signed("bob", &ids, Verdict::Approve, None).await;
    let views = scene.approvals.decide(said, &scene.who("bob"), NOW).await.unwrap();
    assert_eq!(views.len(), 3);
    assert!(views.iter().all(|view| view.state == RequestState::Approved));
    assert_eq!(scene.names().await.iter().filter(|name| *name == "request.decide").count(), 3);
}

#[tokio::test]
async fn a_denial_needs_no_code_and_is_final() {
    let scene = Scene::new().await;
    let id = scene.pending("touched").await;
    let views = scene.approvals.decide(scene.spoken("bob", id, Verdict::Deny, None), &scene.who("bob"), NOW).await.unwrap();
    assert_eq!(views[0].state, RequestState::Denied { by: "bob".parse().unwrap(), note: "said".into() });
    assert!(matches!(scene.decide("carol", id, Verdict::Deny).await, Err(ApprovalError::Already(_, "denied"))));
    let next =
        scene.approvals.submit(&scene.who("alice"), Ask { again: Again::Knowingly, ..scene.ask(&["touched"]) }, at(1)).await.unwrap();
    assert!(next.1 == Joined::New && next.0 != id, "a new request with an id of its own");
}

/// Z-06: whichever commits first, nobody opens on what somebody denied.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_denial_wins_over_a_concurrent_approval() {
    let scene = Scene::new().await;
    let mut approved_first = 0;
    for round in 0..60u64 {
        let ask = Ask { duration: Some(Duration::from_secs(60 + round)), ..scene.ask(&["lead"]) };
        let id = scene.submit("alice", ask).await;
        let mut race = tokio::task::JoinSet::new();
        let mut decided = [("bob", Verdict::Approve), ("carol", Verdict::Deny), ("dave", Verdict::Approve), ("frank", Verdict::Approve)];
        decided.rotate_left(round as usize % 4);
        for (name, verdict) in decided {
            let said = scene.signed(name, &[id], verdict, None).await;
            let (approvals, who) = (scene.approvals.clone(), scene.who(name));
            race.spawn(async move { (verdict, approvals.decide(said, &who, NOW).await) });
        }
        for (verdict, result) in race.join_all().await {
            match (verdict, result) {
                (Verdict::Deny, result) => assert!(result.is_ok(), "{result:?}"),
                (Verdict::Approve, Ok(_)) => approved_first += 1,
                (Verdict::Approve, Err(error)) => assert!(matches!(error, ApprovalError::Already(..)), "{error:?}"),
            }
        }
        assert!(matches!(scene.state(id).await, RequestState::Denied { .. }));
        assert_eq!(scene.usable(&Want::Shell, NOW).await, None);
        assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Unusable(..))));
    }
    eprintln!("an approval came first in {approved_first} of 60 rounds");
    let decided = scene.names().await.iter().filter(|name| *name == "request.decide").count();
    assert_eq!(decided, 60 + approved_first, "one row for each decision that was taken");
}

/// Many approvers at once: exactly one decision approves, one grant is given.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_approvals_at_once_one_counts() {
    let scene = Scene::new().await;
    for round in 0..30u64 {
        let id = scene.submit("alice", Ask { duration: Some(Duration::from_secs(60 + round)), ..scene.ask(&["lead"]) }).await;
        let mut race = tokio::task::JoinSet::new();
        for name in ["bob", "carol", "dave", "frank"] {
            let said = scene.signed(name, &[id], Verdict::Approve, None).await;
            let (approvals, who) = (scene.approvals.clone(), scene.who(name));
            race.spawn(async move { approvals.decide(said, &who, NOW).await.is_ok() });
        }
        assert_eq!(race.join_all().await.into_iter().filter(|ok| *ok).count(), 1);
        assert_eq!(scene.grant(id).await.approvers.len(), 1);
    }
}

#[tokio::test]
async fn a_used_grant_is_not_denied_but_revoked() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    scene.open(id, at(1)).await.unwrap();
    let refused = scene.decide("carol", id, Verdict::Deny).await;
    assert!(matches!(refused, Err(ApprovalError::Already(_, "approved and in use; revoke it"))), "{refused:?}");
    assert_eq!(scene.state(id).await, RequestState::Approved);
}

#[tokio::test]
async fn a_signature_is_stored_as_it_came() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let rows = scene.store().snapshot().await.unwrap().decisions(id).await.unwrap();
    let signed = rows[0].signed.clone().unwrap();
    let keys = [key(2).public_key().clone()];
    let again = SignedDecision::verify(signed.bytes, &signed.signature, &rows[0].person, &keys, BASTION, rows[0].at).unwrap();
    assert_eq!(again.document().requests, [scene.view(id).await.digest]);
    assert_eq!(again.document().time_us, doc_micros(NOW));
}
