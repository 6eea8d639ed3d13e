//! The connection to a target: dialled at the address that the grant pins, its host key checked before
//! anything is sent, logged in to with the certificate of this one session.
//!
//! One connection per session channel. russh's callbacks only fill the [`Inbox`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use russh::client::{self, AuthResult, ChannelOpenHandle, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, ChannelWriteHalf, Disconnect, Sig};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::algorithms;
use super::flow::{Cut, End, Inbox, Item, PACKET, Pressure, Start, Throttled, WINDOW};
use super::home;
use super::opening::Opening;
use super::trust::{self, Shown};
use crate::access::family::is_localhost;
use crate::access::target::Entry;
use crate::access::{Endpoint, Target, Want};
use crate::authority::Certificate;
use crate::time::Timestamp;

const RESOLVE: Duration = Duration::from_secs(5);
const DIAL: Duration = Duration::from_secs(10);
/// Key exchange and login together.
const LOGIN: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(20);
/// Channels of the target's that wait to be taken.
const ARRIVING: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0} cannot be resolved")]
    Resolve(String, #[source] std::io::Error),
    #[error(
        "{host} resolves to {address}, which is this machine, a link or a metadata service; an operator who means it writes it literally in targets.toml"
    )]
    Forbidden { host: String, address: IpAddr },
    #[error("{0} does not answer")]
    Dial(SocketAddr, #[source] std::io::Error),
    #[error("{0} did not answer in time")]
    Late(&'static str),
    #[error(
        "{target} shows {shown}, pinned {pinned} ({entry}). Reimaged? An operator runs: countersign targets pin {target} --key '…' --reason …"
    )]
    HostKey { target: String, shown: String, pinned: String, entry: Entry },
    #[error("{target} shows {shown}; what counts is a certificate for {target} by {trusted} ({entry})")]
    HostCertificate { target: String, shown: String, trusted: String, entry: Entry },
    #[error("{target} refused our certificate (valid {from}-{to}Z): clock off, or not enrolled? countersign ca check {login}@{target}")]
    Refused { target: String, login: String, from: String, to: String },
    #[error("{0} refused to open a session")]
    Channel(String, #[source] russh::Error),
    #[error("{0} refused to start this")]
    Start(String),
    #[error("{target} could not connect to {to}")]
    Forward {
        target: String,
        to: String,
        #[source]
        source: russh::Error,
    },
    #[error("{target} does not listen on {on}: its sshd may forbid it (AllowTcpForwarding), or the port is taken")]
    Listen {
        target: String,
        on: String,
        #[source]
        source: russh::Error,
    },
    #[error("the connection to {0} broke")]
    Ssh(String, #[source] russh::Error),
}

impl ConnectError {
    /// Whether the host answered and was not the target.
    pub fn is_host_key(&self) -> bool {
        matches!(self, ConnectError::HostKey { .. } | ConnectError::HostCertificate { .. })
    }
}

/// Resolves a target once: what is dialled later is this address, whatever the name means by then. A name
/// that leads home is refused (DNS rebinding); an address written literally in targets.toml is what the
/// operator meant.
pub async fn resolve(target: &Target) -> Result<SocketAddr, ConnectError> {
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, target.port));
    }
    if is_localhost(&target.host) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, target.port)));
    }
    let name = format!("{}:{}", target.host, target.port);
    let found = timeout(RESOLVE, tokio::net::lookup_host(&name)).await.map_err(|_| ConnectError::Late("the name service"))?;
    let none = || ConnectError::Resolve(name.clone(), std::io::ErrorKind::NotFound.into());
    let address = found.map_err(|e| ConnectError::Resolve(name.clone(), e))?.next().ok_or_else(none)?;
    if !is_literal(target) && home::leads_home(address.ip()) {
        return Err(ConnectError::Forbidden { host: target.host.clone(), address: address.ip() });
    }
    Ok(address)
}

/// Whether the operator wrote the address down. Of a pattern's member only `.localhost` can be written.
fn is_literal(target: &Target) -> bool {
    let listed = target.entry.family.is_none();
    is_localhost(&target.host) || listed && (target.host.eq_ignore_ascii_case("localhost") || target.host.parse::<IpAddr>().is_ok())
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
    incoming: mpsc::Receiver<Incoming>,
}

/// A channel of a forward at the target's side.
#[derive(Debug)]
pub struct Far {
    pub inbox: Arc<Inbox>,
    pub write: ChannelWriteHalf<Msg>,
}

impl Far {
    pub async fn close(self) {
        let _ = timeout(Duration::from_millis(200), self.write.close()).await;
        self.inbox.finish(End::Closed);
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // Also where nobody took it up: what still comes goes nowhere, and is not kept.
        self.inbox.finish(End::Closed);
    }
}

