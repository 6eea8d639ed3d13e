//! Approving and denying with a signature: what is signed is what was shown, from its bytes.
//!
//! The bastion is not trusted with what a person signs: the bytes are fetched once, their digest and
//! code are worked out here, the card is drawn from them, and the decision names that digest. Bytes
//! that differ from what the bastion says of them, or that change after they were shown, are not signed.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};

use super::bastion::Bastion;
use super::sign::{Keys, Signer};
use super::terminal;
use crate::access::decision::{BadDecision, CLOCK_SLACK, Level, SignedDecision, Verdict};
use crate::access::request::{RequestDocument, matching_code};
use crate::console::Look;
use crate::console::decide::{Decider, document, terms};
use crate::console::grammar::{Less, Verb};
use crate::console::reply::{BadCard, Card, Reply, State, Whoami};
use crate::console::text::{self, Reader, Voice};
use crate::id::{Digest, RequestId};
use crate::time::{Timestamp, about};

/// What the person ordered.
#[derive(Debug)]
pub struct Order {
    pub request: RequestId,
    pub verdict: Verdict,
    /// The code that the requester read out, if the person typed it.
    pub code: Option<String>,
    pub less: Less,
}

/// With what the person signs, and whether they are asked first.
#[derive(Debug)]
pub struct Hands {
    pub key: Option<PathBuf>,
    pub agent: Option<PathBuf>,
    pub default: PathBuf,
    pub yes: bool,
    pub look: Look,
}

/// Why nothing was signed, or nothing sent.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    #[error("the bastion answers with something else than was asked for")]
    Answer,
    #[error("not signed: the bastion showed {shown} for {asked}")]
    Other { asked: RequestId, shown: RequestId },
    #[error("not signed")]
    Card(#[from] BadCard),
    #[error("not signed: the request is for the bastion {document:?}, and this one is {here:?}")]
    Bastion { document: String, here: String },
    #[error("not signed: {0} is {1}; there is nothing to decide")]
    Over(RequestId, &'static str),
    #[error("not signed: the code of {request} is {shows}, not {typed}: this is not what the requester sees")]
    Code { request: RequestId, shows: String, typed: String },
    #[error("not signed: {0} is no longer what was shown; look again: countersign show {0}")]
    Changed(RequestId),
    #[error("not signed: this machine's clock and the bastion's differ by {}; set it first", about(*.0))]
    Clock(Duration),
    #[error("not signed: {0}")]
    More(String),
    #[error("not signed: {request} needs {}, and {fingerprint} is not such a key; name one: --key PATH.pub", level.words())]
    Soft { request: RequestId, level: Level, fingerprint: String },
    #[error("not signed: {0} is not like {1}, and the bastion says that it is")]
    NotAlike(RequestId, RequestId),
    #[error("not signed: nothing of what was shown still waits")]
    NothingLeft,
    #[error("not signed")]
    Declined,
    #[error("not signed: there is no terminal to ask on; with --yes nobody is asked")]
    NobodyToAsk(#[source] std::io::Error),
    #[error("not sent: the signature does not verify here")]
    Own(#[from] BadDecision),
}

/// A request as it was shown: its bytes, and what was read from them alone.
pub(super) struct Shown {
    bytes: Vec<u8>,
    pub digest: Digest,
    pub document: RequestDocument,
    pub level: Level,
    /// What the bastion says differs from the person's habit.
    pub unusual: Vec<String>,
}

/// Shows, asks, signs, sends. Returns what the bastion says became of it.
pub async fn decide<R, W>(bastion: &mut Bastion<R, W>, order: &Order, hands: &Hands) -> anyhow::Result<Reply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let me = whoami(bastion).await?;
    let card = fetch(bastion, order.request).await?;
    let shown = Shown::check(&card, order, &me)?;
    // For a denial nothing has to be compared, and it may have to be quick.
    if order.verdict == Verdict::Approve {
        eprint!("{}", text::card(&card, &Reader { look: hands.look, now: Timestamp::now(), voice: Voice::Companion }));
        if order.less.is_less() {
            let now = Timestamp::now();
            eprintln!("countersign: you grant less: {}", text::granted(&terms(&shown.document, &order.less, now), now));
        }
    }
    sign(bastion, order, hands, &me, shown).await
}

/// Signs what a card of this bastion showed and a person agreed to on sight of it, if that is still what is
/// asked, and sends it.
pub async fn decide_shown<R, W>(bastion: &mut Bastion<R, W>, card: &Card, order: &Order, hands: &Hands) -> anyhow::Result<Reply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let me = whoami(bastion).await?;
    let shown = Shown::check(card, order, &me)?;
    let signer = picked(order, hands, &me, &shown).await?;
    confirmed(bastion, order, (&me, &signer), shown).await
}

async fn sign<R, W>(bastion: &mut Bastion<R, W>, order: &Order, hands: &Hands, me: &Whoami, shown: Shown) -> anyhow::Result<Reply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let signer = picked(order, hands, me, &shown).await?;
    if order.verdict == Verdict::Approve && !hands.yes {
        confirm(order, &shown, &signer)?;
    }
    confirmed(bastion, order, (me, &signer), shown).await
}

