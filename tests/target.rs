//! What reaches a target, and what does not: its key, its certificate, its log.

use std::process::Command;

use crate::harness::{Bastion, Client, Way, login, program};

#[test]
fn a_changed_host_key_is_refused_before_any_byte() {
    for way in Way::BOTH {
        let bastion = Bastion::start();
        let mark = bastion.dir().join("mark");
        let mut words = way.to("changed-1");
        words.push(format!("touch {}", mark.display()));
        let mut client = Client::start(bastion.ssh("alice", &words));
        client.types(b"secret");
        let seen = client.ends();
        assert!(seen.ends(69).contains("SHA256:"), "{way:?} {seen:?}");
        assert!(!mark.exists());
        let log = bastion.target.log();
        assert!(
            log.contains("Connection from") && !log.contains("userauth") && !log.contains("Accepted"),
            "the key exchange was the end: {log}"
        );
        let session = only_session(&bastion);
        bastion.audited_with("session.open", &["changed-1", &session]);
        bastion.audited_with("session.end", &[&session, "target refused"]);
        let nothing = bastion.audit().iter().all(|(name, _)| name != "request.submit");
        assert!(nothing, "nobody was asked in vain: {:?}", bastion.audit());
    }
}

#[test]
fn a_certificate_of_one_target_is_worth_nothing_on_another() {
    let bastion = Bastion::start();
    // db-1 answers at web-1's address, with web-1's key: its sshd lets in LOGIN@web-1 only.
    let client = Client::start(bastion.ssh("alice", &[format!("{}=db-1@bastion", login()), "true".into()]));
    let request = client.request();
    bastion.approve(&request, &[]);
    let seen = client.ends();
    assert!(seen.ends(69).contains("refused our certificate"), "{seen:?}");
    let log = bastion.target.log();
    assert!(log.contains("authorized principal") && !log.contains("Accepted"), "{log}");
    let session = only_session(&bastion);
    bastion.audited_with("certificate.issue", &[&session, &request]);
    bastion.audited_with("session.open", &[&session, &request, "db-1"]);
    bastion.audited_with("session.end", &[&session, "target refused"]);
}

#[test]
fn a_certificate_fits_one_purpose() {
    let bastion = Bastion::start();
    let client = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "cat $SSH_USER_AUTH".into()]));
    let request = client.request();
    bastion.approve(&request, &[]);
    let shown = client.ends().well();

    let listed = listing(&bastion, &shown);

    let session = bastion.sealed()["session"].as_str().unwrap().to_owned();
    assert!(listed.text.contains("ssh-ed25519-cert-v01@openssh.com user certificate"), "{listed:?}");
    assert_eq!(listed.one("Key ID: "), format!("\"countersign/{session}/{request}/alice\""));
    assert_eq!(listed.one("Serial: "), bastion.sealed()["serial"].to_string());
    assert_eq!(listed.below("Principals:"), [format!("{}@web-1", login())]);
    assert_eq!(listed.below("Critical Options:"), ["source-address 127.0.0.1/32"]);
    assert!(listed.text.contains("Extensions: (none)"), "a command without a terminal needs none: {listed:?}");
    let seconds = listed.validity();
    assert!((1..=150).contains(&seconds), "{seconds} s in {listed:?}");
    let log = bastion.target.log();
    assert!(log.contains(&format!("countersign/{session}/{request}/alice")), "the target's own log names the person: {log}");

    let second = bastion.run("alice", &[format!("{}=web-1@bastion", login()), "cat $SSH_USER_AUTH".into()]).well();
    let second = listing(&bastion, &second);
    assert_ne!(second.one("Serial: "), listed.one("Serial: "));
    assert_ne!(second.one("Public key: "), listed.one("Public key: "), "a key of its own each time");
}

#[test]
fn a_terminal_needs_one_extension() {
    let bastion = Bastion::start();
    bastion.open_grant(&[]);
    let seen = bastion.run("alice", &["-tt", &format!("{}=web-1@bastion", login()), "cat $SSH_USER_AUTH"]);
    let listed = listing(&bastion, &seen.out().replace('\r', ""));
    assert_eq!(listed.below("Extensions:"), ["permit-pty"]);
}

#[test]
fn an_exact_command_is_bound_into_the_certificate() {
    let bastion = Bastion::start();
    let command = "cat $SSH_USER_AUTH";
    let request = bastion.open_grant(&["--exec", command]);
    let shown = bastion.run("alice", &[format!("{}=web-1@bastion", login()), command.into()]).well();
    let listed = listing(&bastion, &shown);
    assert!(listed.below("Critical Options:").contains(&format!("force-command {command}")), "{listed:?}");
    let other = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), format!("{command} ")]));
    other.reads("needs approval");
    assert_ne!(other.request(), request, "a trailing space is another command");
}

#[test]
fn an_unreachable_target_is_said_to_be_one() {
    let mut bastion = Bastion::start();
    bastion.target.stops();
    let seen = bastion.run("alice", &[format!("{}=dev-1@bastion", login()), "true".into()]);
    assert!(seen.ends(69).contains("countersign: "), "{seen:?}");
}

/// The id of the one session so far.
#[track_caller]
fn only_session(bastion: &Bastion) -> String {
    let sessions = bastion.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions[0]["session"].as_str().expect("an id").to_owned()
}

/// What `ssh-keygen -L` prints of a certificate.
#[derive(Debug)]
struct Listing {
    text: String,
}

/// Lists the certificate that `cat $SSH_USER_AUTH` printed.
fn listing(bastion: &Bastion, shown: &str) -> Listing {
    let certificate = shown.trim().strip_prefix("publickey ").unwrap_or_else(|| panic!("no certificate in {shown}"));
    let file = bastion.dir().join("shown-cert.pub");
    std::fs::write(&file, certificate).unwrap();
    let output = Command::new(program("ssh-keygen")).env("TZ", "UTC").arg("-L").arg("-f").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Listing { text: String::from_utf8(output.stdout).unwrap() }
}

impl Listing {
    fn one(&self, title: &str) -> String {
        let line = self.text.lines().find_map(|line| line.trim().strip_prefix(title));
        line.unwrap_or_else(|| panic!("no {title:?} in {}", self.text)).to_owned()
    }

    /// The lines under a title: those that are indented deeper.
    fn below(&self, title: &str) -> Vec<String> {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let mut lines = self.text.lines().skip_while(|line| line.trim() != title);
        let depth = lines.next().map(indent).unwrap_or_else(|| panic!("no {title:?} in {}", self.text));
        lines.take_while(|line| indent(line) > depth).map(|line| line.trim().to_owned()).collect()
    }

    /// Seconds from the first moment to the last.
    fn validity(&self) -> i64 {
        let line = self.one("Valid: ");
        let (from, to) = line.strip_prefix("from ").and_then(|rest| rest.split_once(" to ")).unwrap_or_else(|| panic!("{line}"));
        let at = |text: &str| chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").unwrap();
        (at(to) - at(from)).num_seconds()
    }
}
