//! `confide verify quote` as a user meets it: recorded quotes, exit statuses, bad input.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Sample, confide, json, run, status, stderr, stdout};

#[test]
fn a_verdict_that_cannot_be_written_is_no_success() {
    let sample = Sample::version_4();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_confide"));
    command.args(["verify", "quote"]).args(sample.flags());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("[output_failed]") && said.contains("No space left"), "{said}");
}

#[test]
fn recorded_quotes_of_both_versions_are_accepted() {
    for sample in [Sample::version_4(), Sample::version_5()] {
        let output = sample.verify(&["--json"]);
        let verdict = json(&output);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("accepted"), &Value::Null));
        assert_eq!((&verdict["tcb_status"], &verdict["simulated"]), (&json!("UpToDate"), &json!(false)));
        assert_eq!(verdict["measurements"]["mr_td"].as_str().unwrap().len(), 96);
        assert_eq!(verdict["report_data"].as_str().unwrap().len(), 128);
        assert!(verdict["valid_until"].as_str().unwrap().ends_with('Z'));
        assert!(!verdict["assumptions"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_check_has_code_status_expected_actual_and_reference_and_a_failed_one_says_what_to_do() {
    let accepted = json(&Sample::version_4().verify(&["--json"]));
    let rejected = json(&Sample::version_4().at("2040-01-01T00:00:00Z").verify(&["--json"]));
    assert_eq!(rejected["code"], "validity");
    for check in [&accepted, &rejected].into_iter().flat_map(|verdict| verdict["checks"].as_array().unwrap())
    {
        let mut fields: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        let status = check["status"].as_str().unwrap();
        assert!(["pass", "fail", "waived", "not_run"].contains(&status), "{check}");
        let mut expected = vec!["actual", "code", "expected", "reference", "status"];
        if status == "fail" {
            expected.insert(4, "remedy");
            assert!(check["remedy"].as_str().unwrap().len() > 10, "{check}");
        }
        assert_eq!(fields, expected, "{check}");
    }
}

#[test]
fn a_verdict_has_these_fields_whatever_it_is() {
    let fields = [
        "outcome",
        "code",
        "simulated",
        "platform",
        "policy",
        "time",
        "tcb_status",
        "tcb_date",
        "advisory_ids",
        "early_tcb_status",
        "reference_set",
        "pck",
        "measurements",
        "report_data",
        "valid_until",
        "platform_binding",
        "devices",
        "checks",
        "assumptions",
    ];
    let sample = Sample::version_4();
    let with = |quote: &str| {
        let flags = sample.flags_with(quote.as_ref(), &sample.collateral, sample.time);
        run(&["verify", "quote"], flags, &["--json"])
    };
    for (outcome, output) in [
        ("accepted", sample.verify(&["--json"])),
        ("rejected", Sample::version_4().at("2040-01-01T00:00:00Z").verify(&["--json"])),
        ("unsupported", with(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))),
        ("malformed", with("/dev/null")),
        ("malformed", sample.verify(&["--json", "--policy", "/dev/null"])),
    ] {
        let verdict = json(&output);
        assert_eq!(verdict["outcome"], outcome, "{}", stderr(&output));
        let found: Vec<&str> = verdict.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, fields, "{outcome}");
    }
}

#[test]
fn the_tree_says_what_to_do_about_a_failure() {
    let tree = stdout(&Sample::version_4().at("2040-01-01T00:00:00Z").verify(&[]));
    let line = tree.lines().find(|line| line.contains("│      do       ")).unwrap();
    assert!(line.contains("fetch fresh collateral"), "{line}");
}

#[test]
fn the_tree_names_every_check_and_is_plain_text_in_a_pipe() {
    let output = Sample::version_4().verify(&[]);
    let tree = stdout(&output);
    assert!(tree.starts_with("ACCEPTED\n"));
    for code in ["quote_signature", "pck_revocation", "tcb_status", "td_debug", "quote_padding"] {
        assert!(tree.contains(code), "{code}");
    }
    assert!(!tree.contains('\x1b'), "no colour outside of a terminal");
}

#[test]
fn no_reference_values_are_waived_by_name() {
    let verdict = json(&Sample::version_4().verify(&["--json"]));
    let check = |code: &str| {
        let checks = verdict["checks"].as_array().unwrap();
        checks.iter().find(|check| check["code"] == code).unwrap().clone()
    };
    for code in ["mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "report_data", "mr_owner", "mr_config_id"] {
        assert_eq!(check(code)["status"], "waived", "{code}");
        assert_eq!(check(code)["expected"], "waived: no reference values given", "{code}");
    }
    assert_eq!(check("td_debug")["status"], "pass");
}

