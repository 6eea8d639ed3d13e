//! A disk that is nearly full: who may still open a session, and what everybody else reads.
//!
//! Asked before anybody is asked to approve, so that nobody agrees to what cannot begin; `recordings.begin`
//! asks again, and has the last word (FC4).

use std::collections::BTreeSet;

use super::Bastion;
use super::channel::{ClientChannel, Status};
use super::session::Stop;
use crate::access::policy::There;
use crate::access::ruling::Ruling;
use crate::access::{Action, Grant, Principal, Target};
use crate::audit::Event;
use crate::config::Directory;
use crate::id::Login;
use crate::recording::{Room, Space};
use crate::time::Timestamp;

/// Lets pass while there is room, or where a workflow that rescues has to agree; else says what helps.
pub async fn admit(
    bastion: &Bastion,
    principal: &Principal,
    target: &Target,
    login: &Login,
    ruling: &Ruling,
    client: &ClientChannel,
) -> Result<(), Stop> {
    let Some(short) = bastion.recordings.shortage() else { return Ok(()) };
    let directory = bastion.directory();
    if rescues(&directory, ruling) {
        let text = format!("{}; {login}@{} goes into the reserve that is kept for rescue", words(short), target.id);
        client.say(&text).await;
        return Ok(());
    }
    bastion.report_refusal(principal.clone(), format!("{login}@{}", target.id), "the disk is below its floor");
    Err(refused(&directory, principal, target, short))
}

/// What everybody reads for whom there is no room.
pub fn refused(directory: &Directory, principal: &Principal, target: &Target, short: Space) -> Stop {
    let ways = ways(directory, principal, target);
    let rescue = match ways.is_empty() {
        true => String::new(),
        false => format!("; you may rescue: {}", ways.iter().map(|login| format!("{login}@{}", target.id)).collect::<Vec<_>>().join(", ")),
    };
    let text = format!("refused: {}, and what is not recorded is not opened; an operator frees space{rescue}", words(short));
    Stop::new(text, Status::RecordingFailed)
}

fn words(short: Space) -> String {
    let mb = |bytes: u64| bytes >> 20;
    format!("the recordings' disk is nearly full ({} MiB free, {} are kept free)", mb(short.free), mb(short.floor))
}

fn rescues(directory: &Directory, ruling: &Ruling) -> bool {
    ruling.workflows().iter().any(|name| directory.workflows.get(name).is_some_and(|workflow| workflow.rescue))
}

/// The logins by which this person gets there with the yes of a workflow that rescues.
fn ways(directory: &Directory, who: &Principal, target: &Target) -> BTreeSet<Login> {
    let own = target.account(None, who.person());
    let logins: BTreeSet<Login> = target.logins.iter().cloned().chain(own).collect();
    let may = |login: &Login| {
        let there = There { who, target, login, first_time: false, now: Timestamp::now() };
        [Action::Shell, Action::Exec, Action::SftpRead]
            .iter()
            .any(|action| rescues(directory, &directory.policy.rule(&there.question(*action, None))))
    };
    logins.into_iter().filter(may).collect()
}

/// Where a session is recorded, written down where that is the reserve: a gate event (FC5).
pub async fn space(bastion: &Bastion, grant: &Grant) -> Result<Room, Stop> {
    if !grant.rescue {
        return Ok(Room::Usual);
    }
    let Some(short) = bastion.recordings.shortage() else { return Ok(Room::Reserve) };
    let facts = serde_json::json!({
        "session": grant.session, "request": grant.request, "person": grant.principal.person(), "target": grant.target.id,
        "free": short.free, "floor": short.floor,
    });
    bastion.store.report(Event::new("session.rescue", facts), Timestamp::now()).await.map_err(|error| {
        tracing::error!(session = %grant.session, %error, "a rescue could not be logged");
        Stop::new("refused: the bastion's state cannot be written; try again, or tell an operator", Status::Refused)
    })?;
    Ok(Room::Reserve)
}
