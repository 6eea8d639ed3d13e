//! What a person types while something runs, and text to where they read it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the person types.
#[derive(Debug)]
pub struct Keys<I> {
    input: I,
    open: bool,
}

impl<I: AsyncRead + Unpin> Keys<I> {
    pub fn new(input: I) -> Self {
        Self { input, open: true }
    }

    /// Returns the next byte; never, once the input has ended (`ssh -n` begins that way).
    pub async fn pressed(&mut self) -> u8 {
        if self.open {
            match self.input.read_u8().await {
                Ok(key) => return key,
                Err(_) => self.open = false,
            }
        }
        std::future::pending().await
    }

    /// Returns when the person wants no more: q, Ctrl-C or Ctrl-D.
    pub async fn interrupted(&mut self) {
        while !matches!(self.pressed().await, b'q' | 0x03 | 0x04) {}
    }

    /// Reads all that is typed or piped in, up to and including one byte more than `most`.
    pub async fn all(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut input = (&mut self.input).take(u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1));
        input.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}

/// Text to a stream; on a terminal in raw mode a new line needs its carriage return.
#[derive(Debug)]
pub struct Text<O> {
    to: O,
    raw_terminal: bool,
}

impl<O: AsyncWrite + Unpin> Text<O> {
    pub fn new(to: O, raw_terminal: bool) -> Self {
        Self { to, raw_terminal }
    }

    pub async fn say(&mut self, text: &str) -> std::io::Result<()> {
        match self.raw_terminal {
            true => self.bytes(text.replace('\n', "\r\n").as_bytes()).await,
            false => self.bytes(text.as_bytes()).await,
        }
    }

    /// Writes bytes as they are.
    pub async fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.to.write_all(bytes).await?;
        self.to.flush().await
    }
}
