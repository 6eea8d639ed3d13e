//! What faces a client: authentication and channels, for the outer connection and for the inner one of
//! a jump. russh calls these functions inside the connection's event loop, so none of them waits: they
//! check, answer at once and push into the channel's [`Inbox`]; tasks of their own do the rest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use russh::keys::ssh_key::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Sig};
use tokio::sync::watch;
use tokio::time::Instant;

use super::channel::{ClientChannel, Slots, Towards};
use super::connection::{Connection, OPENING};
use super::crowd::Seat;
use super::door::Stage;
use super::factor::{self, Asked};
use super::flow::{Allowance, End, Inbox, Item, Pressure, Pty, Size, Start, Windows};
use super::forward::{self, remote};
use super::{Bastion, gate, jump, login, session};
use crate::access::{Endpoint, Principal, SecondFactor, Target, VerifiedKey};
use crate::id::Person;
use crate::time::Timestamp;

/// Where the channels of a connection go.
#[derive(Debug, Clone)]
pub enum Role {
    /// The SSH user name says (**D names**).
    Outer,
    /// The inner server of a jump: to this target, for this person and nobody else. A second factor that
    /// they gave on the connection that carries it counts here too: both are one person's.
    Inner { target: Arc<Target>, person: Person, second_factor: Option<SecondFactor> },
}

/// One connection from a client.
pub struct Front {
    bastion: Arc<Bastion>,
    role: Role,
    source: SocketAddr,
    pressure: Arc<Pressure>,
    /// Told to the door: how long this may take, and how it ended.
    stage: watch::Sender<Stage>,
    /// The first factor is done, the second asked for.
    asked: Option<Asked>,
    /// User name and principal; bound together at the verified signature, never before.
    login: Option<(String, Principal)>,
    /// One of the person's connections; the inner one of a jump is on one already.
    seat: Option<Seat>,
    channels: HashMap<ChannelId, Arc<Inbox>>,
    /// Where the target was asked to listen; each ends with its queue.
    listeners: HashMap<(String, u32), Arc<Inbox>>,
    windows: Windows,
    slots: Slots,
    opens: Allowance,
    connection: Connection,
}

const NO_SOCKETS: &str = "sockets are not forwarded; name a host and a port";

/// Channels that a connection may open at once, and then each second: no tool opens more, and each costs
/// a task, a certificate or a row of the log.
const OPENS: (u32, u32) = (256, 50);

impl Front {
    pub fn new(bastion: Arc<Bastion>, role: Role, source: SocketAddr, pressure: Arc<Pressure>, stage: watch::Sender<Stage>) -> Self {
        let slots = Slots::new(bastion.directory().config.limits.held_per_connection);
        let opens = Allowance::new(OPENS.0, OPENS.1, Instant::now());
        let connection = Connection::new(pressure.clone());
        let (channels, listeners, windows) = (HashMap::new(), HashMap::new(), Windows::default());
        let (asked, login, seat) = (None, None, None);
        Self { bastion, role, source, pressure, stage, asked, login, seat, channels, listeners, windows, slots, opens, connection }
    }

    /// A factor was refused: how a connection ended depends on it.
    fn refused(&self) -> Auth {
        self.stage.send_if_modified(|stage| {
            *stage == Stage::Silent && {
                *stage = Stage::Refused;
                true
            }
        });
        Auth::reject()
    }

    fn inbox(&self, id: ChannelId) -> Option<&Arc<Inbox>> {
        self.channels.get(&id)
    }

    fn push(&self, id: ChannelId, item: Item) {
        if let Some(inbox) = self.inbox(id) {
            inbox.push(item);
        }
    }

    /// A channel more for this connection, or none beyond the cap. It counts what is open, and what has a
    /// task although the client has closed it.
    fn open(&mut self, id: ChannelId) -> Option<Arc<Inbox>> {
        self.forget_ended();
        let taken = self.slots.taken().max(self.channels.len());
        if taken >= self.bastion.directory().config.limits.channels_per_connection || !self.opens.take(1, Instant::now()) {
            return None;
        }
        let inbox = Inbox::facing_client(self.pressure.clone());
        self.channels.insert(id, inbox.clone());
        self.windows.open(id.number(), inbox.clone());
        Some(inbox)
    }

    fn towards(&self, session: &Session) -> Towards {
        Towards { handle: session.handle(), slots: self.slots.clone(), connection: self.connection.clone() }
    }

