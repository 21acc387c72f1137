//! Requests to a configfs-tsm that another process plays in a plain folder, for tests.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use confide_evidence::tdx::MAX_QUOTE;

use crate::tsm::Requests;

/// How long the other process may take to fill a folder.
const PATIENCE: Duration = Duration::from_secs(20);

/// The other process makes the files of a new folder, `provider` last, and writes the answer to the pipe `outblob`. Where it
/// is to refuse, a file `create.errno` beside the folders or `outblob.errno` in one holds the error's number.
pub(crate) struct Served;

impl Requests for Served {
    fn create(&self, request: &Path) -> io::Result<()> {
        if let Some(error) = request.parent().and_then(|reports| refusal(&reports.join("create.errno"))) {
            return Err(error);
        }
        fs::create_dir(request)?;
        let begun = Instant::now();
        while !request.join("provider").exists() {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("nobody serves this folder"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn remove(&self, request: &Path) -> io::Result<()> {
        fs::remove_dir_all(request)
    }

    fn outblob(&self, request: &Path) -> io::Result<Vec<u8>> {
        if let Some(error) = refusal(&request.join("outblob.errno")) {
            return Err(error);
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_QUOTE).unwrap_or(u64::MAX).saturating_add(1);
        fs::File::open(request.join("outblob"))?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn refusal(path: &Path) -> Option<io::Error> {
    let number = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    Some(io::Error::from_raw_os_error(number))
}
