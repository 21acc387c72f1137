//! A platform with its keys, its TCB and the windows of everything that endorses it.

use super::collateral::Collateral;
use super::pck::{self, PckCa};
use super::quote::{self, QuoteFlaw};
use super::report::{TdReport, simulated_measurement};
use crate::SimulatorError;
use crate::authority::Authority;
use crate::ecdsa::Curve;
use crate::keys::{SigningKey, seeded_array};

/// FMSPC of every simulated platform: "SIM" and zeros, of no real processor family.
pub const FMSPC: [u8; 6] = *b"SIM\0\0\0";
/// PCEID of every simulated platform.
pub const PCEID: [u8; 2] = [0, 0];

const DAY: u64 = 86_400;

/// A closed interval of Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First valid second.
    pub from: u64,
    /// Last valid second: notAfter or nextUpdate.
    pub until: u64,
}

/// When each endorsement is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The PCK certificate.
    pub pck_certificate: Window,
    /// The root's CRL.
    pub root_ca_crl: Window,
    /// The PCK CA's CRL.
    pub pck_crl: Window,
    /// TCB info: issueDate to nextUpdate.
    pub tcb_info: Window,
    /// QE identity: issueDate to nextUpdate.
    pub qe_identity: Window,
}

/// One level of TCB info: what the platform must reach, and the status it then has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbLevel {
    /// SVNs of the 16 SGX TCB components.
    pub sgx: [u8; 16],
    /// SVN of the PCE.
    pub pce_svn: u16,
    /// SVNs of the 16 TDX TCB components.
    pub tdx: [u8; 16],
    /// Status and advisories.
    pub verdict: SvnLevel,
}

/// Status and advisories of a level, in Intel's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvnLevel {
    /// `tcbStatus`, for example `UpToDate`. Written as given, so that tests can write what Intel never would.
    pub status: String,
    /// `advisoryIDs`, for example `INTEL-SA-00837`.
    pub advisory_ids: Vec<String>,
    /// `tcbDate`, RFC 3339.
    pub date: String,
}

impl SvnLevel {
    /// A level of this status with these advisories, dated 2025-08-13.
    #[must_use]
    pub fn new(status: &str, advisory_ids: &[&str]) -> Self {
        Self {
            status: status.into(),
            advisory_ids: advisory_ids.iter().map(|id| (*id).into()).collect(),
            date: "2025-08-13T00:00:00Z".into(),
        }
    }
}

/// One level of a TDX module or of the QE: the least ISVSVN that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleLevel {
    /// `isvsvn`.
    pub isv_svn: u16,
    /// Status and advisories.
    pub verdict: SvnLevel,
}

/// One entry of `tdxModuleIdentities`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleIdentity {
    /// `id`, `TDX_` and the module's major version as two hexadecimal digits.
    pub id: String,
    /// `mrsigner`.
    pub mr_signer: [u8; 48],
    /// `attributes`.
    pub attributes: [u8; 8],
    /// `attributesMask`.
    pub attributes_mask: [u8; 8],
    /// Levels, highest first.
    pub levels: Vec<ModuleLevel>,
}

/// The TDX module as the TD report names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeamOptions {
    /// MRSEAM.
    pub mrseam: [u8; 48],
    /// MRSIGNERSEAM, zero for Intel's own modules.
    pub mrsignerseam: [u8; 48],
    /// SEAMATTRIBUTES.
    pub attributes: [u8; 8],
}

impl Default for SeamOptions {
    fn default() -> Self {
        Self { mrseam: simulated_measurement("MRSEAM"), mrsignerseam: [0; 48], attributes: [0; 8] }
    }
}

/// The quoting enclave, as its report says, and the identity that the collateral demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QeOptions {
    /// MRSIGNER in report and identity.
    pub mr_signer: [u8; 32],
    /// MRENCLAVE in the report; no identity pins it.
    pub mr_enclave: [u8; 32],
    /// ATTRIBUTES in the report; the identity demands [`QeOptions::DEFAULT_ATTRIBUTES`] under Intel's mask.
    pub attributes: [u8; 16],
    /// MISCSELECT in the report; the identity demands zero.
    pub misc_select: [u8; 4],
    /// ISVPRODID in the report; the identity demands 2.
    pub isv_prod_id: u16,
    /// ISVSVN in the report.
    pub isv_svn: u16,
    /// Levels of the identity, highest first.
    pub levels: Vec<ModuleLevel>,
    /// QE authentication data.
    pub auth_data: Vec<u8>,
}

impl QeOptions {
    /// INIT, MODE64BIT and PROVISION_KEY: what Intel's TD quoting enclave has.
    pub const DEFAULT_ATTRIBUTES: [u8; 16] = [0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0, 0];
}

impl Default for QeOptions {
    fn default() -> Self {
        let mut mr_signer = [0; 32];
        mr_signer.copy_from_slice(&simulated_measurement("QE MRSIGNER")[..32]);
        let mut mr_enclave = [0; 32];
        mr_enclave.copy_from_slice(&simulated_measurement("QE MRENCLAVE")[..32]);
        Self {
            mr_signer,
            mr_enclave,
            attributes: Self::DEFAULT_ATTRIBUTES,
            misc_select: [0; 4],
            isv_prod_id: 2,
            isv_svn: 4,
            levels: vec![ModuleLevel { isv_svn: 4, verdict: SvnLevel::new("UpToDate", &[]) }],
            auth_data: (0..32).collect(),
        }
    }
}

