//! Hands a descriptor from the child to the guest over their socket, before anything else crosses it (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// A message carries one byte at least.
const BYTE: [u8; 1] = [0];

/// Sends a descriptor, and keeps none.
pub(super) fn hand_over(socket: &StdUnixStream, descriptor: OwnedFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(&BYTE)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the descriptor that [`hand_over`] sends; `None` where the other end was closed first.
///
/// # Errors
/// The socket's; `InvalidData` for a message without a descriptor.
pub(super) async fn take_over(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || receive(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            answer => return answer,
        }
    }
}

fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = BYTE;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let handed = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    handed
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a message without a descriptor"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn pair() -> (StdUnixStream, UnixStream) {
        let (theirs, ours) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (theirs, UnixStream::from_std(ours).unwrap())
    }

    #[tokio::test]
    async fn a_descriptor_arrives_before_what_follows_it() {
        let (theirs, ours) = pair();
        let (mut kept, handed) = StdUnixStream::pair().unwrap();
        hand_over(&theirs, handed.into()).unwrap();
        (&theirs).write_all(b"next").unwrap();
        let taken = take_over(&ours).await.unwrap().unwrap();
        kept.write_all(b"hello").unwrap();
        drop(kept);
        let mut heard = Vec::new();
        StdUnixStream::from(taken).read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"hello");
        let mut next = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut { ours }, &mut next).await.unwrap();
        assert_eq!(&next, b"next");
    }

    #[tokio::test]
    async fn a_closed_socket_and_a_message_without_one_are_told_apart() {
        let (theirs, ours) = pair();
        drop(theirs);
        assert!(take_over(&ours).await.unwrap().is_none());
        let (theirs, ours) = pair();
        (&theirs).write_all(&BYTE).unwrap();
        assert_eq!(take_over(&ours).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
