//! The console of the stock client: one line in, text or JSON out, an exit status.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::grammar::{self, NotAVerb, ReplayArgs, RequestArgs, RequestsArgs, SessionWord, Verb};
use super::live;
use super::many::MAX_LIST;
use super::opened::next;
use super::play::{PlayError, play};
use super::render::{Look, answer, prefixed, refused, visible};
use super::reply::{Asked, Card, Next, Refusal, RefusalKind, Reply, State};
use super::streams::{Keys, Text};
use super::text::{self, Reader, Voice};
use super::viewer::{PACE, Viewer};
use super::{Console, Terminal};
use crate::access::Principal;
use crate::access::decision::MAX_SIGNATURE;
use crate::causes::with_causes;
use crate::id::RequestId;
use crate::time::Timestamp;

/// A signature may take a touch and a passphrase on its way.
const SIGNATURE_WITHIN: Duration = Duration::from_secs(120);
/// A list of targets may come from an inventory that is slow.
const LIST_WITHIN: Duration = Duration::from_secs(120);
/// A hint may be lost; the row is read again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The sweep says soon after its time that a request is over.
const SWEPT_WITHIN: Duration = Duration::from_secs(30);

/// A card by itself.
pub(super) async fn card<I, O, E>(
    console: &Console,
    who: &Principal,
    request: RequestId,
    terminal: Option<Terminal>,
    io: (I, O, E),
) -> std::io::Result<u32>
where
    I: AsyncRead + Unpin + Send,
    O: AsyncWrite + Unpin + Send,
    E: AsyncWrite + Unpin + Send,
{
    Call::of(console, who, terminal, io).card(request).await
}

/// One console line of one person, with where its answer goes.
struct Call<'a, I, O, E> {
    console: &'a Console,
    who: &'a Principal,
    host: String,
    json: bool,
    keys: Keys<I>,
    out: Text<O>,
    err: Text<E>,
    look: Look,
}

pub(super) async fn run<I, O, E>(
    console: &Console,
    who: &Principal,
    command: &str,
    terminal: Option<Terminal>,
    io: (I, O, E),
) -> std::io::Result<u32>
where
    I: AsyncRead + Unpin + Send,
    O: AsyncWrite + Unpin + Send,
    E: AsyncWrite + Unpin + Send,
{
    let mut call = Call::of(console, who, terminal, io);
    match grammar::parse(command) {
        Ok(line) => {
            call.json = line.json;
            call.verb(line.verb, terminal).await
        }
        Err(NotAVerb::Help(help)) => {
            call.out.say(&help).await?;
            Ok(0)
        }
        Err(NotAVerb::Usage(why)) => {
            if command.split_whitespace().any(|word| word == "--json") {
                let why = why.trim_start_matches("error: ").lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
                let mut refusal = console.act(who, Timestamp::now()).refusal(RefusalKind::Usage, "the command", &why.join("; "));
                refusal.next = vec![Next::Verb("help".into())];
                call.out.say(&refused(&refusal)).await?;
            }
            call.err.say(&prefixed(why.trim_start_matches("error: "))).await?;
            call.err.say(&format!("countersign: console: ssh {}@{} help\n", who.person(), call.host)).await?;
            Ok(RefusalKind::Usage.status())
        }
    }
}

