//! What a benchmark's figures are made of.
#![expect(clippy::print_stdout, reason = "a program that measures")]

use std::time::Duration;

use anyhow::{Context, Result};

/// The value below which so many of a hundred lie.
pub(crate) fn percentile<T: Copy + Ord>(values: &mut [T], percent: usize) -> Option<T> {
    values.sort_unstable();
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied()
}

/// A line of times: name, median, 10th and 90th percentile in microseconds.
pub(crate) fn print_times(name: &str, times: &mut [Duration]) {
    let mut at = |percent| percentile(times, percent).unwrap_or_default().as_secs_f64() * 1e6;
    println!("{name}\t{:.1}\t{:.1}\t{:.1}", at(50), at(10), at(90));
}

/// Processor time of a process and of its children that still run, user and system.
pub(crate) fn processor_time(process: u32) -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let mut ticks = 0_u64;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while it is looked at.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        // After the name, which stands in brackets: state, parent, … and 11 fields further on the ticks.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
        if id == process || number(1) == Some(u64::from(process)) {
            ticks += number(11).context("user time")? + number(12).context("system time")?;
        }
    }
    Ok(TICK * u32::try_from(ticks)?)
}
