//! Project tasks: `cargo xtask --help`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to a terminal")]

mod cargo;
mod deny;
mod layers;
mod process;
mod purity;
mod python;
mod test;

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
    /// Run everything that CI checks, and print the seconds of each stage
    Test(TestArguments),
    /// Check each package's own resolved graph against the layers of ARCHITECTURE.md
    Layers,
}

#[derive(Args)]
struct TestArguments {
    /// Also run what does not fit in CI: loads, kills, long fuzzing, all mutations
    #[arg(long)]
    long: bool,
    /// Run only this stage; may be given several times
    #[arg(long = "stage", value_name = "NAME")]
    only: Vec<String>,
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
        Task::Layers => layers::run()?,
    }
    Ok(ExitCode::SUCCESS)
}

impl From<TestArguments> for test::Selection {
    fn from(arguments: TestArguments) -> Self {
        let length = if arguments.long { test::Length::Long } else { test::Length::Ci };
        Self { length, only: arguments.only, skip: arguments.skip }
    }
}
