//! NVIDIA's services: reference integrity manifests (RIMs), OCSP and revocation lists of GPUs and NVSwitches.
//!
//! | object | request | answer |
//! |---|---|---|
//! | RIM | `GET https://rim.attestation.nvidia.com/v1/rim/ID` | JSON: the document in base64, its SHA-256 |
//! | ids of RIMs | `GET https://rim.attestation.nvidia.com/v1/rim/ids` | JSON |
//! | OCSP answer | `POST https://ocsp.ndis.nvidia.com/`, about one certificate, without a nonce | DER (RFC 6960) |
//! | revocation list | `GET https://crl.ndis.nvidia.com/crl/l1-root.crl`, `/crl/l2-gh100.crl`, `/crl/l2-gb100.crl`, `/crl-corim/l1-corim` | DER |
//!
//! One id has several issues: NVIDIA signs a RIM anew, sometimes with other values, and no field tells the issues apart.
//! So they are kept side by side, by the digest of their content, in a folder that is also what is carried to where there
//! is no network.

mod crl;
mod id;
mod object;
mod refresh;
mod request;
mod rim;
mod service;
mod store;

pub use crl::NvidiaCrl;
pub use id::{MAX_RIM_ID, RimId, RimIdError, rim_ids};
pub use object::NvidiaObject;
pub use refresh::Refreshed;
pub use request::OcspSubject;
pub use rim::{MAX_RIM_ANSWER, MAX_RIM_LIST, rim_document};
pub use service::Nvidia;
pub use store::{Change, Imported, Kept, KeptKind, MAX_IMPORT_DEPTH, MAX_IMPORT_FILES, NvidiaStore};
