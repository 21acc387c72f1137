//! The kernel's device-mapper, by its ioctl interface of version 4 (Linux, `include/uapi/linux/dm-ioctl.h`).
//!
//! Tables are made here, of constants and numbers: no text of a header or of a configuration enters them. Volume keys go through
//! the kernel's keyring, so that no table shows them. The only `unsafe` of this crate stands in the module `sys`.

mod ioctl;
mod mapping;
mod sys;
mod table;

pub(crate) use mapping::{Mapping, Mode};
pub(crate) use sys::LogonKey;
pub(crate) use table::{Disk, Journal, SECTOR, Table};
