//! The person's terminal: asked on `/dev/tty`, so that pipes and redirections stay what they are.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::console::Look;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 4096;

/// How standard output likes its text.
pub fn look() -> Look {
    let out = io::stdout();
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
    if out.is_terminal() { Look { colour: !dumb && !no_colour, width } } else { Look::default() }
}

fn tty() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// Columns and rows of the terminal that standard output is.
pub fn size() -> Option<(u32, u32)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    Some((u32::from(size.ws_col), u32::from(size.ws_row))).filter(|(cols, rows)| *cols > 0 && *rows > 0)
}

/// What is typed, byte by byte.
pub fn keys() -> io::Result<tokio::fs::File> {
    tty().map(tokio::fs::File::from_std)
}

/// How long a read of [`Typed`] waits for a key, in tenths of a second.
const TURN: u8 = 2;

/// The terminal in raw mode as [`raw`] makes it, where a read ends by itself after a moment.
pub fn raw_in_turns() -> io::Result<Modes> {
    Modes::changed(&tty()?, |modes| {
        modes.make_raw();
        modes.special_codes[SpecialCodeIndex::VMIN] = 0;
        modes.special_codes[SpecialCodeIndex::VTIME] = TURN;
    })
}

/// What is typed, as it comes, while [`raw_in_turns`] holds. Once [`Self::rest`] has returned nothing is
/// taken any more, and somebody else may ask on the terminal.
#[derive(Debug)]
pub struct Typed {
    tty: Arc<File>,
    turn: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Typed {
    pub fn open() -> io::Result<Self> {
        Ok(Self { tty: Arc::new(tty()?), turn: None })
    }

    /// Returns what came at once; an error where the terminal has gone. Dropping it loses nothing.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let tty = self.tty.clone();
            let turn = self.turn.get_or_insert_with(|| tokio::task::spawn_blocking(move || read_a_turn(&tty)));
            let typed = turn.await;
            self.turn = None;
            match typed {
                Ok(Ok(typed)) if typed.is_empty() => {}
                Ok(typed) => return typed,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Waits until nothing reads; what was typed meanwhile is forgotten.
    pub async fn rest(&mut self) {
        if let Some(turn) = self.turn.take() {
            let _ = turn.await;
        }
    }
}

fn read_a_turn(mut tty: &File) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let (began, mut bytes) = (Instant::now(), [0; 256]);
    let read = tty.read(&mut bytes)?;
    // Nothing, and at once: a terminal that hung up.
    if read == 0 && began.elapsed() < Duration::from_millis(u64::from(TURN) * 50) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.get(..read).unwrap_or_default().to_vec())
}

/// Asks, and returns the line that is typed.
pub fn ask(prompt: &str) -> io::Result<String> {
    let mut tty = tty()?;
    tty.write_all(prompt.as_bytes())?;
    tty.flush()?;
    answer(tty)
}

/// Asks for what nobody should see.
pub fn secret(prompt: &str) -> io::Result<Zeroizing<String>> {
    let mut tty = tty()?;
    let _quiet = Modes::changed(&tty, |modes| {
        modes.local_modes.remove(LocalModes::ECHO);
        modes.local_modes.insert(LocalModes::ECHONL);
    })?;
    tty.write_all(prompt.as_bytes())?;
    tty.flush()?;
    answer(tty).map(Zeroizing::new)
}

fn answer(tty: File) -> io::Result<String> {
    use io::Read as _;
    let mut line = String::new();
    BufReader::new(tty.take(MAX_ANSWER)).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// The terminal in raw mode, without echo, until dropped.
pub fn raw() -> io::Result<Modes> {
    Modes::changed(&tty()?, Termios::make_raw)
}

/// Terminal modes that are put back when this is dropped.
#[derive(Debug)]
pub struct Modes {
    tty: File,
    before: Termios,
}

impl Modes {
    fn changed(tty: &File, change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut modes = before.clone();
        change(&mut modes);
        tcsetattr(tty, OptionalActions::Flush, &modes)?;
        Ok(Self { tty: tty.try_clone()?, before })
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        tcsetattr(&self.tty, OptionalActions::Flush, &self.before).ok();
    }
}
