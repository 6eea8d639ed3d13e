use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn the_window_begins_with_the_first_use_and_never_again() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let first = scene.open(id, at(120)).await.unwrap();
    assert_eq!(first.ends_at, Some(at(120 + 1800)));
    assert_eq!(first.granted_for, 30 * MINUTE);
    assert_eq!(first.approvers, ["bob".parse().unwrap()]);
    let later = scene.open(id, at(1900)).await.unwrap();
    assert_eq!(later.ends_at, first.ends_at);
    assert_ne!(later.serial, first.serial);
    assert!(matches!(scene.open(id, at(1920)).await, Err(OpenError::Unusable(_, "is over"))));
    assert_eq!(scene.usable(&Want::Shell, at(1920)).await, None);
}

#[tokio::test]
async fn an_opening_leaves_a_session_its_serial_and_their_audit_rows() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let opening = scene.opening(Basis::Approved(id), Want::Exec(b"uptime".to_vec()), NOW);
    let session = opening.session;
    let (grant, evidence) = scene.approvals.open(opening, NOW).await.unwrap();
    assert_eq!((grant.session, grant.request, grant.exact, grant.stdin), (session, Some(id), false, true));
    let row = scene.store().session(session).await.unwrap().unwrap();
    assert_eq!((row.serial, row.kind.as_str(), row.request), (grant.serial, "exec", Some(id)));
    let log = scene.log().await;
    let [open, certificate] = &log[2..] else { panic!("{log:#?}") };
    assert_eq!((open.name.as_str(), certificate.name.as_str()), ("session.open", "certificate.issue"));
    assert_eq!(certificate.facts["serial"], grant.serial.to_string());
    assert_eq!(certificate.facts["principal"], "deploy@web-1");
    let evidence: serde_json::Value = serde_json::from_slice(&evidence).unwrap();
    let request = data_encoding::BASE64.decode(evidence["request"]["request_b64"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(request, scene.view(id).await.bytes);
    assert!(evidence["request"]["decisions"][0]["signed"]["sig"].as_str().unwrap().starts_with("-----BEGIN SSH SIGNATURE-----"));
    assert!(scene.store().has_opened(&"alice".parse().unwrap(), &"web-1".parse().unwrap()).await.unwrap());
    assert!(!scene.store().has_opened(&"alice".parse().unwrap(), &"web-2".parse().unwrap()).await.unwrap());
}

/// FC9.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_grant_for_one_session_opens_one_of_fifty_at_once() {
    let scene = Scene::new().await;
    let id = scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await;
    let mut opens = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (approvals, opening) = (scene.approvals.clone(), scene.opening(Basis::Approved(id), Want::Shell, NOW));
        opens.spawn(async move { approvals.open(opening, NOW).await });
    }
    let opened = opens.join_all().await;
    assert_eq!(opened.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(opened.iter().all(|result| matches!(result, Ok(_) | Err(OpenError::Unusable(_, "was used")))));
    assert_eq!(scene.names().await, ["request.submit", "request.decide", "session.open", "certificate.issue"]);
    assert_eq!(scene.usable(&Want::Shell, NOW).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_sessions_at_once_share_one_window() {
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let mut opens = tokio::task::JoinSet::new();
    for n in 0..50u64 {
        let (approvals, now) = (scene.approvals.clone(), at(n));
        let opening = scene.opening(Basis::Approved(id), Want::Shell, now);
        opens.spawn(async move { approvals.open(opening, now).await.unwrap().0 });
    }
    let grants = opens.join_all().await;
    assert_eq!(grants.iter().map(|grant| grant.ends_at).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(grants.iter().map(|grant| grant.serial).collect::<BTreeSet<_>>().len(), 50);
}

#[tokio::test]
async fn a_grant_fits_nobody_and_nothing_else() {
    let mut scene = Scene::new().await;
    let mut ask = scene.ask(&["lead"]);
    ask.scope = Scope([Class::Shell].into());
    let id = scene.approved(ask).await;
    let before = scene.store().dump().await;
    let usual = scene.opening(Basis::Approved(id), Want::Shell, NOW);
    let mut moved = (*usual.target).clone();
    moved.host = "192.0.2.66".into();
    for (what, opening) in [
        ("another person", Opening { principal: scene.who("mallory"), ..usual.clone() }),
        ("another address", Opening { principal: scene.coming(1, "198.51.100.8"), ..usual.clone() }),
        ("another host", Opening { target: scene.target("web-2"), ..usual.clone() }),
        ("the host after a change", Opening { target: Arc::new(moved), ..usual.clone() }),
        ("another login", Opening { login: "root".parse().unwrap(), ..usual.clone() }),
        ("a command", Opening { want: Want::Exec(b"uptime".to_vec()), ..usual.clone() }),
        ("file transfer", Opening { want: Want::Sftp, ..usual.clone() }),
    ] {
        let refused = scene.approvals.open(opening.clone(), NOW).await;
        assert!(matches!(refused, Err(OpenError::Unusable(..))), "{what}: {refused:?}");
        let holds = scene.ask(&["lead"]).holds;
        let usable = scene.approvals.usable(&opening.principal, &opening.target, &opening.login, &opening.want, &holds, NOW).await;
        assert_eq!(usable.unwrap(), None, "{what}");
        assert_eq!(scene.store().dump().await, before, "{what}");
    }
    let pair = scene.ask(&["lead", "pair"]).holds;
    let more = scene.approvals.usable(&scene.who("alice"), &usual.target, &usual.login, &Want::Shell, &pair, NOW).await.unwrap();
    assert_eq!(more, None, "today's ruling needs a workflow that it did not go through");
    assert_eq!(scene.usable(&Want::Shell, NOW).await, Some(id));
    scene.reload(|plan| plan.person("alice").keys.clear());
    assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Key(_))));
}

