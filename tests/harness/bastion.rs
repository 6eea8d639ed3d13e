//! The real binary, serving an installation of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::client::{until, until_some};
use super::installation::{self, Host, Installation, Plan};
use super::{Client, SOON, Seen, Sshd, login, program};

/// The reason that clients of the tests give.
pub const REASON: &str = "INC-42 disk full";

/// How a client reaches a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `ssh LOGIN=web-1@bastion`
    Named,
    /// `ssh -J bastion LOGIN@web-1`
    Jump,
}

impl Way {
    pub const BOTH: [Way; 2] = [Way::Named, Way::Jump];

    /// The words for `ssh` before the command.
    pub fn to(self, target: &str) -> Vec<String> {
        match self {
            Way::Named => vec![format!("{}={target}@bastion", login())],
            Way::Jump => vec!["-J".into(), "bastion".into(), format!("{}@{target}", login())],
        }
    }
}

/// A bastion with its targets: web-1 needs an approval, quick-1 one within two seconds, dev-1 none;
/// never-1 is forbidden; db-1 is at web-1's address, changed-1 has another key than was pinned.
pub struct Bastion {
    home: tempfile::TempDir,
    installation: Installation,
    disk: Option<Disk>,
    serve: Option<Child>,
    level: &'static str,
    pub port: u16,
    pub target: Sshd,
}

/// What laptops take the bastion's certificates for.
const TARGETS: [&str; 7] = ["web-1", "quick-1", "dev-1", "never-1", "db-1", "changed-1", "*.staging"];

impl Bastion {
    pub fn start() -> Self {
        Self::with(Plan::default())
    }

    pub fn with(plan: Plan) -> Self {
        let home = tempfile::Builder::new().prefix("countersign-test-").tempdir().unwrap();
        let installation = installation::prepare(home.path());
        let target = Sshd::start(&home.path().join("target"), "web-1", &installation.user_ca());
        for other in ["quick-1", "dev-1", "never-1", "changed-1"] {
            target.also_is(other);
        }
        let labels = [
            ("web-1", "\"env=prod\""),
            ("quick-1", "\"quick\""),
            ("dev-1", ""),
            ("never-1", "\"never\""),
            ("db-1", "\"env=prod\""),
            ("changed-1", ""),
        ];
        let stranger = home.path().join("stranger");
        super::keygen(&stranger);
        let hosts: Vec<Host<'_>> = labels
            .iter()
            .map(|(id, labels)| {
                let host_key = if *id == "changed-1" { super::public(&stranger) } else { target.host_key() };
                Host { id, labels, port: target.port, host_key }
            })
            .collect();
        installation.write(&plan, &hosts);
        let disk = plan.tmpfs.map(|megabytes| Disk::mount(&installation.root().join("var/recordings"), megabytes));
        let mut bastion = Self { home, installation, disk, serve: None, level: "info", port: 0, target };
        bastion.serve();
        bastion
    }

    /// Starts the server (again); returns when it accepts.
    pub fn serve(&mut self) {
        self.serve_under(&[]);
    }

    /// Starts the server below another program (`strace …`).
    pub fn serve_under(&mut self, wrapper: &[&str]) {
        self.try_serve_under(wrapper).unwrap_or_else(|status| panic!("the bastion ended with {status:?}: {}", self.log()));
    }

    /// The same, for a server that may refuse to start: then its exit status.
    pub fn try_serve_under(&mut self, wrapper: &[&str]) -> Result<(), std::process::ExitStatus> {
        let listening = self.state().join("listening");
        let _ = std::fs::remove_file(&listening);
        let log = std::fs::File::options().create(true).append(true).open(self.home.path().join("bastion.log")).unwrap();
        let mut command = self.serve_command(wrapper);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the bastion starts");
        self.serve = Some(child);
        let port = until_some("the bastion listens", SOON, || {
            if let Some(status) = self.serve.as_mut().and_then(|child| child.try_wait().ok()).flatten() {
                return Some(Err(status));
            }
            let text = std::fs::read_to_string(&listening).ok()?;
            text.strip_suffix('\n')?.lines().next()?.rsplit(':').next()?.parse().ok().map(Ok)
        });
        self.port = port?;
        self.installation.write_laptops(self.port, &TARGETS);
        Ok(())
    }

    fn serve_command(&self, wrapper: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_countersign");
        let mut command = match (&self.disk, wrapper) {
            (None, []) => Command::new(binary),
            (None, [program, options @ ..]) => {
                let mut command = Command::new(super::program(program));
                command.args(options).arg(binary);
                command
            }
            (Some(disk), _) => disk.inside(binary),
        };
        command.args(["serve", "-c"]).arg(self.installation.root()).env("COUNTERSIGN_LOG", self.level).env("NO_COLOR", "1");
        command
    }

