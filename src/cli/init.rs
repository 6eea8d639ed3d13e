//! `countersign init DIR`: everything that a bastion needs to begin, and what to tell targets and laptops.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use data_encoding::BASE32_NOPAD;
use rand::TryRng as _;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::id::Person;
use crate::transcript::envelope::{NotARecipient, Recipient};
use crate::transcript::expiry;
use crate::transcript::manifest;

/// What a new directory holds, besides keys.
const STARTER: [(&str, &str); 7] = [
    ("countersign.toml", include_str!("starter/countersign.toml")),
    ("policies/people.toml", include_str!("starter/people.toml")),
    ("policies/targets.toml", include_str!("starter/targets.toml")),
    ("policies/access.cedar", include_str!("starter/access.cedar")),
    ("policies/approvals.toml", include_str!("starter/approvals.toml")),
    ("policies/retention.toml", include_str!("starter/retention.toml")),
    ("policies/cases/starter.toml", include_str!("starter/cases.toml")),
];
const PORT: u16 = 2222;

/// The keys of a bastion, by file name below `keys/`.
pub const KEYS: [&str; 5] = ["host_ed25519", "user_ca", "host_ca", "seal_key", "log_key"];

/// Makes a new directory and prints what comes next. `host` is the name that people will use; an auditor
/// is `NAME=KEY` or `NAME=FILE`.
pub fn run(dir: &Path, host: Option<&str>, auditors: &[String]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(new(dir, host, auditors)?.as_bytes()).and_then(|()| out.flush()).context("printing what comes next")
}

/// Makes it; returns what is printed: what comes next, and the emergency CA's key, which is nowhere else.
fn new(dir: &Path, host: Option<&str>, auditors: &[String]) -> anyhow::Result<Zeroizing<String>> {
    let host = match host {
        Some(host) => host.to_owned(),
        None => own_name(),
    };
    if !crate::config::is_host(&host) {
        bail!("{host:?} is not a host's name: give the one that people will write after @");
    }
    let auditors: Vec<(Person, Recipient)> = auditors.iter().map(|text| auditor(text)).collect::<Result<_, _>>()?;
    let made = make(dir, &host, &auditors)?;
    Ok(Zeroizing::new(made.instructions(dir, &host) + made.emergency().as_str()))
}

/// The public halves of the new keys that others need, as their files hold them.
#[derive(Debug)]
pub(crate) struct Made {
    host_key: String,
    user_ca: String,
    host_ca: String,
    emergency: Emergency,
}

/// The emergency CA's key: printed once, and kept nowhere but in its public half.
struct Emergency {
    public: String,
    private: Zeroizing<String>,
}

impl std::fmt::Debug for Emergency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emergency").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes the directory and all that it holds.
pub(crate) fn make(dir: &Path, host: &str, auditors: &[(Person, Recipient)]) -> anyhow::Result<Made> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!("{} is not empty: give a new directory, or remove what a failed attempt left", dir.display());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| format!("making {}", dir.display()))?;
    // One that was there already may be open to others.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).with_context(|| format!("closing {} to others", dir.display()))?;
    for below in ["keys", "key-files", "policies", "policies/cases", "recordings", "state"] {
        let path = dir.join(below);
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("making {}", path.display()))?;
    }
    let bastion = bastion_id()?;
    let listed = match auditors {
        [] => "# carol = \"ssh-ed25519 AAAA… carol@laptop\"\n# offline = \"age1…\"\n".to_owned(),
        some => some.iter().map(|(name, key)| format!("{name} = \"{key}\"\n")).collect(),
    };
    for (name, text) in STARTER {
        let text = text.replace("@BASTION@", &bastion).replace("@HOST@", host).replace("@AUDITORS@", &listed);
        write(&dir.join(name), 0o644, text.as_bytes())?;
    }
    let mut public = Vec::new();
    for name in KEYS {
        public.push(make_key(&dir.join("keys").join(name), &format!("{name}@{bastion}"))?);
    }
    if let Some(seal) = public.get(3) {
        let line = format!("{bastion} namespaces=\"{},{}\" {seal}\n", manifest::NAMESPACE, expiry::NAMESPACE);
        write(&dir.join("keys/allowed_signers.pub"), 0o644, line.as_bytes())?;
    }
    let emergency = emergency(&bastion)?;
    write(&dir.join("keys/emergency_ca.pub"), 0o644, format!("{}\n", emergency.public).as_bytes())?;
    let mut public = public.into_iter();
    match (public.next(), public.next(), public.next()) {
        (Some(host_key), Some(user_ca), Some(host_ca)) => Ok(Made { host_key, user_ca, host_ca, emergency }),
        _ => bail!("no keys were made"),
    }
}

