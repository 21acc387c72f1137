//! `--references`: a signed file of reference values, and what was seen of its series before.
//!
//! A folder of the user's keeps the newest version that was accepted of each series and signer. No older one is accepted
//! after it: whoever can choose which file the user gets must not be able to bring a withdrawn release back.

use crate::input::{self, ALGORITHMS};
use crate::status::{Failure, Status};
use confide_evidence::bytes::ByteString;
use confide_evidence::record::{RecordedReferences, SeenReferences};
use confide_evidence::time::seconds;
use confide_evidence::{bytes::Bytes, hex};
use confide_policy::{AppraisalPolicy, MAX_REFERENCE_FILE, ReferenceKey, SignedReferences};
use confide_verifier::{Check, PreparedReferences};
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The largest signature file read, in bytes. Those of Ed25519 have 64, ECDSA ones in DER at most 72.
const MAX_SIGNATURE_FILE: usize = 1024;
/// The largest state file read, in bytes: thousands of series.
const MAX_STATE: usize = 1024 * 1024;
/// First field of the state file.
const FORMAT: &str = "confide-reference-state/1";
/// Folders of state are the user's alone (XDG Base Directory Specification 0.8): which models somebody asks is nobody
/// else's business.
const FOLDER_MODE: u32 = 0o700;
/// So are its files, also in a folder that others may enter.
const FILE_MODE: u32 = 0o600;

/// Which signed file of reference values there is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReferenceFlags {
    /// Signed file of reference values that the policy names
    #[arg(long, value_name = "FILE")]
    references: Option<PathBuf>,
    /// Its detached signature; without it, the file's name with .sig behind it
    #[arg(long, value_name = "FILE", requires = "references")]
    references_signature: Option<PathBuf>,
    /// Folder that remembers the newest files of reference values, so that no older one is accepted after them; without
    /// it, confide in $XDG_STATE_HOME or ~/.local/state
    #[arg(long, value_name = "DIR", requires = "references")]
    state: Option<PathBuf>,
}

/// A signed file of reference values.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// As records keep it.
    pub(crate) recorded: RecordedReferences,
    /// The same, its signature verified.
    pub(crate) prepared: PreparedReferences,
}

impl ReferenceFlags {
    /// Reads the file, where one is named, with what the state folder knows of its series. A file that the policy accepts
    /// at `now` is remembered there.
    pub(crate) fn load(&self, policy: &AppraisalPolicy, now: UnixTime) -> Result<Option<Given>, Failure> {
        let Some(path) = &self.references else { return Ok(None) };
        let signed = asked(path, policy)?;
        let signature = self.references_signature.clone().unwrap_or_else(|| beside(path));
        let file = ByteString(input::read(path, MAX_REFERENCE_FILE)?);
        let signature = ByteString(input::read(&signature, MAX_SIGNATURE_FILE)?);
        let folder = self.state.clone().or_else(state_home).ok_or_else(|| {
            let message =
                "neither HOME nor XDG_STATE_HOME is set: nothing remembers versions of reference files";
            Failure::new(Status::Usage, "state_folder", message).hint("name a folder with --state")
        })?;
        let mut state = State::open(&folder)?;
        let last_seen = state.contents.newest(signed.name.as_str(), &signed.keys);
        let recorded = RecordedReferences { file, last_seen, signature };
        let prepared = PreparedReferences::new(&recorded, policy, &ALGORITHMS);
        if let Some((name, key, seen)) = prepared.accepted(policy, seconds(now)) {
            state.remember(name.as_str(), key, &seen)?;
        }
        Ok(Some(Given { recorded, prepared }))
    }
}

/// What the policy says of signed files.
fn asked<'p>(path: &Path, policy: &'p AppraisalPolicy) -> Result<&'p SignedReferences, Failure> {
    policy.signed_references.as_ref().ok_or_else(|| {
        let message = format!("{}: the policy has no table [signed_references]", path.display());
        Failure::new(Status::Usage, "references_not_asked", message)
    })
}

/// The signature of a file that none is named for.
fn beside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sig", path.display()))
}

