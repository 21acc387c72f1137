//! Digests and signatures of RIMs as `bergshamra` computes them: of one made from text, of every recorded one, and of
//! changes of each.
//!
//! Where both read a document, verdict and canonical form agree; a signature that `bergshamra` refuses is never accepted
//! here, and no XML that it does not read is read here. What else differs has a kind that the test names and explains.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

#[path = "support/rim_corpus.rs"]
mod corpus;
#[path = "support/rim.rs"]
mod made;

use std::collections::BTreeMap;

use bergshamra::c14n::{C14nMode, canonicalize};
use bergshamra::keys::loader::load_spki_der;
use bergshamra::{DsigContext, KeysManager, VerifyResult};
use confide_evidence::nvidia::{Rim, RimError, canonical_xml};
use corpus::{Verdict, judge};

/// Changes of the RIM made from text, which is small.
const CHANGES_OF_MADE: usize = 1_000;
/// Changes of each recorded one; others of each.
const CHANGES_OF_RECORDED: usize = 240;

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

/// Their answer, with the error that says why a document is not read. Only digest and signature count: the key is that
/// of the document's certificate, whoever issued it.
fn theirs(document: &str) -> (Answer, String) {
    answer(&DsigContext::new_permissive(KeysManager::new()).with_insecure(true), document)
}

/// Their answer with the key of the signer's certificate as it is read here.
fn theirs_with_key(document: &str) -> Answer {
    let spki = Rim::parse(document.as_bytes()).unwrap().certificates[0].spki.clone();
    let mut keys = KeysManager::new();
    keys.add_key(load_spki_der(&spki).unwrap());
    answer(&DsigContext::new(keys), document).0
}

fn answer(context: &DsigContext, document: &str) -> (Answer, String) {
    match bergshamra::verify(context, document) {
        Ok(VerifyResult::Valid { .. }) => (Answer::Good, String::new()),
        Ok(VerifyResult::Invalid { .. }) => (Answer::Bad, String::new()),
        Err(error) => (Answer::Refused, error.to_string()),
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
    let same = document.bytes().zip(original.bytes()).take_while(|(one, other)| one == other).count();
    let bytes: Vec<u8> = document.bytes().skip(same.saturating_sub(60)).take(160).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why a document that is read here is refused there, in the words of the error: the certificate has another key than
/// an elliptic one, which is no error of the document here, and no signature of such a key is accepted.
const REFUSED_THERE: &[&str] = &["key not found: no keys in manager"];

/// The rules by which this reader alone refuses documents, some of them with a good signature: those of `RimError` and
/// `XmlFault`. What breaks XML itself is refused by both.
const REFUSED_HERE: &[&str] = &[
    // XML that makes parsers differ.
    "AttributeSpace",
    "Cdata",
    "CharacterReference",
    "Comment",
    "DocumentType",
    "ProcessingInstruction",
    "Reserved",
    // Namespaces that RIMs do not need, and prefixes that change their meaning.
    "NoNamespace",
    "Redeclared",
    "UnknownNamespace",
    // White space that bergshamra takes for one, and markup that it does not look at.
    "Character",
    "Syntax",
    // The closed form of a RIM, where bergshamra looks at the signature alone.
    "Alternatives",
    "Attribute",
    "Certificate",
    "DuplicateIndex",
    "Element",
    "Missing",
    "Root",
    "Text",
    "Unsupported",
    "Value",
];

/// What was found, by kind.
#[derive(Debug, Default)]
struct Counts(BTreeMap<String, usize>);

impl Counts {
    fn count(&mut self, kind: impl Into<String>) {
        *self.0.entry(kind.into()).or_default() += 1;
    }

    /// Holds one document's answers against each other.
    fn compare(&mut self, document: &str, place: &str) {
        let ((here, error), (there, why)) = (ours(document), theirs(document));
        match (here, there) {
            (one, other) if one == other => self.count(format!("agreed: {one:?}")),
            // The certificate's key is read here, the rest of it not there, where another one is taken in its place.
            (Answer::Good, Answer::Bad) if theirs_with_key(document) == Answer::Good => {
                self.count("agreed: Good, with the key of a certificate that is not read there");
            }
            (Answer::Good, _) => panic!("{place}: accepted here, {there:?} there"),
            (Answer::Refused, _) => {
                let rule = rule(&error.expect("a refusal has an error"));
                assert!(REFUSED_HERE.contains(&&*rule), "{place}: {there:?} there, refused here: {rule}");
                self.count(format!("{there:?} there, refused here: {rule}"));
            }
            (Answer::Bad, Answer::Refused) => {
                assert!(REFUSED_THERE.contains(&&*why), "{place}: bad here, refused there: {why}");
                self.count("bad here, refused there");
            }
            (Answer::Bad, _) => panic!("{place}: good there, bad here"),
        }
        self.canonical(document, place);
    }

    /// Holds the canonical forms of a whole document against each other.
    fn canonical(&mut self, document: &str, place: &str) {
        let here = canonical_xml(document.as_bytes());
        let there = canonicalize::<&str>(document, C14nMode::Inclusive11, None, &[]);
        match (here, there) {
            (Ok(one), Ok(other)) => {
                assert!(one == other, "{place}: canonical forms differ");
                self.count("canonical: agreed");
            }
            (Ok(_), Err(error)) => panic!("{place}: read here, not there: {error}"),
            (Err(_), Ok(_)) => self.count("canonical: refused here"),
            (Err(_), Err(_)) => self.count("canonical: refused by both"),
        }
    }

    fn all_changes(&mut self, source: &str, document: &str, changes: usize) {
        self.compare(document, source);
        let mut random =
            Random(source.bytes().fold(1, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into())));
        for number in 0..changes {
            let (change, apply) = KINDS[number % KINDS.len()];
            if let Some(changed) = apply(document, &mut random) {
                self.compare(&changed, &format!("{source}, {change}: {:?}", around(&changed, document)));
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
        replaced(text, end, 0, &text[start..end])
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
        replaced(text, place, 0, &text[start..end])
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
    counts.all_changes("a RIM made from text", &made::RIM, CHANGES_OF_MADE);
    counts.report();
    assert!(counts.0["agreed: Good"] > CHANGES_OF_MADE / 10, "{counts:?}");
    assert!(counts.0["agreed: Bad"] > CHANGES_OF_MADE / 10, "{counts:?}");
}

#[test]
fn every_recorded_rim_and_its_changes_are_judged_alike() {
    let Some(folder) = corpus::folder("changes") else { return };
    let mut counts = Counts::default();
    for item in corpus::rims(&folder) {
        counts.all_changes(&item.source, std::str::from_utf8(&item.document).unwrap(), CHANGES_OF_RECORDED);
    }
    counts.report();
    assert!(counts.0["agreed: Good"] > corpus::RIMS * CHANGES_OF_RECORDED / 20, "{counts:?}");
    assert!(counts.0["agreed: Bad"] > corpus::RIMS * CHANGES_OF_RECORDED / 20, "{counts:?}");
}
