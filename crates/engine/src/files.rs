//! Model files: read once, hashed as they are read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use confide_evidence::bytes::Digest;
use confide_evidence::hash::sha256;
use confide_evidence::manifest::{CHUNK, FileHasher, ManifestEntry, ModelManifest, check_path};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use crate::error::{EngineError, ManifestDifference};

/// Files that a model folder may hold, subfolders included. The largest public checkpoints have fewer than
/// two hundred shards.
pub const MAX_MODEL_FILES: usize = 4096;

/// Depth of subfolders in a model folder. Published checkpoints have at most two.
const MAX_DEPTH: usize = 8;

/// Files and folders that a model folder may hold: folders without files take time to list as well.
const MAX_ENTRIES: usize = 2 * MAX_MODEL_FILES;

/// Bytes that are read at a time of a file that is only hashed.
const PIECE: usize = 1 << 20;

/// The files of one model. Each can be read once: nobody can hash one version of a file and run another.
pub trait ModelFiles {
    /// Paths of all files, sorted, with `/` between their parts.
    fn names(&self) -> Vec<String>;

    /// Reads a whole file into private memory.
    ///
    /// # Errors
    /// The file is not among [`names`](Self::names), was read before, or cannot be read.
    fn read(&mut self, name: &str) -> Result<Vec<u8>, EngineError>;

    /// As [`read`](Self::read), with the entry of what was read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_measured(&mut self, name: &str) -> Result<(Vec<u8>, ManifestEntry), EngineError> {
        let content = self.read(name)?;
        let entry = measure(name, &content)?;
        Ok((content, entry))
    }

    /// Hashes a file that nobody will use. It counts as read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn hash(&mut self, name: &str) -> Result<ManifestEntry, EngineError> {
        measure(name, &self.read(name)?)
    }
}

/// A folder of model files on a disk that only this guest writes.
///
/// Links, devices and names that are not UTF-8 are refused, wherever they are in the folder.
pub struct ModelDirectory {
    root: OwnedFd,
    unread: BTreeMap<String, ()>,
}

impl ModelDirectory {
    /// Lists the folder `path`.
    ///
    /// # Errors
    /// The folder cannot be listed, or holds something other than plain files and folders.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| folder_unreadable(&path.display().to_string(), error))?;
        let mut listing = Listing::default();
        listing.add(&root, "", 0)?;
        Ok(Self { root, unread: listing.files })
    }

    /// Opens a file that was not read before, and returns its size.
    fn open_file(&mut self, name: &str) -> Result<(File, u64), EngineError> {
        take(&mut self.unread, name)?;
        let file = File::from(open_beneath(&self.root, name)?);
        let metadata = file.metadata().map_err(|source| unreadable(name, source))?;
        // What was a file when the folder was listed may be a pipe or a device by now.
        if metadata.is_file() { Ok((file, metadata.len())) } else { Err(refused(name, NO_FILE)) }
    }
}

impl ModelFiles for ModelDirectory {
    fn names(&self) -> Vec<String> {
        self.unread.keys().cloned().collect()
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, EngineError> {
        let (file, size) = self.open_file(name)?;
        let length = usize::try_from(size).map_err(|_| EngineError::OutOfMemory { bytes: usize::MAX })?;
        let mut content = reserve(length)?;
        // One byte more shows that the file grows; a file that never ends is not read to its end.
        let limit = size.saturating_add(1);
        file.take(limit).read_to_end(&mut content).map_err(|source| unreadable(name, source))?;
        if content.len() == length { Ok(content) } else { Err(refused(name, CHANGED)) }
    }

    /// All processors read and hash chunks of their own, so that neither the disk nor the hash is waited for alone.
    fn read_measured(&mut self, name: &str) -> Result<(Vec<u8>, ManifestEntry), EngineError> {
        check_path(name)?;
        let (file, size) = self.open_file(name)?;
        let length = usize::try_from(size).map_err(|_| EngineError::OutOfMemory { bytes: usize::MAX })?;
        drop(reserve(length)?);
        // The system gives zeros without writing them.
        let mut content = vec![0; length];
        let chunks = read_chunks(&file, &mut content).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => refused(name, CHANGED),
            _ => unreadable(name, source),
        })?;
        match file.read_at(&mut [0], size).map_err(|source| unreadable(name, source))? {
            0 => Ok((content, ManifestEntry { path: name.to_owned(), size, chunks })),
            _ => Err(refused(name, CHANGED)),
        }
    }

    fn hash(&mut self, name: &str) -> Result<ManifestEntry, EngineError> {
        let (mut file, size) = self.open_file(name)?;
        let mut hasher = FileHasher::new(name)?;
        let (mut piece, mut hashed) = (vec![0; PIECE], 0_u64);
        loop {
            let length = file.read(&mut piece).map_err(|source| unreadable(name, source))?;
            let piece = piece.get(..length).unwrap_or_default();
            hashed = hashed.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            match length {
                0 if hashed == size => return Ok(hasher.finish()),
                0 => return Err(refused(name, CHANGED)),
                _ if hashed > size => return Err(refused(name, CHANGED)),
                _ => hasher.update(piece),
            }
        }
    }
}

