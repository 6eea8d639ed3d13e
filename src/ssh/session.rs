//! The main path of a session, from the channel's opening to its sealed recording. Each step takes what
//! the step before it made; none can be left out.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::ask::{self, Asking};
use super::channel::{ClientChannel, Status};
use super::forward::agent;
use super::front::Role;
use super::hold::{self, Held};
use super::lease::{Lease, Standing};
use super::names::{self, Wanted};
use super::opening::Opening;
use super::relay::{self, Input, Relayed};
use super::upstream::{self, ConnectError, PtyGranted};
use super::{Alive, Bastion, room};
use crate::access::{Grant, Principal, Target};
use crate::approvals;
use crate::authority::{Needs, Ruled};
use crate::console::{Phase, with_causes};
use crate::id::{Digest, Login, RequestId, SessionId};
use crate::recording::{Header, RecordError, Recorder, Space, Tape};
use crate::time::{Timestamp, short};
use crate::transcript::{Event, Outcome};

/// Runs one session channel. The client has been told that its requests succeeded; whatever is refused
/// from here on is said on standard error, then an exit status, then the close.
pub async fn run(bastion: Arc<Bastion>, principal: Principal, user: String, role: Role, client: ClientChannel) {
    let _alive = bastion.live.enter();
    let Some(mut opening) = Opening::read(&client.inbox).await else { return client.close().await };
    client.has_terminal(opening.pty.is_some());
    client.connection().keep(&opening.reason, &opening.preset);
    let stop = match destination(&bastion, &principal, &user, &role).await {
        Ok(Destination::Console(card)) => return super::console::run(&bastion, &principal, &opening, card, client).await,
        Ok(Destination::Target(target, login)) => session(&bastion, &principal, target, login, &mut opening, &client).await.err(),
        Err(stop) => Some(stop),
    };
    if let Some(Stop { text, status }) = stop {
        if let Some(text) = text {
            client.say(&text).await;
        }
        client.exit_status(status as u32).await;
    }
    client.close().await;
}

/// Why there is no session: what the person reads, and the exit status.
pub struct Stop {
    pub text: Option<String>,
    pub status: Status,
}

impl Stop {
    pub fn new(text: impl Into<String>, status: Status) -> Self {
        Self { text: Some(text.into()), status }
    }
}

enum Destination {
    /// The console, and the card that it opens.
    Console(Option<RequestId>),
    Target(Arc<Target>, Login),
}

/// Finds where this channel goes. A target that is unknown and one that this person may not ask for are
/// told apart by nobody.
async fn destination(bastion: &Bastion, principal: &Principal, user: &str, role: &Role) -> Result<Destination, Stop> {
    let directory = bastion.directory();
    let person = principal.person();
    let console = ask::console(&directory, principal);
    let malformed = |what: String| Stop::new(format!("{what}. Write deploy=web-1@{}; {console}", directory.config.host), Status::Malformed);
    let (name, login, target) = match role {
        Role::Inner { target, .. } => {
            let login = user.parse::<Login>().map_err(|e| malformed(e.to_string()))?;
            // As the directory has it now; the jump may be older.
            let target = directory.targets.find(target.id.as_str());
            let name = target.as_ref().map_or_else(String::new, |target| target.id.to_string());
            (name, Some(login), target)
        }
        Role::Outer => match names::wanted(user, person).map_err(|e| malformed(e.to_string()))? {
            Wanted::Console => return Ok(Destination::Console(None)),
            Wanted::Card(id) => return Ok(Destination::Console(Some(id))),
            Wanted::Target { login, name } => {
                let target = directory.targets.find(&name);
                (name, login, target)
            }
        },
    };
    let wanted = login.as_ref().map_or(name.clone(), |login| format!("{login}@{name}"));
    let account = target.as_ref().and_then(|target| target.account(login.as_ref(), person));
    let found = target.zip(account).filter(|(target, _)| bastion.may_ask(principal, target, Timestamp::now()));
    let Some((target, login)) = found else {
        bastion.report_refusal(principal.clone(), wanted.clone(), "no such target for this person");
        return Err(ask::unknown(directory, principal, &wanted, &name, &console).await);
    };
    Ok(Destination::Target(target, login))
}

