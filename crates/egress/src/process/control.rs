//! What a guest and its egress broker say to each other, over a Unix socket: a message is JSON behind its length (u32, big
//! endian). Before the first one the guest hands over what was opened in the workload's network (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use confide_policy::egress::MAX_EGRESS_POLICY;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::record::{DropRecord, Reason, RuleUse, Status, Way};

/// The largest message, in bytes: a policy in which every byte is escaped, and a status with as many records and rules as there may
/// be, are smaller.
pub(crate) const MAX_CONTROL_MESSAGE: usize = 6 * MAX_EGRESS_POLICY + 4096;
/// The most descriptors that a guest hands to its egress broker. They are the listeners for redirected connections, for questions and
/// of the proxy, each of IPv4 and IPv6, and the socket by which the kernel is asked whose a connection is.
pub(crate) const MAX_HANDED: usize = 7;
/// Something has to cross the socket with descriptors.
const BYTE: [u8; 1] = [0];

/// What the guest asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// To serve by this policy, in the phase `bootstrap`.
    Begin {
        /// As its file has it.
        policy: String,
        /// What the descriptors are for, in the order in which they were handed over.
        handed: Vec<Purpose>,
    },
    /// To enter the phase `serving`, for good.
    Lock,
    /// What was dropped and let through.
    Status,
}

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Connections that the kernel redirects.
    Redirected,
    /// Questions for names, over UDP.
    Names,
    /// Requests to the proxy.
    Proxy,
    /// Questions to the kernel, whose a connection is.
    Owners,
}

/// What the broker answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    /// It serves.
    Begun {
        /// Of the policy that it serves by.
        digest: String,
    },
    /// It is in the phase `serving`.
    Locked,
    /// What was dropped and let through.
    Status(StatusMessage),
}

/// [`Status`] on its way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusMessage {
    dropped: Vec<u64>,
    connections: u64,
    unlogged: u64,
    latest: Vec<RecordMessage>,
    rules: Vec<RuleUse>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordMessage {
    at: SystemTime,
    code: String,
    destination: String,
    rule: Option<String>,
    way: String,
    uid: Option<u32>,
}

impl From<Status> for StatusMessage {
    fn from(status: Status) -> Self {
        let record = |record: DropRecord| RecordMessage {
            at: record.at,
            code: record.reason.code().to_owned(),
            destination: record.destination,
            rule: record.rule,
            way: record.way.name().to_owned(),
            uid: record.uid,
        };
        Self {
            dropped: status.dropped.into_iter().map(|(_, count)| count).collect(),
            connections: status.connections,
            unlogged: status.unlogged,
            latest: status.latest.into_iter().map(record).collect(),
            rules: status.rules,
        }
    }
}

impl TryFrom<StatusMessage> for Status {
    type Error = &'static str;

    fn try_from(message: StatusMessage) -> Result<Self, &'static str> {
        if message.dropped.len() != Reason::ALL.len() {
            return Err("a count for each code was expected");
        }
        let codes = Reason::ALL.iter().map(|reason| reason.code());
        Ok(Self {
            dropped: codes.zip(message.dropped).collect(),
            connections: message.connections,
            unlogged: message.unlogged,
            latest: message.latest.into_iter().map(DropRecord::try_from).collect::<Result<_, _>>()?,
            rules: message.rules,
        })
    }
}

impl TryFrom<RecordMessage> for DropRecord {
    type Error = &'static str;

    fn try_from(message: RecordMessage) -> Result<Self, &'static str> {
        Ok(Self {
            at: message.at,
            reason: Reason::of(&message.code).ok_or("a record has an unknown code")?,
            // What was allowed there is allowed here: it comes from who talks to the network.
            destination: crate::record::shown(&message.destination),
            rule: message.rule,
            way: Way::of(&message.way).ok_or("a record has an unknown way")?,
            uid: message.uid,
        })
    }
}

/// Writes a message.
pub(super) fn write(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= MAX_CONTROL_MESSAGE);
    let length = length.ok_or_else(|| invalid("a message is too long"))?;
    socket.write_all(&[&length.to_be_bytes(), &*text].concat())
}

