//! The CA and enrolment: laptops and targets made from nothing but what the program prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{Bastion, Client, Daemon, Plan, SOON, Seen, keygen, login, program, public, until};

const AGE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn countersign(words: &[&str]) -> Seen {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(words).env("NO_COLOR", "1");
    Client::start(command).ends()
}

/// The directory of a running bastion.
fn root(bastion: &Bastion) -> PathBuf {
    bastion.policy_file("..").canonicalize().unwrap()
}

/// Lets an operator's edit of `targets.toml` count.
fn adds_targets(bastion: &Bastion, entries: &str) {
    let file = bastion.policy_file("targets.toml");
    let whole = std::fs::read_to_string(&file).unwrap() + "\n" + entries;
    std::fs::write(file, whole).unwrap();
    reloads(bastion);
}

fn reloads(bastion: &Bastion) {
    let before = bastion.log().len();
    bastion.reloads();
    until("the bastion has reloaded", SOON, || bastion.log().get(before..).is_some_and(|said| said.contains(": reloaded")));
}

/// A script of `ca enroll`, as a file.
fn script(dir: &Path, bastion: &Path, words: &[&str]) -> PathBuf {
    let mut all = vec!["ca", "enroll"];
    all.extend(words);
    all.extend(["-c", bastion.to_str().unwrap()]);
    let file = dir.join("enroll.sh");
    std::fs::write(&file, countersign(&all).well()).unwrap();
    file
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn well(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

// ---- laptops ----

#[test]
fn a_laptop_is_two_files_and_an_include() {
    let bastion = Bastion::with(Plan {
        settings: "[client]\nnames = [\"*.prod.example.org\", \"dev-*\"]\naddress = \"ADDRESS\"".replace("ADDRESS", "127.0.0.1:2222"),
        ..Plan::default()
    });
    let settings = root(&bastion).join("countersign.toml");
    let text = std::fs::read_to_string(&settings).unwrap().replace("127.0.0.1:2222", &format!("127.0.0.1:{}", bastion.port));
    std::fs::write(&settings, text).unwrap();
    reloads(&bastion);

    let config = bastion.run("alice", &["bastion", "setup", "config"]).well();
    let known = bastion.run("alice", &["bastion", "setup", "known_hosts"]).well();

    assert_eq!(bastion.says("alice", &["setup", "known_hosts"]).well(), known, "the companion says the same");
    assert!(known.contains("@cert-authority *.prod.example.org,"), "{known}");
    assert!(known.contains("@cert-authority dev-*,!dev-*.* "), "a star of OpenSSH's takes dots: {known}");
    assert!(known.contains("web-1") && !known.contains("never-1") && !known.contains(",*") && !known.contains("127.0.0.1,"), "{known}");
    let carol = bastion.run("carol", &["bastion", "setup", "known_hosts"]).well();
    assert!(!carol.contains("web-1"), "what is not hers she does not learn: {carol}");

    let home = bastion.dir().join("laptop");
    let ssh = home.join(".ssh");
    std::fs::create_dir_all(&ssh).unwrap();
    std::fs::copy(bastion.key_of("alice"), ssh.join("id_ed25519")).unwrap();
    std::fs::write(ssh.join("countersign.conf"), &config).unwrap();
    std::fs::write(ssh.join("countersign_known_hosts"), &known).unwrap();
    // The mistake that makes ssh start itself without end, where nothing comes before it.
    std::fs::write(ssh.join("config"), "Include countersign.conf\nHost *\n    ProxyJump bastion\n").unwrap();
    let at_home = |script: &str| {
        let flags = if login() == "root" { "-m" } else { "-rm" };
        let whole = format!(
            "mount --bind '{}' /root && chmod 700 /root/.ssh && {script}; status=$?; ssh -O exit bastion 2>/dev/null; exit $status",
            home.display()
        );
        let mut command = Command::new(program("unshare"));
        command.args([flags, "sh", "-c", &whole]).env("HOME", "/root").env_remove("SSH_AUTH_SOCK");
        Client::start(command).ends()
    };
    assert_eq!(
        at_home("ssh -o BatchMode=yes dev-1 'echo here' && ssh -o BatchMode=yes bastion whoami | head -1").well().lines().next(),
        Some("here")
    );
    let held = at_home("LC_COUNTERSIGN_REASON=x timeout 5 ssh -o BatchMode=yes -o SendEnv=LC_* web-1 true");
    assert!(held.err.contains("needs approval"), "{held:?}");
    let unknown = at_home("ssh -o BatchMode=yes dev-9 true");
    assert!(
        unknown.status != 0 && !unknown.err.contains("verification failed"),
        "a name of the site without a target is refused: {unknown:?}"
    );
    let wrong = known.replace(&public(&root(&bastion).join("keys/host_ca")), &public(&bastion.key_of("bob")));
    std::fs::write(ssh.join("countersign_known_hosts"), wrong).unwrap();
    let distrusted = at_home("ssh -o BatchMode=yes dev-1 true");
    assert!(distrusted.err.contains("verification failed"), "{distrusted:?}");
}

#[test]
fn patterns_that_cover_the_rest_of_the_world_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("bastion");
    countersign(&["init", at.to_str().unwrap(), "--host", "bastion", "--auditor", &format!("carol={AGE}")]).well();
    let settings = at.join("countersign.toml");
    let whole = std::fs::read_to_string(&settings).unwrap();
    for bad in ["*", "*.com", "*.co.uk", "web.*", "!web-1"] {
        std::fs::write(&settings, format!("{whole}\n[client]\nnames = [\"{bad}\"]\n")).unwrap();
        let seen = countersign(&["check", "-c", at.to_str().unwrap()]);
        assert!(seen.status == 78 && seen.out().contains("countersign.toml:"), "{bad}: {seen:?}");
    }
}

// ---- the emergency ----

#[test]
fn the_emergency_ca_gets_in_as_its_document_says() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("bastion");
    let printed = countersign(&["init", at.to_str().unwrap(), "--host", "bastion", "--auditor", &format!("carol={AGE}")]).well();
    let from = printed.find("-----BEGIN OPENSSH PRIVATE KEY-----").expect("it is printed");
    let until_end = "-----END OPENSSH PRIVATE KEY-----\n";
    let to = printed.find(until_end).expect("to its end") + until_end.len();
    let private = &printed[from..to];
    let line = private.lines().nth(2).unwrap();
    let kept = Command::new("grep").args(["-rlF", line]).arg(&at).output().unwrap();
    assert!(kept.stdout.is_empty(), "{}", said(&kept));

    let mut host = Daemon::prepare(&dir.path().join("host"), "");
    std::fs::write(at.join("policies/targets.toml"), host.entry("web-1", &format!("host_keys = [\"{}\"]", host.host_key()))).unwrap();
    let shown = countersign(&["ca", "show", "-c", at.to_str().unwrap()]).well();
    let emergency = std::fs::read_to_string(at.join("keys/emergency_ca.pub")).unwrap();
    assert!(shown.contains(emergency.trim()) && shown.contains("@cert-authority web-1 ") && shown.contains("ProxyJump none"), "{shown}");
    let enroll = script(dir.path(), &at, &["web-1"]);
    well(&host.runs(&enroll, &["--apply"], &[]));
    host.start();

    // The document's own lines, for this host and account.
    std::fs::write(dir.path().join("emergency"), private).unwrap();
    let document = include_str!("../docs/emergency.md");
    let lines: Vec<&str> =
        document.lines().filter_map(|line| line.strip_prefix("    ")).take_while(|line| !line.starts_with("shred")).collect();
    let there = format!(
        "{}@127.0.0.1 -p {} -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR 'echo in'",
        login(),
        host.port
    );
    let typed = lines.join("\n").replace("deploy@10.0.0.5", &there).replace("deploy@", &format!("{}@", login()));
    assert!(typed.contains("ssh-keygen -s emergency"), "{typed}");
    let run = |typed: &str| {
        Command::new("sh").args(["-ec", typed]).current_dir(dir.path()).env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).output().unwrap()
    };
    let seen = run(&typed);
    let out = well(&seen);
    let key: Vec<&str> = emergency.split(' ').take(2).collect();
    assert!(out.contains(&key.join(" ")) && out.contains("\nin\n"), "{out}");
    assert!(host.log().contains("emergency alice INC-42"), "the target's own log names the person: {}", host.log());
    let elsewhere = run(&typed
        .replace("@web-1", "@db-1")
        .replace("-f rescue\n", "-f rescue2\n")
        .replace("rescue.pub", "rescue2.pub")
        .replace("rescue-cert", "rescue2-cert")
        .replace("-i rescue", "-i rescue2"));
    assert!(!elsewhere.status.success(), "a certificate for another target: {}", said(&elsewhere));
}

