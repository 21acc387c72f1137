//! Valid inputs of every target: where fuzzing begins. All of it is our own: simulated or written here.

use crate::beside::{BY_ED25519, REFERENCES, from_references};
use crate::guest::{GPU, NOW, PLATFORM, POLICY, Parts, binding, challenge, documents, now, quotes};
use crate::snp::{HONEST, Honest};
use crate::worst::der;
use crate::{devices, evaluate, release, rim, volume, wire};
use confide_evidence::bytes::{ByteString, Bytes, Digest};
use confide_evidence::document::{
    AttestationRequest, CpuEvidence, EvidenceDocument, KemAlgorithm, KemKey, KeySet, NvidiaEndorsements,
};
use confide_evidence::hash::sha256;
use confide_evidence::head::{ChainHead, SignedHead};
use confide_evidence::manifest::{FileHasher, ModelManifest};
use confide_evidence::receipt::{KeptReceipt, Receipt, Usage};
use confide_evidence::record::{FIRST, Finding, Record, SecondOpinion};
use confide_evidence::x509::Certificate;
use confide_evidence::{cbor, hex, pem};
use confide_policy::egress::DENY_ALL;
use confide_policy::{CLIENT, INSPECT};
use confide_simulator::{
    NrasDevice, NrasOptions, PlatformOptions, QuoteForm, SimulatedBootLog, SimulatedGpu, SimulatedPlatform,
    SimulatedTd, SnpOptions, SnpProduct, SnpSigningKey,
};
use serde_json::{Value, json};

