//! What a guest and the host's quote generation service say to each other (Intel DCAP, `qgs_msg_lib.h`, version 1.1), over a
//! stream.
//!
//! Each message has its length before it, 4 bytes big-endian. Its own numbers are little-endian:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 2 | major version, 1 |
//! | 2 | 2 | minor version, 1; others are as good |
//! | 4 | 4 | type: 0 asks for a quote, 1 answers |
//! | 8 | 4 | bytes of the message, these included |
//! | 12 | 4 | 0, or in an answer the number of an error |
//! | 16 | 4 | bytes of the report; in an answer of the identifier that was chosen |
//! | 20 | 4 | bytes of the list of identifiers, here 0; in an answer of the quote |
//! | 24 | | report; in an answer identifier and quote |
//!
//! The service is the host's: what it answers is bounded, and believed by nobody.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use confide_evidence::tdx::MAX_QUOTE;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::error::AttesterError;

/// Bytes of a TDREPORT (Intel TDX module ABI specification, TDREPORT_STRUCT).
pub(crate) const REPORT: usize = 1024;
/// Bytes before the variable part.
const FIXED: usize = 24;
/// Bytes of the header alone, with which a service may answer an error.
const HEADER: usize = 16;
const MAJOR: u16 = 1;
const MINOR: u16 = 1;
const GET_QUOTE: u32 = 0;
const GET_QUOTE_ANSWER: u32 = 1;
/// The longest identifier of a quoting enclave's key, in bytes. Those of Intel's have 32.
const MAX_ID: usize = 256;
/// The longest answer, in bytes: the fixed part, an identifier and a quote.
const MAX_ANSWER: usize = 24 + MAX_ID + MAX_QUOTE;

/// A request for a quote over this report, with its length before it.
fn request(report: &[u8; REPORT]) -> Vec<u8> {
    #[expect(clippy::as_conversions, reason = "a constant far below 2³²")]
    const LENGTH: u32 = REPORT as u32;
    #[expect(clippy::as_conversions, reason = "a constant far below 2³²")]
    const SIZE: u32 = (FIXED + REPORT) as u32;
    let mut message = SIZE.to_be_bytes().to_vec();
    message.extend(MAJOR.to_le_bytes());
    message.extend(MINOR.to_le_bytes());
    for number in [GET_QUOTE, SIZE, 0, LENGTH, 0] {
        message.extend(number.to_le_bytes());
    }
    message.extend(report);
    message
}

/// The quote of an answer, whose length has been read.
pub(crate) fn quote(message: &[u8]) -> Result<&[u8], AttesterError> {
    let malformed = |reason| AttesterError::QuotingMessage { reason };
    let number = |offset: usize| {
        let bytes = message.get(offset..).and_then(|rest| rest.first_chunk());
        bytes.map(|bytes| u32::from_le_bytes(*bytes))
    };
    let header = [number(4), number(8), number(12)];
    let [Some(kind), Some(size), Some(error)] = header else { return Err(malformed("it has no header")) };
    if message.first_chunk() != Some(&MAJOR.to_le_bytes()) {
        return Err(malformed("its version is not 1"));
    }
    if kind != GET_QUOTE_ANSWER {
        return Err(malformed("it answers another request"));
    }
    if usize::try_from(size) != Ok(message.len()) {
        return Err(malformed("it states another length than it has"));
    }
    if error != 0 {
        return Err(AttesterError::QuotingRefused { number: error });
    }
    let sizes = number(16).zip(number(20)).ok_or(malformed("it has no lengths of its parts"))?;
    let [id, quote] = [sizes.0, sizes.1].map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    // Of `id` bytes and no more: what follows them is the quote.
    let found = message.get(FIXED..).and_then(|parts| parts.split_at_checked(id));
    match found {
        Some((_, found)) if id <= MAX_ID && found.len() == quote => Ok(found),
        _ => Err(malformed("its parts are not as long as it is")),
    }
}

/// Asks a service for a quote. It may take this time for all of its answer.
pub(crate) fn ask(
    service: &OwnedFd,
    report: &[u8; REPORT],
    patience: Duration,
) -> Result<Vec<u8>, AttesterError> {
    let mut line = Line { service, begun: Instant::now(), patience };
    line.send(&request(report))?;
    let mut length = [0; 4];
    line.receive(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(HEADER..=MAX_ANSWER).contains(&length) {
        return Err(AttesterError::QuotingMessage { reason: "it is too short or too long" });
    }
    let mut message = vec![0; length];
    line.receive(&mut message)?;
    Ok(quote(&message)?.to_vec())
}

/// A connection that is given up in time, however slowly the other end drips.
struct Line<'a> {
    service: &'a OwnedFd,
    begun: Instant,
    patience: Duration,
}

