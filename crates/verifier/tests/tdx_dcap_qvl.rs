//! Differential test against `dcap-qvl`: every recorded quote, and a few hundred mutations of each with its collateral.
//!
//! Where the two differ, the difference must be one of those listed and explained in [`explained`].
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test that reads the corpus and prints what it counted"
)]

mod corpus;

use confide_evidence::document::{Endorsements, TdxCollateral};
use confide_evidence::record::{Finding, SecondOpinion};
use confide_policy::AppraisalPolicy;
use confide_verifier::{Algorithms, AttestationResult, Inputs, Subject, evaluate};
use corpus::{Corpus, quote_collateral_v3};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use rustls_pki_types::UnixTime;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const MUTATIONS: usize = 300;

static AWS: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ed25519: webpki::aws_lc_rs::ED25519,
};

#[derive(Clone)]
struct Case {
    quote: Vec<u8>,
    collateral: TdxCollateral,
    time: u64,
}

fn ours(case: &Case, second_opinion: &SecondOpinion) -> AttestationResult {
    let inputs = Inputs {
        subject: Subject::Quote(&case.quote),
        endorsements: &Endorsements { tdx: Some(case.collateral.clone()), nvidia: None },
        prepared: None,
        memo: None,
        second_opinion: Some(second_opinion),
        references: None,
        policy: &AppraisalPolicy::inspect(),
        challenge: None,
        now: UnixTime::since_unix_epoch(Duration::from_secs(case.time)),
        algorithms: &AWS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

/// Intel's status name, or the oracle's error with its causes.
fn theirs(case: &Case) -> Result<String, String> {
    let collateral: QuoteCollateralV3 = serde_json::from_str(&quote_collateral_v3(&case.collateral)).unwrap();
    QuoteVerifier::new_prod()
        .allow_service_td(true)
        .verify(&case.quote, &collateral, case.time)
        .map(|report| report.status)
        .map_err(|error| format!("{error:#}"))
}

/// Why the two may differ here; nothing where they must not.
fn explained(ours: &AttestationResult, theirs: &Result<String, String>) -> Option<&'static str> {
    match (ours.tcb_status, theirs) {
        (Some(ours), Ok(theirs)) if ours == theirs => Some("same status"),
        (None, Err(_)) => Some("both refuse"),
        (Some("NoMatchingTcbLevel"), Err(_)) => Some("both refuse: no TCB level"),
        (Some("Revoked"), Err(_)) => Some("both refuse: revoked"),
        (Some(_), Err(error)) => {
            // dcap-qvl refuses these outright; here they are policy, and the status is computed whatever policy says.
            ["SEPT_VE_DISABLE", "Reserved bits", "TD migration", "TD profiling", "Debug mode", "SERVTD_EXT"]
                .into_iter()
                .find(|attribute| error.contains(attribute))
                .map(|_| "TD attributes: policy here, refused outright there")
        }
        (None, Ok(_)) => stricter(ours),
        (Some(_), Ok(_)) => None,
    }
}

/// What this verifier refuses and dcap-qvl lets pass, decided in docs/specification.md: dcap-qvl takes its own copy of
/// the root and the quote's PCK CA, and does not look at the other copies in quote and collateral.
fn stricter(ours: &AttestationResult) -> Option<&'static str> {
    let failed = ours.checks.iter().find(|check| Some(check.code) == ours.code)?;
    match (failed.code, failed.actual.as_ref()) {
        ("quote_format", actual) if actual.contains("behind the quote's end") => {
            Some("stricter: bytes behind the quote must be zero")
        }
        ("quote_format", actual) if actual.starts_with("the inner certification data is") => {
            Some("stricter: inner certification data must be of type 5")
        }
        ("collateral_format", actual) if actual.contains("issuer chain") => {
            Some("stricter: every chain of the collateral must be well formed")
        }
        ("root_anchor" | "root_signature" | "pck_ca_signature", _) => {
            Some("stricter: the collateral's own root and PCK CA must hold")
        }
        ("pck_chain_form", _) => Some(
            "stricter: the quote's chain must be whole, in order, text without strays, and the collateral's",
        ),
        _ => None,
    }
}

