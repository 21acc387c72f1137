//! Recorded SEV-SNP reports under AMD's own roots: genuine ones verify, everything else does not.
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
mod snp;

use algorithms::{AWS, RING};
use confide_evidence::x509::Certificate;
use confide_policy::AppraisalPolicy;
use confide_verifier::{AttestationResult, Outcome, Status};
use corpus::{Corpus, Row};
use snp::{Case, status};

const DAY: u64 = 86_400;

/// Every certificate of the corpus.
struct Certificates(Vec<(Certificate, Vec<u8>)>);

impl Certificates {
    fn of(corpus: &Corpus) -> Self {
        let rows = corpus.rows("snp-certificates.tsv");
        let ders = rows.iter().map(|row| corpus.read(row, "file"));
        Self(ders.map(|der| (Certificate::parse(&der).unwrap(), der)).collect())
    }

    fn named(&self, common_name: &str) -> Vec<u8> {
        self.0.iter().find(|(certificate, _)| certificate.common_name == common_name).unwrap().1.clone()
    }

    /// VCEK and VLEK certificates.
    fn keys(&self) -> impl Iterator<Item = &(Certificate, Vec<u8>)> {
        self.0
            .iter()
            .filter(|(certificate, _)| ["SEV-VCEK", "SEV-VLEK"].contains(&certificate.common_name.as_str()))
    }

    /// The case of a report under a certificate, at a time at which that is valid.
    fn case(&self, report: Vec<u8>, key: &(Certificate, Vec<u8>)) -> Case {
        let issuer = self.0.iter().find(|(found, _)| found.subject == key.0.issuer).unwrap();
        Case {
            report,
            certificates: vec![key.1.clone(), issuer.1.clone()],
            lists: Vec::new(),
            seconds: u64::try_from(key.0.not_before).unwrap() + DAY,
        }
    }
}

/// The rows with a certificate that signs them, and their cases.
fn genuine(corpus: &Corpus, certificates: &Certificates) -> Vec<(Row, Case)> {
    let rows =
        corpus.rows("snp-reports.tsv").into_iter().filter(|row| row.field("expected").starts_with("accept"));
    rows.map(|row| {
        let der = corpus.read(&row, "vcek");
        let key = certificates.keys().find(|(_, found)| *found == der).unwrap();
        let case = certificates.case(corpus.read(&row, "file"), key);
        (row, case)
    })
    .collect()
}

fn inspect(case: &Case) -> AttestationResult {
    case.appraise(&AppraisalPolicy::inspect(), &AWS)
}

/// What the corpus grades: signature and chain.
fn signature_and_chain(result: &AttestationResult) -> bool {
    ["snp_root_anchor", "snp_issuer_signature", "snp_key_signature", "snp_report_signature", "snp_validity"]
        .into_iter()
        .all(|code| status(result, code) == Some(Status::Pass))
}

#[test]
fn every_recorded_report_has_its_recorded_verdict() {
    let Some(corpus) = Corpus::open("30 SEV-SNP reports") else { return };
    let certificates = Certificates::of(&corpus);
    let genuine = genuine(&corpus, &certificates);
    let (mut accepted, mut debug) = (0, 0);
    for (row, case) in &genuine {
        let result = inspect(case);
        assert!(signature_and_chain(&result), "{}: {:?}", row.field("file"), result.checks);
        assert!(!result.simulated);
        // POLICY bit 19.
        let policy = u64::from_str_radix(row.field("policy"), 16).unwrap();
        if policy >> 19 & 1 == 1 {
            assert_eq!(result.code, Some("snp_debug"), "{}", row.field("file"));
            debug += 1;
        } else {
            assert!(result.accepted(), "{}: {:?}", row.field("file"), result.code);
            assert_eq!(result.checks[0].actual, format!("version {}", row.field("version")));
            accepted += 1;
        }
        let measurements = result.measurements.unwrap();
        assert_eq!(measurements.snp().unwrap().reported_tcb.to_string(), row.field("reported_tcb_le"));
        assert_eq!(measurements.snp().unwrap().vmpl.to_string(), row.field("vmpl"));
    }
    println!("{accepted} reports accepted, {debug} refused for their debug bit alone");
    assert_eq!((accepted, debug), (27, 1));
    let rows = corpus.rows("snp-reports.tsv");
    let altered: Vec<_> = rows.iter().filter(|row| !row.field("expected").starts_with("accept")).collect();
    assert_eq!(altered.len(), 2);
    for row in altered {
        for key in certificates.keys() {
            let result = inspect(&certificates.case(corpus.read(row, "file"), key));
            assert_eq!(result.outcome, Outcome::Rejected, "{}", row.field("file"));
            assert!(!signature_and_chain(&result));
        }
    }
}

