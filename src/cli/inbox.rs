//! The inbox of an approver, in their own terminal: what waits, looked at with one key and decided with
//! one, signed by their own key. What a key decides is what was drawn from the bytes on the screen.

use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};

use super::approve::{self, Hands, NotSigned, Order};
use super::bastion::{Bastion, Heard, WireError};
use super::say;
use super::terminal::{self, Typed};
use crate::access::decision::Verdict;
use crate::console::grammar::{Less, RequestsArgs, Verb};
use crate::console::inbox::{Inbox, Key, Then};
use crate::console::render::prefixed;
use crate::console::reply::{Card, Reply};
use crate::console::text::{self, Reader, Voice};
use crate::console::visible;
use crate::id::RequestId;
use crate::time::Timestamp;

/// How often the times on the screen are drawn again.
const REDRAW: Duration = Duration::from_secs(5);

/// The alternate screen in raw mode, until dropped.
struct Screen {
    _raw: terminal::Modes,
}

impl Screen {
    fn take() -> std::io::Result<Self> {
        let raw = terminal::raw_in_turns()?;
        say("\x1b[?1049h\x1b[?25l").ok();
        Ok(Self { _raw: raw })
    }

    fn draw(&self, picture: &str) {
        say(&format!("\x1b[H\x1b[2J{}", picture.replace('\n', "\r\n"))).ok();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        say("\x1b[?25h\x1b[?1049l").ok();
    }
}

/// Shows what waits until the person leaves.
pub async fn run<R, W>(bastion: &mut Bastion<R, W>, args: &RequestsArgs, hands: &Hands, reader: Reader<'static>) -> anyhow::Result<u8>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Reply::Whoami(me) = bastion.ask(&Verb::Whoami).await? else { return Err(NotSigned::Answer.into()) };
    let watch = Verb::Requests(RequestsArgs { pending: true, ..args.clone() });
    let mut inbox = Inbox::of(me.person);
    let mut typed = Typed::open()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut redraw = tokio::time::interval(REDRAW);
    let mut screen = Screen::take()?;
    bastion.send(&watch).await?;
    loop {
        let (cols, rows) = terminal::size().unwrap_or((80, 24));
        let mut now = Reader { now: Timestamp::now(), ..reader };
        now.look.width = usize::try_from(cols).ok();
        inbox.sized(now.now, (now.look.width.unwrap_or(80), usize::try_from(rows).unwrap_or(24)));
        screen.draw(&inbox.picture(&now, usize::try_from(rows).unwrap_or(24)));
        let keys = tokio::select! {
            heard = bastion.hear_at_last() => {
                match heard? {
                    Heard::Event(Reply::Requests(rows)) => inbox.listed(rows),
                    Heard::Event(_) | Heard::Result(_) | Heard::Bytes(_) => return Err(WireError::Answer(bastion.name.clone()).into()),
                }
                Vec::new()
            }
            bytes = typed.next() => Key::read(&bytes?),
            _ = resized.recv() => Vec::new(),
            _ = redraw.tick() => Vec::new(),
        };
        // What was typed behind a key that asks for something was not meant for what comes of it.
        let then = keys.into_iter().map(|key| inbox.press(key, needs)).find(|then| *then != Then::Nothing);
        match then.unwrap_or(Then::Nothing) {
            Then::Nothing => continue,
            Then::Leave => return Ok(0),
            Then::Look(id) => match look(bastion, id).await {
                Ok(card) => inbox.opened(card),
                Err(error) => inbox.back(refused(error)?),
            },
            Then::Decide { card, verdict, with_note } => {
                // Passphrases and touches are asked for on an ordinary screen.
                typed.rest().await;
                drop(screen);
                let said = decide(bastion, &card, verdict, with_note, hands).await;
                screen = Screen::take()?;
                inbox.back(match said {
                    Ok(reply) => text::reply(&reply, &now),
                    Err(error) => refused(error)?,
                });
            }
        }
        bastion.send(&watch).await?;
    }
}

/// What has to be typed to agree to what is unusual.
fn needs(card: &Card) -> Option<String> {
    card.read().ok().and_then(|document| approve::unusual_needs(&document, &card.unusual))
}

async fn look<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin>(
    bastion: &mut Bastion<R, W>,
    request: RequestId,
) -> anyhow::Result<Box<Card>> {
    match bastion.ask(&Verb::show(request)).await? {
        Reply::Request(card) if card.request == request => Ok(card),
        _ => Err(NotSigned::Answer.into()),
    }
}

async fn decide<R, W>(bastion: &mut Bastion<R, W>, card: &Card, verdict: Verdict, with_note: bool, hands: &Hands) -> anyhow::Result<Reply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let note = match with_note {
        true => terminal::ask(&format!("countersign: {} is denied because: ", card.request)).map_err(NotSigned::NobodyToAsk)?,
        false => String::new(),
    };
    let order = Order { request: card.request, verdict, code: None, less: Less { note, ..Less::default() } };
    approve::decide_shown(bastion, card, &order, hands).await
}

/// What did not work, for the screen; what ends the conversation ends the inbox too.
fn refused(error: anyhow::Error) -> anyhow::Result<String> {
    match error.downcast::<WireError>() {
        Ok(WireError::Refused(refusal)) => Ok(text::refusal(&refusal, Voice::Companion)),
        Ok(other) => Err(other.into()),
        Err(error) => Ok(prefixed(&visible(&format!("{error:#}")))),
    }
}
