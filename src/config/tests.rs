use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const ALICE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMiAl+OVmPF9mkJzINSbs1F6jCR66NlI5M7/VFn7qhNC";
const BOB: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAuIPIXVAN28DWwp5fTwHUoUpn6HZ8lODMAOGEELM5P";
const HOST: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO";

/// A small directory that loads, as (file, text); each test breaks one of them.
fn good() -> Vec<(&'static str, String)> {
    vec![
        ("countersign.toml", "bastion = \"b-1\"\nhost = \"bastion.example.org\"\n[recordings]\nmode = \"plain\"\n".into()),
        (
            "policies/people.toml",
            format!("[people.alice]\ngroups = [\"sre\"]\nkeys = [\"{ALICE}\"]\n[people.bob]\ngroups = [\"leads\"]\nkeys = [\"{BOB}\"]\n"),
        ),
        (
            "policies/targets.toml",
            format!("[targets.web-1]\naddress = \"10.0.0.5\"\nlabels = [\"prod\"]\nlogins = [\"deploy\"]\nhost_keys = [\"{HOST}\"]\n"),
        ),
        (
            "policies/access.cedar",
            "@id(\"sre\") permit (principal in Group::\"sre\", action in Action::\"session\", resource);\n\
             @id(\"prod\") @hold(\"lead\") @retain(\"short\") forbid (principal, action, resource in Label::\"prod\");\n\
             @id(\"decide\") permit (principal in Group::\"leads\", action == Action::\"approve\", resource);\n"
                .into(),
        ),
        ("policies/approvals.toml", "[workflows.lead]\napprovers = [\"leads\"]\nquorum = 1\n".into()),
        ("policies/retention.toml", "[schedules.short]\nkeep_at_least = \"7d\"\ndelete_after = \"30d\"\n".into()),
    ]
}