#[test]
fn the_root_may_be_given_or_left_away() {
    let Some(corpus) = Corpus::open("28 SEV-SNP reports") else { return };
    let certificates = Certificates::of(&corpus);
    for (row, case) in genuine(&corpus, &certificates) {
        let mut with_root = case.clone();
        let root = format!("ARK-{}", row.field("issuer").rsplit('-').next().unwrap());
        with_root.certificates.insert(0, certificates.named(&root));
        let (without, with) = (inspect(&case), inspect(&with_root));
        assert_eq!((without.code, without.valid_until), (with.code, with.valid_until));
        // Every other root is in no chain.
        for other in ["ARK-Milan", "ARK-Genoa", "ARK-Turin"].into_iter().filter(|other| *other != root) {
            let mut wrong = case.clone();
            wrong.certificates.push(certificates.named(other));
            assert_eq!(inspect(&wrong).code, Some("snp_chain_form"), "{other}");
        }
    }
}

#[test]
fn no_report_verifies_under_the_key_of_another_chip_or_version() {
    let Some(corpus) = Corpus::open("28 SEV-SNP reports under 54 certificates") else { return };
    let certificates = Certificates::of(&corpus);
    let mut pairs = 0;
    for (row, case) in genuine(&corpus, &certificates) {
        let own = Certificate::parse(&corpus.read(&row, "vcek")).unwrap();
        for key in certificates.keys().filter(|(key, _)| key.public_key != own.public_key) {
            let result = inspect(&certificates.case(case.report.clone(), key));
            // Two certificates of the corpus are altered copies.
            let codes = ["snp_report_signature", "snp_key_kind", "snp_key_signature"];
            assert!(codes.contains(&result.code.unwrap()), "{:?}", result.code);
            pairs += 1;
        }
    }
    println!("{pairs} pairs refused");
    assert!(pairs > 1000);
}

#[test]
fn a_time_outside_of_a_window_is_rejected() {
    let Some(corpus) = Corpus::open("28 SEV-SNP reports") else { return };
    let certificates = Certificates::of(&corpus);
    for (row, mut case) in genuine(&corpus, &certificates) {
        let key = Certificate::parse(&corpus.read(&row, "vcek")).unwrap();
        let (first, last) = (u64::try_from(key.not_before).unwrap(), u64::try_from(key.not_after).unwrap());
        for (seconds, inside) in [(first - 1, false), (first, true), (last, true), (last + 1, false)] {
            case.seconds = seconds;
            assert_eq!(inspect(&case).code == Some("snp_validity"), !inside, "{}", row.field("file"));
        }
    }
}

/// Reports of every version, product and kind of key.
fn bases(corpus: &Corpus, certificates: &Certificates) -> Vec<Case> {
    let mut kinds = Vec::new();
    let mut bases = Vec::new();
    for (row, case) in genuine(corpus, certificates) {
        let kind = ["version", "issuer"].map(|column| row.field(column).to_owned());
        if inspect(&case).accepted() && !kinds.contains(&kind) {
            kinds.push(kind);
            bases.push(case);
        }
    }
    bases
}

