//! The connection to a target: dialled at the address that the grant pins, its host key checked before
//! anything is sent, logged in to with the certificate of this one session.
//!
//! One connection per session channel. russh's callbacks only fill the [`Inbox`].

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use russh::client::{self, AuthResult, ChannelOpenHandle, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, ChannelWriteHalf, Disconnect, Sig};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::algorithms;
use super::flow::{Cut, End, Inbox, Item, PACKET, Pressure, Start, Throttled, WINDOW};
use super::opening::Opening;
use super::trust::{self, Shown};
use crate::access::Target;
use crate::authority::Certificate;
use crate::time::Timestamp;

const RESOLVE: Duration = Duration::from_secs(5);
const DIAL: Duration = Duration::from_secs(10);
/// Key exchange and login together.
const LOGIN: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0} cannot be resolved")]
    Resolve(String, #[source] std::io::Error),
    #[error(
        "{host} resolves to {address}, which is this machine, a link or a metadata service; write it literally in targets.toml if you mean it"
    )]
    Forbidden { host: String, address: IpAddr },
    #[error("{0} does not answer")]
    Dial(SocketAddr, #[source] std::io::Error),
    #[error("{0} did not answer in time")]
    Late(&'static str),
    #[error(
        "{target} shows {shown}, pinned {pinned}. Reimaged, or someone in between: an operator compares and pins the new key in targets.toml"
    )]
    HostKey { target: String, shown: String, pinned: String },
    #[error("{target} refused our certificate (valid {from}-{to}Z): clock off, or not enrolled? countersign ca check {login}@{target}")]
    Refused { target: String, login: String, from: String, to: String },
    #[error("{0} refused to open a session")]
    Channel(String, #[source] russh::Error),
    #[error("{0} refused to start this")]
    Start(String),
    #[error("the connection to {0} broke")]
    Ssh(String, #[source] russh::Error),
}

impl ConnectError {
    /// Whether the host answered and was not the target.
    pub fn is_host_key(&self) -> bool {
        matches!(self, ConnectError::HostKey { .. })
    }
}

/// Resolves a target once. A host name that leads home is refused (DNS rebinding); an address written
/// literally in targets.toml is what the operator meant.
pub async fn resolve(target: &Target) -> Result<SocketAddr, ConnectError> {
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, target.port));
    }
    let name = format!("{}:{}", target.host, target.port);
    let found = timeout(RESOLVE, tokio::net::lookup_host(&name)).await.map_err(|_| ConnectError::Late("the name service"))?;
    let none = || ConnectError::Resolve(name.clone(), std::io::ErrorKind::NotFound.into());
    let address = found.map_err(|e| ConnectError::Resolve(name.clone(), e))?.next().ok_or_else(none)?;
    if !is_literal(target) && leads_home(address.ip()) {
        return Err(ConnectError::Forbidden { host: target.host.clone(), address: address.ip() });
    }
    Ok(address)
}

fn is_literal(target: &Target) -> bool {
    target.host == "localhost" || target.host.parse::<IpAddr>().is_ok()
}

