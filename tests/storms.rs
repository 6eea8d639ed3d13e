//! Many connects, many targets, few questions (`users.md` 3): they join, they queue, one signature decides.

use std::time::Duration;

use crate::harness::{Bastion, Client, Plan, SOON, login, python, until, until_some};

/// A bastion with so many more targets on its one sshd: node-1, node-2 … in production, the last of them pci.
fn nodes(limits: &str, count: usize) -> Bastion {
    let bastion = Bastion::with(Plan { limits: limits.into(), ..Plan::default() });
    let mut entries = String::new();
    for n in 1..=count {
        bastion.target.also_is(&format!("node-{n}"));
        let labels = if n == count { "\"env=prod\", \"pci\"" } else { "\"env=prod\"" };
        entries.push_str(&format!(
            "[targets.node-{n}]\naddress = \"127.0.0.1:{}\"\nlabels = [{labels}]\nlogins = [\"{}\"]\nhost_keys = [\"{}\"]\n\n",
            bastion.target.port,
            login(),
            bastion.target.host_key()
        ));
    }
    bastion.is_told("policies/targets.toml", |text| text + &entries);
    bastion
}

fn connect(bastion: &Bastion, target: &str, says: &str) -> Client {
    Client::start(bastion.ssh("alice", &[format!("{}={target}@bastion", login()), format!("echo {says}")]))
}

/// alice's requests that wait, the oldest first.
#[track_caller]
fn pending(bastion: &Bastion) -> Vec<serde_json::Value> {
    let mut requests = bastion.json("alice", &["requests", "--pending"])["requests"].as_array().cloned().unwrap_or_default();
    requests.sort_by_key(|one| one["made"].as_str().unwrap_or_default().to_owned());
    requests
}

#[track_caller]
fn are_pending(bastion: &Bastion, count: usize) -> Vec<String> {
    let ids = until_some(&format!("{count} requests wait"), SOON, || {
        let requests = pending(bastion);
        (requests.len() == count).then_some(requests)
    });
    ids.iter().map(|one| one["request"].as_str().unwrap().to_owned()).collect()
}

fn rows(bastion: &Bastion, name: &str) -> Vec<serde_json::Value> {
    bastion.audit().into_iter().filter(|(row, _)| row == name).map(|(_, facts)| facts).collect()
}

#[test]
fn fifty_connects_to_one_scope_are_one_request_and_one_decision() {
    let bastion = Bastion::start();
    let mut clients: Vec<Client> = (0..50).map(|n| connect(&bastion, "web-1", &format!("ran {n}"))).collect();
    until(
        "all of them wait for one request",
        Duration::from_secs(90),
        || matches!(pending(&bastion).as_slice(), [one] if one["waiters"] == 50),
    );
    // Who hangs up and comes again, as tools do, joins it too.
    drop(clients.pop());
    until("one has left", SOON, || pending(&bastion).first().is_some_and(|one| one["waiters"] == 49));
    clients.push(connect(&bastion, "web-1", "ran 49"));
    let id = clients.last().unwrap().request();
    bastion.approve(&id, &[]);
    for (n, client) in clients.into_iter().enumerate() {
        assert_eq!(client.ends_within(Duration::from_secs(90)).well(), format!("ran {n}\n"));
    }
    assert_eq!(rows(&bastion, "request.submit").len(), 1);
    assert_eq!(rows(&bastion, "request.join").len(), 50);
    assert_eq!(rows(&bastion, "request.decide").len(), 1);
}

