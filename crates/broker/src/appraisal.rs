//! Appraisal of a guest that asks for keys, by the policies of its volumes.
//!
//! [`Recipient`] is authority: [`Judge::appraise`] alone makes one, and nothing is sealed without it.

use confide_client::ALGORITHMS;
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::{Endorsements, EvidenceDocument, KemKey, KeySet};
use confide_evidence::hash::sha256;
use confide_evidence::record::{RecordedChallenge, Subject};
use confide_evidence::transcript::Role;
use confide_policy::AppraisalPolicy;
use confide_record::Recording;
use confide_release::{Fault, IdentityKey, Refusal};
use confide_verifier::{AttestationResult, Check, Inputs, Status, evaluate, rules};
use rustls_pki_types::UnixTime;

use crate::codes;

/// The most bytes of what a check expected, of what it found and of what to do, each. Values have under 1 KiB.
const MAX_SAID: usize = 2048;

/// A guest whose evidence every policy accepts, for the challenge that it answered: who keys are sealed to.
#[derive(Debug)]
pub(crate) struct Recipient {
    key: KemKey,
    boot_id: Bytes<16>,
    simulated: bool,
}

impl Recipient {
    /// The key that the evidence is bound to.
    pub(crate) fn key(&self) -> &KemKey {
        &self.key
    }

    /// The guest's boot.
    pub(crate) fn boot_id(&self) -> Bytes<16> {
        self.boot_id
    }

    /// Whether a verdict on it says that there is no hardware behind it.
    pub(crate) fn is_simulated(&self) -> bool {
        self.simulated
    }
}

/// A policy of one of the volumes, with its text and what endorses the document under it.
pub(crate) struct Judge {
    pub(crate) text: String,
    pub(crate) policy: AppraisalPolicy,
    pub(crate) endorsements: Endorsements,
}

/// What is appraised.
pub(crate) struct Question<'a> {
    /// The evidence document.
    pub(crate) document: &'a [u8],
    /// Of the challenge, which has been used up.
    pub(crate) nonce: Bytes<32>,
    /// The broker's own key.
    pub(crate) identity: &'a IdentityKey,
    /// Time of the appraisal.
    pub(crate) now: UnixTime,
}

/// What an appraisal has come to, with the record of each policy's verdict. Where no signature leads to a root of a policy there
/// are none: anybody can make such a document, as large as documents may be.
pub(crate) struct Judged {
    pub(crate) outcome: Result<Recipient, Refusal>,
    pub(crate) records: Vec<Vec<u8>>,
    /// Whether the evidence is of some guest's that answers the challenge, accepted or not. Who has none is told nothing of volumes
    /// and policies.
    pub(crate) attested: bool,
}

/// What a document of the role `key-release` answers.
pub(crate) fn challenge(nonce: Bytes<32>) -> RecordedChallenge {
    RecordedChallenge { role: Role::KeyRelease, spki: Vec::new().into(), nonce, exporter: Vec::new().into() }
}

/// Appraises a document by every policy. The first refusal ends it.
pub(crate) fn appraise(question: &Question<'_>, judges: &[Judge]) -> Judged {
    let mut records = Vec::new();
    let mut simulated = false;
    let (mut genuine, mut attested) = (false, false);
    for judge in judges {
        let (result, record) = judge.evaluate(question);
        records.extend(record);
        simulated |= result.simulated;
        // What the certificate says is there where every signature of the quote holds, up to a root of the policy.
        genuine |= result.pck.is_some();
        attested |= answers(&result);
        if !result.accepted() {
            if !genuine {
                records.clear();
            }
            return Judged { outcome: Err(refusal(&result, attested)), records, attested };
        }
    }
    let outcome = if judges.is_empty() {
        Err(Refusal::new(codes::VOLUME_UNKNOWN, "no volume was asked for"))
    } else {
        recipient(question, simulated)
    };
    Judged { outcome, records, attested }
}

/// Whether the signatures of a quote hold, and it is for this challenge.
fn answers(result: &AttestationResult) -> bool {
    let passed = |check: &Check| check.code == rules::REPORT_DATA.code && check.status == Status::Pass;
    result.pck.is_some() && result.checks.iter().any(passed)
}

