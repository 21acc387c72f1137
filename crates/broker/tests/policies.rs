//! What the owner of a volume is told of its policy.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use std::process::Command;

use support::*;

/// Exit status, standard output and standard error of `confide-broker volume`.
fn volume(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confide-broker"));
    command.arg("volume").args(arguments).arg("--config").arg(home.config_file(""));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Writes the built-in policy with some of its fields waived.
fn policy_waiving(home: &Home, fields: &[&str]) -> String {
    let line = |line: &str| match line.split_once(" = ") {
        Some((field, _)) if fields.contains(&field) => format!("{field} = {{ waive = \"a test\" }}"),
        _ => line.to_owned(),
    };
    let text: Vec<String> = confide_policy::KEY_RELEASE.lines().map(line).collect();
    let path = home.path("policy.toml");
    std::fs::write(&path, text.join("\n")).unwrap();
    path.display().to_string()
}

#[test]
fn waivers_and_warnings_are_told_when_a_policy_is_put_in_force() {
    let home = Home::new();
    let state = ["add", "state", "--profile", "state", "--size", "4096"];
    let (status, said, error) = volume(&home, &state);
    assert_eq!(status, Some(0), "{error}");
    let (line, rest) = said.split_once('\n').unwrap();
    assert!(line.contains("policy \"key-release\" with ") && line.contains(" waivers"), "{said}");
    assert_eq!(rest, "  warning: there is no reference set, so that every guest is refused\n");
    let policy = policy_waiving(&home, &["mr_td"]);
    let (_, said, _) = volume(&home, &["policy", "state", "--policy", &policy]);
    assert!(said.contains("warning: tdx.mr_td is waived, so that every guest is refused"), "{said}");
    let (_, listed, _) = volume(&home, &["list"]);
    assert!(listed.contains("policy \"key-release\" with "), "{listed}");
    let (_, listed, _) = volume(&home, &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["policy"], "key-release");
    assert!(listed["waivers"].as_array().unwrap().contains(&"tdx.mr_td".into()), "{listed}");
}

#[test]
fn a_policy_that_waives_the_configuration_is_none_for_a_volume() {
    let home = Home::new();
    let policy = policy_waiving(&home, &["configuration"]);
    let state = ["add", "state", "--profile", "state", "--size", "4096"];
    assert_eq!(volume(&home, &state).0, Some(0));
    let other = ["add", "other", "--profile", "state", "--size", "4096", "--policy", &policy];
    for words in [&other[..], &["policy", "state", "--policy", &policy]] {
        let (status, _, error) = volume(&home, words);
        assert_eq!(status, Some(30), "{error}");
        assert!(error.contains("[policy_unusable]") && error.contains("claims.configuration"), "{error}");
    }
    let (_, listed, _) = volume(&home, &["list"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
}
