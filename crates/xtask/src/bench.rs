//! `cargo xtask bench`: the tables of `docs/benchmarks`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::{cargo, process, samples};

/// Measures everything and prints the tables as Markdown; writes them to `out` where given.
///
/// # Errors
/// When something cannot be built or measured.
pub(crate) fn run(out: Option<&Path>) -> Result<()> {
    let mut page = format!("# Benchmarks\n\n{}\n", machine()?);
    for section in [appraisal, boot_log, connection, tokens] {
        let text = section()?;
        println!("\n{text}");
        write!(page, "\n{text}")?;
    }
    if let Some(out) = out {
        std::fs::write(out, page).with_context(|| format!("writing {}", out.display()))?;
        println!("\nwritten to {}", out.display());
    }
    Ok(())
}

/// One contender's times, in microseconds.
struct Row {
    name: String,
    median: f64,
    p10: f64,
    p90: f64,
}

fn appraisal() -> Result<String> {
    let mut text = "## Appraisal of one TDX quote with its collateral\n\n\
        From bytes in memory to a verdict, signatures and all; the contenders take turns in one process.\n"
        .to_owned();
    for sample in samples::all()? {
        let mut command = cargo_bench("appraise")?;
        command.arg(&sample.quote).arg(&sample.collateral).arg(sample.unix_seconds.to_string());
        let rows = rows(&process::output(&mut command)?)?;
        let oracle = rows.iter().find(|row| row.name.starts_with("dcap-qvl"));
        let oracle = oracle.context("the benchmark has no line of dcap-qvl")?.median;
        write!(
            text,
            "\n{} ({}):\n\n| | median µs | 10 % | 90 % | dcap-qvl ÷ this |\n|---|---:|---:|---:|---:|\n",
            sample.about, sample.name
        )?;
        for Row { name, median, p10, p90 } in &rows {
            writeln!(text, "| {name} | {median:.0} | {p10:.0} | {p90:.0} | {:.2} |", oracle / median)?;
        }
    }
    Ok(text)
}

fn boot_log() -> Result<String> {
    let mut text = "## Replay of a boot event log\n\n\
        From bytes in memory to RTMR0 to RTMR3.\n\n\
        | | median µs | 10 % | 90 % |\n|---|---:|---:|---:|\n"
        .to_owned();
    for Row { name, median, p10, p90 } in rows(&process::output(&mut cargo_bench("boot_log")?)?)? {
        writeln!(text, "| {name} | {median:.0} | {p10:.0} | {p90:.0} |")?;
    }
    Ok(text)
}

fn connection() -> Result<String> {
    let programs = Programs::build(Flavour::Simulator)?;
    let folder = running::folder("bench")?;
    let guest = Running::guest(&programs, &folder)?;
    let mut command = cargo_bench("connection")?;
    command.arg(guest.address().to_string()).arg(cargo::root().join("policies/danger-simulator.toml"));
    let lines = process::output(&mut command)?;
    let (times, bytes): (Vec<&str>, Vec<&str>) =
        lines.lines().partition(|line| line.split('\t').count() == 4);
    let mut text = "## An attested connection\n\n\
        To a SIMULATED guest over the loopback interface: quote, GPU report, stapled collateral, appraisal.\n\n\
        | | median µs | 10 % | 90 % |\n|---|---:|---:|---:|\n"
        .to_owned();
    for Row { name, median, p10, p90 } in rows(&times.join("\n"))? {
        writeln!(text, "| {name} | {median:.0} | {p10:.0} | {p90:.0} |")?;
    }
    writeln!(text, "\n| bytes of the TCP streams | |\n|---|---:|")?;
    for line in bytes {
        writeln!(text, "| {} |", line.replace('\t', " | "))?;
    }
    Ok(text)
}

fn tokens() -> Result<String> {
    let mut text = "## The tiny model, built-in engine, CPU\n\n\
        | | median tokens/s | 10 % | 90 % |\n|---|---:|---:|---:|\n"
        .to_owned();
    for Row { name, median, p10, p90 } in rows(&process::output(&mut cargo_bench("tokens")?)?)? {
        writeln!(text, "| {name} | {median:.0} | {p10:.0} | {p90:.0} |")?;
    }
    Ok(text)
}

/// Reads lines `NAME ⇥ MEDIAN ⇥ P10 ⇥ P90`.
fn rows(text: &str) -> Result<Vec<Row>> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, median, p10, p90] = fields.as_slice() else { anyhow::bail!("unexpected line: {line}") };
        Ok(Row { name: name.to_owned(), median: median.parse()?, p10: p10.parse()?, p90: p90.parse()? })
    };
    text.lines().filter(|line| !line.is_empty()).map(row).collect()
}

/// A benchmark program. It is chosen among those of the whole workspace, so that the build is that of the tests.
fn cargo_bench(bench: &str) -> Result<Command> {
    let mut command = cargo::command();
    command.args(["bench", "--quiet", "--locked", "--profile", "dev", "--workspace"]);
    command.args(["--features", &cargo::danger_features()?, "--bench", bench, "--"]);
    Ok(command)
}

fn machine() -> Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    Ok(format!(
        "`cargo xtask bench` on {}, commit {}: {} × {}, {}, load average before {}.\n",
        process::date()?,
        process::commit()?,
        cores,
        model.trim_start_matches([' ', '\t', ':']),
        process::line(Command::new("rustc").current_dir(cargo::root()).arg("--version"))?,
        std::fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or("unknown"),
    ))
}