/// Fills `content` from the beginning of a file, and returns the SHA-256 of each chunk of it.
fn read_chunks(file: &File, content: &mut [u8]) -> io::Result<Vec<Digest>> {
    let chunk = usize::try_from(CHUNK).unwrap_or(usize::MAX);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(content.len().div_ceil(chunk));
    let open = Mutex::new((0_u64..).step_by(chunk).zip(content.chunks_mut(chunk)));
    let work = || {
        let mut done = Vec::new();
        loop {
            // The lock is not held while a chunk is read.
            let next = open.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((offset, part)) = next else { return Ok(done) };
            file.read_exact_at(part, offset)?;
            done.push((offset, sha256(part)));
        }
    };
    let all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all: io::Result<Vec<_>> = work();
        for other in others {
            let other = other.join().unwrap_or_else(|_| Err(io::Error::other("a thread that reads ended")));
            all = all.and_then(|all| Ok([all, other?].concat()));
        }
        all
    });
    let mut chunks = all?;
    chunks.sort_unstable_by_key(|(offset, _)| *offset);
    Ok(chunks.into_iter().map(|(_, digest)| digest).collect())
}

const NO_FILE: &str = "it is not a plain file";
const CHANGED: &str = "its size changed while it was read";

fn refused(path: &str, reason: &'static str) -> EngineError {
    EngineError::FileRefused { path: path.to_owned(), reason }
}

fn unreadable(path: &str, source: io::Error) -> EngineError {
    EngineError::FileUnreadable { path: path.to_owned(), source }
}

/// Model files in memory, for callers that have them already.
pub struct MemoryFiles(BTreeMap<String, Vec<u8>>);

impl MemoryFiles {
    /// Takes files by path.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self(files.into_iter().collect())
    }
}

impl ModelFiles for MemoryFiles {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, EngineError> {
        take(&mut self.0, name)
    }
}

/// Model files that are hashed as they are read.
///
/// The loader reads through this, so that the manifest is of the very bytes that it used.
pub struct MeasuredFiles<F> {
    files: F,
    expected: Option<ModelManifest>,
    entries: Vec<ManifestEntry>,
}

impl<F: ModelFiles> MeasuredFiles<F> {
    /// Measures `files` whatever they hold. The caller must compare the manifest before it relies on them.
    pub fn new(files: F) -> Self {
        Self { files, expected: None, entries: Vec::new() }
    }

    /// Measures `files` and refuses the first one that differs from `expected`.
    ///
    /// # Errors
    /// `files` and `expected` do not name the same paths.
    pub fn expecting(files: F, expected: ModelManifest) -> Result<Self, EngineError> {
        let names = files.names();
        let difference =
            |path: &str, difference| EngineError::ManifestMismatch { path: path.to_owned(), difference };
        if let Some(name) = names.iter().find(|name| entry_of(&expected, name).is_none()) {
            return Err(difference(name, ManifestDifference::Unlisted));
        }
        if let Some(entry) = expected.entries().iter().find(|entry| !names.contains(&entry.path)) {
            return Err(difference(&entry.path, ManifestDifference::Missing));
        }
        Ok(Self { files, expected: Some(expected), entries: Vec::new() })
    }

    /// Reads and hashes the files that nobody asked for, and returns the manifest of the whole folder.
    ///
    /// # Errors
    /// As for reading.
    pub fn into_manifest(mut self) -> Result<ModelManifest, EngineError> {
        for name in self.files.names() {
            self.hash(&name)?;
        }
        Ok(ModelManifest::new(self.entries)?)
    }

    /// Compares a file that was read with what is expected of it, and lists it.
    fn take_down(&mut self, entry: &ManifestEntry) -> Result<(), EngineError> {
        if let Some(expected) = &self.expected {
            compare(expected, entry)?;
        }
        self.entries.push(entry.clone());
        Ok(())
    }
}

