//! `cargo xtask bench`: the tables of `docs/benchmarks`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::{cargo, native, process, python, samples, traffic, vm, way_out};

/// What the tables rest on, for a reader who has not seen the programs.
const METHOD: &str = "Each row is the median of many runs after some that do not count, with the 10th and 90th percentile. \
    The contenders of one table take turns in one process, on one thread, so that a change of the machine's speed meets \
    all of them; in the appraisal of a quote a turn is twenty runs, and twenty before them that do not count. Inputs are \
    in memory, decoded where a program would keep them decoded. Everything is built as it ships, ours and the peers \
    alike: opt-level 3 and thin link-time optimisation.\n\n\
    A virtual machine shares its cores with others of its host, which slow everything for a while, up to twice: a median \
    falls on one side or the other by chance. Ratios and targets are therefore of the 10th percentiles, ours and the \
    peers' alike, at which nobody else was at work; only refusals are held at the 90th.\n";

/// A section of the page: its name, and what measures and writes it.
type Section = (&'static str, fn() -> Result<String>);

/// What is measured, in the order of the page.
const SECTIONS: &[Section] = &[
    ("appraisal", appraisal),
    ("devices", devices),
    ("rim", rim),
    ("boot-log", boot_log),
    ("memory", memory),
    ("worst", worst),
    ("connection", connection),
    ("tokens", tokens),
    ("first", traffic::first),
    ("proxy", traffic::proxy),
    ("attestations", traffic::attestations),
    ("idle", traffic::idle),
    ("egress", way_out::egress),
    ("release", release),
    ("boot", boot),
];

/// Measures everything, or the sections in `only`, prints the tables as Markdown and writes them to `out`, or else to a file of `docs/benchmarks`
/// that is named after date and commit.
///
/// # Errors
/// When something cannot be built or measured; and, after the page is written, when a target is not met.
pub(crate) fn run(out: Option<&Path>, only: &[String]) -> Result<()> {
    if let Some(other) = only.iter().find(|one| SECTIONS.iter().all(|(name, _)| name != one)) {
        let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        bail!("there is no section {other}, but {}", names.join(", "));
    }
    let out = match out {
        Some(out) => out.to_path_buf(),
        None => named_after_today()?,
    };
    let mut page = format!("# Benchmarks\n\n{}\n{METHOD}", machine()?);
    for (name, section) in
        SECTIONS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|one| one == name))
    {
        eprintln!("measuring: {name}");
        let text = section()?;
        println!("\n{text}");
        write!(page, "\n{text}")?;
    }
    std::fs::write(&out, &page).with_context(|| format!("writing {}", out.display()))?;
    println!("\nwritten to {}", out.display());
    let missed = missed(&page);
    ensure!(missed.is_empty(), "{} targets are not met: {}", missed.len(), missed.join("; "));
    Ok(())
}

fn named_after_today() -> Result<PathBuf> {
    let folder = cargo::root().join("docs/benchmarks");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder.join(format!("{}-{}.md", process::date()?, process::commit()?)))
}

/// One contender's times, in microseconds.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) median: f64,
    pub(crate) p10: f64,
    pub(crate) p90: f64,
}

/// A bound, and what was measured.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) most: f64,
    pub(crate) found: f64,
}

/// The word of a target that is missed.
const NOT_MET: &str = "not met";

/// The table that holds figures against their targets.
pub(crate) fn held(targets: &[Target]) -> Result<String> {
    let mut text = "\n| target | at most | found | |\n|---|---:|---:|---|\n".to_owned();
    for Target { what, unit, most, found } in targets {
        let word = if found <= most { "met" } else { NOT_MET };
        writeln!(text, "| {what} | {most:.0} {unit} | {found:.0} {unit} | {word} |")?;
    }
    Ok(text)
}

/// The targets of a page that are not met, each with what was found.
fn missed(page: &str) -> Vec<String> {
    let cells = page.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .filter_map(|cells| match cells.as_slice() {
            ["", what, most, found, NOT_MET, ""] => Some(format!("{what} ({found}, at most {most})")),
            _ => None,
        })
        .collect()
}

