//! Bulk, both ways, with readers that sleep: nothing is lost, nothing hangs, memory stays bounded.

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::harness::{Bastion, Client, Dice, LONG, Master, Way, login};

const PAYLOAD: usize = 200_000_000;
/// What a bastion may hold at its peak, all of it: code, state, one channel's queues and windows.
const PEAK: u64 = 160 << 20;

/// A file of 200 MB that no two places of look alike, made once.
fn payload() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("payload");
        if std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() == PAYLOAD as u64) {
            return file;
        }
        let mut dice = Dice::new(42);
        let bytes: Vec<u8> = (0..PAYLOAD / 8).flat_map(|_| dice.below(u64::MAX).to_le_bytes()).collect();
        let making = file.with_extension(std::process::id().to_string());
        std::fs::File::create(&making).unwrap().write_all(&bytes).unwrap();
        std::fs::rename(&making, &file).unwrap();
        file
    })
}

/// Runs a script with `$P` the payload, `$FIVE` five of it, `$TO` the way to web-1; it prints digests
/// that have to be those of the payloads named in `expected`.
fn digests(bastion: &Bastion, way: Way, script: &str, expected: &[&str]) {
    let mut command = bastion.sh("alice", script);
    let p = payload().display().to_string();
    let five = [p.as_str(); 5].join(" ");
    command.env("P", &p).env("FIVE", &five).env("TO", way.to("web-1").join(" "));
    let seen = Client::start(command).ends_within(LONG);
    assert_eq!(seen.status, 0, "{way:?} {seen:?}");
    let found: Vec<String> = seen.out().lines().map(|line| line.split_whitespace().next().unwrap_or_default().to_owned()).collect();
    let wanted: Vec<String> = expected.iter().map(|of| digest(if *of == "one" { &p } else { &five })).collect();
    assert_eq!(found, wanted, "{way:?} {}", seen.err);
}

/// The SHA-256 of one payload, or of five in a row.
fn digest(files: &str) -> String {
    static KNOWN: std::sync::Mutex<Vec<(String, String)>> = std::sync::Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap();
    if let Some((_, sum)) = known.iter().find(|(of, _)| of == files) {
        return sum.clone();
    }
    let output = std::process::Command::new("sh").args(["-c", &format!("cat {files} | sha256sum")]).output().unwrap();
    let sum = String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned();
    known.push((files.to_owned(), sum.clone()));
    sum
}

/// A bastion on which alice's grant for web-1 is open.
fn granted() -> Bastion {
    let bastion = Bastion::start();
    bastion.open_grant(&[]);
    bastion
}

fn both_ways(test: impl Fn(&Bastion, Way)) {
    let bastion = granted();
    for way in Way::BOTH {
        test(&bastion, way);
    }
    let peak = bastion.peak_memory();
    assert!(peak < PEAK, "{} MB at the peak", peak >> 20);
}

#[test]
fn bulk_goes_up() {
    both_ways(|bastion, way| digests(bastion, way, "$SSH $TO sha256sum < $P", &["one"]));
}

#[test]
fn bulk_comes_down() {
    both_ways(|bastion, way| digests(bastion, way, "$SSH $TO \"cat $P\" | sha256sum", &["one"]));
}

#[test]
fn bulk_goes_both_ways_at_once() {
    both_ways(|bastion, way| digests(bastion, way, "cat $P | $SSH $TO cat | sha256sum", &["one"]));
}

#[test]
fn two_channels_of_one_connection_do_not_mix() {
    both_ways(|bastion, way| {
        let script = "M=\"-o ControlPath=%d/cm-$$-%C\"; M=\"-o ControlPath=$PWD/cm-$$\"
            $SSH $M -M -N -f $TO
            $SSH $M $TO \"cat $P\" | sha256sum > a & $SSH $M $TO sha256sum < $P > b & wait; cat a b; $SSH $M -O exit $TO 2>/dev/null";
        digests(bastion, way, script, &["one", "one"]);
    });
}

#[test]
fn a_reader_that_sleeps_holds_nothing_up() {
    both_ways(|bastion, way| digests(bastion, way, "cat $FIVE | $SSH $TO cat | (sleep 20; sha256sum)", &["five"]));
}

#[test]
fn a_target_that_sleeps_is_waited_for() {
    both_ways(|bastion, way| digests(bastion, way, "cat $FIVE | $SSH $TO 'sleep 10; sha256sum'", &["five"]));
}

#[test]
fn standard_error_in_bulk_stays_apart() {
    both_ways(|bastion, way| {
        digests(bastion, way, "$SSH $TO \"cat $P & cat $P >&2; wait\" 2>err | sha256sum; sha256sum < err; rm err", &["one", "one"]);
    });
}

#[test]
fn a_first_byte_of_three_is_data() {
    both_ways(|bastion, way| {
        let mut command = bastion.sh("alice", "printf '\\003abc' | $SSH $TO 'od -An -tx1'; printf '\\003' | $SSH $TO 'od -An -tx1'");
        command.env("TO", way.to("web-1").join(" "));
        let seen = Client::start(command).ends().well();
        assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["03", "61", "62", "63", "03"]);
    });
}

/// 400 commands, five at a time: each status right, no tail lost.
#[test]
fn short_commands_lose_nothing() {
    let bastion = granted();
    std::thread::scope(|scope| {
        for worker in 0..5 {
            let bastion = &bastion;
            scope.spawn(move || {
                let mut dice = Dice::new(0x5eed + worker);
                // Three workers hold a connection open, two connect each time; one of each jumps.
                let way = if worker % 2 == 0 { Way::Named } else { Way::Jump };
                let master = (worker < 3).then(|| Master::open(bastion, "alice", way, "web-1", &worker.to_string()));
                for turn in 0..80 {
                    let (bytes, status) = (dice.below(if turn % 4 == 0 { 300_000 } else { 3000 }), dice.below(256));
                    let command = format!("head -c {bytes} /dev/zero | tr '\\0' x; echo tail; exit {status}");
                    let mut words = way.to("web-1");
                    words.push(command.clone());
                    let ssh = master.as_ref().map_or_else(|| bastion.ssh("alice", &words), |master| master.ssh_with(&[], &command));
                    let seen = Client::start(ssh).ends();
                    let expected = (status as i32, bytes as usize + 5, true);
                    assert_eq!(
                        (seen.status, seen.out.len(), seen.out.ends_with(b"tail\n")),
                        expected,
                        "worker {worker}, turn {turn}: {}",
                        seen.err
                    );
                }
            });
        }
    });
    let opened = bastion.audit().into_iter().filter(|(name, _)| name == "session.open").count();
    assert_eq!(opened, 400);
}

/// Window changes, signals by key, and a stream that ends in the middle of a terminal's life.
#[test]
fn a_terminal_takes_an_interrupt_in_bulk() {
    let bastion = granted();
    let terminal = crate::harness::Terminal::start(&bastion.ssh("alice", &[format!("{}=web-1@bastion", login())]));
    terminal.types("PS1=; stty -echo; echo $((40+2))th\r");
    terminal.sees("42th");
    terminal.types("yes a-line-that-goes-on\r");
    terminal.sees("a-line-that-goes-on");
    terminal.types("\x03");
    terminal.types("echo $((50+1))st; exit 4\r");
    terminal.sees("51st");
    assert_eq!(terminal.ends(), 4);
}
