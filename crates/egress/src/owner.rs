//! Whose a connection or a question of the workload's is: the kernel tells the user of a socket (sock_diag(7)).
//!
//! It is asked by a socket of the workload's network, which the guest opens there and hands to the broker. To ask takes no privilege;
//! to end other users' connections by the same socket does, and the broker has none. Which of a user's processes holds a socket is
//! in the tables of their descriptors alone, and to read those of others takes CAP_SYS_PTRACE, which nobody keeps.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use confide_policy::egress::Transport;
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, recv, send};

use crate::netlink::{self, Message};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// Every state, and a socket by its addresses alone (`INET_DIAG_NOCOOKIE`).
const ANY: u32 = u32::MAX;
/// The largest answer that is read, in bytes: `struct inet_diag_msg` and what a kernel tells beside it take under 200.
const MAX_OWNER_ANSWER: usize = 1024;

/// Offsets into `struct inet_diag_msg`: family, state, timer, retransmissions, then `struct inet_diag_sockid` (both ports, both
/// addresses, device, cookie), expiry and two queues, user, inode.
const OWN_PORT: usize = 4;
const OTHER_PORT: usize = 6;
const USER: usize = 64;
const INODE: usize = 68;

/// A socket of this thread's network, by which [`Owners`] ask.
pub(crate) fn open() -> io::Result<OwnedFd> {
    netlink::open(Some(SOCK_DIAG), 0)
}

/// Tells whose sockets of a network are.
#[derive(Debug)]
pub(crate) struct Owners(Mutex<OwnedFd>);

impl Owners {
    /// Those of the network in which the socket was [opened](open).
    pub(crate) fn of(socket: OwnedFd) -> Self {
        Self(Mutex::new(socket))
    }

    /// The user of the socket at `own` that speaks with `other`; `None` where nobody holds it any more, or the kernel does not tell.
    pub(crate) fn user(&self, transport: Transport, own: SocketAddr, other: SocketAddr) -> Option<u32> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        send(&*socket, question(transport, own, other).bytes(), SendFlags::empty()).ok()?;
        // The answer is there when the question was taken. What is left of an earlier one is not taken for it.
        let (mut answer, mut user) = ([0; MAX_OWNER_ANSWER], None);
        while let Ok((length, _)) = recv(&*socket, &mut answer[..], RecvFlags::DONTWAIT) {
            let answer = answer.get(..length).unwrap_or_default();
            user = netlink::messages(answer)
                .filter(|(kind, _)| *kind == SOCK_DIAG_BY_FAMILY)
                .find_map(|(_, body)| held(body, transport, own, other));
        }
        user
    }
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, and the socket.
fn question(transport: Transport, own: SocketAddr, other: SocketAddr) -> Message {
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let family = family.as_raw().to_le_bytes()[0];
    // A datagram's ends stand the other way around (`udp_dump_one` in the kernel).
    let (protocol, [first, second]) = match transport {
        Transport::Tcp => (IPPROTO_TCP, [own, other]),
        Transport::Udp => (IPPROTO_UDP, [other, own]),
    };
    let ports = [first, second].map(|end| end.port().to_be_bytes()).concat();
    let addresses = [first, second].map(|end| address(end.ip())).concat();
    let head = [[family, protocol, 0, 0], ANY.to_ne_bytes()].concat();
    let device_and_cookie = [0, ANY, ANY].map(u32::to_ne_bytes).concat();
    Message::new(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, &[head, ports, addresses, device_and_cookie].concat())
}

fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The user of the socket that an answer is about, if it is the one that was asked for and somebody holds it: what was closed, and
/// waits for its last packets, has no inode and root for its user.
fn held(answer: &[u8], transport: Transport, own: SocketAddr, other: SocketAddr) -> Option<u32> {
    let port = |at: usize| answer.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let number = |at: usize| answer.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    // Where the kernel finds no connection it tells of who listens at the port. A socket of datagrams may be anybody's partner.
    let partner = port(OTHER_PORT)?;
    let is_meant = partner == other.port() || (transport == Transport::Udp && partner == 0);
    (port(OWN_PORT)? == own.port() && is_meant && number(INODE)? != 0).then(|| number(USER))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::far_side::NOT_TESTABLE;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn owners() -> Owners {
        Owners::of(open().unwrap())
    }

    fn own_user() -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    /// Whether this kernel tells at all.
    fn tells(owners: &Owners, transport: Transport, own: SocketAddr, anybody: SocketAddr) -> bool {
        let tells = owners.user(transport, own, anybody).is_some();
        if !tells {
            println!("{NOT_TESTABLE}whose a socket is: the kernel has no tcp_diag or udp_diag");
        }
        tells
    }

    #[test]
    fn a_connection_is_of_who_holds_its_other_end_and_of_nobody_else() {
        let owners = owners();
        for (loopback, unspecified) in [("127.0.0.1:0", "0.0.0.0:0"), ("[::1]:0", "[::]:0")] {
            let Ok(listener) = TcpListener::bind(loopback) else {
                println!("not run: connections of {loopback}: no such address here");
                continue;
            };
            let (at, anybody) = (listener.local_addr().unwrap(), unspecified.parse().unwrap());
            if !tells(&owners, Transport::Tcp, at, anybody) {
                return;
            }
            let client = TcpStream::connect(at).unwrap();
            let (taken, from) = listener.accept().unwrap();
            assert_eq!(owners.user(Transport::Tcp, from, at), own_user());
            // There is no connection between these two, and who listens at the one is not who connected.
            assert_eq!(owners.user(Transport::Tcp, at, SocketAddr::new(at.ip(), 9)), None);
            assert_eq!(owners.user(Transport::Tcp, from, SocketAddr::new(at.ip(), 9)), None);
            drop(client);
            assert_eq!(owners.user(Transport::Tcp, from, at), None, "it was closed");
            drop(taken);
        }
    }

    #[test]
    fn a_question_is_of_who_holds_the_socket_that_it_came_from() {
        let owners = owners();
        let server = SocketAddr::from(([127, 0, 0, 1], 53));
        let open = UdpSocket::bind("0.0.0.0:0").unwrap();
        let from = |socket: &UdpSocket| SocketAddr::new(server.ip(), socket.local_addr().unwrap().port());
        if !tells(&owners, Transport::Udp, from(&open), server) {
            return;
        }
        assert_eq!(owners.user(Transport::Udp, from(&open), server), own_user());
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect(server).unwrap();
        assert_eq!(owners.user(Transport::Udp, from(&connected), server), own_user());
        assert_eq!(owners.user(Transport::Udp, from(&connected), SocketAddr::new(server.ip(), 54)), None);
        let closed = from(&open);
        drop(open);
        assert_eq!(owners.user(Transport::Udp, closed, server), None);
    }

    #[test]
    fn an_answer_about_another_socket_or_a_closed_one_tells_nothing() {
        let (own, other) = ("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:443".parse().unwrap());
        let answer = |ports: [u16; 2], inode: u32| {
            let ports = ports.map(u16::to_be_bytes).concat();
            let numbers = [1000, inode].map(u32::to_ne_bytes).concat();
            [&[2, 1, 0, 0][..], &ports, &[0; 56], &numbers].concat()
        };
        let (tcp, udp) = (Transport::Tcp, Transport::Udp);
        for (transport, ports, inode, user) in [
            (tcp, [40000, 443], 7, Some(1000)),
            (udp, [40000, 443], 7, Some(1000)),
            (udp, [40000, 0], 7, Some(1000)),
            (tcp, [40000, 0], 7, None),
            (tcp, [40001, 443], 7, None),
            (tcp, [40000, 443], 0, None),
        ] {
            let answer = answer(ports, inode);
            assert_eq!(held(&answer, transport, own, other), user, "{transport:?} {ports:?} {inode}");
            for length in 0..answer.len() {
                assert_eq!(held(&answer[..length], transport, own, other), None, "{length}");
            }
        }
    }
}
