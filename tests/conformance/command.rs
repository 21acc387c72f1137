//! The command itself: exit statuses, broken cases, files, danger policies.

use super::fixtures;
use super::program::{Run, conformance};
use serde_json::{Value, json};
use std::path::Path;

fn case(name: &str) -> Value {
    let path = fixtures::folder("tdx").join(name).join("case.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn run(flags: &[&str], cases: &[Value]) -> Run {
    let texts: Vec<String> = cases.iter().map(ToString::to_string).collect();
    conformance(flags, &fixtures::folder("tdx"), &texts.join("\n"))
}

/// The case with one field replaced, by JSON pointer.
fn with(name: &str, pointer: &str, value: Value) -> Value {
    let mut case = case(name);
    *case.pointer_mut(pointer).unwrap() = value;
    case
}

/// Exit status and error code of a single case.
fn refused(flags: &[&str], case: Value) -> (i32, String) {
    let run = run(flags, &[case]);
    let report = &run.reports[0];
    assert_eq!((&report["met"], &report["verdict"]), (&json!(false), &Value::Null));
    (run.status, report["error"]["code"].as_str().unwrap().to_owned())
}

#[test]
fn a_report_has_the_whole_verdict() {
    let run = run(&["--danger"], &[case("mr_td-another")]);
    let report = &run.reports[0];
    assert_eq!((run.status, &report["met"], &report["case"]), (0, &json!(true), &json!("mr_td-another")));
    assert_eq!((&report["error"], &report["differences"]), (&Value::Null, &json!([])));
    let verdict = &report["verdict"];
    assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("rejected"), &json!("mr_td")));
    for field in ["tcb_status", "advisory_ids", "measurements", "report_data", "checks", "assumptions"] {
        assert!(!verdict[field].is_null(), "{field}");
    }
}

#[test]
fn a_case_that_is_not_met_says_what_differs() {
    let run = run(&["--danger"], &[with("accept-v4", "/expected/tcb_status", json!("OutOfDate"))]);
    assert_eq!(run.status, 10);
    assert_eq!(run.reports[0]["differences"], json!(["tcb_status: expected OutOfDate, found UpToDate"]));
}

#[test]
fn evidence_may_stand_in_the_case_itself() {
    let folder = fixtures::folder("tdx");
    let quote = std::fs::read(folder.join("accept-v4/quote.bin")).unwrap();
    let collateral = std::fs::read_to_string(folder.join("common/collateral.json")).unwrap();
    let policy = std::fs::read_to_string(folder.join("common/quote.toml")).unwrap();
    let der = confide_evidence::pem::encode(std::slice::from_ref(&quote));
    let base64: String = der.lines().filter(|line| !line.starts_with("-----")).collect();
    let hex = confide_evidence::hex::encode(&quote);
    let parsed: Value = serde_json::from_str(&collateral).unwrap();
    for (quote, collateral) in [
        (json!({ "hex": hex }), json!({ "text": collateral })),
        (json!({ "base64": base64 }), json!({ "json": parsed })),
    ] {
        let mut case = case("accept-v4");
        case["evidence"]["quote"] = quote;
        case["endorsements"]["tdx_collateral"] = collateral;
        case["policy"] = json!({ "text": policy });
        let run = conformance(&["--danger"], Path::new("/nonexistent"), &case.to_string());
        assert_eq!(run.status, 0, "{:?}", run.reports);
    }
}

#[test]
fn more_cases_than_a_run_takes_end_it() {
    let cases = |count: usize| conformance(&[], Path::new("."), &"{}".repeat(count));
    let most = cases(16_384);
    assert_eq!((most.status, most.reports.len()), (30, 16_384));
    let more = cases(16_385);
    assert_eq!((more.status, more.reports.len()), (30, 16_384));
    assert!(more.stderr.contains("more than 16384 cases"), "{}", more.stderr);
}

#[test]
fn a_danger_policy_needs_its_flag() {
    assert_eq!(refused(&[], case("accept-v4")), (2, "danger_policy_flag".to_owned()));
}

#[test]
fn malformed_cases_are_named_and_the_others_run() {
    let good = case("accept-v4");
    for (what, bad) in [
        ("an unknown field", {
            let mut bad = good.clone();
            bad["extra"] = json!(1);
            bad
        }),
        ("no expectation", {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove("expected");
            bad
        }),
        ("more certificate files than there may be", {
            let mut bad = good.clone();
            bad["endorsements"]["snp_certificates"] = vec![json!({ "hex": "" }); 1_000].into();
            bad
        }),
        ("more list files than there may be", {
            let mut bad = good.clone();
            bad["endorsements"]["snp_crls"] = vec![json!({ "file": "accept-v4/case.json" }); 1_000].into();
            bad
        }),
        ("no case", json!({})),
        ("no object", json!([1])),
        ("odd digits", with("accept-v4", "/evidence/quote", json!({ "hex": "0" }))),
        ("broken base64", with("accept-v4", "/evidence/quote", json!({ "base64": "A" }))),
        ("two forms", with("accept-v4", "/evidence/quote", json!({ "hex": "", "text": "" }))),
        ("a time that is none", with("accept-v4", "/time", json!("yesterday"))),
        ("a file elsewhere", with("accept-v4", "/evidence/quote", json!({ "file": "../quote.bin" }))),
        ("an outcome that is none", with("accept-v4", "/expected/outcome", json!("good"))),
    ] {
        let run = run(&["--danger"], &[bad, good.clone()]);
        assert_eq!((run.status, run.reports.len()), (30, 2), "{what}: {:?}", run.reports);
        assert_eq!(run.reports[0]["error"]["code"], "case_malformed", "{what}");
        assert_eq!(run.reports[1]["met"], true, "{what}");
    }
    let policy = with("accept-v4", "/policy", json!({ "text": "schema = 1" }));
    assert_eq!(refused(&["--danger"], policy), (30, "policy_malformed".to_owned()));
}

#[test]
fn input_that_is_no_json_is_malformed() {
    for input in ["", "{", "{}{", "nonsense"] {
        let run = conformance(&[], Path::new("."), input);
        assert_eq!(run.status, 30, "{input:?}");
        assert!(run.stderr.contains("case_malformed"), "{input:?}: {}", run.stderr);
    }
}

#[test]
fn other_schemas_and_kinds_are_unsupported() {
    let schema = with("accept-v4", "/schema", json!(2));
    assert_eq!(refused(&["--danger"], schema), (20, "case_unsupported".to_owned()));
    let kind = with("accept-v4", "/evidence", json!({ "kind": "sgx-quote", "quote": { "hex": "00" } }));
    assert_eq!(refused(&["--danger"], kind), (20, "case_unsupported".to_owned()));
}

#[test]
fn a_missing_file_is_a_fault_and_no_verdict() {
    let missing = with("accept-v4", "/evidence/quote", json!({ "file": "nonesuch/quote.bin" }));
    assert_eq!(refused(&["--danger"], missing), (1, "file_unreadable".to_owned()));
}

#[test]
fn of_several_failures_the_gravest_is_the_exit_status() {
    let unmet = with("accept-v4", "/expected/simulated", json!(false));
    let unsupported = with("accept-v4", "/schema", json!(2));
    let malformed = with("accept-v4", "/time", json!(""));
    assert_eq!(run(&["--danger"], &[unsupported.clone(), unmet.clone()]).status, 10);
    assert_eq!(run(&["--danger"], &[malformed, unmet, unsupported]).status, 30);
}
