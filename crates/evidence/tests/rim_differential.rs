//! Digests and signatures of RIMs as `bergshamra` computes them: of one made from text, of every recorded one, and of
//! changes of each.
//!
//! Where both read a document, the verdicts agree; a signature that `bergshamra` refuses is never accepted here. All the
//! rest is counted by kind: what is refused here alone is refused by a rule of the reader, which the test names.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

#[path = "support/rim_corpus.rs"]
mod corpus;
#[path = "support/rim.rs"]
mod made;

use std::collections::BTreeMap;
use std::panic;

use bergshamra::c14n::{C14nMode, canonicalize};
use bergshamra::{DsigContext, KeysManager, VerifyResult};
use confide_evidence::nvidia::{Rim, RimError, canonical_xml};
use corpus::{Verdict, judge};

/// Changes of each document.
const CHANGES: usize = 400;

/// What somebody says of a document's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// Digest and signature hold.
    Good,
    /// One of them does not.
    Bad,
    /// The document is not read, or not its signature.
    Refused,
}

fn ours(document: &str) -> (Answer, Option<RimError>) {
    match Rim::parse(document.as_bytes()) {
        Ok(rim) if judge(&rim) == (Verdict { digest: true, signature: true }) => (Answer::Good, None),
        Ok(_) => (Answer::Bad, None),
        Err(error) => (Answer::Refused, Some(error)),
    }
}

fn theirs(document: &str) -> Answer {
    // Only digest and signature: the key is the one of the document's certificate, whoever issued it.
    let context = DsigContext::new_permissive(KeysManager::new()).with_insecure(true);
    match panic::catch_unwind(panic::AssertUnwindSafe(|| bergshamra::verify(&context, document))) {
        Ok(Ok(VerifyResult::Valid { .. })) => Answer::Good,
        Ok(Ok(VerifyResult::Invalid { .. })) => Answer::Bad,
        Ok(Err(_)) | Err(_) => Answer::Refused,
    }
}

/// The name of an error without its values.
fn rule(error: &RimError) -> String {
    let text = match error {
        RimError::Xml { fault, .. } => format!("{fault:?}"),
        other => format!("{other:?}"),
    };
    text.split(['(', ' ', '{']).next().unwrap().to_owned()
}

/// What stands where two documents begin to differ.
fn around(document: &str, original: &str) -> String {
    let same = document.chars().zip(original.chars()).take_while(|(one, other)| one == other).count();
    document.chars().skip(same.saturating_sub(60)).take(160).collect()
}

/// Counts by change and outcome.
#[derive(Debug, Default)]
struct Counts(BTreeMap<String, usize>);

impl Counts {
    /// Holds one document's answers against each other.
    fn compare(&mut self, source: &str, change: &str, document: &str, original: &str) {
        let ((here, error), there) = (ours(document), theirs(document));
        let kind = match (here, there) {
            (one, other) if one == other => format!("agreed: {one:?}"),
            (Answer::Good, _) => {
                panic!("{source}, {change}: accepted here, {there:?} there: {}", around(document, original))
            }
            (Answer::Refused, _) => format!("{there:?} there, refused here: {}", rule(&error.unwrap())),
            (Answer::Bad, Answer::Good) => {
                panic!("{source}, {change}: good there, bad here: {}", around(document, original))
            }
            // A signature that does not hold, of a document that is not read there.
            (Answer::Bad, _) => "bad here, refused there".to_owned(),
        };
        *self.0.entry(kind).or_default() += 1;
        self.canonical(source, change, document, original);
    }

    /// Holds the canonical forms of a whole document against each other.
    fn canonical(&mut self, source: &str, change: &str, document: &str, original: &str) {
        let here = canonical_xml(document.as_bytes());
        let there = canonicalize::<&str>(document, C14nMode::Inclusive11, None, &[]);
        let kind = match (&here, &there) {
            (Ok(one), Ok(other)) => {
                assert!(
                    one == other,
                    "{source}, {change}: canonical forms differ: {}",
                    around(document, original)
                );
                "canonical: agreed"
            }
            (Ok(_), Err(error)) => {
                panic!("{source}, {change}: read here, not there ({error}): {}", around(document, original))
            }
            (Err(_), Ok(_)) => "canonical: refused here",
            (Err(_), Err(_)) => "canonical: refused by both",
        };
        *self.0.entry(kind.to_owned()).or_default() += 1;
    }

    fn all_changes(&mut self, source: &str, document: &str) {
        self.compare(source, "as it is", document, document);
        let mut random = Random(document.len() as u64);
        for number in 0..CHANGES {
            let (change, apply) = KINDS[number % KINDS.len()];
            if let Some(changed) = apply(document, &mut random) {
                self.compare(source, change, &changed, document);
            }
        }
    }