// ---- targets ----

#[test]
fn an_enrolled_host_is_reached_and_an_undone_one_is_as_before() {
    let bastion = Bastion::start();
    // As Debian ships it, and with a block at the end that lines behind it would fall into.
    let mut host = Daemon::prepare(&bastion.dir().join("fresh"), "Match User nobody\n    X11Forwarding no\n");
    let mut plain = Daemon::prepare_plain(&bastion.dir().join("old"), "Match User nobody\n    X11Forwarding no\n");
    let trust = |host: &Daemon| format!("host_keys = [\"{}\"]", host.host_key());
    adds_targets(&bastion, &(host.entry("fresh-1", &trust(&host)) + &plain.entry("old-1", &trust(&plain))));
    for (host, id) in [(&mut host, "fresh-1"), (&mut plain, "old-1")] {
        let before = (host.whole(), std::fs::read_to_string(host.config()).unwrap());
        let enroll = script(&host.dir, &root(&bastion), &[id]);
        host.start();
        let to = [format!("{}={id}@bastion", login()), "echo in".into()];
        let refused = bastion.run("alice", &to);
        let words = format!("not enrolled? countersign ca check {}@{id}", login());
        assert!(refused.ends(69).contains(&words), "{refused:?}");

        let shown = well(&host.runs(&enroll, &[], &[]));
        assert!(shown.contains("+TrustedUserCAKeys") && shown.contains("nothing was changed; the same with --apply does"), "{shown}");
        assert_eq!(host.whole(), before.0, "it only shows");
        let applied = well(&host.runs(&enroll, &["--apply"], &[]));
        assert!(applied.contains(&format!("{id}: enrolled")) && applied.contains("undo"), "{applied}");
        assert_eq!(host.effective("nobody", "x11forwarding"), "no", "what was there counts as before");
        assert_eq!(host.effective("nobody", "trustedusercakeys"), host.effective("root", "trustedusercakeys"), "for everybody");
        until("sshd has reloaded", SOON, || bastion.run("alice", &to).out() == "in\n");
        assert!(well(&host.runs(&enroll, &["--apply"], &[])).contains("nothing to change"));

        // The same host is another target too.
        let other = script(bastion.dir(), &root(&bastion), &["dev-1"]);
        assert!(well(&host.runs(&other, &["--apply"], &[])).contains(&format!("+{}@dev-1", login())));
        well(&host.runs(&other, &["--undo"], &[]));
        assert!(well(&host.runs(&enroll, &["--apply"], &[])).contains("nothing to change"));

        assert!(well(&host.runs(&enroll, &["--undo"], &[])).contains("taken back"));
        assert_eq!((host.whole(), std::fs::read_to_string(host.config()).unwrap()), before);
        assert!(!host.dir.join("countersign_principals").exists() && !host.dir.join("countersign_ca.pub").exists());
        assert!(well(&host.runs(&enroll, &["--undo"], &[])).contains("nothing to change"));
    }
}

