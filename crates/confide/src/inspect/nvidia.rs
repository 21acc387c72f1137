//! NVIDIA's reports, manifests, and answers of its attestation service.

use super::{Form, certificates};
use confide_evidence::hex;
use confide_evidence::nvidia::{
    Activity, DeviceKind, Edition, Jwks, MAX_NRAS_TOKEN, Mode, NrasAnswer, Report, Rim, Stamp, SwitchGpus,
    Toggle, evidence_list,
};
use confide_evidence::pem;
use confide_evidence::time::format_seconds;
use serde_json::{Map, Value, json};

/// An attestation report, binary.
pub(super) fn report(bytes: &[u8]) -> Option<Form> {
    Report::parse(bytes).ok().map(|report| Form::one("NVIDIA report", shown_report(&report)))
}

/// A form of JSON.
pub(super) fn form(json: &str) -> Option<Form> {
    if let Ok(devices) = evidence_list(json.as_bytes()) {
        let shown = devices.iter().map(|listed| {
            let report = match Report::parse(listed.device.report.as_bytes()) {
                Ok(report) => shown_report(&report),
                Err(error) => json!({ "error": error.to_string() }),
            };
            json!({
                "arch": listed.arch.name(),
                "nonce": hex::encode(&listed.nonce),
                "report": report,
                "certificates": certificates::chain(listed.device.chain.as_bytes()),
            })
        });
        return Some(Form { name: "NVIDIA evidence list", shown: shown.collect() });
    }
    if let Ok(set) = Jwks::parse(json.as_bytes()) {
        return Some(Form::one(
            "NRAS key set",
            json!({ "keys": set.keys().iter().map(key).collect::<Vec<_>>() }),
        ));
    }
    let answer = NrasAnswer::parse(json.as_bytes()).ok()?;
    Some(Form::one("NRAS answer", shown_answer(&answer)))
}

fn key(key: &confide_evidence::nvidia::Jwk) -> Value {
    let certificates = key
        .key
        .as_ref()
        .map(|key| key.certificates.iter().map(|der| certificates::of_der(der)).collect::<Vec<_>>());
    json!({
        "kid": key.kid,
        "point": key.key.as_ref().map(|key| hex::encode(&key.point)),
        "certificates": certificates,
    })
}

/// One token: three parts of base64url with dots between them (RFC 7515 section 7.1).
pub(super) fn token(text: &str) -> Option<Form> {
    let text = text.trim();
    if text.len() > MAX_NRAS_TOKEN {
        return None;
    }
    let mut parts = text.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let part = |text: &str| serde_json::from_slice::<Value>(&base64url(text)?).ok().filter(Value::is_object);
    Some(Form::one(
        "token (JWT)",
        json!({
            "header": part(header)?,
            "claims": part(claims)?,
            "signature": hex::encode(&base64url(signature)?),
        }),
    ))
}

fn base64url(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut text = text.replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    pem::base64(&text).ok()
}

/// A reference integrity manifest.
pub(super) fn manifest(xml: &[u8]) -> Result<Form, String> {
    let rim = Rim::parse(xml).map_err(|error| format!("as a reference integrity manifest: {error}"))?;
    let measurements: Vec<Value> = rim.measurements.iter().map(|measurement| {
        json!({
            "index": measurement.index,
            "name": measurement.name,
            "active": measurement.activity == Activity::Active,
            "alternatives": measurement.alternatives.iter().map(|value| hex::encode(value)).collect::<Vec<_>>(),
        })
    }).collect();
    let shown = json!({
        "name": rim.name,
        "tag_id": rim.tag_id,
        "version": rim.version,
        "colloquial_version": rim.colloquial_version,
        "edition": match rim.edition {
            Edition::Gpu => "GPU",
            Edition::Switch => "switch",
        },
        "product": rim.product,
        "revision": rim.revision,
        "digest": hex::encode(&rim.digest),
        "measurements": measurements,
        "certificates": rim.certificates.iter().map(certificates::shown).collect::<Vec<_>>(),
    });
    Ok(Form::one("reference integrity manifest", shown))
}

fn shown_report(report: &Report<'_>) -> Value {
    let opaque = &report.opaque;
    let toggle = |toggle: Toggle| match toggle {
        Toggle::Enabled => "enabled",
        Toggle::Disabled => "disabled",
    };
    let pdis = |pdis: &[[u8; 8]]| pdis.iter().map(|pdi| hex::encode(pdi)).collect::<Vec<_>>();
    let measurements: Map<String, Value> = report
        .blocks
        .iter()
        .map(|block| (block.index.to_string(), hex::encode(block.value).into()))
        .collect();
    json!({
        "kind": match report.kind {
            DeviceKind::Gpu => "GPU",
            DeviceKind::Switch => "switch",
        },
        "nonce": hex::encode(report.nonce),
        "mode": report.mode().map(mode),
        "driver_version": opaque.driver_version,
        "vbios_version": opaque.vbios_version,
        "chip_info": opaque.chip_info,
        "chip_sku": opaque.chip_sku,
        "project": opaque.project,
        "project_sku": opaque.project_sku,
        "fwid": opaque.fwid.map(|fwid| hex::encode(fwid)),
        "nvdec0": opaque.nvdec0.map(toggle),
        "protected_pcie": opaque.protected_pcie.map(toggle),
        "feature_flag": opaque.feature_flag,
        "lock_switch_status": opaque.lock_switch_status,
        "device_pdi": opaque.device_pdi.map(|pdi| hex::encode(pdi)),
        "switch_pdis": opaque.switch_pdis.map(pdis),
        "gpu_pdis": opaque.switch_gpus.map(|SwitchGpus { pdis: gpus, .. }| pdis(gpus)),
        "opaque_data_version": opaque.version,
        "unknown_records": opaque.unknown_ids(),
        "responder_nonce": hex::encode(report.responder_nonce),
        "measurements": measurements,
        "signature": hex::encode(report.signature),
    })
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::SinglePassthrough => "SPT".to_owned(),
        Mode::MultiPassthrough => "MPT".to_owned(),
        Mode::ProtectedPcie => "PPCIE".to_owned(),
        Mode::Unknown(flag) => format!("unknown ({flag})"),
    }
}

fn shown_answer(answer: &NrasAnswer) -> Value {
    let overall = &answer.overall;
    let digests: Map<String, Value> =
        overall.digests.iter().map(|(name, digest)| (name.to_string(), hex::encode(digest).into())).collect();
    let devices: Vec<Value> = answer
        .devices
        .iter()
        .map(|device| {
            json!({
                "name": device.name.to_string(),
                "kid": device.token.kid,
                "stamp": stamp(&device.stamp),
                "serial": hex::encode(&device.serial),
                "measurements": device.measurements,
                "signature": device.signature,
                "against": device.against,
                "warning": device.warning,
                "driver": device.driver,
                "firmware": device.firmware,
            })
        })
        .collect();
    json!({
        "overall": {
            "kid": overall.token.kid,
            "stamp": stamp(&overall.stamp),
            "subject": overall.subject,
            "result": overall.result,
            "digests": digests,
        },
        "devices": devices,
    })
}

fn stamp(stamp: &Stamp) -> Value {
    json!({
        "issuer": stamp.issuer,
        "nonce": hex::encode(&stamp.nonce),
        "issued_at": format_seconds(stamp.issued_at),
        "not_before": format_seconds(stamp.not_before),
        "expires": format_seconds(stamp.expires),
    })
}
