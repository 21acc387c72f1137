//! What the program tells of itself beside results: events to standard error.

use crate::status::{Failure, Status};
use confide_service::logging::{self, Filter, Format, LogError};

/// What is told of where nobody says otherwise: what a person should know of, and nothing where all goes well.
const FILTER: &str = "warn";

/// Which events are written to standard error, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogFlags {
    /// Events to write to standard error: those of a level and above (error, warn, info, debug, trace), none (off), or TARGET=LEVEL
    /// pairs. No level has anything of what is asked or answered
    #[arg(long, value_name = "FILTER", default_value = FILTER, value_parser = filter)]
    log_filter: String,
    /// Form of these events: text, or json for one object a line
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format)]
    log_format: Format,
}

impl Default for LogFlags {
    fn default() -> Self {
        Self { log_filter: FILTER.to_owned(), log_format: Format::default() }
    }
}

impl LogFlags {
    /// Writes events from now on.
    pub(crate) fn install(&self) -> Result<(), Failure> {
        let filter = self.log_filter.parse();
        let installed = filter.and_then(|filter| logging::install(self.log_format, filter));
        installed.map_err(|error| {
            let failure = Failure::new(Status::Internal, error.code(), error.to_string());
            match logging::CODES.iter().find(|(code, ..)| *code == error.code()) {
                Some((_, _, what_to_do)) => failure.hint(*what_to_do),
                None => failure,
            }
        })
    }
}

/// Holds a filter's form.
fn filter(text: &str) -> Result<String, LogError> {
    text.parse::<Filter>().map(|_| text.to_owned())
}

fn format(text: &str) -> Result<Format, LogError> {
    text.parse()
}
