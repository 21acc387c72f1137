//! Configuration files: TOML into a type that the program closes with `deny_unknown_fields`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Bytes of a configuration file. Ours have under 8 KiB.
pub const MAX_CONFIG: usize = 1 << 20;

/// Stable codes of [`ConfigError`]: code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "config_unreadable",
        "the configuration file cannot be read",
        "name a file that exists and that this user may read",
    ),
    (
        "config_too_large",
        "the configuration file has more than 1 MiB",
        "name the configuration file, and not another one",
    ),
    ("config_not_utf8", "the configuration file is not UTF-8", "save it as UTF-8 text"),
    ("config_syntax", "the configuration file is not TOML", "correct the line that the error names"),
    (
        "config_unknown_field",
        "the configuration has a field that the program does not know",
        "correct or remove the field that the error names",
    ),
    (
        "config_invalid",
        "a field of the configuration is missing, or has a value that it cannot have",
        "correct the field that the error names",
    ),
];

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: the configuration cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`MAX_CONFIG`].
    #[error("{}: the configuration has more than {MAX_CONFIG} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8, which TOML is by definition.
    #[error("{}:{line}: the configuration is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first wrong byte, from 1.
        line: usize,
    },
    /// The text is not TOML.
    #[error("{}:{position}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        position: Position,
        /// What the parser expected.
        reason: String,
    },
    /// A field is not one that the program knows.
    #[error("{}:{position}: {}{reason}", path.display(), in_field(field))]
    UnknownField {
        /// The file.
        path: PathBuf,
        /// Where.
        position: Position,
        /// The field with the tables around it: `listen.port`.
        field: String,
        /// Which fields are known.
        reason: String,
    },
    /// A field is missing, or its value has another type or range.
    #[error("{}:{position}: {}{reason}", path.display(), in_field(field))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where: the value, or the table that lacks the field.
        position: Position,
        /// The field or the table, with the tables around it; empty for the whole file.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

/// What a parser of TOML says, in one line: its excerpt of the text, which takes several, is left out.
///
/// ```
/// let said = "TOML parse error at line 1, column 1\n  |\n1 | a = 1\n  | ^\nunknown field `a`\n";
/// assert_eq!(confide_service::config::in_one_line(said), "TOML parse error at line 1, column 1: unknown field `a`");
/// ```
#[must_use]
pub fn in_one_line(said: &str) -> String {
    let of_excerpt = |line: &&str| {
        let line = line.trim_start().trim_start_matches(|one: char| one.is_ascii_digit());
        line.trim_start().starts_with('|')
    };
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default();
    let rest = lines.filter(|line| !of_excerpt(line)).map(str::trim).filter(|line| !line.is_empty());
    rest.fold(first.to_owned(), |told, line| format!("{told}: {line}"))
}

impl ConfigError {
    /// Stable code, one of [`CODES`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "config_unreadable",
            Self::TooLarge { .. } => "config_too_large",
            Self::NotUtf8 { .. } => "config_not_utf8",
            Self::Syntax { .. } => "config_syntax",
            Self::UnknownField { .. } => "config_unknown_field",
            Self::Invalid { .. } => "config_invalid",
        }
    }
}

/// A place in a text. Both count from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Reads a configuration file.
///
/// # Errors
/// Any [`ConfigError`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_CONFIG).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    parse(&bytes, path)
}

/// Reads a configuration from the bytes of the file `path`, which errors name.
///
/// # Errors
/// Any [`ConfigError`] but [`Unreadable`](ConfigError::Unreadable).
pub fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, ConfigError> {
    if bytes.len() > MAX_CONFIG {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        let line = before.filter(|byte| **byte == b'\n').count().saturating_add(1);
        ConfigError::NotUtf8 { path: path.to_owned(), line }
    })?;
    // Two steps, because the error of one step does not tell a wrong text from a wrong value.
    let document = toml::de::Deserializer::parse(text).map_err(|error| syntax(&error, text, path))?;
    T::deserialize(document).map_err(|error| wrong_value(error, text, path))
}

fn syntax(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let position = position(text, error.span());
    ConfigError::Syntax { path: path.to_owned(), position, reason: error.message().to_owned() }
}

fn wrong_value(mut error: toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let (position, span) = (position(text, error.span()), error.span());
    let reason = error.message().to_owned();
    let field = keys(&mut error);
    let path = path.to_owned();
    if reason.starts_with("unknown field `") {
        // The keys lead to the table; the place is that of the field's own key.
        let key = span.and_then(|span| text.get(span)).unwrap_or_default();
        let field = if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") };
        ConfigError::UnknownField { path, position, field, reason }
    } else {
        ConfigError::Invalid { path, position, field, reason }
    }
}

