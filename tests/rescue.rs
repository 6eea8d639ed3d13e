//! A disk that is nearly full: the floor is for everybody, the reserve below it for rescue.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Bastion, Client, Plan, SOON, login, until};

const DEV_SHELL: &str = "@id(\"dev-shell\") @hold(\"lead\")
forbid (principal, action == Action::\"shell\", resource == Target::\"dev-1\");

@id(\"never\")";

fn free(of: &Path) -> u64 {
    let disk = rustix::fs::statvfs(of).unwrap();
    disk.f_bavail * disk.f_frsize
}

/// Takes space until so much is left.
fn fill_to(dir: &Path, left: u64) {
    let mut ballast = std::fs::File::create(dir.join("ballast")).unwrap();
    let block = vec![1; 1 << 18];
    while free(dir) > left {
        ballast.write_all(&block).unwrap();
    }
}

#[test]
fn below_the_floor_only_a_rescue_begins_and_it_has_the_reserve_to_itself() {
    let recordings = "free_floor_mb = 8\nreserve_mb = 16\n".into();
    let bastion = Bastion::with(Plan { tmpfs: Some(96), recordings, ..Plan::default() });
    for (file, from, to) in
        [("approvals.toml", "[workflows.lead]\n", "[workflows.lead]\nrescue = true\n"), ("access.cedar", "@id(\"never\")", DEV_SHELL)]
    {
        let path = bastion.policy_file(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }
    bastion.reloads();
    until("they were read again", SOON, || bastion.log().contains("countersign: reloaded"));
    let dir = bastion.recordings();
    let to = |target: &str| format!("{}={target}@bastion", login());
    let mut busy = Client::start(bastion.ssh("alice", &[to("dev-1"), "echo ready; read x; head -c 60000000 /dev/urandom | base64".into()]));
    busy.gets("ready");

    fill_to(&dir, 20 << 20);
    let refused = bastion.run("alice", &[to("dev-1"), "true".into()]);
    let said = refused.ends(70);
    assert!(said.contains("nearly full") && said.contains("an operator frees space"), "{said}");
    assert!(said.contains(&format!("you may rescue: {}@dev-1", login())), "a shell there asks a lead: {said}");
    let refused = bastion.run("alice", &[to("quick-1"), "true".into()]);
    assert!(!refused.ends(70).contains("rescue"), "not by any way of hers: {}", refused.err);

    // Who was there before goes on until the reserve begins.
    busy.types(b"\n");
    let ended = busy.ends_within(Duration::from_secs(60));
    assert!(ended.ends(70).contains("the recording failed"), "{}", ended.err);
    assert!(bastion.log().contains("what is left of the disk is kept for rescue") && free(&dir) > 14 << 20, "{}", free(&dir));
    until("it is sealed or given up", SOON, || !bastion.sessions().iter().any(|session| session["ended"].is_null()));

    bastion.open_grant(&["--for", "1h"]);
    let rescue = bastion.run("alice", &[to("web-1"), "head -c 3000000 /dev/urandom | base64".into()]);
    assert!(rescue.status == 0 && rescue.out.len() > 3_000_000, "{}", rescue.err);
    assert!(rescue.err.contains("goes into the reserve"), "{}", rescue.err);
    bastion.audited_with("session.rescue", &["alice", "web-1", "\"floor\""]);

    std::fs::remove_file(dir.join("ballast")).unwrap();
    until("there is room for everybody again", Duration::from_secs(60), || bastion.run("alice", &[to("dev-1"), "true".into()]).status == 0);
}
