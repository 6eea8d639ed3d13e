//! The directory that `countersign serve -c` gets, and the files on people's laptops.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{keygen, login, public};

/// alice asks, bob and dora may approve (and ask), carol replays, mallory may ask; hugo may run one exact
/// command on production and nothing else.
pub const PEOPLE: [(&str, &str); 6] = [
    ("alice", "engineers"),
    ("bob", "engineers\", \"leads"),
    ("carol", "auditors"),
    ("dora", "leads"),
    ("hugo", "support"),
    ("mallory", "engineers"),
];

/// How an installation differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// More lines of `countersign.toml`.
    pub settings: String,
    /// `retention.toml`, where not the usual.
    pub retention: Option<&'static str>,
    /// More lines of `[limits]`.
    pub limits: String,
    /// More lines of its `[recordings]`.
    pub recordings: String,
    /// `[limits]`, where not those for tests whose clients all come from one address, often.
    pub all_limits: Option<&'static str>,
    /// The recordings lie on a file system of this size in megabytes, the bastion's own.
    pub tmpfs: Option<u32>,
}

/// A host as `targets.toml` gets it.
pub struct Host<'a> {
    pub id: &'a str,
    pub labels: &'a str,
    pub port: u16,
    pub host_key: String,
}

impl Host<'_> {
    /// Its lines of `targets.toml`.
    fn entry(&self) -> String {
        let Self { id, labels, port, host_key } = self;
        let login = login();
        let id = if id.contains('.') { format!("\"{id}\"") } else { (*id).to_owned() };
        format!(
            "[targets.{id}]\naddress = \"127.0.0.1:{port}\"\nlabels = [{labels}]\nlogins = [\"{login}\"]\nhost_keys = [\"{host_key}\"]\n\n"
        )
    }
}

/// Makes keys and people; targets come later, when their host keys are known.
pub fn prepare(dir: &Path) -> Installation {
    for (below, mode) in [("bastion/keys", 0o700), ("bastion/policies", 0o755), ("people", 0o700)] {
        std::fs::create_dir_all(dir.join(below)).unwrap();
        std::fs::set_permissions(dir.join(below), Permissions::from_mode(mode)).unwrap();
    }
    for key in ["host_ed25519", "user_ca", "host_ca", "seal_key", "log_key"] {
        keygen(&dir.join("bastion/keys").join(key));
    }
    for (person, _) in PEOPLE {
        keygen(&dir.join("people").join(person));
    }
    Installation { dir: dir.to_owned() }
}

pub struct Installation {
    dir: PathBuf,
}

impl Installation {
    pub fn root(&self) -> PathBuf {
        self.dir.join("bastion")
    }

    pub fn user_ca(&self) -> PathBuf {
        self.root().join("keys/user_ca.pub")
    }

    pub fn key_of(&self, person: &str) -> PathBuf {
        self.dir.join("people").join(person)
    }

    pub fn config_of(&self, person: &str) -> PathBuf {
        self.dir.join("people").join(format!("{person}.conf"))
    }

