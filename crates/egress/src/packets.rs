//! What the kernel drops: told to a group of NFLOG (`linux/netfilter/nfnetlink_log.h`), read here, counted and recorded.
//!
//! To configure a group takes CAP_NET_ADMIN; to read what comes does not.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use confide_policy::egress::LogLevel;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{RecvFlags, recv};

use crate::error::EgressError;
use crate::netlink::{self, CHANGE, Message};
use crate::plan::LOG_GROUP;
use crate::record::{Asker, DropRecord, Reason, Records, Way};
use crate::watch::Side;

/// Bytes of a packet that the kernel passes on: the headers, with all options, of what is looked at.
const SNAPLEN: u32 = 128;
/// The subsystem `NFNL_SUBSYS_ULOG` (4) and its messages.
const NFULNL_MSG_PACKET: u16 = 4 << 8;
const NFULNL_MSG_CONFIG: u16 = (4 << 8) | 1;
/// `struct nfgenmsg`: family, version, group (big endian).
const GENERAL_HEAD: usize = 4;
const NFULA_CFG_CMD: u16 = 1;
const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULNL_COPY_PACKET: u8 = 2;
const NFULA_CFG_QTHRESH: u16 = 5;
const NFULA_CFG_FLAGS: u16 = 6;
const NFULNL_CFG_F_SEQ: u16 = 1;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_UID: u16 = 11;
const NFULA_SEQ: u16 = 12;
/// The largest message of NFLOG that is read, in bytes: `SNAPLEN` bytes of a packet and a dozen attributes take under 400.
const MAX_DATAGRAM: usize = 8192;

/// Is told what the rules of one network drop.
#[derive(Debug)]
pub(crate) struct PacketLog {
    socket: OwnedFd,
    side: Side,
}

impl PacketLog {
    /// Of this thread's network, from now on.
    pub(crate) fn open(side: Side) -> Result<Self, EgressError> {
        let fault = EgressError::system("hear of dropped packets");
        let configured = || {
            let socket = netlink::open(Some(NETFILTER), 0)?;
            for message in configuration() {
                netlink::exchange(&socket, &message)?;
            }
            Ok(socket)
        };
        Ok(Self { socket: configured().map_err(fault)?, side })
    }
}

/// Each packet in a message of its own, at once, with its first bytes and a number.
fn configuration() -> [Message; 4] {
    let message = |kind, value: &[u8]| {
        let head = [&[0, 0][..], &LOG_GROUP.to_be_bytes()].concat();
        Message::new(NFULNL_MSG_CONFIG, CHANGE, &head).with(kind, value)
    };
    // `struct nfulnl_msg_config_mode`: bytes to copy (big endian), mode, padding.
    let mode = [&SNAPLEN.to_be_bytes()[..], &[NFULNL_COPY_PACKET, 0]].concat();
    [
        message(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]),
        message(NFULA_CFG_MODE, &mode),
        message(NFULA_CFG_QTHRESH, &1_u32.to_be_bytes()),
        message(NFULA_CFG_FLAGS, &NFULNL_CFG_F_SEQ.to_be_bytes()),
    ]
}

/// What the rules have dropped. Clones share it.
#[derive(Clone, Debug)]
pub struct Packets(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    guest: AtomicU64,
    workload: AtomicU64,
    records: Records,
}

/// What the rules have dropped, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketStatus {
    /// Packets that were to leave the guest's own network, or to pass through it.
    pub guest: u64,
    /// Packets of the workload's network.
    pub workload: u64,
    /// Records that were not logged because there were too many.
    pub unlogged: u64,
    /// The latest records of both, oldest first: at most [`MAX_KEPT`](crate::record::MAX_KEPT).
    pub latest: Vec<DropRecord>,
}