async fn picked(order: &Order, hands: &Hands, me: &Whoami, shown: &Shown) -> anyhow::Result<Signer> {
    let listed: Vec<String> = me.keys.iter().map(|key| key.fingerprint.clone()).collect();
    let keys = Keys {
        named: hands.key.as_deref(),
        agent: hands.agent.clone(),
        default: hands.default.clone(),
        listed: &listed,
        level: shown.level,
    };
    let signer = Signer::pick(&keys).await?;
    // Said here, before a hand is asked for what the bastion would refuse; a denial counts at any level.
    if order.verdict == Verdict::Approve && shown.level >= Level::Touch && !signer.is_hardware() {
        let (level, fingerprint) = (shown.level, signer.fingerprint());
        return Err(NotSigned::Soft { request: order.request, level, fingerprint }.into());
    }
    Ok(signer)
}

async fn confirmed<R, W>(bastion: &mut Bastion<R, W>, order: &Order, who: (&Whoami, &Signer), shown: Shown) -> anyhow::Result<Reply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    shown.is_still(&fetch(bastion, order.request).await?)?;
    sign_and_send(bastion, who, (&shown.document, vec![shown.digest]), order.verdict, &order.less).await
}

/// Signs the decision on these digests, checks the signature, and brings it.
pub(super) async fn sign_and_send<R, W>(
    bastion: &mut Bastion<R, W>,
    (me, signer): (&Whoami, &Signer),
    (request, digests): (&RequestDocument, Vec<Digest>),
    verdict: Verdict,
    less: &Less,
) -> anyhow::Result<Reply>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let fingerprint = signer.fingerprint();
    let by = Decider { person: &me.person, key: &fingerprint, now: Timestamp::now() };
    let bytes = document(by, request, digests, verdict, less).bytes();
    if signer.is_hardware() {
        eprintln!("countersign: touch the key {fingerprint}");
    }
    let signature = signer.sign(&bytes).await?;
    let key = std::slice::from_ref(signer.key());
    let signed = SignedDecision::verify(bytes, &signature, &me.person, key, &request.bastion, Timestamp::now()).map_err(NotSigned::Own)?;
    let sent = Verb::Decide { document_b64: data_encoding::BASE64.encode(signed.bytes()), signature };
    Ok(bastion.ask(&sent).await?)
}

impl Shown {
    /// Takes a card only for what was asked for, here, and if its bytes say so.
    pub(super) fn check(card: &Card, order: &Order, me: &Whoami) -> Result<Self, NotSigned> {
        if card.request != order.request {
            return Err(NotSigned::Other { asked: order.request, shown: card.request });
        }
        if card.state != State::Pending {
            return Err(NotSigned::Over(card.request, card.state.word()));
        }
        let document = card.read()?;
        if document.bastion != me.bastion {
            return Err(NotSigned::Bastion { document: document.bastion, here: me.bastion.clone() });
        }
        let now = Timestamp::now();
        let apart = now.since(me.now).max(me.now.since(now));
        if apart > CLOCK_SLACK {
            return Err(NotSigned::Clock(apart));
        }
        let digest = Digest::of(&card.bytes);
        let shows = matching_code(&digest);
        if let Some(typed) = order.code.as_ref().filter(|typed| !typed.eq_ignore_ascii_case(&shows)) {
            return Err(NotSigned::Code { request: card.request, shows, typed: crate::console::visible(typed) });
        }
        if let Some(longer) = order.less.duration.filter(|span| span.0 > document.duration()) {
            let asked = crate::time::short(document.duration());
            return Err(NotSigned::More(format!("{} was asked for, --for {} is more", asked, String::from(longer))));
        }
        if order.verdict == Verdict::Approve
            && let Some(more) = terms(&document, &order.less, now).beyond(&document.asked(), now)
        {
            return Err(NotSigned::More(format!("it would not be less than was asked: {more}")));
        }
        Ok(Self { bytes: card.bytes.clone(), digest, document, level: card.level, unusual: card.unusual.clone() })
    }