async fn session(
    bastion: &Bastion,
    principal: &Principal,
    target: Arc<Target>,
    login: Login,
    opening: &mut Opening,
    client: &ClientChannel,
) -> Result<(), Stop> {
    let want =
        opening.want().ok_or_else(|| Stop::new("refused: this subsystem is unknown here; shell, exec and sftp pass", Status::Refused))?;
    not_draining(bastion)?;
    let want = agent::with(bastion, principal, (&target, &login), opening, want, client).await;
    let mut asking = Asking { preset: opening.preset.clone(), ..Asking::new(bastion, principal, target, login, want) };
    let held = hold::until_approved(&mut asking, opening, client).await?;
    let Begun { grant, proof, recorder, lease, open: _open } = begin(bastion, asking, held, opening, client).await?;
    if opening.is_a_person() {
        client.say(&admitted(&grant)).await;
    }
    let relayed = established(bastion, &grant, proof.ruled(), &recorder.tape(), lease, opening, client).await;
    let goodbye = async {
        relay::tell(client, &relayed).await;
        client.close().await;
    };
    finish(bastion, &grant, recorder, relayed.outcome.clone(), goodbye).await;
    Ok(())
}

/// Refuses what is new while the bastion drains.
pub(super) fn not_draining(bastion: &Bastion) -> Result<(), Stop> {
    if matches!(&*bastion.phase.borrow(), Phase::Draining { .. }) { Err(hold::going()) } else { Ok(()) }
}

/// What is ruled, approved and recorded; nothing has been dialled.
pub(super) struct Begun {
    pub grant: Grant,
    pub proof: Proof,
    pub recorder: Recorder,
    pub lease: Lease,
    pub open: Alive,
}

/// What was ruled, kept for whoever rules again.
pub(super) struct Proof {
    policy: Digest,
    first_time: bool,
    evidence: Vec<u8>,
}

impl Proof {
    pub fn ruled(&self) -> Ruled<'_> {
        Ruled { policy: self.policy, first_time: self.first_time, evidence: &self.evidence }
    }
}

/// Uses the approval and begins the recording.
pub(super) async fn begin(
    bastion: &Bastion,
    asking: Asking<'_>,
    held: Held,
    opening: &Opening,
    client: &ClientChannel,
) -> Result<Begun, Stop> {
    let Held { basis, terms, by_text, context, policy } = held;
    let Asking { principal, target, login, want, changes, .. } = asking;
    let first_time = !context.opened.contains(&target.id);
    let standing = Standing { changes, context };

    let now = Timestamp::now();
    let opening_of = approvals::Opening {
        session: SessionId::new(now),
        principal,
        address: upstream::resolve(&target).await.map_err(unreachable)?,
        target,
        login,
        want,
        terms,
        by_text,
        basis,
        policy,
    };
    if client.inbox.ended().is_some() {
        return Err(Stop { text: None, status: Status::Undecided });
    }
    let (grant, evidence) = bastion.approvals.open(opening_of, now).await.map_err(ask::not_opened)?;
    let space = match room::space(bastion, &grant).await {
        Ok(space) => space,
        Err(stop) => {
            bastion.session_ended(&grant, &Outcome::RecordingFailed { why: "the state cannot be written".into() }).await;
            return Err(stop);
        }
    };
    let open = bastion.open.enter();
    let recorder = match bastion.recordings.begin_in(space, header(&grant, opening)).await {
        Ok(recorder) => recorder,
        Err(RecordError::DiskFloor { free, floor, .. }) => {
            tracing::error!(session = %grant.session, free, floor, "no room, no session");
            bastion.session_ended(&grant, &Outcome::RecordingFailed { why: "the disk is below its floor".into() }).await;
            return Err(room::refused(&bastion.directory(), &grant.principal, &grant.target, Space { free, floor }));
        }
        Err(error) => {
            tracing::error!(session = %grant.session, %error, "no recording, no session");
            bastion.session_ended(&grant, &Outcome::RecordingFailed { why: error.to_string() }).await;
            return Err(Stop::new(
                "this session cannot be recorded, so it is not opened; an operator finds why in the log",
                Status::RecordingFailed,
            ));
        }
    };
    let lease = Lease::of(&grant, bastion, standing);
    let proof = Proof { policy, first_time, evidence };
    Ok(Begun { grant, proof, recorder, lease, open })
}

/// From the dialled connection to the end of what runs on it.
async fn established(
    bastion: &Bastion,
    grant: &Grant,
    ruled: Ruled<'_>,
    tape: &Tape,
    mut lease: Lease,
    opening: &Opening,
    client: &ClientChannel,
) -> Relayed {
    let connected = tokio::select! {
        connected = connect(bastion, grant, ruled, tape, opening, client) => connected,
        // Nobody is there any more: what they wanted does not start.
        _ = client.inbox.gone() => return relay::left(client),
        outcome = lease.over() => return relay::over(outcome, &lease),
    };
    match connected {
        Ok(mut upstream) => {
            let input = if grant.exact && !grant.stdin { Input::Closed } else { Input::Open };
            let mut arrivals = upstream.arrivals();
            let relayed = tokio::select! {
                relayed = relay::run(client, &upstream, tape, lease, opening.pty.is_some(), input) => relayed,
                // Never done by itself.
                () = agent::serve(&mut arrivals, tape, client) => Relayed::of(Outcome::Closed),
            };
            upstream.close().await;
            relayed
        }
        Err(stopped) => *stopped,
    }
}

