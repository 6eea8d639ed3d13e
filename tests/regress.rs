//! What OpenSSH's own regression tests hold ssh to, through the bastion: statuses, streams that stay apart,
//! readers that leave, sizes, and new keys in the middle of it all. Both ways in, with the stock client.

use crate::harness::{Bastion, Client, LONG, Way};

/// Runs a script with `$SSH` and `$TO` the way to web-1, in a directory of its own; it says what holds.
#[track_caller]
fn holds(bastion: &Bastion, way: Way, script: &str, expected: &str) {
    let place = bastion.dir().join(format!("{way:?}"));
    std::fs::create_dir_all(&place).unwrap();
    let mut command = bastion.sh("alice", script);
    command.current_dir(place).env("TO", way.to("web-1").join(" "));
    let seen = Client::start(command).ends_within(LONG);
    assert_eq!(seen.out().trim_end(), expected, "{way:?} {script}\n{seen:?}");
}

fn both_ways(scripts: &[(&str, &str)]) -> Bastion {
    let bastion = Bastion::start();
    bastion.open_grant(&[]);
    for way in Way::BOTH {
        for (script, expected) in scripts {
            holds(&bastion, way, script, expected);
        }
    }
    bastion
}

/// exit-status, exit-signal, stderr-data, stderr-after-eof.
#[test]
fn statuses_and_streams() {
    both_ways(&[
        (
            "for s in 0 1 4 5 44 255; do $SSH $TO exit $s; echo -n \"$? \"; $SSH -n $TO exit $s; echo -n \"$? \"; done",
            "0 0 1 1 4 4 5 5 44 44 255 255",
        ),
        // Its output goes on in the background after the status is known.
        ("$SSH $TO '(sleep 1; echo late) & exit 7'; echo $?", "late\n7"),
        ("$SSH $TO 'kill -TERM $$'; echo $?; $SSH $TO 'kill -KILL $$'; echo $?", "255\n255"),
        (
            "for n in '' -n; do $SSH $n $TO \"exec sh -c 'exec > /dev/null; exec echo hi >&2'\" > out 2> err </dev/null; wc -c < out; cat err; done",
            "0\nhi\n0\nhi",
        ),
        (
            "for n in '' -n; do $SSH $n $TO \"echo a; exec > /dev/null; echo hi >&2\" > out 2> err </dev/null; cat out err; done",
            "a\nhi\na\nhi",
        ),
        // The target closes its output and goes on to fill standard error.
        (
            "head -c 3000000 /dev/urandom > data; $SSH $TO \"exec >/dev/null; dd if=$PWD/data of=/dev/stderr status=none\" 2> err; echo $?; cmp data err && echo same",
            "0\nsame",
        ),
        (
            "head -c 300000 /dev/urandom > data; $SSH $TO \"exec >&-; cat $PWD/data >&2; exit 3\" 2> err; echo $?; cmp data err && echo same",
            "3\nsame",
        ),
    ]);
}

/// broken-pipe, yes-head, and a client that closes its input early.
#[test]
fn readers_that_leave() {
    let bastion = both_ways(&[
        ("for i in 1 2 3 4; do $SSH $TO echo $i 2>/dev/null | true; echo -n \"$i \"; done", "1 2 3 4"),
        ("$SSH $TO 'sh -c \"while true; do echo yes; done | head -2000\"' | (sleep 1; wc -l)", "2000"),
        // OpenSSH tells only servers of its own name that nobody reads any more: it ends when the client does.
        ("timeout 2 $SSH $TO yes | head -2000 | wc -l", "2000"),
        ("$SSH $TO 'cat; echo end' < /dev/null; $SSH $TO 'exec <&-; sleep 1; echo end' < /dev/zero", "end\nend"),
    ]);
    // `yes` without a reader is gone there too.
    crate::harness::until("nothing runs on", crate::harness::SOON, || bastion.sessions().iter().all(|session| !session["ended"].is_null()));
}

/// transfer: both directions, block sizes from one byte on.
#[test]
fn sizes() {
    both_ways(&[(
        "set -e; head -c 1000000 /dev/urandom > data
         $SSH -n $TO \"cat $PWD/data\" > copy; cmp data copy
         $SSH $TO \"cat > $PWD/copy\" < data; cmp data copy
         for s in 10 100 1k 32k 64k 128k 256k; do
           for d in ,1 ,2 ; do dd if=data obs=$s status=none | $SSH $TO \"cat > $PWD/copy\"; cmp data copy; done
         done
         for n in 0 1 2 255 256 32767 32768 32769 65536; do
           head -c $n data > part; $SSH $TO cat < part > copy; cmp part copy
         done
         echo same",
        "same",
    )]);
}

/// Counts the exchanges of keys that `ssh -v` says it has done.
const REKEYED: &str = "rekeyed() { grep -c 'SSH2_MSG_NEWKEYS received' $1; }";

/// rekey, asked for by the client, by amount and by time, also while nothing moves.
#[test]
fn new_keys_from_the_client() {
    let few = |script: &str| format!("{REKEYED}; head -c 8000000 /dev/urandom > data; {script}");
    let (up, down) =
        ("$SSH -v -oRekeyLimit=256k $TO sha256sum < data 2> log", "$SSH -v -oRekeyLimit=256k $TO \"cat $PWD/data\" 2> log | sha256sum");
    let (both, stalled) = (
        "$SSH -v -oRekeyLimit=256k $TO cat < data 2> log | sha256sum",
        "$SSH -v '-oRekeyLimit=default 1' $TO 'sleep 5; sha256sum' < data 2> log",
    );
    let slow = "$SSH -v '-oRekeyLimit=default 1' $TO \"cat $PWD/data\" 2> log | (sleep 5; sha256sum)";
    let scripts: Vec<String> = [(up, 8), (down, 8), (both, 8), (stalled, 3), (slow, 3)]
        .map(|(script, at_least)| {
            few(&format!("[ \"$({script})\" = \"$(sha256sum < data)\" ] && [ $(rekeyed log) -ge {at_least} ] && echo same || tail -5 log"))
        })
        .into();
    let scripts: Vec<(&str, &str)> = scripts.iter().map(|script| (script.as_str(), "same")).collect();
    both_ways(&scripts);
}

/// rekey, asked for by the target, by amount and by time: in the middle of bulk, and while the client does not
/// read and nothing is read of the target.
#[test]
fn new_keys_from_the_target() {
    let bastion = Bastion::start();
    bastion.target.adds("RekeyLimit 512k 1\nLogLevel DEBUG\n");
    bastion.open_grant(&[]);
    for way in Way::BOTH {
        for script in [
            "$SSH $TO sha256sum < data",
            "$SSH $TO \"cat $PWD/data\" | sha256sum",
            "$SSH $TO cat < data | sha256sum",
            "$SSH $TO \"cat $PWD/data\" | (sleep 4; sha256sum)",
            "$SSH $TO 'sleep 4; sha256sum' < data",
        ] {
            let script = format!("head -c 8000000 /dev/urandom > data; [ \"$({script})\" = \"$(sha256sum < data)\" ] && echo same");
            holds(&bastion, way, &script, "same");
        }
    }
    let rekeyed = bastion.target.log().matches("SSH2_MSG_NEWKEYS received").count();
    assert!(rekeyed >= 50, "the target asked for new keys {rekeyed} times");
}
