//! Algorithms that count how often this thread verifies a signature, and the page that says how often at most.

use confide_verifier::Algorithms;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use std::cell::Cell;

const LIMITS: &str = include_str!("../../../../docs/limits.md");

pub(crate) static COUNTING: Algorithms = Algorithms {
    ecdsa_p256_sha256: &Counting(webpki::aws_lc_rs::ECDSA_P256_SHA256),
    ecdsa_p384_sha384: &Counting(webpki::aws_lc_rs::ECDSA_P384_SHA384),
    ecdsa_p384_sha256: &Counting(webpki::aws_lc_rs::ECDSA_P384_SHA256),
    ed25519: &Counting(webpki::aws_lc_rs::ED25519),
    rsa_pss_sha384: &Counting(webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY),
    rsa_pkcs1_sha256: &Counting(webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256),
};

thread_local! {
    static VERIFIED: Cell<usize> = const { Cell::new(0) };
}

/// How often `appraise`, which uses [`COUNTING`], verifies a signature.
pub(crate) fn verifications(appraise: impl FnOnce()) -> usize {
    VERIFIED.set(0);
    appraise();
    VERIFIED.get()
}

/// The number that docs/limits.md has for this.
pub(crate) fn documented(of: &str) -> usize {
    let row = LIMITS.lines().find_map(|line| line.strip_prefix(&format!("| {of} | ")));
    row.unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[derive(Debug)]
struct Counting(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        VERIFIED.set(VERIFIED.get() + 1);
        self.0.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }
}