async fn connect(
    bastion: &Bastion,
    grant: &Grant,
    ruled: Ruled<'_>,
    tape: &Tape,
    opening: &Opening,
    client: &ClientChannel,
) -> Result<upstream::Upstream, Box<Relayed>> {
    let refused = |error: ConnectError| {
        let why = with_causes(&error);
        tracing::warn!(session = %grant.session, target = %grant.target.id, why, "target not reached");
        Box::new(Relayed::stopped(Outcome::TargetRefused { why: why.clone() }, why, Status::Unreachable))
    };
    if grant.exact && opening.pty.is_some() {
        let text = format!("{} is for an exact command, which gets no terminal; run it without -t", grant.target.id);
        return Err(Box::new(Relayed::stopped(Outcome::TargetRefused { why: text.clone() }, text, Status::Refused)));
    }
    let stream = upstream::dial(&grant.target, grant.address).await.map_err(refused)?;
    let source = source(bastion, &stream);
    let needs = Needs { pty: opening.pty.is_some() };
    let certificate = bastion.authority.issue(grant, ruled, source, needs, Timestamp::now()).await.map_err(|error| {
        let why = with_causes(&error);
        tracing::error!(session = %grant.session, error = why, "no certificate");
        bastion.report_unsigned(grant, &why);
        let why = format!("no certificate: {why}");
        Box::new(Relayed::stopped(Outcome::TargetRefused { why: why.clone() }, why, Status::Refused))
    })?;
    let upstream = upstream::connect(stream, certificate).await.map_err(refused)?;
    record_opening(tape, opening).await.map_err(|error| Box::new(Relayed::unrecorded(&error)))?;
    match upstream.start(opening, grant.want.has_agent()).await {
        Ok(PtyGranted::Yes) => {}
        Ok(PtyGranted::No) => client.say(&format!("{} gives no terminal", grant.target.id)).await,
        Err(error) => {
            upstream.close().await;
            return Err(refused(error));
        }
    }
    Ok(upstream)
}

/// The address that the target sees, to which the certificate is bound.
pub(super) fn source(bastion: &Bastion, stream: &TcpStream) -> IpAddr {
    let local = || stream.local_addr().map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip());
    bastion.directory().config.egress.unwrap_or_else(local)
}

/// What is passed on to the target before the first byte is recorded like everything else (FC2).
async fn record_opening(tape: &Tape, opening: &Opening) -> Result<(), RecordError> {
    let env = opening.env.iter().map(|(name, value)| Event::Environment { name: name.clone(), value: value.clone() });
    let events: Vec<Event> = env.collect();
    if events.is_empty() { Ok(()) } else { tape.record(events).await }
}

/// The client's end and the record's, then the seal.
pub(super) async fn finish(bastion: &Bastion, grant: &Grant, recorder: Recorder, outcome: Outcome, goodbye: impl Future<Output = ()>) {
    // Side by side: a client that does not read keeps no end record waiting (FC7).
    let ((), ended) = tokio::join!(goodbye, recorder.end(outcome.clone()));
    bastion.session_ended(grant, &outcome).await;
    match ended {
        Ok(ended) => bastion.seal(grant.session, ended).await,
        Err(error) => tracing::error!(session = %grant.session, %error, "the end was not recorded; recovery will seal what is there"),
    }
}

fn header(grant: &Grant, opening: &Opening) -> Header {
    Header {
        session: grant.session,
        request: grant.request,
        person: grant.principal.person().clone(),
        target: grant.target.id.clone(),
        login: grant.login.clone(),
        kind: grant.want.kind().into(),
        command: grant.want.command_bytes().map(<[u8]>::to_vec),
        terminal: opening.pty.as_ref().map(|pty| (pty.size.cols, pty.size.rows, pty.term.clone())),
        started: grant.opened_at,
        record: grant.record,
        retention: grant.retention.clone(),
        serial: grant.serial,
    }
}

fn admitted(grant: &Grant) -> String {
    let names: Vec<String> = grant.approvers.iter().map(ToString::to_string).collect();
    match grant.request {
        Some(_) if grant.break_glass => format!(
            "opened by break-glass for {}; session {} is recorded in full, and somebody else reviews it",
            short(grant.granted_for),
            grant.session
        ),
        Some(_) => format!("approved by {} for {}; session {} is recorded", names.join(", "), short(grant.granted_for), grant.session),
        None => format!("session {} is recorded", grant.session),
    }
}

fn unreachable(error: ConnectError) -> Stop {
    Stop::new(with_causes(&error), Status::Unreachable)
}
