//! What happened on a channel, as a sequence of events, and the two forms in which it is kept: the
//! spool while a session lives ([`spool`], [`record`]) and the transcript afterwards ([`asciicast`]).
//!
//! Pure: bytes in, bytes out, no file and no clock. Both decoders are total: whatever they are given,
//! they neither panic nor allocate by a length that they have not checked.

pub mod asciicast;
pub mod envelope;
pub mod event;
pub mod expiry;
pub mod header;
pub mod manifest;
pub mod outcome;
pub mod record;
pub mod spool;

pub use event::{Event, Exit, Stream};
pub use header::Header;
pub use outcome::Outcome;
