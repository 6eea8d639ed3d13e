//! `ssh -J bastion deploy@web-1`: a second SSH server on the channel that the client thinks is a
//! connection to web-1. Nothing is dialled here; the inner session is held, ruled on and recorded like
//! any other (section 2.2).

use std::net::SocketAddr;
use std::sync::Arc;

use russh::server::{ChannelOpenHandle, Msg, run_stream};
use russh::{ChannelOpenFailure, ChannelWriteHalf};
use tokio::sync::watch;

use super::flow::{Cut, End, Inbox, Pressure, Throttled, Tunnel};
use super::front::{Front, Role};
use super::{Bastion, listener};
use crate::access::{Principal, Target};
use crate::config::Directory;
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
    let target = named(&directory, &host, port).filter(|target| bastion.may_ask(&principal, target, now)).cloned();
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
    let stream = Throttled::paced(Tunnel::new(inbox.clone(), Box::pin(write.make_writer())), pressure.clone(), &cut);
    let config = listener::server_config(&directory.config, bastion.host_certificates.host_key().clone(), vec![certificate]);
    let (authenticated, logged_in) = watch::channel(false);
    let role = Role::Inner { target, person: principal.person().clone() };
    let front = Front::new(bastion.clone(), role, source, pressure, authenticated);
    listener::converse(run_stream(Arc::new(config), stream, front), directory.config.limits.login_grace, logged_in, &cut).await;
    let _ = write.eof().await;
    let _ = write.close().await;
}

/// Finds the target that a client calls HOST:PORT: by id or alias at 22 or its own port; by address only
/// where exactly one target has it.
fn named<'d>(directory: &'d Directory, host: &str, port: u32) -> Option<&'d Arc<Target>> {
    let own = |target: &&Arc<Target>| port == u32::from(target.port);
    if let Some(target) = directory.targets.find(host) {
        return Some(target).filter(|target| port == 22 || own(target));
    }
    let at: Vec<_> = directory.targets.iter().filter(|target| target.host.eq_ignore_ascii_case(host)).collect();
    let mut exactly = at.iter().copied().filter(own);
    match (exactly.next(), exactly.next(), at.as_slice()) {
        (Some(one), None, _) => Some(one),
        (None, None, [one]) if port == 22 => Some(one),
        _ => None,
    }
}
