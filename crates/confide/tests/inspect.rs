//! `confide inspect`: every form by its content, as text and as JSON, without a verdict.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_evidence::bytes::Bytes;
use confide_evidence::head::{ChainHead, SignedHead};
use confide_evidence::pem;
use confide_evidence::receipt::{KeptReceipt, Receipt, Usage};
use confide_evidence::record::FIRST;
use confide_evidence::{hex, text::steers};
use confide_simulator::{PlatformOptions, SimulatedPlatform};
use confide_testkit::gpu::GpuEvidence;
use serde_json::{Value, json};
use std::path::PathBuf;
use support::{Sample, confide, status, stderr, stdout};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const TIME: u64 = 1_790_812_800;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{ROOT}/{name}")).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What is said of bytes, each line of JSON.
    #[track_caller]
    fn shown(&self, bytes: &[u8]) -> Vec<Value> {
        let path = self.write(bytes);
        let output = confide(&["inspect", "--json", path.to_str().unwrap()]);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same as text.
    #[track_caller]
    fn text(&self, bytes: &[u8]) -> String {
        let path = self.write(bytes);
        let output = confide(&["inspect", path.to_str().unwrap()]);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        stdout(&output)
    }

    /// Why bytes are not shown.
    #[track_caller]
    fn refused(&self, bytes: &[u8]) -> String {
        let path = self.write(bytes);
        let output = confide(&["inspect", path.to_str().unwrap()]);
        let told = stderr(&output);
        assert_eq!((status(&output), stdout(&output).as_str()), (30, ""), "{told}");
        assert!(told.contains("[document_format]") && !told.contains("panicked"), "{told}");
        told
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

fn receipt() -> Receipt {
    Receipt {
        salt: Bytes([1; 32]),
        time: TIME,
        usage: Usage { prompt_tokens: 3, completion_tokens: 4 },
        boot_id: Bytes([5; 16]),
        key_set: Bytes([6; 32]),
        manifest: Bytes([7; 32]),
        sequence: 8,
        signature: Bytes([9; 64]),
        request_id: "a request\u{1b}[2J".into(),
        configuration: Bytes([10; 32]),
    }
}

/// Two receipts of a folder of records.
fn kept_receipts() -> Vec<u8> {
    let first = KeptReceipt {
        prev: FIRST,
        sent: TIME,
        record: Bytes([13; 32]),
        receipt: receipt(),
        request: Bytes([11; 32]),
        response: Bytes([12; 32]),
    };
    let second = KeptReceipt { prev: first.hash(), ..first.clone() };
    [first.encode(), second.encode()].concat()
}

fn head() -> Vec<u8> {
    let chain = ChainHead { last: Bytes([13; 32]), count: 2 };
    SignedHead { time: TIME, records: chain, receipts: chain, signature: Bytes([14; 64]) }.encode()
}

fn collateral() -> Value {
    let platform = SimulatedPlatform::new(PlatformOptions::at(TIME)).unwrap();
    serde_json::from_str(&platform.collateral_json()).unwrap()
}

/// The answer of Intel's service with a signed object of the collateral.
fn answer(name: &str, object: &str, signature: &str) -> Vec<u8> {
    let collateral = collateral();
    let text = |field: &str| collateral[field].as_str().unwrap().to_owned();
    format!("{{\"{name}\":{},\"signature\":\"{}\"}}", text(object), text(signature)).into_bytes()
}

#[test]
fn every_form_is_recognised_by_its_content() {
    let folder = folder();
    let nvidia = |name: &str| file(&format!("fixtures/nvidia/common/{name}"));
    let collateral = collateral();
    let text = |field: &str| collateral[field].as_str().unwrap().as_bytes().to_vec();
    let list = GpuEvidence::hopper([0x41; 32], TIME).unwrap().list();
    let cases: Vec<(&str, Vec<u8>, &str, Value)> = vec![
        ("evidence document", file("fixtures/tdx/accept-document/document.cbor"), "/platform", json!("tdx")),
        ("record file", file("fixtures/records/reports.cbor"), "/record/prev", json!("00".repeat(32))),
        ("receipt", receipt().encode(), "/sequence", json!(8)),
        ("kept receipts", kept_receipts(), "/receipt/sequence", json!(8)),
        ("signed head of records", head(), "/records/count", json!(2)),
        (
            "boot event log",
            file("fixtures/tdx/accept-boot-events/ccel.bin"),
            "/events/0/register",
            json!("RTMR0"),
        ),
        ("TDX quote", file("fixtures/tdx/accept-v4/quote.bin"), "/version", json!(4)),
        ("SEV-SNP report", file("fixtures/snp/accept-version-3/report.bin"), "/version", json!(3)),
        ("NVIDIA report", nvidia("hopper-report-0.bin"), "/driver_version", json!("580.95.05")),
        ("NVIDIA evidence list", list.into(), "/arch", json!("HOPPER")),
        (
            "reference integrity manifest",
            nvidia("NV_GPU_DRIVER_GH100_580.95.05.xml"),
            "/colloquial_version",
            json!("580.95.05"),
        ),
        ("NRAS answer", file("fixtures/nvidia/accept-nras/nras-0.json"), "/overall/result", json!(true)),
        (
            "NRAS key set",
            file("fixtures/nvidia/accept-nras/jwks.json"),
            "/keys/0/certificates/0/ca",
            json!(false),
        ),
        ("DCAP collateral", collateral.to_string().into(), "/tcb_info/id", json!("TDX")),
        ("TCB info", answer("tcbInfo", "tcb_info", "tcb_info_signature"), "/tcbInfo/id", json!("TDX")),
        ("TCB info", text("tcb_info"), "/tcbInfo/version", json!(3)),
        (
            "QE identity",
            answer("enclaveIdentity", "qe_identity", "qe_identity_signature"),
            "/enclaveIdentity/id",
            json!("TD_QE"),
        ),
        ("QE identity", text("qe_identity"), "/enclaveIdentity/version", json!(2)),
        ("certificates", text("tcb_info_issuer_chain"), "/certificates/1/ca", json!(true)),
        ("certificate", file("fixtures/snp/common/root.der"), "/path_length", Value::Null),
        (
            "certificate revocation list",
            nvidia("crl-gh100-identity-c65ed315.der"),
            "/signature_algorithm",
            json!("ecdsa-with-SHA256"),
        ),
        ("OCSP answer", nvidia("ocsp-gh100-identity-c65ed315.der"), "/responses/0/status", json!("good")),
        ("appraisal policy", file("policies/client.toml"), "/simulated", json!(false)),
        ("appraisal policy", file("policies/danger-simulator.toml"), "/simulated", json!("SIMULATED")),
        ("reference values", file("docs/protocol/references/example.toml"), "/version", json!(3)),
    ];
    for (form, bytes, pointer, expected) in cases {
        let shown = folder.shown(&bytes);
        assert_eq!(shown[0]["form"], form);
        let found = shown[0].pointer(pointer).unwrap_or_else(|| panic!("{form}: no {pointer}: {}", shown[0]));
        assert_eq!(*found, expected, "{form} {pointer}");
        let text = folder.text(&bytes);
        assert!(text.lines().any(|line| line == format!("form: {form}")), "{form}: {text}");
        assert!(!text.contains(|one| one != '\n' && steers(one)), "{form}: {text}");
    }
}

#[test]
fn binary_forms_may_come_as_digits_base64_or_pem() {
    let folder = folder();
    for (name, form) in [
        ("fixtures/nvidia/common/hopper-report-0.bin", "NVIDIA report"),
        ("fixtures/tdx/accept-v4/quote.bin", "TDX quote"),
        ("fixtures/snp/accept-version-3/report.bin", "SEV-SNP report"),
        ("fixtures/nvidia/common/ocsp-gh100-identity-c65ed315.der", "OCSP answer"),
        ("fixtures/nvidia/common/crl-gh100-identity-c65ed315.der", "certificate revocation list"),
    ] {
        let bytes = file(name);
        let shown = folder.shown(&bytes);
        assert_eq!(shown[0]["form"], form);
        let lines = |text: String| {
            let characters: Vec<char> = text.chars().collect();
            characters.chunks(64).map(|line| line.iter().collect::<String>() + "\n").collect::<String>()
        };
        for encoded in [lines(hex::encode(&bytes)), lines(pem::base64_text(&bytes))] {
            assert_eq!(folder.shown(encoded.as_bytes()), shown, "{name}");
        }
    }
    let list = file("fixtures/nvidia/common/crl-gh100-identity-c65ed315.der");
    let body = pem::base64_text(&list);
    let as_pem = format!("-----BEGIN X509 CRL-----\n{body}\n-----END X509 CRL-----\n");
    assert_eq!(folder.shown(as_pem.as_bytes()), folder.shown(&list));
    // Certificates one after the other, as DER chains are.
    let both = [file("fixtures/snp/common/issuer.der"), file("fixtures/snp/common/root.der")];
    let shown = folder.shown(&both.concat());
    assert_eq!(shown, [folder.shown(&both[0]), folder.shown(&both[1])].concat());
}

#[test]
fn several_devices_and_records_are_shown_each() {
    let folder = folder();
    let shown = folder.shown(&file("fixtures/records/quotes.cbor"));
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[1]["record"]["prev"], shown[0]["hash"]);
    assert!(shown.iter().all(|record| record["simulated"] == "SIMULATED"));
    let shown = folder.shown(&kept_receipts());
    assert_eq!((shown.len(), &shown[1]["prev"]), (2, &shown[0]["hash"]));
    let one = GpuEvidence::hopper([0x41; 32], TIME).unwrap().list();
    let item = one.trim().trim_start_matches('[').trim_end_matches(']');
    let shown = folder.shown(format!("[{item},{item}]").as_bytes());
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0]["nonce"], "41".repeat(32));
    assert_eq!(shown[0]["report"]["measurements"].as_object().unwrap().len(), 64);
    assert_eq!(shown[0]["certificates"].as_array().unwrap().len(), 5);
}

