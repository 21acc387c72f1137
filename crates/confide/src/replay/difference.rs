//! What of a verdict changes under another policy or at another time.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One field of a verdict, or of one of its checks, that has another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// Path of the field: `valid_until`, `measurements.mr_td`; of a check the field's own name.
    pub(super) field: String,
    /// The check's code; `None` for fields of the verdict itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check: Option<String>,
    /// Which check of this code, from 0: devices have the same checks one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<usize>,
    /// The value before; null where there was none.
    pub(super) before: Value,
    /// The value after; null where there is none.
    pub(super) after: Value,
}

/// Every change between two verdicts, as [`AttestationResult::to_json`] writes them: outcome and code first, then the
/// other fields, then the checks in the order of the second verdict, and last those that it lacks.
///
/// [`AttestationResult::to_json`]: confide_verifier::AttestationResult::to_json
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    for field in FIRST {
        compare(field, &before[field], &after[field], &mut found);
    }
    let nothing = Map::new();
    let fields = |verdict: &Value| verdict.as_object().unwrap_or(&nothing).clone();
    let (mut before_fields, mut after_fields) = (fields(before), fields(after));
    for field in FIRST.into_iter().chain([CHECKS]) {
        before_fields.remove(field);
        after_fields.remove(field);
    }
    compare("", &Value::Object(before_fields), &Value::Object(after_fields), &mut found);
    of_checks(&before[CHECKS], &after[CHECKS], &mut found);
    found
}

/// Compares two values field by field; lists count as a whole.
fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    if let (Value::Object(one), Value::Object(other)) = (before, after) {
        let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            compare(&path, &before[name.as_str()], &after[name.as_str()], found);
        }
        return;
    }
    found.push(Change {
        field: path.to_owned(),
        check: None,
        number: None,
        before: before.clone(),
        after: after.clone(),
    });
}

/// A check's code, and its place among the checks of this code.
type Name = (String, usize);

fn of_checks(before: &Value, after: &Value, found: &mut Vec<Change>) {
    let (before, after) = (named(before), named(after));
    let one: BTreeMap<&Name, &Value> = before.iter().map(|(name, check)| (name, *check)).collect();
    let other: BTreeMap<&Name, &Value> = after.iter().map(|(name, check)| (name, *check)).collect();
    let gone = before.iter().map(|(name, _)| name).filter(|name| !other.contains_key(name));
    for name in after.iter().map(|(name, _)| name).chain(gone) {
        let check = |checks: &BTreeMap<&Name, &Value>, field: &str| {
            checks.get(name).map_or(Value::Null, |check| check[field].clone())
        };
        for field in OF_A_CHECK {
            let (before, after) = (check(&one, field), check(&other, field));
            if before != after {
                let (code, number) = name.clone();
                found.push(Change {
                    field: field.to_owned(),
                    check: Some(code),
                    number: Some(number),
                    before,
                    after,
                });
            }
        }
    }
}

fn named(checks: &Value) -> Vec<(Name, &Value)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let checks = checks.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named = Vec::with_capacity(checks.len());
    for check in checks {
        let code = check["code"].as_str().unwrap_or_default();
        let number = seen.entry(code).or_default();
        named.push(((code.to_owned(), *number), check));
        *number = number.saturating_add(1);
    }
    named
}

/// What is told first.
const FIRST: [&str; 2] = ["outcome", "code"];
/// The list of checks, which is compared check by check.
const CHECKS: &str = "checks";
/// The fields of a check that may change. What a check refers to belongs to its code.
const OF_A_CHECK: [&str; 3] = ["status", "expected", "actual"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(before: Value, after: Value) -> Vec<(String, Option<Name>, Value, Value)> {
        let check = |change: &Change| Some((change.check.clone()?, change.number?));
        let found = changes(&before, &after);
        found
            .iter()
            .map(|one| (one.field.clone(), check(one), one.before.clone(), one.after.clone()))
            .collect()
    }

    #[test]
    fn equal_verdicts_have_no_change() {
        let verdict = json!({ "outcome": "accepted", "checks": [{ "code": "a", "status": "pass" }] });
        assert!(changes(&verdict, &verdict).is_empty());
    }

    #[test]
    fn outcome_and_code_come_first_and_fields_have_their_paths() {
        let before =
            json!({ "advisories": ["x"], "code": null, "outcome": "accepted", "pck": { "a": 1, "b": 2 } });
        let after =
            json!({ "advisories": [], "code": "c", "outcome": "rejected", "pck": { "a": 1, "b": 3 } });
        let expected = [
            ("outcome", json!("accepted"), json!("rejected")),
            ("code", Value::Null, json!("c")),
            ("advisories", json!(["x"]), json!([])),
            ("pck.b", json!(2), json!(3)),
        ];
        let expected = expected.map(|(field, before, after)| (field.to_owned(), None, before, after));
        assert_eq!(told(before, after), expected);
    }

    #[test]
    fn a_check_is_found_by_its_code_and_number_wherever_it_stands() {
        let check = |code: &str, status: &str| json!({ "code": code, "status": status, "expected": "e", "actual": "a" });
        let before = json!({ "checks": [check("a", "pass"), check("b", "pass"), check("a", "pass")] });
        let after = json!({ "checks": [check("n", "fail"), check("a", "pass"), check("a", "fail")] });
        let name = |code: &str, number| Some((code.to_owned(), number));
        let (null, text) = (Value::Null, |text: &str| json!(text));
        let expected = [
            ("status", name("n", 0), null.clone(), text("fail")),
            ("expected", name("n", 0), null.clone(), text("e")),
            ("actual", name("n", 0), null.clone(), text("a")),
            ("status", name("a", 1), text("pass"), text("fail")),
            ("status", name("b", 0), text("pass"), null.clone()),
            ("expected", name("b", 0), text("e"), null.clone()),
            ("actual", name("b", 0), text("a"), null),
        ];
        let expected = expected.map(|(field, check, before, after)| (field.to_owned(), check, before, after));
        assert_eq!(told(before, after), expected);
    }
}