impl<F: ModelFiles> ModelFiles for MeasuredFiles<F> {
    fn names(&self) -> Vec<String> {
        self.files.names()
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, EngineError> {
        let (content, entry) = self.files.read_measured(name)?;
        self.take_down(&entry)?;
        Ok(content)
    }

    fn hash(&mut self, name: &str) -> Result<ManifestEntry, EngineError> {
        let entry = self.files.hash(name)?;
        self.take_down(&entry)?;
        Ok(entry)
    }
}

/// Compares a file that was read with what the caller expects of it.
fn compare(expected: &ModelManifest, actual: &ManifestEntry) -> Result<(), EngineError> {
    let mismatch = |difference| EngineError::ManifestMismatch { path: actual.path.clone(), difference };
    let entry = entry_of(expected, &actual.path).ok_or_else(|| mismatch(ManifestDifference::Unlisted))?;
    if entry.size != actual.size {
        let (expected, actual) = (entry.size, actual.size);
        return Err(mismatch(ManifestDifference::Size { expected, actual }));
    }
    match entry.chunks.iter().zip(&actual.chunks).position(|(a, b)| a != b) {
        Some(index) => Err(mismatch(ManifestDifference::Chunk(index))),
        None => Ok(()),
    }
}

/// Hashes a file that was read.
fn measure(name: &str, content: &[u8]) -> Result<ManifestEntry, EngineError> {
    let mut hasher = FileHasher::new(name)?;
    hasher.update(content);
    Ok(hasher.finish())
}

fn entry_of<'a>(manifest: &'a ModelManifest, path: &str) -> Option<&'a ManifestEntry> {
    manifest.entries().iter().find(|entry| entry.path == path)
}

fn folder_unreadable(path: &str, error: rustix::io::Errno) -> EngineError {
    EngineError::FolderUnreadable { path: path.to_owned(), source: error.into() }
}

/// What was found in a model folder.
#[derive(Default)]
struct Listing {
    files: BTreeMap<String, ()>,
    entries: usize,
}

impl Listing {
    /// Adds `directory`, whose path inside the model folder is `prefix`.
    fn add(&mut self, directory: &OwnedFd, prefix: &str, depth: usize) -> Result<(), EngineError> {
        let unreadable = |error| folder_unreadable(if prefix.is_empty() { "." } else { prefix }, error);
        for entry in Dir::read_from(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let path = format!("{prefix}{}", name.to_string_lossy());
            if name.to_str().is_err() {
                return Err(refused(&path, "its name is not UTF-8"));
            }
            check_path(&path)?;
            self.entries = self.entries.saturating_add(1);
            if self.entries > MAX_ENTRIES {
                return Err(refused(&path, TOO_MANY));
            }
            let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if self.files.len() >= MAX_MODEL_FILES => {
                    return Err(refused(&path, TOO_MANY));
                }
                FileType::RegularFile => {
                    self.files.insert(path, ());
                }
                FileType::Directory if depth >= MAX_DEPTH => {
                    return Err(refused(&path, "too many subfolders"));
                }
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let below =
                        rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(unreadable)?;
                    self.add(&below, &format!("{path}/"), depth.saturating_add(1))?;
                }
                FileType::Symlink => return Err(refused(&path, "it is a link")),
                _ => return Err(refused(&path, NO_FILE)),
            }
        }
        Ok(())
    }
}

const TOO_MANY: &str = "too many files or folders";

/// Opens a listed file; the kernel refuses links and `..` in every part of its path.
fn open_beneath(root: &OwnedFd, name: &str) -> Result<OwnedFd, EngineError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, name, flags, Mode::empty(), resolve)
        .map_err(|error| EngineError::FileUnreadable { path: name.to_owned(), source: error.into() })
}

/// Removes `name` from what can still be read.
fn take<T>(unread: &mut BTreeMap<String, T>, name: &str) -> Result<T, EngineError> {
    unread.remove(name).ok_or_else(|| EngineError::FileMissing { path: name.to_owned() })
}

