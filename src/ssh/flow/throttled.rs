//! A transport that answers to pressure, can be cut, and gives up a peer that does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::inbox::Pressure;

/// Ends a connection from outside: every read and write of its stream fails at once. The connection ends
/// too when the last `Cut` is dropped: nobody could end it any more.
#[derive(Debug, Clone)]
pub struct Cut(Arc<watch::Sender<bool>>);

impl Default for Cut {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cut {
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    fn made(&self) -> Sign {
        let mut cut = self.0.subscribe();
        Sign::when(async move {
            let _ = cut.wait_for(|cut| *cut).await;
        })
    }
}

/// Something that happens once and stays true, to be looked at from `poll` functions.
pub(super) struct Sign(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Sign {
    pub(super) fn when(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }

    pub(super) fn is_given(&mut self, context: &mut Context<'_>) -> bool {
        let given = self.0.as_mut().is_none_or(|future| future.as_mut().poll(context).is_ready());
        if given {
            self.0 = None;
        }
        given
    }
}

/// How long a peer may leave our bytes unread before the connection is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(600);
/// Bytes read ahead of russh: little while a connection idles, much while it streams.
const AHEAD_IDLE: usize = 4 * 1024;
const AHEAD_BUSY: usize = 128 * 1024;
/// Reads below this count as a trickle.
const TRICKLE: usize = 2 * 1024;

/// How a stream answers to pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Space out tiny reads: the client trickles two bytes a round trip meanwhile.
    Pace,
    /// Do not read at all.
    Gate,
}

/// A transport under pressure control, with a write deadline and a [`Cut`].
pub struct Throttled<S> {
    stream: S,
    pressure: Arc<Pressure>,
    answer: Answer,
    cut: Sign,
    /// What was read ahead: russh asks for four bytes, then for the rest of one packet.
    ahead: Vec<u8>,
    used: usize,
    filled: usize,
    /// What the last read brought.
    last: usize,
    pause: Option<Pin<Box<Sleep>>>,
    trickling_since: Option<Instant>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> std::fmt::Debug for Throttled<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttled").field("answer", &self.answer).finish_non_exhaustive()
    }
}

impl<S> Throttled<S> {
    /// For a connection from a client.
    pub fn paced(stream: S, pressure: Arc<Pressure>, cut: &Cut) -> Self {
        Self::new(stream, pressure, cut, Answer::Pace)
    }

    /// For a connection to a target: our writes and its event loop go on while it is not read.
    pub fn gated(stream: S, pressure: Arc<Pressure>, cut: &Cut) -> Self {
        Self::new(stream, pressure, cut, Answer::Gate)
    }

    fn new(stream: S, pressure: Arc<Pressure>, cut: &Cut, answer: Answer) -> Self {
        Self {
            stream,
            pressure,
            answer,
            cut: cut.made(),
            ahead: vec![0; AHEAD_IDLE],
            used: 0,
            filled: 0,
            last: 0,
            pause: None,
            trickling_since: None,
            stalled: None,
        }
    }

    /// Ready when reading may go on.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.pressure.is_tight() {
            self.pause = None;
            self.trickling_since = None;
            return Poll::Ready(());
        }
        self.pressure.wake_when_eased(context.waker());
        if !self.pressure.is_tight() {
            return Poll::Ready(());
        }
        match (self.answer, &mut self.pause) {
            (Answer::Gate, _) => Poll::Pending,
            (Answer::Pace, Some(pause)) => {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
                Poll::Ready(())
            }
            (Answer::Pace, None) => Poll::Ready(()),
        }
    }

    /// After a read of `count` bytes under pressure: how long until the next.
    fn pace(&mut self, count: usize) {
        if self.answer == Answer::Gate || !self.pressure.is_tight() {
            return;
        }
        if count >= TRICKLE {
            self.trickling_since = None;
            return;
        }
        let now = Instant::now();
        let since = *self.trickling_since.get_or_insert(now);
        let pause = match now.duration_since(since).as_millis() {
            0..1000 => Duration::from_millis(1),
            1000..60_000 => Duration::from_millis(10),
            _ => Duration::from_millis(100),
        };
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
    }

    /// Passes a write's result on, giving up a peer that has read nothing for [`WRITE_DEADLINE`].
    fn deadline<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        if self.cut.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_DEADLINE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> Throttled<S> {
    /// Fills the read-ahead from the transport, when pressure lets it.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gate(context));
        let mut buffer = ReadBuf::new(&mut self.ahead);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        (self.used, self.filled, self.last) = (0, count, count);
        self.pace(count);
        Poll::Ready(Ok(()))
    }

    /// Between two reads: makes room for a stream, gives it back when there is none.
    fn resize_ahead(&mut self) {
        if self.last == self.ahead.len() && self.last < AHEAD_BUSY {
            self.ahead = vec![0; AHEAD_BUSY];
        } else if self.last < AHEAD_IDLE / 4 && self.ahead.len() > AHEAD_IDLE {
            self.ahead = vec![0; AHEAD_IDLE];
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttled<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.used == self.filled {
            self.resize_ahead();
            ready!(self.poll_ahead(context))?;
        }
        let rest = self.ahead.get(self.used..self.filled).unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        self.used += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.deadline(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.deadline(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.deadline(context, result)
    }
}
