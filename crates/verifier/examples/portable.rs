//! The appraisal as a portable build has it: ring's signature algorithms, inputs from memory, no clock and no network.
//!
//! It appraises a quote of the simulator, and prints the verdict.
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::time::Duration;

use confide_evidence::document::Endorsements;
use confide_evidence::tdx::collateral_from_json;
use confide_policy::AppraisalPolicy;
use confide_verifier::{Algorithms, Inputs, Subject, evaluate};
use rustls_pki_types::UnixTime;

static RING: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::ring::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::ring::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::ring::ECDSA_P384_SHA256,
    ed25519: webpki::ring::ED25519,
    rsa_pss_sha384: webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::ring::RSA_PKCS1_2048_8192_SHA256,
};

const QUOTE: &[u8] = include_bytes!("../../../fixtures/tdx/accept-last-second/quote.bin");
const COLLATERAL: &[u8] = include_bytes!("../../../fixtures/tdx/accept-last-second/collateral.json");
/// It names the simulator's roots.
const POLICY: &str = include_str!("../../../fixtures/tdx/common/quote.toml");
/// 2026-10-01T00:00:00Z, in Unix seconds.
const TIME: u64 = 1_790_812_800;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = AppraisalPolicy::parse_recorded(POLICY)?;
    let endorsements =
        Endorsements { tdx: Some(collateral_from_json(COLLATERAL)?), ..Endorsements::default() };
    let inputs = Inputs {
        subject: Subject::Quote(QUOTE),
        endorsements: &endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy: &policy,
        challenge: None,
        now: UnixTime::since_unix_epoch(Duration::from_secs(TIME)),
        algorithms: &RING,
    };
    match evaluate(&inputs) {
        Ok(result) => println!("{}", result.to_json()),
        Err(rejection) => return Err(rejection.result.to_json().into()),
    }
    Ok(())
}

#[test]
fn a_quote_is_accepted_by_rings_algorithms() {
    main().unwrap();
}
