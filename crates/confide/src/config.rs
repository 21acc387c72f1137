//! `confide config`: the settings of file and environment.

use crate::input;
use crate::render;
use crate::settings::{PREFIX, SETTINGS, Settings, Source};
use crate::status::{Failure, Status};
use crate::{chat, endorser, proxy, references};
use clap::Subcommand;
use confide_client::proxy::Access;
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
/// Its fields, their values, and the files that it names are looked at: policy, reference values, discovery file, token, keys and
/// certificate are read as the commands read them, and everything that is wrong is told, each with its code and file. The program
/// ends with the status of the first. Without a file, the one that commands would read is taken, with the environment. Variables that
/// begin with CONFIDE_ and are no setting are noted.
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
        let mut faults = settings.faults(&crate::command());
        faults.extend(faults_of_files(&settings));
        let given: Vec<&str> =
            SETTINGS.iter().filter(|one| settings.value(one).is_some()).map(|one| one.name).collect();
        if self.file.is_none() {
            note_unknown_variables();
        }
        faults.iter().for_each(render::failure);
        let file = shown(settings.file.as_deref());
        if self.json {
            let told: Vec<Value> = faults.iter().map(fault).collect();
            print(match told.first() {
                None => json!({ "file": file, "settings": given }),
                Some(first) => json!({ "file": file, "settings": given, "error": first, "faults": told }),
            });
        } else if faults.is_empty() {
            let file = file.as_str().unwrap_or("no file").to_owned();
            let settings = render::counted(given.len(), "setting");
            let names = if given.is_empty() { String::new() } else { format!(": {}", given.join(", ")) };
            render::prose(&format!("{file}: {settings}{names}"));
        }
        Ok(faults.first().map_or(Status::Accepted, Failure::status))
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

fn fault(failure: &Failure) -> Value {
    json!({ "code": failure.code(), "message": failure.message(), "what_to_do": failure.what_to_do() })
}

/// Reads the files that settings name as the commands read them, and gives what is wrong with them.
fn faults_of_files(settings: &Settings) -> Vec<Failure> {
    let (mut faults, mut policy) = (Vec::new(), None);
    for setting in &SETTINGS {
        let Some(path) = settings.value(setting).map(|value| Path::new(&value.text)) else { continue };
        let read = match setting.name {
            "policy" => input::load(path, Loaded::Normally).map(|loaded| policy = Some(loaded.policy)),
            // Without its policy nothing is known of it.
            "references" => {
                policy.as_ref().map_or(Ok(()), |policy| references::check(path, policy, input::now()))
            }
            "upstreams" => proxy::upstreams(path).map(drop),
            "token_file" => proxy::token(path).map(drop),
            "upstream_key_file" => proxy::with_guests_key(Access::open(), path).map(drop),
            "api_key_file" => chat::api_key(path).map(drop),
            "pccs_certificate" => endorser::trust(Some(path)).map(drop),
            _ => Ok(()),
        };
        faults.extend(read.err().map(|failure| match settings.named(setting) {
            Some(named) => named.tell(failure),
            None => failure,
        }));
    }
    faults
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