/// Reads a message; `None` where the other end was closed before it.
pub(super) fn read<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    let first = socket.read(&mut length)?;
    if first == 0 {
        return Ok(None);
    }
    socket.read_exact(length.get_mut(first..).unwrap_or_default())?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_CONTROL_MESSAGE {
        return Err(invalid("a message is too long"));
    }
    let mut text = vec![0; length];
    socket.read_exact(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Hands descriptors over, and keeps them.
pub(super) fn hand_over(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDED))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(invalid("too many descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(&BYTE)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes the descriptors that [`hand_over`] sends.
pub(super) fn take_over(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = BYTE;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_HANDED))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().collect())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cross_the_socket_in_order_and_in_any_pieces() {
        let (one, other) = UnixStream::pair().unwrap();
        write(&one, &Request::Lock).unwrap();
        let begin =
            Request::Begin { policy: "\u{1}".repeat(MAX_EGRESS_POLICY), handed: vec![Purpose::Names] };
        let writing = std::thread::spawn(move || write(&one, &begin).unwrap());
        assert!(matches!(read(&other).unwrap(), Some(Request::Lock)));
        let Some(Request::Begin { policy, handed }) = read(&other).unwrap() else {
            panic!("another message")
        };
        assert_eq!((policy.len(), handed), (MAX_EGRESS_POLICY, vec![Purpose::Names]));
        writing.join().unwrap();
        assert!(read::<Request>(&other).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &u32::MAX.to_be_bytes()[..],
            &(u32::try_from(MAX_CONTROL_MESSAGE).unwrap() + 1).to_be_bytes(),
            b"\0\0\0\x06unlock",
            b"\0\0\0\x08\"unlock\"",
            b"\0\0\0\x0f{\"lock\":null,1}",
            b"\0\0\0\x1c{\"begin\":{\"policy\":\"\",\"x\":1}}",
            b"\0\0\0\x08\"lo",
            b"\0\0",
        ] {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(bytes).unwrap();
            drop(one);
            assert!(read::<Request>(&other).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_status_arrives_as_it_was_and_another_is_refused() {
        let record = DropRecord {
            at: SystemTime::UNIX_EPOCH,
            reason: Reason::HostNotListed,
            destination: "evil.example:443/tcp".to_owned(),
            rule: None,
            way: Way::Proxy,
            uid: Some(1000),
        };
        let status = || Status {
            dropped: Reason::ALL.iter().map(|reason| (reason.code(), 7)).collect(),
            connections: 3,
            unlogged: 1,
            latest: vec![record.clone()],
            rules: vec![RuleUse {
                rule: "terminate a.example:443".to_owned(),
                open: 1,
                bytes: 2,
                dropped: 3,
            }],
        };
        let message = || StatusMessage::from(status());
        let text = serde_json::to_vec(&message()).unwrap();
        let arrived = Status::try_from(serde_json::from_slice::<StatusMessage>(&text).unwrap()).unwrap();
        assert_eq!((arrived.dropped, arrived.latest), (status().dropped, status().latest));
        assert_eq!((arrived.connections, arrived.unlogged, arrived.rules), (3, 1, status().rules));
        let mut fewer = message();
        fewer.dropped.pop();
        let mut unknown = message();
        unknown.latest[0].code = "all_is_well".to_owned();
        let mut way = message();
        way.latest[0].way = "magic".to_owned();
        for refused in [fewer, unknown, way] {
            assert!(Status::try_from(refused).is_err());
        }
        // A broker that is taken over steers no terminal.
        let mut steering = message();
        steering.latest[0].destination = "\u{1b}[2J".repeat(100);
        let shown = Status::try_from(steering).unwrap().latest.remove(0).destination;
        assert!(shown.len() <= 64 && !shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn descriptors_are_handed_over() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut kept, handed) = UnixStream::pair().unwrap();
        hand_over(&one, &[handed.as_fd(); MAX_HANDED]).unwrap();
        drop(handed);
        write(&one, &Request::Status).unwrap();
        let taken = take_over(&other).unwrap();
        assert_eq!(taken.len(), MAX_HANDED);
        kept.write_all(b"hello").unwrap();
        drop(kept);
        let mut heard = String::new();
        UnixStream::from(taken.into_iter().next().unwrap()).read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
        assert!(matches!(read(&other).unwrap(), Some(Request::Status)));
    }
}
