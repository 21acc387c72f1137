//! As little HTTP/1.1 as a load generator needs, so that it costs little beside what it measures.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One connection, its requests one after the other.
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Sends a request and reads its whole answer, whose body is returned as it came: chunks and all.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.read.clear();
        let head = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let fields = std::str::from_utf8(self.read.get(..head).unwrap_or_default())?;
        let status = fields.lines().next().unwrap_or_default();
        ensure!(status.split(' ').nth(1) == Some("200"), "{status}");
        let length = field(fields, "content-length").map(str::parse::<usize>).transpose()?;
        let chunked = field(fields, "transfer-encoding").is_some();
        match (length, chunked) {
            (Some(length), false) => {
                while self.read.len() < head + length {
                    self.more().await?;
                }
            }
            // Small answers without a trailer: nothing else ends so.
            (None, true) => {
                while !self.read.ends_with(b"\r\n0\r\n\r\n") {
                    self.more().await?;
                }
            }
            _ => bail!("an answer of unknown length"),
        }
        self.read.get(head..).context("a body")
    }

    async fn more(&mut self) -> Result<()> {
        self.read.reserve(16 * 1024);
        ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the connection ended within an answer");
        Ok(())
    }
}

/// A request with a body.
pub(crate) fn post(path: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
