//! Replay of boot event logs: of 1 MiB, the largest that is read, and of the size that a guest sends.
//!
//! `cargo xtask bench` runs it and reads one line for each log: name, median, 10th and 90th percentile in microseconds,
//! separated by tabs. The logs take turns, so that a change of the machine's speed meets all of them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a program that measures, outside the pure crate"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use confide_evidence::boot_log::{BootLog, MAX_BOOT_LOG, MIN_EVENT};
use confide_simulator::{BootEvent, SimulatedBootLog};

const WARM_UP: usize = 5;
const ROUNDS: usize = 200;

fn main() {
    let logs = [
        ("1 MiB of the smallest events", filled(0)),
        ("1 MiB of events with 190 bytes of data, as a boot loader writes", filled(190)),
        ("1 MiB of events with 256 KiB of data, the most", filled(256 * 1024)),
        ("a table of 64 KiB with 20 events, as OVMF leaves it", SimulatedBootLog::default().table(65_536)),
    ];
    let mut samples = logs.each_ref().map(|_| Vec::with_capacity(ROUNDS));
    for round in 0..WARM_UP + ROUNDS {
        for ((_, log), samples) in logs.iter().zip(&mut samples) {
            let took = time_of_replay(log);
            if round >= WARM_UP {
                samples.push(took);
            }
        }
    }
    for ((name, log), samples) in logs.iter().zip(&mut samples) {
        samples.sort_unstable();
        let percentile = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1e6;
        let events = BootLog::parse(log).expect("a log that the simulator wrote").events().count();
        println!(
            "{name} ({events} events)\t{:.1}\t{:.1}\t{:.1}",
            percentile(50),
            percentile(10),
            percentile(90)
        );
    }
}

/// From bytes in memory to the four registers.
fn time_of_replay(log: &[u8]) -> Duration {
    let started = Instant::now();
    let registers = BootLog::parse(black_box(log)).expect("a log that the simulator wrote").replay();
    black_box(registers);
    started.elapsed()
}

/// The usual log, filled up to the largest size with events of so much data, and padded.
fn filled(data: usize) -> Vec<u8> {
    let mut log = SimulatedBootLog::default();
    let event = BootEvent { register: 3, event_type: 13, digest: [7; 48], data: vec![b'x'; data] };
    let rest = MAX_BOOT_LOG - log.to_bytes().len();
    log.events.extend(vec![event; rest / (MIN_EVENT + data)]);
    log.table(MAX_BOOT_LOG)
}