fn appraisal() -> Result<String> {
    let mut text = "## Appraisal of one TDX quote with its collateral\n\n\
        From bytes in memory to a verdict, signatures and all.\n"
        .to_owned();
    for sample in samples::all()? {
        let mut command = cargo_bench("appraise")?;
        command.arg(&sample.quote).arg(&sample.collateral).arg(sample.unix_seconds.to_string());
        let rows = rows(&process::output(&mut command)?)?;
        let (one, theirs) = (undisturbed(&rows, "one P-256")?, fastest(&rows, "dcap-qvl")?);
        write!(
            text,
            "\n{} ({}):\n\n| | median µs | 10 % | 90 % | ÷ one verification | fastest dcap-qvl ÷ this |\n\
             |---|---:|---:|---:|---:|---:|\n",
            sample.about, sample.name
        )?;
        for Row { name, median, p10, p90 } in &rows {
            let (units, times) = (p10 / one, theirs / p10);
            writeln!(text, "| {name} | {median:.0} | {p10:.0} | {p90:.0} | {units:.2} | {times:.2} |")?;
        }
        text += &held(&[
            Target {
                what: "cold: faster than dcap-qvl, with whichever cryptography that is faster",
                unit: "µs",
                most: theirs,
                found: undisturbed(&rows, "confide, aws-lc-rs, cold")?,
            },
            Target {
                what: "prepared collateral, new platform: 1.05 × three verifications + 10 µs",
                unit: "µs",
                most: 1.05 * undisturbed(&rows, "three P-256")? + 10.0,
                found: undisturbed(&rows, "confide, aws-lc-rs, prepared collateral, new")?,
            },
            Target {
                what: "prepared collateral, known platform: 1.2 × one verification",
                unit: "µs",
                most: 1.2 * one,
                found: undisturbed(&rows, "confide, aws-lc-rs, prepared collateral, known")?,
            },
            Target {
                what: "prepared collateral, known platform: a tenth of dcap-qvl's usual time",
                unit: "µs",
                most: undisturbed(&rows, "dcap-qvl 0.7.1, ring")? / 10.0,
                found: undisturbed(&rows, "confide, aws-lc-rs, prepared collateral, known")?,
            },
        ])?;
    }
    Ok(text)
}

/// New signatures of a device whose endorsements are prepared: leaf, BROM, report.
const NEW_SIGNATURES: f64 = 3.0;

/// Appraisal of NVIDIA devices.
fn devices() -> Result<String> {
    let rows = rows(&process::output(&mut cargo_bench("devices")?)?)?;
    let one = undisturbed(&rows, "one P-384")?;
    let most = |devices: f64| devices * (1.15 * NEW_SIGNATURES * one + 100.0);
    let mut targets = vec![
        Target {
            what: "one GPU, prepared endorsements: 1.15 × three verifications + 100 µs",
            unit: "µs",
            most: most(1.0),
            found: undisturbed(&rows, "one GPU, prepared")?,
        },
        Target {
            what: "eight GPUs and four switches, prepared endorsements: twelve times that",
            unit: "µs",
            most: most(12.0),
            found: undisturbed(&rows, "eight GPUs and four switches, prepared")?,
        },
    ];
    let recorded = "a recorded H100, prepared";
    let is_recorded = rows.iter().any(|row| row.name.starts_with(recorded));
    if is_recorded {
        targets.push(Target {
            what: "a recorded H100, prepared endorsements: as one GPU",
            unit: "µs",
            most: most(1.0),
            found: undisturbed(&rows, recorded)?,
        });
    }
    let not_run = match is_recorded {
        true => "",
        false => "\nNot run: a recorded H100, for want of the corpus of recorded evidence.\n",
    };
    Ok(format!(
        "## Appraisal of NVIDIA devices\n\n\
         Simulated devices with reports and chains of the recorded ones' form, and a recorded one: signatures, measurements \
         against manifests of driver and VBIOS, revocation by OCSP. Prepared endorsements are parsed, and their signatures and those of the \
         authorities above devices are remembered: leaf, BROM and report of each device are left.\n\n{}{not_run}{}",
        times(&rows)?,
        held(&targets)?
    ))
}

/// The case whose manifest is verified: one with all measurements, as NVIDIA's have.
const MANIFEST_CASE: &str = "fixtures/nvidia/accept-a-manifest-that-lists-all-measurements/case.json";