fn write(files: &[(&str, String)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// Errors or warnings as they are printed, below the directory.
fn lines(root: &Path, problems: &[Problem]) -> Vec<String> {
    let root = format!("{}/", root.display());
    problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect()
}

/// What loading says of the good directory with one file changed.
fn inspect(file: &str, change: impl FnOnce(&str) -> String) -> (Vec<String>, Vec<String>) {
    let mut files = good();
    let text = files.iter_mut().find(|(name, _)| *name == file).map(|(_, text)| text).unwrap();
    *text = change(text);
    let dir = write(&files);
    let inspection = Directory::inspect(dir.path());
    assert_eq!(inspection.directory.is_some(), inspection.errors.is_empty());
    (lines(dir.path(), &inspection.errors), lines(dir.path(), &inspection.warnings))
}

#[test]
fn a_good_directory_loads_with_every_default() {
    let dir = write(&good());
    let directory = Directory::load(dir.path()).unwrap();
    assert_eq!(directory.warnings, []);
    assert_eq!(directory.config.listen, ["0.0.0.0:2222".parse().unwrap()]);
    assert_eq!((directory.config.state, directory.config.recordings.dir), (dir.path().join("state"), dir.path().join("recordings")));
    assert_eq!(directory.config.limits, Limits::default());
    let workflow = directory.workflows.values().next().unwrap();
    assert_eq!((workflow.decide_within, workflow.default_grant), (Duration::from_secs(900), Duration::from_secs(1800)));
    assert!(workflow.reason_required);
    assert_eq!(directory.targets.find("WEB-1").unwrap().port, 22);
}

/// Each: the file, what to replace in it by what, and the one line that must be said.
#[rustfmt::skip]
const BROKEN: &[(&str, &str, &str, &str)] = &[
    ("countersign.toml", "bastion = \"b-1\"\n", "", "countersign.toml:1:1: the file has no bastion; add bastion = \"…\", as countersign init makes it"),
    ("countersign.toml", "b-1", "B 1", "countersign.toml:1:11: \"B 1\" is not a bastion's id; use a-z 0-9 . _ - and never change it: signed documents name it"),
    ("countersign.toml", "bastion.example.org", "-oProxyCommand=x", "countersign.toml:2:8: \"-oProxyCommand=x\" is not a host's name; write the name that people use after @"),
    ("countersign.toml", "[recordings]\nmode = \"plain\"\n", "", "countersign.toml:1:1: nobody could read the recordings; name who reads them: [recordings.auditors] carol = \"ssh-ed25519 …\" (or age1…)"),
    ("countersign.toml", "mode = \"plain\"", "", "countersign.toml:3:1: nobody could read the recordings; name who reads them: [recordings.auditors] carol = \"ssh-ed25519 …\" (or age1…)"),
    ("countersign.toml", "mode = \"plain\"", "auditors = { carol = \"sk-ssh-ed25519@openssh.com AAAA\" }", "countersign.toml:4:22: nothing can be encrypted to the key of carol; sk-ssh-ed25519@openssh.com keys sign, but nothing can be encrypted to them; make one with ssh-keygen -t ed25519 or age-keygen"),
    ("countersign.toml", "mode = \"plain\"", "mode = \"plain\"\nkey_files = [\"recordings/keys\"]", "countersign.toml:5:13: key files in recordings/keys would be copied with the recordings they open; keep them in a directory of their own: key_files = [\"key-files\"]"),
    ("countersign.toml", "\"plain\"", "\"encrypted\"", "countersign.toml:4:8: mode cannot be \"encrypted\"; use sealed or plain"),
    ("countersign.toml", "[recordings]", "[client]\nnames = [\"web-1\", \"*.com\"]\n[recordings]", "countersign.toml:4:19: \"*.com\" covers hosts that are not yours: this bastion could pose as any of them; write a site's own names: \"*.prod.example.org\", \"web-*\"; two whole labels behind a star"),
    ("countersign.toml", "[recordings]", "[client]\naddress = \"bastion:x\"\n[recordings]", "countersign.toml:4:11: \"bastion:x\" is not an address; write what laptops dial: bastion.example.org:22"),
    ("countersign.toml", "[recordings]", "[keys]\nuser_ca = [\"keys/user_ca.pub\"]\n[recordings]", "countersign.toml:4:11: keys/user_ca.pub is a public key: nothing signs with it; put the private one first, or name the agent that holds it: user_ca_agent = \"/run/…\""),
    ("countersign.toml", "[recordings]", "[keys]\nhost_ca = [\"keys/host_ca\"]\nhost_ca_agent = \"agent\"\n[recordings]", "countersign.toml:4:11: host_ca_agent is set, and keys/host_ca is a private key in a file; name the public half first (host_ca = [\"keys/host_ca.pub\"]), or remove host_ca_agent"),
    ("countersign.toml", "[recordings]", "[keys]\nuser_ca = []\n[recordings]", "countersign.toml:4:11: user_ca lists 0 keys; list 1 to 8; the first signs"),
    ("countersign.toml", "[recordings]", "color = 1\n[recordings]", "countersign.toml:3:1: the file has no key \"color\"; known are bastion, client, console, egress, host, keys, limits, listen, metrics, notifiers, recordings, state"),
    ("countersign.toml", "[recordings]", "[notifiers.chat]\nwebhook = \"http://chat.example.org/x\"\n[recordings]", "countersign.toml:4:11: the webhook of chat cannot be used: it is not https: whoever is on the way would read and answer; correct its address"),
    ("countersign.toml", "[recordings]", "[notifiers.chat]\nsecret_env = \"HOME\"\n[recordings]", "countersign.toml:3:12: the notifier chat says nowhere to go; write one of webhook_file = \"keys/chat.url\", webhook_env = \"CHAT_URL\" and command = [\"/usr/local/bin/page\"]"),
    ("countersign.toml", "[recordings]", "[notifiers.page]\ncommand = [\"page\"]\n[recordings]", "countersign.toml:4:12: \"page\" is not a whole path; write command = [\"/usr/local/bin/page\"]: no shell looks for it"),
    ("countersign.toml", "[recordings]", "[notifiers.page]\ncommand = [\"/bin/sh\"]\nsecret_env = \"HOME\"\n[recordings]", "countersign.toml:5:14: secret_env belongs to a webhook; remove it"),
    ("countersign.toml", "\"plain\"", "\"plain\"\nrecovery = \"auditors\"", "countersign.toml:5:12: recovery = \"auditors\" stands beside mode = \"plain\"; remove recovery: what is not encrypted needs nobody's key"),
    ("countersign.toml", "\"plain\"", "\"plain\"\nrecovery = \"me\"", "countersign.toml:5:12: recovery cannot be \"me\"; use node or auditors"),
    ("countersign.toml", "\"plain\"", "\"plain\"\nreserve_mb = 0", "countersign.toml:5:14: reserve_mb = 0 is out of range; use 1 to 1000000"),
    ("countersign.toml", "[recordings]", "listen = [\"*:22\"]\n[recordings]", "countersign.toml:3:11: \"*:22\": invalid socket address syntax; correct it in listen"),
    ("countersign.toml", "[recordings]", "[console]\ntell_watchers = false\n[recordings]", "countersign.toml:4:1: [console] has no key \"tell_watchers\"; known are tell_watched"),
    ("countersign.toml", "[recordings]", "[limits]\npending = 0\n[recordings]", "countersign.toml:4:11: pending = 0 is out of range; use 1 to 100000"),
    ("countersign.toml", "[recordings]", "[limits]\nshared_sources = [\"203.0.113.7/24\"]\n[recordings]", "countersign.toml:4:19: \"203.0.113.7/24\": it has bits beyond its length; write 203.0.113.0/24; correct it in shared_sources"),
    ("countersign.toml", "[recordings]", "[limits]\nshared_sources = [\"2001:db8::/65\"]\n[recordings]", "countersign.toml:4:19: \"2001:db8::/65\": a source here is at most /64 long: that is what counts as one; correct it in shared_sources"),
    ("countersign.toml", "[recordings]", "[limits]\nlogin_grace = 30\n[recordings]", "countersign.toml:4:15: login_grace is an integer, not a string; write login_grace = \"…\""),
    ("countersign.toml", "[recordings]", "[recordings", "countersign.toml:3:12: unclosed table, expected `]`; write it as TOML: key = \"value\""),

    ("policies/people.toml", "[people.bob]", "[people.Bob]", "policies/people.toml:4:9: \"Bob\" is not a person's name: use a-z 0-9 . _ - and begin with a letter or digit; write [people.alice]"),
    ("policies/people.toml", "[people.alice]", "[people.req-k7q3fm]", "policies/people.toml:1:9: \"req-k7q3fm\" is reserved: ssh req-ID@bastion opens a request; choose another name"),
    ("policies/people.toml", "groups = [\"sre\"]", "groups = \"sre\"", "policies/people.toml:2:10: groups is a string, not a list of strings; write groups = [\"…\"]"),
    ("policies/people.toml", "groups = [\"sre\"]", "groups = [\"sre\", \"sre\"]", "policies/people.toml:2:18: \"sre\" stands twice in groups; remove one of them"),
    ("policies/people.toml", "groups = [\"sre\"]", "groups = [\"sre\"]\nadmin = true", "policies/people.toml:3:1: [people.alice] has no key \"admin\"; known are accounts, groups, hours, keys, second_factor, suspended"),
    ("policies/people.toml", BOB, ALICE, "policies/people.toml:6:9: the key SHA256:KEY is already listed under alice; a key names one person: remove it from one of them"),
    ("policies/people.toml", BOB, "ssh-ed25519-cert-v01@openssh.com AAAA", "policies/people.toml:6:9: this is not a public key: it does not begin with the name of an algorithm; paste the one line of the .pub file"),
    ("policies/people.toml", BOB, "ssh-ed25519 AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t", "policies/people.toml:6:9: this is a certificate, not a key; use the key that the certificate was made for (its .pub file)"),
    ("policies/people.toml", "[people.bob]", "[revoked]\nkeys = [\"MD5:aa\"]\n[people.bob]", "policies/people.toml:5:9: \"MD5:aa\" is not a key's fingerprint; write SHA256:… as ssh-keygen -l prints it"),
    ("policies/people.toml", "groups = [\"sre\"]", "second_factor = \"sometimes\"", "policies/people.toml:2:17: second_factor cannot be \"sometimes\"; use when-needed or always"),
    ("policies/people.toml", "[people.bob]", "[user_cas.office]\nkeys = []\n[people.bob]", "policies/people.toml:4:11: the user CA office has no key; add keys = [\"ssh-ed25519 …\"], the public half that the CA signs with"),
    ("policies/people.toml", "[people.bob]", "[user_cas.office]\nkey = []\nkeys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO\"]\n[people.bob]", "policies/people.toml:5:1: [user_cas.office] has no key \"key\"; known are keys, longest"),
    ("policies/people.toml", "[people.bob]", "[user_cas.office]\nkeys = [\"ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t\"]\n[people.bob]", "policies/people.toml:5:9: this is a certificate, not a key; use the key that the certificate was made for (its .pub file)"),
    ("policies/people.toml", "[people.bob]", "[user_cas.office]\nkeys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMiAl+OVmPF9mkJzINSbs1F6jCR66NlI5M7/VFn7qhNC\"]\n[people.bob]", "policies/people.toml:5:9: the key SHA256:KEY is a CA's and alice's; a CA's key is for nothing else: remove it from one of them"),
    ("policies/people.toml", "[people.bob]", "[user_cas.office]\nkeys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO\"]\nlongest = \"0h\"\n[people.bob]", "policies/people.toml:6:11: longest: \"0h\" is out of range: more than nothing, at most ten years; write longest = \"30m\""),
    ("policies/people.toml", "[people.bob]", "[revoked]\nserials = { office = [\"7\"] }\n[people.bob]", "policies/people.toml:4:1: serials of \"office\" are revoked, and there is no such CA; write the NAME of a [user_cas.NAME]"),
    ("policies/people.toml", "[people.bob]", "[revoked]\nserials = { office = [\"9-7\"] }\n[user_cas.office]\nkeys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO\"]\n[people.bob]", "policies/people.toml:5:23: \"9-7\" is not a serial; write \"7\" or \"100-199\""),
    ("policies/people.toml", "groups = [\"sre\"]", "accounts = [\"\\u001b[2J\"]", "policies/people.toml:2:13: \"\\u{1b}[2J\" is not the name of an account; write 1 to 128 bytes without control characters"),

    ("policies/targets.toml", "[targets.web-1]", "[targets.alice]", "policies/targets.toml:1:10: alice is a target's name and a person's; rename one: a bare user name is either the console or a target"),
    ("policies/targets.toml", "logins", "aliases = [\"www\", \"bob\"]\nlogins", "policies/targets.toml:4:19: bob is a target's name and a person's; rename one: a bare user name is either the console or a target"),
    ("policies/targets.toml", "[targets.web-1]", "[targets.req-1]", "policies/targets.toml:1:10: \"req-1\" is reserved: ssh req-ID@bastion opens a request; choose another name"),
    ("policies/targets.toml", "logins", "aliases = [\"web-1\"]\nlogins", "policies/targets.toml:4:12: web-1 is already a name of web-1; a name is one target's: remove it from one of them"),
    ("policies/targets.toml", "address = \"10.0.0.5\"\n", "", "policies/targets.toml:1:10: [targets.web-1] has no address; add address = \"10.0.0.5:22\""),
    ("policies/targets.toml", "10.0.0.5", "127.1", "policies/targets.toml:2:11: \"127.1\" is not an address; write host, host:port, 10.0.0.5:22 or [2001:db8::5]:22"),
    ("policies/targets.toml", HOST, "ssh-ed25519 AAAA", "policies/targets.toml:5:14: this is not a public key: it does not begin with the name of an algorithm; paste the one line of the .pub file"),
    ("policies/targets.toml", "host_keys", "#", "policies/targets.toml:1:10: web-1 has neither host_keys nor host_ca: nothing proves that it is the host; add host_keys = [\"ssh-ed25519 …\"] (ssh-keyscan HOST, compared on the host's own console) or host_ca"),
    ("policies/targets.toml", "[\"deploy\"]", "[]", "policies/targets.toml:4:10: web-1 has no logins; add logins = [\"deploy\"], the default first"),
    ("policies/targets.toml", "[\"deploy\"]", "[\"de ploy\"]", "policies/targets.toml:4:11: \"de ploy\" is not a login: use A-Z a-z 0-9 . _ - and begin with a letter, digit or _; correct it in logins"),
    ("policies/targets.toml", "\"prod\"", "\"prod\", \"a b\"", "policies/targets.toml:3:19: \"a b\" is not a label; write env=prod or a plain word, without spaces, quotes or commas"),
    ("policies/targets.toml", "host_keys", "principal = \"Login\"\nhost_keys", "policies/targets.toml:5:13: principal cannot be \"Login\"; use login@target or login"),
    ("policies/targets.toml", "[targets.web-1]", "[target.web-1]", "policies/targets.toml:1:2: the file has no key \"target\"; known are targets"),

    ("policies/access.cedar", "@id(\"sre\") ", "", "policies/access.cedar:1:1: the policy has no @id; begin the policy with @id(\"a-name-of-its-own\"), of a-z 0-9 . _ -"),
    ("policies/access.cedar", "@hold(\"lead\")", "@hold(\"boss\")", "policies/access.cedar:2:13: there is no workflow \"boss\"; add [workflows.NAME] to approvals.toml; there are lead"),
    ("policies/access.cedar", "@retain(\"short\")", "@retain(\"long\")", "policies/access.cedar:2:27: there is no schedule \"long\"; add [schedules.NAME] to retention.toml; there are short"),

    ("policies/approvals.toml", "quorum = 1", "quorum = 2", "policies/approvals.toml:3:10: lead needs 2 to agree but has only 1; lower quorum or add approvers"),
    ("policies/approvals.toml", "quorum = 1", "quorum = 0", "policies/approvals.toml:3:10: quorum = 0 is out of range; use 1 to 100"),
    ("policies/approvals.toml", "quorum = 1", "people = [\"zoe\"]", "policies/approvals.toml:3:11: there is no person zoe; add them to people.toml or remove the name"),
    ("policies/approvals.toml", "approvers = [\"leads\"]\n", "", "policies/approvals.toml:1:12: lead names nobody who may approve; add approvers = [\"GROUP\"] or people = [\"alice\"]"),
    ("policies/approvals.toml", "quorum = 1", "offered = \"5h\"", "policies/approvals.toml:3:11: offered 5h is longer than longest 4h; offer at most the longest grant"),
    ("policies/approvals.toml", "quorum = 1", "decide_within = \"soon\"", "policies/approvals.toml:3:17: decide_within: \"soon\" is not a duration: write 30m, 1h or 90s; write decide_within = \"30m\""),
    ("policies/approvals.toml", "quorum = 1", "reason_pattern = '(INC'", "policies/approvals.toml:3:18: reason_pattern is not a regular expression: unclosed group; write for example '(INC|CHG)-[0-9]+.*'"),
    ("policies/approvals.toml", "quorum = 1", "reason_pattern = 'a)|(b'", "policies/approvals.toml:3:18: reason_pattern is not a regular expression: unopened group; write for example '(INC|CHG)-[0-9]+.*'"),
    ("policies/approvals.toml", "approvers = [\"leads\"]\nquorum = 1", "[[workflows.lead.stages]]\napprovers = [\"leads\"]\n[[workflows.lead.stages]]\npeople = [\"bob\"]", "policies/approvals.toml:4:1: stage 2 of lead can never come together: a person counts once in all stages and groups, and it has only bob; add approvers or lower quorum"),
    ("policies/approvals.toml", "quorum = 1", "within = \"5m\"\nescalate_after = \"5m\"\nescalate_to = [\"sre\"]", "policies/approvals.toml:4:18: escalate_after 5m is not before within 5m is over; escalate while somebody can still decide"),
    ("policies/approvals.toml", "quorum = 1", "escalate_after = \"5m\"", "policies/approvals.toml:3:18: escalate_after says when, and nobody says to whom; add escalate_to = [\"GROUP\"]"),
    ("policies/approvals.toml", "quorum = 1", "prompt = \"\"", "policies/approvals.toml:3:10: \"\" is not a prompt; write 1 to 200 bytes without control characters"),
    ("policies/people.toml", "[people.bob]", "[people.bob]\nhours = \"08-18 UTC\"", "policies/people.toml:5:9: \"08-18 UTC\": write days, hours and a zone: Mon-Fri 08-18 Europe/Berlin; correct it in hours"),
    ("policies/approvals.toml", "approvers = [\"leads\"]\nquorum = 1", "quorum = 1\n[[workflows.lead.stages]]\npeople = [\"bob\"]", "policies/approvals.toml:2:10: quorum stands beside stages; move it into [[workflows.lead.stages]]"),
    ("policies/approvals.toml", "approvers = [\"leads\"]", "approvers = [\"sre\"]", "policies/approvals.toml:3:10: lead needs 1 to agree, but alice may ask for deploy@web-1 and nobody decides on their own request: that leaves nobody; add an approver or lower quorum"),
    ("policies/approvals.toml", "quorum = 1", "rescue = \"yes\"", "policies/approvals.toml:3:10: rescue is a string, not true or false; write rescue = true"),
    ("policies/approvals.toml", "quorum = 1", "signature = \"none\"", "policies/approvals.toml:3:13: signature cannot be \"none\"; use connection or key or touch or verified"),

    ("policies/retention.toml", "\"30d\"", "\"3d\"", "policies/retention.toml:3:16: delete_after 3d is shorter than keep_at_least 7d; delete after the floor has passed, not before"),
    ("policies/retention.toml", "keep_at_least = \"7d\"\n", "", "policies/retention.toml:1:12: [schedules.short] has no keep_at_least; add keep_at_least = \"90d\""),
    ("policies/retention.toml", "[schedules.short]", "[schedules.short]\n[schedules.short]", "policies/retention.toml:2:12: duplicate key; write it as TOML: key = \"value\""),
];

#[test]
fn a_reserve_is_kept_where_a_workflow_rescues() {
    let reserve = |settings: &str, workflow: &str| {
        let mut files = good();
        files[0].1.push_str(settings);
        files[4].1.push_str(workflow);
        Directory::load(write(&files).path()).unwrap().reserve()
    };
    assert_eq!((reserve("", ""), reserve("reserve_mb = 16\n", "rescue = false\n")), (0, 0));
    assert_eq!((reserve("", "rescue = true\n"), reserve("reserve_mb = 16\n", "rescue = true\n")), (256 << 20, 16 << 20));
}

#[test]
fn each_fault_is_said_at_its_place() {
    let mut unsaid = String::new();
    for (file, good, bad, line) in BROKEN {
        let (errors, _) = inspect(file, |text| {
            assert!(text.contains(good), "{file} has no {good}");
            text.replacen(good, bad, 1)
        });
        let fingerprint = parse_key(ALICE);
        let line = line.replace("SHA256:KEY", &fingerprint);
        if errors != [line.as_str()] {
            unsaid.push_str(&format!("{file}: {good:?} -> {bad:?}\nwanted {line}\nsaid   {errors:#?}\n"));
        }
    }
    assert!(unsaid.is_empty(), "{unsaid}");
}

#[test]
fn one_of_each_group_takes_a_person_for_each() {
    let (errors, _) = inspect("policies/approvals.toml", |text| text.replace("quorum = 1", "all = [\"leads\", \"sre\"]\nquorum = 1"));
    let line = "policies/approvals.toml:4:10: 1 to agree cannot be one of each of 2 groups; a person counts for one group: leave quorum out, or write at least as many";
    assert!(errors.contains(&line.to_owned()), "{errors:#?}");
}

fn parse_key(text: &str) -> String {
    key::parse_public_key(text).unwrap().fingerprint(russh::keys::ssh_key::HashAlg::Sha256).to_string()
}

#[test]
fn a_preset_is_read_and_its_faults_are_said() {
    let with = |preset: &str| {
        let preset = preset.to_owned();
        inspect("policies/approvals.toml", move |text| format!("{text}{preset}")).0
    };
    let good = "[presets.vscode]\nscope = [\"exec:*\", \"sftp\", \"forward-local:localhost:*\"]\n";
    assert!(with(good).is_empty(), "{:?}", with(good));
    for (preset, said) in [
        ("[presets.vscode]\nscope = [\"exec\"]\n", "approvals.toml:5:10: "),
        ("[presets.vscode]\nscope = []\n", "asks for nothing"),
        ("[presets.vscode]\n", "asks for nothing"),
        ("[presets.vscode]\nscope = [\"shell\"]\nfor = \"1h\"\n", "for"),
        ("[presets.\"VS Code\"]\nscope = [\"shell\"]\n", "preset's name"),
    ] {
        let errors = with(preset);
        assert!(errors.len() == 1 && errors[0].contains(said), "{preset}: {errors:?}");
    }
}

#[test]
fn every_fault_is_said_at_once() {
    let mut files = good();
    for ((_, text), (good, bad)) in files.iter_mut().zip([
        ("b-1", "B 1"),
        ("\"sre\"", "1"),
        ("10.0.0.5", "127.1"),
        ("\"lead\"", "\"boss\""),
        ("quorum = 1", "quorum = 0"),
        ("7d", "soon"),
    ]) {
        *text = text.replacen(good, bad, 1);
    }
    let dir = write(&files);
    let files: Vec<String> =
        Directory::load(dir.path()).unwrap_err().iter().map(|p| p.file.file_name().unwrap().to_string_lossy().into()).collect();
    assert_eq!(files, ["countersign.toml", "access.cedar", "approvals.toml", "people.toml", "retention.toml", "targets.toml"]);
}

#[test]
fn what_loads_but_is_probably_not_meant_is_warned_of() {
    #[rustfmt::skip]
    let odd = [
        ("policies/targets.toml", "host_keys", "principal = \"login\"\nhost_keys", "policies/targets.toml:5:13: certificates for web-1 fit every host that accepts plain logins; give the host an AuthorizedPrincipalsFile and remove this line"),
        ("policies/approvals.toml", "[\"leads\"]", "[\"leads\", \"heads\"]", "policies/approvals.toml:2:23: nobody is in the group heads; add it to somebody's groups in people.toml"),
        ("policies/approvals.toml", "quorum = 1", "source = \"any\"", "policies/approvals.toml:3:10: a grant of lead opens from any address, not only from the one that asked; keep it for people behind a carrier's NAT, whose address changes with each connection"),
        ("policies/access.cedar", "Group::\"sre\"", "Group::\"sres\"", "policies/access.cedar:1:33: nobody is in the group \"sres\"; add it to somebody's groups in people.toml, or correct it"),
        ("policies/access.cedar", "Label::\"prod\"", "Label::\"prd\"", "policies/access.cedar:2:83: no target has the label \"prd\"; add it to a target's labels in targets.toml, or correct it"),
        ("policies/access.cedar", "resource);", "resource == Target::\"web-2\");", "policies/access.cedar:1:88: there is no target \"web-2\"; use the name in [targets.NAME], not an alias"),
        ("policies/access.cedar", "action in Action::\"session\"", "action", "policies/access.cedar:1:1: this permit names no action: it also lets people approve, replay, watch and kill; write action in Action::\"session\", or list the actions"),
        ("policies/access.cedar", "Action::\"approve\"", "Action::\"kill\"", "policies/approvals.toml:3:10: no approver of lead is permitted to approve anything; add a permit for action == Action::\"approve\" to access.cedar"),
        ("policies/approvals.toml", "quorum = 1", "escalate_to = [\"leads\"]", "policies/approvals.toml:3:15: escalate_to adds nobody: they all are approvers of lead already; name a wider group"),
        ("policies/people.toml", "groups = [\"leads\"]", "groups = [\"leads\"]\nhours = \"Mon-Fri 08-18 Europe/Berlin\"", "policies/approvals.toml:3:10: at Mon 00:00Z nobody of lead is in reach (bob Mon-Fri 08-18 Europe/Berlin); widen hours in people.toml, or add approvers or escalate_to"),
        ("policies/people.toml", "groups = [\"leads\"]\nkeys", "groups = [\"leads\"]\naccounts", "policies/people.toml:4:9: bob has no key and cannot log in; add keys = [\"ssh-ed25519 …\"]"),
    ];
    for (file, good, bad, line) in odd {
        let (errors, warnings) = inspect(file, |text| text.replacen(good, bad, 1));
        assert_eq!(errors, [""; 0], "{bad}");
        assert!(warnings.contains(&line.to_owned()), "{bad}\nwanted {line}\nsaid   {warnings:#?}");
    }
}

#[test]
fn an_approver_short_of_one_is_fine_where_they_cannot_ask() {
    let (errors, _) = inspect("policies/approvals.toml", |text| text.replace("[\"leads\"]", "[\"leads\", \"sre\"]"));
    assert_eq!(errors, [""; 0], "two approvers, one needed: somebody is always left");
    let (errors, _) =
        inspect("policies/approvals.toml", |text| text.replace("[\"leads\"]\nquorum = 1", "[\"leads\", \"sre\"]\nquorum = 2"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("that leaves bob"), "{errors:?}");
}

#[test]
fn literal_local_addresses_load() {
    for address in ["localhost", "127.0.0.1:2201", "169.254.169.254", "[::1]:22", "fe80::1"] {
        let (errors, _) = inspect("policies/targets.toml", |text| text.replace("10.0.0.5", address));
        assert_eq!(errors, [""; 0], "{address}");
    }
}

#[test]
fn files_that_are_not_there_or_not_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    let problems = Directory::load(&missing).unwrap_err();
    assert_eq!(problems[0].to_string(), format!("{0}: there is no such directory; countersign init {0} makes one", missing.display()));

    let mut files = good();
    files.retain(|(name, _)| *name != "policies/retention.toml" && *name != "countersign.toml");
    let dir = write(&files);
    fs::create_dir(dir.path().join("countersign.toml")).unwrap();
    let said = lines(dir.path(), &Directory::load(dir.path()).unwrap_err());
    assert!(said.contains(&"countersign.toml: it is not a file; put a regular file there".into()), "{said:?}");
    let line = "policies/retention.toml: this file is missing; make it, even if empty; countersign init shows one";
    assert!(said.contains(&line.to_owned()), "{said:?}");

    let dir = write(&good());
    fs::write(dir.path().join("policies/people.toml"), b"[people.alice]\n# \xff\n").unwrap();
    let said = lines(dir.path(), &Directory::load(dir.path()).unwrap_err());
    assert!(said.contains(&"policies/people.toml:2:3: this byte is not UTF-8; save the file as UTF-8".into()), "{said:?}");

    for (name, _) in good() {
        let dir = write(&good());
        fs::write(dir.path().join(name), "").unwrap();
        let _ = Directory::load(dir.path()).map_err(|problems| assert!(!problems.is_empty(), "{name} empty: an error without words"));
    }
}

#[test]
fn loose_modes_are_refused() {
    let dir = write(&good());
    let loosen = |name: &str, mode| fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    loosen("policies/access.cedar", 0o646);
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/user_ca"), "secret").unwrap();
    loosen("keys/user_ca", 0o640);
    let said = lines(dir.path(), &Directory::load(dir.path()).unwrap_err());
    let keys = "keys/user_ca: others than its owner can read this key (mode 0640); chmod 600 keys/user_ca";
    let access = "policies/access.cedar: everybody can write this (mode 0646); chmod o-w policies/access.cedar";
    assert_eq!(said, [keys, access]);
}

#[test]
fn the_digest_is_over_names_and_bytes() {
    let digest = |change: &dyn Fn(&Path)| {
        let dir = write(&good());
        change(dir.path());
        Directory::load(dir.path()).unwrap().digest
    };
    let plain = digest(&|_| {});
    assert_eq!(plain, digest(&|_| {}), "same text, same digest");
    let policy = |dir: &Path, name: &str, text: &str| fs::write(dir.join("policies").join(name), text).unwrap();
    assert_eq!(plain, digest(&|dir| policy(dir, ".access.cedar.swp", "x")), "an editor's file is not policy");
    let one = digest(&|dir| policy(dir, "a", "bc"));
    let two = digest(&|dir| policy(dir, "ab", "c"));
    let comment = digest(&|dir| policy(dir, "retention.toml", "[schedules.short]\nkeep_at_least = \"7d\"\ndelete_after = \"30d\"\n#"));
    let all = [plain, one, two, comment];
    assert!(all.iter().enumerate().all(|(n, a)| all.iter().skip(n + 1).all(|b| a != b)));
}

/// The shipped example set, with a `countersign.toml` of its own.
fn shipped() -> TempDir {
    let dir = write(&good().into_iter().take(1).collect::<Vec<_>>());
    let copy = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let to = dir.path().join("policies");
    fs::create_dir(to.join("cases")).unwrap();
    copy(&from, &to);
    copy(&from.join("cases"), &to.join("cases"));
    dir
}

#[test]
fn the_shipped_policies_load_and_pass_their_cases() {
    let dir = shipped();
    let directory = Directory::load(dir.path()).unwrap_or_else(|problems| panic!("{:#?}", lines(dir.path(), &problems)));
    assert_eq!(lines(dir.path(), &directory.warnings), [""; 0]);
    let (problems, count) = cases::run_counted(&directory);
    assert_eq!(lines(dir.path(), &problems), [""; 0]);
    assert!(count >= 25, "{count} cases");
}

#[test]
fn a_case_that_fails_says_where_and_by_what() {
    let dir = write(&good());
    fs::create_dir(dir.path().join("policies/cases")).unwrap();
    let case =
        |fields: &str| format!("[[case]]\nperson = \"alice\"\ntarget = \"web-1\"\nlogin = \"deploy\"\naction = \"shell\"\n{fields}\n");
    #[rustfmt::skip]
    let table = [
        (case("expect = \"permit\""), "6:10: expected permit, is hold:lead (by prod, sre); correct the policies or the case"),
        (case("expect = \"hold:lead\"\nby = \"decide\""), "7:6: expected to be ruled by decide, is by prod, sre; correct the policies or the case"),
        (case("expect = \"hold:lead\"\nby = \"sro\""), "7:6: there is no policy with @id(\"sro\"); use one of access.cedar"),
        (case("expect = \"hold:lead\"\nasked = []"), "7:9: expected nobody to be asked, is bob; correct the policies or the case"),
        (case("expect = \"hold:lead\"\nyes = [\"bob\"]\nenough = false"), "8:10: expected enough = false, is true; correct the policies or the case"),
        (case("expect = \"hold:lead\"\nyes = [\"alice\"]\nenough = true"), "8:10: expected enough = true, is false; correct the policies or the case"),
        (case("expect = \"permit\"\nenough = true").replace("shell", "approve").replace("alice", "bob"), "7:10: nobody is asked: no hold applies; remove asked, yes and enough, or expect a hold"),
        (case("expect = \"maybe\""), "6:10: \"maybe\" is not a ruling; use permit, deny or hold:WORKFLOW[,WORKFLOW]"),
        (case("expect = \"permit\"\nat = \"noon\""), "7:6: \"noon\" is not a time; write \"2026-01-05T03:00:00Z\""),
        (case("expect = \"permit\"\nwho = 1"), "7:1: [case] has no key \"who\"; known are action, asked, at, by, command, enough, expect, first_time, inner_auth, login, mfa, person, source, target, to, waited, yes"),
        (case("").replace("web-1", "web-9"), "3:10: there is no target \"web-9\"; use one of targets.toml"),
        (case("").replace("alice", "zoe"), "2:10: there is no person zoe; use one of people.toml"),
        (case("").replace("shell", "shel"), "5:10: \"shel\" is not an action; use shell, exec, sftp, sftp-read, sftp-write, forward-local, forward-remote, agent-forward, approve, replay, watch, kill, hold, review, audit, drain, suspend, break-glass"),
        (case(""), "1:1: [case] has no expect; add expect = \"permit\""),
    ];
    for (text, line) in table {
        fs::write(dir.path().join("policies/cases/x.toml"), &text).unwrap();
        let directory = Directory::load(dir.path()).unwrap();
        let said = lines(dir.path(), &cases::run(&directory));
        assert!(said.contains(&format!("policies/cases/x.toml:{line}")), "{text}\nwanted {line}\nsaid {said:#?}");
    }
}

/// security.md F-01, F-03, F-04 beside [`BROKEN`]: the file, what to replace by what, the place and a part
/// of what is said.
#[rustfmt::skip]
const FAULTY: &[(&str, &str, &str, &str, &str)] = &[
    ("countersign.toml", "mode = \"plain\"", "mode = \"plain\"\nmode = \"plain\"", "countersign.toml:5:1", "duplicate key"),
    ("countersign.toml", "[recordings]", "listen = []\n[recordings]", "countersign.toml:3:10", "listens nowhere"),
    ("countersign.toml", "mode = \"plain\"", "mode = \"plain\"\nkey_files = []", "countersign.toml:5:13", "key files would go nowhere"),
    ("countersign.toml", "mode = \"plain\"", "mode = \"plain\"\nfree_floor_mb = -1", "countersign.toml:5:17", "out of range"),
    ("countersign.toml", "mode = \"plain\"", "[recordings.auditors]\ncarol = \"age1../../x\"", "countersign.toml:5:9", "nothing can be encrypted"),
    ("countersign.toml", "mode = \"plain\"", "[recordings.auditors]\ncarol = \"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t\"", "countersign.toml:5:9", "nothing can be encrypted"),
    ("countersign.toml", "[recordings]", "[limits]\nlogin_grace = \"1h\"\n[recordings]", "countersign.toml:4:15", "login_grace = 1h is out of range; use 1s to 10m"),
    ("countersign.toml", "[recordings]", "[limits]\ndrain = \"2 days\"\n[recordings]", "countersign.toml:4:9", "drain = 2days is out of range; use 1s to 1d"),
    ("countersign.toml", "[recordings]", "[limits]\nlogin_tries = 4294967296\n[recordings]", "countersign.toml:4:15", "out of range"),
    ("policies/approvals.toml", "quorum = 1", "decide_within = \"0s\"", "policies/approvals.toml:3:17", "out of range"),
    ("policies/approvals.toml", "quorum = 1", "decide_within = \"-5m\"", "policies/approvals.toml:3:17", "is not a duration"),
    ("policies/approvals.toml", "quorum = 1", "decide_within = \"10ms\"", "policies/approvals.toml:3:17", "decide_within = 10ms is out of range; use 1s to 30d"),
    ("policies/approvals.toml", "quorum = 1", "longest = \"9y\"", "policies/approvals.toml:3:11", "out of range"),
    ("policies/approvals.toml", "quorum = 1", "longest = \"999999999999999y\"", "policies/approvals.toml:3:11", "is not a duration"),
    ("policies/approvals.toml", "[\"leads\"]", "[]", "policies/approvals.toml:1:12", "names nobody"),
    ("policies/retention.toml", "\"30d\"", "\"-30d\"", "policies/retention.toml:3:16", "-30d"),
    ("policies/retention.toml", "[schedules.short]", "grace = \"1y\"\n[schedules.short]", "policies/retention.toml:1:9", "longer than"),
    ("policies/access.cedar", "action in Action::\"session\", resource)", "action in Action::\"session\", resource) when { context.source.isInRange(ip(\"192.0.2.7/24\")) }", "policies/access.cedar:1:", "\"192.0.2.7/24 names a host"),
    ("policies/targets.toml", "host_keys", "host_ca = [\"-----BEGIN OPENSSH PRIVATE KEY-----\"]\nhost_keys", "policies/targets.toml:5:12", "this is a private key; remove it, make a new pair"),
];

#[test]
fn faults_never_start_on_defaults() {
    let mut unsaid = String::new();
    for (file, good, bad, place, part) in FAULTY {
        let (errors, _) = inspect(file, |text| {
            assert!(text.contains(good), "{file} has no {good}");
            text.replacen(good, bad, 1)
        });
        let part = part.trim_start_matches('"');
        if !errors.iter().any(|line| line.starts_with(place) && line.contains(part)) {
            unsaid.push_str(&format!("{file}: {bad:?}\nwanted {place}: … {part}\nsaid   {errors:#?}\n"));
        }
    }
    assert!(unsaid.is_empty(), "{unsaid}");
}

#[test]
fn a_person_with_an_empty_list_of_keys_is_a_slip() {
    let (errors, _) = inspect("policies/people.toml", |text| text.replace(&format!("[\"{BOB}\"]"), "[]"));
    assert_eq!(
        errors,
        ["policies/people.toml:6:8: the list of bob's keys is empty; add a public key, or remove the line until there is one"]
    );
}

#[test]
fn links_and_what_everybody_may_write_are_refused() {
    let said = |change: &dyn Fn(&Path)| {
        let dir = write(&good());
        fs::create_dir(dir.path().join("keys")).unwrap();
        change(dir.path());
        let problems = Directory::load(dir.path()).unwrap_err();
        lines(dir.path(), &problems).iter().map(|line| line.replace(&dir.path().display().to_string(), "DIR")).collect::<Vec<_>>()
    };
    for name in ["policies/people.toml", "countersign.toml", "keys/user_ca"] {
        let linked = said(&|dir| {
            let (from, elsewhere) = (dir.join(name), dir.join("elsewhere"));
            if from.exists() {
                fs::rename(&from, &elsewhere).unwrap()
            } else {
                fs::write(&elsewhere, "secret").unwrap()
            }
            std::os::unix::fs::symlink(&elsewhere, &from).unwrap();
        });
        let line = format!("{name}: this is a symbolic link; put the file itself here: what a link points to may change unseen");
        assert_eq!(linked, [line.as_str()]);
    }
    for (name, shown) in [("", "DIR"), ("policies", "policies"), ("keys", "keys"), ("countersign.toml", "countersign.toml")] {
        let open = said(&|dir| fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o777)).unwrap());
        assert!(open.iter().any(|line| line.starts_with(&format!("{shown}: everybody can write this (mode 0777)"))), "{name}: {open:?}");
    }
}

