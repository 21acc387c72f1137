//! The endorsements of the guest's GPUs and switches as they are stapled to its evidence.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use confide_endorser::gpu_endorsements;
use confide_evidence::document::NvidiaEndorsements;
use tokio::task::JoinHandle;

/// What is stapled at present. Clones are the same staple.
#[derive(Clone)]
pub(crate) struct GpuStaple(Arc<RwLock<Arc<NvidiaEndorsements>>>);

/// A staple that is read again for as long as this is, where it has a folder.
pub(crate) struct GpuStapling {
    staple: GpuStaple,
    work: Option<JoinHandle<()>>,
}

impl GpuStaple {
    fn new(endorsements: Arc<NvidiaEndorsements>) -> Self {
        Self(Arc::new(RwLock::new(endorsements)))
    }

    /// What is to be stapled.
    pub(crate) fn current(&self) -> Arc<NvidiaEndorsements> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, endorsements: NvidiaEndorsements) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(endorsements);
    }

    /// Reads the folder again after each pause. Where it cannot be read, the staple stays; the first of several failures is
    /// told. What is over is stapled, too: an appraisal says so of it, as it does of what is missing.
    async fn refresh(self, folder: PathBuf, pause: Duration) {
        let mut failing = false;
        loop {
            tokio::time::sleep(pause).await;
            let path = folder.clone();
            match tokio::task::spawn_blocking(move || gpu_endorsements(&path)).await {
                Ok(Ok(endorsements)) => {
                    failing = false;
                    self.put(endorsements);
                }
                Ok(Err(error)) => {
                    let code = error.code();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(code, %error, "endorsements of the GPUs not read again");
                    }
                }
                // It panicked, which is told, or the runtime ends.
                Err(_) => {}
            }
        }
    }
}

impl GpuStapling {
    /// Staples what is given. Where it was read from a folder, that is read again after each pause.
    pub(crate) fn begin(first: Arc<NvidiaEndorsements>, folder: Option<PathBuf>, pause: Duration) -> Self {
        let staple = GpuStaple::new(first);
        let work = folder.map(|folder| tokio::spawn(staple.clone().refresh(folder, pause)));
        Self { staple, work }
    }

    /// What is stapled.
    pub(crate) fn staple(&self) -> GpuStaple {
        self.staple.clone()
    }
}

impl Drop for GpuStapling {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}
