//! The writer's promises over a real file: alone or together, logged or not at all.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, Row};

use super::*;
use crate::audit::Event;
use crate::id::{Digest, SessionId};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

impl Store {
    /// Every row of every table as text.
    pub(crate) async fn dump(&self) -> Vec<String> {
        let mut all = Vec::new();
        for table in ["requests", "request_targets", "decisions", "grants", "sessions", "audit"] {
            let columns = sqlx::query(AssertSqlSafe(format!("select name from pragma_table_info('{table}')"))).fetch_all(&self.readers);
            let quoted: Vec<String> = columns.await.unwrap().iter().map(|row| format!("quote({})", row.get::<String, _>(0))).collect();
            let rows = sqlx::query(AssertSqlSafe(format!("select {} from {table} order by 1", quoted.join("||'|'||"))));
            all.extend(rows.fetch_all(&self.readers).await.unwrap().iter().map(|row| format!("{table}: {}", row.get::<String, _>(0))));
        }
        all
    }

    async fn change(
        &self,
        verb: impl for<'c> FnOnce(&'c mut Tx) -> Running<'c, Result<(), StoreError>> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.write(verb).await
    }

    /// What somebody with the file and a shell may do to it.
    pub(crate) async fn meddle(&self, sql: &str) {
        let sql = sql.to_owned();
        self.change(move |tx| Box::pin(async move { Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut tx.connection).await.map(drop)?) }))
            .await
            .unwrap();
    }
}

async fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db")).await.unwrap();
    (dir, store)
}

fn event(n: u64) -> Event {
    Event::new("test", json!({ "n": n }))
}

async fn numbers(store: &Store) -> Vec<u64> {
    store.audit(0, 1000).await.unwrap().iter().map(|row| row.facts["n"].as_u64().unwrap()).collect()
}

/// Keeps the writer busy until the sender is used, so that what is queued meanwhile is one batch.
async fn hold_the_writer(store: &Store) -> oneshot::Sender<()> {
    let (release, released) = oneshot::channel::<()>();
    let (entered, inside) = oneshot::channel::<()>();
    store.post(move |_| {
        Box::pin(async move {
            entered.send(()).ok();
            released.await.ok();
            Ok(())
        })
    });
    inside.await.unwrap();
    release
}

async fn all_queued(store: &Store, n: usize) {
    let queued = async {
        while store.writer.max_capacity() - store.writer.capacity() < n {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), queued).await.unwrap();
}

#[tokio::test]
async fn a_verb_that_fails_is_undone_alone_with_its_audit_rows_and_hints() {
    let (_dir, store) = open().await;
    let mut hints = store.hints();
    let release = hold_the_writer(&store).await;
    let mut verbs = tokio::task::JoinSet::new();
    for n in 0..20u64 {
        let store = store.clone();
        verbs.spawn(async move {
            let done: Result<(), StoreError> = store
                .write(move |tx| {
                    Box::pin(async move {
                        tx.append(event(n), NOW).await?;
                        tx.wake(if n % 2 == 0 { "EVEN00" } else { "9DD000" }.parse().unwrap());
                        if n % 2 == 0 { Ok(()) } else { Err(StoreError::Ids) }
                    })
                })
                .await;
            assert_eq!(done.is_ok(), n % 2 == 0, "{done:?}");
        });
    }
    all_queued(&store, 20).await;
    release.send(()).unwrap();
    verbs.join_all().await;
    let mut written = numbers(&store).await;
    written.sort();
    assert_eq!(written, (0..20).step_by(2).collect::<Vec<u64>>());
    let seqs: Vec<u64> = store.audit(0, 100).await.unwrap().iter().map(|row| row.seq).collect();
    assert_eq!(seqs, (1..=10).collect::<Vec<u64>>(), "without gaps");
    let mut hinted = Vec::new();
    while let Ok(id) = hints.try_recv() {
        hinted.push(id.to_string());
    }
    assert_eq!(hinted, vec!["EVEN00"; 10]);
}