#[test]
fn what_is_simulated_says_so_first_where_a_name_says_it() {
    let folder = folder();
    for name in [
        "fixtures/tdx/accept-v4/quote.bin",
        "fixtures/tdx/accept-document/document.cbor",
        "fixtures/tdx/common/collateral.json",
        "fixtures/nvidia/common/hopper-chain-0.pem",
        "fixtures/nvidia/common/NV_GPU_DRIVER_GH100_580.95.05.xml",
        "fixtures/nvidia/accept-nras/jwks.json",
        "fixtures/records/devices.cbor",
    ] {
        let text = folder.text(&file(name));
        assert!(text.starts_with("simulated: SIMULATED\n"), "{name}: {text}");
    }
    let genuine = std::fs::read(Sample::version_4().quote).unwrap();
    assert!(folder.text(&genuine).starts_with("form: TDX quote\n"));
}

#[test]
fn a_token_is_shown_with_its_claims() {
    let folder = folder();
    let answer: Value = serde_json::from_slice(&file("fixtures/nvidia/accept-nras/nras-0.json")).unwrap();
    let token = answer[0][1].as_str().unwrap();
    let shown = &folder.shown(token.as_bytes())[0];
    assert_eq!((&shown["form"], &shown["header"]["alg"]), (&json!("token (JWT)"), &json!("ES384")));
    assert_eq!(shown["claims"]["x-nvidia-overall-att-result"], true);
    assert_eq!(shown["signature"].as_str().unwrap().len(), 192);
}

