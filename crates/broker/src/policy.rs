//! Appraisal policies of volumes, and trying one out on recorded evidence.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use confide_client::ALGORITHMS;
use confide_evidence::document::Platform;
use confide_evidence::record::{Record, Subject};
use confide_evidence::transcript::Role;
use confide_policy::{AppraisalPolicy, Field, KEY_RELEASE, Loaded, MAX_POLICY, PolicyError, Says};
use confide_record::{APPRAISALS, MAX_FILE};
use confide_verifier::{AttestationResult, Inputs, NEVER_WAIVED, evaluate};
use rustls_pki_types::UnixTime;

use crate::error::BrokerError;

/// A policy with the text that it was read from: volumes and records keep the text.
#[derive(Clone, Debug)]
pub(crate) struct PolicyText {
    pub(crate) text: String,
    pub(crate) policy: AppraisalPolicy,
}

/// Which policy a command is given.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PolicyFlags {
    /// Appraisal policy (TOML); without one the built-in policies/key-release.toml, which refuses every guest until reference
    /// values are added
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Policy that accepts simulated evidence: a file danger-*.toml with a [danger] table
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    danger_policy: Option<PathBuf>,
}

impl PolicyFlags {
    /// Reads the named policy, or the built-in one.
    pub(crate) fn load(&self) -> Result<PolicyText, BrokerError> {
        match (&self.policy, &self.danger_policy) {
            (Some(path), _) => load(path, Loaded::Normally),
            (None, Some(path)) => load_danger(path),
            (None, None) => parse("policies/key-release.toml", KEY_RELEASE.to_owned(), Loaded::Normally),
        }
    }
}

impl PolicyText {
    /// The same, where it can be the policy of a volume.
    ///
    /// # Errors
    /// [`BrokerError::PolicyUse`] where it accepts whatever the host configures a guest with, other volumes and roles included:
    /// danger policies alone may.
    pub(crate) fn for_keys(self) -> Result<Self, BrokerError> {
        if self.policy.danger.is_none() && waived(&self.policy).contains(&CONFIGURATION) {
            let reason = "claims.configuration is waived: the host could configure a guest that gets the keys as it likes. Name \
                          the digests that confide-guest check prints";
            return Err(BrokerError::PolicyUse { name: self.policy.name, reason });
        }
        Ok(self)
    }

    /// The policy by name, with the number of its waivers.
    pub(crate) fn in_words(&self) -> String {
        format!("policy {:?} with {} waivers", self.policy.name, waived(&self.policy).len())
    }
}

/// Reads a policy, a danger policy by its name.
pub(crate) fn load_by_name(path: &Path) -> Result<PolicyText, BrokerError> {
    if is_danger(path) { load_danger(path) } else { load(path, Loaded::Normally) }
}

fn is_danger(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("danger-") && name.ends_with(".toml"))
}

fn load_danger(path: &Path) -> Result<PolicyText, BrokerError> {
    if !is_danger(path) {
        let message = format!("{}: --danger-policy takes a file named danger-*.toml", path.display());
        return Err(BrokerError::Danger(message));
    }
    load(path, Loaded::AsDanger)
}

fn load(path: &Path, loaded: Loaded) -> Result<PolicyText, BrokerError> {
    let most = u64::try_from(MAX_POLICY).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|source| BrokerError::Unreadable { path: path.to_owned(), source })?;
    let name = path.display().to_string();
    let text = String::from_utf8(bytes)
        .map_err(|_| BrokerError::PolicyUse { name: name.clone(), reason: "the policy is not UTF-8 text" })?;
    parse(&name, text, loaded)
}

/// Reads a policy that a broker can appraise by.
fn parse(name: &str, text: String, loaded: Loaded) -> Result<PolicyText, BrokerError> {
    let invalid = |source: PolicyError| BrokerError::Policy { name: name.to_owned(), source };
    let policy = AppraisalPolicy::parse(&text, loaded).map_err(invalid)?;
    if policy.signed_references.is_some() {
        let reason = "[signed_references] is for clients: write the reference sets of a volume's guests into its policy";
        return Err(BrokerError::PolicyUse { name: name.to_owned(), reason });
    }
    Ok(PolicyText { text, policy })
}

/// One record under a policy.
pub(crate) struct Tried {
    /// Its place in the file, from 0.
    pub(crate) index: usize,
    /// The verdict at the recorded time.
    pub(crate) result: AttestationResult,
}

/// Appraises every recorded evidence document again by `policy`, each at its time and for its challenge. `path` is a record
/// file, or a folder of records.
///
/// # Errors
/// [`BrokerError::Records`]: also where there is no document.
pub(crate) fn try_out(policy: &AppraisalPolicy, path: &Path) -> Result<Vec<Tried>, BrokerError> {
    let file = if path.is_dir() { path.join(APPRAISALS) } else { path.to_owned() };
    let unusable = |reason: String| BrokerError::Records { path: file.clone(), reason };
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    File::open(&file)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|source| BrokerError::Unreadable { path: file.clone(), source })?;
    let records = confide_record::read(&bytes).map_err(|error| unusable(error.to_string()))?;
    let tried: Vec<Tried> = records
        .iter()
        .enumerate()
        .filter(|(_, record)| matches!(record.subject, Subject::Document(_)))
        .map(|(index, record)| Tried { index, result: again(record, policy) })
        .collect();
    if tried.is_empty() {
        return Err(unusable("no record of an evidence document".to_owned()));
    }
    Ok(tried)
}

