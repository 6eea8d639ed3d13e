//! Accepts connections, and ends those that have not logged in when their grace is over. Who may come in
//! at all is the door's to say.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::{Certificate, PrivateKey};
use russh::server::{self, RunningSession, run_stream};
use russh::{MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::door::{Knock, Left, Stage, Stranger, Turn};
use super::flow::{Cut, PACKET, Pressure, Throttled, WINDOW};
use super::front::{Front, Role};
use super::{Bastion, algorithms};
use crate::config::{Config, Limits};

/// russh's configuration of a connection that faces a client.
pub fn server_config(config: &Config, host_key: PrivateKey, certificates: Vec<Certificate>) -> server::Config {
    server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-countersign".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(300),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        certificates,
        limits: algorithms::limits(),
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        preferred: algorithms::facing_clients(),
        max_auth_attempts: config.limits.login_tries,
        // An idle shell is no fault; a dead client is found by keep-alives.
        inactivity_timeout: None,
        keepalive_interval: Some(Duration::from_secs(60)),
        keepalive_max: 10,
        nodelay: true,
        ..server::Config::default()
    }
}

/// Accepts until `stop` says so. Each connection is a task of its own.
pub async fn accept(bastion: Arc<Bastion>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = super::stopped(&mut stop) => return,
        };
        match accepted {
            Ok((stream, source)) => match bastion.door.knock(source.ip(), &bastion.directory().config.limits) {
                Knock::Enter(stranger) => drop(tokio::spawn(serve(bastion.clone(), stream, source, stranger))),
                Knock::Wait(turn) => drop(tokio::spawn(wait(bastion.clone(), stream, source, turn))),
                Knock::TurnAway(why) => turn_away(stream, source, &why),
            },
            Err(error) => {
                // Out of descriptors, most likely: the ones we have must end first.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn wait(bastion: Arc<Bastion>, stream: TcpStream, source: SocketAddr, turn: Turn) {
    match turn.come().await {
        Some(stranger) => serve(bastion, stream, source, stranger).await,
        None => turn_away(stream, source, "too many connections that have not logged in; try again in a moment"),
    }
}

/// Says why in a line before any identification (RFC 4253 4.2), if that can be written at once.
fn turn_away(stream: TcpStream, source: SocketAddr, why: &str) {
    tracing::debug!(%source, why, "turned away");
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(format!("countersign: {why}\r\n").as_bytes());
    }
}

async fn serve(bastion: Arc<Bastion>, stream: TcpStream, source: SocketAddr, stranger: Stranger) {
    let _ = stream.set_nodelay(true);
    let directory = bastion.directory();
    let pressure = Arc::new(Pressure::default());
    let cut = stranger.cut.clone();
    let (stage, reached) = watch::channel(Stage::Silent);
    let config = Arc::new(server_config(&directory.config, bastion.host_certificates.host_key().clone(), Vec::new()));
    let stream = Throttled::paced(stream, pressure.clone(), &cut).until_logged_in(reached.clone());
    let front = Front::new(bastion.clone(), Role::Outer, source, pressure, stage);
    let limits = directory.config.limits.clone();
    drop(directory);
    let conversation = converse(run_stream(config, stream, front), &limits, reached.clone(), &cut);
    tokio::pin!(conversation);
    let mut logs_in = reached.clone();
    let ended = tokio::select! {
        left = &mut conversation => Some(left),
        // Where it ends without, only the other branch is left.
        Ok(_) = logs_in.wait_for(|stage| *stage == Stage::LoggedIn) => None,
    };
    match ended {
        Some(left) => {
            let stage = *reached.borrow();
            stranger.leave(stage, left);
        }
        None => {
            // The place is a stranger's only until the login.
            drop(stranger);
            conversation.await;
        }
    }
}

/// Runs one connection to its end; cuts it when nobody has logged in within the grace time.
pub async fn converse(
    start: impl Future<Output = Result<RunningSession<Front>, russh::Error>>,
    limits: &Limits,
    mut stage: watch::Receiver<Stage>,
    cut: &Cut,
) -> Left {
    let grace = async {
        let began = Instant::now();
        loop {
            let reached = *stage.borrow_and_update();
            if reached == Stage::LoggedIn {
                std::future::pending::<()>().await;
            }
            tokio::select! {
                () = tokio::time::sleep_until(began + reached.grace(limits)) => return,
                changed = stage.changed() => if changed.is_err() {
                    // Nobody is left to log in; the connection ends by itself, or in time.
                    return tokio::time::sleep_until(began + reached.grace(limits)).await;
                },
            }
        }
    };
    let talk = async {
        let ended = match start.await {
            Ok(running) => running.await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    };
    tokio::pin!(talk);
    tokio::select! {
        () = &mut talk => Left::InTime,
        () = grace => {
            cut.now();
            // russh's own task; it ends at the next read or write of its stream.
            talk.await;
            Left::TooLate
        }
    }
}
