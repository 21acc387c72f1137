//! Outgoing connections.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// The network that connections go out to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Network {
    /// That of this machine.
    #[default]
    System,
    /// A made-up internet: who listens on this machine for which address. Nobody is at any other.
    #[cfg(test)]
    MadeUp(std::collections::HashMap<SocketAddr, SocketAddr>),
}

impl Network {
    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let to = match self {
            Self::System => to,
            #[cfg(test)]
            Self::MadeUp(hosts) => *hosts.get(&to).ok_or(io::ErrorKind::HostUnreachable)?,
        };
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
