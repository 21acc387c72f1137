//! Differential test against `dcap-qvl`: our own cases of `fixtures/tdx`, every recorded quote, and a few hundred mutations
//! of each with its collateral.
//!
//! Where the two differ, the difference must be of a kind that docs/differential.md lists, explains and decides.
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

use algorithms::AWS;
use confide_evidence::document::{Endorsements, TdxCollateral};
use confide_evidence::record::{Finding, SecondOpinion, opinion_inputs};
use confide_evidence::tdx::collateral_from_json;
use confide_evidence::time::parse_rfc3339;
use confide_policy::{AppraisalPolicy, Loaded};
use confide_verifier::{AttestationResult, Inputs, Status, Subject, evaluate, rules};
use corpus::{Corpus, quote_collateral_v3};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use rustls_pki_types::UnixTime;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MUTATIONS: usize = 300;

#[derive(Clone)]
struct Case {
    quote: Vec<u8>,
    collateral: TdxCollateral,
    time: u64,
    authority: Authority,
}

/// Under whose root a quote is.
#[derive(Debug, Clone, Copy)]
enum Authority {
    Intel,
    Simulator,
}

impl Authority {
    fn policy(self) -> AppraisalPolicy {
        match self {
            Self::Intel => AppraisalPolicy::inspect(),
            Self::Simulator => {
                let text = std::fs::read_to_string(fixtures().join("common/quote.toml")).unwrap();
                AppraisalPolicy::parse(&text, Loaded::AsDanger).unwrap()
            }
        }
    }