/// Reads `carol=ssh-ed25519 …`, `offline=age1…` or `carol=~/carol.pub`.
fn auditor(text: &str) -> anyhow::Result<(Person, Recipient)> {
    let Some((name, key)) = text.split_once('=') else {
        bail!("{text:?} names no auditor: write --auditor NAME=KEY, where KEY is a public key or its file");
    };
    let name: Person = name.parse()?;
    let key = match key.parse::<Recipient>() {
        Ok(key) => key,
        Err(NotARecipient::Unknown) if Path::new(key).is_file() => {
            let text = fs::read_to_string(key).with_context(|| format!("reading {key}"))?;
            text.parse().with_context(|| format!("nothing can be encrypted to {key}"))?
        }
        Err(why) => bail!("nothing can be encrypted to the key of {name}: {why}"),
    };
    Ok((name, key))
}

/// Draws an Ed25519 pair from the operating system's generator.
fn draw_key(comment: &str) -> anyhow::Result<PrivateKey> {
    let mut seed = Zeroizing::new([0u8; 32]);
    rand::rngs::SysRng.try_fill_bytes(seed.as_mut_slice()).context("drawing random numbers")?;
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(comment);
    Ok(key)
}

/// The way in when the bastion is down: no file ever holds it.
fn emergency(bastion: &str) -> anyhow::Result<Emergency> {
    let key = draw_key(&format!("emergency_ca@{bastion}"))?;
    let private = key.to_openssh(LineEnding::LF).context("encoding the emergency CA's key")?;
    let public = key.public_key().to_openssh().context("encoding emergency_ca.pub")?;
    Ok(Emergency { public, private })
}

/// Draws a pair and writes both halves; returns the public one.
fn make_key(path: &Path, comment: &str) -> anyhow::Result<String> {
    let key = draw_key(comment)?;
    let private = key.to_openssh(LineEnding::LF).with_context(|| format!("encoding {}", path.display()))?;
    let public = key.public_key().to_openssh().with_context(|| format!("encoding {}.pub", path.display()))?;
    write(path, 0o600, private.as_bytes())?;
    write(&path.with_extension("pub"), 0o644, format!("{public}\n").as_bytes())?;
    Ok(public)
}

/// Writes a new file, durably; never over another.
fn write(path: &Path, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// 80 random bits: no two bastions ever share an id.
fn bastion_id() -> anyhow::Result<String> {
    let mut bits = [0u8; 10];
    rand::rngs::SysRng.try_fill_bytes(&mut bits).context("drawing random numbers")?;
    Ok(format!("b-{}", BASE32_NOPAD.encode(&bits).to_ascii_lowercase()))
}

/// What this machine calls itself.
fn own_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if crate::config::is_host(name.trim()) { name.trim().to_owned() } else { "bastion".to_owned() }
}

impl Made {
    fn instructions(&self, dir: &Path, host: &str) -> String {
        let dir = dir.display();
        let Self { host_key, user_ca, host_ca, emergency } = self;
        let emergency = &emergency.public;
        let bare = |key: &str| key.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
        let (host_key, host_ca) = (bare(host_key), bare(host_ca));
        let known = if PORT == 22 { host.to_owned() } else { format!("[{host}]:{PORT}") };
        format!(
            "countersign: made {dir}: keys, countersign.toml, policies

On each target, once it is in targets.toml as TARGET: a script that shows what it would change, and changes it
with --apply. Copy it there and run it as root:

    countersign ca enroll TARGET -c {dir} > enroll.sh

    By hand it is this; every LOGIN gets a file of its own:

    printf '%s\n' '{user_ca}' '{emergency}' > /etc/ssh/countersign_ca.pub
    mkdir -p /etc/ssh/countersign_principals
    echo 'LOGIN@TARGET' > /etc/ssh/countersign_principals/LOGIN

    and in /etc/ssh/sshd_config, then reload sshd:

    TrustedUserCAKeys /etc/ssh/countersign_ca.pub
    AuthorizedPrincipalsFile /etc/ssh/countersign_principals/%u

On each laptop; PERSON is their name in people.toml. Both files come from here, once it runs:

    ssh -p {PORT} PERSON@{host} setup config > ~/.ssh/new && mv ~/.ssh/new ~/.ssh/countersign.conf
    ssh -p {PORT} PERSON@{host} setup known_hosts > ~/.ssh/new && mv ~/.ssh/new ~/.ssh/countersign_known_hosts
    and first in ~/.ssh/config:   Include countersign.conf

    By hand, in ~/.ssh/config:

    Host bastion {host}
        HostName {host}
        Port {PORT}
        User PERSON
        ProxyJump none
        IdentitiesOnly yes
        IdentityFile ~/.ssh/id_ed25519

    and in ~/.ssh/known_hosts; the second line names your targets exactly, never a bare *:

    {known} {host_key}
    @cert-authority web-1,db-1 {host_ca}

    Then: ssh -J bastion deploy@web-1     or   ssh deploy=web-1@bastion

Next here: add people to {dir}/policies/people.toml, hosts to {dir}/policies/targets.toml, and who may read
recordings to [recordings.auditors] in {dir}/countersign.toml, then

    countersign check -c {dir}
    countersign serve -c {dir}
"
        )
    }