/// The signature of a manifest.
fn rim() -> Result<String> {
    let mut command = cargo_bench("rim")?;
    let rows = rows(&process::output(command.arg(cargo::root().join(MANIFEST_CASE)))?)?;
    let theirs = undisturbed(&rows, "bergshamra")?;
    let targets = [
        Target {
            what: "a known manifest: a fifth of bergshamra's time",
            unit: "µs",
            most: theirs / 5.0,
            found: undisturbed(&rows, "confide, a known manifest")?,
        },
        Target {
            what: "cold: no slower than bergshamra",
            unit: "µs",
            most: theirs,
            found: undisturbed(&rows, "confide, cold")?,
        },
    ];
    Ok(format!(
        "## The signature of a reference integrity manifest\n\n\
         From the bytes of a document of 20 KiB to digest and signature, the signer's chain left aside. A known manifest is \
         one that an accepted device was held against before: a memo recognises it by the SHA-256 of its bytes, and neither \
         parses it nor verifies its signature again. The peer has nothing of the kind and verifies each time. The fifth of its \
         time is the target for a known manifest. {}\n\n{}{}{}",
        cold_parts(&rows)?,
        times(&rows)?,
        manifest_ratios(&rows)?,
        held(&targets)?
    ))
}

/// What both spend on a manifest that nobody knows, and on which part of the work.
fn cold_parts(rows: &[Row]) -> Result<String> {
    let one = undisturbed(rows, "one P-384")?;
    let (ours, theirs) = (undisturbed(rows, "confide, cold")? - one, undisturbed(rows, "bergshamra")? - one);
    Ok(format!(
        "Cold, both spend one verification of the signature with the same library, {one:.0} µs; on all else, from reading \
         to canonical form and digest, we spend {ours:.0} µs and the peer {theirs:.0} µs, {:.2} times as much.",
        theirs / ours
    ))
}

/// How many times faster manifests are verified than by the peer. Cold, both spend one signature verification of the same
/// library, which bounds what any program could gain; so what is left beside it is also compared.
fn manifest_ratios(rows: &[Row]) -> Result<String> {
    let one = undisturbed(rows, "one P-384")?;
    let (cold, theirs) = (undisturbed(rows, "confide, cold")?, undisturbed(rows, "bergshamra")?);
    let mut text = "\n| bergshamra ÷ confide | µs | µs | times |\n|---|---:|---:|---:|\n".to_owned();
    for (what, theirs, ours) in [
        ("a known manifest", theirs, undisturbed(rows, "confide, a known manifest")?),
        ("cold", theirs, cold),
        ("cold, were the signature all that is left", theirs, one),
        ("cold, all but the signature", theirs - one, cold - one),
    ] {
        writeln!(text, "| {what} | {theirs:.0} | {ours:.0} | {:.2} |", theirs / ours)?;
    }
    Ok(text)
}

/// What the first row whose name begins so takes on an undisturbed machine, in microseconds.
fn undisturbed(rows: &[Row], begin: &str) -> Result<f64> {
    let row = rows.iter().find(|row| row.name.starts_with(begin));
    Ok(row.with_context(|| format!("the benchmark has no line {begin:?}"))?.p10)
}

/// What the fastest of the rows whose names begin so takes on an undisturbed machine, in microseconds.
fn fastest(rows: &[Row], begin: &str) -> Result<f64> {
    let times = rows.iter().filter(|row| row.name.starts_with(begin)).map(|row| row.p10);
    times.min_by(f64::total_cmp).with_context(|| format!("the benchmark has no line {begin:?}"))
}

/// The slowest row, in milliseconds.
fn slowest(rows: &[Row], of: impl Fn(&Row) -> f64) -> Result<f64> {
    let slowest = rows.iter().map(of).max_by(f64::total_cmp);
    Ok(slowest.context("the benchmark has no line")? / 1000.0)
}

/// A table of times alone.
fn times(rows: &[Row]) -> Result<String> {
    let mut text = "| | median µs | 10 % | 90 % |\n|---|---:|---:|---:|\n".to_owned();
    for Row { name, median, p10, p90 } in rows {
        writeln!(text, "| {name} | {median:.0} | {p10:.0} | {p90:.0} |")?;
    }
    Ok(text)
}

