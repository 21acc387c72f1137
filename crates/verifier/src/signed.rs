//! The signed file of reference values: whose it is, which version, and whether it is of its time.

use crate::check::{Check, Checks, Status, Stop};
use crate::references::Candidate;
use crate::rules;
use crate::signature::Algorithms;
use confide_evidence::bytes::Bytes;
use confide_evidence::record::{RecordedReferences, SeenReferences};
use confide_evidence::time::format_seconds;
use confide_policy::{
    AppraisalPolicy, MAX_REFERENCE_FILE, Name, ReferenceFile, ReferenceKey, SignedReferences,
};
use sha2::{Digest as _, Sha256};

/// The longest signature accepted, in bytes: ECDSA P-256 in DER has at most 72.
const MAX_SIGNATURE: usize = 128;

/// A signed file of reference values whose signature has been verified once, to be used for many appraisals.
///
/// It carries no verdict about time and version: they are held against the policy at each appraisal.
#[derive(Debug, Clone)]
pub struct PreparedReferences {
    checks: Vec<Check>,
    /// The keys that it was held against: under others it says nothing.
    keys: Vec<ReferenceKey>,
    last_seen: Option<SeenReferences>,
    contents: Option<Contents>,
}

#[derive(Debug, Clone)]
struct Contents {
    file: ReferenceFile,
    signer: ReferenceKey,
    digest: [u8; 32],
}

impl PreparedReferences {
    /// Verifies the signature under one of the policy's keys, and reads what it covers.
    ///
    /// Every appraisal whose policy has other keys refuses it.
    #[must_use]
    pub fn new(given: &RecordedReferences, policy: &AppraisalPolicy, algorithms: &Algorithms) -> Self {
        let keys = policy.signed_references.as_ref().map_or_else(Vec::new, |signed| signed.keys.clone());
        let mut checks = Checks::default();
        let contents = prepare(given, &keys, algorithms, &mut checks).ok();
        Self { checks: checks.into_list(), keys, last_seen: given.last_seen.clone(), contents }
    }

    /// Name, signer and version of a file that `policy` accepts at `now`, in seconds since the Unix epoch: what a program
    /// remembers, so that no earlier version is accepted after it.
    #[must_use]
    pub fn accepted(
        &self,
        policy: &AppraisalPolicy,
        now: i64,
    ) -> Option<(&Name, &ReferenceKey, SeenReferences)> {
        let signed = policy.signed_references.as_ref()?;
        let contents = self.contents.as_ref()?;
        self.appraise(signed, now, &mut Checks::default()).ok()?;
        let Contents { file, signer, digest } = contents;
        Some((&file.name, signer, SeenReferences { digest: Bytes(*digest), version: file.version }))
    }

    /// The check that fails of a file that `policy` does not accept at `now`, in seconds since the Unix epoch; nothing where it
    /// accepts it, or asks for none.
    #[must_use]
    pub fn refused(&self, policy: &AppraisalPolicy, now: i64) -> Option<Check> {
        let mut checks = Checks::default();
        self.appraise(policy.signed_references.as_ref()?, now, &mut checks).err()?;
        checks.into_list().into_iter().find(|check| check.status == Status::Fail)
    }

    /// Holds name, version and window against the policy.
    fn appraise(&self, signed: &SignedReferences, now: i64, checks: &mut Checks) -> Result<&Contents, Stop> {
        if self.keys != signed.keys {
            checks.fail(&rules::REFERENCE_SIGNATURE, "a file that was prepared under other keys");
            return Err(Stop);
        }
        checks.extend(&self.checks);
        let contents = self.contents.as_ref().ok_or(Stop)?;
        let file = &contents.file;
        if file.name != signed.name {
            checks.fail(&rules::REFERENCE_FILE, format!("{}, expected {}", file.name, signed.name));
            return Err(Stop);
        }
        checks.pass(&rules::REFERENCE_FILE, format!("{} of {} sets", file.name, file.reference.len()));
        let version = version(contents, signed, self.last_seen.as_ref());
        let version =
            checks.need(&rules::REFERENCE_VERSION, version, |()| format!("version {}", file.version));
        let window = checks.need(&rules::REFERENCE_WINDOW, window(file, now), String::clone);
        version.and(window.map(|_| contents))
    }
}

