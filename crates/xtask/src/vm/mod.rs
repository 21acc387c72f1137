//! `cargo xtask test --vm`: guests that boot for real. A kernel of Debian's in QEMU, our own binary as process 1, the kernel's own
//! configfs-tsm, device-mapper and netfilter; a broker and clients outside.
//!
//! Quotes are SIMULATED: a module plays the TDX driver, and a quoting service outside signs what QEMU was really started with.
//!
//! `docs/vm.md` says more.

mod attacks;
mod boots;
mod cases;
mod cpio;
mod debian;
mod host;
mod image;
mod kernel;
mod kills;
mod machine;
mod owner;
mod workbench;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages::{self, TO_ATTACK, TO_BOOT};
use crate::test::{Length, Tally, note, tallied};
use crate::{process, programs, running};
use workbench::Workbench;

/// Each virtual machine takes a GiB of memory, and a core.
const MOST_LANES: usize = 4;

/// The hidden tasks that boot guests, in a network of their own.
pub(crate) const CASES: &str = "vm-cases";
pub(crate) const KILLS: &str = "vm-kills";
pub(crate) const ATTACKS: &str = "vm-attacks";
pub(crate) const BOOTS: &str = "vm-boots";

/// Fetches and builds what guests boot from, then runs the cases; in the long form kills, too, and every test of egress.
///
/// # Errors
/// When something is missing and cannot be had, or a guest does not do as its case says.
pub(crate) fn run(length: Length) -> Result<Tally> {
    let program = prepared()?;
    if cases::need_attacks() || length == Length::Long {
        packages::require(TO_ATTACK)?;
        programs::build_unit_tests(attacks::PACKAGE)?;
        programs::build_unit_tests(attacks::QUOTING)?;
    }
    if let Some(text) = cases::chosen() {
        note(format!("{} cases alone, whose names contain {text:?}", cases::count()));
    }
    let lanes = lanes();
    let lane = |lane: usize| {
        let mut command = hidden(&program, CASES);
        tallied(command.args(["--lane", &lane.to_string(), "--lanes", &lanes.to_string()]))
    };
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..lanes).map(|number| scope.spawn(move || lane(number))).collect();
        running.into_iter().map(|lane| lane.join().expect("a lane returns its errors")).collect()
    });
    let cases = tallies.into_iter().sum::<Result<Tally>>()?;
    match length {
        Length::Ci => Ok(cases),
        Length::Long => {
            let status = process::run_reading(&mut hidden(&program, KILLS), |line| {
                if let Some(found) = line.strip_prefix(kills::FOUND) {
                    note(found.to_owned());
                }
            })?;
            ensure!(status.success(), "a guest that was killed came to no good");
            process::run(&mut hidden(&program, ATTACKS))?;
            Ok([cases, Tally::ONE, Tally::ONE].into_iter().sum())
        }
    }
}

/// How many virtual machines run beside each other: one a core, where each can have a network of its own; not more than cases.
fn lanes() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = if has_own_networks() { cores.min(MOST_LANES) } else { 1 };
    most.min(cases::count()).max(1)
}

/// Fetches and builds what guests boot from, then measures boots: lines `STEP ⇥ MEDIAN ⇥ LEAST ⇥ MOST`, in microseconds.
///
/// # Errors
/// When something is missing and cannot be had, or a guest does not serve.
pub(crate) fn boots() -> Result<String> {
    let lines = process::output(&mut hidden(&prepared()?, BOOTS))?;
    Ok(lines.lines().filter(|line| line.split('\t').count() == 4).map(|line| format!("{line}\n")).collect())
}

/// This program's copy that runs hidden tasks, with everything built that they need.
fn prepared() -> Result<PathBuf> {
    packages::require(TO_BOOT)?;
    Workbench::build()?;
    running::folder(workbench::RUN)?;
    // This very program, also where the build has put a new one in its place; another user namespace may not run it from `/proc`.
    let program = running::folder("vm/program")?.join("xtask");
    std::fs::copy("/proc/self/exe", &program)
        .with_context(|| format!("copying this program to {}", program.display()))?;
    Ok(program)
}

/// One of the hidden tasks.
fn hidden(program: &Path, task: &str) -> Command {
    let mut command = isolated();
    command.arg(program).arg(task);
    command
}

/// Runs the cases: the task [`CASES`].
///
/// # Errors
/// When one does not hold.
pub(crate) fn run_cases(lane: usize, lanes: usize) -> Result<()> {
    cases::run(&Workbench::open(lane)?, lane, lanes)
}

/// Kills guests and rotations: the task [`KILLS`].
///
/// # Errors
/// When what they leave does not open.
pub(crate) fn run_kills() -> Result<()> {
    kills::run(&Workbench::open(0)?)
}

/// Runs every test of egress on the guest's kernel: the task [`ATTACKS`].
///
/// # Errors
/// When one does not hold.
pub(crate) fn run_attacks() -> Result<()> {
    let bench = Workbench::open(0)?;
    let owner = owner::Owner::new(&bench, owner::Kind::Model)?;
    let stage = cases::Stage::new(&bench, &owner, "every-attack")?;
    cases::attack(&stage, attacks::Choice::All)
}

/// Measures boots: the task [`BOOTS`].
///
/// # Errors
/// When a guest does not serve.
pub(crate) fn run_boots() -> Result<()> {
    boots::run(&Workbench::open(0)?)
}

/// The options of unshare(1) that give a program a network of its own.
const OWN_NETWORK: [&str; 3] = ["--map-root-user", "--net", "--"];

/// Whether this system gives programs networks of their own.
fn has_own_networks() -> bool {
    let tried = Command::new("unshare").args(OWN_NETWORK).args(["ip", "link", "set", "lo", "up"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Runs a program in a network of its own, where this system allows that: addresses of the guest's emulated network, which lead
/// to the machine, then lead nowhere else.
fn isolated() -> Command {
    const BRING_UP: &str = "ip link set lo up && exec \"$@\"";
    if has_own_networks() {
        let mut command = Command::new("unshare");
        command.args(OWN_NETWORK).args(["sh", "-c", BRING_UP, "sh"]);
        return command;
    }
    println!(
        "this system gives no network of our own (unshare --map-root-user --net): guests reach what this machine reaches"
    );
    Command::new("env")
}
