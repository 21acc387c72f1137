//! The test vectors of `docs/protocol/vectors.json`, with the inputs from which anyone can recompute every output.
//!
//! In inputs, `{"hex": …}` is a byte string; all else stands for itself.

use confide_evidence::bytes::Bytes;
use confide_evidence::document::{TdxCollateral, devices_digest};
use confide_evidence::event::RuntimeEvent;
use confide_evidence::hash::{length_prefixed, sha256};
use confide_evidence::receipt::salted_hash;
use confide_evidence::record::opinion_inputs;
use confide_evidence::transcript::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::samples::*;
use forms::{bytes, encoding, value, vector};

#[path = "forms.rs"]
mod forms;

/// The whole file, as committed.
pub fn file() -> String {
    let vectors: Vec<Value> = [
        basics(),
        encodings(),
        digests(),
        events(),
        transcripts(),
        gpu_nonces(),
        batches(),
        manifests(),
        records_and_receipts(),
        opinions(),
    ]
    .concat();
    forms::file(&vectors)
}

fn basics() -> Vec<Value> {
    let fields: [&[u8]; 4] = [b"domain", b"", &[0; 3], &[0xff; 300]];
    let inputs = json!({ "fields": fields.map(bytes) });
    vec![vector(
        "length-prefixed",
        "length prefix: empty, short and long fields",
        inputs,
        &length_prefixed(&fields),
    )]
}

fn encodings() -> Vec<Value> {
    let [first, second, third, fourth, fifth] = records();
    vec![
        encoding("evidence document: every optional entry", "evidence", &document()),
        encoding("evidence document: no optional entry", "evidence", &short_document()),
        encoding("attestation request", "attestation-request", &request()),
        encoding("receipt", "receipt", &receipt()),
        encoding("kept receipt", "kept-receipt", &kept_receipts()[1]),
        encoding("signed head", "signed-head", &signed_head()),
        encoding("record: of a document", "record", &first),
        encoding("record: of a quote", "record", &second),
        encoding("record: of a quote with its boot log", "record", &third),
        encoding("record: of an SEV-SNP report", "record", &fourth),
        encoding("record: of devices without a CPU", "record", &fifth),
        encoding("model manifest", "model-manifest", &manifest()),
    ]
}

fn request() -> confide_evidence::document::AttestationRequest {
    confide_evidence::document::AttestationRequest { nonce: fill("nonce") }
}

fn digest<T: Serialize + ?Sized>(name: &str, rule: &str, sample: &T, output: Bytes<32>) -> Value {
    vector("digest", name, json!({ "rule": rule, "value": value(sample) }), &output.0)
}

fn digests() -> Vec<Value> {
    let recipient = confide_evidence::document::KeySet::Recipient(kem_key());
    vec![
        digest("claims: locked, with volumes", "claims", &claims(), claims().digest()),
        digest("claims: open, without volumes", "claims", &open_claims(), open_claims().digest()),
        digest("key set: serving", "key-set", &key_set(), key_set().digest()),
        digest("key set: recipient key alone", "key-set", &recipient, recipient.digest()),
        digest("device list: a GPU and a switch", "device-list", &devices(), devices_digest(&devices())),
        digest("device list: empty", "device-list", &[0u8; 0][..], devices_digest(&[])),
        digest(
            "deciding configuration",
            "configuration-settings",
            &configuration(),
            configuration().digest(),
        ),
    ]
}

fn event_value(event: &RuntimeEvent) -> Value {
    json!({ "kind": event.kind().name(), "payload": forms::decoded(&event.payload()) })
}

fn events() -> Vec<Value> {
    let mut vectors: Vec<Value> = locked_events()
        .iter()
        .chain([&RuntimeEvent::NoVolumes])
        .map(|event| {
            vector(
                "event-digest",
                &format!("event: {}", event.kind().name()),
                event_value(event),
                &event.digest(),
            )
        })
        .collect();
    let logs = [
        ("RTMR3: locked egress, with volumes", locked_events()),
        ("RTMR3: open egress, without volumes", open_events()),
        ("RTMR3: key release", open_events().into_iter().take(2).collect()),
        ("RTMR3: no event", vec![]),
    ];
    for (name, events) in logs {
        let inputs = json!({ "events": events.iter().map(event_value).collect::<Vec<_>>() });
        vectors.push(vector("rtmr3", name, inputs, &log(events).replay()));
    }
    vectors
}

fn bindings() -> [Binding; 3] {
    let tls_spki = fill("tls spki");
    [
        Binding::Serve { nonce: fill("nonce"), exporter: fill("exporter"), tls_spki },
        Binding::Batch { root: BatchTree::new(leaves(5)).expect("small tree").root(), tls_spki },
        Binding::KeyRelease { nonce: fill("nonce") },
    ]
}

fn transcripts() -> Vec<Value> {
    bindings()
        .into_iter()
        .map(|binding| {
            let transcript = Transcript {
                binding,
                keyset: key_set().digest(),
                devices: devices_digest(&devices()),
                claims: claims().digest(),
                boot_id: boot_id(),
            };
            forms::report_data(&format!("report data: {}", binding.role()), &transcript)
        })
        .collect()
}