fn boot_log() -> Result<String> {
    let rows = rows(&process::output(&mut cargo_bench("boot_log")?)?)?;
    let target = Target {
        what: "replay of 1 MiB, the largest log that is read",
        unit: "ms",
        most: 10.0,
        found: slowest(&rows, |row| row.p10)?,
    };
    Ok(format!(
        "## Replay of a boot event log\n\n\
         From bytes in memory to RTMR0 to RTMR3; and to the verdict on a quote, known collateral and platform, with every \
         event held against a reference.\n\n{}{}",
        times(&rows)?,
        held(&[target])?
    ))
}

/// What a program took, from its start to its end.
struct Run {
    /// Its exit status.
    status: i32,
    microseconds: f64,
    /// The largest resident set that the kernel counted, in KiB.
    resident: f64,
}

/// Runs a program so often, with a file as its standard input.
fn runs(command: &Command, input: &Path, rounds: usize) -> Result<Vec<Run>> {
    const CHILD: &str = "import resource, subprocess, sys, time\n\
        for _ in range(int(sys.argv[1])):\n\
        \u{20}   with open(sys.argv[2], 'rb') as given:\n\
        \u{20}       start = time.monotonic()\n\
        \u{20}       run = subprocess.run(sys.argv[3:], stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n\
        \u{20}       took = (time.monotonic() - start) * 1e6\n\
        \u{20}       print(run.returncode, took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut python = python::command()?;
    python.args(["-c", CHILD, &rounds.to_string()]).arg(input).arg(command.get_program());
    let lines = process::output(python.args(command.get_args()))?;
    let run = |line: &str| {
        let numbers: Vec<&str> = line.split(' ').collect();
        let &[status, took, size] = numbers.as_slice() else { bail!("unexpected line: {line}") };
        Ok(Run { status: status.parse()?, microseconds: took.parse()?, resident: size.parse()? })
    };
    lines.lines().map(run).collect()
}

/// What `confide` says of evidence, by its exit status.
const ACCEPTED: i32 = 0;
const REJECTED: i32 = 10;
const MALFORMED: i32 = 30;

/// The files that the benchmark `worst` writes: a simulated quote, and what is costly beside it.
fn costly_files() -> Result<PathBuf> {
    let folder = running::folder("bench-worst")?;
    process::output(cargo_bench("worst")?.arg(&folder))?;
    Ok(folder)
}

/// The largest resident set that `confide verify quote` has had, of accepted, rejected and malformed evidence.
fn memory() -> Result<String> {
    let programs = Programs::build(Flavour::Optimised)?;
    let folder = costly_files()?;
    let mut cases = Vec::new();
    for (sample, status) in
        samples::all()?.into_iter().zip([ACCEPTED; 2]).chain([(samples::outdated()?, REJECTED)])
    {
        let mut command = programs.confide();
        command.args(["verify", "quote", "--quote"]).arg(&sample.quote);
        command.arg("--collateral").arg(&sample.collateral).args(["--at", sample.time]);
        cases.push((sample.about.to_owned(), status, command));
    }
    let simulated = |collateral: &Path| {
        let mut command = programs.confide();
        command.args(["verify", "quote", "--quote"]).arg(folder.join("quote.bin"));
        command.arg("--danger-policy").arg(folder.join("danger-policy.toml"));
        command.arg("--collateral").arg(collateral).args(["--at", "2026-10-01T00:00:00Z"]);
        command
    };
    let mut log = simulated(&folder.join("honest.json"));
    log.arg("--event-log").arg(folder.join("log.bin"));
    cases.push(("a boot event log of 1 MiB that does not replay".to_owned(), REJECTED, log));
    let mut files = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|found| found == "json")) {
        let name = file.file_stem().and_then(|name| name.to_str()).context("a name of UTF-8")?;
        let status = match name {
            "honest" => continue,
            "lists full of entries" => REJECTED,
            _ => MALFORMED,
        };
        cases.push((format!("a collateral file of 4 MiB: {name}"), status, simulated(file)));
    }
    let mut text = "## Memory of `confide verify quote`\n\n\
        The largest resident set of the whole program, as the kernel counted it.\n\n| | exit status | KiB |\n|---|---:|---:|\n"
        .to_owned();
    let mut most = 0_f64;
    for (name, expected, command) in cases {
        let run = runs(&command, Path::new("/dev/null"), 1)?.pop().context("one run")?;
        ensure!(run.status == expected, "{name}: confide verify quote ended with {}", run.status);
        writeln!(text, "| {name} | {expected} | {} |", run.resident)?;
        most = most.max(run.resident);
    }
    let found = most * 1024.0 / 1e6;
    text +=
        &held(&[Target { what: "peak memory of `confide verify quote`", unit: "MB", most: 20.0, found }])?;
    Ok(text)
}

