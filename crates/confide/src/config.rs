//! `confide config`: the settings of file and environment.

use crate::input;
use crate::render;
use crate::settings::{PREFIX, SETTINGS, Settings, Source};
use crate::status::{Failure, Status};
use clap::Subcommand;
use confide_evidence::text::escape_json;
use confide_policy::Loaded;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Check or show the settings of the configuration file and of the environment
///
/// A setting stands for a flag that is not given. A flag comes before the environment (CONFIDE_POLICY and its like), which
/// comes before the file: the one that --config or CONFIDE_CONFIG names, else confide/config.toml in $XDG_CONFIG_HOME or
/// ~/.config. What is dangerous is a flag alone.
// A variant's own comment would hide that of its arguments, whose further paragraphs are for `--help`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(Check),
    Show(Show),
}

/// Read a configuration file and say what is wrong with it
///
/// Its fields, their values, and the files that it names are looked at: a policy must be one. Without a file, the one that
/// commands would read is taken, with the environment. Variables that begin with CONFIDE_ and are no setting are noted.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The configuration file
    file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Show every setting, its value and where that comes from
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    /// Runs the command. `named` is the file of the flag `--config`.
    pub(crate) fn run(self, named: Option<&Path>) -> Result<Status, Failure> {
        match self {
            Self::Check(command) => command.run(named),
            Self::Show(command) => command.run(named),
        }
    }
}

impl Check {
    fn run(self, named: Option<&Path>) -> Result<Status, Failure> {
        let settings = match &self.file {
            Some(file) => Settings::of(file)?,
            None => Settings::load(named)?,
        };
        settings.check(&crate::command())?;
        let given: Vec<&str> =
            SETTINGS.iter().filter(|one| settings.value(one).is_some()).map(|one| one.name).collect();
        files_are_there(&settings)?;
        if self.file.is_none() {
            note_unknown_variables();
        }
        let file = shown(settings.file.as_deref());
        if self.json {
            print(json!({ "file": file, "settings": given }));
        } else {
            let file = file.as_str().unwrap_or("no file").to_owned();
            let settings = render::counted(given.len(), "setting");
            let names = if given.is_empty() { String::new() } else { format!(": {}", given.join(", ")) };
            render::prose(&format!("{file}: {settings}{names}"));
        }
        Ok(Status::Accepted)
    }
}

impl Show {
    fn run(self, named: Option<&Path>) -> Result<Status, Failure> {
        let settings = Settings::load(named)?;
        settings.check(&crate::command())?;
        let file = shown(settings.file.as_deref());
        if self.json {
            let values: Map<String, Value> = SETTINGS
                .iter()
                .map(|setting| {
                    let value = settings.value(setting).map(
                        |value| json!({ "value": value.text.to_string_lossy(), "from": source(&value.from) }),
                    );
                    (setting.name.to_owned(), value.into())
                })
                .collect();
            print(json!({ "file": file, "settings": values }));
            return Ok(Status::Accepted);
        }
        render::prose(&format!("file: {}", file.as_str().unwrap_or("none")));
        for setting in &SETTINGS {
            render::prose(&match settings.value(setting) {
                Some(value) => {
                    format!("{} = {} ({})", setting.name, value.text.to_string_lossy(), value.from)
                }
                None => format!("{} is not set: {}", setting.name, setting.meaning),
            });
        }
        Ok(Status::Accepted)
    }
}

fn source(from: &Source) -> Value {
    match from {
        Source::File { path, line } => json!({ "file": path.display().to_string(), "line": line }),
        Source::Environment(name) => json!({ "environment": name }),
    }
}

fn shown(file: Option<&Path>) -> Value {
    file.map(|file| file.display().to_string()).into()
}

fn print(value: Value) {
    render::line(&escape_json(value.to_string()));
}

/// Reads the files that settings name: a policy as a policy, others to see that they can be read.
fn files_are_there(settings: &Settings) -> Result<(), Failure> {
    for setting in &SETTINGS {
        let Some(path) = settings.value(setting).map(|value| Path::new(&value.text)) else { continue };
        let read = match setting.name {
            "policy" => input::load(path, Loaded::Normally).map(drop),
            "upstreams" | "references" | "token_file" | "upstream_key_file" | "api_key_file"
            | "pccs_certificate" => input::read(path, 0).map(drop),
            _ => continue,
        };
        read.map_err(|failure| match settings.named(setting) {
            Some(named) => named.tell(failure),
            None => failure,
        })?;
    }
    Ok(())
}

fn note_unknown_variables() {
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && name != "CONFIDE_CONFIG")
        .filter(|name| SETTINGS.iter().all(|setting| setting.variable() != *name))
        .collect();
    unknown.sort();
    for name in unknown {
        render::note(&format!("{name} is no setting of this program"));
    }
}
