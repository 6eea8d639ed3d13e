//! How the node and the pen speak: one stream, frames of a length and canonical JSON, each with a number that
//! its answer repeats.
//!
//! Both ends take the other for hostile. A frame has a bound, what does not read back to the same bytes is
//! refused, and a frame that has begun has to end within a deadline.

use std::net::IpAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::evidence;
use crate::access::canonical::{self, NotCanonical};
use crate::access::endpoint::Endpoint;
use crate::id::{Digest, Login, Person, SessionId, TargetId};
use crate::time::Timestamp;

pub const VERSION: u64 = 1;
/// The longest frame: evidence in base 64, twice, and a command.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;
/// From the first byte of a frame to its last, and for writing one.
pub const WITHIN: Duration = Duration::from_secs(10);

/// From the node to the pen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskFrame {
    pub v: u64,
    pub id: u64,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A certificate for one session.
    Session(Box<SessionAsk>),
    /// A certificate that opens nothing, for `ca check`.
    Probe(ProbeAsk),
    /// The policies are to be read again, and should be these.
    Reread(Digest),
}

/// What a session's certificate is asked for with. The pen takes nothing of it on trust but who has proven
/// their key on the connection, the address that the target sees, and whether they were there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionAsk {
    pub session: SessionId,
    /// 63 bits in decimal: JSON's numbers end before.
    pub serial: String,
    /// The public half of the key that was made for this certificate, one line.
    pub subject: String,
    pub person: Person,
    /// The key that they have proven, one line.
    pub key: String,
    /// The certificate that it came in, one line.
    pub certificate: Option<String>,
    /// Where they come from.
    pub source: IpAddr,
    pub second_factor: bool,
    pub first_time: bool,
    pub target: TargetId,
    pub pin: Digest,
    pub login: Login,
    /// `shell`, `exec`, `sftp`, `forward-local` or `forward-remote`
    pub want: String,
    /// The bytes of an exec's command.
    #[serde(with = "maybe_b64", rename = "command_b64")]
    pub command: Option<Vec<u8>>,
    /// Where a forward leads or listens.
    pub endpoint: Option<Endpoint>,
    /// Whether the client's agent goes with what is started.
    pub agent: bool,
    /// Whether the certificate is to carry the command.
    pub exact: bool,
    pub pty: bool,
    #[serde(rename = "opened_us")]
    pub opened: Timestamp,
    #[serde(rename = "ends_us")]
    pub ends: Option<Timestamp>,
    /// The address that the target sees.
    pub seen_from: IpAddr,
    /// The set that the node ruled by.
    pub policy: Digest,
    #[serde(with = "canonical::b64", rename = "evidence_b64")]
    pub evidence: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeAsk {
    /// `login`, `clock` or `plain`
    pub asks: String,
    pub principal: String,
    pub serial: String,
    pub subject: String,
    pub by: String,
    pub seen_from: IpAddr,
}

/// From the pen to the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerFrame {
    pub v: u64,
    /// Of the ask; 0 is the pen's own word, at its start and where no ask could be read.
    pub id: u64,
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ready(Ready),
    /// One line.
    Signed(String),
    Refused(String),
}

/// What a pen is, once it has locked itself in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The CA's public half, one line.
    pub ca: String,
    /// Whether the kernel keeps it from all files but its own.
    pub landlock: bool,
    /// The policies that it has read.
    pub policy: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("a frame of {0} bytes, more than {MAX_FRAME}")]
    TooLong(usize),
    #[error("a frame that cannot be read")]
    Form(#[from] NotCanonical),
    #[error("a frame of version {0}")]
    Version(u64),
    #[error("a frame that did not end in time")]
    Late,
    #[error("the other end cannot be spoken to")]
    Io(#[from] std::io::Error),
}

impl WireError {
    /// Whether the next frame can still be found.
    pub fn is_of_one_frame(&self) -> bool {
        match self {
            WireError::TooLong(_) | WireError::Form(_) | WireError::Version(_) => true,
            WireError::Late | WireError::Io(_) => false,
        }
    }
}

/// What has a version.
pub trait Frame: Serialize + DeserializeOwned {
    fn version(&self) -> u64;
}

impl Frame for AskFrame {
    fn version(&self) -> u64 {
        self.v
    }
}

impl Frame for AnswerFrame {
    fn version(&self) -> u64 {
        self.v
    }
}

/// Reads the next frame; `None` once the other end is gone. Waits for its beginning without end.
pub async fn read<F: Frame>(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<F>, WireError> {
    let mut first = [0; 1];
    if from.read(&mut first).await? == 0 {
        return Ok(None);
    }
    timeout(WITHIN, rest(first, from)).await.map_err(|_| WireError::Late)?.map(Some)
}

async fn rest<F: Frame>([first]: [u8; 1], from: &mut (impl AsyncRead + Unpin)) -> Result<F, WireError> {
    let mut more = [0; 3];
    from.read_exact(&mut more).await?;
    let [second, third, fourth] = more;
    let length = usize::try_from(u32::from_be_bytes([first, second, third, fourth])).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        discard(from, length).await?;
        return Err(WireError::TooLong(length));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    let frame: F = canonical::decode_within(&bytes, MAX_FRAME)?;
    if frame.version() == VERSION { Ok(frame) } else { Err(WireError::Version(frame.version())) }
}

/// Reads over what is too long to be kept, so that the next frame is found.
async fn discard(from: &mut (impl AsyncRead + Unpin), mut left: usize) -> Result<(), WireError> {
    let mut scratch = vec![0; 64 * 1024];
    while left > 0 {
        let most = left.min(scratch.len());
        let n = from.read(scratch.get_mut(..most).unwrap_or_default()).await?;
        if n == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        left = left.saturating_sub(n);
    }
    Ok(())
}

pub async fn write<F: Frame>(frame: &F, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), WireError> {
    let body = canonical::encode(frame);
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME).ok_or(WireError::TooLong(body.len()))?;
    let bytes = [&length.to_be_bytes()[..], &body].concat();
    timeout(WITHIN, to.write_all(&bytes)).await.map_err(|_| WireError::Late)??;
    Ok(())
}

/// A byte string that may be missing.
mod maybe_b64 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| data_encoding::BASE64.encode(bytes)).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|text| data_encoding::BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)).transpose()
    }
}

const _: () = assert!(evidence::MAX_BYTES * 4 / 3 + 256 * 1024 < MAX_FRAME, "evidence fits into a frame");

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
    }

    #[tokio::test]
    async fn a_bad_frame_is_one_frame_and_the_next_is_read() {
        let good = AskFrame { v: VERSION, id: 7, ask: Ask::Reread(Digest([1; 32])) };
        let canonical = canonical::encode(&good);
        let spaced = [b" ".as_slice(), &canonical].concat();
        let old = canonical::encode(&AskFrame { v: 2, ..good.clone() });
        for bad in [b"garbage".as_slice(), b"", b"{}", &[0xff; 300], &spaced, &old, &vec![b'['; 100_000], &vec![b' '; MAX_FRAME + 1]] {
            let stream = [framed(bad), framed(&canonical)].concat();
            let mut from = &stream[..];
            let refused = read::<AskFrame>(&mut from).await.unwrap_err();
            assert!(refused.is_of_one_frame(), "{refused}");
            assert_eq!(read::<AskFrame>(&mut from).await.unwrap().as_ref(), Some(&good));
            assert!(read::<AskFrame>(&mut from).await.unwrap().is_none());
        }
    }
}
