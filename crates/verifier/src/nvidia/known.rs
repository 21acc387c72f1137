//! Signatures that have been looked at before: the certificates above a device are shared by all devices of its kind, and
//! whoever staples the same broken list for each of them makes no work by it.

use super::endorsements::{Answer, List};
use crate::signature::{Algorithms, SignatureFault};
use confide_evidence::x509::{Certificate, KeyAlgorithm, SignatureAlgorithm};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// As many signatures as are remembered: those of the most endorsements that a document can carry fit, which are 32
/// manifests with five each, 128 answers with two each and 32 lists, beside those of the devices of some hundred machines
/// that share them. What does not fit is verified each time.
pub const MAX_KNOWN_SIGNATURES: usize = 4096;

/// Whether signatures hold. What came of a key, a message and a signature once comes of them always: nothing here is about
/// time.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<[u8; 32], Result<(), SignatureFault>>>);

impl Known {
    /// As [`Self::certificate`], of evidence. Nothing is remembered yet: anybody can make an authority of their own.
    pub(super) fn authority(
        &self,
        issuer: &Certificate,
        subject: &Certificate,
        algorithms: &Algorithms,
    ) -> Result<(), SignatureFault> {
        match self.recall(&identity(&issuance(issuer, subject))) {
            Some(Ok(())) => Ok(()),
            _ => algorithms.certificate(issuer, subject),
        }
    }

    /// Remembers authorities of evidence, each issued by the next and the root by itself, all of whose signatures hold up to a
    /// root that is trusted: only its owner can make more of them.
    pub(super) fn keep_authorities(&self, certificates: &[Certificate]) {
        let issuers = certificates.iter().skip(1).chain(certificates.last());
        for (subject, issuer) in certificates.iter().zip(issuers) {
            self.keep(identity(&issuance(issuer, subject)), Ok(()));
        }
    }

    /// Verifies that `issuer` signed `subject`: P-384 with SHA-384.
    pub(super) fn certificate(
        &self,
        issuer: &Certificate,
        subject: &Certificate,
        algorithms: &Algorithms,
    ) -> Result<(), SignatureFault> {
        is_p384(issuer, subject.signature_algorithm)?;
        self.once(&issuance(issuer, subject), || algorithms.certificate(issuer, subject))
    }

    /// Verifies the signature of an OCSP answer: P-384 with SHA-384.
    pub(super) fn answer(
        &self,
        responder: &Certificate,
        answer: &Answer,
        algorithms: &Algorithms,
    ) -> Result<(), SignatureFault> {
        let response = &answer.response;
        is_p384(responder, response.signature_algorithm)?;
        self.once(&[&responder.spki, &answer.digest, &response.signature, b"an answer"], || {
            algorithms.issued(responder, response.signature_algorithm, &response.tbs, &response.signature)
        })
    }

    /// Verifies the signature of a revocation list: P-384 with SHA-384, or with SHA-256 as NVIDIA signs its lists.
    pub(super) fn list(
        &self,
        issuer: &Certificate,
        list: &List,
        algorithms: &Algorithms,
    ) -> Result<(), SignatureFault> {
        let (verifier, name) = match (issuer.key_algorithm, list.crl.signature_algorithm) {
            (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha256) => {
                (algorithms.ecdsa_p384_sha256, "SHA-256")
            }
            (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha384) => {
                (algorithms.ecdsa_p384_sha384, "SHA-384")
            }
            _ => return Err(SignatureFault::Algorithm),
        };
        self.once(&[&issuer.spki, &list.digest, &list.crl.signature, name.as_bytes()], || {
            verifier
                .verify_signature(&issuer.public_key, &list.crl.tbs, &list.crl.signature)
                .map_err(|_| SignatureFault::Invalid)
        })
    }

    /// Verifies a raw r ‖ s signature of 96 bytes: P-384 with SHA-384.
    pub(super) fn p384_raw(
        &self,
        signer: &Certificate,
        message: &[u8],
        signature: &[u8; 96],
        algorithms: &Algorithms,
    ) -> Result<(), SignatureFault> {
        is_p384(signer, SignatureAlgorithm::EcdsaSha384)?;
        self.once(&[&signer.spki, message, signature, b"r and s"], || {
            algorithms.p384_raw(&signer.public_key, message, signature)
        })
    }

    fn once(
        &self,
        parts: &[&[u8]],
        verify: impl FnOnce() -> Result<(), SignatureFault>,
    ) -> Result<(), SignatureFault> {
        let id = identity(parts);
        if let Some(found) = self.recall(&id) {
            return found;
        }
        let found = verify();
        self.keep(id, found);
        found
    }

    fn recall(&self, id: &[u8; 32]) -> Option<Result<(), SignatureFault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    fn keep(&self, id: [u8; 32], found: Result<(), SignatureFault>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_KNOWN_SIGNATURES {
            known.insert(id, found);
        }
    }
}

/// What says that an issuer has signed a certificate.
fn issuance<'c>(issuer: &'c Certificate, subject: &'c Certificate) -> [&'c [u8]; 3] {
    [&issuer.spki, subject.tbs(), &subject.signature]
}

/// Whether it is a signature with SHA-384 by a key on P-384.
fn is_p384(signer: &Certificate, algorithm: SignatureAlgorithm) -> Result<(), SignatureFault> {
    match (signer.key_algorithm, algorithm) {
        (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha384) => Ok(()),
        _ => Err(SignatureFault::Algorithm),
    }
}

/// SHA-256 of the parts, each behind its length, so that no two lists of parts are one.
fn identity(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::tests::algorithms;

    #[test]
    fn authorities_are_remembered_once_their_whole_chain_holds() {
        let gpu = confide_simulator::SimulatedGpu::new(0).unwrap();
        let chain: Vec<Certificate> =
            gpu.certificates().iter().map(|der| Certificate::parse(der).unwrap()).collect();
        let (known, count) = (Known::default(), |known: &Known| known.0.lock().unwrap().len());
        for _ in 0..2 {
            assert_eq!(known.authority(&chain[3], &chain[2], &algorithms()), Ok(()));
            assert_eq!(known.authority(&chain[4], &chain[2], &algorithms()), Err(SignatureFault::Invalid));
            assert_eq!(count(&known), 0, "anybody makes signatures that hold under authorities of their own");
        }
        known.keep_authorities(&chain[2..]);
        assert_eq!(count(&known), 3);
        assert_eq!(known.authority(&chain[3], &chain[2], &algorithms()), Ok(()));
        assert_eq!(known.authority(&chain[4], &chain[2], &algorithms()), Err(SignatureFault::Invalid));
    }
}
