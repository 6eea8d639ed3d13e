//! The whole story in ten steps, each checked where it happens: nothing is shown that did not.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::Command;

use super::actor::{Actor, Played};
use super::scene::{Person, Scene};
use crate::id::RequestId;

/// What bob refuses and alice takes back does no harm either, should this fail.
const COMMAND: &str = "echo \"web-1 says hello to $(id -un)\"; echo 'and this is its standard error' >&2";
const REASON: &str = "INC-42 disk full";

/// Plays it; the exit status is 0 only if every step happened.
pub async fn play(scene: &Scene) -> anyhow::Result<u8> {
    say(&format!("A bastion, a target and three people, in {}\n", scene.dir().display()))?;
    let story = async {
        let (client, request) = held(scene).await.context("step 1, held")?;
        approved(scene, request).await.context("step 2, approved with a signature")?;
        runs(client).await.context("step 3, the command's output")?;
        certified(scene, request).await.context("step 4, the certificate")?;
        replayed(scene, request).await.context("step 5, the replay")?;
        withdrawn(scene).await.context("step 6, a withdrawn request")?;
        denied(scene).await.context("step 7, a denial")?;
        verified(scene, request).await.context("step 8, the recording is verified")?;
        disposed(scene, request).await.context("step 9, the recording goes on schedule")?;
        audited(scene).await.context("step 10, the audit log is verified")
    };
    story.await.context("the tour stopped")?;
    say("\nEvery step happened. By hand: countersign demo\n")?;
    Ok(0)
}

async fn held(scene: &Scene) -> anyhow::Result<(Actor, RequestId)> {
    heading("1. alice wants to run a command on web-1, and is held")?;
    prompt(Person::Alice, &format!("ssh deploy=web-1@bastion {}", shell_words::quote(COMMAND)))?;
    let mut client = Actor::ssh(scene, Person::Alice, REASON, &["deploy=web-1@bastion", COMMAND])?;
    let request = client.reads("request for an approval", request_in).await?;
    let said = client.news();
    shown(&said)?;
    ensure!(said.contains("needs approval"), "the waiting text does not say that an approval is needed: {said}");
    ensure!(client.out().is_empty(), "the command ran before anybody agreed: {}", client.out());
    ensure!(scene.sandbox.last_certificate().is_none(), "a certificate was used before anybody agreed");
    Ok((client, request))
}

async fn approved(scene: &Scene, request: RequestId) -> anyhow::Result<()> {
    heading("2. bob reads what is asked, and signs with his key")?;
    let request = request.to_string();
    prompt(Person::Bob, &format!("countersign approve {request} --once"))?;
    let played = Actor::companion(scene, Person::Bob, &["approve", &request, "--once"]).await?;
    shown(&played.err)?;
    shown(&played.out)?;
    played.well()?;
    let said = format!("{}{}", played.err, played.out);
    ensure!(said.contains(REASON), "the card does not show the reason");
    ensure!(said.contains("approved"), "nothing says that it was approved");
    Ok(())
}

async fn runs(client: Actor) -> anyhow::Result<()> {
    heading("3. The command that alice left waiting runs; she did nothing more")?;
    let played = client.ends().await?;
    shown(&played.out)?;
    shown(&played.news)?;
    ensure!(played.out.starts_with("web-1 says hello to "), "the command's output did not arrive: {}", played.out);
    ensure!(played.err.contains("and this is its standard error"), "its standard error did not arrive");
    played.well()
}

async fn certified(scene: &Scene, request: RequestId) -> anyhow::Result<()> {
    heading("4. The certificate that the bastion made for it, as web-1 was shown it")?;
    let certificate = scene.sandbox.last_certificate().context("web-1 was shown none")?;
    let file = scene.dir().join("shown-cert.pub");
    tokio::fs::write(&file, certificate).await.with_context(|| format!("{} cannot be written", file.display()))?;
    prompt(Person::Carol, "ssh-keygen -L -f shown-cert.pub")?;
    let played = Actor::start(Command::new("ssh-keygen").arg("-L").arg("-f").arg(&file))?.ends().await?;
    shown(&played.out)?;
    for part in ["user certificate", &format!("/{request}/alice\""), "deploy@web-1", "source-address 127.0.0.1/32"] {
        ensure!(played.out.contains(part), "{part} is not in it");
    }
    played.well()
}

