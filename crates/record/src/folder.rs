//! Folders of records: appraisals, and the receipts that they vouch for.

use crate::chain::{Entries, Entry};
use crate::{RecordError, Recording};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::head::ChainHead;
use confide_evidence::receipt::{KeptReceipt, Receipt};
use confide_evidence::record::{MAX_RECORD, Record};
use confide_verifier::{AttestationResult, SaltedBodies};
use rustls_pki_types::UnixTime;
use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The file of records in a folder.
pub const APPRAISALS: &str = "appraisals.cbor";
/// The file of kept receipts in a folder.
pub const RECEIPTS: &str = "receipts.cbor";
/// The most appraisals of this process that receipts can still be kept for, the youngest ones. A verdict holds for minutes,
/// and a client holds some hundred connections at most.
const MAX_VOUCHERS: usize = 16 * 1024;
/// Permissions of a new file: its user's alone. With the salts of the receipts a body can be guessed.
const FILE_MODE: u32 = 0o600;
/// Permissions of a new folder.
const FOLDER_MODE: u32 = 0o700;

/// A folder that this process writes to, and no other one meanwhile. Shared by everything that records.
///
/// Every append is on the disk before it is told as done; appends that wait for the disk at the same time share one wait.
#[derive(Debug)]
pub struct Folder {
    appraisals: Chain,
    receipts: Chain,
    vouchers: Mutex<Vouchers>,
    set_aside: Vec<SetAside>,
}

/// Part of an entry that was moved from the end of a file into one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The new file.
    pub path: PathBuf,
    /// How many bytes it has.
    pub bytes: usize,
}

/// A receipt that was verified, to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'a> {
    /// The receipt.
    pub receipt: &'a Receipt,
    /// Salted hashes of both bodies.
    pub bodies: &'a SaltedBodies,
    /// When the request was sent.
    pub sent: UnixTime,
    /// The nonce of the appraisal that vouches for it.
    pub nonce: &'a Bytes<32>,
}

/// The records of this process by the nonces of their challenges.
#[derive(Debug, Default)]
struct Vouchers {
    records: HashMap<Bytes<32>, Digest>,
    /// The same, the oldest first.
    order: VecDeque<Bytes<32>>,
}

impl Folder {
    /// Opens a folder, which is made where it is missing. What a program that was stopped left of its last entry is moved
    /// into a file beside, `<file>.torn-<Unix seconds>`: nothing is deleted. New folders and files are their user's alone (modes
    /// 0700 and 0600); others keep what permissions they have.
    ///
    /// # Errors
    /// [`RecordError::InUse`] while another process writes to it; [`RecordError`] where a file is not a chain of its kind.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
        let appraisals = open(&path.join(APPRAISALS))?;
        match appraisals.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RecordError::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let receipts = open(&path.join(RECEIPTS))?;
        // The names of new files.
        File::open(path)?.sync_all()?;
        let mut set_aside = Vec::new();
        let appraisals = Chain::resume::<Record>(appraisals, &path.join(APPRAISALS), &mut set_aside)?;
        let receipts = Chain::resume::<KeptReceipt>(receipts, &path.join(RECEIPTS), &mut set_aside)?;
        Ok(Self { appraisals, receipts, vouchers: Mutex::default(), set_aside })
    }

    /// What was moved aside when the folder was opened.
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// Writes the record of an appraisal.
    ///
    /// # Errors
    /// [`RecordError::Io`], and [`RecordError::Oversized`] for a record that no reader would take.
    pub fn record(&self, recording: Recording<'_>, result: &AttestationResult) -> Result<(), RecordError> {
        let nonce = recording.challenge.as_ref().map(|challenge| challenge.nonce);
        let mut record = recording.record(result, None);
        let hash = self.appraisals.append(|prev| {
            record.prev = prev;
            let bytes = record.encode();
            if bytes.len() > MAX_RECORD {
                return Err(RecordError::Oversized(bytes.len()));
            }
            Ok((bytes, record.hash()))
        })?;
        if let Some(nonce) = nonce {
            self.vouchers().put(nonce, hash);
        }
        Ok(())
    }

    /// Writes a receipt, with the record that vouches for it.
    ///
    /// # Errors
    /// [`RecordError::Unvouched`] where this folder has not recorded that appraisal; [`RecordError::Io`].
    pub fn keep(&self, keep: Keep<'_>) -> Result<(), RecordError> {
        let record = self.vouchers().records.get(keep.nonce).copied().ok_or(RecordError::Unvouched)?;
        self.receipts.append(|prev| {
            let kept = KeptReceipt {
                prev,
                sent: keep.sent.as_secs(),
                record,
                receipt: keep.receipt.clone(),
                request: keep.bodies.request,
                response: keep.bodies.response,
            };
            Ok((kept.encode(), kept.hash()))
        })?;
        Ok(())
    }

    fn vouchers(&self) -> MutexGuard<'_, Vouchers> {
        self.vouchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vouchers {
    fn put(&mut self, nonce: Bytes<32>, record: Digest) {
        if self.records.insert(nonce, record).is_none() {
            self.order.push_back(nonce);
        }
        if self.order.len() > MAX_VOUCHERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
    }
}

