//! RIMs, OCSP answers and revocation lists in a folder: what was fetched, what is carried to where there is no network, and
//! what `confide verify gpu` takes.
//!
//! | file | content |
//! |---|---|
//! | `rim/ID/SHA256.swidtag` | a RIM as NVIDIA signed it |
//! | `ocsp/SERIAL/SHA256.ocsp` | an OCSP answer, DER |
//! | `crl/ISSUER/SHA256.crl` | a revocation list, DER |
//! | `SHA256.json` beside each | when it was fetched and from whom |
//!
//! A file is named for the SHA-256 of its bytes, so that issues of one id lie side by side and nothing replaces anything.
//! It is written beside its place and renamed into it; those who write at the same time write the same. A file that was
//! damaged, or is something else than its place says, is as none. Nothing is trusted for being there.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use confide_evidence::hash::sha256;
use confide_evidence::hex;
use confide_evidence::nvidia::{MAX_DECODED, MAX_RIM, Rim, decoded};
use confide_evidence::ocsp::{MAX_OCSP, OcspResponse};
use confide_evidence::tdx::CollateralWindow;
use confide_evidence::x509::{Crl, MAX_CRL};
use serde::{Deserialize, Serialize};

use super::id::RimId;
use super::object::{Content, NvidiaObject};
use crate::cache::{ABANDONED, Prune, Pruned, is_older, listed, make_folder, remove, write_beside};
use crate::error::{Fault, StoreError};

/// The most files that one import takes: the RIMs of a hundred firmware versions, and a month of answers about the
/// certificates of a machine.
pub const MAX_IMPORT_FILES: usize = 4096;
/// The most folders beneath the one that is imported. A store has two.
pub const MAX_IMPORT_DEPTH: usize = 4;
/// The largest file of dates, in bytes. Written ones have under 200.
const MAX_DATES: usize = 4 * 1024;
/// The longest name of a folder that is made of an issuer's, in characters: as long as a common name may be (RFC 5280
/// appendix A.1).
const MAX_SLUG: usize = 64;

/// What follows the digest in the name of a file of dates.
const DATES: &str = "json";
/// Extensions of files that a folder is searched for.
const IMPORTED: [&str; 5] = ["swidtag", "xml", "ocsp", "crl", "der"];

/// A folder of RIMs, OCSP answers and revocation lists.
#[derive(Clone, Debug)]
pub struct NvidiaStore {
    folder: PathBuf,
}

/// An object in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub kind: KeptKind,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// When it is valid: a RIM while its signer's certificate is, an answer or a list until the next one is due.
    pub window: CollateralWindow,
    /// When it was fetched last, seconds since the Unix epoch, and the host and port that gave it. `None` for what was
    /// imported without its dates.
    pub fetched: Option<(i64, String)>,
}

/// What an object in a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptKind {
    /// One issue of a RIM.
    Rim {
        /// The id.
        id: RimId,
        /// `product`.
        product: String,
        /// `colloquialVersion`: of the driver, VBIOS or BIOS.
        version: String,
        /// Common name of the signer.
        signer: String,
    },
    /// An OCSP answer.
    Ocsp {
        /// Serial number of the first certificate that it tells of, in hexadecimal digits.
        serial: String,
    },
    /// A revocation list.
    Crl {
        /// Common name of the issuer.
        issuer: String,
    },
}

/// What became of an object that was put into a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The store did not have it.
    Added,
    /// The store had it.
    Known,
}

/// A file that was to be taken into a store.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The file.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: Result<(Kept, Change), StoreError>,
}

/// What stands in a file of dates.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dates {
    fetched: i64,
    from: String,
}

/// The kinds of objects, each with a folder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rim,
    Ocsp,
    Crl,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Rim, Self::Ocsp, Self::Crl];

    fn folder(self) -> &'static str {
        match self {
            Self::Rim => "rim",
            Self::Ocsp => "ocsp",
            Self::Crl => "crl",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Rim => "swidtag",
            Self::Ocsp => "ocsp",
            Self::Crl => "crl",
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::Rim => MAX_RIM,
            Self::Ocsp => MAX_OCSP,
            Self::Crl => MAX_CRL,
        }
    }

    /// Reads an object that lies in the folder `group`. `None` for anything else.
    fn content(self, group: &str, bytes: &[u8]) -> Option<Content> {
        let content = match self {
            Self::Rim => {
                let (id, rim) = (group.parse::<RimId>().ok()?, Rim::parse(bytes).ok()?);
                id.check(&rim).ok()?;
                Content::Rim(id, Box::new(rim))
            }
            Self::Ocsp => Content::Ocsp(OcspResponse::parse(bytes).ok()?),
            Self::Crl => Content::Crl(Crl::parse(bytes).ok()?),
        };
        (content.group() == group).then_some(content)
    }
}