async fn replayed(scene: &Scene, request: RequestId) -> anyhow::Result<()> {
    heading("5. carol, an auditor, replays the session")?;
    let request = request.to_string();
    prompt(Person::Carol, &format!("countersign replay {request}"))?;
    let replay = ["replay", &request, "--speed", "20"];
    // The recording is sealed a moment after the session's end.
    let mut played = Actor::companion(scene, Person::Carol, &replay).await?;
    for _ in 0..50 {
        if played.status == Some(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        played = Actor::companion(scene, Person::Carol, &replay).await?;
    }
    shown(&played.out)?;
    ensure!(played.out.contains("web-1 says hello to "), "the recording does not hold the output: {}{}", played.out, played.err);
    ensure!(played.out.contains("and this is its standard error"), "the recording does not hold standard error: {}", played.out);
    played.well()
}

async fn denied(scene: &Scene) -> anyhow::Result<()> {
    heading("7. she asks once more, and bob says no")?;
    prompt(Person::Alice, "ssh deploy=web-1@bastion 'echo nginx restarted'")?;
    let mut client = Actor::ssh(scene, Person::Alice, REASON, &["deploy=web-1@bastion", "echo nginx restarted"])?;
    let request = client.reads("request for an approval", request_in).await?.to_string();
    shown(&client.news())?;
    prompt(Person::Bob, &format!("countersign deny {request} --note 'freeze until 06:00'"))?;
    let no = Actor::companion(scene, Person::Bob, &["deny", &request, "--note", "freeze until 06:00"]).await?;
    shown(&no.out)?;
    no.well()?;
    ended(client, "denied by bob").await
}

async fn withdrawn(scene: &Scene) -> anyhow::Result<()> {
    heading("6. alice asks again, and thinks better of it")?;
    prompt(Person::Alice, "ssh deploy=web-1@bastion 'echo rebooted'")?;
    let mut client = Actor::ssh(scene, Person::Alice, REASON, &["deploy=web-1@bastion", "echo rebooted"])?;
    let request = client.reads("request for an approval", request_in).await?.to_string();
    shown(&client.news())?;
    prompt(Person::Alice, &format!("countersign withdraw {request}"))?;
    let back = Actor::companion(scene, Person::Alice, &["withdraw", &request]).await?;
    shown(&back.out)?;
    back.well()?;
    ended(client, "withdrawn").await?;
    let late = Actor::companion(scene, Person::Bob, &["approve", &request]).await?;
    ensure!(late.status != Some(0), "bob could still approve what was withdrawn");
    Ok(())
}

async fn verified(scene: &Scene, request: RequestId) -> anyhow::Result<()> {
    heading("8. carol checks the recording on her own machine: signature, body, every stream, and what the log says")?;
    let request = request.to_string();
    prompt(Person::Carol, &format!("countersign verify {request}"))?;
    let played = Actor::companion(scene, Person::Carol, &["verify", &request]).await?;
    shown(&played.out)?;
    ensure!(played.out.contains(": good: "), "it is not found good: {}{}", played.out, played.err);
    played.well()
}

async fn disposed(scene: &Scene, request: RequestId) -> anyhow::Result<()> {
    heading("9. the schedule says six seconds (a year elsewhere): the key is destroyed, and its absence can be proven")?;
    prompt(Person::Carol, "countersign retention run")?;
    let mut gone = None;
    for _ in 0..100 {
        let played = Actor::companion(scene, Person::Carol, &["retention", "run"]).await?;
        ensure!(played.status == Some(0), "retention does not run: {}", played.err);
        if played.out.contains(" 1 gone") {
            gone = Some(played.out);
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    shown(&gone.context("it did not go in its time")?)?;
    let request = request.to_string();
    let replay = Actor::companion(scene, Person::Carol, &["replay", &request]).await?;
    ensure!(replay.status != Some(0), "it can still be replayed: {}", replay.out);
    prompt(Person::Carol, &format!("countersign verify {request}"))?;
    let played = Actor::companion(scene, Person::Carol, &["verify", &request]).await?;
    shown(&played.out)?;
    ensure!(played.out.contains("gone on schedule demo"), "nothing proves that it was its time: {}{}", played.out, played.err);
    played.well()
}

async fn audited(scene: &Scene) -> anyhow::Result<()> {
    heading("10. all of it is in the log, which nobody can rewrite unseen")?;
    prompt(Person::Carol, "countersign audit log -n 8")?;
    let log = Actor::companion(scene, Person::Carol, &["audit", "log", "-n", "8"]).await?;
    shown(&log.out)?;
    ensure!(log.out.contains("session.dispose"), "the log does not say that the recording went: {}{}", log.out, log.err);
    prompt(Person::Carol, "countersign audit verify")?;
    let played = Actor::companion(scene, Person::Carol, &["audit", "verify"]).await?;
    shown(&played.out)?;
    ensure!(played.out.contains("the log is whole"), "the log is not whole: {}{}", played.out, played.err);
    played.well()
}

/// The client is refused, with a line that says why.
async fn ended(client: Actor, why: &str) -> anyhow::Result<()> {
    let played = client.ends().await?;
    shown(&played.news)?;
    ensure!(played.out.is_empty(), "it ran: {}", played.out);
    ensure!(played.err.contains(why), "nothing says {why:?}: {}", played.err);
    ensure!(played.status == Some(77), "the exit status is {:?}, not 77", played.status);
    say("    (exit status 77)\n")
}

impl Played {
    fn well(&self) -> anyhow::Result<()> {
        match self.status {
            Some(0) => Ok(()),
            Some(status) => bail!("exit status {status}: {}", self.err.trim()),
            None => bail!("a signal ended it: {}", self.err.trim()),
        }
    }
}

/// The id that the waiting text names.
fn request_in(text: &str) -> Option<RequestId> {
    text.match_indices("request ")
        .find_map(|(at, word)| text.get(at + word.len()..)?.split(|c: char| !c.is_ascii_alphanumeric()).next()?.parse().ok())
}

fn heading(text: &str) -> anyhow::Result<()> {
    say(&format!("\n{text}\n\n"))
}

fn prompt(person: Person, line: &str) -> anyhow::Result<()> {
    say(&format!("    {}$ {line}\n", person.name()))
}

/// What a person sees, indented.
fn shown(text: &str) -> anyhow::Result<()> {
    for line in text.lines() {
        say(&format!("    {line}\n"))?;
    }
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waiting_text_names_its_request() {
        let text = "countersign: deploy@web-1 needs approval: 1 of leads (a request for x) · request K7Q3FM · code BRAVO-41\n";
        assert_eq!(request_in(text).map(|id| id.to_string()).as_deref(), Some("K7Q3FM"));
        assert_eq!(request_in("countersign: request K7Q3"), None);
    }
}