fn leads_home(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // 169.254.0.0/16 holds the metadata services of the clouds.
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast(),
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip == std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// Opens the TCP connection; the certificate is signed after it, for the address it has.
pub async fn dial(target: &Target, address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let stream = timeout(DIAL, TcpStream::connect(address)).await.map_err(|_| ConnectError::Late("the target"))?;
    let stream = stream.map_err(|e| ConnectError::Dial(address, e))?;
    stream.set_nodelay(true).map_err(|e| ConnectError::Dial(address, e))?;
    // Both ends have one address: this is the bastion's own machine.
    let home = stream.local_addr().is_ok_and(|local| local.ip().to_canonical() == address.ip().to_canonical());
    if home && !is_literal(target) {
        return Err(ConnectError::Forbidden { host: target.host.clone(), address: address.ip() });
    }
    Ok(stream)
}

/// A session channel on a target, logged in to.
pub struct Upstream {
    pub inbox: Arc<Inbox>,
    pub write: ChannelWriteHalf<Msg>,
    target: String,
    handle: client::Handle<TargetSide>,
    cut: Cut,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Logs in on `stream` with the certificate and opens a session channel.
pub async fn connect(stream: TcpStream, certificate: Certificate) -> Result<Upstream, ConnectError> {
    let grant = certificate.grant();
    let (target, login) = (grant.target.clone(), grant.login.clone());
    let name = target.id.to_string();
    let cut = Cut::default();
    let meeting = Meeting::with(&target);
    let inbox = meeting.inbox.clone();
    let log_in = async {
        let mut handle = meeting.meet(stream, &cut).await?;
        let (from, to) = (certificate.certificate.valid_after(), certificate.certificate.valid_before());
        let result = handle
            .authenticate_openssh_cert(login.to_string(), certificate.key.clone(), certificate.certificate.clone())
            .await
            .map_err(|e| ConnectError::Ssh(name.clone(), e))?;
        match result {
            AuthResult::Success => Ok(handle),
            AuthResult::Failure { .. } => {
                Err(ConnectError::Refused { target: name.clone(), login: login.to_string(), from: clock(from), to: clock(to) })
            }
        }
    };
    let handle = timeout(LOGIN, log_in).await.map_err(|_| ConnectError::Late("the target's login"))??;
    let channel = timeout(START, handle.channel_open_session()).await.map_err(|_| ConnectError::Late("the target"))?;
    let (read, write) = channel.map_err(|e| ConnectError::Channel(name.clone(), e))?.split();
    // R1: with the reading half gone the loop's own delivery fails at once and is ignored.
    drop(read);
    Ok(Upstream { inbox, write, target: name, handle, cut })
}

/// Seconds since 1970 as the hour in a certificate's words, UTC.
pub(super) fn clock(seconds: u64) -> String {
    Timestamp::from_micros(i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000)).utc().format("%H:%M:%S").to_string()
}

/// The key exchange with a host, which has to prove that it is the target.
pub(super) struct Meeting {
    inbox: Arc<Inbox>,
    pressure: Arc<Pressure>,
    target: Arc<Target>,
    /// What a host that failed verification showed.
    shown: Arc<Mutex<Option<Shown>>>,
}

impl Meeting {
    pub fn with(target: &Arc<Target>) -> Self {
        let pressure = Arc::new(Pressure::default());
        Self { inbox: Inbox::facing_target(pressure.clone()), pressure, target: target.clone(), shown: Arc::default() }
    }

    /// Returns a connection on which nobody has logged in yet.
    pub async fn meet(self, stream: TcpStream, cut: &Cut) -> Result<client::Handle<TargetSide>, ConnectError> {
        let Self { inbox, pressure, target, shown } = self;
        let config = Arc::new(client::Config {
            client_id: russh::SshId::Standard("SSH-2.0-countersign".into()),
            limits: algorithms::limits(),
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            preferred: algorithms::facing_target(&target.host_keys, !target.host_cas.is_empty()),
            inactivity_timeout: None,
            // While the gate is shut we do not read the target's own keep-alives; ours reset its counter.
            keepalive_interval: Some(Duration::from_secs(15)),
            keepalive_max: 0,
            nodelay: true,
            ..client::Config::default()
        });
        let stream = Throttled::gated(stream, pressure, cut);
        let side = TargetSide { inbox, target: target.clone(), shown: shown.clone() };
        client::connect_stream(config, stream, side).await.map_err(|error| {
            match shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(shown) => {
                    ConnectError::HostKey { target: target.id.to_string(), shown: shown.to_string(), pinned: trust::pinned(&target) }
                }
                None => ConnectError::Ssh(target.id.to_string(), error),
            }
        })
    }
}

/// Whether the target gave what it was asked for beside starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PtyGranted {
    Yes,
    No,
}

