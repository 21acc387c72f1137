//! One sample of every format, with every optional entry there.
//!
//! Byte strings are filled from short labels, so that two of them never agree by accident.

use std::sync::LazyLock;

use confide_evidence::bytes::{ByteString, Bytes, Digest};
use confide_evidence::configuration::{
    DecidingConfiguration, EgressPhase, EgressPhases, PhaseMode, VolumeRole,
};
use confide_evidence::document::*;
use confide_evidence::event::*;
use confide_evidence::hash::sha256;
use confide_evidence::head::{ChainHead, SignedHead};
use confide_evidence::manifest::{FileHasher, ModelManifest};
use confide_evidence::receipt::{KeptReceipt, Receipt, Usage, salted_hash};
use confide_evidence::record::{
    FIRST, Finding, Record, RecordedChallenge, RecordedReferences, SecondOpinion, SeenReferences, Subject,
};
use confide_evidence::transcript::{BatchPath, BatchTree, Role, batch_leaf};

/// `N` bytes: the label, repeated.
pub fn fill<const N: usize>(label: &str) -> Bytes<N> {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(label.bytes().cycle()).for_each(|(byte, filler)| *byte = filler);
    Bytes(bytes)
}

pub fn text(label: &str) -> ByteString {
    ByteString::from(label.as_bytes())
}

pub fn build() -> Build {
    Build { image: Some(fill("image")), version: "0.1.0".into(), revision: "0123abcd".into() }
}

pub fn engine() -> Engine {
    Engine {
        kind: "builtin".into(),
        flags: vec!["--threads".into(), "2".into()],
        environment: vec![("RUST_BACKTRACE".into(), "0".into())],
    }
}

pub fn volume() -> Volume {
    Volume {
        name: "weights".into(),
        header: fill("header"),
        integrity: "hmac-sha256".into(),
        generation: 3,
        verity_root: Some(fill("verity root")),
    }
}

pub fn configuration() -> DecidingConfiguration {
    DecidingConfiguration {
        model: "tiny".into(),
        egress: EgressPhases {
            boot: EgressPhase { mode: PhaseMode::Bootstrap, policy: Some(fill("egress policy")) },
            serve: EgressPhase { mode: PhaseMode::Locked, policy: Some(fill("egress policy")) },
        },
        engine: engine(),
        volumes: vec![VolumeRole { name: "weights".into(), role: "weights".into() }],
        manifest: None,
    }
}

/// Files whose chunks end before, at and after 4 MiB: (path, the bytes that repeat, size).
pub fn model_files() -> Vec<(&'static str, &'static [u8], usize)> {
    const CHUNK: usize = 4 * 1024 * 1024;
    vec![
        ("tokenizer/tokenizer.json", b"{}\n", 100),
        ("config.json", b"{\"a\":1}", CHUNK - 1),
        ("model-00001.safetensors", b"weights", CHUNK),
        ("model-00002.safetensors", b"more weights", CHUNK + 1),
        ("empty", b"", 0),
    ]
}

/// Hashed once: property tests take samples by the thousand.
pub fn manifest() -> ModelManifest {
    static MANIFEST: LazyLock<ModelManifest> = LazyLock::new(hash_model_files);
    MANIFEST.clone()
}

fn hash_model_files() -> ModelManifest {
    let entries = model_files().into_iter().map(|(path, pattern, size)| {
        let mut bytes = pattern.repeat(size.div_ceil(pattern.len().max(1)));
        bytes.truncate(size);
        let mut hasher = FileHasher::new(path).expect("plain path");
        hasher.update(&bytes);
        hasher.finish()
    });
    ModelManifest::new(entries.collect()).expect("valid files")
}

pub fn claims() -> Claims {
    Claims {
        gpus: Gpus { count: 1, ready: true, dev_tools: false, environment: "PRODUCTION".into() },
        build: build(),
        model: Model { name: "tiny".into(), manifest: manifest().digest() },
        egress: Egress {
            mode: EgressMode::Locked,
            policy: Some(fill("egress policy")),
            allowed: vec!["terminate api.example.com:443".into(), "tcp 10.0.0.0/8:5432".into()],
            ruleset: Some(fill("ruleset")),
            host_visible: vec!["tcp 10.0.0.0/8:5432".into()],
        },
        engine: engine(),
        volumes: vec![volume(), Volume { name: "state".into(), verity_root: None, ..volume() }],
        changing: Changing { drops: 70_000, locked_at: Some(1_750_000_000), guest_time: 1_750_000_060 },
        configuration: configuration().digest(),
    }
}

