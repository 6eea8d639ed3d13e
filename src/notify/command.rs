//! A program that gets each notice on its standard input, as one JSON object.
//!
//! It is started without a shell and without the bastion's environment, in a process group of its own, which
//! is killed at the deadline with all that it has started. It has ended when it has exited and its output is
//! closed. What it writes is read up to a cap and logged only when it fails.

use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::harmless::line;
use super::{NotDelivered, Notice, Notifier};

/// Bytes of its output that are kept; the rest is read and dropped.
const KEPT: usize = 4096;
/// Characters of it in the log.
const SHOWN: usize = 400;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPlan {
    /// An absolute path.
    pub program: String,
    pub args: Vec<String>,
    pub within: Duration,
}

impl Notifier for CommandPlan {
    fn deliver<'a>(&'a self, notice: &'a Notice) -> Pin<Box<dyn Future<Output = Result<(), NotDelivered>> + Send + 'a>> {
        Box::pin(self.run(notice))
    }
}

impl CommandPlan {
    async fn run(&self, notice: &Notice) -> Result<(), NotDelivered> {
        let mut input = serde_json::to_vec(notice).map_err(|error| NotDelivered::ever(error.to_string()))?;
        input.push(b'\n');
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| NotDelivered::ever(format!("it cannot be started: {error}")))?;
        match tokio::time::timeout(self.within, converse(&mut child, &input)).await {
            Ok(Ok((status, _))) if status.success() => Ok(()),
            Ok(Ok((status, said))) => {
                tracing::warn!(program = %self.program, %status, said = line(said.trim(), SHOWN), "a notifier's command failed");
                Err(NotDelivered::now(format!("it failed: {status}")))
            }
            Ok(Err(error)) => Err(NotDelivered::now(format!("it could not be spoken to: {error}"))),
            Err(_) => {
                kill(&mut child).await;
                Err(NotDelivered::now(format!("it had not ended after {}", crate::time::short(self.within))))
            }
        }
    }
}

/// Gives the input, reads both outputs to their ends, and only then takes the exit status: until then its
/// process id, and so that of its group, is nobody else's.
async fn converse(child: &mut Child, input: &[u8]) -> std::io::Result<(std::process::ExitStatus, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // One that does not read its input may still do its work.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), out, err) = tokio::join!(give, kept(stdout), kept(stderr));
    let status = child.wait().await?;
    let said = [err?, out?].concat();
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Reads to the end, and keeps the beginning.
async fn kept(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let Some(mut from) = from else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    let mut buffer = [0; KEPT];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(kept);
        }
        let room = KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(buffer.get(..read.min(room)).unwrap_or_default());
    }
}

/// Kills the whole group, then takes the exit status.
async fn kill(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn sh(script: &str, within: Duration) -> CommandPlan {
        CommandPlan { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], within }
    }

    fn notice() -> Notice {
        Notice::test("page", "bastion", Timestamp::from_micros(0))
    }

    #[tokio::test]
    async fn it_reads_json_in_an_empty_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let script = format!("(cat; env) >{}", file.display());
        sh(&script, Duration::from_secs(10)).run(&notice()).await.unwrap();
        let seen = std::fs::read_to_string(&file).unwrap();
        let (json, env) = seen.split_once('\n').unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((json["v"].as_u64(), json["kind"].as_str()), (Some(1), Some("test")));
        assert!(!env.contains("HOME=") && !env.contains("CARGO"), "{env}");
    }

    #[tokio::test]
    async fn one_that_hangs_dies_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", file.display());
        let failed = sh(&script, Duration::from_millis(500)).run(&notice()).await.unwrap_err();
        assert!(failed.again && failed.why.contains("had not ended"), "{failed:?}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let gone = async {
            // A signal takes a moment; whom nobody waits for stays as a zombie.
            while std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("its child was killed");
    }

    #[tokio::test]
    async fn it_may_write_without_end_and_fail() {
        let failed = sh("head -c 30000000 /dev/zero; exit 3", Duration::from_secs(30)).run(&notice()).await.unwrap_err();
        assert_eq!(failed.why, "it failed: exit status: 3");
        sh("exec 0<&-; exit 0", Duration::from_secs(10)).run(&notice()).await.unwrap();
        let gone = CommandPlan { program: "/nowhere/at/all".into(), ..sh("", Duration::from_secs(1)) };
        assert!(!gone.run(&notice()).await.unwrap_err().again);
    }
}
