//! How long inputs of at most 4 MiB take to be refused that are made to cost time first.
//!
//! `cargo xtask bench` reads one line for each: name, median, 10th and 90th percentile in microseconds, separated by
//! tabs. Each input must be refused, or it would measure something else.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a program that measures, outside the pure crate"
)]

#[path = "../tests/guest/mod.rs"]
mod guest;

use std::hint::black_box;
use std::time::{Duration, Instant};

use confide_evidence::bytes::ByteString;
use confide_evidence::document::{Endorsements, EvidenceDocument, MAX_DEVICES, MAX_DOCUMENT, TdxCollateral};
use confide_evidence::tdx::{MAX_COLLATERAL, collateral_from_json};
use confide_evidence::x509::MAX_CRL;
use confide_policy::AppraisalPolicy;
use confide_simulator::{SimulatedGpu, SimulatedTd, TdMeasurements};
use confide_verifier::{AttestationResult, Inputs, Subject, evaluate};
use guest::{AWS, DANGER, Guest, challenge, danger, now};

const ROUNDS: usize = 15;

/// An input: its name, and what refuses it.
struct Case {
    name: &'static str,
    refuse: Box<dyn Fn()>,
}

impl Case {
    fn new(name: &'static str, refuse: impl Fn() + 'static) -> Self {
        Self { name, refuse: Box::new(refuse) }
    }
}

fn main() {
    let policy = danger(DANGER);
    for case in [documents(&policy), quotes(&policy), files()].concat_cases() {
        let mut samples: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                (case.refuse)();
                started.elapsed()
            })
            .collect();
        samples.sort_unstable();
        let at = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1e6;
        println!("{}\t{:.1}\t{:.1}\t{:.1}", case.name, at(50), at(10), at(90));
    }
}

/// Lists of cases as one.
trait ConcatCases {
    fn concat_cases(self) -> Vec<Case>;
}

impl<const N: usize> ConcatCases for [Vec<Case>; N] {
    fn concat_cases(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}

fn document_case(name: &'static str, document: Vec<u8>, policy: &AppraisalPolicy) -> Case {
    assert!(document.len() <= MAX_DOCUMENT, "{name}: {} bytes", document.len());
    let policy = policy.clone();
    Case::new(name, move || {
        let challenge = challenge();
        refused(&Inputs {
            subject: Subject::Document(&document),
            endorsements: &Endorsements::default(),
            prepared: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &policy,
            challenge: Some(&challenge),
            now: now(),
            algorithms: &AWS,
        });
    })
}

fn refused(inputs: &Inputs<'_>) -> AttestationResult {
    let rejection = evaluate(black_box(inputs)).expect_err("an accepted input is no refusal");
    black_box(*rejection.result)
}

fn documents(policy: &AppraisalPolicy) -> Vec<Case> {
    let honest = Guest::new().document();
    let encoded = honest.encode().unwrap();
    let key = b"host_visible\x80";
    let at = encoded.windows(key.len()).position(|window| window == key).unwrap() + key.len() - 1;
    let inserted = |list: Vec<u8>| [&encoded[..at], &list, &encoded[at + 1..]].concat();
    let with_collateral = |change: &dyn Fn(&mut TdxCollateral)| {
        let mut document = honest.clone();
        change(document.endorsements.as_mut().unwrap().tdx.as_mut().unwrap());
        document.encode().unwrap()
    };
    vec![
        document_case(
            "document: a list of three million empty strings",
            inserted([&[0x9a, 0, 0x30, 0, 0][..], &[0x60; 3 << 20]].concat()),
            policy,
        ),
        document_case(
            "document: four million levels of nesting",
            inserted(vec![0x81; MAX_DOCUMENT - encoded.len()]),
            policy,
        ),
        document_case("document: four megabytes of one string", inserted(one_string()), policy),
        document_case(
            "document: both revocation lists full of entries",
            with_collateral(&|collateral| {
                collateral.pck_crl = full_crl(&collateral.pck_crl);
                collateral.root_ca_crl = full_crl(&collateral.root_ca_crl);
            }),
            policy,
        ),
        document_case("document: 32 genuine GPUs in the wrong places", many_gpus().encode().unwrap(), policy),
    ]
}

fn one_string() -> Vec<u8> {
    let size = (3_u32 << 20).to_be_bytes();
    [&[0x81, 0x7a][..], &size, &vec![b'x'; 3 << 20]].concat()
}

/// A revocation list of the largest size with as many entries as fit, its signature broken by that.
fn full_crl(list: &ByteString) -> ByteString {
    // SEQUENCE { INTEGER, UTCTime }, the smallest entry.
    let entry = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        let mut entry = vec![0x30, 20, 0x02, 3, a | 0x40, b, c];
        entry.extend_from_slice(b"\x17\x0d250101000000Z");
        entry
    };
    let room = MAX_CRL - list.as_bytes().len() - 64;
    let entries: Vec<u8> = (0..u32::try_from(room / 22).unwrap()).flat_map(entry).collect();
    ByteString(with_entries(list.as_bytes(), &entries))
}

