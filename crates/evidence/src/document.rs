//! The evidence document: what a guest answers to a nonce, canonical CBOR of at most 4 MiB.
//!
//! Every struct declares its fields in canonical order (shorter key first, then bytewise), because the encoder writes
//! them as declared; [`crate::cbor`] refuses any other order.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::boot_log::BootLog;
use crate::bytes::{ByteString, Bytes, Digest};
use crate::cbor::{self, CborError};
use crate::event::{EventLog, EventLogError, RuntimeEvent};
use crate::hash::sha256;
use crate::tdx::{Padding, Quote};
use crate::transcript::{BatchPath, MAX_BATCH_PATH, Role};

/// Media type of the evidence document.
pub const MEDIA_TYPE: &str = "application/vnd.confide.evidence+cbor";
/// Path of the attestation request.
pub const ATTESTATION_PATH: &str = "/.well-known/confide/attestation";
/// Media type of the attestation request.
pub const REQUEST_MEDIA_TYPE: &str = "application/cbor";
/// The version that this crate reads and writes.
pub const VERSION: u64 = 1;

/// The largest evidence document, in bytes.
/// docs/protocol: eight GPUs, four switches, boot log and stapled endorsements take under 1 MiB.
pub const MAX_DOCUMENT: usize = 4 * 1024 * 1024;
/// The largest attestation request, in bytes. The canonical request has 41.
pub const MAX_REQUEST: usize = 64;
/// The most GPUs and switches in the device list: an HGX board has 12, and each costs six verifications on P-384.
pub const MAX_DEVICES: usize = 32;
/// The most volumes in the claims. A guest mounts weights, code and state: fewer than ten.
pub const MAX_VOLUMES: usize = 64;
/// The most entries of any other list in claims and endorsements.
/// Flags and environment of an engine are the longest of them, with a few dozen.
pub const MAX_LIST: usize = 256;

/// The most reference integrity manifests among NVIDIA's endorsements. Eight GPUs and four switches are held against three to
/// six: of the driver, of each version of VBIOS and of the switches' firmware, and five issues of each still fit. One costs
/// up to five verifications on P-384.
pub const MAX_RIMS: usize = 32;
/// The most OCSP answers among NVIDIA's endorsements. Eight GPUs and four switches need about 40: one for each BROM
/// certificate, the others for the authorities above them and for signers of manifests, which they share; [`MAX_DEVICES`]
/// need about 60, and two issues of each still fit. One costs up to two verifications on P-384.
pub const MAX_OCSP_ANSWERS: usize = 128;
/// The most certificate revocation lists among NVIDIA's endorsements. NVIDIA publishes four, one for each authority that
/// devices share; several issues of each still fit. One costs a verification on P-384.
pub const MAX_DEVICE_CRLS: usize = 32;

/// The body of an attestation request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestationRequest {
    /// Drawn by the client from its random source, used once.
    pub nonce: Bytes<32>,
}

impl AttestationRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// Anything but the canonical encoding of `{"nonce": 32 bytes}`.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_canonical_within(bytes, MAX_REQUEST)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode_own(self)
    }
}

/// What a guest presents to be appraised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceDocument {
    /// Evidence of the CPU.
    pub cpu: CpuEvidence,
    /// Where this connection stands in the batch tree; there exactly when the quote has role `batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchPath>,
    /// What the guest says of itself.
    pub claims: Claims,
    /// What the guest extended into RTMR3.
    pub events: EventLog,
    /// Random bytes drawn once at boot.
    pub boot_id: Bytes<16>,
    /// GPUs and switches, in the order of their nonces; at most [`MAX_DEVICES`].
    pub devices: Vec<DeviceEvidence>,
    /// The guest's public keys.
    pub key_set: KeySet,
    /// [`VERSION`].
    pub version: u64,
    /// The firmware's event log (CCEL), as ACPI gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_log: Option<ByteString>,
    /// Selects the parser of `cpu`, and nothing else.
    pub platform: Platform,
    /// Stapled endorsements: as untrusted as any other input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsements: Option<Endorsements>,
}

/// A confidential-computing platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Platform {
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    SevSnp,
}

/// Evidence of the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CpuWire", into = "CpuWire")]
#[non_exhaustive]
pub enum CpuEvidence {
    /// An Intel TDX quote.
    Tdx {
        /// The quote, with its certification data and without padding.
        quote: ByteString,
    },
    /// An AMD SEV-SNP attestation report.
    SevSnp {
        /// The report.
        report: ByteString,
        /// DER certificates from the leaf upwards.
        certificates: Vec<ByteString>,
    },
}

