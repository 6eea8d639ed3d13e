//! A connection that many commands share (`ControlMaster`).

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bastion, Client, SOON, Way, program, until};

pub struct Master<'a> {
    bastion: &'a Bastion,
    person: &'a str,
    to: Vec<String>,
    path: PathBuf,
    _connection: Client,
}

impl<'a> Master<'a> {
    /// Logs in; `name` tells its socket from others'.
    pub fn open(bastion: &'a Bastion, person: &'a str, way: Way, target: &str, name: &str) -> Self {
        let path = bastion.dir().join(format!("cm-{name}"));
        let to = way.to(target);
        let mut words = vec!["-M".into(), "-N".into(), "-S".into(), path.display().to_string()];
        words.extend(to.clone());
        let connection = Client::start(bastion.ssh(person, &words));
        until("the shared connection is there", SOON, || path.exists());
        Self { bastion, person, to, path, _connection: connection }
    }

    /// `ssh` over it, with these words before the destination.
    pub fn ssh_with(&self, options: &[&str], command: &str) -> Command {
        let mut words: Vec<String> = vec!["-S".into(), self.path.display().to_string()];
        words.extend(options.iter().map(|word| (*word).to_owned()));
        words.extend(self.to.clone());
        words.extend((!command.is_empty()).then(|| command.to_owned()));
        self.bastion.ssh(self.person, &words)
    }

    /// Starts a command over it.
    pub fn starts(&self, command: &str) -> Client {
        Client::start(self.ssh_with(&[], command))
    }

    /// Starts a shell's command line in which `$OVER` is `ssh` over it, up to the command.
    pub fn script(&self, script: &str) -> Client {
        let mut command = self.bastion.sh(self.person, script);
        let ssh = program("ssh");
        let config = self.bastion.dir().join("people").join(format!("{}.conf", self.person));
        let over = format!("{} -F {} -S {} {}", ssh.display(), config.display(), self.path.display(), self.to.join(" "));
        command.env("OVER", over);
        Client::start(command)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