#[test]
fn a_list_is_asked_for_at_once_waited_for_and_opens_each_of_its_targets() {
    let bastion = nodes("", 5);
    let to = format!("{}@-", login());
    let ask = |words: &[&str], list: &str| {
        let mut all = vec!["request", to.as_str()];
        all.extend(words);
        let mut client = Client::start(bastion.companion("alice", &all));
        client.types(list.as_bytes());
        client.closes_input();
        client
    };
    let wrong = ask(&["--reason", "CHG-88"], "node-1\nnowhere\nnever-1\n").ends();
    let both = format!("{0}@never-1, {0}@nowhere are unknown or not yours (2 names); nothing was asked", login());
    assert!(wrong.ends(77).contains(&both), "{wrong:?}");
    assert!(pending(&bastion).is_empty());

    let waiting = ask(&["--for", "2h", "--reason", "CHG-88", "--wait"], "    node-2\n    node-1\n    node-5\n    dev-1\n");
    waiting.reads("for 3 targets: node-1, node-2, node-5");
    waiting.reads("dev-1 needs nobody's approval");
    let [id] = are_pending(&bastion, 1).try_into().unwrap();
    bastion.approve(&id, &[]);
    assert!(waiting.ends().well().contains(&format!("{id} approved by bob for 2h")));
    let clients: Vec<Client> = ["node-1", "node-2", "node-5"].map(|node| connect(&bastion, node, node)).into();
    for (client, node) in clients.into_iter().zip(["node-1", "node-2", "node-5"]) {
        assert_eq!(client.ends().well(), format!("{node}\n"));
        bastion.audited_with("certificate.issue", &[&format!("{}@{node}", login()), &id]);
    }
    // What was not named is not covered.
    connect(&bastion, "node-3", "no").reads("needs approval");

    // The stock client, its words, and its status when it is denied.
    let script = format!("printf 'node-3\\nnode-4\\n' | $SSH bastion request {to} --reason CHG-89 --wait");
    let stock = Client::start(bastion.sh("alice", &script));
    stock.reads("for 2 targets: node-3, node-4");
    let id = until_some("its id", SOON, || {
        let all = pending(&bastion);
        all.iter().find(|one| one["reason"] == "CHG-89").map(|one| one["request"].as_str().unwrap().to_owned())
    });
    bastion.says("bob", &["deny", &id, "--note", "not today"]).well();
    let denied = stock.ends();
    assert!(denied.status == 77 && denied.out().contains(&format!("{id} denied by bob: not today")), "{denied:?}");
    let again = connect(&bastion, "dev-1", "still").ends();
    assert_eq!(again.well(), "still\n", "what needs nobody is not in it");
    let quick = bastion.says("alice", &["request", &format!("{}@quick-1", login()), "--wait"]);
    quick.ends(75);
}

#[test]
fn one_signature_decides_a_storm_over_many_hosts_as_it_was_shown() {
    let bastion = nodes("", 9);
    let clients: Vec<Client> = (1..=8).map(|n| connect(&bastion, &format!("node-{n}"), &format!("ran {n}"))).collect();
    let ids = are_pending(&bastion, 8);
    // One that asks for something else, and is not covered.
    let other = bastion.says("alice", &["request", &format!("{}@node-9", login()), "--for", "5m", "--reason", "INC-7"]);
    other.well();
    let shown = bastion.says("bob", &["approve", "--like", &ids[0]]);
    assert!(shown.err.contains("8 requests: 8 targets · all env=prod · none ever before"), "{shown:?}");
    assert!(shown.well().contains("approved 8 requests for 30m"), "{shown:?}");
    for (n, client) in clients.into_iter().enumerate() {
        assert_eq!(client.ends_within(Duration::from_secs(60)).well(), format!("ran {}\n", n + 1));
    }
    let decided = rows(&bastion, "request.decide");
    assert_eq!(decided.len(), 8);
    assert!(decided.iter().all(|row| row["decision"] == decided[0]["decision"] && row["decision"].is_string()), "one signature");
    assert_eq!(are_pending(&bastion, 1).len(), 1, "INC-7 still waits");

    // Denied together, denied each.
    let more: Vec<Client> = ["node-9", "web-1", "db-1"].map(|node| connect(&bastion, node, "no")).into();
    let ids = are_pending(&bastion, 4);
    bastion.says("bob", &["deny", "--like", &ids[1], "--note", "freeze until 06:00"]).well();
    for client in more {
        assert!(client.ends().ends(77).contains("denied by bob: freeze until 06:00"));
    }
    let again = connect(&bastion, "web-1", "no").ends();
    assert!(again.ends(77).contains("bob denied this") && again.err.contains("--again"), "{again:?}");
    assert_eq!(are_pending(&bastion, 1).len(), 1);
}

