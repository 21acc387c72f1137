//! The firmware's event log of a confidential VM, which ACPI's CCEL table points to: the crypto-agile log of the TCG PC
//! Client Platform Firmware Profile (version 1.06, section 10), with SHA-384 digests.
//!
//! A log begins with a header event in the older SHA-1 form that names the digest algorithms and their sizes; each event
//! after it has a register index, a type, digests and data. The index follows the UEFI Specification 2.10, section 38.4.1:
//! 0 is MRTD, 1 to 4 are RTMR0 to RTMR3. Firmware reserves a fixed space for the log and leaves the rest of it filled with
//! 0xff or zero; a log may also come without that rest.
//!
//! Only digests are measured. An event's data, and so its description, is whatever the host made of it, unless the digest
//! is the data's own hash ([`BootEvent::data_is_measured`]).

mod describe;
mod event_type;

pub use describe::MAX_DESCRIPTION;
pub use event_type::EventType;

use crate::bytes::Bytes;
use crate::read::{Reader, Short};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha384};
use std::fmt;
use thiserror::Error;

/// The largest log accepted, in bytes, padding included. Recorded tables have 64 KiB (OVMF), 256 KiB (Google) or 1 MiB
/// (td-shim). As an event takes at least [`MIN_EVENT`] bytes, this bounds their number to 15,887.
pub const MAX_BOOT_LOG: usize = 1024 * 1024;
/// The fewest bytes that an event takes: index, type, digest count, one SHA-384 digest, data size.
pub const MIN_EVENT: usize = 4 + 4 + 4 + 2 + 48 + 4;
/// The most digest algorithms that a header may declare: a TPM has at most 16 banks (TPM 2.0 Library, part 2, HASH_COUNT).
pub const MAX_ALGORITHMS: usize = 16;
/// The largest digest that a header may declare, in bytes: SHA-512's.
pub const MAX_DIGEST: u16 = 64;
/// The most data of one event, in bytes. Recorded events have under 12 KiB; the largest of real machines is the UEFI
/// revocation list `dbx`, whose variable store holds at most 64 KiB.
pub const MAX_EVENT_DATA: usize = 256 * 1024;

const SHA1: u16 = 0x0004;
const SHA256: u16 = 0x000b;
const SHA384: u16 = 0x000c;
const SHA512: u16 = 0x000d;
/// Digest sizes of the TCG Algorithm Registry, for those algorithms that event logs use.
const SIZES: [(u16, u16); 4] = [(SHA1, 20), (SHA256, 32), (SHA384, 48), (SHA512, 64)];

const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
/// Major version of the crypto-agile form.
const MAJOR: u8 = 2;

/// Why bytes are no boot event log. Events are counted from 1, the header event not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BootLogError {
    /// Larger than [`MAX_BOOT_LOG`].
    #[error("a boot event log of {0} bytes, at most {MAX_BOOT_LOG} are accepted")]
    TooLarge(usize),
    /// The log ends inside a field.
    #[error("{field} at offset {offset} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Its offset from the start of its structure (the log, or the header event's data), in bytes.
        offset: usize,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// The header event is of another type than EV_NO_ACTION.
    #[error("the header event is of type {0}, expected EV_NO_ACTION")]
    HeaderType(EventType),
    /// The header event's SHA-1 digest is not zero.
    #[error("the header event has a digest that is not zero")]
    HeaderDigest,
    /// The header event's data does not begin with `Spec ID Event03`.
    #[error("the header event is not signed \"Spec ID Event03\"")]
    HeaderSignature,
    /// Another version than 2.x.
    #[error("event log version {major}.{minor}, supported is 2.x")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// The header declares no algorithm, or more than [`MAX_ALGORITHMS`].
    #[error("the header declares {0} digest algorithms, accepted are 1 to {MAX_ALGORITHMS}")]
    AlgorithmCount(u32),
    /// The header declares an algorithm twice.
    #[error("the header declares digest algorithm {0:#06x} twice")]
    AlgorithmTwice(u16),
    /// The header declares a size that is not the algorithm's, or is none.
    #[error("the header says {found} bytes for digests of algorithm {algorithm:#06x}")]
    DigestSize {
        /// TCG identifier of the algorithm.
        algorithm: u16,
        /// The size that the header declares, in bytes.
        found: u16,
    },
    /// The header does not declare SHA-384, which TDX measures with.
    #[error("the header does not declare SHA-384, in which RTMRs are extended")]
    NoSha384,
    /// Bytes behind the header event's vendor information.
    #[error("{0} bytes behind the vendor information of the header event")]
    HeaderTrailing(usize),
    /// A register index that TDX does not define.
    #[error("event {event} is for register index {index}, TDX has 0 (MRTD) to 4 (RTMR3)")]
    Register {
        /// The event.
        event: usize,
        /// Its register index.
        index: u32,
    },
    /// More digests than the header has algorithms.
    #[error("event {event} has {found} digests, the header declares {declared} algorithms")]
    DigestCount {
        /// The event.
        event: usize,
        /// Its digest count.
        found: u32,
        /// Algorithms of the header.
        declared: usize,
    },
    /// A digest of an algorithm that the header does not declare: its size is not known.
    #[error("event {event} has a digest of algorithm {algorithm:#06x}, which the header does not declare")]
    UnknownAlgorithm {
        /// The event.
        event: usize,
        /// TCG identifier of the algorithm.
        algorithm: u16,
    },
    /// Two digests of one algorithm.
    #[error("event {event} has two digests of algorithm {algorithm:#06x}")]
    DigestTwice {
        /// The event.
        event: usize,
        /// TCG identifier of the algorithm.
        algorithm: u16,
    },
    /// No SHA-384 digest.
    #[error("event {event} has no SHA-384 digest")]
    MissingDigest {
        /// The event.
        event: usize,
    },
    /// More data than [`MAX_EVENT_DATA`].
    #[error("event {event} has {size} bytes of data, at most {MAX_EVENT_DATA} are accepted")]
    EventTooLarge {
        /// The event.
        event: usize,
        /// Size of its data, in bytes.
        size: usize,
    },
    /// What begins as padding behind the last event goes on as something else.
    #[error("byte {offset} of the padding behind the last event differs from those before it")]
    TrailingBytes {
        /// Offset from the start of the log, in bytes.
        offset: usize,
    },
}

