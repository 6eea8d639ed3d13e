//! A channel as a stream.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inbox::Inbox;
use super::item::Item;
use super::throttled::Sign;

type Taking = Pin<Box<dyn Future<Output = Option<Vec<Item>>> + Send>>;

/// A channel as a stream: what carries the inner server of a jump. Reads an [`Inbox`], writes through
/// a window-aware writer, and fails once the channel has ended (a writer that waits for window on a
/// closed channel is never woken by russh).
pub struct Tunnel<W> {
    inbox: Arc<Inbox>,
    writer: W,
    rest: Bytes,
    taking: Option<Taking>,
    ready: VecDeque<Bytes>,
    eof: bool,
    gone: Sign,
}

impl<W> std::fmt::Debug for Tunnel<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl<W> Tunnel<W> {
    pub fn new(inbox: Arc<Inbox>, writer: W) -> Self {
        let gone = {
            let inbox = inbox.clone();
            Sign::when(async move {
                inbox.gone().await;
            })
        };
        Self { inbox, writer, rest: Bytes::new(), taking: None, ready: VecDeque::new(), eof: false, gone }
    }
}

impl<W: Unpin> AsyncRead for Tunnel<W> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.rest.is_empty() {
                let count = self.rest.len().min(buffer.remaining());
                buffer.put_slice(&self.rest.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if let Some(next) = self.ready.pop_front() {
                self.rest = next;
                continue;
            }
            if self.eof {
                return Poll::Ready(Ok(()));
            }
            let inbox = self.inbox.clone();
            let taking = self.taking.get_or_insert_with(|| Box::pin(async move { inbox.take(256 * 1024).await }));
            let taken = ready!(taking.as_mut().poll(context));
            self.taking = None;
            let Some(items) = taken else {
                self.eof = true;
                continue;
            };
            for item in items {
                match item {
                    Item::Data(bytes) => self.ready.push_back(bytes.freeze()),
                    Item::Eof => self.eof = true,
                    // Nothing else has a meaning on a direct-tcpip channel.
                    _ => {}
                }
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Tunnel<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gone.is_given(context) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}
