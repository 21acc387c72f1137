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
const NVIDIA_REPORT: &str = "NVIDIA opaque fields 3 and 6; docs/policy.md, devices";
const RIM: &str = "TCG Reference Integrity Manifest Information Model 1.01; RFC 5280 section 6.1";
const REVOCATION: &str = "RFC 6960 section 4.2.2; RFC 5280 section 5";
const TOKEN: &str = "RFC 7515 section 5.2; RFC 7518 section 3.4";
const BUNDLE: &str = "RFC 9711 section 5; NVIDIA Remote Attestation Service API";
const SERVICE_KEY: &str = "RFC 7517 section 4; RFC 5280 section 6.1";
const NODE: &str = "docs/protocol/README.md, devices";
const SNP_FIRMWARE: &str = "AMD 56860, SEV-SNP Firmware ABI: ATTESTATION_REPORT, POLICY, TCB_VERSION";
const SNP_SIGNATURE: &str = "AMD 56860, SEV-SNP Firmware ABI: ECDSA P-384 with SHA-384";
const SNP_KDS: &str = "AMD 57230, VCEK Certificate and KDS Interface";
const SNP_PKI: &str = "AMD 57230 chapter 3; RFC 5280 section 6.1; RFC 4055";
const SNP_CRL: &str = "AMD 57230 chapter 4; RFC 5280 sections 5.1 and 6.3";

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
    /// The TCB under a running TD.
    PRESENT_TCB = "present_tcb", "TEE_TCB_SVN_2, where the report states it, no lower than TEE_TCB_SVN and no worse by TCB info", TDX_MODULE,
        "do not use this TD: less protects it now than at its launch, of which the TCB status speaks; start it anew on an updated platform";
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
    /// Platform instance.
    PLATFORM_INSTANCE = "platform_instance", "the platform instance id of the PCK certificate", PCK_PROFILE,
        "use a platform that the policy lists, or list this instance: it changes when the platform is provisioned anew";
    /// A second opinion.
    CROSS_CHECK = "cross_check", "the finding of a second verifier, the same as here", POLICY,
        "run the command with --cross-check, or waive tdx.cross_check in the policy";
    /// A second opinion of something else.
    CROSS_CHECK_INPUTS = "cross_check_inputs", "a second opinion of this very quote, collateral and time", POLICY,
        "ask the second verifier again about this evidence: the opinion was formed over something else, or the record was altered";
    /// A second opinion that differs.
    CROSS_CHECK_DISAGREES = "cross_check_disagrees", "a second verifier finds the same: whether signatures hold, and the TCB status", POLICY,
        "rely on neither verdict before the difference is explained, and report it unless it is a known one";
    /// Reserved bytes of a quote's header.
    QUOTE_RESERVED = "quote_reserved", "the reserved bytes of the quote header", DCAP,
        "have the operator install Intel's quoting enclave, or list this value after having looked up what it means";
    /// User data of a quote's header.
    QUOTE_USER_DATA = "quote_user_data", "the user data of the quote header", DCAP,
        "use a platform whose quoting enclave writes what the policy lists, or list this value";
    /// MRENCLAVE of the quoting enclave.
    QE_MR_ENCLAVE = "qe_mr_enclave", "MRENCLAVE of the quoting enclave", DCAP,
        "have the operator install a quoting enclave that the policy lists, or list this one";
    /// CPUSVN of the quoting enclave.
    QE_CPU_SVN = "qe_cpu_svn", "CPUSVN in the report of the quoting enclave", DCAP,
        "use a platform with a CPUSVN that the policy lists, or list this one";
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
    /// The bytes are a report.
    SNP_REPORT_FORMAT = "snp_report_format", "an SEV-SNP attestation report of 1184 bytes, version 2 to 5, signed with ECDSA P-384", SNP_FIRMWARE,
        "pass the report as the firmware wrote it, in binary and alone, without a header or certificates";
    /// Certificates are there.
    SNP_ENDORSEMENTS_PRESENT = "snp_endorsements_present", "the certificates of the report's signing key", SNP_KDS,
        "give the VCEK or VLEK certificate and the ASK or ASVK with --cert";
    /// A certificate file can be read.
    SNP_CERTIFICATE_FILE = "snp_certificate_file", "certificates, PEM or DER", SNP_KDS,
        "fetch the certificates again from AMD's key distribution service or from the cloud provider";
    /// A file of revocation lists can be read.
    SNP_CRL_FILE = "snp_crl_file", "revocation lists, DER or PEM", SNP_KDS,
        "fetch the list again from https://kdsintf.amd.com/vcek/v1/PRODUCT/crl";
    /// Certificates and lists parse.
    SNP_ENDORSEMENTS_FORMAT = "snp_endorsements_format", "at most three well-formed certificates and four revocation lists", SNP_PKI,
        "fetch the certificates and lists again: one of them is damaged or of another kind";
    /// The certificates make one chain.
    SNP_CHAIN_FORM = "snp_chain_form", "one VCEK or VLEK certificate, the ASK or ASVK that it names, the ARK or nothing, and no other", SNP_KDS,
        "give the certificate for this report with the chain of its product, https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain or vlek";
    /// The root is pinned.
    SNP_ROOT_ANCHOR = "snp_root_anchor", "the ARK of the product, whose key is a pinned trust anchor", SNP_KDS,
        "use the certificates of genuine hardware: evidence under another root proves nothing, and simulated evidence needs a danger policy";
    /// The root's own signature.
    SNP_ROOT_SIGNATURE = "snp_root_signature", "the ARK certificate signs itself", SNP_PKI,
        "fetch the chain again: its root certificate is damaged or forged";
    /// ASK or ASVK under the root.
    SNP_ISSUER_SIGNATURE = "snp_issuer_signature", "the ASK or ASVK certificate is issued by the ARK, with RSA-PSS and SHA-384", SNP_PKI,
        "fetch the chain again: the certificate of the ASK or ASVK is damaged, forged or of another product";
    /// VCEK or VLEK under its issuer.
    SNP_KEY_SIGNATURE = "snp_key_signature", "the VCEK or VLEK certificate is issued by the ASK or ASVK, with RSA-PSS and SHA-384, for a key on P-384", SNP_PKI,
        "fetch the certificate again: it is damaged, forged or of another product";
    /// Revocation lists.
    SNP_CRL_SIGNATURE = "snp_crl_signature", "each revocation list is issued by the ARK or the ASK of this chain", SNP_CRL,
        "give the list of the report's product, and of no other, fetched again";
    /// Nobody in the chain is revoked.
    SNP_REVOCATION = "snp_revocation", "a revocation list of the ARK is there, and no list has the certificates of this chain", SNP_CRL,
        "give a current list with --crl, from https://kdsintf.amd.com/vcek/v1/PRODUCT/crl; a revoked key proves nothing";
    /// Age of the root's lists.
    SNP_CRL_AGE = "snp_crl_age", "a revocation list of the ARK no older than the policy allows", SNP_CRL,
        "fetch the list again from https://kdsintf.amd.com/vcek/v1/PRODUCT/crl";
    /// AMD's extensions parse.
    SNP_KEY_EXTENSIONS = "snp_key_extensions", "the extensions that a VCEK or VLEK certificate of this product has", SNP_KDS,
        "fetch the certificate again from AMD's key distribution service or from the cloud provider";
    /// Report and certificate name the same kind of key.
    SNP_KEY_KIND = "snp_key_kind", "the report is signed, by a key of the kind that the certificate is for", SNP_FIRMWARE,
        "give the VCEK certificate for a report that a VCEK signs and the VLEK certificate for one that a VLEK signs; have the host turn MASK_CHIP_KEY off";
    /// One product throughout.
    SNP_PRODUCT_BINDING = "snp_product_binding", "report, certificates and lists name the same product", SNP_FIRMWARE,
        "give the certificates of the product that the report's CPUID fields name";
    /// Report signature.
    SNP_REPORT_SIGNATURE = "snp_report_signature", "the report is signed by the VCEK or VLEK", SNP_SIGNATURE,
        "give the certificate of this chip at this report's REPORTED_TCB: another TCB version has another key; else the report was altered";
    /// Windows.
    SNP_VALIDITY = "snp_validity", "the time lies in the validity window of every certificate and list", "RFC 5280 sections 4.1.2.5 and 5.1.2",
        "fetch what has expired again, or give the time at which the evidence was made with --at";
    /// Levels of report and certificate agree.
    SNP_TCB_BINDING = "snp_tcb_binding", "REPORTED_TCB is the TCB version that the certificate was issued for", SNP_KDS,
        "fetch the certificate for the levels of the report's REPORTED_TCB";
    /// The chip of report and certificate is one.
    SNP_HARDWARE_ID = "snp_hardware_id", "CHIP_ID is the hardware id of the VCEK certificate, or masked", SNP_KDS,
        "give the certificate of the chip that made the report";
    /// Versions are possible.
    SNP_TCB_ORDER = "snp_tcb_order", "REPORTED_TCB and COMMITTED_TCB are no higher than CURRENT_TCB in any component, and the committed version no higher than the current one", SNP_FIRMWARE,
        "do not use this platform: its firmware reports versions that cannot be";
    /// Reserved fields.
    SNP_RESERVED = "snp_reserved", "every reserved field is zero, bit 17 of POLICY one, AUTHOR_KEY_DIGEST zero unless AUTHOR_KEY_EN is set", SNP_FIRMWARE,
        "use a later version of this program: the report has fields that this one does not know";
    /// The report's version.
    SNP_REPORT_VERSION = "snp_report_version", "the report's version", SNP_FIRMWARE,
        "update the host's SNP firmware, or accept this version in the policy";
    /// The processor's product.
    SNP_PRODUCT = "snp_product", "the processor's product", SNP_FIRMWARE,
        "use a machine of a product that the policy accepts, or add this one to the policy";
    /// The kind of key that signs the report.
    SNP_SIGNING_KEY = "snp_signing_key", "the kind of key that signs the report", SNP_FIRMWARE,
        "have the host sign with the key that the policy accepts, or accept this one";
    /// The cloud provider that the VLEK was issued to.
    SNP_CSP_ID = "snp_csp_id", "the cloud provider that the VLEK was issued to", SNP_FIRMWARE,
        "use a machine of a provider that the policy accepts, or add this one after asking who it is";
    /// The DEBUG bit of POLICY.
    SNP_DEBUG = "snp_debug", "the DEBUG bit of POLICY", SNP_FIRMWARE,
        "use a guest that was launched without the debug bit: the host can read this one's memory";
    /// The MIGRATE_MA bit of POLICY.
    SNP_MIGRATION_AGENT = "snp_migration_agent", "the MIGRATE_MA bit of POLICY", SNP_FIRMWARE,
        "launch the guest without the migration bit: an agent could export it";
    /// The SMT bit of POLICY.
    SNP_SMT = "snp_smt", "the SMT bit of POLICY", SNP_FIRMWARE,
        "launch the guest with the SMT bit that the policy accepts";
    /// The SINGLE_SOCKET bit of POLICY.
    SNP_SINGLE_SOCKET = "snp_single_socket", "the SINGLE_SOCKET bit of POLICY", SNP_FIRMWARE,
        "launch the guest with the SINGLE_SOCKET bit that the policy accepts";
    /// The CXL_ALLOW bit of POLICY.
    SNP_CXL = "snp_cxl", "the CXL_ALLOW bit of POLICY", SNP_FIRMWARE,
        "launch the guest with the CXL_ALLOW bit that the policy accepts";
    /// The MEM_AES_256_XTS bit of POLICY.
    SNP_AES_256_XTS = "snp_aes_256_xts", "the MEM_AES_256_XTS bit of POLICY", SNP_FIRMWARE,
        "launch the guest with the MEM_AES_256_XTS bit that the policy accepts";
    /// The RAPL_DIS bit of POLICY.
    SNP_RAPL_DISABLED = "snp_rapl_disabled", "the RAPL_DIS bit of POLICY", SNP_FIRMWARE,
        "launch the guest with the RAPL_DIS bit that the policy accepts";
    /// The CIPHERTEXT_HIDING_DRAM bit of POLICY.
    SNP_CIPHERTEXT_HIDING = "snp_ciphertext_hiding", "the CIPHERTEXT_HIDING_DRAM bit of POLICY", SNP_FIRMWARE,
        "launch the guest with the CIPHERTEXT_HIDING_DRAM bit that the policy accepts";
    /// The PAGE_SWAP_DISABLE bit of POLICY.
    SNP_PAGE_SWAP_DISABLED = "snp_page_swap_disabled", "the PAGE_SWAP_DISABLE bit of POLICY", SNP_FIRMWARE,
        "launch the guest with the PAGE_SWAP_DISABLE bit that the policy accepts";
    /// The ABI version that POLICY asks of the firmware.
    SNP_ABI = "snp_abi", "the ABI version that POLICY asks of the firmware", SNP_FIRMWARE,
        "launch the guest with a policy that asks for at least this ABI version";
    /// GUEST_SVN.
    SNP_GUEST_SVN = "snp_guest_svn", "GUEST_SVN", SNP_FIRMWARE,
        "launch a newer version of the guest: its id block carries the number";
    /// VMPL of the requester.
    SNP_VMPL = "snp_vmpl", "VMPL of the requester", SNP_FIRMWARE,
        "have the report made at a privilege level that the policy accepts";
    /// The SMT_EN bit of PLATFORM_INFO.
    SNP_PLATFORM_SMT = "snp_platform_smt", "the SMT_EN bit of PLATFORM_INFO", SNP_FIRMWARE,
        "have the host set SMT in its BIOS as the policy accepts it";
    /// The TSME_EN bit of PLATFORM_INFO.
    SNP_PLATFORM_TSME = "snp_platform_tsme", "the TSME_EN bit of PLATFORM_INFO", SNP_FIRMWARE,
        "have the host set TSME in its BIOS as the policy accepts it";
    /// The ECC_EN bit of PLATFORM_INFO.
    SNP_PLATFORM_ECC = "snp_platform_ecc", "the ECC_EN bit of PLATFORM_INFO", SNP_FIRMWARE,
        "use a machine with memory that corrects errors, or accept this one in the policy";
    /// The RAPL_DIS bit of PLATFORM_INFO.
    SNP_PLATFORM_RAPL_DISABLED = "snp_platform_rapl_disabled", "the RAPL_DIS bit of PLATFORM_INFO", SNP_FIRMWARE,
        "have the host set RAPL as the policy accepts it";
    /// The CIPHERTEXT_HIDING_DRAM_EN bit of PLATFORM_INFO.
    SNP_PLATFORM_CIPHERTEXT_HIDING = "snp_platform_ciphertext_hiding", "the CIPHERTEXT_HIDING_DRAM_EN bit of PLATFORM_INFO", SNP_FIRMWARE,
        "have the host turn ciphertext hiding on, where the product offers it";
    /// The ALIAS_CHECK_COMPLETE bit of PLATFORM_INFO.
    SNP_PLATFORM_ALIAS_CHECK = "snp_platform_alias_check", "the ALIAS_CHECK_COMPLETE bit of PLATFORM_INFO", SNP_FIRMWARE,
        "update the host's firmware and reset it: memory was not checked for aliases (AMD-SB-3015)";
    /// Bit 6 of PLATFORM_INFO, safe writes of the IOMMU.
    SNP_PLATFORM_IOMMU_WRITE_SAFE = "snp_platform_iommu_write_safe", "bit 6 of PLATFORM_INFO, safe writes of the IOMMU", SNP_FIRMWARE,
        "update the host's firmware and operating system (AMD-SB-3016)";
    /// The TIO_EN bit of PLATFORM_INFO.
    SNP_PLATFORM_TIO = "snp_platform_tio", "the TIO_EN bit of PLATFORM_INFO", SNP_FIRMWARE,
        "have the host set trusted I/O as the policy accepts it";
    /// REPORTED_TCB at or above the policy's floor.
    SNP_REPORTED_TCB = "snp_reported_tcb", "REPORTED_TCB at or above the policy's floor", SNP_FIRMWARE,
        "have the host report a higher TCB version, after the firmware update that brings it";
    /// COMMITTED_TCB at or above the policy's floor.
    SNP_COMMITTED_TCB = "snp_committed_tcb", "COMMITTED_TCB at or above the policy's floor", SNP_FIRMWARE,
        "have the host update its firmware and commit it";
    /// CURRENT_TCB at or above the policy's floor.
    SNP_CURRENT_TCB = "snp_current_tcb", "CURRENT_TCB at or above the policy's floor", SNP_FIRMWARE,
        "have the host update BIOS, SNP firmware and microcode";
    /// LAUNCH_TCB at or above the policy's floor.
    SNP_LAUNCH_TCB = "snp_launch_tcb", "LAUNCH_TCB at or above the policy's floor", SNP_FIRMWARE,
        "launch the guest again on the updated platform";
    /// The version of the firmware that runs.
    SNP_CURRENT_FIRMWARE = "snp_current_firmware", "the version of the firmware that runs", SNP_FIRMWARE,
        "have the host update its SNP firmware";
    /// The version below which the firmware cannot be rolled back.
    SNP_COMMITTED_FIRMWARE = "snp_committed_firmware", "the version below which the firmware cannot be rolled back", SNP_FIRMWARE,
        "have the host update its SNP firmware and commit it";
    /// Whether the firmware that runs can be rolled back.
    SNP_PROVISIONAL_FIRMWARE = "snp_provisional_firmware", "whether the firmware that runs can be rolled back", SNP_FIRMWARE,
        "have the host commit its firmware (SNP_COMMIT), or accept provisional firmware in the policy";
    /// The mitigations that the policy requires in LAUNCH_MIT_VECTOR.
    SNP_LAUNCH_MITIGATIONS = "snp_launch_mitigations", "the mitigations that the policy requires in LAUNCH_MIT_VECTOR", SNP_FIRMWARE,
        "update the host's firmware, then launch the guest again";
    /// The mitigations that the policy requires in CURRENT_MIT_VECTOR.
    SNP_CURRENT_MITIGATIONS = "snp_current_mitigations", "the mitigations that the policy requires in CURRENT_MIT_VECTOR", SNP_FIRMWARE,
        "update the host's firmware and verify its mitigations";
    /// MEASUREMENT.
    SNP_MEASUREMENT = "snp_measurement", "MEASUREMENT", SNP_FIRMWARE,
        "run the image whose launch digest the policy names, or add this one's after checking how it was built";
    /// HOST_DATA.
    SNP_HOST_DATA = "snp_host_data", "HOST_DATA", SNP_FIRMWARE,
        "launch the guest with the host data that the policy names";
    /// FAMILY_ID.
    SNP_FAMILY_ID = "snp_family_id", "FAMILY_ID", SNP_FIRMWARE,
        "launch the guest with an id block that the policy names";
    /// IMAGE_ID.
    SNP_IMAGE_ID = "snp_image_id", "IMAGE_ID", SNP_FIRMWARE,
        "launch the guest with an id block that the policy names";
    /// AUTHOR_KEY_EN.
    SNP_AUTHOR_KEY = "snp_author_key", "AUTHOR_KEY_EN", SNP_FIRMWARE,
        "launch the guest with the keys that the policy names";
    /// ID_KEY_DIGEST.
    SNP_ID_KEY_DIGEST = "snp_id_key_digest", "ID_KEY_DIGEST", SNP_FIRMWARE,
        "launch the guest with an id block that a key of the policy signed";
    /// AUTHOR_KEY_DIGEST.
    SNP_AUTHOR_KEY_DIGEST = "snp_author_key_digest", "AUTHOR_KEY_DIGEST", SNP_FIRMWARE,
        "launch the guest with an id key that an author key of the policy certified";
    /// REPORT_ID.
    SNP_REPORT_ID = "snp_report_id", "REPORT_ID", SNP_FIRMWARE,
        "ask the guest that the policy names";
    /// REPORT_ID_MA.
    SNP_REPORT_ID_MA = "snp_report_id_ma", "REPORT_ID_MA", SNP_FIRMWARE,
        "launch the guest without a migration agent, or name the agent in the policy";
    /// Whether CHIP_ID is masked.
    SNP_MASKED_CHIP_ID = "snp_masked_chip_id", "whether CHIP_ID is masked", SNP_FIRMWARE,
        "have the host turn the masking of CHIP_ID off, or accept it in the policy";
    /// CHIP_ID.
    SNP_CHIP_ID = "snp_chip_id", "CHIP_ID", SNP_FIRMWARE,
        "use a machine that the policy names, or add this one to the policy";
    /// REPORT_DATA.
    SNP_REPORT_DATA = "snp_report_data", "REPORT_DATA", SNP_FIRMWARE,
        "ask for evidence with the report data that the policy names: this report was made for something else";
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
    /// Rules of the egress policy.
    EGRESS_ALLOWED = "egress_allowed", "egress is locked, and each rule that lets something out is one of those listed", CLAIMS,
        "use a guest that lets nothing else out, or list this rule in the policy after having asked what it is needed for";
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
    /// Broker.
    GUEST_BROKER = "guest_broker", "the key of the broker that the guest obeys", CLAIMS,
        "use a guest whose broker the policy lists: another one tells it the time and knows the keys of its volumes";
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
    DEVICE_MODE = "device_mode", "a known confidential-computing mode that the chip has, in signed fields that do not contradict each other", "NVIDIA opaque fields 21 and 36",
        "have the operator turn confidential computing on for this device, with firmware that reports it without contradiction";
    /// The mode that the policy accepts.
    DEVICE_CC_MODE = "device_cc_mode", "the GPU's confidential-computing mode", "NVIDIA opaque fields 21 and 36",
        "have the operator set a mode that the policy lists, or list this one";
    /// Driver floor.
    DEVICE_DRIVER_FLOOR = "device_driver_floor", "the GPU's driver is not older than the policy's floor", NVIDIA_REPORT,
        "have the operator update the driver";
    /// Driver lists.
    DEVICE_DRIVER = "device_driver", "the GPU's driver is one that the policy accepts", NVIDIA_REPORT,
        "have the operator install a driver that the policy accepts";
    /// VBIOS floor.
    DEVICE_VBIOS_FLOOR = "device_vbios_floor", "the device's VBIOS or firmware is not older than the policy's floor for its branch", NVIDIA_REPORT,
        "have the operator update the device's firmware";
    /// VBIOS lists.
    DEVICE_VBIOS = "device_vbios", "the device's VBIOS or firmware is one that the policy accepts", NVIDIA_REPORT,
        "have the operator install firmware that the policy accepts";
    /// Unknown records.
    DEVICE_UNKNOWN_RECORDS = "device_unknown_records", "no record in the report that this version does not know, but for those that the policy lists", NVIDIA_REPORT,
        "update confide, which may know the record by now, or list its id in the policy after having learnt what it means";
    /// Firmware id.
    DEVICE_FWID = "device_fwid", "the firmware id in the report is the one that the leaf certificate names", DICE,
        "do not trust this device: its certificate was issued for other firmware than it reports";
    /// Operational flags.
    DEVICE_TCB_FLAGS = "device_tcb_flags", "the certificate's TcbInfo says of no debug, recovery or other insecure mode", DICE,
        "do not trust this device: its firmware was not in a secure mode when its certificate was made";
    /// Manifests parse.
    RIM_FORMAT = "rim_format", "reference integrity manifests in NVIDIA's form", RIM,
        "fetch the manifests again: one of them is damaged, or of a form that this version does not read";
    /// OCSP answers parse.
    OCSP_FORMAT = "ocsp_format", "OCSP answers in DER", "RFC 6960 section 4.2.1",
        "fetch the revocation answers again: one of them is damaged";
    /// Revocation lists parse.
    DEVICE_CRL_FORMAT = "device_crl_format", "revocation lists in DER", "RFC 5280 section 5.1",
        "fetch the revocation lists again: one of them is damaged";
    /// Reference manifests.
    DEVICE_RIM = "device_rim", "a manifest of the product for the driver and one for the VBIOS, or one for a switch's firmware", RIM,
        "supply the manifests of these versions; if NVIDIA has signed none, have the operator install versions for which there are some";
    /// Manifest root.
    RIM_ROOT_ANCHOR = "rim_root_anchor", "a root certificate whose key is a pinned trust anchor", RIM,
        "supply genuine manifests: one under another root proves nothing, and a simulated one needs a danger policy";
    /// Manifest chain.
    RIM_CHAIN = "rim_chain", "each certificate is issued by the next, with ECDSA P-384 and SHA-384, and is used for what it may be used for", RIM,
        "do not use this manifest: its certificate chain is damaged or forged";
    /// Manifest signature.
    RIM_SIGNATURE = "rim_signature", "the leaf has signed the manifest's content", "XML Signature 1.1 section 3.2; RFC 6931 section 2.3.6",
        "do not use this manifest: it was changed after it was signed";
    /// Manifest product.
    RIM_PRODUCT = "rim_product", "the manifest's name, product and the authorities of its signer name one product", RIM,
        "do not use this manifest: its signer answers for another product";
    /// Manifest windows.
    RIM_VALIDITY = "rim_validity", "the time lies in the validity window of every certificate of the manifest", "RFC 5280 section 4.1.2.5",
        "fetch the newest issue of this manifest: NVIDIA signs the same id again before a signer's certificate ends";
    /// Manifest revocation.
    RIM_REVOCATION = "rim_revocation", "no certificate of the manifest's signers is revoked, by fresh answers or lists", REVOCATION,
        "supply fresh revocation answers for the manifest's signers; if one is revoked, do not use the manifest";
    /// Measurements.
    DEVICE_MEASUREMENTS = "device_measurements", "every active golden value of the manifests is the device's measurement", RIM,
        "supply the manifests of exactly this driver and VBIOS; if they do not help, do not trust the device";
    /// Device revocation.
    DEVICE_REVOCATION = "device_revocation", "no certificate between the device's leaf and the root is revoked, by fresh answers or lists", REVOCATION,
        "supply fresh revocation answers for the device's certificates; if one is revoked, do not trust the device";
    /// Certificates on hold.
    DEVICE_HOLD = "device_hold", "no certificate of the device or of its manifests' signers is on hold", "RFC 5280 section 5.3.1, certificateHold",
        "wait until NVIDIA lifts the hold or revokes the certificate; waive this only if its notice says that the hold does not matter to you";
    /// Files of devices.
    GPU_EVIDENCE_FILE = "gpu_evidence_file", "evidence files that hold one device or a list of them", "docs/protocol/README.md, devices",
        "collect the evidence again: the file is not a report with its chain, or a list of such";
    /// Distinct devices.
    DEVICE_DISTINCT = "device_distinct", "no device twice: distinct leaf keys, leaf serials and BROM serials", NODE,
        "do not trust this guest: it shows one device as several";
    /// Uniform devices.
    DEVICE_UNIFORM = "device_uniform", "one chip family, one mode and one driver for all GPUs", NODE,
        "have the operator use one chip family, one mode and one driver for all GPUs of a guest";
    /// Topology.
    DEVICE_TOPOLOGY = "device_topology", "in protected PCIe mode GPUs and locked switches name exactly each other by certified PDIs", NODE,
        "have the operator give the guest exactly the GPUs and switches that belong to each other, all locked";
    /// Registry.
    DEVICE_REGISTRY = "device_registry", "devices that the policy has registered for this CPU", "docs/policy.md, devices",
        "use a machine that the policy has registered, or register this one after having looked which devices are in it";
    /// Answers and key set of the attestation service parse.
    NRAS_FORMAT = "nras_format", "1 to 32 answers of NVIDIA's attestation service, signed with ES384, and a key set", BUNDLE,
        "pass the service's answers and its key set as they came: tokens of NVIDIA's local tools, which nobody has signed, are no opinion";
    /// The key of a token.
    NRAS_KEY = "nras_key", "each token names a key of the key set, on P-384, which is that of its certificate", SERVICE_KEY,
        "give the key set that the service published when it answered: keys are exchanged within days";
    /// Who has issued the key's certificate.
    NRAS_ANCHOR = "nras_anchor", "certificates issued by an authority whose key is a pinned trust anchor", SERVICE_KEY,
        "use NVIDIA's own service: an opinion under another authority proves nothing, and a simulated one needs a danger policy";
    /// The key's certificate.
    NRAS_CHAIN = "nras_chain", "each key's certificate may sign, and its issuer has signed it", SERVICE_KEY,
        "fetch the key set again: a certificate in it is damaged or forged";
    /// Signatures of tokens.
    NRAS_SIGNATURE = "nras_signature", "each token is signed by the key that it names", TOKEN,
        "do not use this opinion: a token was changed after it was signed, or another key signed it";
    /// Issuer of tokens.
    NRAS_ISSUER = "nras_issuer", "issuer https://nras.attestation.nvidia.com and subject NVIDIA-PLATFORM-ATTESTATION", BUNDLE,
        "ask NVIDIA's production service: its staging service vouches for nothing";
    /// Windows of tokens and of their keys.
    NRAS_VALIDITY = "nras_validity", "the time lies in the window of each token and, as the time at which it was issued, of its key's certificates", "RFC 7519 section 4.1; RFC 5280 section 4.1.2.5",
        "ask the service again: an answer holds for an hour; check that the time of the appraisal is right";
    /// Nonces of tokens.
    NRAS_NONCE = "nras_nonce", "each token has the nonce of its device, the overall token that of all its devices", BUNDLE,
        "do not use this opinion: it is about another challenge";
    /// Digests of tokens.
    NRAS_DIGEST = "nras_digest", "the overall token has the SHA-256 of each device's token", BUNDLE,
        "do not use this opinion: the tokens of its devices were exchanged";
    /// Devices of tokens.
    NRAS_DEVICES = "nras_devices", "each device has one token, which names its leaf certificate's serial number, and no token is about another", BUNDLE,
        "ask the service about exactly these devices, all of them";
    /// The opinion of the attestation service.
    NRAS = "nras", "the opinion of NVIDIA's attestation service on each device, the same as here", POLICY,
        "give the service's answers and key set with --nras and --jwks, or waive devices.nras in the policy";
    /// An opinion that differs.
    NRAS_DISAGREES = "nras_disagrees", "NVIDIA's attestation service finds the same: whether signatures and measurements hold, and whether the devices are accepted", POLICY,
        "rely on neither verdict before the difference is explained: the service may hold other manifests or newer revocations";
    /// Witness.
    WITNESS = "witness", "a policy under which a witness may be minted: report data, RTMR3, MRTD, RTMR0 to RTMR2 and events appraised, DEBUG and MIGRATABLE off", "docs/threat-model.md",
        "give the waived fields reference values: only a danger policy opens a channel without them";
}