pub fn open_claims() -> Claims {
    Claims {
        gpus: Gpus { count: 0, ready: false, dev_tools: false, environment: String::new() },
        egress: Egress::open(),
        volumes: vec![],
        changing: Changing { drops: 0, locked_at: None, guest_time: 1_750_000_060 },
        ..claims()
    }
}

pub fn kem_key() -> KemKey {
    KemKey { alg: KemAlgorithm::XWing, public: fill("kem public key") }
}

pub fn key_set() -> KeySet {
    let receipt = ReceiptKey { alg: ReceiptAlgorithm::Ed25519, public: fill("receipt public key") };
    KeySet::Serving(ServingKeys { kem: kem_key(), receipt, not_after: 1_760_000_000 })
}

pub fn devices() -> Vec<DeviceEvidence> {
    vec![
        DeviceEvidence { kind: DeviceKind::NvidiaGpu, chain: text("gpu chain"), report: text("gpu report") },
        DeviceEvidence {
            kind: DeviceKind::NvidiaSwitch,
            chain: text("switch chain"),
            report: text("switch report"),
        },
    ]
}

pub fn boot_id() -> Bytes<16> {
    fill("boot id")
}

/// The longest log: a guest with volumes and locked egress.
pub fn locked_events() -> Vec<RuntimeEvent> {
    vec![
        RuntimeEvent::Boot(Boot { build: build(), boot_id: boot_id(), broker_key: Some(text("broker key")) }),
        RuntimeEvent::Configuration(Configuration { digest: configuration().digest() }),
        RuntimeEvent::Released(Released { volumes: vec!["weights".into(), "state".into()] }),
        RuntimeEvent::EgressLocked(EgressLocked { policy: fill("egress policy"), ruleset: fill("ruleset") }),
        RuntimeEvent::Volumes(OpenVolumes { volumes: claims().volumes }),
        RuntimeEvent::Model(LoadedModel { manifest: manifest().digest() }),
        RuntimeEvent::Devices(DevicesInUse {
            devices: vec![DeviceInUse { mode: "on".into(), certificate: fill("gpu leaf") }],
        }),
        RuntimeEvent::Open,
    ]
}

/// The log of a guest without volumes whose egress stays open.
pub fn open_events() -> Vec<RuntimeEvent> {
    vec![
        RuntimeEvent::Boot(Boot {
            build: Build { image: None, ..build() },
            boot_id: boot_id(),
            broker_key: None,
        }),
        RuntimeEvent::Configuration(Configuration { digest: configuration().digest() }),
        RuntimeEvent::NoVolumes,
        RuntimeEvent::Model(LoadedModel { manifest: manifest().digest() }),
        RuntimeEvent::Devices(DevicesInUse { devices: vec![] }),
        RuntimeEvent::Open,
    ]
}

pub fn log(events: Vec<RuntimeEvent>) -> EventLog {
    let mut log = EventLog::new();
    events.into_iter().try_for_each(|event| log.push(event)).expect("samples obey the grammar");
    log
}

pub fn leaves(count: u8) -> Vec<Bytes<64>> {
    (0..count).map(|i| batch_leaf(&Bytes([i; 32]), &Bytes([0xff - i; 32]))).collect()
}

pub fn batch_path() -> BatchPath {
    BatchTree::new(leaves(5)).expect("small tree").path(2).expect("leaf of the tree")
}

pub fn endorsements() -> Endorsements {
    Endorsements {
        snp: Some(SnpEndorsements {
            crls: vec![text("ark crl")],
            certificates: vec![text("vcek"), text("ask")],
        }),
        tdx: Some(TdxCollateral {
            early: Some(EarlyTcb {
                tcb_info: "{\"id\":\"TDX\",\"early\":1}".into(),
                qe_identity: "{\"id\":\"TD_QE\",\"early\":1}".into(),
                tcb_info_signature: fill("early tcb info signature"),
                qe_identity_signature: fill("early qe identity signature"),
            }),
            pck_crl: text("pck crl"),
            tcb_info: "{\"id\":\"TDX\"}".into(),
            qe_identity: "{\"id\":\"TD_QE\"}".into(),
            root_ca_crl: text("root ca crl"),
            tcb_info_signature: fill("tcb info signature"),
            pck_crl_issuer_chain: "pck crl issuer chain".into(),
            pck_certificate_chain: Some("pck certificate chain".into()),
            qe_identity_signature: fill("qe identity signature"),
            tcb_info_issuer_chain: "tcb info issuer chain".into(),
            qe_identity_issuer_chain: "qe identity issuer chain".into(),
        }),
        nvidia: Some(NvidiaEndorsements {
            crls: vec![text("crl")],
            ocsp: vec![text("ocsp response")],
            rims: vec![text("driver rim"), text("vbios rim")],
        }),
    }
}

