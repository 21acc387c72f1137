//! Verdicts for people: a tree on standard output, colour only on a terminal.

use crate::status::{self, Failure};
use confide_evidence::text::{escape_json, steers};
use confide_verifier::{
    AttestationResult, Check, DeviceOutcome, DeviceResult, Measurements, Outcome, Status,
};
use serde::Serialize;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// ANSI colours.
    On,
    /// Plain text.
    Off,
}

/// Where text goes.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Terminal,
    Other,
}

impl Colour {
    /// For a stream of this process.
    #[must_use]
    pub fn of(stream: &impl IsTerminal) -> Self {
        let stream = if stream.is_terminal() { Stream::Terminal } else { Stream::Other };
        Self::on(stream, std::env::var_os("NO_COLOR").as_deref())
    }

    /// On a terminal, unless `NO_COLOR` is there and not empty (no-color.org).
    fn on(stream: Stream, no_color: Option<&OsStr>) -> Self {
        match (stream, no_color) {
            (Stream::Terminal, None) => Self::On,
            (Stream::Terminal, Some(value)) if value.is_empty() => Self::On,
            (Stream::Terminal, Some(_)) | (Stream::Other, _) => Self::Off,
        }
    }

    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Off => text.to_owned(),
        }
    }
}

/// How a verdict is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// A tree to read
    Text,
    /// One JSON object on a line
    Json,
    /// The claims of draft-ietf-rats-ear-04, unsigned, one JSON object on a line
    Ear,
}

/// How the user wants a verdict printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Shown {
    /// Print the verdict as one JSON object; the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How to print the verdict
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Form::Text)]
    format: Form,
}

impl Shown {
    /// The form asked for.
    pub(crate) fn form(self) -> Form {
        if self.json { Form::Json } else { self.format }
    }
}

/// Prints a verdict to standard output.
pub(crate) fn verdict(result: &AttestationResult, form: Form) {
    let text = match form {
        Form::Text => tree(result, Colour::of(&io::stdout())),
        Form::Json => format!("{}\n", result.to_json()),
        Form::Ear => format!("{}\n", result.to_ear()),
    };
    bytes(text.as_bytes());
}

/// A number of things, each of which is called `one` by itself: `1 record`, `2 records`.
pub(crate) fn counted(number: impl TryInto<u64>, one: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    }
}

/// Prints one line to standard output.
pub(crate) fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Prints text for people to standard output, with a line end: what a terminal would obey in it is shown.
pub(crate) fn prose(text: &str) {
    let lines: Vec<String> = text.split('\n').map(harmless).collect();
    bytes(format!("{}\n", lines.join("\n")).as_bytes());
}

/// Prints to standard output.
pub(crate) fn bytes(bytes: &[u8]) {
    PRINTED.store(true, Ordering::Relaxed);
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Whether anything was printed to standard output.
static PRINTED: AtomicBool = AtomicBool::new(false);
/// The first error of standard output.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Notes what became of a write to standard output. A closed pipe is the reader's choice, and the exit status still
/// tells; a full disk is nobody's, and a file cut short must not pass for a verdict.
pub(crate) fn written(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(error);
    }
}

/// The failure of a program whose output is not all there.
pub(crate) fn unwritten() -> Option<Failure> {
    let error = UNWRITTEN.get()?;
    Some(Failure::new(
        status::Status::Internal,
        "output_failed",
        format!("standard output cannot be written: {error}"),
    ))
}

/// Prints a verdict's tree to standard error, where standard output carries something else.
pub(crate) fn verdict_to_stderr(result: &AttestationResult) {
    let mut out = io::stderr().lock();
    let text = tree(result, Colour::of(&out));
    let _ = out.write_all(text.as_bytes());
}

/// Prints a failure that is no verdict to standard error: what happened, its code, what to do.
pub(crate) fn failure(failure: &Failure) {
    let mut out = io::stderr().lock();
    let colour = Colour::of(&out);
    // Messages may have lines: a TOML error shows the line that it is about.
    let message: Vec<String> = failure.message().lines().map(harmless).collect();
    let mut text = format!("{} {} [{}]\n", colour.paint("31", "error:"), message.join("\n"), failure.code());
    if let Some(hint) = failure.what_to_do() {
        let _ = writeln!(text, "  {hint}");
    }
    let _ = out.write_all(text.as_bytes());
}

/// A failure in the place of the object that was asked for.
#[derive(Serialize)]
struct PrintedFailure<'a> {
    error: PrintedError<'a>,
}

#[derive(Serialize)]
struct PrintedError<'a> {
    code: &'a str,
    message: &'a str,
    what_to_do: Option<&'a str>,
}

/// Prints a failure that is no verdict to standard output as one JSON object, where nothing stands there yet: what was printed
/// before tells what there is to tell.
pub(crate) fn failure_as_json(failure: &Failure) {
    if !PRINTED.load(Ordering::Relaxed) {
        failure_line(failure);
    }
}

