//! Boot event logs of 1 MiB, the largest that is read, and of the size that a guest sends: replayed by their parser, and
//! appraised with their quote.
//!
//! `cargo xtask bench` runs it and reads one line for each log: name, median, 10th and 90th percentile in microseconds,
//! separated by tabs. The logs take turns, so that a change of the machine's speed meets all of them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a program that measures, outside the pure crate"
)]

#[path = "../tests/algorithms/mod.rs"]
mod algorithms;
#[path = "../tests/guest/mod.rs"]
mod guest;

use algorithms::AWS;
use std::hint::black_box;
use std::time::{Duration, Instant};

use confide_evidence::boot_log::{BootEvent as LoggedEvent, BootLog, MAX_BOOT_LOG, MIN_EVENT, Register};
use confide_evidence::document::Endorsements;
use confide_evidence::tdx::collateral_from_json;
use confide_policy::{
    AppraisalPolicy, BootReference, Expect, ExpectBound, ExpectReference, HexBytes, RequireGiven,
};
use confide_simulator::{
    BootEvent, PlatformOptions, SimulatedBootLog, SimulatedPlatform, SimulatedTd, TdMeasurements,
};
use confide_verifier::{Inputs, Memo, PreparedCollateral, Subject, evaluate};
use guest::{DANGER, NOW, danger, now};

const WARM_UP: usize = 5;
const ROUNDS: usize = 200;

fn main() {
    let logs = [
        ("1 MiB of the smallest events", filled(0)),
        ("1 MiB of events with 190 bytes of data, as a boot loader writes", filled(190)),
        ("1 MiB of events with 256 KiB of data, the most", filled(256 * 1024)),
        ("a table of 64 KiB with 20 events, as OVMF leaves it", SimulatedBootLog::default().table(65_536)),
    ];
    let cases = logs.map(|(name, log)| Case::new(name, log));
    let mut samples = cases.each_ref().map(|_| [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)]);
    for round in 0..WARM_UP + ROUNDS {
        for (case, [replayed, appraised]) in cases.iter().zip(&mut samples) {
            let took = [time_of(|| case.replay()), time_of(|| case.appraise())];
            if round >= WARM_UP {
                replayed.push(took[0]);
                appraised.push(took[1]);
            }
        }
    }
    for (case, samples) in cases.iter().zip(&mut samples) {
        let events = BootLog::parse(&case.log).unwrap().events().count();
        for (how, samples) in ["replayed", "appraised with its quote"].into_iter().zip(samples) {
            samples.sort_unstable();
            let percentile = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1e6;
            let name = case.name;
            let (median, low, high) = (percentile(50), percentile(10), percentile(90));
            println!("{name} ({events} events), {how}\t{median:.1}\t{low:.1}\t{high:.1}");
        }
    }
}

fn time_of(run: impl Fn()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}

/// A log and the quote of a machine that has booted with it.
struct Case {
    name: &'static str,
    log: Vec<u8>,
    quote: Vec<u8>,
    policy: AppraisalPolicy,
    prepared: PreparedCollateral,
    memo: Memo,
}

impl Case {
    fn new(name: &'static str, log: Vec<u8>) -> Self {
        let platform = SimulatedPlatform::new(PlatformOptions::at(NOW)).unwrap();
        let parsed = BootLog::parse(&log).unwrap();
        let measurements = TdMeasurements { rtmr: parsed.replay(), ..TdMeasurements::default() };
        let quote = platform.quote(&SimulatedTd::new(measurements).report([7; 64]));
        let collateral = collateral_from_json(platform.collateral_json().as_bytes()).unwrap();
        let policy = policy(&parsed);
        let prepared = PreparedCollateral::new(&collateral, &policy, &AWS);
        Self { name, log, quote, policy, prepared, memo: Memo::new() }
    }

    /// From bytes in memory to the four registers.
    fn replay(&self) {
        black_box(BootLog::parse(black_box(&self.log)).unwrap().replay());
    }

    /// From bytes in memory to a verdict: replay, and every event against a reference. Collateral and platform are known.
    fn appraise(&self) {
        let inputs = Inputs {
            subject: Subject::QuoteWithLog { quote: &self.quote, boot_log: &self.log },
            endorsements: &Endorsements::default(),
            prepared: Some(&self.prepared),
            prepared_devices: None,
            memo: Some(&self.memo),
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: None,
            now: now(),
            algorithms: &AWS,
        };
        let result = black_box(evaluate(black_box(&inputs)));
        result.expect("a benchmark of a refusal would measure the wrong path");
    }
}

/// The simulator's policy for a bare quote, with the log's events as the reference.
fn policy(log: &BootLog<'_>) -> AppraisalPolicy {
    let mut policy = danger(DANGER);
    let of = |register| {
        let measured = log.events().filter(LoggedEvent::is_measured);
        let digests = measured.filter(move |event| event.register == register);
        digests.map(|event| HexBytes(*event.digest)).collect()
    };
    let tdx = &mut policy.tdx;
    tdx.boot_log = RequireGiven::Required;
    tdx.boot_events = Expect::AnyOf(vec![BootReference {
        name: "the log".to_owned(),
        rtmr0: of(Register::Rtmr0),
        rtmr1: of(Register::Rtmr1),
        rtmr2: of(Register::Rtmr2),
    }]);
    for register in [&mut tdx.rtmr0, &mut tdx.rtmr1, &mut tdx.rtmr2] {
        *register = ExpectReference::Waive("the log is held against it".into());
    }
    tdx.rtmr3 = ExpectBound::Waive("a bare quote".into());
    tdx.report_data = ExpectBound::Waive("a bare quote".into());
    policy
}

/// The usual log, filled up to the largest size with events of so much data, and padded.
fn filled(data: usize) -> Vec<u8> {
    let mut log = SimulatedBootLog::default();
    let event = BootEvent { register: 3, event_type: 13, digest: [7; 48], data: vec![b'x'; data] };
    let rest = MAX_BOOT_LOG - log.to_bytes().len();
    log.events.extend(vec![event; rest / (MIN_EVENT + data)]);
    log.table(MAX_BOOT_LOG)
}
