//! A program in a terminal, with a person's keys and eyes.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SOON;
use super::client::{Heard, request_in, until_some};

pub struct Terminal {
    child: Child,
    keys: Arc<pty_process::blocking::Pty>,
    screen: Arc<Heard>,
}

/// The read end of a terminal that others write to.
struct Eyes(Arc<pty_process::blocking::Pty>);

impl std::io::Read for Eyes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Terminal {
    /// Starts a program in a terminal of 80 by 24.
    #[track_caller]
    pub fn start(command: &std::process::Command) -> Self {
        let (pty, pts) = pty_process::blocking::open().expect("a terminal");
        pty.resize(pty_process::Size::new(24, 80)).expect("a size");
        let mut inside = pty_process::blocking::Command::new(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            inside = match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        let child = inside.env("TERM", "xterm").spawn(pts).unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let keys = Arc::new(pty);
        let screen = Heard::listen(Eyes(keys.clone()));
        Self { child, keys, screen }
    }

    #[track_caller]
    pub fn types(&self, keys: &str) {
        use std::io::Write;
        (&*self.keys).write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    #[track_caller]
    pub fn sees(&self, text: &str) {
        self.screen.sees(text, SOON);
    }

    #[track_caller]
    pub fn sees_within(&self, text: &str, within: Duration) {
        self.screen.sees(text, within);
    }

    pub fn screen(&self) -> String {
        self.screen.text()
    }

    #[track_caller]
    pub fn request(&self) -> String {
        self.sees("request ");
        until_some("a request id", SOON, || request_in(&self.screen()))
    }

    pub fn resize(&self, cols: u16, rows: u16) {
        self.keys.resize(pty_process::Size::new(rows, cols)).expect("a size");
    }

    /// Waits for the end; returns the exit status.
    #[track_caller]
    pub fn ends(mut self) -> i32 {
        let deadline = Instant::now() + SOON;
        loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => return status.code().unwrap_or(-1),
                None if Instant::now() > deadline => panic!("still running; the screen: {}", self.screen()),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
