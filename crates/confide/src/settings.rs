//! Settings from a file and from the environment, in the place of flags that are not given.
//!
//! A setting becomes the flag that it stands for, right behind the command's name, before the command line is read. So
//! flags, environment and file mean the same and are held to the same rules, and a flag comes before the environment, which
//! comes before the file. What is dangerous is never a setting: it has to be asked for each time.

use crate::render::Form;
use crate::status::{Failure, Status};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Id};
use confide_client::{Endpoint, EndpointError};
use confide_service::config::{self, ConfigError, MAX_CONFIG};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A setting of the configuration file and of the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name in files. In the environment it is in capitals, behind `CONFIDE_`.
    pub name: &'static str,
    /// What it is, in the words of the documentation.
    pub meaning: &'static str,
    kind: Kind,
    scope: Scope,
    /// A setting that this one belongs to: it counts where both come from the same place.
    part_of: Option<&'static str>,
}

/// What values a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The text that its flag takes.
    Text,
    /// A path; in a file, one that is not absolute begins at the file's folder.
    Path,
    /// Whether its flag is given.
    Switch,
}

/// Which commands a setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Those that ask a guest: `chat`, `proxy`, `verify URL` and `record URL`.
    Guests,
    /// All that have its flag.
    All,
}

/// Every setting, in the order of the documentation.
pub const SETTINGS: [Setting; 23] = [
    of_guests(
        GUEST,
        Kind::Text,
        "the guest, https://HOST:PORT: `--url` of chat, `--upstream` of proxy, URL of verify and record",
    ),
    of_guests("upstreams", Kind::Path, "file that lists further guests of the proxy"),
    of_guests("policy", Kind::Path, "appraisal policy"),
    Setting {
        part_of: Some("policy"),
        ..of_guests("references", Kind::Path, "signed file of reference values, of this policy")
    },
    of_guests("cross_check", Kind::Switch, "whether dcap-qvl appraises each quote, too"),
    of_guests("record", Kind::Path, "where chat and proxy record every appraisal"),
    of_guests(
        "receipts",
        Kind::Text,
        "what is done about receipts that guests sign: where-present, required or not-asked",
    ),
    of_guests("max_in_flight", Kind::Text, "the most requests of the proxy under way at one guest"),
    of_guests(
        "drain_seconds",
        Kind::Text,
        "how many seconds requests of the proxy under way may take after it is told to end",
    ),
    of_guests("listen", Kind::Text, "address that the proxy listens on, IP:PORT"),
    of_guests("token_file", Kind::Path, "file with the token that programs must send to the proxy"),
    of_guests("upstream_key_file", Kind::Path, "file with the key that the proxy sends to its guests"),
    of_guests("model", Kind::Text, "model that chat asks"),
    of_guests("temperature", Kind::Text, "sampling temperature of chat, 0 to 2"),
    of_guests("max_tokens", Kind::Text, "the most tokens of an answer to chat"),
    of_guests("api_key_file", Kind::Path, "file with the key that the guest's owner asks for"),
    of_guests("log_filter", Kind::Text, "events to write to standard error: a level, or TARGET=LEVEL pairs"),
    of_guests("log_format", Kind::Text, "form of these events: text or json"),
    of_all("offline", Kind::Switch, "whether no vendor's service is asked"),
    of_all("cache", Kind::Path, "folder of the cache of endorsements"),
    of_all(
        "pccs",
        Kind::Text,
        "Provisioning Certificate Caching Service to ask in place of Intel's own service",
    ),
    Setting {
        part_of: Some("pccs"),
        ..of_all("pccs_certificate", Kind::Path, "certificate that this PCCS shows, PEM")
    },
    of_all("update", Kind::Text, "TCB levels to ask for: standard, early, both or a tcbEvaluationDataNumber"),
];

const fn of_guests(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { name, meaning, kind, scope: Scope::Guests, part_of: None }
}

const fn of_all(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting { name, meaning, kind, scope: Scope::All, part_of: None }
}

