//! `countersign ca show -c DIR`: client lines and target lines, filled in.

use std::path::Path;

use super::{load, public_keys};
use crate::authority::PublicKeys;
use crate::cli::say;
use crate::console::setup::Laptop;

/// What stands for everybody's own name.
const PERSON: &str = "PERSON";

pub fn run(dir: &Path) -> anyhow::Result<u8> {
    let directory = load(dir)?;
    let keys = public_keys(&directory)?;
    let laptop = Laptop::new(&directory, PERSON, |_| true);
    let (host, port) = directory.config.dialled();
    let mut text = format!(
        "==> each laptop: ~/.ssh/countersign.conf, with their name for PERSON; or by themselves:
    ssh -p {port} PERSON@{host} setup config > ~/.ssh/new && mv ~/.ssh/new ~/.ssh/countersign.conf
    ssh -p {port} PERSON@{host} setup known_hosts > ~/.ssh/new && mv ~/.ssh/new ~/.ssh/countersign_known_hosts

{}
==> each laptop: ~/.ssh/countersign_known_hosts; the bastion's key is {}
{}
",
        laptop.config(),
        keys.host.fingerprint(Default::default()),
        laptop.known_hosts(&keys.clone().into())
    );
    text.push_str(&targets(&keys, &dir.display().to_string()));
    Ok(say(&text).err().unwrap_or(0))
}

/// What every target gets.
fn targets(keys: &PublicKeys, dir: &str) -> String {
    let cas: String = keys.trusted_by_targets().filter_map(|key| key.to_openssh().ok()).map(|line| line + "\n").collect();
    let emergency = match keys.emergency {
        Some(_) => "",
        None => {
            "# no emergency CA: nobody gets in while this bastion is down. ssh-keygen -t ed25519 -f emergency_ca, its .pub into keys/\n"
        }
    };
    format!(
        "==> each target: a script puts this there, countersign ca enroll TARGET -c {dir}
/etc/ssh/countersign_ca.pub
{cas}{emergency}
/etc/ssh/countersign_principals/LOGIN
LOGIN@TARGET

/etc/ssh/sshd_config.d/10-countersign.conf
TrustedUserCAKeys /etc/ssh/countersign_ca.pub
AuthorizedPrincipalsFile /etc/ssh/countersign_principals/%u
"
    )
}
