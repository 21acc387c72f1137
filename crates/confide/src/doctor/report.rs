//! The findings, for people and for programs.

use super::cpu;
use super::finding::{APPRAISAL, Finding, State, TCB};
use crate::render::{self, Colour};
use crate::status::Status;
use confide_attester::kernel::Place;
use confide_endorser::Network;
use confide_evidence::text::escape_json;
use serde::Serialize;
use std::fmt::Write as _;
use std::io;

/// All findings about a machine.
#[derive(Serialize)]
pub(super) struct Report {
    /// `tdx_guest`, `snp_guest`, `tdx_host`, `snp_host` or `none`.
    machine: &'static str,
    #[serde(skip)]
    words: &'static str,
    simulated: bool,
    /// RFC 3339.
    time: String,
    /// Whether every check could be run, or does not apply.
    complete: bool,
    /// Whether it is complete and nothing must be mended.
    healthy: bool,
    #[serde(skip)]
    status: Status,
    findings: Vec<Finding>,
}

/// Whether anything was found out about software that plays a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    Genuine,
    Simulated,
}

impl Report {
    pub(super) fn new(
        place: Place,
        nature: Nature,
        network: Network,
        time: String,
        findings: Vec<Finding>,
    ) -> Self {
        let failed = findings.iter().any(|finding| finding.status == State::Fail);
        let complete = findings.iter().all(|finding| finding.status != State::NotRun);
        // What such a guest is asked for above all. Without a network it could not be told, and was not to be.
        let untold = place == Place::TdxGuest
            && network == Network::Online
            && findings.iter().any(|finding| finding.status == State::NotRun && is_of_tcb(finding));
        Self {
            machine: cpu::name(place),
            words: cpu::words(place),
            simulated: nature == Nature::Simulated,
            time,
            complete,
            healthy: complete && !failed,
            status: if failed || untold { Status::Rejected } else { Status::Accepted },
            findings,
        }
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            let json = serde_json::to_string(self).expect("strings always serialise");
            return render::line(&escape_json(json));
        }
        render::bytes(self.tree(Colour::of(&io::stdout())).as_bytes());
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.status == state).count()
    }

    fn tree(&self, colour: Colour) -> String {
        let (failed, warnings) = (self.count(State::Fail), self.count(State::Warn));
        let not_run = self.count(State::NotRun);
        let (word, code) = match (failed, not_run, warnings) {
            (0, 0, 0) => ("HEALTHY".to_owned(), "1;32"),
            (0, 0, _) => (format!("HEALTHY, warnings: {warnings}"), "1;32"),
            (0, _, _) => (format!("INCOMPLETE, not run: {not_run}, warnings: {warnings}"), "1;33"),
            _ => (format!("TO BE MENDED: {failed}, warnings: {warnings}"), "1;31"),
        };
        let simulated = if self.simulated { colour.paint("1;35", "SIMULATED ") } else { String::new() };
        let mut out = String::new();
        let _ = writeln!(out, "{simulated}{}", colour.paint(code, &word));
        let _ = writeln!(out, "├─ machine: {}", self.words);
        let _ = writeln!(out, "├─ time: {}", self.time);
        let _ = writeln!(out, "└─ findings");
        for finding in &self.findings {
            write_finding(&mut out, finding, colour);
        }
        out
    }
}

/// Whether it says what the platform is worth.
fn is_of_tcb(finding: &Finding) -> bool {
    [TCB.code(), APPRAISAL.code()].contains(&finding.code)
}

fn write_finding(out: &mut String, finding: &Finding, colour: Colour) {
    let (mark, code) = match finding.status {
        State::Ok => ("✓", "32"),
        State::Warn => ("!", "33"),
        State::Fail => ("✗", "31"),
        State::NotApplicable => ("-", "2"),
        State::NotRun => ("·", "2"),
    };
    let mark = colour.paint(code, mark);
    let found = render::harmless(&finding.found);
    let _ = match finding.status {
        State::Ok => writeln!(out, "   {mark} {}: {found}", finding.code),
        State::NotApplicable => writeln!(out, "   {mark} {}: not applicable: {found}", finding.code),
        State::NotRun => writeln!(out, "   {mark} {}: not run: {found}", finding.code),
        State::Warn | State::Fail => writeln!(
            out,
            "   {mark} {}\n       expected {}\n       found    {found}",
            finding.code, finding.expected
        ),
    };
    if let Some(remedy) = &finding.remedy {
        let _ = writeln!(out, "       do       {}", render::harmless(remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{CLOCK, GPU_RIM, QUOTE, TEE};
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        of(Place::TdxGuest, Network::Online, findings)
    }

    fn of(place: Place, network: Network, findings: Vec<Finding>) -> Report {
        Report::new(place, Nature::Genuine, network, "2026-11-01T00:00:00Z".to_owned(), findings)
    }

    #[test]
    fn only_what_must_be_mended_fails() {
        let healthy =
            report(vec![TEE.ok("f"), CLOCK.warn("f"), TCB.not_applicable("f"), GPU_RIM.not_applicable("f")]);
        assert_eq!(healthy.status(), Status::Accepted);
        assert!(healthy.tree(Colour::Off).starts_with("HEALTHY, warnings: 1\n"));
        let failed = report(vec![TEE.ok("f"), QUOTE.fail("f")]);
        assert_eq!(failed.status(), Status::Rejected);
        assert!(failed.tree(Colour::Off).starts_with("TO BE MENDED: 1, warnings: 0\n"));
        let failed = report(vec![TCB.not_run("f"), QUOTE.fail("f")]);
        assert!(failed.tree(Colour::Off).starts_with("TO BE MENDED: 1, warnings: 0\n"));
        assert_eq!((failed.status(), failed.complete, failed.healthy), (Status::Rejected, false, false));
    }

    #[test]
    fn what_could_not_be_run_is_not_called_healthy() {
        for (place, network, finding, status) in [
            (Place::TdxGuest, Network::Online, TCB.not_run("f"), Status::Rejected),
            (Place::TdxGuest, Network::Online, APPRAISAL.not_run("f"), Status::Rejected),
            (Place::TdxGuest, Network::Offline, TCB.not_run("f"), Status::Accepted),
            (Place::TdxGuest, Network::Online, GPU_RIM.not_run("f"), Status::Accepted),
            (Place::TdxHost, Network::Online, TCB.not_run("f"), Status::Accepted),
        ] {
            let told = of(place, network, vec![TEE.ok("f"), CLOCK.warn("f"), finding]);
            assert_eq!((told.status(), told.complete, told.healthy), (status, false, false), "{place:?}");
            assert!(told.tree(Colour::Off).starts_with("INCOMPLETE, not run: 1, warnings: 1\n"));
        }
    }

    #[test]
    fn a_finding_shows_what_was_expected_and_what_to_do() {
        let text =
            report(vec![QUOTE.fail_do("EIO\u{1b}[2J", "mend it"), TCB.not_run("none")]).tree(Colour::Off);
        let expected = "   ✗ doctor_quoting_service\n       expected a quote in time\n       found    EIO\\u{1b}[2J\n       \
                        do       mend it\n   · doctor_tcb: not run: none\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let report = report(vec![TEE.ok("f"), QUOTE.fail("f"), CLOCK.warn("f"), TCB.not_run("f")]);
        let coloured = report.tree(Colour::On);
        let plain: String = coloured
            .split('\x1b')
            .enumerate()
            .map(|(at, piece)| if at == 0 { piece } else { piece.split_once('m').unwrap().1 })
            .collect();
        assert_eq!(plain, report.tree(Colour::Off));
    }
}
