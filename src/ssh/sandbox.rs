//! The demo's target: a small SSH server on loopback that runs the local shell. Only for the demo.
//!
//! It trusts one user CA and nothing else; the certificate must name exactly LOGIN@TARGET, as an sshd
//! that `ca enroll` has set up demands. Whoever is let in acts as the person who started the demo,
//! whatever login they ask for: never bind it to anything but loopback.
//! A channel has one task; no callback waits for a process. Input beyond the window queues up to what
//! the window has granted, then the client is slowed.

mod certificate;
mod process;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::keys::{Algorithm, Certificate, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelWriteHalf, MethodKind, MethodSet, Sig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::certificate::Allowed;
use self::process::{Job, Process, Program, Terminal};
use crate::id::TargetId;
use crate::time::Timestamp;

const WINDOW: u32 = 1 << 20;
/// Above this a sender that trickles is answered late, so that it does not spin.
const NEARLY_FULL: usize = WINDOW as usize - 64 * 1024;
/// How long a terminal whose process has ended may still say something.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How long a process may go on after the hang-up.
const HUNG_UP: Duration = Duration::from_secs(2);

/// A running sandbox; dropping it stops it without waiting.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    host_key: String,
    shown: watch::Receiver<Option<Certificate>>,
    accepting: JoinHandle<()>,
}

impl Sandbox {
    /// Starts one on a free port of 127.0.0.1 with a host key of its own; it is `target` and trusts the
    /// user CA in `ca`, one line as in a `.pub` file.
    pub async fn start(ca: &str, target: TargetId) -> std::io::Result<Self> {
        let ca = PublicKey::from_openssh(ca).map_err(std::io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(std::io::Error::other)?;
        let host_key = key.public_key().to_openssh().map_err(std::io::Error::other)?;
        let (shows, shown) = watch::channel(None);
        let trust = Arc::new(Trust { ca, target, shows });
        let accepting = tokio::spawn(accept(listener, Arc::new(config(key)), trust));
        Ok(Self { address, host_key, shown, accepting })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the bastion's `targets.toml` pins.
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// The last certificate that let somebody in, as `ssh-keygen -L` reads it; the tour shows it.
    pub fn last_certificate(&self) -> Option<String> {
        self.shown.borrow().as_ref().and_then(|certificate| certificate.to_openssh().ok())
    }

    /// Stops accepting, ends every session and what runs in it.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // The abort is its only way to end.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Trust {
    ca: PublicKey,
    target: TargetId,
    shows: watch::Sender<Option<Certificate>>,
}

fn config(key: PrivateKey) -> russh::server::Config {
    russh::server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-countersign-sandbox".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        keys: vec![key],
        auth_rejection_time: Duration::from_millis(50),
        auth_rejection_time_initial: Some(Duration::ZERO),
        window_size: WINDOW,
        inactivity_timeout: None,
        nodelay: true,
        preferred: russh::Preferred { compression: vec![russh::compression::NONE].into(), ..Default::default() },
        ..Default::default()
    }
}

async fn accept(listener: TcpListener, config: Arc<russh::server::Config>, trust: Arc<Trust>) {
    // Dropped with this task: no connection outlives the sandbox.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer.ip(), config.clone(), trust.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the sandbox cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, source: IpAddr, config: Arc<russh::server::Config>, trust: Arc<Trust>) {
    // Without it an echoed key waits for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let guest = Guest { trust, source, allowed: None, channels: HashMap::new() };
    match russh::server::run_stream(config, stream, guest).await {
        Ok(session) => {
            if let Err(error) = session.await {
                tracing::debug!(%error, "a sandbox connection ended");
            }
        }
        Err(error) => tracing::debug!(%error, "a sandbox connection did not begin"),
    }
}

/// One connection: what its certificate allows, and its channels.
struct Guest {
    trust: Arc<Trust>,
    source: IpAddr,
    allowed: Option<Allowed>,
    channels: HashMap<ChannelId, Door>,
}

/// The callbacks' side of a channel. Dropped when the channel or the connection ends: its task sees
/// `control` end and hangs up.
#[derive(Default)]
struct Door {
    /// Until something was started on it.
    write: Option<ChannelWriteHalf<Msg>>,
    env: BTreeMap<String, String>,
    terminal: Option<Terminal>,
    /// Bounded by the window (see `adjust_window`); ends with the client's EOF.
    input: Option<mpsc::UnboundedSender<Bytes>>,
    queued: Arc<AtomicUsize>,
    control: Option<mpsc::Sender<Control>>,
}

enum Control {
    Resize { cols: u16, rows: u16 },
    Signal(Sig),
}

impl Guest {
    /// Answers the request at once and starts the process in the channel's own task.
    fn start(&mut self, id: ChannelId, asked: Program, session: &mut Session) -> Result<(), russh::Error> {
        let forced = self.allowed.as_ref().and_then(|allowed| allowed.forced.clone());
        let Some(door) = self.channels.get_mut(&id) else { return session.channel_failure(id) };
        let Some(write) = door.write.take() else { return session.channel_failure(id) };
        let program = match (forced, asked) {
            (None, asked) => asked,
            (Some(forced), Program::Command { line, .. }) => Program::Command { line: forced.into_bytes(), instead_of: Some(line) },
            (Some(forced), Program::Shell | Program::Sftp(_)) => Program::Command { line: forced.into_bytes(), instead_of: None },
        };
        let job = Job { env: std::mem::take(&mut door.env), terminal: door.terminal.clone(), program };
        let (input, input_queue) = mpsc::unbounded_channel();
        let (control, controls) = mpsc::channel(16);
        door.input = Some(input);
        door.control = Some(control);
        let handle = session.handle();
        session.channel_success(id)?;
        tokio::spawn(run(job, write, handle, Input { queue: input_queue, queued: door.queued.clone() }, controls));
        Ok(())
    }