#[test]
fn beyond_the_limit_a_connect_waits_in_turn_unread() {
    let bastion = nodes("pending_per_person = 2", 8);
    let mut clients = Vec::new();
    for n in 1..=2 {
        clients.push(connect(&bastion, &format!("node-{n}"), &format!("ran {n}")));
        are_pending(&bastion, n);
    }
    for n in 3..=6 {
        let client = Client::start(bastion.ssh("alice", &[format!("{}=node-{n}@bastion", login()), "cat".into()]));
        client.reads("countersign: behind your 2 pending requests; this one waits in turn");
        clients.push(client);
    }
    // What it is sent meanwhile is not lost.
    clients[2].types(b"typed while it waited\n");
    // What is asked already is joined, whoever waits.
    let joined = connect(&bastion, "node-1", "joined");
    joined.reads("(joined)");
    // Who hangs up has left the line.
    clients.remove(3).hangs_up();
    // A place is free: the one who came first takes it.
    bastion.approve(&are_pending(&bastion, 2)[0], &[]);
    clients[2].reads("node-3 needs approval");
    assert_eq!(joined.ends().well(), "joined\n");
    assert!(!clients[3].err().contains("needs approval") && !clients[4].err().contains("needs approval"));
    // The others are asked for at once by a request made ahead, which a free place is needed for as well.
    let places = are_pending(&bastion, 2);
    bastion.approve(&places[0], &[]);
    clients[3].reads("node-5 needs approval");
    bastion.says("alice", &["withdraw", &are_pending(&bastion, 2)[0]]);
    clients[4].reads("node-6 needs approval");
    let left = are_pending(&bastion, 2);
    bastion.says("bob", &["approve", "--like", &left[0]]).well();
    let ends: Vec<_> = clients.into_iter().map(Client::ends).collect();
    assert_eq!(ends[2].status == 0, ends[2].out() == "typed while it waited\n", "{ends:?}");
    assert!(ends.iter().filter(|seen| seen.status == 0).count() >= 4, "{ends:?}");
    assert_eq!(rows(&bastion, "request.submit").len(), 5, "the one who left has asked nothing");
}

#[test]
fn a_preset_is_asked_for_once_and_never_forwarded() {
    let bastion = Bastion::start();
    let to = format!("{}=web-1@bastion", login());
    let set = |preset: &str, words: &[&str]| {
        let option = format!("SetEnv=COUNTERSIGN_PRESET={preset}");
        let mut all = vec!["-o", option.as_str(), to.as_str()];
        all.extend(words);
        Client::start(bastion.ssh("alice", &all))
    };
    let client = set("vscode", &["env; sort /dev/null"]);
    let id = client.request();
    let card = bastion.says("bob", &["show", &id]).well();
    let what = card.lines().find(|line| line.trim_start().starts_with("what")).unwrap().to_owned();
    assert!(what.contains("exec") && what.contains("file transfer") && what.contains("localhost"), "{card}");
    bastion.approve(&id, &[]);
    assert!(!client.ends().well().contains("COUNTERSIGN"), "the target is told nothing of it");
    // Once approved, it covers what it named, however it is asked for; and nothing else.
    assert_eq!(set("vscode", &["echo again"]).ends().well(), "again\n");
    assert_eq!(connect(&bastion, "web-1", "without").ends().well(), "without\n");
    let mut laptop = bastion.ssh("alice", &["-o", "SendEnv=LC_COUNTERSIGN_PRESET", to.as_str(), "env"]);
    laptop.env("LC_COUNTERSIGN_PRESET", "vscode");
    assert!(!Client::start(laptop).ends().well().contains("COUNTERSIGN_PRESET"));
    let shell = Client::start(bastion.ssh("alice", &[to.as_str()]));
    shell.reads("needs approval");

    let unknown = set("vscod", &["true"]).ends();
    assert!(unknown.ends(64).contains("there is no preset \"vscod\" here; there are: vscode"), "{unknown:?}");
    let free = Client::start(
        bastion.ssh("alice", &["-o", "SetEnv=COUNTERSIGN_PRESET=vscode", &format!("{}=dev-1@bastion", login()), "echo free"]),
    );
    assert_eq!(free.ends().well(), "free\n", "where nobody has to agree to any of it, nobody is asked");
    let mut beyond = bastion.ssh("hugo", &["-o", "SetEnv=COUNTERSIGN_PRESET=vscode", to.as_str(), "uptime"]);
    beyond.env_remove("LC_COUNTERSIGN_REASON");
    let beyond = Client::start(beyond).ends();
    assert!(beyond.ends(77).contains("the preset vscode asks for"), "{beyond:?}");
}