/// The setting that names the guest.
const GUEST: &str = "url";
/// What the names of settings in the environment begin with.
pub(crate) const PREFIX: &str = "CONFIDE_";
/// The flag, and the variable, that name the file.
const FLAG: &str = "config";
const FILE_VARIABLE: &str = "CONFIDE_CONFIG";

/// A configuration file as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    url: Option<Spanned<String>>,
    upstreams: Option<Spanned<String>>,
    policy: Option<Spanned<String>>,
    references: Option<Spanned<String>>,
    cross_check: Option<Spanned<bool>>,
    record: Option<Spanned<String>>,
    receipts: Option<Spanned<String>>,
    max_in_flight: Option<Spanned<u32>>,
    drain_seconds: Option<Spanned<u32>>,
    listen: Option<Spanned<String>>,
    token_file: Option<Spanned<String>>,
    upstream_key_file: Option<Spanned<String>>,
    model: Option<Spanned<String>>,
    temperature: Option<Spanned<f32>>,
    max_tokens: Option<Spanned<u32>>,
    api_key_file: Option<Spanned<String>>,
    log_filter: Option<Spanned<String>>,
    log_format: Option<Spanned<String>>,
    offline: Option<Spanned<bool>>,
    cache: Option<Spanned<String>>,
    pccs: Option<Spanned<String>>,
    pccs_certificate: Option<Spanned<String>>,
    update: Option<Spanned<Update>>,
}

/// `update` may be written as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Update {
    Name(String),
    Number(u32),
}

/// A value, as a flag would take it, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: OsString,
    pub(crate) from: Source,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A line of the file, counted from 1.
    File { path: PathBuf, line: usize },
    /// A variable.
    Environment(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// The settings of a file and of the environment.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// The file that was read, where there is one.
    pub(crate) file: Option<PathBuf>,
    values: BTreeMap<&'static str, Value>,
    /// Parts of what the same place does not name.
    alone: Vec<(&'static Setting, Source)>,
}

/// A file or folder that a setting names for a command.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    path: PathBuf,
    setting: &'static Setting,
    from: Source,
}

impl Named {
    /// The setting's value as a path; nothing where it is none.
    fn of(setting: &'static Setting, value: &Value) -> Option<Self> {
        let path = PathBuf::from(&value.text);
        (setting.kind == Kind::Path).then(|| Self { path, setting, from: value.from.clone() })
    }

    /// The failure with the line or variable that names its file, where it is about this one: such messages begin with the
    /// path, or that of a file beside or below it.
    pub(crate) fn tell(&self, failure: Failure) -> Failure {
        let path = self.path.display().to_string();
        match failure.message().strip_prefix(&path) {
            Some(rest) if rest.starts_with([':', ' ', '.', '/']) => {
                let before = format!("{}: {}: ", self.from, self.setting.name);
                failure.behind(&before)
            }
            _ => failure,
        }
    }
}

/// The command line with the settings that it leaves open, as the flags that they stand for.
///
/// # Errors
/// A configuration that cannot be used. A command line that cannot be read is given back as it is: who reads it next says
/// why.
pub(crate) fn with_settings(
    command: &Command,
    given: Vec<OsString>,
) -> Result<(Vec<OsString>, Vec<Named>), Failure> {
    let mut lenient = with_optional_arguments(command.clone());
    let Ok(matches) = lenient.try_get_matches_from_mut(&given) else { return Ok((given, Vec::new())) };
    let (names, matches) = leaf(&matches);
    let Some(command) = below(&lenient, &names) else { return Ok((given, Vec::new())) };
    if !SETTINGS.iter().any(|setting| setting.argument(command).is_some()) {
        return Ok((given, Vec::new()));
    }
    let settings = Settings::load(matches.try_get_one::<PathBuf>(FLAG).ok().flatten().map(PathBuf::as_path))?;
    settings.whole(|setting| setting.argument(command).is_some())?;
    let (mut words, mut named) = (Vec::new(), Vec::new());
    for (setting, value) in settings.open(command, matches) {
        let word = setting.word(command, value);
        check(command, setting, value, word.as_deref())?;
        words.extend(word);
        named.extend(Named::of(setting, value));
    }
    Ok((inserted(given, &names, words), named))
}

