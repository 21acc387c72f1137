//! Where a connection was meant to go that the kernel led to another place.

use std::io;
use std::net::SocketAddr;

use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use tokio::net::TcpStream;

/// The destination of a connection before netfilter redirected it (`SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST` of Linux).
///
/// # Errors
/// Where the kernel does not know the connection: it was not redirected.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let meant = match stream.local_addr()? {
        SocketAddr::V4(_) => SocketAddr::V4(ip_original_dst(stream)?),
        SocketAddr::V6(_) => SocketAddr::V6(ipv6_original_dst(stream)?),
    };
    Ok(meant)
}
