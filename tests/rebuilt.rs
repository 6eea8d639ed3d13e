//! What a recording holds is what went over the wire: for every kind of channel, the streams that an independent
//! reader rebuilds are those that the client sent and got, and those that the target got and sent.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Bastion, Client, Dice, Seen, Terminal, Way, login, program};

/// A bastion that keeps input too, whose target keeps what it gets and says, below `at-target/NAME`.
fn tapped() -> Bastion {
    let bastion = Bastion::start();
    bastion.is_told("policies/access.cedar", |policy| policy.replace(r#"@id("engineers")"#, r#"@id("engineers") @record("full")"#));
    bastion.target.forces(&format!("{} {}/at-target/$LC_TAP", tap().display(), bastion.dir().display()));
    let mut dice = Dice::new(11);
    let bytes: Vec<u8> = (0..60_000).flat_map(|_| dice.below(u64::MAX).to_le_bytes()).collect();
    std::fs::write(bastion.dir().join("here"), bytes).unwrap();
    bastion
}

fn tap() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/tap.sh")
}

/// The last session's streams, as `tests/independent/read.py` rebuilds them: in, out and err.
fn rebuilt(bastion: &Bastion, name: &str) -> [Vec<u8>; 3] {
    let sealed = bastion.sealed();
    let file = sealed["sealed"]["file"].as_str().unwrap_or_else(|| panic!("no file: {sealed}")).to_owned();
    let dated = file.strip_prefix("sealed/").and_then(|file| file.strip_suffix(".cast.zst.age")).unwrap();
    let out = bastion.dir().join("rebuilt").join(name);
    let mut read = Command::new(program("python3"));
    read.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/read.py"));
    read.arg("--body").arg(bastion.recordings().join(&file)).arg("--key-file").arg(bastion.key_files().join(format!("{dated}.key.age")));
    read.arg("--identity").arg(bastion.key_of("carol")).arg("--out").arg(&out);
    Client::start(read).ends().well();
    ["in", "out", "err"].map(|stream| std::fs::read(out.join(stream)).unwrap())
}

fn kept(dir: &Path) -> [Vec<u8>; 3] {
    ["in", "out", "err"].map(|stream| std::fs::read(dir.join(stream)).unwrap_or_else(|error| panic!("{}/{stream}: {error}", dir.display())))
}

/// Standard error without what the bastion said.
fn remarks(err: &[u8]) -> Vec<u8> {
    let ours = |line: &&[u8]| line.starts_with(b"countersign: ");
    err.split_inclusive(|byte| *byte == b'\n').filter(|line| !ours(line)).flatten().copied().collect()
}

/// Runs one tool on one way with `$SSH` the tapped client, `$TO` the target, `$HERE` a file and `$THERE` another.
fn carries(bastion: &Bastion, name: &str, way: Way, script: &str) {
    let name = format!("{name}-{way:?}").to_lowercase();
    let at_client = bastion.dir().join("at-client").join(&name);
    let mut options = format!("-F {} -o SetEnv=LC_TAP={name}", bastion.dir().join("people/alice.conf").display());
    if way == Way::Jump {
        options.push_str(" -J bastion");
    }
    let wrapper = bastion.dir().join(format!("ssh-{name}"));
    let text = format!("#!/bin/sh\nexec {} {} {} {options} \"$@\"\n", tap().display(), at_client.display(), program("ssh").display());
    std::fs::write(&wrapper, text).unwrap();
    std::fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let to = if way == Way::Jump { format!("{}@web-1", login()) } else { format!("{}=web-1@bastion", login()) };
    let mut command = bastion.sh("alice", script);
    command.env("SSH", &wrapper).env("TO", to).env("HERE", bastion.dir().join("here"));
    command.env("THERE", bastion.dir().join(format!("there-{name}"))).env("GIT_SSH", &wrapper);
    let seen = Client::start(command).ends();
    assert_eq!(seen.status, 0, "{name}: {seen:?}");

    let [sent, got, said] = kept(&at_client);
    let [taken, given, erred] = kept(&bastion.dir().join("at-target").join(&name));
    let [input, output, error] = rebuilt(bastion, &name);
    let lengths = |streams: [&Vec<u8>; 3]| streams.map(Vec::len);
    assert!(sent == input && input == taken, "{name}: input {:?}", lengths([&sent, &input, &taken]));
    assert!(given == output && output == got, "{name}: output {:?}", lengths([&given, &output, &got]));
    assert!(erred == error && error == remarks(&said), "{name}: error {:?}", lengths([&erred, &error, &said]));
    assert!(input.len() + output.len() > 100_000, "{name}: {:?}", lengths([&input, &output, &error]));
}

#[test]
fn the_streams_of_every_tool_are_recorded_to_the_byte() {
    let bastion = tapped();
    bastion.open_grant(&[]);
    for way in Way::BOTH {
        let both = "$SSH -T $TO 'cat; cat \"$HOME/../../here\" >&2; exit 9' <$HERE >out 2>err; test $? = 9";
        carries(&bastion, "exec", way, both);
        carries(&bastion, "put", way, "printf 'put %s %s\\n' $HERE $THERE | sftp -q -S $SSH -b - $TO; cmp $HERE $THERE");
    }
    carries(&bastion, "shell", Way::Jump, "echo \"cat $HERE; echo err >&2\" | $SSH -T $TO >out");
    carries(&bastion, "get", Way::Jump, "printf 'get %s %s\\n' $HERE $THERE | sftp -q -S $SSH -b - $TO; cmp $HERE $THERE");
    carries(&bastion, "scp", Way::Named, "scp -q -S $SSH $HERE $TO:$THERE; cmp $HERE $THERE");
    carries(&bastion, "scp-O", Way::Named, "scp -q -O -S $SSH $HERE $TO:$THERE; cmp $HERE $THERE");
    carries(&bastion, "rsync", Way::Named, "rsync -e $SSH $HERE $TO:$THERE; cmp $HERE $THERE");
    let push = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
        git init -q made && cp $HERE made && git -C made add . && git init -q --bare there.git
        git -C made -c user.name=t -c user.email=t@example.org commit -q -m one
        git -C made push -q ssh://$TO$PWD/there.git HEAD 2>/dev/null";
    carries(&bastion, "push", Way::Jump, push);
    carries(&bastion, "clone", Way::Named, "git clone -q ssh://$TO$PWD/there.git got && cmp $HERE got/here");
}

/// A terminal: what is typed once it is open, and all that it shows, binary in both directions.
#[test]
fn the_bytes_of_a_terminal_are_recorded_to_the_byte() {
    let bastion = tapped();
    bastion.open_grant(&[]);
    let (typed, got) = (bastion.dir().join("typed"), bastion.dir().join("got"));
    let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
    std::fs::write(&typed, &bytes).unwrap();
    for way in Way::BOTH {
        let mut words = vec!["-tt".to_owned()];
        words.extend(way.to("web-1"));
        words.push(format!("stty raw -echo; echo ready; head -c 4096 >{0}; cat {0}; exit 5", got.display()));
        let mut client = Client::start(bastion.ssh("alice", &words));
        client.gets("ready");
        client.types(&bytes);
        client.gets_bytes(4096, crate::harness::SOON);
        let seen: Seen = client.ends();
        assert_eq!(seen.status, 5, "{way:?} {seen:?}");
        let [input, output, _] = rebuilt(&bastion, &format!("terminal-{way:?}"));
        assert!(input == bytes && std::fs::read(&got).unwrap() == bytes, "{way:?}: {} typed", input.len());
        assert!(output == seen.out && output.ends_with(&bytes), "{way:?}: {} shown, {} recorded", seen.out.len(), output.len());
    }
    // A person at a prompt: their keys from the opening on, and the screen.
    let terminal = Terminal::start(&bastion.ssh("alice", &[format!("{}=web-1@bastion", login())]));
    terminal.sees("is recorded");
    terminal.types("PS1=; stty -echo; echo $((40+2))th\r");
    terminal.sees("42th");
    terminal.types("exit 3\r");
    assert_eq!(terminal.ends(), 3);
    let [input, output, _] = rebuilt(&bastion, "prompt");
    assert_eq!(String::from_utf8_lossy(&input), "PS1=; stty -echo; echo $((40+2))th\rexit 3\r");
    assert!(String::from_utf8_lossy(&output).contains("42th"));
}
