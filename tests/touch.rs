//! How sure an approval is: a key in software, one behind a forwarded agent, a security key, touched or not.

use std::process::{Command, Stdio};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::harness::{Bastion, Client, SOON, Token, login, program, until};

const NAMESPACE: &str = "countersign-decision-v1";

/// A bastion whose leads have to touch (or more), and where bob has a security key too.
fn bastion(level: &str, token: &Token) -> Bastion {
    let bastion = Bastion::start();
    let key = token.public();
    let people = bastion.policy_file("people.toml");
    let text = std::fs::read_to_string(&people).unwrap();
    let text = text.replacen(
        "[people.bob]\ngroups = [\"engineers\", \"leads\"]\nkeys = [",
        &format!("[people.bob]\ngroups = [\"engineers\", \"leads\"]\nkeys = [\"{key}\", "),
        1,
    );
    assert!(text.contains(&key), "{text}");
    std::fs::write(people, text).unwrap();
    signs_at(&bastion, "key", level);
    bastion
}

fn signs_at(bastion: &Bastion, before: &str, level: &str) {
    bastion
        .is_told("policies/approvals.toml", |text| text.replace(&format!("signature = \"{before}\""), &format!("signature = \"{level}\"")));
}

fn held(bastion: &Bastion) -> (Client, String) {
    let client = Client::start(bastion.ssh("alice", &[format!("{}=web-1@bastion", login()), "echo ran".into()]));
    let request = client.request();
    (client, request)
}

/// bob's yes as the bastion prints it, but naming the token.
fn decision(bastion: &Bastion, request: &str, token: &Token) -> Vec<u8> {
    let printed = bastion.run("bob", &["bastion", "decision", request, "approve"]);
    let mut document: Value = serde_json::from_slice(printed.well().as_bytes()).unwrap();
    document["key"] = json!(token.fingerprint());
    serde_json::to_vec(&document).unwrap()
}

/// Brings decisions on one connection; returns what is said to each.
fn bring(bastion: &Bastion, person: &str, calls: &[(Vec<u8>, String)]) -> Vec<Value> {
    let mut lines = String::new();
    for (n, (bytes, signature)) in calls.iter().enumerate() {
        let args = json!({ "document_b64": BASE64.encode(bytes), "signature": signature });
        lines.push_str(&format!("{}\n", json!({ "v": 1, "id": n, "verb": "decide", "args": args })));
    }
    let input = bastion.dir().join("calls");
    std::fs::write(&input, lines).unwrap();
    let command = bastion.ssh(person, &["-T", "-s", "bastion", "countersign-v1"]);
    let seen = Client::fed(command, Stdio::from(std::fs::File::open(input).unwrap())).ends();
    seen.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_touch_is_a_touch() {
    let token = Token::new(9);
    let bastion = bastion("touch", &token);
    let (mut client, request) = held(&bastion);

    let soft = bastion.says("bob", &["approve", &request]);
    assert!(
        soft.status != 0
            && soft.err.contains("not signed")
            && soft.err.contains("a decision signed with a security key (sk-…) that is touched"),
        "{soft:?}"
    );
    let bytes = decision(&bastion, &request, &token);
    let with = |flags| (bytes.clone(), token.signs(NAMESPACE, &bytes, flags));
    let untouched = bring(&bastion, "bob", &[with(Token::UNTOUCHED), with(4)]);
    assert!(untouched.iter().all(|said| said["error"]["why"].as_str().is_some_and(|why| why.contains("that is touched"))), "{untouched:?}");
    assert!(client.is_running());

    // Every byte flipped, of what is signed and of the signature: one error each, and the same process goes on.
    let good = with(Token::TOUCHED);
    let mut flipped: Vec<(Vec<u8>, String)> = Vec::new();
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 7);
        flipped.push((bytes, good.1.clone()));
    }
    let text = good.1.clone().into_bytes();
    let body = text.windows(2).position(|pair| pair == b"-\n").unwrap() + 2;
    for at in body..text.len() - "-----END SSH SIGNATURE-----\n".len() - 4 {
        let mut text = text.clone();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        flipped.push((bytes.clone(), String::from_utf8(text).unwrap()));
    }
    let pid = bastion.pid();
    let said = bring(&bastion, "bob", &flipped);
    assert_eq!(said.len(), flipped.len());
    assert!(said.iter().all(|said| said["error"]["why"].is_string()), "{:?}", said.iter().find(|said| said["error"].is_null()));
    assert_eq!((bastion.state_of("alice", &request).as_str(), bastion.pid()), ("pending", pid));

    let taken = bring(&bastion, "bob", &[with(Token::TOUCHED)]);
    assert_eq!(taken[0]["result"]["decided"]["requests"][0]["state"], "approved", "{taken:?}");
    assert_eq!(client.ends().out(), "ran\n");
    bastion.audited_with("request.decide", &[&request, "touch"]);

    // Where a PIN is asked for a touch is too little.
    signs_at(&bastion, "touch", "verified");
    let to = format!("{}@web-1", login());
    let asked = bastion.json("alice", &["request", &to, "--reason", "INC-43 again", "--once"]);
    let request = asked["asked"]["card"]["request"].as_str().unwrap().to_owned();
    let bytes = decision(&bastion, &request, &token);
    let with = |flags| (bytes.clone(), token.signs(NAMESPACE, &bytes, flags));
    let said = bring(&bastion, "bob", &[with(Token::TOUCHED), with(Token::VERIFIED)]);
    assert!(said[0]["error"]["why"].as_str().unwrap().contains("PIN"), "{said:?}");
    assert_eq!(said[1]["result"]["decided"]["requests"][0]["state"], "approved", "{said:?}");

    // What a security key signed proves itself with stock tools as well.
    let dir = bastion.dir().join("proven");
    bastion.says("bob", &["show", &request, "--proof", "-o", dir.to_str().unwrap()]).well();
    let commands = std::fs::read_to_string(dir.join("README")).unwrap();
    let verify = commands.lines().map(str::trim).find(|line| line.starts_with("ssh-keygen")).unwrap();
    let verified = Client::start(in_dir(&dir, verify)).ends();
    assert!(verified.well().contains("Good \"countersign-decision-v1\" signature for bob"), "{verified:?}");
}

