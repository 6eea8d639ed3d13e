//! The door: who may knock, how many at once, how long until they must have logged in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::ssh_key::{Certificate, PrivateKey};
use russh::server::{self, RunningSession, run_stream};
use russh::{MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::flow::{Cut, PACKET, Pressure, Throttled, WINDOW};
use super::front::{Front, Role};
use super::{Bastion, algorithms};
use crate::config::Config;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Stranger,
    /// A key has signed; the second factor is asked for, which takes a person longer.
    FirstFactor,
    LoggedIn,
}

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

/// Connections that have not logged in yet, in all and by source (/32, /64).
#[derive(Debug, Default)]
struct Strangers {
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

struct Stranger {
    strangers: Arc<Strangers>,
    block: IpAddr,
}

impl Strangers {
    /// Counts one more, or refuses beyond either cap.
    fn admit(self: &Arc<Self>, source: IpAddr, all: usize, per_source: usize) -> Option<Stranger> {
        let block = block(source);
        let mut counts = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let of_block = counts.get(&block).copied().unwrap_or(0);
        if counts.values().sum::<usize>() >= all || of_block >= per_source {
            return None;
        }
        counts.insert(block, of_block + 1);
        Some(Stranger { strangers: self.clone(), block })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.strangers.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.block) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.block);
            }
        }
    }
}

fn block(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Accepts until `stop` says so. Each connection is a task of its own.
pub async fn accept(bastion: Arc<Bastion>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let strangers = Arc::new(Strangers::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = super::stopped(&mut stop) => return,
        };
        match accepted {
            Ok((stream, source)) => {
                let limits = &bastion.directory().config.limits;
                match strangers.admit(source.ip(), limits.unauthenticated, limits.unauthenticated_per_source) {
                    Some(stranger) => drop(tokio::spawn(serve(bastion.clone(), stream, source, stranger))),
                    None => tracing::debug!(%source, "dropped: too many connections that have not logged in"),
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: the ones we have must end first.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(bastion: Arc<Bastion>, stream: TcpStream, source: SocketAddr, stranger: Stranger) {
    let _ = stream.set_nodelay(true);
    let directory = bastion.directory();
    let pressure = Arc::new(Pressure::default());
    let cut = Cut::default();
    let (stage, reached) = watch::channel(Stage::Stranger);
    let config = Arc::new(server_config(&directory.config, bastion.host_certificates.host_key().clone(), Vec::new()));
    let stream = Throttled::paced(stream, pressure.clone(), &cut);
    let front = Front::new(bastion.clone(), Role::Outer, source, pressure, stage);
    let grace = directory.config.limits.login_grace;
    drop(directory);
    let conversation = converse(run_stream(config, stream, front), grace, reached.clone(), &cut);
    let mut reached = reached;
    // The slot is a stranger's only until the login.
    let release = async {
        let _ = reached.wait_for(|stage| *stage == Stage::LoggedIn).await;
        drop(stranger);
    };
    tokio::join!(conversation, release);
}

/// Runs one connection to its end; cuts it when nobody has logged in within the grace time, or within
/// twice that where only the second factor is missing.
pub async fn converse(
    start: impl Future<Output = Result<RunningSession<Front>, russh::Error>>,
    grace: Duration,
    reached: watch::Receiver<Stage>,
    cut: &Cut,
) {
    let deadline = tokio::time::sleep(grace);
    tokio::pin!(deadline);
    let running = tokio::select! {
        running = start => running,
        () = &mut deadline => return cut.now(),
    };
    let Ok(mut running) = running else { return };
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = &mut deadline => {
            let stage = *reached.borrow();
            if stage == Stage::FirstFactor {
                tokio::select! {
                    ended = &mut running => return over(ended),
                    () = tokio::time::sleep(grace) => {}
                }
            }
            if *reached.borrow() != Stage::LoggedIn {
                cut.now();
            }
            running.await
        }
    };
    over(ended);
}

fn over(ended: Result<(), russh::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
