//! The record of one appraisal: its inputs and its outcome, chained by hash to the record before it.

use serde::{Deserialize, Serialize};

use crate::bytes::{ByteString, Bytes, Digest};
use crate::cbor::{self, CborError};
use crate::document::{DeviceEvidence, Endorsements, MAX_DEVICES, MAX_DOCUMENT, TdxCollateral, encode_own};
use crate::hash::sha256_of;
use crate::transcript::Role;

/// First field of the digest of what a second opinion was formed over.
pub const OPINION_DOMAIN: &[u8] = b"confide/second-opinion/v1";
/// First field of every record hash.
pub const RECORD_DOMAIN: &[u8] = b"confide/record/v1";
/// The largest record, in bytes: a document, endorsements kept apart from it, a policy and an outcome.
pub const MAX_RECORD: usize = 3 * MAX_DOCUMENT;
/// `prev` of the first record of a file.
pub const FIRST: Digest = Bytes([0; 32]);

/// One appraisal: what went in, and what came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Hash of the record before this one; [`FIRST`] in the first.
    pub prev: Digest,
    /// The time of the appraisal, Unix seconds.
    pub time: u64,
    /// The appraisal policy, the text as loaded.
    pub policy: String,
    /// The attestation result, JSON as the evaluator wrote it; `None` when it has been removed.
    pub outcome: Option<String>,
    /// What was appraised.
    pub subject: Subject,
    /// What the evidence had to be bound to; `None` for a bare quote or report.
    pub challenge: Option<RecordedChallenge>,
    /// Name and version of the evaluator.
    pub evaluator: String,
    /// The signed file of reference values, where the policy names one.
    pub references: Option<RecordedReferences>,
    /// The endorsements that were used; empty when only stapled ones were.
    pub endorsements: Endorsements,
    /// What another verifier found, where one was asked.
    pub second_opinion: Option<SecondOpinion>,
}

/// What was appraised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SubjectWire", into = "SubjectWire")]
pub enum Subject {
    /// A bare TDX quote.
    Quote(ByteString),
    /// A bare CPU quote and the boot event log of its machine.
    QuoteWithLog {
        /// The quote.
        quote: ByteString,
        /// The log, as the firmware's table or without its padding.
        boot_log: ByteString,
    },
    /// An evidence document.
    Document(ByteString),
    /// A bare SEV-SNP attestation report.
    SnpReport(ByteString),
    /// NVIDIA devices by themselves.
    Devices {
        /// The nonce that each was asked with, in the order of the devices.
        nonces: Vec<[u8; 32]>,
        /// The evidence of 1 to [`MAX_DEVICES`] devices.
        devices: Vec<DeviceEvidence>,
        /// Another time for manifests and the revocation of their signers, Unix seconds.
        rim_time: Option<u64>,
        /// What NVIDIA's attestation service says of the same devices, where it was asked.
        nras: Option<NrasOpinion>,
    },
}

/// A second opinion on devices: answers of NVIDIA's remote attestation service, to be appraised with a stored key set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NrasOpinion {
    /// The key set (JWKS), JSON as the service publishes it.
    pub jwks: ByteString,
    /// 1 to [`MAX_DEVICES`] answers, JSON as the service gives them: the service takes one nonce for all devices of a
    /// request, and GPUs and switches apart.
    pub answers: Vec<ByteString>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nras: Option<NrasOpinion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quote: Option<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonces: Option<Vec<Bytes<32>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    devices: Option<Vec<DeviceEvidence>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_log: Option<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rim_time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snp_report: Option<ByteString>,
}

impl From<Subject> for SubjectWire {
    fn from(subject: Subject) -> Self {
        let none = Self::default();
        match subject {
            Subject::Quote(quote) => Self { quote: Some(quote), ..none },
            Subject::QuoteWithLog { quote, boot_log } => {
                Self { quote: Some(quote), boot_log: Some(boot_log), ..none }
            }
            Subject::Document(document) => Self { document: Some(document), ..none },
            Subject::SnpReport(report) => Self { snp_report: Some(report), ..none },
            Subject::Devices { nonces, devices, rim_time, nras } => {
                let nonces = nonces.into_iter().map(Bytes).collect();
                Self { nonces: Some(nonces), devices: Some(devices), rim_time, nras, ..none }
            }
        }
    }
}

impl TryFrom<SubjectWire> for Subject {
    type Error = &'static str;

    fn try_from(wire: SubjectWire) -> Result<Self, Self::Error> {
        let SubjectWire { nras, quote, nonces, devices, boot_log, document, rim_time, snp_report } = wire;
        let of_devices = (nonces, devices, rim_time, nras);
        match (quote, boot_log, document, snp_report, of_devices) {
            (Some(quote), None, None, None, (None, None, None, None)) => Ok(Self::Quote(quote)),
            (Some(quote), Some(boot_log), None, None, (None, None, None, None)) => {
                Ok(Self::QuoteWithLog { quote, boot_log })
            }
            (None, None, Some(document), None, (None, None, None, None)) => Ok(Self::Document(document)),
            (None, None, None, Some(report), (None, None, None, None)) => Ok(Self::SnpReport(report)),
            (None, None, None, None, (Some(nonces), Some(devices), rim_time, nras)) => {
                let nonces = nonces.into_iter().map(|Bytes(nonce)| nonce).collect();
                of_devices_alone(nonces, devices, rim_time, nras)
            }
            _ => Err(
                "subject is none of {quote}, {quote, boot_log}, {document}, {snp_report} and {? nras, nonces, devices, ? rim_time}",
            ),
        }
    }
}

