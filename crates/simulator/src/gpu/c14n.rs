//! Canonical XML 1.1 without comments (W3C Recommendation of 2008-05-02) of manifests, read straight from their text.
//!
//! Enough of XML for what the simulator and NVIDIA write and for edits of it: elements, attributes, namespaces and
//! text. Comments are dropped; DTDs, CDATA, processing instructions and `xml:` attributes stand in no manifest.

use std::collections::BTreeMap;

/// A manifest's two canonical parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalRim {
    /// The document without its `Signature` element: what DigestValue is the SHA-384 of.
    pub content: String,
    /// `SignedInfo` with the namespaces in scope: what the signature covers.
    pub signed_info: String,
}

/// Both canonical parts of a manifest's text.
///
/// The text must be well-formed as far as tags go; nothing else is checked.
#[must_use]
pub fn canonical_rim(text: &str) -> CanonicalRim {
    CanonicalRim { content: Walk::content(text), signed_info: Walk::signed_info(text) }
}

/// Namespaces by prefix; the default one under the empty prefix.
type Scope = BTreeMap<String, String>;

/// An element that is open.
#[derive(Clone, Debug, Default)]
struct Open {
    /// Namespaces in scope.
    scope: Scope,
    /// Namespaces that the nearest written ancestors have written.
    written: Scope,
}

/// A walk over the text that writes the chosen part.
#[derive(Default)]
struct Walk {
    open: Vec<Open>,
    out: String,
    /// Depth at which the excluded or the chosen element stands, while inside it.
    inside: Option<usize>,
}

impl Walk {
    fn content(text: &str) -> String {
        Self::over(text, |name, depth| depth == 1 && local(name) == "Signature", false)
    }

    fn signed_info(text: &str) -> String {
        Self::over(text, |name, _| local(name) == "SignedInfo", true)
    }

    /// Writes what lies inside the elements that `marked` names, or outside of them.
    fn over(text: &str, marked: impl Fn(&str, usize) -> bool, wanted: bool) -> String {
        let mut walk = Self::default();
        let text = without_comments(text);
        let mut left = text.as_str();
        while let Some((before, tag, after)) = next_tag(left) {
            if !walk.open.is_empty() && walk.inside.is_some() == wanted {
                walk.out.push_str(&escaped_text(&unescaped(before)));
            }
            left = after;
            if let Some(name) = tag.strip_prefix('/') {
                walk.close(name.trim(), wanted);
            } else {
                let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
                let (name, attributes) = attributes(tag);
                if walk.inside.is_none() && marked(name, walk.open.len()) {
                    walk.inside = Some(walk.open.len());
                }
                walk.start(name, &attributes, wanted);
                if empty {
                    walk.close(name, wanted);
                }
            }
        }
        walk.out
    }

    fn start(&mut self, name: &str, attributes: &[(&str, String)], wanted: bool) {
        let mut open = self.open.last().cloned().unwrap_or_default();
        let mut plain = Vec::new();
        for (attribute, value) in attributes {
            match attribute.strip_prefix("xmlns") {
                Some(prefix) => {
                    open.scope.insert(prefix.trim_start_matches(':').to_owned(), value.clone());
                }
                None => plain.push((*attribute, value)),
            }
        }
        if self.inside.is_some() == wanted {
            self.out.push('<');
            self.out.push_str(name);
            for (prefix, uri) in &open.scope {
                let before = open.written.get(prefix).map_or("", String::as_str);
                if before != uri {
                    let colon = if prefix.is_empty() { "" } else { ":" };
                    self.out.push_str(&format!(" xmlns{colon}{prefix}=\"{}\"", escaped_value(uri)));
                }
            }
            open.written.clone_from(&open.scope);
            plain.sort_by_key(|(attribute, _)| match attribute.split_once(':') {
                Some((prefix, local)) => (open.scope.get(prefix).cloned().unwrap_or_default(), local),
                None => (String::new(), *attribute),
            });
            for (attribute, value) in plain {
                self.out.push_str(&format!(" {attribute}=\"{}\"", escaped_value(value)));
            }
            self.out.push('>');
        }
        self.open.push(open);
    }

