//! Canonical XML 1.1 without comments, of what [`super::xml`] reads.
//!
//! Three things make it short: no prefix is declared twice on a path, so that an element renders exactly what it
//! declares itself; there are no attributes of XML's own namespace to inherit; and neither text nor attributes have
//! carriage returns, nor attributes tabs and line feeds, that would be written as character references.

use super::xml::{Attribute, Declaration, Element, Node};

/// Writes the document of `length` bytes without the element `without`, which is compared by its place, not by what it
/// holds.
pub(super) fn document(root: &Element<'_>, without: Option<&Element<'_>>, length: usize) -> Vec<u8> {
    // What is canonical is longer by the end tags of empty elements and shorter by what is left out.
    let mut out = Vec::with_capacity(length);
    write(root, &root.declarations, without, &mut out);
    out
}

/// Writes an element of a document by itself: `path` leads to it from the root, which comes first. It renders the
/// namespaces that it inherits (Canonical XML 1.1 section 2.3, as a document subset).
pub(super) fn subset(path: &[&Element<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(apex) = path.last() else { return out };
    let mut in_scope: Vec<Declaration<'_>> =
        path.iter().flat_map(|element| element.declarations.iter().copied()).collect();
    in_scope.sort_unstable_by_key(|declaration| declaration.prefix);
    write(apex, &in_scope, None, &mut out);
    out
}

fn write(
    element: &Element<'_>,
    declarations: &[Declaration<'_>],
    without: Option<&Element<'_>>,
    out: &mut Vec<u8>,
) {
    out.push(b'<');
    name(element.name.prefix, element.name.local, out);
    for Declaration { prefix, namespace } in declarations {
        out.extend_from_slice(b" ");
        // Both are sorted: the empty prefix of the default namespace comes first.
        if prefix.is_empty() {
            out.extend_from_slice(b"xmlns");
        } else {
            name("xmlns", prefix, out);
        }
        value(namespace.uri(), out);
    }
    for Attribute { name: attribute, value: held, .. } in &element.attributes {
        out.extend_from_slice(b" ");
        name(attribute.prefix, attribute.local, out);
        value(held, out);
    }
    out.push(b'>');
    for child in &element.children {
        match child {
            Node::Element(child) if without.is_some_and(|left_out| std::ptr::eq(left_out, child)) => {}
            Node::Element(child) => write(child, &child.declarations, without, out),
            Node::Text(text) => escape(text, in_text, out),
        }
    }
    out.extend_from_slice(b"</");
    name(element.name.prefix, element.name.local, out);
    out.push(b'>');
}

fn name(prefix: &str, local: &str, out: &mut Vec<u8>) {
    if !prefix.is_empty() {
        out.extend_from_slice(prefix.as_bytes());
        out.push(b':');
    }
    out.extend_from_slice(local.as_bytes());
}

/// An equals sign and an attribute's value.
fn value(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"=\"");
    escape(text, in_attribute, out);
    out.push(b'"');
}

/// Writes text whose characters `escaped`, all of them ASCII, are written otherwise.
fn escape(text: &str, escaped: fn(u8) -> Option<&'static str>, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    // Most text has none of them. All of it is looked at, which is faster than to stop.
    if rest.iter().fold(true, |plain, byte| plain & !matches!(byte, b'&' | b'<' | b'>' | b'"')) {
        out.extend_from_slice(rest);
        return;
    }
    while let Some((at, escape)) =
        rest.iter().enumerate().find_map(|(at, byte)| escaped(*byte).map(|escape| (at, escape)))
    {
        let (plain, special) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        out.extend_from_slice(escape.as_bytes());
        rest = special.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

fn in_text(byte: u8) -> Option<&'static str> {
    match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        _ => None,
    }
}

fn in_attribute(byte: u8) -> Option<&'static str> {
    match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'"' => Some("&quot;"),
        _ => None,
    }
}