impl CpuEvidence {
    fn platform(&self) -> Platform {
        match self {
            Self::Tdx { .. } => Platform::Tdx,
            Self::SevSnp { .. } => Platform::SevSnp,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CpuWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quote: Option<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<ByteString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificates: Option<Vec<ByteString>>,
}

impl From<CpuEvidence> for CpuWire {
    fn from(cpu: CpuEvidence) -> Self {
        match cpu {
            CpuEvidence::Tdx { quote } => Self { quote: Some(quote), report: None, certificates: None },
            CpuEvidence::SevSnp { report, certificates } => {
                Self { quote: None, report: Some(report), certificates: Some(certificates) }
            }
        }
    }
}

impl TryFrom<CpuWire> for CpuEvidence {
    type Error = &'static str;

    fn try_from(wire: CpuWire) -> Result<Self, Self::Error> {
        match wire {
            CpuWire { quote: Some(quote), report: None, certificates: None } => Ok(Self::Tdx { quote }),
            CpuWire { quote: None, report: Some(report), certificates: Some(certificates) } => {
                Ok(Self::SevSnp { report, certificates })
            }
            _ => Err("cpu is neither {quote} nor {report, certificates}"),
        }
    }
}

/// Evidence of one GPU or switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEvidence {
    /// What the device is.
    pub kind: DeviceKind,
    /// Certificate chain, PEM as NVML gives it, leaf first.
    pub chain: ByteString,
    /// SPDM attestation report, as NVML gives it.
    pub report: ByteString,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeviceKind {
    /// An NVIDIA GPU.
    NvidiaGpu,
    /// An NVIDIA NVSwitch.
    NvidiaSwitch,
}

impl DeviceKind {
    /// As evidence documents write it: `nvidia-gpu` or `nvidia-switch`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NvidiaGpu => "nvidia-gpu",
            Self::NvidiaSwitch => "nvidia-switch",
        }
    }
}

/// Field 7 of the transcript: SHA-256 of the canonical list of all device evidence.
pub fn devices_digest(devices: &[DeviceEvidence]) -> Digest {
    sha256(&encode_own(devices))
}

/// The guest's public keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KeySetWire", into = "KeySetWire")]
pub enum KeySet {
    /// The keys of a serving guest, roles `serve` and `batch`.
    Serving(ServingKeys),
    /// The recipient key alone, role `key-release`.
    Recipient(KemKey),
}

/// The keys of a serving guest: drawn in memory after `open`, never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingKeys {
    /// Encrypts messages to the guest.
    pub kem: KemKey,
    /// Verifies receipts.
    pub receipt: ReceiptKey,
    /// When the keys stop being valid, Unix seconds.
    pub not_after: u64,
}

impl KeySet {
    /// Field 6 of the transcript: SHA-256 of the canonical encoding.
    pub fn digest(&self) -> Digest {
        sha256(&encode_own(self))
    }

    /// The keys of a serving guest.
    pub fn serving(&self) -> Option<&ServingKeys> {
        match self {
            Self::Serving(keys) => Some(keys),
            Self::Recipient(_) => None,
        }
    }
}

/// A key-encapsulation key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KemKey {
    /// The algorithm.
    pub alg: KemAlgorithm,
    /// ML-KEM-768 encapsulation key (1184 bytes, FIPS 203) ‖ X25519 public key (32 bytes, RFC 7748).
    pub public: Bytes<1216>,
}

/// Algorithms of [`KemKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KemAlgorithm {
    /// X-Wing (draft-connolly-cfrg-xwing-kem).
    #[serde(rename = "X-Wing")]
    XWing,
}

/// A key that verifies receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptKey {
    /// The algorithm.
    pub alg: ReceiptAlgorithm,
    /// The public key, RFC 8032 section 5.1.5.
    pub public: Bytes<32>,
}

/// Algorithms of [`ReceiptKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReceiptAlgorithm {
    /// Ed25519, RFC 8032.
    Ed25519,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySetWire {
    kem: KemKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<u64>,
}

impl From<KeySet> for KeySetWire {
    fn from(keys: KeySet) -> Self {
        match keys {
            KeySet::Serving(ServingKeys { kem, receipt, not_after }) => {
                Self { kem, receipt: Some(receipt), not_after: Some(not_after) }
            }
            KeySet::Recipient(kem) => Self { kem, receipt: None, not_after: None },
        }
    }
}

