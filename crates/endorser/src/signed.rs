//! The signatures of an object under the certificates that came with it, up to a root that signs itself.
//!
//! Whose root that is, is the verifier's to say. What does not verify here is passed on, so that the verdict names it; but
//! it is not kept, and what is kept does not give way to it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, RSA_PSS_2048_8192_SHA384,
    UnparsedPublicKey, VerificationAlgorithm,
};
use confide_evidence::tdx::SignedObject;
use confide_evidence::x509::{Certificate, Crl, KeyAlgorithm, SignatureAlgorithm};

use crate::error::Fault;
use crate::object::{Object, Wanted};

impl Wanted {
    /// The certificates from an object's signer up to the root: those that came with it, or else those `above` it.
    pub(crate) fn signers(self, object: &Object, above: &[Certificate]) -> Result<Vec<Certificate>, Fault> {
        match self {
            Self::TcbInfo(..) | Self::QeIdentity(_) | Self::PckCrl(_) => object.issuers(),
            Self::AmdChain(..) => Ok(object.amd_chain()?),
            Self::RootCaCrl | Self::Vcek(..) | Self::AmdCrl(..) => Ok(above.to_vec()),
        }
    }

    /// Verifies the signatures of an object and of its signers.
    ///
    /// # Errors
    /// [`Fault::Signature`].
    pub(crate) fn verify(self, object: &Object, signers: &[Certificate]) -> Result<(), Fault> {
        let (Some(signer), Some(root)) = (signers.first(), signers.last()) else {
            return Err(Fault::Signature("has no certificate of its signer"));
        };
        let issuers = signers.iter().skip(1).chain([root]);
        signers.iter().zip(issuers).try_for_each(|(subject, issuer)| issued(issuer, subject))?;
        match self {
            Self::TcbInfo(..) => signs(signer, &object.tcb_info()?),
            Self::QeIdentity(_) => signs(signer, &object.qe_identity()?),
            Self::PckCrl(_) => lists(signer, &object.body),
            Self::RootCaCrl | Self::AmdCrl(..) => lists(root, &object.body),
            Self::Vcek(..) => issued(signer, &Certificate::parse(&object.body)?),
            Self::AmdChain(..) => Ok(()),
        }
    }
}

fn issued(issuer: &Certificate, subject: &Certificate) -> Result<(), Fault> {
    verified(issuer, subject.signature_algorithm, subject.tbs(), &subject.signature)
        .ok_or(Fault::Signature("of a certificate does not verify"))
}

fn lists(issuer: &Certificate, der: &[u8]) -> Result<(), Fault> {
    let Crl { tbs, signature, signature_algorithm, .. } = Crl::parse(der)?;
    verified(issuer, signature_algorithm, &tbs, &signature)
        .ok_or(Fault::Signature("of the list does not verify"))
}

/// TCB info and QE identity are signed on P-256 alone, r ‖ s (PCS API, version 4).
fn signs(signer: &Certificate, object: &SignedObject) -> Result<(), Fault> {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &signer.public_key);
    let on_p256 = signer.key_algorithm == KeyAlgorithm::P256;
    let verified = on_p256.then(|| key.verify(object.text.as_bytes(), object.signature.as_bytes()).ok());
    verified.flatten().ok_or(Fault::Signature("of the object does not verify"))
}

/// The algorithms of Intel's and AMD's chains.
fn verified(
    issuer: &Certificate,
    algorithm: SignatureAlgorithm,
    signed: &[u8],
    signature: &[u8],
) -> Option<()> {
    let algorithm: &'static dyn VerificationAlgorithm = match (issuer.key_algorithm, algorithm) {
        (KeyAlgorithm::P256, SignatureAlgorithm::EcdsaSha256) => &ECDSA_P256_SHA256_ASN1,
        (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha384) => &ECDSA_P384_SHA384_ASN1,
        (KeyAlgorithm::Rsa4096, SignatureAlgorithm::RsaPssSha384) => &RSA_PSS_2048_8192_SHA384,
        _ => return None,
    };
    UnparsedPublicKey::new(algorithm, &issuer.public_key).verify(signed, signature).ok()
}