fn truncated(field: &'static str) -> impl Fn(Short) -> BootLogError {
    move |short| BootLogError::Truncated {
        field,
        offset: short.offset,
        needed: short.needed,
        left: short.left,
    }
}

/// A measurement register of a TD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Register {
    /// MRTD, which the TDX module alone writes: index 0.
    Mrtd,
    /// RTMR0: firmware configuration. Index 1.
    Rtmr0,
    /// RTMR1: boot loader and kernel. Index 2.
    Rtmr1,
    /// RTMR2: command line and initial file system. Index 3.
    Rtmr2,
    /// RTMR3: the runtime's. Index 4.
    Rtmr3,
}

impl Register {
    fn from_index(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::Mrtd),
            1 => Some(Self::Rtmr0),
            2 => Some(Self::Rtmr1),
            3 => Some(Self::Rtmr2),
            4 => Some(Self::Rtmr3),
            _ => None,
        }
    }

    /// Intel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mrtd => "MRTD",
            Self::Rtmr0 => "RTMR0",
            Self::Rtmr1 => "RTMR1",
            Self::Rtmr2 => "RTMR2",
            Self::Rtmr3 => "RTMR3",
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A boot event log, well formed throughout. Borrowed from the bytes that it was read from; nothing is allocated.
#[derive(Debug, Clone)]
pub struct BootLog<'a> {
    algorithms: Algorithms,
    /// Everything from the header to the last event, without padding.
    bytes: &'a [u8],
    /// Size of the header event, in bytes.
    header: usize,
    /// Bytes of padding behind the last event.
    padding: usize,
}

/// One event of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootEvent<'a> {
    /// Position in the log, from 1; the header event is not counted.
    pub number: usize,
    /// The register that it names.
    pub register: Register,
    /// What kind of event it is.
    pub event_type: EventType,
    /// Its SHA-384 digest.
    pub digest: &'a [u8; 48],
    /// Its data, which no register covers unless [`BootEvent::data_is_measured`].
    pub data: &'a [u8],
}

/// Algorithms and digest sizes that a header declares.
#[derive(Debug, Clone, Copy)]
struct Algorithms {
    list: [(u16, u16); MAX_ALGORITHMS],
    count: usize,
}

impl<'a> BootLog<'a> {
    /// Reads a log and checks every event's form. Nothing about it is trusted yet: the caller holds its replay against the
    /// registers of a quote whose signatures hold.
    ///
    /// Linear in the size of the input, without allocation.
    ///
    /// # Errors
    /// [`BootLogError`].
    pub fn parse(input: &'a [u8]) -> Result<Self, BootLogError> {
        if input.len() > MAX_BOOT_LOG {
            return Err(BootLogError::TooLarge(input.len()));
        }
        let mut reader = Reader::new(input);
        let algorithms = header(&mut reader)?;
        let header = reader.offset();
        let mut number = 1_usize;
        while !at_padding(reader.rest()) {
            event(number, &algorithms, &mut reader)?;
            number = number.saturating_add(1);
        }
        uniform(&reader)?;
        let bytes = input.get(..reader.offset()).unwrap_or_default();
        Ok(Self { algorithms, bytes, header, padding: reader.rest().len() })
    }

