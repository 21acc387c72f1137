//! Formats as a whole: committed vectors, round trips, limits, and refusal of every other encoding.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(unreachable_pub, missing_docs, reason = "shared with the example that prints the vectors")]
mod samples;
#[path = "samples/vectors.rs"]
#[allow(unreachable_pub, reason = "shared with the example that prints the vectors")]
mod vectors;

use cbor4ii::core::Value as Cbor;
use cbor4ii::core::dec::Decode as _;
use cbor4ii::core::enc::Encode as _;
use cbor4ii::core::utils::{BufWriter, SliceReader};
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::cbor::{self, CanonicalRule, CborError};
use confide_evidence::document::*;
use confide_evidence::record::Record;
use confide_evidence::shared::SharedDocument;
use confide_evidence::transcript::{BatchTree, MAX_BATCH_PATH, Role, batch_leaf};
use proptest::prelude::*;

fn documents() -> [EvidenceDocument; 2] {
    [samples::document(), samples::short_document()]
}

#[test]
fn the_committed_vectors_are_what_this_code_computes() {
    let committed = include_str!("../../../docs/protocol/vectors.json");
    assert!(committed == vectors::file(), "docs/protocol/vectors.json differs: cargo xtask fixtures");
}

#[test]
fn documents_round_trip() {
    for document in documents() {
        assert_eq!(EvidenceDocument::decode(&document.encode().unwrap()), Ok(document));
    }
}

#[test]
fn the_key_that_is_reserved_for_a_tdisp_report_is_refused_by_its_name() {
    let with = |key: &str| {
        let bytes = samples::document().encode().unwrap();
        let mut value = Cbor::decode(&mut SliceReader::new(&bytes)).unwrap();
        let Cbor::Map(entries) = &mut value else { panic!("a document is a map") };
        let devices = entries.iter_mut().find(|(name, _)| *name == Cbor::Text("devices".into())).unwrap();
        let Cbor::Array(devices) = &mut devices.1 else { panic!("a list of devices") };
        let Cbor::Map(device) = &mut devices[0] else { panic!("a device is a map") };
        device.retain(|(name, _)| *name != Cbor::Text(key.into()));
        device.push((Cbor::Text(key.into()), Cbor::Bytes(b"a report".to_vec())));
        let mut writer = BufWriter::new(Vec::new());
        sorted(value).encode(&mut writer).unwrap();
        EvidenceDocument::decode(&writer.into_inner())
    };
    assert!(with("chain").is_ok(), "the document is otherwise whole");
    let why = with("tdisp").unwrap_err().to_string();
    assert!(why.contains("unknown field `tdisp`"), "{why}");
}

/// Sorts every map by (length of the key, key), independently of the crate's own rule.
fn sorted(value: Cbor) -> Cbor {
    match value {
        Cbor::Array(items) => Cbor::Array(items.into_iter().map(sorted).collect()),
        Cbor::Map(entries) => {
            let mut entries: Vec<_> = entries.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by_key(|(key, _)| match key {
                Cbor::Text(text) => (text.len(), text.clone()),
                other => panic!("map key {other:?}"),
            });
            Cbor::Map(entries)
        }
        other => other,
    }
}

#[test]
fn every_struct_declares_its_fields_in_canonical_order() {
    let mut encodings = vec![samples::receipt().encode(), samples::manifest().encode()];
    encodings.extend(samples::kept_receipts().iter().map(|kept| kept.encode()));
    encodings.push(samples::signed_head().encode());
    encodings.extend(samples::records().iter().map(|record| record.encode()));
    encodings.extend(documents().map(|document| document.encode().unwrap()));
    encodings.extend(samples::locked_events().iter().map(|event| event.payload()));
    encodings.push(cbor::to_canonical(&samples::configuration()).unwrap());
    for bytes in encodings {
        let value = Cbor::decode(&mut SliceReader::new(&bytes)).unwrap();
        let mut writer = BufWriter::new(Vec::new());
        sorted(value).encode(&mut writer).unwrap();
        assert_eq!(writer.into_inner(), bytes);
    }
}

#[test]
fn a_shared_document_with_a_path_is_the_document_with_that_path() {
    for document in documents() {
        let shared = SharedDocument::new(document.clone()).unwrap();
        for (size, index) in [(1, 0), (2, 1), (23, 22), (300, 255), (4096, 4095)] {
            let leaf = |at: u16| batch_leaf(&Bytes([1; 32]), &Bytes([at as u8; 32]));
            let path = BatchTree::new((0..size).map(leaf).collect()).unwrap().path(index).unwrap();
            let whole = EvidenceDocument { batch: Some(path.clone()), ..document.clone() };
            assert_eq!(shared.encode(&path), whole.encode().unwrap(), "{index} of {size}");
        }
    }
}

