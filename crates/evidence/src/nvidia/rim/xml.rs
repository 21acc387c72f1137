//! The XML that RIMs are written in: elements, attributes, text and namespaces, and nothing else.
//!
//! Of XML 1.0 (fifth edition) and Namespaces in XML 1.0 this reads what recorded RIMs have. What else there is makes
//! parsers differ from each other, so it is refused: document types, processing instructions (an XML declaration too),
//! comments, CDATA sections, character references, entities beyond the five of XML, line ends and tabs in attributes,
//! the attributes of XML's own namespace, names beyond ASCII, namespaces beyond [`Namespace`], prefixes that change
//! their meaning, and elements without a namespace.

use std::borrow::Cow;

use thiserror::Error;

use super::error::{RimError, shown};

/// The deepest nesting of elements accepted. Recorded RIMs nest six deep, down to a Transform.
pub const MAX_XML_DEPTH: usize = 8;
/// The most elements accepted. Recorded RIMs have 85, of which 64 are measurements.
pub const MAX_XML_ELEMENTS: usize = 256;
/// The most attributes of one element accepted, namespace declarations included. Recorded RIMs have 13, in Meta.
pub const MAX_XML_ATTRIBUTES: usize = 32;
/// The most prefixes in scope, the default namespace included. Recorded RIMs have four.
pub const MAX_XML_PREFIXES: usize = 16;
/// The longest local name or prefix accepted, in bytes. The longest recorded one, CanonicalizationMethod, has 22.
pub const MAX_XML_NAME: usize = 64;

/// What makes a document other XML than that of RIMs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum XmlFault {
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotText,
    /// A byte order mark.
    #[error("a byte order mark")]
    ByteOrderMark,
    /// A character that XML does not have (XML 1.0 section 2.2).
    #[error("a character that XML does not have")]
    Character,
    /// Markup that is not XML's.
    #[error("no {0} where one must be")]
    Syntax(&'static str),
    /// The document ends within its root element.
    #[error("the document ends too early")]
    Unfinished,
    /// Something other than white space around the root element.
    #[error("text or markup outside of the root element")]
    Outside,
    /// An end tag of another element than the one that is open.
    #[error("an end tag {0:?} that does not end the open element")]
    EndTag(String),
    /// A document type declaration, or another declaration of its kind.
    #[error("a document type declaration")]
    DocumentType,
    /// A processing instruction or an XML declaration.
    #[error("a processing instruction")]
    ProcessingInstruction,
    /// A comment.
    #[error("a comment")]
    Comment,
    /// A CDATA section.
    #[error("a CDATA section")]
    Cdata,
    /// A character reference.
    #[error("a character reference")]
    CharacterReference,
    /// An entity beyond the five of XML.
    #[error("an entity beyond the five of XML")]
    Entity,
    /// A tab or a line end in an attribute's value.
    #[error("a tab or line end in an attribute")]
    AttributeSpace,
    /// A name of more bytes than [`MAX_XML_NAME`].
    #[error("a name of more than {MAX_XML_NAME} bytes")]
    LongName,
    /// More nesting than [`MAX_XML_DEPTH`].
    #[error("elements nested more than {MAX_XML_DEPTH} deep")]
    TooDeep,
    /// More elements than [`MAX_XML_ELEMENTS`].
    #[error("more than {MAX_XML_ELEMENTS} elements")]
    TooManyElements,
    /// More attributes of an element than [`MAX_XML_ATTRIBUTES`].
    #[error("more than {MAX_XML_ATTRIBUTES} attributes of one element")]
    TooManyAttributes,
    /// More prefixes in scope than [`MAX_XML_PREFIXES`].
    #[error("more than {MAX_XML_PREFIXES} namespace prefixes in scope")]
    TooManyPrefixes,
    /// Two attributes of one name, their prefixes resolved, or two declarations of one prefix.
    #[error("the attribute {0:?} twice")]
    DuplicateAttribute(String),
    /// An attribute of XML's own namespace, or a prefix that begins with `xml`.
    #[error("the name {0:?}, which XML keeps for itself")]
    Reserved(String),
    /// A namespace beyond those of RIMs; the empty one too, which takes a default namespace back.
    #[error("the unknown namespace {0:?}")]
    UnknownNamespace(String),
    /// A prefix that an element further out has declared already.
    #[error("the namespace prefix {0:?} declared again")]
    Redeclared(String),
    /// A prefix that nothing declares.
    #[error("the namespace prefix {0:?} without a declaration")]
    UndeclaredPrefix(String),
    /// An element in no namespace.
    #[error("the element {0:?} in no namespace")]
    NoNamespace(String),
}