/// The seeds of a target.
///
/// # Panics
/// For a name that is no target's.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let collateral = PLATFORM.collateral();
    let chain = |text: &str| pem::certificates(text.as_bytes()).expect("the simulator's chain");
    match target {
        "quote" => quote_forms(),
        "certificate" => {
            let quoting = chain(&collateral.pck_certificate_chain);
            quoting.into_iter().chain(chain(&GPU.chain_pem())).collect()
        }
        "crl" => vec![collateral.root_ca_crl.clone(), collateral.pck_crl.clone()],
        "ocsp" => ocsp_answers(),
        "pem" => vec![collateral.pck_certificate_chain.clone().into_bytes(), GPU.chain_pem().into_bytes()],
        "collateral" => vec![PLATFORM.collateral_json().into_bytes()],
        "tcb_info" => vec![collateral.tcb_info.clone().into_bytes()],
        "qe_identity" => vec![collateral.qe_identity.clone().into_bytes()],
        "pcs_answer" => answers(),
        "document" => {
            let whole = Parts::honest().document();
            let bare = EvidenceDocument {
                endorsements: None,
                devices: Vec::new(),
                cpu: CpuEvidence::Tdx { quote: ByteString(vec![4, 0]) },
                ..whole.clone()
            };
            [whole, bare].map(|document| document.encode().expect("an honest document")).to_vec()
        }
        "events" => vec![own(&Parts::honest().document().events)],
        "boot_log" => vec![SimulatedBootLog::default().to_bytes(), SimulatedBootLog::default().table(4096)],
        "claims" => vec![own(&Parts::honest().claims)],
        "key_set" => {
            let kem = KemKey { alg: KemAlgorithm::XWing, public: Bytes([8; 1216]) };
            vec![own(&Parts::honest().key_set), own(&KeySet::Recipient(kem))]
        }
        "record" => {
            let first = record(None);
            let second = record(Some(&first));
            vec![first.encode(), [first.encode(), second.encode()].concat()]
        }
        "receipt" => vec![receipt().encode()],
        "kept_receipts" => {
            let first = kept(FIRST, 0);
            let second = kept(first.hash(), 1);
            let both = [first.encode(), second.encode()].concat();
            vec![first.encode(), both.clone(), both[..both.len() - 9].to_vec(), [both, vec![0; 9]].concat()]
        }
        "signed_head" => vec![head()],
        "manifest" => vec![manifest()],
        "request" => vec![AttestationRequest { nonce: Bytes([1; 32]) }.encode()],
        "policy" => [CLIENT, INSPECT, POLICY].map(|text| text.as_bytes().to_vec()).to_vec(),
        "egress_policy" => [DENY_ALL, EGRESS].map(|text| text.as_bytes().to_vec()).to_vec(),
        "references" => vec![REFERENCES.as_bytes().to_vec()],
        "text" => [&b"2026-10-01T00:00:00Z"[..], b"-----BEGIN%20CERTIFICATE-----%0A", b"00ffAB", b"QUJD"]
            .map(<[u8]>::to_vec)
            .to_vec(),
        "nvidia_report" => vec![gpu_report()],
        "nvidia_opaque" => {
            let report = gpu_report();
            vec![report[37 + 8 + 64 * 55 + 32 + 2..report.len() - 96].to_vec()]
        }
        "nvidia_chain" => vec![GPU.chain_pem().into_bytes()],
        "evidence_list" => {
            let report = gpu_report();
            let chain =
                pem::certificates(GPU.chain_pem().as_bytes()).expect("the simulator's chain").concat();
            vec![
                evidence_list(1),
                pem::base64_text(&report).into_bytes(),
                hex::encode(&report).into_bytes(),
                chain,
            ]
        }
        "nras_answer" => vec![nras().answer().expect("an answer").into_bytes()],
        "nras_claims" => vec![NRAS_CLAIMS.to_vec()],
        "nras_jwks" => vec![nras().jwks().expect("a key set").into_bytes()],
        "rim" => vec![rim::document(&rim::resources(3, 2)).into_bytes()],
        "rim_answer" => vec![rim_answer()],
        "rim_canonical" => {
            let rim = rim::document(&rim::resources(2, 1));
            [&*rim, rim::TRICKY].map(|text| text.as_bytes().to_vec()).to_vec()
        }
        "evaluate_bytes" => {
            let document = Parts::honest().document();
            let CpuEvidence::Tdx { quote } = &document.cpu else { return Vec::new() };
            let log = SimulatedBootLog::default().to_bytes();
            vec![quote.0.clone(), document.encode().expect("an honest document"), log, HONEST.report.clone()]
        }
        "snp_report" => platforms().map(|platform| platform.report).collect(),
        "snp_key" => platforms().map(|platform| platform.endorsements.certificates[0].0.clone()).collect(),
        "snp_file" => {
            let [certificates, lists] = snp_files();
            let ders = HONEST.endorsements.certificates.iter().map(|der| der.0.clone()).collect::<Vec<_>>();
            vec![certificates, lists, pem::encode(&ders).into_bytes()]
        }
        "cache_file" => cache_files(),
        "reference_state" => vec![reference_state()],
        "volume_header" => volume::SEEDS.map(|json| json.as_bytes().to_vec()).to_vec(),
        "volume_binary" => volume::binary_seeds(),
        "dns" | "server_name" | "proxied_request" | "quoting_answer" | "discovery_file" | "event_stream"
        | "api_body" => wire::seeds(target),
        "release_message" | "release_request" | "release_answer" | "volume_secrets" | "audit_entry" => {
            release::seeds(target)
        }
        "inspect" => INSPECTED.iter().flat_map(|target| of(target)).collect(),
        "conformance_case" => cases().map(|case| case.to_string().into_bytes()).to_vec(),
        "evaluate_snp_files" => {
            let [certificates, lists] = snp_files();
            vec![[&[1], &certificates[..]].concat(), [&[0], &lists[..]].concat()]
        }
        "evaluate_device_files" => {
            let NvidiaEndorsements { crls, ocsp, rims } = &devices::HONEST.endorsements;
            vec![devices::joined(0, rims), devices::joined(1, ocsp), devices::joined(2, crls)]
        }
        "evaluate_quote"
        | "evaluate_collateral"
        | "evaluate_document"
        | "evaluate_snp"
        | "evaluate_log"
        | "evaluate_devices" => decisions(),
        "evaluate_references" => choices(8),
        "evaluate_opinion" => choices(16),
        other => panic!("no target is called {other}"),
    }
}

/// What the attestation service would say of the simulated GPU.
fn nras() -> NrasOptions {
    NrasOptions::new([7; 32], 1_790_812_800, vec![NrasDevice::gpu(&GPU)])
}