impl Packets {
    /// Nothing yet, to be recorded as the policy says.
    #[must_use]
    pub fn new(level: LogLevel) -> Self {
        let (guest, workload) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Shared { guest, workload, records: Records::new(level) }))
    }

    /// How many packets of both networks.
    #[must_use]
    pub fn count(&self) -> u64 {
        let Shared { guest, workload, .. } = &*self.0;
        guest.load(Ordering::Relaxed).saturating_add(workload.load(Ordering::Relaxed))
    }

    /// What was dropped so far.
    #[must_use]
    pub fn status(&self) -> PacketStatus {
        let records = self.0.records.status();
        PacketStatus {
            guest: self.0.guest.load(Ordering::Relaxed),
            workload: self.0.workload.load(Ordering::Relaxed),
            unlogged: records.unlogged,
            latest: records.latest,
        }
    }

    /// Hears what is dropped, until that is no longer possible.
    pub(crate) fn hear(&self, logs: &[PacketLog]) -> EgressError {
        let fault = EgressError::system("hear of dropped packets");
        let mut sequences = vec![Sequence::default(); logs.len()];
        loop {
            let mut ends: Vec<PollFd<'_>> =
                logs.iter().map(|log| PollFd::new(&log.socket, PollFlags::IN)).collect();
            match poll(&mut ends, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return fault(error.into()),
            }
            let ready: Vec<bool> = ends.iter().map(|end| !end.revents().is_empty()).collect();
            for ((log, sequence), _) in logs.iter().zip(&mut sequences).zip(ready).filter(|(_, ready)| *ready)
            {
                if let Err(error) = self.read(log, sequence) {
                    return fault(error.into());
                }
            }
        }
    }

    fn read(&self, log: &PacketLog, sequence: &mut Sequence) -> Result<(), Errno> {
        let mut datagram = [0; MAX_DATAGRAM];
        let length = match recv(&log.socket, &mut datagram[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            // Lost messages have numbers, which the next one shows.
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        };
        for (kind, body) in netlink::messages(datagram.get(..length).unwrap_or_default()) {
            if kind == NFULNL_MSG_PACKET {
                let packet = Packet::read(body.get(GENERAL_HEAD..).unwrap_or_default());
                self.dropped(log.side, &packet, sequence.packets_up_to(packet.sequence));
            }
        }
        Ok(())
    }

    fn dropped(&self, side: Side, packet: &Packet<'_>, packets: u64) {
        let (count, way) = match side {
            Side::Guest => (&self.0.guest, Way::GuestPacket),
            Side::Workload => (&self.0.workload, Way::Packet),
        };
        count.fetch_add(packets, Ordering::Relaxed);
        let destination = PacketDestination::of(packet.payload);
        self.0.records.dropped(Reason::PacketDropped, &destination, None, Asker { way, uid: packet.uid });
    }
}

/// The numbers of the packets of one group, from which those are counted that nobody told.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    next: u32,
}

impl Sequence {
    /// How many packets there were since the last one that was told, up to and with this one.
    fn packets_up_to(&mut self, number: Option<u32>) -> u64 {
        let Some(number) = number else { return 1 };
        let missed = number.wrapping_sub(self.next);
        self.next = number.wrapping_add(1);
        // Two groups are read by no order but theirs: half of all numbers were never missed at once.
        if missed > u32::MAX / 2 { 1 } else { u64::from(missed) + 1 }
    }
}

/// What the kernel tells of a packet.
#[derive(Debug, Default)]
struct Packet<'a> {
    sequence: Option<u32>,
    /// Of whom it is; not of every packet.
    uid: Option<u32>,
    /// Its first bytes, from the network layer's header on.
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    fn read(attributes: &'a [u8]) -> Self {
        let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        let mut packet = Self::default();
        for (kind, value) in netlink::attributes(attributes) {
            match kind {
                NFULA_SEQ => packet.sequence = number(value),
                NFULA_UID => packet.uid = number(value),
                NFULA_PAYLOAD => packet.payload = value,
                _ => {}
            }
        }
        packet
    }
}

/// Where a packet was to go, as far as its first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PacketDestination {
    /// Address and number of the protocol.
    to: Option<(IpAddr, u8)>,
    /// Of TCP, UDP and SCTP, but for later pieces of packets.
    port: Option<u16>,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

impl PacketDestination {
    /// By the headers of RFC 791 section 3.1 and RFC 8200 section 3. Extension headers of IPv6 are not looked behind: their
    /// number stands in the protocol's place.
    fn of(packet: &[u8]) -> Self {
        let read = match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::v4(packet),
            Some(6) => Self::v6(packet),
            _ => None,
        };
        read.unwrap_or(Self { to: None, port: None })
    }

    fn v4(packet: &[u8]) -> Option<Self> {
        let length = usize::from(packet.first()? & 0xf) * 4;
        let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
        let protocol = *packet.get(9)?;
        let piece = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?) & 0x1fff;
        let port = if piece == 0 && length >= 20 { port(protocol, packet.get(length..)) } else { None };
        Some(Self { to: Some((Ipv4Addr::from(address).into(), protocol)), port })
    }

    fn v6(packet: &[u8]) -> Option<Self> {
        let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
        let protocol = *packet.get(6)?;
        let port = port(protocol, packet.get(40..));
        Some(Self { to: Some((Ipv6Addr::from(address).into(), protocol)), port })
    }
}

/// The destination port, which stands at the same place in all three protocols' headers.
fn port(protocol: u8, header: Option<&[u8]>) -> Option<u16> {
    let port = header?.get(2..4)?.try_into().ok().map(u16::from_be_bytes);
    port.filter(|_| matches!(protocol, TCP | UDP | SCTP))
}