    fn close(&mut self, name: &str, wanted: bool) {
        if self.inside.is_some() == wanted {
            self.out.push_str(&format!("</{name}>"));
        }
        self.open.pop();
        if self.inside == Some(self.open.len()) {
            self.inside = None;
        }
    }
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// The text without its comments and its XML declaration.
fn without_comments(text: &str) -> String {
    let mut left = text.trim_start();
    if left.starts_with("<?xml") {
        left = left.split_once("?>").map_or(left, |(_, after)| after);
    }
    let mut kept = String::new();
    while let Some((before, comment)) = left.split_once("<!--") {
        kept.push_str(before);
        left = comment.split_once("-->").map_or("", |(_, after)| after);
    }
    kept + left
}

/// Text, the next tag without its angle brackets, and what follows.
fn next_tag(text: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = text.split_once('<')?;
    let mut quote = None;
    let end = after.find(|c| match quote {
        Some(open) if c == open => {
            quote = None;
            false
        }
        Some(_) => false,
        None if c == '"' || c == '\'' => {
            quote = Some(c);
            false
        }
        None => c == '>',
    })?;
    Some((before, &after[..end], &after[end + 1..]))
}

/// A start tag's name and its attributes as written, values without their escapes.
fn attributes(tag: &str) -> (&str, Vec<(&str, String)>) {
    let (name, mut left) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let mut found = Vec::new();
    while let Some((attribute, rest)) = left.split_once('=') {
        let rest = rest.trim_start();
        let quote = rest.chars().next().unwrap_or('"');
        let Some((value, rest)) = rest[quote.len_utf8()..].split_once(quote) else { break };
        let spaced = value.replace("\r\n", " ").replace(['\t', '\n', '\r'], " ");
        found.push((attribute.trim(), unescaped(&spaced)));
        left = rest;
    }
    (name, found)
}

/// The five entities of XML and line ends.
fn unescaped(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace('\r', "\n")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

fn escaped_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn escaped_value(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_written_out_and_attributes_and_namespaces_sorted() {
        // After section 3.3 of the Recommendation.
        let text = "<?xml version=\"1.0\"?>\n\
            <e5 a:attr=\"out\" b:attr=\"sorted\" attr2='all' attr=\"I'm\"\n   xmlns:b=\"http://www.ietf.org\"\n   \
            xmlns:a=\"http://www.w3.org\"\n   xmlns=\"http://example.org\"><!-- no --><e1   />\
            <e2 xmlns=\"\" xmlns:a=\"http://www.w3.org\"><e3 xmlns=\"\"/>x &amp; y &gt; &quot;z</e2>\r\n</e5 >\n";
        let content = "<e5 xmlns=\"http://example.org\" xmlns:a=\"http://www.w3.org\" \
            xmlns:b=\"http://www.ietf.org\" attr=\"I'm\" attr2=\"all\" b:attr=\"sorted\" a:attr=\"out\"><e1></e1>\
            <e2 xmlns=\"\"><e3></e3>x &amp; y &gt; \"z</e2>\n</e5>";
        assert_eq!(canonical_rim(text).content, content);
    }

    #[test]
    fn signed_info_inherits_namespaces_and_the_signature_leaves_the_content() {
        let text = "<R xmlns=\"r\" xmlns:n=\"n\">\n<ds:Signature xmlns:ds=\"d\"><ds:SignedInfo><ds:A X=\"\"/>\
            </ds:SignedInfo><ds:B/></ds:Signature> </R>";
        let canonical = canonical_rim(text);
        assert_eq!(canonical.content, "<R xmlns=\"r\" xmlns:n=\"n\">\n </R>");
        assert_eq!(
            canonical.signed_info,
            "<ds:SignedInfo xmlns=\"r\" xmlns:ds=\"d\" xmlns:n=\"n\"><ds:A X=\"\"></ds:A></ds:SignedInfo>"
        );
    }
}
