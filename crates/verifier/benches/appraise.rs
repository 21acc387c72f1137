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
use confide_evidence::pem;
use confide_evidence::tdx::{Padding, Quote, collateral_from_json};
use confide_evidence::x509::Certificate;
use confide_policy::AppraisalPolicy;
use confide_verifier::{Algorithms, Inputs, Memo, PreparedCollateral, Subject, evaluate};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::config::{Config, CryptoProvider, EcdsaSigEncoder};
use dcap_qvl::configs::RingConfig;
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;
use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
use sha2::{Digest as _, Sha256, Sha384};

const WARM_UP: usize = 2;
const ROUNDS: usize = 100;
/// Runs of a contender in a row that count, after as many that do not.
const TURN: usize = 20;

const AWS_LC: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
    ed25519: webpki::aws_lc_rs::ED25519,
    rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
};
const RING: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::ring::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::ring::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::ring::ECDSA_P384_SHA256,
    ed25519: webpki::ring::ED25519,
    rsa_pss_sha384: webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::ring::RSA_PKCS1_2048_8192_SHA256,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [quote, collateral, time] = arguments.as_slice() else {
        panic!("arguments: QUOTE COLLATERAL UNIX-SECONDS");
    };
    let case = Case::read(quote, collateral, time.parse().unwrap());
    let prepared = PreparedCollateral::new(case.endorsements.tdx.as_ref().unwrap(), &case.policy, &AWS_LC);
    let memo = Memo::new();
    let contenders: [(&str, &dyn Fn()); 9] = [
        ("one P-256 verification, aws-lc-rs", &|| case.verifications[0].run()),
        ("three P-256 verifications, aws-lc-rs", &|| case.verifications.iter().for_each(Verification::run)),
        ("confide, aws-lc-rs, cold", &|| case.ours(None, None, &AWS_LC)),
        ("confide, ring, cold", &|| case.ours(None, None, &RING)),
        ("confide, aws-lc-rs, prepared collateral, new platform", &|| {
            case.ours(Some(&prepared), None, &AWS_LC)
        }),
        ("confide, aws-lc-rs, prepared collateral, known platform", &|| {
            case.ours(Some(&prepared), Some(&memo), &AWS_LC)
        }),
        ("confide, aws-lc-rs, known collateral and platform", &|| case.ours(None, Some(&memo), &AWS_LC)),
        ("dcap-qvl 0.7.1, ring, cold", &|| case.theirs::<RingConfig>()),
        ("dcap-qvl 0.7.1, aws-lc-rs, cold", &|| case.theirs::<AwsLcConfig>()),
    ];
    let mut samples = contenders.map(|_| Vec::with_capacity(ROUNDS * TURN));
    for round in 0..WARM_UP + ROUNDS {
        for ((_, run), samples) in contenders.iter().zip(&mut samples) {
            // What the others left in caches and branch predictors is not this contender's to pay.
            (0..TURN).for_each(|_| run());
            for _ in 0..TURN {
                let took = time_of(run);
                if round >= WARM_UP {
                    samples.push(took);
                }
            }
        }
    }
    assert_eq!((memo.platforms(), memo.collaterals()), (1, 1), "the memo knows the platform");
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
    verifications: [Verification; 3],
    /// DER of the root certificate that dcap-qvl is told to trust.
    root: Vec<u8>,
}

/// A signature, ready to be verified: the unit that the other times are held against.
struct Verification {
    point: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Verification {
    /// The three that are new in a quote of an unseen platform: quote, QE report, PCK certificate.
    fn of(quote: &[u8]) -> [Self; 3] {
        let quote = Quote::parse(quote, Padding::Zeros).unwrap();
        let chain = pem::certificates(quote.signature.pck_chain).unwrap();
        let [pck, ca] = [&chain[0], &chain[1]].map(|der| Certificate::parse(der).unwrap());
        let raw = |signature: &[u8; 64]| {
            let (r, s) = signature.split_at(32);
            DerSigEncoder::encode_ecdsa_sig(r, s).unwrap()
        };
        let signed = &quote.signature;
        [
            Self {
                point: [&[4], &signed.attestation_key[..]].concat(),
                message: quote.signed.to_vec(),
                signature: raw(signed.quote_signature),
            },
            Self {
                point: pck.public_key.clone(),
                message: signed.qe_report_bytes.to_vec(),
                signature: raw(signed.qe_report_signature),
            },
            Self { point: ca.public_key, message: pck.tbs().to_vec(), signature: pck.signature },
        ]
    }

    fn run(&self) {
        let algorithm = AWS_LC.ecdsa_p256_sha256;
        let (point, message, signature) = black_box((&self.point, &self.message, &self.signature));
        algorithm.verify_signature(point, message, signature).unwrap();
    }
}

/// dcap-qvl's own parsers with the cryptography that Confide's programs use.
struct AwsLcConfig;

impl Config for AwsLcConfig {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = AwsLcConfig;
}

impl CryptoProvider for AwsLcConfig {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        AWS_LC.ecdsa_p256_sha256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        Sha384::digest(data).into()
    }
}

impl Case {
    fn read(quote: &str, collateral: &str, now: u64) -> Self {
        let json = std::fs::read(collateral).unwrap();
        let quote = std::fs::read(quote).unwrap();
        let ours = collateral_from_json(&json).unwrap();
        let root = pem::certificates(ours.pck_crl_issuer_chain.as_bytes()).unwrap().pop().unwrap();
        Self {
            verifications: Verification::of(&quote),
            quote,
            endorsements: Endorsements { tdx: Some(ours), ..Endorsements::default() },
            policy: AppraisalPolicy::inspect(),
            now,
            their_collateral: serde_json::from_slice(&json).unwrap(),
            root,
        }
    }

    fn ours(&self, prepared: Option<&PreparedCollateral>, memo: Option<&Memo>, algorithms: &Algorithms) {
        let inputs = Inputs {
            subject: Subject::Quote(&self.quote),
            endorsements: &self.endorsements,
            prepared,
            prepared_devices: None,
            memo,
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

    fn theirs<C: Config>(&self) {
        let verifier = QuoteVerifier::<C>::new_with_config(self.root.clone());
        let report = verifier.verify(&self.quote, black_box(&self.their_collateral), self.now).unwrap();
        assert_eq!(black_box(report).status, "UpToDate");
    }
}