fn gpu_nonces() -> Vec<Value> {
    let mut vectors = Vec::new();
    for binding in bindings() {
        for position in [0u32, 11] {
            let inputs = json!({
                "role": binding.role().name(),
                "nonce": bytes(binding.nonce()),
                "channel": bytes(binding.channel()),
                "position": position,
            });
            let name = format!("GPU nonce: {}, position {position}", binding.role());
            vectors.push(vector("gpu-nonce", &name, inputs, &binding.gpu_nonce(position)));
        }
    }
    vectors
}

fn batches() -> Vec<Value> {
    let (nonce, exporter) = (fill("nonce"), fill("exporter"));
    let inputs = json!({ "nonce": bytes(nonce), "channel": bytes(exporter) });
    let mut vectors = vec![vector("batch-leaf", "batch: leaf", inputs, &batch_leaf(&nonce, &exporter).0)];
    let two = leaves(2);
    let inputs = json!({ "left": bytes(two[0]), "right": bytes(two[1]) });
    let root = BatchTree::new(two).expect("small tree").root();
    vectors.push(vector("batch-node", "batch: node", inputs, &root.0));
    for count in [1u8, 2, 3, 4, 5, 7, 8, 13] {
        let tree = BatchTree::new(leaves(count)).expect("small tree");
        let inputs = json!({ "leaves": leaves(count).iter().map(bytes).collect::<Vec<_>>() });
        vectors.push(vector("batch-root", &format!("batch: root of {count}"), inputs, &tree.root().0));
    }
    for (count, index) in [(1u8, 0usize), (5, 0), (5, 2), (5, 4), (13, 11)] {
        let tree = BatchTree::new(leaves(count)).expect("small tree");
        let path = tree.path(index).expect("leaf of the tree");
        let inputs = json!({ "leaf": bytes(leaves(count)[index]), "batch": value(&path) });
        vectors.push(vector(
            "batch-path",
            &format!("batch: path of {index} in {count}"),
            inputs,
            &tree.root().0,
        ));
    }
    vectors
}

fn manifests() -> Vec<Value> {
    let files: Vec<Value> = model_files()
        .into_iter()
        .map(|(path, pattern, size)| json!({ "path": path, "repeat": bytes(pattern), "size": size }))
        .collect();
    vec![vector(
        "manifest",
        "model manifest: chunks around 4 MiB",
        json!({ "files": files }),
        &manifest().digest().0,
    )]
}

fn records_and_receipts() -> Vec<Value> {
    let [first, second, third, fourth, fifth] = records();
    let mut vectors = vec![
        vector("record-hash", "record: first", json!({ "value": value(&first) }), &first.hash().0),
        vector(
            "record-hash",
            "record: second, chained to the first",
            json!({ "value": value(&second) }),
            &second.hash().0,
        ),
        vector(
            "record-hash",
            "record: third, of a quote with its boot log",
            json!({ "value": value(&third) }),
            &third.hash().0,
        ),
    ];
    let records = [&first, &second, &third, &fourth, &fifth].map(value);
    let chain = json!({ "records": records });
    vectors.push(vector("record-chain", "record: head of the chain of all", chain, &fifth.hash().0));
    let (request, response) = (b"{\"messages\":[]}", b"{\"choices\":[]}");
    let receipt = receipt();
    let salted = [request.as_slice(), response].map(|body| salted_hash(&receipt.salt, &sha256(body)));
    let inputs = json!({ "receipt": value(&receipt), "request_body": bytes(request), "response_body": bytes(response) });
    let output = receipt.signing_input(&salted[0], &salted[1]);
    vectors.push(vector("receipt-signing-input", "receipt: what the signature covers", inputs, &output));
    let kept = kept_receipts();
    let receipts = json!({ "receipts": kept.each_ref().map(value) });
    let last = kept[1].hash().0;
    vectors.push(vector("kept-receipt-chain", "kept receipts: head of the chain of both", receipts, &last));
    let head = signed_head();
    let inputs = json!({ "rule": "signed-head", "value": value(&head) });
    let output = head.signing_input();
    vectors.push(vector("head-signing-input", "signed head: what the signature covers", inputs, &output));
    vectors
}

fn opinions() -> Vec<Value> {
    let whole = endorsements().tdx.expect("the sample has collateral of TDX");
    let bare = TdxCollateral { early: None, pck_certificate_chain: None, ..whole.clone() };
    let (quote, time) = (b"quote", 1_750_000_061);
    let opinion = |name: &str, collateral: &TdxCollateral| {
        let inputs = json!({
            "rule": "tdx-collateral",
            "value": value(collateral),
            "quote": bytes(quote),
            "time": time,
        });
        vector("second-opinion", name, inputs, &opinion_inputs(quote, collateral, time).0)
    };
    vec![
        opinion("second opinion: collateral with every optional entry", &whole),
        opinion("second opinion: collateral with no optional entry", &bare),
    ]
}