/// Whether the policy accepts a file at `now`, by all that is known of its series. Nothing is remembered.
pub(crate) fn check(path: &Path, policy: &AppraisalPolicy, now: UnixTime) -> Result<(), Failure> {
    let file = ByteString(input::read(path, MAX_REFERENCE_FILE)?);
    let signed = asked(path, policy)?;
    let signature = ByteString(input::read(&beside(path), MAX_SIGNATURE_FILE)?);
    let known = state_home().map(|folder| folder.join("references.json")).filter(|path| path.exists());
    let known = known.as_deref().map(read).transpose()?;
    let last_seen = known.and_then(|known| known.newest(signed.name.as_str(), &signed.keys));
    let recorded = RecordedReferences { file, last_seen, signature };
    match PreparedReferences::new(&recorded, policy, &ALGORITHMS).refused(policy, seconds(now)) {
        None => Ok(()),
        Some(Check { code, expected, actual, .. }) => {
            let message = format!("{}: expected {expected}, found {actual}", path.display());
            Err(Failure::new(Status::Usage, code, message))
        }
    }
}

/// The XDG Base Directory Specification's folder for state, 0.8.
fn state_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(home.join("confide"))
}

/// The state file, held open by this process alone.
struct State {
    folder: PathBuf,
    contents: Contents,
    /// Other processes wait for it.
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: String,
    series: Vec<Series>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    name: String,
    /// DER SubjectPublicKeyInfo of the signer, in hexadecimal digits.
    key: String,
    version: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    digest: String,
}

impl Contents {
    /// The newest file of a series that one of these keys has signed.
    fn newest(&self, name: &str, keys: &[ReferenceKey]) -> Option<SeenReferences> {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let series = self.series.iter();
        let newest = series
            .filter(|series| series.name == name && keys.contains(&series.key))
            .max_by_key(|series| series.version)?;
        let digest = hex::decode_array(&newest.digest)?;
        Some(SeenReferences { digest: Bytes(digest), version: newest.version })
    }
}

impl State {
    fn open(folder: &Path) -> Result<Self, Failure> {
        let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
        made.map_err(|error| unwritable(folder, &error))?;
        let lock = folder.join("references.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&lock);
        let file = file.map_err(|error| unwritable(&lock, &error))?;
        file.lock().map_err(|error| unwritable(&lock, &error))?;
        let path = folder.join("references.json");
        let contents = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Contents { format: FORMAT.to_owned(), series: Vec::new() }
            }
            _ => read(&path)?,
        };
        Ok(Self { folder: folder.to_owned(), contents, _lock: file })
    }

    /// Notes a file, in place of an older one. The state file is replaced as a whole or not at all.
    fn remember(&mut self, name: &str, key: &ReferenceKey, seen: &SeenReferences) -> Result<(), Failure> {
        let entry = Series {
            name: name.to_owned(),
            key: key.to_string(),
            version: seen.version,
            digest: seen.digest.to_string(),
        };
        let series = &mut self.contents.series;
        match series.iter_mut().find(|series| series.name == entry.name && series.key == entry.key) {
            Some(known) if known.version >= entry.version => return Ok(()),
            Some(known) => *known = entry,
            None => series.push(entry),
        }
        let (new, path) = (self.folder.join("references.json.new"), self.folder.join("references.json"));
        let text = serde_json::to_vec_pretty(&self.contents).expect("strings and integers always serialise");
        let write = || -> io::Result<()> {
            // What an interrupted run left behind may have another mode.
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(&new)?;
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| unwritable(&path, &error))
    }
}

fn read(path: &Path) -> Result<Contents, Failure> {
    let bytes = input::read(path, MAX_STATE)?;
    parse(&bytes).map_err(|what| {
        let message = format!("{}: {what}", path.display());
        Failure::new(Status::Malformed, "state_malformed", message)
            .hint("restore the file; without it, older reference files would be accepted again")
    })
}

/// Whether the state file can be read.
pub(crate) fn reads(bytes: &[u8]) -> bool {
    parse(bytes).is_ok()
}

fn parse(bytes: &[u8]) -> Result<Contents, String> {
    if bytes.len() > MAX_STATE {
        return Err(format!("more than {MAX_STATE} bytes"));
    }
    let contents: Contents = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if contents.format != FORMAT {
        return Err(format!("format {:?}, this build reads {FORMAT:?}", contents.format));
    }
    let digests = contents.series.iter().all(|series| hex::decode_array::<32>(&series.digest).is_some());
    digests.then_some(contents).ok_or_else(|| "a digest that is not 64 hexadecimal digits".to_owned())
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Status::Internal, "state_unwritable", format!("{}: {error}", path.display()))
        .hint("what was seen of reference files must be remembered; name another folder with --state")
}
