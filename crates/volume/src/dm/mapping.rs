//! One mapping: made, and taken away where what follows fails.

use std::io;
use std::path::PathBuf;

use super::ioctl::{Call, Command, Device};
use super::sys::Control;
use super::table::{Disk, Table};
use crate::error::VolumeError;

/// Whether a mapping can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadOnly,
    Writable,
}

/// A mapping. It is removed when dropped, unless it is kept.
pub(crate) struct Mapping {
    name: String,
    target: &'static str,
    device: Device,
    kept: bool,
}

impl Mapping {
    /// Makes a mapping of a name of up to 100 bytes of `a-z`, `0-9`, `.`, `_`, `-` and, which no name of a volume has,
    /// `+`.
    pub(crate) fn create(name: String, table: &Table, mode: Mode) -> Result<Self, VolumeError> {
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'+')
        };
        if name.is_empty() || name.len() > 100 || !name.bytes().all(plain) {
            return Err(VolumeError::Name { found: name });
        }
        let control = Control::open().map_err(|source| VolumeError::NoDeviceMapper { source })?;
        let readonly = mode == Mode::ReadOnly;
        let target = table.target();
        let failed = |action| {
            let name = name.clone();
            move |source: io::Error| VolumeError::Mapping { action, target, name, source }
        };
        let mut created = Call::of(Command::Create, &name, false).with_uuid(&format!("CONFIDE-{name}"));
        control.call(&mut created).map_err(failed("make"))?;
        let device = created.device().map_err(failed("make"))?;
        let mapping = Self { name: name.clone(), target, device, kept: false };
        let mut load = Call::of(Command::Load, &name, readonly).with_table(table);
        control.call(&mut load).map_err(failed("load"))?;
        control.call(&mut Call::of(Command::Resume, &name, readonly)).map_err(failed("open"))?;
        Ok(mapping)
    }

    /// Where it is: the kernel names the node itself.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.device.minor))
    }

    /// What another mapping is made on.
    pub(crate) fn disk(&self) -> Disk {
        Disk::new(self.device.major, self.device.minor)
    }

    /// Leaves it open when this value ends.
    pub(crate) fn keep(mut self) -> Self {
        self.kept = true;
        self
    }

    /// Removes it.
    pub(crate) fn remove(mut self) -> Result<(), VolumeError> {
        self.kept = true;
        self.removed().map_err(|source| {
            let (target, name) = (self.target, self.name.clone());
            VolumeError::Mapping { action: "close", target, name, source }
        })
    }

    fn removed(&self) -> io::Result<()> {
        Control::open()?.call(&mut Call::of(Command::Remove, &self.name, false))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.kept {
            // The failure that led here is the one that is told.
            let _ = self.removed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_a_path_or_too_long_is_refused_before_the_kernel_is_asked() {
        let table = Table::crypt("confide:x", Disk::new(1, 1), 0, 4096);
        for name in ["", "../x", "a b", "A", &"x".repeat(101)] {
            let made = Mapping::create(name.to_owned(), &table, Mode::ReadOnly).map(drop);
            assert!(matches!(made, Err(VolumeError::Name { .. })), "{name:?}");
        }
    }
}
