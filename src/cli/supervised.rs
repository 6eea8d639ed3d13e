//! What a service manager and the kernel are told: sockets handed over, readiness, a watchdog that only barks
//! while the state answers, no core dumps.
//!
//! By the protocols of systemd (`sd_notify(3)`, `sd_listen_fds(3)`); without one, nothing happens.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sd_notify::NotifyState;

use crate::store::Store;

/// Sockets that the service manager has bound for us; they stand in for `listen`.
pub fn handed_over() -> anyhow::Result<Vec<TcpListener>> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for at in 0..handed.len() {
        let Some(listener) = handed.take_tcp_listener(at).context("a socket that was handed over is not a TCP listener")? else {
            bail!("socket {at} of those handed over was taken already");
        };
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Connections are accepted from now on.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub fn reloading() {
    // With the time, as systemd 253 and later want it (`Type=notify-reload`).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Tells the watchdog that we are well, twice within its time, for as long as the state answers.
pub async fn watch(store: Store) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let mut due = tokio::time::interval((within / 2).max(Duration::from_millis(100)));
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        match store.audit_size().await {
            Ok(_) => tell(&[NotifyState::Watchdog]),
            Err(error) => tracing::error!(%error, "the state does not answer"),
        }
    }
}

/// What this process was handed beside its three standard descriptors, as `/proc` names it.
pub fn strays() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let own = |path: &std::path::Path| path.starts_with("/proc");
    let number = |entry: &std::fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).unwrap_or(0);
    let beyond = entries.flatten().filter(|entry| number(entry) > 2);
    let links = beyond.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    // The listing itself is one of them.
    links.filter(|link| !own(link)).map(|link| link.display().to_string()).collect()
}

/// No core file, and no other process of this account may look into this one: its memory holds keys.
pub fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!(%error, "core dumps of this process could not be ruled out");
    }
}