#[test]
fn enrolment_locks_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("bastion");
    countersign(&["init", at.to_str().unwrap(), "--host", "bastion", "--auditor", &format!("carol={AGE}")]).well();
    std::fs::write(
        at.join("policies/targets.toml"),
        format!(
            "[targets.web-1]\naddress = \"10.0.0.5\"\nlogins = [\"{}\", \"nobody\"]\nhost_keys = [\"{}\"]\n",
            login(),
            public(&at.join("keys/host_ed25519"))
        ),
    )
    .unwrap();
    let enroll = script(dir.path(), &at, &["web-1"]);
    keygen(&dir.path().join("theirs"));
    let theirs = public(&dir.path().join("theirs"));
    let ours = std::fs::read_to_string(at.join("keys/user_ca.pub")).unwrap();
    let emergency = std::fs::read_to_string(at.join("keys/emergency_ca.pub")).unwrap();
    let host = |name: &str, more: &str| {
        let at = dir.path().join(name);
        let host = Daemon::prepare(&at, &more.replace("AT", at.to_str().unwrap()));
        std::fs::write(at.join("theirs.pub"), format!("{theirs}\n")).unwrap();
        std::fs::create_dir(at.join("auth")).unwrap();
        host
    };
    let refused = |host: &Daemon, words: &[&str]| {
        let before = host.whole();
        let output = host.runs(&enroll, &["--apply"], &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(words.iter().all(|word| text.contains(word)) && text.contains("nothing was changed"), "{text}");
        assert_eq!(host.whole(), before);
        assert!(!host.dir.join("countersign_ca.pub").exists());
    };

    // Another CA without principals files: its people come in under their bare login.
    let other_ca = host("other-ca", "TrustedUserCAKeys AT/theirs.pub\n");
    refused(&other_ca, &["another TrustedUserCAKeys", &theirs, ours.trim(), emergency.trim(), "Match User nobody", "nobody@web-1"]);
    // The merged text, put in by hand, is all that was missing.
    std::fs::write(other_ca.dir.join("theirs.pub"), format!("{theirs}\n{ours}{emergency}")).unwrap();
    let principals = other_ca.dir.join("countersign_principals");
    std::fs::create_dir(&principals).unwrap();
    let mut config = std::fs::read_to_string(other_ca.config()).unwrap();
    for account in [login(), "nobody"] {
        config.push_str(&format!("Match User {account}\n    AuthorizedPrincipalsFile {}/%u\n", principals.display()));
        std::fs::write(principals.join(account), format!("{account}\n{account}@web-1\n")).unwrap();
    }
    std::fs::write(other_ca.config(), config).unwrap();
    assert!(well(&other_ca.runs(&enroll, &["--apply"], &[])).contains("nothing to change"));

    let other_file = host("other-file", "TrustedUserCAKeys AT/theirs.pub\nAuthorizedPrincipalsFile AT/auth/%u\n");
    std::fs::write(other_file.dir.join("auth/nobody"), "staff\n").unwrap();
    refused(&other_file, &["another AuthorizedPrincipalsFile", "auth/nobody\nstaff\nnobody@web-1"]);

    let only_some = host("only-some", "Match User nobody\n    AuthorizedPrincipalsFile AT/auth/%u\n");
    refused(&only_some, &["in force for nobody", "auth/nobody\nnobody@web-1"]);
    std::fs::write(only_some.dir.join("auth/nobody"), "nobody@web-1\n").unwrap();
    well(&only_some.runs(&enroll, &["--apply"], &[]));
    assert!(only_some.effective("nobody", "authorizedprincipalsfile").ends_with("auth/%u"));
    assert!(only_some.effective(login(), "authorizedprincipalsfile").ends_with("countersign_principals/%u"));

    let command = host("command", "AuthorizedPrincipalsCommand /usr/bin/whoever %u\nAuthorizedPrincipalsCommandUser nobody\n");
    refused(&command, &["AuthorizedPrincipalsCommand", "/usr/bin/whoever", "BESIDE_COMMAND=yes"]);
    well(&command.runs(&enroll, &["--apply"], &[("BESIDE_COMMAND", "yes")]));

    // What does not work already is not made worse; what sshd refuses afterwards is taken back.
    let broken = host("broken", "NoSuchKeyword yes\n");
    let text = said(&broken.runs(&enroll, &["--apply"], &[]));
    assert!(text.contains("does not accept its configuration as it is") && !broken.dir.join("countersign_ca.pub").exists(), "{text}");
    let shadowed = host("shadowed", "");
    let wrapper = dir.path().join("sshd-that-refuses");
    let real = program("sshd");
    std::fs::write(
        &wrapper,
        format!(
            "#!/bin/sh\n[ \"$1\" != -t ] || [ ! -e {}/countersign_ca.pub ] || {{ echo no; exit 1; }}\nexec {} \"$@\"\n",
            shadowed.dir.display(),
            real.display()
        ),
    )
    .unwrap();
    Command::new("chmod").arg("755").arg(&wrapper).status().unwrap();
    let before = shadowed.whole();
    let text = said(&shadowed.runs(&enroll, &["--apply"], &[("SSHD", wrapper.to_str().unwrap())]));
    assert!(text.contains("sshd refuses the change") && text.contains("everything is as it was"), "{text}");
    assert_eq!(shadowed.whole(), before);
    assert!(!shadowed.dir.join("countersign_ca.pub").exists() && !shadowed.dir.join("countersign_principals").exists());
}