#[test]
fn a_document_that_is_too_large_is_refused_either_way() {
    let mut document = samples::document();
    document.boot_log = Some(vec![0; MAX_DOCUMENT].into());
    let refused = |result: Result<(), DocumentError>| {
        assert!(matches!(result, Err(DocumentError::Cbor(CborError::TooLarge { limit: MAX_DOCUMENT, .. }))));
    };
    refused(document.encode().map(|_| ()));
    refused(EvidenceDocument::decode(&cbor::to_canonical(&document).unwrap()).map(|_| ()));
}

#[test]
fn lists_over_their_limits_are_refused() {
    type Change = fn(&mut EvidenceDocument);
    let cases: [(&str, Change); 12] = [
        ("devices", |d| d.devices = vec![samples::devices()[0].clone(); MAX_DEVICES + 1]),
        ("claims.volumes", |d| d.claims.volumes = vec![samples::volume(); MAX_VOLUMES + 1]),
        ("claims.egress.allowed", |d| d.claims.egress.allowed = vec![String::new(); MAX_LIST + 1]),
        ("claims.egress.host_visible", |d| d.claims.egress.host_visible = vec![String::new(); MAX_LIST + 1]),
        ("claims.engine.flags", |d| d.claims.engine.flags = vec![String::new(); MAX_LIST + 1]),
        ("claims.engine.environment", |d| {
            d.claims.engine.environment = vec![Default::default(); MAX_LIST + 1]
        }),
        ("batch.path", |d| d.batch.as_mut().unwrap().path = vec![Bytes([0; 64]); MAX_BATCH_PATH + 1]),
        ("endorsements.snp.crls", |d| snp(d).crls = vec![ByteString::default(); MAX_LIST + 1]),
        ("endorsements.snp.certificates", |d| {
            snp(d).certificates = vec![ByteString::default(); MAX_LIST + 1]
        }),
        ("endorsements.nvidia.crls", |d| nvidia(d).crls = vec![ByteString::default(); MAX_DEVICE_CRLS + 1]),
        ("endorsements.nvidia.ocsp", |d| nvidia(d).ocsp = vec![ByteString::default(); MAX_OCSP_ANSWERS + 1]),
        ("endorsements.nvidia.rims", |d| nvidia(d).rims = vec![ByteString::default(); MAX_RIMS + 1]),
    ];
    for (name, change) in cases {
        let mut document = samples::document();
        change(&mut document);
        let bytes = cbor::to_canonical(&document).unwrap();
        for result in [EvidenceDocument::decode(&bytes).map(|_| ()), document.encode().map(|_| ())] {
            assert!(
                matches!(result, Err(DocumentError::TooMany { field, .. }) if field == name),
                "{name}: {result:?}"
            );
        }
    }
}

fn snp(document: &mut EvidenceDocument) -> &mut SnpEndorsements {
    document.endorsements.as_mut().unwrap().snp.as_mut().unwrap()
}

fn nvidia(document: &mut EvidenceDocument) -> &mut NvidiaEndorsements {
    document.endorsements.as_mut().unwrap().nvidia.as_mut().unwrap()
}

#[test]
fn another_version_and_a_platform_that_does_not_fit_are_refused() {
    let mut document = samples::document();
    document.version = 2;
    assert_eq!(
        EvidenceDocument::decode(&cbor::to_canonical(&document).unwrap()),
        Err(DocumentError::Version(2))
    );
    let mut document = samples::document();
    document.platform = Platform::SevSnp;
    assert_eq!(
        EvidenceDocument::decode(&cbor::to_canonical(&document).unwrap()),
        Err(DocumentError::PlatformMismatch)
    );
}

#[test]
fn a_trailing_byte_is_refused() {
    let mut bytes = samples::document().encode().unwrap();
    bytes.push(0);
    let error = EvidenceDocument::decode(&bytes).unwrap_err();
    assert!(matches!(error, DocumentError::Cbor(CborError::Trailing { count: 1, .. })));
}

#[test]
fn events_must_be_complete_for_the_role() {
    let [serving, booting] = documents();
    assert_eq!(serving.check_events(Role::Serve), Ok(()));
    assert_eq!(serving.check_events(Role::Batch), Ok(()));
    assert!(serving.check_events(Role::KeyRelease).is_err());
    assert_eq!(booting.check_events(Role::KeyRelease), Ok(()));
    assert!(booting.check_events(Role::Serve).is_err());
}

