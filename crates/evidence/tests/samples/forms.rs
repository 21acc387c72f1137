//! How files of test vectors are written, for every crate that has one.

use cbor4ii::core::Value as Cbor;
use cbor4ii::core::dec::Decode as _;
use cbor4ii::core::utils::SliceReader;
use confide_evidence::cbor::to_canonical;
use confide_evidence::hex;
use confide_evidence::transcript::Transcript;
use serde::Serialize;
use serde_json::{Value, json};

/// The whole file of these vectors.
pub(super) fn file(vectors: &[Value]) -> String {
    let file = json!({ "format": "confide test vectors", "version": 1, "vectors": vectors });
    let mut text = serde_json::to_string_pretty(&file).expect("JSON values have a text form");
    text.push('\n');
    text
}

pub(super) fn vector(kind: &str, name: &str, inputs: Value, output: &[u8]) -> Value {
    json!({ "kind": kind, "name": name, "inputs": inputs, "output": hex::encode(output) })
}

pub(super) fn bytes(bytes: impl AsRef<[u8]>) -> Value {
    json!({ "hex": hex::encode(bytes.as_ref()) })
}

/// A value as JSON from which its canonical encoding can be made again.
pub(super) fn value<T: Serialize + ?Sized>(value: &T) -> Value {
    decoded(&to_canonical(value).expect("samples encode"))
}

/// As [`value`], of what is encoded already.
pub(super) fn decoded(encoded: &[u8]) -> Value {
    json_of(Cbor::decode(&mut SliceReader::new(encoded)).expect("canonical CBOR decodes"))
}

fn json_of(cbor: Cbor) -> Value {
    match cbor {
        Cbor::Null => Value::Null,
        Cbor::Bool(value) => Value::Bool(value),
        Cbor::Integer(value) => json!(u64::try_from(value).expect("formats use unsigned integers")),
        Cbor::Bytes(value) => bytes(value),
        Cbor::Text(value) => Value::String(value),
        Cbor::Array(items) => items.into_iter().map(json_of).collect(),
        Cbor::Map(entries) => entries
            .into_iter()
            .map(|(key, value)| (json_of(key).as_str().unwrap_or_default().to_owned(), json_of(value)))
            .collect(),
        other => unreachable!("formats have no {other:?}"),
    }
}

pub(super) fn encoding<T: Serialize + ?Sized>(name: &str, rule: &str, sample: &T) -> Value {
    let encoded = to_canonical(sample).expect("samples encode");
    vector("encoding", name, json!({ "rule": rule, "value": value(sample) }), &encoded)
}

/// What a quote over this transcript signs.
pub(super) fn report_data(name: &str, transcript: &Transcript) -> Value {
    let binding = &transcript.binding;
    let inputs = json!({
        "role": binding.role().name(),
        "nonce": bytes(binding.nonce()),
        "channel": bytes(binding.channel()),
        "tls_spki": bytes(binding.tls_spki()),
        "keyset": bytes(transcript.keyset),
        "devices": bytes(transcript.devices),
        "claims": bytes(transcript.claims),
        "boot_id": bytes(transcript.boot_id),
    });
    vector("report-data", name, inputs, &transcript.report_data())
}