/// Prints a failure to standard output as one JSON object behind those that stand there.
pub(crate) fn failure_line(failure: &Failure) {
    let (code, message, what_to_do) = (failure.code(), failure.message(), failure.what_to_do());
    let printed = PrintedFailure { error: PrintedError { code, message, what_to_do } };
    let json = serde_json::to_string(&printed).expect("texts always serialise");
    line(&escape_json(json));
}

/// Prints to standard error what a verdict does not say of itself.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "note: {}", harmless(text));
}

/// Says on a terminal what is waited for.
pub(crate) fn progress(text: &str) {
    let mut out = io::stderr().lock();
    if out.is_terminal() {
        let _ = writeln!(out, "… {}", harmless(text));
    }
}

/// How long work may take before a terminal is told of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Does work, and says on a terminal what is waited for where it takes more than a second.
pub(crate) async fn with_progress<T>(text: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(PATIENCE) => progress(text),
    }
    work.await
}

/// Does work that waits for nothing else, and says on a terminal what takes so long where it is more than a second.
pub(crate) fn while_working<T>(text: &str, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    let (done, working) = mpsc::channel::<Infallible>();
    thread::scope(|scope| {
        let told = move || {
            if working.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                progress(text);
            }
        };
        // Without a thread for it nobody is told, and the work is done all the same.
        let _ = thread::Builder::new().spawn_scoped(scope, told);
        let result = work();
        drop(done);
        result
    })
}

/// The tree of a verdict.
#[must_use]
pub fn tree(result: &AttestationResult, colour: Colour) -> String {
    let mut out = String::new();
    let word = outcome(result.outcome);
    let code = match result.outcome {
        Outcome::Accepted => "1;32",
        Outcome::Rejected | Outcome::Malformed => "1;31",
        Outcome::Unsupported => "1;33",
    };
    let simulated = if result.simulated { colour.paint("1;35", "SIMULATED ") } else { String::new() };
    let because = result.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let _ = writeln!(out, "{simulated}{}{because}", colour.paint(code, word));
    for (name, value) in facts(result) {
        let _ = writeln!(out, "├─ {name}: {}", harmless(&value));
    }
    let _ = writeln!(out, "├─ checks");
    for check in &result.checks {
        write_check(&mut out, check, colour);
    }
    let _ = writeln!(out, "└─ this verdict assumes");
    for assumption in &result.assumptions {
        let _ = writeln!(out, "   · {assumption}");
    }
    out
}

/// An outcome in the words of a tree.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "ACCEPTED",
        Outcome::Rejected => "REJECTED",
        Outcome::Unsupported => "UNSUPPORTED FORMAT",
        Outcome::Malformed => "MALFORMED",
    }
}

fn facts(result: &AttestationResult) -> Vec<(&'static str, String)> {
    let mut facts = vec![("policy", result.policy.clone()), ("time", result.time.clone())];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("time of manifests", result.rim_time.clone());
    add("platform", result.platform.map(str::to_owned));
    add("TCB status", result.tcb_status.map(str::to_owned));
    add("advisories", (!result.advisory_ids.is_empty()).then(|| result.advisory_ids.join(", ")));
    let early = result.early_tcb_status.filter(|early| Some(*early) != result.tcb_status);
    add("TCB recovery coming", early.map(|status| format!("the status becomes {status}")));
    add("reference set", result.reference_set.clone());
    let measurements = result.measurements.as_ref();
    add("MRTD", measurements.and_then(Measurements::tdx).map(|tdx| tdx.mr_td.to_string()));
    add("MEASUREMENT", measurements.and_then(Measurements::snp).map(|snp| snp.measurement.to_string()));
    for device in &result.devices {
        add("device", Some(device_line(device)));
        let of_device = device.facts.iter().flat_map(|facts| &facts.manifests);
        let manifests: Vec<&str> = of_device.map(|manifest| manifest.version.as_str()).collect();
        add("its manifests", (!manifests.is_empty()).then(|| manifests.join(", ")));
    }
    add("platform binding", result.platform_binding.map(str::to_owned));
    add("valid until", result.valid_until.clone());
    facts
}

/// A device in one line: what its evidence says of it, where that is authentic, and what was wrong with it.
fn device_line(device: &DeviceResult) -> String {
    let mut line = format!("{} {}", device.position, device.kind);
    if let Some(facts) = &device.facts {
        let version = facts.driver.as_deref().or(facts.vbios.as_deref()).unwrap_or("unknown version");
        let _ = write!(line, " {} {version}, mode {}, serial {}", facts.family, facts.mode, facts.serial);
    }
    let became = match device.outcome {
        DeviceOutcome::Accepted => return line,
        DeviceOutcome::Rejected => "rejected",
        DeviceOutcome::Unsupported => "not supported",
        DeviceOutcome::Malformed => "malformed",
        DeviceOutcome::NotRun => "not looked at",
    };
    let _ = write!(line, ": {became}");
    if let Some(code) = device.code {
        let _ = write!(line, " ({code})");
    }
    line
}

