//! Files that the user names: bounded reads, policies, collateral, algorithms.

use crate::references::{Given, ReferenceFlags};
use crate::status::{Failure, Status, shortened};
use confide_evidence::boot_log::MAX_BOOT_LOG;
use confide_evidence::bytes::ByteString;
use confide_evidence::document::TdxCollateral;
use confide_evidence::hex;
use confide_evidence::record::{RecordedReferences, Subject};
use confide_evidence::tdx::{CollateralError, MAX_QUOTE, collateral_from_json};
use confide_evidence::time::parse_rfc3339;
use confide_policy::egress::EgressPolicy;
use confide_policy::{AppraisalPolicy, CLIENT, INSPECT, Loaded, MAX_POLICY, PolicyError};
use confide_verifier::{Algorithms, PreparedReferences};
use rustls_pki_types::UnixTime;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The signature algorithms of native programs.
pub(crate) static ALGORITHMS: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
    ed25519: webpki::aws_lc_rs::ED25519,
    rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
};

/// Reads a file, or standard input for `-`, up to one byte more than `limit`: the parser then names the size.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let fault = |error: io::Error| {
        Failure::new(Status::Internal, "file_unreadable", format!("{}: {error}", path.display()))
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    if path == Path::new("-") {
        claim_stdin()?;
        io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(fault)?;
    } else {
        File::open(path).map_err(fault)?.take(most).read_to_end(&mut bytes).map_err(fault)?;
    }
    Ok(bytes)
}

/// Reads a file of entries; of a folder, says which of its files that may be.
pub(crate) fn read_entries(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    read(path, limit).map_err(|failure| {
        if !path.is_dir() {
            return failure;
        }
        let records = path.join(confide_record::APPRAISALS);
        failure.hint(format!(
            "give a file: `confide audit` reads a folder of records, and {} is the file of its appraisals",
            records.display()
        ))
    })
}

/// Takes standard input for one of the command's files. A second one would read nothing.
pub(crate) fn claim_stdin() -> Result<(), Failure> {
    static CLAIMED: AtomicBool = AtomicBool::new(false);
    if CLAIMED.swap(true, Ordering::Relaxed) {
        return Err(Failure::new(Status::Usage, "stdin_twice", "standard input can be given once"));
    }
    Ok(())
}

/// Reads a collateral file. The outer error is a fault of reading, the inner one a malformed file.
pub(crate) fn collateral(path: &Path) -> Result<Result<TdxCollateral, CollateralError>, Failure> {
    let bytes = read(path, confide_evidence::tdx::MAX_COLLATERAL)?;
    Ok(collateral_from_json(&bytes))
}

/// Reads a boot event log, where one is named.
pub(crate) fn event_log(path: Option<&Path>) -> Result<Option<Vec<u8>>, Failure> {
    path.map(|path| read(path, MAX_BOOT_LOG)).transpose()
}

/// A bare quote and its collateral.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct QuoteFiles {
    /// The quote, binary; zero padding behind it is accepted
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// DCAP collateral, QuoteCollateralV3 JSON
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,
    /// Collateral that was fetched with update=early: the verdict shows what the next TCB recovery brings
    #[arg(long, value_name = "FILE")]
    early_collateral: Option<PathBuf>,
    /// Boot event log of the TD, as /sys/firmware/acpi/tables/data/CCEL shows it: held against RTMR0 to RTMR2
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
}

impl QuoteFiles {
    /// The quote and its log, to be recorded.
    pub(crate) fn subject(&self) -> Result<Subject, Failure> {
        let quote = ByteString(read(&self.quote, MAX_QUOTE)?);
        Ok(match event_log(self.event_log.as_deref())? {
            Some(log) => Subject::QuoteWithLog { quote, boot_log: ByteString(log) },
            None => Subject::Quote(quote),
        })
    }

    /// The collateral, with its early set where there is one. As [`collateral`].
    pub(crate) fn collateral(&self) -> Result<Result<TdxCollateral, CollateralError>, Failure> {
        collateral_and_early(&self.collateral, self.early_collateral.as_deref())
    }
}

