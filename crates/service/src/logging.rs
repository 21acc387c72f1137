//! Events to standard error.
//!
//! What the programs log about themselves goes through the filter that the operator chose. Other crates know
//! nothing of our rule that content is never logged, so that their events pass at `warn` and `error` alone,
//! whatever the filter says. A panic's message could quote content too: [`quiet_panics`] logs its place only.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter};

/// Crates whose name starts so are ours.
const OURS: &str = "confide";

/// The form of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for a person, with colours where there is a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether lines may carry terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// Escape sequences for colours.
    Ansi,
    /// None.
    Plain,
}

/// Which of our events are written: `info`, `debug`, `confide_guest=debug,info`.
#[derive(Debug)]
pub struct Filter(EnvFilter);

/// Stable codes of [`LogError`]: code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    ("log_format_unknown", "the form of log lines is none that the program knows", "set it to text or json"),
    (
        "log_filter_invalid",
        "the log filter is no list of levels or target=level",
        "set it to a level, for example info, or to target=level pairs",
    ),
    (
        "log_already_installed",
        "the process writes its events elsewhere already",
        "report it: this is a fault of the program",
    ),
];

/// Why events cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The name of a form.
    #[error("log format {0:?} is neither `text` nor `json`")]
    UnknownFormat(String),
    /// A filter that cannot be parsed.
    #[error("log filter {0:?} is not a list of levels or target=level")]
    InvalidFilter(String),
    /// The process has a subscriber already.
    #[error("events are written elsewhere already")]
    AlreadyInstalled,
}

impl LogError {
    /// Stable code, one of [`CODES`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownFormat(_) => "log_format_unknown",
            Self::InvalidFilter(_) => "log_filter_invalid",
            Self::AlreadyInstalled => "log_already_installed",
        }
    }
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(name: &str) -> Result<Self, LogError> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::UnknownFormat(name.to_owned())),
        }
    }
}

impl FromStr for Filter {
    type Err = LogError;

    fn from_str(directives: &str) -> Result<Self, LogError> {
        let invalid = |_| LogError::InvalidFilter(directives.to_owned());
        EnvFilter::builder().parse(directives).map(Self).map_err(invalid)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self(EnvFilter::default().add_directive(LevelFilter::INFO.into()))
    }
}

/// Writes events to standard error from now on, and makes panics quiet.
///
/// # Errors
/// [`LogError::AlreadyInstalled`].
pub fn install(format: Format, filter: Filter) -> Result<(), LogError> {
    let plain =
        std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !io::stderr().is_terminal();
    let colours = if plain { Colours::Plain } else { Colours::Ansi };
    let installed = subscriber(format, filter, colours, io::stderr).try_init();
    installed.map_err(|_| LogError::AlreadyInstalled)?;
    quiet_panics();
    Ok(())
}

/// What [`install`] installs, with another place to write to.
pub fn subscriber<W>(
    format: Format,
    filter: Filter,
    colours: Colours,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours == Colours::Ansi);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let ceiling = filter::filter_fn(|event| {
        let level = LevelFilter::from_level(*event.level());
        event.target().starts_with(OURS) || level <= LevelFilter::WARN
    });
    tracing_subscriber::registry().with(filter.0).with(lines.with_filter(ceiling))
}

/// Makes a panic log its place and not its message.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name(), "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Memory {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn written(format: Format, filter: &str, colours: Colours, events: impl FnOnce()) -> String {
        let memory = Memory::default();
        let subscriber = subscriber(format, filter.parse().unwrap(), colours, memory.clone());
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_is_one_plain_line() {
        let text = written(Format::Text, "info", Colours::Plain, || {
            tracing::info!(target: "confide_guest", port = 7, "listening");
            tracing::debug!(target: "confide_guest", "hidden");
        });
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("INFO confide_guest: listening port=7"), "{text}");
        assert!(!text.contains('\x1b'));
        let coloured =
            written(Format::Text, "info", Colours::Ansi, || tracing::info!(target: "confide", "x"));
        assert!(coloured.contains('\x1b'));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written(Format::Json, "info", Colours::Plain, || {
            tracing::warn!(target: "confide_guest", port = 7, "listen\n\"ing");
        });
        let event: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!((&event["level"], &event["target"]), (&"WARN".into(), &"confide_guest".into()));
        assert_eq!((&event["message"], &event["port"]), (&"listen\n\"ing".into(), &7.into()));
    }

    #[test]
    fn other_crates_are_heard_at_warn_and_above_alone() {
        let text = written(Format::Text, "trace,hyper=trace", Colours::Plain, || {
            tracing::trace!(target: "confide_guest::api", "kept");
            tracing::trace!(target: "hyper::proto", "dropped");
            tracing::debug!(target: "minijinja", "dropped");
            tracing::info!(target: "hyper", "dropped");
            tracing::warn!(target: "rustls", "kept");
            tracing::error!(target: "tokio", "kept");
        });
        assert_eq!((text.matches("kept").count(), text.matches("dropped").count()), (3, 0), "{text}");
    }

    #[test]
    fn the_default_filter_is_info() {
        let memory = Memory::default();
        let subscriber = subscriber(Format::Text, Filter::default(), Colours::Plain, memory.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "confide", "kept");
            tracing::debug!(target: "confide", "dropped");
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("kept") && !text.contains("dropped"), "{text}");
    }

    #[test]
    fn names_are_parsed() {
        assert_eq!("text".parse::<Format>().unwrap(), Format::Text);
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("xml".parse::<Format>().unwrap_err().code(), "log_format_unknown");
        assert_eq!("a=b=c".parse::<Filter>().unwrap_err().code(), "log_filter_invalid");
        assert_eq!("loud=loud".parse::<Filter>().unwrap_err().code(), "log_filter_invalid");
    }

    #[test]
    fn every_error_has_a_listed_code() {
        let all = [
            LogError::UnknownFormat(String::new()),
            LogError::InvalidFilter(String::new()),
            LogError::AlreadyInstalled,
        ];
        let listed: Vec<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(all.each_ref().map(LogError::code), *listed);
    }

    #[test]
    fn a_panic_shows_its_place_and_not_its_message() {
        quiet_panics();
        let text = written(Format::Text, "info", Colours::Plain, || {
            let panicked = std::panic::catch_unwind(|| panic!("secret"));
            assert!(panicked.is_err());
        });
        let _ = std::panic::take_hook();
        assert!(text.contains("panic place=\"crates/service/src/logging.rs:"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
