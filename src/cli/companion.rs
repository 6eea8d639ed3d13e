//! The companion: a verb to the bastion through the person's own `ssh`, and its answer to their screen.

use std::path::PathBuf;

use anyhow::Context;
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::approve::{self, Hands};
use super::ask::{self, Named};
use super::bastion::{Bastion, Heard, Settings, ThroughSsh, WireError};
use super::fetch::Own;
use super::many::{self, Many};
use super::trust::Known;
use super::{audit, export, inbox, pager, proof, recover, replay, rewrap, say, trust, verify, watch};
use crate::access::decision::Verdict;
use crate::console::Look;
use crate::console::grammar::{AuditArgs, AuditWhat, AuditorsArgs, AuditorsWhat, Less, Verb, VerifyArgs};
use crate::console::render::answer;
use crate::console::reply::Reply;
use crate::console::text::{self, Reader, Voice};
use crate::time::Timestamp;

/// What the command line said besides the verb.
#[derive(Debug)]
pub struct Companion {
    pub bastion: Option<String>,
    pub json: bool,
    pub key: Option<PathBuf>,
    pub yes: bool,
    pub look: Look,
}

impl Companion {
    /// Runs one verb and returns the exit status.
    pub async fn run(mut self, verb: Verb) -> anyhow::Result<u8> {
        let path = Settings::path();
        let settings = Settings::read(&path)?;
        self.key = self.key.or(settings.key);
        // What lies on this machine needs no bastion.
        match &verb {
            Verb::Verify(VerifyArgs { what: Some(what), log_key, .. }) if proof::is_proof(what.as_ref()) => {
                return proof::file(what.as_ref(), log_key.as_deref(), self.json);
            }
            Verb::Verify(args) if args.is_file() => return verify::file(args, &self.own(), self.json),
            Verb::Audit(AuditArgs { what: AuditWhat::Verify(args) }) if args.file.is_some() => return audit::file(args, self.json),
            _ => {}
        }
        let name = self.bastion.clone().or(settings.bastion).ok_or(WireError::NoBastion(path))?;
        let ssh = std::env::var("COUNTERSIGN_SSH").ok().or(settings.ssh).unwrap_or_else(|| "ssh".into());
        let mut bastion = ThroughSsh::start(&name, &ssh)?;
        let known = trust::greet(&mut bastion, &trust::state_dir()).await?;
        self.verb(&mut bastion, &known, verb).await
    }

    fn own(&self) -> Own {
        Own::new(self.key.as_deref())
    }

