//! Devices that come while the guest serves: it ends then. Whatever it accepted before its ready state is all that it has.

use std::os::fd::OwnedFd;

use confide_egress::netlink;
use rustix::io::Errno;
use rustix::net::netlink::KOBJECT_UEVENT;
use rustix::net::{RecvFlags, recv};

use super::error::BootError;

/// The group of the kernel's own messages; those of udev have another one.
const KERNEL: u32 = 1;

/// Hears of devices from the moment that it is made.
///
/// # Errors
/// [`BootError::Uevents`].
pub(super) fn listen() -> Result<OwnedFd, BootError> {
    netlink::open(Some(KOBJECT_UEVENT), KERNEL).map_err(BootError::Uevents)
}

/// The first device that comes. Messages that were lost may have told of one.
pub(super) fn first(socket: &OwnedFd) -> BootError {
    let mut message = [0; 8192];
    loop {
        match recv(socket, &mut message[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                if let Some(device) = attached(message.get(..length).unwrap_or_default()) {
                    return BootError::Hotplug { device };
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return BootError::Uevents(error.into()),
        }
    }
}

/// The device that came, below `/sys`, if the message (`ACTION@DEVPATH`, then NUL and variables) tells of one. What has no
/// hardware behind it, as the guest's own mappings and mounts, lies below `/devices/virtual`.
fn attached(message: &[u8]) -> Option<String> {
    let head = message.split(|byte| *byte == 0).next()?;
    let (action, path) = std::str::from_utf8(head).ok()?.split_once('@')?;
    let device = path.starts_with("/devices/") && !path.starts_with("/devices/virtual/");
    (device && matches!(action, "add" | "online")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_that_comes_is_told_apart_from_the_guests_own_doing() {
        let heard = |head: &str| attached(format!("{head}\0ACTION=x\0SUBSYSTEM=y\0").as_bytes());
        let disk = "/devices/pci0000:00/0000:00:07.0/virtio5/block/vdc";
        assert_eq!(heard(&format!("add@{disk}")).as_deref(), Some(disk));
        assert!(heard("online@/devices/system/cpu/cpu1").is_some());
        for quiet in [
            "add@/devices/virtual/block/dm-3",
            "add@/module/dm_crypt",
            "change@/devices/pci0000:00/0000:00:07.0",
            "remove@/devices/pci0000:00/0000:00:07.0",
            "libudev",
            "",
        ] {
            assert_eq!(heard(quiet), None, "{quiet}");
        }
        assert_eq!(attached(b"add@/devices/\xff"), None);
    }

    #[test]
    fn the_kernel_lets_itself_be_heard() {
        drop(listen().unwrap());
    }
}
