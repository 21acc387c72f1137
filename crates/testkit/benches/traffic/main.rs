//! Traffic for `cargo xtask bench`: streamed answers over several ways to one guest, fresh attestations, idle connections.
//!
//! The first argument says which. Figures go to standard output, one line each, fields separated by tabs: a name, then
//! numbers.
#![expect(clippy::print_stdout, reason = "a program that measures")]

mod attestations;
mod figures;
mod first;
mod http;
mod idle;
mod streams;

use std::path::Path;

use anyhow::{Context, Result, bail};
use confide_client::PolicyText;
use confide_policy::Loaded;

pub(crate) use figures::{percentile, print_times, processor_time};

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

/// Resident memory of a process, in KiB.
fn resident(process: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no resident memory")?;
    Ok(line.split_whitespace().next().context("no resident memory")?.parse()?)
}