    async fn verb<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        bastion: &mut Bastion<R, W>,
        known: &Known,
        verb: Verb,
    ) -> anyhow::Result<u8> {
        match verb {
            Verb::Hold(mut args) => {
                if let Some(path) = args.attach.take() {
                    let document = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
                    args.attached = Some(crate::id::Digest::of(&document));
                }
                self.follow(bastion, &Verb::Hold(args)).await
            }
            Verb::Auditors(AuditorsArgs { what: AuditorsWhat::Prove }) => self.prove(bastion).await,
            Verb::Auditors(AuditorsArgs { what: AuditorsWhat::Rewrap(args) }) => {
                rewrap::run(bastion, &args, known, &self.own(), self.yes).await
            }
            Verb::Auditors(AuditorsArgs { what: AuditorsWhat::Recover(args) }) => recover::run(bastion, &args, &self.own()).await,
            Verb::Verify(args) if args.all => verify::all(bastion, known, &self.own(), self.json).await,
            Verb::Verify(args) => verify::session(bastion, &args, known, &self.own(), self.json).await,
            Verb::Show { request, proof: true, output } => proof::show(bastion, request, output, known, self.json).await,
            Verb::Export(args) => export::run(bastion, &args, known, &self.own()).await,
            Verb::Audit(AuditArgs { what: AuditWhat::Export }) => audit::export(bastion).await,
            Verb::Audit(AuditArgs { what: AuditWhat::Verify(args) }) => audit::verify(bastion, &args, known, self.json).await,
            Verb::Request(args) => match ask::named(bastion, args, self.asks()).await? {
                Named::Send(args) => self.follow(bastion, &Verb::Request(args)).await,
                Named::Nothing(reply) => self.show(&reply),
                Named::Declined => Ok(0),
            },
            Verb::Approve(args) => {
                let said = args.said().into_iter().map(|(id, code)| (id, code.map(str::to_owned)));
                let order = Many { requests: said.collect(), like: args.like, verdict: Verdict::Approve, less: args.less };
                self.decide(bastion, order).await
            }
            Verb::Deny { requests, like, note } => {
                let less = Less { note, ..Less::default() };
                let requests = requests.into_iter().map(|id| (id, None)).collect();
                self.decide(bastion, Many { requests, like, verdict: Verdict::Deny, less }).await
            }
            Verb::Replay(args) => replay::run(bastion, args, known, &self.own(), self.look, self.json).await,
            Verb::Requests(args) if args.watch && !self.json && self.look.width.is_some() => {
                inbox::run(bastion, &args, &self.hands(), self.reader()).await
            }
            Verb::Watch { session } => watch::run(bastion, &session, self.look, self.json).await,
            Verb::Submit { request, .. } => {
                let signature =
                    std::io::read_to_string(std::io::stdin().lock()).context("the signature on standard input cannot be read")?;
                let verb = Verb::Submit { request, signature };
                verb.check().map_err(anyhow::Error::msg)?;
                self.follow(bastion, &verb).await
            }
            verb => self.follow(bastion, &verb).await,
        }
    }

    /// Decrypts a canary of the bastion's, and hands it back.
    async fn prove<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin>(&self, bastion: &mut Bastion<R, W>) -> anyhow::Result<u8> {
        let Reply::Canary(sealed) = bastion.ask(&Verb::Canary).await? else {
            anyhow::bail!("the bastion answers with something else than a canary");
        };
        let sealed = data_encoding::BASE64.decode(sealed.as_bytes()).context("the canary is not base 64")?;
        let own = self.own();
        let canary = crate::transcript::envelope::open(&sealed, &own.load()?)
            .with_context(|| format!("{} does not decrypt what is encrypted to you", own.path.display()))?;
        let canary = crate::console::canary_in(&canary)
            .context("the bastion asks for something to be decrypted that is no canary; it gets nothing. Tell the other auditors")?;
        let reply = bastion.ask(&Verb::Proven { canary_b64: data_encoding::BASE64.encode(canary) }).await?;
        self.show(&reply)
    }

    async fn decide<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin>(&self, bastion: &mut Bastion<R, W>, order: Many) -> anyhow::Result<u8> {
        let hands = self.hands();
        let reply = match order.one() {
            Some(order) => approve::decide(bastion, &order, &hands).await?,
            None => many::decide(bastion, &order, &hands).await?,
        };
        self.show(&reply)
    }

    fn hands(&self) -> Hands {
        Hands {
            key: self.key.clone(),
            agent: std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from),
            default: std::env::home_dir().unwrap_or_default().join(".ssh/id_ed25519"),
            yes: self.yes,
            look: self.look,
        }
    }

    /// Whether somebody is there to be asked before many targets are sent.
    fn asks(&self) -> Option<Look> {
        use std::io::IsTerminal;
        (!self.yes && !self.json && std::io::stderr().is_terminal()).then_some(self.look)
    }

    /// Asks and shows every answer, until the last.
    async fn follow<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin>(&self, bastion: &mut Bastion<R, W>, verb: &Verb) -> anyhow::Result<u8> {
        let watches = matches!(verb, Verb::Requests(args) if args.watch);
        let waits = verb.waits();
        bastion.send(verb).await?;
        let mut heard = bastion.hear().await?;
        loop {
            match heard {
                Heard::Result(reply) => return self.show(&reply),
                Heard::Event(reply) if watches => self.draw(&reply),
                Heard::Event(reply) if waits && !self.json => eprint!("{}", text::reply(&reply, &self.reader())),
                Heard::Event(_) | Heard::Bytes(_) => {}
            }
            // A person waits as long as they like; Ctrl-C ends this, not what was asked.
            heard = if watches || waits { bastion.hear_at_last().await? } else { bastion.hear().await? };
        }
    }

    fn reader(&self) -> Reader<'static> {
        Reader { look: self.look, now: Timestamp::now(), voice: Voice::Companion }
    }

    /// One of many pictures; none goes through a pager.
    fn draw(&self, reply: &Reply) {
        say(&if self.json { answer(reply) } else { text::reply(reply, &self.reader()) }).ok();
    }

    fn show(&self, reply: &Reply) -> anyhow::Result<u8> {
        let status = u8::try_from(crate::console::status(reply)).unwrap_or(1);
        let text = match reply {
            reply if self.json => answer(reply),
            Reply::Decision(issued) => {
                eprint!("{}", text::beside_decision(issued, &self.reader()));
                text::reply(reply, &self.reader())
            }
            reply => text::reply(reply, &self.reader()),
        };
        let said = if pager::is_listing(reply) && !self.json { pager::page(&text, self.look) } else { say(&text) };
        Ok(said.err().unwrap_or(status))
    }
}