/// Whether the command line asks for one JSON object. One that cannot be read asks for nothing.
pub(crate) fn asks_for_json(command: &Command, given: &[OsString]) -> bool {
    let lenient = with_optional_arguments(command.clone());
    let Ok(matches) = lenient.try_get_matches_from(given) else { return false };
    let (_, matches) = leaf(&matches);
    let is_set = matches.try_get_one::<bool>("json").ok().flatten() == Some(&true);
    is_set || matches.try_get_one::<Form>("format").ok().flatten() == Some(&Form::Json)
}

/// The names of the subcommands down to the last one, and its matches.
fn leaf(mut matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let mut names = Vec::new();
    while let Some((name, inner)) = matches.subcommand() {
        names.push(name.to_owned());
        matches = inner;
    }
    (names, matches)
}

fn below<'a>(command: &'a Command, names: &[String]) -> Option<&'a Command> {
    names.iter().try_fold(command, |command, name| command.find_subcommand(name))
}

/// The command line on which no argument that a setting stands for is required, and no group of arguments.
fn with_optional_arguments(command: Command) -> Command {
    let is_setting = |argument: &Arg| SETTINGS.iter().any(|setting| setting.is(argument));
    let groups: Vec<Id> = command.get_groups().map(|group| group.get_id().clone()).collect();
    let command = groups
        .into_iter()
        .fold(command, |command, group| command.mut_group(group.as_str(), |group| group.required(false)));
    command
        .mut_args(|argument| if is_setting(&argument) { argument.required(false) } else { argument })
        .mut_subcommands(with_optional_arguments)
}

/// Puts words behind the name of the last subcommand. Before it there is no argument but that of the file.
fn inserted(mut given: Vec<OsString>, names: &[String], words: Vec<OsString>) -> Vec<OsString> {
    let mut at: usize = 1;
    for name in names {
        while let Some(word) = given.get(at).filter(|word| *word != OsStr::new(name)) {
            at = at.saturating_add(if word == OsStr::new("--config") { 2 } else { 1 });
        }
        at = at.saturating_add(1);
    }
    let at = at.min(given.len());
    given.splice(at..at, words);
    given
}

impl Setting {
    /// The setting's variable in the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_uppercase())
    }

    fn is(&self, argument: &Arg) -> bool {
        let id = argument.get_id().as_str();
        id == self.name || (self.name == GUEST && id == "upstream")
    }

    /// The argument of a command that the setting stands for.
    fn argument<'a>(&self, command: &'a Command) -> Option<&'a Arg> {
        let asks_guests = command.get_arguments().any(|argument| SETTINGS[0].is(argument));
        if self.scope == Scope::Guests && !asks_guests {
            return None;
        }
        command.get_arguments().find(|argument| self.is(argument))
    }

    /// The word of a command line; none for a switch that is off.
    fn word(&self, command: &Command, value: &Value) -> Option<OsString> {
        let argument = self.argument(command)?;
        let Some(long) = argument.get_long() else { return Some(value.text.clone()) };
        let mut word = OsString::from(format!("--{long}"));
        if self.kind == Kind::Switch {
            return (value.text == "true").then_some(word);
        }
        word.push("=");
        word.push(&value.text);
        Some(word)
    }
}

