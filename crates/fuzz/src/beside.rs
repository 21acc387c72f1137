//! What is given beside evidence: signed reference values and the opinion of another verifier.

use crate::edits::Edits;
use crate::evaluate;
use crate::guest;
use crate::guest::{
    ALGORITHMS, FOR_DOCUMENTS, FOR_QUOTES, NOW, PLATFORM, Parts, challenge, documents, now, quotes,
};
use crate::ways::{self, ENDORSEMENTS, QUOTE};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::Endorsements;
use confide_evidence::hash::sha256;
use confide_evidence::record::{Finding, RecordedReferences, SecondOpinion, SeenReferences};
use confide_policy::{AppraisalPolicy, ReferenceFile, ReferenceKey};
use confide_simulator::{SimulatedTd, TdMeasurements};
use confide_verifier::{AttestationResult, Check, Inputs, PreparedReferences, Subject};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, UnixTime};
use std::sync::LazyLock;
use std::time::Duration;

/// The example's file of reference values.
pub(crate) const REFERENCES: &str = include_str!("../../../docs/protocol/references/example.toml");
/// The signature of its first key.
pub(crate) const BY_ED25519: &[u8] =
    include_bytes!("../../../docs/protocol/references/example.toml.ed25519.sig");
const BY_P256: &[u8] = include_bytes!("../../../docs/protocol/references/example.toml.p256.sig");

/// The lowest version that [`FROM_REFERENCES`] takes: that of the example.
const MINIMUM: u64 = 3;

/// The example's first key, which is public.
static KEY: LazyLock<Ed25519KeyPair> = LazyLock::new(|| {
    let pem = include_bytes!("../../../docs/protocol/references/ed25519.key.pem");
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).expect("a key in PEM");
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).expect("the example's key")
});

/// The policy for quotes with measurements from the example's file, signed by either of its keys.
pub(crate) fn from_references() -> String {
    let from = "{ from = \"reference\" }";
    let mut text = quotes(&["mr_td", "rtmr0", "rtmr1", "rtmr2"].map(|name| (name, from)));
    let point = KEY.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
    let der = rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(include_bytes!(
        "../../../docs/protocol/references/p256.pem"
    ));
    let p256 = ReferenceKey::from_spki(&der.expect("a key in PEM")).expect("the example's second key");
    let keys = format!("\"{}\", \"{p256}\"", ReferenceKey::Ed25519(point));
    text.push_str(&format!(
        "\n[signed_references]\nname = \"example\"\nkeys = [{keys}]\nminimum_version = {MINIMUM}\nsets = \"all\"\n"
    ));
    text
}

static FROM_REFERENCES: LazyLock<AppraisalPolicy> = LazyLock::new(|| guest::policy(&from_references()));

/// The example's file of reference values with changes, also of its signature, of what was seen before, of the quoted
/// registers and of the time; every second time it is signed anew.
pub(crate) fn references(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let choices = edits.byte();
    let (signed_anew, other_keys) = (choices & 1 == 1, choices & 2 == 2);
    let mut file = REFERENCES.as_bytes().to_vec();
    let mut signature = if choices & 4 == 4 { BY_P256 } else { BY_ED25519 }.to_vec();
    let mut last_seen = None;
    let mut measured = TdMeasurements::default();
    let mut time = NOW;
    while !edits.is_over() {
        match edits.byte() % 12 {
            0..=5 => edits.change(&mut file),
            6 => edits.change(&mut signature),
            7 => {
                let digest = if edits.byte().is_multiple_of(2) {
                    sha256(REFERENCES.as_bytes())
                } else {
                    sha256(&file)
                };
                last_seen = Some(SeenReferences { digest, version: edits.below(6) as u64 });
            }
            8 => measured.mrtd = [edits.byte(); 48],
            9 => measured.rtmr = [0x12, 0x13, 0x14, edits.byte()].map(|byte| [byte; 48]),
            10 => measured.rtmr[edits.below(3)] = [edits.byte(); 48],
            _ => time = NOW.wrapping_add((edits.below(1 << 24) as u64) << 6).wrapping_sub(1 << 29),
        }
    }
    if signed_anew {
        signature = KEY.sign(&file).as_ref().to_vec();
    }
    let given = RecordedReferences {
        file: ByteString(file.clone()),
        last_seen: last_seen.clone(),
        signature: ByteString(signature),
    };
    let policy = &*FROM_REFERENCES;
    let prepared_for = if other_keys { &*FOR_QUOTES } else { policy };
    let prepared = PreparedReferences::new(&given, prepared_for, &ALGORITHMS);
    let quote = PLATFORM.quote(&SimulatedTd::new(measured).report([7; 64]));
    let now = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let bare = evaluate::inputs(Subject::Quote(&quote), &ENDORSEMENTS, None, now);
    let inputs = Inputs { references: Some(&prepared), policy, ..bare };
    let result = ways::every(&inputs);
    let without = ways::cold(&Inputs { references: None, ..inputs });
    assert!(!without.accepted(), "a policy that takes values from a file accepts nothing without it");
    if result.accepted() {
        assert!(!other_keys, "a file that was prepared under other keys");
        assert!(signed_anew || file == REFERENCES.as_bytes(), "what nobody signed is not accepted");
        let read = ReferenceFile::parse(&file).expect("an accepted file can be read");
        let seen = last_seen.map_or(0, |seen| seen.version);
        assert!(read.version >= MINIMUM.max(seen), "version {} after {seen}", read.version);
        let time = i64::try_from(time).expect("a time of these centuries");
        assert!(read.issued.0 <= time && time <= read.expires.0, "a file of another time");
        let (_, _, remembered) = prepared.accepted(policy, time).expect("what was accepted is remembered");
        assert_eq!(remembered, SeenReferences { digest: sha256(&file), version: read.version });
    }
}

