//! Every recorded quote gets the TCB status that Intel's own library gave it, and no mutation gets through.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test that reads the corpus and prints what it counted"
)]

mod algorithms;
mod corpus;

use algorithms::{AWS, RING};
use confide_evidence::pem;
use confide_evidence::tdx::PckExtension;
use confide_evidence::x509::Certificate;
use confide_policy::AppraisalPolicy;
use confide_verifier::{Algorithms, AttestationResult, Inputs, Outcome, Subject, evaluate};
use corpus::{Corpus, Row};
use rustls_pki_types::UnixTime;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn appraise(corpus: &Corpus, row: &Row, algorithms: &Algorithms) -> AttestationResult {
    let inputs = Inputs {
        subject: Subject::Quote(&corpus.read(row, "quote")),
        endorsements: &corpus.collateral(row),
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy: &AppraisalPolicy::inspect(),
        challenge: None,
        now: UnixTime::since_unix_epoch(Duration::from_secs(row.seconds())),
        algorithms,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

#[test]
fn every_recorded_quote_has_its_recorded_tcb_status() {
    let Some(corpus) = Corpus::open("723 TDX cases") else { return };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in corpus.rows("tdx-cases.tsv") {
        let expected = row.field("expected").to_owned();
        let result = appraise(&corpus, &row, &AWS);
        let found = result.tcb_status.unwrap_or("null");
        let right = if expected.starts_with("REJECT:") {
            found == "null" && result.outcome == Outcome::Rejected
        } else {
            // The oracle recorded no advisories for some rows.
            let advisories = row.field("advisories");
            found == expected && (advisories.is_empty() || result.advisory_ids.join(",") == advisories)
        };
        if !right {
            wrong.push(format!(
                "{}: expected {expected} {}, found {found} {} ({:?} {})",
                row.id(),
                row.field("advisories"),
                result.advisory_ids.join(","),
                result.code,
                failed(&result)
            ));
        }
        *counts.entry(expected).or_default() += 1;
    }
    println!("TDX cases: {counts:?}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(counts.values().sum::<usize>(), 723);
}

fn failed(result: &AttestationResult) -> String {
    let failed = result.checks.iter().find(|check| Some(check.code) == result.code);
    failed.map(|check| check.actual.to_string()).unwrap_or_default()
}

/// What Intel's library accepts and this verifier does not, with the decision behind it (docs/specification.md).
///
/// "TCB Info svn edited" adds a space: Intel's library signs over its own re-serialisation, here the exact bytes count.
const STRICTER: [&str; 4] = [
    "inner cert type=1",
    "64 0xFF bytes appended",
    "chain order reversed (leaf last)",
    "TCB Info svn edited",
];

#[test]
fn no_mutation_is_accepted_that_must_be_rejected() {
    let Some(corpus) = Corpus::open("269 TDX mutations") else { return };
    let (mut accepted, mut rejected, mut wrong) = (0, 0, Vec::new());
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for row in corpus.rows("tdx-mutations.tsv") {
        let what = row.field("what").to_owned();
        let intel_accepts = !row.field("intel_verdict").starts_with("REJECT");
        let expected = intel_accepts && !STRICTER.contains(&what.as_str());
        let result = appraise(&corpus, &row, &AWS);
        if result.accepted() == expected {
            if expected {
                accepted += 1
            } else {
                rejected += 1
            }
            *reasons.entry(result.code.unwrap_or("accepted")).or_default() += 1;
        } else {
            wrong.push(format!(
                "{} {what}: {:?} {:?} {}",
                row.id(),
                result.outcome,
                result.code,
                failed(&result)
            ));
        }
        if expected && what.starts_with("64 zero") {
            assert!(result.checks.iter().any(|check| check.code == "quote_padding"), "{}", row.id());
        }
    }
    println!("TDX mutations: {accepted} accepted, {rejected} rejected: {reasons:?}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(accepted + rejected, 269);
}

#[test]
fn ring_and_aws_lc_rs_give_the_same_verdict_bytes() {
    let Some(corpus) = Corpus::open("992 comparisons of ring and aws-lc-rs") else { return };
    let mut compared = 0;
    for table in ["tdx-cases.tsv", "tdx-mutations.tsv"] {
        for row in corpus.rows(table) {
            let (aws, ring) = (appraise(&corpus, &row, &AWS), appraise(&corpus, &row, &RING));
            assert_eq!(aws.to_json(), ring.to_json(), "{}", row.id());
            compared += 1;
        }
    }
    println!("identical verdict bytes of ring and aws-lc-rs: {compared}");
    assert_eq!(compared, 992);
}

/// Why CPUSVN of a PCK certificate is not held against the components: it repeats their bytes, and nothing of Intel's says that
/// it must (docs/specification.md, "Fields without an expectation", which has these counts).
#[test]
fn the_cpu_svn_of_every_recorded_pck_certificate_repeats_its_components() {
    let Some(corpus) = Corpus::open("CPUSVN of recorded PCK certificates") else { return };
    let (mut certificates, mut platforms) = (BTreeSet::new(), BTreeSet::new());
    for row in corpus.rows("tdx-cases.tsv") {
        let leaf = pck_of(&corpus, &row);
        let pck = PckExtension::from_certificate(&Certificate::parse(&leaf).unwrap()).unwrap();
        assert_eq!(pck.cpu_svn, pck.components, "{}", row.id());
        platforms.insert(pck.fmspc);
        certificates.insert(leaf);
    }
    println!("PCK certificates: {}, FMSPCs: {}", certificates.len(), platforms.len());
    assert_eq!((certificates.len(), platforms.len()), (27, 5));
}

/// The PCK certificate of a row's quote, DER.
fn pck_of(corpus: &Corpus, row: &Row) -> Vec<u8> {
    let tdx = corpus.collateral(row).tdx.unwrap();
    pem::certificates(tdx.pck_certificate_chain.unwrap().as_bytes()).unwrap().swap_remove(0)
}