fn of_devices_alone(
    nonces: Vec<[u8; 32]>,
    devices: Vec<DeviceEvidence>,
    rim_time: Option<u64>,
    nras: Option<NrasOpinion>,
) -> Result<Subject, &'static str> {
    if devices.is_empty() || devices.len() > MAX_DEVICES {
        return Err("subject of no device, or of more than 32");
    }
    if nonces.len() != devices.len() {
        return Err("subject with other counts of nonces and of devices");
    }
    if nras.as_ref().is_some_and(|nras| nras.answers.is_empty() || nras.answers.len() > MAX_DEVICES) {
        return Err("an opinion of no answer, or of more than 32");
    }
    Ok(Subject::Devices { nonces, devices, rim_time, nras })
}

/// A challenge as data: it proves nothing and opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedChallenge {
    /// The role.
    pub role: Role,
    /// SHA-256 of the peer's SubjectPublicKeyInfo; empty for `key-release`.
    pub spki: ByteString,
    /// The nonce, 32 bytes.
    pub nonce: Bytes<32>,
    /// The connection's TLS exporter; empty for `key-release`.
    pub exporter: ByteString,
}

/// A signed file of reference values as it was given, and what had been seen of its series before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedReferences {
    /// The file, the exact bytes that are signed.
    pub file: ByteString,
    /// The newest file of the series that was accepted before; `None` where none was.
    pub last_seen: Option<SeenReferences>,
    /// The detached signature: 64 bytes for Ed25519 (RFC 8032), DER for ECDSA (RFC 3279 section 2.2.3).
    pub signature: ByteString,
}

/// One file of a series of reference values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenReferences {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its version.
    pub version: u64,
}

/// What another verifier said of the same quote with the same collateral at the same time: data, which a program brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondOpinion {
    /// What it found.
    pub found: Finding,
    /// What it was formed over, by [`opinion_inputs`]: of other inputs it says nothing.
    pub inputs: Digest,
    /// Its name and version.
    pub verifier: String,
}

/// SHA-256 of the length-prefixed (domain, quote, canonical collateral, time): what a second opinion is formed over. `time`
/// is in Unix seconds.
pub fn opinion_inputs(quote: &[u8], collateral: &TdxCollateral, time: u64) -> Digest {
    sha256_of(&[OPINION_DOMAIN, quote, &encode_own(collateral), &time.to_be_bytes()])
}

/// The finding of another verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Signatures, chains and windows hold, and the TCB has the status of this name.
    Status(String),
    /// It refuses the quote, in its own words.
    Refused(String),
    /// It was not asked, for this reason.
    NotAsked(String),
}

impl Record {
    /// Reads one record.
    ///
    /// # Errors
    /// Anything but the canonical encoding of a record of at most [`MAX_RECORD`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_canonical_within(bytes, MAX_RECORD)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode_own(self)
    }

    /// SHA-256 of the length-prefixed (domain, canonical record): the next record's `prev`.
    pub fn hash(&self) -> Digest {
        sha256_of(&[RECORD_DOMAIN, &self.encode()])
    }
}

