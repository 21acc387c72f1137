//! The signature of one reference integrity manifest: ours against bergshamra, in one run.
//!
//! `cargo xtask bench` runs it with a manifest as argument, and reads one line for each contender: name, median, 10th and
//! 90th percentile in microseconds, separated by tabs. From the document's bytes to digest and signature; the chain of the
//! signer is nobody's here. Both use aws-lc-rs. The contenders take turns.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures, outside the pure crate"
)]

use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use bergshamra::keys::loader::load_spki_der;
use bergshamra::{DsigContext, KeysManager, VerifyResult};
use confide_evidence::nvidia::Rim;
use sha2::{Digest as _, Sha384};

const WARM_UP: usize = 3;
const ROUNDS: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [file] = arguments.as_slice() else { panic!("arguments: MANIFEST") };
    let document = std::fs::read_to_string(file).unwrap();
    let mut keys = KeysManager::new();
    keys.add_key(load_spki_der(&Rim::parse(document.as_bytes()).unwrap().certificates[0].spki).unwrap());
    let context = DsigContext::new(keys);
    let contenders: [(&str, &dyn Fn()); 2] = [
        ("confide", &|| ours(&document)),
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

fn ours(document: &str) {
    let rim = Rim::parse(document.as_bytes()).unwrap();
    assert_eq!(<[u8; 48]>::from(Sha384::digest(&rim.content)), rim.digest);
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &rim.certificates[0].public_key);
    key.verify(&rim.signed_info, &rim.signature).unwrap();
}

fn time_of(run: &dyn Fn()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}
