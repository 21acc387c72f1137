//! What a case expects of its verdict.

use super::case::present;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What must hold of the verdict. What a case leaves out may be anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// One of these outcomes.
    #[serde(deserialize_with = "one_or_many")]
    outcome: Vec<Outcome>,
    /// Code of the first check that fails; `null`: none does.
    #[serde(default, deserialize_with = "stated")]
    code: Option<Option<String>>,
    /// TCB status; `null`: none is given.
    #[serde(default, deserialize_with = "stated")]
    tcb_status: Option<Option<String>>,
    /// Exactly these advisories, in this order.
    #[serde(default, deserialize_with = "present")]
    advisory_ids: Option<Vec<String>>,
    /// Whether the verdict says that the evidence is simulated.
    #[serde(default, deserialize_with = "present")]
    simulated: Option<bool>,
    /// Fields of the result of each device, in order: those that stand here, the others may be anything.
    #[serde(default, deserialize_with = "present")]
    devices: Option<Vec<Map<String, Value>>>,
    /// The status of each check of these codes.
    #[serde(default)]
    checks: BTreeMap<String, Status>,
}

/// How an appraisal may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Accepted,
    Rejected,
    Unsupported,
    Malformed,
}

/// How a check may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pass,
    Fail,
    Waived,
    NotRun,
    /// The verdict has no check of this code.
    Absent,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
        }
    }
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Waived => "waived",
            Self::NotRun => "not_run",
            Self::Absent => "absent",
        }
    }
}

impl Expected {
    /// What of the verdict is not as expected, one sentence each.
    pub(super) fn differences(&self, verdict: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let outcome = verdict["outcome"].as_str().unwrap_or_default();
        if !self.outcome.iter().any(|expected| expected.name() == outcome) {
            let names: Vec<&str> = self.outcome.iter().map(|outcome| outcome.name()).collect();
            found.push(format!("outcome: expected {}, found {outcome}", names.join(" or ")));
        }
        for (field, expected) in [("code", &self.code), ("tcb_status", &self.tcb_status)] {
            let actual = verdict[field].as_str();
            if let Some(expected) = expected
                && expected.as_deref() != actual
            {
                let shown = |value: Option<&str>| value.unwrap_or("none").to_owned();
                found.push(format!(
                    "{field}: expected {}, found {}",
                    shown(expected.as_deref()),
                    shown(actual)
                ));
            }
        }
        if let Some(expected) = &self.advisory_ids {
            let actual: Vec<&str> =
                verdict["advisory_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if *expected != actual {
                found.push(format!(
                    "advisory_ids: expected {}, found {}",
                    expected.join(", "),
                    actual.join(", ")
                ));
            }
        }
        if self.simulated.is_some_and(|expected| verdict["simulated"] != expected) {
            found.push(format!("simulated: found {}", verdict["simulated"]));
        }
        found.extend(self.devices.iter().flat_map(|expected| devices_differ(expected, &verdict["devices"])));
        found.extend(
            self.checks.iter().filter_map(|(code, expected)| check_differs(code, *expected, verdict)),
        );
        found
    }
}

fn devices_differ(expected: &[Map<String, Value>], found: &Value) -> Vec<String> {
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    if found.len() != expected.len() {
        return vec![format!("devices: expected {}, found {}", expected.len(), found.len())];
    }
    let differs = |(position, (expected, found)): (usize, (&Map<String, Value>, &Value))| {
        let fields = expected.iter().filter(|(field, value)| found.get(field) != Some(value));
        let told = fields.map(|(field, value)| match found.get(field) {
            Some(found) => format!("device {position} {field}: expected {value}, found {found}"),
            None => format!("device {position} {field}: expected {value}, found no such field"),
        });
        told.collect::<Vec<_>>()
    };
    expected.iter().zip(found).enumerate().flat_map(differs).collect()
}

