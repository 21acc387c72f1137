//! The firmware's event log, as ACPI's CCEL table points to it and the kernel shows it (Linux 6.3, `acpi/tables/data`).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use confide_evidence::boot_log::{BootLog, MAX_BOOT_LOG};

use crate::error::AttesterError;

/// Where the kernel shows the log, with the padding of its table.
pub(crate) const CCEL: &str = "/sys/firmware/acpi/tables/data/CCEL";

/// The log without its padding; nothing where the firmware or the kernel offers none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, AttesterError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unreadable(path, source)),
    };
    let mut table = Vec::new();
    // One byte more than a log may have, so that the parser sees that it is too long.
    let limit = u64::try_from(MAX_BOOT_LOG).unwrap_or(u64::MAX).saturating_add(1);
    file.by_ref().take(limit).read_to_end(&mut table).map_err(|source| unreadable(path, source))?;
    let log =
        BootLog::parse(&table).map_err(|source| AttesterError::BootLog { path: path.to_owned(), source })?;
    Ok(Some(log.bytes().to_vec()))
}

fn unreadable(path: &Path, source: io::Error) -> AttesterError {
    AttesterError::Device { action: "read", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_simulator::SimulatedBootLog;

    fn read_from(contents: &[u8]) -> Result<Option<Vec<u8>>, AttesterError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("CCEL");
        std::fs::write(&path, contents).unwrap();
        read(&path)
    }

    #[test]
    fn a_log_loses_the_padding_of_its_table() {
        let log = SimulatedBootLog::default();
        assert_eq!(read_from(&log.table(65_536)).unwrap(), Some(log.to_bytes()));
    }

    #[test]
    fn a_machine_without_a_log_has_none() {
        assert!(matches!(read(Path::new("/nonexistent/CCEL")), Ok(None)));
    }

    #[test]
    fn a_log_that_no_verifier_could_read_is_an_error() {
        for table in [vec![1; 100], SimulatedBootLog::default().table(MAX_BOOT_LOG + 1)] {
            assert!(matches!(read_from(&table), Err(AttesterError::BootLog { .. })));
        }
    }
}
