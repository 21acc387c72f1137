//! Both backends of signature algorithms.
#![allow(dead_code, reason = "no test uses all of it")]

use confide_verifier::Algorithms;

pub(crate) static AWS: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
    ed25519: webpki::aws_lc_rs::ED25519,
    rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
};
pub(crate) static RING: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::ring::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::ring::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::ring::ECDSA_P384_SHA256,
    ed25519: webpki::ring::ED25519,
    rsa_pss_sha384: webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::ring::RSA_PKCS1_2048_8192_SHA256,
};