fn check_differs(code: &str, expected: Status, verdict: &Value) -> Option<String> {
    let checks = verdict["checks"].as_array().into_iter().flatten();
    let mut actual: Vec<&str> =
        checks.filter(|check| check["code"] == code).filter_map(|check| check["status"].as_str()).collect();
    if actual.is_empty() {
        actual.push(Status::Absent.name());
    }
    if actual.iter().all(|status| *status == expected.name()) {
        return None;
    }
    Some(format!("check {code}: expected {}, found {}", expected.name(), actual.join(", ")))
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Outcome>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "accepted, rejected, unsupported or malformed, or a list of these")]
    enum Form {
        One(Outcome),
        Many(Vec<Outcome>),
    }
    match Form::deserialize(deserializer)? {
        Form::One(outcome) => Ok(vec![outcome]),
        Form::Many(outcomes) if !outcomes.is_empty() => Ok(outcomes),
        Form::Many(_) => Err(serde::de::Error::custom("no outcome is expected")),
    }
}

/// A field that may be left out, `null`, or a text: `null` is a statement.
fn stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn differences(expected: Value) -> Vec<String> {
        let verdict = json!({
            "outcome": "rejected", "code": "td_debug", "tcb_status": null, "advisory_ids": ["A", "B"],
            "simulated": true,
            "devices": [{ "position": 0, "code": null }, { "position": 1, "code": "device_mode", "differences": [7] }],
            "checks": [
                { "code": "td_debug", "status": "fail" },
                { "code": "device_nonce", "status": "pass" }, { "code": "device_nonce", "status": "fail" },
            ],
        });
        serde_json::from_value::<Expected>(expected).unwrap().differences(&verdict)
    }

    #[test]
    fn a_verdict_as_expected_has_no_differences() {
        assert_eq!(differences(json!({ "outcome": "rejected" })), Vec::<String>::new());
        let all = json!({
            "outcome": ["malformed", "rejected"], "code": "td_debug", "tcb_status": null,
            "advisory_ids": ["A", "B"], "simulated": true, "checks": { "td_debug": "fail", "mr_td": "absent" },
            "devices": [{ "code": null }, { "position": 1, "differences": [7] }],
        });
        assert_eq!(differences(all), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_named() {
        for (expected, difference) in [
            (json!({ "outcome": "accepted" }), "outcome: expected accepted, found rejected"),
            (json!({ "outcome": "rejected", "code": null }), "code: expected none, found td_debug"),
            (
                json!({ "outcome": "rejected", "tcb_status": "UpToDate" }),
                "tcb_status: expected UpToDate, found none",
            ),
            (
                json!({ "outcome": "rejected", "advisory_ids": ["B", "A"] }),
                "advisory_ids: expected B, A, found A, B",
            ),
            (json!({ "outcome": "rejected", "simulated": false }), "simulated: found true"),
            (json!({ "outcome": "rejected", "devices": [{}] }), "devices: expected 1, found 2"),
            (
                json!({ "outcome": "rejected", "devices": [{}, { "position": 1, "differences": [7, 8] }] }),
                "device 1 differences: expected [7,8], found [7]",
            ),
            (
                json!({ "outcome": "rejected", "devices": [{ "differences": null }, {}] }),
                "device 0 differences: expected null, found no such field",
            ),
            (
                json!({ "outcome": "rejected", "checks": { "td_debug": "pass" } }),
                "check td_debug: expected pass, found fail",
            ),
            (
                json!({ "outcome": "rejected", "checks": { "device_nonce": "pass" } }),
                "check device_nonce: expected pass, found pass, fail",
            ),
            (
                json!({ "outcome": "rejected", "checks": { "mr_td": "pass" } }),
                "check mr_td: expected pass, found absent",
            ),
        ] {
            assert_eq!(differences(expected), [difference]);
        }
    }

    #[test]
    fn expectations_that_say_nothing_are_refused() {
        for expected in [
            json!({}),
            json!({ "outcome": [] }),
            json!({ "outcome": "good" }),
            json!({ "x": 1 }),
            json!({ "outcome": "rejected", "devices": [7] }),
            json!({ "outcome": "rejected", "devices": null }),
        ] {
            assert!(serde_json::from_value::<Expected>(expected.clone()).is_err(), "{expected}");
        }
    }
}
