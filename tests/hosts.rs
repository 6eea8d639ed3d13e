//! Hosts that prove themselves by a certificate: what a real sshd shows, and which of it is believed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Bastion, Daemon, SOON, keygen, login, program, public, until};

/// A host CA of the site's own, and hosts that it certifies.
struct Site {
    dir: PathBuf,
}

impl Site {
    fn new(dir: &Path) -> Self {
        let dir = dir.join("site");
        std::fs::create_dir(&dir).unwrap();
        for ca in ["ca", "other"] {
            keygen(&dir.join(ca));
        }
        Self { dir }
    }

    /// A host whose certificate `ssh-keygen -s CA …` makes; it lets the bastion in.
    fn host(&self, bastion: &Bastion, name: &str, ca: &str, words: &[&str]) -> Daemon {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        let at = dir.display();
        let user_ca = bastion.policy_file("../keys/user_ca.pub");
        let mut host = Daemon::prepare(
            &dir,
            &format!(
                "HostCertificate {at}/host_key-cert.pub\nTrustedUserCAKeys {}\nAuthorizedPrincipalsFile {at}/principals\n",
                user_ca.display()
            ),
        );
        std::fs::write(dir.join("principals"), format!("{}@{name}\n", login())).unwrap();
        let mut sign = Command::new(program("ssh-keygen"));
        sign.arg("-q").arg("-s").arg(self.dir.join(ca)).args(["-I", name]).args(words).arg(dir.join("host_key.pub"));
        assert!(sign.status().unwrap().success());
        host.start();
        host
    }
}

#[test]
fn a_host_certificate_is_believed_only_where_everything_fits() {
    let bastion = Bastion::start();
    let site = Site::new(bastion.dir());
    let named = |name: &'static str| vec!["-h", "-n", name, "-V", "-1m:+1h"];
    let cases: [(&str, &str, Vec<&str>, &str); 9] = [
        ("good-1", "ca", named("good-1"), ""),
        // An alias is a name of the target too.
        ("alias-1", "ca", named("www-1,unrelated"), ""),
        ("expired-1", "ca", vec!["-h", "-n", "expired-1", "-V", "-2h:-1h"], "a certificate that is valid"),
        ("renamed-1", "ca", named("somebody-else"), "a certificate for somebody-else"),
        ("golden-1", "ca", vec!["-h", "-V", "-1m:+1h"], "a certificate without a name"),
        // sshd does not mind whose certificate it shows.
        ("user-1", "ca", vec!["-n", "user-1", "-V", "-1m:+1h"], "a certificate that is not a host's"),
        ("stranger-1", "other", named("stranger-1"), "a certificate by SHA256:"),
        ("revoked-1", "ca", named("revoked-1"), "which is revoked"),
        ("plain-1", "ca", named("plain-1"), "shows SHA256:"),
    ];
    let hosts: Vec<Daemon> = cases.iter().map(|(name, ca, words, _)| site.host(&bastion, name, ca, words)).collect();
    let mut targets = std::fs::read_to_string(bastion.policy_file("targets.toml")).unwrap();
    let trust = format!("host_ca = [\"{}\"]", public(&site.dir.join("ca")));
    for ((name, ..), host) in cases.iter().zip(&hosts) {
        let more = match *name {
            "alias-1" => format!("{trust}\naliases = [\"www-1\"]"),
            // The host's own key is the CA's to certify, and no pin of ours.
            "plain-1" => format!("host_keys = [\"{}\"]", public(&site.dir.join("other"))),
            _ => trust.clone(),
        };
        targets.push_str(&host.entry(name, &more));
    }
    std::fs::write(bastion.policy_file("targets.toml"), targets).unwrap();
    let revoked = Command::new(program("ssh-keygen")).arg("-lf").arg(site.dir.join("revoked-1/host_key.pub")).output().unwrap();
    let revoked = String::from_utf8(revoked.stdout).unwrap().split(' ').nth(1).unwrap().to_owned();
    let people = std::fs::read_to_string(bastion.policy_file("people.toml")).unwrap();
    std::fs::write(bastion.policy_file("people.toml"), format!("{people}[revoked]\nkeys = [\"{revoked}\"]\n")).unwrap();
    bastion.reloads();
    until("the targets are loaded", SOON, || bastion.log().contains("reloaded"));

    for ((name, .., why), host) in cases.iter().zip(&hosts) {
        let seen = bastion.run("alice", &[format!("{}={name}@bastion", login()), "echo here".into()]);
        if why.is_empty() {
            assert_eq!(seen.well(), "here\n", "{name}");
            continue;
        }
        let said = seen.ends(69);
        assert!(said.contains(why) && said.contains(name), "{name}: {said}");
        assert!(
            !host.log().contains("userauth") && !host.log().contains("Accepted"),
            "{name}: the key exchange was the end: {}",
            host.log()
        );
    }
}