/// The namespaces of RIMs, in the order of their URIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Namespace {
    /// ISO/IEC 19770-2:2015, software identification tags.
    Swid,
    /// XML Signature.
    Signature,
    /// The digests of measurements.
    Sha384,
    /// TCG Reference Integrity Manifest Information Model.
    Tcg,
}

impl Namespace {
    const ALL: [Self; 4] = [Self::Swid, Self::Signature, Self::Sha384, Self::Tcg];

    pub(super) fn uri(self) -> &'static str {
        match self {
            Self::Swid => "http://standards.iso.org/iso/19770/-2/2015/schema.xsd",
            Self::Sha384 => "http://www.w3.org/2001/04/xmlenc#sha384",
            Self::Tcg => {
                "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/"
            }
            Self::Signature => "http://www.w3.org/2000/09/xmldsig#",
        }
    }

    fn of(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|namespace| namespace.uri() == uri)
    }
}

/// A name as it is written; the prefix is empty where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QName<'d> {
    pub(super) prefix: &'d str,
    pub(super) local: &'d str,
}

/// `prefix` bound to a namespace; the empty prefix is the default namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Declaration<'d> {
    pub(super) prefix: &'d str,
    pub(super) namespace: Namespace,
}

/// An attribute that declares no namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute<'d> {
    pub(super) name: QName<'d>,
    /// Of the prefix; attributes without one are in no namespace (Namespaces in XML section 6.2).
    pub(super) namespace: Option<Namespace>,
    /// Entities replaced.
    pub(super) value: Cow<'d, str>,
}

/// An element with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element<'d> {
    pub(super) name: QName<'d>,
    pub(super) namespace: Namespace,
    /// What the element itself declares, sorted by prefix: nothing that is in scope already.
    pub(super) declarations: Vec<Declaration<'d>>,
    /// Sorted by the URI of the namespace, no namespace first, then by local name; none twice.
    pub(super) attributes: Vec<Attribute<'d>>,
    pub(super) children: Vec<Node<'d>>,
}

/// A child of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node<'d> {
    Element(Element<'d>),
    /// Entities replaced, line ends as line feeds; never empty, never beside another text.
    Text(Cow<'d, str>),
}

/// Reads a document: its root element.
pub(super) fn parse(document: &[u8]) -> Result<Element<'_>, RimError> {
    if document.starts_with("\u{feff}".as_bytes()) {
        return Err(RimError::Xml { offset: 0, fault: XmlFault::ByteOrderMark });
    }
    let text = std::str::from_utf8(document)
        .map_err(|error| RimError::Xml { offset: error.valid_up_to(), fault: XmlFault::NotText })?;
    let mut parser = Parser { text, rest: text, scope: Vec::new(), elements: 0 };
    match parser.document() {
        Ok(root) => Ok(root),
        Err(fault) => Err(RimError::Xml { offset: parser.offset(), fault }),
    }
}

/// What is left of a document, and what is known of the part before it.
struct Parser<'d> {
    text: &'d str,
    rest: &'d str,
    /// What the open elements declare, the root's first.
    scope: Vec<Declaration<'d>>,
    /// Elements begun so far.
    elements: usize,
}