struct Agent(std::process::Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn in_dir(dir: &std::path::Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-ec", script]).current_dir(dir);
    command
}

/// Who is root where bob's agent is forwarded to can make his key sign, and his key log in. Where a touch is asked for,
/// that is worth nothing; where it is not, it is an approval, which is why `check` recommends it.
#[test]
fn what_a_forwarded_agent_signs_is_no_touch() {
    let token = Token::new(10);
    let bastion = bastion("touch", &token);
    let socket = bastion.dir().join("agent");
    let _agent = Agent(Command::new(program("ssh-agent")).arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap());
    until("the agent listens", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let added = Command::new(program("ssh-add")).arg("-q").arg(bastion.key_of("bob")).env("SSH_AUTH_SOCK", &socket).status().unwrap();
    assert!(added.success());

    // The host that bob forwards to, and what somebody with power over it keeps there: no key of his, only its public half.
    let host = bastion.dir().join("far");
    std::fs::create_dir(&host).unwrap();
    std::fs::copy(bastion.key_of("bob").with_extension("pub"), host.join("id.pub")).unwrap();
    let config = std::fs::read_to_string(bastion.key_of("bob").with_extension("conf")).unwrap();
    let far = config
        .replace("IdentityAgent none", "IdentityAgent SSH_AUTH_SOCK")
        .replace(&format!("IdentityFile {}", bastion.key_of("bob").display()), &format!("IdentityFile {}", host.join("id.pub").display()));
    assert!(far.contains("id.pub") && far.contains("SSH_AUTH_SOCK"), "{far}");
    std::fs::write(host.join("config"), far).unwrap();
    let own = host.join("own");
    crate::harness::keygen(&own);
    let ca = bastion.user_ca().with_extension("");
    let mut sign = Command::new(program("ssh-keygen"));
    sign.args(["-q", "-I", "bob", "-n", &format!("{}@web-1", login()), "-s"]).arg(ca).arg(own.with_extension("pub"));
    assert!(sign.status().unwrap().success());

    let from_afar = |request: &str| {
        let script = format!(
            "set -e; cd {}; rm -f d.sig; ssh -F config bastion decision {request} approve >d
             ssh-keygen -q -Y sign -n {NAMESPACE} -f id.pub d; ssh -F config bastion submit {request} <d.sig",
            host.display(),
        );
        let mut ssh = Command::new(program("ssh"));
        ssh.args([
            "-F",
            "none",
            "-A",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-i",
        ]);
        ssh.arg(&own).args([
            "-o",
            "IdentitiesOnly=yes",
            "-p",
            &bastion.target.port.to_string(),
            &format!("{}@127.0.0.1", login()),
            &script,
        ]);
        ssh.env("SSH_AUTH_SOCK", &socket);
        Client::start(ssh).ends()
    };
    let (mut client, request) = held(&bastion);
    let minted = from_afar(&request);
    assert!(minted.status != 0 && minted.err.contains("that is touched"), "{minted:?}");
    assert!(client.is_running());
    assert_eq!(bastion.state_of("alice", &request), "pending");
    bastion.refused(&request, 1);

    // The same theft where policy asks for any key of his.
    drop(client);
    signs_at(&bastion, "touch", "key");
    let (client, request) = held(&bastion);
    let minted = from_afar(&request);
    assert_eq!(minted.status, 0, "{minted:?}");
    assert_eq!(client.ends().out(), "ran\n");
}