    /// The events, in their order.
    pub fn events(&self) -> impl Iterator<Item = BootEvent<'a>> {
        let mut reader = Reader::new(self.bytes.get(self.header..).unwrap_or_default());
        let algorithms = self.algorithms;
        // `parse` has read each of them.
        (1..).map_while(move |number| match reader.rest() {
            [] => None,
            _ => event(number, &algorithms, &mut reader).ok(),
        })
    }

    /// RTMR0 to RTMR3 as the events replay them from zero.
    #[must_use]
    pub fn replay(&self) -> [[u8; 48]; 4] {
        let mut registers = [[0; 48]; 4];
        for event in self.events().filter(BootEvent::is_measured) {
            let [rtmr0, rtmr1, rtmr2, rtmr3] = &mut registers;
            let register = match event.register {
                Register::Mrtd => continue,
                Register::Rtmr0 => rtmr0,
                Register::Rtmr1 => rtmr1,
                Register::Rtmr2 => rtmr2,
                Register::Rtmr3 => rtmr3,
            };
            extend(register, event.digest);
        }
        registers
    }

    /// The log without the padding behind its last event.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes of padding stood behind the last event.
    #[must_use]
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// The log as JSON for people: registers, type names, digests, descriptions.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let [rtmr0, rtmr1, rtmr2, rtmr3] = self.replay().map(Bytes);
        let events: Vec<Value> = self.events().map(|event| event.to_json()).collect();
        json!({
            "size": self.bytes.len(),
            "padding": self.padding,
            "replay": { "rtmr0": rtmr0, "rtmr1": rtmr1, "rtmr2": rtmr2, "rtmr3": rtmr3 },
            "events": events,
        })
    }
}

impl BootEvent<'_> {
    /// Whether the firmware extended a register with it: EV_NO_ACTION events inform only.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.event_type != EventType::NO_ACTION
    }

    /// Whether the digest is the hash of the data itself, so that the register covers the data too.
    #[must_use]
    pub fn data_is_measured(&self) -> bool {
        self.is_measured() && Sha384::digest(self.data).as_slice() == self.digest
    }

    /// What the data says of the event, as one line of printable ASCII of at most [`MAX_DESCRIPTION`] bytes; everything
    /// else is escaped. Evidence of nothing, unless [`BootEvent::data_is_measured`].
    #[must_use]
    pub fn description(&self) -> String {
        describe::describe(self.event_type, self.data)
    }

    fn to_json(self) -> Value {
        json!({
            "event": self.number,
            "register": self.register.name(),
            "type": self.event_type.to_string(),
            "measured": self.is_measured(),
            "digest": Bytes(*self.digest),
            "description": self.description(),
            "data_is_measured": self.data_is_measured(),
        })
    }
}

/// `register := SHA-384(register ‖ digest)`, as TDG.MR.RTMR.EXTEND does.
pub fn extend(register: &mut [u8; 48], digest: &[u8; 48]) {
    *register = Sha384::new().chain_update(*register).chain_update(digest).finalize().into();
}

/// The header event: TCG_PCClientPCREvent with TCG_EfiSpecIdEvent as its data. Its register index says nothing: OVMF
/// writes 1, td-shim 0.
fn header(reader: &mut Reader<'_>) -> Result<Algorithms, BootLogError> {
    let short = truncated("the header event");
    reader.take(4).map_err(&short)?;
    let event_type = EventType(reader.u32().map_err(&short)?);
    if event_type != EventType::NO_ACTION {
        return Err(BootLogError::HeaderType(event_type));
    }
    if reader.array().map_err(&short)? != &[0; 20] {
        return Err(BootLogError::HeaderDigest);
    }
    let size = reader.u32().map_err(&short)?;
    specification(&mut Reader::new(reader.take(length(size)).map_err(&short)?))
}

fn specification(data: &mut Reader<'_>) -> Result<Algorithms, BootLogError> {
    let short = truncated("the header event's data");
    if data.array().map_err(&short)? != SIGNATURE {
        return Err(BootLogError::HeaderSignature);
    }
    data.take(4).map_err(&short)?; // platform class
    let [minor, major, _errata, _uintn] = *data.array().map_err(&short)?;
    if major != MAJOR {
        return Err(BootLogError::Version { major, minor });
    }
    let algorithms = Algorithms::read(data)?;
    let [vendor] = *data.array().map_err(&short)?;
    data.take(usize::from(vendor)).map_err(&short)?;
    match data.rest().len() {
        0 => Ok(algorithms),
        trailing => Err(BootLogError::HeaderTrailing(trailing)),
    }
}

