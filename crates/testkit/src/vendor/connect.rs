//! A proxy that is asked with CONNECT.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::lock;

/// A proxy on 127.0.0.1 that writes down what it is asked; it stops when dropped.
pub struct ConnectProxy {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ConnectProxy {
    /// Listens on a free port; answers every request with `status`, and passes bytes on where that is 200.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn listen(status: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move { drop(serve(stream, status, &noted).await) });
            }
        });
        Ok(Self { address, seen, task })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        lock(&self.seen).clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, status: u16, seen: &Mutex<Vec<String>>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head.split(' ').nth(1).context("a request has a target")?.to_owned();
    lock(seen).push(head);
    stream.write_all(format!("HTTP/1.1 {status} x\r\n\r\n").as_bytes()).await?;
    if status == 200 {
        let mut onwards = TcpStream::connect(&target).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut onwards).await?;
    }
    Ok(())
}
