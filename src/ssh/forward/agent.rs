//! `ssh -A`: what runs on the target may have the client's agent sign.
//!
//! Only where `agent-forward` was ruled does the certificate permit it and the session ask the target for
//! it; a target that opens such a channel anyway is refused. The agent's words are not kept: they stand in
//! the session's recording as lengths and digests, counted.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ending;
use super::ledger::Ledger;
use super::relay;
use crate::access::policy::There;
use crate::access::{Action, Principal, Ruling, Target, Want};
use crate::id::Login;
use crate::recording::Tape;
use crate::ssh::Bastion;
use crate::ssh::channel::{ClientChannel, Towards};
use crate::ssh::opening::Opening;
use crate::ssh::upstream::{Arriving, Incoming};
use crate::time::Timestamp;

/// Agent connections of one session at a time.
const MOST: usize = 16;

/// What is wanted, with the agent where it was asked for and is not denied. Without it the session goes on:
/// clients ask for it wherever they go.
pub async fn with(
    bastion: &Bastion,
    who: &Principal,
    (target, login): (&Target, &Login),
    opening: &Opening,
    want: Want,
    client: &ClientChannel,
) -> Want {
    if !opening.agent {
        return want;
    }
    let (directory, now) = (bastion.directory(), Timestamp::now());
    let first_time = !bastion.store.has_opened(who.person(), &target.id).await.unwrap_or(true);
    let there = There { who, target, login, first_time, now };
    match directory.policy.rule(&there.question(Action::AgentForward, None)) {
        Ruling::Permit(_) | Ruling::RequireApproval { .. } => Want::WithAgent(Box::new(want)),
        Ruling::Deny(denial) => {
            bastion.report_refusal(who.clone(), format!("agent-forward {login}@{}", target.id), &denial.brief());
            if opening.is_a_person() {
                client.say(&format!("your agent stays with you: nothing permits agent-forward to {login}@{}", target.id)).await;
            }
            want
        }
    }
}

/// Serves the agent's connections for as long as the session runs; never returns by itself.
pub async fn serve(incoming: &mut mpsc::Receiver<Incoming>, tape: &Tape, client: &ClientChannel) {
    let mut connections = JoinSet::new();
    let mut number = 0u64;
    loop {
        tokio::select! {
            Some(arrived) = incoming.recv() => {
                // Dropped, it is refused.
                if connections.len() >= MOST {
                    continue;
                }
                number += 1;
                let ledger = Ledger::Digests { tape: tape.clone(), name: format!("agent {number}") };
                connections.spawn(connection(arrived, ledger, client.towards()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            else => std::future::pending().await,
        }
    }
}

async fn connection(incoming: Incoming, ledger: Ledger, towards: Towards) {
    let Incoming { arriving: Arriving::Agent, reply, far } = incoming else { return };
    // What cannot be recorded does not happen; the session's own end follows.
    if ledger.note("opened by the target").await.is_err() {
        return;
    }
    let Some(client) = towards.agent().await else { return };
    reply.accept().await;
    let (ended, passed) = relay::run(&client, &far, &ledger).await;
    let _ = ending(ended, passed, &ledger).await;
    client.close().await;
    far.close().await;
}