#[test]
fn a_time_outside_of_the_windows_is_rejected_and_has_no_tcb_status() {
    let sample = Sample::version_4();
    for time in ["2026-06-20T00:00:00Z", "2025-01-01T00:00:00Z"] {
        let output = run(
            &["verify", "quote"],
            sample.flags_with(&sample.quote, &sample.collateral, time),
            &["--json"],
        );
        assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("validity")), "{time}");
        assert_eq!(json(&output)["tcb_status"], Value::Null);
    }
}

#[test]
fn bad_quotes_have_their_exit_status() {
    let sample = Sample::version_4();
    let whole = std::fs::read(&sample.quote).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let folder = tempfile::tempdir().unwrap();
    let mut flipped = whole.clone();
    flipped[200] ^= 1;
    let mut version = whole.clone();
    version[0] = 3;
    let trailing = [&whole[..], &[1]].concat();
    let cases: [(&str, Vec<u8>, i32, &str); 9] = [
        ("empty", vec![], 30, "quote_format"),
        ("truncated", whole[..300].to_vec(), 30, "quote_format"),
        ("one byte short", whole[..end - 60].to_vec(), 30, "quote_format"),
        ("trailing byte", trailing, 30, "quote_format"),
        ("oversized", [&whole[..], &vec![0; 16 * 1024]].concat(), 30, "quote_format"),
        ("wrong magic", version, 20, "quote_format"),
        ("text", b"this is not a quote at all, it is text".repeat(20), 20, "quote_format"),
        ("not UTF-8", vec![0xff; 1000], 20, "quote_format"),
        ("flipped measurement", flipped, 10, "quote_signature"),
    ];
    for (name, bytes, expected, code) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let output =
            run(&["verify", "quote"], sample.flags_with(&path, &sample.collateral, sample.time), &["--json"]);
        assert_eq!((status(&output), &json(&output)["code"]), (expected, &json!(code)), "{name}");
    }
}

/// Quoting services give buffers of at most 16 KiB, whose rest is zero.
#[test]
fn zero_padding_reaches_to_16_kib_and_not_a_byte_further() {
    let sample = Sample::version_4();
    let whole = std::fs::read(&sample.quote).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let folder = tempfile::tempdir().unwrap();
    let verify = |name: &str, size: usize, last: u8| {
        let mut bytes = whole[..end].to_vec();
        bytes.resize(size, 0);
        *bytes.last_mut().unwrap() = last;
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let flags = sample.flags_with(&path, &sample.collateral, sample.time);
        run(&["verify", "quote"], flags, &["--json"])
    };
    let padded = verify("exactly", 16 * 1024, 0);
    let verdict = json(&padded);
    assert_eq!((status(&padded), &verdict["outcome"]), (0, &json!("accepted")));
    let checks = verdict["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["code"] == "quote_padding").unwrap();
    let zeros = check["actual"].as_str().unwrap().strip_suffix(" zero bytes").unwrap();
    let zeros: usize = zeros.parse().unwrap();
    assert!(check["status"] == "pass" && zeros > 0 && 16 * 1024 - zeros >= end, "{check}");
    for (name, size, last) in [("a zero more", 16 * 1024 + 1, 0), ("another byte at the end", 16 * 1024, 1)] {
        let output = verify(name, size, last);
        let found = (status(&output), json(&output)["outcome"].clone(), json(&output)["code"].clone());
        assert_eq!(found, (30, json!("malformed"), json!("quote_format")), "{name}");
    }
}

#[test]
fn bad_collateral_is_malformed() {
    let sample = Sample::version_4();
    let text = std::fs::read_to_string(&sample.collateral).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Vec<u8>); 5] = [
        ("empty", vec![]),
        ("truncated", text.as_bytes()[..text.len() / 2].to_vec()),
        ("not UTF-8", vec![0xff; 100]),
        ("wrong type", text.replacen("\"pck_crl\":", "\"pck_crl\": 1, \"was\":", 1).into_bytes()),
        ("a list", b"[]".to_vec()),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let output =
            run(&["verify", "quote"], sample.flags_with(&sample.quote, &path, sample.time), &["--json"]);
        assert_eq!((status(&output), &json(&output)["code"]), (30, &json!("collateral_file")), "{name}");
    }
}