/// Holds a value against what its flag takes, so that an error names the line or the variable, and not a flag that nobody
/// has given.
fn check(command: &Command, setting: &Setting, value: &Value, word: Option<&OsStr>) -> Result<(), Failure> {
    let Some(word) = word else { return Ok(()) };
    if setting.name == GUEST {
        // The word may stand without a flag: what is no address there would be read as a flag or a subcommand.
        let endpoint = value.text.to_str().map_or(Err(EndpointError::Malformed), str::parse::<Endpoint>);
        endpoint.map_err(|error| {
            invalid(setting, &value.from, &format!("{error}; expected https://HOST:PORT"))
        })?;
    }
    let line = [OsStr::new(command.get_name()), word];
    let Err(error) = with_optional_arguments(command.clone()).try_get_matches_from(line) else {
        return Ok(());
    };
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue | ErrorKind::InvalidUtf8)
    {
        return Ok(());
    }
    let told = error.render().to_string();
    let told = told.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Err(invalid(setting, &value.from, told))
}

fn invalid(setting: &Setting, from: &Source, why: &str) -> Failure {
    let message = format!("{from}: {}: {why}", setting.name);
    Failure::new(Status::Usage, "setting_invalid", message)
}

impl Settings {
    /// Reads the file and the environment. `named` is the file of the flag.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let mut settings = Self::default();
        if let Some((path, must)) = file(named)
            && (must == Must::Exist || path.exists())
        {
            settings.values = of_file(&path)?;
            settings.alone = alone(&settings.values);
            settings.file = Some(path);
        }
        let environment = of_environment(std::env::vars_os())?;
        settings.alone.extend(alone(&environment));
        settings.values.extend(environment);
        Ok(settings)
    }

    /// The settings of one file alone.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let values = of_file(path)?;
        Ok(Self { alone: alone(&values), values, file: Some(path.to_owned()) })
    }

    /// The value of a setting.
    pub(crate) fn value(&self, setting: &Setting) -> Option<&Value> {
        let value = self.values.get(setting.name)?;
        let Some(whole) = setting.part_of else { return Some(value) };
        self.values.get(whole).filter(|whole| same_place(&whole.from, &value.from)).map(|_| value)
    }

    /// The file or folder that a setting names.
    pub(crate) fn named(&self, setting: &'static Setting) -> Option<Named> {
        Named::of(setting, self.value(setting)?)
    }

    /// Refuses a part of what the same place does not name, of settings that `matter`: it would count for nothing.
    fn whole(&self, matter: impl Fn(&Setting) -> bool) -> Result<(), Failure> {
        self.parts_alone(matter).next().map_or(Ok(()), Err)
    }

    /// What is wrong with parts of what the same place does not name.
    fn parts_alone(&self, matter: impl Fn(&Setting) -> bool) -> impl Iterator<Item = Failure> {
        self.alone.iter().filter(move |(setting, _)| matter(setting)).map(|(part, from)| {
            let whole = part.part_of.unwrap_or_default();
            let why = match from {
                Source::File { .. } => format!("it belongs to {whole}, which the file does not name"),
                Source::Environment(_) => {
                    format!("it belongs to {PREFIX}{}, which is not set", whole.to_uppercase())
                }
            };
            invalid(part, from, &why)
        })
    }

    /// What a command line leaves open: settings whose argument is not given and that can stand beside those that are.
    fn open<'s>(
        &'s self,
        command: &'s Command,
        matches: &'s ArgMatches,
    ) -> impl Iterator<Item = (&'static Setting, &'s Value)> {
        let given = |argument: &Arg| {
            matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        // Whoever names guests means these, and not those of settings as well.
        let are_guests =
            |argument: &Arg| ["url", "upstream", "upstreams"].contains(&argument.get_id().as_str());
        let named = command.get_arguments().any(|argument| are_guests(argument) && given(argument));
        let taken = move |argument: &Arg| {
            let beside = |other: &Arg| {
                let conflicts = |one: &Arg, other: &Arg| {
                    command.get_arg_conflicts_with(one).iter().any(|found| found.get_id() == other.get_id())
                };
                given(other) && (conflicts(argument, other) || conflicts(other, argument))
            };
            given(argument) || (named && are_guests(argument)) || command.get_arguments().any(beside)
        };
        SETTINGS.iter().filter_map(move |setting| {
            let (argument, value) = (setting.argument(command)?, self.value(setting)?);
            let whole = setting.part_of.and_then(|name| SETTINGS.iter().find(|other| other.name == name));
            let whole = whole.and_then(|whole| whole.argument(command));
            (!taken(argument) && !whole.is_some_and(taken)).then_some((setting, value))
        })
    }

    /// Holds every value against what a command takes.
    pub(crate) fn check(&self, command: &Command) -> Result<(), Failure> {
        self.faults(command).into_iter().next().map_or(Ok(()), Err)
    }

    /// What is wrong with the values, each held against what a command takes.
    pub(crate) fn faults(&self, command: &Command) -> Vec<Failure> {
        let mut faults: Vec<Failure> = self.parts_alone(|_| true).collect();
        let mut command = with_optional_arguments(command.clone());
        command.build();
        for setting in &SETTINGS {
            let Some(value) = self.values.get(setting.name) else { continue };
            let found =
                user_of(setting, &command).expect("every setting stands for an argument of some command");
            faults.extend(check(found, setting, value, setting.word(found, value).as_deref()).err());
        }
        faults
    }
}

