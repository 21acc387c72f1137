//! CRLs, TCB info and QE identity in the formats of Intel's Provisioning Certification Service, version 4.

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, PublicKeyData as _, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::pck;
use super::platform::{
    ModuleIdentity, ModuleLevel, PlatformOptions, QeOptions, Revocable, RevocationList, TcbLevel, Window,
};
use crate::authority::Authority;
use crate::keys::SigningKey;
use crate::text::{date_time, hex, hex_upper, rfc3339};
use crate::{SimulatorError, der};

/// The fields of the de-facto `QuoteCollateralV3`. Public and mutable, so that tests can break each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collateral {
    /// Issuer chain of the PCK CRL: PCK CA, then root, PEM.
    pub pck_crl_issuer_chain: String,
    /// The root's CRL, DER.
    pub root_ca_crl: Vec<u8>,
    /// The PCK CA's CRL, DER.
    pub pck_crl: Vec<u8>,
    /// Issuer chain of TCB info: TCB signing certificate, then root, PEM.
    pub tcb_info_issuer_chain: String,
    /// TCB info: the inner JSON object, exactly as signed.
    pub tcb_info: String,
    /// ECDSA P-256 signature over `tcb_info`, `r ‖ s`.
    pub tcb_info_signature: Vec<u8>,
    /// Issuer chain of the QE identity: TCB signing certificate, then root, PEM.
    pub qe_identity_issuer_chain: String,
    /// QE identity: the inner JSON object, exactly as signed.
    pub qe_identity: String,
    /// ECDSA P-256 signature over `qe_identity`, `r ‖ s`.
    pub qe_identity_signature: Vec<u8>,
    /// PCK certificate, PCK CA, root, PEM.
    pub pck_certificate_chain: String,
}

impl Collateral {
    /// Everything that endorses a platform with these options and this PCK chain.
    pub(super) fn issue(options: &PlatformOptions, pck_chain: String) -> Result<Self, SimulatorError> {
        let signing_chain = [Authority::TcbSigning.pem(), Authority::TdxRoot.pem()].concat();
        let tcb_info = serialised(&TcbInfo::new(options)?);
        let qe_identity = serialised(&QeIdentity::new(options)?);
        let signer = Authority::TcbSigning.key()?;
        let revokes = |what| options.revoked.contains(&what);
        let below_root = [
            revokes(Revocable::PckCa).then(|| options.pck_ca.serial_number()).transpose()?,
            revokes(Revocable::TcbSigning).then(|| authority_serial(Authority::TcbSigning)).transpose()?,
        ];
        let below_pck_ca = revokes(Revocable::PckCertificate).then(|| pck::serial_number(options.seed));
        let list = |which, issuer: Issuer<'static, SigningKey>, window, revoked| {
            let list = crl(&issuer, window, revoked)?;
            if options.without_next_update.contains(&which) {
                return without_next_update(&list, issuer.key());
            }
            Ok::<_, SimulatorError>(list)
        };
        let windows = &options.windows;
        Ok(Self {
            pck_crl_issuer_chain: [&options.pck_ca.pem()?, Authority::TdxRoot.pem()].concat(),
            root_ca_crl: list(
                RevocationList::RootCa,
                Authority::TdxRoot.issuer()?,
                windows.root_ca_crl,
                &below_root,
            )?,
            pck_crl: list(RevocationList::PckCa, options.pck_ca.issuer()?, windows.pck_crl, &[below_pck_ca])?,
            tcb_info_issuer_chain: signing_chain.clone(),
            tcb_info_signature: signer.sign(tcb_info.as_bytes()),
            tcb_info,
            qe_identity_issuer_chain: signing_chain,
            qe_identity_signature: signer.sign(qe_identity.as_bytes()),
            qe_identity,
            pck_certificate_chain: pck_chain,
        })
    }

    /// The `QuoteCollateralV3` JSON object: CRLs and signatures as hexadecimal, chains as PEM.
    #[must_use]
    pub fn to_json(&self) -> String {
        serialised(&CollateralJson {
            pck_crl_issuer_chain: &self.pck_crl_issuer_chain,
            root_ca_crl: hex(&self.root_ca_crl),
            pck_crl: hex(&self.pck_crl),
            tcb_info_issuer_chain: &self.tcb_info_issuer_chain,
            tcb_info: &self.tcb_info,
            tcb_info_signature: hex(&self.tcb_info_signature),
            qe_identity_issuer_chain: &self.qe_identity_issuer_chain,
            qe_identity: &self.qe_identity,
            qe_identity_signature: hex(&self.qe_identity_signature),
            pck_certificate_chain: &self.pck_certificate_chain,
        })
    }

    /// Replaces TCB info and signs it with the committed TCB signing key.
    pub fn sign_tcb_info(&mut self, tcb_info: String) {
        self.tcb_info_signature = tcb_signer().sign(tcb_info.as_bytes());
        self.tcb_info = tcb_info;
    }

    /// Replaces the QE identity and signs it with the committed TCB signing key.
    pub fn sign_qe_identity(&mut self, qe_identity: String) {
        self.qe_identity_signature = tcb_signer().sign(qe_identity.as_bytes());
        self.qe_identity = qe_identity;
    }
}

