//! Signed files of reference values: whose, which version, of which time, and what they are taken for.
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods, dead_code, reason = "tests")]

mod algorithms;
mod guest;

use algorithms::AWS;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::Endorsements;
use confide_evidence::record::{RecordedReferences, SeenReferences};
use confide_policy::{AppraisalPolicy, ReferenceKey};
use confide_verifier::{AttestationResult, Inputs, Outcome, PreparedReferences, Status, Subject, evaluate};
use guest::{DANGER, Guest, NOW, challenge, danger, failures, now};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/references/");
const EXAMPLE: &str = include_str!("../../../docs/protocol/references/example.toml");

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FOLDER}{name}")).unwrap()
}

fn pkcs8(name: &str) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from_pem_slice(&read(name)).unwrap()
}

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8("ed25519.key.pem").secret_pkcs8_der()).unwrap()
}

fn ed25519_key() -> ReferenceKey {
    ReferenceKey::Ed25519(ed25519().public_key().as_ref().try_into().unwrap())
}

fn p256() -> EcdsaKeyPair {
    let key = pkcs8("p256.key.pem");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_pkcs8_der()).unwrap()
}

fn p256_key() -> ReferenceKey {
    ReferenceKey::EcdsaP256(p256().public_key().as_ref().try_into().unwrap())
}

/// A file signed by the example's Ed25519 key.
fn signed(file: &str) -> RecordedReferences {
    let signature = ed25519().sign(file.as_bytes()).as_ref().to_vec();
    RecordedReferences { file: file.as_bytes().to_vec().into(), last_seen: None, signature: signature.into() }
}

