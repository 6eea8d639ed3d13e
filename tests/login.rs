//! Who gets in: every key and certificate as a real sshd judges it beside us, and messages that no client
//! sends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Bastion, Client, Raw, SOON, Seen, free_port, keygen, keygen_as, login, program, public, until};

/// A real sshd that takes alice's keys and the same CAs for the account that runs the tests.
struct Control {
    port: u16,
    child: Child,
}

impl Control {
    fn start(at: &Path, authorized: &str, cas: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        if login() == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        keygen(&at.join("host_key"));
        for (file, text) in [("authorized", authorized), ("cas", cas), ("principals", "alice\n")] {
            std::fs::write(at.join(file), text).unwrap();
        }
        let (port, dir) = (free_port(), at.display());
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {dir}/host_key\nPidFile none\nAuthorizedKeysFile {dir}/authorized\n\
             TrustedUserCAKeys {dir}/cas\nAuthorizedPrincipalsFile {dir}/principals\nRevokedKeys {dir}/krl\n\
             AuthenticationMethods publickey\nPermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\nUseDNS no\n\
             PrintMotd no\nMaxStartups 500\nPerSourceMaxStartups none\n"
        );
        std::fs::write(at.join("config"), config).unwrap();
        let log = std::fs::File::create(at.join("log")).unwrap();
        let mut sshd = Command::new(program("sshd"));
        sshd.args(["-D", "-e", "-f"]).arg(at.join("config")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let control = Self { port, child: sshd.spawn().unwrap() };
        until("sshd listens", SOON, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        control
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ssh` with exactly this key and certificate.
fn ssh(port: u16, user: &str, key: &Path, options: &[&str], words: &[&str]) -> Seen {
    let mut ssh = Command::new(program("ssh"));
    ssh.args(["-F", "none", "-p", &port.to_string(), "-l", user, "-i"]).arg(key);
    for option in [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "PreferredAuthentications=publickey",
    ] {
        ssh.args(["-o", option]);
    }
    ssh.args(options).arg("127.0.0.1").args(words);
    Client::start(ssh).ends()
}

/// Signs `KEY.pub` into `KEY-cert.pub`, which `ssh -i KEY` then offers.
fn certify(ca: &Path, key: &Path, options: &[&str]) {
    let mut keygen = Command::new(program("ssh-keygen"));
    keygen.args(["-q", "-s"]).arg(ca).args(options).arg(key.with_extension("pub"));
    let output = keygen.output().unwrap();
    assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn fingerprint(key: &Path) -> String {
    let output = Command::new(program("ssh-keygen")).args(["-l", "-f"]).arg(key.with_extension("pub")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// What is to be judged: the CA, the subject's kind, how it is signed, how the client behaves, and whether
/// we let it in.
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str], bool);

const ED: &[&str] = &["-t", "ed25519"];
const USUAL: &[&str] = &["-I", "alice@laptop", "-n", "alice", "-V", "-5m:+1h"];
const SHA1: &[&str] = &["-o", "PubkeyAcceptedAlgorithms=ssh-rsa,ssh-rsa-cert-v01@openssh.com"];

#[rustfmt::skip]
const CERTIFICATES: &[Case] = &[
    ("good",                          "ca",       ED, USUAL, &[], true),
    ("P-256 subject",                 "ca",       &["-t", "ecdsa", "-b", "256"], USUAL, &[], true),
    ("P-384 subject",                 "ca",       &["-t", "ecdsa", "-b", "384"], USUAL, &[], true),
    ("RSA subject",                   "ca",       &["-t", "rsa", "-b", "2048"], USUAL, &[], true),
    ("RSA subject, SHA-1 client",     "ca",       &["-t", "rsa", "-b", "2048"], USUAL, SHA1, false),
    ("RSA-1024 subject",              "ca",       &["-t", "rsa", "-b", "1024"], USUAL, &[], false),
    ("DSA subject",                   "ca",       &["-t", "dsa"], USUAL, &["-o", "PubkeyAcceptedAlgorithms=+ssh-dss,ssh-dss-cert-v01@openssh.com"], false),
    ("RSA CA",                        "ca_rsa",   ED, USUAL, &[], true),
    ("RSA CA, SHA-1",                 "ca_rsa",   ED, &["-t", "ssh-rsa", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("wrong CA",                      "stranger", ED, USUAL, &[], false),
    ("a person's key as CA",          "bob",      ED, USUAL, &[], false),
    ("revoked CA",                    "ca_gone",  ED, USUAL, &[], false),
    ("host type",                     "ca",       ED, &["-h", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("expired",                       "ca",       ED, &["-I", "id", "-n", "alice", "-V", "-2h:-1h"], &[], false),
    ("not yet valid",                 "ca",       ED, &["-I", "id", "-n", "alice", "-V", "+1h:+2h"], &[], false),
    ("valid forever",                 "ca",       ED, &["-I", "id", "-n", "alice"], &[], false),
    ("valid for longer than allowed", "ca",       ED, &["-I", "id", "-n", "alice", "-V", "-5m:+2d"], &[], false),
    ("wrong principal",               "ca",       ED, &["-I", "id", "-n", "zoe", "-V", "-5m:+1h"], &[], false),
    ("a pattern as principal",        "ca",       ED, &["-I", "id", "-n", "a*", "-V", "-5m:+1h"], &[], false),
    ("no principal",                  "ca",       ED, &["-I", "id", "-V", "-5m:+1h"], &[], false),
    ("two principals",                "ca",       ED, &["-I", "id", "-n", "alice,bob", "-V", "-5m:+1h"], &[], false),
    ("unknown critical option",       "ca",       ED, &["-O", "critical:no-such@example.org=x", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("unknown extension",             "ca",       ED, &["-O", "extension:no-such@example.org=x", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], true),
    ("no extension",                  "ca",       ED, &["-O", "clear", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], true),
    ("force-command",                 "ca",       ED, &["-O", "force-command=true", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("verify-required",               "ca",       ED, &["-O", "verify-required", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("source-address that fits",      "ca",       ED, &["-O", "source-address=10.0.0.0/8,127.0.0.0/8", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], true),
    ("source-address elsewhere",      "ca",       ED, &["-O", "source-address=192.0.2.0/24", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("revoked serial",                "ca",       ED, &["-z", "7", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("serial in a revoked range",     "ca",       ED, &["-z", "150", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("serial beside it",              "ca",       ED, &["-z", "8", "-I", "id", "-n", "alice", "-V", "-5m:+1h"], &[], true),
    ("revoked key id",                "ca",       ED, &["-I", "alice@lost", "-n", "alice", "-V", "-5m:+1h"], &[], false),
    ("revoked subject key",           "ca",       &["lost"], USUAL, &[], false),
];

/// Keys that stand in a list, for sshd and for us; where we cannot list one, it is a no.
#[rustfmt::skip]
const KEYS: &[(&str, &[&str], &[&str], bool)] = &[
    ("listed ed25519",           ED, &[], true),
    ("listed P-256",             &["-t", "ecdsa", "-b", "256"], &[], true),
    ("listed P-384",             &["-t", "ecdsa", "-b", "384"], &[], true),
    ("listed P-521",             &["-t", "ecdsa", "-b", "521"], &[], true),
    ("listed RSA-3072",          &["-t", "rsa", "-b", "3072"], &[], true),
    ("listed RSA, SHA-256",      &["-t", "rsa", "-b", "2048"], &["-o", "PubkeyAcceptedAlgorithms=rsa-sha2-256"], true),
    ("listed RSA, SHA-1 client", &["-t", "rsa", "-b", "2048"], SHA1, false),
    ("listed RSA-1024",          &["-t", "rsa", "-b", "1024"], &[], false),
    ("listed DSA",               &["-t", "dsa"], &["-o", "PubkeyAcceptedAlgorithms=+ssh-dss"], false),
    ("listed and revoked",       ED, &[], false),
    ("not listed",               ED, &[], false),
];

/// Everything that both sides are asked to judge, and what they were told.
struct Table {
    bastion: Bastion,
    control: Control,
    /// Name, key, options of the client, whether we let it in.
    rows: Vec<(&'static str, PathBuf, &'static [&'static str], bool)>,
}

fn table() -> Table {
    let bastion = Bastion::start();
    let at = bastion.dir().join("login");
    std::fs::create_dir_all(&at).unwrap();
    let ca = |name: &str| if name == "bob" { bastion.key_of("bob") } else { at.join(name) };
    for name in ["ca", "ca_gone", "stranger", "lost"] {
        keygen(&at.join(name));
    }
    keygen_as(&at.join("ca_rsa"), &["-t", "rsa", "-b", "2048"]);
    let mut rows = Vec::new();
    for (n, (name, signer, kind, sign, options, ours)) in CERTIFICATES.iter().enumerate() {
        let key = at.join(format!("certified-{n}"));
        if *kind == ["lost"] {
            std::fs::copy(at.join("lost"), &key).unwrap();
            std::fs::copy(at.join("lost.pub"), key.with_extension("pub")).unwrap();
        } else {
            keygen_as(&key, kind);
        }
        certify(&ca(signer), &key, sign);
        rows.push((*name, key, *options, *ours));
    }
    let (mut authorized, mut listed, mut gone) = (String::new(), Vec::new(), String::new());
    for (n, (name, kind, options, ours)) in KEYS.iter().enumerate() {
        let key = at.join(format!("listed-{n}"));
        keygen_as(&key, kind);
        let line = public(&key);
        if *name != "not listed" {
            authorized.push_str(&format!("{line}\n"));
            // These two cannot even be listed here.
            if !name.contains("1024") && !name.contains("DSA") {
                listed.push(format!("{line:?}"));
            }
        }
        if *name == "listed and revoked" {
            gone = fingerprint(&key);
            std::fs::copy(key.with_extension("pub"), at.join("gone.pub")).unwrap();
        }
        rows.push((*name, key, *options, *ours));
    }
    // The same revocations for both.
    let spec = "serial: 7\nserial: 100-199\nid: alice@lost\n";
    std::fs::create_dir_all(at.join("control")).unwrap();
    std::fs::write(at.join("spec"), spec).unwrap();
    let mut krl = Command::new(program("ssh-keygen"));
    krl.arg("-kqf").arg(at.join("control/krl")).arg("-s").arg(at.join("ca.pub")).arg(at.join("spec"));
    krl.arg(at.join("lost.pub")).arg(at.join("ca_gone.pub")).arg(at.join("gone.pub"));
    assert!(krl.status().unwrap().success());
    let cas = ["ca", "ca_rsa", "ca_gone"].map(|name| public(&at.join(name)));
    let control = Control::start(&at.join("control"), &authorized, &format!("{}\n", cas.join("\n")));
    let cas = cas.map(|line| format!("{line:?}"));
    bastion.is_told("policies/people.toml", |text| {
        let alice = "[people.alice]\ngroups = [\"engineers\"]\nkeys = [";
        assert!(text.contains(alice), "{text}");
        let text = text.replace(alice, &format!("{alice}{}, ", listed.join(", ")));
        format!(
            "{text}\n[user_cas.office]\nkeys = [{}]\nlongest = \"16h\"\n\n[revoked]\nkeys = [{:?}, {:?}, {:?}]\nkey_ids = [\"alice@lost\"]\n\
             serials = {{ office = [\"7\", \"100-199\"] }}\n",
            cas.join(", "),
            fingerprint(&at.join("lost")),
            fingerprint(&at.join("ca_gone")),
            gone,
        )
    });
    Table { bastion, control, rows }
}

/// A-05, C-01: the same verdict as sshd's, or a stricter one.
#[test]
fn keys_and_certificates_are_judged_as_by_sshd_or_more_strictly() {
    let Table { bastion, control, rows } = table();
    let verdicts: Vec<(bool, bool)> = std::thread::scope(|scope| {
        let judged: Vec<_> = (0..4)
            .map(|lane| {
                let (rows, bastion, control) = (&rows, &bastion, &control);
                scope.spawn(move || {
                    let mine = rows.iter().enumerate().filter(move |(n, _)| n % 4 == lane);
                    mine.map(|(n, (_, key, options, _))| {
                        let sshd = ssh(control.port, login(), key, options, &["true"]).status == 0;
                        let ours = ssh(bastion.port, "alice", key, options, &["whoami"]);
                        (n, sshd, ours.status == 0 && ours.out().contains("alice"))
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        let mut all: Vec<_> = judged.into_iter().flat_map(|lane| lane.join().unwrap()).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, sshd, ours)| (sshd, ours)).collect()
    });
    let word = |yes: bool| if yes { "in" } else { "-" };
    let mut table = format!("{:32} {:6} {:6} {:6}\n", "", "sshd", "ours", "wanted");
    let mut good = true;
    for ((name, _, _, wanted), (sshd, ours)) in rows.iter().zip(&verdicts) {
        let row_is_good = ours == wanted && (*sshd || !ours);
        good &= row_is_good;
        let mark = if row_is_good { "" } else { "  <--" };
        table.push_str(&format!("{name:32} {:6} {:6} {:6}{mark}\n", word(*sshd), word(*ours), word(*wanted)));
    }
    println!("{table}");
    assert!(good, "{table}\n{}", bastion.log());
    assert!(verdicts.iter().filter(|(sshd, _)| *sshd).count() > 10, "sshd is no control: {table}");
}

/// A certificate from login to the target and in the log; approvals with it; its end while connected.
#[test]
fn a_certificate_is_held_approved_and_over() {
    let bastion = Bastion::start();
    let at = bastion.dir().join("login");
    std::fs::create_dir_all(&at).unwrap();
    for name in ["ca", "alice", "bob"] {
        keygen(&at.join(name));
    }
    bastion.is_told("policies/people.toml", |text| format!("{text}\n[user_cas.office]\nkeys = [{:?}]\n", public(&at.join("ca"))));
    certify(&at.join("ca"), &at.join("alice"), &["-z", "42", "-O", "no-pty", "-I", "alice@sso", "-n", "alice", "-V", "-5m:+1h"]);
    certify(&at.join("ca"), &at.join("bob"), &["-I", "bob@sso", "-n", "bob", "-V", "-5m:+1h"]);
    for person in ["alice", "bob"] {
        let own = std::fs::read_to_string(bastion.dir().join(format!("people/{person}.conf"))).unwrap();
        let key = bastion.key_of(person).display().to_string();
        let conf = own.replace(&key, &at.join(person).display().to_string());
        std::fs::write(at.join(format!("{person}.conf")), conf).unwrap();
    }
    let with_certificate = |person: &str, words: &[&str]| {
        let mut ssh = Command::new(program("ssh"));
        ssh.arg("-F").arg(at.join(format!("{person}.conf"))).args(["-o", "SendEnv=LC_COUNTERSIGN_REASON"]).args(words);
        ssh.env("LC_COUNTERSIGN_REASON", crate::harness::REASON);
        Client::start(ssh)
    };

    // Both legs of a jump prove it; a key of the person's own approves.
    let to = format!("{}@web-1", login());
    let held = with_certificate("alice", &["-J", "bastion", &to, "echo in"]);
    let request = held.request();
    // A reload between finds her still named by it.
    bastion.has_reloaded();
    bastion.approve(&request, &[]);
    assert_eq!(held.ends().well(), "in\n");
    let opened = bastion.audit().into_iter().find(|(name, facts)| name == "session.open" && facts["request"] == request.as_str());
    let (_, facts) = opened.expect("it opened");
    assert_eq!(
        (facts["login_certificate"]["serial"].as_str(), facts["login_certificate"]["key_id"].as_str()),
        (Some("42"), Some("alice@sso"))
    );
    assert_eq!(facts["key"].as_str(), Some(fingerprint(&at.join("alice")).as_str()));
    // Her own key is another key: the grant is not for it (D scope).
    let other = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "true".into()]));
    assert_ne!(other.request(), request);
    other.hangs_up();

    // No terminal without permit-pty, as for sshd.
    let tty = with_certificate("alice", &["-tt", "bastion", "whoami"]).ends();
    assert!(tty.err.contains("PTY allocation request failed"), "{tty:?}");

    // Connected while it counted; nothing opens once its serial is revoked.
    let socket = at.join("mux");
    let path = format!("ControlPath={}", socket.display());
    let mut master = with_certificate("alice", &["-M", "-N", "-o", &path, "bastion"]);
    until("the master is there", SOON, || socket.exists());
    let whoami = || with_certificate("alice", &["-o", &path, "bastion", "whoami"]).ends();
    assert!(whoami().well().contains("alice"));
    let live = with_certificate("alice", &[&format!("{}=dev-1@bastion", login()), "echo up; sleep 60"]);
    live.gets("up\n");
    bastion.is_told("policies/people.toml", |text| format!("{text}\n[revoked]\nserials = {{ office = [\"42\"] }}\n"));
    let refused = whoami();
    assert_ne!(refused.status, 0, "{refused:?}");
    assert!(master.is_running());
    assert!(live.ends().ends(79).contains("the policy changed"), "what runs on it ends");
    let refused = with_certificate("alice", &["bastion", "whoami"]).ends();
    assert!(refused.err.contains("Permission denied"), "{refused:?}");
    assert!(bastion.log().contains("serial 42 of office is revoked"), "{}", bastion.log());

    // An approval is never a certificate's, at whatever level the workflow is.
    bastion.is_told("policies/approvals.toml", |text| text.replace("signature = \"key\"", "signature = \"connection\""));
    let held = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "echo two".into()]));
    let request = held.request();
    held.reads("code ");
    let code = held.err().split("code ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let seen = with_certificate("bob", &["bastion", "approve", &request, &code]).ends();
    assert!(seen.status != 0 && seen.err.contains("a certificate is none"), "{seen:?}");
    let plain = bastion.run("bob", &["bastion", "approve", &request, &code]);
    assert_eq!(plain.status, 0, "{plain:?}");
    assert_eq!(held.ends().well(), "two\n");
}

///
#[test]
fn an_offer_proves_nothing_and_tries_are_counted() {
    let bastion = Bastion::start();
    let own = |person: &str| bastion.key_of(person).display().to_string();
    let (alice, mallory) = (own("alice"), own("mallory"));
    let at = bastion.dir().join("login");
    std::fs::create_dir_all(&at).unwrap();
    keygen(&at.join("unknown"));
    keygen_as(&at.join("rsa"), &["-t", "rsa", "-b", "2048", "-m", "PEM"]);
    let (unknown, rsa) = (at.join("unknown").display().to_string(), at.join("rsa").display().to_string());
    bastion.is_told("policies/people.toml", |text| format!("{text}\n[people.rita]\ngroups = []\nkeys = [{:?}]\n", public(&at.join("rsa"))));
    let no = "failure publickey partial=0";

    // Offered, never signed: nothing opens, and the offers are no failed tries.
    let mut raw = Raw::connect(&bastion);
    for _ in 0..20 {
        assert_eq!(raw.says(&["probe", "alice", &alice]), "pk-ok");
    }
    assert_eq!(raw.says(&["early", "alice"]), no, "a channel before the login is not answered");
    // Who signs is who is in, whoever was offered before, and whatever the user name says.
    assert_eq!(raw.says(&["sign", "alice", &mallory]), "success");
    let said = raw.says(&["open", "whoami"]);
    assert!(said.contains("alice is unknown or not yours. console: ssh mallory@bastion"), "{said}");
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says_all(&[&["probe", "mallory", &alice], &["sign", "mallory", &mallory]]), ["pk-ok", "success"]);
    let said = raw.says(&["open", "whoami"]);
    assert!(said.contains("mallory"), "{said}");

    // SHA-1 under the name of SHA-512.
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says(&["sha1", "rita", &rsa]), no);
    assert_eq!(raw.says(&["sign", "rita", &rsa]), "success", "the same key, signed as it says");

    // The seventh try finds nobody listening.
    let mut raw = Raw::connect(&bastion);
    for _ in 0..6 {
        assert_eq!(raw.says(&["sign", "alice", &unknown]), no);
    }
    assert_eq!(raw.says(&["sign", "alice", &alice]), "disconnect");

    // One sequence for whoever is known and whoever is not.
    let sequence = |user: &str| {
        let mut raw = Raw::connect(&bastion);
        raw.says_all(&[&["none", user], &["probe", user, &unknown], &["sign", user, &unknown], &["kbd", user], &["code", "123456"]])
    };
    let of_alice = sequence("alice");
    assert_eq!(of_alice, sequence("nobody-at-all"));
    assert_eq!(of_alice, sequence(&format!("{}=web-1", login())));
    assert_eq!(of_alice, [no; 5]);
}

/// C-02, C-07: key lengths, nesting, long key ids, what is left over; with a CA and without.
#[test]
fn malformed_keys_and_certificates_are_refused_and_nothing_falls_over() {
    let bastion = Bastion::start();
    let pid = bastion.pid();
    let at = bastion.dir().join("login");
    std::fs::create_dir_all(&at).unwrap();
    for name in ["ca", "alice"] {
        keygen(&at.join(name));
    }
    bastion.is_told("policies/people.toml", |text| format!("{text}\n[user_cas.office]\nkeys = [{:?}]\n", public(&at.join("ca"))));
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let mut blobs: Vec<(&str, Vec<u8>)> = Vec::new();
    for length in (0..=40).filter(|length| *length != 32) {
        blobs.push(("ssh-ed25519", [string(b"ssh-ed25519"), string(&vec![7; length])].concat()));
    }
    let certificate = "ssh-ed25519-cert-v01@openssh.com";
    let certified = |id: &str| {
        certify(&at.join("ca"), &at.join("alice"), &["-I", id, "-n", "alice", "-V", "-5m:+1h"]);
        let line = std::fs::read_to_string(at.join("alice-cert.pub")).unwrap();
        data_encoding::BASE64.decode(line.split(' ').nth(1).unwrap().as_bytes()).unwrap()
    };
    let good = certified("id");
    blobs.push((certificate, certified(&"x".repeat(20_000))));
    blobs.push((certificate, [&good[..], b"trailing"].concat()));
    blobs.push((certificate, good[..good.len() - 1].to_vec()));
    // A certificate in the place of a plain key.
    blobs.push(("ssh-ed25519", good.clone()));
    blobs.push((certificate, [string(b"ssh-ed25519"), string(&[7; 32])].concat()));
    let mut raw = Raw::connect(&bastion);
    for (algorithm, blob) in &blobs {
        let file = at.join("blob");
        std::fs::write(&file, data_encoding::HEXLOWER.encode(blob)).unwrap();
        let said = raw.says(&["blob", "alice", algorithm, &file.display().to_string()]);
        assert!(said == "disconnect" || said == "failure publickey partial=0", "{algorithm} of {} bytes: {said}", blob.len());
        if said == "disconnect" || raw.says(&["none", "alice"]) == "disconnect" {
            raw = Raw::connect(&bastion);
        }
    }
    for depth in ["1", "2", "8", "9", "100", "900", "2000"] {
        let mut raw = Raw::connect(&bastion);
        let said = raw.says(&["nested", "alice", depth]);
        assert!(said == "disconnect" || said == "failure publickey partial=0", "{depth}: {said}");
    }
    let alice = at.join("alice").display().to_string();
    let certificate = at.join("alice-cert.pub").display().to_string();
    certified("id");
    let mut raw = Raw::connect(&bastion);
    assert_eq!(raw.says(&["cert", "alice", &alice, &certificate]), "success", "the whole one is good");
    assert_eq!(bastion.pid(), pid);
    assert_eq!(bastion.run("alice", &["bastion", "whoami"]).status, 0);
}