/// Certificates that a platform's CRLs can name as revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocable {
    /// The PCK certificate, in the PCK CRL.
    PckCertificate,
    /// The PCK CA, in the root's CRL.
    PckCa,
    /// The TCB signing certificate, in the root's CRL.
    TcbSigning,
}

/// The CRLs that endorse a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationList {
    /// The root's.
    RootCa,
    /// The PCK CA's.
    PckCa,
}

/// Version of a quote, and form of the body that it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuoteForm {
    /// Version 4, whose body is always that of TDX 1.0.
    #[default]
    V4,
    /// Version 5 with a TD 1.0 body: type 2, 584 bytes.
    V5Td10,
    /// Version 5 with a TD 1.5 body: type 3, 648 bytes.
    V5Td15,
    /// Version 5 with an extended TD 1.5 body: type 4, 885 bytes.
    V5Td15Extended,
}

impl QuoteForm {
    pub(super) fn version(self) -> u16 {
        if self == Self::V4 { 4 } else { 5 }
    }

    /// Type and size of the body, which version 5 writes before it.
    pub(super) fn descriptor(self) -> Option<(u16, u32)> {
        match self {
            Self::V4 => None,
            Self::V5Td10 => Some((2, 584)),
            Self::V5Td15 => Some((3, 648)),
            Self::V5Td15Extended => Some((4, 885)),
        }
    }
}

/// What kind of certificate the platform's PCK certificate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PckProfile {
    /// As the profile demands.
    #[default]
    Usual,
    /// It has no SGX extension.
    WithoutSgxExtension,
    /// It is a CA's.
    Authority,
    /// Its SGX extension is that of the other CA's certificates: without instance and configuration under the Platform
    /// CA, with them under the Processor CA.
    OfTheOtherCa,
}

/// Configuration flags in the certificates of the Platform CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PckFlags {
    /// Packages can be added.
    pub dynamic_platform: bool,
    /// Intel caches the platform's root keys.
    pub cached_keys: bool,
    /// Simultaneous multithreading is on.
    pub smt_enabled: bool,
}

impl Default for PckFlags {
    /// What most recorded platforms have.
    fn default() -> Self {
        Self { dynamic_platform: true, cached_keys: false, smt_enabled: true }
    }
}

/// Everything that can be chosen about a platform. Start from [`PlatformOptions::at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformOptions {
    /// Tells platforms apart: keys, PPID, platform instance and serial number follow from it.
    pub seed: u64,
    /// When the endorsements are valid.
    pub windows: Windows,
    /// Which CA has certified the platform.
    pub pck_ca: PckCa,
    /// SVNs of the 16 SGX TCB components that the PCK certificate names; also its CPUSVN.
    pub sgx_svn: [u8; 16],
    /// SVN of the PCE that the PCK certificate names.
    pub pce_svn: u16,
    /// What kind of certificate the PCK certificate is.
    pub pck_profile: PckProfile,
    /// `SGXType` in the PCK certificate: 0 standard, 1 scalable, 2 scalable with integrity; nothing: as the CA's
    /// platforms have it.
    pub sgx_type: Option<u8>,
    /// Configuration flags in the PCK certificate.
    pub pck_flags: PckFlags,
    /// Layout of quotes.
    pub quote_form: QuoteForm,
    /// TEE_TCB_SVN of the TD report: module ISVSVN, module major version, then the TDX components.
    pub tee_tcb_svn: [u8; 16],
    /// TEE_TCB_SVN_2 of TD 1.5 reports: what the platform has now, where it has been updated under the running TD.
    pub tee_tcb_svn_2: [u8; 16],
    /// The TDX module in the TD report.
    pub seam: SeamOptions,
    /// The quoting enclave.
    pub qe: QeOptions,
    /// Levels of TCB info, highest first.
    pub tcb_levels: Vec<TcbLevel>,
    /// TDX modules that TCB info knows.
    pub module_identities: Vec<ModuleIdentity>,
    /// `fmspc` of TCB info; the PCK certificate always says [`FMSPC`].
    pub tcb_info_fmspc: [u8; 6],
    /// `pceId` of TCB info; the PCK certificate always says [`PCEID`].
    pub tcb_info_pceid: [u8; 2],
    /// `tcbEvaluationDataNumber` of TCB info and QE identity.
    pub evaluation_data_number: u32,
    /// What the CRLs revoke.
    pub revoked: Vec<Revocable>,
    /// CRLs that do not say when the next one comes.
    pub without_next_update: Vec<RevocationList>,
}

