//! The wire between bastion and companion, subsystem `countersign-v1` (**D wire**).
//!
//! JSON lines `{v,id,verb,args}` → `{id,event|result|error}`; bulk is `{id,bytes:L}` and L raw bytes.
//! Each side believes no length of the other: lines and bulk are capped before anything is kept.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::grammar::Verb;
use super::render::{brief, json};
use super::reply::{Refusal, Reply};

/// The subsystem's name.
pub const SUBSYSTEM: &str = "countersign-v1";
pub const VERSION: u64 = 1;
/// Longest line that a bastion reads.
pub const MAX_REQUEST: usize = 256 * 1024;
/// Longest line that a companion reads: a listing of ten thousand requests fits.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;
/// Most raw bytes behind one `{id,bytes:L}`.
pub const MAX_BULK: usize = 256 * 1024;

/// One line from the companion.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub v: u64,
    pub id: u64,
    pub verb: String,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub args: serde_json::Value,
}

/// One line from the bastion. Exactly one of the fields beside `id` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// `None` where the call could not be read so far.
    pub id: Option<u64>,
    #[serde(flatten)]
    pub said: Said,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// More follows.
    Event(Reply),
    /// The end of this call.
    Result(Reply),
    /// The end of this call: it was refused, or could not be read.
    Error(Refusal),
    /// So many raw bytes follow this line.
    Bytes(usize),
}

/// A call that cannot be read: which, as far as that is known, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BadCall {
    pub id: Option<u64>,
    pub why: String,
}

/// Writes a verb as a call.
pub fn call(id: u64, verb: &Verb) -> String {
    let mut parts = serde_json::to_value(verb).unwrap_or_default();
    let args = parts.get_mut("args").map(serde_json::Value::take).unwrap_or_default();
    json(&Call { v: VERSION, id, verb: verb.name().to_owned(), args }) + "\n"
}

/// Reads a call; what is wrong is said in one sentence.
pub fn read_call(line: &[u8]) -> Result<(u64, Verb), BadCall> {
    let parts: serde_json::Value =
        serde_json::from_slice(line).map_err(|error| BadCall { id: None, why: format!("the line is not JSON: {error}") })?;
    let id = parts.get("id").and_then(serde_json::Value::as_u64);
    let bad = |why: String| BadCall { id, why: brief(&why, 300) };
    match parts.get("v").map(|v| v.as_u64()) {
        Some(Some(VERSION)) => {}
        Some(_) => return Err(bad(format!("this bastion speaks version {VERSION} of the wire; update the companion or the bastion"))),
        None => return Err(bad("the call has no version; write {\"v\":1,\"id\":1,\"verb\":…,\"args\":…}".into())),
    }
    let call: Call = serde_json::from_value(parts).map_err(|error| bad(format!("the call cannot be read: {error}")))?;
    let read = |args: Option<serde_json::Value>| {
        let tagged = match args {
            Some(args) => serde_json::json!({ "verb": call.verb, "args": args }),
            None => serde_json::json!({ "verb": call.verb }),
        };
        serde_json::from_value::<Verb>(tagged)
    };
    let bare = call.args.is_null() || call.args.as_object().is_some_and(serde_json::Map::is_empty);
    // A verb without arguments takes none at all, one whose arguments are all optional takes `{}`.
    let verb = if bare { read(None).or_else(|_| read(Some(serde_json::json!({})))) } else { read(Some(call.args.clone())) };
    let verb = verb.map_err(|error| bad(format!("{} cannot be read: {error}", call.verb)))?;
    verb.check().map_err(bad)?;
    Ok((call.id, verb))
}

/// Writes one line of the bastion.
pub async fn say(out: &mut (impl AsyncWrite + Unpin), id: Option<u64>, said: Said) -> std::io::Result<()> {
    let line = json(&Line { id, said }) + "\n";
    out.write_all(line.as_bytes()).await?;
    out.flush().await
}

/// Writes raw bytes with their announcement.
pub async fn say_bytes(out: &mut (impl AsyncWrite + Unpin), id: u64, bytes: &[u8]) -> std::io::Result<()> {
    for chunk in bytes.chunks(MAX_BULK) {
        say(out, Some(id), Said::Bytes(chunk.len())).await?;
        out.write_all(chunk).await?;
    }
    out.flush().await
}