/// A document with every optional entry.
pub fn document() -> EvidenceDocument {
    EvidenceDocument {
        cpu: CpuEvidence::Tdx { quote: text("quote") },
        batch: Some(batch_path()),
        claims: claims(),
        events: log(locked_events()),
        boot_id: boot_id(),
        devices: devices(),
        key_set: key_set(),
        version: VERSION,
        boot_log: Some(text("boot log")),
        platform: Platform::Tdx,
        endorsements: Some(endorsements()),
    }
}

/// A document with no optional entry.
pub fn short_document() -> EvidenceDocument {
    EvidenceDocument {
        cpu: CpuEvidence::SevSnp { report: text("report"), certificates: vec![text("vcek"), text("ask")] },
        batch: None,
        claims: open_claims(),
        events: log(open_events().into_iter().take(2).collect()),
        devices: vec![],
        key_set: KeySet::Recipient(kem_key()),
        boot_log: None,
        platform: Platform::SevSnp,
        endorsements: None,
        ..document()
    }
}

/// Four records: of a document, of a bare quote, of a quote with its boot log, and of a bare SEV-SNP report.
pub fn records() -> [Record; 5] {
    let first = Record {
        prev: FIRST,
        time: 1_750_000_061,
        policy: "version = 1\n".into(),
        outcome: Some("{\"outcome\":\"accepted\"}".into()),
        subject: Subject::Document(document().encode().expect("valid sample").into()),
        challenge: Some(RecordedChallenge {
            role: Role::Serve,
            spki: text("32 bytes of the TLS key's digest"),
            nonce: fill("nonce"),
            exporter: text("32 bytes that TLS has exported.."),
        }),
        evaluator: "confide-verifier 0.1.0".into(),
        references: None,
        endorsements: Endorsements::default(),
        second_opinion: None,
    };
    let second = Record {
        prev: first.hash(),
        outcome: None,
        subject: Subject::Quote(text("quote")),
        challenge: None,
        references: Some(RecordedReferences {
            file: text("format = \"confide-reference-values/1\"\n"),
            last_seen: Some(SeenReferences { digest: fill("an earlier file"), version: 7 }),
            signature: text("signature"),
        }),
        endorsements: endorsements(),
        second_opinion: Some(SecondOpinion {
            found: Finding::Status("UpToDate".into()),
            inputs: fill("what it was formed over"),
            verifier: "another-verifier 1.2.3".into(),
        }),
        ..first.clone()
    };
    let third = Record {
        prev: second.hash(),
        subject: Subject::QuoteWithLog { quote: text("quote"), boot_log: text("boot log") },
        ..second.clone()
    };
    let fourth = Record {
        prev: third.hash(),
        subject: Subject::SnpReport(text("report")),
        endorsements: Endorsements { snp: endorsements().snp, ..Endorsements::default() },
        ..second.clone()
    };
    let fifth = Record {
        prev: fourth.hash(),
        subject: Subject::Devices {
            nonces: vec![[0x4e; 32], [0x6e; 32]],
            devices: devices(),
            rim_time: Some(1_750_086_400),
            nras: None,
        },
        endorsements: Endorsements { nvidia: endorsements().nvidia, ..Endorsements::default() },
        ..second.clone()
    };
    [first, second, third, fourth, fifth]
}

pub fn receipt() -> Receipt {
    Receipt {
        salt: fill("salt"),
        time: 1_750_000_062,
        usage: Usage { prompt_tokens: 12, completion_tokens: 345 },
        boot_id: boot_id(),
        key_set: key_set().digest(),
        manifest: manifest().digest(),
        sequence: 6,
        signature: fill("signature"),
        request_id: "req-7".into(),
        configuration: configuration().digest(),
    }
}

/// Two receipts as a client keeps them, both for the first record.
pub fn kept_receipts() -> [KeptReceipt; 2] {
    let first = kept_receipt(confide_evidence::record::FIRST, receipt());
    let second = kept_receipt(first.hash(), Receipt { sequence: 7, ..receipt() });
    [first, second]
}

fn kept_receipt(prev: Digest, receipt: Receipt) -> KeptReceipt {
    KeptReceipt {
        prev,
        sent: 1_750_000_061,
        record: records()[0].hash(),
        request: salted_hash(&receipt.salt, &sha256(b"{\"messages\":[]}")),
        response: salted_hash(&receipt.salt, &sha256(b"{\"choices\":[]}")),
        receipt,
    }
}

pub fn signed_head() -> SignedHead {
    let (records, kept) = (records(), kept_receipts());
    SignedHead {
        time: 1_750_000_063,
        records: ChainHead { last: records[4].hash(), count: 5 },
        receipts: ChainHead { last: kept[1].hash(), count: 2 },
        signature: fill("signature"),
    }
}