/// As an input of the appraisal, the other finding is agreement, or a rejection whose text names a known difference.
fn cross_check(ours: &AttestationResult, theirs: &Result<String, String>, what: &str) {
    let agrees = explained(ours, theirs).is_some_and(|why| why == "same status" || why.starts_with("both"));
    let check = ours.checks.iter().find(|check| check.code.starts_with("cross_check"));
    match check.map(|check| (check.code, &check.actual)) {
        Some(("cross_check", _)) => assert!(agrees, "{what}"),
        Some((_, actual)) => assert!(!agrees && actual.contains("a known difference"), "{what}: {actual}"),
        // A quote that cannot be read is malformed before any opinion counts.
        None => assert_eq!(ours.code, Some("quote_format"), "{what}"),
    }
}

/// A small deterministic generator (Knuth's MMIX constants): the mutations are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let at = random.below(bytes.len());
    bytes[at] ^= 1 << random.below(8);
}

fn flip_text(text: &mut String, random: &mut Random) {
    let mut bytes = std::mem::take(text).into_bytes();
    let at = random.below(bytes.len());
    bytes[at] = b' ' + u8::try_from(random.below(95)).unwrap();
    *text = String::from_utf8(bytes).unwrap();
}

fn mutate(case: &Case, random: &mut Random) -> Case {
    let mut mutated = case.clone();
    let collateral = &mut mutated.collateral;
    match random.below(16) {
        0 => flip(&mut collateral.pck_crl.0, random),
        1 => flip(&mut collateral.root_ca_crl.0, random),
        2 => flip_text(&mut collateral.tcb_info, random),
        3 => flip_text(&mut collateral.qe_identity, random),
        4 => flip(&mut collateral.tcb_info_signature.0, random),
        5 => flip(&mut collateral.qe_identity_signature.0, random),
        6 => flip_text(&mut collateral.pck_crl_issuer_chain, random),
        7 => flip_text(&mut collateral.tcb_info_issuer_chain, random),
        8 => {
            mutated.time =
                mutated.time.wrapping_add(u64::try_from(random.below(1 << 28)).unwrap()).wrapping_sub(1 << 27)
        }
        9 => {
            let end = random.below(mutated.quote.len());
            mutated.quote.truncate(end);
        }
        _ => flip(&mut mutated.quote, random),
    }
    mutated
}

#[test]
fn recorded_quotes_and_their_mutations_agree_with_dcap_qvl() {
    let Some(corpus) = Corpus::open("about 13,000 comparisons with dcap-qvl") else { return };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut disagreements = Vec::new();
    let mut seen = BTreeSet::new();
    let mut compare = |id: &str, what: &str, case: &Case| {
        let theirs = theirs(case);
        let found = match &theirs {
            Ok(status) => Finding::Status(status.clone()),
            Err(why) => Finding::Refused(why.clone()),
        };
        let ours = ours(case, &SecondOpinion { found, verifier: "dcap-qvl 0.7.1".to_owned() });
        cross_check(&ours, &theirs, &format!("{id} {what}"));
        match explained(&ours, &theirs) {
            Some(why) => *counts.entry(why).or_default() += 1,
            None => {
                let failed = ours.checks.iter().find(|check| Some(check.code) == ours.code);
                disagreements.push(format!(
                    "{id} {what}: ours {:?} {:?} ({}), dcap-qvl {theirs:?}",
                    ours.tcb_status,
                    ours.code,
                    failed.map(|check| check.actual.as_ref()).unwrap_or_default()
                ));
            }
        }
    };
    for row in corpus.rows("tdx-cases.tsv") {
        let case = Case {
            quote: corpus.read(&row, "quote"),
            collateral: corpus.collateral(&row).tdx.unwrap(),
            time: row.seconds(),
        };
        compare(row.id(), "as recorded", &case);
        if seen.insert(row.field("quote").to_owned()) {
            let mut random = Random(row.seconds());
            for at in 0..MUTATIONS {
                compare(row.id(), &format!("mutation {at}"), &mutate(&case, &mut random));
            }
        }
    }
    println!("against dcap-qvl 0.7.1, {} quotes: {counts:#?}", seen.len());
    assert!(disagreements.is_empty(), "{} disagreements:\n{}", disagreements.len(), disagreements.join("\n"));
    assert!(
        counts["same status"] > 400 && counts["both refuse"] > 5_000,
        "the comparison compares too little"
    );
}
