//! `ssh req-K7Q3FM@bastion`: a card, as a notice leads to it, with what its reader can do next.

use super::reply::{Card, State};
use super::text::stock_path;
use crate::access::decision::Level;
use crate::id::Person;

/// The commands that this reader may go on with, for a terminal with nothing but `ssh`, and the companion's.
pub fn next(card: &Card, reader: &Person, requester: &Person, host: &str) -> Vec<String> {
    let id = card.request;
    let decides = card.asked.contains(reader);
    let agreed = card.approvers.contains(reader);
    match &card.state {
        State::NeedsReason if reader == requester => {
            vec![format!("ssh {host} reason {id} 'INC-42 …'"), format!("ssh {host} withdraw {id}")]
        }
        State::Pending if reader == requester => vec![format!("ssh {host} withdraw {id}")],
        State::Pending if decides => {
            let mut lines = match card.level {
                Level::Connection => vec![format!("ssh {host} approve {id} CODE     the code is on the requester's screen")],
                Level::Key | Level::Touch | Level::Verified => {
                    let companion = format!("countersign approve {id}     with the companion, or with three lines:");
                    std::iter::once(companion).chain(stock_path(host, id, "approve")).collect()
                }
            };
            lines.push(format!("ssh {host} deny {id} --note '…'"));
            lines
        }
        // By break-glass nobody has agreed, and whoever may decide may end it.
        State::Approved if reader == requester || agreed || decides || card.approvers.is_empty() => {
            vec![format!("ssh {host} revoke {id} --reason '…'")]
        }
        State::NeedsReason | State::Pending | State::Approved | State::Denied { .. } | State::Withdrawn | State::Expired | State::Void => {
            vec![format!("ssh {host} requests")]
        }
    }
}
