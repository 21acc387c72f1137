//! What a boot says on its console: one JSON object a line, each flushed.

use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;

use crate::error::GuestError;

/// Tells each step with its time.
pub(crate) struct Console {
    out: Box<dyn Write + Send>,
    begun: Instant,
    last: Instant,
}

/// A step is done.
#[derive(Serialize)]
struct Step<'a> {
    event: &'static str,
    step: &'a str,
    /// That this step took.
    milliseconds: u128,
    /// Milliseconds since this process began.
    at: u128,
}

/// The boot, or the guest, ends.
#[derive(Serialize)]
struct Failed<'a> {
    event: &'static str,
    code: &'a str,
    message: &'a str,
    action: Option<&'a str>,
}

/// The kernel lacks a setting that would have been closed.
#[derive(Serialize)]
struct Lacks<'a> {
    event: &'static str,
    setting: &'a str,
}

#[derive(Serialize)]
struct PowerOff {
    event: &'static str,
}

impl Console {
    /// On standard output.
    pub(crate) fn new() -> Self {
        Self::on(Box::new(io::stdout()))
    }

    /// On `out`.
    pub(crate) fn on(out: Box<dyn Write + Send>) -> Self {
        let begun = Instant::now();
        Self { out, begun, last: begun }
    }

    /// A step is done: all since the step before belongs to it.
    pub(crate) fn step(&mut self, step: &str) {
        let now = Instant::now();
        let milliseconds = now.duration_since(self.last).as_millis();
        let at = now.duration_since(self.begun).as_millis();
        self.last = now;
        self.line(&Step { event: "boot", step, milliseconds, at });
    }

    /// The kernel has no setting of this name, and so nothing behind it to be closed.
    pub(crate) fn lacks(&mut self, setting: &str) {
        self.line(&Lacks { event: "lacks", setting });
    }

    /// Why nothing follows.
    pub(crate) fn failed(&mut self, error: &GuestError) {
        let message = error.sentence();
        self.line(&Failed { event: "failed", code: error.code(), message: &message, action: error.action() });
    }

    /// The machine is switched off.
    pub(crate) fn power_off(&mut self) {
        self.line(&PowerOff { event: "power-off" });
    }

    fn line(&mut self, line: &impl Serialize) {
        let mut bytes = serde_json::to_vec(line).expect("strings and numbers always serialise");
        bytes.push(b'\n');
        // A console that nobody holds open keeps no guest from booting, or from ending.
        let _ = self.out.write_all(&bytes).and_then(|()| self.out.flush());
    }
}
