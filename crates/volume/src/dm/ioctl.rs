//! What is written to and read from `/dev/mapper/control`.

use std::io;
use std::mem::offset_of;

use super::table::Table;

/// Bytes of a mapping's name and of its UUID, each with a zero at its end.
const NAME: usize = 128;
const UUID: usize = 129;
/// Room for what the kernel answers.
const BUFFER: usize = 4096;
/// Only for reading (`DM_READONLY_FLAG`).
const READONLY: u32 = 1;
/// The interface that is spoken: 4.0.0. Newer kernels of version 4 take it.
const VERSION: u32 = 4;

/// `struct dm_ioctl`: only its offsets and its size are taken.
#[repr(C)]
struct DmIoctl {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; NAME],
    uuid: [u8; UUID],
    data: [u8; 7],
}

/// `struct dm_target_spec`.
#[repr(C)]
struct DmTargetSpec {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
}

pub(super) const HEADER: usize = size_of::<DmIoctl>();
const TARGET: usize = size_of::<DmTargetSpec>();

const _: () = assert!(HEADER == 312 && TARGET == 40);
const _: () = assert!(offset_of!(DmIoctl, dev) == 40 && offset_of!(DmIoctl, name) == 48);
const _: () = assert!(offset_of!(DmIoctl, uuid) == 176 && offset_of!(DmIoctl, data) == 305);
const _: () = assert!(offset_of!(DmTargetSpec, next) == 20 && offset_of!(DmTargetSpec, target_type) == 24);

/// A command of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Create,
    Remove,
    Resume,
    Load,
}

impl Command {
    /// `_IOWR(0xfd, NUMBER, struct dm_ioctl)`.
    pub(super) const fn request(self) -> u32 {
        let number = match self {
            Self::Create => 3,
            Self::Remove => 4,
            // DM_DEV_SUSPEND without its flag.
            Self::Resume => 6,
            Self::Load => 9,
        };
        0xc138_fd00 | number
    }
}

/// A mapping's device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// One call, as the bytes that the kernel reads and writes.
pub(super) struct Call {
    pub(super) command: Command,
    pub(super) buffer: Vec<u8>,
}

impl Call {
    /// A call about the mapping of a name, which [`super::Mapping`] has checked.
    pub(super) fn of(command: Command, name: &str, readonly: bool) -> Self {
        let mut buffer = vec![0; BUFFER];
        put(&mut buffer, offset_of!(DmIoctl, version), &VERSION.to_ne_bytes());
        put(&mut buffer, offset_of!(DmIoctl, data_start), &narrow(HEADER).to_ne_bytes());
        put(&mut buffer, offset_of!(DmIoctl, flags), &if readonly { READONLY } else { 0 }.to_ne_bytes());
        put(&mut buffer, offset_of!(DmIoctl, name), name.as_bytes());
        Self { command, buffer }.sized()
    }

    /// With a UUID of the mapping.
    pub(super) fn with_uuid(mut self, uuid: &str) -> Self {
        put(&mut self.buffer, offset_of!(DmIoctl, uuid), uuid.as_bytes());
        self
    }

    /// With a table of one target.
    pub(super) fn with_table(mut self, table: &Table) -> Self {
        let parameters = table.parameters();
        let length = TARGET.saturating_add(parameters.len()).saturating_add(1).next_multiple_of(8);
        let mut target = vec![0; length];
        put(&mut target, offset_of!(DmTargetSpec, length), &table.sectors().to_ne_bytes());
        put(&mut target, offset_of!(DmTargetSpec, next), &narrow(length).to_ne_bytes());
        put(&mut target, offset_of!(DmTargetSpec, target_type), table.target().as_bytes());
        put(&mut target, TARGET, parameters.as_bytes());
        put(&mut self.buffer, offset_of!(DmIoctl, target_count), &1_u32.to_ne_bytes());
        self.buffer.truncate(HEADER);
        self.buffer.extend(target);
        self.buffer.resize(self.buffer.len().max(BUFFER), 0);
        self.sized()
    }

