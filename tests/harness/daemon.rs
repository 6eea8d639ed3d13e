//! An sshd as a distribution ships it, with a configuration that the test writes and `ca enroll` changes.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::client::until;
use super::sshd::free_port;
use super::{SOON, keygen, login, program, public};

pub struct Daemon {
    pub dir: PathBuf,
    pub port: u16,
    child: Option<Child>,
}

impl Daemon {
    /// Writes `sshd_config` with `more` at its end; nothing runs yet. With `Include` first, as Debian has it.
    pub fn prepare(dir: &Path, more: &str) -> Self {
        Self::write(dir, &format!("Include {}/sshd_config.d/*.conf\n", dir.display()), more)
    }

    /// The same for a distribution without `sshd_config.d`.
    pub fn prepare_plain(dir: &Path, more: &str) -> Self {
        Self::write(dir, "", more)
    }

    fn write(dir: &Path, include: &str, more: &str) -> Self {
        std::fs::create_dir_all(dir.join("sshd_config.d")).unwrap();
        std::fs::create_dir_all(dir.join("home")).unwrap();
        if login() == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        keygen(&dir.join("host_key"));
        let (port, at) = (free_port(), dir.display());
        let config = format!(
            "{include}ListenAddress 127.0.0.1:{port}
HostKey {at}/host_key
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
UseDNS no
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
ExposeAuthInfo yes
SetEnv HOME={at}/home
{more}"
        );
        std::fs::write(dir.join("sshd_config"), config).unwrap();
        Self { dir: dir.to_owned(), port, child: None }
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("sshd_config")
    }

    pub fn start(&mut self) {
        self.start_as(Command::new(program("sshd")));
    }

    /// Starts one whose clock is elsewhere (`+1d`).
    pub fn start_with_clock(&mut self, offset: &str) {
        let mut command = Command::new(program("faketime"));
        command.args(["-f", offset]).arg(program("sshd"));
        self.start_as(command);
    }

    fn start_as(&mut self, mut command: Command) {
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        command.args(["-D", "-e", "-f"]).arg(self.config()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("sshd starts"));
        until("sshd listens", SOON, || {
            let there = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            assert!(there || !self.log().contains("fatal"), "sshd: {}", self.log());
            there
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn host_key(&self) -> String {
        public(&self.dir.join("host_key"))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What sshd makes of its configuration for an account.
    pub fn effective(&self, account: &str, keyword: &str) -> String {
        let output = Command::new(program("sshd"))
            .args(["-T", "-C", &format!("user={account},host=x,addr=127.0.0.1"), "-f"])
            .arg(self.config())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{keyword} ")));
        line.unwrap_or_else(|| panic!("no {keyword} in {text}")).to_owned()
    }

    /// Everything that sshd makes of it, for a comparison.
    pub fn whole(&self) -> String {
        let output = Command::new(program("sshd")).arg("-T").arg("-f").arg(self.config()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs an enrolment script here, as root on the host would.
    pub fn runs(&self, script: &Path, words: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new("sh");
        command.arg(script).args(words).env("SSHD_CONFIG", self.config());
        if self.child.is_some() {
            command.env("RELOAD", format!("kill -HUP {}", self.pid()));
        }
        command.envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap()
    }

    /// An entry of `targets.toml` for it.
    pub fn entry(&self, id: &str, trust: &str) -> String {
        format!("[targets.{id}]\naddress = \"127.0.0.1:{}\"\nlogins = [\"{}\"]\n{trust}\n\n", self.port, login())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Below faketime sshd is a child, which would live on.
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
            for below in children.split_whitespace() {
                let _ = Command::new(program("kill")).arg(below).status();
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
