//! What the requester reads of an approval that grants less than was asked, and why.

use super::Bastion;
use super::channel::{ClientChannel, Status};
use super::session::Stop;
use crate::access::Want;
use crate::approvals::RequestView;
use crate::console::render::when;
use crate::console::text::less;
use crate::console::visible;
use crate::id::{Person, RequestId};
use crate::time::{Timestamp, short};

/// Says to somebody at a prompt how what was granted is less than what was asked.
pub async fn tell(bastion: &Bastion, id: RequestId, client: &ClientChannel) {
    let Some(view) = read(bastion, id).await else { return };
    if let Some(less) = how(&view, Timestamp::now()) {
        client.say(&format!("less than asked: {}", visible(&less))).await;
    }
}

/// Why an approved request does not open what was asked.
pub async fn not_enough(bastion: &Bastion, id: RequestId, want: &Want) -> Stop {
    let now = Timestamp::now();
    let view = read(bastion, id).await;
    let granted = view.as_ref().and_then(|view| Some((view, view.granted.as_ref()?)));
    match granted {
        Some((view, terms)) if terms.starts().is_some_and(|starts| starts > now) => {
            let starts = terms.starts().map(|starts| when(starts, now)).unwrap_or_default();
            let span = short(std::time::Duration::from_micros(terms.for_us));
            let text =
                format!("{id} is approved by {} for {span}, not before {starts}: the same command opens it then", names(&view.approvers));
            Stop::new(text, Status::Undecided)
        }
        Some((view, terms)) if !terms.scope.covers(want) => {
            let less = how(view, now).unwrap_or_else(|| terms.scope.words());
            let text = format!(
                "refused: {id} was approved by {} for less: {}. What fits opens without asking",
                names(&view.approvers),
                visible(&less)
            );
            Stop::new(text, Status::Refused)
        }
        Some(_) | None => {
            let text = format!("refused: {id} was approved, but it is not enough any more; connect again to ask anew");
            Stop::new(text, Status::Refused)
        }
    }
}

async fn read(bastion: &Bastion, id: RequestId) -> Option<RequestView> {
    // What is only said is left out where the state cannot be read; what opens reads it again.
    bastion.approvals.view(id).await.ok().flatten()
}

fn how(view: &RequestView, now: Timestamp) -> Option<String> {
    let notes: Vec<(&Person, &str)> = view.decisions.iter().map(|said| (&said.person, said.note.as_str())).collect();
    less(&view.document.asked(), view.granted.as_ref()?, &notes, now)
}

fn names(people: &[Person]) -> String {
    people.iter().map(Person::to_string).collect::<Vec<_>>().join(", ")
}