/// Reads collateral, and beside it that of the next TCB recovery where there is any. As [`collateral`].
pub(crate) fn collateral_and_early(
    path: &Path,
    early: Option<&Path>,
) -> Result<Result<TdxCollateral, CollateralError>, Failure> {
    let standard = collateral(path)?;
    let Some(early) = early.map(collateral).transpose()? else { return Ok(standard) };
    Ok(standard.and_then(|standard| Ok(TdxCollateral { early: Some(early?.into_early()), ..standard })))
}

/// The time of this machine's clock.
pub(crate) fn now() -> UnixTime {
    UnixTime::now()
}

/// Parses `--at`.
pub(crate) fn time(text: &str) -> Result<UnixTime, String> {
    parse_rfc3339(text)
        .ok_or_else(|| "expected an RFC 3339 time from 1970 on, such as 2026-06-08T11:32:35Z".to_owned())
}

/// Parses an address to listen on.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected IP:PORT, such as 127.0.0.1:8787 or [::1]:8787; names are not looked up".to_owned()
    })
}

/// Parses 32 bytes in hexadecimal digits.
pub(crate) fn bytes32(text: &str) -> Result<[u8; 32], String> {
    hex::decode_array(text).ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

/// Which policy to appraise by.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PolicyFlags {
    /// Appraisal policy (TOML); without one, verify and record of a quote, snp or gpu, and doctor, use the built-in
    /// policies/inspect.toml, and the commands about guests and their documents policies/client.toml, which refuses every guest
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Policy that accepts simulated evidence: a file danger-*.toml with a [danger] table
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    danger_policy: Option<PathBuf>,
    #[command(flatten)]
    references: ReferenceFlags,
}

/// A policy and the text that it was read from, which records keep.
#[derive(Debug, Clone)]
pub(crate) struct LoadedPolicy {
    /// The policy.
    pub(crate) policy: AppraisalPolicy,
    /// Its text.
    pub(crate) text: String,
    /// The signed file of reference values that it names, where one is given.
    pub(crate) references: Option<Given>,
}

impl LoadedPolicy {
    fn new(policy: AppraisalPolicy, text: String) -> Self {
        Self { policy, text, references: None }
    }

    /// The signed file of reference values, its signature verified.
    pub(crate) fn prepared(&self) -> Option<&PreparedReferences> {
        self.references.as_ref().map(|given| &given.prepared)
    }

    /// The signed file of reference values, as records keep it.
    pub(crate) fn recorded(&self) -> Option<RecordedReferences> {
        self.references.as_ref().map(|given| given.recorded.clone())
    }
}

/// Which built-in policy stands in where none is named.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Otherwise {
    /// `policies/inspect.toml`.
    Inspect,
    /// `policies/client.toml`, which refuses every guest until it is filled in.
    Client,
}

impl PolicyFlags {
    /// Reads the named policy, or the built-in one, and the signed file of reference values for an appraisal at `now`.
    pub(crate) fn load(&self, otherwise: Otherwise, now: UnixTime) -> Result<LoadedPolicy, Failure> {
        let loaded = self.load_policy(otherwise)?;
        let references = self.references.load(&loaded.policy, now)?;
        Ok(LoadedPolicy { references, ..loaded })
    }

    /// What errors call the named policy.
    pub(crate) fn name(&self) -> Option<String> {
        self.policy.as_ref().or(self.danger_policy.as_ref()).map(|path| path.display().to_string())
    }

    fn load_policy(&self, otherwise: Otherwise) -> Result<LoadedPolicy, Failure> {
        match (&self.policy, &self.danger_policy, otherwise) {
            (Some(path), _, _) => load(path, Loaded::Normally),
            (None, Some(path), _) => load_danger(path),
            (None, None, Otherwise::Inspect) => {
                Ok(LoadedPolicy::new(AppraisalPolicy::inspect(), INSPECT.to_owned()))
            }
            (None, None, Otherwise::Client) => {
                Ok(LoadedPolicy::new(AppraisalPolicy::client(), CLIENT.to_owned()))
            }
        }
    }
}

/// Reads a danger policy, whose file name must say what it is.
pub(crate) fn load_danger(path: &Path) -> Result<LoadedPolicy, Failure> {
    check_danger_name(path)?;
    load(path, Loaded::AsDanger)
}

