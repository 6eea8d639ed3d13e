//! Forwards: `ssh -L` and `-D` (here), `-R` (`remote`), `-A` (`agent`).
//!
//! A forward is ruled, held, approved, recorded and ended like a session, and is a session's row of its
//! own, on an upstream connection of its own whose certificate permits nothing else. None leads to a
//! target that is enrolled, nor to anything that speaks SSH: there people go in by the front, recorded.
//! To open a channel may take as long as somebody needs to decide; a refusal has no words in the protocol,
//! so they are said on a terminal of the same connection, and logged.

pub mod agent;
mod greeting;
mod ledger;
mod relay;
pub mod remote;
mod sniff;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::ChannelOpenFailure;
use russh::server::ChannelOpenHandle;
use tokio::time::{Instant, timeout};

use self::ledger::Ledger;
use self::relay::{Ended, Passed};
use super::Bastion;
use super::ask::Asking;
use super::channel::{ClientChannel, Status};
use super::connection::Given;
use super::flow::{End, Item};
use super::front::Role;
use super::hold;
use super::names::{self, Wanted};
use super::opening::Opening;
use super::session::{self, Begun, Stop};
use super::upstream::{self, ConnectError, LoggedIn};
use crate::access::{Endpoint, Grant, Principal, Target, Want};
use crate::authority::{Needs, Ruled};
use crate::console::with_causes;
use crate::id::Login;
use crate::recording::Tape;
use crate::time::Timestamp;
use crate::transcript::{Event, Outcome};

/// A wait that is longer than this is answered aloud.
const SILENT: Duration = Duration::from_secs(2);
/// How long a client that wanted SSH has to read why it gets none.
const GREET: Duration = Duration::from_secs(5);

/// What a client asks to be connected to (RFC 4254 7.2).
#[derive(Debug)]
pub struct Asked {
    pub host: String,
    pub port: u32,
    pub originator: String,
    pub originator_port: u32,
}

/// Whom a forward of this connection goes through: the target of a jump, or the one that the user name
/// names; `None` on a connection to the console, and for what this person may not ask for.
pub fn through(bastion: &Bastion, who: &Principal, user: &str, role: &Role) -> Option<(Arc<Target>, Login)> {
    let directory = bastion.directory();
    let (name, login) = match role {
        Role::Inner { target, .. } => (target.id.to_string(), Some(user.parse::<Login>().ok()?)),
        Role::Outer => match names::wanted(user, who.person()).ok()? {
            Wanted::Console | Wanted::Card(_) => return None,
            Wanted::Target { login, name } => (name, login),
        },
    };
    let target = directory.targets.find(&name)?;
    let login = target.account(login.as_ref(), who.person())?;
    let permitted = who.key().permits_forwards() && bastion.may_ask(who, &target, Timestamp::now());
    permitted.then_some((target, login))
}

/// Whether this connection is to a target, as far as its user name says.
pub fn is_to_target(bastion: &Bastion, who: &Principal, user: &str, role: &Role) -> bool {
    match role {
        Role::Inner { .. } => true,
        Role::Outer => match names::wanted(user, who.person()) {
            // Only what is theirs: else two answers would tell what exists.
            Ok(Wanted::Target { name, .. }) => {
                bastion.directory().targets.find(&name).is_some_and(|target| bastion.may_ask(who, &target, Timestamp::now()))
            }
            Ok(Wanted::Console | Wanted::Card(_)) | Err(_) => false,
        },
    }
}

/// Connects one channel of `ssh -L` or `-D`, or refuses it.
pub async fn connect(
    bastion: Arc<Bastion>,
    who: Principal,
    user: String,
    role: Role,
    asked: Asked,
    mut client: ClientChannel,
    reply: ChannelOpenHandle,
) {
    let _alive = bastion.live.enter();
    let to = match Endpoint::destination(&asked.host, asked.port) {
        Ok(to) => to,
        Err(error) => {
            client.connection().voice.say(format!("refused: {error}"));
            bastion.report_refusal(who, format!("forward-local {:.128}:{}", asked.host, asked.port), "no place to forward to");
            return refuse(&client, reply, ChannelOpenFailure::AdministrativelyProhibited).await;
        }
    };
    client.speaks_beside(format!("connection to {to}: "));
    let Some((target, login)) = through(&bastion, &who, &user, &role) else {
        bastion.report_refusal(who, format!("forward-local {to} through {user:.128}"), "no such target for this person");
        return refuse(&client, reply, ChannelOpenFailure::AdministrativelyProhibited).await;
    };
    // What is not theirs is ruled on like a place that does not exist, and stopped before it is dialled.
    if let Some(text) = enrolled(&bastion, &target, None, &asked, &to).and_then(|other| elsewhere(&bastion, &who, &other)) {
        bastion.report_refusal(who.clone(), format!("forward-local {to} through {login}@{}", target.id), "it leads to a target");
        client.say(&text).await;
        reply.accept().await;
        return greet(&client, &text).await;
    }
    let mut reply = Some(reply);
    if let Err(Stop { text, status }) = forward(&bastion, &who, target, login, &asked, to, &client, &mut reply).await {
        if let Some(text) = text {
            client.say(&text).await;
        }
        if let Some(reply) = reply {
            let failure = match status {
                Status::Unreachable => ChannelOpenFailure::ConnectFailed,
                _ => ChannelOpenFailure::AdministrativelyProhibited,
            };
            return refuse(&client, reply, failure).await;
        }
    }
    client.close().await;
}

