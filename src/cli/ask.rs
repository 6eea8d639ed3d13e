//! From what the person names to the targets that are asked for: a list is read from standard input here,
//! and where they are not written out one by one, a terminal shows them before anything is sent. What is
//! sent names exactly those, so that one that fits only later is not covered.

use std::io::Read;

use anyhow::Context;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::Bastion;
use super::terminal;
use crate::console::grammar::{Destination, RequestArgs, Verb};
use crate::console::reply::{Refusal, RefusalKind, Reply};
use crate::console::text::{self, Reader, Voice};
use crate::console::{Look, MAX_LIST};
use crate::time::Timestamp;

/// What is to be done about a request.
#[derive(Debug)]
pub enum Named {
    Send(RequestArgs),
    /// It is answered already.
    Nothing(Reply),
    Declined,
}

/// Reads the list, and shows on a terminal (`look`, where there is one) what would be asked.
pub async fn named<R, W>(bastion: &mut Bastion<R, W>, args: RequestArgs, look: Option<Look>) -> anyhow::Result<Named>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let unseen = args.takes_list() || args.takes_pattern();
    let args = if args.takes_list() { listed(args)? } else { args };
    let Some(look) = look.filter(|_| unseen && !args.dry_run) else { return Ok(Named::Send(args)) };
    let would = match bastion.ask(&Verb::Request(RequestArgs { dry_run: true, wait: false, ..args.clone() })).await? {
        Reply::Would(would) => would,
        other => return Ok(Named::Nothing(other)),
    };
    let (login, targets) = (would.login.clone(), would.targets.clone());
    eprint!("{}", text::reply(&Reply::Would(would), &Reader { look, now: Timestamp::now(), voice: Voice::Companion }));
    let prompt = format!("countersign: ask for {}? [y/N] ", crate::access::alike::counted(targets.len(), "target"));
    let answer = terminal::ask(&prompt).context("there is no terminal to ask on; with --yes nobody is asked")?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        eprintln!("countersign: nothing was asked");
        return Ok(Named::Declined);
    }
    let targets = targets.into_iter().map(|id| Destination { login: Some(login.clone()), target: id.to_string() });
    Ok(Named::Send(RequestArgs { targets: targets.collect(), ..args }))
}

/// Puts the names on standard input in the place of `LOGIN@-`.
fn listed(args: RequestArgs) -> anyhow::Result<RequestArgs> {
    let mut list = Vec::new();
    let most = u64::try_from(MAX_LIST).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().lock().take(most).read_to_end(&mut list).context("the list on standard input cannot be read")?;
    let verb = args.with_list(&list).map(Verb::Request).and_then(|verb| verb.check().map(|()| verb));
    match verb {
        Ok(Verb::Request(args)) => Ok(args),
        Ok(_) => anyhow::bail!("a request with its list is none"),
        Err(why) => Err(usage(why).into()),
    }
}

fn usage(why: String) -> super::bastion::WireError {
    let refusal = Refusal {
        kind: RefusalKind::Usage,
        what: "the request".into(),
        why: format!("was not made: {why}"),
        next: Vec::new(),
        console: String::new(),
    };
    super::bastion::WireError::Refused(Box::new(refusal))
}
