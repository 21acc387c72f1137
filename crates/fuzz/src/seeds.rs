//! Valid inputs of every target: where fuzzing begins. All of it is our own: simulated or written here.

use crate::evaluate;
use crate::guest::{GPU, NOW, PLATFORM, POLICY, Parts, binding, challenge, now};
use crate::snp::{HONEST, Honest};
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    AttestationRequest, CpuEvidence, EvidenceDocument, KemAlgorithm, KemKey, KeySet,
};
use confide_evidence::manifest::{FileHasher, ModelManifest};
use confide_evidence::receipt::{Receipt, Usage};
use confide_evidence::record::{Finding, Record, SecondOpinion};
use confide_evidence::{cbor, hex, pem};
use confide_policy::{CLIENT, INSPECT};
use confide_simulator::{
    PlatformOptions, QuoteForm, SimulatedBootLog, SimulatedPlatform, SimulatedTd, SnpOptions, SnpProduct,
    SnpSigningKey,
};
use serde_json::json;

/// The seeds of a target.
///
/// # Panics
/// For a name that is no target's.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let collateral = PLATFORM.collateral();
    let chain = |text: &str| pem::certificates(text.as_bytes()).expect("the simulator's chain");
    match target {
        "quote" => quotes(),
        "certificate" => {
            let quoting = chain(&collateral.pck_certificate_chain);
            quoting.into_iter().chain(chain(&GPU.chain_pem())).collect()
        }
        "crl" => vec![collateral.root_ca_crl.clone(), collateral.pck_crl.clone()],
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
        "receipt" => vec![receipt()],
        "manifest" => vec![manifest()],
        "request" => vec![AttestationRequest { nonce: Bytes([1; 32]) }.encode()],
        "policy" => [CLIENT, INSPECT, POLICY].map(|text| text.as_bytes().to_vec()).to_vec(),
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
        "evaluate_bytes" => {
            let document = Parts::honest().document();
            let CpuEvidence::Tdx { quote } = &document.cpu else { return Vec::new() };
            vec![quote.0.clone(), document.encode().expect("an honest document")]
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
        "evaluate_snp_files" => {
            let [certificates, lists] = snp_files();
            vec![[&[1], &certificates[..]].concat(), [&[0], &lists[..]].concat()]
        }
        "evaluate_quote" | "evaluate_collateral" | "evaluate_document" | "evaluate_snp" | "evaluate_log" => {
            decisions()
        }
        other => panic!("no target is called {other}"),
    }
}

/// The report of the simulated GPU.
pub(crate) fn gpu_report() -> Vec<u8> {
    GPU.report(binding().gpu_nonce(0))
}

const REFERENCES: &str = include_str!("../../../docs/protocol/references/example.toml");

fn own<T: serde::Serialize>(value: &T) -> Vec<u8> {
    cbor::to_canonical(value).expect("our own types declare their fields in canonical order")
}

fn quotes() -> Vec<Vec<u8>> {
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

fn reference_state() -> Vec<u8> {
    let series = json!({ "name": "acme", "key": "00ff", "version": 3, "digest": "7".repeat(64) });
    json!({ "format": "confide-reference-state/1", "series": [series] }).to_string().into_bytes()
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

fn receipt() -> Vec<u8> {
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
    .encode()
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