#[test]
fn json_shows_hexadecimal_and_decoded_events() {
    let json = samples::document().to_json();
    assert_eq!(json["cpu"]["quote"], "71756f7465");
    assert_eq!(json["events"][0]["kind"], "boot");
    assert_eq!(json["events"][0]["payload"]["build"]["version"], "0.1.0");
    assert_eq!(json["events"][7]["payload"], serde_json::json!({}));
    assert_eq!(json["key_set"]["kem"]["alg"], "X-Wing");
    assert_eq!(json["claims"]["gpus"]["count"], 1);
    assert_eq!(json["boot_log"]["bytes"], "626f6f74206c6f67");
    assert!(json["boot_log"]["error"].as_str().unwrap().contains("the header event"));
    assert!(json["cpu"]["decoded"]["error"].as_str().unwrap().contains("the quote version"));
}

#[test]
fn keys_of_wrong_size_and_half_a_key_set_are_refused() {
    #[derive(serde::Serialize)]
    struct Key<'a> {
        alg: &'a str,
        public: ByteString,
    }
    let key = |alg, size| cbor::to_canonical(&Key { alg, public: vec![0; size].into() }).unwrap();
    assert!(cbor::from_canonical::<KemKey>(&key("X-Wing", 1216)).is_ok());
    for bytes in [key("X-Wing", 1215), key("X-Wing", 1217), key("X25519", 1216)] {
        assert!(matches!(cbor::from_canonical::<KemKey>(&bytes), Err(CborError::Shape(_))));
    }
    #[derive(serde::Serialize)]
    struct Half {
        kem: KemKey,
        not_after: u64,
    }
    let half = cbor::to_canonical(&Half { kem: samples::kem_key(), not_after: 1 }).unwrap();
    assert!(matches!(cbor::from_canonical::<KeySet>(&half), Err(CborError::Shape(_))));
}

#[test]
fn an_attestation_request_is_exactly_one_nonce() {
    let request = AttestationRequest { nonce: Bytes([7; 32]) };
    assert_eq!(AttestationRequest::decode(&request.encode()), Ok(request.clone()));
    let short =
        cbor::to_canonical(&std::collections::BTreeMap::from([("nonce", ByteString(vec![7; 31]))])).unwrap();
    assert!(matches!(AttestationRequest::decode(&short), Err(CborError::Shape(_))));
    assert!(matches!(AttestationRequest::decode(&[0; MAX_REQUEST + 1]), Err(CborError::TooLarge { .. })));
    let indefinite = [&b"\xbf"[..], &request.encode()[1..], b"\xff"].concat();
    assert!(matches!(
        AttestationRequest::decode(&indefinite),
        Err(CborError::NotCanonical { rule: CanonicalRule::DefiniteLength, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1000), ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_never_decodes_to_the_same_document(at: prop::sample::Index, change in 1u8..) {
        let document = samples::short_document();
        let mut bytes = document.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(other) = EvidenceDocument::decode(&bytes) {
            prop_assert_ne!(&other, &document);
            prop_assert_eq!(other.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn cut_and_spliced_documents_decode_only_from_their_own_encoding(from: prop::sample::Index, to: prop::sample::Index) {
        let bytes = samples::document().encode().unwrap();
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let spliced = [&bytes[..from], &bytes[to..]].concat();
        match EvidenceDocument::decode(&spliced) {
            Ok(document) => prop_assert_eq!(document.encode().unwrap(), spliced),
            Err(_) => prop_assert_ne!(spliced, bytes),
        }
    }

    #[test]
    fn any_bytes_decode_or_fail_without_panic(bytes: Vec<u8>) {
        let _ = EvidenceDocument::decode(&bytes);
        let _ = Record::decode(&bytes);
        if let Ok(items) = cbor::sequence(&bytes).collect::<Result<Vec<_>, _>>() {
            prop_assert_eq!(items.concat(), bytes);
        }
    }

    #[test]
    fn claims_round_trip(
        name in ".{0,40}", flags in prop::collection::vec(".{0,8}", 0..20), drops: u64, locked_at: Option<u64>,
        digest: [u8; 32], policy: Option<[u8; 32]>,
    ) {
        let mut claims = samples::claims();
        claims.model.name = name;
        claims.engine.flags = flags;
        claims.changing.drops = drops;
        claims.changing.locked_at = locked_at;
        claims.configuration = digest.into();
        claims.egress.policy = policy.map(Bytes);
        let bytes = cbor::to_canonical(&claims).unwrap();
        prop_assert_eq!(cbor::from_canonical::<Claims>(&bytes), Ok(claims));
    }
}