#[test]
fn unreadable_files_are_internal_errors_and_wrong_flags_are_usage() {
    let sample = Sample::version_4();
    let missing = sample.flags_with("/nonexistent/quote".as_ref(), &sample.collateral, sample.time);
    let output = run(&["verify", "quote"], missing, &["--json"]);
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).contains("[file_unreadable]"), "{}", stderr(&output));
    for arguments in [&["verify", "quote"][..], &["verify", "nonsense"], &["--nonsense"], &[]] {
        assert_eq!(status(&confide(arguments)), 2, "{arguments:?}");
    }
    let bad_time =
        run(&["verify", "quote"], sample.flags_with(&sample.quote, &sample.collateral, "yesterday"), &[]);
    assert_eq!(status(&bad_time), 2);
}

#[test]
fn an_unknown_field_of_a_policy_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let text =
        include_str!("../../../policies/inspect.toml").replace("[freshness]", "[freshness]\nmaximum = 1");
    let line = text.lines().position(|line| line == "maximum = 1").unwrap() + 1;
    std::fs::write(&path, text).unwrap();
    let output = Sample::version_4().verify(&["--json", "--policy", path.to_str().unwrap()]);
    assert_eq!(status(&output), 30);
    assert_eq!(json(&output)["outcome"], "malformed");
    assert_eq!(json(&output)["code"], "policy_malformed");
    let message = stderr(&output);
    assert!(message.contains("maximum") && message.contains(&format!("line {line}")), "{message}");
}

#[test]
fn a_strict_policy_names_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let wanted = "11".repeat(48);
    let text = include_str!("../../../policies/inspect.toml").replace(
        "mr_td = { waive = \"no reference values given\" }",
        &format!("mr_td = {{ any_of = [\"{wanted}\"] }}"),
    );
    std::fs::write(&path, text).unwrap();
    let output = Sample::version_4().verify(&["--json", "--policy", path.to_str().unwrap()]);
    let verdict = json(&output);
    assert_eq!((status(&output), &verdict["code"]), (10, &json!("mr_td")));
    assert_eq!(verdict["tcb_status"], "UpToDate", "computed whatever the policy says");
    let check =
        verdict["checks"].as_array().unwrap().iter().find(|check| check["code"] == "mr_td").unwrap().clone();
    assert_eq!(check["expected"], wanted);
    assert_eq!(check["actual"], verdict["measurements"]["mr_td"]);
}

#[test]
fn a_verdict_is_exported_as_ear_claims() {
    let output = Sample::version_4().verify(&["--format", "ear"]);
    assert_eq!(status(&output), 0);
    let ear = json(&output);
    assert_eq!(ear["eat_profile"], "tag:ietf.org,2026:rats/ear#04");
    assert_eq!(
        (&ear["iat"], &ear["ear_verifier_id"]["build"]),
        (&json!(1_750_377_600), &json!("confide-verifier 0.1.0"))
    );
    let tdx = &ear["submods"]["tdx"];
    // The built-in policy has no reference values and waives migration: nothing is claimed of what runs in the TD.
    assert_eq!(tdx["ear_trustworthiness_vector"], json!({ "hardware": 2 }));
    assert_eq!((&tdx["ear_status"], &ear["ear_status"]), (&json!("none"), &json!("none")));
    assert_eq!(tdx["ear_appraisal_policy_ids"], json!(["inspect"]));
    let waived = tdx["ear_verifier_claims"]["waived"].as_array().unwrap();
    assert!(waived.contains(&json!("mr_td")), "{waived:?}");
    let rejected = Sample::version_4().at("2040-01-01T00:00:00Z").verify(&["--format", "ear"]);
    assert_eq!(status(&rejected), 10);
    let rejected = json(&rejected);
    assert_eq!((&rejected["ear_status"], &rejected["exp"]), (&json!("contraindicated"), &Value::Null));
    assert_eq!(rejected["submods"]["tdx"]["ear_trustworthiness_vector"], json!({ "hardware": 0 }));
}

#[test]
fn formats_are_chosen_by_name() {
    let sample = Sample::version_4();
    assert_eq!(sample.verify(&["--format", "json"]).stdout, sample.verify(&["--json"]).stdout);
    assert_eq!(sample.verify(&["--format", "text"]).stdout, sample.verify(&[]).stdout);
    assert_eq!(status(&sample.verify(&["--format", "xml"])), 2);
    assert_eq!(status(&sample.verify(&["--json", "--format", "ear"])), 2);
}