    /// Writes `countersign.toml` and `policies/`.
    pub fn write(&self, plan: &Plan, hosts: &[Host<'_>]) {
        let settings = format!(
            "bastion = \"test\"\nhost = \"bastion\"\nlisten = [\"127.0.0.1:0\"]\nstate = \"var/state\"\n{}
[recordings]\ndir = \"var/recordings\"\nkey_files = [\"var/key-files\"]\nsingle_recipient = true\n{}
[recordings.auditors]\ncarol = \"{}\"\n
[limits]\n{}\n{}\n",
            plan.settings,
            plan.recordings,
            public(&self.key_of("carol")),
            plan.all_limits.unwrap_or(ROOMY),
            plan.limits,
        );
        let people: String = PEOPLE
            .iter()
            .map(|(name, groups)| format!("[people.{name}]\ngroups = [\"{groups}\"]\nkeys = [\"{}\"]\n\n", public(&self.key_of(name))))
            .collect();
        let targets: String = hosts.iter().map(Host::entry).collect();
        let root = self.root();
        // The file system for these two may come later.
        std::fs::create_dir_all(root.join("var/recordings")).unwrap();
        std::fs::set_permissions(root.join("var/recordings"), Permissions::from_mode(0o700)).unwrap();
        for (file, text) in [
            ("countersign.toml", settings.as_str()),
            ("policies/people.toml", &people),
            ("policies/targets.toml", &targets),
            ("policies/access.cedar", ACCESS),
            ("policies/approvals.toml", APPROVALS),
            ("policies/retention.toml", plan.retention.unwrap_or("[schedules.short]\nkeep_at_least = \"1d\"\ndelete_after = \"2d\"\n")),
        ] {
            std::fs::write(root.join(file), text).unwrap();
            std::fs::set_permissions(root.join(file), Permissions::from_mode(0o644)).unwrap();
        }
    }

    /// Appends one more target to `targets.toml`.
    pub fn adds(&self, host: &Host<'_>) {
        use std::io::Write;
        let mut targets = std::fs::File::options().append(true).open(self.root().join("policies/targets.toml")).unwrap();
        targets.write_all(host.entry().as_bytes()).unwrap();
    }

    /// Writes each person's `ssh_config` and the `known_hosts` for a bastion on `port`.
    pub fn write_laptops(&self, port: u16, hosts: &[&str]) {
        let people = self.dir.join("people");
        let keys = self.root().join("keys");
        let known = format!(
            "bastion {}\n@cert-authority {} {}\n",
            public(&keys.join("host_ed25519")),
            hosts.join(","),
            public(&keys.join("host_ca"))
        );
        std::fs::write(people.join("known_hosts"), known).unwrap();
        for (person, _) in PEOPLE {
            let config = format!(
                "Host bastion
  HostName 127.0.0.1
  HostKeyAlias bastion
  Port {port}
  User {person}
  ProxyJump none
Host *
  IdentityFile {key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {known}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 20
  LogLevel ERROR
",
                key = self.key_of(person).display(),
                known = people.join("known_hosts").display()
            );
            std::fs::write(self.config_of(person), config).unwrap();
        }
    }
}

const ROOMY: &str = "unauthenticated = 1000
shared_sources = [\"127.0.0.1/32\"]
shared_unauthenticated = 1000
held_per_connection = 64";

const ACCESS: &str = r#"
@id("engineers")
permit (principal in Group::"engineers", action in Action::"session", resource);

@id("prod-needs-a-lead") @hold("lead") @message("production: one lead must agree") @retain("short")
forbid (principal, action in Action::"session", resource in Label::"env=prod")
unless { principal in Group::"support" };

@id("support-looks")
permit (principal in Group::"support", action == Action::"exec", resource in Label::"env=prod")
when { context has command && ["id -un", "uptime"].contains(context.command) };

@id("quick-decisions") @hold("quick")
forbid (principal, action in Action::"session", resource in Label::"quick");

@id("never") @message("not this one")
forbid (principal, action in Action::"session", resource in Label::"never");

@id("leads-decide")
permit (principal in Group::"leads", action in [Action::"approve", Action::"kill", Action::"watch", Action::"review"], resource);

@id("auditors-replay")
permit (principal in Group::"auditors", action in [Action::"replay", Action::"watch", Action::"hold", Action::"review", Action::"audit"], resource);
"#;

const APPROVALS: &str = r#"
[workflows.lead]
approvers = ["leads"]
signature = "key"
decide_within = "15m"
offered = "30m"
longest = "4h"
reason = "required"

[workflows.quick]
approvers = ["leads"]
decide_within = "2s"
reason = "optional"

[presets.vscode]
scope = ["exec:*", "sftp", "forward-local:localhost:*"]
"#;
