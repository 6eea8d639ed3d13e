//! Where the demo plays: its directory, its people with their keys, the bastion and the target.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::cli::{init, serve};
use crate::ssh::Running;
use crate::ssh::sandbox::Sandbox;

/// The roles. Their names are those of `people.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Person {
    /// Asks.
    Alice,
    /// Approves.
    Bob,
    /// Replays.
    Carol,
}

impl Person {
    const ALL: [Person; 3] = [Person::Alice, Person::Bob, Person::Carol];

    pub fn name(self) -> &'static str {
        match self {
            Person::Alice => "alice",
            Person::Bob => "bob",
            Person::Carol => "carol",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Person::Alice => "engineers",
            Person::Bob => "leads",
            Person::Carol => "auditors",
        }
    }
}

/// Everything that runs for one demo.
pub struct Scene {
    dir: tempfile::TempDir,
    pub sandbox: Sandbox,
    bastion: Running,
    /// This program, as the companion.
    pub program: PathBuf,
}

impl Scene {
    /// Makes the directory, starts the target, then the bastion that knows it.
    pub async fn set(tour: bool) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path cannot be found")?;
        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix("countersign-demo-").permissions(Permissions::from_mode(0o700)).tempdir();
        let dir = dir.context("no temporary directory can be made; TMPDIR names another place")?;
        let installation = dir.path().join("bastion");
        for person in Person::ALL {
            make_key(&dir.path().join(person.name())).await?;
        }
        let carol = read(&dir.path().join("carol/id_ed25519.pub"))?;
        init::make(&installation, "bastion", &[("carol".parse()?, carol.parse()?)])?;
        let user_ca = read(&installation.join("keys/user_ca.pub"))?;
        let sandbox = Sandbox::start(&user_ca, "web-1".parse()?).await.context("the target cannot be started")?;
        write_installation(&installation, dir.path(), &sandbox, tour)?;
        let bastion = serve::start(&installation).await?;
        let Some(address) = bastion.addresses.first() else { bail!("the bastion listens nowhere") };
        write_laptops(dir.path(), &installation, *address)?;
        Ok(Self { sandbox, bastion, program, dir })
    }

    /// Stops everything and removes the directory.
    pub async fn clear(self) -> anyhow::Result<()> {
        let Self { dir, sandbox, bastion, program: _ } = self;
        sandbox.stop().await;
        bastion.stop().await;
        let path = dir.path().to_owned();
        dir.close().with_context(|| format!("{} cannot be removed", path.display()))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The stock client as this person has it: `ssh -F …`.
    pub fn ssh_words(&self, person: Person) -> [String; 3] {
        ["ssh".into(), "-F".into(), self.config(person).display().to_string()]
    }

    pub fn ssh_line(&self, person: Person) -> String {
        shell_words::join(self.ssh_words(person))
    }

    /// What makes `countersign` this person's companion in a shell.
    pub fn companion_alias(&self, person: Person) -> String {
        let ssh = self.ssh_line(person);
        let program = self.program.display().to_string();
        let key = self.key(person).display().to_string();
        let line = format!(
            "XDG_STATE_HOME={} COUNTERSIGN_SSH={} {}",
            shell_words::quote(&self.remembered(person).display().to_string()),
            shell_words::quote(&ssh),
            shell_words::join([&program, "-b", "bastion", "--key", &key])
        );
        format!("alias countersign={}", shell_words::quote(&line))
    }

    /// What this person's companion remembers of bastions.
    pub fn remembered(&self, person: Person) -> PathBuf {
        self.dir().join(person.name()).join("state")
    }

    pub fn key(&self, person: Person) -> PathBuf {
        self.dir().join(person.name()).join("id_ed25519")
    }

    fn config(&self, person: Person) -> PathBuf {
        self.dir().join(person.name()).join("ssh_config")
    }
}

/// A throw-away key, by the stock tool, which writes it 0600.
async fn make_key(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let key = dir.join("id_ed25519");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "countersign-demo", "-f"]).arg(&key).output().await;
    let made = made.context("ssh-keygen cannot be started: the demo needs OpenSSH's client (Debian: openssh-client)")?;
    if !made.status.success() {
        bail!("ssh-keygen could not make {}: {}", key.display(), String::from_utf8_lossy(&made.stderr).trim());
    }
    Ok(())
}