    /// What is said once: nobody can read it anywhere later.
    fn emergency(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "
The emergency CA: the way into your targets when this bastion is down. Its private key is printed here and now,
and kept nowhere. Put it on paper or on a stick, into a safe, and clear this screen; whoever has it gets in
everywhere, unrecorded. docs/emergency.md says how it is used. Without it: delete keys/emergency_ca.pub.

{}",
            *self.emergency.private
        ))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use super::*;
    use crate::config::{Directory, cases, key};

    const AGE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    pub fn carol() -> Vec<(Person, Recipient)> {
        let offline = "offline=age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";
        vec![auditor(&format!("carol={AGE}")).unwrap(), auditor(offline).unwrap()]
    }

    #[test]
    fn without_an_auditor_it_says_that_nobody_could_read() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new");
        new(&dir, Some("bastion.example.org"), &[]).unwrap();
        let problems = Directory::load(&dir).unwrap_err();
        assert!(problems[0].what.contains("nobody could read the recordings"), "{problems:#?}");
        assert_eq!(problems.len(), 1);
        assert!(run(&parent.path().join("two"), Some("b"), &["carol=sk-ssh-ed25519@openssh.com AAAA".into()]).is_err());
    }

    #[test]
    fn a_new_directory_loads_as_made() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new");
        new(&dir, Some("bastion.example.org"), &[format!("carol={AGE}")]).unwrap();
        let directory = Directory::load(&dir).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(directory.config.host, "bastion.example.org");
        assert!(directory.config.bastion.len() >= 18);
        assert_eq!(directory.warnings.len(), 2, "that there is nobody yet, and one recipient: {:#?}", directory.warnings);
        assert_eq!(cases::run(&directory), []);
    }

    #[test]
    fn it_still_loads_when_its_comments_are_taken_at_their_word() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), "bastion", &carol()).unwrap();
        let keys: Vec<String> = (0..5).map(|n| make_key(&dir.path().join(format!("k{n}")), "x").unwrap()).collect();
        let mut keys = keys.iter();
        for name in ["people.toml", "targets.toml", "cases/starter.toml"] {
            let path = dir.path().join("policies").join(name);
            let uncommented: Vec<String> = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter_map(|line| line.strip_prefix("# "))
                .filter(|line| {
                    line.starts_with('[')
                        || line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
                })
                .filter(|line| {
                    !line.contains("SHA256:…")
                        && !line.starts_with("[revoked]")
                        && !line.starts_with("host_ca")
                        && !line.starts_with("principal")
                        && !line.starts_with("key_ids")
                        && !line.starts_with("serials")
                        && !line.starts_with("second_factor")
                })
                .map(|line| match line.split_once("ssh-ed25519 AAAA…") {
                    Some((before, after)) => format!("{before}{}\"]{}", keys.next().unwrap(), after.split_once("\"]").unwrap().1),
                    None => line.to_owned(),
                })
                .collect();
            fs::write(&path, uncommented.join("\n")).unwrap();
        }
        let directory = Directory::load(dir.path()).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(directory.people.iter().count(), 3);
        assert_eq!(directory.targets.iter().count(), 1);
        // Support is an example that stands in comments only; staging has no host yet.
        assert!(directory.warnings.iter().all(|warning| warning.what.contains("env=staging")), "{:#?}", directory.warnings);
        assert_eq!(cases::run_counted(&directory), (vec![], 1));
        assert!(!made.user_ca.is_empty());
    }

    #[test]
    fn keys_are_openssh_keys_that_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), "bastion", &carol()).unwrap();
        for name in KEYS {
            let path = dir.path().join("keys").join(name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let public = fs::read_to_string(path.with_extension("pub")).unwrap();
            key::parse_public_key(&public).unwrap();
            let says = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output().unwrap();
            assert_eq!(String::from_utf8(says.stdout).unwrap().trim(), public.trim(), "ssh-keygen reads {name}");
        }
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let text = made.instructions(dir.path(), "bastion");
        assert!(text.contains("AuthorizedPrincipalsFile /etc/ssh/countersign_principals/%u"));
        assert!(text.contains("[bastion]:2222 ssh-ed25519 AAAA"));
        assert!(!text.contains("PRIVATE"));
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mine"), "x").unwrap();
        let refused = new(dir.path(), Some("bastion"), &[]).unwrap_err().to_string();
        assert!(refused.contains("is not empty"), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let file = dir.path().join("mine");
        assert!(run(&file, Some("bastion"), &[]).is_err());
        assert!(run(&dir.path().join("new"), Some("-oProxyCommand=x"), &[]).is_err());
        assert!(!dir.path().join("new").exists());
    }
}