impl TryFrom<KeySetWire> for KeySet {
    type Error = &'static str;

    fn try_from(wire: KeySetWire) -> Result<Self, Self::Error> {
        match (wire.kem, wire.receipt, wire.not_after) {
            (kem, Some(receipt), Some(not_after)) => {
                Ok(Self::Serving(ServingKeys { kem, receipt, not_after }))
            }
            (kem, None, None) => Ok(Self::Recipient(kem)),
            _ => Err("key set is neither {kem, receipt, not_after} nor {kem}"),
        }
    }
}

/// What the guest says of itself. All but `changing` is fixed before `open` and measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// GPU facts that the measured guest read itself.
    pub gpus: Gpus,
    /// What the guest was built from.
    pub build: Build,
    /// The model.
    pub model: Model,
    /// What may leave the guest.
    pub egress: Egress,
    /// The inference engine.
    pub engine: Engine,
    /// Encrypted volumes; at most [`MAX_VOLUMES`].
    pub volumes: Vec<Volume>,
    /// Values that no register holds.
    pub changing: Changing,
    /// SHA-256 of every deciding setting.
    pub configuration: Digest,
}

impl Claims {
    /// Field 8 of the transcript: SHA-256 of the canonical encoding.
    pub fn digest(&self) -> Digest {
        sha256(&encode_own(self))
    }
}

/// GPU facts that the measured guest read itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpus {
    /// GPUs in use.
    pub count: u64,
    /// Whether the guest set the ready state.
    pub ready: bool,
    /// Whether the device tools mode is on.
    pub dev_tools: bool,
    /// The confidential-computing environment, as NVML names it; empty without GPUs.
    pub environment: String,
}

/// What the guest was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// SHA-256 of the disk image; `None` when the guest runs from none.
    pub image: Option<Digest>,
    /// Version of the guest program.
    pub version: String,
    /// Source revision.
    pub revision: String,
}

/// The model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name that requests use.
    pub name: String,
    /// [`crate::manifest::ModelManifest::digest`] of the files that were loaded.
    pub manifest: Digest,
}

/// What may leave the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Whether an allowlist is in force.
    pub mode: EgressMode,
    /// SHA-256 of the egress policy.
    pub policy: Option<Digest>,
    /// Every rule of the policy's serving phase, in its order; at most [`MAX_LIST`]. An open guest has none, and lets out everything.
    pub allowed: Vec<String>,
    /// SHA-256 of the ruleset.
    pub ruleset: Option<Digest>,
    /// Those of `allowed` that let the host see or answer; at most [`MAX_LIST`].
    pub host_visible: Vec<String>,
}

impl Egress {
    /// Of a guest without an allowlist in force.
    #[must_use]
    pub fn open() -> Self {
        Self { mode: EgressMode::Open, policy: None, allowed: vec![], ruleset: None, host_visible: vec![] }
    }
}

/// Whether an allowlist is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressMode {
    /// Only what the policy allows leaves the guest.
    Locked,
    /// Anything may leave the guest.
    Open,
}

/// The inference engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Its kind, for example `builtin`.
    pub kind: String,
    /// Its arguments, in order; at most [`MAX_LIST`].
    pub flags: Vec<String>,
    /// Its environment; at most [`MAX_LIST`].
    pub environment: Vec<(String, String)>,
}

/// An encrypted volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The volume's name.
    pub name: String,
    /// SHA-256 of all header and keyslot bytes that the guest used.
    pub header: Digest,
    /// The integrity mode.
    pub integrity: String,
    /// Counts rotations.
    pub generation: u64,
    /// Verity root of a volume that holds code or weights.
    pub verity_root: Option<Digest>,
}

/// Values that no register holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changing {
    /// What was refused on its way out: system calls of the engine, and packets that the egress ruleset dropped.
    pub drops: u64,
    /// When egress was locked, Unix seconds of the guest's clock. Where the log has the event `released`, that is the broker's signed
    /// time, counted on by the guest; else it is the host's.
    pub locked_at: Option<u64>,
    /// When the document was made, Unix seconds of the same clock.
    pub guest_time: u64,
}

/// Endorsements that a guest staples to its evidence, or that a record keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endorsements {
    /// AMD's certificates and revocation lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp: Option<SnpEndorsements>,
    /// Intel's collateral.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tdx: Option<TdxCollateral>,
    /// NVIDIA's endorsements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia: Option<NvidiaEndorsements>,
}