    fn verifier(self) -> QuoteVerifier {
        match self {
            Self::Intel => QuoteVerifier::new_prod(),
            Self::Simulator => QuoteVerifier::new(confide_simulator::tdx_root_certificate().to_vec()),
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tdx")
}

fn ours(case: &Case, second_opinion: &SecondOpinion) -> AttestationResult {
    let inputs = Inputs {
        subject: Subject::Quote(&case.quote),
        endorsements: &Endorsements { tdx: Some(case.collateral.clone()), ..Endorsements::default() },
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: Some(second_opinion),
        references: None,
        policy: &case.authority.policy(),
        challenge: None,
        now: UnixTime::since_unix_epoch(Duration::from_secs(case.time)),
        algorithms: &AWS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

/// Intel's status name, or the oracle's error with its causes.
fn theirs(case: &Case) -> Result<String, String> {
    let collateral: QuoteCollateralV3 = serde_json::from_str(&quote_collateral_v3(&case.collateral)).unwrap();
    case.authority
        .verifier()
        .allow_service_td(true)
        .verify(&case.quote, &collateral, case.time)
        .map(|report| report.status)
        .map_err(|error| format!("{error:#}"))
}

/// How two findings relate. The names are those of docs/differential.md, which explains and decides each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    SameStatus,
    BothRefuse,
    BothRefuseNoLevel,
    BothRefuseRevoked,
    TdAttributes,
    BytesBehind,
    OuterCertification,
    ChainsOfCollateral,
    RootAndCaOfCollateral,
    ChainOfQuote,
    QeReport,
    QeReportDataTail,
    QeAuthenticationData,
    SeamAttributes,
    ModuleStatus,
    RelaunchAdvice,
    SizeOfQuote,
    Pceid,
    SgxExtension,
    CollateralVersion,
    WindowStarts,
}

impl Kind {
    /// Those in which the two agree.
    const AGREEMENTS: [Self; 4] =
        [Self::SameStatus, Self::BothRefuse, Self::BothRefuseNoLevel, Self::BothRefuseRevoked];
    /// Those in which they differ.
    const DISAGREEMENTS: [Self; 17] = [
        Self::TdAttributes,
        Self::BytesBehind,
        Self::OuterCertification,
        Self::ChainsOfCollateral,
        Self::RootAndCaOfCollateral,
        Self::ChainOfQuote,
        Self::QeReport,
        Self::QeReportDataTail,
        Self::QeAuthenticationData,
        Self::SeamAttributes,
        Self::ModuleStatus,
        Self::RelaunchAdvice,
        Self::SizeOfQuote,
        Self::Pceid,
        Self::SgxExtension,
        Self::CollateralVersion,
        Self::WindowStarts,
    ];

    /// Those that `--cross-check` hears of: every signature of quote and collateral holds here.
    const HEARD_OF: [Self; 8] = [
        Self::TdAttributes,
        Self::QeReport,
        Self::QeAuthenticationData,
        Self::SeamAttributes,
        Self::ModuleStatus,
        Self::RelaunchAdvice,
        Self::Pceid,
        Self::WindowStarts,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::SameStatus => "same status",
            Self::BothRefuse => "both refuse",
            Self::BothRefuseNoLevel => "both refuse: no TCB level",
            Self::BothRefuseRevoked => "both refuse: revoked",
            Self::TdAttributes => "TD attributes",
            Self::BytesBehind => "bytes behind the quote",
            Self::OuterCertification => "outer certification type",
            Self::ChainsOfCollateral => "chains of the collateral",
            Self::RootAndCaOfCollateral => "root and PCK CA of the collateral",
            Self::ChainOfQuote => "chain of the quote",
            Self::QeReport => "report of the quoting enclave",
            Self::QeReportDataTail => "tail of the QE report data",
            Self::QeAuthenticationData => "QE authentication data",
            Self::SeamAttributes => "SEAM attributes",
            Self::ModuleStatus => "status of the TDX module",
            Self::RelaunchAdvice => "relaunch advice",
            Self::SizeOfQuote => "size of the quote",
            Self::Pceid => "PCEID",
            Self::SgxExtension => "SGX extension",
            Self::CollateralVersion => "kind of collateral",
            Self::WindowStarts => "start of windows",
        }
    }
}

/// How our verdict and dcap-qvl's finding relate; nothing where they differ in a way that nobody has decided.
fn explained(ours: &AttestationResult, theirs: &Result<String, String>) -> Option<Kind> {
    match (ours.tcb_status, theirs) {
        (Some(ours), Ok(theirs)) if ours == theirs => Some(Kind::SameStatus),
        (None, Err(_)) => Some(Kind::BothRefuse),
        (Some("NoMatchingTcbLevel"), Err(_)) => Some(Kind::BothRefuseNoLevel),
        (Some("Revoked"), Err(_)) => Some(Kind::BothRefuseRevoked),
        (Some(_), Err(error)) => laxer(error),
        (None, Ok(_)) => stricter(ours),
        (Some(ours), Ok(theirs)) => (ours.starts_with("OutOfDate")
            && theirs.starts_with("TDRelaunchAdvised"))
        .then_some(Kind::RelaunchAdvice),
    }
}

/// What dcap-qvl refuses outright, and this verifier gives a status.
fn laxer(error: &str) -> Option<Kind> {
    const ATTRIBUTES: [&str; 6] =
        ["SEPT_VE_DISABLE", "Reserved bits", "TD migration", "TD profiling", "Debug mode", "SERVTD_EXT"];
    match error {
        _ if ATTRIBUTES.iter().any(|attribute| error.contains(attribute)) => Some(Kind::TdAttributes),
        _ if error.contains("QE auth data length") => Some(Kind::QeAuthenticationData),
        _ if error.contains("SEAMATTRIBUTES has bits set outside mask") => Some(Kind::SeamAttributes),
        _ if error.contains("Unrecognized TCB status") && error.contains("module") => {
            Some(Kind::ModuleStatus)
        }
        _ => None,
    }
}

/// What this verifier refuses and dcap-qvl lets pass.
fn stricter(ours: &AttestationResult) -> Option<Kind> {
    let failed = ours.checks.iter().find(|check| Some(check.code) == ours.code)?;
    match (failed.code, failed.actual.as_ref()) {
        ("quote_format", actual) if actual.contains("behind the quote's end") => Some(Kind::BytesBehind),
        ("quote_format", actual) if actual.starts_with("the certification data is") => {
            Some(Kind::OuterCertification)
        }
        ("quote_format", actual) if actual.starts_with("a quote of ") => Some(Kind::SizeOfQuote),
        ("collateral_format", actual) if actual.contains("issuer chain") => Some(Kind::ChainsOfCollateral),
        ("root_anchor" | "root_signature" | "pck_ca_signature", _) => Some(Kind::RootAndCaOfCollateral),
        ("pck_chain_form", _) => Some(Kind::ChainOfQuote),
        ("attestation_key_binding", actual) if actual.contains("second half") => Some(Kind::QeReportDataTail),
        ("qe_identity", actual) if actual.ends_with(" is not zero") => Some(Kind::QeReport),
        ("fmspc", actual) if actual.starts_with("platform ") => Some(Kind::Pceid),
        ("pck_extension", _) => Some(Kind::SgxExtension),
        ("tcb_info_kind" | "qe_identity_kind", actual) if actual.starts_with("id ") => {
            Some(Kind::CollateralVersion)
        }
        ("validity", actual) if actual.contains("CRL begins at") => Some(Kind::WindowStarts),
        _ => None,
    }
}

/// As an input of the appraisal, the other finding is agreement, or a rejection whose text names a known difference.
fn cross_check(ours: &AttestationResult, theirs: &Result<String, String>, what: &str) {
    let agrees = explained(ours, theirs).is_some_and(|kind| Kind::AGREEMENTS.contains(&kind));
    let check = ours.checks.iter().find(|check| check.code.starts_with("cross_check"));
    match check.map(|check| (check.code, &check.actual)) {
        Some(("cross_check", _)) => assert!(agrees, "{what}"),
        Some((_, actual)) => assert!(!agrees && actual.contains("a known difference"), "{what}: {actual}"),
        // A quote that cannot be read is malformed before any opinion counts.
        None => assert_eq!(ours.code, Some("quote_format"), "{what}"),
    }
}

/// Whether every signature of quote and collateral holds, so that the program asks another verifier.
fn signed(ours: &AttestationResult) -> bool {
    let last = rules::QUOTE_SIGNATURE.code;
    ours.checks.iter().any(|check| check.code == last && check.status == Status::Pass)
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

/// What many comparisons found.
#[derive(Default)]
struct Comparison {
    counts: BTreeMap<Kind, usize>,
    undecided: Vec<String>,
}

impl Comparison {
    fn add(&mut self, id: &str, what: &str, case: &Case) {
        let theirs = theirs(case);
        let found = match &theirs {
            Ok(status) => Finding::Status(status.clone()),
            Err(why) => Finding::Refused(why.clone()),
        };
        let inputs = opinion_inputs(&case.quote, &case.collateral, case.time);
        let ours = ours(case, &SecondOpinion { found, inputs, verifier: "dcap-qvl 0.7.1".to_owned() });
        match explained(&ours, &theirs) {
            Some(kind) => {
                if Kind::DISAGREEMENTS.contains(&kind) {
                    assert_eq!(signed(&ours), Kind::HEARD_OF.contains(&kind), "{id} {what}: {kind:?}");
                }
                cross_check(&ours, &theirs, &format!("{id} {what}"));
                *self.counts.entry(kind).or_default() += 1;
            }
            None => {
                let failed = ours.checks.iter().find(|check| Some(check.code) == ours.code);
                self.undecided.push(format!(
                    "{id} {what}: ours {:?} {:?} ({}), dcap-qvl {theirs:?}",
                    ours.tcb_status,
                    ours.code,
                    failed.map(|check| check.actual.as_ref()).unwrap_or_default()
                ));
            }
        }
    }

    fn count(&self, kind: Kind) -> usize {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// Prints the counts, and fails where a difference is of no listed kind.
    fn conclude(&self, of_what: &str) {
        let lines: Vec<String> =
            self.counts.iter().map(|(kind, count)| format!("{count:>6} {}", kind.name())).collect();
        println!("against dcap-qvl 0.7.1, {of_what}:\n{}", lines.join("\n"));
        assert!(
            self.undecided.is_empty(),
            "{} differences of no listed kind:\n{}",
            self.undecided.len(),
            self.undecided.join("\n")
        );
    }
}

#[test]
fn recorded_quotes_and_their_mutations_agree_with_dcap_qvl() {
    let Some(corpus) = Corpus::open("about 13,000 comparisons with dcap-qvl") else { return };
    let mut comparison = Comparison::default();
    let mut seen = BTreeSet::new();
    for row in corpus.rows("tdx-cases.tsv") {
        let case = Case {
            quote: corpus.read(&row, "quote"),
            collateral: corpus.collateral(&row).tdx.unwrap(),
            time: row.seconds(),
            authority: Authority::Intel,
        };
        comparison.add(row.id(), "as recorded", &case);
        if seen.insert(row.field("quote").to_owned()) {
            let mut random = Random(row.seconds());
            for at in 0..MUTATIONS {
                comparison.add(row.id(), &format!("mutation {at}"), &mutate(&case, &mut random));
            }
        }
    }
    comparison.conclude(&format!("{} recorded quotes and their mutations", seen.len()));
    assert!(
        comparison.count(Kind::SameStatus) > 400 && comparison.count(Kind::BothRefuse) > 5_000,
        "the comparison compares too little"
    );
}

#[test]
fn our_own_cases_and_their_mutations_agree_with_dcap_qvl() {
    let mut comparison = Comparison::default();
    let mut cases = 0;
    for (name, case) in own_cases() {
        comparison.add(&name, "as made", &case);
        cases += 1;
        let mut random = Random(cases);
        for at in 0..MUTATIONS_OF_OWN {
            comparison.add(&name, &format!("mutation {at}"), &mutate(&case, &mut random));
        }
    }
    comparison.conclude(&format!("{cases} own cases and their mutations"));
    for kind in Kind::DISAGREEMENTS {
        assert!(comparison.count(kind) > 0, "no case of our own shows the kind {:?}", kind.name());
    }
    assert!(cases > 80 && comparison.count(Kind::SameStatus) > 30, "the comparison compares too little");
}

const MUTATIONS_OF_OWN: usize = 20;

/// The cases of `fixtures/tdx` that are bare quotes with well-formed collateral under the simulator's root.
fn own_cases() -> Vec<(String, Case)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let Ok(text) = std::fs::read_to_string(folder.join("case.json")) else { continue };
        let case: serde_json::Value = serde_json::from_str(&text).unwrap();
        let file = |value: &serde_json::Value| {
            value["file"].as_str().map(|file| std::fs::read(fixtures().join(file)).unwrap())
        };
        let Some(quote) = file(&case["evidence"]["quote"]) else { continue };
        let Some(collateral) = file(&case["endorsements"]["tdx_collateral"]) else { continue };
        let (Ok(collateral), false) = (collateral_from_json(&collateral), case["policy"]["file"].is_null())
        else {
            continue;
        };
        let time = parse_rfc3339(case["time"].as_str().unwrap()).unwrap().as_secs();
        let name = case["name"].as_str().unwrap().to_owned();
        found.push((name, Case { quote, collateral, time, authority: Authority::Simulator }));
    }
    found
}

#[test]
fn every_kind_of_disagreement_is_explained_and_decided_in_the_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differential.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = |heading: &str| -> Vec<Vec<String>> {
        let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        section.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
    };
    let names = |rows: &[Vec<String>]| -> BTreeSet<String> {
        rows.iter().map(|cells| cells[1].trim_matches('`').to_owned()).collect()
    };
    let listed = |kinds: &[Kind]| kinds.iter().map(|kind| kind.name().to_owned()).collect::<BTreeSet<_>>();
    let agreements = rows("Agreements");
    assert_eq!(names(&agreements), listed(&Kind::AGREEMENTS));
    let disagreements = rows("Disagreements");
    assert_eq!(names(&disagreements), listed(&Kind::DISAGREEMENTS));
    assert_eq!(names(&rows("What `--cross-check` hears of")), listed(&Kind::HEARD_OF));
    for cells in disagreements {
        let [_, name, here, there, decision, _] = cells.as_slice() else { panic!("{cells:?}") };
        for cell in [here, there, decision] {
            assert!(cell.len() > 20, "{name}: {cell:?} explains nothing");
        }
    }
}