/// Claims of an overall token and of a device's.
const NRAS_CLAIMS: &[u8] = b"{\"sub\":\"S\",\"x-nvidia-ver\":\"3.0\",\"iss\":\"I\",\
    \"eat_nonce\":\"0707070707070707070707070707070707070707070707070707070707070707\",\"iat\":1,\"nbf\":2,\"exp\":3,\
    \"x-nvidia-overall-att-result\":true,\"submods\":{\"GPU-0\":[\"DIGEST\",[\"SHA-256\",\
    \"0707070707070707070707070707070707070707070707070707070707070707\"]]}}\0\
    {\"iss\":\"I\",\"eat_nonce\":\"0707070707070707070707070707070707070707070707070707070707070707\",\
    \"iat\":1,\"nbf\":2,\"exp\":3,\"ueid\":\"258\",\"measres\":\"success\",\"secboot\":true,\"dbgstat\":\"disabled\",\
    \"x-nvidia-gpu-attestation-report-nonce-match\":true,\
    \"x-nvidia-gpu-driver-version\":\"1\",\"x-nvidia-gpu-vbios-version\":\"2\",\
    \"x-nvidia-gpu-attestation-report-signature-verified\":true,\"x-nvidia-attestation-warning\":null,\
    \"x-nvidia-gpu-driver-rim-cert-chain\":{\"x-nvidia-cert-status\":\"valid\",\"x-nvidia-cert-ocsp-status\":\"good\"}}";

/// The report of the simulated GPU.
pub(crate) fn gpu_report() -> Vec<u8> {
    GPU.report(binding().gpu_nonce(0))
}

/// The list of the simulated GPU as often as that.
pub(crate) fn evidence_list(devices: usize) -> Vec<u8> {
    let item = json!({
        "version": "1.0",
        "arch": "HOPPER",
        "nonce": hex::encode(&binding().gpu_nonce(0)),
        "evidence": pem::base64_text(&gpu_report()),
        "certificate": pem::base64_text(GPU.chain_pem().as_bytes()),
        "driver_version": "580.95.05",
        "vbios_version": "96.00.A5.00.01",
    });
    Value::from(vec![item; devices]).to_string().into_bytes()
}

/// The id of the RIM that [`rim_answer`] holds.
pub(crate) const RIM_ID: &str = "NV_GPU_DRIVER_GH100_580.95.05";

/// What NVIDIA's service says of a RIM.
fn rim_answer() -> Vec<u8> {
    let document = rim::document(&rim::resources(3, 2));
    let document =
        document.replace("colloquialVersion=\"1.2\"", "colloquialVersion=\"580.95.05\"").into_bytes();
    let answer = json!({
        "id": RIM_ID,
        "rim": pem::base64_text(&document),
        "sha256": hex::encode(&sha256(&document).0),
        "last_updated": "2026-01-30T09:05:11.595000",
        "rim_format": "TCG",
        "request_id": "54922519-b87e-4057-b323-33b9a2bb9743",
    });
    answer.to_string().into_bytes()
}

