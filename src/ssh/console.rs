//! The console on a channel: the stock client's commands and the companion's subsystem.

use std::sync::Arc;

use super::Bastion;
use super::channel::{ClientChannel, Status};
use super::flow::{Start, Tunnel};
use super::opening::Opening;
use crate::access::Principal;
use crate::config::Directory;
use crate::console::Terminal;
use crate::id::RequestId;
use crate::time::Timestamp;

/// The companion's subsystem (**D wire**).
const WIRE: &str = "countersign-v1";

/// Serves one console channel to its end; without a command it shows help, or the card that was named.
pub async fn run(bastion: &Arc<Bastion>, who: &Principal, opening: &Opening, card: Option<RequestId>, client: ClientChannel) {
    // Reads what the client sends; the writing half of the stream is not used.
    let input = Tunnel::new(client.inbox.clone(), tokio::io::sink());
    let plain = |term: &str| matches!(term, "" | "dumb") || opening.no_colour;
    let terminal = opening.pty.as_ref().map(|pty| Terminal { cols: pty.size.cols, rows: pty.size.rows, colour: !plain(&pty.term) });
    let serve = async {
        match &opening.start {
            Start::Subsystem(name) if name == WIRE => bastion.console.wire(who, input, client.writer(None)).await,
            Start::Subsystem(_) => {
                client.say(&format!("the console has one subsystem, {WIRE}; for files name a target: sftp deploy=web-1@bastion")).await;
                Status::Refused as u32
            }
            Start::Shell => match card {
                Some(id) => bastion.console.open_card(who, id, terminal, input, client.writer(None), client.writer(Some(1))).await,
                None => bastion.console.run(who, "", terminal, input, client.writer(None), client.writer(Some(1))).await,
            },
            Start::Exec(command) => match std::str::from_utf8(command) {
                Ok(command) => bastion.console.run(who, command, terminal, input, client.writer(None), client.writer(Some(1))).await,
                Err(_) => {
                    client.say("console commands are UTF-8 text").await;
                    Status::Malformed as u32
                }
            },
        }
    };
    let mut stop = bastion.stop.clone();
    let changed = async {
        let mut changes = bastion.directory.clone();
        let as_listed =
            |directory: &Directory| who.again(&directory.people, Timestamp::now()).is_ok_and(|now| now.groups() == who.groups());
        while as_listed(&changes.borrow_and_update()) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let status = tokio::select! {
        status = serve => status,
        _ = client.inbox.gone() => Status::Ok as u32,
        () = super::stopped(&mut stop) => Status::Ended as u32,
        () = changed => {
            client.say("your keys or groups changed here; connect again").await;
            Status::Ended as u32
        }
    };
    client.exit_status(status).await;
    client.close().await;
}