impl<'d> Parser<'d> {
    fn offset(&self) -> usize {
        self.text.len().saturating_sub(self.rest.len())
    }

    fn document(&mut self) -> Result<Element<'d>, XmlFault> {
        self.skip_space();
        if !self.rest.starts_with('<') {
            return Err(XmlFault::Outside);
        }
        self.check_markup()?;
        let root = self.element(1)?;
        self.skip_space();
        if self.rest.starts_with('<') {
            self.check_markup()?;
        }
        if self.rest.is_empty() { Ok(root) } else { Err(XmlFault::Outside) }
    }

    /// Refuses the markup that is neither a start nor an end tag.
    fn check_markup(&self) -> Result<(), XmlFault> {
        for (start, fault) in [
            ("<?", XmlFault::ProcessingInstruction),
            ("<!--", XmlFault::Comment),
            ("<![", XmlFault::Cdata),
            ("<!", XmlFault::DocumentType),
        ] {
            if self.rest.starts_with(start) {
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Reads an element from its `<`.
    fn element(&mut self, depth: usize) -> Result<Element<'d>, XmlFault> {
        if depth > MAX_XML_DEPTH {
            return Err(XmlFault::TooDeep);
        }
        self.elements = self.elements.saturating_add(1);
        if self.elements > MAX_XML_ELEMENTS {
            return Err(XmlFault::TooManyElements);
        }
        self.expect("<", "start tag")?;
        let name = self.qname()?;
        let outer = self.scope.len();
        let (mut declarations, attributes) = self.attributes(outer)?;
        let namespace = self.namespace(name)?.ok_or_else(|| XmlFault::NoNamespace(shown(name.local)))?;
        declarations.sort_unstable_by_key(|declaration| declaration.prefix);
        let children = if self.eat("/>") {
            Vec::new()
        } else {
            self.expect(">", "end of a start tag")?;
            self.children(name, depth)?
        };
        self.scope.truncate(outer);
        Ok(Element { name, namespace, declarations, attributes, children })
    }

    /// Reads children and the end tag of the element of this name.
    fn children(&mut self, parent: QName<'d>, depth: usize) -> Result<Vec<Node<'d>>, XmlFault> {
        let mut children = Vec::new();
        loop {
            if self.eat("</") {
                let name = self.qname()?;
                if name != parent {
                    return Err(XmlFault::EndTag(shown(name.local)));
                }
                self.skip_space();
                self.expect(">", "end of an end tag")?;
                return Ok(children);
            }
            if self.rest.is_empty() {
                return Err(XmlFault::Unfinished);
            }
            children.push(if self.rest.starts_with('<') {
                self.check_markup()?;
                Node::Element(self.element(depth.saturating_add(1))?)
            } else {
                Node::Text(self.characters()?)
            });
        }
    }

    /// Reads the attributes of a start tag up to its end, and puts what they declare in scope.
    fn attributes(&mut self, outer: usize) -> Result<(Vec<Declaration<'d>>, Vec<Attribute<'d>>), XmlFault> {
        let mut declarations = Vec::new();
        let mut found: Vec<Attribute<'d>> = Vec::new();
        loop {
            let separated = self.skip_space();
            if self.rest.starts_with('>') || self.rest.starts_with('/') {
                break;
            }
            if self.rest.is_empty() {
                return Err(XmlFault::Unfinished);
            }
            if !separated {
                return Err(XmlFault::Syntax("white space before an attribute"));
            }
            if declarations.len().saturating_add(found.len()) >= MAX_XML_ATTRIBUTES {
                return Err(XmlFault::TooManyAttributes);
            }
            let name = self.qname()?;
            self.skip_space();
            self.expect("=", "equals sign")?;
            self.skip_space();
            let value = self.value()?;
            match (name.prefix, name.local) {
                ("", "xmlns") => declarations.push(self.declare("", &value, outer)?),
                ("xmlns", prefix) => declarations.push(self.declare(prefix, &value, outer)?),
                (prefix, local) if is_reserved(prefix) => {
                    return Err(XmlFault::Reserved(format!("{prefix}:{local}")));
                }
                _ => found.push(Attribute { name, namespace: None, value }),
            }
        }
        // A declaration counts for the attributes before it too.
        for attribute in &mut found {
            if !attribute.name.prefix.is_empty() {
                attribute.namespace = self.namespace(attribute.name)?;
            }
        }
        found.sort_by(|one, other| key(one).cmp(&key(other)));
        if let Some(twice) = found.iter().zip(found.iter().skip(1)).find(|(one, next)| key(one) == key(next))
        {
            return Err(XmlFault::DuplicateAttribute(shown(twice.0.name.local)));
        }
        Ok((declarations, found))
    }

    /// Puts a prefix in scope, of which `outer` were before this element.
    fn declare(&mut self, prefix: &'d str, uri: &str, outer: usize) -> Result<Declaration<'d>, XmlFault> {
        if is_reserved(prefix) {
            return Err(XmlFault::Reserved(shown(prefix)));
        }
        if let Some(before) = self.scope.iter().position(|declared| declared.prefix == prefix) {
            let again = shown(prefix);
            return Err(if before < outer {
                XmlFault::Redeclared(again)
            } else {
                XmlFault::DuplicateAttribute(again)
            });
        }
        let namespace = Namespace::of(uri).ok_or_else(|| XmlFault::UnknownNamespace(shown(uri)))?;
        if self.scope.len() >= MAX_XML_PREFIXES {
            return Err(XmlFault::TooManyPrefixes);
        }
        let declaration = Declaration { prefix, namespace };
        self.scope.push(declaration);
        Ok(declaration)
    }

    /// The namespace of a prefix in scope; of no prefix the default one, where there is one.
    fn namespace(&self, name: QName<'_>) -> Result<Option<Namespace>, XmlFault> {
        let found = self.scope.iter().find(|declared| declared.prefix == name.prefix);
        if found.is_none() && !name.prefix.is_empty() {
            return Err(XmlFault::UndeclaredPrefix(shown(name.prefix)));
        }
        Ok(found.map(|declared| declared.namespace))
    }

    /// Reads `local` or `prefix:local` (Namespaces in XML section 4), of ASCII.
    fn qname(&mut self) -> Result<QName<'d>, XmlFault> {
        let first = self.ncname()?;
        if !self.eat(":") {
            return Ok(QName { prefix: "", local: first });
        }
        Ok(QName { prefix: first, local: self.ncname()? })
    }

    fn ncname(&mut self) -> Result<&'d str, XmlFault> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let length = self.rest.bytes().take_while(|byte| is_name(*byte)).count();
        let name = self.rest.get(..length).unwrap_or_default();
        if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
            return Err(XmlFault::Syntax("name"));
        }
        if length > MAX_XML_NAME {
            return Err(XmlFault::LongName);
        }
        self.skip(length);
        Ok(name)
    }

    /// Reads an attribute's value with its quotes.
    fn value(&mut self) -> Result<Cow<'d, str>, XmlFault> {
        let quote = if self.eat("\"") {
            b'"'
        } else {
            self.expect("'", "quote before an attribute's value")?;
            b'\''
        };
        let end = self.rest.bytes().position(|byte| byte == quote || byte == b'<');
        let length = end.ok_or(XmlFault::Unfinished)?;
        let raw = self.rest.get(..length).unwrap_or_default();
        let value = if is_plain(raw) {
            Cow::Borrowed(raw)
        } else if let Some(at) = raw.bytes().position(|byte| matches!(byte, b'\t' | b'\n' | b'\r')) {
            self.skip(at);
            return Err(XmlFault::AttributeSpace);
        } else {
            self.replaced(raw)?
        };
        self.skip(length);
        if self.rest.starts_with('<') {
            return Err(XmlFault::Syntax("quote behind an attribute's value"));
        }
        self.skip(1);
        Ok(value)
    }

    /// Reads text up to the next markup.
    fn characters(&mut self) -> Result<Cow<'d, str>, XmlFault> {
        let length = self.rest.bytes().position(|byte| byte == b'<').unwrap_or(self.rest.len());
        let raw = self.rest.get(..length).unwrap_or_default();
        if let Some(at) = raw.find("]]>") {
            self.skip(at);
            return Err(XmlFault::Syntax("character data that may have ]]>"));
        }
        let text = self.replaced(raw)?;
        self.skip(length);
        Ok(text)
    }

    /// The characters that a piece of the rest stands for: line ends are line feeds (XML 1.0 section 2.11), entities
    /// are replaced (section 4.6).
    fn replaced(&mut self, raw: &'d str) -> Result<Cow<'d, str>, XmlFault> {
        if raw.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~') && byte != b'&') {
            return Ok(Cow::Borrowed(raw));
        }
        if let Some(at) = raw.find(|character| !is_character(character)) {
            self.skip(at);
            return Err(XmlFault::Character);
        }
        let mut text = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((plain, special)) = rest.find(['&', '\r']).and_then(|at| rest.split_at_checked(at)) {
            text.push_str(plain);
            let (length, character) = match special.strip_prefix('\r') {
                Some(after) if after.starts_with('\n') => (2, '\n'),
                Some(_) => (1, '\n'),
                None => entity(special).inspect_err(|_| {
                    self.skip(raw.len().saturating_sub(special.len()));
                })?,
            };
            text.push(character);
            rest = special.get(length..).unwrap_or_default();
        }
        text.push_str(rest);
        Ok(Cow::Owned(text))
    }

    /// Skips white space; whether there was any.
    fn skip_space(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.len() < before
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    fn eat(&mut self, markup: &str) -> bool {
        self.rest.strip_prefix(markup).map(|after| self.rest = after).is_some()
    }

    fn expect(&mut self, markup: &str, what: &'static str) -> Result<(), XmlFault> {
        if self.eat(markup) {
            Ok(())
        } else if self.rest.is_empty() {
            Err(XmlFault::Unfinished)
        } else {
            Err(XmlFault::Syntax(what))
        }
    }
}

