//! A real OpenSSH server on loopback, enrolled as `ca enroll` would.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::client::until;
use super::{SOON, keygen, login, program, public};

pub struct Sshd {
    dir: PathBuf,
    pub port: u16,
    child: Child,
}

impl Sshd {
    /// Starts one that is `target` and trusts `user_ca` (a `.pub` file) for `LOGIN@target` only.
    pub fn start(dir: &Path, target: &str, user_ca: &Path) -> Self {
        Self::start_with(dir, target, user_ca, None)
    }

    /// The same, showing a host certificate for `target` by a CA (a private key file).
    pub fn certified(dir: &Path, target: &str, user_ca: &Path, host_ca: &Path) -> Self {
        Self::start_with(dir, target, user_ca, Some(host_ca))
    }

    /// One that knows no bastion and lets a key in: what a client does there is "as direct".
    pub fn open_to(dir: &Path, key: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let keys = dir.join("authorized_keys");
        std::fs::write(&keys, format!("{key}\n")).unwrap();
        Self::start_as(dir, "direct", None, &format!("AuthorizedKeysFile {}\n", keys.display()))
    }

    fn start_with(dir: &Path, target: &str, user_ca: &Path, host_ca: Option<&Path>) -> Self {
        let trust = format!(
            "TrustedUserCAKeys {}\nAuthorizedPrincipalsFile {}/principals/%u\nAuthorizedKeysFile none\n",
            user_ca.display(),
            dir.display()
        );
        Self::start_as(dir, target, host_ca, &trust)
    }

    fn start_as(dir: &Path, target: &str, host_ca: Option<&Path>, trust: &str) -> Self {
        let dir = dir.to_owned();
        std::fs::create_dir_all(dir.join("principals")).unwrap();
        keygen(&dir.join("host_key"));
        std::fs::write(dir.join("principals").join(login()), format!("{}@{target}\n", login())).unwrap();
        // Where sshd separates its privileges; it does not make the directory itself.
        if login() == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = free_port();
        // A shell reads its start files from here: the machine's own may wait for locks that a kill left behind.
        std::fs::create_dir_all(dir.join("home")).unwrap();
        let mut config = config(&dir, port, trust);
        if let Some(host_ca) = host_ca {
            let mut sign = Command::new(program("ssh-keygen"));
            sign.args(["-q", "-h", "-I", target, "-n", target, "-s"]).arg(host_ca).arg(dir.join("host_key.pub"));
            assert!(sign.status().unwrap().success(), "ssh-keygen signs the host's key");
            config.push_str(&format!("HostCertificate {}\n", dir.join("host_key-cert.pub").display()));
        }
        std::fs::write(dir.join("sshd_config"), config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = Command::new(program("sshd"))
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let sshd = Self { dir, port, child };
        until("sshd listens", SOON, || {
            let there = TcpStream::connect(("127.0.0.1", port)).is_ok();
            assert!(there || !sshd.log().contains("fatal"), "sshd: {}", sshd.log());
            there
        });
        sshd
    }

    /// Adds lines to its configuration; returns when it listens with them.
    pub fn adds(&self, lines: &str) {
        let file = self.dir.join("sshd_config");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{lines}{config}")).unwrap();
        let listens = || self.log().matches("Server listening").count();
        let before = listens();
        Command::new(program("kill")).args(["-HUP", &self.child.id().to_string()]).status().unwrap();
        until("sshd listens again", SOON, || listens() > before);
    }

    /// Lets `LOGIN@target` in as well: one machine plays several.
    pub fn also_is(&self, target: &str) {
        let file = self.dir.join("principals").join(login());
        let mut principals = std::fs::read_to_string(&file).unwrap();
        principals.push_str(&format!("{}@{target}\n", login()));
        std::fs::write(file, principals).unwrap();
    }

    pub fn host_key(&self) -> String {
        public(&self.dir.join("host_key"))
    }

    /// Stops listening; what runs on it goes on.
    pub fn stops(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How many logins it has accepted so far.
    pub fn logins(&self) -> usize {
        self.log().matches("Accepted publickey for ").count()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(dir: &Path, port: u16, trust: &str) -> String {
    let at = dir.display();
    format!(
        "ListenAddress 127.0.0.1:{port}
HostKey {at}/host_key
PidFile none
{trust}AuthenticationMethods publickey
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
MaxStartups 500
MaxSessions 100
AcceptEnv LANG LC_* COLORTERM GIT_PROTOCOL
Subsystem sftp internal-sftp
"
    )
}

/// A port that was free a moment ago; sshd cannot be asked which one it took.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