/// `users.md` 16: those who may not approve there do not count.
#[test]
fn a_quorum_counts_only_those_who_may_approve() {
    let mut files = good();
    files[1].1 = files[1].1.replace("[\"sre\"]", "[\"sre\", \"others\"]");
    files[4].1 = "[workflows.lead]\napprovers = [\"leads\", \"others\"]\nquorum = 1\n".into();
    files[3].1 = files[3].1.replace("principal in Group::\"leads\"", "principal in Group::\"others\"");
    let dir = write(&files);
    let said = lines(dir.path(), &Directory::load(dir.path()).unwrap_err());
    assert!(said.iter().any(|line| line.contains("alice may ask for deploy@web-1") && line.contains("that leaves nobody")), "{said:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes stand in whichever file, reading ends with words and without a panic.
    #[test]
    fn no_file_makes_the_reader_panic(which in 0usize..6, at in 0usize..400, junk in "[\\[\\]{}=\"'.,#\\\\a-z0-9\\n \\PC]{0,30}", cut in any::<bool>()) {
        let mut files = good();
        let (_, text) = &mut files[which];
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) { at -= 1; }
        if cut { text.truncate(at); }
        text.insert_str(at, &junk);
        let dir = write(&files);
        if let Err(problems) = Directory::load(dir.path()) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|p| !p.what.is_empty() && !p.fix.is_empty() && !p.to_string().contains(char::is_control)));
        }
    }
}

const CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIq0TSXsWhOsA8CR/HEtpGd+rriAQozYqrjl8/AwtuN+";

/// The good directory with more files below `policies/targets.d/`.
fn with_more(more: &[(&str, &str)]) -> TempDir {
    let dir = write(&good());
    fs::create_dir(dir.path().join("policies/targets.d")).unwrap();
    for (name, text) in more {
        fs::write(dir.path().join("policies/targets.d").join(name), text.replace("HOST", HOST).replace("CA_KEY", CA)).unwrap();
    }
    dir
}

fn family(name: &str, more: &str) -> String {
    format!("[targets.\"{name}\"]\n{more}\nlogins = [\"deploy\"]\nhost_ca = [\"CA_KEY\"]\n")
}

#[test]
fn targets_may_lie_in_several_files_and_every_place_is_told() {
    let web = "# web\n\n[targets.web-2]\naddress = \"10.0.0.6\"\nlogins = [\"deploy\"]\nhost_keys = [\"HOST\"]\n";
    let dir = with_more(&[("web.toml", web), ("b.toml", &family("*.staging", "labels = [\"env=staging\"]"))]);
    let inspection = Directory::inspect(dir.path());
    assert_eq!((lines(dir.path(), &inspection.errors), lines(dir.path(), &inspection.warnings)), (vec![], vec![]));
    let directory = inspection.directory.unwrap();
    assert_eq!(directory.targets.find("web-2").unwrap().entry.to_string(), "targets.d/web.toml:6");
    assert_eq!(directory.targets.find("web-1").unwrap().entry.to_string(), "targets.toml:5");
    let member = directory.targets.find("x.staging").unwrap();
    assert_eq!((member.entry.to_string().as_str(), member.host.as_str()), ("targets.d/b.toml:4", "x.staging"));
    assert!(directory.texts.contains_key("targets.d/web.toml"), "an auditor reads them by the policy's digest");

    fs::write(dir.path().join("policies/targets.d/web.toml"), web.replace("HOST", HOST) + "# one more line\n").unwrap();
    assert_ne!(Directory::load(dir.path()).unwrap().digest, directory.digest);
}

