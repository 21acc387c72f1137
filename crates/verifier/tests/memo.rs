//! A memo changes the time of an appraisal and nothing else.
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
mod guest;

use algorithms::AWS;
use confide_evidence::document::Endorsements;
use confide_evidence::tdx::collateral_from_json;
use confide_policy::AppraisalPolicy;
use confide_simulator::{PlatformOptions, Revocable, SimulatedPlatform, SimulatedTd, TdMeasurements};
use confide_verifier::{
    AttestationResult, Inputs, MAX_COLLATERALS, MAX_ENCLAVE_PARTS, MAX_PLATFORMS, Memo, Subject, evaluate,
};
use corpus::Corpus;
use guest::{DANGER, NOW, danger};
use rustls_pki_types::UnixTime;
use std::time::Duration;

/// A bare quote of a simulated platform and what it is appraised with.
struct Case {
    quote: Vec<u8>,
    endorsements: Endorsements,
    policy: AppraisalPolicy,
    now: u64,
}

impl Case {
    fn new(options: PlatformOptions) -> Self {
        let platform = SimulatedPlatform::new(options).unwrap();
        let report = SimulatedTd::new(TdMeasurements::default()).report([7; 64]);
        Self {
            quote: platform.quote(&report),
            endorsements: Endorsements {
                tdx: Some(collateral_from_json(platform.collateral_json().as_bytes()).unwrap()),
                ..Endorsements::default()
            },
            policy: bare(),
            now: NOW,
        }
    }

    fn of_seed(seed: u64) -> Self {
        Self::new(PlatformOptions { seed, ..PlatformOptions::at(NOW) })
    }

    fn verdict(&self, memo: Option<&Memo>) -> AttestationResult {
        let inputs = Inputs {
            subject: Subject::Quote(&self.quote),
            endorsements: &self.endorsements,
            prepared: None,
            prepared_devices: None,
            memo,
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: None,
            now: UnixTime::since_unix_epoch(Duration::from_secs(self.now)),
            algorithms: &AWS,
        };
        evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
    }

    /// The verdict with the memo, which is the one without it.
    fn same_verdict(&self, memo: &Memo) -> AttestationResult {
        let with = self.verdict(Some(memo));
        assert_eq!(with.to_json(), self.verdict(None).to_json());
        with
    }
}

/// The danger policy for a bare quote, which has no document to be bound to.
fn bare() -> AppraisalPolicy {
    bare_by(DANGER)
}

fn bare_by(text: &str) -> AppraisalPolicy {
    let waive = "{ waive = \"a bare quote\" }";
    let text = text.replace("{ from = \"document\" }", waive);
    danger(&text.replace("boot_log = \"required\"", &format!("boot_log = {waive}")))
}

#[test]
fn verdicts_are_the_same_with_a_memo_over_the_whole_corpus() {
    let Some(corpus) = Corpus::open("992 TDX cases with a memo") else { return };
    let (memo, mut compared) = (Memo::new(), 0);
    for table in ["tdx-cases.tsv", "tdx-mutations.tsv"] {
        for row in corpus.rows(table) {
            let case = Case {
                quote: corpus.read(&row, "quote"),
                endorsements: corpus.collateral(&row),
                policy: AppraisalPolicy::inspect(),
                now: row.seconds(),
            };
            let alone = case.verdict(None).to_json();
            for turn in 0..2 {
                assert_eq!(case.verdict(Some(&memo)).to_json(), alone, "{} turn {turn}", row.id());
            }
            compared += 1;
        }
    }
    println!("identical verdict bytes with and without a memo: {compared}; it knows {memo:?}");
    assert_eq!(compared, 992);
    assert!(memo.platforms() > 20, "{memo:?}");
    assert!(memo.collaterals() <= MAX_COLLATERALS, "{memo:?}");
}

