//! Names of hosts and patterns of them.

use serde::Deserialize;
use std::fmt;

/// The longest name, in bytes: 255 octets on the wire (RFC 1035 section 2.3.4), of which the first length and the root take two.
const MAX_HOST_NAME: usize = 253;
/// The longest label, in bytes (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A fully qualified name of a host in its one spelling: at least two labels of lower-case letters, digits and hyphens
/// (RFC 1123 section 2.1, RFC 5890 section 2.3.1), no dot at the end. The last label begins with a letter, so that no reader can
/// take the name for an IP address. Internationalised names stand in their ASCII form (`xn--…`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

impl HostName {
    /// Reads a name.
    ///
    /// # Errors
    /// A sentence that says what a name is, where the text is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        let expected = "lower-case letters, digits and hyphens in at least two labels, of which the last begins with a letter";
        // What a peer wrote is shortened: it may be long and reaches logs.
        let shown: String = text.chars().take(MAX_LABEL).collect();
        Err(format!(
            "{shown:?} is no name of a host: expected {expected}, no dot at the end, at most {MAX_HOST_NAME} bytes"
        ))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the first label.
    fn parent(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, parent)| parent)
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_name(text: &str) -> bool {
    let last_begins_with_letter = text
        .rsplit_once('.')
        .is_some_and(|(_, last)| last.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase()));
    text.len() <= MAX_HOST_NAME && last_begins_with_letter && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Which names a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// This name alone.
    Exact(HostName),
    /// `*.` and this name: each name that has exactly one more label before it.
    OneLabel(HostName),
}

impl NamePattern {
    /// Reads `api.example.com` or `*.example.com`.
    ///
    /// # Errors
    /// A sentence that says what is expected. A wildcard has at least two labels behind it: `*.com` would be everybody's.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("*.") {
            Some(rest) => HostName::parse(rest).map(Self::OneLabel).map_err(|error| {
                format!("{error}; a wildcard is *. and a name of at least two labels, such as *.example.com")
            }),
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// Whether the rule is for this name.
    #[must_use]
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::OneLabel(parent) => parent.as_str() == name.parent(),
        }
    }

    /// Whether every name of `other` is one of these.
    pub(super) fn contains(&self, other: &Self) -> bool {
        match other {
            Self::Exact(name) => self.matches(name),
            Self::OneLabel(_) => self == other,
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(formatter, "{name}"),
            Self::OneLabel(name) => write!(formatter, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    #[test]
    fn a_name_has_one_spelling() {
        let label = "a".repeat(MAX_LABEL);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(MAX_HOST_NAME - 3 * 64));
        for text in ["a.bc", "api.example.com", "0.1.x-y.xn--p1ai", "a--b.example", &longest] {
            assert_eq!(name(text).as_str(), text);
        }
        for text in [
            "",
            ".",
            "a",
            "localhost",
            "com",
            ".com",
            "a.com.",
            "a..com",
            "A.com",
            "a.Com",
            "-a.com",
            "a-.com",
            "a_b.com",
            "a b.com",
            "1.2.3.4",
            "1.2.3.0x4",
            "0x7f.1",
            "a.1",
            "[::1]",
            "::1",
            "a:443",
            "*.a.com",
            "é.com",
            "a.com\n",
            "a\u{0}.com",
            &format!("a{label}.com"),
            &format!("a{longest}"),
        ] {
            let error = HostName::parse(text).unwrap_err();
            assert!(error.contains("is no name of a host: expected") && error.len() < 400, "{error}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label_below_a_name_of_two() {
        let pattern = NamePattern::parse("*.example.com").unwrap();
        assert_eq!(pattern.to_string(), "*.example.com");
        for (text, expected) in [
            ("a.example.com", true),
            ("example.com", false),
            ("a.b.example.com", false),
            ("aexample.com", false),
            ("a.example.com.evil.example", false),
        ] {
            assert_eq!(pattern.matches(&name(text)), expected, "{text}");
        }
        for text in ["*", "*.", "*.com", "*.*.com", "a.*.com", "*a.example.com", "**.example.com", "*.1.2"] {
            assert!(NamePattern::parse(text).is_err(), "{text}");
        }
    }
}