impl Content {
    fn kind(&self) -> Kind {
        match self {
            Self::Rim(..) => Kind::Rim,
            Self::Ocsp(_) => Kind::Ocsp,
            Self::Crl(_) => Kind::Crl,
        }
    }

    fn kept_kind(&self) -> KeptKind {
        match self {
            Self::Rim(id, rim) => KeptKind::Rim {
                id: id.clone(),
                product: rim.product.clone(),
                version: rim.colloquial_version.clone(),
                signer: rim.certificates.first().map(|signer| signer.common_name.clone()).unwrap_or_default(),
            },
            Self::Ocsp(_) => KeptKind::Ocsp { serial: self.group() },
            Self::Crl(crl) => KeptKind::Crl { issuer: crl.issuer_common_name.clone() },
        }
    }
}

impl NvidiaStore {
    /// The store in this folder, which is made when something is put into it.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything in it that can be read: RIMs, answers, lists, each in the order of their files' names.
    ///
    /// # Errors
    /// [`StoreError::Io`]. A folder that does not exist is empty.
    pub fn entries(&self) -> Result<Vec<Kept>, StoreError> {
        let mut entries = Vec::new();
        for (kind, group) in self.groups()? {
            entries.extend(read_group(kind, &group)?.into_iter().map(|(kept, _)| kept));
        }
        Ok(entries)
    }

