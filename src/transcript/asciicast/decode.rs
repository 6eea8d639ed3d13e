//! Lines to events.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Bytes64, EofText, KilledText, MAX_LINE, Opening, SignalText, Tally, Totals, VariableText, WithheldText};
use crate::transcript::event::{Event, Exit, PerStream, Stream};
use crate::transcript::header::{BadHeader, Header, VERSION};

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Milliseconds since the start.
    Event { ms: u64, event: Event },
    /// The last line.
    Totals(Box<Totals>),
    /// Half of a pair; the next line completes it.
    Half,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("it is longer than {MAX_LINE} bytes")]
    Long,
    #[error("it is not [seconds, code, text]: {0}")]
    Shape(String),
    #[error("it is no transcript of countersign: {0}")]
    Header(String),
    #[error(transparent)]
    Countersign(#[from] BadHeader),
    #[error("its time is out of order")]
    Time,
    #[error("{0:?} is not a code of this version")]
    Code(String),
    #[error("the text of its {0:?} is malformed")]
    Text(&'static str),
    #[error("it follows the totals")]
    AfterTotals,
    #[error("the totals say otherwise of the stream {0}: this transcript was changed")]
    Totals(Stream),
    #[error("the totals count {said} lines, there are {found}: this transcript was changed")]
    Lines { said: u64, found: u64 },
}

/// Reads a transcript line by line; checks its totals if it began at the beginning.
#[derive(Debug)]
pub struct Decoder {
    terminal: bool,
    last_ms: u64,
    pending: Option<Bytes64>,
    tallies: Option<PerStream<Tally>>,
    /// Since the first, the totals not among them.
    lines: u64,
    finished: bool,
}

/// Times beyond this many years of milliseconds are none of ours.
const MAX_MS: f64 = 100.0 * 366.0 * 86_400_000.0;

impl Decoder {
    /// Reads the first line.
    pub fn open(first: &[u8]) -> Result<(Self, Header), BadLine> {
        if first.len() > MAX_LINE {
            return Err(BadLine::Long);
        }
        let bad = |e: serde_json::Error| BadLine::Header(e.to_string());
        let value: Value = serde_json::from_slice(first).map_err(bad)?;
        // Players know objects only; a list would read as one here.
        let Some(own) = value.as_object().and_then(|object| object.get("countersign")).and_then(Value::as_object) else {
            return Err(BadLine::Header("it is no object with a countersign in it".into()));
        };
        // The version first: a later one may have fields that are unknown here (FC11).
        if let Some(version) = own.get("v").and_then(Value::as_u64).filter(|version| *version != u64::from(VERSION)) {
            return Err(BadHeader::Version(u32::try_from(version).unwrap_or(u32::MAX)).into());
        }
        let opening: Opening = serde_json::from_slice(first).map_err(bad)?;
        if opening.version != 2 {
            return Err(BadLine::Header(format!("asciicast version {}, not 2", opening.version)));
        }
        let header = opening.countersign.read()?;
        let tallies = Some(PerStream::default());
        Ok((Self { terminal: header.is_terminal(), last_ms: 0, pending: None, tallies, lines: 0, finished: false }, header))
    }

    /// Goes on at another place: the order of times begins anew, the totals are no longer checked.
    pub fn jump(&mut self) {
        self.last_ms = 0;
        self.pending = None;
        self.tallies = None;
        self.finished = false;
    }

    /// Whether the totals have come.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Reads any later line.
    pub fn line(&mut self, line: &[u8]) -> Result<Line, BadLine> {
        if self.finished {
            return Err(BadLine::AfterTotals);
        }
        if line.len() > MAX_LINE {
            return Err(BadLine::Long);
        }
        let (seconds, code, text): (f64, String, String) = serde_json::from_slice(line).map_err(|e| BadLine::Shape(e.to_string()))?;
        let ms = self.time(seconds)?;
        if code != "t" {
            self.lines += 1;
        }
        let pending = self.pending.take();
        if pending.is_some() && code != "o" {
            return Err(BadLine::Text("q"));
        }
        let event = match code.as_str() {
            "o" => self.drawn(pending, &text)?,
            "i" => self.bytes(Stream::Input, text.into_bytes()),
            "r" => {
                let size = text.split_once('x').and_then(|(cols, rows)| Some((number(cols)?, number(rows)?)));
                let (cols, rows) = size.ok_or(BadLine::Text("r"))?;
                Event::Resize { cols, rows }
            }
            "m" => Event::Marker { text },
            "x" => Event::Exit(Exit::Status(number(&text).ok_or(BadLine::Text("x"))?)),
            "q" => {
                self.pending = Some(own(&text, "q")?);
                return Ok(Line::Half);
            }
            "b" => {
                let raw: Bytes64 = own(&text, "b")?;
                let bytes = unbase64(raw.b64.as_deref().ok_or(BadLine::Text("b"))?, "b")?;
                self.bytes(stream(&raw.stream, "b")?, bytes)
            }
            "w" => {
                let withheld: WithheldText = own(&text, "w")?;
                let (stream, length, sha256) = (stream(&withheld.stream, "w")?, withheld.bytes, withheld.sha256);
                if let Some(tallies) = &mut self.tallies {
                    tallies.of_mut(stream).withhold(length, sha256);
                }
                Event::Withheld { stream, length, sha256 }
            }
            "f" => Event::Eof { stream: stream(&own::<EofText>(&text, "f")?.stream, "f")? },
            "k" => {
                let killed: KilledText = own(&text, "k")?;
                Event::Exit(Exit::Signal { name: killed.signal, core_dumped: killed.core_dumped, message: killed.message })
            }
            "s" => Event::Signal { name: own::<SignalText>(&text, "s")?.signal },
            "v" => {
                let variable: VariableText = own(&text, "v")?;
                Event::Environment { name: variable.name, value: variable.value }
            }
            "t" => return self.totals(own(&text, "t")?),
            _ => return Err(BadLine::Code(code.chars().take(16).collect())),
        };
        Ok(Line::Event { ms, event })
    }

    fn time(&mut self, seconds: f64) -> Result<u64, BadLine> {
        let ms = (seconds * 1000.0).round();
        if seconds < 0.0 || !(0.0..=MAX_MS).contains(&ms) {
            return Err(BadLine::Time);
        }
        // In range, so the conversion is exact.
        let ms = ms as u64;
        if ms < self.last_ms {
            return Err(BadLine::Time);
        }
        self.last_ms = ms;
        Ok(ms)
    }

    fn drawn(&mut self, really: Option<Bytes64>, text: &str) -> Result<Event, BadLine> {
        let (stream, b64) = match really {
            Some(really) => (stream(&really.stream, "q")?, really.b64),
            None => (Stream::Output, None),
        };
        let bytes = match b64 {
            Some(b64) => unbase64(&b64, "q")?,
            None if self.terminal => text.as_bytes().to_vec(),
            None => text.replace("\r\n", "\n").into_bytes(),
        };
        Ok(self.bytes(stream, bytes))
    }

    fn bytes(&mut self, stream: Stream, bytes: Vec<u8>) -> Event {
        if let Some(tallies) = &mut self.tallies {
            tallies.of_mut(stream).take(&bytes);
        }
        Event::Bytes { stream, bytes: Bytes::from(bytes) }
    }

    fn totals(&mut self, totals: Totals) -> Result<Line, BadLine> {
        if let Some(tallies) = &self.tallies {
            let differs = |stream: &Stream| tallies.of(*stream).total() != *totals.of(*stream);
            if let Some(stream) = Stream::ALL.into_iter().find(differs) {
                return Err(BadLine::Totals(stream));
            }
            if totals.lines != self.lines {
                return Err(BadLine::Lines { said: totals.lines, found: self.lines });
            }
        }
        self.finished = true;
        Ok(Line::Totals(Box::new(totals)))
    }
}

fn own<T: DeserializeOwned>(text: &str, code: &'static str) -> Result<T, BadLine> {
    let value: Value = serde_json::from_str(text).map_err(|_| BadLine::Text(code))?;
    // Lists would read as objects with their fields in order; they are not what the format says.
    let is_object = |value: &Value| value.is_object();
    let inner = ["in", "out", "err"].iter().filter_map(|stream| value.get(stream));
    let whole = is_object(&value) && inner.clone().all(is_object) && inner.filter_map(|total| total.get("withheld")).all(is_object);
    if whole { serde_json::from_str(text).map_err(|_| BadLine::Text(code)) } else { Err(BadLine::Text(code)) }
}

/// Decimal digits and nothing else: no sign, no space.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn stream(word: &str, code: &'static str) -> Result<Stream, BadLine> {
    Stream::parse(word).ok_or(BadLine::Text(code))
}

fn unbase64(text: &str, code: &'static str) -> Result<Vec<u8>, BadLine> {
    data_encoding::BASE64.decode(text.as_bytes()).map_err(|_| BadLine::Text(code))
}
