//! Project tasks: `cargo xtask --help`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to a terminal")]

mod api;
mod bench;
mod cargo;
mod demo;
mod deny;
mod dist;
mod docs;
mod documents;
mod failover;
mod faults;
mod fixtures;
mod forgeries;
mod fuzz;
mod kills;
mod layers;
mod load;
mod manifests;
mod mutants;
mod native;
mod packages;
mod plain;
mod process;
mod programs;
mod purity;
mod python;
mod running;
mod samples;
mod specification;
mod test;
mod tool;
mod traffic;
mod train;
mod vm;
mod way_out;

use std::path::PathBuf;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project tasks", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show the whole thing at work: a real quote, a prompt over an attested channel, attacks refused, a replay
    Demo,
    /// Run everything that CI checks, and print the seconds of each stage
    Test(TestArguments),
    /// Check each package's own resolved graph against the layers of ARCHITECTURE.md
    Layers,
    /// Measure appraisal, memory, refusals, connections, the proxy beside nginx and the tiny model, and write the tables to
    /// docs/benchmarks/DATE-COMMIT.md; fails where a target is not met
    Bench {
        /// Measure this section alone; may be given several times
        #[arg(long, value_name = "NAME")]
        section: Vec<String>,
        /// Write the tables to this file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Build the programs as they ship and lay them out with manual pages and completions, as a package has them
    Dist {
        /// Folder below which bin and share are made: a package's root, or /usr/local
        #[arg(long, value_name = "DIR")]
        prefix: PathBuf,
    },
    /// Write docs/errors.md, docs/limits.md and docs/ear.md from the code
    Docs,
    /// Make the cases of the conformance suite anew from their recipes, `fixtures/*/*/case.toml`, and `fixtures/records`
    /// from them
    Fixtures,
    /// Train the tiny model anew from its committed text; takes minutes
    TrainTiny,
    /// Boot the guests of the stage `vm`, which starts this in a network of its own
    #[command(name = vm::CASES, hide = true)]
    VmCases {
        /// Which of the lanes that run beside each other this is
        #[arg(long, default_value_t = 0)]
        lane: usize,
        /// How many there are
        #[arg(long, default_value_t = 1)]
        lanes: usize,
    },
    /// Kill guests and rotations for the stage's long form, as that
    #[command(name = vm::KILLS, hide = true)]
    VmKills,
    /// Run every test of egress on a guest's kernel for the stage's long form, as that
    #[command(name = vm::ATTACKS, hide = true)]
    VmAttacks,
    /// Measure boots for the benchmarks, as that
    #[command(name = vm::BOOTS, hide = true)]
    VmBoots,
}

#[derive(Args)]
struct TestArguments {
    /// Run the long forms too, for hours, and write their result to docs/long-runs
    #[arg(long)]
    long: bool,
    /// Run only this stage; may be given several times
    #[arg(long = "stage", value_name = "NAME")]
    only: Vec<String>,
    /// Run the stage `vm` alone: guests that boot in QEMU
    #[arg(long, conflicts_with = "only")]
    vm: bool,
    /// Leave this stage out; may be given several times
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
    /// Print the stages and what each checks
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().task {
        Task::Test(arguments) if arguments.list => test::list(),
        Task::Test(arguments) => return test::run(&arguments.into()),
        Task::Demo => demo::run()?,
        Task::Layers => layers::run()?,
        Task::Dist { prefix } => dist::run(&prefix)?,
        Task::Docs => docs::run()?,
        Task::Bench { out, section } => bench::run(out.as_deref(), &section)?,
        Task::Fixtures => fixtures::run()?,
        Task::TrainTiny => train::run()?,
        Task::VmCases { lane, lanes } => vm::run_cases(lane, lanes)?,
        Task::VmKills => vm::run_kills()?,
        Task::VmAttacks => vm::run_attacks()?,
        Task::VmBoots => vm::run_boots()?,
    }
    Ok(ExitCode::SUCCESS)
}

impl From<TestArguments> for test::Selection {
    fn from(arguments: TestArguments) -> Self {
        let length = if arguments.long { test::Length::Long } else { test::Length::Ci };
        let only = if arguments.vm { vec!["vm".to_owned()] } else { arguments.only };
        Self { length, only, skip: arguments.skip }
    }
}