/// The end of a record file that is opened to be appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEnd {
    /// Hash of the last record; 32 zero bytes where there is none.
    pub last: Digest,
    /// Bytes of whole records.
    pub length: u64,
    /// What was moved aside.
    pub set_aside: Option<SetAside>,
}

/// Follows the chain of a record file, opened to read and to append, to its end. What a program that was stopped left of its
/// last record is moved into a file beside it, as [`Folder::open`] does. Its caller holds the file's lock.
///
/// # Errors
/// [`RecordError`] where the file is not a chain of records, which is then left as it is, and [`RecordError::Io`].
pub fn resume_file(file: &File, path: &Path) -> Result<FileEnd, RecordError> {
    let (head, length, set_aside) = resume::<Record>(file, path)?;
    Ok(FileEnd { last: head.last, length, set_aside })
}

/// Follows the chain of a file to its end, and moves what is part of no entry aside.
fn resume<E: Entry>(file: &File, path: &Path) -> Result<(ChainHead, u64, Option<SetAside>), RecordError> {
    let mut entries = Entries::<_, E>::new(file);
    for link in entries.by_ref() {
        link?.check()?;
    }
    let (head, length) = (entries.head(), entries.length());
    if entries.torn() == 0 {
        return Ok((head, length, None));
    }
    let set_aside = SetAside { path: keep_aside(path, entries.rest())?, bytes: entries.torn() };
    file.set_len(length)?;
    Ok((head, length, Some(set_aside)))
}

/// Writes what is torn from the end of a file into a new one beside it, on the disk before this returns.
fn keep_aside(torn_from: &Path, torn: &[u8]) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let beside = |ending: String| {
        let mut name = torn_from.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let mut path = beside(format!(".torn-{now}"));
    let mut again: u64 = 1;
    let mut file = loop {
        match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path) {
            Ok(file) => break file,
            // There was another one in the same second.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = beside(format!(".torn-{now}-{again}"));
                again = again.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    };
    file.write_all(torn)?;
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(path)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(FILE_MODE).open(path)
}

/// A file that entries are appended to.
#[derive(Debug)]
struct Chain {
    file: File,
    state: Mutex<State>,
    /// Told when what was written is on the disk, or never will be.
    synced: Condvar,
}

#[derive(Debug)]
struct State {
    last: Digest,
    /// Bytes of whole entries.
    length: u64,
    /// Entries that were written, and those of them that are on the disk.
    written: u64,
    synced: u64,
    disk: Disk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Idle,
    /// One of those who wait has asked for all that was written.
    Asked,
    /// What the file holds is unknown: nothing is appended any more.
    Failed,
}

impl Chain {
    /// Follows the chain of a file of the folder to its end.
    fn resume<E: Entry>(file: File, path: &Path, set_aside: &mut Vec<SetAside>) -> Result<Self, RecordError> {
        let (head, length, torn) = resume::<E>(&file, path)?;
        set_aside.extend(torn);
        file.sync_all()?;
        let (last, written) = (head.last, head.count);
        let state = State { last, length, written, synced: written, disk: Disk::Idle };
        Ok(Self { file, state: Mutex::new(state), synced: Condvar::new() })
    }