#[test]
fn one_script_for_all_hosts_in_three_forms() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("bastion");
    countersign(&["init", at.to_str().unwrap(), "--host", "bastion", "--auditor", &format!("carol={AGE}")]).well();
    let any = script(dir.path(), &at, &["--any", "--login", login()]);
    let host = Daemon::prepare(&dir.path().join("host"), "");
    let principals = host.dir.join("countersign_principals").join(login());
    well(&host.runs(&any, &["--apply"], &[("TARGET", "Image-7")]));
    assert_eq!(std::fs::read_to_string(&principals).unwrap(), format!("{}@image-7\n", login()));
    well(&host.runs(&any, &["--apply"], &[]));
    let own = Command::new("uname").arg("-n").output().unwrap();
    let own = String::from_utf8(own.stdout).unwrap().trim().to_lowercase();
    assert_eq!(
        std::fs::read_to_string(&principals).unwrap(),
        format!("{}@{own}\n", login()),
        "a clone does not answer to its master's name"
    );
    let hostile = said(&host.runs(&any, &["--apply"], &[("TARGET", "a;id")]));
    assert!(hostile.contains("no target's name"), "{hostile}");
    assert!(said(&host.runs(&any, &["--apply"], &[("ROOT", "/nowhere")])).contains("gets its name when it starts first"));

    let shell = std::fs::read_to_string(&any).unwrap();
    for (format, content) in
        [("ansible", "y[0]['tasks'][0]['ansible.builtin.copy']['content']"), ("cloud-init", "y['write_files'][0]['content']")]
    {
        let text = countersign(&["ca", "enroll", "--any", "--login", login(), "--format", format, "-c", at.to_str().unwrap()]).well();
        let file = dir.path().join(format);
        std::fs::write(&file, text).unwrap();
        let read = format!("import yaml,sys\ny=yaml.safe_load(open(sys.argv[1]))\nsys.stdout.write({content})");
        let output = Command::new("/usr/bin/python3").args(["-c", &read]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), shell, "{format}");
    }
}