/// OCSP answers that nobody signed: about two certificates by name and with a certificate, one on hold by key, none.
fn ocsp_answers() -> Vec<Vec<u8>> {
    let seq = |parts: &[&[u8]]| der(0x30, &parts.concat());
    let [leaf, issuer, ..] =
        &pem::certificates(GPU.chain_pem().as_bytes()).expect("the simulator's chain")[..]
    else {
        return Vec::new();
    };
    let issuer = Certificate::parse(issuer).expect("the simulator's certificate");
    let time = der(0x18, b"20261001000000Z");
    let single = |serial: u8, status: &[u8]| {
        // id-sha256.
        let algorithm = seq(&[&der(0x06, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01])]);
        let hashes = [&issuer.subject, &issuer.public_key].map(|bytes| der(0x04, &sha256(bytes).0)).concat();
        let id = seq(&[&algorithm, &hashes, &der(0x02, &[serial])]);
        seq(&[&id, status, &time, &der(0xa0, &time)])
    };
    let answer = |responder: &[u8], singles: &[Vec<u8>], behind: &[u8], certificates: &[u8]| {
        let tbs = seq(&[responder, &time, &seq(&[&singles.concat()]), behind]);
        let algorithm = seq(&[&der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03])]);
        let basic = seq(&[&tbs, &algorithm, &der(0x03, &[0, 0x30, 0]), certificates]);
        let kind = der(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01]);
        seq(&[&[0x0a, 1, 0], &der(0xa0, &seq(&[&kind, &der(0x04, &basic)]))])
    };
    let nonce = seq(&[
        &der(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02]),
        &der(0x04, &der(0x04, &[7; 32])),
    ]);
    let hold = der(0xa1, &[&time[..], &der(0xa0, &[0x0a, 1, 6])].concat());
    let two = [single(9, &[0x80, 0]), single(3, &[0x82, 0])];
    vec![
        answer(&der(0xa1, &issuer.subject), &two, &[], &der(0xa0, &seq(&[leaf, &issuer.der]))),
        answer(&der(0xa2, &der(0x04, &[5; 20])), &[single(9, &hold)], &der(0xa1, &seq(&[&nonce])), &[]),
        seq(&[&[0x0a, 1, 6]]),
    ]
}

fn own<T: serde::Serialize>(value: &T) -> Vec<u8> {
    cbor::to_canonical(value).expect("our own types declare their fields in canonical order")
}

/// A quote of each form.
fn quote_forms() -> Vec<Vec<u8>> {
    let forms = [QuoteForm::V4, QuoteForm::V5Td10, QuoteForm::V5Td15, QuoteForm::V5Td15Extended];
    let quote = |quote_form| {
        let options = PlatformOptions { quote_form, ..PlatformOptions::at(NOW) };
        let platform = SimulatedPlatform::new(options).expect("usual options");
        platform.quote(&SimulatedTd::default().report([7; 64]))
    };
    forms.into_iter().map(quote).collect()
}

fn answers() -> Vec<Vec<u8>> {
    let collateral = PLATFORM.collateral();
    let answer = |name: &str, object: &str, signature: &[u8]| {
        format!("{{\"{name}\":{object},\"signature\":\"{}\"}}", hex::encode(signature)).into_bytes()
    };
    let chain = collateral.tcb_info_issuer_chain.replace(' ', "%20").replace('\n', "%0A").replace('+', "%2B");
    vec![
        answer("tcbInfo", &collateral.tcb_info, &collateral.tcb_info_signature),
        answer("enclaveIdentity", &collateral.qe_identity, &collateral.qe_identity_signature),
        chain.into_bytes(),
        hex::encode(&collateral.pck_crl).into_bytes(),
        collateral.root_ca_crl.clone(),
    ]
}

/// A platform of each product and kind of signing key.
fn platforms() -> impl Iterator<Item = Honest> {
    let kinds = [SnpSigningKey::Vcek, SnpSigningKey::Vlek];
    let all = SnpProduct::ALL.into_iter().flat_map(move |product| kinds.map(|kind| (product, kind)));
    all.map(|(product, signing_key)| Honest::of(SnpOptions { product, signing_key, ..SnpOptions::at(NOW) }))
}

/// The honest certificates and lists, each as one file.
fn snp_files() -> [Vec<u8>; 2] {
    let joined = |ders: &[ByteString]| ders.iter().flat_map(|der| der.0.clone()).collect();
    [joined(&HONEST.endorsements.certificates), joined(&HONEST.endorsements.crls)]
}