/// The file name of a danger policy says what it is.
pub(crate) fn check_danger_name(path: &Path) -> Result<(), Failure> {
    let named = path.file_name().and_then(|name| name.to_str());
    if !named.is_some_and(|name| name.starts_with("danger-") && name.ends_with(".toml")) {
        let message = format!("{}: --danger-policy takes a file named danger-*.toml", path.display());
        return Err(Failure::new(Status::Usage, "danger_policy_name", message));
    }
    Ok(())
}

/// Reads the text of a policy file, which need not be one that this build takes.
pub(crate) fn policy_text(path: &Path) -> Result<String, Failure> {
    let bytes = read(path, MAX_POLICY)?;
    if bytes.len() > MAX_POLICY {
        let why = PolicyError::TooLarge(bytes.len()).to_string();
        return Err(malformed_policy(&path.display().to_string(), &why));
    }
    String::from_utf8(bytes).map_err(|_| malformed_policy(&path.display().to_string(), "not UTF-8 text"))
}

/// Reads a policy file.
pub(crate) fn load(path: &Path, loaded: Loaded) -> Result<LoadedPolicy, Failure> {
    parse(path, policy_text(path)?, loaded)
}

/// Reads the policy text of a file.
pub(crate) fn parse(path: &Path, text: String, loaded: Loaded) -> Result<LoadedPolicy, Failure> {
    let name = path.display().to_string();
    if EgressPolicy::is_meant_by(&text) {
        return Err(malformed_policy(&name, "expected an appraisal policy, found an egress policy").hint(
            "give an appraisal policy; egress policies are for `confide policy check` and `confide-guest egress`",
        ));
    }
    let policy = AppraisalPolicy::parse(&text, loaded).map_err(|error| refused_policy(&name, &error))?;
    Ok(LoadedPolicy::new(policy, text))
}

/// Reads the text of an egress policy.
pub(crate) fn parse_egress(path: &Path, text: &str) -> Result<EgressPolicy, Failure> {
    let name = path.display().to_string();
    EgressPolicy::parse(text).map_err(|error| match error {
        PolicyError::EgressServingWider(_) => {
            Failure::new(Status::Malformed, "egress_serving_wider", format!("{name}: {error}"))
        }
        other => malformed_policy(&name, &other.to_string()),
    })
}

/// Whether the policies of a conformance suite's cases may have a [danger] table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DangerPolicies {
    /// They may.
    Accepted,
    /// They may not.
    Refused,
}

/// Reads the policy of a case of a conformance suite.
pub(crate) fn parse_case_policy(
    text: &str,
    name: &str,
    danger: DangerPolicies,
) -> Result<AppraisalPolicy, Failure> {
    let parsed = match danger {
        DangerPolicies::Accepted => AppraisalPolicy::parse_recorded(text),
        DangerPolicies::Refused => AppraisalPolicy::parse(text, Loaded::Normally),
    };
    parsed.map_err(|error| match error {
        PolicyError::DangerNotAsked => {
            let message = format!("{name} has a [danger] table: --danger appraises such cases");
            Failure::new(Status::Usage, "danger_policy_flag", message)
        }
        other => refused_policy(name, &other),
    })
}

/// What is wrong with a policy.
pub(crate) fn refused_policy(name: &str, error: &PolicyError) -> Failure {
    let message = format!("{name}: {error}");
    match error {
        PolicyError::DangerNotAsked | PolicyError::NotDanger => {
            Failure::new(Status::Usage, "danger_policy_flag", message)
        }
        PolicyError::DangerNotBuilt => {
            Failure::new(Status::Unsupported, "danger_policy_unsupported", message)
        }
        _ => malformed_policy(name, &error.to_string()),
    }
}

/// The most bytes that are told of what is wrong with a policy. Half of a message: the other half is for where it lies.
const MAX_WHY: usize = 2048;

fn malformed_policy(name: &str, why: &str) -> Failure {
    let why = shortened(why.to_owned(), MAX_WHY);
    Failure::new(Status::Malformed, "policy_malformed", format!("{name}: {why}"))
}