#[test]
fn a_name_is_one_targets_in_all_files() {
    let again = "[targets.web-1]\naddress = \"10.0.0.6\"\nlogins = [\"deploy\"]\nhost_keys = [\"HOST\"]\n";
    let dir = with_more(&[("a.toml", again), ("broken.toml", "[targets.x\n"), ("notes.txt", "")]);
    let inspection = Directory::inspect(dir.path());
    assert_eq!(
        lines(dir.path(), &inspection.errors),
        [
            "policies/targets.d/a.toml:1:10: web-1 is already a name of web-1 (targets.toml:5); a name is one target's: remove it from one of them",
            "policies/targets.d/broken.toml:1:11: unclosed table, expected `]`; write it as TOML: key = \"value\"",
        ]
    );
    assert_eq!(lines(dir.path(), &inspection.warnings), ["policies/targets.d/notes.txt: this file is not read; read are targets.d/*.toml"]);
}

#[test]
fn a_pattern_that_could_be_misread_is_an_error() {
    let fix = "write address = \"{name}\" or address = \"{name}.internal:22\"";
    for (text, line) in [
        (family("*", ""), "1:10: \"*\" is not a pattern: it would stand for nearly every name; write what these names share: a bastion must not be able to pose as every host".to_owned()),
        (family("10.0.0.*", ""), "1:10: \"10.0.0.*\" is not a pattern: the names that it stands for are addresses; list addresses one by one: patterns are for names".into()),
        (family("a*b*", ""), "1:10: \"a*b*\" is not a pattern: it needs exactly one *; write [targets.\"*.staging\"] or [targets.\"web-*\"]".into()),
        (family("*.x1", "address = \"10.0.0.5\""), format!("2:11: \"10.0.0.5\" does not say once where the name goes; {fix}")),
        (family("*.x1", "address = \"{name}.{name}\""), format!("2:11: \"{{name}}.{{name}}\" does not say once where the name goes; {fix}")),
        (family("*.x1", "address = \"{name}@evil\""), format!("2:11: \"{{name}}@evil\" is not an address; {fix}")),
        (family("*.x1", "address = \"{name}.0\""), format!("2:11: \"{{name}}.0\" is not an address; {fix}")),
        (family("*.x1", "aliases = [\"y\"]"), "2:11: the pattern *.x1 has aliases; an alias would be every member's: list that target by itself".into()),
        (family("*.x1", "host_keys = [\"HOST\"]"), "2:13: the pattern *.x1 has host_keys; one pinned key cannot be many hosts': use host_ca, or list the targets one by one".into()),
        (family("*.x1", "").replace("host_ca", "#"), "1:10: the pattern *.x1 has no host_ca: nothing proves a member to be itself; add host_ca = [\"ssh-ed25519 …\"], the CA that signs the certificates of these hosts".into()),
        (family("al*e", ""), "1:10: the pattern al*e also fits the person alice; narrow the pattern: a bare user name is either the console or a target".into()),
        (family("*.dev", ""), "1:10: the pattern *.dev covers hosts that are not yours: laptops would believe this bastion for any of them; write a site's own names: \"*.prod.example.org\", \"*.staging\", \"web-*\"".into()),
        (family("web.*", ""), "1:10: the pattern web.* covers hosts that are not yours: laptops would believe this bastion for any of them; write a site's own names: \"*.prod.example.org\", \"*.staging\", \"web-*\"".into()),
        (family("a*.x1", "") + &family("*b.x1", ""), "1:10: some names fit a*.x1 and *b.x1 (targets.d/a.toml:8), and neither is the more specific; narrow one of them, so that every name has one pattern".into()),
    ] {
        let dir = with_more(&[("a.toml", &text)]);
        let errors = lines(dir.path(), &Directory::inspect(dir.path()).errors);
        assert_eq!(errors, [format!("policies/targets.d/a.toml:{line}")], "{text}");
    }
    let nested = family("*.x1", "") + &family("web-*.x1", "address = \"{name}.internal:2222\"");
    let directory = Directory::load(with_more(&[("a.toml", &nested)]).path()).unwrap();
    let member = directory.targets.find("web-1.x1").unwrap();
    assert_eq!((member.host.as_str(), member.port), ("web-1.x1.internal", 2222));
}

#[test]
fn a_directory_is_read_as_it_would_be() {
    let dir = with_more(&[]);
    let text = family("*.x1", "").replace("CA_KEY", CA);
    let would = Directory::inspect_with(dir.path(), Some(("targets.d/new.toml", &text)));
    assert!(would.directory.unwrap().targets.find("a.x1").is_some());
    assert!(Directory::load(dir.path()).unwrap().targets.find("a.x1").is_none());
}