/// The keys that lead to an error. The parser shows them only without its input, in a last line.
fn keys(error: &mut toml::de::Error) -> String {
    error.set_input(None);
    let shown = error.to_string();
    let keys = shown.trim_end().rsplit_once("\nin `").and_then(|(_, keys)| keys.strip_suffix('`'));
    keys.unwrap_or_default().to_owned()
}

fn in_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

/// The start of `span`. Errors without one concern the whole text.
fn position(text: &str, span: Option<Range<usize>>) -> Position {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    Position { line, column }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        name: String,
        #[serde(default)]
        listen: Vec<Listen>,
        limits: Option<Limits>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Listen {
        port: u16,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limits {
        #[serde(rename = "requests")]
        _requests: u32,
    }

    fn refusal(text: impl AsRef<[u8]>) -> ConfigError {
        parse::<Example>(text.as_ref(), Path::new("a.toml")).unwrap_err()
    }

    #[test]
    fn a_configuration_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "name = \"x\"\n[[listen]]\nport = 7\n[limits]\nrequests = 3\n").unwrap();
        let example: Example = load(&path).unwrap();
        assert_eq!((example.name.as_str(), example.listen[0].port), ("x", 7));
        assert!(example.limits.is_some());
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_field() {
        let cases = [
            (
                "name = \"x\"\n\n[limits]\nrequests = 1\nburst = 2\n",
                "config_unknown_field",
                "a.toml:5:1: limits.burst: unknown field `burst`, expected `requests`",
            ),
            (
                "nmae = \"x\"\n",
                "config_unknown_field",
                "a.toml:1:1: nmae: unknown field `nmae`, expected one of `name`, `listen`, `limits`",
            ),
            (
                "name = \"x\"\n[limits]\nrequests = \"many\"\n",
                "config_invalid",
                "a.toml:3:12: limits.requests: invalid type: string \"many\", expected u32",
            ),
            (
                "name = \"x\"\n[[listen]]\nport = 1\n[[listen]]\nport = 70000\n",
                "config_invalid",
                "a.toml:5:8: listen.port: invalid value: integer `70000`, expected u16",
            ),
            ("name = \"x\"\n[[listen]]\n", "config_invalid", "a.toml:2:1: listen: missing field `port`"),
            ("", "config_invalid", "a.toml:1:1: missing field `name`"),
            ("name = \"x\nother = 1\n", "config_syntax", "a.toml:1:10: invalid basic string, expected `\"`"),
            ("name = \"x\"\nname = \"y\"\n", "config_syntax", "a.toml:2:1: duplicate key"),
            (
                "\u{e4} = 1",
                "config_syntax",
                "a.toml:1:1: invalid unquoted key, expected letters, numbers, `-`, `_`",
            ),
        ];
        let refused = cases.map(|(text, ..)| refusal(text)).map(|error| (error.code(), error.to_string()));
        assert_eq!(refused, cases.map(|(_, code, sentence)| (code, sentence.to_owned())));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let error = refusal(b"name = \"x\"\n# \xff\n");
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            ("config_not_utf8", "a.toml:2: the configuration is not UTF-8")
        );
        assert_eq!(refusal(vec![b'#'; MAX_CONFIG + 1]).code(), "config_too_large");
        assert_eq!(load::<Example>(Path::new("/nonexistent.toml")).unwrap_err().code(), "config_unreadable");
        assert_eq!(load::<Example>(Path::new("/")).unwrap_err().code(), "config_unreadable");
        assert_eq!(load::<Example>(Path::new("/dev/zero")).unwrap_err().code(), "config_too_large");
    }

    #[test]
    fn every_error_has_a_listed_code() {
        let (path, position, reason) = (|| "p".into(), Position { line: 1, column: 1 }, String::new);
        let all = [
            ConfigError::Unreadable { path: path(), source: io::ErrorKind::NotFound.into() },
            ConfigError::TooLarge { path: path() },
            ConfigError::NotUtf8 { path: path(), line: 1 },
            ConfigError::Syntax { path: path(), position, reason: reason() },
            ConfigError::UnknownField { path: path(), position, field: reason(), reason: reason() },
            ConfigError::Invalid { path: path(), position, field: reason(), reason: reason() },
        ];
        let listed: Vec<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(all.each_ref().map(ConfigError::code), *listed);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse::<Example>(&bytes, Path::new("a.toml"));
        }

        #[test]
        fn no_text_panics(text in "[a-z\\[\\]=\" \n\u{e4}.'0-9,{}]{0,64}") {
            if let Err(error) = parse::<Example>(text.as_bytes(), Path::new("a.toml")) {
                prop_assert!(error.to_string().starts_with("a.toml:"));
            }
        }
    }
}
