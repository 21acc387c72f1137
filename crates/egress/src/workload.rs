//! The workload's network: a loopback device, to which every address is local, rules, and the egress broker's sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::namespace::NetworkThread;
use crate::netlink::{self, CREATE, Message};
use crate::nft;
use crate::owner;
use crate::plan::{LISTENERS, PROXY_PORT, Ruleset};
use crate::process::{Handed, Purpose};

/// The loopback device is the first of every network (`LOOPBACK_IFINDEX` in the kernel).
const LOOPBACK: u32 = 1;
const RTM_NEWROUTE: u16 = 24;
const RTA_OIF: u16 = 4;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;

/// Makes such a network with these rules.
pub(crate) fn open(rules: &Ruleset) -> io::Result<(NetworkThread, Vec<Handed>)> {
    let network = NetworkThread::start("workload")?;
    let rules = rules.clone();
    let handed = network.run(move || set_up(&rules))??;
    Ok((network, handed))
}

/// Sets up this thread's network: the rules first, so that nothing was ever let through.
fn set_up(rules: &Ruleset) -> io::Result<Vec<Handed>> {
    nft::load(rules)?;
    let routes = netlink::open(None, 0)?;
    netlink::exchange(&routes, &netlink::up(LOOPBACK))?;
    let mut handed = vec![(Purpose::Owners, owner::open()?)];
    for (family, loopback) in families()? {
        netlink::exchange(&routes, &everything(family))?;
        let redirected = TcpListener::bind((loopback, LISTENERS.tcp))?;
        let names = UdpSocket::bind((loopback, LISTENERS.dns))?;
        let proxy = TcpListener::bind((loopback, PROXY_PORT))?;
        handed.push((Purpose::Redirected, redirected.into()));
        handed.push((Purpose::Names, names.into()));
        handed.push((Purpose::Proxy, proxy.into()));
    }
    Ok(handed)
}

/// IPv4, and IPv6 unless the kernel was started without it: then nobody can speak it.
fn families() -> io::Result<Vec<(AddressFamily, IpAddr)>> {
    let mut families = vec![(AddressFamily::INET, Ipv4Addr::LOCALHOST.into())];
    match socket(AddressFamily::INET6, SocketType::DGRAM, None) {
        Ok(_) => families.push((AddressFamily::INET6, Ipv6Addr::LOCALHOST.into())),
        Err(rustix::io::Errno::AFNOSUPPORT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(families)
}

/// `local default dev lo`. `struct rtmsg`: family, lengths of both prefixes, type of service, table, protocol, scope, type, flags.
fn everything(family: AddressFamily) -> Message {
    // Families of addresses are numbered up to 46.
    let family = family.as_raw().to_le_bytes().first().copied().unwrap_or_default();
    let head = [family, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0];
    Message::new(RTM_NEWROUTE, CREATE, &head).with(RTA_OIF, &LOOPBACK.to_ne_bytes())
}
