//! Encrypted volumes of a guest: LUKS2 headers read without trust, and what opens them.
//!
//! Layer 5. There are two kinds of volume, and a header of anything else is refused ([`Profile`](confide_release::Profile)):
//!
//! | | `model` | `state` |
//! |---|---|---|
//! | written by | its owner, once ([`pack`]) | the guest, at its first attested boot ([`format_state`]) |
//! | cipher | AES-XTS, 512-bit key, 4096-byte sectors | the same, and HMAC-SHA-256 of each sector by dm-crypt's AEAD `authenc` |
//! | integrity | dm-verity inside, root from the broker's signed answer | a tag of 32 bytes for each sector, kept by dm-integrity with a journal |
//! | a changed block | `EIO` when it is read | `EIO` when it is read |
//! | an old block | `EIO` when it is read | not noticed |
//!
//! dm-integrity's journal writes every sector twice, which halves what can be written in a second (in QEMU without KVM, filling a
//! volume with zeros took 0.48 s a MiB with the journal and 0.23 s without). Without it (mode `D`) a
//! host that ends the guest between a sector and its tag leaves a sector that cannot be read again; so `state` has the journal, and
//! scratch volumes, whose key ends with the guest, have none. What lies in the journal is encrypted and tagged already.
//!
//! # What is believed
//! Nothing of a header chooses a cipher, a target or a size: tables of device-mapper are made of this crate's own constants. A
//! header is read once, into memory ([`HeaderCopy`]); it opens only where the broker's signed answer has its digest. The checksum
//! in a LUKS2 header has no key, and protects from nobody.
//!
//! # Limits
//! Blocks of a `state` volume can be set back to older ones of the same generation by whoever holds the disk. Re-keying
//! ([`rotate`]) leaves the volume key as it is: who kept an old header and its secret can still decrypt; the broker refuses to
//! release it (`volume_rolled_back`), and only encryption under a new key ([`rotate::reencrypt`]) ends that. The layout on disk stands
//! in `docs/volumes.md`.
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod binary;
mod codes;
pub mod dm;
mod draw;
mod error;
mod header;
mod image;
mod json;
mod keyslot;
mod open;
pub mod pack;
pub mod rotate;
mod sectors;
pub mod verity;
mod write;

pub use codes::CODES;
pub use draw::Draw;
pub use error::VolumeError;
pub use header::{HEADER_BYTES, Header, HeaderCopy, Unreleased};
pub use image::Image;
pub use json::Hint;
pub use keyslot::VolumeKey;
pub use open::{OpenVolume, format_state, open_model, open_scratch, open_state, verify_tree};
