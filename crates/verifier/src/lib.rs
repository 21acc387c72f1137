//! Pure appraisal of confidential-computing evidence.
//!
//! [`evaluate`] takes evidence, endorsements, policy, challenge and time and returns an [`AttestationResult`]: data,
//! without authority, which auditors replay to the same bytes. [`appraise`] consumes a [`Challenge`] and is the only
//! maker of [`Attested`], the witness that a channel needs before it takes a prompt.
//!
//! No clock, I/O, random source, log or global: what is not in the inputs does not count.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod appraise;
mod boot_log;
mod check;
mod cross_check;
mod document;
pub mod ear;
mod memo;
mod nvidia;
mod platform;
mod receipt;
mod references;
mod result;
pub mod rules;
mod signature;
mod signed;
mod snp;
mod tcb;
mod tdx;
mod text;
pub mod witness;

pub use appraise::{
    Appraisal, Inputs, NEVER_WAIVED, Subject, appraise, evaluate, malformed_collateral, malformed_file,
};
pub use check::{Check, Rule, Status};
pub use memo::{
    MAX_COLLATERALS, MAX_DEVICE_ENDORSEMENTS, MAX_ENCLAVE_PARTS, MAX_KEPT_ENDORSEMENTS, MAX_PLATFORMS, Memo,
};
pub use nvidia::{MAX_KNOWN_SIGNATURES, PreparedDevices, manifest_fault};
pub use receipt::{ReceiptFault, ReceiptField, SaltedBodies, Voucher};
pub use result::{
    AttestationResult, DeviceFacts, DeviceOutcome, DeviceResult, MAX_DIFFERENCES, ManifestResult,
    MeasurementDifference, Measurements, Outcome, PckResult, Rejection, SnpMeasurements, TdxMeasurements,
};
pub use signature::Algorithms;
pub use signed::PreparedReferences;
pub use tdx::{PreparedCollateral, verify_origin};
pub use text::Text;
pub use witness::{Attested, Challenge};