    /// The bytes must be the same, and still wait, at the moment of signing.
    pub(super) fn is_still(&self, card: &Card) -> Result<(), NotSigned> {
        let request = self.document.request;
        if card.request != request || card.bytes != self.bytes {
            return Err(NotSigned::Changed(request));
        }
        if card.state == State::Pending { Ok(()) } else { Err(NotSigned::Over(request, card.state.word())) }
    }
}

/// A habit is broken by typing: what is unusual is agreed to by the target's name, never by y (`users.md` 5).
fn confirm(order: &Order, shown: &Shown, signer: &Signer) -> Result<(), NotSigned> {
    let code = matching_code(&shown.digest);
    let (request, key) = (order.request, signer.fingerprint());
    let (prompt, wanted) = match unusual_needs(&shown.document, &shown.unusual) {
        None => (format!("countersign: code {code} on their screen too? Sign the yes to {request} with {key}? [y/N] "), None),
        Some(name) => {
            let what = crate::console::visible(&shown.unusual.join(" · "));
            let prompt = format!(
                "countersign: unusual: {what}\ncountersign: code {code} on their screen too? Type {name} to sign the yes to {request} with {key}: "
            );
            (prompt, Some(name))
        }
    };
    match (terminal::ask(&prompt), wanted) {
        (Ok(answer), Some(name)) if answer.trim() == name => Ok(()),
        (Ok(answer), None) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        (Ok(_), _) => Err(NotSigned::Declined),
        (Err(error), _) => Err(NotSigned::NobodyToAsk(error)),
    }
}

/// What has to be typed to agree to an unusual request: the target's name, of many their number.
pub fn unusual_needs(document: &RequestDocument, unusual: &[String]) -> Option<String> {
    if unusual.is_empty() {
        return None;
    }
    Some(match document.targets.as_slice() {
        [only] => only.id.to_string(),
        many => format!("{} targets", many.len()),
    })
}

pub(super) async fn whoami<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin>(bastion: &mut Bastion<R, W>) -> anyhow::Result<Whoami> {
    match bastion.ask(&Verb::Whoami).await? {
        Reply::Whoami(me) => Ok(me),
        _ => Err(NotSigned::Answer.into()),
    }
}