/// `users.md` 19: a carrier's NAT gives each connection another address.
#[tokio::test]
async fn a_grant_for_any_address_opens_from_each_until_its_workflow_says_otherwise() {
    let mut scene = Scene::new().await;
    let rule = |scene: &mut Scene, source| {
        scene.reload(|plan| plan.workflows.values_mut().filter(|w| w.name.as_str() == "lead").for_each(|lead| lead.source = source));
    };
    rule(&mut scene, SourceRule::Any);
    let id = scene.approved(scene.ask(&["lead"])).await;
    assert_eq!(scene.view(id).await.document.source, "any", "the approver signs it");
    let elsewhere = scene.coming(1, "2001:db8::8");
    let (joined, how) = scene.approvals.submit(&elsewhere, scene.ask(&["lead"]), NOW).await.unwrap();
    assert!(joined != id && how == Joined::New, "what is decided is not joined");
    let from_there = Opening { principal: elsewhere.clone(), ..scene.opening(Basis::Approved(id), Want::Shell, NOW) };
    let usable = |scene: &Scene| {
        let (approvals, who, target, holds) =
            (scene.approvals.clone(), elsewhere.clone(), scene.target("web-1"), scene.ask(&["lead"]).holds);
        async move { approvals.usable(&who, &target, &"deploy".parse().unwrap(), &Want::Shell, &holds, NOW).await.unwrap() }
    };
    assert_eq!(usable(&scene).await, Some(id));
    scene.approvals.open(from_there.clone(), NOW).await.unwrap();
    for (what, opening) in [
        ("another person", Opening { principal: scene.who("mallory"), ..from_there.clone() }),
        ("another host", Opening { target: scene.target("web-2"), ..from_there.clone() }),
    ] {
        assert!(matches!(scene.approvals.open(opening, NOW).await, Err(OpenError::Unusable(..))), "{what}");
    }
    let both = scene.approvals.submit(&elsewhere, scene.ask(&["lead", "pair"]), NOW).await.unwrap().0;
    assert_eq!(scene.view(both).await.document.source, "2001:db8::/64", "the strictest workflow decides");

    rule(&mut scene, SourceRule::Address);
    assert_eq!(usable(&scene).await, None);
    let refused = scene.approvals.open(Opening { session: SessionId::new(NOW), ..from_there }, NOW).await;
    assert!(matches!(refused, Err(OpenError::Unusable(..))), "{refused:?}");
}

