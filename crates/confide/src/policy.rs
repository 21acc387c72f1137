//! `confide policy`: checking policy files.

use crate::input;
use crate::render;
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
            let (name, count) = (&loaded.policy.name, waivers.len());
            render::line(&format!("{}: policy {name:?}, {count} waivers", file.display()));
            for (field, reason) in waivers {
                render::line(&format!("  {field}: {reason}"));
            }
        }
        Ok(Status::Accepted)
    }
}
