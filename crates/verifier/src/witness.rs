//! Challenges and the witness that an appraisal mints.
//!
//! [`Attested`] is authority: [`crate::appraise`] alone makes it, and what needs an appraised peer takes it. It cannot be
//! built, copied, defaulted or read from bytes.
//!
//! ```compile_fail
//! # fn forge(result: confide_verifier::AttestationResult) {
//! let forged = confide_verifier::Attested { result };
//! # }
//! ```
//!
//! ```compile_fail
//! # fn copy(attested: confide_verifier::Attested) {
//! let copy = attested.clone();
//! # }
//! ```
//!
//! ```compile_fail
//! # fn default() {
//! let forged = confide_verifier::Attested::default();
//! # }
//! ```
//!
//! ```compile_fail
//! # fn from_bytes(json: &str) {
//! let forged: confide_verifier::Attested = serde_json::from_str(json).unwrap();
//! # }
//! ```
//!
//! A challenge is used up by the appraisal that it was drawn for:
//!
//! ```compile_fail
//! # fn reuse(inputs: confide_verifier::Appraisal<'_>, challenge: confide_verifier::Challenge) {
//! let first = confide_verifier::appraise(&inputs, challenge);
//! let second = confide_verifier::appraise(&inputs, challenge);
//! # }
//! ```

use crate::result::AttestationResult;
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{Claims, KeySet};
use confide_evidence::record::RecordedChallenge;
use confide_evidence::transcript::Role;
use rustls_pki_types::UnixTime;

/// What a client asked on its own live connection. Not `Clone`: an appraisal consumes it.
#[derive(Debug)]
pub struct Challenge {
    nonce: [u8; 32],
    exporter: [u8; 32],
    spki: [u8; 32],
}

impl Challenge {
    /// A challenge of role `serve`.
    ///
    /// `nonce` comes from the operating system's random source, `exporter` is the TLS exporter of the live connection
    /// (label `EXPORTER-confide-attest-v1`, context = nonce), `spki` the SHA-256 of the peer certificate's
    /// SubjectPublicKeyInfo on that connection.
    #[must_use]
    pub fn serve(nonce: [u8; 32], exporter: [u8; 32], spki: [u8; 32]) -> Self {
        Self { nonce, exporter, spki }
    }

    /// The values, for a record. They open nothing.
    #[must_use]
    pub fn recorded(&self) -> RecordedChallenge {
        RecordedChallenge {
            role: Role::Serve,
            spki: self.spki.to_vec().into(),
            nonce: Bytes(self.nonce),
            exporter: self.exporter.to_vec().into(),
        }
    }
}

/// Proof that evidence for one challenge was accepted: authority to open a channel to the key that it names.
///
/// See the module's documentation for what cannot be done with it.
#[derive(Debug)]
pub struct Attested {
    pub(crate) result: AttestationResult,
    pub(crate) challenge: Challenge,
    pub(crate) valid_until: UnixTime,
    pub(crate) claims: Claims,
    pub(crate) key_set: KeySet,
}

impl Attested {
    /// SHA-256 of the SubjectPublicKeyInfo of the guest's TLS key.
    #[must_use]
    pub fn spki(&self) -> &[u8; 32] {
        &self.challenge.spki
    }

    /// The TLS exporter of the connection that the evidence is bound to.
    #[must_use]
    pub fn exporter(&self) -> &[u8; 32] {
        &self.challenge.exporter
    }

    /// The nonce of the challenge.
    #[must_use]
    pub fn nonce(&self) -> &[u8; 32] {
        &self.challenge.nonce
    }

    /// Until when the verdict holds.
    #[must_use]
    pub fn valid_until(&self) -> UnixTime {
        self.valid_until
    }

    /// The whole result.
    #[must_use]
    pub fn result(&self) -> &AttestationResult {
        &self.result
    }

    /// The appraised claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The appraised key set.
    #[must_use]
    pub fn key_set(&self) -> &KeySet {
        &self.key_set
    }
}