impl Line<'_> {
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), AttesterError> {
        while !bytes.is_empty() {
            self.wait(Timeout::Send)?;
            let sent = self.moved(send(self.service, bytes, SendFlags::NOSIGNAL))?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    fn receive(&mut self, mut buffer: &mut [u8]) -> Result<(), AttesterError> {
        while !buffer.is_empty() {
            self.wait(Timeout::Recv)?;
            let result = recv(self.service, &mut *buffer, RecvFlags::empty()).map(|(_, received)| received);
            match self.moved(result)? {
                0 if result == Ok(0) => {
                    return Err(AttesterError::QuotingMessage {
                        reason: "the connection ended before it did",
                    });
                }
                received => buffer = buffer.get_mut(received..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Lets the next call wait for what is left of the time.
    fn wait(&self, direction: Timeout) -> Result<(), AttesterError> {
        let left = self.patience.saturating_sub(self.begun.elapsed());
        if left.is_zero() {
            return Err(self.late());
        }
        // Less than a microsecond would be no limit.
        let left = left.max(Duration::from_millis(1));
        set_socket_timeout(self.service, direction, Some(left)).map_err(|error| Self::fault(error.into()))
    }

    /// How many bytes were moved: none where a signal came between.
    fn moved(&self, result: Result<usize, Errno>) -> Result<usize, AttesterError> {
        match result {
            Ok(moved) => Ok(moved),
            Err(Errno::INTR) => Ok(0),
            Err(Errno::AGAIN) => Err(self.late()),
            Err(error) => Err(Self::fault(error.into())),
        }
    }

    fn late(&self) -> AttesterError {
        AttesterError::QuotingLate { seconds: self.patience.as_secs() }
    }

    fn fault(source: io::Error) -> AttesterError {
        AttesterError::Device { action: "talk to", path: super::vsock::SERVICE.into(), source }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(20);

    pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    /// An answer with this identifier and quote.
    pub(crate) fn answer(id: &[u8], quote: &[u8]) -> Vec<u8> {
        let size = u32::try_from(FIXED + id.len() + quote.len()).unwrap();
        let mut message = [&MAJOR.to_le_bytes()[..], &[0, 0]].concat();
        let lengths = [id.len(), quote.len()].map(|length| u32::try_from(length).unwrap());
        for number in [GET_QUOTE_ANSWER, size, 0, lengths[0], lengths[1]] {
            message.extend(number.to_le_bytes());
        }
        [&message, id, quote].concat()
    }

    pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
        [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
    }

    pub(crate) fn read_request(service: &OwnedFd) -> Vec<u8> {
        let mut heard = vec![0; 4 + FIXED + REPORT];
        let mut line = Line { service, begun: Instant::now(), patience: PATIENCE };
        line.receive(&mut heard).unwrap();
        heard
    }

    /// What is said of an answer that comes in these pieces; then the service ends.
    fn said(pieces: Vec<Vec<u8>>) -> Result<Vec<u8>, AttesterError> {
        let (ours, theirs) = pair();
        let service = thread::spawn(move || {
            let heard = read_request(&theirs);
            for piece in pieces {
                rustix::io::write(&theirs, &piece).unwrap();
            }
            heard
        });
        let outcome = ask(&ours, &[7; REPORT], PATIENCE);
        let heard = service.join().unwrap();
        assert_eq!(heard[..4], [0, 0, 4, 24]);
        assert_eq!(heard[4..28], [1, 0, 1, 0, 0, 0, 0, 0, 24, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(heard[28..], [7; REPORT]);
        outcome
    }

    #[test]
    fn a_quote_comes_with_or_without_an_identifier_and_in_any_pieces() {
        for id in [&[][..], &[9; 32], &[9; MAX_ID]] {
            assert_eq!(said(vec![framed(&answer(id, &[5; 4000]))]).unwrap(), [5; 4000]);
        }
        let bytes = framed(&answer(&[], &[5; 40]));
        let pieces = bytes.iter().map(|byte| vec![*byte]).collect();
        assert_eq!(said(pieces).unwrap(), [5; 40]);
    }

    #[test]
    fn every_answer_that_is_none_is_refused() {
        let good = answer(&[1; 4], &[5; 40]);
        let with = |offset: usize, bytes: &[u8]| {
            let mut message = good.clone();
            message[offset..offset + bytes.len()].copy_from_slice(bytes);
            framed(&message)
        };
        for (bytes, about) in [
            (with(0, &[2, 0]), "version"),
            (with(4, &[0]), "another request"),
            (with(8, &[1]), "another length"),
            (with(16, &[5]), "parts"),
            (with(16, &[0xff; 4]), "parts"),
            (with(20, &[39]), "parts"),
            (with(20, &[0xff; 4]), "parts"),
            (framed(&answer(&[1; MAX_ID + 1], &[5; 40])), "parts"),
            (framed(&[0; 15]), "too short"),
            (u32::MAX.to_be_bytes().to_vec(), "too long"),
            (framed(&vec![0; MAX_ANSWER + 1])[..4].to_vec(), "too long"),
            (Vec::new(), "ended"),
            (framed(&good)[..30].to_vec(), "ended"),
        ] {
            let refused = said(vec![bytes]).unwrap_err();
            assert_eq!(refused.code(), "quoting_malformed", "{about}");
            assert!(refused.to_string().contains(about), "{refused}");
        }
        // A header whose length says that there is no more.
        let mut short = good[..HEADER].to_vec();
        short[8..12].copy_from_slice(&16_u32.to_le_bytes());
        assert_eq!(said(vec![framed(&short)]).unwrap_err().code(), "quoting_malformed");
        short[12..16].copy_from_slice(&0x12_001_u32.to_le_bytes());
        let refused = said(vec![framed(&short)]).unwrap_err();
        assert_eq!(refused.code(), "quoting_refused");
        assert!(refused.to_string().contains("0x12001"), "{refused}");
    }

    #[test]
    fn a_service_that_is_silent_or_drips_is_left_in_time() {
        let patience = Duration::from_millis(200);
        let (ours, theirs) = pair();
        let begun = Instant::now();
        assert_eq!(ask(&ours, &[7; REPORT], patience).unwrap_err().code(), "quoting_late");
        let dripping = thread::spawn(move || {
            // A byte comes before each wait ends.
            while rustix::net::send(&theirs, &[0], SendFlags::NOSIGNAL).is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let (ours, drips) = (ours, dripping);
        assert!(ask(&ours, &[7; REPORT], patience).is_err());
        drop(ours);
        drips.join().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