/// The name of a file of the cache, and what it would hold.
fn cache_files() -> Vec<Vec<u8>> {
    let collateral = PLATFORM.collateral();
    let answers = answers();
    let [key, issuer, root] = &HONEST.endorsements.certificates[..] else { return Vec::new() };
    let [chip_id, levels] = [0x1a0..0x1e0, 0x180..0x188].map(|field| hex::encode(&HONEST.report[field]));
    let chain = pem::encode(&[issuer.0.clone(), root.0.clone()]).into_bytes();
    let file = |name: &str, chain: Option<&String>, body: &[u8]| {
        let content = json!({ "fetched": NOW, "chain": chain, "body": pem::base64_text(body) });
        format!("{name}.endorsement\n{content}").into_bytes()
    };
    vec![
        file("root-ca-crl", None, &collateral.root_ca_crl),
        file("pck-crl-platform", Some(&collateral.pck_crl_issuer_chain), &collateral.pck_crl),
        file("tdx-tcb-info-53494d000000-standard", Some(&collateral.tcb_info_issuer_chain), &answers[0]),
        file("tdx-qe-identity-standard", Some(&collateral.qe_identity_issuer_chain), &answers[1]),
        file(&format!("vcek-Genoa-{chip_id}-{levels}"), None, &key.0),
        file("vcek-chain-Genoa", None, &chain),
        file("vcek-crl-Genoa", None, &HONEST.endorsements.crls[0].0),
    ]
}

const EGRESS: &str = include_str!("../../../policies/egress/example.toml");

/// Targets whose seeds are forms that `confide inspect` shows.
const INSPECTED: [&str; 16] = [
    "receipt",
    "kept_receipts",
    "signed_head",
    "certificate",
    "crl",
    "ocsp",
    "pem",
    "collateral",
    "tcb_info",
    "qe_identity",
    "policy",
    "references",
    "evidence_list",
    "nras_answer",
    "nras_jwks",
    "rim",
];

fn reference_state() -> Vec<u8> {
    let series = json!({ "name": "acme", "key": "00ff", "version": 3, "digest": "7".repeat(64) });
    json!({ "format": "confide-reference-state/1", "series": [series] }).to_string().into_bytes()
}

/// A case of the conformance suite.
pub(crate) fn case(policy: &str, evidence: &Value, endorsements: &Value, expected: &Value) -> Value {
    json!({
        "schema": 1,
        "name": "seed",
        "why": "a seed",
        "evidence": evidence,
        "endorsements": endorsements,
        "policy": { "text": policy },
        "time": "2026-10-01T00:00:00Z",
        "expected": expected,
    })
}

/// A case of each kind of evidence, each with what may stand beside it.
fn cases() -> [Value; 4] {
    [quote_case(), report_case(), document_case(), device_case(1)]
}

pub(crate) fn accepted() -> Value {
    json!({ "outcome": "accepted", "simulated": true })
}

/// A quote with its log, both sets of collateral, signed reference values and an opinion.
fn quote_case() -> Value {
    let quote = PLATFORM.quote(&SimulatedTd::default().report([7; 64]));
    let evidence = json!({
        "kind": "tdx-quote",
        "quote": { "hex": hex::encode(&quote) },
        "boot_log": { "base64": pem::base64_text(&SimulatedBootLog::default().to_bytes()) },
    });
    let collateral: Value = serde_json::from_str(&PLATFORM.collateral_json()).expect("the simulator's JSON");
    let endorsements = json!({
        "tdx_collateral": { "json": collateral },
        "tdx_early_collateral": { "text": PLATFORM.collateral_json() },
    });
    let mut case = case(&from_references(), &evidence, &endorsements, &accepted());
    case["second_opinion"] = json!({ "found": { "status": "UpToDate" }, "verifier": "another 1.0" });
    case["references"] = json!({
        "file": { "text": REFERENCES },
        "signature": { "hex": hex::encode(BY_ED25519) },
        "last_seen": { "digest": "0".repeat(64), "version": 2 },
    });
    case
}

fn report_case() -> Value {
    let blobs = |ders: &[ByteString]| -> Vec<Value> {
        ders.iter().map(|der| json!({ "base64": pem::base64_text(&der.0) })).collect()
    };
    let evidence = json!({ "kind": "snp-report", "report": { "hex": hex::encode(&HONEST.report) } });
    let endorsements = json!({
        "snp_certificates": blobs(&HONEST.endorsements.certificates),
        "snp_crls": blobs(&HONEST.endorsements.crls),
    });
    case(POLICY, &evidence, &endorsements, &accepted())
}