/// The records of a file, a CBOR sequence (RFC 8742). The reader stops after the first error and does not follow the
/// hash chain.
pub fn read_all(bytes: &[u8]) -> impl Iterator<Item = Result<Record, CborError>> {
    cbor::sequence(bytes).map(|item| Record::decode(item?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::DeviceKind;

    fn record(prev: Digest) -> Record {
        Record {
            prev,
            time: 1,
            policy: "p".into(),
            outcome: None,
            subject: Subject::Quote(vec![1].into()),
            challenge: None,
            evaluator: "confide 0.1.0".into(),
            references: None,
            endorsements: Endorsements::default(),
            second_opinion: None,
        }
    }

    #[test]
    fn a_file_of_records_reads_back_and_chains() {
        let first = record(FIRST);
        let second = Record { subject: Subject::Document(vec![2].into()), ..record(first.hash()) };
        let file = [first.encode(), second.encode()].concat();
        let read: Vec<_> = read_all(&file).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [first.clone(), second]);
        assert_eq!(read[1].prev, first.hash());
    }

    #[test]
    fn a_quote_with_its_boot_log_reads_back_and_one_without_keeps_its_encoding() {
        let quote: ByteString = vec![1].into();
        let with = Subject::QuoteWithLog { quote: quote.clone(), boot_log: vec![2].into() };
        let bytes = cbor::to_canonical(&with).unwrap();
        assert_eq!(bytes, b"\xa2\x65quote\x41\x01\x68boot_log\x41\x02");
        assert_eq!(cbor::from_canonical::<Subject>(&bytes).unwrap(), with);
        assert_eq!(cbor::to_canonical(&Subject::Quote(quote)).unwrap(), b"\xa1\x65quote\x41\x01");
    }

    #[test]
    fn a_truncated_file_gives_its_whole_records_and_an_error() {
        let file = [record(FIRST).encode(), record(FIRST).encode()].concat();
        let read: Vec<_> = read_all(&file[..file.len() - 1]).collect();
        assert_eq!(read.len(), 2);
        assert!(read[0].is_ok() && matches!(read[1], Err(CborError::Truncated { .. })));
    }

    #[test]
    fn a_subject_of_two_kinds_or_none_is_refused() {
        #[derive(Serialize)]
        struct Both {
            quote: ByteString,
            document: ByteString,
        }
        #[derive(Serialize)]
        struct Logged {
            boot_log: ByteString,
            document: ByteString,
        }
        #[derive(Serialize)]
        struct Log {
            boot_log: ByteString,
        }
        let both = cbor::to_canonical(&Both { quote: vec![].into(), document: vec![].into() }).unwrap();
        let logged =
            cbor::to_canonical(&Logged { boot_log: vec![].into(), document: vec![].into() }).unwrap();
        let log = cbor::to_canonical(&Log { boot_log: vec![].into() }).unwrap();
        for refused in [both, logged, log] {
            assert!(cbor::from_canonical::<Subject>(&refused).is_err());
        }
        assert!(cbor::from_canonical::<Subject>(b"\xa0").is_err());
        assert!(cbor::from_canonical::<Subject>(b"\x65quote").is_err());
    }

    fn device(number: u8) -> DeviceEvidence {
        DeviceEvidence {
            kind: DeviceKind::NvidiaGpu,
            chain: vec![number].into(),
            report: vec![number].into(),
        }
    }

    fn devices(nonces: usize, devices: u8, rim_time: Option<u64>) -> Subject {
        let nonces = vec![[7; 32]; nonces];
        Subject::Devices { nonces, devices: (0..devices).map(device).collect(), rim_time, nras: None }
    }

    #[test]
    fn devices_read_back_in_the_canonical_order_of_their_fields() {
        for (subject, fields) in [
            (devices(1, 1, None), &["nonces", "devices"][..]),
            (devices(32, 32, Some(5)), &["nonces", "devices", "rim_time"]),
        ] {
            let bytes = cbor::to_canonical(&subject).unwrap();
            assert_eq!(cbor::from_canonical::<Subject>(&bytes).unwrap(), subject);
            let at = |name: &str| {
                let key = [&[0x60 + u8::try_from(name.len()).unwrap()][..], name.as_bytes()].concat();
                bytes.windows(key.len()).position(|window| window == key)
            };
            let places: Vec<_> = fields.iter().map(|name| at(name).unwrap()).collect();
            assert!(places.is_sorted(), "{places:?}");
            assert_eq!(at("rim_time").is_some(), fields.len() == 3);
        }
    }

    #[test]
    fn an_opinion_on_devices_reads_back_with_1_to_32_answers() {
        for (answers, accepted) in [(0, false), (1, true), (32, true), (33, false)] {
            let mut subject = devices(1, 1, None);
            if let Subject::Devices { nras, .. } = &mut subject {
                *nras = Some(NrasOpinion {
                    jwks: vec![1].into(),
                    answers: vec![ByteString::from(vec![2]); answers],
                });
            }
            let bytes = cbor::to_canonical(&subject).unwrap();
            let read = cbor::from_canonical::<Subject>(&bytes);
            assert_eq!(read.is_ok(), accepted, "{answers}");
            assert!(read.is_ok_and(|read| read == subject) == accepted);
        }
        let mut wire = SubjectWire::from(Subject::Quote(vec![1].into()));
        wire.nras = Some(NrasOpinion { jwks: vec![].into(), answers: vec![vec![].into()] });
        assert!(Subject::try_from(wire).is_err(), "an opinion beside a quote");
    }

    #[test]
    fn devices_without_as_many_nonces_are_refused() {
        for (nonces, count) in [(0, 1), (1, 0), (0, 0), (1, 2), (2, 1), (33, 33)] {
            let bytes = cbor::to_canonical(&devices(nonces, count, None)).unwrap();
            assert!(cbor::from_canonical::<Subject>(&bytes).is_err(), "{nonces} nonces, {count} devices");
        }
        // Fields of another subject beside them, and too few of them.
        for text in ["nonces", "devices", "rim_time"] {
            let mut wire = SubjectWire::from(devices(1, 1, Some(5)));
            match text {
                "nonces" => wire.nonces = None,
                "devices" => wire.devices = None,
                _ => wire.quote = Some(vec![1].into()),
            }
            assert!(Subject::try_from(wire).is_err(), "{text}");
        }
    }

    #[test]
    fn the_outcome_is_part_of_the_hash() {
        let with = Record { outcome: Some("{}".into()), ..record(FIRST) };
        assert_ne!(with.hash(), record(FIRST).hash());
    }
}