/// Intel's collateral for one platform: the fields of `QuoteCollateralV3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxCollateral {
    /// What the next TCB recovery brings, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early: Option<EarlyTcb>,
    /// PCK CRL, DER.
    pub pck_crl: ByteString,
    /// TCB info, the exact JSON that Intel signed.
    pub tcb_info: String,
    /// QE identity, the exact JSON that Intel signed.
    pub qe_identity: String,
    /// CRL of the root CA, DER.
    pub root_ca_crl: ByteString,
    /// ECDSA P-256 signature over `tcb_info`, r ‖ s.
    pub tcb_info_signature: Bytes<64>,
    /// PEM chain that signed `pck_crl`.
    pub pck_crl_issuer_chain: String,
    /// PEM chain of the PCK certificate, where the quote has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pck_certificate_chain: Option<String>,
    /// ECDSA P-256 signature over `qe_identity`, r ‖ s.
    pub qe_identity_signature: Bytes<64>,
    /// PEM chain that signed `tcb_info`.
    pub tcb_info_issuer_chain: String,
    /// PEM chain that signed `qe_identity`.
    pub qe_identity_issuer_chain: String,
}

/// TCB info and QE identity of the next TCB recovery (PCS API v4, `update=early`), signed by the certificates that sign the
/// standard ones beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyTcb {
    /// TCB info, the exact JSON that Intel signed.
    pub tcb_info: String,
    /// QE identity, the exact JSON that Intel signed.
    pub qe_identity: String,
    /// ECDSA P-256 signature over `tcb_info`, r ‖ s.
    pub tcb_info_signature: Bytes<64>,
    /// ECDSA P-256 signature over `qe_identity`, r ‖ s.
    pub qe_identity_signature: Bytes<64>,
}

impl TdxCollateral {
    /// What collateral that was fetched with `update=early` adds to the standard one.
    #[must_use]
    pub fn into_early(self) -> EarlyTcb {
        EarlyTcb {
            tcb_info: self.tcb_info,
            qe_identity: self.qe_identity,
            tcb_info_signature: self.tcb_info_signature,
            qe_identity_signature: self.qe_identity_signature,
        }
    }
}

/// AMD's endorsements of a report's signing key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpEndorsements {
    /// Certificate revocation lists, DER; at most [`MAX_LIST`].
    pub crls: Vec<ByteString>,
    /// Certificates of the signing key, of its issuer, and of the root where it is not left away, DER, in any order; at
    /// most [`MAX_LIST`].
    pub certificates: Vec<ByteString>,
}

/// NVIDIA's endorsements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvidiaEndorsements {
    /// Certificate revocation lists, DER; at most [`MAX_DEVICE_CRLS`].
    pub crls: Vec<ByteString>,
    /// OCSP responses, DER; at most [`MAX_OCSP_ANSWERS`].
    pub ocsp: Vec<ByteString>,
    /// Reference integrity manifests (CoRIM or SWID XML), as served; at most [`MAX_RIMS`].
    pub rims: Vec<ByteString>,
}

