//! Endorsements on disk.
//!
//! A file for each object, in a folder for each service, named for what it holds. It is written beside its place and
//! renamed into it, so that a reader sees the old or the new one. Its first line has a digest of the rest: a file that
//! was damaged, or is anything else, is a miss and no fault, and so is an object that its own certificates do not sign.
//! Nothing is trusted for being there: who can write the folder can make the verifier reject, and no more.
//!
//! What ends in a root of a vendor's and what ends in another one have files of their own: whoever makes up a root cannot
//! take the place of what the vendor signed, nor have it forgotten that a later edition was seen.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use confide_evidence::hash::sha256;
use confide_evidence::hex;
use confide_evidence::pem;
use confide_evidence::tdx::CollateralWindow;
use confide_evidence::x509::Certificate;
use serde::{Deserialize, Serialize};

use crate::edition::Edition;
use crate::object::{Object, Wanted};

/// The largest file, in bytes: a revocation list of 1 MiB in base64, and its names.
const MAX_FILE: u64 = 2 * 1024 * 1024;
/// The most objects of one service. A fleet has a few FMSPCs, each with two files.
const MAX_OBJECTS: usize = 512;
/// First word of a file, with the version of its form.
const MAGIC: &str = "confide-endorsement-1";
const EXTENSION: &str = "endorsement";
const LOCK: &str = "lock";
/// How long another process may hold an object's lock. After that it is asked for twice.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
const LOCK_POLL: Duration = Duration::from_millis(50);
/// A file that is being written is renamed at once; one of this age was left behind.
pub(crate) const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder with endorsements.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// One object in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// The service: its host and a digest of its address.
    pub service: String,
    /// What it is, and when it is valid.
    pub window: CollateralWindow,
    /// When it was fetched, seconds since the Unix epoch.
    pub fetched: i64,
}

/// Which files are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Those that are over at this time (seconds since the Unix epoch), damaged or left behind.
    Expired(i64),
    /// All.
    All,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Objects.
    pub objects: usize,
    /// Bytes.
    pub bytes: u64,
}

impl Pruned {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects = self.objects.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// An object as it was kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) object: Object,
    pub(crate) window: CollateralWindow,
    pub(crate) anchor: Anchor,
    /// `None` for what has none.
    pub(crate) edition: Option<Edition>,
    /// Seconds since the Unix epoch.
    pub(crate) fetched: i64,
}

/// Whose root an object ends in: one that was named to the endorser, a vendor's as a rule, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Named,
    Other,
}

impl Anchor {
    /// That of an object whose signers are these, where `roots` are the SHA-256 of the named ones' keys.
    pub(crate) fn of(signers: &[Certificate], roots: &[[u8; 32]]) -> Self {
        let named = signers.last().is_some_and(|root| roots.contains(&sha256(&root.spki).0));
        if named { Self::Named } else { Self::Other }
    }
}

/// What follows the name of an object in those of files under other roots.
const OTHER: &str = "-of-another-root";

/// Held while an object is fetched; other processes wait. Dropping it lets them go on.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "the lock ends with the file")] Option<File>);

#[derive(Serialize, Deserialize)]
struct Content {
    fetched: i64,
    chain: Option<String>,
    /// Base64.
    body: String,
}

impl CacheEntry {
    /// What a file of a cache holds, by its name and its bytes. `None` for one that is damaged, or holds something else than
    /// its name says.
    #[must_use]
    pub fn of_file(service: &str, name: &str, bytes: &[u8]) -> Option<Self> {
        let (_, window, fetched) = object_in(bytes, wanted_of(Path::new(name))?)?;
        Some(Self { service: service.to_owned(), window, fetched })
    }
}