#[tokio::test]
async fn a_commit_that_fails_fails_every_verb_of_its_batch() {
    let (_dir, store) = open().await;
    store.report(event(100), NOW).await.unwrap();
    let mut hints = store.hints();
    let release = hold_the_writer(&store).await;
    let mut verbs = tokio::task::JoinSet::new();
    for n in 0..5u64 {
        let store = store.clone();
        verbs.spawn(async move {
            store
                .change(move |tx| {
                    Box::pin(async move {
                        tx.append(event(n), NOW).await?;
                        tx.wake("0000AA".parse().unwrap());
                        if n == 3 {
                            // A reference to nothing that is noticed only at COMMIT.
                            sqlx::query("pragma defer_foreign_keys = on").execute(&mut tx.connection).await?;
                            sqlx::query("insert into request_targets values ('0000AA', 'web-1', x'00')")
                                .execute(&mut tx.connection)
                                .await?;
                        }
                        Ok(())
                    })
                })
                .await
        });
    }
    all_queued(&store, 5).await;
    release.send(()).unwrap();
    for result in verbs.join_all().await {
        assert!(matches!(result, Err(StoreError::NotCommitted(_))), "{result:?}");
    }
    assert_eq!(numbers(&store).await, [100]);
    assert!(hints.try_recv().is_err());
    store.report(event(101), NOW).await.unwrap();
    assert_eq!(numbers(&store).await, [100, 101], "the writer goes on");
}

/// On a full disk SQLite undoes the whole transaction by itself: nobody may be told that theirs stayed.
#[tokio::test]
async fn a_transaction_that_sqlite_undoes_by_itself_fails_the_batch() {
    let (_dir, store) = open().await;
    let release = hold_the_writer(&store).await;
    let mut verbs = tokio::task::JoinSet::new();
    for n in 0..5u64 {
        let store = store.clone();
        verbs.spawn(async move {
            store
                .change(move |tx| {
                    Box::pin(async move {
                        tx.append(event(n), NOW).await?;
                        if n == 2 {
                            let rolled_back = "insert or rollback into audit (seq, at, name, line, leaf) values (1, 0, '', '', x'')";
                            sqlx::query(rolled_back).execute(&mut tx.connection).await?;
                        }
                        Ok(())
                    })
                })
                .await
        });
    }
    all_queued(&store, 5).await;
    release.send(()).unwrap();
    assert!(verbs.join_all().await.iter().all(Result::is_err));
    assert!(numbers(&store).await.is_empty());
    store.report(event(7), NOW).await.unwrap();
    assert_eq!(numbers(&store).await, [7]);
}

#[tokio::test]
async fn the_audit_log_takes_no_edits() {
    let (_dir, store) = open().await;
    store.report(event(1), NOW).await.unwrap();
    for sql in ["update audit set line = '{}'", "delete from audit"] {
        let refused = store
            .change(move |tx| Box::pin(async move { Ok(sqlx::query(sql).execute(&mut tx.connection).await.map(drop)?) }))
            .await
            .unwrap_err();
        assert!(matches!(&refused, StoreError::Database(error) if error.to_string().contains("append-only")), "{refused:?}");
    }
    assert_eq!(store.audit(2, 10).await.unwrap(), []);
    assert_eq!(store.audit(1, 10).await.unwrap().len(), 1);
}