/// What other verifiers may say.
const STATUSES: [&str; 8] = [
    "UpToDate",
    "OutOfDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "Revoked",
    "NoMatchingTcbLevel",
];

static WITH_OPINION: LazyLock<[AppraisalPolicy; 2]> = LazyLock::new(|| {
    let required = [("cross_check", "\"required\"")];
    [guest::policy(&quotes(&required)), guest::policy(&documents(&required))]
});

static DOCUMENT: LazyLock<Vec<u8>> =
    LazyLock::new(|| Parts::honest().document().encode().expect("an honest document"));

/// An honest quote with changes, or an honest document, and what another verifier says of it or of something else.
pub(crate) fn opinion(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let choices = edits.byte();
    let (required, of_document) = (choices & 1 == 1, choices & 2 == 2);
    let (of_others, signed_anew) = (choices & 4 == 4, choices & 8 == 8);
    let found = found(&mut edits);
    let mut quote = QUOTE.clone();
    while !edits.is_over() {
        edits.change(&mut quote);
    }
    if signed_anew {
        quote = PLATFORM.resign(&quote);
    }
    let challenge = challenge();
    let stapled = Endorsements::default();
    let [for_quotes, for_documents] = &*WITH_OPINION;
    let policy = match (of_document, required) {
        (false, false) => &*FOR_QUOTES,
        (false, true) => for_quotes,
        (true, false) => &*FOR_DOCUMENTS,
        (true, true) => for_documents,
    };
    let subject = if of_document { Subject::Document(&DOCUMENT) } else { Subject::Quote(&quote) };
    let endorsements = if of_document { &stapled } else { &*ENDORSEMENTS };
    let challenge = of_document.then_some(&challenge);
    let without = Inputs { policy, ..evaluate::inputs(subject, endorsements, challenge, now()) };
    let over = without.opinion_digest().filter(|_| !of_others).unwrap_or(Bytes([9; 32]));
    let opinion =
        found.map(|found| SecondOpinion { found, inputs: over, verifier: "another 1.0".to_owned() });
    let inputs = Inputs { second_opinion: opinion.as_ref(), ..without };
    let result = ways::every(&inputs);
    let alone = ways::cold(&without);
    assert_eq!(others(&result), others(&alone), "an opinion changes no check but its own");
    if !result.accepted() {
        return;
    }
    match &opinion {
        None => assert!(!required, "an opinion that the policy requires"),
        Some(SecondOpinion { inputs: over, found, .. }) => {
            assert_eq!(Some(*over), inputs.opinion_digest(), "an opinion of something else");
            match found {
                Finding::Status(status) => assert_eq!(Some(status.as_str()), result.tcb_status),
                Finding::NotAsked(_) => assert!(!required, "an opinion that was not asked for"),
                Finding::Refused(why) => panic!("accepted, which another refuses: {why}"),
            }
        }
    }
}

fn found(edits: &mut Edits<'_>) -> Option<Finding> {
    let kind = edits.byte();
    let status = STATUSES[edits.below(STATUSES.len())];
    let mut words = || String::from_utf8_lossy(edits.take(64)).into_owned();
    match kind % 5 {
        0 => None,
        1 => Some(Finding::Status(status.to_owned())),
        2 => Some(Finding::Status(words())),
        3 => Some(Finding::Refused(words())),
        _ => Some(Finding::NotAsked(words())),
    }
}

/// The checks that are not about an opinion.
fn others(result: &AttestationResult) -> Vec<&Check> {
    result.checks.iter().filter(|check| !check.code.starts_with("cross_check")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the target's honest inputs are accepted: changes of what is refused anyway would say little.
    #[test]
    fn the_example_is_accepted_under_both_of_its_keys() {
        for signature in [BY_ED25519, BY_P256] {
            let given = RecordedReferences {
                file: ByteString(REFERENCES.as_bytes().to_vec()),
                last_seen: None,
                signature: ByteString(signature.to_vec()),
            };
            let prepared = PreparedReferences::new(&given, &FROM_REFERENCES, &ALGORITHMS);
            let bare = evaluate::inputs(Subject::Quote(&QUOTE), &ENDORSEMENTS, None, now());
            let inputs = Inputs { references: Some(&prepared), policy: &FROM_REFERENCES, ..bare };
            let result = ways::every(&inputs);
            assert_eq!((result.accepted(), result.code), (true, None));
            assert_eq!(result.reference_set.as_deref(), Some("release-2"));
        }
    }

    #[test]
    fn an_opinion_that_agrees_is_accepted_where_it_is_required() {
        for (policy, subject) in
            WITH_OPINION.iter().zip([Subject::Quote(&QUOTE), Subject::Document(&DOCUMENT)])
        {
            let challenge = challenge();
            let challenge = matches!(subject, Subject::Document(_)).then_some(&challenge);
            let inputs = Inputs { policy, ..evaluate::inputs(subject, &ENDORSEMENTS, challenge, now()) };
            let opinion = SecondOpinion {
                found: Finding::Status("UpToDate".to_owned()),
                inputs: inputs.opinion_digest().unwrap(),
                verifier: "another 1.0".to_owned(),
            };
            assert!(!ways::every(&inputs).accepted());
            assert!(ways::every(&Inputs { second_opinion: Some(&opinion), ..inputs }).accepted());
        }
    }
}
