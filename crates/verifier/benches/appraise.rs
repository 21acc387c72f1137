//! Appraisal of one recorded TDX quote with its collateral: ours against dcap-qvl, in one run.
//!
//! `cargo xtask bench` runs it, with a quote, its collateral as JSON and a time in Unix seconds as arguments, and
//! reads one line for each contender: name, median, 10th and 90th percentile in microseconds, separated by tabs.
//! The contenders take turns, so that a change of the machine's speed meets all of them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures, outside the pure crate"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use confide_evidence::document::Endorsements;
use confide_evidence::tdx::collateral_from_json;
use confide_policy::AppraisalPolicy;
use confide_verifier::{Algorithms, Inputs, PreparedCollateral, Subject, evaluate};
use dcap_qvl::QuoteCollateralV3;
use rustls_pki_types::UnixTime;

const WARM_UP: usize = 20;
const ROUNDS: usize = 400;

const AWS_LC: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ed25519: webpki::aws_lc_rs::ED25519,
};
const RING: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::ring::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::ring::ECDSA_P384_SHA384,
    ed25519: webpki::ring::ED25519,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [quote, collateral, time] = arguments.as_slice() else {
        panic!("arguments: QUOTE COLLATERAL UNIX-SECONDS");
    };
    let case = Case::read(quote, collateral, time.parse().unwrap());
    let prepared = PreparedCollateral::new(case.endorsements.tdx.as_ref().unwrap(), &case.policy, &AWS_LC);
    let contenders: [(&str, &dyn Fn()); 4] = [
        ("confide, aws-lc-rs, cold", &|| case.ours(None, &AWS_LC)),
        ("confide, ring, cold", &|| case.ours(None, &RING)),
        ("confide, aws-lc-rs, prepared collateral", &|| case.ours(Some(&prepared), &AWS_LC)),
        ("dcap-qvl 0.7.1, ring, cold", &|| case.theirs()),
    ];
    let mut samples = contenders.map(|_| Vec::with_capacity(ROUNDS));
    for round in 0..WARM_UP + ROUNDS {
        for ((_, run), samples) in contenders.iter().zip(&mut samples) {
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

fn time_of(run: &dyn Fn()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}

/// One quote and what it is appraised with, read and decoded before the clock starts.
struct Case {
    quote: Vec<u8>,
    endorsements: Endorsements,
    policy: AppraisalPolicy,
    now: u64,
    their_collateral: QuoteCollateralV3,
}

impl Case {
    fn read(quote: &str, collateral: &str, now: u64) -> Self {
        let json = std::fs::read(collateral).unwrap();
        Self {
            quote: std::fs::read(quote).unwrap(),
            endorsements: Endorsements { tdx: Some(collateral_from_json(&json).unwrap()), nvidia: None },
            policy: AppraisalPolicy::inspect(),
            now,
            their_collateral: serde_json::from_slice(&json).unwrap(),
        }
    }

    fn ours(&self, prepared: Option<&PreparedCollateral>, algorithms: &Algorithms) {
        let inputs = Inputs {
            subject: Subject::Quote(&self.quote),
            endorsements: &self.endorsements,
            prepared,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: None,
            now: UnixTime::since_unix_epoch(Duration::from_secs(self.now)),
            algorithms,
        };
        let result = black_box(evaluate(black_box(&inputs)));
        result.expect("a benchmark of a refusal would measure the wrong path");
    }

    fn theirs(&self) {
        let report =
            dcap_qvl::verify::verify(&self.quote, black_box(&self.their_collateral), self.now).unwrap();
        assert_eq!(black_box(report).status, "UpToDate");
    }
}
