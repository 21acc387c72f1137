//! `confide conformance`: cases of the conformance suite in, verdicts and whether they meet the cases out.
//!
//! `docs/conformance.md` describes both, `docs/conformance.schema.json` is the schema of a case.

mod case;
mod expected;
mod files;
mod verdict;

use crate::input::{self, DangerPolicies};
use crate::render;
use crate::status::{Failure, Status};
use case::{Case, Input};
use files::Files;
use serde::Serialize;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};

/// The most bytes of cases that one run reads. A case with a document and collateral of the largest sizes, both in
/// hexadecimal digits, has 17 MiB.
const MAX_INPUT: usize = 64 * 1024 * 1024;
/// The most cases of one run. Our own suite has under 500, the corpus of recorded evidence some 1,000.
const MAX_CASES: usize = 16 * 1024;

/// Appraise the cases of a conformance suite from standard input
///
/// Standard input holds cases, one JSON object after the other. Standard output gets one JSON object on a line for each:
/// its name, whether the verdict meets what the case expects, every difference, and the whole verdict. No network and no
/// clock: a case brings its time.
///
/// Exit status: 0 all cases are met, 10 a case is not met, 20 a case is of a kind that this build does not appraise,
/// 30 a case is malformed, 2 a case needs --danger, 1 a file cannot be read. Of several, the first in the order 30, 1,
/// 2, 10, 20.
#[derive(Debug, clap::Args)]
pub(crate) struct Conformance {
    /// Folder that the files lie in which cases name
    #[arg(long, value_name = "DIR", default_value = ".")]
    base: PathBuf,
    /// Also appraise cases whose policy has a [danger] table: simulated evidence
    #[arg(long)]
    danger: bool,
}

/// What became of one case, as printed.
#[derive(Debug, Serialize)]
struct Report {
    /// The case's name; nothing where it could not be read.
    case: Option<String>,
    /// Whether the verdict is as the case expects.
    met: bool,
    /// What is not.
    differences: Vec<String>,
    /// The verdict; nothing where there is an error.
    verdict: Option<serde_json::Value>,
    /// Why there is no verdict.
    error: Option<Fault>,
    #[serde(skip)]
    status: Status,
}

#[derive(Debug, Serialize)]
struct Fault {
    code: &'static str,
    message: String,
}

impl Conformance {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        render::while_working("appraising the cases of standard input", || self.appraise())
    }

    fn appraise(self) -> Result<Status, Failure> {
        let danger = if self.danger { DangerPolicies::Accepted } else { DangerPolicies::Refused };
        let files = Files::under(self.base);
        let bytes = input::read(Path::new("-"), MAX_INPUT)?;
        if bytes.len() > MAX_INPUT {
            return Err(case::malformed(format!("more than {MAX_INPUT} bytes of cases")));
        }
        let whole = Input::new(&bytes);
        let mut worst = None;
        let texts = serde_json::Deserializer::from_slice(&bytes).into_iter::<&RawValue>();
        for (count, text) in texts.enumerate() {
            let text = text.map_err(|error| case::malformed(error.to_string()))?;
            if count >= MAX_CASES {
                return Err(case::malformed(format!("more than {MAX_CASES} cases")));
            }
            let report = report(text.get(), &whole, &files, danger);
            render::line(&report.line());
            worst = Some(worst.map_or(report.status, |worst| worse(worst, report.status)));
        }
        worst.ok_or_else(|| case::malformed("standard input holds no case".to_owned()))
    }
}

/// The line of one case, with or without a [danger] table.
pub(crate) fn line(text: &str, base: PathBuf) -> String {
    report(text, &Input::new(text.as_bytes()), &Files::under(base), DangerPolicies::Accepted).line()
}

impl Report {
    fn line(&self) -> String {
        serde_json::to_string(self).expect("strings and lists always serialise")
    }
}

/// Appraises one case, which is a part of the input.
fn report(text: &str, input: &Input<'_>, files: &Files, danger: DangerPolicies) -> Report {
    let (case, evidence) = match Case::parse(text, input) {
        Ok(case) => case,
        Err(failure) => return without_verdict(None, &failure),
    };
    match verdict::of(&case, &evidence, files, danger) {
        Ok(verdict) => {
            let differences = case.expected.differences(&verdict);
            let met = differences.is_empty();
            let status = if met { Status::Accepted } else { Status::Rejected };
            Report { case: Some(case.name), met, differences, verdict: Some(verdict), error: None, status }
        }
        Err(failure) => without_verdict(Some(case.name), &failure),
    }
}

fn without_verdict(case: Option<String>, failure: &Failure) -> Report {
    let error = Fault { code: failure.code(), message: failure.message().to_owned() };
    let status = failure.status();
    Report { case, met: false, differences: Vec::new(), verdict: None, error: Some(error), status }
}

fn worse(one: Status, other: Status) -> Status {
    let rank = |status| match status {
        Status::Accepted => 0,
        Status::Unsupported => 1,
        Status::Rejected => 2,
        Status::Usage => 3,
        Status::Internal => 4,
        Status::Malformed => 5,
    };
    if rank(other) > rank(one) { other } else { one }
}