// ---- which half is missing ----

#[test]
fn a_check_says_which_half_is_missing() {
    let bastion = Bastion::start();
    let dir = bastion.dir().to_owned();
    let keys = root(&bastion).join("keys");
    let mut hosts: Vec<(&str, Daemon)> = ["well-1", "bare-1", "plain-1", "late-1", "moved-1"]
        .into_iter()
        .map(|id| (id, Daemon::prepare(&dir.join(id), if id == "plain-1" { "TrustedUserCAKeys CA\n" } else { "" })))
        .collect();
    let mut entries = String::new();
    for (id, host) in &hosts {
        let key = if *id == "moved-1" { public(&keys.join("log_key")) } else { host.host_key() };
        entries.push_str(&host.entry(id, &format!("host_keys = [\"{key}\"]")));
    }
    entries.push_str(
        &hosts[0].1.entry("two-1", &format!("host_keys = [\"{}\"]", hosts[0].1.host_key())).replace("logins = [", "logins = [\"nobody\", "),
    );
    entries.push_str(&format!(
        "[targets.gone-1]\naddress = \"127.0.0.1:1\"\nlogins = [\"{}\"]\nhost_keys = [\"{}\"]\n",
        login(),
        public(&keys.join("log_key"))
    ));
    adds_targets(&bastion, &entries);
    for (id, host) in &mut hosts {
        match *id {
            "plain-1" => {
                let ca = keys.join("user_ca.pub");
                let config = std::fs::read_to_string(host.config()).unwrap().replace("CA\n", &format!("{}\n", ca.display()));
                std::fs::write(host.config(), config).unwrap();
            }
            "bare-1" => {}
            _ => drop(well(&host.runs(&script(&host.dir, &root(&bastion), &[id]), &["--apply"], &[]))),
        }
        if *id == "late-1" { host.start_with_clock("-3h") } else { host.start() }
    }
    let two = hosts[0].1.dir.join("countersign_principals").join(login());
    std::fs::write(&two, std::fs::read_to_string(&two).unwrap() + &format!("{}@two-1\n", login())).unwrap();

    let at = root(&bastion);
    let check = |words: &[&str]| {
        let mut all = vec!["ca", "check"];
        all.extend(words);
        all.extend(["-c", at.to_str().unwrap()]);
        countersign(&all)
    };
    let of = |id: &str| check(&[&format!("{}@{id}", login())]);
    let good = of("well-1");
    assert!(good.well().contains("in order"), "{good:?}");
    for (id, words) in [
        ("bare-1", "does not trust our CA"),
        ("plain-1", "has no AuthorizedPrincipalsFile"),
        ("late-1", "its clock is off"),
        ("moved-1", "shows SHA256:"),
        ("gone-1", "does not answer"),
    ] {
        let seen = of(id);
        assert!(seen.status == 1 && seen.out().contains(words), "{id}: {seen:?}");
    }
    let two = check(&["two-1"]);
    assert!(two.out().contains(&format!("trusts our CA ({} gets in), but has no line nobody@two-1", login())), "{two:?}");

    let issued: Vec<_> =
        bastion.audit().into_iter().filter(|(name, facts)| name == "certificate.issue" && facts["kind"] == "check").collect();
    let one = issued.iter().find(|(_, facts)| facts["target"] == "well-1").expect("a probe is in the log");
    assert_eq!((one.1["asks"].as_str(), one.1["principal"].as_str().unwrap()), (Some("login"), format!("{}@well-1", login()).as_str()));
    assert!(hosts[0].1.log().contains("countersign/check/-/"), "and in the target's: {}", hosts[0].1.log());
    assert!(bastion.audit().iter().all(|(name, _)| name != "session.open"), "a probe is no session");

    // The next CA: who lacks it.
    keygen(&keys.join("user_ca_next"));
    let settings = at.join("countersign.toml");
    let whole = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{whole}\n[keys]\nuser_ca = [\"keys/user_ca\", \"keys/user_ca_next\"]\n")).unwrap();
    let lacks = check(&["--all", "--signer", "2", "--json"]);
    assert_eq!(lacks.status, 1);
    let found = |seen: &Seen, id: &str| {
        seen.json()["findings"].as_array().unwrap().iter().find(|one| one["target"] == id).unwrap()["found"].clone()
    };
    assert_eq!(found(&lacks, "well-1"), "refused");
    well(&hosts[0].1.runs(&script(&hosts[0].1.dir, &at, &["well-1"]), &["--apply"], &[]));
    until("sshd has read the next CA", SOON, || check(&[&format!("{}@well-1", login()), "--signer", "2"]).status == 0);
    assert_eq!(bastion.run("alice", &[format!("{}=well-1@bastion", login()), "echo first".into()]).well(), "first\n", "the first signs on");
}