impl Upstream {
    /// Asks for the terminal, passes the environment and starts what the client wants.
    pub async fn start(&self, opening: &Opening) -> Result<PtyGranted, ConnectError> {
        let lost = |e| ConnectError::Ssh(self.target.clone(), e);
        let start = async {
            let mut granted = PtyGranted::Yes;
            if let Some(pty) = &opening.pty {
                let size = pty.size;
                self.write
                    .request_pty(true, &pty.term, size.cols, size.rows, size.pix_width, size.pix_height, &pty.modes)
                    .await
                    .map_err(lost)?;
                if !self.answered().await? {
                    granted = PtyGranted::No;
                }
            }
            for (name, value) in &opening.env {
                self.write.set_env(false, name.as_str(), value.as_str()).await.map_err(lost)?;
            }
            match &opening.start {
                Start::Shell => self.write.request_shell(true).await,
                Start::Exec(command) => self.write.exec(true, command.clone()).await,
                Start::Subsystem(name) => self.write.request_subsystem(true, name.as_str()).await,
            }
            .map_err(lost)?;
            if self.answered().await? { Ok(granted) } else { Err(ConnectError::Start(self.target.clone())) }
        };
        timeout(START, start).await.map_err(|_| ConnectError::Late("the target"))?
    }

    async fn answered(&self) -> Result<bool, ConnectError> {
        loop {
            match self.inbox.next().await {
                Some(Item::Success) => return Ok(true),
                Some(Item::Failure) => return Ok(false),
                // Nothing else may come before the answer.
                Some(_) => {}
                None => return Err(ConnectError::Ssh(self.target.clone(), russh::Error::Disconnect)),
            }
        }
    }

    /// Ends the connection; the peer's cooperation is not needed.
    pub async fn close(self) {
        let goodbye = async {
            let _ = self.write.close().await;
            let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
        };
        let _ = timeout(Duration::from_millis(200), goodbye).await;
        self.cut.now();
    }
}

/// russh's callbacks on a target's connection. None of them waits.
pub struct TargetSide {
    inbox: Arc<Inbox>,
    target: Arc<Target>,
    /// What a host that failed verification showed.
    shown: Arc<Mutex<Option<Shown>>>,
}

impl client::Handler for TargetSide {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        match trust::trusts(&self.target, shown, Timestamp::now()) {
            Ok(()) => Ok(true),
            Err(what) => {
                *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
                Ok(false)
            }
        }
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        self.inbox.push_data(data);
        Ok(())
    }

    async fn extended_data(&mut self, _: ChannelId, kind: u32, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        if kind == 1 {
            self.inbox.push(Item::Stderr(BytesMut::from(data)));
        }
        Ok(())
    }

    async fn channel_eof(&mut self, _: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.inbox.push(Item::Eof);
        Ok(())
    }

    async fn channel_close(&mut self, _: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.inbox.finish(End::Closed);
        Ok(())
    }

    async fn channel_success(&mut self, _: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.inbox.push(Item::Success);
        Ok(())
    }

    async fn channel_failure(&mut self, _: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.inbox.push(Item::Failure);
        Ok(())
    }

    async fn exit_status(&mut self, _: ChannelId, status: u32, _: &mut Session) -> Result<(), russh::Error> {
        self.inbox.push(Item::ExitStatus(status));
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        _: ChannelId,
        signal: Sig,
        core_dumped: bool,
        message: &str,
        language: &str,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if super::gate::is_signal(&super::algorithms::signal_name(&signal)) {
            let message = message.chars().take(1024).collect();
            self.inbox.push(Item::ExitSignal { signal, core_dumped, message, language: language.chars().take(32).collect() });
        }
        Ok(())
    }

    // A target opens nothing towards us: dropping the handle refuses, where russh's default accepts.

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}

impl Drop for TargetSide {
    fn drop(&mut self) {
        self.inbox.finish(End::Lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_home_are_refused_in_every_spelling() {
        for home in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "fd00:ec2::254",
            "255.255.255.255",
        ] {
            assert!(leads_home(home.parse().unwrap()), "{home}");
        }
        for away in ["192.0.2.1", "10.0.0.5", "2001:db8::1", "fd00::1"] {
            assert!(!leads_home(away.parse().unwrap()), "{away}");
        }
    }
}