impl Algorithms {
    fn read(data: &mut Reader<'_>) -> Result<Self, BootLogError> {
        let short = truncated("the header event's data");
        let count = data.u32().map_err(&short)?;
        let declared = length(count);
        if !(1..=MAX_ALGORITHMS).contains(&declared) {
            return Err(BootLogError::AlgorithmCount(count));
        }
        let mut algorithms = Self { list: [(0, 0); MAX_ALGORITHMS], count: 0 };
        for entry in algorithms.list.iter_mut().take(declared) {
            *entry = (data.u16().map_err(&short)?, data.u16().map_err(&short)?);
        }
        algorithms.count = declared;
        algorithms.check()?;
        Ok(algorithms)
    }

    fn check(&self) -> Result<(), BootLogError> {
        for (at, &(algorithm, found)) in self.declared().iter().enumerate() {
            if self.declared().iter().take(at).any(|(other, _)| *other == algorithm) {
                return Err(BootLogError::AlgorithmTwice(algorithm));
            }
            let known = SIZES.iter().find(|(known, _)| *known == algorithm);
            if !(1..=MAX_DIGEST).contains(&found) || known.is_some_and(|(_, size)| *size != found) {
                return Err(BootLogError::DigestSize { algorithm, found });
            }
        }
        if self.size(SHA384).is_some() { Ok(()) } else { Err(BootLogError::NoSha384) }
    }

    fn declared(&self) -> &[(u16, u16)] {
        self.list.get(..self.count).unwrap_or_default()
    }

    /// Size of this algorithm's digests in bytes, if the header declares it.
    fn size(&self, algorithm: u16) -> Option<usize> {
        self.declared().iter().find(|(id, _)| *id == algorithm).map(|(_, size)| usize::from(*size))
    }

    fn position(&self, algorithm: u16) -> Option<usize> {
        self.declared().iter().position(|(id, _)| *id == algorithm)
    }
}

/// One TCG_PCR_EVENT2.
fn event<'a>(
    number: usize,
    algorithms: &Algorithms,
    reader: &mut Reader<'a>,
) -> Result<BootEvent<'a>, BootLogError> {
    let short = truncated("an event");
    let index = reader.u32().map_err(&short)?;
    let register = Register::from_index(index).ok_or(BootLogError::Register { event: number, index })?;
    let event_type = EventType(reader.u32().map_err(&short)?);
    let digest = digests(number, algorithms, reader)?;
    let size = length(reader.u32().map_err(&short)?);
    if size > MAX_EVENT_DATA {
        return Err(BootLogError::EventTooLarge { event: number, size });
    }
    let data = reader.take(size).map_err(truncated("an event's data"))?;
    Ok(BootEvent { number, register, event_type, digest, data })
}

/// TPML_DIGEST_VALUES: gives the SHA-384 digest, skips those of other algorithms by the size that the header declares.
fn digests<'a>(
    event: usize,
    algorithms: &Algorithms,
    reader: &mut Reader<'a>,
) -> Result<&'a [u8; 48], BootLogError> {
    let short = truncated("an event's digests");
    let found = reader.u32().map_err(&short)?;
    let declared = algorithms.count;
    if length(found) > declared {
        return Err(BootLogError::DigestCount { event, found, declared });
    }
    let (mut seen, mut sha384) = ([false; MAX_ALGORITHMS], None);
    for _ in 0..found {
        let algorithm = reader.u16().map_err(&short)?;
        let unknown = BootLogError::UnknownAlgorithm { event, algorithm };
        let position = algorithms.position(algorithm).ok_or(unknown)?;
        let seen = seen.get_mut(position).ok_or(unknown)?;
        if std::mem::replace(seen, true) {
            return Err(BootLogError::DigestTwice { event, algorithm });
        }
        if algorithm == SHA384 {
            sha384 = Some(reader.array().map_err(&short)?);
        } else {
            reader.take(algorithms.size(algorithm).ok_or(unknown)?).map_err(&short)?;
        }
    }
    sha384.ok_or(BootLogError::MissingDigest { event })
}

/// Whether no further event follows: the end, or the first bytes of padding. An event that began with twelve bytes of
/// 0xff or zero would have a register index that TDX does not define, or no digest.
fn at_padding(rest: &[u8]) -> bool {
    let start = rest.get(..12).unwrap_or(rest);
    [0x00, 0xff].into_iter().any(|filler| start.iter().all(|byte| *byte == filler))
}

/// Padding is one byte over and over.
fn uniform(reader: &Reader<'_>) -> Result<(), BootLogError> {
    let rest = reader.rest();
    let Some(filler) = rest.first() else { return Ok(()) };
    match rest.iter().position(|byte| byte != filler) {
        Some(at) => Err(BootLogError::TrailingBytes { offset: reader.offset().saturating_add(at) }),
        None => Ok(()),
    }
}

fn length(field: u32) -> usize {
    usize::try_from(field).unwrap_or(usize::MAX)
}

const _: () = assert!(MAX_BOOT_LOG / MIN_EVENT == 15_887);