async fn refuse(client: &ClientChannel, reply: ChannelOpenHandle, why: ChannelOpenFailure) {
    client.inbox.finish(End::Closed);
    reply.reject(why).await;
}

/// Says why in the words of the protocol that the client wanted to speak, and leaves once it has read them:
/// what is closed while its own words are under way is a broken pipe to it.
async fn greet(client: &ClientChannel, text: &str) {
    let said = async {
        let _ = client.output(greeting::farewell(text)).await;
        while let Some(items) = client.inbox.take(usize::MAX).await {
            if items.iter().any(|item| matches!(item, Item::Eof)) {
                break;
            }
        }
    };
    let _ = timeout(GREET, said).await;
    client.close().await;
}

/// The target that somebody would reach who is connected there: by any of its names or addresses, or
/// because it is the very host that connects.
fn enrolled(bastion: &Bastion, through: &Arc<Target>, address: Option<IpAddr>, asked: &Asked, to: &Endpoint) -> Option<Arc<Target>> {
    let sshd = to.port().is_some_and(|port| port == 22 || port == through.port);
    let itself = to.is_local() || address.is_some() && to.address() == address.map(|address| address.to_canonical());
    if sshd && itself {
        return Some(through.clone());
    }
    let directory = bastion.directory();
    directory.targets.leads_to(&asked.host, asked.port)
}

/// Where to go instead; only for what is theirs.
fn elsewhere(bastion: &Bastion, who: &Principal, other: &Target) -> Option<String> {
    let host = &bastion.directory().config.host;
    let theirs = bastion.may_ask(who, other, Timestamp::now());
    theirs.then(|| format!("refused: {} is a target of its own, not reached through another: ssh -J {host} {}", other.id, other.id))
}

/// From the ruling to the end of the connection. `reply` is taken once the target has connected.
async fn forward(
    bastion: &Bastion,
    who: &Principal,
    target: Arc<Target>,
    login: Login,
    asked: &Asked,
    to: Endpoint,
    client: &ClientChannel,
    reply: &mut Option<ChannelOpenHandle>,
) -> Result<(), Stop> {
    let mut opening = Opening::of_forward();
    let asking = Asking::new(bastion, who, target, login, Want::ForwardLocal(to.clone()));
    let begun = begin(bastion, asking, &mut opening, client).await?;
    let Begun { grant, proof, recorder, mut lease, open: _open } = begun;
    let tape = recorder.tape();
    let connected = async {
        if let Some(other) = enrolled(bastion, &grant.target, Some(grant.address.ip()), asked, &to) {
            bastion.report_refusal(who.clone(), format!("forward-local {to} through {}", grant.target.id), "it leads to a target");
            // What is not theirs reads like a place that cannot be reached: nobody learns what exists.
            let (text, status) = match elsewhere(bastion, who, &other) {
                Some(text) => (text, Status::Refused),
                None => (format!("{} could not connect to {to}", grant.target.id), Status::Unreachable),
            };
            return Err((Outcome::TargetRefused { why: text.clone() }, text, status));
        }
        from(&tape, &to, asked).await?;
        let upstream = log_in(bastion, &grant, proof.ruled(), client).await?;
        let far = upstream.direct(&asked.host, asked.port, (&to, &asked.originator, asked.originator_port)).await;
        match far {
            Ok(far) => Ok((upstream, far)),
            Err(error) => {
                upstream.close().await;
                Err(unreachable(&grant, &error))
            }
        }
    };
    let connected = tokio::select! {
        connected = connected => connected,
        _ = client.inbox.gone() => Err((Outcome::ClientLeft, String::new(), Status::Undecided)),
        outcome = lease.over() => { let text = lease.farewell(&outcome); Err((outcome, text, Status::Ended)) },
    };
    let (upstream, far) = match connected {
        Ok(connected) => connected,
        Err((outcome, text, status)) => {
            session::finish(bastion, &grant, recorder, outcome, async {}).await;
            return Err(Stop { text: (!text.is_empty()).then_some(text), status });
        }
    };
    if let Some(reply) = reply.take() {
        reply.accept().await;
    }
    let ledger = Ledger::Own(tape.clone());
    let (outcome, text) = tokio::select! {
        (ended, passed) = relay::run(client, &far, &ledger) => ending(ended, passed, &ledger).await,
        error = tape.failed() => ending(Ended::Unrecorded(error), Passed::default(), &ledger).await,
        outcome = lease.over() => {
            let text = lease.farewell(&outcome);
            (outcome, Some(text))
        }
    };
    if let Some(text) = &text {
        client.say(text).await;
    }
    let cut = matches!(&outcome, Outcome::Killed { why, .. } if why == SPEAKS_SSH);
    let goodbye = async {
        if cut {
            greet(client, NO_SSH).await;
        }
        client.close().await;
    };
    tokio::join!(session::finish(bastion, &grant, recorder, outcome, goodbye), async {
        far.close().await;
        upstream.close().await;
    });
    Ok(())
}