    fn control(&self, id: ChannelId, control: Control) {
        if let Some(door) = self.channels.get(&id).and_then(|door| door.control.as_ref()) {
            // Sixteen unread ones: the process is beyond caring for the seventeenth.
            let _ = door.try_send(control);
        }
    }
}

impl russh::server::Handler for Guest {
    type Error = russh::Error;

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        let Trust { ca, target, shows } = &*self.trust;
        match certificate::check(certificate, ca, target, user, self.source, Timestamp::now()) {
            Ok(allowed) => {
                self.allowed = Some(allowed);
                shows.send_replace(Some(certificate.clone()));
                Ok(Auth::Accept)
            }
            Err(why) => {
                tracing::info!(user, %why, "the sandbox refuses a certificate");
                Ok(Auth::reject())
            }
        }
    }

    async fn channel_open_session(&mut self, channel: Channel<Msg>, reply: ChannelOpenHandle, _: &mut Session) -> Result<(), Self::Error> {
        let (read, write) = channel.split();
        // The event loop would wait for a reader of this half; `data` below takes its place.
        drop(read);
        self.channels.insert(write.id(), Door { write: Some(write), ..Door::default() });
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let allowed = self.allowed.as_ref().is_some_and(|allowed| allowed.pty);
        match self.channels.get_mut(&id).filter(|door| allowed && door.write.is_some()) {
            Some(door) => {
                door.terminal = Some(Terminal { term: term.to_owned(), cols: clamp(cols), rows: clamp(rows) });
                session.channel_success(id)
            }
            None => session.channel_failure(id),
        }
    }