/// What attributes are sorted by (Canonical XML 1.1 section 2.2): the URI of the namespace, by the order of
/// [`Namespace`], then the local name; no namespace comes first.
fn key<'a>(attribute: &Attribute<'a>) -> (Option<Namespace>, &'a str) {
    (attribute.namespace, attribute.name.local)
}

/// Prefixes that begin with `xml` in any case (Namespaces in XML section 3).
fn is_reserved(prefix: &str) -> bool {
    prefix.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("xml"))
}

/// Whether text stands for itself, also in an attribute: printable ASCII without entities. All of it is looked at, which is
/// faster than to stop.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'%' | b'\''..=b'~'))
}

/// `Char` of XML 1.0 section 2.2.
fn is_character(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => character >= ' ',
    }
}

/// The length and the character of the entity that a text begins with.
fn entity(text: &str) -> Result<(usize, char), XmlFault> {
    let known = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\'')];
    match known.into_iter().find(|(name, _)| text.starts_with(name)) {
        Some((name, character)) => Ok((name.len(), character)),
        None if text.starts_with("&#") => Err(XmlFault::CharacterReference),
        None => Err(XmlFault::Entity),
    }
}

#[cfg(test)]
mod tests {
    use super::Namespace;

    #[test]
    fn namespaces_stand_in_the_order_of_their_uris() {
        assert!(Namespace::ALL.is_sorted_by(|one, next| one < next));
        assert!(Namespace::ALL.map(Namespace::uri).is_sorted_by(|one, next| one < next));
    }
}
