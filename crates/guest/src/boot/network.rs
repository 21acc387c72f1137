//! The guest's network device, set up by rtnetlink (rtnetlink(7)) as the configuration says.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use confide_egress::netlink::{self, CREATE, Message};

use super::error::BootError;
use super::source::{DEVICE_TIME, LOOK};
use crate::config::Network;

/// Where the kernel lists network devices.
const DEVICES: &str = "/sys/class/net";
/// The loopback device.
const LOOPBACK: &str = "lo";

const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const AF_INET: u8 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

/// Brings up the loopback device and, where there is a table, the one other device of this machine.
pub(crate) fn set_up(network: Option<&Network>) -> Result<(), BootError> {
    let loopback = index(LOOPBACK)?;
    exchange("loopback", &netlink::up(loopback))?;
    let Some(network) = network else { return Ok(()) };
    let device = index(&only_device(Path::new(DEVICES), DEVICE_TIME)?)?;
    configure(device, network)
}

fn configure(device: u32, network: &Network) -> Result<(), BootError> {
    exchange("device", &netlink::up(device))?;
    exchange("address", &address(device, network))?;
    match network.gateway {
        Some(gateway) => exchange("gateway", &default_route(device, gateway)),
        None => Ok(()),
    }
}

/// The one device beside the loopback device. With several, which is which would be the host's choice.
fn only_device(devices: &Path, patience: Duration) -> Result<String, BootError> {
    let begun = Instant::now();
    let fault = |kind, reason: &'static str| BootError::Network {
        step: "device",
        source: io::Error::new(kind, reason),
    };
    loop {
        let names = fs::read_dir(devices).into_iter().flatten().flatten();
        let mut names =
            names.filter_map(|name| name.file_name().into_string().ok()).filter(|name| name != LOOPBACK);
        match (names.next(), names.next()) {
            (Some(name), None) => return Ok(name),
            (Some(_), Some(_)) => {
                return Err(fault(io::ErrorKind::InvalidInput, "expected one network device, found several"));
            }
            (None, _) if begun.elapsed() > patience => {
                return Err(fault(io::ErrorKind::NotFound, "expected one network device, found none"));
            }
            (None, _) => std::thread::sleep(LOOK),
        }
    }
}

fn index(device: &str) -> Result<u32, BootError> {
    let path = Path::new(DEVICES).join(device).join("ifindex");
    let text = fs::read_to_string(&path).map_err(|source| BootError::Network { step: "device", source })?;
    let number = || BootError::Network { step: "device", source: io::ErrorKind::InvalidData.into() };
    text.trim_end().parse().map_err(|_| number())
}

/// `struct ifaddrmsg`: family, length of the prefix, flags, scope, index; and the address, twice.
fn address(device: u32, network: &Network) -> Message {
    let octets = network.address.address.octets();
    let head = [[AF_INET, network.address.prefix, 0, 0], device.to_ne_bytes()].concat();
    Message::new(RTM_NEWADDR, CREATE, &head).with(IFA_LOCAL, &octets).with(IFA_ADDRESS, &octets)
}

/// `struct rtmsg`: family, lengths of both prefixes, type of service, table, protocol, scope, type, flags; gateway and device.
fn default_route(device: u32, gateway: Ipv4Addr) -> Message {
    let head = [[AF_INET, 0, 0, 0], [RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST], [0; 4]].concat();
    let message = Message::new(RTM_NEWROUTE, CREATE, &head);
    message.with(RTA_GATEWAY, &gateway.octets()).with(RTA_OIF, &device.to_ne_bytes())
}

/// Sends a message to the kernel and waits for its acknowledgement.
fn exchange(step: &'static str, message: &Message) -> Result<(), BootError> {
    let sent = netlink::open(None, 0).and_then(|socket| netlink::exchange(&socket, message));
    sent.map_err(|source| BootError::Network { step, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ipv4Net;
    use std::process::Command;

    const INSIDE: &str = "CONFIDE_TEST_NETWORK";

    fn network() -> Network {
        let address = Ipv4Net { address: Ipv4Addr::new(10, 9, 8, 7), prefix: 24 };
        Network { address, gateway: Some(Ipv4Addr::new(10, 9, 8, 1)) }
    }

    /// In a network namespace of its own, which has a loopback device and nothing else.
    #[test]
    fn a_device_gets_its_address_and_a_route() {
        if std::env::var_os(INSIDE).is_some() {
            set_up(None).unwrap();
            configure(1, &network()).unwrap();
            let routes = fs::read_to_string("/proc/net/route").unwrap();
            let gateway = u32::from_ne_bytes([10, 9, 8, 1]);
            assert!(routes.contains(&format!("lo\t00000000\t{gateway:08X}\t0003")), "{routes}");
            let addresses = fs::read_to_string("/proc/net/fib_trie").unwrap();
            assert!(addresses.contains("10.9.8.7"), "{addresses}");
            let refused = configure(1, &network()).unwrap_err();
            assert_eq!(refused.code(), "network_failed");
            assert!(configure(4711, &network()).is_err());
            return;
        }
        let test = std::env::current_exe().unwrap();
        let name = "boot::network::tests::a_device_gets_its_address_and_a_route";
        let mut command = Command::new("unshare");
        command.arg("-rn").arg(test).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                println!("not run: a network namespace for the network's set-up: {error}");
                return;
            }
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("unshare: ") {
            println!("not run: a network namespace for the network's set-up: {said}");
            return;
        }
        assert!(output.status.success(), "{said}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }

    #[test]
    fn messages_have_the_kernels_layout() {
        let message = address(2, &network());
        let message = message.bytes();
        assert_eq!(message.len(), 16 + 8 + 16);
        assert_eq!(message[..4], 40_u32.to_ne_bytes());
        assert_eq!(message[16..20], [2, 24, 0, 0]);
        assert_eq!(message[28..32], [10, 9, 8, 7]);
    }

    #[test]
    fn one_device_beside_the_loopback_device_is_expected() {
        let devices = tempfile::tempdir().unwrap();
        let refusal = || only_device(devices.path(), Duration::ZERO).unwrap_err().code().to_owned();
        fs::create_dir(devices.path().join("lo")).unwrap();
        assert_eq!(refusal(), "network_failed");
        fs::create_dir(devices.path().join("eth0")).unwrap();
        assert_eq!(only_device(devices.path(), Duration::ZERO).unwrap(), "eth0");
        fs::create_dir(devices.path().join("eth1")).unwrap();
        assert_eq!(refusal(), "network_failed");
    }
}
