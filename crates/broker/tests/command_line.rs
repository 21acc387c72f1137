//! The command line, in either build.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_confide-broker")).args(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Exit status and standard error.
fn failed(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/broker.toml");

#[test]
fn the_sample_configuration_is_taken() {
    assert!(stdout(&["check", "--config", SAMPLE]).contains("valid"));
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&["completions", shell]).contains("confide-broker"), "{shell}");
    }
    assert!(stdout(&["man"]).contains(".TH"));
    let folder = tempfile::tempdir().unwrap();
    stdout(&["man", "--dir", folder.path().to_str().unwrap()]);
    for page in ["confide-broker.1", "confide-broker-serve.1", "confide-broker-volume-add.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}

#[test]
fn wrong_usage_exits_2() {
    let cases: [&[&str]; 6] = [
        &[],
        &["fly"],
        &["serve"],
        &["volume", "add", "UPPER", "--profile", "state", "--size", "1", "--config", "x"],
        &["volume", "revoke", "../x", "--config", "x"],
        &["audit", "show", "--record", "1", "--config", "x"],
    ];
    for arguments in cases {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_configuration_is_held_against_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.toml");
    std::fs::write(&path, "listen = \"127.0.0.1:0\"\nfast = true\n").unwrap();
    let (status, said) = failed(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(status, Some(2));
    assert!(
        said.contains(":2:1: fast: unknown field `fast`") && said.contains("[config_unknown_field]"),
        "{said}"
    );
    let (status, said) = failed(&["serve", "--config", "/nonexistent/broker.toml"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("[config_unreadable]"), "{said}");
}

#[test]
fn an_unknown_field_of_every_table_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        failed(&["check", "--config", path.to_str().unwrap()])
    };
    let listen = "listen = \"127.0.0.1:0\"\n";
    let secret = "{ credential = \"c\" }";
    let vault = format!("vault = {{ address = \"https://v.example\", key = \"k\", token = {secret} }}");
    let endorsements = "source = \"pccs\"\npccs = \"https://p.example\"";
    let whole = format!(
        "{listen}identity = {secret}\n[storage]\nurl_file = {secret}\n[kek]\n{vault}\n[endorsements]\n{endorsements}\n\
         [gpu_endorsements]\nfolder = \"g\"\n[limits]\nappraisals = 1\n[log]\nformat = \"text\"\n"
    );
    assert_eq!(check(&whole), (Some(0), String::new()));
    // One more field at the end of each table, and one in each inline table.
    let headers: Vec<&str> = whole.lines().filter(|line| line.starts_with('[')).collect();
    let more = headers.iter().map(|header| whole.replace(header, &format!("{header}\nfast = 1"))).chain([
        format!("fast = 1\n{whole}"),
        whole.replace("identity = { ", "identity = { fast = 1, "),
        whole.replace("url_file = { ", "url_file = { fast = 1, "),
        whole.replace("vault = { ", "vault = { fast = 1, "),
        whole.replace("token = { ", "token = { fast = 1, "),
        // A field in the place of the right one.
        whole.replacen("{ credential", "{ fast", 1),
        whole.replace("[kek]\nvault =", "[kek]\nfast ="),
    ]);
    let mut tried = 0;
    for text in more {
        let line = 1 + text.lines().position(|line| line.contains("fast")).unwrap();
        let (status, said) = check(&text);
        assert_eq!(status, Some(2), "{text}\n{said}");
        assert!(
            said.contains("unknown field `fast`") && said.contains("[config_unknown_field]"),
            "{text}\n{said}"
        );
        assert!(said.contains(&format!("broker.toml:{line}:")), "line {line} of\n{text}\n{said}");
        tried += 1;
    }
    assert_eq!(tried, 13);
}

#[test]
fn an_identity_key_is_made_once_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.pem");
    let path = path.to_str().unwrap();
    let made = stdout(&["identity", "make", "--out", path]);
    assert_eq!(stdout(&["identity", "show", path]), made);
    // 44 bytes in base64.
    assert_eq!(made.trim_end().len(), 60, "{made}");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, said) = failed(&["identity", "make", "--out", path]);
    assert_eq!(status, Some(1));
    assert!(said.contains("[identity_key_unusable]"), "{said}");
    assert_eq!(stdout(&["identity", "show", path]), made, "the key was left alone");
}

#[test]
fn a_policy_says_what_it_waives_and_what_it_surely_does_not_mean() {
    let key_release = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/key-release.toml");
    let said = stdout(&["policy", "check", key_release]);
    assert!(said.contains("policy \"key-release\"") && said.contains("claims.model: "), "{said}");
    assert!(said.contains("warning: there is no reference set, so that every guest is refused"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let signed = folder.path().join("signed.toml");
    let text = std::fs::read_to_string(key_release).unwrap();
    let key = "302a300506032b6570032100".to_owned() + &"00".repeat(32);
    let more = format!(
        "[signed_references]\nname = \"a\"\nkeys = [\"{key}\"]\nminimum_version = 1\nsets = \"all\"\n"
    );
    std::fs::write(&signed, format!("{text}\n{more}")).unwrap();
    let (status, said) = failed(&["policy", "check", signed.to_str().unwrap()]);
    assert_eq!(status, Some(30));
    assert!(said.contains("[policy_unusable]") && said.contains("signed_references"), "{said}");
}

#[test]
fn records_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.cbor");
    std::fs::write(&path, b"text").unwrap();
    let (status, said) = failed(&["policy", "test", "--records", path.to_str().unwrap()]);
    assert_eq!(status, Some(30));
    assert!(said.contains("[record_unusable]"), "{said}");
}
