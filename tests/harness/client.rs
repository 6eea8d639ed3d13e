//! A program that a person runs: what they type, what they see, within bounds.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::SOON;

/// A running program whose output is kept as it comes.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    out: Arc<Heard>,
    err: Arc<Heard>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Seen {
    /// Exit status; minus the signal where one ended it.
    pub status: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Seen {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard output, if the program ended well.
    #[track_caller]
    pub fn well(&self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.out()
    }

    /// Standard error, if the program ended with `status`.
    #[track_caller]
    pub fn ends(&self, status: i32) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        &self.err
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// What came out of a stream so far, for whoever waits for more.
#[derive(Default)]
pub struct Heard {
    state: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Heard {
    /// Reads `from` to its end in a thread of its own.
    pub fn listen(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        let to = heard.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let read = from.read(&mut buffer).unwrap_or(0);
                let mut state = to.state.lock().unwrap();
                state.0.extend_from_slice(&buffer[..read]);
                state.1 = read == 0;
                to.more.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        heard
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().0.clone()
    }

    pub fn len(&self) -> usize {
        self.state.lock().unwrap().0.len()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until the text so far satisfies `enough`, the stream ends, or `within` is over.
    fn wait(&self, within: Duration, enough: impl Fn(&[u8]) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock().unwrap();
        loop {
            if enough(&state.0) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                return false;
            }
            state = self.more.wait_timeout(state, left).unwrap().0;
        }
    }

    #[track_caller]
    pub fn sees(&self, text: &str, within: Duration) {
        let found = self.wait(within, |bytes| contains(bytes, text.as_bytes()));
        assert!(found, "{text:?} was not seen in {} s; seen was: {}", within.as_secs(), self.text());
    }

    #[track_caller]
    pub fn holds(&self, bytes: usize, within: Duration) {
        assert!(self.wait(within, |seen| seen.len() >= bytes), "{} bytes in {} s, not {bytes}", self.len(), within.as_secs());
    }

    fn ended(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.state.lock().unwrap();
        while !state.1 && Instant::now() < deadline {
            state = self.more.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text)
}

impl Client {
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self::fed(command, Stdio::piped())
    }

    /// Starts a program that reads `input`.
    #[track_caller]
    pub fn fed(mut command: Command, input: Stdio) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let out = Heard::listen(child.stdout.take().unwrap());
        let err = Heard::listen(child.stderr.take().unwrap());
        Self { input: child.stdin.take(), child, out, err }
    }

    /// Types; a program that has closed its input hears nothing.
    pub fn types(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(bytes).and_then(|()| input.flush());
        }
    }

    pub fn closes_input(&mut self) {
        self.input = None;
    }

    /// Waits until standard error says `text`.
    #[track_caller]
    pub fn reads(&self, text: &str) {
        self.err.sees(text, SOON);
    }

    #[track_caller]
    pub fn reads_within(&self, text: &str, within: Duration) {
        self.err.sees(text, within);
    }

    /// Waits until standard output says `text`.
    #[track_caller]
    pub fn gets(&self, text: &str) {
        self.out.sees(text, SOON);
    }

    #[track_caller]
    pub fn gets_bytes(&self, bytes: usize, within: Duration) {
        self.out.holds(bytes, within);
    }

    pub fn out(&self) -> Vec<u8> {
        self.out.bytes()
    }

    pub fn err(&self) -> String {
        self.err.text()
    }

    /// The id after `request ` on standard error.
    #[track_caller]
    pub fn request(&self) -> String {
        self.reads("request ");
        until_some("a request id", SOON, || request_in(&self.err()))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ctrl-C, as a terminal would send it.
    pub fn interrupts(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is our child");
    }

    /// Hangs up without a word.
    pub fn hangs_up(mut self) -> Seen {
        let _ = self.child.kill();
        self.ends()
    }

    /// Closes standard input and waits for the end.
    #[track_caller]
    pub fn ends(self) -> Seen {
        self.ends_within(SOON)
    }

    #[track_caller]
    pub fn ends_within(mut self, within: Duration) -> Seen {
        self.input = None;
        let deadline = Instant::now() + within;
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = self.child.kill();
                    panic!("still running after {} s; out: {:?} err: {}", within.as_secs(), preview(&self.out.bytes()), self.err());
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        // A child of its own may hold the pipes a moment longer.
        self.out.ended(Duration::from_secs(5));
        self.err.ended(Duration::from_secs(5));
        use std::os::unix::process::ExitStatusExt;
        let status = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        Seen { status, out: self.out.bytes(), err: self.err() }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn preview(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()
}

/// Finds the id that follows the word `request`.
pub fn request_in(text: &str) -> Option<String> {
    text.match_indices("request ").find_map(|(at, word)| {
        let id: String = text[at + word.len()..].chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        (id.len() == 6 && id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase())).then_some(id)
    })
}

/// Waits until `there` is true.
#[track_caller]
pub fn until(what: &str, within: Duration, mut there: impl FnMut() -> bool) {
    until_some(what, within, || there().then_some(()));
}

/// Waits until `there` has something.
#[track_caller]
pub fn until_some<T>(what: &str, within: Duration, mut there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", within.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