/// How long the costliest inputs of at most 4 MiB take to be refused.
fn worst() -> Result<String> {
    let mut rows = rows(&process::output(&mut cargo_bench("worst")?)?)?;
    rows.extend(costly_for_programs()?);
    let target =
        Target { what: "any of them", unit: "ms", most: 250.0, found: slowest(&rows, |row| row.p90)? };
    Ok(format!(
        "## The costliest refusals\n\n\
         Inputs of at most 4 MiB that are made to cost time before they are refused. The times of `confide` are those of a \
         whole process.\n\n{}{}",
        times(&rows)?,
        held(&[target])?
    ))
}

/// What costs most of those inputs that a program reads.
fn costly_for_programs() -> Result<Vec<Row>> {
    const SIZE: usize = 4 << 20;
    let programs = Programs::build(Flavour::Optimised)?;
    let folder = costly_files()?;
    let fixtures = cargo::root().join("fixtures/tdx");
    let case = std::fs::read_to_string(fixtures.join("accept-v4/case.json"))?;
    let mut case: serde_json::Value = serde_json::from_str(&case)?;
    case["evidence"]["quote"] = serde_json::json!({ "hex": "00".repeat(SIZE / 2 - case.to_string().len()) });
    let mut rows = Vec::new();
    for (name, cases) in [
        ("four million brackets", "[".repeat(SIZE)),
        ("two million cases of nothing", "{}".repeat(SIZE / 2)),
        ("as many cases as there may be, of nothing", format!("{:256}", "{}").repeat(SIZE / 256)),
        ("a case with a quote of 2 MiB", case.to_string()),
    ] {
        let input = folder.join("cases");
        std::fs::write(&input, cases)?;
        let mut command = programs.confide();
        command.args(["conformance", "--danger", "--base"]).arg(&fixtures);
        rows.push(row(format!("confide conformance: {name}"), &runs(&command, &input, 15)?)?);
    }
    let mut command = programs.confide();
    command.args(["collateral", "show", "--cache"]).arg(folder.join("cache"));
    let runs = runs(&command, Path::new("/dev/null"), 15)?;
    rows.push(row("confide collateral show: a cache with a full revocation list".to_owned(), &runs)?);
    Ok(rows)
}

fn row(name: String, runs: &[Run]) -> Result<Row> {
    let mut times: Vec<f64> = runs.iter().map(|run| run.microseconds).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().context("no run");
    Ok(Row { name, median: at(50)?, p10: at(10)?, p90: at(90)? })
}