fn document_case() -> Value {
    let document = Parts::honest().document().encode().expect("an honest document");
    let asked = challenge();
    let evidence = json!({
        "kind": "document",
        "document": { "hex": hex::encode(&document) },
        "challenge": {
            "role": asked.role.name(),
            "nonce": hex::encode(&asked.nonce.0),
            "exporter": hex::encode(asked.exporter.as_bytes()),
            "spki": hex::encode(asked.spki.as_bytes()),
        },
    });
    case(&documents(&[]), &evidence, &json!({}), &accepted())
}

/// So many genuine devices.
pub(crate) fn device_case(count: u64) -> Value {
    let nonce = binding().gpu_nonce(0);
    let devices: Vec<Value> = (0..count)
        .map(|number| {
            let gpu = SimulatedGpu::new(number).expect("usual options");
            json!({
                "kind": "nvidia-gpu",
                "nonce": hex::encode(&nonce),
                "report": { "hex": hex::encode(&gpu.report(nonce)) },
                "chain": { "text": gpu.chain_pem() },
            })
        })
        .collect();
    case(&quotes(&[]), &json!({ "kind": "nvidia-devices", "devices": devices }), &json!({}), &accepted())
}

/// A record of an appraisal, with short bytes in place of the evidence.
fn record(previous: Option<&Record>) -> Record {
    let recording = confide_record::Recording {
        subject: confide_evidence::record::Subject::Document(ByteString(vec![7; 16])),
        endorsements: Default::default(),
        policy: "schema = 1",
        challenge: Some(challenge()),
        time: now(),
        references: None,
        second_opinion: Some(SecondOpinion {
            found: Finding::Status("UpToDate".to_owned()),
            inputs: Bytes([1; 32]),
            verifier: "another 1.0".to_owned(),
        }),
    };
    let mut record = recording.record(&evaluate::refused(), previous);
    record.outcome = Some("{}".to_owned());
    record
}

fn receipt() -> Receipt {
    let usage = Usage { prompt_tokens: 12, completion_tokens: 34 };
    Receipt {
        salt: Bytes([1; 32]),
        time: NOW,
        usage,
        boot_id: Bytes([4; 16]),
        key_set: Bytes([2; 32]),
        manifest: Bytes([5; 32]),
        sequence: 0,
        signature: Bytes([3; 64]),
        request_id: "request".to_owned(),
        configuration: Bytes([6; 32]),
    }
}

fn kept(prev: Digest, sequence: u64) -> KeptReceipt {
    let [record, request, response] = [7, 8, 9].map(|fill| Bytes([fill; 32]));
    KeptReceipt { prev, sent: NOW, record, receipt: Receipt { sequence, ..receipt() }, request, response }
}

fn head() -> Vec<u8> {
    let chain = |fill, count| ChainHead { last: Bytes([fill; 32]), count };
    let (records, receipts) = (chain(1, 5), chain(2, 300));
    SignedHead { time: NOW, records, receipts, signature: Bytes([3; 64]) }.encode()
}

fn manifest() -> Vec<u8> {
    let file = |path: &str, bytes: &[u8]| {
        let mut hasher = FileHasher::new(path).expect("a path");
        hasher.update(bytes);
        hasher.finish()
    };
    let files = vec![file("config.json", b"{}"), file("weights/model.safetensors", &[7; 100])];
    ModelManifest::new(files).expect("two files").encode()
}

/// Decisions that lead to every kind of change.
fn decisions() -> Vec<Vec<u8>> {
    let kinds = (0..16_u8).flat_map(|kind| {
        let change = [kind, 0, 0, 40, 1, 0, 0, 8];
        [[&[0], &change[..]].concat(), [&[3], &change[..], &change[..]].concat()]
    });
    kinds.chain([Vec::new(), vec![1], vec![3]]).collect()
}

/// Every value of a first byte that has so many, alone and before a change of each kind.
fn choices(count: u8) -> Vec<Vec<u8>> {
    let first = (0..count).map(|choice| vec![choice]);
    let then = (0..12_u8).flat_map(|kind| {
        let change = [kind, 0, 0, 40, 1, 0, 0, 8];
        [[&[0], &change[..]].concat(), [&[count - 1], &change[..], &change[..]].concat()]
    });
    first.chain(then).collect()
}