/// A command that a setting is for.
fn user_of<'a>(setting: &Setting, command: &'a Command) -> Option<&'a Command> {
    if setting.argument(command).is_some() {
        return Some(command);
    }
    command.get_subcommands().find_map(|inner| user_of(setting, inner))
}

/// The settings of one place that are part of what it does not name.
fn alone(values: &BTreeMap<&'static str, Value>) -> Vec<(&'static Setting, Source)> {
    let parts = SETTINGS.iter().filter(|one| one.part_of.is_some_and(|whole| !values.contains_key(whole)));
    parts.filter_map(|part| Some((part, values.get(part.name)?.from.clone()))).collect()
}

fn same_place(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::File { path: one, .. }, Source::File { path: other, .. }) => one == other,
        (Source::Environment(_), Source::Environment(_)) => true,
        _ => false,
    }
}

/// Whether a file has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    Exist,
    NotExist,
}

/// The configuration file: the one that is named, else the user's own.
fn file(named: Option<&Path>) -> Option<(PathBuf, Must)> {
    if let Some(path) = named {
        return Some((path.to_owned(), Must::Exist));
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable(FILE_VARIABLE) {
        return Some((path, Must::Exist));
    }
    // A path that is not absolute is invalid there (XDG Base Directory Specification, "Environment variables").
    let folder = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let folder = folder.or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some((folder.join("confide/config.toml"), Must::NotExist))
}

fn of_file(path: &Path) -> Result<BTreeMap<&'static str, Value>, Failure> {
    let text = crate::input::read(path, MAX_CONFIG)?;
    let file: File = config::parse(&text, path).map_err(|error| refused(&error))?;
    let line =
        |offset: usize| text.iter().take(offset).filter(|byte| **byte == b'\n').count().saturating_add(1);
    let mut values = BTreeMap::new();
    for (name, found) in file.fields() {
        let Some((offset, mut text)) = found else { continue };
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        if setting.is_some_and(|setting| setting.kind == Kind::Path) {
            text = path.parent().unwrap_or(Path::new("")).join(text).into_os_string();
        }
        let from = Source::File { path: path.to_owned(), line: line(offset) };
        values.insert(name, Value { text, from });
    }
    Ok(values)
}

/// A field of the file: where it begins, and its value as a flag would take it.
type Field = Option<(usize, OsString)>;