#[test]
fn a_known_platform_is_held_against_each_policy_anew() {
    let (memo, mut case) = (Memo::new(), Case::of_seed(1));
    let accepted = case.same_verdict(&memo);
    assert!(accepted.accepted());
    let ppid = accepted.checks.iter().find(|check| check.code == "ppid").unwrap().actual.to_string();
    for (from, to, code) in [
        (
            "ppid = { waive = \"any simulated platform\" }",
            format!("ppid = {{ waive = \"any\", deny = [\"{ppid}\"] }}"),
            "ppid",
        ),
        (
            "tcb_info_age = { at_most_days = 14 }",
            "tcb_info_age = { at_most_days = 0 }".to_owned(),
            "tcb_info_age",
        ),
        (
            "tcb_evaluation = { at_least = 20 }",
            "tcb_evaluation = { at_least = 21 }".to_owned(),
            "tcb_evaluation",
        ),
    ] {
        assert!(DANGER.contains(from), "{from}");
        let waive = "{ waive = \"a bare quote\" }";
        case.policy = danger(&DANGER.replace("{ from = \"document\" }", waive).replace(from, &to));
        assert_eq!(case.same_verdict(&memo).code, Some(code));
    }
}

#[test]
fn an_accepted_platform_and_its_collateral_are_kept() {
    let (memo, case) = (Memo::new(), Case::of_seed(1));
    for _ in 0..3 {
        assert!(case.same_verdict(&memo).accepted());
        assert_eq!((memo.platforms(), memo.collaterals()), (1, 1));
    }
    assert!(Case::of_seed(2).same_verdict(&memo).accepted());
    assert_eq!(memo.platforms(), 2);
}

#[test]
fn nothing_is_kept_of_what_is_rejected() {
    let memo = Memo::new();
    let mut case = Case::of_seed(1);
    case.now += 365 * 86_400;
    assert_eq!(case.same_verdict(&memo).code, Some("validity"));
    for change in [
        |options: &mut PlatformOptions| options.tcb_info_fmspc = [7; 6],
        |options: &mut PlatformOptions| options.qe.isv_prod_id = 1,
        |options: &mut PlatformOptions| options.module_identities[0].mr_signer = [7; 48],
    ] {
        let mut options = PlatformOptions::at(NOW);
        change(&mut options);
        assert!(!Case::new(options).same_verdict(&memo).accepted());
    }
    let mut case = Case::of_seed(1);
    case.quote[600] ^= 1;
    assert_eq!(case.same_verdict(&memo).code, Some("quote_signature"));
    let mut case = Case::of_seed(1);
    case.policy = AppraisalPolicy::inspect();
    assert_eq!(case.same_verdict(&memo).code, Some("root_anchor"));
    assert_eq!((memo.platforms(), memo.collaterals()), (0, 0));
}

#[test]
fn a_known_platform_is_still_held_against_time_revocation_and_tcb() {
    let (memo, mut case) = (Memo::new(), Case::of_seed(1));
    assert!(case.verdict(Some(&memo)).accepted());
    case.now += 365 * 86_400;
    assert_eq!(case.same_verdict(&memo).code, Some("validity"));
    let revoked =
        PlatformOptions { seed: 1, revoked: vec![Revocable::PckCertificate], ..PlatformOptions::at(NOW) };
    assert_eq!(Case::new(revoked).same_verdict(&memo).code, Some("pck_revocation"));
    let mut recovered = PlatformOptions { seed: 1, ..PlatformOptions::at(NOW) };
    recovered.tcb_levels[0].sgx[0] += 1;
    assert_eq!(Case::new(recovered).same_verdict(&memo).code, Some("tcb_status"));
}

#[test]
fn a_changed_byte_of_a_known_platform_is_verified_again() {
    let (memo, case) = (Memo::new(), Case::of_seed(1));
    assert!(case.verdict(Some(&memo)).accepted());
    // Signature data begins behind header, body and its length: its QE report, QE signature and PCK chain.
    for (offset, code) in [
        (636 + 128 + 6 + 320, "qe_report_signature"),
        (636 + 128 + 6 + 384 + 40, "qe_report_signature"),
        (636 + 128 + 6 + 384 + 64 + 2, "attestation_key_binding"),
        (636 + 64, "attestation_key_binding"),
    ] {
        let mut changed = case_like(&case);
        changed.quote[offset] ^= 1;
        assert_eq!(changed.same_verdict(&memo).code, Some(code), "offset {offset}");
    }
    // The chain of another genuine platform under a known enclave part.
    let other = Case::of_seed(2);
    assert!(other.verdict(Some(&memo)).accepted());
    let tail = 636 + 128 + 6 + 384 + 64 + 2 + 32;
    assert_eq!(case.quote.len(), other.quote.len());
    let mut swapped = case_like(&case);
    swapped.quote = [&case.quote[..tail], &other.quote[tail..]].concat();
    assert_eq!(swapped.same_verdict(&memo).code, Some("qe_report_signature"));
}