fn cross_check(verdict: &Value) -> Value {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().find(|check| check["code"] == "cross_check").unwrap().clone()
}

#[test]
fn a_second_verifier_agrees_about_recorded_quotes() {
    for sample in [Sample::version_4(), Sample::version_5()] {
        let output = sample.verify(&["--json", "--cross-check"]);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let check = cross_check(&json(&output));
        assert_eq!(check["status"], "pass");
        assert_eq!(check["actual"], "dcap-qvl 0.7.1 finds UpToDate, too");
        let unasked = cross_check(&json(&sample.verify(&["--json"])));
        assert_eq!(unasked["status"], "waived", "{unasked}");
    }
}

#[test]
fn a_second_verifier_is_not_asked_about_what_no_signature_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::version_4();
    let mut quote = std::fs::read(&sample.quote).unwrap();
    quote[200] ^= 1;
    let path = folder.path().join("quote");
    std::fs::write(&path, quote).unwrap();
    let flags = sample.flags_with(&path, &sample.collateral, sample.time);
    let output = run(&["verify", "quote"], flags, &["--json", "--cross-check"]);
    let verdict = json(&output);
    assert_eq!((status(&output), &verdict["code"]), (10, &json!("quote_signature")));
    let check = cross_check(&verdict);
    assert_eq!(check["status"], "not_run");
    assert_eq!(
        check["actual"],
        "dcap-qvl 0.7.1 was not asked: no signature vouches for the evidence, refused here by quote_signature"
    );
    // Signatures hold, and what they cover has expired: the second verifier is asked, and refuses it, too.
    let output = sample.at("2040-01-01T00:00:00Z").verify(&["--json", "--cross-check"]);
    let verdict = json(&output);
    assert_eq!((status(&output), &verdict["code"]), (10, &json!("validity")));
    let check = cross_check(&verdict);
    assert_eq!(check["status"], "pass");
    assert!(
        check["actual"].as_str().unwrap().starts_with("dcap-qvl 0.7.1 refuses the quote, too: "),
        "{check}"
    );
}

#[test]
fn a_policy_that_requires_a_second_opinion_rejects_its_absence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let waived = "cross_check = { waive = \"no second verifier was asked for\" }";
    let text = include_str!("../../../policies/inspect.toml").replace(waived, "cross_check = \"required\"");
    assert!(!text.contains(waived));
    std::fs::write(&path, text).unwrap();
    let policy = path.to_str().unwrap();
    let output = Sample::version_4().verify(&["--json", "--policy", policy]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("cross_check")));
    let output = Sample::version_4().verify(&["--json", "--policy", policy, "--cross-check"]);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
}

// Tests are built with the simulator feature (see dev-dependencies). That a program without it refuses danger policies is
// shown on the programs as they ship by `cargo xtask test`, stage `plain`.
#[test]
fn danger_policies_need_their_flag_and_their_name() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/");
    let danger = format!("{root}danger-simulator.toml");
    let output = Sample::version_4().verify(&["--policy", &danger]);
    assert_eq!(status(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("danger_policy_flag"), "{}", stderr(&output));
    let output = Sample::version_4().verify(&["--danger-policy", &format!("{root}client.toml")]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("danger_policy_name"), "{}", stderr(&output));
}

#[test]
fn a_danger_policy_refuses_genuine_evidence() {
    let danger = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/danger-simulator.toml");
    let output = Sample::version_4().verify(&["--json", "--danger-policy", danger]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("root_anchor")));
}