fn prepare(
    given: &RecordedReferences,
    keys: &[ReferenceKey],
    algorithms: &Algorithms,
    checks: &mut Checks,
) -> Result<Contents, Stop> {
    let (file, signature) = (given.file.as_bytes(), given.signature.as_bytes());
    let signer =
        checks.need(&rules::REFERENCE_SIGNATURE, signer(file, signature, keys, algorithms), |key| {
            format!("signed by the {} key {key}", key.algorithm())
        })?;
    match ReferenceFile::parse(file) {
        Ok(file) => Ok(Contents { file, signer, digest: Sha256::digest(given.file.as_bytes()).into() }),
        Err(error) => {
            checks.fail(&rules::REFERENCE_FILE, error.to_string());
            Err(Stop)
        }
    }
}

/// The key under which the signature over the file's exact bytes verifies.
fn signer(
    file: &[u8],
    signature: &[u8],
    keys: &[ReferenceKey],
    algorithms: &Algorithms,
) -> Result<ReferenceKey, String> {
    if file.len() > MAX_REFERENCE_FILE {
        return Err(format!("a file of {} bytes, at most {MAX_REFERENCE_FILE} are accepted", file.len()));
    }
    if signature.len() > MAX_SIGNATURE {
        return Err(format!(
            "a signature of {} bytes, at most {MAX_SIGNATURE} are accepted",
            signature.len()
        ));
    }
    let signs = |key: &&ReferenceKey| match key {
        ReferenceKey::Ed25519(key) => algorithms.ed25519.verify_signature(key, file, signature).is_ok(),
        ReferenceKey::EcdsaP256(point) => {
            algorithms.ecdsa_p256_sha256.verify_signature(point, file, signature).is_ok()
        }
    };
    keys.iter().find(signs).cloned().ok_or_else(|| "no key of the policy has signed these bytes".to_owned())
}

/// No version below the policy's minimum or below the one seen last, and no other contents under the number seen last.
fn version(
    contents: &Contents,
    signed: &SignedReferences,
    last_seen: Option<&SeenReferences>,
) -> Result<(), String> {
    let found = contents.file.version;
    if found < signed.minimum_version {
        return Err(format!("version {found}, the policy's lowest is {}", signed.minimum_version));
    }
    match last_seen {
        Some(seen) if found < seen.version => {
            Err(format!("version {found}, after version {} has been seen", seen.version))
        }
        Some(seen) if found == seen.version && contents.digest != seen.digest.0 => {
            Err(format!("version {found} with other contents than those seen before"))
        }
        _ => Ok(()),
    }
}

fn window(file: &ReferenceFile, now: i64) -> Result<String, String> {
    let at = format_seconds(now);
    if now < file.issued.0 {
        return Err(format!("at {at}, the file begins at {}", file.issued));
    }
    if now > file.expires.0 {
        return Err(format!("at {at}, the file ended at {}", file.expires));
    }
    Ok(format!("from {} until {}", file.issued, file.expires))
}

/// What is to be compared with evidence, and until when it holds, in seconds since the Unix epoch.
pub(crate) struct Taken<'a> {
    pub(crate) candidates: Vec<Candidate<'a>>,
    pub(crate) until: Option<i64>,
}

/// The policy's own reference sets, and those of the signed file that it names.
pub(crate) fn take<'a>(
    policy: &'a AppraisalPolicy,
    given: Option<&'a PreparedReferences>,
    now: i64,
    checks: &mut Checks,
) -> Taken<'a> {
    let own = policy.reference.iter();
    let mut candidates: Vec<Candidate<'a>> =
        own.map(|(name, set)| Candidate { name, origin: "of the policy", set }).collect();
    let mut until = None;
    match (&policy.signed_references, given) {
        (None, None) => {}
        (Some(_), None) => checks.fail(&rules::REFERENCE_FILE, "none was given"),
        (None, Some(_)) => {
            checks.fail(&rules::REFERENCE_FILE, "a file was given, and the policy names none");
        }
        (Some(signed), Some(prepared)) => {
            if let Ok(Contents { file, .. }) = prepared.appraise(signed, now, checks) {
                let taken = file.reference.iter().filter(|(name, _)| signed.sets.takes(name));
                candidates.extend(taken.map(|(name, set)| Candidate {
                    name,
                    origin: "of the signed file",
                    set,
                }));
                until = Some(file.expires.0);
            }
        }
    }
    Taken { candidates, until }
}
