//! The sandbox as the stock `ssh` sees it, with certificates from `ssh-keygen`.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::*;

/// A sandbox for web-1, a user's key, and the CA that it trusts.
struct Scene {
    dir: tempfile::TempDir,
    sandbox: Sandbox,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for key in ["ca", "user"] {
            keygen(dir.path(), &["-q", "-t", "ed25519", "-N", "", "-f", key]).await;
        }
        let ca = std::fs::read_to_string(dir.path().join("ca.pub")).unwrap();
        let sandbox = Sandbox::start(&ca, "web-1".parse().unwrap()).await.unwrap();
        Self { dir, sandbox }
    }

    /// Signs the user's key for `principal`, with further words for `ssh-keygen`.
    async fn certify(self, principal: &str, more: &[&str]) -> Self {
        let mut args = vec!["-q", "-s", "ca", "-I", "test", "-n", principal, "-V", "-1m:+2m"];
        args.extend(more);
        args.push("user.pub");
        keygen(self.dir.path(), &args).await;
        self
    }

    fn ssh(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.current_dir(self.dir.path()).kill_on_drop(true).args(["-F", "none", "-i", "user"]);
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes", "IdentitiesOnly=yes"]
        {
            command.args(["-o", option]);
        }
        let port = self.sandbox.address().port().to_string();
        command.args(["-o", &format!("Port={port}"), "-o", "User=deploy"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        within(self.ssh(args).output()).await.unwrap()
    }

    async fn shell(&self, script: &str) -> Output {
        let ssh = format!(
            "ssh -F none -i user -p {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o IdentitiesOnly=yes deploy@127.0.0.1",
            self.sandbox.address().port()
        );
        let mut command = Command::new("sh");
        command.current_dir(self.dir.path()).env("SSH", ssh).args(["-c", script]).kill_on_drop(true);
        within(command.output()).await.unwrap()
    }
}

async fn keygen(dir: &Path, args: &[&str]) {
    let output = Command::new("ssh-keygen").current_dir(dir).args(args).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it should not take a minute")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_command_runs_with_its_streams_apart_and_its_status() {
    let scene = Scene::new().await.certify("deploy@web-1", &[]).await;
    let output = scene.run(&["127.0.0.1", "echo out; echo err >&2; exit 37"]).await;
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(37), "out\n".into(), "err\n".into()));
    let shown = Certificate::from_openssh(&scene.sandbox.last_certificate().unwrap()).unwrap();
    assert_eq!(shown.key_id(), "test");
}

#[tokio::test]
async fn a_terminal_is_a_terminal() {
    let scene = Scene::new().await.certify("deploy@web-1", &[]).await;
    let output = scene
        .shell("script -qec 'stty rows 31 cols 101; $SSH -tt \"tty; stty size; echo \\$TERM; exit 4\"' /dev/null; echo status $?")
        .await;
    let seen = text(&output.stdout);
    assert!(seen.contains("/dev/pts/") && seen.contains("31 101") && seen.contains("status 4"), "{seen:?}");
}

#[tokio::test]
async fn without_permit_pty_there_is_no_terminal() {
    let scene = Scene::new().await.certify("deploy@web-1", &["-O", "clear"]).await;
    let output = scene.run(&["-tt", "127.0.0.1", "tty"]).await;
    assert!(text(&output.stderr).contains("PTY allocation request failed"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn input_ends_and_output_goes_on() {
    let scene = Scene::new().await.certify("deploy@web-1", &[]).await;
    let output = scene.shell("printf abc | $SSH 'cat; echo after; exit 5'; echo $?").await;
    assert_eq!(text(&output.stdout), "abcafter\n5\n");
}

#[tokio::test]
async fn bulk_passes_both_ways_at_once() {
    let scene = Scene::new().await.certify("deploy@web-1", &[]).await;
    let output = scene
        .shell("head -c 60000000 /dev/zero | tr '\\0' x | $SSH cat | sha256sum; head -c 60000000 /dev/zero | tr '\\0' x | sha256sum")
        .await;
    let sums: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert!(matches!(&sums[..], [a, b] if a == b), "{sums:?} {}", text(&output.stderr));
}

#[tokio::test]
async fn a_forced_command_runs_instead() {
    let scene = Scene::new().await.certify("deploy@web-1", &["-O", "force-command=echo forced $SSH_ORIGINAL_COMMAND"]).await;
    assert_eq!(text(&scene.run(&["127.0.0.1", "uptime"]).await.stdout), "forced uptime\n");
    assert_eq!(text(&scene.run(&["-T", "127.0.0.1"]).await.stdout), "forced\n");
}

#[tokio::test]
async fn nobody_enters_with_less_than_the_right_certificate() {
    let scene = Scene::new().await;
    assert_eq!(scene.run(&["127.0.0.1", "true"]).await.status.code(), Some(255), "no certificate");
    for principal in ["deploy", "deploy@db-1", "root@web-1", "deploy@web-1,root@web-1"] {
        let _ = std::fs::remove_file(scene.dir.path().join("user-cert.pub"));
        keygen(scene.dir.path(), &["-q", "-s", "ca", "-I", "test", "-n", principal, "-V", "+2m", "user.pub"]).await;
        assert_eq!(scene.run(&["127.0.0.1", "true"]).await.status.code(), Some(255), "{principal}");
    }
    assert!(scene.sandbox.last_certificate().is_none());
}

#[tokio::test]
async fn files_go_through_sftp() {
    let scene = Scene::new().await.certify("deploy@web-1", &[]).await;
    if process::sftp_server().is_none() {
        panic!("this test needs an sftp-server (Debian: openssh-sftp-server)");
    }
    let there = scene.dir.path().join("there");
    let script = format!(
        "head -c 3000000 /dev/urandom > here; $(echo $SSH | sed 's/^ssh /sftp /; s/ -p / -P /') <<E\nput here {0}\nE\ncmp here {0} && echo same",
        there.display()
    );
    let output = scene.shell(&script).await;
    assert!(text(&output.stdout).contains("same"), "{} {}", text(&output.stdout), text(&output.stderr));
}

#[tokio::test]
async fn a_hang_up_ends_what_runs() {
    let scene = Scene::new().await.certify("deploy@web-1", &[]).await;
    let mark = scene.dir.path().join("mark");
    let line =
        format!("exec 2>/dev/null; trap 'echo hup > {0}.hup; exit' HUP; echo on > {0}; while :; do sleep 0.05; done", mark.display());
    let mut client = scene.ssh(&["127.0.0.1", &line]).spawn().unwrap();
    appears(&mark).await;
    client.kill().await.unwrap();
    appears(&mark.with_extension("hup")).await;
}

#[tokio::test]
async fn an_end_by_signal_is_told() {
    let scene = Scene::new().await.certify("deploy@web-1", &[]).await;
    let output = scene.run(&["-v", "127.0.0.1", "kill -TERM $$"]).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("exit-signal"), "{}", text(&output.stderr));
}

async fn appears(path: &Path) {
    within(async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