impl Cache {
    /// The cache in this folder, which is made when something is kept.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The user's cache: `$XDG_CACHE_HOME/confide/endorsements`, else `~/.cache/confide/endorsements` (XDG Base Directory
    /// Specification). `None` where the environment names neither.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        Self::of_variables(|name| std::env::var_os(name).map(PathBuf::from))
    }

    fn of_variables(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        // The specification: paths that are not absolute are ignored.
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(Self::at(base.join("confide").join("endorsements")))
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything that is kept and can be read, in the order of service and file name.
    ///
    /// # Errors
    /// When the folder cannot be read. One that does not exist is empty.
    pub fn entries(&self) -> io::Result<Vec<CacheEntry>> {
        let mut entries = Vec::new();
        for (service, path) in self.files()? {
            let Some(wanted) = wanted_of(&path) else { continue };
            if let Some((_, window, fetched)) = read(&path, wanted) {
                entries.push(CacheEntry { service, window, fetched });
            }
        }
        Ok(entries)
    }

    /// Removes files of this cache. Other files in its folder are left alone.
    ///
    /// # Errors
    /// When the folder cannot be read or a file cannot be removed.
    pub fn prune(&self, which: Prune) -> io::Result<Pruned> {
        let mut pruned = Pruned::default();
        for (_, path) in self.files()? {
            let has = |extension: &str| path.extension().is_some_and(|found| found == extension);
            if has(EXTENSION) {
                let kept = wanted_of(&path).and_then(|wanted| read(&path, wanted));
                let stays = match which {
                    Prune::Expired(now) => kept.is_some_and(|(_, window, _)| now <= window.until),
                    Prune::All => false,
                };
                if !stays {
                    pruned.add(path.symlink_metadata().map_or(0, |metadata| metadata.len()));
                    remove(&path)?;
                }
            } else if has(LOCK) {
                remove_unlocked(&path)?;
            } else if has("new") && (which == Prune::All || is_older(&path, ABANDONED)) {
                remove(&path)?;
            }
        }
        Ok(pruned)
    }

    /// All files of all services.
    fn files(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let mut files = Vec::new();
        for service in listed(&self.folder)? {
            let Some(name) = service.file_name().and_then(|name| name.to_str()) else { continue };
            if service.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                files.extend(listed(&service)?.into_iter().map(|path| (name.to_owned(), path)));
            }
        }
        Ok(files)
    }

    /// What is kept of a service, signed under the certificates `above` where it has none of its own: what ends in one of
    /// `roots`, else what ends in another root. A damaged file is none, and so is an object whose signatures do not hold.
    pub(crate) fn load(
        &self,
        service: &str,
        wanted: Wanted,
        above: &[Certificate],
        roots: &[[u8; 32]],
    ) -> Option<Kept> {
        [Anchor::Named, Anchor::Other].into_iter().find_map(|anchor| {
            let (object, window, fetched) = read(&self.path(service, wanted, anchor), wanted)?;
            let signers = wanted.signers(&object, above).ok()?;
            wanted.verify(&object, &signers).ok()?;
            let edition = Edition::of(wanted, &object, &signers);
            (Anchor::of(&signers, roots) == anchor).then_some(Kept {
                object,
                window,
                anchor,
                edition,
                fetched,
            })
        })
    }

    /// Keeps an object.
    pub(crate) fn store(
        &self,
        service: &str,
        wanted: Wanted,
        anchor: Anchor,
        object: &Object,
        fetched: i64,
    ) -> io::Result<()> {
        let folder = self.folder.join(service);
        make_folder(&folder)?;
        let content = Content { fetched, chain: object.chain.clone(), body: pem::base64_text(&object.body) };
        let content = serde_json::to_string(&content).map_err(io::Error::other)?;
        let text = format!("{MAGIC} {}\n{content}\n", digest(content.as_bytes()));
        if is_too_large(text.as_bytes()) {
            return Err(io::Error::other("larger than the cache keeps"));
        }
        let path = self.path(service, wanted, anchor);
        write_beside(&path, text.as_bytes())?;
        evict(&folder)
    }

    /// Waits for the lock of an object, so that one process asks for it and the others find it. Without a folder that
    /// can be written, or after [`LOCK_PATIENCE`], there is no lock and no waiting.
    pub(crate) async fn lock(&self, service: &str, wanted: Wanted) -> Held {
        let path = self.folder.join(service).join(wanted.file_stem()).with_extension(LOCK);
        let file = make_folder(&self.folder.join(service))
            .and_then(|()| OpenOptions::new().create(true).append(true).mode(0o600).open(&path));
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no lock");
                return Held(None);
            }
        };
        let start = tokio::time::Instant::now();
        while start.elapsed() < LOCK_PATIENCE {
            match file.try_lock() {
                Ok(()) => return Held(Some(file)),
                Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                Err(fs::TryLockError::Error(error)) => {
                    tracing::debug!(path = %path.display(), %error, "no lock");
                    return Held(None);
                }
            }
        }
        Held(None)
    }

    fn path(&self, service: &str, wanted: Wanted, anchor: Anchor) -> PathBuf {
        let mut stem = wanted.file_stem();
        if anchor == Anchor::Other {
            stem.push_str(OTHER);
        }
        self.folder.join(service).join(stem).with_extension(EXTENSION)
    }
}