pub(super) async fn fetch<R: AsyncBufRead + Unpin, W: AsyncWrite + Unpin>(
    bastion: &mut Bastion<R, W>,
    request: RequestId,
) -> anyhow::Result<Card> {
    match bastion.ask(&Verb::show(request)).await? {
        Reply::Request(card) => Ok(*card),
        _ => Err(NotSigned::Answer.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::request::tests::sample;
    use crate::console::reply::KeyLine;
    use crate::console::reply::tests::pending;
    use crate::console::wire::{self, Lines, Said, read_call, say};
    use tokio::io::{BufReader, DuplexStream, ReadHalf, WriteHalf};

    type Talk = Bastion<BufReader<ReadHalf<DuplexStream>>, WriteHalf<DuplexStream>>;

    fn card(document: &RequestDocument) -> Card {
        pending(document, &["bob"])
    }

    /// The decision and signature that the bastion was brought, if any.
    type Heard = tokio::task::JoinHandle<Option<(Vec<u8>, String)>>;

    /// A bastion that answers `show` with these cards in turn and hands out the decision it is sent.
    fn bastion(fingerprint: &str, cards: Vec<Card>) -> (Talk, Heard) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (near_in, near_out) = tokio::io::split(near);
        let me = Whoami {
            person: "bob".parse().unwrap(),
            groups: Vec::new(),
            source: "192.0.2.9".into(),
            key: fingerprint.into(),
            keys: vec![KeyLine { fingerprint: fingerprint.into(), algorithm: "ssh-ed25519".into() }],
            bastion: "bastion-1".into(),
            host: "bastion".into(),
            now: Timestamp::now(),
        };
        let serving = tokio::spawn(async move {
            let (far_in, mut far_out) = tokio::io::split(far);
            let mut lines = Lines::new(BufReader::new(far_in), wire::MAX_REQUEST);
            let mut cards = cards.into_iter();
            while let Some(line) = lines.next().await.unwrap() {
                let (id, verb) = read_call(&line).unwrap();
                let reply = match verb {
                    Verb::Whoami => Reply::Whoami(me.clone()),
                    Verb::Show { .. } => Reply::Request(Box::new(cards.next().unwrap())),
                    Verb::Decide { document_b64, signature } => {
                        say(&mut far_out, Some(id), Said::Result(Reply::Help("taken".into()))).await.unwrap();
                        return Some((data_encoding::BASE64.decode(document_b64.as_bytes()).unwrap(), signature));
                    }
                    other => panic!("{other:?}"),
                };
                say(&mut far_out, Some(id), Said::Result(reply)).await.unwrap();
            }
            None
        });
        (Bastion::over("bastion", BufReader::new(near_in), near_out), serving)
    }

    fn key(dir: &std::path::Path) -> (Hands, String, russh::keys::ssh_key::PublicKey) {
        let path = dir.join("id");
        let made = std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().unwrap();
        assert!(made.success());
        let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        let public = russh::keys::ssh_key::PublicKey::from_openssh(text.trim()).unwrap();
        let fingerprint = public.fingerprint(russh::keys::ssh_key::HashAlg::Sha256).to_string();
        (Hands { key: Some(path.clone()), agent: None, default: path, yes: true, look: Look::default() }, fingerprint, public)
    }

    fn order(verdict: Verdict) -> Order {
        Order { request: sample().request, verdict, code: None, less: Less::default() }
    }

    async fn refused(cards: Vec<Card>, order: Order) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (hands, fingerprint, _) = key(dir.path());
        let (mut talk, serving) = bastion(&fingerprint, cards);
        let error = decide(&mut talk, &order, &hands).await.unwrap_err();
        drop(talk);
        assert!(serving.await.unwrap().is_none(), "nothing may be sent");
        assert!(error.is::<NotSigned>(), "{error:#}");
        format!("{error:#}")
    }

    #[tokio::test]
    async fn what_was_shown_is_what_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let (hands, fingerprint, public) = key(dir.path());
        let request = sample();
        let (mut talk, serving) = bastion(&fingerprint, vec![card(&request), card(&request)]);
        let less = Less { duration: Some("15m".parse().unwrap()), once: true, note: "look only".into(), ..Less::default() };
        decide(&mut talk, &Order { less, ..order(Verdict::Approve) }, &hands).await.unwrap();
        let (bytes, signature) = serving.await.unwrap().unwrap();
        let bob = "bob".parse().unwrap();
        let signed = SignedDecision::verify(bytes, &signature, &bob, &[public], "bastion-1", Timestamp::now()).unwrap();
        assert_eq!(signed.document().requests, [Digest::of(&request.bytes())]);
        assert_eq!(signed.document().terms.as_ref().map(|terms| (terms.for_us, terms.once)), Some((900_000_000, true)));
        assert_eq!(signed.document().note, "look only");
    }

    #[tokio::test]
    async fn a_request_that_changes_after_it_was_shown_is_not_signed() {
        let mut changed = sample();
        changed.login = "root".parse().unwrap();
        assert!(refused(vec![card(&sample()), card(&changed)], order(Verdict::Approve)).await.contains("no longer what was shown"));
        let withdrawn = Card { state: State::Withdrawn, ..card(&sample()) };
        assert!(refused(vec![card(&sample()), withdrawn], order(Verdict::Deny)).await.contains("withdrawn"));
    }

    #[tokio::test]
    async fn a_bastion_that_shows_one_thing_and_means_another_gets_no_signature() {
        let other = RequestDocument { request: "ABCDEF".parse().unwrap(), ..sample() };
        assert!(refused(vec![card(&other)], order(Verdict::Approve)).await.contains("ABCDEF"));
        let renamed = Card { request: sample().request, ..card(&other) };
        assert!(refused(vec![renamed], order(Verdict::Approve)).await.contains("ABCDEF"));
        let lying = Card { digest: Digest([9; 32]), ..card(&sample()) };
        assert!(refused(vec![lying], order(Verdict::Approve)).await.contains("digest"));
        let elsewhere = RequestDocument { bastion: "bastion-2".into(), ..sample() };
        assert!(refused(vec![card(&elsewhere)], order(Verdict::Approve)).await.contains("bastion-2"));
        let spaced = Card { bytes: [b" ", &card(&sample()).bytes[..]].concat(), ..card(&sample()) };
        let spaced = Card { digest: Digest::of(&spaced.bytes), ..spaced };
        assert!(refused(vec![spaced], order(Verdict::Approve)).await.contains("canonical"));
    }

    #[tokio::test]
    async fn a_wrong_code_and_more_than_was_asked_are_not_signed() {
        let wrong = Order { code: Some("ZULU-00".into()), ..order(Verdict::Approve) };
        assert!(refused(vec![card(&sample())], wrong).await.contains("ZULU-00"));
        let less = Less { duration: Some("2h".parse().unwrap()), ..Less::default() };
        assert!(refused(vec![card(&sample())], Order { less, ..order(Verdict::Approve) }).await.contains("30m was asked for"));
    }
}
