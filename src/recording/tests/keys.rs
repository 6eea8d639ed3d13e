//! Key files that are wrapped anew, and spools that only an auditor opens.

use std::convert::Infallible;

use super::*;
use crate::transcript::envelope::{self, Recipient};

/// Two directories of key files, and a recording sealed to `auditor()`.
async fn sealed() -> (TempDir, Recordings, Sealed, [PathBuf; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().join("key-files"), dir.path().join("mirror")];
    let auditors = vec![auditor().recipient().unwrap()];
    let protection = Protection::Sealed { auditors, key_files: dirs.to_vec(), recovered_by: RecoveredBy::Node };
    let recordings = Recordings::open(Settings { protection, ..settings(dir.path()) }).unwrap();
    let recorder = recordings.begin(header(true)).await.unwrap();
    recorder.tape().record(vec![bytes(Stream::Output, b"seen")]).await.unwrap();
    let sealed = recorder.end(exited()).await.unwrap().seal().await.unwrap();
    recordings.unlink_spool(sealed.session).unwrap();
    (dir, recordings, sealed, dirs)
}

/// As an auditor's machine wraps it.
fn wrapped_anew(old: &[u8], to: &[Recipient]) -> Vec<u8> {
    envelope::wrap(&envelope::open(old, auditor()).unwrap(), to.iter()).unwrap()
}

