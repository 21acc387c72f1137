//! Traffic for `cargo xtask bench`: streamed answers over several ways to one guest, fresh attestations, idle connections.
//!
//! The first argument says which. Figures go to standard output, one line each, fields separated by tabs: a name, then
//! numbers.
#![expect(clippy::print_stdout, reason = "a program that measures")]

mod attestations;
mod first;
mod http;
mod idle;
mod streams;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use confide_client::PolicyText;
use confide_policy::Loaded;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // One thread for the traffic: the two programs that are measured share what is left.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["streams", guest, policy, ways @ ..] => {
            let ways = ways.iter().map(|way| way.parse()).collect::<Result<_>>()?;
            runtime.block_on(streams::compare(guest.parse()?, policy_at(policy)?, ways))
        }
        ["attestations", guest, policy] => {
            runtime.block_on(attestations::measure(guest.parse()?, policy_at(policy)?))
        }
        ["first", guest, policy] => runtime.block_on(first::measure(guest.parse()?, policy_at(policy)?)),
        ["idle", guest, policy, process] => {
            runtime.block_on(idle::measure(guest.parse()?, policy_at(policy)?, process.parse()?))
        }
        _ => bail!("arguments: streams|attestations|first|idle GUEST-ADDRESS DANGER-POLICY ..."),
    }
}

fn policy_at(path: &str) -> Result<PolicyText> {
    let text = std::fs::read_to_string(Path::new(path)).with_context(|| path.to_owned())?;
    Ok(PolicyText::parse(text, Loaded::AsDanger)?)
}

/// The value below which so many of a hundred lie.
fn percentile<T: Copy + Ord>(values: &mut [T], percent: usize) -> Option<T> {
    values.sort_unstable();
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied()
}

/// A line of times: name, median, 10th and 90th percentile in microseconds.
fn print_times(name: &str, times: &mut [Duration]) {
    let mut at = |percent| percentile(times, percent).unwrap_or_default().as_secs_f64() * 1e6;
    println!("{name}\t{:.1}\t{:.1}\t{:.1}", at(50), at(10), at(90));
}

/// Processor time of a process and of its children that still run, user and system.
fn processor_time(process: u32) -> Result<Duration> {
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

/// Resident memory of a process, in KiB.
fn resident(process: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory")?;
    Ok(line.split_whitespace().next().context("no resident memory")?.parse()?)
}
