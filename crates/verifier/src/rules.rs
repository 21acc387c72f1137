//! Every rule of an appraisal with its stable code.

use crate::check::Rule;

const DCAP: &str = "Intel TDX DCAP Quoting Library API, appendix A.3 and A.4";
const PCK_PROFILE: &str = "Intel SGX PCK Certificate and CRL Profile 1.5; RFC 5280 section 6.1";
const PCS: &str = "Intel SGX/TDX Provisioning Certification Service API v4";
const CRL: &str = "RFC 5280 sections 5.1 and 6.3";
const TDX_MODULE: &str = "Intel TDX Module 1.5 ABI, TDREPORT_STRUCT";
const TRANSCRIPT: &str = "docs/protocol/README.md, transcript";
const EVENTS: &str = "docs/protocol/README.md, runtime events";
const CLAIMS: &str = "docs/protocol/README.md, claims";
const POLICY: &str = "appraisal policy";
const SPDM: &str = "DMTF DSP0274 1.1.0 sections 10.11.1 and 10.11.2";
const DEVICE_CHAIN: &str = "RFC 5280 section 6.1; NVIDIA device identity certificates";
const DICE: &str = "TCG DICE Attestation Architecture 1.0 section 6.1; TCG RIoT CompositeDeviceID";
const NODE: &str = "docs/protocol/README.md, devices";

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $expected:expr, $reference:expr;)*) => {
        $($(#[$doc])* pub static $name: Rule = Rule { code: $code, expected: $expected, reference: $reference };)*
        /// All rules, in the order of an appraisal.
        pub static ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    /// The bytes are a quote.
    QUOTE_FORMAT = "quote_format", "a TDX quote, version 4 or 5", DCAP;
    /// Zero bytes behind a bare quote.
    QUOTE_PADDING = "quote_padding", "nothing but zero bytes behind a bare quote", DCAP;
    /// The bytes are an evidence document.
    DOCUMENT_FORMAT = "document_format", "a canonical evidence document, version 1", "docs/protocol/evidence.cddl; RFC 8949 section 4.2.1";
    /// The platform and role of a document.
    DOCUMENT_PLATFORM = "document_platform", "a platform that this role supports", "docs/protocol/README.md, evidence document";
    /// Collateral is there.
    COLLATERAL_PRESENT = "collateral_present", "DCAP collateral, given or stapled", PCS;
    /// The collateral file parses.
    COLLATERAL_FILE = "collateral_file", "a QuoteCollateralV3 JSON file", PCS;
    /// Collateral parses.
    COLLATERAL_FORMAT = "collateral_format", "well-formed certificates, revocation lists, TCB info and QE identity", PCS;
    /// The root is pinned.
    ROOT_ANCHOR = "root_anchor", "a root certificate whose key is a pinned trust anchor", PCK_PROFILE;
    /// The root's own signature.
    ROOT_SIGNATURE = "root_signature", "the root certificate signs itself", PCK_PROFILE;
    /// PCK CA under the root.
    PCK_CA_SIGNATURE = "pck_ca_signature", "the PCK CA certificate is issued by the root", PCK_PROFILE;
    /// TCB signer under the root.
    TCB_SIGNER_SIGNATURE = "tcb_signer_signature", "the TCB signing certificate is issued by the root", PCS;
    /// Root CRL.
    ROOT_CRL_SIGNATURE = "root_crl_signature", "the root revocation list is issued by the root", CRL;
    /// PCK CRL.
    PCK_CRL_SIGNATURE = "pck_crl_signature", "the PCK revocation list is issued by the PCK CA", CRL;
    /// Nobody in the chains is revoked.
    CA_REVOCATION = "ca_revocation", "neither the PCK CA nor the TCB signing certificate is revoked", CRL;
    /// TCB info signature.
    TCB_INFO_SIGNATURE = "tcb_info_signature", "TCB info is signed by the TCB signing certificate over its exact bytes", PCS;
    /// QE identity signature.
    QE_IDENTITY_SIGNATURE = "qe_identity_signature", "QE identity is signed by the TCB signing certificate over its exact bytes", PCS;
    /// Kind of TCB info.
    TCB_INFO_KIND = "tcb_info_kind", "TCB info with id TDX, version 3, type 0", PCS;
    /// Kind of QE identity.
    QE_IDENTITY_KIND = "qe_identity_kind", "QE identity with id TD_QE, version 2", PCS;
    /// The quote's chain.
    PCK_CHAIN_FORM = "pck_chain_form", "three certificates: PCK, PCK CA, root, in this order, the same CA as in the collateral", PCK_PROFILE;
    /// PCK signature.
    PCK_SIGNATURE = "pck_signature", "the PCK certificate is issued by the PCK CA", PCK_PROFILE;
    /// PCK revocation.
    PCK_REVOCATION = "pck_revocation", "the PCK certificate is not revoked", CRL;
    /// PCK extension.
    PCK_EXTENSION = "pck_extension", "a PCK certificate with the SGX extension", PCK_PROFILE;
    /// QE report signature.
    QE_REPORT_SIGNATURE = "qe_report_signature", "the QE report is signed by the PCK", DCAP;
    /// Attestation key binding.
    ATTESTATION_KEY_BINDING = "attestation_key_binding", "QE report data = SHA-256(attestation key, QE authentication data), rest zero", DCAP;
    /// Quote signature.
    QUOTE_SIGNATURE = "quote_signature", "header and body are signed by the attestation key", DCAP;
    /// Windows.
    VALIDITY = "validity", "the time lies in the validity window of every certificate, list and signed object", "RFC 5280 section 4.1.2.5; Intel PCS API v4 issueDate, nextUpdate";
    /// FMSPC.
    FMSPC = "fmspc", "TCB info covers the platform's FMSPC and PCEID", PCS;
    /// QE identity.
    QE_IDENTITY = "qe_identity", "the quoting enclave is the one that QE identity describes", PCS;
    /// TDX module identity.
    TDX_MODULE_IDENTITY = "tdx_module_identity", "the TDX module's signer and SEAM attributes are those that TCB info describes", PCS;
    /// TCB status.
    TCB_STATUS = "tcb_status", "a TCB status that the policy accepts", PCS;
    /// Debug.
    TD_DEBUG = "td_debug", "TDATTRIBUTES.DEBUG", TDX_MODULE;
    /// Migratable.
    TD_MIGRATABLE = "td_migratable", "TDATTRIBUTES.MIGRATABLE", TDX_MODULE;
    /// Attributes.
    TD_ATTRIBUTES = "td_attributes", "TDATTRIBUTES", TDX_MODULE;
    /// XFAM.
    XFAM = "xfam", "XFAM", TDX_MODULE;
    /// MRSEAM.
    MR_SEAM = "mr_seam", "MRSEAM", TDX_MODULE;
    /// MRTD.
    MR_TD = "mr_td", "MRTD", TDX_MODULE;
    /// RTMR0.
    RTMR0 = "rtmr0", "RTMR0", TDX_MODULE;
    /// RTMR1.
    RTMR1 = "rtmr1", "RTMR1", TDX_MODULE;
    /// RTMR2.
    RTMR2 = "rtmr2", "RTMR2", TDX_MODULE;
    /// RTMR3.
    RTMR3 = "rtmr3", "RTMR3 is what the runtime events replay to", EVENTS;
    /// MRCONFIGID.
    MR_CONFIG_ID = "mr_config_id", "MRCONFIGID", TDX_MODULE;
    /// MROWNER.
    MR_OWNER = "mr_owner", "MROWNER", TDX_MODULE;
    /// MROWNERCONFIG.
    MR_OWNER_CONFIG = "mr_owner_config", "MROWNERCONFIG", TDX_MODULE;
    /// MRSERVICETD.
    MR_SERVICE_TD = "mr_service_td", "MRSERVICETD", TDX_MODULE;
    /// Report data.
    REPORT_DATA = "report_data", "REPORTDATA is the transcript of this challenge and this document", TRANSCRIPT;
    /// Challenge given.
    CHALLENGE = "challenge", "a challenge: role, nonce, TLS exporter and key of the verifier's own connection", TRANSCRIPT;
    /// Event grammar.
    EVENT_LOG = "event_log", "runtime events of the closed list, each once, in order, ending as the role demands", EVENTS;
    /// Claims against events.
    EVENT_CLAIMS = "event_claims", "static claims equal the payloads of the runtime events", EVENTS;
    /// Key set lifetime.
    KEY_SET = "key_set", "a key set that has not expired", "docs/protocol/key-set.cddl";
    /// Egress mode.
    EGRESS_MODE = "egress_mode", "egress is locked", CLAIMS;
    /// Egress policy.
    EGRESS_POLICY = "egress_policy", "egress policy digest", CLAIMS;
    /// Host-visible destinations.
    EGRESS_HOST_VISIBLE = "egress_host_visible", "no destination that lets the host see or answer, but those listed", CLAIMS;
    /// Model manifest.
    MODEL_MANIFEST = "model_manifest", "model manifest digest", CLAIMS;
    /// Engine.
    ENGINE_KIND = "engine_kind", "engine kind", CLAIMS;
    /// Configuration.
    CONFIGURATION = "configuration", "configuration digest", CLAIMS;
    /// Image.
    IMAGE = "image", "image digest", CLAIMS;
    /// Verity roots.
    VERITY_ROOTS = "verity_roots", "verity root of every volume", CLAIMS;
    /// GPU dev tools.
    GPU_DEV_TOOLS = "gpu_dev_tools", "GPU development tools mode", CLAIMS;
    /// GPU environment.
    GPU_ENVIRONMENT = "gpu_environment", "GPU environment", CLAIMS;
    /// GPU count.
    GPU_COUNT = "gpu_count", "number of GPUs", POLICY;
    /// GPU claims.
    GPU_CLAIMS = "gpu_claims", "the measured guest counts the GPUs of the document and has set their ready state", CLAIMS;
    /// Devices event.
    DEVICES_EVENT = "devices_event", "device certificates are those of the devices runtime event", EVENTS;
    /// A device report parses.
    DEVICE_REPORT_FORMAT = "device_report_format", "an SPDM 1.1 measurement report of a GPU or an LS10 switch", SPDM;
    /// A device chain parses.
    DEVICE_CHAIN_FORMAT = "device_chain_format", "five PEM certificates, leaf first", DEVICE_CHAIN;
    /// A device root is pinned.
    DEVICE_ROOT_ANCHOR = "device_root_anchor", "a root certificate whose key is a pinned trust anchor", DEVICE_CHAIN;
    /// Signatures of a device chain.
    DEVICE_CHAIN_SIGNATURES = "device_chain_signatures", "each certificate is issued by the next, the root by itself, with ECDSA P-384 and SHA-384", DEVICE_CHAIN;
    /// Usages of a device chain.
    DEVICE_CHAIN_USAGE = "device_chain_usage", "a leaf that may sign, authorities that may issue, no unknown critical extension", "RFC 5280 sections 4.2.1.3 and 4.2.1.9";
    /// Report signature.
    DEVICE_REPORT_SIGNATURE = "device_report_signature", "request and response are signed by the leaf certificate's key", SPDM;
    /// Device certificate windows.
    DEVICE_VALIDITY = "device_validity", "the time lies in the validity window of every device certificate", "RFC 5280 section 4.1.2.5";
    /// Device nonce.
    DEVICE_NONCE = "device_nonce", "the nonce of this challenge and this position in the device list", TRANSCRIPT;
    /// Device family.
    DEVICE_FAMILY = "device_family", "document, certificate, report and chip name the same kind of device and product", DEVICE_CHAIN;
    /// Device mode.
    DEVICE_MODE = "device_mode", "a known confidential-computing mode in signed fields that do not contradict each other", "NVIDIA opaque fields 21 and 36";
    /// Firmware id.
    DEVICE_FWID = "device_fwid", "the firmware id in the report is the one that the leaf certificate names", DICE;
    /// Reference manifests.
    DEVICE_RIM = "device_rim", "measurements equal those of signed driver and VBIOS reference manifests", "TCG Reference Integrity Manifest Information Model 1.01";
    /// Device revocation.
    DEVICE_REVOCATION = "device_revocation", "no certificate of the device chain is revoked", "RFC 6960; RFC 5280 section 5";
    /// Distinct devices.
    DEVICE_DISTINCT = "device_distinct", "no device twice: distinct leaf keys, leaf serials and BROM serials", NODE;
    /// Uniform devices.
    DEVICE_UNIFORM = "device_uniform", "one chip family, one mode and one driver for all GPUs", NODE;
    /// Topology.
    DEVICE_TOPOLOGY = "device_topology", "in protected PCIe mode GPUs and locked switches name exactly each other by certified PDIs", NODE;
    /// Witness.
    WITNESS = "witness", "a policy under which a witness may be minted: report data, RTMR3, MRTD, RTMR0 to RTMR2 and events appraised, DEBUG and MIGRATABLE off", "docs/threat-model.md";
}