impl EvidenceDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// When it is too large, not canonical, of another shape or version, over a count limit, when its events break
    /// their grammar, or when `platform` and `cpu` differ.
    pub fn decode(bytes: &[u8]) -> Result<Self, DocumentError> {
        let document: Self = cbor::from_canonical_within(bytes, MAX_DOCUMENT)?;
        document.check()?;
        Ok(document)
    }

    /// The canonical encoding.
    ///
    /// # Errors
    /// When the document breaks a limit that [`EvidenceDocument::decode`] enforces.
    pub fn encode(&self) -> Result<Vec<u8>, DocumentError> {
        self.check()?;
        let bytes = cbor::to_canonical(self)?;
        if bytes.len() > MAX_DOCUMENT {
            return Err(CborError::TooLarge { limit: MAX_DOCUMENT, actual: bytes.len() }.into());
        }
        Ok(bytes)
    }

    /// Whether the event log is complete for `role`, as the claimed egress mode has it.
    ///
    /// # Errors
    /// The event that is missing, or must not be there.
    pub fn check_events(&self, role: Role) -> Result<(), EventLogError> {
        self.events.check_complete(role, self.claims.egress.mode)
    }

    /// The document as JSON for people: byte strings as hexadecimal; event payloads, boot event log and quote decoded.
    pub fn to_json(&self) -> Value {
        let mut json = serde_json::to_value(self).expect("every field has a JSON form with text keys");
        if let Some(events) = json.get_mut("events") {
            *events = self.events.events().iter().map(event_json).collect();
        }
        if let (Some(shown), Some(log)) = (json.get_mut("boot_log"), &self.boot_log) {
            *shown = match BootLog::parse(log.as_bytes()) {
                Ok(log) => log.to_json(),
                Err(error) => json!({ "error": error.to_string(), "bytes": log }),
            };
        }
        if let (Some(cpu), CpuEvidence::Tdx { quote }) = (json.get_mut("cpu"), &self.cpu) {
            let decoded = match Quote::parse(quote.as_bytes(), Padding::Refused) {
                Ok(quote) => quote.to_json(),
                Err(error) => json!({ "error": error.to_string() }),
            };
            *cpu = json!({ "quote": quote, "decoded": decoded });
        }
        json
    }

    fn check(&self) -> Result<(), DocumentError> {
        if self.version != VERSION {
            return Err(DocumentError::Version(self.version));
        }
        if self.cpu.platform() != self.platform {
            return Err(DocumentError::PlatformMismatch);
        }
        self.counts().into_iter().try_for_each(|(field, count, limit)| {
            if count > limit { Err(DocumentError::TooMany { field, count, limit }) } else { Ok(()) }
        })
    }

    fn counts(&self) -> Vec<(&'static str, usize, usize)> {
        let claims = &self.claims;
        let mut counts = vec![
            ("devices", self.devices.len(), MAX_DEVICES),
            ("claims.volumes", claims.volumes.len(), MAX_VOLUMES),
            ("claims.egress.allowed", claims.egress.allowed.len(), MAX_LIST),
            ("claims.egress.host_visible", claims.egress.host_visible.len(), MAX_LIST),
            ("claims.engine.flags", claims.engine.flags.len(), MAX_LIST),
            ("claims.engine.environment", claims.engine.environment.len(), MAX_LIST),
            ("batch.path", self.batch.as_ref().map_or(0, |batch| batch.path.len()), MAX_BATCH_PATH),
        ];
        if let CpuEvidence::SevSnp { certificates, .. } = &self.cpu {
            counts.push(("cpu.certificates", certificates.len(), MAX_LIST));
        }
        if let Some(snp) = self.endorsements.as_ref().and_then(|endorsements| endorsements.snp.as_ref()) {
            counts.push(("endorsements.snp.crls", snp.crls.len(), MAX_LIST));
            counts.push(("endorsements.snp.certificates", snp.certificates.len(), MAX_LIST));
        }
        if let Some(nvidia) = self.endorsements.as_ref().and_then(|endorsements| endorsements.nvidia.as_ref())
        {
            counts.push(("endorsements.nvidia.crls", nvidia.crls.len(), MAX_DEVICE_CRLS));
            counts.push(("endorsements.nvidia.ocsp", nvidia.ocsp.len(), MAX_OCSP_ANSWERS));
            counts.push(("endorsements.nvidia.rims", nvidia.rims.len(), MAX_RIMS));
        }
        counts
    }
}

fn event_json(event: &RuntimeEvent) -> Value {
    let payload = match event {
        RuntimeEvent::Boot(payload) => serde_json::to_value(payload),
        RuntimeEvent::Configuration(payload) => serde_json::to_value(payload),
        RuntimeEvent::Released(payload) => serde_json::to_value(payload),
        RuntimeEvent::EgressLocked(payload) => serde_json::to_value(payload),
        RuntimeEvent::Volumes(payload) => serde_json::to_value(payload),
        RuntimeEvent::Model(payload) => serde_json::to_value(payload),
        RuntimeEvent::Devices(payload) => serde_json::to_value(payload),
        RuntimeEvent::NoVolumes | RuntimeEvent::Open => Ok(Value::Object(Map::new())),
    }
    .expect("payloads are maps with text keys");
    json!({ "kind": event.kind().name(), "payload": payload, "digest": Bytes(event.digest()) })
}

/// Encodes a type of this crate whose fields are declared in canonical order.
pub(crate) fn encode_own<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    cbor::to_canonical(value).expect("types of this crate declare their fields in canonical order")
}

/// Why bytes are no evidence document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Not the canonical encoding of a document.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A version that this crate does not know.
    #[error("version {0} of the evidence document is not supported")]
    Version(u64),
    /// `platform` and the shape of `cpu` differ.
    #[error("the CPU evidence is of another platform than the document says")]
    PlatformMismatch,
    /// A list is longer than its limit.
    #[error("{field} has {count} entries, more than {limit}")]
    TooMany {
        /// The list.
        field: &'static str,
        /// How many entries it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
}
