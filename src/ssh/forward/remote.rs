//! `ssh -R`: the target listens, and who connects there reaches the client's side.
//!
//! The client has its answer before the target has (its loop waits for nothing): only what policy denies
//! whatever comes is refused there. One upstream connection and one recording per listener; the connections
//! to it share both. Cancelling, the end of the approval or of the client's connection ends all of it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::ledger::Ledger;
use super::relay;
use super::{begin, ending, log_in, unreachable};
use crate::access::policy::There;
use crate::access::scope::Reach;
use crate::access::{Endpoint, Principal, Ruling, Target, Want};
use crate::id::Login;
use crate::recording::Tape;
use crate::ssh::Bastion;
use crate::ssh::ask::Asking;
use crate::ssh::channel::{ClientChannel, Status, Towards};
use crate::ssh::opening::Opening;
use crate::ssh::session::{self, Begun, Stop};
use crate::ssh::upstream::{Arriving, Incoming, LoggedIn};
use crate::time::Timestamp;
use crate::transcript::{Event, Outcome};

/// Listeners of one connection.
pub const MOST: usize = 16;
/// Connections to one listener at a time; beyond, they are refused.
const CONNECTIONS: usize = 64;

/// Whether policy may let this person listen there at all; asked in a callback, so without the state.
pub fn may_ever(bastion: &Bastion, who: &Principal, (target, login): (&Target, &Login), on: &Endpoint) -> bool {
    let directory = bastion.directory();
    let now = Timestamp::now();
    let denied = |first_time| {
        let there = There { who, target, login, first_time, now };
        let want = Want::ForwardRemote(on.clone());
        matches!(directory.policy.ask(&there, &want, Reach::Widest).ruling, Ruling::Deny(_))
    };
    !denied(false) || !denied(true)
}

/// Where a client asks the target to listen, in its own words: what a connection is announced with.
#[derive(Debug, Clone)]
pub struct Asked {
    pub address: String,
    pub port: u32,
    pub on: Endpoint,
}

/// Runs one listener, from the ruling to its end. `client` has no channel: its queue ends with the listener.
pub async fn listen(bastion: Arc<Bastion>, who: Principal, (target, login): (Arc<Target>, Login), asked: Asked, client: ClientChannel) {
    let _alive = bastion.live.enter();
    if let Err(Stop { text: Some(text), .. }) = listener(&bastion, &who, target, login, &asked, &client).await {
        tracing::info!(person = %who.person(), on = %asked.on, text, "not listening");
        client.say(&text).await;
    }
}

async fn listener(
    bastion: &Bastion,
    who: &Principal,
    target: Arc<Target>,
    login: Login,
    asked: &Asked,
    client: &ClientChannel,
) -> Result<(), Stop> {
    let mut opening = Opening::of_forward();
    let asking = Asking::new(bastion, who, target, login, Want::ForwardRemote(asked.on.clone()));
    let begun = begin(bastion, asking, &mut opening, client).await?;
    let Begun { grant, proof, recorder, mut lease, open: _open } = begun;
    let tape = recorder.tape();
    let listening = async {
        let mut upstream = log_in(bastion, &grant, proof.ruled(), client).await?;
        match upstream.listen(&asked.address, asked.port, &asked.on).await {
            Ok(()) => Ok(upstream),
            Err(error) => {
                upstream.close().await;
                Err(unreachable(&grant, &error))
            }
        }
    };
    let listening = tokio::select! {
        listening = listening => listening,
        _ = client.inbox.gone() => Err((Outcome::ClientLeft, String::new(), Status::Undecided)),
        outcome = lease.over() => {
            let text = lease.farewell(&outcome);
            Err((outcome, text, Status::Ended))
        }
    };
    let mut upstream = match listening {
        Ok(upstream) => upstream,
        Err((outcome, text, status)) => {
            session::finish(bastion, &grant, recorder, outcome, async {}).await;
            return Err(Stop { text: (!text.is_empty()).then_some(text), status });
        }
    };
    let (outcome, text) = tokio::select! {
        outcome = serve(&mut upstream, asked, &tape, client) => (outcome, None),
        _ = client.inbox.gone() => (Outcome::Closed, None),
        outcome = lease.over() => {
            let text = lease.farewell(&outcome);
            (outcome, Some(text))
        }
    };
    tokio::join!(session::finish(bastion, &grant, recorder, outcome, async {}), upstream.close());
    match text {
        Some(text) => Err(Stop { text: Some(text), status: Status::Ended }),
        None => Ok(()),
    }
}

/// Takes connections until the target is gone or the recording fails. Dropped, it ends them all.
async fn serve(upstream: &mut LoggedIn, asked: &Asked, tape: &Tape, client: &ClientChannel) -> Outcome {
    let text = format!("listening on {}", asked.on);
    if let Err(error) = tape.record(vec![Event::Marker { text }]).await {
        return Outcome::RecordingFailed { why: error.to_string() };
    }
    let mut connections = JoinSet::new();
    let last = Arc::new(Mutex::new(0));
    let mut number = 0;
    loop {
        let incoming = tokio::select! {
            incoming = upstream.incoming.recv() => incoming,
            Some(done) = connections.join_next(), if !connections.is_empty() => match done {
                Ok(Some(error)) => return Outcome::RecordingFailed { why: error },
                _ => continue,
            },
            error = tape.failed() => return Outcome::RecordingFailed { why: error.to_string() },
        };
        let Some(incoming) = incoming else { return Outcome::TargetLost { why: "the connection broke".into() } };
        // Dropped, it is refused.
        if connections.len() >= CONNECTIONS {
            continue;
        }
        number += 1;
        let ledger = Ledger::Shared { tape: tape.clone(), last: last.clone(), number };
        connections.spawn(connection(incoming, asked.clone(), ledger, client.towards()));
    }
}

/// One connection; returns why the recording failed, if it did.
async fn connection(incoming: Incoming, asked: Asked, ledger: Ledger, towards: Towards) -> Option<String> {
    let Incoming { arriving, reply, far } = incoming;
    let Arriving::Connection { originator, originator_port } = arriving else { return None };
    let from: String = originator.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    if let Err(error) = ledger.note(&format!("opened, from {from}:{originator_port} at the target")).await {
        return Some(error.to_string());
    }
    // Dropping `reply` refuses.
    let client = towards.forwarded(asked.address.clone(), asked.port, from, originator_port).await?;
    reply.accept().await;
    let (ended, passed) = relay::run(&client, &far, &ledger).await;
    let text = ending(ended, passed, &ledger).await;
    client.close().await;
    far.close().await;
    match text {
        (Outcome::RecordingFailed { why }, _) => Some(why),
        (_, Some(text)) => {
            client.say(&text).await;
            None
        }
        (_, None) => None,
    }
}
