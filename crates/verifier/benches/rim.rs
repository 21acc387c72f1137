//! The signature of one reference integrity manifest: ours against bergshamra, in one run.
//!
//! `cargo xtask bench` runs it with a case of `fixtures/nvidia` as argument, whose last manifest is taken, and reads one line
//! for each contender: name, median, 10th and 90th percentile in microseconds, separated by tabs. From the document's bytes
//! to digest and signature; the chain of the signer is nobody's here. A known manifest is one of an accepted device, which a
//! memo recognises by the SHA-256 of its bytes. All use aws-lc-rs: bergshamra is built with one provider alone, here not with its
//! default, RustCrypto. The contenders take turns.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures, outside the pure crate"
)]

#[path = "../tests/algorithms/mod.rs"]
mod algorithms;

use std::path::Path;
use std::time::{Duration, Instant};

use algorithms::AWS;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use bergshamra::keys::loader::load_spki_der;
use bergshamra::{DsigContext, KeysManager, VerifyResult};
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{DeviceEvidence, DeviceKind, Endorsements, NvidiaEndorsements};
use confide_evidence::nvidia::Rim;
use confide_evidence::time::parse_rfc3339;
use confide_policy::AppraisalPolicy;
use confide_verifier::{Inputs, Memo, Subject, evaluate};
use serde_json::Value;
use sha2::{Digest as _, Sha384};

const WARM_UP: usize = 3;
const ROUNDS: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [case] = arguments.as_slice() else { panic!("arguments: CASE") };
    let (memo, document) = accepted(Path::new(case));
    let rim = Rim::parse(document.as_bytes()).unwrap();
    let mut keys = KeysManager::new();
    keys.add_key(load_spki_der(&rim.certificates[0].spki).unwrap());
    let context = DsigContext::new(keys);
    let contenders: [(&str, &dyn Fn()); 4] = [
        ("one P-384 verification, aws-lc-rs", &|| signature(&rim)),
        ("confide, cold", &|| cold(&document)),
        ("confide, a known manifest", &|| {
            assert!(memo.knows_manifest(document.as_bytes()));
        }),
        ("bergshamra 0.11.1", &|| {
            assert!(matches!(bergshamra::verify(&context, &document), Ok(VerifyResult::Valid { .. })));
        }),
    ];
    let mut samples = contenders.map(|_| Vec::with_capacity(ROUNDS));
    for round in 0..WARM_UP + ROUNDS {
        for ((_, run), samples) in contenders.iter().zip(&mut samples) {
            run();
            let took = time_of(run);
            if round >= WARM_UP {
                samples.push(took);
            }
        }
    }
    for ((name, _), samples) in contenders.iter().zip(&mut samples) {
        samples.sort_unstable();
        let percentile = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1e6;
        println!("{name}\t{:.1}\t{:.1}\t{:.1}", percentile(50), percentile(10), percentile(90));
    }
}

fn cold(document: &str) {
    let rim = Rim::parse(document.as_bytes()).unwrap();
    assert_eq!(<[u8; 48]>::from(Sha384::digest(&rim.content)), rim.digest);
    signature(&rim);
}

fn signature(rim: &Rim) {
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &rim.certificates[0].public_key);
    key.verify(&rim.signed_info, &rim.signature).unwrap();
}

/// A memo after the appraisal of a case that is accepted, and the last manifest of that.
fn accepted(case: &Path) -> (Memo, String) {
    let folder = case.parent().and_then(Path::parent).unwrap();
    let case: Value = serde_json::from_slice(&std::fs::read(case).unwrap()).unwrap();
    let file = |value: &Value| std::fs::read(folder.join(value["file"].as_str().unwrap())).unwrap();
    let files = |value: &Value| -> Vec<ByteString> {
        value.as_array().unwrap().iter().map(|value| file(value).into()).collect()
    };
    let given = &case["evidence"]["devices"][0];
    let nonce: Bytes<32> = serde_json::from_value(given["nonce"].clone()).unwrap();
    let device = DeviceEvidence {
        kind: DeviceKind::NvidiaGpu,
        chain: file(&given["chain"]).into(),
        report: file(&given["report"]).into(),
    };
    let nvidia = NvidiaEndorsements {
        crls: Vec::new(),
        ocsp: files(&case["endorsements"]["nvidia_ocsp"]),
        rims: files(&case["endorsements"]["nvidia_rims"]),
    };
    let document = String::from_utf8(nvidia.rims.last().unwrap().as_bytes().to_vec()).unwrap();
    let policy = String::from_utf8(file(&case["policy"])).unwrap();
    let memo = Memo::new();
    let accepted = evaluate(&Inputs {
        subject: Subject::Devices { devices: &[device], nonces: &[nonce.0], rim_at: None, nras: None },
        endorsements: &Endorsements { nvidia: Some(nvidia), ..Endorsements::default() },
        prepared: None,
        prepared_devices: None,
        memo: Some(&memo),
        second_opinion: None,
        references: None,
        policy: &AppraisalPolicy::parse_recorded(&policy).unwrap(),
        challenge: None,
        now: parse_rfc3339(case["time"].as_str().unwrap()).unwrap(),
        algorithms: &AWS,
    });
    assert!(accepted.is_ok(), "the case is accepted");
    (memo, document)
}

fn time_of(run: &dyn Fn()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}
