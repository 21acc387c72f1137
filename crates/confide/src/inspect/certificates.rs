//! Certificates, revocation lists and OCSP answers.

use super::Form;
use confide_evidence::hex;
use confide_evidence::nvidia::{Fwid, decoded};
use confide_evidence::ocsp::{CertStatus, OcspResponse, Responder, SingleResponse};
use confide_evidence::pem::{self, MAX_CHAIN};
use confide_evidence::tdx::PckExtension;
use confide_evidence::time::format_seconds;
use confide_evidence::x509::{Certificate, Crl, KeyAlgorithm, SignatureAlgorithm};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const ONE: &str = "certificate";
const SEVERAL: &str = "certificates";
const LIST: &str = "certificate revocation list";

/// A form of DER.
pub(super) fn der(bytes: &[u8]) -> Option<Form> {
    if let Ok(certificate) = Certificate::parse(bytes) {
        return Some(Form::one(ONE, shown(&certificate)));
    }
    if let Ok(list) = Crl::parse(bytes) {
        return Some(Form::one(LIST, shown_list(&list)));
    }
    if let Ok(answer) = OcspResponse::parse(bytes) {
        return Some(Form::one("OCSP answer", shown_answer(&answer)));
    }
    following(bytes)
}

/// Certificates that follow each other, 2 to [`MAX_CHAIN`].
fn following(bytes: &[u8]) -> Option<Form> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let one = rest.get(..length(rest)?)?;
        found.push(shown(&Certificate::parse(one).ok()?));
        rest = rest.get(one.len()..)?;
        if found.len() > MAX_CHAIN {
            return None;
        }
    }
    (!found.is_empty()).then_some(Form { name: ONE, shown: found })
}

/// The length of the DER SEQUENCE at the beginning, in bytes, whose length takes two (X.690 section 8.1.3.5): no
/// certificate has fewer than 128 bytes, or more than 65,535.
fn length(bytes: &[u8]) -> Option<usize> {
    let [0x30, 0x82, high, low, ..] = bytes else { return None };
    Some(usize::from(u16::from_be_bytes([*high, *low])) + 4)
}

/// Certificates, a revocation list or an OCSP answer in PEM.
pub(super) fn pem(text: &[u8]) -> Result<Form, String> {
    let certificates = pem::certificates(text).map_err(|error| format!("as certificates in PEM: {error}"));
    let error = match certificates {
        Ok(certificates) => {
            let read = |(index, der): (usize, &Vec<u8>)| {
                let read = Certificate::parse(der).map_err(|error| format!("certificate {index}: {error}"));
                Ok(shown(&read?))
            };
            let read: Result<Vec<Value>, String> = certificates.iter().enumerate().map(read).collect();
            return Ok(Form::one(SEVERAL, json!({ "certificates": read? })));
        }
        Err(error) => error,
    };
    // Revocation lists and OCSP answers, which may be larger than a chain.
    decoded(text).ok().and_then(|bytes| der(&bytes)).ok_or(error)
}

