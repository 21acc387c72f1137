//! The clock, held against everything that says the time.

use super::finding::{CLOCK, Finding};
use confide_endorser::ServiceTime;
use confide_evidence::tdx::CollateralWindow;
use confide_evidence::time::format_seconds;

/// 2026-11-01: no build of this command is older.
const YOUNGEST: i64 = 1_793_491_200;
const YOUNGEST_DAY: &str = "2026-11-01";
/// Off by so many seconds a clock is wrong: windows of OCSP answers and of fresh certificates begin so shortly before.
const WRONG: u64 = 300;
/// Off by so many seconds a clock is kept by nobody.
const DRIFTED: u64 = 30;

/// What says the time.
pub(super) struct Signs<'a> {
    /// This machine's clock, seconds since the Unix epoch.
    pub(super) now: i64,
    /// What a vendor's service said.
    pub(super) service: Option<ServiceTime>,
    /// When Intel's collateral, which was taken for valid now, is valid.
    pub(super) windows: &'a [CollateralWindow],
    /// What systemd-timesyncd says.
    pub(super) synchronized: Option<bool>,
}

pub(super) fn clock(signs: &Signs<'_>) -> Finding {
    let now = format_seconds(signs.now);
    if signs.now < YOUNGEST {
        return CLOCK.fail(format!("{now}, before {YOUNGEST_DAY}, older than which no build is"));
    }
    if let Some(ServiceTime { from, said, here }) = &signs.service {
        let off = here.abs_diff(*said);
        let direction = if here < said { "behind" } else { "ahead of" };
        let found = format!("{now}, {off} s {direction} {from} (HTTP Date)");
        return match off {
            _ if off > WRONG => CLOCK.fail(found),
            _ if off > DRIFTED => CLOCK.warn(found),
            _ => CLOCK.ok(found),
        };
    }
    match (signs.synchronized, bounds(signs.windows)) {
        (Some(true), _) => CLOCK.ok(format!("{now}, set by the network as systemd-timesyncd says")),
        (synchronized, Some((from, until))) => {
            let unset = if synchronized.is_some() { "; systemd-timesyncd has not set it" } else { "" };
            CLOCK.warn(format!(
                "{now}, within the window of Intel's collateral ({} to {}), and nothing more exact was asked{unset}",
                format_seconds(from),
                format_seconds(until)
            ))
        }
        (Some(false), None) => CLOCK.warn(format!("{now}, and systemd-timesyncd has not set it")),
        (None, None) => CLOCK.warn(format!(
            "{now}, not before {YOUNGEST_DAY}, older than which no build is, and nothing else says the time"
        )),
    }
}

/// The window in which all parts are valid.
fn bounds(windows: &[CollateralWindow]) -> Option<(i64, i64)> {
    let from = windows.iter().map(|window| window.from).max()?;
    let until = windows.iter().map(|window| window.until).min()?;
    Some((from, until))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    const NOW: i64 = YOUNGEST + 1_000_000;

    fn signs() -> Signs<'static> {
        Signs { now: NOW, service: None, windows: &[], synchronized: None }
    }

    fn service(off: i64) -> Option<ServiceTime> {
        Some(ServiceTime { from: "vendor.example:443".to_owned(), said: NOW - off, here: NOW })
    }

    fn told(signs: &Signs<'_>, status: State, words: &str) {
        let finding = clock(signs);
        assert_eq!(finding.status, status, "{}", finding.found);
        assert!(finding.found.contains(words), "{}", finding.found);
    }

    #[test]
    fn a_clock_before_this_program_is_wrong_whatever_else_is_said() {
        let early = Signs { now: YOUNGEST - 1, synchronized: Some(true), ..signs() };
        told(&early, State::Fail, ", before 2026-11-01, older than which no build is");
    }

    #[test]
    fn a_service_decides_by_the_difference() {
        for (off, status) in [
            (0, State::Ok),
            (30, State::Ok),
            (-30, State::Ok),
            (31, State::Warn),
            (-300, State::Warn),
            (301, State::Fail),
            (-301, State::Fail),
        ] {
            let signs = Signs { service: service(off), synchronized: Some(true), ..signs() };
            let side = if off < 0 { "behind" } else { "ahead of" };
            told(&signs, status, &format!("{} s {side} vendor.example:443 (HTTP Date)", off.abs()));
        }
    }

    #[test]
    fn without_a_service_the_finding_says_what_it_rests_on() {
        let windows = [
            CollateralWindow { part: "a".to_owned(), from: NOW - 9, until: NOW + 9 },
            CollateralWindow { part: "b".to_owned(), from: NOW - 5, until: NOW + 99 },
        ];
        let between = format!("({} to {})", format_seconds(NOW - 5), format_seconds(NOW + 9));
        told(&Signs { windows: &windows, ..signs() }, State::Warn, &between);
        let unset = Signs { windows: &windows, synchronized: Some(false), ..signs() };
        told(&unset, State::Warn, "systemd-timesyncd has not set it");
        told(&Signs { synchronized: Some(true), ..signs() }, State::Ok, "systemd-timesyncd says");
        told(&Signs { synchronized: Some(false), ..signs() }, State::Warn, "has not set it");
        told(&signs(), State::Warn, "not before 2026-11-01, older than which no build is, and nothing else");
        assert_eq!(format_seconds(YOUNGEST), format!("{YOUNGEST_DAY}T00:00:00Z"));
    }
}