#[tokio::test]
async fn an_exact_command_is_bound_to_its_bytes_and_its_standard_input() {
    let scene = Scene::new().await;
    let mut ask = scene.ask(&["lead"]);
    ask.scope = Scope([Class::Exec(Digest::of(b"uptime"))].into());
    (ask.commands, ask.stdin) = (vec![b"uptime".to_vec()], false);
    let id = scene.approved(ask).await;
    let exec = |command: &[u8]| scene.opening(Basis::Approved(id), Want::Exec(command.to_vec()), NOW);
    let (grant, _) = scene.approvals.open(exec(b"uptime"), NOW).await.unwrap();
    assert!(grant.exact && !grant.stdin);
    for other in [&b"uptime "[..], b"Uptime", b""] {
        assert!(matches!(scene.approvals.open(exec(other), NOW).await, Err(OpenError::Unusable(..))));
    }
    assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Unusable(..))), "nor is it a shell");
}

#[tokio::test]
async fn a_grant_waits_for_its_start_and_lapses_unused() {
    let scene = Scene::new().await;
    let id = scene.approved(Ask { start: Some(at(600)), ..scene.ask(&["lead"]) }).await;
    assert!(matches!(scene.open(id, at(599)).await, Err(OpenError::Unusable(_, "has not begun yet"))));
    assert_eq!(scene.usable(&Want::Shell, at(599)).await, None);
    assert_eq!(scene.usable(&Want::Shell, at(600)).await, Some(id));
    assert!(matches!(scene.open(id, at(900)).await, Err(OpenError::Unusable(_, "was not used in time"))));
    scene.approvals.sweep(at(900)).await.unwrap();
    assert_eq!(scene.grant(id).await.state, GrantState::Lapsed);
    assert_eq!(scene.names().await.last().unwrap(), "grant.lapse");
}

/// D persons: authority is checked at the decision and again at each opening.
#[tokio::test]
async fn approvals_that_no_longer_stand_void_the_grant_for_good() {
    type Edit = fn(&mut Plan);
    let edits: [(&str, Edit); 5] = [
        ("the approver left the group", |plan| plan.person("bob").groups.clear()),
        ("the approver left", |plan| plan.people.retain(|entry| entry.name.as_str() != "bob")),
        ("the signing key was removed", |plan| plan.person("bob").keys = vec![key(99).public_key().clone()]),
        ("the quorum was raised", |plan| plan.workflow("lead").stages[0].quorum = 2),
        ("the workflow is gone", |plan| plan.workflows.clear()),
    ];
    for (what, edit) in edits {
        let mut scene = Scene::new().await;
        let id = scene.approved(scene.ask(&["lead"])).await;
        scene.reload(edit);
        assert_eq!(scene.usable(&Want::Shell, NOW).await, None, "{what}");
        let refused = scene.open(id, NOW).await;
        assert!(matches!(refused, Err(OpenError::Unusable(_, "has approvals that no longer stand"))), "{what}: {refused:?}");
        assert_eq!(scene.names().await.last().unwrap(), "grant.void", "{what}");
        scene.reload(|plan| *plan = Plan::usual());
        assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Unusable(_, "is void"))), "{what}: for good");
        assert_eq!(scene.approvals.revoked(id).await.unwrap(), None, "{what}: ends no session");
    }
}

