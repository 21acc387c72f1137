//! Forms of text: PEM, XML, JSON, tokens and TOML.

use super::{Form, SIMULATED, SIMULATED_FIELD, certificates, collateral, nvidia};
use crate::render::counted;
use confide_evidence::hex;
use confide_policy::{AppraisalPolicy, MAX_POLICY, MAX_REFERENCE_FILE, ReferenceFile};
use serde_json::{Map, Value, json};

/// What a text begins with.
enum Beginning {
    Pem,
    Xml,
    Json,
    Other,
}

/// The contents of a text, by the first form that it has.
pub(super) fn form(bytes: &[u8]) -> Option<Form> {
    let text = std::str::from_utf8(bytes).ok()?;
    match beginning(text) {
        Beginning::Pem => certificates::pem(bytes).ok(),
        Beginning::Xml => nvidia::manifest(bytes).ok(),
        Beginning::Json => collateral::form(text).or_else(|| nvidia::form(text)),
        Beginning::Other => nvidia::token(text).or_else(|| policy(text)).or_else(|| references(text)),
    }
}

/// Why a text has no form.
pub(super) fn why_not(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.trim().is_empty())?;
    match beginning(text) {
        Beginning::Pem => certificates::pem(bytes).err().map(|error| key(text).unwrap_or(error)),
        Beginning::Xml => nvidia::manifest(bytes).err(),
        Beginning::Json => Some(match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => "JSON of another form".to_owned(),
            Err(error) => format!("as JSON: {error}"),
        }),
        // Without digits the document's error is the better one: that says what it begins with.
        Beginning::Other => digits(text),
    }
}

/// What a key in PEM is called by its label (RFC 7468 sections 10, 11 and 13, and what OpenSSL writes for older forms).
fn key(text: &str) -> Option<String> {
    let (label, _) = text.trim_start().strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let kind = match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key",
        "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => "a private key",
        _ => return None,
    };
    Some(format!("{kind} in PEM, which is no evidence; openssl pkey shows it"))
}

/// How many bytes hexadecimal digits stand for that have no form.
fn digits(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|one| !one.is_ascii_whitespace()).collect();
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(match hex::decode(&digits) {
        Some(bytes) => {
            format!("hexadecimal digits of {}, which have none either", counted(bytes.len(), "byte"))
        }
        None => format!("{} hexadecimal digits: two make a byte", digits.len()),
    })
}

fn beginning(text: &str) -> Beginning {
    let text = text.trim_start();
    match text.bytes().next() {
        _ if text.starts_with("-----BEGIN ") => Beginning::Pem,
        Some(b'<') => Beginning::Xml,
        Some(b'{') => Beginning::Json,
        // A list in JSON or a table in TOML.
        Some(b'[') if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => Beginning::Json,
        _ => Beginning::Other,
    }
}

fn policy(text: &str) -> Option<Form> {
    if text.len() > MAX_POLICY {
        return None;
    }
    let policy = AppraisalPolicy::parse_recorded(text).ok()?;
    let fields: Map<String, Value> = policy
        .fields()
        .iter()
        .map(|field| (field.path.to_string(), field.says().to_string().into()))
        .collect();
    let simulated = if policy.danger.is_some() { json!(SIMULATED) } else { json!(false) };
    let shown = json!({ SIMULATED_FIELD: simulated, "name": policy.name, "fields": fields });
    Some(Form::one("appraisal policy", shown))
}

fn references(text: &str) -> Option<Form> {
    if text.len() > MAX_REFERENCE_FILE {
        return None;
    }
    ReferenceFile::parse(text.as_bytes()).ok()?;
    let table: toml::Table = toml::from_str(text).ok()?;
    Some(Form::one("reference values", json_of(toml::Value::Table(table))))
}

/// TOML as JSON: dates and times become text.
fn json_of(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json_of).collect(),
        toml::Value::Table(fields) => {
            fields.into_iter().map(|(name, value)| (name, json_of(value))).collect()
        }
    }
}
