//! Texts of checks.

use confide_policy::Reason;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// The most bytes of a text that evidence can fill. The longest text of genuine evidence, a TCB status with every
/// component that falls short, has under 2,000.
const MAX_TEXT: usize = 4096;

/// What a check says: a `str`. Most verdicts are read by nobody, so that a text that takes time to make is made when
/// somebody first looks at it, from values that it holds.
#[derive(Clone)]
pub struct Text(Inner);

#[derive(Clone)]
enum Inner {
    Fixed(&'static str),
    Made(String),
    Shared(Arc<str>),
    Later(Arc<dyn Render + Send + Sync>),
}

/// Renders a text once.
trait Render {
    fn text(&self) -> &str;
}

struct Later<F> {
    make: F,
    made: OnceLock<String>,
}

impl<F: Fn() -> String> Render for Later<F> {
    fn text(&self) -> &str {
        self.made.get_or_init(|| (self.make)())
    }
}

impl Text {
    /// A text that is made when it is first looked at, and then bounded.
    pub(crate) fn later(make: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::later_in_full(move || shortened(make()))
    }

    /// As [`Self::later`], of what the policy says alone: it is told in full.
    pub(crate) fn later_in_full(make: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Inner::Later(Arc::new(Later { make, made: OnceLock::new() })))
    }

    /// The same text, of which copies cost nothing.
    pub(crate) fn shared(self) -> Self {
        match self.0 {
            Inner::Made(text) => Self(Inner::Shared(text.into())),
            other => Self(other),
        }
    }

    /// A text that evidence may have filled, at most as long as a verdict keeps it.
    pub(crate) fn bounded(self) -> Self {
        match self.0 {
            Inner::Made(text) => Self(Inner::Made(shortened(text))),
            other => Self(other),
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Inner::Fixed(text) => text,
            Inner::Made(text) => text,
            Inner::Shared(text) => text,
            Inner::Later(text) => text.text(),
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self(Inner::Fixed(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Inner::Made(text))
    }
}

impl From<&Reason> for Text {
    fn from(reason: &Reason) -> Self {
        Self(Inner::Shared(reason.in_verdicts()))
    }
}

impl From<Cow<'static, str>> for Text {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        **self == **other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

/// Evidence chooses part of what is found: a verdict names its beginning.
fn shortened(mut text: String) -> String {
    let whole = text.len();
    if whole <= MAX_TEXT {
        return text;
    }
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text.push_str(&format!(" ... ({whole} bytes)"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_is_found_is_shortened_between_characters() {
        let text = |text: String| Text::from(text).bounded();
        assert_eq!(text("é".repeat(4096)), format!("{} ... (8192 bytes)", "é".repeat(2048)));
        assert_eq!(text(format!("a{}", "é".repeat(4096))), format!("a{} ... (8193 bytes)", "é".repeat(2047)));
        assert_eq!(text("x".repeat(MAX_TEXT)), "x".repeat(MAX_TEXT));
        assert_eq!(Text::later(|| "é".repeat(4096)), format!("{} ... (8192 bytes)", "é".repeat(2048)));
    }

    #[test]
    fn a_later_text_is_made_once_and_is_equal_to_one_made_at_once() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let text = Text::later(move || format!("made {}", count.fetch_add(1, Ordering::Relaxed)));
        let copy = text.clone();
        assert_eq!(made.load(Ordering::Relaxed), 0, "nobody has looked");
        assert_eq!(text, Text::from("made 0"));
        assert_eq!((text.to_string(), format!("{copy:?}")), ("made 0".to_owned(), "\"made 0\"".to_owned()));
        assert_eq!(serde_json::to_string(&copy).unwrap(), "\"made 0\"");
        assert_eq!(made.load(Ordering::Relaxed), 1, "copies share it");
    }
}
