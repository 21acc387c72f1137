//! `docs/conformance.schema.json` and the program agree on what a case is.

use super::fixtures::{SUITES, cases};
use serde_json::{Value, json};
use std::path::Path;

fn schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// As much of JSON Schema 2020-12 as the schema uses; another keyword is a failure of the test.
fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "title" | "description" | "$defs" => true,
        "$ref" => valid(root, root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), value),
        "type" => match rule {
            Value::Array(types) => types.iter().any(|one| is_of(one, value)),
            one => is_of(one, value),
        },
        "const" => value == rule,
        "enum" => rule.as_array().unwrap().contains(value),
        "oneOf" => rule.as_array().unwrap().iter().filter(|one| valid(root, one, value)).count() == 1,
        "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
        "properties" => rule
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, rule)| value.get(name).is_none_or(|value| valid(root, rule, value))),
        "additionalProperties" => {
            let known = schema.get("properties").and_then(Value::as_object);
            let others = value.as_object().into_iter().flatten();
            let mut others = others.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
            match rule {
                Value::Bool(false) => others.next().is_none(),
                rule => others.all(|(_, value)| valid(root, rule, value)),
            }
        }
        "items" => value.as_array().into_iter().flatten().all(|item| valid(root, rule, item)),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
        "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| hexadecimal(rule.as_str().unwrap(), text)),
        other => panic!("the schema uses {other}"),
    })
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the schema has the type {other}"),
    }
}

/// The schema's two patterns.
fn hexadecimal(pattern: &str, text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match pattern {
        "^([0-9a-fA-F]{2})*$" => digits && text.len().is_multiple_of(2),
        "^[0-9a-fA-F]{64}$" => digits && text.len() == 64,
        other => panic!("the schema has the pattern {other}"),
    }
}

#[test]
fn the_schema_describes_every_case() {
    let schema = schema();
    let mut described = 0;
    for suite in SUITES {
        for (name, text) in cases(suite) {
            assert!(valid(&schema, &schema, &serde_json::from_str(&text).unwrap()), "{name}");
            described += 1;
        }
    }
    assert!(described > 150, "{described}");
}

/// Every field of a case removed, renamed and given another type: schema and program refuse the same.
#[test]
fn schema_and_program_refuse_the_same_cases() {
    let schema = schema();
    let mut counts = [0, 0];
    for (suite, names) in [
        (
            "tdx",
            &[
                "accept-v4",
                "accept-document",
                "event_log-without-open",
                "cross_check_disagrees-status",
                "accept-signed-references",
                "accept-boot-log-padded",
            ][..],
        ),
        ("snp", &["accept-genoa"]),
        (
            "nvidia",
            &["accept-a-time-of-their-own-for-manifests", "accept-another-value-without-a-golden-one"],
        ),
    ] {
        let [refused, taken] = refused_by_both(&schema, suite, names);
        counts = [counts[0] + refused, counts[1] + taken];
    }
    let [refused, taken] = counts;
    println!("{refused} changed cases refused by both, {taken} by neither");
    assert!(refused > 300 && taken > 20, "{refused} {taken}");
}

/// How many changed cases both refuse, and neither.
fn refused_by_both(schema: &Value, suite: &str, names: &[&str]) -> [usize; 2] {
    let base = super::fixtures::folder(suite);
    let mut changed = Vec::new();
    for name in names {
        let text = std::fs::read_to_string(base.join(name).join("case.json")).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        for pointer in pointers("", &case) {
            for value in [None, Some(json!(7)), Some(json!({})), Some(json!([])), Some(Value::Null)] {
                let what = format!("{name}{pointer}: {value:?}");
                changed.push((what, replaced(&case, &pointer, value)));
            }
            changed.push((format!("{name}{pointer}: renamed"), renamed(&case, &pointer)));
        }
    }
    let texts: Vec<String> = changed.iter().map(|(_, case)| case.to_string()).collect();
    let run = super::program::conformance(&["--danger"], &base, &texts.join("\n"));
    assert_eq!(run.reports.len(), changed.len());
    let (mut refused, mut taken) = (0, 0);
    for ((what, case), report) in changed.iter().zip(&run.reports) {
        let code = report["error"]["code"].as_str().unwrap_or_default();
        let form = matches!(code, "case_malformed" | "case_unsupported");
        assert_eq!(valid(schema, schema, case), !form, "{what}: {}", report["error"]);
        if form { refused += 1 } else { taken += 1 }
    }
    [refused, taken]
}

/// JSON pointers to every field.
fn pointers(at: &str, value: &Value) -> Vec<String> {
    let Value::Object(fields) = value else { return Vec::new() };
    let inner = |(name, value): (&String, &Value)| {
        let pointer = format!("{at}/{name}");
        let mut all = pointers(&pointer, value);
        all.push(pointer);
        all
    };
    fields.iter().flat_map(inner).collect()
}

fn replaced(case: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut case = case.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let fields = case.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => drop(fields.insert(name.to_owned(), value)),
        None => drop(fields.remove(name)),
    }
    case
}

fn renamed(case: &Value, pointer: &str) -> Value {
    let value = case.pointer(pointer).unwrap().clone();
    let without = replaced(case, pointer, None);
    replaced(&without, &format!("{pointer}_"), Some(value))
}