/// Z-02: what somebody writes into the database does not open anything.
#[tokio::test]
async fn a_database_that_was_meddled_with_opens_nothing_more() {
    let meddled = [
        ("an edited request", "update requests set bytes = replace(bytes, 'web-1', 'web-2')"),
        ("an edited decision", "update decisions set bytes = replace(bytes, 'approve', 'APPROVE')"),
        ("a forged person", "update decisions set person = 'carol'"),
        ("an unsigned claim", "update decisions set level = 'connection', bytes = null, signature = null, key = null"),
        ("a denial turned", "update grants set state = 'open'; update decisions set signature = 'approve'"),
    ];
    for (what, sql) in meddled {
        let scene = Scene::new().await;
        let id = scene.approved(scene.ask(&["lead"])).await;
        scene.store().meddle(sql).await;
        assert_eq!(scene.usable(&Want::Shell, NOW).await, None, "{what}");
        assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Unusable(..))), "{what}");
        assert_eq!(scene.names().await.last().unwrap(), "grant.void", "{what}");
    }
    // Another request under the same approval, its digest right.
    let scene = Scene::new().await;
    let id = scene.approved(scene.ask(&["lead"])).await;
    let mut other = scene.view(id).await.document;
    other.for_us *= 2;
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let (bytes, digest) = (hex(&other.bytes()), Digest::of(&other.bytes()));
    scene.store().meddle(&format!("update requests set bytes = x'{bytes}', digest = x'{digest}'")).await;
    assert!(matches!(scene.open(id, NOW).await, Err(OpenError::Unusable(_, "has approvals that no longer stand"))));
    // Wider terms in a column are worth what was signed.
    let scene = Scene::new().await;
    let narrow = GrantedTerms { for_us: 60_000_000, once: false, scope: Scope([Class::Shell].into()), ..GrantedTerms::default() };
    let id = scene.pending("lead").await;
    let said = scene.signed("bob", &[id], Verdict::Approve, Some(narrow)).await;
    scene.approvals.decide(said, &scene.who("bob"), NOW).await.unwrap();
    let wide = r#"{"for_us":9000000000,"once":false,"scope":["exec:*","shell"]}"#;
    scene.store().meddle(&format!("update grants set terms = '{wide}'; update decisions set terms = '{wide}'")).await;
    let command = scene.opening(Basis::Approved(id), Want::Exec(b"id".to_vec()), NOW);
    assert!(matches!(scene.approvals.open(command, NOW).await, Err(OpenError::Unusable(_, "does not reach that far"))));
    assert_eq!(scene.open(id, NOW).await.unwrap().ends_at, Some(at(60)));
}

#[tokio::test]
async fn what_policy_permits_opens_without_a_grant() {
    let scene = Scene::new().await;
    let mut opening = scene.opening(Basis::Permitted, Want::Shell, NOW);
    let (grant, evidence) = scene.approvals.open(opening.clone(), NOW).await.unwrap();
    assert_eq!((grant.request, grant.ends_at), (None, None));
    assert!(grant.approvers.is_empty() && grant.serial > 0);
    assert!(String::from_utf8(evidence).unwrap().contains(r#""request":null"#));
    opening.session = SessionId::new(at(1));
    opening.terms.longest_grant = Some(10 * MINUTE);
    let (grant, _) = scene.approvals.open(opening.clone(), NOW).await.unwrap();
    assert_eq!(grant.ends_at, Some(at(600)));
    assert_eq!(scene.names().await, ["session.open", "certificate.issue", "session.open", "certificate.issue"]);
    assert!(matches!(scene.approvals.open(opening, NOW).await, Err(OpenError::Store(_))), "a session id is used once");
}

#[tokio::test]
async fn a_running_window_is_used_before_a_grant_for_one_session() {
    let scene = Scene::new().await;
    let once = scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await;
    let fresh = scene.approved(Ask { duration: Some(MINUTE), ..scene.ask(&["lead"]) }).await;
    let running = scene.approved(scene.ask(&["lead"])).await;
    scene.open(running, at(1)).await.unwrap();
    assert_eq!(scene.usable(&Want::Sftp, at(2)).await, Some(running));
    scene.approvals.revoke(running, &scene.who("alice"), "", at(3)).await.unwrap();
    assert_eq!(scene.usable(&Want::Sftp, at(4)).await, Some(fresh));
    scene.approvals.revoke(fresh, &scene.who("alice"), "", at(3)).await.unwrap();
    assert_eq!(scene.usable(&Want::Sftp, at(4)).await, Some(once));
}
