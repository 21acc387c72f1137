//! The sources of the crates that ship, read as text: what is found in them depends on no table.

use crate::root;
use std::path::{Path, PathBuf};

/// Crates that ship. What they read may be hostile, and what they say is relied on.
pub(crate) const SHIPPING: [&str; 17] = [
    "evidence",
    "policy",
    "release",
    "verifier",
    "record",
    "channel",
    "channel-guest",
    "attester",
    "volume",
    "endorser",
    "egress",
    "engine",
    "service",
    "client",
    "confide",
    "guest",
    "broker",
];

/// Crates that do not ship: tests and project tasks.
const DEVELOPMENT: [&str; 5] = ["fuzz", "nvidia-emulator", "simulator", "testkit", "xtask"];

/// A source file without its tests.
pub(crate) struct Source {
    pub(crate) krate: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A string literal, with the code around it: without comments, white space and the contents of other strings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Literal<'a> {
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
    pub(crate) text: String,
}

/// Every source of the crates that ship, in the order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for krate in SHIPPING {
        collect(krate, &root().join("crates").join(krate).join("src"), &mut found);
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn collect(krate: &'static str, folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if is_of_tests(&path) {
            continue;
        }
        if path.is_dir() {
            collect(krate, &path, found);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            // Unit tests stand at the end of their file.
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
            found.push(Source { krate, path, text });
        }
    }
}

/// Whether a file or folder has unit tests alone: `tests.rs`, `sequence_tests.rs`, `broker_tests/`.
fn is_of_tests(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

/// Code without comments and white space, its string literals emptied, and the place and content of each literal.
pub(crate) struct Scanned {
    pub(crate) code: String,
    literals: Vec<(usize, String)>,
}

impl Scanned {
    pub(crate) fn of(source: &str) -> Self {
        let mut scanned = Self { code: String::new(), literals: Vec::new() };
        let mut rest = source;
        while let Some(first) = rest.chars().next() {
            rest = scanned.step(first, rest);
        }
        scanned
    }

    /// The literals that are text: strings, not bytes.
    pub(crate) fn literals(&self) -> impl Iterator<Item = Literal<'_>> {
        let at = |at: usize| (&self.code[..at], &self.code[at + "\"\"".len()..]);
        self.literals.iter().map(move |(place, text)| {
            let (before, after) = at(*place);
            Literal { before, after, text: text.clone() }
        })
    }

    /// How often an identifier stands in the code.
    pub(crate) fn count_of(&self, identifier: &str) -> usize {
        let is_part = |one: char| one.is_alphanumeric() || one == '_';
        let whole = |at: usize| {
            let (before, after) = (&self.code[..at], &self.code[at + identifier.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        };
        self.code.match_indices(identifier).filter(|(at, _)| whole(*at)).count()
    }

    /// Takes what stands at the beginning of `rest`, and gives what follows it.
    fn step<'r>(&mut self, first: char, rest: &'r str) -> &'r str {
        if rest.starts_with("//") {
            return rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
        if rest.starts_with("/*") {
            return rest.split_once("*/").map_or("", |(_, rest)| rest);
        }
        let after = &rest[first.len_utf8()..];
        match first {
            '"' => self.string(after),
            // A character, or else a lifetime.
            '\'' if after.starts_with('\\') => {
                let end = after.char_indices().skip(2).find(|(_, one)| *one == '\'');
                end.map_or("", |(end, _)| &after[end + 1..])
            }
            '\'' if after.chars().nth(1) == Some('\'') => after.split_once('\'').map_or("", |(_, rest)| rest),
            _ => {
                // Words that only white space separates stay apart.
                let is_word = |one: char| one.is_alphanumeric() || one == '_';
                let before_word = after.starts_with(|next: char| is_word(next) || next == '"');
                if !first.is_whitespace() {
                    self.code.push(first);
                } else if self.code.ends_with(is_word) && before_word {
                    self.code.push(' ');
                }
                after
            }
        }
    }

    /// Takes a string whose opening quote has been taken.
    fn string<'r>(&mut self, rest: &'r str) -> &'r str {
        let prefix = self.code.trim_end_matches('#');
        let hashes = self.code.len() - prefix.len();
        let is_raw = prefix.ends_with('r');
        let (text, rest) = if is_raw {
            let end = format!("\"{}", "#".repeat(hashes));
            let (text, rest) = rest.split_once(&end).unwrap_or((rest, ""));
            (text.to_owned(), rest)
        } else {
            quoted(rest)
        };
        let prefix = if is_raw { prefix.trim_end_matches('r') } else { prefix };
        if !prefix.ends_with('b') {
            self.literals.push((prefix.len(), text));
        }
        self.code.truncate(prefix.len());
        self.code.push_str("\"\"");
        rest
    }
}

/// A quoted string up to its end, and what follows. Escapes other than of quotes stay as they are.
fn quoted(rest: &str) -> (String, &str) {
    let mut text = String::new();
    let mut escaped = false;
    for (at, one) in rest.char_indices() {
        match one {
            '"' if !escaped => return (text, &rest[at + 1..]),
            '\\' if !escaped => escaped = true,
            _ => {
                if escaped && one != '"' {
                    text.push('\\');
                }
                text.push(one);
                escaped = false;
            }
        }
    }
    (text, "")
}

#[test]
fn every_crate_ships_or_is_for_development() {
    let known = |name: &str| SHIPPING.contains(&name) || DEVELOPMENT.contains(&name);
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known(&name), "is what {name} says documented? name it here");
    }
}

#[test]
fn literals_are_found_in_every_form_and_nothing_else() {
    let text = r####"
        // "a comment", 'and its quotes
        let one = call("plain \"x\" \n", 'c', '\'', b"bytes"); /* "another" */
        fn of<'a>(text: &'a str) { r#"raw "with" quotes"# }
        json!({ "code": "given" })
    "####;
    let scanned = Scanned::of(text);
    let found: Vec<_> = scanned.literals().map(|literal| literal.text).collect();
    assert_eq!(found, ["plain \"x\" \\n", "raw \"with\" quotes", "code", "given"]);
    let last = scanned.literals().last().unwrap();
    assert!(last.before.ends_with("json!({\"\":") && last.after == "})", "{}", scanned.code);
    assert!(
        scanned.code.contains("let one=call(\"\",,,b\"\");fn of<'a>(text:&'a str){\"\"}"),
        "{}",
        scanned.code
    );
    assert_eq!((scanned.count_of("a"), scanned.count_of("call"), scanned.count_of("cal")), (2, 1, 0));
}