    fn report(&self) {
        for (kind, count) in &self.0 {
            println!("{count:>6} {kind}");
        }
    }
}

/// Numbers that are the same in every run (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// One of the places where a text has a piece.
    fn place(&mut self, text: &str, piece: &str) -> Option<usize> {
        let found: Vec<usize> = text.match_indices(piece).map(|(at, _)| at).collect();
        (!found.is_empty()).then(|| found[self.below(found.len())])
    }
}

type Change = (&'static str, fn(&str, &mut Random) -> Option<String>);

/// Ways to change a document; nothing where it has nothing to change.
const KINDS: &[Change] = &[
    ("a byte of markup", |text, random| byte(text, random, '<')),
    ("a byte of the signature", |text, random| {
        let at = text.find("Signature")?;
        let place = at + random.below(text.len() - at);
        replaced(text, place, 1, random.of(BYTES))
    }),
    ("a byte removed", |text, random| {
        let at = random.place(text, "<")? + random.below(40);
        replaced(text, at, 1, "")
    }),
    ("attributes in another order", attributes_turned),
    ("an attribute twice", |text, random| {
        let at = random.place(text, "=\"")?;
        let start = text[..at].rfind(' ')?;
        let end = at + 2 + text[at + 2..].find('"')? + 1;
        replaced(text, end, 0, &text[start..end].to_owned())
    }),
    ("white space", |text, random| {
        let before = random.of(&[" ", "\n", "=\"", "/>", "></", "<ds:", "<ns0:", "\">"]);
        let at = random.place(text, before)?;
        replaced(text, at, 0, random.of(SPACES))
    }),
    ("white space away", |text, random| {
        let at = random.place(text, " ")?;
        replaced(text, at, 1, random.of(&["", "\n", "\t", "\r\n", "  "]))
    }),
    ("white space between elements", |text, random| {
        let at = random.place(text, "><")? + 1;
        replaced(text, at, 0, random.of(SPACES))
    }),
    ("line ends", |text, random| Some(text.replace('\n', random.of(&["\r\n", "\r", "\n\r", " "])))),
    ("a prefix everywhere", |text, random| {
        let (from, to) =
            [("ns0", "p"), ("ns1", "a"), ("ds", "sig"), ("ns2", "zz"), ("ds", "ns1"), ("ns0", "xmlx")]
                [random.below(6)];
        Some(
            text.replace(&format!("{from}:"), &format!("{to}:"))
                .replace(&format!(":{from}="), &format!(":{to}=")),
        )
    }),
    ("a prefix once", |text, random| {
        let from = random.of(&["<ns0:", "</ns0:", " ns2:", "<ds:", "</ds:", " ns1:"]);
        let at = random.place(text, from)?;
        let to = from.trim_end_matches(char::is_alphanumeric).trim_end_matches(':');
        let start: String = to.chars().take_while(|one| matches!(one, '<' | '/' | ' ')).collect();
        replaced(
            text,
            at,
            from.len(),
            &format!("{start}{}", random.of(&["", "SHA384:", "ns0:", "ds:", "q:"])),
        )
    }),
    ("a declaration", |text, random| {
        let at = random.place(text, " ")?;
        replaced(text, at, 0, random.of(DECLARATIONS))
    }),
    ("an element or other markup", |text, random| {
        let at = random.place(text, "<")?;
        replaced(text, at, 0, random.of(MARKUP))
    }),
    ("markup in text", |text, random| {
        let at = text.find("<ds:DigestValue>")? + random.below(text.len() - text.find("<ds:DigestValue>")?);
        replaced(text, at, 0, random.of(MARKUP))
    }),
    ("an element twice", |text, random| {
        let name = random.of(&[
            "ns0:Payload",
            "ds:Signature",
            "ds:Reference",
            "ds:X509Certificate",
            "ds:X509Data",
            "ds:KeyInfo",
            "ds:SignedInfo",
            "ds:Transforms",
            "ds:DigestValue",
            "ds:SignatureValue",
        ]);
        let start = text.find(&format!("<{name}"))?;
        let end_tag = format!("</{name}>");
        let end = start + text[start..].find(&end_tag)? + end_tag.len();
        let to = random.of(&[name, "ns0:Meta", "ds:Signature"]);
        let place = if random.below(2) == 0 { end } else { text.find(&format!("<{to}"))? };
        replaced(text, place, 0, &text[start..end].to_owned())
    }),
    ("an element away", |text, random| {
        let start = random.place(text, "<")?;
        let end = start + text[start..].find('>')? + 1;
        replaced(text, start, end - start, "")
    }),
    ("other quotes", |text, random| {
        let at = random.place(text, "=\"")? + 1;
        let end = at + 1 + text[at + 1..].find('"')?;
        Some(format!("{}'{}'{}", &text[..at], &text[at + 1..end], &text[end + 1..]))
    }),
    ("an empty element in full", |text, random| {
        let at = random.place(text, "/>")?;
        let name: String =
            text[text[..at].rfind('<')? + 1..].chars().take_while(|one| !matches!(one, ' ' | '/')).collect();
        replaced(text, at, 2, &format!("></{name}>"))
    }),
    ("an entity", |text, random| {
        let behind = random.of(&["=\"", "/>", "y>", "\">"]);
        let at = random.place(text, behind)? + 2;
        replaced(text, at, 0, random.of(ENTITIES))
    }),
    ("space in base64", |text, random| {
        let element = random.of(&["<ds:DigestValue>", "<ds:SignatureValue>", "<ds:X509Certificate>"]);
        let at = random.place(text, element)? + element.len() + random.below(60);
        replaced(text, at, 0, random.of(&["\n", " ", "\t", "\r\n", "\r", "\u{a0}", "=", "&#10;"]))
    }),
];

const BYTES: &[&str] = &[
    "<", ">", "&", "\"", "'", "/", "=", ":", " ", "\t", "\n", "\r", "#", ";", "a", "X", "x", "0", "-", "!",
    "?", "[", "]", "\u{e9}", "\u{1}",
];
const SPACES: &[&str] = &[" ", "\n", "\t", "\r\n", "\r", "   ", "\n\n", "\u{a0}", "\u{85}", "\u{2028}"];
const DECLARATIONS: &[&str] = &[
    " xmlns=\"\"",
    " xmlns:q=\"\"",
    " xmlns:q=\"urn:q\"",
    " xmlns:q=\"http://www.w3.org/2000/09/xmldsig#\"",
    " xmlns:a=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\"",
    " xmlns:ns0=\"http://www.w3.org/2000/09/xmldsig#\"",
    " xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"",
    " xmlns:ns0=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\"",
    " xmlns:xml=\"http://www.w3.org/XML/1998/namespace\"",
    " xml:lang=\"en\"",
    " xml:space=\"preserve\"",
    " Id=\"a\"",
];
const MARKUP: &[&str] = &[
    "<!-- -->",
    "<!---->",
    "<?a b?>",
    "<![CDATA[]]>",
    "<![CDATA[a]]>",
    "<a/>",
    "<ns0:a/>",
    "<ns0:Resource/>",
    "<ds:Object/>",
    "<ds:Signature/>",
    "&#10;",
    "&#x20;",
    "&lt;",
    "&undefined;",
    "a",
    "]]>",
    "<!DOCTYPE a>",
    "<?xml version=\"1.0\"?>",
];
const ENTITIES: &[&str] = &[
    "&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#65;", "&#x9;", "&#xA;", "&#xD;", "&#38;", "&a;", ">", "'",
];

/// A byte within a tag in place of another.
fn byte(text: &str, random: &mut Random, from: char) -> Option<String> {
    let start = random.place(text, &from.to_string())?;
    let length = text[start..].find('>')? + 1;
    let at = start + random.below(length);
    replaced(text, at, 1, random.of(BYTES))
}

fn attributes_turned(text: &str, random: &mut Random) -> Option<String> {
    let at = random.place(text, "\" ")? + 1;
    let (start, end) = (text[..at].rfind('<')?, at + text[at..].find('>')?);
    let tag = text[start..end].trim_end_matches('/');
    let mut parts: Vec<&str> = tag.split("\" ").collect();
    let last = parts.len() - 1;
    if last < 2 || !tag.ends_with('"') {
        return None;
    }
    parts[last] = parts[last].trim_end_matches('"');
    let (one, other) = (1 + random.below(last), 1 + random.below(last));
    parts.swap(one, other);
    Some(format!("{}{}\"{}", &text[..start], parts.join("\" "), &text[start + tag.len()..]))
}

/// The text with other characters at a place, where that is one.
fn replaced(text: &str, at: usize, length: usize, with: &str) -> Option<String> {
    Some(format!("{}{with}{}", text.get(..at)?, text.get(at + length..)?))
}

#[test]
fn a_rim_made_from_text_and_its_changes_are_judged_alike() {
    let mut counts = Counts::default();
    counts.all_changes("a RIM made from text", &made::RIM);
    counts.report();
    assert!(counts.0["agreed: Good"] > CHANGES / 10, "{counts:?}");
}

#[test]
fn every_recorded_rim_and_its_changes_are_judged_alike() {
    let Some(folder) = corpus::folder("changes") else { return };
    let mut counts = Counts::default();
    for item in corpus::rims(&folder) {
        counts.all_changes(&item.source, std::str::from_utf8(&item.document).unwrap());
    }
    counts.report();
    assert!(counts.0["agreed: Good"] > corpus::RIMS * CHANGES / 20, "{counts:?}");
    assert!(counts.0["agreed: Bad"] > corpus::RIMS * CHANGES / 20, "{counts:?}");
}