    /// The RIMs of an id: every issue, as documents.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn rims(&self, id: &RimId) -> Result<Vec<Rim>, StoreError> {
        let found = self.found(&NvidiaObject::Rim(id))?;
        Ok(found
            .into_iter()
            .filter_map(|(_, content)| match content {
                Content::Rim(_, rim) => Some(*rim),
                _ => None,
            })
            .collect())
    }

    /// All that is this object.
    pub(super) fn found(&self, object: &NvidiaObject<'_>) -> Result<Vec<(Kept, Content)>, StoreError> {
        let (kind, groups) = match object {
            NvidiaObject::Rim(id) => (Kind::Rim, vec![self.group(Kind::Rim, id.as_str())]),
            NvidiaObject::Ocsp(subject) => {
                let serial = hex::encode(&subject.certificate.serial);
                (Kind::Ocsp, vec![self.group(Kind::Ocsp, &serial)])
            }
            NvidiaObject::Crl(_) => (Kind::Crl, folders(&self.folder.join(Kind::Crl.folder()))?),
        };
        let mut found = Vec::new();
        for group in groups {
            found.extend(read_group(kind, &group)?.into_iter().filter(|(_, content)| object.is(content)));
        }
        Ok(found)
    }

    /// Puts an object in, and its dates where they are known; those of an object that is there already become the later ones.
    pub(super) fn put(
        &self,
        content: &Content,
        bytes: &[u8],
        fetched: Option<(i64, String)>,
    ) -> Result<(Kept, Change), StoreError> {
        let (kind, group) = (content.kind(), content.group());
        let folder = self.group(kind, &group);
        let digest = sha256(bytes).0;
        let path = folder.join(hex::encode(&digest)).with_extension(kind.extension());
        let before = read_object(kind, &group, &path);
        let written = || {
            make_folder(&folder)?;
            if before.is_none() {
                write_beside(&path, bytes)?;
            }
            let known = before.as_ref().and_then(|(kept, _)| kept.fetched.clone());
            let fetched = fetched.into_iter().chain(known).max();
            if let Some((fetched, from)) = &fetched {
                let dates = Dates { fetched: *fetched, from: from.clone() };
                let dates = serde_json::to_string(&dates).map_err(io::Error::other)?;
                write_beside(&path.with_extension(DATES), dates.as_bytes())?;
            }
            Ok(fetched)
        };
        let fetched = written().map_err(|source| fault(&path, source))?;
        let change = if before.is_some() { Change::Known } else { Change::Added };
        Ok((kept(content, path, digest, fetched), change))
    }

    /// Takes in a file, or all files of a folder and those beneath it with the extensions swidtag, xml, ocsp, crl and der:
    /// RIMs in the names of NVIDIA's service (`ID.xml`) or of its older publications (`1010_0200_882_96005E0001_PROD.swidtag`),
    /// OCSP answers and revocation lists in any encoding, and other stores with their dates. What a file is shows by its
    /// content. Signatures are not verified.
    ///
    /// For each file, in the order of their names, what became of it.
    ///
    /// # Errors
    /// [`StoreError::Io`] where a folder cannot be read, [`StoreError::TooMany`] for too many files.
    pub fn import(&self, from: &Path) -> Result<Vec<Imported>, StoreError> {
        let mut files = Vec::new();
        if from.is_dir() {
            search(from, MAX_IMPORT_DEPTH, &mut files)?;
        } else {
            files.push(from.to_owned());
        }
        Ok(files
            .into_iter()
            .map(|path| {
                let outcome = self.import_file(&path);
                Imported { path, outcome }
            })
            .collect())
    }

    fn import_file(&self, path: &Path) -> Result<(Kept, Change), StoreError> {
        let bytes = read_up_to(path, MAX_DECODED).map_err(|source| fault(path, source))?;
        let (content, bytes) = recognised(path, bytes)?;
        self.put(&content, &bytes, dates(path))
    }

    /// Copies what is chosen into another store, with its dates. What is damaged is as none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn export(
        &self,
        to: &Self,
        chosen: impl Fn(&Kept) -> bool,
    ) -> Result<Vec<(Kept, Change)>, StoreError> {
        let mut exported = Vec::new();
        for (kind, group) in self.groups()? {
            for (kept, content) in read_group(kind, &group)?.into_iter().filter(|(kept, _)| chosen(kept)) {
                let bytes =
                    read_up_to(&kept.path, kind.limit()).map_err(|source| fault(&kept.path, source))?;
                exported.push(to.put(&content, &bytes, kept.fetched)?);
            }
        }
        Ok(exported)
    }

    /// Removes files of this store. [`Prune::Expired`] removes RIMs whose signer's certificate is over, answers and lists
    /// whose successor is due, and what is damaged or was left behind; other files in its folder are left alone.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn prune(&self, which: Prune) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for (kind, group) in self.groups()? {
            let name = file_name(&group);
            for path in listed(&group).map_err(|source| fault(&group, source))? {
                if is_object(kind, &path) {
                    let kept = read_object(kind, &name, &path);
                    let stays = match which {
                        Prune::Expired(now) => kept.is_some_and(|(kept, _)| now <= kept.window.until),
                        Prune::All => false,
                    };
                    if !stays {
                        pruned.add(path.symlink_metadata().map_or(0, |metadata| metadata.len()));
                        remove(&path)
                            .and_then(|()| remove(&path.with_extension(DATES)))
                            .map_err(|source| fault(&path, source))?;
                    }
                } else if path.extension().is_some_and(|found| found == "new")
                    && (which == Prune::All || is_older(&path, ABANDONED))
                {
                    remove(&path).map_err(|source| fault(&path, source))?;
                }
            }
        }
        Ok(pruned)
    }

    fn group(&self, kind: Kind, name: &str) -> PathBuf {
        self.folder.join(kind.folder()).join(name)
    }

    /// All folders with objects.
    fn groups(&self) -> Result<Vec<(Kind, PathBuf)>, StoreError> {
        let mut groups = Vec::new();
        for kind in Kind::ALL {
            let found = folders(&self.folder.join(kind.folder()))?;
            groups.extend(found.into_iter().map(|folder| (kind, folder)));
        }
        Ok(groups)
    }
}

/// A name of lower-case letters, digits and `-` that is made of an issuer's.
pub(super) fn slug(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let slug: String = name.chars().map(plain).take(MAX_SLUG).collect();
    if slug.is_empty() { "-".to_owned() } else { slug }
}

fn fault(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source: Arc::new(source) }
}

/// The folders in a folder, sorted. What is linked is not followed.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = listed(folder).map_err(|source| fault(folder, source))?;
    found.retain(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()));
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned()
}