    /// How much it writes into its log, from its next start on.
    pub fn logs_at(&mut self, level: &'static str) {
        self.level = level;
    }

    /// The directory that it serves.
    pub fn root(&self) -> PathBuf {
        self.installation.root()
    }

    pub fn state(&self) -> PathBuf {
        self.installation.root().join("var/state")
    }

    /// The recordings' directory, as this process sees it.
    pub fn recordings(&self) -> PathBuf {
        let path = self.installation.root().join("var/recordings");
        self.disk.as_ref().map_or(path.clone(), |disk| disk.seen_from_outside(&path))
    }

    /// The directory of key files.
    pub fn key_files(&self) -> PathBuf {
        self.installation.root().join("var/key-files")
    }

    /// A sealed recording's transcript, opened by stock tools with carol's key: age and zstd, nothing of ours.
    pub fn opened(&self, file: &str) -> String {
        let own = self.dir().join("own.key");
        let dated = file.strip_prefix("sealed/").and_then(|file| file.strip_suffix(".cast.zst.age"));
        let key = self.key_files().join(format!("{}.key.age", dated.unwrap_or_else(|| panic!("{file} is not sealed"))));
        let age = |identity: &Path, file: &Path| {
            let output = Command::new(program("age")).arg("-d").arg("-i").arg(identity).arg(file).output().unwrap();
            assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        std::fs::write(&own, age(&self.key_of("carol"), &key)).unwrap();
        let packed = age(&own, &self.recordings().join(file));
        String::from_utf8(zstd::stream::decode_all(&packed[..]).expect("a whole .zst")).expect("asciicast is UTF-8")
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.serve.as_ref().expect("it serves").id()
    }

    /// The process that signs for it, if one runs.
    pub fn pen(&self) -> Option<u32> {
        let serve = self.pid().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut ours = pids.filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            parent.as_deref() == Some(&serve) && line.split(|byte| *byte == 0).nth(1) == Some(b"pen")
        });
        ours.next()
    }

    pub fn is_running(&mut self) -> bool {
        self.serve.as_mut().is_some_and(|serve| matches!(serve.try_wait(), Ok(None)))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("bastion.log")).unwrap_or_default()
    }

    pub fn dir(&self) -> &Path {
        self.home.path()
    }

    /// Below `policies/`: what an operator edits.
    pub fn policy_file(&self, name: &str) -> PathBuf {
        self.installation.root().join("policies").join(name)
    }

    /// An operator enrols one more target in `targets.toml`, without labels; the bastion is not told.
    pub fn enrols(&self, id: &str) {
        self.enrols_in(id, "");
    }

    /// The same, with labels (`"env=prod"`).
    pub fn enrols_in(&self, id: &str, labels: &str) {
        self.target.also_is(id);
        self.installation.adds(&Host { id, labels, port: self.target.port, host_key: self.target.host_key() });
    }

    /// An operator changes a file below the directory, and the bastion reads it again.
    #[track_caller]
    pub fn is_told(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.root().join(file);
        std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
        self.has_reloaded();
    }

    /// SIGHUP, and its end.
    #[track_caller]
    pub fn has_reloaded(&self) {
        let before = self.log().len();
        self.reloads();
        until("the directory was read again", SOON, || {
            let log = self.log();
            let said = log.get(before..).unwrap_or_default();
            assert!(!said.contains("not reloaded"), "{said}");
            said.contains("reloaded, policy")
        });
    }

    /// A CA key file that the bastion's sshds trust for their users.
    pub fn user_ca(&self) -> PathBuf {
        self.installation.user_ca()
    }

    /// An operator on the bastion's machine.
    #[track_caller]
    pub fn operator(&self, words: &[&str]) -> Seen {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(words).arg("-c").arg(self.root()).env("NO_COLOR", "1");
        Client::start(command).ends()
    }

    /// SIGHUP: read the directory again.
    pub fn reloads(&self) {
        let serve = rustix::process::Pid::from_child(self.serve.as_ref().expect("it serves"));
        rustix::process::kill_process(serve, rustix::process::Signal::HUP).expect("it is our child");
    }

    /// `kill -9`
    pub fn dies(&mut self) {
        let Some(mut serve) = self.serve.take() else { return };
        // Below strace the bastion is a child, which would live on.
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", serve.id())).unwrap_or_default();
        for child in children.split_whitespace() {
            Command::new(program("kill")).args(["-KILL", child]).status().unwrap();
        }
        serve.kill().unwrap();
        serve.wait().unwrap();
    }

    /// SIGTERM, and the end that follows.
    pub fn stops(&mut self) {
        self.terminates();
        self.ends();
    }

    /// SIGTERM: what runs is drained.
    pub fn terminates(&self) {
        Command::new(program("kill")).args(["-TERM", &self.pid().to_string()]).status().unwrap();
    }

    /// Waits for the server to end by itself, and well.
    #[track_caller]
    pub fn ends(&mut self) {
        let mut serve = self.serve.take().expect("it serves");
        until_some("the bastion ends", SOON, || serve.try_wait().unwrap().map(|status| assert!(status.success(), "{status}")));
    }

    /// The most memory that it has held so far, in bytes (VmHWM).
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    // ---- what people do ----

    pub fn key_of(&self, person: &str) -> PathBuf {
        self.installation.key_of(person)
    }

    /// `ssh` as a person's laptop has it, with a reason in the environment.
    pub fn ssh(&self, person: &str, words: &[impl AsRef<str>]) -> Command {
        let mut command = self.ssh_without_reason(person, words);
        command.env("LC_COUNTERSIGN_REASON", REASON);
        command
    }

    pub fn ssh_without_reason(&self, person: &str, words: &[impl AsRef<str>]) -> Command {
        let mut command = Command::new(program("ssh"));
        command.arg("-F").arg(self.installation.config_of(person)).args(["-o", "SendEnv=LC_COUNTERSIGN_REASON"]);
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// The same `ssh` for a shell's command line, as `$SSH`.
    pub fn sh(&self, person: &str, script: &str) -> Command {
        let ssh = format!("{} -F {}", program("ssh").display(), self.installation.config_of(person).display());
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", script]).env("SSH", ssh).current_dir(self.dir());
        command
    }

    /// Connects and waits for the end.
    #[track_caller]
    pub fn run(&self, person: &str, words: &[impl AsRef<str>]) -> Seen {
        Client::start(self.ssh(person, words)).ends()
    }

    /// The companion, with the person's key file.
    pub fn companion(&self, person: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        let ssh = format!("{} -F {}", program("ssh").display(), self.installation.config_of(person).display());
        command.args(["--yes", "--key"]).arg(self.key_of(person)).args(words);
        command.env("COUNTERSIGN_BASTION", "bastion").env("COUNTERSIGN_SSH", ssh).env("NO_COLOR", "1");
        command
            .env_remove("SSH_AUTH_SOCK")
            .env("XDG_CONFIG_HOME", self.dir())
            .env("XDG_STATE_HOME", self.dir().join("people").join(format!("{person}.state")));
        command
    }

    /// Runs a verb of the companion to its end.
    #[track_caller]
    pub fn says(&self, person: &str, words: &[&str]) -> Seen {
        Client::start(self.companion(person, words)).ends()
    }

    /// A verb's answer as JSON.
    #[track_caller]
    pub fn json(&self, person: &str, words: &[&str]) -> serde_json::Value {
        let mut all = words.to_vec();
        all.push("--json");
        let seen = self.says(person, &all);
        assert_eq!(seen.status, 0, "{words:?}: {seen:?}");
        seen.json()
    }

    /// bob signs.
    #[track_caller]
    pub fn approve(&self, request: &str, more: &[&str]) -> Seen {
        let mut words = vec!["approve", request];
        words.extend(more);
        let seen = self.says("bob", &words);
        assert_eq!(seen.status, 0, "bob cannot approve {request}: {seen:?}");
        seen
    }

    /// Gives alice an open grant on web-1: made ahead, signed by bob. Returns its id.
    #[track_caller]
    pub fn open_grant(&self, terms: &[&str]) -> String {
        let to = format!("{}@web-1", login());
        let mut words = vec!["request", &to, "--reason", REASON];
        words.extend(terms);
        let made = self.says("alice", &words);
        assert_eq!(made.status, 0, "{made:?}");
        let said = format!("{}{}", made.out(), made.err);
        let known = self.json("alice", &["requests", "--mine"]);
        let request = ids(&known).into_iter().find(|id| said.contains(id.as_str())).unwrap_or_else(|| panic!("no id of {known} in {said}"));
        self.approve(&request, &[]);
        request
    }

    /// Where a request stands, as its requester reads it.
    #[track_caller]
    pub fn state_of(&self, person: &str, request: &str) -> String {
        let card = self.json(person, &["show", request]);
        let state = find(&card, "state").unwrap_or_else(|| panic!("no state in {card}"));
        match state {
            serde_json::Value::String(word) => word.clone(),
            serde_json::Value::Object(map) => map.keys().next().cloned().unwrap_or_default(),
            other => panic!("a state is a word: {other}"),
        }
    }

    #[track_caller]
    pub fn comes_to(&self, person: &str, request: &str, state: &str) {
        until(&format!("{request} is {state}"), SOON, || self.state_of(person, request) == state);
    }

    /// The sessions of the log, newest last.
    #[track_caller]
    pub fn sessions(&self) -> Vec<serde_json::Value> {
        let said = self.json("carol", &["sessions"]);
        let mut sessions = find(&said, "sessions").unwrap_or(&said).as_array().cloned().unwrap_or_else(|| panic!("no list: {said}"));
        sessions.sort_by_key(|session| session["session"].as_str().unwrap_or_default().to_owned());
        sessions
    }

    /// Waits until the newest session is sealed; returns it.
    #[track_caller]
    pub fn sealed(&self) -> serde_json::Value {
        until_some("the last session is sealed", SOON, || self.sessions().pop().filter(|session| !session["sealed"].is_null()))
    }

    /// The rows of the audit log so far: name and facts.
    pub fn audit(&self) -> Vec<(String, serde_json::Value)> {
        let script = "import sqlite3,sys,json\nfor r in sqlite3.connect('file:'+sys.argv[1]+'?mode=ro',uri=True).execute('select name,line from audit order by seq'):print(json.dumps([r[0],json.dumps(json.loads(r[1])['facts'])]))";
        let output = Command::new(program("python3")).args(["-c", script]).arg(self.state().join("countersign.db")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rows = String::from_utf8(output.stdout).unwrap();
        rows.lines()
            .map(|row| {
                let (name, facts): (String, String) = serde_json::from_str(row).unwrap();
                (name, serde_json::from_str(&facts).unwrap())
            })
            .collect()
    }

    /// Waits for a row of this name that mentions `word`.
    #[track_caller]
    pub fn audited(&self, name: &str, word: &str) {
        self.audited_with(name, &[word]);
    }

    /// Waits for a row of this name that mentions all the words.
    #[track_caller]
    pub fn audited_with(&self, name: &str, words: &[&str]) {
        let found = |facts: &str| words.iter().all(|word| facts.contains(word));
        until(&format!("{name} with {words:?} in the audit log"), SOON, || {
            self.audit().iter().any(|(row, facts)| row == name && found(&facts.to_string()))
        });
    }

    /// Waits until so many refusals that name this request are in the audit log.
    #[track_caller]
    pub fn refused(&self, request: &str, times: usize) {
        let rows = || self.audit().iter().filter(|(row, facts)| row == "refusal" && facts.to_string().contains(request)).count();
        until(&format!("{times} refusals that name {request} in the audit log"), SOON, || rows() >= times);
    }
}

impl Drop for Bastion {
    fn drop(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            let _ = serve.kill();
            let _ = serve.wait();
        }
        if std::thread::panicking() {
            let tail: Vec<String> = self.log().lines().rev().take(40).map(str::to_owned).collect();
            eprintln!("---- the bastion's log, its last lines ----\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A small file system that only the bastion sees, mounted in a name space that a process keeps.
struct Disk {
    keeper: Child,
}

impl Disk {
    fn mount(at: &Path, megabytes: u32) -> Self {
        // A mount needs root, or a name space in which one is root.
        let flags = if login() == "root" { "-m" } else { "-rm" };
        let script = "mount -t tmpfs -o size=$2m,mode=0700 none \"$1\" && echo mounted && exec sleep 3600";
        let mut command = Command::new(program("unshare"));
        command.args([flags, "sh", "-c", script, "sh"]).arg(at).arg(megabytes.to_string());
        let mut keeper = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("unshare starts");
        let mut said = String::new();
        let mut out = std::io::BufReader::new(keeper.stdout.take().expect("it is piped"));
        std::io::BufRead::read_line(&mut out, &mut said).unwrap();
        assert_eq!(said, "mounted\n", "this test needs root or user name spaces (sysctl kernel.unprivileged_userns_clone=1)");
        Self { keeper }
    }

    /// Runs a program that sees the disk.
    fn inside(&self, program_inside: &str) -> Command {
        let mut command = Command::new(program("nsenter"));
        command.args(["-t", &self.keeper.id().to_string(), "-m"]);
        if login() != "root" {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.arg(program_inside);
        command
    }

    fn seen_from_outside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.keeper.id(), path.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Every request id in an answer.
fn ids(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(map) => {
            let own = map.get("request").and_then(|id| id.as_str()).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(ids)).collect()
        }
        serde_json::Value::Array(list) => list.iter().flat_map(ids).collect(),
        _ => Vec::new(),
    }
}

/// The first value under `key`, however deep: answers may be wrapped in their kind.
fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        serde_json::Value::Array(list) => list.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// A wait that is part of the act, not of the test: a client that thinks, a reader that sleeps.
pub fn pause(how_long: Duration) {
    std::thread::sleep(how_long);
}