/// FC12.
#[tokio::test]
async fn a_database_of_a_newer_binary_or_open_to_others_is_refused() {
    let (dir, store) = open().await;
    let path = dir.path().join("state.db");
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    store.meddle("pragma user_version = 99").await;
    store.close().await;
    let refused = Store::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused:?}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Store::open(&path).await.unwrap_err();
    assert!(refused.to_string().contains("chmod 600"), "{refused}");
    let refused = Store::open(&dir.path().join("nowhere/state.db")).await.unwrap_err();
    assert!(refused.to_string().contains("nowhere/state.db"), "{refused}");
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let (dir, _store) = open().await;
    let path = dir.path().join("other.db");
    std::fs::write(&path, "these are somebody's notes, and not a database at all".repeat(40)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(Store::open(&path).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

async fn session(store: &Store, request: Option<&str>, person: &str, started: Timestamp) -> SessionId {
    let id = SessionId::new(started);
    let request = request.map_or("null".to_owned(), |request| format!("'{request}'"));
    let serial: u32 = rand::random::<u32>() | 1;
    store
        .meddle(&format!(
            "insert into sessions (id, request, person, target, login, kind, source, serial, record, retention, started)
             values ('{id}', {request}, '{person}', 'web-1', 'deploy', 'shell', '192.0.2.1', {serial}, 'output', '{}', {})",
            super::columns::to_json(&crate::retention::tests::year()),
            started.micros()
        ))
        .await;
    id
}

#[tokio::test]
async fn a_session_ends_once_and_is_sealed_once() {
    let (_dir, store) = open().await;
    let id = session(&store, None, "alice", NOW).await;
    let lost = session(&store, None, "alice", NOW).await;
    store.session_ended(id, "exited 0", NOW).await.unwrap();
    store.session_ended(id, "revoked", NOW).await.unwrap();
    let sealed = SealedRow {
        file: "a.zst".into(),
        sha256: Digest([1; 32]),
        bytes: 7,
        manifest: Digest([2; 32]),
        due: crate::retention::tests::year().due(NOW).unwrap(),
        seq: 0,
        recipients: Vec::new(),
    };
    store.session_sealed(id, sealed.clone(), NOW).await.unwrap();
    store.session_sealed(id, SealedRow { file: "b.zst".into(), ..sealed.clone() }, NOW).await.unwrap();
    let row = store.session(id).await.unwrap().unwrap();
    assert_eq!((row.outcome.as_deref(), row.sealed), (Some("exited 0"), Some(SealedRow { seq: 2, ..sealed })));
    store.end_lost_sessions(NOW).await.unwrap();
    assert_eq!(store.session(lost).await.unwrap().unwrap().outcome.as_deref(), Some("interrupted"));
    assert_eq!(store.sealed_sessions().await.unwrap(), [id].into());
    let names: Vec<String> = store.audit(0, 10).await.unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["session.end", "session.seal", "session.end"]);
}

#[tokio::test]
async fn a_session_is_found_by_what_people_type() {
    let (_dir, store) = open().await;
    let old = session(&store, None, "alice", NOW.minus(Duration::from_secs(86_400 * 900))).await;
    let first = session(&store, None, "alice", NOW).await;
    let last = session(&store, None, "bob", NOW.plus(Duration::from_secs(5))).await;
    let alice = "alice".parse().unwrap();
    assert_eq!(store.find_session("last", None).await.unwrap(), Found::One(last));
    assert_eq!(store.find_session("last", Some(&alice)).await.unwrap(), Found::One(first));
    assert_eq!(store.find_session(&first.to_string().to_lowercase(), None).await.unwrap(), Found::One(first));
    assert_eq!(store.find_session(&old.to_string()[..6], None).await.unwrap(), Found::One(old));
    assert_eq!(store.find_session(&first.to_string()[..5], None).await.unwrap(), Found::Several(vec![last, first]));
    for nothing in ["", "01", "zzzz", "01'; drop table sessions; --", "%%%%", "K7Q3FM"] {
        assert_eq!(store.find_session(nothing, None).await.unwrap(), Found::Nothing, "{nothing}");
    }
    let live = SessionFilter { live_only: true, person: Some(alice), limit: 10, ..SessionFilter::default() };
    store.session_ended(first, "exited 0", NOW).await.unwrap();
    assert_eq!(store.sessions(&live).await.unwrap().iter().map(|row| row.id).collect::<Vec<_>>(), [old]);
    let since = SessionFilter { since: Some(NOW), limit: 10, ..SessionFilter::default() };
    assert_eq!(store.sessions(&since).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_page_is_marked_and_erased_at_once_and_what_is_held_stays() {
    use super::disposal::{Gone, Step};
    let (_dir, store) = open().await;
    let mut ids = Vec::new();
    for person in ["alice", "bob", "alice"] {
        let id = session(&store, None, person, NOW).await;
        store.session_ended(id, "exited 0", NOW).await.unwrap();
        let sealed = SealedRow {
            file: format!("{id}.cast.zst.age"),
            sha256: Digest([1; 32]),
            bytes: 7,
            manifest: Digest([2; 32]),
            due: crate::retention::tests::year().due(NOW).unwrap(),
            seq: 0,
            recipients: vec!["age1one".into()],
        };
        store.session_sealed(id, sealed, NOW).await.unwrap();
        ids.push(id);
    }
    let conditions = crate::retention::hold::Conditions { person: Some("bob".parse().unwrap()), ..Default::default() };
    let hold = crate::retention::hold::Hold {
        id: crate::retention::hold::HoldId::new(NOW),
        case: None,
        on: conditions.try_into().unwrap(),
        reason: "asked for".into(),
        attached: None,
        by: "carol".parse().unwrap(),
        placed: NOW,
        released: None,
    };
    store.place_hold(hold, NOW).await.unwrap();
    let mut rows = Vec::new();
    for id in &ids {
        rows.push(store.session(*id).await.unwrap().unwrap());
    }
    let second = Duration::from_secs(1);
    assert_eq!(store.mark(&rows, second, second, NOW).await.unwrap(), [Step::Done, Step::Held, Step::Done]);
    assert_eq!(store.mark(&rows, second, second, NOW).await.unwrap(), [Step::NotNow, Step::Held, Step::NotNow]);
    assert_eq!(store.begin_erasing(ids.clone(), NOW).await.unwrap(), [Step::Done, Step::Held, Step::Done]);
    let gone = |id: &crate::id::SessionId| Gone { session: *id, manifest: Digest([2; 32]), certificate: b"{}".to_vec() };
    assert_eq!(store.disposed(ids.iter().map(gone).collect(), NOW).await.unwrap(), [Step::Done, Step::NotNow, Step::Done]);
    // So does what was opened by break-glass, until somebody has looked at it.
    let id = session(&store, None, "alice", NOW).await;
    store.session_ended(id, "exited 0", NOW).await.unwrap();
    let sealed = SealedRow { file: format!("{id}.cast.zst.age"), ..rows[0].sealed.clone().unwrap() };
    store.session_sealed(id, sealed, NOW).await.unwrap();
    store.write(move |tx| Box::pin(async move { tx.demand_review(id, NOW).await })).await.unwrap();
    let row = [store.session(id).await.unwrap().unwrap()];
    assert_eq!(store.mark(&row, second, second, NOW).await.unwrap(), [Step::Held]);
    let (bob, listed) = ("bob".parse().unwrap(), store.unreviewed().await.unwrap());
    assert_eq!((listed, store.counts(NOW).await.unwrap().unreviewed), (vec![id], 1));
    assert!(store.review(id, &bob, "SHA256:k", "as asked", NOW).await.unwrap());
    assert!(!store.review(id, &bob, "SHA256:k", "again", NOW).await.unwrap(), "once");
    assert_eq!(store.mark(&row, second, second, NOW).await.unwrap(), [Step::Done]);
    assert_eq!(store.reviews(&[id]).await.unwrap()[0].done, Some((NOW, bob, "as asked".into())));
    let names: Vec<String> = store.audit(0, 100).await.unwrap().into_iter().map(|row| row.name).collect();
    for (name, times) in [("session.mark", 3), ("session.review", 1), ("session.erase", 2), ("session.dispose", 2)] {
        assert_eq!(names.iter().filter(|found| *found == name).count(), times, "{name}");
    }
}

#[tokio::test]
async fn a_key_file_is_known_by_whom_it_is_addressed_to() {
    use super::key_files::Rewrap;
    let (_dir, store) = open().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = session(&store, None, "alice", NOW).await;
        let sealed = SealedRow {
            file: format!("{id}.cast.zst.age"),
            sha256: Digest([1; 32]),
            bytes: 7,
            manifest: Digest([2; 32]),
            due: crate::retention::tests::year().due(NOW).unwrap(),
            seq: 0,
            recipients: vec!["age1one".into(), "age1two".into()],
        };
        store.session_ended(id, "exited 0", NOW).await.unwrap();
        store.session_sealed(id, sealed, NOW).await.unwrap();
        ids.push(id);
    }
    ids.sort_unstable();
    let beginning = Timestamp::from_micros(0);
    assert!(store.not_addressed_to("age1two", beginning, None, 10).await.unwrap().is_empty());
    assert!(store.not_addressed_to("age1", beginning, None, 10).await.unwrap().len() == 3, "the beginning of a key is none");
    let left = |behind, limit| store.not_addressed_to("age1late", beginning, behind, limit);
    let page: Vec<_> = left(None, 2).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(page, ids[..2]);
    assert_eq!(left(Some(ids[1]), 2).await.unwrap().iter().map(|row| row.id).collect::<Vec<_>>(), ids[2..]);
    let rewrap = Rewrap {
        session: ids[0],
        by: "carol".parse().unwrap(),
        old: Digest([3; 32]),
        new: Digest([4; 32]),
        recipients: vec!["age1two".into(), "age1late".into()],
    };
    assert!(store.rewrapping(rewrap.clone(), NOW).await.unwrap());
    assert_eq!(left(None, 10).await.unwrap().len(), 3, "said, not done");
    store.rewrapped(rewrap.clone(), NOW).await.unwrap();
    assert_eq!(store.count_not_addressed_to("age1late", beginning).await.unwrap(), [("web-1".parse().unwrap(), 2)]);
    assert_eq!(store.addressed_to(ids[0]).await.unwrap().unwrap(), ["age1late", "age1two"]);
    assert_eq!(left(None, 10).await.unwrap().len(), 2);
    store.meddle(&format!("update sessions set marked = 1, marked_uptime = 1, erasing = 1 where id = '{}'", ids[1])).await;
    assert_eq!(left(None, 10).await.unwrap().len(), 1, "what goes is left alone");
    assert!(!store.rewrapping(Rewrap { session: ids[1], ..rewrap }, NOW).await.unwrap());
}