impl<'a, I, O, E> Call<'a, I, O, E>
where
    I: AsyncRead + Unpin + Send,
    O: AsyncWrite + Unpin + Send,
    E: AsyncWrite + Unpin + Send,
{
    fn of(console: &'a Console, who: &'a Principal, terminal: Option<Terminal>, (input, out, err): (I, O, E)) -> Self {
        let raw_terminal = terminal.is_some();
        let look = terminal.map_or(Look::default(), |terminal| Look {
            colour: terminal.colour,
            width: usize::try_from(terminal.cols).ok().filter(|cols| *cols > 0),
        });
        Self {
            console,
            who,
            host: console.directory.borrow().config.host.clone(),
            json: false,
            keys: Keys::new(input),
            out: Text::new(out, raw_terminal),
            err: Text::new(err, raw_terminal),
            look,
        }
    }

    /// A card, and what its reader can do next.
    async fn card(&mut self, request: RequestId) -> std::io::Result<u32> {
        let reply = match self.console.execute(self.who, &Verb::show(request), Timestamp::now()).await {
            Ok(reply) => reply,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let status = self.answer(&reply).await?;
        let next = match &reply {
            Reply::Request(card) => card.read().map(|document| next(card, self.who.person(), &document.person, &self.host)),
            _ => Ok(Vec::new()),
        };
        let next: String = next.unwrap_or_default().iter().map(|line| format!("countersign:   {}\n", visible(line))).collect();
        self.out.say(&next).await?;
        Ok(status)
    }

    async fn verb(&mut self, verb: Option<Verb>, terminal: Option<Terminal>) -> std::io::Result<u32> {
        match verb {
            None => self.welcome().await,
            Some(Verb::Requests(args)) if args.watch => self.watch(&args, terminal.is_some()).await,
            Some(Verb::Submit { request, .. }) => self.submit(request).await,
            Some(Verb::Request(args)) if args.takes_list() => self.request_list(args).await,
            Some(Verb::Replay(args)) => self.replay(args, terminal).await,
            Some(Verb::Watch { session }) => self.look_on(&session, terminal).await,
            Some(verb) => self.executed(&verb, terminal.is_some()).await,
        }
    }

    async fn executed(&mut self, verb: &Verb, terminal: bool) -> std::io::Result<u32> {
        match self.console.execute(self.who, verb, Timestamp::now()).await {
            Ok(Reply::Asked(asked)) if verb.waits() => self.wait(asked).await,
            Ok(Reply::AuditLines(_)) => self.export_log(terminal).await,
            Ok(reply) => self.answer(&reply).await,
            Err(refusal) => self.refuse(&refusal).await,
        }
    }

    /// `request deploy@- <list`
    async fn request_list(&mut self, args: RequestArgs) -> std::io::Result<u32> {
        let read = tokio::time::timeout(LIST_WITHIN, self.keys.all(MAX_LIST)).await;
        let verb = match read {
            Ok(Ok(list)) => args.with_list(&list).map(Verb::Request).and_then(|verb| verb.check().map(|()| verb)),
            Ok(Err(_)) | Err(_) => Err("the list on standard input has no end".into()),
        };
        match verb {
            Ok(verb) => self.executed(&verb, false).await,
            Err(why) => {
                let why = format!("was not made: {why}");
                let mut refusal = self.console.act(self.who, Timestamp::now()).refusal(RefusalKind::Usage, "the request", &why);
                refusal.next = vec![Next::Verb("request LOGIN@- --reason '…' <LIST".into())];
                self.refuse(&refusal).await
            }
        }
    }

    /// The whole log, exactly as it is; to a terminal with what could disturb it made visible.
    async fn export_log(&mut self, terminal: bool) -> std::io::Result<u32> {
        let mut export = self.console.log.export();
        loop {
            match export.next().await {
                Ok(lines) if lines.is_empty() => return Ok(0),
                Ok(lines) => {
                    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
                    if terminal { self.out.say(&visible(&text)).await? } else { self.out.bytes(text.as_bytes()).await? }
                }
                Err(error) => {
                    let refusal = self.console.act(self.who, Timestamp::now()).down(&error);
                    return self.refuse(&refusal).await;
                }
            }
        }
    }

    /// No command: help, and what waits for this person.
    async fn welcome(&mut self) -> std::io::Result<u32> {
        self.out.say(&grammar::help()).await?;
        let pending = Verb::Requests(RequestsArgs { pending: true, ..RequestsArgs::default() });
        match self.console.execute(self.who, &pending, Timestamp::now()).await {
            Ok(Reply::Requests(listed)) if listed.is_empty() && !self.json => {
                self.out.say("countersign: nothing waits for you\n").await?;
                Ok(0)
            }
            Ok(reply) => self.answer(&reply).await,
            Err(refusal) => self.refuse(&refusal).await,
        }
    }

    async fn answer(&mut self, reply: &Reply) -> std::io::Result<u32> {
        if self.json {
            self.out.say(&answer(reply)).await?;
        } else if let Reply::Decision(issued) = reply {
            // The bytes to sign, and nothing else, go where `>d` leads; what they mean stays readable.
            let beside = text::beside_decision(issued, &self.reader());
            self.err.say(&beside).await?;
            self.out.bytes(&issued.bytes).await?;
        } else {
            // Thousands of targets take the processor for a while: beside the event loop.
            let (reply, look, host) = (reply.clone(), self.look, self.host.clone());
            let render = move || text::reply(&reply, &Reader { look, now: Timestamp::now(), voice: Voice::Console { host: &host } });
            let text = tokio::task::spawn_blocking(render).await.map_err(std::io::Error::other)?;
            self.out.say(&text).await?;
        }
        Ok(status(reply))
    }

    async fn refuse(&mut self, refusal: &Refusal) -> std::io::Result<u32> {
        if self.json {
            self.out.say(&refused(refusal)).await?;
        }
        let text = text::refusal(refusal, self.voice());
        self.err.say(&text).await?;
        Ok(refusal.kind.status())
    }

    fn voice(&self) -> Voice<'_> {
        Voice::Console { host: &self.host }
    }

    fn reader(&self) -> Reader<'_> {
        Reader { look: self.look, now: Timestamp::now(), voice: self.voice() }
    }

    /// Says what was asked, waits, says what came of it. Leaving takes nothing back.
    async fn wait(&mut self, asked: Box<Asked>) -> std::io::Result<u32> {
        if !self.json {
            let text = text::reply(&Reply::Asked(asked.clone()), &self.reader());
            self.err.say(&text).await?;
        }
        let (console, who, id) = (self.console, self.who, asked.card.request);
        let decided = tokio::select! {
            decided = console.decided(who, id) => decided,
            () = self.keys.interrupted() => {
                let text = format!("countersign: {id} stays; take it back with ssh {} withdraw {id}\n", self.host);
                self.err.say(&text).await?;
                return Ok(RefusalKind::Undecided.status());
            }
        };
        match decided {
            Ok(card) => self.answer(&Reply::Asked(Box::new(Asked { card, waited: true, ..*asked }))).await,
            Err(refusal) => self.refuse(&refusal).await,
        }
    }

    async fn watch(&mut self, args: &RequestsArgs, screen: bool) -> std::io::Result<u32> {
        let mut hints = self.console.approvals.hints();
        let verb = Verb::Requests(args.clone());
        let mut last = None;
        loop {
            match self.console.execute(self.who, &verb, Timestamp::now()).await {
                // Times go on by themselves on a screen; a stream gets what changed.
                Ok(reply) if screen || last.as_ref() != Some(&reply) => {
                    if screen && !self.json {
                        self.out.say("\x1b[H\x1b[2J").await?;
                    }
                    self.answer(&reply).await?;
                    last = Some(reply);
                }
                Ok(_) => {}
                Err(refusal) => return self.refuse(&refusal).await,
            }
            tokio::select! {
                () = changed(&mut hints) => {}
                () = self.keys.interrupted() => return Ok(0),
            }
        }
    }

    async fn submit(&mut self, request: RequestId) -> std::io::Result<u32> {
        let read = tokio::time::timeout(SIGNATURE_WITHIN, self.keys.all(MAX_SIGNATURE)).await;
        let why = match read.map(|read| read.map(String::from_utf8)) {
            Ok(Ok(Ok(signature))) if signature.trim().is_empty() => "came without a signature on standard input",
            Ok(Ok(Ok(signature))) if signature.len() <= MAX_SIGNATURE => {
                return match self.console.execute(self.who, &Verb::Submit { request, signature }, Timestamp::now()).await {
                    Ok(reply) => self.answer(&reply).await,
                    Err(refusal) => self.refuse(&refusal).await,
                };
            }
            Ok(Ok(_)) => "came with something on standard input that is no SSHSIG",
            Ok(Err(_)) | Err(_) => "came without the end of its signature on standard input",
        };
        let mut refusal = self.console.act(self.who, Timestamp::now()).refusal(RefusalKind::Usage, "submit", why);
        refusal.next = text::stock_path(&self.host, request, "approve").map(Next::Shell).to_vec();
        self.refuse(&refusal).await
    }
}