fn again(record: &Record, policy: &AppraisalPolicy) -> AttestationResult {
    let inputs = Inputs {
        subject: confide_record::borrowed(&record.subject),
        endorsements: &record.endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge: record.challenge.as_ref(),
        now: UnixTime::since_unix_epoch(Duration::from_secs(record.time)),
        algorithms: &ALGORITHMS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

/// The field that says which guests of an image get keys.
const CONFIGURATION: &str = "claims.configuration";

/// The fields that a policy waives for guests that can get keys: those of TDX.
pub(crate) fn waived(policy: &AppraisalPolicy) -> Vec<&'static str> {
    let mut waived = Vec::new();
    policy.each_waived(Platform::Tdx, |field| waived.push(field.path));
    waived
}

/// What a policy for key release should say, and does not: what the owner of a volume surely does not mean.
pub(crate) fn warnings(policy: &AppraisalPolicy) -> Vec<String> {
    let mut warnings = Vec::new();
    let refused = "so that every guest is refused";
    let of_reference = |field: &Field<'_>| field.says() == Says::Reference && !field.path.starts_with("snp.");
    if policy.reference.is_empty() && policy.fields().iter().any(of_reference) {
        warnings.push(format!("there is no reference set, {refused}"));
    }
    let waived = waived(policy);
    if policy.danger.is_none() {
        let open = waived.iter().filter(|field| NEVER_WAIVED.contains(field));
        warnings.extend(open.map(|field| format!("{field} is waived, {refused}")));
    }
    warnings.extend(policy.fields().iter().filter_map(at_release).map(str::to_owned));
    if waived.contains(&CONFIGURATION) {
        let role = Role::KeyRelease;
        warnings.push(format!(
            "{CONFIGURATION} is waived: a guest of any configuration gets keys by role {role}"
        ));
    }
    if policy.danger.is_some() {
        warnings
            .push("a danger policy: whoever has this program can make evidence that it accepts".to_owned());
    }
    warnings
}

/// What a field asks of a guest that no guest has when it asks for keys: the policy is then that of clients.
fn at_release(field: &Field<'_>) -> Option<&'static str> {
    let says = field.says();
    let named = matches!(says, Says::AnyOf(_) | Says::Reference);
    match field.path.as_ref() {
        "claims.egress_mode" if matches!(&says, Says::AnyOf(modes) if !modes.contains("open")) => Some(
            "claims.egress_mode refuses every guest: egress is \"open\" until the keys are released; waive it, as \
             policies/key-release.toml does",
        ),
        "claims.egress_policy" if named => Some(
            "claims.egress_policy refuses every guest: none claims one before the keys are released; waive it, as \
             policies/key-release.toml does",
        ),
        "claims.model" if named => Some(
            "claims.model refuses guests whose configuration does not name model.manifest: no model is open before the keys \
             are released",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The built-in policy with other lines for some fields.
    fn with(lines: &[(&str, &str)]) -> AppraisalPolicy {
        let line = |line: &str| match line.split_once(" = ") {
            Some((field, _)) => {
                lines.iter().find(|(name, _)| *name == field).map_or(line, |(_, new)| new).to_owned()
            }
            None => line.to_owned(),
        };
        let text: Vec<String> = KEY_RELEASE.lines().map(line).collect();
        AppraisalPolicy::parse(&text.join("\n"), Loaded::Normally).unwrap()
    }

    const CONFIGURATION_WAIVED: (&str, &str) = ("configuration", "configuration = { waive = \"any\" }");

    #[test]
    fn what_no_owner_means_is_warned_of() {
        assert_eq!(warnings(&with(&[])), ["there is no reference set, so that every guest is refused"]);
        let waived = |field: &'static str| (field, format!("{field} = {{ waive = \"any\" }}"));
        let open = ["mr_td", "rtmr0", "rtmr1", "rtmr2", "image", "configuration"].map(waived);
        let open: Vec<(&str, &str)> = open.iter().map(|(field, line)| (*field, line.as_str())).collect();
        let said = warnings(&with(&open));
        // What is left of reference values is for SEV-SNP, which gets no keys.
        assert!(!said.iter().any(|warning| warning.contains("reference set")), "{said:?}");
        assert!(said[0].starts_with("tdx.mr_td is waived, so that every guest is refused"), "{said:?}");
        assert!(said[4].starts_with("claims.configuration is waived"), "{said:?}");
        assert_eq!(said.len(), 5);
    }

    #[test]
    fn keys_are_not_released_to_any_configuration() {
        let text = |policy| PolicyText { text: String::new(), policy };
        text(with(&[])).for_keys().unwrap();
        let error = text(with(&[CONFIGURATION_WAIVED])).for_keys().unwrap_err();
        assert!(matches!(error, BrokerError::PolicyUse { .. }), "{error}");
        assert!(error.to_string().contains("claims.configuration"), "{error}");
    }
}
