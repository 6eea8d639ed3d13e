//! `countersign demo`: a bastion, a target and three people in a temporary directory, on loopback.
//!
//! The bastion is the real one, with keys and policies of its own; only the target is embedded, and it
//! runs the shell of whoever started the demo. Nothing outlives the directory.

mod actor;
mod scene;
mod tour;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use scene::{Person, Scene};

/// Runs the demo until Ctrl-C, or plays the tour; returns the exit status.
pub async fn run(tour: bool) -> anyhow::Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let scene = Scene::set(tour).await?;
    let act = async { if tour { tour::play(&scene).await } else { wait(&scene).await } };
    let status = tokio::select! {
        status = act => status,
        _ = interrupt.recv() => Ok(if tour { 130 } else { 0 }),
        _ = terminate.recv() => Ok(143),
        _ = hang_up.recv() => Ok(129),
    };
    scene.clear().await?;
    status
}

async fn wait(scene: &Scene) -> anyhow::Result<u8> {
    use std::io::Write;
    std::io::stdout().write_all(lines(scene).as_bytes()).context("the lines to paste cannot be written")?;
    std::future::pending().await
}

/// What to paste into three terminals.
fn lines(scene: &Scene) -> String {
    format!(
        "countersign demo: a bastion, a target and three people in {dir}

alice, an engineer, in a second terminal; she is held until somebody agrees:

    {ssh} deploy=web-1@bastion

bob, who may agree, in a third; he signs with his key what he has read:

    {bob}
    countersign requests
    countersign approve REQUEST

carol, an auditor, in a fourth, once alice has left:

    {carol}
    countersign sessions
    countersign replay last
    countersign verify last

web-1 is this machine: the shell on it is your own, and what is done in it is real.
Ctrl-C here ends the demo and removes the directory. The same by itself: countersign demo --tour
",
        dir = scene.dir().display(),
        ssh = scene.ssh_line(Person::Alice),
        bob = scene.companion_alias(Person::Bob),
        carol = scene.companion_alias(Person::Carol),
    )
}