impl File {
    fn fields(self) -> [(&'static str, Field); 23] {
        fn field<T>(value: Option<Spanned<T>>, text: impl Fn(T) -> String) -> Field {
            value.map(|value| (value.span().start, text(value.into_inner()).into()))
        }
        let text = |value| field(value, |text: String| text);
        let switch = |value| field(value, |on: bool| on.to_string());
        let update = |update| match update {
            Update::Name(name) => name,
            Update::Number(number) => number.to_string(),
        };
        [
            ("url", text(self.url)),
            ("upstreams", text(self.upstreams)),
            ("policy", text(self.policy)),
            ("references", text(self.references)),
            ("cross_check", switch(self.cross_check)),
            ("record", text(self.record)),
            ("receipts", text(self.receipts)),
            ("max_in_flight", field(self.max_in_flight, |value| value.to_string())),
            ("drain_seconds", field(self.drain_seconds, |value| value.to_string())),
            ("listen", text(self.listen)),
            ("token_file", text(self.token_file)),
            ("upstream_key_file", text(self.upstream_key_file)),
            ("model", text(self.model)),
            ("temperature", field(self.temperature, |value| value.to_string())),
            ("max_tokens", field(self.max_tokens, |value| value.to_string())),
            ("api_key_file", text(self.api_key_file)),
            ("log_filter", text(self.log_filter)),
            ("log_format", text(self.log_format)),
            ("offline", switch(self.offline)),
            ("cache", text(self.cache)),
            ("pccs", text(self.pccs)),
            ("pccs_certificate", text(self.pccs_certificate)),
            ("update", field(self.update, update)),
        ]
    }
}

fn of_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<&'static str, Value>, Failure> {
    let mut values = BTreeMap::new();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if name.starts_with(DANGER_VARIABLE) {
            return Err(danger(name));
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else { continue };
        if text.is_empty() {
            continue;
        }
        let from = Source::Environment(name.to_owned());
        let text = match (setting.kind, text.to_str()) {
            (Kind::Switch, Some("1")) => "true".into(),
            (Kind::Switch, Some("0")) => "false".into(),
            (Kind::Switch, Some("true" | "false")) | (Kind::Text | Kind::Path, _) => text,
            (Kind::Switch, _) => return Err(invalid(setting, &from, "expected true or false")),
        };
        values.insert(setting.name, Value { text, from });
    }
    Ok(values)
}

/// What the names of variables begin with that would lift a protection.
const DANGER_VARIABLE: &str = "CONFIDE_DANGER";

fn danger(what: &str) -> Failure {
    let message = format!("{what}: what is dangerous is asked for by a flag alone, each time");
    Failure::new(Status::Usage, "setting_danger", message)
}

fn refused(error: &ConfigError) -> Failure {
    if let ConfigError::UnknownField { path, position, field, .. } = error
        && field.starts_with("danger")
    {
        return danger(&format!("{}:{position}: {field}", path.display()));
    }
    let status = match error {
        ConfigError::Unreadable { .. } => Status::Internal,
        _ => Status::Usage,
    };
    let failure = Failure::new(status, error.code(), error.to_string());
    match config::CODES.iter().find(|(code, ..)| *code == error.code()) {
        Some((_, _, what_to_do)) => failure.hint(*what_to_do),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_file_is_a_setting_and_every_setting_an_argument() {
        let fields = File::default().fields().map(|(name, _)| name);
        assert_eq!(fields, SETTINGS.each_ref().map(|setting| setting.name));
        let mut command = crate::command();
        command.build();
        for setting in &SETTINGS {
            let user =
                user_of(setting, &command).unwrap_or_else(|| panic!("{} has no command", setting.name));
            let argument = setting.argument(user).unwrap();
            assert!(!argument.get_id().as_str().starts_with("danger"), "{argument}");
            if let Some(whole) = setting.part_of {
                assert!(SETTINGS.iter().any(|other| other.name == whole), "{whole}");
            }
        }
    }

    #[test]
    fn words_go_behind_the_last_subcommand_and_not_behind_a_file_of_its_name() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (given, path, expected) in [
            ("confide chat question", "chat", "confide chat NEW question"),
            ("confide --config chat chat question", "chat", "confide --config chat chat NEW question"),
            ("confide --config=chat chat", "chat", "confide --config=chat chat NEW"),
            ("confide verify quote --at x", "verify quote", "confide verify quote NEW --at x"),
            ("confide verify --config verify", "verify", "confide verify NEW --config verify"),
        ] {
            assert_eq!(inserted(words(given), &names(path), words("NEW")), words(expected), "{given}");
        }
    }
}