fn write_check(out: &mut String, check: &Check, colour: Colour) {
    let (mark, code) = match check.status {
        Status::Pass => ("✓", "32"),
        Status::Fail => ("✗", "31"),
        Status::Waived => ("~", "33"),
        Status::NotRun => ("·", "2"),
    };
    let mark = colour.paint(code, mark);
    let (expected, actual) = (harmless(&check.expected), harmless(&check.actual));
    let _ = match check.status {
        Status::Pass => writeln!(out, "│  {mark} {}: {actual}", check.code),
        Status::Waived => writeln!(out, "│  {mark} {}: {expected} ({actual})", check.code),
        Status::NotRun => writeln!(out, "│  {mark} {}: {actual}", check.code),
        Status::Fail => writeln!(
            out,
            "│  {mark} {}\n│      expected {expected}\n│      found    {actual}\n│      see      {}",
            check.code, check.reference
        ),
    };
    if let Some(remedy) = &check.remedy {
        let _ = writeln!(out, "│      do       {}", harmless(remedy));
    }
}

/// Text that evidence or a recorded policy may have chosen, on one line: what a terminal would obey (control characters)
/// or reorder text by (Unicode's bidirectional formatting) is shown as an escape.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for one in text.chars() {
        if steers(one) {
            out.extend(one.escape_unicode());
        } else {
            out.push(one);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thing_is_called_by_its_name() {
        assert_eq!(
            [0, 1, 2].map(|number: u8| counted(number, "record")),
            ["0 records", "1 record", "2 records"]
        );
    }

    #[test]
    fn a_terminal_neither_obeys_nor_reorders_what_evidence_says() {
        let shown = harmless("CN\x1b[2J\u{9b}1m\r\nACCEPTED\u{202e}é");
        assert_eq!(shown, "CN\\u{1b}[2J\\u{9b}1m\\u{d}\\u{a}ACCEPTED\\u{202e}é");
    }

    #[test]
    fn colour_is_for_terminals_whose_user_does_not_refuse_it() {
        let cases = [
            (Stream::Terminal, None, Colour::On),
            (Stream::Terminal, Some(""), Colour::On),
            (Stream::Terminal, Some("1"), Colour::Off),
            (Stream::Terminal, Some("0"), Colour::Off),
            (Stream::Other, None, Colour::Off),
            (Stream::Other, Some(""), Colour::Off),
            (Stream::Other, Some("1"), Colour::Off),
        ];
        for (stream, no_color, expected) in cases {
            assert_eq!(Colour::on(stream, no_color.map(OsStr::new)), expected, "{stream:?} {no_color:?}");
        }
    }

    /// A simulated verdict with a check of each status.
    fn result(outcome: Outcome) -> AttestationResult {
        let check = |status| Check {
            code: "a_check",
            status,
            expected: "this".into(),
            actual: "that".into(),
            reference: "a standard",
            remedy: (status == Status::Fail).then(|| "do something".into()),
        };
        AttestationResult {
            outcome,
            code: None,
            simulated: true,
            platform: Some("tdx"),
            policy: "a policy".to_owned(),
            time: "2026-01-01T00:00:00Z".to_owned(),
            rim_time: None,
            tcb_status: None,
            tcb_date: None,
            pck: None,
            advisory_ids: Vec::new(),
            early_tcb_status: None,
            reference_set: None,
            measurements: None,
            report_data: None,
            valid_until: None,
            platform_binding: None,
            devices: Vec::new(),
            checks: [Status::Pass, Status::Fail, Status::Waived, Status::NotRun].map(check).to_vec(),
            assumptions: vec!["nothing"],
        }
    }

    /// The text without its colours, and how often one of them began.
    fn stripped(coloured: &str) -> (String, usize) {
        let mut pieces = coloured.split('\x1b');
        let mut plain = pieces.next().unwrap_or_default().to_owned();
        let mut begun = 0;
        for piece in pieces {
            let (code, text) = piece.strip_prefix('[').unwrap().split_once('m').unwrap();
            assert!(code.chars().all(|one| one.is_ascii_digit() || one == ';'), "{code:?}");
            begun += usize::from(code != "0");
            plain.push_str(text);
        }
        (plain, begun)
    }

    #[test]
    fn a_coloured_tree_is_the_plain_tree_with_colours() {
        for outcome in [Outcome::Accepted, Outcome::Rejected, Outcome::Unsupported, Outcome::Malformed] {
            let result = result(outcome);
            let (coloured, plain) = (tree(&result, Colour::On), tree(&result, Colour::Off));
            // SIMULATED, the outcome, and the mark of each check.
            assert_eq!(stripped(&coloured), (plain.clone(), 2 + result.checks.len()), "{coloured}");
            assert!(!plain.contains('\x1b'), "{plain}");
        }
        let line = tree(&result(Outcome::Rejected), Colour::On).lines().next().unwrap().to_owned();
        assert_eq!(line, "\x1b[1;35mSIMULATED \x1b[0m\x1b[1;31mREJECTED\x1b[0m");
    }
}
