//! Messages of netlink(7): as many of them as set up a network and tell what happens in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// The head of a message, `struct nlmsghdr`: length with this head (u32), kind and flags (u16), sequence number and port (u32).
const HEAD: usize = 16;
/// The head of an attribute, `struct nlattr`: length with this head, kind (u16).
const ATTRIBUTE_HEAD: usize = 4;
const NLMSG_ERROR: u16 = 2;
/// The bits of an attribute's kind that tell its kind (`NLA_TYPE_MASK`).
const ATTRIBUTE_KIND: u16 = 0x3fff;
/// The largest acknowledgement that is read, in bytes: it repeats what was sent, which is under 100.
const MAX_ACKNOWLEDGEMENT: usize = 512;

/// NLM_F_REQUEST and NLM_F_ACK: a change of what is there.
pub const CHANGE: u16 = 0x1 | 0x4;
/// Beside them NLM_F_EXCL and NLM_F_CREATE: something that is not there yet.
pub const CREATE: u16 = CHANGE | 0x200 | 0x400;

const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;

/// A message to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// A message of this kind with what the kind begins with.
    #[must_use]
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let head = [&[0; 4][..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
        Self([&head, body].concat()).measured()
    }

    /// The message with an attribute more.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length =
            u16::try_from(value.len().saturating_add(ATTRIBUTE_HEAD)).expect("attributes of ours are short");
        self.0.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.measured()
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn measured(mut self) -> Self {
        let length = u32::try_from(self.0.len()).expect("messages of ours are short");
        self.0.splice(..4, length.to_ne_bytes());
        self
    }
}

/// Brings up the device of this number. `struct ifinfomsg`: family, padding, type (u16), number (i32), flags, mask of the flags to
/// change.
#[must_use]
pub fn up(device: u32) -> Message {
    let body = [[0; 4], device.to_ne_bytes(), IFF_UP.to_ne_bytes(), IFF_UP.to_ne_bytes()].concat();
    Message::new(RTM_NEWLINK, CHANGE, &body)
}

/// A socket of a protocol of netlink in this thread's network, `None` for `NETLINK_ROUTE`; it hears the groups of these bits.
///
/// # Errors
/// The kernel's: to hear groups of some protocols takes CAP_NET_ADMIN.
pub fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Sends a message and waits until the kernel says that it was carried out.
///
/// # Errors
/// The kernel's, and `InvalidData` where it answers something else.
pub fn exchange(socket: impl AsFd, message: &Message) -> io::Result<()> {
    let socket = socket.as_fd();
    send(socket, message.bytes(), SendFlags::empty())?;
    let mut answer = [0; MAX_ACKNOWLEDGEMENT];
    let (length, _) = recv(socket, &mut answer[..], RecvFlags::empty())?;
    match acknowledged(answer.get(..length).unwrap_or_default()) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The error number of an acknowledgement, negative, or 0.
fn acknowledged(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(HEAD..HEAD + 4)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(error)
}

/// The messages of a datagram: of each its kind and what follows its head. What is cut off is left out.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        let body = datagram.get(HEAD..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes in what follows a message's own fields: of each its kind and value. What is cut off is left out.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & ATTRIBUTE_KIND;
        let value = rest.get(ATTRIBUTE_HEAD..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_kernels_layout() {
        let message = Message::new(24, CREATE, &[2, 0, 0, 0]).with(4, &[1, 0, 0, 0]).with(5, &[7]);
        let bytes = message.bytes();
        assert_eq!(bytes.len(), 16 + 4 + 8 + 8);
        assert_eq!(bytes[..4], 36_u32.to_ne_bytes());
        assert_eq!(bytes[4..8], [24_u16.to_ne_bytes(), 0x605_u16.to_ne_bytes()].concat());
        assert_eq!(bytes[20..28], [[8, 0, 4, 0], [1, 0, 0, 0]].concat());
        // Its value is one byte, and zeros follow.
        assert_eq!(bytes[28..], [[5, 0, 5, 0], [7, 0, 0, 0]].concat());
        let read: Vec<_> = messages(bytes).collect();
        assert_eq!(read.len(), 1);
        let (kind, body) = read[0];
        assert_eq!(kind, 24);
        let attributes: Vec<_> = attributes(&body[4..]).collect();
        assert_eq!(attributes, [(4, &[1, 0, 0, 0][..]), (5, &[7])]);
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        let message = Message::new(1, 0, &[1, 2, 3, 4]).with(9, &[1; 9]);
        for length in 0..message.bytes().len() {
            let cut = &message.bytes()[..length];
            assert_eq!(messages(cut).count(), 0, "{length}");
            let body = cut.get(20..).unwrap_or_default();
            assert!(attributes(body).count() <= usize::from(length >= 20 + 4 + 9), "{length}");
        }
        // Lengths of nothing go nowhere.
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0xff; 64]).count(), 0);
    }

    #[test]
    fn an_answer_that_is_no_acknowledgement_is_an_error() {
        assert_eq!(acknowledged(&[]), None);
        assert_eq!(acknowledged(&[0; 20]), None);
        let mut refused = [0; 36];
        refused[4] = 2;
        refused[16..20].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(acknowledged(&refused), Some(-17));
    }
}