/// The list with `entries` before its extensions. The simulator's lists have none of their own unless they revoke.
fn with_entries(list: &[u8], entries: &[u8]) -> Vec<u8> {
    let (content, _) = element(list);
    let (tbs, after) = element(content);
    // The extensions, [0], are the last field of the signed part.
    let extensions = (0..tbs.len()).rev().find(|at| tbs[*at] == 0xa0 && element(&tbs[*at..]).1.is_empty());
    let at = extensions.unwrap();
    let tbs = wrapped(0x30, &[&tbs[..at], &wrapped(0x30, entries), &tbs[at..]].concat());
    wrapped(0x30, &[&tbs, after].concat())
}

/// Content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = match der[1] {
        short if short < 0x80 => (2, usize::from(short)),
        long => {
            let digits = usize::from(long & 0x7f);
            (2 + digits, der[2..2 + digits].iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
        }
    };
    let end = (header + length).min(der.len());
    (&der[header.min(end)..end], &der[end..])
}

fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let digits = content.len().to_be_bytes();
            let start = digits.iter().position(|digit| *digit != 0).unwrap();
            out.push(0x80 | u8::try_from(digits.len() - start).unwrap());
            out.extend_from_slice(&digits[start..]);
        }
    }
    out.extend_from_slice(content);
    out
}

/// As many devices as a document takes, each with a whole chain and report, bound to the quote, with the nonce of the
/// first position: every one is looked at in full and refused.
fn many_gpus() -> EvidenceDocument {
    let guest = Guest::new();
    let devices = (0..MAX_DEVICES).map(|seed| {
        let gpu = SimulatedGpu::new(u64::try_from(seed).unwrap()).unwrap();
        Guest::device(&gpu, &guest.binding)
    });
    guest.document_of(devices.collect())
}

fn quotes(policy: &AppraisalPolicy) -> Vec<Case> {
    let guest = Guest::new();
    let quote = guest.platform.quote(&SimulatedTd::new(TdMeasurements::default()).report([7; 64]));
    let collateral = collateral_from_json(guest.platform.collateral_json().as_bytes()).unwrap();
    let case = |name, change: &dyn Fn(&mut TdxCollateral)| {
        let (quote, policy, mut collateral) = (quote.clone(), policy.clone(), collateral.clone());
        change(&mut collateral);
        let endorsements = Endorsements { tdx: Some(collateral), ..Endorsements::default() };
        Case::new(name, move || {
            refused(&Inputs {
                subject: Subject::Quote(&quote),
                endorsements: &endorsements,
                prepared: None,
                memo: None,
                second_opinion: None,
                references: None,
                policy: &policy,
                challenge: None,
                now: now(),
                algorithms: &AWS,
            });
        })
    };
    vec![
        case("quote: signed JSON of half a megabyte, unsigned", &|collateral| {
            collateral.tcb_info = format!("{}{}", collateral.tcb_info, " ".repeat(500 * 1024));
        }),
        case("quote: issuer chains of 64 KiB of nothing", &|collateral| {
            collateral.qe_identity_issuer_chain =
                "\n".repeat(60 * 1024) + &collateral.qe_identity_issuer_chain;
            collateral.tcb_info_issuer_chain.push('x');
        }),
        case("quote: a certificate of 12 KiB of base64 that is none", &|collateral| {
            let body = "MIIB".repeat(12 * 1024 / 4);
            let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            collateral.pck_crl_issuer_chain = text.repeat(4);
        }),
    ]
}

fn files() -> Vec<Case> {
    let case = |name, text: String| {
        assert!(text.len() <= MAX_COLLATERAL, "{name}");
        Case::new(name, move || {
            black_box(collateral_from_json(black_box(text.as_bytes())).expect_err("malformed"));
        })
    };
    vec![
        case("collateral file: four megabytes of hexadecimal digits", {
            format!("{{\"root_ca_crl\":\"{}\"}}", "0a".repeat((4 << 19) - 64))
        }),
        case("collateral file: four megabytes of escapes", {
            format!("{{\"tcb_info\":\"{}\"}}", "\\u00e9".repeat((4 << 20) / 6 - 64))
        }),
        case(
            "collateral file: a million unknown values",
            format!("{{\"x\":[{}0]}}", "0,".repeat((4 << 19) - 64)),
        ),
        case("collateral file: four million brackets", "[".repeat(4 << 20)),
    ]
}