fn tcb_signer() -> SigningKey {
    Authority::TcbSigning.key().expect("the committed key loads, as tests show")
}

/// JSON without white space, as the service sends it.
fn serialised(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists of them always serialise")
}

/// Serial number of a committed certificate: the rule of the program that made it.
fn authority_serial(authority: Authority) -> Result<SerialNumber, SimulatorError> {
    Ok(SerialNumber::from_slice(&Sha256::digest(authority.key()?.der_bytes())[..16]))
}

/// A CRL of this issuer, DER.
fn crl(
    issuer: &Issuer<'_, SigningKey>,
    window: Window,
    revoked: &[Option<SerialNumber>],
) -> Result<Vec<u8>, SimulatorError> {
    let revocation_time = date_time(window.from)?;
    let revoked_certs = revoked
        .iter()
        .flatten()
        .map(|serial| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        })
        .collect();
    let params = CertificateRevocationListParams {
        this_update: date_time(window.from)?,
        next_update: date_time(window.until)?,
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(issuer)?.der().to_vec())
}

/// The list without its nextUpdate, the fifth field of its body (RFC 5280 section 5.1), signed anew.
fn without_next_update(list: &[u8], key: &SigningKey) -> Result<Vec<u8>, SimulatorError> {
    let mut list = der::elements(list);
    let mut body = der::elements(&list[0]);
    body.remove(4);
    list[0] = der::sequence(&body);
    list[2] = der::bits(&rcgen::SigningKey::sign(key, &list[0])?);
    Ok(der::sequence(&list))
}

#[derive(Serialize)]
struct CollateralJson<'a> {
    pck_crl_issuer_chain: &'a str,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: &'a str,
    tcb_info: &'a str,
    tcb_info_signature: String,
    qe_identity_issuer_chain: &'a str,
    qe_identity: &'a str,
    qe_identity_signature: String,
    pck_certificate_chain: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfo {
    id: &'static str,
    version: u32,
    issue_date: String,
    next_update: String,
    fmspc: String,
    pce_id: String,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    tdx_module: TdxModule,
    tdx_module_identities: Vec<TdxModuleIdentity>,
    tcb_levels: Vec<Level<PlatformTcb>>,
}