/// Who opens a channel towards us, where that was asked for.
#[derive(Debug)]
pub enum Arriving {
    /// What runs there wants the client's agent.
    Agent,
    /// Somebody connected to where the target listens.
    Connection { originator: String, originator_port: u32 },
}

/// A channel that the target opens; it waits until `reply` is given, and is refused if that is dropped.
pub struct Incoming {
    pub arriving: Arriving,
    pub reply: ChannelOpenHandle,
    pub far: Far,
}

/// A connection on which the certificate was accepted; nothing runs on it yet.
pub struct LoggedIn {
    pub incoming: mpsc::Receiver<Incoming>,
    inbox: Arc<Inbox>,
    target: String,
    handle: client::Handle<TargetSide>,
    cut: Cut,
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").field("target", &self.target).finish_non_exhaustive()
    }
}

impl LoggedIn {
    async fn session(self) -> Result<Upstream, ConnectError> {
        let Self { incoming, inbox, target, handle, cut } = self;
        let channel = timeout(START, handle.channel_open_session()).await.map_err(|_| ConnectError::Late("the target"))?;
        let (read, write) = channel.map_err(|e| ConnectError::Channel(target.clone(), e))?.split();
        // R1: with the reading half gone the loop's own delivery fails at once and is ignored.
        drop(read);
        Ok(Upstream { inbox, write, target, handle, cut, incoming })
    }

    /// Has the target connect to a host in its own words; `from` is the client's side of it.
    pub async fn direct(
        &self,
        host: &str,
        port: u32,
        (to, originator, originator_port): (&Endpoint, &str, u32),
    ) -> Result<Far, ConnectError> {
        let opened = self.handle.channel_open_direct_tcpip(host, port, originator, originator_port);
        let channel = timeout(DIAL, opened).await.map_err(|_| ConnectError::Late("the target's connection"))?;
        let failed = |source| ConnectError::Forward { target: self.target.clone(), to: to.to_string(), source };
        let (read, write) = channel.map_err(failed)?.split();
        drop(read);
        Ok(Far { inbox: self.inbox.clone(), write })
    }

    /// Has the target listen.
    pub async fn listen(&mut self, address: &str, port: u32, on: &Endpoint) -> Result<(), ConnectError> {
        let asked = timeout(START, self.handle.tcpip_forward(address, port)).await.map_err(|_| ConnectError::Late("the target"))?;
        asked.map(|_| ()).map_err(|source| ConnectError::Listen { target: self.target.clone(), on: on.to_string(), source })
    }

