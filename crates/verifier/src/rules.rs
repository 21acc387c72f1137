//! Every rule of an appraisal with its stable code.

use crate::check::Rule;

const DCAP: &str = "Intel TDX DCAP Quoting Library API, appendix A.3 and A.4";
const PCK_PROFILE: &str = "Intel SGX PCK Certificate and CRL Profile 1.5; RFC 5280 section 6.1";
const PCS: &str = "Intel SGX/TDX Provisioning Certification Service API v4";
const CRL: &str = "RFC 5280 sections 5.1 and 6.3";
const TDX_MODULE: &str = "Intel TDX Module 1.5 ABI, TDREPORT_STRUCT";
const BOOT: &str = "TCG PC Client Platform Firmware Profile 1.06 section 10; UEFI 2.10 section 38.4.1";
const TDX_EXTENDED: &str =
    "Intel TDX Module 1.5 ABI, TDINFO and SERVTD_EXT structures; DCAP quote body type 4";
const TRANSCRIPT: &str = "docs/protocol/README.md, transcript";
const EVENTS: &str = "docs/protocol/README.md, runtime events";
const CLAIMS: &str = "docs/protocol/README.md, claims";
const REFERENCES: &str = "docs/protocol/README.md, reference values";
const POLICY: &str = "appraisal policy";
const SPDM: &str = "DMTF DSP0274 1.1.0 sections 10.11.1 and 10.11.2";
const DEVICE_CHAIN: &str = "RFC 5280 section 6.1; NVIDIA device identity certificates";
const DICE: &str = "TCG DICE Attestation Architecture 1.0 section 6.1; TCG RIoT CompositeDeviceID";
const NODE: &str = "docs/protocol/README.md, devices";

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $expected:expr, $reference:expr, $remedy:literal;)*) => {
        $($(#[$doc])* pub static $name: Rule =
            Rule { code: $code, expected: $expected, reference: $reference, remedy: $remedy };)*
        /// All rules, in the order of an appraisal.
        pub static ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    /// The bytes are a quote.
    QUOTE_FORMAT = "quote_format", "a TDX quote, version 4 or 5", DCAP,
        "pass the quote as the quoting service returned it, in binary and whole";
    /// Zero bytes behind a bare quote.
    QUOTE_PADDING = "quote_padding", "nothing but zero bytes behind a bare quote", DCAP,
        "pass the quote alone: cut off what follows it, or fetch it again";
    /// The bytes are an evidence document.
    DOCUMENT_FORMAT = "document_format", "a canonical evidence document, version 1", "docs/protocol/evidence.cddl; RFC 8949 section 4.2.1",
        "fetch the document again from the guest, and use versions of client and guest that belong together";
    /// The platform and role of a document.
    DOCUMENT_PLATFORM = "document_platform", "a platform that this role supports", "docs/protocol/README.md, evidence document",
        "use a guest on Intel TDX: appraise AMD reports by themselves, with `confide verify snp`";
    /// Collateral is there.
    COLLATERAL_PRESENT = "collateral_present", "DCAP collateral, given or stapled", PCS,
        "give the platform's collateral with --collateral, or have the guest staple it";
    /// The collateral file parses.
    COLLATERAL_FILE = "collateral_file", "a QuoteCollateralV3 JSON file", PCS,
        "give a QuoteCollateralV3 JSON file, as the PCS, a PCCS or dcap-qvl's tools write it";
    /// Collateral parses.
    COLLATERAL_FORMAT = "collateral_format", "well-formed certificates, revocation lists, TCB info and QE identity", PCS,
        "fetch the collateral again: this set is damaged or of another kind";
    /// The root is pinned.
    ROOT_ANCHOR = "root_anchor", "a root certificate whose key is a pinned trust anchor", PCK_PROFILE,
        "use collateral and quote of genuine hardware: evidence under another root proves nothing, and simulated evidence needs a danger policy";
    /// The root's own signature.
    ROOT_SIGNATURE = "root_signature", "the root certificate signs itself", PCK_PROFILE,
        "fetch the collateral again: its root certificate is damaged or forged";
    /// PCK CA under the root.
    PCK_CA_SIGNATURE = "pck_ca_signature", "the PCK CA certificate, of the Platform or the Processor CA, is issued by the root", PCK_PROFILE,
        "fetch the collateral again: its PCK CA chain is damaged, forged or out of order";
    /// TCB signer under the root.
    TCB_SIGNER_SIGNATURE = "tcb_signer_signature", "the TCB signing certificate is issued by the root", PCS,
        "fetch the collateral again: its TCB signing chain is damaged, forged or out of order";
    /// Root CRL.
    ROOT_CRL_SIGNATURE = "root_crl_signature", "the root revocation list is issued by the root", CRL,
        "fetch the root CA's revocation list again from Intel";
    /// PCK CRL.
    PCK_CRL_SIGNATURE = "pck_crl_signature", "the PCK revocation list is issued by the PCK CA", CRL,
        "fetch the PCK revocation list again, of the CA (platform or processor) that issued the PCK certificate";
    /// Nobody in the chains is revoked.
    CA_REVOCATION = "ca_revocation", "neither the PCK CA nor the TCB signing certificate is revoked", CRL,
        "trust nothing under this certificate, and fetch collateral with its successor from Intel";
    /// TCB info signature.
    TCB_INFO_SIGNATURE = "tcb_info_signature", "TCB info is signed by the TCB signing certificate over its exact bytes", PCS,
        "fetch TCB info again and keep its exact bytes: the signature covers white space, too";
    /// QE identity signature.
    QE_IDENTITY_SIGNATURE = "qe_identity_signature", "QE identity is signed by the TCB signing certificate over its exact bytes", PCS,
        "fetch QE identity again and keep its exact bytes: the signature covers white space, too";
    /// Kind of TCB info.
    TCB_INFO_KIND = "tcb_info_kind", "TCB info with id TDX, version 3, type 0", PCS,
        "fetch TCB info for TDX from version 4 of the PCS API (/tdx/certification/v4/tcb)";
    /// Kind of QE identity.
    QE_IDENTITY_KIND = "qe_identity_kind", "QE identity with id TD_QE, version 2", PCS,
        "fetch QE identity for TDX from version 4 of the PCS API (/tdx/certification/v4/qe/identity)";
    /// The quote's chain.
    PCK_CHAIN_FORM = "pck_chain_form", "three certificates: PCK, PCK CA, root, in this order, the same CA as in the collateral", PCK_PROFILE,
        "have the operator repair the host's quoting service and PCK cache, and use collateral of the same PCK CA";
    /// PCK signature.
    PCK_SIGNATURE = "pck_signature", "the PCK certificate is issued by the PCK CA", PCK_PROFILE,
        "do not trust this machine: its PCK certificate is damaged or forged";
    /// PCK revocation.
    PCK_REVOCATION = "pck_revocation", "the PCK certificate is not revoked", CRL,
        "do not trust this machine: Intel has revoked its PCK certificate";
    /// PCK extension.
    PCK_EXTENSION = "pck_extension", "a PCK certificate with the SGX extension, which names platform instance and configuration under the Platform CA and only there", PCK_PROFILE,
        "have the operator provision the machine's PCK certificate again from Intel";
    /// QE report signature.
    QE_REPORT_SIGNATURE = "qe_report_signature", "the QE report is signed by the PCK", DCAP,
        "do not trust this quote: no quoting enclave on the certified platform made it";
    /// Attestation key binding.
    ATTESTATION_KEY_BINDING = "attestation_key_binding", "QE report data = SHA-256(attestation key, QE authentication data), rest zero", DCAP,
        "do not trust this quote: the quoting enclave has not vouched for its key";
    /// Quote signature.
    QUOTE_SIGNATURE = "quote_signature", "header and body are signed by the attestation key", DCAP,
        "do not trust this quote: it was changed after it was signed, or never signed";
    /// Windows.
    VALIDITY = "validity", "the time lies in the validity window of every certificate, list and signed object", "RFC 5280 section 4.1.2.5; Intel PCS API v4 issueDate, nextUpdate",
        "fetch fresh collateral, and check that the time of the appraisal is right";
    /// FMSPC.
    FMSPC = "fmspc", "TCB info covers the platform's FMSPC and PCEID", PCS,
        "fetch TCB info for the platform's FMSPC";
    /// QE identity.
    QE_IDENTITY = "qe_identity", "the quoting enclave is the one that QE identity describes", PCS,
        "have the operator install Intel's quoting enclave, and fetch the QE identity of the present day";
    /// TDX module identity.
    TDX_MODULE_IDENTITY = "tdx_module_identity", "the TDX module's signer and SEAM attributes are those that TCB info describes", PCS,
        "have the operator load a TDX module that Intel has signed, and fetch the TCB info of the present day";
    /// TCB status.
    TCB_STATUS = "tcb_status", "a TCB status that the policy accepts", PCS,
        "have the operator bring BIOS, microcode, TDX module and quoting enclave up to date, or accept this status in the policy for a while by a grace";
    /// Early TCB status.
    EARLY_TCB_STATUS = "early_tcb_status", "a TCB status by the early collateral that the policy accepts", PCS,
        "give collateral with its early set, and have the operator bring the platform up to date before the TCB recovery";
    /// Evaluation data number.
    TCB_EVALUATION = "tcb_evaluation", "TCB info and QE identity of no earlier TCB recovery than the policy asks for", PCS,
        "fetch the collateral of the present TCB recovery, and give that";
    /// Age of TCB info.
    TCB_INFO_AGE = "tcb_info_age", "TCB info no older than the policy allows", PCS,
        "fetch TCB info anew: a host can hold back newer collateral that says worse of it";
    /// Age of QE identity.
    QE_IDENTITY_AGE = "qe_identity_age", "QE identity no older than the policy allows", PCS,
        "fetch the QE identity anew: a host can hold back newer collateral that says worse of it";
    /// Age of the PCK CRL.
    PCK_CRL_AGE = "pck_crl_age", "a PCK revocation list no older than the policy allows", CRL,
        "fetch the PCK revocation list anew: a host can hold back a newer one that names it";
    /// Age of the root CRL.
    ROOT_CRL_AGE = "root_crl_age", "a root revocation list no older than the policy allows", CRL,
        "fetch the root revocation list anew";
    /// Platform by PPID.
    PPID = "ppid", "a platform whose PPID the policy accepts", POLICY,
        "use a platform that the policy lists, or list this one after having looked at whose it is";
    /// Kind of platform by FMSPC.
    PLATFORM_KIND = "platform_kind", "a kind of platform whose FMSPC the policy accepts", POLICY,
        "use a kind of platform that the policy lists, or list this one";
    /// SGX type.
    SGX_TYPE = "sgx_type", "the platform's SGX type", PCK_PROFILE,
        "use a platform of a type that the policy lists, or list this one";
    /// Dynamic platform.
    DYNAMIC_PLATFORM = "dynamic_platform", "whether packages can be added to the platform", PCK_PROFILE,
        "use a platform that the policy accepts, or list this value";
    /// Cached keys.
    CACHED_KEYS = "cached_keys", "whether Intel caches the platform's root keys", PCK_PROFILE,
        "use a platform that the policy accepts, or list this value";
    /// Simultaneous multithreading.
    SMT_ENABLED = "smt_enabled", "whether simultaneous multithreading is on", PCK_PROFILE,
        "have the operator switch it off or on in the BIOS and provision the platform anew, or list this value";
    /// A second opinion.
    CROSS_CHECK = "cross_check", "the finding of a second verifier, the same as here", POLICY,
        "run the command with --cross-check, or waive tdx.cross_check in the policy";
    /// A second opinion that differs.
    CROSS_CHECK_DISAGREES = "cross_check_disagrees", "a second verifier finds the same: whether signatures hold, and the TCB status", POLICY,
        "rely on neither verdict before the difference is explained, and report it unless it is a known one";
    /// Debug.
    TD_DEBUG = "td_debug", "TDATTRIBUTES.DEBUG", TDX_MODULE,
        "start the TD without DEBUG: the host can read a debuggable TD";
    /// Migratable.
    TD_MIGRATABLE = "td_migratable", "TDATTRIBUTES.MIGRATABLE", TDX_MODULE,
        "start the TD without MIGRATABLE, or accept migration in the policy";
    /// Attributes.
    TD_ATTRIBUTES = "td_attributes", "TDATTRIBUTES", TDX_MODULE,
        "start the TD with attributes that the policy lists, or add these after having looked at every bit";
    /// XFAM.
    XFAM = "xfam", "XFAM", TDX_MODULE,
        "start the TD with extended features that the policy lists, or add these after having looked at every bit";
    /// Reserved bits.
    TD_RESERVED_BITS = "td_reserved_bits", "no reserved bit of TDATTRIBUTES or XFAM is set", TDX_MODULE,
        "use a version of this program that knows the bit, or waive it in the policy after having looked it up";
    /// MRSEAM.
    MR_SEAM = "mr_seam", "MRSEAM", TDX_MODULE,
        "have the operator load a TDX module that the policy lists, or add this one after having checked its origin";
    /// MRSIGNERSEAM.
    MR_SIGNER_SEAM = "mr_signer_seam", "MRSIGNERSEAM", TDX_MODULE,
        "have the operator load a TDX module of a signer that the policy lists";
    /// SEAMATTRIBUTES.
    SEAM_ATTRIBUTES = "seam_attributes", "SEAMATTRIBUTES", TDX_MODULE,
        "have the operator load a production TDX module, or list these attributes after having looked at every bit";
    /// MRTD.
    MR_TD = "mr_td", "MRTD", TDX_MODULE,
        "start the TD with the firmware that the policy lists, or add this one after having built and measured it";
    /// RTMR0.
    RTMR0 = "rtmr0", "RTMR0", TDX_MODULE,
        "start the TD with the firmware configuration and ACPI tables that the policy lists, or add this value after having measured it";
    /// RTMR1.
    RTMR1 = "rtmr1", "RTMR1", TDX_MODULE,
        "boot the kernel and initrd that the policy lists, or add this value after having measured the image";
    /// RTMR2.
    RTMR2 = "rtmr2", "RTMR2", TDX_MODULE,
        "boot with the command line and initrd that the policy lists, or add this value after having measured the image";
    /// RTMR3.
    RTMR3 = "rtmr3", "RTMR3 is what the runtime events replay to", EVENTS,
        "do not trust this document: its runtime events are not those that the guest measured";
    /// Signature of the file of reference values.
    REFERENCE_SIGNATURE = "reference_signature", "the file of reference values is signed, over its exact bytes, by a key that the policy names", REFERENCES,
        "get file and signature again from their publisher: they were changed, or are another publisher's";
    /// Form and name of the file of reference values.
    REFERENCE_FILE = "reference_file", "the file of reference values that the policy names", REFERENCES,
        "give the publisher's file and signature with --references, under a policy that names it in signed_references";
    /// Version of the file of reference values.
    REFERENCE_VERSION = "reference_version", "no earlier version of the file than the policy asks for and than was seen before", REFERENCES,
        "get the publisher's present file: somebody may want you to accept a release that was withdrawn";
    /// Window of the file of reference values.
    REFERENCE_WINDOW = "reference_window", "the time lies between the file's issued and expires", REFERENCES,
        "get the publisher's present file, and check that the time of the appraisal is right";
    /// Reference set.
    REFERENCE_SET = "reference_set", "every value that the policy takes from reference sets is of one set", POLICY,
        "run one whole release that the policy has a reference set for, or add the set of the release that you chose";
    /// The boot event log parses.
    BOOT_LOG_FORMAT = "boot_log_format", "a crypto-agile event log with SHA-384 digests", BOOT,
        "give the log as the kernel shows it (/sys/firmware/acpi/tables/data/CCEL), whole and unchanged";
    /// The boot event log replays.
    BOOT_LOG = "boot_log", "a boot event log that replays to RTMR0, RTMR1 and RTMR2 and leaves RTMR3 to the runtime", BOOT,
        "give the log of this very boot; where it is, the log was changed on its way, or software extended a register without logging it";
    /// The boot events are those of a reference.
    BOOT_EVENTS = "boot_events", "the measured events of a reference", BOOT,
        "boot the image and machine shape that the reference was made of, or add the event to a reference after having explained it";
    /// MRCONFIGID.
    MR_CONFIG_ID = "mr_config_id", "MRCONFIGID", TDX_MODULE,
        "start the TD with a configuration id that the policy lists, or add this one";
    /// MROWNER.
    MR_OWNER = "mr_owner", "MROWNER", TDX_MODULE,
        "start the TD with an owner that the policy lists, or add this one";
    /// MROWNERCONFIG.
    MR_OWNER_CONFIG = "mr_owner_config", "MROWNERCONFIG", TDX_MODULE,
        "start the TD with an owner configuration that the policy lists, or add this one";
    /// MRSERVICETD.
    MR_SERVICE_TD = "mr_service_td", "MRSERVICETD; of an extended report also the service TDs at creation and now", TDX_MODULE,
        "start the TD with service TDs that the policy lists, or add this one after having checked what it can do";
    /// The VM that asked for an extended report.
    TD_VM_ID = "td_vm_id", "VMID of the extended report", TDX_EXTENDED,
        "run the guest unpartitioned, or list the VM's index in the policy";
    /// Instance of an extended report.
    TD_ID = "td_id", "TDID of the extended report", TDX_EXTENDED,
        "list the id of this launch in the policy, or waive it: it changes with every launch";
    /// Devices of an extended report.
    DEVICE_INFO = "device_info", "DEVICE_INFO hash of the extended report", TDX_EXTENDED,
        "start the TD with the devices that the policy lists, or add this hash after having checked them";
    /// Service TD attributes of an extended report.
    SERVICE_TD_ATTRIBUTES = "service_td_attributes", "attributes of the service TDs, at creation and now", TDX_EXTENDED,
        "start the TD with service TDs of the attributes that the policy lists";
    /// CPUSVN at the creation of a TD.
    INIT_CPU_SVN = "init_cpu_svn", "INIT_CPUSVN of the extended report", TDX_EXTENDED,
        "start the TD anew on this machine, or list the platform that it came from in the policy";
    /// TEE_TCB_SVN at the creation of a TD.
    INIT_TEE_TCB_SVN = "init_tee_tcb_svn", "INIT_TEE_TCB_SVN of the extended report", TDX_EXTENDED,
        "start the TD anew on this machine, or list the platform that it came from in the policy";
    /// FMSPC at the creation of a TD.
    INIT_FMSPC = "init_fmspc", "INIT_FMSPC of the extended report", TDX_EXTENDED,
        "start the TD anew on this machine, or list the platform that it came from in the policy";
    /// Report data.
    REPORT_DATA = "report_data", "REPORTDATA is the transcript of this challenge and this document", TRANSCRIPT,
        "do not use this connection: the quote was made for another challenge, connection, key or document";
    /// Challenge given.
    CHALLENGE = "challenge", "a challenge: role, nonce, TLS exporter and key of the verifier's own connection", TRANSCRIPT,
        "give the challenge of the verifier's own connection, of the role that the document was made for";
    /// Event grammar.
    EVENT_LOG = "event_log", "runtime events of the closed list, each once, in order, ending as the role demands", EVENTS,
        "use a guest whose boot went through every step in order, in a version that belongs to this client's";
    /// Claims against events.
    EVENT_CLAIMS = "event_claims", "static claims equal the payloads of the runtime events", EVENTS,
        "do not trust this guest: it claims something else than it measured";
    /// Key set lifetime.
    KEY_SET = "key_set", "a key set that has not expired", "docs/protocol/key-set.cddl",
        "fetch the evidence again: the guest must have drawn keys of this role that are still good";
    /// Egress mode.
    EGRESS_MODE = "egress_mode", "egress is locked", CLAIMS,
        "use a guest that has locked its egress";
    /// Egress policy.
    EGRESS_POLICY = "egress_policy", "egress policy digest", CLAIMS,
        "use a guest with an egress policy that the policy lists, or add this one after having read it";
    /// Host-visible destinations.
    EGRESS_HOST_VISIBLE = "egress_host_visible", "no destination that lets the host see or answer, but those listed", CLAIMS,
        "use a guest without this destination, or list it in the policy knowing that the host sees or answers it";
    /// Model manifest.
    MODEL_MANIFEST = "model_manifest", "model manifest digest", CLAIMS,
        "use a guest that runs a model that the policy lists, or add this manifest after having checked the model";
    /// Engine.
    ENGINE_KIND = "engine_kind", "engine kind", CLAIMS,
        "use a guest with an engine that the policy lists, or add this one";
    /// Configuration.
    CONFIGURATION = "configuration", "configuration digest", CLAIMS,
        "use a guest with a configuration that the policy lists, or add this digest after having read the configuration";
    /// Image.
    IMAGE = "image", "image digest", CLAIMS,
        "use a guest with an image that the policy lists, or add this digest after having built the image";
    /// Verity roots.
    VERITY_ROOTS = "verity_roots", "verity root of every volume", CLAIMS,
        "use a guest whose volumes the policy lists, or add this verity root after having built the volume";
    /// GPU dev tools.
    GPU_DEV_TOOLS = "gpu_dev_tools", "GPU development tools mode", CLAIMS,
        "have the operator turn the GPUs' development tools off";
    /// GPU environment.
    GPU_ENVIRONMENT = "gpu_environment", "GPU environment", CLAIMS,
        "use GPUs in the environment that the policy lists, which is production unless it says otherwise";
    /// GPU count.
    GPU_COUNT = "gpu_count", "number of GPUs", POLICY,
        "use a guest with as many GPUs as the policy lists, or change the count";
    /// GPU claims.
    GPU_CLAIMS = "gpu_claims", "the measured guest counts the GPUs of the document and has set their ready state", CLAIMS,
        "do not trust this guest: its count of GPUs or their ready state is not that of the evidence";
    /// Devices event.
    DEVICES_EVENT = "devices_event", "device certificates and signed modes are those of the devices runtime event", EVENTS,
        "do not trust this document: it has other devices than the guest measured at boot";
    /// A device report parses.
    DEVICE_REPORT_FORMAT = "device_report_format", "an SPDM 1.1 measurement report of a GPU or an LS10 switch", SPDM,
        "use GPUs whose driver and firmware report over SPDM 1.1, and fetch the evidence again";
    /// A device chain parses.
    DEVICE_CHAIN_FORMAT = "device_chain_format", "five PEM certificates, leaf first", DEVICE_CHAIN,
        "fetch the evidence again: the device's certificate chain is damaged or incomplete";
    /// A device root is pinned.
    DEVICE_ROOT_ANCHOR = "device_root_anchor", "a root certificate whose key is a pinned trust anchor", DEVICE_CHAIN,
        "use genuine devices: evidence under another root proves nothing, and simulated evidence needs a danger policy";
    /// Signatures of a device chain.
    DEVICE_CHAIN_SIGNATURES = "device_chain_signatures", "each certificate is issued by the next, the root by itself, with ECDSA P-384 and SHA-384", DEVICE_CHAIN,
        "do not trust this device: its certificate chain is damaged or forged";
    /// Usages of a device chain.
    DEVICE_CHAIN_USAGE = "device_chain_usage", "a leaf that may sign, authorities that may issue, no unknown critical extension", "RFC 5280 sections 4.2.1.3 and 4.2.1.9",
        "do not trust this device: a certificate of its chain is used for what its issuer did not allow";
    /// Report signature.
    DEVICE_REPORT_SIGNATURE = "device_report_signature", "request and response are signed by the leaf certificate's key", SPDM,
        "do not trust this report: it was changed after it was signed, or is of another device";
    /// Device certificate windows.
    DEVICE_VALIDITY = "device_validity", "the time lies in the validity window of every device certificate", "RFC 5280 section 4.1.2.5",
        "check that the time of the appraisal is right; if it is, have the operator replace the device or its certificates";
    /// Device nonce.
    DEVICE_NONCE = "device_nonce", "the nonce of this challenge and this position in the device list", TRANSCRIPT,
        "do not trust this document: the device's report was made for another challenge or another place in the list";
    /// Device family.
    DEVICE_FAMILY = "device_family", "document, certificate, report and chip name the same kind of device and product", DEVICE_CHAIN,
        "do not trust this device: its certificate, report and chip do not belong together";
    /// Device mode.
    DEVICE_MODE = "device_mode", "a known confidential-computing mode in signed fields that do not contradict each other", "NVIDIA opaque fields 21 and 36",
        "have the operator turn confidential computing on for this device, with firmware that reports it without contradiction";
    /// Firmware id.
    DEVICE_FWID = "device_fwid", "the firmware id in the report is the one that the leaf certificate names", DICE,
        "do not trust this device: its certificate was issued for other firmware than it reports";
    /// Reference manifests.
    DEVICE_RIM = "device_rim", "measurements equal those of signed driver and VBIOS reference manifests", "TCG Reference Integrity Manifest Information Model 1.01",
        "have the operator install driver and VBIOS versions with signed reference manifests, and supply these";
    /// Device revocation.
    DEVICE_REVOCATION = "device_revocation", "no certificate of the device chain is revoked", "RFC 6960; RFC 5280 section 5",
        "supply fresh revocation answers for the device's certificates; if one is revoked, do not trust the device";
    /// Distinct devices.
    DEVICE_DISTINCT = "device_distinct", "no device twice: distinct leaf keys, leaf serials and BROM serials", NODE,
        "do not trust this guest: it shows one device as several";
    /// Uniform devices.
    DEVICE_UNIFORM = "device_uniform", "one chip family, one mode and one driver for all GPUs", NODE,
        "have the operator use one chip family, one mode and one driver for all GPUs of a guest";
    /// Topology.
    DEVICE_TOPOLOGY = "device_topology", "in protected PCIe mode GPUs and locked switches name exactly each other by certified PDIs", NODE,
        "have the operator give the guest exactly the GPUs and switches that belong to each other, all locked";
    /// Witness.
    WITNESS = "witness", "a policy under which a witness may be minted: report data, RTMR3, MRTD, RTMR0 to RTMR2 and events appraised, DEBUG and MIGRATABLE off", "docs/threat-model.md",
        "give the waived fields reference values: only a danger policy opens a channel without them";
}