fn connection() -> Result<String> {
    let programs = Programs::build(Flavour::Optimised)?;
    let folder = running::folder("bench")?;
    let guest = Running::guest(&programs, &folder)?;
    let mut command = cargo_bench("connection")?;
    command.arg(guest.address().to_string()).arg(cargo::root().join("policies/danger-simulator.toml"));
    let lines = process::output(&mut command)?;
    let (timed, bytes): (Vec<&str>, Vec<&str>) =
        lines.lines().partition(|line| line.split('\t').count() == 4);
    let mut text = "## An attested connection\n\n\
        To a SIMULATED guest over the loopback interface: quote, GPU report, stapled collateral, appraisal.\n\n"
        .to_owned();
    text += &times(&rows(&timed.join("\n"))?)?;
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

/// What a boot does itself to get and to use a key.
fn release() -> Result<String> {
    let rows = rows(&process::output(&mut cargo_bench("release")?)?)?;
    let all = rows.iter().filter(|row| row.name == "all of these steps");
    let keys = all.map(|row| row.median).next().context("no row of all steps")?;
    let mut text = format!(
        "## A boot's own steps, on this machine\n\n\
         From the recipient key to the unlocked keyslot of the volume with the tiny model: no network, no device-mapper, and a \
         SIMULATED quote in the place of the hardware's.\n\n{}",
        times(&rows)?
    );
    let Some(boots) = native::boots()? else {
        text += "\nA whole boot: not run: it makes a network namespace and loads rules, which takes root and nft.\n";
        return Ok(text);
    };
    let whole = boots.iter().find(|row| row.name == native::WHOLE).context("no row of the whole")?.median;
    write!(
        text,
        "\nA whole `confide-guest boot` in a network of its own, on a SIMULATED platform, without a broker and without volumes: rules of \
         both phases loaded, read back and compared, the egress broker and the engine started, the tiny model read and measured, keys \
         drawn. Steps are told in whole milliseconds.\n\n{}{}",
        times(&boots)?,
        held(&[Target {
            what: "our own steps: a whole boot, and those from the recipient key to the unlocked keyslot",
            unit: "µs",
            most: 100_000.0,
            found: keys + whole,
        }])?
    )?;
    Ok(text)
}

/// From the launch of a guest until it serves.
fn boot() -> Result<String> {
    let mut text = "## A guest's boot, emulated\n\n\
        From the launch of QEMU until the guest serves the tiny model: Debian's kernel, our program as process 1 (without the compiler's optimisation, as tests build it), a SIMULATED \
        quote, the key from a broker, a LUKS2 volume with dm-verity. QEMU emulates every instruction, which takes some ten times \
        as long as a processor; so there is no target here.\n\n| | median ms | least | most |\n|---|---:|---:|---:|\n"
        .to_owned();
    for Row { name, median, p10, p90 } in rows(&vm::boots()?)? {
        writeln!(text, "| {name} | {:.0} | {:.0} | {:.0} |", median / 1e3, p10 / 1e3, p90 / 1e3)?;
    }
    Ok(text)
}

/// Reads lines `NAME ⇥ MEDIAN ⇥ P10 ⇥ P90`.
fn rows(text: &str) -> Result<Vec<Row>> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, median, p10, p90] = fields.as_slice() else { bail!("unexpected line: {line}") };
        Ok(Row { name: name.to_owned(), median: median.parse()?, p10: p10.parse()?, p90: p90.parse()? })
    };
    text.lines().filter(|line| !line.is_empty()).map(row).collect()
}

/// A benchmark program, built as the programs ship: ours and the peers alike. It is chosen among those of the whole
/// workspace, so that all of them share one build.
pub(crate) fn cargo_bench(bench: &str) -> Result<Command> {
    let mut command = cargo::command();
    command.args(["bench", "--quiet", "--locked", "--workspace"]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_compared_with_and_without_the_signature() {
        let rows = rows(
            "one P-384 verification\t210\t200\t250\nconfide, cold\t310\t300\t400\n\
             confide, a known manifest\t11\t10\t12\nbergshamra 0\t410\t400\t500\n",
        );
        let text = manifest_ratios(&rows.unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "| a known manifest | 400 | 10 | 40.00 |",
                "| cold | 400 | 300 | 1.33 |",
                "| cold, were the signature all that is left | 400 | 200 | 2.00 |",
                "| cold, all but the signature | 200 | 100 | 2.00 |",
            ]
        );
        assert_eq!(missed(&text), [] as [String; 0]);
    }

    #[test]
    fn what_both_spend_on_an_unknown_manifest_is_told_in_its_parts() {
        let rows = rows(
            "one P-384 verification\t195\t194\t238\nconfide, cold\t306\t301\t411\nbergshamra 0\t398\t392\t555\n",
        );
        let text = cold_parts(&rows.unwrap()).unwrap();
        assert!(text.contains(" the same library, 194 µs; on all else, "), "{text}");
        assert!(text.ends_with(" we spend 107 µs and the peer 198 µs, 1.85 times as much."), "{text}");
    }

    #[test]
    fn a_target_that_is_not_met_is_found_in_the_page() {
        let target = |what, found| Target { what, unit: "ms", most: 10.0, found };
        let table = |targets: &[Target]| held(targets).unwrap();
        let met = table(&[target("first", 10.0)]);
        assert_eq!(missed(&met), [] as [String; 0]);
        let page = met + &table(&[target("second: twice", 20.4), target("third", 1.0)]);
        assert_eq!(missed(&page), ["second: twice (20 ms, at most 10 ms)"]);
    }
}