impl TcbInfo {
    fn new(options: &PlatformOptions) -> Result<Self, SimulatorError> {
        Ok(Self {
            id: "TDX",
            version: 3,
            issue_date: rfc3339(options.windows.tcb_info.from)?,
            next_update: rfc3339(options.windows.tcb_info.until)?,
            fmspc: hex_upper(&options.tcb_info_fmspc),
            pce_id: hex_upper(&options.tcb_info_pceid),
            tcb_type: 0,
            tcb_evaluation_data_number: options.evaluation_data_number,
            tdx_module: TdxModule {
                mrsigner: hex_upper(&[0; 48]),
                attributes: hex_upper(&[0; 8]),
                attributes_mask: hex_upper(&[0xff; 8]),
            },
            tdx_module_identities: options.module_identities.iter().map(TdxModuleIdentity::new).collect(),
            tcb_levels: options.tcb_levels.iter().map(Level::platform).collect(),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TdxModule {
    mrsigner: String,
    attributes: String,
    attributes_mask: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TdxModuleIdentity {
    id: String,
    mrsigner: String,
    attributes: String,
    attributes_mask: String,
    tcb_levels: Vec<Level<IsvTcb>>,
}

impl TdxModuleIdentity {
    fn new(identity: &ModuleIdentity) -> Self {
        Self {
            id: identity.id.clone(),
            mrsigner: hex_upper(&identity.mr_signer),
            attributes: hex_upper(&identity.attributes),
            attributes_mask: hex_upper(&identity.attributes_mask),
            tcb_levels: identity.levels.iter().map(Level::isv).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Level<T> {
    tcb: T,
    tcb_date: String,
    tcb_status: String,
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    advisory_ids: Vec<String>,
}

impl Level<PlatformTcb> {
    fn platform(level: &TcbLevel) -> Self {
        let components = |svns: &[u8; 16]| svns.iter().map(|svn| Component { svn: *svn }).collect();
        Self {
            tcb: PlatformTcb {
                sgxtcbcomponents: components(&level.sgx),
                pcesvn: level.pce_svn,
                tdxtcbcomponents: components(&level.tdx),
            },
            tcb_date: level.verdict.date.clone(),
            tcb_status: level.verdict.status.clone(),
            advisory_ids: level.verdict.advisory_ids.clone(),
        }
    }
}

impl Level<IsvTcb> {
    fn isv(level: &ModuleLevel) -> Self {
        Self {
            tcb: IsvTcb { isvsvn: level.isv_svn },
            tcb_date: level.verdict.date.clone(),
            tcb_status: level.verdict.status.clone(),
            advisory_ids: level.verdict.advisory_ids.clone(),
        }
    }
}

#[derive(Serialize)]
struct PlatformTcb {
    sgxtcbcomponents: Vec<Component>,
    pcesvn: u16,
    tdxtcbcomponents: Vec<Component>,
}

#[derive(Serialize)]
struct Component {
    svn: u8,
}

#[derive(Serialize)]
struct IsvTcb {
    isvsvn: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentity {
    id: &'static str,
    version: u32,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
    miscselect: String,
    miscselect_mask: String,
    attributes: String,
    attributes_mask: String,
    mrsigner: String,
    isvprodid: u16,
    tcb_levels: Vec<Level<IsvTcb>>,
}

impl QeIdentity {
    fn new(options: &PlatformOptions) -> Result<Self, SimulatorError> {
        // Intel's mask for TD_QE: every flag but DEBUG's neighbour bit 2, and no XFRM bit.
        let mask = [0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut attributes = QeOptions::DEFAULT_ATTRIBUTES;
        for (byte, mask) in attributes.iter_mut().zip(mask) {
            *byte &= mask;
        }
        Ok(Self {
            id: "TD_QE",
            version: 2,
            issue_date: rfc3339(options.windows.qe_identity.from)?,
            next_update: rfc3339(options.windows.qe_identity.until)?,
            tcb_evaluation_data_number: options.evaluation_data_number,
            miscselect: hex_upper(&[0; 4]),
            miscselect_mask: hex_upper(&[0xff; 4]),
            attributes: hex_upper(&attributes),
            attributes_mask: hex_upper(&mask),
            mrsigner: hex_upper(&options.qe.mr_signer),
            isvprodid: 2,
            tcb_levels: options.qe.levels.iter().map(Level::isv).collect(),
        })
    }
}
