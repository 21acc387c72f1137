//! `confide policy`: checking policy files.

use crate::input;
use crate::status::{Failure, Status};
use clap::Subcommand;
use confide_policy::Loaded;
use std::path::PathBuf;

/// Work with appraisal policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read policy files and say what they waive
    ///
    /// Files named danger-*.toml are read as danger policies.
    Check {
        /// Policy files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

impl PolicyCommand {
    #[expect(clippy::print_stdout, reason = "the program's output")]
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let Self::Check { files } = self;
        for file in files {
            let danger = file
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("danger-"));
            let loaded =
                if danger { input::load_danger(&file)? } else { input::load(&file, Loaded::Normally)? };
            let waivers = loaded.policy.waivers();
            println!("{}: policy {:?}, {} waivers", file.display(), loaded.policy.name, waivers.len());
            for (field, reason) in waivers {
                println!("  {field}: {reason}");
            }
        }
        Ok(Status::Accepted)
    }
}