/// The collateral of a bare quote is over and its MRTD is not the policy's: both are said, and what lies between them.
#[test]
fn an_expired_quote_of_another_image_fails_by_both() {
    let (memo, mut case) = (Memo::new(), Case::of_seed(1));
    assert!(case.same_verdict(&memo).accepted());
    let line = DANGER.lines().find(|line| line.starts_with("mr_td = ")).unwrap();
    let other = format!("mr_td = {{ any_of = [\"{}\"] }}", "ee".repeat(48));
    case.policy = bare_by(&DANGER.replace(line, &other));
    assert_eq!(guest::failures(&case.same_verdict(&memo)), ["mr_td"]);
    case.now += 365 * 86_400;
    let ages = ["tcb_info_age", "qe_identity_age", "pck_crl_age"];
    for memo in [&memo, &Memo::new()] {
        let result = case.same_verdict(memo);
        assert_eq!(guest::failures(&result), [&["validity"], &ages[..], &["mr_td"]].concat());
        assert_eq!((result.tcb_status, &result.valid_until), (None, &None));
    }
}

fn case_like(case: &Case) -> Case {
    Case {
        quote: case.quote.clone(),
        endorsements: case.endorsements.clone(),
        policy: case.policy.clone(),
        now: case.now,
    }
}

/// Nothing signs the white space of a chain: an attacker between guest and client can write it anew in each document.
#[test]
fn a_platform_is_kept_once_however_its_chain_is_written() {
    let memo = Memo::new();
    assert!(Case::of_seed(2).same_verdict(&memo).accepted());
    let case = Case::of_seed(1);
    for spaces in 0..=MAX_PLATFORMS {
        let mut spelt = case_like(&case);
        spelt.quote = with_spaces(&case.quote, spaces);
        assert!(spelt.same_verdict(&memo).accepted(), "{spaces} spaces");
        assert_eq!(memo.platforms(), 2, "{spaces} spaces");
    }
}

/// The quote with spaces before its PCK chain. Three lengths count them: of the signature data, of the certification data,
/// and of the chain in that.
fn with_spaces(quote: &[u8], spaces: usize) -> Vec<u8> {
    let length_of_chain = 636 + 128 + 6 + 384 + 64 + 2 + 32 + 2;
    let (before, chain) = quote.split_at(length_of_chain + 4);
    let mut quote = [before, &vec![b' '; spaces], chain].concat();
    for at in [632, 636 + 128 + 2, length_of_chain] {
        let length = u32::from_le_bytes(quote[at..at + 4].try_into().unwrap());
        let longer = length + u32::try_from(spaces).unwrap();
        quote[at..at + 4].copy_from_slice(&longer.to_le_bytes());
    }
    quote
}

#[test]
fn collateral_is_kept_once_however_its_chains_are_written() {
    let (memo, case) = (Memo::new(), Case::of_seed(1));
    for lines in 0..=MAX_COLLATERALS {
        let mut spelt = case_like(&case);
        let chain = &mut spelt.endorsements.tdx.as_mut().unwrap().tcb_info_issuer_chain;
        chain.push_str(&"\n".repeat(lines));
        assert!(spelt.same_verdict(&memo).accepted(), "{lines} lines");
        assert_eq!(memo.collaterals(), 1, "{lines} lines");
    }
}

#[test]
fn a_memo_is_bounded() {
    let memo = Memo::new();
    let collaterals = u32::try_from(MAX_COLLATERALS).unwrap() + 3;
    for number in 0..collaterals {
        let options =
            PlatformOptions { seed: 1, evaluation_data_number: 20 + number, ..PlatformOptions::at(NOW) };
        assert!(Case::new(options).same_verdict(&memo).accepted());
    }
    assert_eq!((memo.platforms(), memo.collaterals()), (1, MAX_COLLATERALS));
    for restart in 0..u8::try_from(MAX_ENCLAVE_PARTS).unwrap() + 3 {
        let mut options = PlatformOptions { seed: 1, ..PlatformOptions::at(NOW) };
        options.qe.auth_data = vec![restart; 32];
        assert!(Case::new(options).same_verdict(&memo).accepted());
    }
    assert_eq!(memo.platforms(), 1);
}