    /// Ends the connection; the peer's cooperation is not needed.
    pub async fn close(self) {
        let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = timeout(Duration::from_millis(200), goodbye).await;
        self.cut.now();
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Logs in on `stream` with the certificate and opens a session channel.
pub async fn connect(stream: TcpStream, certificate: Certificate) -> Result<Upstream, ConnectError> {
    log_in(stream, certificate).await?.session().await
}

/// Logs in on `stream`, as the one and only use of the certificate.
pub async fn log_in(stream: TcpStream, certificate: Certificate) -> Result<LoggedIn, ConnectError> {
    let grant = certificate.grant();
    let (target, login) = (grant.target.clone(), grant.login.clone());
    let name = target.id.to_string();
    let cut = Cut::default();
    let (meeting, incoming) = Meeting::with(&target).taking(&grant.want);
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
    Ok(LoggedIn { incoming, inbox, target: name, handle, cut })
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
    takes: Takes,
}

/// What a target may open towards us, and to whom it is told.
#[derive(Debug)]
enum Takes {
    Nothing,
    Agents(mpsc::Sender<Incoming>),
    Connections(mpsc::Sender<Incoming>),
}

impl Meeting {
    pub fn with(target: &Arc<Target>) -> Self {
        let pressure = Arc::new(Pressure::default());
        let inbox = Inbox::facing_target(pressure.clone());
        Self { inbox, pressure, target: target.clone(), shown: Arc::default(), takes: Takes::Nothing }
    }

    /// Lets the target open what was asked for, and nothing else.
    fn taking(mut self, want: &Want) -> (Self, mpsc::Receiver<Incoming>) {
        let (tell, incoming) = mpsc::channel(ARRIVING);
        self.takes = match want {
            Want::WithAgent(_) => Takes::Agents(tell),
            Want::ForwardRemote(_) => Takes::Connections(tell),
            Want::Shell | Want::Exec(_) | Want::Sftp | Want::ForwardLocal(_) => Takes::Nothing,
        };
        (self, incoming)
    }

    /// Returns a connection on which nobody has logged in yet.
    pub async fn meet(self, stream: TcpStream, cut: &Cut) -> Result<client::Handle<TargetSide>, ConnectError> {
        let Self { inbox, pressure, target, shown, takes } = self;
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
        let stream = Throttled::gated(stream, pressure.clone(), cut);
        let side = TargetSide { inbox, opened: HashMap::new(), pressure, takes, target: target.clone(), shown: shown.clone() };
        client::connect_stream(config, stream, side).await.map_err(|error| {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (name, known, entry) = (target.id.to_string(), trust::pinned(&target), target.entry.clone());
            match shown.map(|shown| shown.to_string()) {
                None => ConnectError::Ssh(name, error),
                Some(shown) if target.host_keys.is_empty() => ConnectError::HostCertificate { target: name, shown, trusted: known, entry },
                Some(shown) => ConnectError::HostKey { target: name, shown, pinned: known, entry },
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
    /// What the target opens while this runs; once.
    pub fn arrivals(&mut self) -> mpsc::Receiver<Incoming> {
        std::mem::replace(&mut self.incoming, mpsc::channel(1).1)
    }

    /// Asks for the terminal, offers the agent, passes the environment and starts what the client wants.
    pub async fn start(&self, opening: &Opening, agent: bool) -> Result<PtyGranted, ConnectError> {
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
            if agent {
                // A target that will not have it runs what is wanted without.
                self.write.agent_forward(false).await.map_err(lost)?;
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
    /// The channels that the target opened.
    opened: HashMap<ChannelId, Arc<Inbox>>,
    pressure: Arc<Pressure>,
    takes: Takes,
    target: Arc<Target>,
    /// What a host that failed verification showed.
    shown: Arc<Mutex<Option<Shown>>>,
}

impl TargetSide {
    fn inbox(&self, id: ChannelId) -> &Arc<Inbox> {
        self.opened.get(&id).unwrap_or(&self.inbox)
    }

    /// Hands a channel of the target's over; whoever takes it answers. A full queue refuses it.
    fn arrives(&mut self, channel: Channel<Msg>, arriving: Arriving, reply: ChannelOpenHandle) {
        let tell = match (&self.takes, &arriving) {
            (Takes::Agents(tell), Arriving::Agent) | (Takes::Connections(tell), Arriving::Connection { .. }) => tell,
            (Takes::Nothing | Takes::Agents(_) | Takes::Connections(_), _) => return,
        };
        let id = channel.id();
        let (read, write) = channel.split();
        drop(read);
        let inbox = Inbox::facing_target(self.pressure.clone());
        if tell.try_send(Incoming { arriving, reply, far: Far { inbox: inbox.clone(), write } }).is_ok() {
            self.opened.retain(|_, inbox| inbox.ended().is_none());
            self.opened.insert(id, inbox);
        }
    }
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

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        self.inbox(id).push_data(data);
        Ok(())
    }

    async fn extended_data(&mut self, id: ChannelId, kind: u32, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        if kind == 1 {
            self.inbox(id).push(Item::Stderr(BytesMut::from(data)));
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.inbox(id).push(Item::Eof);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.inbox(id).finish(End::Closed);
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

    // What else a target opens towards us is refused: by dropping the handle, where russh's default accepts.

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
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.arrives(channel, Arriving::Agent, reply);
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
        channel: Channel<Msg>,
        _: &str,
        _: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let originator = originator.chars().take(64).collect();
        self.arrives(channel, Arriving::Connection { originator, originator_port }, reply);
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
        self.opened.values().chain([&self.inbox]).for_each(|inbox| inbox.finish(End::Lost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::target::PrincipalStyle;

    fn target(host: &str, family: Option<&str>) -> Target {
        Target {
            id: "web-1".parse().unwrap(),
            host: host.into(),
            port: 22,
            aliases: [].into(),
            labels: [].into(),
            logins: vec![],
            host_keys: vec![],
            host_cas: vec![],
            principal: PrincipalStyle::LoginAtTarget,
            entry: Entry { family: family.map(|pattern| pattern.parse().unwrap()), ..Entry::default() },
        }
    }

    #[tokio::test]
    async fn only_what_an_operator_wrote_down_may_lead_home() {
        for host in ["127.0.0.1", "::1", "169.254.169.254", "localhost", "web-1.localhost"] {
            assert!(resolve(&target(host, None)).await.is_ok(), "{host} is written literally");
        }
        // `localhost` is a name that every machine resolves to itself, as a rebound name would.
        for host in ["localhost", "LOCALHOST"] {
            let refused = resolve(&target(host, Some("*host"))).await;
            assert!(matches!(refused, Err(ConnectError::Forbidden { .. })), "{refused:?}");
        }
    }
}