    async fn env_request(&mut self, id: ChannelId, name: &str, value: &str, session: &mut Session) -> Result<(), Self::Error> {
        let accepted = matches!(name, "LANG" | "COLORTERM" | "GIT_PROTOCOL") || name.starts_with("LC_");
        match self.channels.get_mut(&id).filter(|door| accepted && door.env.len() < 64 && !value.contains('\0')) {
            Some(door) => {
                door.env.insert(name.to_owned(), value.to_owned());
                session.channel_success(id)
            }
            None => session.channel_failure(id),
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Program::Shell, session)
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Program::Command { line: line.to_vec(), instead_of: None }, session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        match process::sftp_server().filter(|_| name == "sftp") {
            Some(server) => self.start(id, Program::Sftp(server), session),
            None => session.channel_failure(id),
        }
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        cols: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.control(id, Control::Resize { cols: clamp(cols), rows: clamp(rows) });
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        self.control(id, Control::Signal(signal));
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        let Some(door) = self.channels.get(&id) else { return Ok(()) };
        let Some(input) = &door.input else { return Ok(()) };
        let queued = door.queued.fetch_add(data.len(), Ordering::Relaxed);
        // The queue's task has ended: what is typed at an ended process goes nowhere.
        let _ = input.send(Bytes::copy_from_slice(data));
        if queued > NEARLY_FULL && data.len() < 2048 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(door) = self.channels.get_mut(&id) {
            door.input = None;
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    /// A process that does not read slows its own client: the next window is what is left of the queue.
    fn adjust_window(&mut self, id: ChannelId, _: u32) -> u32 {
        let queued = self.channels.get(&id).map_or(0, |door| door.queued.load(Ordering::Relaxed));
        // At 0 russh would keep the old value, at 1 never grant again.
        WINDOW.saturating_sub(u32::try_from(queued).unwrap_or(WINDOW)).max(2)
    }
}

/// A terminal's side, as the kernel counts it.
fn clamp(size: u32) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}

/// What the client types, and how much of it waits.
struct Input {
    queue: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
}

/// One channel from start to end; hangs up on the process when the client goes first.
async fn run(job: Job, write: ChannelWriteHalf<Msg>, handle: russh::server::Handle, input: Input, mut controls: mpsc::Receiver<Control>) {
    let in_terminal = job.terminal.is_some();
    let mut process = match Process::start(job) {
        Ok(process) => process,
        Err(error) => {
            let text = format!("sandbox: cannot start that: {error}\r\n");
            let _ = write.extended_data_bytes(1, text.into_bytes()).await;
            let _ = write.exit_status(126).await;
            let _ = write.close().await;
            return;
        }
    };
    let typing = process.input.take().map(|to| tokio::spawn(feed(input, to, in_terminal)));
    let (output, error) = (process.output.take(), process.error.take());
    let (tell, gone) = watch::channel(false);
    let ended = {
        let gone = in_terminal.then_some(gone);
        let speaking = async { tokio::join!(pass(output, &write, None, gone.clone()), pass(error, &write, Some(1), gone)) };
        tokio::pin!(speaking);
        let (mut silent, mut status) = (false, None);
        loop {
            tokio::select! {
                ended = process.wait(), if status.is_none() => match ended {
                    Ok(ended) => {
                        status = Some(ended);
                        tell.send_replace(true);
                    }
                    Err(_) => break None,
                },
                _ = &mut speaking, if !silent => silent = true,
                control = controls.recv() => match control {
                    Some(Control::Resize { cols, rows }) => process.resize(cols, rows),
                    Some(Control::Signal(sig)) => {
                        if let Some(signal) = process::local_signal(&sig) {
                            process.signal(signal);
                        }
                    }
                    None => break None,
                },
            }
            if silent && status.is_some() {
                break status;
            }
        }
    };
    if let Some(typing) = typing {
        typing.abort();
    }
    match ended {
        Some(status) => farewell(&write, &handle, status).await,
        None => {
            process.signal(rustix::process::Signal::HUP);
            // Then it is killed, with its leader's end; a moment for those who save something first.
            let _ = tokio::time::timeout(HUNG_UP, process.wait()).await;
        }
    }
    // A failed send means that the client closed first.
    let _ = write.close().await;
}

/// The status before EOF: a client that sees EOF first may close, and lose it.
async fn farewell(write: &ChannelWriteHalf<Msg>, handle: &russh::server::Handle, status: std::process::ExitStatus) {
    match process::ended_by(status) {
        Some((sig, core)) => {
            let _ = handle.exit_signal_request(write.id(), sig, core, String::new(), String::new()).await;
        }
        None => {
            let code = status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(255);
            let _ = write.exit_status(code).await;
        }
    }
    let _ = write.eof().await;
}

async fn feed(mut input: Input, mut to: Box<dyn AsyncWrite + Send + Unpin>, in_terminal: bool) {
    while let Some(bytes) = input.queue.recv().await {
        let written = to.write_all(&bytes).await;
        input.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
        if written.is_err() {
            // It closed its input; the rest is taken from the queue and dropped, or the client stalls.
            while let Some(bytes) = input.queue.recv().await {
                input.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            return;
        }
    }
    if in_terminal {
        // A terminal has no end of input but ^D at the start of a line; like sshd, none is made up.
        std::future::pending::<()>().await;
    }
}

/// Passes a stream on until it ends. A terminal that `gone` says nobody leads any more may be held open
/// by a child left behind: it is listened to until it falls silent.
async fn pass(
    from: Option<Box<dyn AsyncRead + Send + Unpin>>,
    write: &ChannelWriteHalf<Msg>,
    ext: Option<u32>,
    mut gone: Option<watch::Receiver<bool>>,
) {
    let Some(mut from) = from else { return };
    loop {
        let mut buffer = bytes::BytesMut::with_capacity(32 * 1024);
        let read = tokio::select! {
            biased;
            read = from.read_buf(&mut buffer) => read,
            () = last_words(&mut gone) => return,
        };
        // A terminal ends with EIO once the last process has left it.
        if matches!(read, Ok(0) | Err(_)) {
            return;
        }
        let sent = match ext {
            None => write.data_bytes(buffer.freeze()).await,
            Some(code) => write.extended_data_bytes(code, buffer.freeze()).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn last_words(gone: &mut Option<watch::Receiver<bool>>) {
    let Some(gone) = gone else { return std::future::pending().await };
    // An error means that its channel's task is being dropped, and this with it.
    let _ = gone.wait_for(|gone| *gone).await;
    tokio::time::sleep(LAST_WORDS).await;
}

#[cfg(test)]
mod tests;