/// An object, its window, and when it was fetched. No signature is verified.
fn read(path: &Path, wanted: Wanted) -> Option<(Object, CollateralWindow, i64)> {
    object_in(&read_regular(path)?, wanted)
}

fn object_in(bytes: &[u8], wanted: Wanted) -> Option<(Object, CollateralWindow, i64)> {
    let Content { fetched, chain, body } = content(bytes)?;
    let object = Object { body: pem::base64(&body).ok()?, chain };
    let window = wanted.check(&object).ok()?;
    Some((object, window, fetched))
}

/// At most one byte more than a file may have. A pipe or a device would hold the reader.
fn read_regular(path: &Path) -> Option<Vec<u8>> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn is_too_large(bytes: &[u8]) -> bool {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE
}

fn content(bytes: &[u8]) -> Option<Content> {
    if is_too_large(bytes) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, rest) = text.split_once('\n')?;
    let content = rest.strip_suffix('\n')?;
    let (magic, found) = head.split_once(' ')?;
    if magic != MAGIC || found != digest(content.as_bytes()) {
        return None;
    }
    serde_json::from_str(content).ok()
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(&sha256(bytes).0)
}

fn wanted_of(path: &Path) -> Option<Wanted> {
    path.extension().filter(|extension| *extension == EXTENSION)?;
    let stem = path.file_stem()?.to_str()?;
    Wanted::of_file_stem(stem.strip_suffix(OTHER).unwrap_or(stem))
}

/// What a folder holds, sorted; nothing where it does not exist.
pub(crate) fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// For this user alone: what is asked about tells with whom somebody works.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(crate) fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let drawn = getrandom::u64().map_err(io::Error::other)?;
    let beside = path.with_extension(format!("{drawn:016x}.new"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Removes the objects that were written longest ago, beyond [`MAX_OBJECTS`].
fn evict(folder: &Path) -> io::Result<()> {
    let mut objects = listed(folder)?;
    objects.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    let beyond = objects.len().saturating_sub(MAX_OBJECTS);
    if beyond == 0 {
        return Ok(());
    }
    let written = |path: &PathBuf| path.symlink_metadata().and_then(|metadata| metadata.modified());
    objects.sort_by_cached_key(|path| written(path).unwrap_or(SystemTime::UNIX_EPOCH));
    objects.iter().take(beyond).try_for_each(|path| remove(path))
}

/// A file that somebody else removed meanwhile is removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a lock that nobody holds. Whoever opened it just before locks a file without a name: an object is then
/// fetched twice, and nothing else happens.
fn remove_unlocked(path: &Path) -> io::Result<()> {
    match File::open(path).map(|file| file.try_lock().map(|()| file)) {
        Ok(Ok(_held)) => remove(path),
        _ => Ok(()),
    }
}

pub(crate) fn is_older(path: &Path, age: Duration) -> bool {
    let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed > age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_cache_follows_the_environment() {
        let of = |variables: &[(&str, &str)]| {
            let cache = Cache::of_variables(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
            });
            cache.map(|cache| cache.folder.display().to_string())
        };
        let (home, relative) = (("HOME", "/home/a"), ("XDG_CACHE_HOME", "relative"));
        assert_eq!(of(&[home]).as_deref(), Some("/home/a/.cache/confide/endorsements"));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/x")]).as_deref(), Some("/x/confide/endorsements"));
        assert_eq!(of(&[home, relative]).as_deref(), Some("/home/a/.cache/confide/endorsements"));
        assert_eq!(of(&[relative]), None);
        assert_eq!(of(&[("HOME", "")]), None);
    }
}