#[test]
fn a_check_without_a_running_bastion_writes_the_log_itself() {
    let mut bastion = Bastion::start();
    bastion.stops();
    let seen = countersign(&["ca", "check", &format!("{}@dev-1", login()), "-c", root(&bastion).to_str().unwrap()]);
    assert!(seen.well().contains("in order"), "{seen:?}");
    bastion.audited_with("certificate.issue", &["\"kind\":\"check\"", "dev-1"]);
    bastion.serve();
    assert!(bastion.run("alice", &[format!("{}=dev-1@bastion", login()), "echo on".into()]).well().contains("on"));
}

// ---- a CA that this machine does not hold ----

#[test]
fn cas_in_an_agent_sign_and_a_dead_agent_opens_nothing() {
    let bastion = Bastion::with(Plan {
        settings: "[keys]\nuser_ca_agent = \"agent\"\nhost_ca = [\"keys/host_ca.pub\"]\nhost_ca_agent = \"agent\"\n".into(),
        ..Plan::default()
    });
    let at = root(&bastion);
    let socket = at.join("agent");
    let mut agent = Command::new(program("ssh-agent")).arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    until("the agent listens", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    for ca in ["user_ca", "host_ca"] {
        let key = at.join("keys").join(ca);
        let added = Command::new(program("ssh-add")).arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status().unwrap();
        assert!(added.success());
        std::fs::remove_file(key).unwrap();
    }
    let named = [format!("{}=dev-1@bastion", login()), "echo named".into()];
    assert_eq!(bastion.run("alice", &named).well(), "named\n");
    let jump: Vec<String> = ["-J", "bastion", &format!("{}@dev-1", login()), "echo jumped"].map(String::from).into();
    assert_eq!(bastion.run("alice", &jump).well(), "jumped\n");
    let logins = bastion.target.logins();

    agent.kill().unwrap();
    agent.wait().unwrap();

    let refused = bastion.run("alice", &named);
    assert!(refused.ends(77).contains("no certificate"), "{refused:?}");
    assert_eq!(bastion.target.logins(), logins);
    // Nothing of another place is asked: a socket that nobody serves is no reason to sign elsewhere.
    assert!(bastion.log().contains("did not sign"), "{}", bastion.log());
}