    /// Appends what `entry` makes of the hash before it: its bytes and its hash. Returns once it is on the disk.
    fn append(
        &self,
        entry: impl FnOnce(Digest) -> Result<(Vec<u8>, Digest), RecordError>,
    ) -> Result<Digest, RecordError> {
        let mut state = self.state();
        if state.disk == Disk::Failed {
            return Err(failed());
        }
        let (bytes, hash) = entry(state.last)?;
        if let Err(error) = (&self.file).write_all(&bytes) {
            // Part of it may have been written: the next entry must not follow that.
            if self.file.set_len(state.length).is_err() {
                state.disk = Disk::Failed;
            }
            return Err(error.into());
        }
        state.length = state.length.saturating_add(bytes.len().try_into().unwrap_or(u64::MAX));
        state.last = hash;
        state.written = state.written.saturating_add(1);
        self.sync(state)?;
        Ok(hash)
    }

    /// Waits until all that was written so far is on the disk, for oneself or together with others.
    fn sync<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<(), RecordError> {
        let mine = state.written;
        while state.synced < mine {
            match state.disk {
                Disk::Failed => return Err(failed()),
                Disk::Asked => state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner),
                Disk::Idle => {
                    state.disk = Disk::Asked;
                    let written = state.written;
                    drop(state);
                    let synced = self.file.sync_data();
                    state = self.state();
                    (state.disk, state.synced) = match &synced {
                        Ok(()) => (Disk::Idle, written),
                        Err(_) => (Disk::Failed, state.synced),
                    };
                    self.synced.notify_all();
                    synced?;
                }
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed() -> RecordError {
    io::Error::other("an earlier entry could not be written to the disk").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::receipt::Usage;
    use confide_evidence::record::FIRST;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    fn receipt(sequence: u64) -> Receipt {
        Receipt {
            salt: Bytes([1; 32]),
            time: 2,
            usage: Usage::default(),
            boot_id: Bytes([3; 16]),
            key_set: Bytes([4; 32]),
            manifest: Bytes([5; 32]),
            sequence,
            signature: Bytes([6; 64]),
            request_id: "r".into(),
            configuration: Bytes([7; 32]),
        }
    }

    fn keep(folder: &Folder, sequence: u64) -> Result<(), RecordError> {
        let bodies = SaltedBodies { request: Bytes([8; 32]), response: Bytes([9; 32]) };
        let sent = UnixTime::since_unix_epoch(Duration::from_secs(1));
        let (receipt, nonce) = (receipt(sequence), Bytes([0; 32]));
        folder.keep(Keep { receipt: &receipt, bodies: &bodies, sent, nonce: &nonce })
    }

    /// A folder in which one appraisal vouches for all receipts.
    fn opened(path: &Path) -> Folder {
        let folder = Folder::open(path).unwrap();
        folder.vouchers().put(Bytes([0; 32]), Bytes([1; 32]));
        folder
    }

    fn sequences(path: &Path) -> Vec<u64> {
        let file = File::open(path.join(RECEIPTS)).unwrap();
        let mut entries = Entries::<_, KeptReceipt>::new(file);
        let sequences = entries.by_ref().map(|link| {
            let link = link.unwrap();
            link.check().unwrap();
            link.entry.receipt.sequence
        });
        let sequences = sequences.collect();
        assert_eq!(entries.torn(), 0);
        sequences
    }

    #[test]
    fn receipts_are_chained_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        for sequence in 0..3 {
            keep(&opened(folder.path()), sequence).unwrap();
        }
        assert_eq!(sequences(folder.path()), [0, 1, 2]);
    }

    #[test]
    fn one_process_writes_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = opened(folder.path());
        assert!(matches!(Folder::open(folder.path()), Err(RecordError::InUse)));
        drop(first);
        opened(folder.path());
    }

    #[test]
    fn what_was_cut_off_in_an_append_is_moved_aside_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RECEIPTS);
        let writer = opened(folder.path());
        keep(&writer, 0).unwrap();
        let one = fs::read(&path).unwrap().len();
        keep(&writer, 1).unwrap();
        drop(writer);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let writer = opened(folder.path());
            keep(&writer, 7).unwrap();
            let torn = if cut < one { &whole[..cut] } else { &whole[one..cut] };
            let aside: Vec<_> =
                writer.set_aside().iter().map(|one| (fs::read(&one.path).unwrap(), one.bytes)).collect();
            let moved = (!torn.is_empty()).then(|| (torn.to_vec(), torn.len()));
            assert_eq!(aside, Vec::from_iter(moved), "cut at {cut}");
            writer.set_aside().iter().for_each(|one| fs::remove_file(&one.path).unwrap());
            let expected: &[u64] = if cut < one { &[7] } else { &[0, 7] };
            assert_eq!(sequences(folder.path()), expected, "cut at {cut}");
        }
    }

    #[test]
    fn new_folders_and_files_are_their_users_alone_and_others_stay_as_they_are() {
        let above = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = above.path().join("new");
        keep(&opened(&path), 0).unwrap();
        let file = path.join(RECEIPTS);
        fs::write(&file, &fs::read(&file).unwrap()[..9]).unwrap();
        let aside = opened(&path).set_aside().first().unwrap().path.clone();
        assert_eq!(mode(&path), 0o700);
        for file in [&path.join(APPRAISALS), &file, &aside] {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        opened(&path);
        assert_eq!((mode(&path), mode(&file)), (0o750, 0o640));
    }

    #[test]
    fn what_is_moved_aside_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let parts: Vec<&[u8]> = vec![b"\xa6", b"\xa6\x64", b"\xa6\x64p"];
        for part in &parts {
            fs::write(folder.path().join(RECEIPTS), part).unwrap();
            assert_eq!(opened(folder.path()).set_aside().len(), 1);
        }
        let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let torn = files.filter(|file| file.file_name().to_str().unwrap().starts_with("receipts.cbor.torn-"));
        let mut found: Vec<_> = torn.map(|file| fs::read(file.path()).unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, parts);
    }

    #[test]
    fn a_file_that_is_no_chain_is_not_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RECEIPTS);
        let writer = opened(folder.path());
        keep(&writer, 0).unwrap();
        drop(writer);
        let entry = fs::read(&path).unwrap();
        for (bytes, chain) in [([&entry[..], &entry].concat(), true), ([&entry[..], b"text"].concat(), false)]
        {
            fs::write(&path, &bytes).unwrap();
            let error = Folder::open(folder.path()).unwrap_err();
            assert_eq!(matches!(error, RecordError::Chain { index: 1, .. }), chain, "{error}");
            assert_eq!(matches!(error, RecordError::Format { index: 1, .. }), !chain, "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn many_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let writer = opened(folder.path());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let writer = &writer;
                scope.spawn(move || (0..16).for_each(|at| keep(writer, 16 * thread + at).unwrap()));
            }
        });
        let mut found = sequences(folder.path());
        found.sort_unstable();
        assert_eq!(found, (0..128).collect::<Vec<_>>());
    }

    #[test]
    fn a_receipt_of_an_appraisal_that_is_not_recorded_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Folder::open(folder.path()).unwrap();
        assert!(matches!(keep(&writer, 0), Err(RecordError::Unvouched)));
        let state = writer.receipts.state();
        assert_eq!((state.last, state.length), (FIRST, 0));
    }

    #[test]
    fn the_oldest_voucher_makes_way() {
        let mut vouchers = Vouchers::default();
        let nonce = |at: usize| {
            let mut nonce = [0; 32];
            nonce[..8].copy_from_slice(&at.to_be_bytes());
            Bytes(nonce)
        };
        for at in 0..=MAX_VOUCHERS {
            vouchers.put(nonce(at), Bytes([0; 32]));
        }
        assert_eq!((vouchers.records.len(), vouchers.order.len()), (MAX_VOUCHERS, MAX_VOUCHERS));
        assert!(!vouchers.records.contains_key(&nonce(0)) && vouchers.records.contains_key(&nonce(1)));
    }
}
