//! `docs/policy.md` has every field of the types, with the value of `policies/client.toml` and the check that it drives.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use confide_policy::{AppraisalPolicy, ReferenceFile};
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

#[expect(clippy::disallowed_methods, reason = "fails where the crate's ban of reading files holds no longer")]
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md")).unwrap()
});

/// A deserializer that follows one path of field names into a type and notes the fields of the structure at its end: the
/// names that serde's derived code asks for, so that none can be missed.
#[derive(Clone, Copy)]
struct Tracer<'a> {
    path: &'a [&'static str],
    found: &'a Cell<Option<&'static [&'static str]>>,
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a structure"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.path {
            [] => {
                self.found.set(Some(fields));
                Err(Error::custom("found"))
            }
            [next, path @ ..] => visitor.visit_map(One { key: Some(next), value: Tracer { path, ..self } }),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(One { key: Some("NAME"), value: self })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One { key: Some(""), value: self })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// One entry of a map, or one element of a sequence.
struct One<'a> {
    key: Option<&'static str>,
    value: Tracer<'a>,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.key.take().map(|key| seed.deserialize(StrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.value)
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.key.take().map(|_| seed.deserialize(self.value)).transpose()
    }
}

fn fields_at<T: DeserializeOwned>(path: &[&'static str]) -> Option<&'static [&'static str]> {
    let found = Cell::new(None);
    // It always fails: nothing has a value.
    let _ = T::deserialize(Tracer { path, found: &found }).map(|_: T| ());
    found.get()
}

/// Every field below `path` that is no table: as `tdx.grace.name`, with `NAME` for names that a policy chooses.
fn leaves<T: DeserializeOwned>(path: &[&'static str]) -> Vec<String> {
    let Some(fields) = fields_at::<T>(path) else {
        return vec![path.join(".").replacen("reference.", "reference.NAME.", 1)];
    };
    // Forms of values are written as tables, too.
    if fields.contains(&"waive") || fields.contains(&"any_of") {
        return vec![path.join(".")];
    }
    // A date is a structure with one secret field.
    if fields.iter().any(|field| field.starts_with('$')) {
        return vec![path.join(".")];
    }
    fields.iter().flat_map(|field| leaves::<T>(&[path, &[*field]].concat())).collect()
}

struct Row {
    value: String,
    check: String,
}

/// The rows of all tables with five columns, by their field.
fn rows() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in DOCUMENT.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, field, _, _, value, check, _] = cells.as_slice() {
            let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
            let row = Row { value: plain(value), check: plain(check) };
            let field = plain(field);
            // The file of reference values has a name of its own.
            if let Some(first) = rows.insert(field.clone(), row).filter(|_| field == "name") {
                rows.insert(field, first);
            }
        }
    }
    rows
}

#[test]
fn every_field_of_the_types_is_documented_and_no_other() {
    let mut fields: BTreeSet<String> = leaves::<AppraisalPolicy>(&[]).into_iter().collect();
    assert!(fields.contains("tdx.grace.until") && fields.contains("reference.NAME.mr_td"), "{fields:?}");
    fields.extend(fields_at::<ReferenceFile>(&[]).unwrap().iter().map(|field| (*field).to_owned()));
    let documented: BTreeSet<String> = rows().into_keys().collect();
    let missing: Vec<&String> = fields.difference(&documented).collect();
    let unknown: Vec<&String> = documented.difference(&fields).collect();
    assert!(missing.is_empty(), "docs/policy.md has no row for {missing:?}");
    assert!(unknown.is_empty(), "docs/policy.md has rows for fields that there are not: {unknown:?}");
}

/// All zeros of one field, abbreviated as in the document.
fn abbreviated(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('0') {
        let run = rest[start..].len() - rest[start..].trim_start_matches('0').len();
        out.push_str(&rest[..start]);
        out.push_str(if run > 16 { "00…00" } else { &rest[start..start + run] });
        rest = &rest[start + run..];
    }
    out + rest
}

#[test]
fn the_documented_defaults_are_those_of_the_client_policy() {
    let rows = rows();
    let mut table = String::new();
    let mut compared = 0;
    for line in confide_policy::CLIENT.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((field, value)) = line.split_once(" = ") {
            let path = format!("{table}{field}");
            let row = rows.get(&path).unwrap_or_else(|| panic!("{path} has no row"));
            assert_eq!(row.value, abbreviated(value), "{path}");
            compared += 1;
        }
    }
    let given = rows.values().filter(|row| !row.value.is_empty()).count();
    assert_eq!(compared, given, "a default in the document that the policy has not");
}

#[test]
fn the_documented_checks_are_those_that_the_fields_drive() {
    let (policy, rows) = (AppraisalPolicy::client(), rows());
    for field in policy.fields().iter().filter(|field| !field.path.ends_with(".deny")) {
        let row = rows.get(field.path.as_ref()).unwrap_or_else(|| panic!("{} has no row", field.path));
        assert_eq!(row.check, field.code.unwrap_or_default(), "{}", field.path);
    }
}