/// Lines of a stream, each at most so long. Dropping a `next` in the middle loses nothing.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    part: Vec<u8>,
    most: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    #[error("the stream ends in the middle of a line")]
    Cut,
    #[error("{0} bytes announced at once, at most {MAX_BULK} are taken")]
    Bulk(usize),
    #[error("reading")]
    Io(#[from] std::io::Error),
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub fn new(from: R, most: usize) -> Self {
        Self { from, part: Vec::new(), most }
    }

    /// Returns the next line without its end, `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            let seen = self.from.fill_buf().await?;
            if seen.is_empty() {
                return if self.part.is_empty() { Ok(None) } else { Err(LineError::Cut) };
            }
            let end = seen.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(seen.len(), |at| at + 1);
            let kept = end.unwrap_or(seen.len());
            if self.part.len() + kept > self.most {
                return Err(LineError::TooLong(self.most));
            }
            self.part.extend(seen.iter().take(kept));
            self.from.consume(taken);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.part)));
            }
        }
    }

    /// Reads the raw bytes that a line announced.
    pub async fn bytes(&mut self, length: usize) -> Result<Vec<u8>, LineError> {
        use tokio::io::AsyncReadExt as _;
        if length > MAX_BULK {
            return Err(LineError::Bulk(length));
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).await?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn lines_are_cut_at_their_ends_and_capped() {
        let mut lines = Lines::new(&b"one\n\ntwo\nlonger than ten\n"[..], 10);
        assert_eq!(lines.next().await.unwrap().unwrap(), b"one");
        assert_eq!(lines.next().await.unwrap().unwrap(), b"");
        assert_eq!(lines.next().await.unwrap().unwrap(), b"two");
        assert!(matches!(lines.next().await, Err(LineError::TooLong(10))));
        let mut lines = Lines::new(&b"cut"[..], 10);
        assert!(matches!(lines.next().await, Err(LineError::Cut)));
    }

    #[tokio::test]
    async fn four_gigabytes_are_refused_before_they_are_kept() {
        let mut lines = Lines::new(&b"x"[..], 10);
        assert!(matches!(lines.bytes(4 << 30).await, Err(LineError::Bulk(_))));
    }

    #[tokio::test]
    async fn bulk_comes_back_in_pieces() {
        let (mut wire, sent) = (Vec::new(), vec![7u8; MAX_BULK + 5]);
        say_bytes(&mut wire, 3, &sent).await.unwrap();
        let mut lines = Lines::new(&wire[..], MAX_REPLY);
        let mut got = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            let Line { id: Some(3), said: Said::Bytes(length) } = serde_json::from_slice(&line).unwrap() else { panic!() };
            got.extend(lines.bytes(length).await.unwrap());
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn a_call_reads_back() {
        for line in ["approve K7Q3FM BRAVO-41 --note ok", "targets", "requests", "requests --pending", "sessions --since 1d", "whoami"] {
            let verb = super::super::grammar::parse(line).unwrap().verb.unwrap();
            let call = call(9, &verb);
            assert_eq!(read_call(call.as_bytes()).unwrap(), (9, verb), "{call}");
        }
        assert_eq!(read_call(br#"{"v":1,"id":2,"verb":"requests"}"#).unwrap().0, 2);
        assert_eq!(read_call(br#"{"v":1,"id":2,"verb":"targets","args":{}}"#).unwrap().0, 2);
    }

    #[test]
    fn what_is_wrong_with_a_call_is_named() {
        let why = |line: &str| read_call(line.as_bytes()).unwrap_err();
        assert!(why("hello").why.contains("not JSON"));
        assert!(why("{}").why.contains("version"));
        assert_eq!(why(r#"{"v":2,"id":5,"verb":"targets"}"#).id, Some(5));
        assert!(why(r#"{"v":2,"id":5,"verb":"targets"}"#).why.contains("version 1"));
        assert!(why(r#"{"v":1,"id":5,"verb":"frobnicate"}"#).why.contains("frobnicate"));
        assert!(why(r#"{"v":1,"id":5,"verb":"show","args":{"request":"no"}}"#).why.contains("request id"));
        assert!(why(r#"{"v":1,"id":5,"verb":"targets","also":1}"#).why.contains("also"));
    }

    proptest! {
        #[test]
        fn garbage_is_one_error(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read_call(&line).is_err());
        }

        #[test]
        fn shaped_garbage_never_panics(
            v in any::<i64>(), id in any::<i64>(), verb in "[a-z_]{0,12}|show|approve|decide|submit|replay", key in "[a-z_]{1,10}|request|session", value in any::<String>()
        ) {
            let line = serde_json::json!({ "v": v % 3, "id": id, "verb": verb, "args": { key: value } }).to_string();
            let _ = read_call(line.as_bytes());
        }
    }
}