/// Puts the demo's people, target and rules where `init` has put its examples.
fn write_installation(installation: &Path, people: &Path, sandbox: &Sandbox, tour: bool) -> anyhow::Result<()> {
    let file = installation.join("countersign.toml");
    let settings: Vec<String> = read(&file)?
        .lines()
        .map(|line| if line.starts_with("listen") { "listen = [\"127.0.0.1:0\"]".into() } else { line.to_owned() })
        .collect();
    write(&file, &(settings.join("\n") + "\n"))?;
    let policies = installation.join("policies");
    let mut persons = String::new();
    for person in Person::ALL {
        let key = read(&people.join(person.name()).join("id_ed25519.pub"))?;
        persons.push_str(&format!("[people.{}]\ngroups = [\"{}\"]\nkeys = [\"{}\"]\n\n", person.name(), person.group(), key.trim()));
    }
    write(&policies.join("people.toml"), &persons)?;
    let target = format!(
        "[targets.web-1]\naddress = \"{}\"\nlabels = [\"env=prod\"]\nlogins = [\"deploy\"]\nhost_keys = [\"{}\"]\n",
        sandbox.address(),
        sandbox.host_key()
    );
    write(&policies.join("targets.toml"), &target)?;
    write(&policies.join("access.cedar"), ACCESS)?;
    write(&policies.join("approvals.toml"), APPROVALS)?;
    write(&policies.join("retention.toml"), if tour { RETENTION_OF_THE_TOUR } else { RETENTION })?;
    // The starter's cases are about the starter's rules.
    let cases = policies.join("cases");
    if cases.exists() {
        fs::remove_dir_all(&cases).with_context(|| format!("{} cannot be removed", cases.display()))?;
    }
    Ok(())
}

/// What three laptops know: the bastion, its host CA for web-1, and one key each.
fn write_laptops(dir: &Path, installation: &Path, bastion: SocketAddr) -> anyhow::Result<()> {
    let known = dir.join("known_hosts");
    let host_key = read(&installation.join("keys/host_ed25519.pub"))?;
    let host_ca = read(&installation.join("keys/host_ca.pub"))?;
    write(&known, &format!("bastion {}\n@cert-authority web-1 {}\n", host_key.trim(), host_ca.trim()))?;
    for person in Person::ALL {
        let home = dir.join(person.name());
        let config = format!(
            "Host bastion
    HostName {ip}
    Port {port}
    HostKeyAlias bastion
    User {name}
    ProxyJump none
Host web-1
    User deploy
    ProxyJump bastion
Host *
    IdentityFile \"{key}\"
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile \"{known}\"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    LogLevel ERROR
",
            ip = bastion.ip(),
            port = bastion.port(),
            name = person.name(),
            key = home.join("id_ed25519").display(),
            known = known.display(),
        );
        write(&home.join("ssh_config"), &config)?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

const ACCESS: &str = r#"// Who may do what where, and what needs a hold.

@id("engineers-deploy") @retain("demo")
permit (principal in Group::"engineers", action in [Action::"shell", Action::"exec", Action::"sftp"], resource)
when { context.login == "deploy" };

@id("prod-needs-a-lead") @hold("lead") @message("production: one lead must agree")
forbid (principal, action in Action::"session", resource in Label::"env=prod");

@id("leads-decide")
permit (principal in Group::"leads", action in [Action::"approve", Action::"watch", Action::"kill"], resource);

@id("auditors-replay")
permit (principal in Group::"auditors", action in [Action::"replay", Action::"watch", Action::"hold", Action::"audit"], resource);
"#;

const APPROVALS: &str = r#"# Who has to agree.

[workflows.lead]
approvers = ["leads"]
signature = "key"
decide_within = "15m"
offered = "30m"
longest = "2h"
"#;

const RETENTION: &str = r#"# How long recordings are kept; the demo's go with its directory.

[schedules.demo]
keep_at_least = "1d"
delete_after = "7d"
"#;

const RETENTION_OF_THE_TOUR: &str = r#"# Seconds instead of years, so that the tour sees a recording go.

grace = "1s"

[schedules.demo]
keep_at_least = "4s"
delete_after = "6s"
"#;