impl Judge {
    fn evaluate(&self, question: &Question<'_>) -> (AttestationResult, Option<Vec<u8>>) {
        let challenge = challenge(question.nonce);
        let inputs = Inputs {
            subject: confide_verifier::Subject::Document(question.document),
            endorsements: &self.endorsements,
            prepared: None,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: Some(&challenge),
            now: question.now,
            algorithms: &ALGORITHMS,
        };
        let result = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
        let recording = Recording {
            subject: Subject::Document(question.document.into()),
            endorsements: self.endorsements.clone(),
            policy: &self.text,
            challenge: Some(challenge),
            time: question.now,
            references: None,
            second_opinion: None,
        };
        // A record that no reader would take explains nothing; the entry has the digest of the document all the same.
        let mut record = Vec::new();
        let kept = confide_record::append(&mut record, &recording.record(&result, None)).is_ok();
        (result, kept.then_some(record))
    }
}

/// The recipient of an accepted document, whose measured broker is this one.
fn recipient(question: &Question<'_>, simulated: bool) -> Result<Recipient, Refusal> {
    let unreadable = || Refusal::new(codes::BROKER_FAULT, "an accepted document cannot be read");
    let document = EvidenceDocument::decode(question.document).map_err(|_| unreadable())?;
    let expected = question.identity.to_der();
    let measured = document.events.boot().and_then(|boot| boot.broker_key.clone());
    if measured.as_ref() != Some(&expected) {
        let shown =
            |key: &confide_evidence::bytes::ByteString| confide_evidence::pem::base64_text(key.as_bytes());
        let message = "the guest's measured event `boot` names another broker's key";
        let error = Fault {
            code: codes::BROKER_KEY.to_owned(),
            message: message.to_owned(),
            expected: Some(shown(&expected)),
            actual: Some(measured.as_ref().map_or_else(|| "none".to_owned(), shown)),
        };
        return Err(Refusal { error });
    }
    match document.key_set {
        KeySet::Recipient(key) => Ok(Recipient { key, boot_id: document.boot_id, simulated }),
        KeySet::Serving(_) => Err(unreadable()),
    }
}

/// The first check that failed, as the peer is told it: no policy refuses with less. Only a guest is told the policy's name.
fn refusal(result: &AttestationResult, attested: bool) -> Refusal {
    let code = result.code.unwrap_or(codes::BROKER_FAULT);
    let failed = result.checks.iter().find(|check| check.code == code && check.status == Status::Fail);
    let (expected, actual, remedy) = match failed {
        Some(check) => {
            (Some(cut(&check.expected)), Some(cut(&check.actual)), check.remedy.as_deref().map(cut))
        }
        None => (None, None, None),
    };
    let mut message = match attested {
        true => format!("the policy {:?} refuses the evidence by its rule {code}", result.policy),
        false => format!("the evidence is refused by the rule {code}"),
    };
    if let Some(remedy) = remedy {
        message.push_str("; ");
        message.push_str(&remedy);
    }
    Refusal { error: Fault { code: code.to_owned(), message, expected, actual } }
}

/// As much of a text as is told, so that no refusal is longer than a guest reads: the record has all of it.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_SAID);
    let kept = text.get(..end).unwrap_or_default();
    if end == text.len() { kept.to_owned() } else { format!("{kept}…") }
}

/// SHA-256 of a document, as the audit log names it.
pub(crate) fn digest(document: &[u8]) -> Digest {
    sha256(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_release::MAX_REFUSAL;

    #[test]
    fn whatever_a_check_found_the_guest_can_read_the_refusal() {
        // JSON writes a control character in six bytes.
        let long = "\u{1}".repeat(1 << 20);
        let part = || Some(cut(&long));
        let error = Fault { code: "x".to_owned(), message: cut(&long), expected: part(), actual: part() };
        let text = Refusal { error }.to_json(403);
        assert!(text.len() < MAX_REFUSAL, "{} bytes", text.len());
        assert!(Refusal::from_json(&text).is_some());
        assert_eq!(cut("short"), "short");
        assert!(cut(&"é".repeat(MAX_SAID)).ends_with("é…"));
    }
}