impl Display for PacketDestination {
    /// `192.0.2.1:443/udp`, `2001:db8::1/icmpv6`, `192.0.2.1/47`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((address, protocol)) = self.to else { return f.write_str("unknown") };
        write!(f, "{address}")?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match protocol {
            ICMP => f.write_str("/icmp"),
            TCP => f.write_str("/tcp"),
            UDP => f.write_str("/udp"),
            ICMPV6 => f.write_str("/icmpv6"),
            SCTP => f.write_str("/sctp"),
            number => write!(f, "/{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of IPv4 with options of four bytes, and what follows.
    fn v4(protocol: u8, piece: u16, rest: &[u8]) -> Vec<u8> {
        let [high, low] = piece.to_be_bytes();
        let head =
            [0x46, 0, 0, 0, 0, 0, high, low, 64, protocol, 0, 0, 10, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0];
        [&head, rest].concat()
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let head = [0x60, 0, 0, 0, 0, 0, next, 64];
        let address = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        [&head[..], &[0; 16], &address, rest].concat()
    }

    const PORTS: [u8; 4] = [0x30, 0x39, 0x01, 0xbb];

    #[test]
    fn a_packet_says_where_it_was_to_go() {
        for (packet, expected) in [
            (v4(UDP, 0, &PORTS), "192.0.2.1:443/udp"),
            (v4(TCP, 0x4000, &PORTS), "192.0.2.1:443/tcp"),
            (v4(SCTP, 0, &PORTS), "192.0.2.1:443/sctp"),
            (v4(ICMP, 0, &[8, 0, 0, 0]), "192.0.2.1/icmp"),
            (v4(47, 0, &PORTS), "192.0.2.1/47"),
            // Of the first piece of a packet the ports are there; of a later one something else stands in their place.
            (v4(UDP, 0x2000, &PORTS), "192.0.2.1:443/udp"),
            (v4(UDP, 1, &PORTS), "192.0.2.1/udp"),
            (v6(TCP, &PORTS), "2001:db8::1:443/tcp"),
            (v6(ICMPV6, &PORTS), "2001:db8::1/icmpv6"),
            (v6(44, &PORTS), "2001:db8::1/44"),
            (vec![0x50; 60], "unknown"),
        ] {
            assert_eq!(PacketDestination::of(&packet).to_string(), expected);
            // Whatever is cut off, as much is said as is there.
            for length in 0..packet.len() {
                let said = PacketDestination::of(&packet[..length]).to_string();
                assert!(said == "unknown" || expected.starts_with(said.split('/').next().unwrap()), "{said}");
            }
        }
        // A header that says to be shorter than one can be.
        let mut short = v4(UDP, 0, &PORTS);
        short[0] = 0x41;
        assert_eq!(PacketDestination::of(&short).to_string(), "192.0.2.1/udp");
    }

    #[test]
    fn packets_of_which_nobody_told_are_counted() {
        let mut sequence = Sequence::default();
        let counted: Vec<u64> =
            [Some(0), Some(1), Some(5), None, Some(6)].map(|number| sequence.packets_up_to(number)).to_vec();
        assert_eq!(counted, [1, 1, 4, 1, 1]);
        let mut late = Sequence { next: u32::MAX };
        assert_eq!((late.packets_up_to(Some(u32::MAX)), late.packets_up_to(Some(1))), (1, 2));
        // A number from before is no gap of four thousand million.
        assert_eq!(late.packets_up_to(Some(0)), 1);
    }

    #[test]
    fn what_is_told_is_counted_for_its_network_and_recorded() {
        let packets = Packets::new(LogLevel::Drops);
        let payload = v4(UDP, 0, &PORTS);
        let told = Message::new(NFULNL_MSG_PACKET, 0, &[2, 0, 3, 0xde])
            .with(NFULA_SEQ, &2_u32.to_be_bytes())
            .with(NFULA_UID, &1000_u32.to_be_bytes())
            .with(NFULA_PAYLOAD, &payload);
        let (_, body) = netlink::messages(told.bytes()).next().unwrap();
        let packet = Packet::read(&body[GENERAL_HEAD..]);
        packets.dropped(Side::Workload, &packet, Sequence::default().packets_up_to(packet.sequence));
        packets.dropped(Side::Guest, &Packet::default(), 1);
        let status = packets.status();
        assert_eq!((status.workload, status.guest, packets.count()), (3, 1, 4));
        let [first, second] = &status.latest[..] else { panic!("{:?}", status.latest) };
        assert_eq!((first.destination.as_str(), first.way), ("192.0.2.1:443/udp", Way::Packet));
        assert_eq!(first.uid, Some(1000));
        assert_eq!((second.destination.as_str(), second.way), ("unknown", Way::GuestPacket));
        assert_eq!(second.reason.code(), "packet_dropped");
    }
}