    /// Refuses what is no channel of its own, aloud and in the log.
    fn refuse(&self, what: String, why: &str) {
        self.connection.voice.say(format!("refused: {}: {why}", crate::console::visible(&what)));
        if let Some((_, principal)) = &self.login {
            self.bastion.report_refusal(principal.clone(), what, why);
        }
    }

    /// Begins to listen, or says why not: what policy denies whatever comes is denied here.
    fn listen(&mut self, address: &str, port: u32, session: &Session) -> Result<(), String> {
        let on = Endpoint::listener(address, port).map_err(|error| error.to_string())?;
        let (user, who) = self.principal().ok_or("you are not known here any more")?;
        let through = forward::through(&self.bastion, &who, &user, &self.role);
        let (target, login) = through.ok_or("a connection to the console forwards nothing: name a target")?;
        self.forget_ended();
        let key = (address.to_owned(), port);
        if self.listeners.contains_key(&key) || self.listeners.len() >= remote::MOST || !self.opens.take(1, Instant::now()) {
            return Err(format!("there are {} listeners on this connection", self.listeners.len()));
        }
        if !remote::may_ever(&self.bastion, &who, (&target, &login), &on) {
            return Err("nothing permits it to you there".into());
        }
        let inbox = Inbox::facing_client(self.pressure.clone());
        self.listeners.insert(key, inbox.clone());
        let client = ClientChannel::of_none(inbox, self.towards(session), format!("listening on {on}: "));
        let asked = remote::Asked { address: address.to_owned(), port, on };
        tokio::spawn(remote::listen(self.bastion.clone(), who, (target, login), asked, client));
        Ok(())
    }

    /// What has ended weighs no longer.
    fn forget_ended(&mut self) {
        self.channels.retain(|_, inbox| inbox.ended().is_none());
        self.listeners.retain(|_, inbox| inbox.ended().is_none());
    }

    /// The principal as the directory has them now: a key, a CA or a group may be gone since the login, and
    /// a certificate over.
    fn principal(&self) -> Option<(String, Principal)> {
        let (user, principal) = self.login.as_ref()?;
        let directory = self.bastion.directory();
        match principal.again(&directory.people, Timestamp::now()) {
            Ok(now) => Some((user.clone(), now)),
            Err(why) => {
                tracing::info!(person = %principal.person(), source = %self.source, %why, "not known any more");
                None
            }
        }
    }

    /// From a key or a certificate that has signed to a login, or to the question for the second factor.
    fn admit(&mut self, user: &str, key: VerifiedKey) -> Auth {
        self.asked = None;
        let now = Timestamp::now();
        let directory = self.bastion.directory();
        let principal = match Principal::identify(&directory.people, key, self.source.ip(), now) {
            Ok(principal) => principal,
            Err(why) => {
                tracing::info!(user = ?brief(user), source = %self.source, %why, "not logged in");
                return self.refused();
            }
        };
        let principal = match &self.role {
            Role::Outer => principal,
            Role::Inner { person, .. } if principal.person() != person => {
                let wanted = format!("{user:.128} through {person}'s jump");
                self.bastion.report_refusal(principal, wanted, "the inner person is another");
                return self.refused();
            }
            Role::Inner { second_factor: None, .. } => principal,
            Role::Inner { second_factor: Some(given), .. } => match principal.with_second_factor(given.clone()) {
                Some(principal) => principal,
                None => return self.refused(),
            },
        };
        if factor::is_needed(&directory, &principal, user, &self.role, now) {
            self.stage.send_replace(Stage::SecondFactor);
            self.asked = Some(Asked::of(user, principal));
            return factor::first_is_done();
        }
        self.log_in(user, principal)
    }

    fn log_in(&mut self, user: &str, principal: Principal) -> Auth {
        let certificate = principal.key().certificate().map(|certificate| brief(certificate.key_id()));
        let second_factor = principal.second_factor().is_some();
        let (person, key) = (principal.person(), principal.fingerprint());
        tracing::info!(%person, source = %self.source, key, certificate, second_factor, "logged in");
        self.login = Some((user.to_owned(), principal));
        Auth::Accept
    }

    /// What was proven for one user name is worth nothing for another (RFC 4252 section 5; CVE-2026-46705).
    fn forget_unless(&mut self, user: &str) {
        self.asked = self.asked.take().filter(|asked| asked.is_for(user));
    }