#[test]
fn what_a_file_says_moves_no_terminal() {
    let folder = folder();
    let shown = folder.text(&receipt().encode());
    assert!(shown.contains("\nrequest_id: a request\\u{1b}[2J\n"), "{shown}");
    let names = "{\"header\": 1, \"\\u001b[2J\\u202e\": \"\\u009b\"}";
    let part = |text: &str| {
        pem::base64_text(text.as_bytes()).trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let token = format!("{}.{}.{}", part("{}"), part(names), part("signature"));
    for text in [folder.text(token.as_bytes()), folder.shown(token.as_bytes())[0].to_string()] {
        assert!(text.contains("header"), "{text}");
    }
    assert!(!folder.text(token.as_bytes()).contains(|one| one != '\n' && steers(one)));
}

#[test]
fn what_has_no_form_is_told_why() {
    let folder = folder();
    let manifest = file("fixtures/nvidia/common/NV_GPU_DRIVER_GH100_580.95.05.xml");
    let report = file("fixtures/nvidia/common/hopper-report-0.bin");
    for (bytes, words) in [
        (b"".to_vec(), "as an evidence document: "),
        (b"{\"a\": 1}".to_vec(), "JSON of another form"),
        (b"{\"a\": ".to_vec(), "as JSON: "),
        (b"[]".to_vec(), "JSON of another form"),
        (manifest[..manifest.len() / 2].to_vec(), "as a reference integrity manifest: "),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(), "certificate 0: "),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec(),
            "a private key in PEM, which is no evidence",
        ),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec(),
            "a public key in PEM, which is no evidence",
        ),
        (b"-----BEGIN X-----\nAAAA\n-----END X-----\n".to_vec(), "as certificates in PEM: "),
        (b"00 0a\nFF\n".to_vec(), "hexadecimal digits of 3 bytes, which have none either"),
        (b"00f".to_vec(), "3 hexadecimal digits: two make a byte"),
        (report[..report.len() - 1].to_vec(), "as an evidence document: "),
        (b"a.b.c".to_vec(), "as an evidence document: "),
        (vec![b'0'; 4096], "hexadecimal digits of 2048 bytes"),
        (b"[".repeat(1 << 20), "as an evidence document: "),
        (b"name = \"a policy\"\n".to_vec(), "as an evidence document: "),
    ] {
        let told = folder.refused(&bytes);
        assert!(told.contains("of no form that is known (") && told.contains(words), "{words}: {told}");
    }
}