impl PlatformOptions {
    /// An up-to-date platform whose endorsements were issued a day before `now_unix` and run for 30 days.
    #[must_use]
    pub fn at(now_unix: u64) -> Self {
        let month = Window { from: now_unix.saturating_sub(DAY), until: now_unix.saturating_add(29 * DAY) };
        let years = Window {
            from: now_unix.saturating_sub(365 * DAY),
            until: now_unix.saturating_add(6 * 365 * DAY),
        };
        let sgx_svn = [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        let tee_tcb_svn = [11, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let older_sgx = [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        Self {
            seed: 0,
            windows: Windows {
                pck_certificate: years,
                root_ca_crl: month,
                pck_crl: month,
                tcb_info: month,
                qe_identity: month,
            },
            quote_form: QuoteForm::V4,
            pck_ca: PckCa::Platform,
            sgx_svn,
            pce_svn: 11,
            pck_profile: PckProfile::Usual,
            sgx_type: None,
            pck_flags: PckFlags::default(),
            tee_tcb_svn,
            tee_tcb_svn_2: tee_tcb_svn,
            seam: SeamOptions::default(),
            qe: QeOptions::default(),
            tcb_levels: vec![
                TcbLevel {
                    sgx: sgx_svn,
                    pce_svn: 11,
                    tdx: [5, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    verdict: SvnLevel::new("UpToDate", &[]),
                },
                TcbLevel {
                    sgx: older_sgx,
                    pce_svn: 11,
                    tdx: [5, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    verdict: SvnLevel::new("OutOfDate", &["INTEL-SA-00000"]),
                },
            ],
            module_identities: vec![ModuleIdentity {
                id: "TDX_01".into(),
                mr_signer: [0; 48],
                attributes: [0; 8],
                attributes_mask: [0xff; 8],
                levels: vec![
                    ModuleLevel { isv_svn: 11, verdict: SvnLevel::new("UpToDate", &[]) },
                    ModuleLevel { isv_svn: 6, verdict: SvnLevel::new("OutOfDate", &["INTEL-SA-00001"]) },
                ],
            }],
            tcb_info_fmspc: FMSPC,
            tcb_info_pceid: PCEID,
            evaluation_data_number: 20,
            revoked: Vec::new(),
            without_next_update: Vec::new(),
        }
    }
}

/// A platform that quotes, with the collateral that endorses it.
#[derive(Debug)]
pub struct SimulatedPlatform {
    pub(super) options: PlatformOptions,
    pub(super) pck_key: SigningKey,
    pub(super) attestation_key: SigningKey,
    pub(super) pck_certificate: String,
    pub(super) pck_ca: String,
    collateral: Collateral,
}

impl SimulatedPlatform {
    /// Makes the platform's keys, its PCK certificate and its collateral.
    ///
    /// Everything follows from the options: the same options give the same bytes.
    ///
    /// # Errors
    /// [`SimulatorError`] if a window is empty or lies after the year 9999.
    pub fn new(options: PlatformOptions) -> Result<Self, SimulatorError> {
        let pck_key = SigningKey::derive(Curve::P256, "PCK key", options.seed)?;
        let attestation_key = SigningKey::derive(Curve::P256, "attestation key", options.seed)?;
        let pck_certificate = pck::certificate(&pck_key, &options.pck_ca.key()?, &options)?;
        let pck_ca = options.pck_ca.pem()?;
        let chain = [&pck_certificate, &pck_ca, Authority::TdxRoot.pem()].concat();
        let collateral = Collateral::issue(&options, chain)?;
        Ok(Self { options, pck_key, attestation_key, pck_certificate, pck_ca, collateral })
    }

    /// A TDX quote over the report, certified by the PCK chain that it carries.
    #[must_use]
    pub fn quote(&self, report: &TdReport) -> Vec<u8> {
        quote::encode(self, report, &[])
    }

    /// A quote with these flaws, its signatures made anew around them.
    #[must_use]
    pub fn flawed_quote(&self, report: &TdReport, flaws: &[QuoteFlaw]) -> Vec<u8> {
        quote::encode(self, report, flaws)
    }

    /// Signs an edited quote of version 4 anew: header and body with the attestation key, the QE report with the PCK. One
    /// that is too short for these fields stays as it is.
    #[must_use]
    pub fn resign(&self, quote: &[u8]) -> Vec<u8> {
        quote::resign(self, quote)
    }

    /// What endorses the platform.
    #[must_use]
    pub fn collateral(&self) -> &Collateral {
        &self.collateral
    }

    /// What endorses the platform, as a `QuoteCollateralV3` JSON object.
    #[must_use]
    pub fn collateral_json(&self) -> String {
        self.collateral.to_json()
    }

    /// PPID of the platform.
    #[must_use]
    pub fn ppid(&self) -> [u8; 16] {
        seeded_array("PPID", self.options.seed)
    }

    /// The options that the platform was made from.
    #[must_use]
    pub fn options(&self) -> &PlatformOptions {
        &self.options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let made = || {
            let platform = SimulatedPlatform::new(PlatformOptions::at(1_790_812_800)).expect("usual options");
            let report = TdReport { measurements: Default::default(), report_data: [7; 64] };
            (platform.quote(&report), platform.collateral_json())
        };
        assert_eq!(made(), made());
    }
}