/// Who ends what must not be; no person has a space in their name.
const BASTION: &str = "the bastion";
const SPEAKS_SSH: &str = "it speaks SSH";
const NO_SSH: &str = "what answers there is an SSH server, and no forward leads to one; enrolled, it is reached by its name";

/// How a connection ended, in the words of its row, and what is said of it.
async fn ending(ended: Ended, passed: Passed, ledger: &Ledger) -> (Outcome, Option<String>) {
    let Passed { input, output } = passed;
    let (outcome, text) = match ended {
        Ended::Closed => (Outcome::Closed, None),
        Ended::ClientLeft => (Outcome::ClientLeft, None),
        Ended::TargetLost => (Outcome::TargetLost { why: "the connection broke".into() }, None),
        Ended::Ssh => (Outcome::Killed { by: BASTION.into(), why: SPEAKS_SSH.into() }, Some(format!("cut: {NO_SSH}"))),
        Ended::Overrun => (Outcome::Killed { by: BASTION.into(), why: "a side ignored its window".into() }, None),
        Ended::Unrecorded(error) => {
            tracing::error!(%error, "recording failed; the forward ends");
            (Outcome::RecordingFailed { why: error.to_string() }, Some("the recording failed, so this ends here".into()))
        }
    };
    // The end itself is durable in any case.
    let _ = ledger.note(&format!("closed: {input} bytes from the client, {output} from the target")).await;
    (outcome, text)
}

/// The ruling, the hold and the opening of something that no channel of its own can speak for.
async fn begin(bastion: &Bastion, mut asking: Asking<'_>, opening: &mut Opening, client: &ClientChannel) -> Result<Begun, Stop> {
    session::not_draining(bastion)?;
    let Given { reason, preset } = client.connection().given();
    (opening.reason, asking.preset) = (reason, preset);
    let since = Instant::now();
    let held = hold::until_approved(&mut asking, opening, client).await?;
    let begun = session::begin(bastion, asking, held, opening, client).await?;
    if since.elapsed() > SILENT && !begun.grant.approvers.is_empty() {
        let names: Vec<String> = begun.grant.approvers.iter().map(ToString::to_string).collect();
        client.say(&format!("approved by {}", names.join(", "))).await;
    }
    Ok(begun)
}

type Refused = (Outcome, String, Status);

/// Who asked for it and where it leads, before anything is dialled.
async fn from(tape: &Tape, to: &Endpoint, asked: &Asked) -> Result<(), Refused> {
    let originator: String = asked.originator.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    let text = format!("connection to {to}, from {originator}:{} at the client", asked.originator_port);
    tape.record(vec![Event::Marker { text }]).await.map_err(|error| {
        let why = error.to_string();
        (Outcome::RecordingFailed { why }, "the recording failed, so this is not opened".into(), Status::RecordingFailed)
    })
}

/// Dials the target and logs in with a certificate of this forward alone; a few at a time.
async fn log_in(bastion: &Bastion, grant: &Grant, ruled: Ruled<'_>, client: &ClientChannel) -> Result<LoggedIn, Refused> {
    let turn = client.connection().connecting.clone().acquire_owned().await;
    let stream = upstream::dial(&grant.target, grant.address).await.map_err(|error| unreachable(grant, &error))?;
    let source = session::source(bastion, &stream);
    let certificate = bastion.authority.issue(grant, ruled, source, Needs { pty: false }, Timestamp::now()).await.map_err(|error| {
        let why = with_causes(&error);
        tracing::error!(session = %grant.session, error = why, "no certificate");
        bastion.report_unsigned(grant, &why);
        let why = format!("no certificate: {why}");
        (Outcome::TargetRefused { why: why.clone() }, why, Status::Refused)
    })?;
    let logged_in = upstream::log_in(stream, certificate).await.map_err(|error| unreachable(grant, &error));
    drop(turn);
    logged_in
}

fn unreachable(grant: &Grant, error: &ConnectError) -> Refused {
    let why = with_causes(error);
    tracing::warn!(session = %grant.session, target = %grant.target.id, why, "target not reached");
    (Outcome::TargetRefused { why: why.clone() }, why, Status::Unreachable)
}