    fn sized(mut self) -> Self {
        let size = narrow(self.buffer.len());
        put(&mut self.buffer, offset_of!(DmIoctl, data_size), &size.to_ne_bytes());
        self
    }

    /// The device number that the kernel answered (`huge_encode_dev`).
    pub(super) fn device(&self) -> io::Result<Device> {
        let field = self.buffer.get(offset_of!(DmIoctl, dev)..).and_then(|rest| rest.first_chunk());
        let number = u64::from_ne_bytes(*field.ok_or(io::ErrorKind::UnexpectedEof)?);
        let number = u32::try_from(number).map_err(|_| io::ErrorKind::InvalidData)?;
        let (major, minor) = ((number & 0xf_ff00) >> 8, (number & 0xff) | ((number >> 12) & 0xf_ff00));
        if major == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Device { major, minor })
    }
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    let end = at.saturating_add(bytes.len());
    buffer.get_mut(at..end).expect("fields lie in the buffer").copy_from_slice(bytes);
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("buffers are small")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::Disk;
    use confide_evidence::bytes::Bytes;
    use confide_release::Verity;

    fn u32_at(buffer: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(buffer[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn requests_are_those_of_the_interface() {
        let requests =
            [Command::Create, Command::Remove, Command::Resume, Command::Load].map(Command::request);
        assert_eq!(requests, [0xc138_fd03, 0xc138_fd04, 0xc138_fd06, 0xc138_fd09]);
    }

    #[test]
    fn a_call_without_a_table_has_version_sizes_flags_name_and_uuid() {
        let call = Call::of(Command::Create, "confide-model", true).with_uuid("CONFIDE-x");
        let buffer = &call.buffer;
        assert_eq!(buffer.len(), 4096);
        assert_eq!([0, 4, 8].map(|at| u32_at(buffer, at)), [4, 0, 0]);
        assert_eq!(
            [12, 16, 20].map(|at| u32_at(buffer, at)),
            [4096, 312, 0],
            "data_size, data_start, targets"
        );
        assert_eq!(u32_at(buffer, 28), 1, "read-only");
        assert_eq!((&buffer[48..61], buffer[61]), (&b"confide-model"[..], 0));
        assert_eq!((&buffer[176..185], buffer[185]), (&b"CONFIDE-x"[..], 0));
    }

    #[test]
    fn a_table_follows_the_header_with_its_parameters_and_a_zero() {
        let (root, salt) = (Bytes([0xab; 32]), Bytes([1; 32]));
        let verity = Verity { root, salt, data_blocks: 300 };
        let table = Table::verity(Disk::new(253, 3), &verity);
        let call = Call::of(Command::Load, "n", true).with_table(&table);
        let (buffer, parameters) = (&call.buffer, table.parameters());
        assert_eq!([12, 16, 20].map(|at| u32_at(buffer, at)), [4096, 312, 1]);
        let target = &buffer[312..];
        assert_eq!(u64::from_ne_bytes(target[..8].try_into().unwrap()), 0, "the first sector");
        assert_eq!(u64::from_ne_bytes(target[8..16].try_into().unwrap()), table.sectors());
        let next = u32_at(target, 20) as usize;
        assert_eq!((next % 8, next), (0, (40 + parameters.len() + 1).next_multiple_of(8)));
        assert_eq!((&target[24..30], target[30]), (&b"verity"[..], 0));
        assert_eq!(&target[40..40 + parameters.len()], parameters.as_bytes());
        assert!(target[40 + parameters.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn device_numbers_are_split_as_the_kernel_joins_them() {
        let answered = |number: u64| {
            let mut call = Call::of(Command::Create, "n", false);
            call.buffer[40..48].copy_from_slice(&number.to_ne_bytes());
            call.device().ok()
        };
        assert_eq!(answered(253 << 8 | 7), Some(Device { major: 253, minor: 7 }));
        assert_eq!(answered(253 << 8 | 0x34 | 0x12 << 20), Some(Device { major: 253, minor: 0x1234 }));
        assert_eq!(answered(0), None);
        assert_eq!(answered(u64::MAX), None);
    }
}