impl<I, O, E> Call<'_, I, O, E>
where
    I: AsyncRead + Unpin + Send,
    O: AsyncWrite + Unpin + Send,
    E: AsyncWrite + Unpin + Send,
{
    /// Shows a running session until it ends, or its watcher leaves. Writing waits for the watcher's
    /// client, and what is skipped meanwhile is said.
    async fn look_on(&mut self, session: &SessionWord, terminal: Option<Terminal>) -> std::io::Result<u32> {
        let (watched, mut watcher) = match self.console.watch(self.who, session, Timestamp::now()).await {
            Ok(watching) => watching,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        let size = terminal.map(|terminal| (terminal.cols.max(1), terminal.rows.max(2))).filter(|_| !self.json);
        let mut viewer = Viewer::new(&watched, size);
        if self.json {
            self.answer(&Reply::Watch(Box::new(watched.clone()))).await?;
        } else {
            self.err.say(&Viewer::opening(&watched)).await?;
        }
        let no_longer = self.console.may_no_longer_watch(self.who, &watched.target);
        tokio::pin!(no_longer);
        loop {
            let sights = tokio::select! {
                sights = watcher.next() => sights,
                () = self.keys.interrupted() => {
                    self.out.say(&viewer.leave()).await?;
                    return Ok(0);
                }
                refusal = &mut no_longer => {
                    self.out.say(&viewer.leave()).await?;
                    return self.refuse(&refusal).await;
                }
            };
            let Some(sights) = sights else { return Ok(0) };
            let seen = live::seen(sights);
            if self.json {
                self.answer(&Reply::Seen(seen)).await?;
            } else {
                self.out.say(&viewer.show(&seen)).await?;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn replay(&mut self, args: ReplayArgs, terminal: Option<Terminal>) -> std::io::Result<u32> {
        let verb = Verb::Replay(args.clone());
        let evidence = match self.console.execute(self.who, &verb, Timestamp::now()).await {
            Ok(Reply::Recording(evidence)) if !self.json => evidence,
            Ok(reply) => return self.answer(&reply).await,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        if evidence.key_file_b64.is_some() {
            let why = "is encrypted to its auditors, so it plays on your machine only";
            let act = self.console.act(self.who, Timestamp::now());
            let mut refusal = act.refusal(RefusalKind::Refused, &evidence.session.to_string(), why);
            refusal.next = vec![Next::Companion(format!("replay {}", evidence.session))];
            return self.refuse(&refusal).await;
        }
        let Some(recording) = evidence.body else { return Ok(0) };
        let played = match self.console.recordings.body(&recording.file) {
            Ok(body) => play(body, &args, terminal.map(|size| (size.cols, size.rows)), &mut self.keys, &mut self.out).await,
            Err(error) => Err(PlayError::Replay(error.into())),
        };
        match played {
            Ok(_) => Ok(0),
            Err(PlayError::Write(error)) => Err(error),
            Err(error) => {
                let why = format!("cannot be played: {}", with_causes(&error));
                let refusal =
                    self.console.act(self.who, Timestamp::now()).refusal(RefusalKind::Unavailable, &recording.session.to_string(), &why);
                self.refuse(&refusal).await
            }
        }
    }
}

/// The exit status that an answer means.
pub fn status(reply: &Reply) -> u32 {
    match reply {
        Reply::Asked(asked) if asked.waited => match asked.card.state {
            State::Approved => 0,
            State::Denied { .. } | State::Withdrawn | State::Void => RefusalKind::Refused.status(),
            State::Expired | State::Pending | State::NeedsReason => RefusalKind::Undecided.status(),
        },
        Reply::Status(status) => u32::from(!status.ok),
        _ => 0,
    }
}

impl Console {
    /// Waits until a request is not open any more, at most until nobody may decide it.
    pub(super) async fn decided(&self, who: &Principal, id: RequestId) -> Result<Card, Refusal> {
        let mut hints = self.approvals.hints();
        loop {
            let now = Timestamp::now();
            let view = self.act(who, now).seen(id).await?;
            if !view.state.is_open() || now > view.document.not_after().plus(SWEPT_WITHIN) {
                return Ok(Card::of(&view));
            }
            changed(&mut hints).await;
        }
    }
}

/// Returns when something may have changed. A missed hint is a hint too.
pub(super) async fn changed(hints: &mut tokio::sync::broadcast::Receiver<RequestId>) {
    tokio::time::timeout(LOOK_AGAIN, hints.recv()).await.ok();
}
