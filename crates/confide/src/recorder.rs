//! What a client saw on the disk: in a record file, or in a folder with the receipts of its answers.

use crate::record;
use crate::render;
use crate::replay;
use crate::status::{Failure, Status};
use confide_client::{Appraised, ClientBuilder, VerifiedReceipt};
use confide_record::{Folder, Keep, RecordError, SetAside};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Writes every appraisal of its clients to a record file or folder, where one was asked for, before anything rests on it;
/// to a folder also every receipt, before the end of its answer is handed over. Nothing is queued: who attests waits until
/// its record is on the disk, and an appraisal that cannot be written opens nothing.
pub(crate) struct Recorder {
    to: Option<To>,
    lost: Arc<Lost>,
}

#[derive(Clone)]
enum To {
    /// One append at a time: those of several instances would wait for each other's lock.
    File(Arc<Mutex<PathBuf>>),
    Folder(Arc<Path>, Arc<Folder>),
}

/// Why something could not be written.
#[derive(Default)]
struct Lost {
    first: Mutex<Option<Failure>>,
    told: Notify,
}

impl Recorder {
    /// Records to this path, where there is one. It is a folder where one is there or the path ends with a slash, and a file
    /// otherwise. What cannot be recorded to is told by [`Self::check`].
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        let lost = Arc::<Lost>::default();
        let Some(path) = path else { return Self { to: None, lost } };
        let to = render::while_working(&reading(&path), || To::opened(path.clone(), &lost));
        Self { to: Some(to), lost }
    }

    /// Records the appraisals of a client, and to a folder its receipts.
    pub(crate) fn watch(&self, builder: ClientBuilder) -> ClientBuilder {
        let Some(to) = &self.to else { return builder };
        let (lost, records) = (Arc::clone(&self.lost), to.clone());
        let builder = builder.record_appraisals(move |appraised| lost.told(records.record(appraised)));
        let To::Folder(path, folder) = to.clone() else { return builder };
        let lost = Arc::clone(&self.lost);
        builder.keep_receipts(move |receipt| {
            let kept = keep(&folder, receipt).map_err(|error| fault(&path, error));
            lost.told(kept)
        })
    }

    /// Whether everything so far could be written.
    ///
    /// # Errors
    /// Why the first that could not was not, where that was not told yet.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.lost.first().take().map_or(Ok(()), Err)
    }

    /// Waits until something cannot be written.
    pub(crate) async fn lost(&self) {
        self.lost.told.notified().await;
    }
}

impl To {
    /// Opens what is recorded to, and follows its chains to their ends.
    fn opened(path: PathBuf, lost: &Lost) -> Self {
        if !is_folder(&path) {
            if let Err(failure) = record::check(&path) {
                lost.note(failure);
            }
            return Self::file(path);
        }
        match Folder::open(&path) {
            Ok(folder) => {
                folder.set_aside().iter().for_each(tell);
                Self::Folder(path.into(), Arc::new(folder))
            }
            Err(error) => {
                lost.note(fault(&path, error));
                // Nothing is written there; whoever does not check learns of it at the first appraisal.
                Self::file(path)
            }
        }
    }

    fn file(path: PathBuf) -> Self {
        Self::File(Arc::new(Mutex::new(path)))
    }

    fn record(&self, appraised: &Appraised) -> Result<(), Failure> {
        match self {
            Self::File(file) => {
                let file = file.lock().unwrap_or_else(PoisonError::into_inner);
                record::append(appraised.recording(), &appraised.result, &file)
            }
            Self::Folder(path, folder) => {
                let recorded = folder.record(appraised.recording(), &appraised.result);
                recorded.map_err(|error| fault(path, error))
            }
        }
    }
}

impl Lost {
    fn first(&self) -> MutexGuard<'_, Option<Failure>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, failure: Failure) {
        self.first().get_or_insert(failure);
        self.told.notify_one();
    }

    /// Notes a failure, and gives what a client is told of it.
    fn told(&self, written: Result<(), Failure>) -> io::Result<()> {
        written.map_err(|failure| {
            let told = io::Error::other(failure.message().to_owned());
            self.note(failure);
            told
        })
    }
}

fn keep(folder: &Folder, verified: &VerifiedReceipt) -> Result<(), RecordError> {
    let VerifiedReceipt { receipt, bodies, sent, nonce } = verified;
    folder.keep(Keep { receipt, bodies, sent: *sent, nonce })
}

/// What takes long where there are many records.
pub(crate) fn reading(path: &Path) -> String {
    format!("following the records of {} to their end", path.display())
}

/// Tells what was moved aside.
pub(crate) fn tell(SetAside { path, bytes }: &SetAside) {
    let what = "an append that was broken off, or what somebody cut";
    render::note(&format!("moved {bytes} bytes that are part of no entry to {}: {what}", path.display()));
}

fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// What is wrong with a folder of records, as a failure of the program.
pub(crate) fn fault(path: &Path, error: RecordError) -> Failure {
    match error {
        RecordError::InUse => {
            let message = format!("{}: {error}", path.display());
            Failure::new(Status::Internal, "record_folder_in_use", message)
        }
        RecordError::Io(error) => {
            Failure::new(Status::Internal, "file_unwritable", format!("{}: {error}", path.display()))
        }
        error => replay::fault(path, error),
    }
}
