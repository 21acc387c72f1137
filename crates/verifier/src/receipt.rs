//! Receipts, held against what an appraisal established of the guest that signed them.

use crate::signature::Algorithms;
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::{Claims, EvidenceDocument, KeySet, ReceiptAlgorithm, ReceiptKey};
use confide_evidence::receipt::Receipt;
use std::fmt;
use thiserror::Error;

/// What vouches for receipts: facts of one appraised document. That it was accepted is the caller's to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voucher {
    boot_id: Bytes<16>,
    key_set: Digest,
    manifest: Digest,
    configuration: Digest,
    key: Option<ReceiptKey>,
}

/// The bodies that a receipt is about, as [`confide_evidence::receipt::salted_hash`] has them under its salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaltedBodies {
    /// Of the request.
    pub request: Digest,
    /// Of the response.
    pub response: Digest,
}

/// Why a receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReceiptFault {
    /// A field differs from what was appraised.
    #[error("its {field} is {found}, the appraised evidence has {expected}")]
    Field {
        /// What the field is.
        field: ReceiptField,
        /// Hexadecimal digits of what was appraised.
        expected: String,
        /// Hexadecimal digits of what the receipt has.
        found: String,
    },
    /// The appraised key set has no receipt key: it is of the role `key-release`.
    #[error("the appraised key set has no key for receipts")]
    NoKey,
    /// The signature is not the appraised key's over these fields and bodies.
    #[error("its signature is not the appraised receipt key's over this request and this response")]
    Signature,
}

/// A field of a receipt that is held against evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptField {
    /// The guest's boot.
    BootId,
    /// Digest of the key set.
    KeySet,
    /// Digest of the model manifest.
    Manifest,
    /// Digest of the deciding configuration.
    Configuration,
}

impl fmt::Display for ReceiptField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BootId => "boot id",
            Self::KeySet => "key set",
            Self::Manifest => "model manifest",
            Self::Configuration => "configuration",
        })
    }
}

impl Voucher {
    /// What appraised facts vouch for.
    #[must_use]
    pub fn new(boot_id: &Bytes<16>, claims: &Claims, key_set: &KeySet) -> Self {
        Self {
            boot_id: *boot_id,
            key_set: key_set.digest(),
            manifest: claims.model.manifest,
            configuration: claims.configuration,
            key: key_set.serving().map(|keys| keys.receipt.clone()),
        }
    }

    /// What a document vouches for once it has been accepted.
    #[must_use]
    pub fn of(document: &EvidenceDocument) -> Self {
        Self::new(&document.boot_id, &document.claims, &document.key_set)
    }

    /// Holds a receipt for these bodies against what was appraised, then verifies its signature. Whether its sequence number
    /// is fresh, and whether its time is likely, is the caller's to judge.
    ///
    /// # Errors
    /// [`ReceiptFault`], the first in the order of [`ReceiptField`].
    pub fn check(
        &self,
        receipt: &Receipt,
        bodies: &SaltedBodies,
        algorithms: &Algorithms,
    ) -> Result<(), ReceiptFault> {
        same(ReceiptField::BootId, &self.boot_id, &receipt.boot_id)?;
        same(ReceiptField::KeySet, &self.key_set, &receipt.key_set)?;
        same(ReceiptField::Manifest, &self.manifest, &receipt.manifest)?;
        same(ReceiptField::Configuration, &self.configuration, &receipt.configuration)?;
        let key = self.key.as_ref().ok_or(ReceiptFault::NoKey)?;
        let algorithm = match key.alg {
            ReceiptAlgorithm::Ed25519 => algorithms.ed25519,
            // A document with another algorithm has been refused where this build knows of none.
            _ => return Err(ReceiptFault::NoKey),
        };
        let signed = receipt.signing_input(&bodies.request, &bodies.response);
        let verified = algorithm.verify_signature(&key.public.0, &signed, &receipt.signature.0);
        verified.map_err(|_| ReceiptFault::Signature)
    }
}

