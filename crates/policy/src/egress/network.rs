//! Networks of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The shortest prefix of an IPv4 network, in bits: a larger part of the Internet is no list of who may be talked to.
const MIN_PREFIX_V4: u8 = 8;
/// The shortest prefix of an IPv6 network, in bits: registries hand out networks of 12 bits to regions and of 19 and more to
/// providers.
const MIN_PREFIX_V6: u8 = 16;

/// What no rule may reach, with what it is: the guest itself, nobody in particular, or another spelling of IPv4.
const NEVER: [(IpAddr, u8, &str); 10] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, "this network (RFC 1122 section 3.2.1.3)"),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, "loopback (RFC 1122 section 3.2.1.3)"),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4, "multicast (RFC 1112 section 4)"),
    (IpAddr::V4(Ipv4Addr::new(240, 0, 0, 0)), 4, "reserved (RFC 1112 section 4)"),
    // Also ::1 and ::, and the IPv4-compatible addresses (RFC 4291 section 2.5.5.1).
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 96, "loopback or an IPv4 address (RFC 4291 section 2.5)"),
    (
        IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)),
        96,
        "an IPv4 address (RFC 4291 section 2.5.5.2)",
    ),
    (IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), 96, "an IPv4 address (RFC 6052 section 2.1)"),
    (IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0)), 48, "an IPv4 address (RFC 8215 section 5)"),
    (IpAddr::V6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0)), 16, "an IPv4 address (RFC 3056 section 2)"),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, "multicast (RFC 4291 section 2.7)"),
];

/// A network in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3) whose bits behind the prefix are zero. It reaches
/// neither the guest itself nor groups, and does not write IPv4 addresses as IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `192.0.2.0/24` or `2001:db8::/32`.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let malformed = || format!("{shown:?} is no network: expected ADDRESS/PREFIX, such as 192.0.2.0/24");
        let (address, digits) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = digits.parse().map_err(|_| malformed())?;
        let (least, most) = match address {
            IpAddr::V4(_) => (MIN_PREFIX_V4, 32),
            IpAddr::V6(_) => (MIN_PREFIX_V6, 128),
        };
        if prefix < least {
            return Err(format!("{shown} is too large a network: its prefix has at least {least} bits"));
        }
        let network = Self { address, prefix };
        // The one spelling: no zeros in front, no capitals, the longest run of zeros left out (RFC 5952).
        if prefix > most || network.to_string() != text {
            return Err(malformed());
        }
        if mask(address, prefix) != bits(address) {
            return Err(format!("{shown} has bits behind its prefix: write the address of the network"));
        }
        let never = NEVER.iter().find(|(address, prefix, _)| {
            let never = Self { address: *address, prefix: *prefix };
            never.contains(&network) || network.contains(&never)
        });
        match never {
            Some((.., what)) => Err(format!("{shown} reaches what no rule may name: {what}")),
            None => Ok(network),
        }
    }

    /// Whether an address is in the network. An IPv4 address that is written as IPv6 counts as what it is.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        self.contains(&Self { address, prefix: most })
    }

    /// Whether every address of `other` is one of these.
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.prefix <= other.prefix
            && mask(other.address, self.prefix) == bits(self.address)
    }

    /// The network's address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The bits of its prefix.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

/// An address as a number whose highest bit is the address's first.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first bits of an address.
fn mask(address: IpAddr, prefix: u8) -> u128 {
    let behind = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    bits(address) & !behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_one_spelling() {
        for text in [
            "192.0.2.0/24",
            "10.0.0.0/8",
            "192.0.2.7/32",
            "169.254.169.254/32",
            "2001:db8::/32",
            "2001:db8::1/128",
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        for (text, expected) in [
            ("", "is no network: expected ADDRESS/PREFIX"),
            ("192.0.2.0", "is no network"),
            ("192.0.2.0/", "is no network"),
            ("192.0.2.0/33", "is no network"),
            ("192.0.2.0/024", "is no network"),
            ("192.0.2.0/+24", "is no network"),
            ("192.0.02.0/24", "is no network"),
            ("2001:DB8::/32", "is no network"),
            ("2001:db8:0:0::/64", "is no network"),
            ("example.com/24", "is no network"),
            ("192.0.2.1/24", "has bits behind its prefix"),
            ("0.0.0.0/0", "too large a network: its prefix has at least 8 bits"),
            ("2000::/3", "too large a network: its prefix has at least 16 bits"),
        ] {
            let error = Network::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn no_network_reaches_the_guest_itself_a_group_or_ipv4_by_another_name() {
        for text in [
            "127.0.0.1/32",
            "127.0.0.0/8",
            "0.0.0.0/8",
            "224.0.0.0/8",
            "239.1.2.3/32",
            "255.255.255.255/32",
            "::1/128",
            "::ffff:192.0.2.0/120",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2002::/16",
            "ff02::/16",
        ] {
            let error = Network::parse(text).unwrap_err();
            assert!(error.contains("reaches what no rule may name"), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_is_in_the_network_by_its_prefix() {
        let network = Network::parse("192.0.2.128/25").unwrap();
        for (address, expected) in [
            ("192.0.2.128", true),
            ("192.0.2.255", true),
            ("::ffff:192.0.2.129", true),
            ("192.0.2.127", false),
            ("c000:280::", false),
        ] {
            assert_eq!(network.matches(address.parse().unwrap()), expected, "{address}");
        }
        let network = Network::parse("2001:db8::/33").unwrap();
        assert!(network.matches("2001:db8:7fff::1".parse().unwrap()));
        assert!(!network.matches("2001:db8:8000::".parse().unwrap()));
        assert!(!network.matches("32.1.13.184".parse().unwrap()));
    }
}
