//! `ssh -J bastion deploy@web-1`: a second SSH server on the channel that the client thinks is a
//! connection to web-1. Nothing is dialled here; the inner session is held, ruled on and recorded like
//! any other (section 2.2).

use std::net::SocketAddr;
use std::sync::Arc;

use russh::server::{ChannelOpenHandle, Msg, run_stream};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use tokio::sync::watch;

use super::door::Stage;
use super::flow::{Cut, End, Inbox, Pressure, Throttled, Tunnel};
use super::front::{Front, Role};
use super::{Bastion, listener};
use crate::access::Principal;
use crate::time::Timestamp;

/// Accepts the channel only for a target on which this person may ask for something now; every refusal
/// is the same, so that nobody learns what exists.
pub async fn serve(
    bastion: Arc<Bastion>,
    principal: Principal,
    source: SocketAddr,
    (host, port): (String, u32),
    inbox: Arc<Inbox>,
    write: ChannelWriteHalf<Msg>,
    reply: ChannelOpenHandle,
) {
    let now = Timestamp::now();
    let directory = bastion.directory();
    // Nothing is resolved here: whether a name exists anywhere is nobody's to learn. What is not listed is
    // ruled on like something that is, so that neither answer comes much sooner.
    let listed = directory.targets.at(&host, port);
    let asked = listed.clone().or_else(|| directory.kinds.first().map(|kind| kind.like.clone()));
    let target = listed.filter(|_| asked.is_some_and(|asked| bastion.may_ask(&principal, &asked, now)));
    let certificate = match &target {
        Some(target) => bastion.host_certificates.for_target(target, now).await.map(Some),
        None => Ok(None),
    };
    if let Err(error) = &certificate {
        tracing::error!(error = crate::console::with_causes(error), "no host certificate");
    }
    let (Some(target), Ok(Some(certificate))) = (target, certificate) else {
        bastion.report_refusal(principal, format!("jump to {host:.128}:{port}"), "no such target for this person");
        inbox.finish(End::Closed);
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        return;
    };
    reply.accept().await;
    let pressure = Arc::new(Pressure::default());
    let cut = Cut::default();
    let (stage, reached) = watch::channel(Stage::Silent);
    let stream = Throttled::paced(Tunnel::new(inbox.clone(), Box::pin(write.make_writer())), pressure.clone(), &cut);
    let stream = stream.until_logged_in(reached.clone());
    let config = listener::server_config(&directory.config, bastion.host_certificates.host_key().clone(), vec![certificate]);
    let role = Role::Inner { target, person: principal.person().clone(), second_factor: principal.second_factor().cloned() };
    let front = Front::new(bastion.clone(), role, source, pressure, stage);
    listener::converse(run_stream(Arc::new(config), stream, front), &directory.config.limits, reached, &cut).await;
    inbox.finish(End::Closed);
    let _ = write.eof().await;
    let _ = write.close().await;
}