/// The certificates of a chain in PEM, each shown or the reason why it cannot be.
pub(super) fn chain(text: &[u8]) -> Value {
    match pem::certificates(text) {
        Ok(certificates) => certificates.iter().map(|der| of_der(der)).collect(),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// A certificate in DER, or why it cannot be read.
pub(super) fn of_der(der: &[u8]) -> Value {
    match Certificate::parse(der) {
        Ok(certificate) => shown(&certificate),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// A certificate.
pub(super) fn shown(certificate: &Certificate) -> Value {
    let extensions: Vec<Value> = certificate.extensions.iter().map(|extension| {
        json!({ "oid": extension.oid, "critical": extension.critical, "bytes": extension.value.len() })
    }).collect();
    let mut shown = json!({
        "subject": certificate.common_name,
        "issuer": certificate.issuer_common_name(),
        "serial": hex::encode(&certificate.serial),
        "not_before": format_seconds(certificate.not_before),
        "not_after": format_seconds(certificate.not_after),
        "key": key(certificate.key_algorithm),
        "spki_sha256": hex::encode(&Sha256::digest(&certificate.spki)),
        "signature_algorithm": algorithm(certificate.signature_algorithm),
        "ca": certificate.basic_constraints.is_some_and(|constraints| constraints.ca),
        "path_length": certificate.basic_constraints.and_then(|constraints| constraints.path_len),
        "key_usage": usage(certificate),
        "extended_key_usage": certificate.extended_key_usage,
        "extensions": extensions,
        "sha256": hex::encode(&Sha256::digest(&certificate.der)),
    });
    let fields = shown.as_object_mut().expect("an object is written above");
    if let Ok(pck) = PckExtension::from_certificate(certificate) {
        let pck = json!({
            "fmspc": hex::encode(&pck.fmspc),
            "pce_id": hex::encode(&pck.pce_id),
            "pce_svn": pck.pce_svn,
            "cpu_svn": hex::encode(&pck.cpu_svn),
            "ppid": hex::encode(&pck.ppid),
            "sgx_type": pck.sgx_type.name(),
        });
        fields.insert("pck".to_owned(), pck);
    }
    if let Ok(Some(fwid)) = Fwid::of(certificate) {
        fields.insert("fwid".to_owned(), fwid.digest().map(|digest| hex::encode(digest)).into());
    }
    shown
}

fn usage(certificate: &Certificate) -> Vec<&'static str> {
    let Some(usage) = certificate.key_usage else { return Vec::new() };
    let bits = [
        ("digitalSignature", usage.digital_signature),
        ("keyCertSign", usage.key_cert_sign),
        ("cRLSign", usage.crl_sign),
    ];
    bits.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

fn key(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::P256 => "P-256",
        KeyAlgorithm::P384 => "P-384",
        KeyAlgorithm::Rsa2048 => "RSA 2048",
        KeyAlgorithm::Rsa4096 => "RSA 4096",
        _ => "other",
    }
}

fn algorithm(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm {
        SignatureAlgorithm::EcdsaSha256 => "ecdsa-with-SHA256",
        SignatureAlgorithm::EcdsaSha384 => "ecdsa-with-SHA384",
        SignatureAlgorithm::RsaPssSha384 => "RSASSA-PSS with SHA-384",
        SignatureAlgorithm::RsaPkcs1Sha256 => "sha256WithRSAEncryption",
        _ => "other",
    }
}

/// A revocation list.
pub(super) fn shown_list(list: &Crl) -> Value {
    let revoked: Vec<Value> = list
        .entries()
        .map(|(serial, entry)| {
            json!({
                "serial": hex::encode(serial),
                "time": format_seconds(entry.time),
                "reason": entry.reason.map(|reason| reason.name()),
            })
        })
        .collect();
    json!({
        "issuer": list.issuer_common_name,
        "this_update": format_seconds(list.this_update),
        "next_update": list.next_update.map(format_seconds),
        "number": list.number.as_deref().map(hex::encode),
        "authority_key_id": list.authority_key_id.as_deref().map(hex::encode),
        "signature_algorithm": algorithm(list.signature_algorithm),
        "critical_extensions": list.critical_extensions,
        "revoked": revoked,
    })
}

fn shown_answer(answer: &OcspResponse) -> Value {
    let responder = match &answer.responder {
        Responder::Name(name) => json!({ "name_der": hex::encode(name) }),
        Responder::KeyHash(hash) => json!({ "key_sha1": hex::encode(hash) }),
    };
    json!({
        "produced_at": format_seconds(answer.produced_at),
        "responder": responder,
        "signature_algorithm": algorithm(answer.signature_algorithm),
        "nonce": answer.nonce.as_deref().map(hex::encode),
        "responses": answer.responses.iter().map(single).collect::<Vec<_>>(),
        "certificates": answer.certificates.iter().map(shown).collect::<Vec<_>>(),
    })
}

fn single(single: &SingleResponse) -> Value {
    let (status, since, reason) = match single.status {
        CertStatus::Good => ("good", None, None),
        CertStatus::Unknown => ("unknown", None, None),
        CertStatus::Revoked { time, reason } => ("revoked", Some(time), reason),
    };
    json!({
        "serial": hex::encode(&single.cert_id.serial),
        "status": status,
        "revoked_at": since.map(format_seconds),
        "reason": reason.map(|reason| reason.name()),
        "this_update": format_seconds(single.this_update),
        "next_update": single.next_update.map(format_seconds),
    })
}