    /// Answers a channel request now: russh keeps one reply flag a channel, and OpenSSH pipelines.
    fn answer(&self, id: ChannelId, good: bool, session: &mut Session) -> Result<(), russh::Error> {
        if good { session.channel_success(id) } else { session.channel_failure(id) }
    }
}

/// What a person reads who has connections enough.
fn crowded(most: usize) -> String {
    let what = if most == 1 { "a connection here, the only one".to_owned() } else { format!("{most} connections here, as many as") };
    format!("countersign: you have {what} a person may have; close one you do not need (ssh -O exit HOST), and try again")
}

/// As much of what a stranger wrote as a log needs; it is printed escaped.
fn brief(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Drop for Front {
    fn drop(&mut self) {
        for inbox in self.channels.values().chain(self.listeners.values()) {
            inbox.finish(End::Lost);
        }
    }
}

impl Handler for Front {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, russh::Error> {
        self.forget_unless(user);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, user: &str, _: &str) -> Result<Auth, russh::Error> {
        self.forget_unless(user);
        Ok(self.refused())
    }

    /// An offer proves nothing: it only spares the client a signature that cannot succeed. russh says the
    /// key and not whether it came in a certificate: where a CA is trusted, any key may have.
    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        self.forget_unless(user);
        let directory = self.bastion.directory();
        let people = &directory.people;
        let may_be_known = !people.user_cas().is_empty() || people.by_key(offer.public_key).is_some();
        let worth_signing = login::is_acceptable(offer.algorithm) && may_be_known;
        Ok(if worth_signing { Auth::Accept } else { self.refused() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(match login::verified(&key) {
            Some(key) => self.admit(user, key),
            None => self.refused(),
        })
    }

    /// The subject key has signed, with an algorithm that [`login::is_acceptable`] has seen in the offer.
    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, russh::Error> {
        Ok(self.admit(user, login::certified(certificate)))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        self.forget_unless(user);
        let Some(asked) = self.asked.as_mut() else { return Ok(self.refused()) };
        let Some(response) = response else { return Ok(asked.question()) };
        match asked.answered(&self.bastion, response, Timestamp::now()).await {
            Some(principal) => {
                self.asked = None;
                Ok(self.log_in(user, principal))
            }
            None => Ok(self.refused()),
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        self.stage.send_replace(Stage::LoggedIn);
        if let (Role::Outer, Some((_, principal))) = (&self.role, &self.login) {
            let most = self.bastion.directory().config.limits.connections_per_person;
            match self.bastion.crowd.enter(principal.person(), most) {
                Ok(seat) => self.seat = Some(seat),
                Err(full) => {
                    if full.is_news {
                        self.bastion.report_refusal(principal.clone(), "one connection more".into(), "too many connections of one person");
                    }
                    // What a client prints of its own accord, whatever it came for.
                    return session.disconnect(Disconnect::TooManyConnections, &crowded(most), "");
                }
            }
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let id = channel.id();
        let (read, write) = channel.split();
        // R1: with the reading half gone the loop's own delivery fails at once and is ignored.
        drop(read);
        let Some((user, principal)) = self.principal() else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        let Some(inbox) = self.open(id) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        reply.accept().await;
        let client = ClientChannel::new(inbox, write, self.towards(session)).listening();
        tokio::spawn(session::run(self.bastion.clone(), principal, user, self.role.clone(), client));
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let id = channel.id();
        let (read, write) = channel.split();
        drop(read);
        let Some((user, principal)) = self.principal() else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        let Some(inbox) = self.open(id) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        if forward::is_to_target(&self.bastion, &principal, &user, &self.role) {
            let (host, originator) = (host.to_owned(), originator.chars().take(64).collect());
            let asked = forward::Asked { host, port, originator, originator_port };
            let client = ClientChannel::new(inbox, write, self.towards(session));
            tokio::spawn(forward::connect(self.bastion.clone(), principal, user, self.role.clone(), asked, client, reply));
            return Ok(());
        }
        let slot = self.slots.clone();
        let jump = jump::serve(self.bastion.clone(), principal, self.source, (host.to_owned(), port), inbox, write, reply);
        tokio::spawn(async move {
            jump.await;
            drop(slot);
        });
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        _refused: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse(format!("forward to the socket {path:.128}"), NO_SOCKETS);
        Ok(())
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, russh::Error> {
        self.refuse(format!("forward from the socket {path:.128}"), NO_SOCKETS);
        Ok(false)
    }

    /// Never; answered, since a request without an answer leaves the client's next answer to the wrong one.
    async fn x11_request(&mut self, id: ChannelId, _: bool, _: &str, _: &str, _: u32, session: &mut Session) -> Result<(), russh::Error> {
        self.refuse("X11 forwarding".into(), "it is never passed on");
        self.answer(id, false, session)
    }

    async fn agent_request(&mut self, id: ChannelId, _: &mut Session) -> Result<bool, russh::Error> {
        let permitted = self.login.as_ref().is_some_and(|(_, principal)| principal.key().permits_agent());
        if permitted {
            self.push(id, Item::Agent);
        }
        // A later no is told where somebody reads it.
        Ok(permitted)
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<bool, russh::Error> {
        if self.login.is_none() {
            return Ok(false);
        }
        match self.listen(address, *port, session) {
            Ok(()) => Ok(true),
            Err(why) => {
                self.refuse(format!("forward-remote {address:.128}:{port}"), &why);
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut Session) -> Result<bool, russh::Error> {
        let listener = self.listeners.remove(&(address.to_owned(), port));
        Ok(listener.inspect(|inbox| inbox.finish(End::Closed)).is_some())
    }

    /// A channel that we opened: what comes on it goes where the task that asked for it looks.
    async fn channel_open_confirmation(&mut self, id: ChannelId, _: u32, _: u32, _: &mut Session) -> Result<(), russh::Error> {
        // russh passes on a confirmation of any channel, also of one that the client itself opened: taken for an
        // answer to us, it would leave that one's task without a client.
        let unasked = self.connection.openings.turns.available_permits() == OPENING;
        if unasked || self.channels.contains_key(&id) {
            return Err(russh::Error::Inconsistent);
        }
        let inbox = self.connection.openings.meet(id);
        self.windows.open(id.number(), inbox.clone());
        self.channels.insert(id, inbox);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        pix_width: u32,
        pix_height: u32,
        modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let permitted = self.login.as_ref().is_some_and(|(_, principal)| principal.key().permits_terminal());
        let good = permitted && gate::is_term(term) && gate::is_size(cols, rows);
        if good {
            let size = Size { cols, rows, pix_width, pix_height };
            self.push(id, Item::Pty(Pty { term: term.to_owned(), size, modes: modes.to_vec() }));
        }
        self.answer(id, good, session)
    }

    async fn env_request(&mut self, id: ChannelId, name: &str, value: &str, session: &mut Session) -> Result<(), russh::Error> {
        let good = gate::env(name) != gate::Env::Refuse && value.len() <= gate::MAX_ENV_VALUE;
        if good {
            self.push(id, Item::Env { name: name.to_owned(), value: value.to_owned() });
        }
        self.answer(id, good, session)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.push(id, Item::Start(Start::Shell));
        self.answer(id, true, session)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        let good = command.len() <= gate::MAX_EXEC;
        if good {
            self.push(id, Item::Start(Start::Exec(command.to_vec())));
        }
        self.answer(id, good, session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), russh::Error> {
        let good = name.len() <= 64;
        if good {
            self.push(id, Item::Start(Start::Subsystem(name.to_owned())));
        }
        self.answer(id, good, session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        cols: u32,
        rows: u32,
        pix_width: u32,
        pix_height: u32,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if gate::is_size(cols, rows) {
            self.push(id, Item::Resize(Size { cols, rows, pix_width, pix_height }));
        }
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), russh::Error> {
        if gate::is_signal(&super::algorithms::signal_name(&signal)) {
            self.push(id, Item::Signal(signal));
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        self.windows.sent(id.number(), data.len(), self.pressure.reading());
        if let Some(inbox) = self.inbox(id) {
            inbox.push_data(data);
        }
        Ok(())
    }

    async fn extended_data(&mut self, id: ChannelId, kind: u32, data: &[u8], _: &mut Session) -> Result<(), russh::Error> {
        self.windows.sent(id.number(), data.len(), self.pressure.reading());
        // No client sends any; a target would not understand it. Counted, so that it is bounded.
        if kind == 1 {
            self.push(id, Item::Stderr(BytesMut::from(data)));
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.push(id, Item::Eof);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(inbox) = self.channels.remove(&id) {
            inbox.finish(End::Closed);
        }
        Ok(())
    }

    /// R2: the target is the whole connection's, and so is the answer.
    fn adjust_window(&mut self, id: ChannelId, _: u32) -> u32 {
        self.windows.granted(id.number(), self.pressure.reading())
    }
}