/// Whether a file is named as an object of this kind is.
fn is_object(kind: Kind, path: &Path) -> bool {
    let digest = path.file_stem().and_then(|stem| stem.to_str()).and_then(hex::decode_array::<32>);
    digest.is_some() && path.extension().is_some_and(|extension| extension == kind.extension())
}

fn read_group(kind: Kind, folder: &Path) -> Result<Vec<(Kept, Content)>, StoreError> {
    let group = file_name(folder);
    let files = listed(folder).map_err(|source| fault(folder, source))?;
    Ok(files.iter().filter_map(|path| read_object(kind, &group, path)).collect())
}

/// The object in a file that lies in the folder `group`. `None` for one that is damaged, or holds something else than its
/// place says.
fn read_object(kind: Kind, group: &str, path: &Path) -> Option<(Kept, Content)> {
    let digest: [u8; 32] = hex::decode_array(path.file_stem()?.to_str()?)?;
    if !is_object(kind, path) || !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let bytes = read_up_to(path, kind.limit()).ok()?;
    if sha256(&bytes).0 != digest {
        return None;
    }
    let content = kind.content(group, &bytes)?;
    Some((kept(&content, path.to_owned(), digest, dates(path)), content))
}

fn kept(content: &Content, path: PathBuf, sha256: [u8; 32], fetched: Option<(i64, String)>) -> Kept {
    Kept { kind: content.kept_kind(), path, sha256, window: content.window(), fetched }
}

/// The dates beside an object.
fn dates(path: &Path) -> Option<(i64, String)> {
    let path = path.with_extension(DATES);
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let bytes = read_up_to(&path, MAX_DATES).ok()?;
    let Dates { fetched, from } = serde_json::from_slice(&bytes).ok()?;
    Some((fetched, from))
}

/// At most one byte more than the limit, so that the parser names the size.
fn read_up_to(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a file holds, by its content, and the bytes that are kept of it.
fn recognised(path: &Path, bytes: Vec<u8>) -> Result<(Content, Vec<u8>), StoreError> {
    let of_file = |fault: Fault| StoreError::Object { path: path.to_owned(), fault };
    if bytes.trim_ascii_start().starts_with(b"<") {
        let rim = Rim::parse(&bytes).map_err(|error| of_file(error.into()))?;
        let id = named(path).or_else(|| RimId::of_rim(&rim));
        let id = id.ok_or_else(|| StoreError::Unnamed { path: path.to_owned() })?;
        id.check(&rim).map_err(of_file)?;
        return Ok((Content::Rim(id, Box::new(rim)), bytes));
    }
    let unknown = || StoreError::Unknown { path: path.to_owned() };
    let bytes = decoded(&bytes).map_err(|_| unknown())?;
    if let Ok(crl) = Crl::parse(&bytes) {
        return Ok((Content::Crl(crl), bytes));
    }
    match OcspResponse::parse(&bytes) {
        Ok(response) => Ok((Content::Ocsp(response), bytes)),
        Err(_) => Err(unknown()),
    }
}

/// The id that a RIM's file is named for, or in a store its folder.
fn named(path: &Path) -> Option<RimId> {
    let stem = path.file_stem()?.to_str()?;
    RimId::of_file_stem(stem).or_else(|| file_name(path.parent()?).parse().ok())
}

/// The files to be imported in a folder and those beneath it. What is linked is not followed.
fn search(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), StoreError> {
    for path in listed(folder).map_err(|source| fault(folder, source))? {
        let metadata = path.symlink_metadata().map_err(|source| fault(&path, source))?;
        let is_imported = || {
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            IMPORTED.iter().any(|known| extension.eq_ignore_ascii_case(known))
        };
        match depth.checked_sub(1) {
            Some(depth) if metadata.is_dir() => search(&path, depth, files)?,
            _ if metadata.is_file() && is_imported() => {
                if files.len() >= MAX_IMPORT_FILES {
                    return Err(StoreError::TooMany { path: folder.to_owned() });
                }
                files.push(path);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_make_plain_names_of_folders() {
        assert_eq!(slug("NVIDIA Device Identity CA"), "nvidia-device-identity-ca");
        assert_eq!(slug("../../etc/passwd\0"), "------etc-passwd-");
        assert_eq!(slug(""), "-");
        assert_eq!(slug(&"é".repeat(200)).len(), MAX_SLUG);
    }
}
