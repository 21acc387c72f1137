//! Manual pages.

use crate::cli;
use crate::render;
use crate::status::{Failure, Status};
use clap::{Arg, Command};
use std::io;
use std::path::Path;

/// Writes one page per command to a folder, which is made where it is missing; without one, prints the program's own.
pub(crate) fn run(dir: Option<&Path>) -> Result<Status, Failure> {
    let mut command = cli::command().disable_help_subcommand(true);
    command.build();
    let command = with_synopsis(command);
    if let Some(dir) = dir {
        let fault = |error: io::Error| {
            Failure::new(Status::Internal, "file_unwritable", format!("{}: {error}", dir.display()))
        };
        std::fs::create_dir_all(dir).map_err(fault)?;
        clap_mangen::generate_to(command, dir).map_err(fault)?;
        return Ok(Status::Accepted);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::new(Status::Internal, "file_unwritable", error.to_string()))?;
    render::bytes(&page);
    Ok(Status::Accepted)
}

/// The command, and those below it, with a synopsis that names the values of flags: the generator's own does not.
fn with_synopsis(command: Command) -> Command {
    let command = command.mut_subcommands(with_synopsis);
    if command.get_overridden_usage().is_some() {
        return command;
    }
    let synopsis = synopsis(&command);
    command.override_usage(synopsis)
}

fn synopsis(command: &Command) -> String {
    let groups: Vec<Vec<&Arg>> = command
        .get_groups()
        .filter(|group| group.is_required_set())
        .map(|group| {
            let is_of_it = |argument: &&Arg| group.get_args().any(|id| id == argument.get_id());
            command.get_arguments().filter(is_of_it).collect()
        })
        .collect();
    let alone = |argument: &&Arg| {
        let is_of_a_group = groups.iter().flatten().any(|other: &&Arg| other.get_id() == argument.get_id());
        !argument.is_hide_set() && !is_of_a_group
    };
    let flags = || command.get_arguments().filter(alone).filter(|argument| !argument.is_positional());
    let mut words = vec![command.get_bin_name().unwrap_or(command.get_name()).to_owned()];
    words.extend(flags().filter(|flag| !flag.is_required_set()).map(|flag| format!("[{flag}]")));
    words.extend(flags().filter(|flag| flag.is_required_set()).map(ToString::to_string));
    words.extend(groups.iter().map(|group| {
        let members: Vec<String> = group.iter().map(ToString::to_string).collect();
        format!("({})", members.join(" | "))
    }));
    words.extend(command.get_positionals().filter(alone).map(ToString::to_string));
    if command.has_subcommands() {
        let word = if command.is_subcommand_required_set() { "<COMMAND>" } else { "[COMMAND]" };
        words.push(word.to_owned());
    }
    words.join(" ")
}