/// The contract's own line: an inventory's hosts, asked for at once; and a play that comes unasked for, decided by
/// one signature over what was shown.
#[test]
fn ansible_over_hosts_is_asked_for_at_once_or_decided_at_once() {
    let bastion = nodes("", 6);
    let hosts = |range: std::ops::RangeInclusive<usize>| -> String {
        range.map(|n| format!("node-{n} ansible_host=bastion ansible_user={}=node-{n}\n", login())).collect()
    };
    let inventory = format!("[web]\n{}[db]\n{}", hosts(1..=4), hosts(5..=6));
    std::fs::write(bastion.dir().join("inventory"), inventory).unwrap();
    let ansible = python().with_file_name("ansible");
    assert!(ansible.exists(), "{} is missing: tests/run makes the environment with ansible", ansible.display());
    let run = |script: &str| {
        let script = format!(
            "export ANSIBLE_HOME=$PWD/a ANSIBLE_NOCOLOR=1 ANSIBLE_SSH_ARGS=\"${{SSH#* }} -o SendEnv=LC_COUNTERSIGN_REASON\"; {script}"
        );
        let mut command = bastion.sh("alice", &script);
        command.env("ANSIBLE", &ansible).env("LC_COUNTERSIGN_REASON", "CHG-88");
        Client::start(command)
    };
    let play = run("$ANSIBLE web -i inventory -m raw -a 'echo ran {{ inventory_hostname }}'");
    let ids = are_pending(&bastion, 4);
    let shown = bastion.says("bob", &["approve", "--like", &ids[0]]);
    assert!(shown.err.contains("4 requests: 4 targets") && shown.status == 0, "{shown:?}");
    let played = play.ends_within(Duration::from_secs(90)).well();
    for n in 1..=4 {
        assert!(played.contains(&format!("ran node-{n}")), "{played}");
    }
    let decided = rows(&bastion, "request.decide");
    assert!(decided.len() == 4 && decided.iter().all(|row| row["decision"] == decided[0]["decision"]), "{decided:?}");

    let list = "$ANSIBLE db -i inventory --list-hosts | tail -n +2";
    let ask = format!("$SSH bastion request {}@- --for 2h --reason CHG-88 --wait", login());
    let ahead = run(&format!("{list} | {ask} && $ANSIBLE db -i inventory -m raw -a 'echo ran {{{{ inventory_hostname }}}}'"));
    ahead.reads_within("for 2 targets: node-5, node-6", Duration::from_secs(60));
    let [id] = are_pending(&bastion, 1).try_into().unwrap();
    bastion.approve(&id, &[]);
    let played = ahead.ends_within(Duration::from_secs(90)).well();
    assert!(played.contains("ran node-5") && played.contains("ran node-6"), "{played}");
    assert_eq!(rows(&bastion, "request.submit").len(), 5, "nobody was asked again");
}
