//! Quotes as JSON for people, field by field, with the bits of attributes by name.

use super::{BodyKind, PckExtension, Quote, SeamAttributes, Td15, Td15Extended, TdReport, Xfam};
use crate::hex;
use crate::pem;
use crate::x509::Certificate;
use serde_json::{Map, Value, json};
use std::fmt::Display;

impl Quote<'_> {
    /// The quote as JSON for people: byte strings as hexadecimal, the bits of attributes by name, what the PCK certificate
    /// says of the platform, and the common names of the certificates behind it. Nothing of it is verified.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let signature = &self.signature;
        let enclave = &signature.qe_report;
        json!({
            "version": self.version,
            "reserved": hex::encode(self.reserved),
            "user_data": hex::encode(self.user_data),
            "body": match self.report.kind {
                BodyKind::Td10 => "TD 1.0",
                BodyKind::Td15 => "TD 1.5",
                BodyKind::Td15Extended => "TD 1.5, extended",
            },
            "report": report(&self.report),
            "quoting_enclave": {
                "mr_signer": hex::encode(enclave.mr_signer),
                "mr_enclave": hex::encode(enclave.mr_enclave),
                "isv_prod_id": enclave.isv_prod_id,
                "isv_svn": enclave.isv_svn,
                "cpu_svn": hex::encode(enclave.cpu_svn),
                "attributes": hex::encode(enclave.attributes),
                "misc_select": enclave.misc_select,
                "cet_attributes": enclave.cet_attributes,
                "isv_ext_prod_id": hex::encode(enclave.isv_ext_prod_id),
                "config_id": hex::encode(enclave.config_id),
                "config_svn": enclave.config_svn,
                "isv_family_id": hex::encode(enclave.isv_family_id),
            },
            "pck_certificate": pck(signature.pck_chain),
            "padding": self.padding,
        })
    }
}

fn report(report: &TdReport<'_>) -> Value {
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    add("tee_tcb_svn", bytes(report.tee_tcb_svn));
    add("mr_seam", bytes(report.mr_seam));
    add("mr_signer_seam", bytes(report.mr_signer_seam));
    add("seam_attributes", bits(report.seam_attributes, &SeamAttributes::from_bytes(report.seam_attributes)));
    add("td_attributes", bits(report.td_attributes, &report.attributes()));
    add("xfam", bits(report.xfam, &Xfam::from_bytes(report.xfam)));
    add("mr_td", bytes(report.mr_td));
    add("mr_config_id", bytes(report.mr_config_id));
    add("mr_owner", bytes(report.mr_owner));
    add("mr_owner_config", bytes(report.mr_owner_config));
    for (name, register) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(report.rtmr) {
        add(name, bytes(register));
    }
    add("report_data", bytes(report.report_data));
    if let Some(Td15 { tee_tcb_svn_2, mr_service_td, extended: more }) = &report.td15 {
        add("tee_tcb_svn_2", bytes(tee_tcb_svn_2.as_slice()));
        add("mr_service_td", bytes(mr_service_td.as_slice()));
        if let Some(more) = more {
            add("extended", extended(more));
        }
    }
    Value::Object(fields)
}

fn extended(report: &Td15Extended<'_>) -> Value {
    json!({
        "vm_id": report.vm_id,
        "td_id": bytes(report.td_id),
        "device_info": bytes(report.device_info),
        "init_service_td": bytes(report.init_service_td),
        "init_service_td_attributes": bytes(report.init_service_td_attributes),
        "init_cpu_svn": bytes(report.init_cpu_svn),
        "init_tee_tcb_svn": bytes(report.init_tee_tcb_svn),
        "init_fmspc": bytes(report.init_fmspc),
        "current_service_td": bytes(report.current_service_td),
        "current_service_td_attributes": bytes(report.current_service_td_attributes),
    })
}

/// What the first certificate of a chain says of the platform, or why that cannot be read.
fn pck(chain: &[u8]) -> Value {
    let read = || -> Result<Value, String> {
        let chain = pem::certificates(chain).map_err(|error| error.to_string())?;
        let (leaf, authorities) = chain.split_first().ok_or("no certificate")?;
        let issuers: Vec<Value> = authorities.iter().map(|authority| common_name(authority)).collect();
        let certificate = Certificate::parse(leaf).map_err(|error| error.to_string())?;
        let pck = PckExtension::from_certificate(&certificate).map_err(|error| error.to_string())?;
        let configuration = pck.configuration.unwrap_or_default();
        Ok(json!({
            "serial": hex::encode(&certificate.serial),
            "issuers": issuers,
            "fmspc": bytes(&pck.fmspc),
            "pce_id": bytes(&pck.pce_id),
            "pce_svn": pck.pce_svn,
            "cpu_svn": bytes(&pck.cpu_svn),
            "sgx_components": bytes(&pck.components),
            "ppid": bytes(&pck.ppid),
            "sgx_type": pck.sgx_type.name(),
            "platform_instance_id": pck.platform_instance_id.map(|id| hex::encode(&id)),
            "dynamic_platform": configuration.dynamic_platform,
            "cached_keys": configuration.cached_keys,
            "smt_enabled": configuration.smt_enabled,
        }))
    };
    read().unwrap_or_else(|error| json!({ "error": error }))
}

/// The common name of a certificate, or why it cannot be read.
fn common_name(der: &[u8]) -> Value {
    match Certificate::parse(der) {
        Ok(certificate) => certificate.common_name.into(),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn bytes(field: &[u8]) -> Value {
    Value::String(hex::encode(field))
}

fn bits(field: &[u8; 8], names: &impl Display) -> Value {
    json!({ "value": hex::encode(field), "bits": names.to_string() })
}
