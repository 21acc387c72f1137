//! What the kernel counts time by, once a broker's signed answer has set the clock.

use std::fs;
use std::path::Path;

use confide_attester::Nature;

use super::error::BootError;

/// The clock that the kernel counts time by, and the file that chooses another one.
const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// The one that no host sets in a TDX guest.
const TSC: &str = "tsc";

/// Has the kernel count time by the TSC. A SIMULATED platform may count by what it has.
///
/// # Errors
/// [`BootError::Clock`] where the kernel counts by something else, [`BootError::System`] where it does not tell.
pub(crate) fn check(nature: Nature) -> Result<(), BootError> {
    check_at(Path::new(SOURCE), nature)
}

fn check_at(source: &Path, nature: Nature) -> Result<(), BootError> {
    let counted_by_tsc = count_by_tsc(source);
    match nature {
        Nature::Hardware => counted_by_tsc,
        Nature::Simulated => {
            if let Err(error) = counted_by_tsc {
                tracing::warn!(%error, "SIMULATED: the time is UNTRUSTED");
            }
            Ok(())
        }
    }
}

fn count_by_tsc(source: &Path) -> Result<(), BootError> {
    let current = || {
        let name = fs::read_to_string(source);
        let fault = |error| BootError::System { action: "read", path: source.to_owned(), source: error };
        name.map(|name| name.trim_end().to_owned()).map_err(fault)
    };
    if current()? == TSC {
        return Ok(());
    }
    // A kernel that has no TSC to count by, or does not rely on it, takes no notice: what it counts by then is read again.
    let _asked = fs::write(source, TSC);
    match current()? {
        found if found == TSC => Ok(()),
        found => Err(BootError::Clock { found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_not_the_tsc_is_set_to_it_and_refused_on_hardware_where_it_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "tsc\n").unwrap();
        check_at(file.path(), Nature::Hardware).unwrap();
        fs::write(file.path(), "kvm-clock\n").unwrap();
        check_at(file.path(), Nature::Hardware).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "tsc", "the kernel is asked to count by it");
        // Nobody writes this one.
        let fixed = Path::new("/proc/sys/kernel/ostype");
        let refused = check_at(fixed, Nature::Hardware).unwrap_err();
        assert_eq!(refused.code(), "clock_untrusted");
        assert!(refused.to_string().contains("\"Linux\""), "{refused}");
        check_at(fixed, Nature::Simulated).unwrap();
        let gone = Path::new("/nonexistent/clock");
        assert_eq!(check_at(gone, Nature::Hardware).unwrap_err().code(), "system_failed");
        check_at(gone, Nature::Simulated).unwrap();
    }
}
