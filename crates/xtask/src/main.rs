//! Project tasks: `cargo xtask --help`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to a terminal")]

mod cargo;
mod layers;
mod purity;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project tasks", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check each package's own resolved graph against the layers of ARCHITECTURE.md
    Layers,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Layers => layers::run(),
    }
}