/// An empty vector with room for `bytes`.
fn reserve(bytes: usize) -> Result<Vec<u8>, EngineError> {
    let mut content = Vec::new();
    content.try_reserve_exact(bytes).map_err(|_| EngineError::OutOfMemory { bytes })?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), b"{}").unwrap();
        std::fs::create_dir(folder.path().join("extra")).unwrap();
        std::fs::write(folder.path().join("extra/note.txt"), b"note").unwrap();
        folder
    }

    #[test]
    fn manifest_covers_files_that_nobody_read() {
        let folder = folder();
        let mut files = MeasuredFiles::new(ModelDirectory::open(folder.path()).unwrap());
        assert_eq!(files.names(), ["config.json", "extra/note.txt"]);
        assert_eq!(files.read("config.json").unwrap(), b"{}");
        let manifest = files.into_manifest().unwrap();
        assert_eq!(
            manifest.entries(),
            [measure("config.json", b"{}").unwrap(), measure("extra/note.txt", b"note").unwrap()]
        );
    }

    #[test]
    fn a_file_is_read_once() {
        let folder = folder();
        let mut files = ModelDirectory::open(folder.path()).unwrap();
        files.read("config.json").unwrap();
        assert!(matches!(files.read("config.json"), Err(EngineError::FileMissing { .. })));
    }

    #[test]
    fn links_are_refused() {
        let folder = folder();
        std::os::unix::fs::symlink("config.json", folder.path().join("extra/link")).unwrap();
        let error = ModelDirectory::open(folder.path()).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, EngineError::FileRefused { ref path, .. } if path == "extra/link"),
            "{error}"
        );
    }

    #[test]
    fn a_file_replaced_by_a_link_after_listing_is_refused() {
        let folder = folder();
        let mut files = ModelDirectory::open(folder.path()).unwrap();
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        std::os::unix::fs::symlink("extra/note.txt", folder.path().join("config.json")).unwrap();
        assert!(matches!(files.read("config.json"), Err(EngineError::FileUnreadable { .. })));
    }

    /// Opens a folder, swaps `config.json` for something else, and reads it in both ways.
    fn after_a_swap(swap: impl Fn(&Path)) -> [EngineError; 2] {
        let opened = || {
            let folder = folder();
            let files = ModelDirectory::open(folder.path()).unwrap();
            let path = folder.path().join("config.json");
            std::fs::remove_file(&path).unwrap();
            swap(&path);
            (folder, files)
        };
        let (_folder, mut read) = opened();
        let (_other, mut hashed) = opened();
        [read.read("config.json").unwrap_err(), hashed.hash("config.json").unwrap_err()]
    }

    #[test]
    fn a_file_replaced_by_a_pipe_or_a_socket_after_listing_is_refused() {
        let pipe = |path: &Path| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).unwrap();
        };
        for error in after_a_swap(pipe) {
            assert!(matches!(error, EngineError::FileRefused { reason: NO_FILE, .. }), "{error}");
        }
        let socket = |path: &Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        for error in after_a_swap(socket) {
            assert_eq!(error.code(), "model_unreadable", "{error}");
        }
        for error in after_a_swap(|path| std::fs::create_dir(path).unwrap()) {
            assert!(matches!(error, EngineError::FileRefused { reason: NO_FILE, .. }), "{error}");
        }
    }

    #[test]
    fn a_device_is_refused_also_where_it_took_the_place_of_a_file() {
        // A device cannot be made without privileges; the folder of all devices has one that never ends.
        let root = rustix::fs::open("/dev", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let device = || BTreeMap::from([("zero".to_owned(), ())]);
        let mut files = ModelDirectory { root, unread: device() };
        assert!(matches!(files.read("zero"), Err(EngineError::FileRefused { reason: NO_FILE, .. })));
        files.unread = device();
        assert!(matches!(files.hash("zero"), Err(EngineError::FileRefused { reason: NO_FILE, .. })));
        let refused = ModelDirectory::open(Path::new("/dev")).map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), "model_file_refused", "{refused}");
    }

    #[test]
    fn a_file_whose_size_is_not_what_is_read_is_refused() {
        // Files of procfs say that they are empty and are not, as a file that grows while it is read.
        let root = rustix::fs::open("/proc/self", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let growing = || BTreeMap::from([("status".to_owned(), ())]);
        let mut files = ModelDirectory { root, unread: growing() };
        assert!(matches!(files.read("status"), Err(EngineError::FileRefused { reason: CHANGED, .. })));
        files.unread = growing();
        assert!(matches!(files.hash("status"), Err(EngineError::FileRefused { reason: CHANGED, .. })));
    }

    #[test]
    fn a_size_beyond_all_memory_is_an_error() {
        assert!(matches!(reserve(usize::MAX >> 1), Err(EngineError::OutOfMemory { .. })));
    }

    #[test]
    fn a_file_that_is_only_hashed_has_the_entry_of_one_that_is_read() {
        let folder = folder();
        for length in [0, 1, PIECE - 1, PIECE, 4 * PIECE, 4 * PIECE + 1] {
            let content: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            std::fs::write(folder.path().join("weights"), &content).unwrap();
            let mut files = ModelDirectory::open(folder.path()).unwrap();
            assert_eq!(
                files.hash("weights").unwrap(),
                measure("weights", &content).unwrap(),
                "{length} bytes"
            );
            assert!(
                matches!(files.read("weights"), Err(EngineError::FileMissing { .. })),
                "it counts as read"
            );
        }
    }

    #[test]
    fn what_is_read_in_chunks_has_the_bytes_and_the_entry_of_what_is_read_in_one_piece() {
        let folder = folder();
        let chunk = CHUNK as usize;
        for length in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk + 7] {
            let content: Vec<u8> = (0..length).map(|index| (index % 249) as u8).collect();
            std::fs::write(folder.path().join("weights"), &content).unwrap();
            let mut files = ModelDirectory::open(folder.path()).unwrap();
            let (read, entry) = files.read_measured("weights").unwrap();
            assert!(read == content, "{length} bytes");
            assert_eq!(entry, measure("weights", &content).unwrap(), "{length} bytes");
            assert!(files.read("weights").is_err(), "it counts as read");
        }
    }

    #[test]
    fn a_file_that_is_shorter_or_longer_than_it_was_is_refused_in_chunks_too() {
        let folder = folder();
        let path = folder.path().join("config.json");
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut content = vec![0; 9];
        assert_eq!(read_chunks(&file, &mut content).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let root = rustix::fs::open("/proc/self", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut files = ModelDirectory { root, unread: BTreeMap::from([("status".to_owned(), ())]) };
        let error = files.read_measured("status").unwrap_err();
        assert!(matches!(error, EngineError::FileRefused { reason: CHANGED, .. }), "{error}");
    }

    #[test]
    fn folders_without_end_and_names_that_are_not_plain_are_refused() {
        let deep = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(deep.path().join(["d"; MAX_DEPTH + 2].join("/"))).unwrap();
        let many = tempfile::tempdir().unwrap();
        (0..=MAX_ENTRIES).for_each(|index| std::fs::create_dir(many.path().join(index.to_string())).unwrap());
        for name in ["a\nb", "\u{1b}[2J", "a\\b"] {
            let folder = folder();
            std::fs::write(folder.path().join(name), b"x").unwrap();
            let error = ModelDirectory::open(folder.path()).map(|_| ()).unwrap_err();
            assert_eq!(error.code(), "model_file_refused", "{name:?}");
        }
        for folder in [deep, many] {
            let error = ModelDirectory::open(folder.path()).map(|_| ()).unwrap_err();
            assert!(matches!(error, EngineError::FileRefused { .. }), "{error}");
        }
    }

    #[test]
    fn expected_chunks_are_compared() {
        let files = |content: &[u8]| MemoryFiles::new([("a".to_owned(), content.to_vec())]);
        let expected = MeasuredFiles::new(files(b"right")).into_manifest().unwrap();
        let check = |content: &[u8]| {
            MeasuredFiles::expecting(files(content), expected.clone()).unwrap().into_manifest()
        };
        assert_eq!(check(b"right").unwrap(), expected);
        let difference = |error| match error {
            EngineError::ManifestMismatch { difference, .. } => difference,
            other => panic!("{other}"),
        };
        assert_eq!(difference(check(b"wrong").unwrap_err()), ManifestDifference::Chunk(0));
        let size = ManifestDifference::Size { expected: 5, actual: 4 };
        assert_eq!(difference(check(b"rong").unwrap_err()), size);
    }

    #[test]
    fn unlisted_and_missing_files_are_refused() {
        let one = || MemoryFiles::new([("a".to_owned(), vec![1])]);
        let two = || MemoryFiles::new([("a".to_owned(), vec![1]), ("b".to_owned(), vec![2])]);
        let manifest = |files| MeasuredFiles::new(files).into_manifest().unwrap();
        let refused = |files, expected| MeasuredFiles::expecting(files, expected).map(|_| ()).unwrap_err();
        assert_eq!(refused(two(), manifest(one())).code(), "model_manifest_mismatch");
        assert_eq!(refused(one(), manifest(two())).code(), "model_manifest_mismatch");
    }
}
