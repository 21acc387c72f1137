//! Bytes from one side to the other.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Duration, timeout};

/// The most bytes of a ClientHello that are read. Post-quantum key shares take two kilobytes; one record holds 16 KiB.
pub(crate) const MAX_CLIENT_HELLO: usize = 16 * 1024;
/// How long the first bytes of a tunnel may take.
pub(crate) const FIRST_BYTES_LIMIT: Duration = Duration::from_secs(10);
/// The bytes that a direction of a tunnel holds while little comes.
const BUFFER: usize = 16 * 1024;
/// The most bytes that it holds. One that fills all that it has gets twice as much, and gives it back when nothing comes.
pub(crate) const MAX_BUFFER: usize = 128 * 1024;
/// The first byte of a TLS record that holds a handshake (RFC 8446 section 5.1). No request of HTTP begins with it.
pub(crate) const HANDSHAKE: u8 = 22;

/// A stream of which the first bytes were read already.
#[derive(Debug)]
pub(crate) struct Begun<S> {
    begin: Vec<u8>,
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Begun<S> {
    /// Reads the first byte; none, where the stream ends or the time is over.
    pub(crate) async fn first_byte(mut stream: S) -> Option<(u8, Self)> {
        let byte = timeout(FIRST_BYTES_LIMIT, stream.read_u8()).await.ok()?.ok()?;
        Some((byte, Self { begin: vec![byte], stream }))
    }
}

/// Reads a TLS ClientHello (RFC 8446 section 4.1.2) and the name in it (RFC 6066 section 3), as it stands there. None, where it
/// is none, has no name, or does not come in time.
pub(crate) async fn client_hello<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(Vec<u8>, String)> {
    let reading = async {
        let (mut acceptor, mut received) = (Acceptor::default(), Vec::new());
        let mut piece = [0; 4096];
        while received.len() < MAX_CLIENT_HELLO {
            let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            let mut fresh = piece.get(..read)?;
            received.extend_from_slice(fresh);
            while !fresh.is_empty() {
                acceptor.read_tls(&mut fresh).ok()?;
            }
            if let Some(accepted) = acceptor.accept().ok()? {
                let name = accepted.client_hello().server_name()?.to_owned();
                return Some((received, name));
            }
        }
        None
    };
    timeout(FIRST_BYTES_LIMIT, reading).await.ok()?
}

/// Carries bytes both ways until both sides have ended; where one has, the other may go on (half-close).
pub(crate) async fn splice<W, O>(workload: &mut W, outside: &mut O, begin: &[u8]) -> io::Result<()>
where
    W: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    outside.write_all(begin).await?;
    let (mut out, mut back) = (Direction::new(), Direction::new());
    poll_fn(|context| {
        let out = out.poll(context, workload, outside)?;
        let back = back.poll(context, outside, workload)?;
        ready!(out);
        back.map(Ok)
    })
    .await
}

/// What is carried one way.
#[derive(Debug)]
struct Direction {
    /// How many bytes the next piece may have.
    size: usize,
    /// Empty while nothing comes.
    buffer: Vec<u8>,
    /// The bytes of it that are read and not written yet.
    held: Range<usize>,
    is_flushed: bool,
    end: End,
}

/// How far the end of a direction has come.
#[derive(Debug)]
enum End {
    /// More may be read.
    No,
    /// All is read and written, and the other side is yet to be told.
    Read,
    /// The other side is told.
    Told,
}

impl Direction {
    fn new() -> Self {
        Self { size: BUFFER, buffer: Vec::new(), held: 0..0, is_flushed: true, end: End::No }
    }

    /// Carries what comes, until it ends.
    fn poll<R, W>(&mut self, context: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.end {
                End::No => {}
                End::Read => {
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.end = End::Told;
                }
                End::Told => return Poll::Ready(Ok(())),
            }
            while !self.held.is_empty() {
                let rest = self.buffer.get(self.held.clone()).unwrap_or_default();
                match ready!(Pin::new(&mut *to).poll_write(context, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.held.start = self.held.start.saturating_add(written),
                }
                self.is_flushed = false;
            }
            if self.buffer.len() < self.size {
                self.buffer = vec![0; self.size];
            }
            let mut piece = ReadBuf::new(&mut self.buffer);
            let Poll::Ready(read) = Pin::new(&mut *from).poll_read(context, &mut piece) else {
                (self.size, self.buffer) = (BUFFER, Vec::new());
                if !self.is_flushed {
                    ready!(Pin::new(&mut *to).poll_flush(context))?;
                    self.is_flushed = true;
                }
                return Poll::Pending;
            };
            read?;
            match piece.filled().len() {
                0 => (self.end, self.buffer) = (End::Read, Vec::new()),
                read => self.held = 0..read,
            }
            if self.held.end == self.size {
                self.size = MAX_BUFFER.min(self.size.saturating_mul(2));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.begin.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let length = this.begin.len().min(buffer.remaining());
        buffer.put_slice(this.begin.get(..length).unwrap_or_default());
        this.begin.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn bytes_go_both_ways_until_both_sides_have_ended() {
        let ((mut workload, mut near), (mut far, mut outside)) = (duplex(100_000), duplex(70_001));
        let carried = tokio::spawn(async move { splice(&mut near, &mut far, b"begin").await });
        let question = pattern(1_000_000);
        let (sent, got) = tokio::join!(
            async {
                workload.write_all(&question).await?;
                workload.shutdown().await
            },
            async {
                let mut got = Vec::new();
                outside.read_to_end(&mut got).await.map(|_| got)
            }
        );
        sent.unwrap();
        assert_eq!(got.unwrap(), [b"begin".as_slice(), &question].concat());
        // The one way has ended, and the other goes on.
        let answer = pattern(300_000);
        let asked = tokio::spawn(async move {
            let mut got = Vec::new();
            workload.read_to_end(&mut got).await.map(|_| got)
        });
        outside.write_all(&answer).await.unwrap();
        assert!(!carried.is_finished());
        drop(outside);
        assert_eq!(asked.await.unwrap().unwrap(), answer);
        carried.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_side_that_is_gone_ends_both_ways() {
        let ((mut workload, mut near), (mut far, outside)) = (duplex(64), duplex(64));
        drop(outside);
        workload.write_all(b"lost").await.unwrap();
        let error = splice(&mut near, &mut far, b"").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_direction_holds_more_the_more_comes_and_nothing_while_nothing_comes() {
        let ((mut workload, mut near), (mut far, outside)) = (duplex(1 << 20), duplex(1 << 20));
        let mut direction = Direction::new();
        let mut sizes = vec![];
        for length in [1, BUFFER, 3 * BUFFER, 40 * BUFFER] {
            workload.write_all(&pattern(length)).await.unwrap();
            let mut largest = 0;
            poll_fn(|context| {
                // As often as a piece is read, by a context that is never woken.
                let polled = direction.poll(context, &mut near, &mut Watched(&mut far, &mut largest));
                assert!(polled.is_pending());
                Poll::Ready(())
            })
            .await;
            assert!(direction.buffer.capacity() == 0, "{length} bytes have come and gone");
            sizes.push(largest);
        }
        assert_eq!(sizes, [1, BUFFER, 2 * BUFFER, MAX_BUFFER]);
        drop(outside);
    }

    /// A side that notes the largest piece that it gets.
    struct Watched<'a, S>(&'a mut S, &'a mut usize);

    impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let Self(side, largest) = self.get_mut();
            **largest = bytes.len().max(**largest);
            Pin::new(&mut **side).poll_write(context, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.get_mut().0).poll_flush(context)
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.get_mut().0).poll_shutdown(context)
        }
    }
}
