//! A long, bad wire between a person and the bastion: 30 ms there and back, and packets that never arrive
//! (`clients/wire.py`). Nothing hangs, nothing is lost, everything is said. Throughput is printed (`--nocapture`),
//! not judged.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::harness::{Bastion, Client, LONG, Terminal, Way, program, python};

struct Wire {
    child: Child,
}

impl Wire {
    /// To the bastion, with so many percent of the packets lost on each way.
    fn to(bastion: &Bastion, loss: u32) -> Self {
        let mut wire = Command::new(python());
        wire.arg(format!("{}/tests/clients/wire.py", env!("CARGO_MANIFEST_DIR")));
        wire.args([bastion.port.to_string(), "15".into(), loss.to_string()]);
        let mut child = wire.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let port: u16 =
            said.trim().parse().unwrap_or_else(|_| panic!("there is no wire: it needs root or user name spaces, /dev/net/tun and ip"));
        let config = std::fs::read_to_string(bastion.dir().join("people/alice.conf")).unwrap();
        let far = config.replace(&format!("Port {}", bastion.port), &format!("Port {port}"));
        std::fs::write(bastion.dir().join("people/far.conf"), far).unwrap();
        Self { child }
    }

    /// alice's `ssh` from its far end.
    fn ssh(&self, bastion: &Bastion, way: Way, options: &[&str], command: &str) -> Command {
        let mut ssh = bastion.ssh("far", &[] as &[&str]);
        ssh.args(options).args(way.to("web-1")).args(Some(command).filter(|command| !command.is_empty()));
        ssh
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a script with `$SSH` from the far end and `$TO`; it says `same`. Prints how fast `bytes` went.
fn same(bastion: &Bastion, way: Way, what: &str, bytes: usize, script: &str) {
    let mut command = Command::new("bash");
    let ssh = format!("{} -F {}", program("ssh").display(), bastion.dir().join("people/far.conf").display());
    command.args(["-o", "pipefail", "-c", script]).current_dir(bastion.dir());
    command.env("SSH", ssh).env("TO", way.to("web-1").join(" ")).env("N", bytes.to_string());
    let started = Instant::now();
    let seen = Client::start(command).ends_within(LONG);
    assert_eq!(seen.out().trim(), "same", "{way:?} {what}: {seen:?}");
    println!("{way:?}, {what}: {:.1} MB/s", bytes as f64 / 1e6 / started.elapsed().as_secs_f64());
}

const UP: &str = r#"head -c $N /dev/urandom > data; [ "$($SSH $TO sha256sum < data)" = "$(sha256sum < data)" ] && echo same"#;
const DOWN: &str = r#"head -c $N /dev/urandom > data; [ "$($SSH $TO "cat $PWD/data" | sha256sum)" = "$(sha256sum < data)" ] && echo same"#;
const BOTH: &str = r#"head -c $N /dev/urandom > data; [ "$($SSH $TO cat < data | sha256sum)" = "$(sha256sum < data)" ] && echo same"#;
/// Beside a channel of the same connection that takes nothing.
const BESIDE: &str = r#"head -c $N /dev/urandom > data
    $SSH -M -N -S $PWD/cm $TO & M=$!
    until [ -e cm ]; do sleep 0.1; done
    $SSH -S $PWD/cm $TO 'echo on; exec sleep 600' < /dev/zero > on & S=$!
    until [ -s on ]; do sleep 0.1; done
    [ "$($SSH -S $PWD/cm $TO sha256sum < data)" = "$(sha256sum < data)" ] && echo same
    kill $S $M; wait; rm -f cm on"#;

fn on_a_wire(loss: u32, bytes: usize) {
    let bastion = Bastion::start();
    let wire = Wire::to(&bastion, loss);
    for way in Way::BOTH {
        let held = Client::start(wire.ssh(&bastion, way, &[], "echo ran; echo apart >&2; exit 5"));
        held.reads("needs approval");
        let request = held.request();
        bastion.approve(&request, &[]);
        let seen = held.ends();
        assert_eq!((seen.status, seen.out().as_str()), (5, "ran\n"), "{seen:?}");
        assert!(seen.err.contains("apart\n"), "{seen:?}");

        let shell = Terminal::start(&wire.ssh(&bastion, way, &["-tt"], ""));
        shell.types("PS1=; stty -echo; echo $((40+2))th\r");
        shell.sees("42th");
        for (what, script) in [("up", UP), ("down", DOWN), ("both ways", BOTH), ("up beside a stalled channel", BESIDE)] {
            same(&bastion, way, &format!("30 ms, {loss} % lost, {what}"), bytes, script);
            shell.types("echo $((50+1))st\r");
            shell.sees("51st");
        }
        shell.types("exit 4\r");
        assert_eq!(shell.ends(), 4);
        bastion.says("bob", &["revoke", &request, "--reason", "over"]).well();
    }
}

#[test]
fn a_long_wire() {
    on_a_wire(0, 16_000_000);
}

#[test]
fn a_wire_that_loses_one_in_a_hundred() {
    on_a_wire(1, 3_000_000);
}

#[test]
fn a_wire_that_loses_three_in_a_hundred() {
    on_a_wire(3, 3_000_000);
}
