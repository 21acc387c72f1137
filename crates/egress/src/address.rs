//! Which addresses a name may lead to.
//!
//! Who answers for an allowed name may answer with an address that only the guest can reach: that of its host, of a metadata
//! service, of a neighbour (DNS rebinding). A name therefore leads to addresses of the public internet alone. What is not, is
//! named by the special-purpose address registries of IANA (RFC 6890). A destination on a private network is allowed by its
//! address range, which no name server can change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ranges of IPv4 that are not globally reachable, or whose use is not that of hosts: first address, bits of the prefix.
pub(crate) const SPECIAL_V4: [(Ipv4Addr, u32); 18] = [
    // "This network" (RFC 791 section 3.2).
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Private use (RFC 1918).
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared address space of carriers (RFC 6598).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback (RFC 1122 section 3.2.1.3).
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link local, metadata services among them (RFC 3927).
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Of the host of an Azure machine, though the range is public: its agent's and metadata services.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Private use (RFC 1918).
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    // Protocol assignments (RFC 6890).
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation (RFC 5737).
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // AS112 (RFC 7535).
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    // Automatic multicast tunneling (RFC 7450).
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    // 6to4 relays (RFC 7526).
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Private use (RFC 1918).
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // AS112 (RFC 7534).
    (Ipv4Addr::new(192, 175, 48, 0), 24),
    // Benchmarking (RFC 2544), and the made-up addresses of this broker.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Documentation (RFC 5737).
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast (RFC 5771), and reserved (RFC 1112 section 4), limited broadcast among it.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The global unicast addresses of IPv6 (RFC 4291 section 2.4, and IANA's registry of it). All else is special: loopback,
/// mapped and translated IPv4, unique local, link local, multicast.
pub(crate) const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Ranges within them that are none of hosts, or lead to an IPv4 address that is not seen here.
pub(crate) const SPECIAL_V6: [(Ipv6Addr, u32); 5] = [
    // Protocol assignments: Teredo, benchmarking, ORCHID (RFC 2928).
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation (RFC 3849, RFC 9637).
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // 6to4 (RFC 3056).
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    // AS112 (RFC 7534).
    (Ipv6Addr::new(0x2620, 0x004f, 0x8000, 0, 0, 0, 0, 0), 48),
];

/// Whether an address is of a host on the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !SPECIAL_V4.iter().any(|(first, bits)| shares(address.to_bits(), first.to_bits(), *bits))
        }
        IpAddr::V6(address) => {
            let within = |(first, bits): &(Ipv6Addr, u32)| {
                let rest = 128_u32.saturating_sub(*bits);
                (address.to_bits() ^ first.to_bits()).checked_shr(rest).unwrap_or_default() == 0
            };
            within(&GLOBAL_V6) && !SPECIAL_V6.iter().any(within)
        }
    }
}

/// Whether two addresses are the same but for their last `rest` bits.
fn shares(one: u32, other: u32, bits: u32) -> bool {
    let rest = 32_u32.saturating_sub(bits);
    (one ^ other).checked_shr(rest).unwrap_or_default() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_public_internet_alone() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.114.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2000::",
            "2001:200::1",
            "2001:db9::1",
            "3ffe:ffff::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.1.1",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:1.1.1.1",
            "::1.1.1.1",
            "64:ff9b::1.1.1.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "2620:4f:8000::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }
}