async fn admitted() -> Result<(), Infallible> {
    Ok(())
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_key_file_is_replaced_in_every_directory_and_the_first_one_is_kept_until_the_end() {
    let (_dir, recordings, sealed, dirs) = sealed().await;
    let late = Identity::generate();
    let to = [auditor().recipient().unwrap(), late.recipient().unwrap()];
    let old = recordings.part(sealed.session, Part::Key).unwrap();
    for _ in 0..2 {
        let current = recordings.part(sealed.session, Part::Key).unwrap();
        let new = wrapped_anew(&current, &to);
        recordings.rewrap(sealed.session, Digest::of(&current), new.clone(), &to, admitted()).await.unwrap();
        for dir in &dirs {
            assert_eq!(std::fs::read(layout::key_file(dir, sealed.session)).unwrap(), new);
            assert_eq!(std::fs::read(layout::first_key_file(dir, sealed.session)).unwrap(), old, "however often it is replaced");
            assert_eq!(all_files(dir).len(), 2);
        }
    }
    let recipient = Manifest::read(&recordings.part(sealed.session, Part::Manifest).unwrap()).unwrap().body.recipient.unwrap();
    open_key_file(&recordings.part(sealed.session, Part::Key).unwrap(), &late, &recipient).unwrap();

    // What a replacement left unfinished goes too.
    std::fs::write(layout::key_file(&dirs[0], sealed.session).with_extension("age.tmp"), b"torn").unwrap();
    recordings.erase_keys(sealed.session).await.unwrap();
    assert!(dirs.iter().all(|dir| all_files(dir).is_empty()));
    let gone = recordings.rewrap(sealed.session, Digest::of(&old), old.clone(), &to, admitted()).await;
    assert!(matches!(gone, Err(NotRewrapped::Missing)));
}

#[tokio::test]
async fn what_is_not_admitted_or_not_in_form_changes_nothing() {
    let (_dir, recordings, sealed, dirs) = sealed().await;
    let to = [auditor().recipient().unwrap()];
    let old = recordings.part(sealed.session, Part::Key).unwrap();
    let (digest, new) = (Digest::of(&old), wrapped_anew(&old, &to));
    let refused = recordings.rewrap(sealed.session, digest, new.clone(), &to, async { Err("it is going") }).await;
    assert!(matches!(refused, Err(NotRewrapped::Admission("it is going"))));
    let other = recordings.rewrap(sealed.session, Digest([0; 32]), new.clone(), &to, admitted()).await;
    assert!(matches!(other, Err(NotRewrapped::Changed)));
    let stranger = wrapped_anew(&old, &[to[0].clone(), Identity::generate().recipient().unwrap()]);
    let refused = recordings.rewrap(sealed.session, digest, stranger, &to, admitted()).await;
    assert!(matches!(refused, Err(NotRewrapped::Form(_))));
    for dir in &dirs {
        assert_eq!(all_files(dir), [layout::key_file(dir, sealed.session)]);
        assert_eq!(std::fs::read(layout::key_file(dir, sealed.session)).unwrap(), old);
    }
}

#[tokio::test]
async fn who_destroys_keys_waits_for_who_replaces_one() {
    let (_dir, recordings, sealed, dirs) = sealed().await;
    let to = [auditor().recipient().unwrap()];
    let old = recordings.part(sealed.session, Part::Key).unwrap();
    let new = wrapped_anew(&old, &to);
    let (erased, erasing) = (recordings.clone(), sealed.session);
    let (begun, begins) = tokio::sync::oneshot::channel::<()>();
    let eraser = tokio::spawn(async move {
        begins.await.unwrap();
        erased.erase_keys(erasing).await
    });
    // Between the last look and the writing, somebody begins to erase.
    let admit = async {
        begun.send(()).unwrap();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        Ok::<(), Infallible>(())
    };
    recordings.rewrap(sealed.session, Digest::of(&old), new, &to, admit).await.unwrap();
    eraser.await.unwrap().unwrap();
    assert!(dirs.iter().all(|dir| all_files(dir).is_empty()), "no key file outlives its recording");
}

/// A recording that a crash left to the auditors, in a directory that was opened again.
async fn left(dir: &Path) -> (Recordings, SessionId) {
    let auditors = vec![auditor().recipient().unwrap()];
    let protection = Protection::Sealed { auditors, key_files: vec![dir.join("key-files")], recovered_by: RecoveredBy::Auditors };
    let ours = || Settings { protection: protection.clone(), ..settings(dir) };
    let recordings = Recordings::open(ours()).unwrap();
    let recorder = recordings.begin(header(true)).await.unwrap();
    recorder.tape().record(vec![bytes(Stream::Output, b"seen")]).await.unwrap();
    let session = header(true).session;
    drop((recorder, recordings));
    let recordings = Recordings::open(ours()).unwrap();
    let session = recordings.node.layout.all_spools().unwrap().0.first().copied().unwrap_or(session);
    (recordings, session)
}

#[tokio::test]
async fn a_spool_for_the_auditors_waits_and_is_sealed_with_its_own_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (recordings, session) = left(dir.path()).await;
    assert!(recordings.recover(&|_| false).await.unwrap().is_empty());
    assert_eq!((recordings.waiting(), recordings.waits_for_auditor(session)), (vec![session], true));
    assert!(recordings.set_aside().unwrap().is_empty(), "it is not broken");
    recordings.forget_earlier_boots().unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("recordings/recovery")).unwrap().count(), 1, "this boot's");

    assert!(matches!(recordings.unlock(session, &[7; 32]).await, Err(RecordError::BadSpool { .. })));
    assert!(recordings.waits_for_auditor(session));
    let envelope = recordings.envelope(session).await.unwrap();
    let key: [u8; 32] = envelope::open(&envelope, auditor()).unwrap().as_slice().try_into().unwrap();
    let unlocked = recordings.unlock(session, &key).await.unwrap();
    assert!(matches!(recordings.unlock(session, &key).await, Err(RecordError::Busy)), "one at a time, until the row stands");
    let sealed = unlocked.sealed.clone();
    assert_eq!((sealed.session, &sealed.outcome), (session, &Outcome::Interrupted));
    recordings.unlink_spool(session).unwrap();
    drop(unlocked);
    assert_eq!(rebuild(replay(&recordings, &sealed)).0.of(Stream::Output), b"seen");
    assert!(recordings.waiting().is_empty() && recordings.node.layout.all_spools().unwrap().0.is_empty());
}

#[tokio::test]
async fn sealing_that_failed_is_tried_again_without_an_auditor() {
    let dir = tempfile::tempdir().unwrap();
    let auditors = vec![auditor().recipient().unwrap()];
    let keys = dir.path().join("key-files");
    let protection = Protection::Sealed { auditors, key_files: vec![keys.clone()], recovered_by: RecoveredBy::Auditors };
    let recordings = Recordings::open(Settings { protection, ..settings(dir.path()) }).unwrap();
    let recorder = recordings.begin(header(true)).await.unwrap();
    let session = recorder.tape().spool.session();
    recorder.tape().record(vec![bytes(Stream::Output, b"seen")]).await.unwrap();
    let ended = recorder.end(exited()).await.unwrap();
    std::fs::remove_dir_all(&keys).unwrap();
    std::fs::write(&keys, b"in the way").unwrap();
    assert!(ended.seal().await.is_err());
    std::fs::remove_file(&keys).unwrap();
    std::fs::create_dir(&keys).unwrap();
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let sealed = recordings.seal_again(session).await.unwrap();
    assert_eq!(sealed.outcome, exited());
    recordings.unlink_spool(session).unwrap();
    assert!(recordings.node.locked.key_of(session).is_none(), "no key is kept beyond its spool");
}
