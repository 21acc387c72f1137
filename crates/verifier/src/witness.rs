//! Challenges and the witness that an appraisal mints.
//!
//! [`Attested`] is authority: [`crate::appraise`] alone makes it, and what needs an appraised peer takes it. It cannot be
//! built, copied, defaulted or read from bytes.
//!
//! Each forgery stands beside a twin that differs in one line and compiles: nothing else in it is wrong.
//!
//! ```compile_fail,E0451
//! # use confide_verifier::{AttestationResult, Attested};
//! # fn forge(result: AttestationResult, genuine: Attested) -> Attested {
//! Attested { result, ..genuine }
//! # }
//! ```
//!
//! ```
//! # use confide_verifier::{AttestationResult, Attested};
//! # fn forge(result: AttestationResult, genuine: Attested) -> Attested {
//! genuine
//! # }
//! ```
//!
//! ```compile_fail,E0616
//! # use confide_verifier::{AttestationResult, Attested};
//! # fn change(mut attested: Attested, other: AttestationResult) -> Attested {
//! attested.result = other;
//! # attested
//! # }
//! ```
//!
//! ```
//! # use confide_verifier::{AttestationResult, Attested};
//! # fn change(mut attested: Attested, other: AttestationResult) -> Attested {
//! # attested
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # use confide_verifier::Attested;
//! # fn copy(attested: Attested) {
//! let copy = attested.clone();
//! # }
//! ```
//!
//! ```
//! # use confide_verifier::Attested;
//! # fn copy(attested: Attested) {
//! let moved = attested;
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # use confide_verifier::Attested;
//! # fn default() -> Attested {
//! Attested::default()
//! # }
//! ```
//!
//! ```
//! # use confide_verifier::Attested;
//! # fn default() -> Attested {
//! unreachable!()
//! # }
//! ```
//!
//! ```compile_fail,E0277
//! # use confide_verifier::Attested;
//! # fn from_bytes(json: &str) {
//! let forged: Attested = serde_json::from_str(json).unwrap();
//! # }
//! ```
//!
//! ```
//! # use confide_verifier::Attested;
//! # fn from_bytes(json: &str) {
//! let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
//! # }
//! ```
//!
//! A challenge is used up by the appraisal that it was drawn for:
//!
//! ```compile_fail,E0382
//! # use confide_verifier::{Appraisal, Challenge, appraise};
//! # fn reuse(inputs: Appraisal<'_>, challenge: Challenge) {
//! let first = appraise(&inputs, challenge);
//! let second = appraise(&inputs, challenge);
//! # }
//! ```
//!
//! ```
//! # use confide_verifier::{Appraisal, Challenge, appraise};
//! # fn reuse(inputs: Appraisal<'_>, challenge: Challenge) {
//! let first = appraise(&inputs, challenge);
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
    pub(crate) endorsed_until: UnixTime,
    pub(crate) boot_id: Bytes<16>,
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

    /// Until when what endorses the evidence holds: the earliest end of a certificate, a revocation list or other collateral
    /// that the verdict rests on, of the age that the policy allows it, or of the signed reference values. The age of the
    /// evidence and the life of the guest's own keys, which younger evidence prolongs, end [`valid_until`](Self::valid_until)
    /// alone: this is never earlier.
    #[must_use]
    pub fn endorsed_until(&self) -> UnixTime {
        self.endorsed_until
    }

    /// The whole result.
    #[must_use]
    pub fn result(&self) -> &AttestationResult {
        &self.result
    }

    /// The guest's boot.
    #[must_use]
    pub fn boot_id(&self) -> &Bytes<16> {
        &self.boot_id
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The forgeries of this module's documentation, in the one place whose privacy does not stop them: a field that is
    /// renamed stops this from compiling, so that the documentation cannot forbid what no longer exists.
    #[test]
    fn the_forgeries_of_the_documentation_compile_where_the_fields_can_be_seen() {
        fn forge(result: AttestationResult, genuine: Attested) -> Attested {
            Attested { result, ..genuine }
        }
        fn change(mut attested: Attested, other: AttestationResult) -> Attested {
            attested.result = other;
            attested
        }
        let _: fn(AttestationResult, Attested) -> Attested = forge;
        let _: fn(Attested, AttestationResult) -> Attested = change;
        let text = include_str!("witness.rs");
        for line in ["Attested { result, ..genuine }", "attested.result = other;"] {
            assert_eq!(text.matches(&format!("//! {line}\n")).count(), 1, "{line}");
            assert_eq!(text.matches(&format!("            {line}\n")).count(), 1, "{line}");
        }
    }
}