#[test]
fn the_tree_of_simulated_evidence_says_so_accepted_or_rejected() {
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tdx");
    let folder = tempfile::tempdir().unwrap();
    // Danger policies have to be called so.
    let named = |name: &str| {
        let path = folder.path().join(format!("danger-{name}.toml"));
        std::fs::copy(format!("{suite}/common/{name}.toml"), &path).unwrap();
        path.display().to_string()
    };
    let (collateral, at) = (format!("{suite}/common/collateral.json"), "2026-10-01T00:00:00Z");
    let given = ["--collateral", &collateral, "--at", at, "--danger-policy"];
    for (case, first) in [
        ("accept-v4", "SIMULATED ACCEPTED"),
        ("quote_signature-mrtd-flipped", "SIMULATED REJECTED (quote_signature)"),
    ] {
        let quote = format!("{suite}/{case}/quote.bin");
        let told =
            confide(&[&["verify", "quote", "--quote", &quote], &given[..], &[&named("quote")]].concat());
        assert_eq!(stdout(&told).lines().next(), Some(first), "{case}: {}", stderr(&told));
    }
    let case = std::fs::read_to_string(format!("{suite}/accept-document/case.json")).unwrap();
    let case: Value = serde_json::from_str(&case).unwrap();
    let challenge = |name: &str| case["evidence"]["challenge"][name].as_str().unwrap().to_owned();
    let (nonce, exporter, spki) = (challenge("nonce"), challenge("exporter"), challenge("spki"));
    let document = format!("{suite}/accept-document/document.cbor");
    for (nonce, first) in
        [(nonce.as_str(), "SIMULATED ACCEPTED"), (&"11".repeat(32), "SIMULATED REJECTED (report_data)")]
    {
        let asked =
            ["--role", "serve", "--nonce", nonce, "--exporter", &exporter, "--spki", &spki, "--offline"];
        let words =
            [&["verify", "document", "--document", &document], &asked[..], &given, &[&named("document")]];
        let told = confide(&words.concat());
        assert_eq!(stdout(&told).lines().next(), Some(first), "{}", stderr(&told));
    }
}

#[test]
fn what_evidence_says_moves_no_terminal() {
    // A root of the attacker's own, whose name would paint an acceptance over the refusal.
    let sample = Sample::version_4();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collateral.json");
    let mut collateral: Value = serde_json::from_slice(&std::fs::read(&sample.collateral).unwrap()).unwrap();
    for chain in ["pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"] {
        let mut ders =
            confide_evidence::pem::certificates(collateral[chain].as_str().unwrap().as_bytes()).unwrap();
        let name = b"Intel SGX Root CA";
        for der in &mut ders {
            for at in 0..der.len() - name.len() {
                if der[at..].starts_with(name) {
                    der[at..at + name.len()].copy_from_slice(b"\x1b[2J\x1b[HACCEPTED\r\n");
                }
            }
            // Another key than Intel's: the last byte of the root's.
            if let Some(at) = der.windows(2).rposition(|two| two == [0x03, 0x42]) {
                der[at + 60] ^= 1;
            }
        }
        collateral[chain] = json!(confide_evidence::pem::encode(&ders));
    }
    std::fs::write(&path, collateral.to_string()).unwrap();
    let output = run(&["verify", "quote"], sample.flags_with(&sample.quote, &path, sample.time), &[]);
    let shown = stdout(&output);
    assert_eq!(status(&output), 10, "{shown}");
    assert!(shown.starts_with("REJECTED (root_anchor)"), "{shown}");
    assert!(shown.contains("\\u{1b}[2J") && !shown.contains('\x1b') && !shown.contains('\r'), "{shown}");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/inspect.toml");
    for arguments in [&["completions", "bash"][..], &["man"], &["policy", "check", policy]] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_confide"))
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(!stderr(&output).contains("panicked"), "{arguments:?}: {}", stderr(&output));
        assert!(matches!(status(&output), 0 | 1), "{arguments:?}");
    }
}

#[test]
fn what_is_taken_for_a_tdx_quote_is_called_what_it_is() {
    let sample = Sample::version_4();
    let folder = tempfile::tempdir().unwrap();
    let quote = std::fs::read(&sample.quote).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = quote.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let digits = confide_evidence::hex::encode(&quote).into_bytes();
    for (bytes, words) in [
        (with(0, &[3, 0]), "note: this is an SGX quote; confide appraises TDX quotes\n"),
        (with(4, &[0; 4]), "note: this is an SGX quote; confide appraises TDX quotes\n"),
        ([&b"0x"[..], &digits].concat(), "xxd -r -p"),
        (digits, "xxd -r -p"),
    ] {
        let path = folder.path().join("quote");
        std::fs::write(&path, bytes).unwrap();
        let flags = sample.flags_with(&path, &sample.collateral, sample.time);
        let refused = run(&["verify", "quote"], flags, &[]);
        assert!([20, 30].contains(&status(&refused)), "{}", stdout(&refused));
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    assert!(!stderr(&sample.verify(&[])).contains("note: "));
}