fn same<const N: usize>(
    field: ReceiptField,
    expected: &Bytes<N>,
    found: &Bytes<N>,
) -> Result<(), ReceiptFault> {
    if expected == found {
        return Ok(());
    }
    Err(ReceiptFault::Field { field, expected: expected.to_string(), found: found.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use confide_evidence::receipt::Usage;

    fn algorithms() -> Algorithms {
        Algorithms {
            ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
            ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
            ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
            ed25519: webpki::aws_lc_rs::ED25519,
            rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
            rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
        }
    }

    const BODIES: SaltedBodies = SaltedBodies { request: Bytes([1; 32]), response: Bytes([2; 32]) };

    /// A receipt and what vouches for it.
    fn signed(key: &Ed25519KeyPair) -> (Receipt, Voucher) {
        let unsigned = Receipt {
            salt: Bytes([3; 32]),
            time: 4,
            usage: Usage::default(),
            boot_id: Bytes([5; 16]),
            key_set: Bytes([6; 32]),
            manifest: Bytes([7; 32]),
            sequence: 8,
            signature: Bytes([0; 64]),
            request_id: "r".to_owned(),
            configuration: Bytes([9; 32]),
        };
        let signature = key.sign(&unsigned.signing_input(&BODIES.request, &BODIES.response));
        let signature = Bytes::try_from(signature.as_ref()).unwrap();
        let public = Bytes::try_from(key.public_key().as_ref()).unwrap();
        let voucher = Voucher {
            boot_id: unsigned.boot_id,
            key_set: unsigned.key_set,
            manifest: unsigned.manifest,
            configuration: unsigned.configuration,
            key: Some(ReceiptKey { alg: ReceiptAlgorithm::Ed25519, public }),
        };
        (Receipt { signature, ..unsigned }, voucher)
    }

    #[test]
    fn a_receipt_of_the_appraised_guest_holds() {
        let key = Ed25519KeyPair::generate().unwrap();
        let (receipt, voucher) = signed(&key);
        assert_eq!(voucher.check(&receipt, &BODIES, &algorithms()), Ok(()));
        // The salt is covered through the bodies alone.
        let resalted = Receipt { salt: Bytes([0; 32]), ..receipt };
        assert_eq!(voucher.check(&resalted, &BODIES, &algorithms()), Ok(()));
    }

    #[test]
    fn every_field_of_the_evidence_is_compared_by_itself() {
        let key = Ed25519KeyPair::generate().unwrap();
        let (receipt, voucher) = signed(&key);
        for (other, field, name) in [
            (Voucher { boot_id: Bytes([0; 16]), ..voucher.clone() }, ReceiptField::BootId, "boot id"),
            (Voucher { key_set: Bytes([0; 32]), ..voucher.clone() }, ReceiptField::KeySet, "key set"),
            (
                Voucher { manifest: Bytes([0; 32]), ..voucher.clone() },
                ReceiptField::Manifest,
                "model manifest",
            ),
            (
                Voucher { configuration: Bytes([0; 32]), ..voucher.clone() },
                ReceiptField::Configuration,
                "configuration",
            ),
        ] {
            match other.check(&receipt, &BODIES, &algorithms()) {
                Err(ReceiptFault::Field { field: found, expected, found: said }) => {
                    assert_eq!((found, found.to_string().as_str()), (field, name));
                    assert!(expected.starts_with("00") && !said.starts_with("00"), "{field}");
                }
                other => panic!("{field}: {other:?}"),
            }
        }
        let keyless = Voucher { key: None, ..voucher };
        assert_eq!(keyless.check(&receipt, &BODIES, &algorithms()), Err(ReceiptFault::NoKey));
    }

    #[test]
    fn the_signature_is_the_appraised_keys_over_these_bodies() {
        let [key, other] = [Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap()];
        let (receipt, voucher) = signed(&key);
        let refused = |receipt: &Receipt, bodies: &SaltedBodies| {
            assert_eq!(voucher.check(receipt, bodies, &algorithms()), Err(ReceiptFault::Signature));
        };
        refused(&signed(&other).0, &BODIES);
        refused(&Receipt { time: 5, ..receipt.clone() }, &BODIES);
        refused(&Receipt { sequence: 9, ..receipt.clone() }, &BODIES);
        refused(&receipt, &SaltedBodies { request: Bytes([0; 32]), ..BODIES });
        refused(&receipt, &SaltedBodies { response: Bytes([0; 32]), ..BODIES });
        refused(&receipt, &SaltedBodies { request: BODIES.response, response: BODIES.request });
    }
}
