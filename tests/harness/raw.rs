//! A client that says what it is told, message by message (`tests/clients/raw_login.py`).

use std::process::Command;

use super::client::until_some;
use super::{Bastion, Client, LONG, python};

pub struct Raw {
    client: Client,
    answers: usize,
}

impl Raw {
    /// Starts one and connects it as far as the login.
    #[track_caller]
    pub fn connect(bastion: &Bastion) -> Self {
        let mut command = Command::new(python());
        command.arg(format!("{}/tests/clients/raw_login.py", env!("CARGO_MANIFEST_DIR")));
        command.args(["127.0.0.1", &bastion.port.to_string()]);
        let mut raw = Self { client: Client::start(command), answers: 0 };
        assert_eq!(raw.says(&["connect"]), "connected");
        raw
    }

    /// Says one thing and returns what came back, as one line.
    #[track_caller]
    pub fn says(&mut self, words: &[&str]) -> String {
        self.client.types(format!("{}\n", serde_json::to_string(words).unwrap()).as_bytes());
        let nth = self.answers;
        self.answers += 1;
        until_some(&format!("an answer to {words:?}; {}", self.client.err()), LONG, || {
            let out = String::from_utf8(self.client.out()).unwrap();
            let whole = out.rfind('\n').map_or("", |end| &out[..=end]);
            whole.lines().nth(nth).map(str::to_owned)
        })
    }

    /// Says several things; what each came back with.
    #[track_caller]
    pub fn says_all(&mut self, all: &[&[&str]]) -> Vec<String> {
        all.iter().map(|words| self.says(words)).collect()
    }
}