/// The simulator's policy with its measurements taken from a file of this key.
fn policy_with(key: &ReferenceKey, minimum_version: u64, sets: &str, more: &str) -> AppraisalPolicy {
    let lines = DANGER.lines().map(|line| match line.split_once(" = ") {
        Some((field @ ("mr_td" | "rtmr0" | "rtmr1" | "rtmr2"), _)) => {
            format!("{field} = {{ from = \"reference\" }}")
        }
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    danger(&format!(
        "{text}\n[signed_references]\nname = \"example\"\nkeys = [\"{key}\"]\nminimum_version = {minimum_version}\nsets = {sets}\n{more}"
    ))
}

fn policy() -> AppraisalPolicy {
    policy_with(&ed25519_key(), 3, "\"all\"", "")
}

fn appraise(given: Option<&RecordedReferences>, policy: &AppraisalPolicy) -> AttestationResult {
    let document = Guest::new().document().encode().unwrap();
    let prepared = given.map(|given| PreparedReferences::new(given, policy, &AWS));
    let inputs = Inputs {
        subject: Subject::Document(&document),
        endorsements: &Endorsements::default(),
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: prepared.as_ref(),
        policy,
        challenge: Some(&challenge()),
        now: now(),
        algorithms: &AWS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

fn actual(result: &AttestationResult, code: &str) -> String {
    let found = result.checks.iter().find(|check| check.code == code);
    found.unwrap_or_else(|| panic!("no check {code}: {:?}", failures(result))).actual.to_string()
}

#[test]
fn the_committed_example_is_accepted_under_both_of_its_keys() {
    for (name, key) in [("ed25519", ed25519_key()), ("p256", p256_key())] {
        let given = RecordedReferences {
            file: ByteString(read("example.toml")),
            last_seen: None,
            signature: ByteString(read(&format!("example.toml.{name}.sig"))),
        };
        let result = appraise(Some(&given), &policy_with(&key, 3, "\"all\"", ""));
        assert_eq!(result.outcome, Outcome::Accepted, "{name}: {:?}", failures(&result));
        assert_eq!(result.reference_set.as_deref(), Some("release-2"), "{name}");
        assert_eq!(actual(&result, "reference_set"), "release-2 of the signed file");
        assert!(actual(&result, "reference_signature").contains(key.algorithm()), "{name}");
    }
    assert_eq!(signed(EXAMPLE).signature.0, read("example.toml.ed25519.sig"), "the key makes it again");
}

#[test]
fn a_broken_signature_is_rejected() {
    let mut changed = signed(EXAMPLE);
    changed.file.0[10] ^= 1;
    let mut broken = signed(EXAMPLE);
    broken.signature.0[10] ^= 1;
    let mut none = signed(EXAMPLE);
    none.signature.0.clear();
    let mut long = signed(EXAMPLE);
    long.signature.0.resize(4096, 0);
    let mut large = signed(EXAMPLE);
    large.file.0.resize(confide_policy::MAX_REFERENCE_FILE + 1, b'#');
    for (what, given) in [
        ("a changed file", changed),
        ("a broken signature", broken),
        ("none", none),
        ("a long signature", long),
        ("a large file", large),
    ] {
        let result = appraise(Some(&given), &policy());
        assert_eq!(result.code, Some("reference_signature"), "{what}");
        assert!(failures(&result).contains(&"reference_set"), "{what}: none of its sets counts");
    }
}

#[test]
fn the_signature_of_another_key_is_rejected() {
    let result = appraise(Some(&signed(EXAMPLE)), &policy_with(&p256_key(), 3, "\"all\"", ""));
    assert_eq!(result.code, Some("reference_signature"));
    let fresh = Ed25519KeyPair::generate().unwrap();
    let signature = fresh.sign(EXAMPLE.as_bytes()).as_ref().to_vec();
    let foreign = RecordedReferences { signature: signature.into(), ..signed(EXAMPLE) };
    assert_eq!(appraise(Some(&foreign), &policy()).code, Some("reference_signature"));
    let p256 = p256().sign(&SystemRandom::new(), EXAMPLE.as_bytes()).unwrap().as_ref().to_vec();
    let other = RecordedReferences { signature: p256.into(), ..signed(EXAMPLE) };
    assert_eq!(appraise(Some(&other), &policy()).code, Some("reference_signature"));
}

#[test]
fn an_older_version_is_rejected() {
    let result = appraise(Some(&signed(EXAMPLE)), &policy_with(&ed25519_key(), 4, "\"all\"", ""));
    assert_eq!(failures(&result)[0], "reference_version");
    assert_eq!(actual(&result, "reference_version"), "version 3, the policy's lowest is 4");
    let seen = |version, file: &str| RecordedReferences {
        last_seen: Some(SeenReferences { digest: Bytes(Sha256::digest(file).into()), version }),
        ..signed(EXAMPLE)
    };
    let result = appraise(Some(&seen(4, "")), &policy());
    assert_eq!(actual(&result, "reference_version"), "version 3, after version 4 has been seen");
    let result = appraise(Some(&seen(3, "other contents")), &policy());
    assert_eq!(result.code, Some("reference_version"));
    assert!(actual(&result, "reference_version").contains("other contents"));
    for earlier in [seen(3, EXAMPLE), seen(2, "other contents")] {
        assert_eq!(appraise(Some(&earlier), &policy()).outcome, Outcome::Accepted);
    }
}

#[test]
fn a_file_outside_of_its_time_is_rejected_and_no_verdict_lasts_longer_than_it() {
    for (from, to, word) in [
        ("expires = 2027-08-31", "expires = 2026-09-30", "ended at 2026-09-30T23:59:59Z"),
        ("issued = 2026-09-01", "issued = 2026-10-02", "begins at 2026-10-02T00:00:00Z"),
    ] {
        let result = appraise(Some(&signed(&EXAMPLE.replace(from, to))), &policy());
        assert_eq!(result.code, Some("reference_window"), "{to}");
        assert!(actual(&result, "reference_window").contains(word), "{to}");
    }
    let ending = EXAMPLE.replace("expires = 2027-08-31", "expires = 2026-10-01T00:01:00Z");
    let result = appraise(Some(&signed(&ending)), &policy());
    assert_eq!(result.outcome, Outcome::Accepted);
    assert_eq!(result.valid_until.as_deref(), Some("2026-10-01T00:01:00Z"));
    assert_eq!(NOW, 1_790_812_800, "2026-10-01T00:00:00Z");
}

#[test]
fn a_file_that_is_not_what_the_policy_names_is_rejected() {
    for (what, file) in [
        ("an unknown field", EXAMPLE.replace("version = 3", "version = 3\nmaximum = 4")),
        ("an unknown value", EXAMPLE.replace("mr_td", "mrtd")),
        ("another format", EXAMPLE.replace("values/1", "values/2")),
        ("another series", EXAMPLE.replace("name = \"example\"", "name = \"another\"")),
        ("no TOML", "not a file of reference values".to_owned()),
        ("a number twice", EXAMPLE.replace("version = 3", "version = 3\nversion = 4")),
    ] {
        let result = appraise(Some(&signed(&file)), &policy());
        assert_eq!(result.code, Some("reference_file"), "{what}");
    }
}

#[test]
fn a_file_that_is_missing_or_not_asked_for_is_rejected() {
    let result = appraise(None, &policy());
    assert_eq!(
        (result.code, actual(&result, "reference_file")),
        (Some("reference_file"), "none was given".into())
    );
    let result = appraise(Some(&signed(EXAMPLE)), &danger(DANGER));
    assert_eq!(result.code, Some("reference_file"));
}

#[test]
fn a_file_that_was_prepared_under_other_keys_is_rejected() {
    let prepared = PreparedReferences::new(&signed(EXAMPLE), &policy(), &AWS);
    let document = Guest::new().document().encode().unwrap();
    let other = policy_with(&p256_key(), 3, "\"all\"", "");
    let inputs = Inputs {
        subject: Subject::Document(&document),
        endorsements: &Endorsements::default(),
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: Some(&prepared),
        policy: &other,
        challenge: Some(&challenge()),
        now: now(),
        algorithms: &AWS,
    };
    assert_eq!(evaluate(&inputs).unwrap_err().code(), "reference_signature");
}

#[test]
fn a_policy_takes_the_sets_that_it_names_beside_its_own() {
    let named = |sets: &str, more: &str| {
        let policy = policy_with(&ed25519_key(), 3, sets, more);
        appraise(Some(&signed(EXAMPLE)), &policy)
    };
    assert_eq!(named("{ any_of = [\"release-2\"] }", "").outcome, Outcome::Accepted);
    assert_eq!(named("{ any_of = [\"release-1\"] }", "").code, Some("reference_set"));
    let own = EXAMPLE.split_once("[reference.release-2]").unwrap().1;
    let result = named("{ any_of = [\"release-1\"] }", &format!("[reference.mine]\n{own}"));
    assert_eq!(result.reference_set.as_deref(), Some("mine"));
    assert_eq!(actual(&result, "reference_set"), "mine of the policy");
}

#[test]
fn only_an_accepted_file_is_to_be_remembered() {
    let accepted = |given: &RecordedReferences, policy: &AppraisalPolicy, at: u64| {
        let prepared = PreparedReferences::new(given, policy, &AWS);
        let seconds = i64::try_from(at).unwrap();
        prepared
            .accepted(policy, seconds)
            .map(|(name, _, seen)| (name.to_string(), seen.version, seen.digest.0))
    };
    let digest: [u8; 32] = Sha256::digest(EXAMPLE).into();
    assert_eq!(accepted(&signed(EXAMPLE), &policy(), NOW), Some(("example".to_owned(), 3, digest)));
    assert_eq!(accepted(&signed(EXAMPLE), &policy(), NOW + 400 * 86_400), None, "after its end");
    assert_eq!(accepted(&signed(EXAMPLE), &danger(DANGER), NOW), None, "not asked for");
    let mut broken = signed(EXAMPLE);
    broken.signature.0[0] ^= 1;
    assert_eq!(accepted(&broken, &policy(), NOW), None);
    assert_eq!(accepted(&signed(EXAMPLE), &policy_with(&ed25519_key(), 4, "\"all\"", ""), NOW), None);
}

#[test]
fn without_fields_from_reference_sets_no_set_is_named() {
    let result = appraise(None, &danger(DANGER));
    assert_eq!((result.outcome, result.reference_set.as_deref()), (Outcome::Accepted, None));
    assert!(!result.checks.iter().any(|check| check.code.starts_with("reference_")));
    assert!(result.checks.iter().all(|check| check.status != Status::Fail));
}
