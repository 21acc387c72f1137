//! Reports as JSON for people, field by field, with the bits of fields by name.

use super::{GuestPolicy, PlatformInfo, Product, Report, SigningKey, TcbVersion};
use crate::hex;
use serde_json::{Value, json};

impl Report<'_> {
    /// The report as JSON for people: byte strings as hexadecimal, the bits of fields by name, TCB versions by their parts
    /// where the report names its product. Nothing of it is verified.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let cpuid = self
            .family_model
            .map(|(family, model)| json!({ "family": family, "model": model, "stepping": self.stepping }));
        let product = self.family_model.and_then(|(family, model)| Product::from_cpuid(family, model));
        let levels = |bytes: [u8; 8]| {
            let parts = product.map(|product| TcbVersion::from_bytes(product, bytes).0.to_string());
            json!({ "value": hex::encode(&bytes), "levels": parts })
        };
        let mitigations = |bits: Option<u64>| bits.map(|bits| format!("{bits:#x}"));
        json!({
            "version": self.version,
            "product": product.map(Product::name),
            "cpuid": cpuid,
            "guest_svn": self.guest_svn,
            "policy": policy(self.policy),
            "family_id": hex::encode(self.family_id),
            "image_id": hex::encode(self.image_id),
            "vmpl": self.vmpl,
            "platform_info": platform_info(self.platform_info),
            "signing_key": signing_key(self.key_info.signing_key()),
            "mask_chip_key": self.key_info.masks_chip_key(),
            "author_key": self.key_info.author_key(),
            "report_data": hex::encode(self.report_data),
            "measurement": hex::encode(self.measurement),
            "host_data": hex::encode(self.host_data),
            "id_key_digest": hex::encode(self.id_key_digest),
            "author_key_digest": hex::encode(self.author_key_digest),
            "report_id": hex::encode(self.report_id),
            "report_id_ma": hex::encode(self.report_id_ma),
            "chip_id": hex::encode(self.chip_id),
            "masked_chip_id": self.masks_chip_id(),
            "reported_tcb": levels(self.reported_tcb),
            "committed_tcb": levels(self.committed_tcb),
            "current_tcb": levels(self.current_tcb),
            "launch_tcb": levels(self.launch_tcb),
            "current_firmware": self.current_firmware.to_string(),
            "committed_firmware": self.committed_firmware.to_string(),
            "launch_mitigations": mitigations(self.launch_mitigations),
            "current_mitigations": mitigations(self.current_mitigations),
            "broken_reserved": self.broken_reserved(),
            "signature": { "r": hex::encode(&self.r), "s": hex::encode(&self.s) },
        })
    }
}

fn policy(policy: GuestPolicy) -> Value {
    json!({
        "value": format!("{:#018x}", policy.0),
        "abi": policy.abi().to_string(),
        "debug": policy.allows_debug(),
        "migration_agent": policy.allows_migration_agent(),
        "smt": policy.allows_smt(),
        "single_socket": policy.requires_single_socket(),
        "cxl": policy.allows_cxl(),
        "aes_256_xts": policy.requires_aes_256_xts(),
        "rapl_disabled": policy.requires_rapl_disabled(),
        "ciphertext_hiding": policy.requires_ciphertext_hiding(),
        "page_swap_disabled": policy.disables_page_swap(),
    })
}

fn platform_info(info: PlatformInfo) -> Value {
    json!({
        "value": format!("{:#018x}", info.0),
        "smt": info.smt(),
        "tsme": info.tsme(),
        "ecc": info.ecc(),
        "rapl_disabled": info.rapl_disabled(),
        "ciphertext_hiding": info.ciphertext_hiding(),
        "alias_check": info.alias_check_complete(),
        "iommu_write_safe": info.iommu_write_safe(),
        "tio": info.tio(),
    })
}

/// SIGNING_KEY by the name of the key.
fn signing_key(number: u32) -> Value {
    match number {
        0 => json!(SigningKey::Vcek.name()),
        1 => json!(SigningKey::Vlek.name()),
        7 => json!("none"),
        reserved => json!(format!("reserved ({reserved})")),
    }
}