#[test]
fn no_changed_byte_of_a_report_is_accepted() {
    let Some(corpus) = Corpus::open("7 × 1184 mutated SEV-SNP reports") else { return };
    let certificates = Certificates::of(&corpus);
    let bases = bases(&corpus, &certificates);
    assert_eq!(bases.len(), 7, "v2 and v3 of Milan, also by VLEK, v3 and v5 of Genoa, v5 of Turin");
    let mut mutations = 0;
    for base in bases {
        let refused = |report: Vec<u8>, what: &str| {
            let result = inspect(&Case { report, ..base.clone() });
            assert_ne!(result.outcome, Outcome::Accepted, "{what}");
            result
        };
        for at in 0..base.report.len() {
            let mut report = base.report.clone();
            report[at] ^= 1 << (at % 8);
            let result = refused(report, &format!("byte {at:#x}"));
            let unsupported = (0..4).contains(&at) || (0x34..0x38).contains(&at);
            assert_eq!(result.outcome == Outcome::Unsupported, unsupported && at != 0, "byte {at:#x}");
            mutations += 1;
        }
        for length in [0, 1, 0x2a0, 1183] {
            let result = refused(base.report[..length].to_vec(), "truncated");
            assert_eq!((result.outcome, result.code), (Outcome::Malformed, Some("snp_report_format")));
        }
        for more in [vec![0], vec![1], vec![0; 2816]] {
            let result = refused([&base.report[..], &more].concat(), "trailing");
            assert_eq!((result.outcome, result.code), (Outcome::Malformed, Some("snp_report_format")));
        }
    }
    println!("{mutations} mutated reports refused");
}

#[test]
fn no_changed_byte_of_a_certificate_is_accepted() {
    let Some(corpus) = Corpus::open("mutated SEV-SNP certificates") else { return };
    let certificates = Certificates::of(&corpus);
    let mut mutations = 0;
    for (which, mut base) in bases(&corpus, &certificates).into_iter().enumerate() {
        let issuer = Certificate::parse(&base.certificates[1]).unwrap();
        base.certificates
            .push(certificates.0.iter().find(|(found, _)| found.subject == issuer.issuer).unwrap().1.clone());
        assert!(inspect(&base).accepted());
        for position in 0..3 {
            for at in (which % 6..base.certificates[position].len()).step_by(6) {
                let mut case = base.clone();
                case.certificates[position][at] ^= 1 << ((at / 6) % 8);
                let result = inspect(&case);
                assert_ne!(result.outcome, Outcome::Accepted, "certificate {position}, byte {at:#x}");
                mutations += 1;
            }
        }
    }
    println!("{mutations} mutated certificates refused");
    assert!(mutations > 4000);
}

#[test]
fn ring_and_aws_lc_rs_give_the_same_verdict_bytes() {
    let Some(corpus) = Corpus::open("SEV-SNP reports with two libraries") else { return };
    let certificates = Certificates::of(&corpus);
    let policy = AppraisalPolicy::inspect();
    let same = |case: &Case| {
        let [aws, ring] = [&AWS, &RING].map(|algorithms| case.appraise(&policy, algorithms).to_json());
        assert_eq!(aws, ring);
    };
    for (_, case) in genuine(&corpus, &certificates) {
        same(&case);
        for at in (0..case.report.len()).step_by(37) {
            let mut mutated = case.clone();
            mutated.report[at] ^= 0x10;
            same(&mutated);
        }
        for position in 0..2 {
            for at in (0..case.certificates[position].len()).step_by(29) {
                let mut mutated = case.clone();
                mutated.certificates[position][at] ^= 0x04;
                same(&mutated);
            }
        }
    }
}

#[test]
fn a_danger_policy_refuses_amds_own_roots() {
    let Some(corpus) = Corpus::open("28 SEV-SNP reports under a danger policy") else { return };
    let certificates = Certificates::of(&corpus);
    for (_, case) in genuine(&corpus, &certificates) {
        assert_eq!(case.appraise(&snp::danger(snp::DANGER), &AWS).code, Some("snp_root_anchor"));
    }
}
