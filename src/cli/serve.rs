//! `countersign serve -c DIR`: puts a node together from its directory and runs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{LogFormat, supervised};
use crate::approvals::{Approvals, Reruled};
use crate::audit::checkpoint::LogKey;
use crate::authority::{Keys, SealKey};
use crate::config::Directory;
use crate::pen::{self, Launch, Purpose};
use crate::recording::{Part, Recordings, Settings};
use crate::retention::disposal::Disposal;
use crate::ssh::{self, Parts, Running};
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::log::Log;
use crate::store::restore::OnDisk;
use crate::time::{Timestamp, seen};
use crate::transcript::manifest::Manifest;

/// Non-terminal bytes of one stream that are kept in full.
const BULK_CAP: u64 = 10 * 1024 * 1024;

/// Serves until SIGTERM, which drains, SIGINT, which does not, or an announced restart; SIGHUP reads the
/// directory again, also while it drains: a revocation does not wait for that.
pub async fn run(dir: PathBuf, log: LogFormat) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    supervised::keep_memory_private();
    let launch = Launch { json: log == LogFormat::Json, ..Launch::new(&dir, Purpose::Sessions) };
    let running = start_on(&dir, launch, supervised::handed_over()?).await?;
    for address in &running.addresses {
        eprintln!("countersign: listening on {address}");
    }
    let listening: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
    supervised::ready(&format!("listening on {}", listening.join(", ")));
    let watchdog = tokio::spawn(supervised::watch(running.store().clone()));
    let drains = loop {
        tokio::select! {
            _ = terminate.recv() => break true,
            _ = interrupt.recv() => break false,
            () = running.due() => break false,
            _ = hangup.recv() => {
                supervised::reloading();
                reload(&dir, &running).await;
                supervised::ready("serving");
            }
        }
    };
    if drains {
        eprintln!("countersign: draining, {} sessions run; a second SIGTERM ends them now", running.open());
        let drained = running.drain();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => break,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => reload(&dir, &running).await,
            }
        }
    }
    eprintln!("countersign: stopping");
    supervised::stopping();
    running.stop().await;
    watchdog.abort();
    Ok(0)
}

/// Swaps the directory for what its files say now; a bad one keeps the old (section 2.1).
async fn reload(dir: &Path, running: &Running) {
    match Directory::load(dir) {
        Ok(directory) => {
            let digest = directory.digest;
            match running.reload(Arc::new(directory)).await {
                Ok(Reruled { requests: 0, grants: 0 }) => eprintln!("countersign: reloaded, policy {digest}"),
                Ok(Reruled { requests, grants }) => {
                    eprintln!("countersign: reloaded, policy {digest}; void now: pending requests {requests}, grants {grants}");
                }
                Err(error) => {
                    let why = crate::console::with_causes(&error);
                    eprintln!("countersign: not reloaded, the old policies stay: {why}");
                    running.not_reloaded(&why, 1).await;
                }
            }
        }
        Err(problems) => {
            for problem in &problems {
                eprintln!("countersign: {problem}");
            }
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            running.not_reloaded(&first, problems.len()).await;
            eprintln!("countersign: not reloaded, the old policies stay; look with: countersign check -c {}", dir.display());
        }
    }
}

/// Loads the directory, opens the state, seals what the last boot left behind, then listens.
pub async fn start(dir: &Path) -> anyhow::Result<Running> {
    start_on(dir, Launch { quiet: true, ..Launch::new(dir, Purpose::Sessions) }, Vec::new()).await
}

/// The same on sockets that somebody else has bound, if there are any.
async fn start_on(dir: &Path, launch: Launch, handed_over: Vec<std::net::TcpListener>) -> anyhow::Result<Running> {
    let directory = match Directory::load(dir) {
        Ok(directory) => Arc::new(directory),
        Err(problems) => {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("{} cannot be served:\n{}", dir.display(), all.join("\n"));
        }
    };
    let config = directory.config.clone();
    let keys = Keys::read(&config.keys)?;
    let now = Timestamp::now();
    std::fs::create_dir_all(&config.state).with_context(|| format!("{} cannot be made", config.state.display()))?;
    let pen = pen::start(launch).await?;
    let store = Store::open(&config.state.join("countersign.db")).await?;
    store.keep_policy(directory.digest, None, &directory.texts, now).await?;
    Recordings::make_dir(&config.recordings.dir)?;
    let log_key = LogKey::new(format!("countersign/{}", config.bastion), &*keys.log_seed()?)?;
    let log = Log::open(store.clone(), log_key, config.recordings.dir.join("log.checkpoint")).await?;
    let recordings = Recordings::open(Settings {
        dir: config.recordings.dir.clone(),
        free_floor: config.recordings.free_floor,
        bulk_cap: BULK_CAP,
        writers: 2,
        durability: config.recordings.durability,
        protection: config.recordings.protection.clone(),
        bastion: config.bastion.clone(),
        seal_key: SealKey::new(&keys),
        log: log.head(),
    })?;
    recordings.keep_for_rescue(directory.reserve());
    recover(&recordings, &store).await?;
    let clock = Clock::open(store.clone(), seen().await).await?;
    let disposal = Disposal::new(store.clone(), recordings.clone(), clock.clone(), config.bastion.clone());
    let suspended = store.suspensions().await?.into_iter().map(|suspension| suspension.person).collect();
    let directory = watch::Sender::new(Arc::new(directory.with_suspended(suspended)));
    let approvals = Approvals::new(store.clone(), config.bastion.clone(), clock.clone(), directory.subscribe());
    approvals.forget_waiters(now).await?;
    let running = ssh::start(Parts { directory, keys, pen, store, approvals, recordings, log, clock, disposal, handed_over })
        .await
        .context("cannot listen")?;
    let lines: String = running.addresses.iter().map(|address| format!("{address}\n")).collect();
    let listening = config.state.join("listening");
    std::fs::write(&listening, lines).with_context(|| format!("{} cannot be written", listening.display()))?;
    Ok(running)
}

/// Seals the spools of the last boot and ends its sessions in the state.
async fn recover(recordings: &Recordings, store: &Store) -> anyhow::Result<()> {
    let sealed = store.sealed_sessions().await?;
    for recovered in recordings.recover(&|session| sealed.contains(&session)).await? {
        let now = Timestamp::now();
        tracing::warn!(session = %recovered.session, outcome = %recovered.outcome, "sealed a recording of the last boot");
        if store.session(recovered.session).await?.is_none() {
            // Recorded after the backup that this state was restored from.
            let manifest = recordings.part(recovered.session, Part::Manifest).context("a manifest that was just made")?;
            let (manifest, digest, sealed) = (Manifest::read(&manifest)?, recovered.manifest, recovered.row());
            store.adopt(OnDisk { manifest, digest, sealed, certificate: None }, now).await?;
        }
        store.session_ended(recovered.session, &recovered.outcome.to_string(), now).await?;
        store.session_sealed(recovered.session, recovered.row(), now).await?;
        recordings.unlink_spool(recovered.session)?;
    }
    store.end_lost_sessions(Timestamp::now()).await?;
    recordings.forget_earlier_boots()?;
    Ok(())
}
