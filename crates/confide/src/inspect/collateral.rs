//! DCAP collateral and its signed parts.

use super::{Form, certificates};
use confide_evidence::document::TdxCollateral;
use confide_evidence::hex;
use confide_evidence::tdx::{
    MAX_COLLATERAL, QeIdentity, TcbInfo, collateral_from_json, qe_identity_answer, tcb_info_answer,
};
use confide_evidence::x509::Crl;
use serde_json::{Value, json};

/// A form of JSON: Intel's answers, their signed objects alone, or collateral as a whole.
pub(super) fn form(json: &str) -> Option<Form> {
    if json.len() > MAX_COLLATERAL {
        return None;
    }
    if let Ok(collateral) = collateral_from_json(json.as_bytes()) {
        return Some(Form::one("DCAP collateral", shown(&collateral)));
    }
    const TCB_INFO: &str = "TCB info";
    const QE_IDENTITY: &str = "QE identity";
    if let Ok(answer) = tcb_info_answer(json.as_bytes())
        && TcbInfo::parse(&answer.text).is_ok()
    {
        return Some(Form::one(TCB_INFO, signed("tcbInfo", &answer.text, answer.signature.as_bytes())));
    }
    if let Ok(answer) = qe_identity_answer(json.as_bytes())
        && QeIdentity::parse(&answer.text).is_ok()
    {
        let shown = signed("enclaveIdentity", &answer.text, answer.signature.as_bytes());
        return Some(Form::one(QE_IDENTITY, shown));
    }
    if TcbInfo::parse(json).is_ok() {
        return Some(Form::one(TCB_INFO, json!({ "tcbInfo": parsed(json) })));
    }
    QeIdentity::parse(json).ok()?;
    Some(Form::one(QE_IDENTITY, json!({ "enclaveIdentity": parsed(json) })))
}

fn signed(name: &str, text: &str, signature: &[u8]) -> Value {
    json!({ name: parsed(text), "signature": hex::encode(signature) })
}

/// JSON with the vendor's own names, or why it cannot be read.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

fn shown(collateral: &TdxCollateral) -> Value {
    let list = |der: &[u8]| match Crl::parse(der) {
        Ok(list) => certificates::shown_list(&list),
        Err(error) => json!({ "error": error.to_string() }),
    };
    let chain = |text: &str| certificates::chain(text.as_bytes());
    let early = collateral.early.as_ref().map(
        |early| json!({ "tcb_info": parsed(&early.tcb_info), "qe_identity": parsed(&early.qe_identity) }),
    );
    json!({
        "tcb_info": parsed(&collateral.tcb_info),
        "tcb_info_signature": collateral.tcb_info_signature,
        "tcb_info_issuer_chain": chain(&collateral.tcb_info_issuer_chain),
        "qe_identity": parsed(&collateral.qe_identity),
        "qe_identity_signature": collateral.qe_identity_signature,
        "qe_identity_issuer_chain": chain(&collateral.qe_identity_issuer_chain),
        "root_ca_crl": list(collateral.root_ca_crl.as_bytes()),
        "pck_crl": list(collateral.pck_crl.as_bytes()),
        "pck_crl_issuer_chain": chain(&collateral.pck_crl_issuer_chain),
        "pck_certificate_chain": collateral.pck_certificate_chain.as_deref().map(chain),
        "early": early,
    })
}
