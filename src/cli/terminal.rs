//! The person's terminal: asked on `/dev/tty`, so that pipes and redirections stay what they are.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
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
