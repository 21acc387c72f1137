//! The command line, in either build.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_confide-guest")).args(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Exit status and standard error of `command` with this configuration.
fn with_config(command: &str, text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.toml");
    std::fs::write(&path, text).unwrap();
    let output = run(&[command, "--config", path.to_str().unwrap()]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

const TDX: &str =
    "listen = \"127.0.0.1:0\"\nplatform = \"tdx\"\n[model]\nname = \"m\"\ndirectory = \"/nonexistent\"\n";

#[test]
fn help_names_the_commands_for_people_and_hides_the_engine() {
    let help = stdout(&["--help"]);
    for command in ["serve", "check", "completions", "man"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(!help.contains("engine"), "{help}");
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&["completions", shell]).contains("confide-guest"), "{shell}");
    }
    assert!(stdout(&["man"]).contains(".TH"));
    let folder = tempfile::tempdir().unwrap();
    stdout(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert!(folder.path().join("confide-guest-serve.1").exists());
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in [&["serve"][..], &[], &["fly"], &["serve", "--config"], &["engine"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_configuration_is_checked_without_being_used() {
    assert_eq!(with_config("check", TDX).0, Some(0));
    for command in ["check", "serve"] {
        let (status, said) = with_config(command, &format!("{TDX}fast = true\n"));
        assert_eq!(status, Some(2));
        assert!(said.contains(":6:1: model.fast: unknown field `fast`"), "{said}");
        assert!(said.contains("[config_unknown_field]"), "{said}");
    }
    let (status, said) = with_config("check", "\u{0}");
    assert_eq!(status, Some(2));
    assert!(said.contains("[config_syntax]"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_exits_1_as_with_confide() {
    // A folder can be opened, and not read.
    for (command, file) in [("serve", "/nonexistent/guest.toml"), ("check", "/nonexistent"), ("check", "/")] {
        let output = run(&[command, "--config", file]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command} {file}: {said}");
        assert!(said.contains("[config_unreadable]"), "{command} {file}: {said}");
    }
}

#[test]
fn the_committed_configuration_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/guest.toml");
    assert!(stdout(&["check", "--config", path]).ends_with(": valid\n"));
}

#[test]
fn without_tdx_the_platform_tdx_is_refused_and_nothing_else_takes_its_place() {
    if std::path::Path::new("/sys/kernel/config/tsm/report").exists() {
        println!("not run: the refusal of a platform that is missing: this machine has configfs-tsm");
        return;
    }
    let (status, said) = with_config("serve", TDX);
    assert_eq!(status, Some(1));
    assert!(said.contains("[platform_missing]"), "{said}");
}

#[test]
fn the_engine_alone_says_that_it_has_no_socket() {
    let output = run(&["engine", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("[engine_failed]"));
}

#[cfg(not(feature = "danger-simulator"))]
#[test]
fn a_build_without_the_simulator_refuses_the_simulated_platform() {
    println!("not run: tests/serve.rs: built without the feature danger-simulator");
    for command in ["check", "serve"] {
        let (status, said) = with_config(command, &TDX.replace("tdx", "simulated"));
        assert_eq!(status, Some(2));
        assert!(said.contains("danger-simulator") && said.contains("[simulator_not_built]"), "{said}");
    }
}
