//! Help, completions and manual pages cover every command and flag.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use std::process::Command;
use support::{confide, status, stderr, stdout};

/// Every command below `command`, with the words that lead to it.
fn all(command: &clap::Command, words: &[String]) -> Vec<(Vec<String>, clap::Command)> {
    let mut found = vec![(words.to_vec(), command.clone())];
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let words = [words, &[inner.get_name().to_owned()]].concat();
        found.extend(all(inner, &words));
    }
    found
}

#[test]
fn every_command_and_flag_says_what_it_is() {
    let mut flags = 0;
    for (words, command) in all(&confide::command(), &[]) {
        assert!(command.get_about().is_some(), "{words:?} has no description");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{words:?} --{} has no help", argument.get_id());
            flags += 1;
        }
        let help = confide(&[&words[..], &["--help".to_owned()]].concat());
        assert_eq!(status(&help), 0, "{words:?}");
        assert!(stdout(&help).contains("Usage: confide"), "{words:?}");
    }
    assert!(flags > 20, "{flags}");
}

/// What prints no result for a program to read, or prints JSON in any case.
const WITHOUT_JSON: [&str; 4] = ["proxy", "conformance", "completions", "man"];

#[test]
fn every_command_that_prints_a_result_prints_json_where_asked() {
    let mut without = Vec::new();
    for (words, command) in all(&confide::command(), &[]) {
        let only_groups = command.is_subcommand_required_set();
        if !only_groups && !command.get_arguments().any(|argument| argument.get_long() == Some("json")) {
            without.push(words.join(" "));
        }
    }
    assert_eq!(without, WITHOUT_JSON);
}

#[test]
fn exit_statuses_are_documented_in_one_place_as_they_are() {
    let page = include_str!("../../../docs/exit-statuses.md");
    let mut listed = 0;
    for (meaning, status) in confide::VERDICT_STATUSES {
        let row = page.lines().find(|line| line.starts_with(&format!("| {} | ", status.number())));
        let row = row.unwrap_or_else(|| panic!("{status:?} is not documented"));
        assert!(row.contains(&format!(" | {meaning} | ")), "{row}");
        let other = confide::WORK_STATUSES.iter().find(|(_, other)| other == status);
        assert!(other.is_none_or(|(meaning, _)| row.ends_with(&format!(" | {meaning} |"))), "{row}");
        listed += 1;
    }
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    assert_eq!((rows.count(), listed), (6, 6));
    for (_, command) in all(&confide::command(), &[]) {
        assert!(command.get_after_long_help().is_some(), "{}", command.get_name());
    }
}

#[test]
fn help_has_the_further_paragraphs_of_a_command() {
    for (words, paragraph) in [
        (vec!["verify"], "nothing of a prompt"),
        (vec!["config"], "comes before the environment"),
        (vec!["verify", "quote"], "policies/inspect.toml"),
        (vec!["verify", "document"], "opens no channel"),
        (vec!["verify", "gpu"], "neither which machine the devices sit in"),
        (vec!["chat"], "standard error"),
        (vec!["proxy"], "below /_confide/"),
        (vec!["record"], "chained by hash"),
        (vec!["replay"], "replay_mismatch"),
        (vec!["inspect"], "firmware's word"),
        (vec!["conformance"], "Exit status"),
        (vec!["doctor"], "GPUs keep their ready state"),
        (vec!["collateral"], "NO_PROXY"),
        (vec!["collateral", "fetch"], "used for a day"),
        (vec!["collateral", "show"], "Nothing is verified"),
        (vec!["rim"], "all issues are kept"),
        (vec!["rim", "fetch"], "NVIDIA learns which firmware versions"),
        (vec!["rim", "import"], "_PROD.swidtag"),
        (vec!["rim", "export"], "a machine without a network"),
        (vec!["rim", "list"], "Nothing is verified"),
    ] {
        let help = confide(&[&words[..], &["--help"]].concat());
        let text = stdout(&help).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(paragraph), "{words:?}: {text}");
    }
}

#[test]
fn what_a_platform_is_named_by_stands_in_the_usage() {
    let usage =
        "Usage: confide collateral fetch [OPTIONS] (--quote FILE | --fmspc HEX --ca CA | --report FILE)\n";
    assert!(stdout(&confide(&["collateral", "fetch", "--help"])).contains(usage));
    for words in [
        &["--json"][..],
        &["--ca", "platform"],
        &["--fmspc", "53494d000000"],
        &["--quote", "a", "--report", "b"],
        &["--quote", "a", "--fmspc", "53494d000000", "--ca", "platform"],
        &["--quote", "a", "--ca", "platform"],
        &["--report", "a", "--ca", "platform"],
    ] {
        let refused = confide(&[&["collateral", "fetch"], words].concat());
        assert_eq!((status(&refused), stderr(&refused).contains(usage)), (2, true), "{}", stderr(&refused));
    }
}

#[test]
fn a_flag_that_would_be_left_unread_is_wrong_usage() {
    let quote = &["collateral", "fetch", "--offline", "--quote", "a"][..];
    let fmspc = &["collateral", "fetch", "--offline", "--fmspc", "53494d000000", "--ca", "platform"][..];
    let report = &["collateral", "fetch", "--offline", "--report", "a"][..];
    let at = "2026-11-01T00:00:00Z";
    let verify_quote = &["verify", "quote", "--at", at, "--quote", "a", "--collateral", "b"][..];
    let document = ["verify", "document", "--at", at, "--document", "a", "--collateral", "b", "--nonce"];
    let nonce = "00".repeat(32);
    let document = &[&document[..], &[&nonce]].concat()[..];
    let verify_snp = &["verify", "snp", "--at", at, "--report", "a", "--cert", "b"][..];
    let record_snp = &["record", "snp", "--at", at, "--out", "o", "--report", "a", "--cert", "b"][..];
    let url = "https://a.example";
    for command in [quote, fmspc] {
        for words in [["--out-crl", "b"], ["--kds", url], ["--product", "Milan"]] {
            refuses(command, words);
        }
    }
    for command in [report, verify_quote, document] {
        for words in [["--pccs", url], ["--update", "early"]] {
            refuses(command, words);
        }
    }
    for command in [verify_snp, record_snp] {
        for words in [["--kds", url], ["--product", "Milan"]] {
            refuses(command, words);
        }
    }
}

/// Holds that a command takes these words alone, and not with two more.
#[track_caller]
fn refuses(command: &[&str], more: [&str; 2]) {
    // Its files are missing, or nothing is in its cache: it was read, all the same.
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_confide"));
        program.args(words).env("XDG_CACHE_HOME", folder.path()).current_dir(folder.path()).output().unwrap()
    };
    let alone = run(command);
    assert_eq!(status(&alone), 1, "{command:?}: {}", stderr(&alone));
    let refused = run(&[command, &more].concat());
    assert_eq!(status(&refused), 2, "{command:?} {more:?}: {}", stderr(&refused));
    assert!(stderr(&refused).contains("cannot be used with"), "{}", stderr(&refused));
}

#[test]
fn what_manifests_are_fetched_for_stands_in_the_usage() {
    let usage = "Usage: confide rim fetch [OPTIONS] (--evidence FILE... | --id ID...) --store DIR\n";
    assert!(stdout(&confide(&["rim", "fetch", "--help"])).contains(usage));
    for words in [
        &["--store", "a"][..],
        &["--id", "NV_GPU_DRIVER_GH100_580.95.05"],
        &["--id", "NV_GPU_DRIVER_GH100_580.95.05", "--store", "a", "--ocsp-service", "https://a.example"],
        &["--id", "NV_GPU_DRIVER_GH100_580.95.05", "--store", "a", "--crl-service", "https://a.example"],
    ] {
        let refused = confide(&[&["rim", "fetch"], words].concat());
        assert_eq!((status(&refused), stderr(&refused).contains(usage)), (2, true), "{}", stderr(&refused));
    }
    let told = stderr(&confide(&["rim", "fetch", "--store", "a", "--id", "GH100"]));
    assert!(told.contains("NV_GPU_DRIVER_GH100_580.95.05"), "{told}");
}

#[test]
fn both_forms_of_device_evidence_stand_in_the_usage() {
    let forms = "[OPTIONS] --at TIME (--evidence FILE... | --report FILE --chain FILE --nonce HEX)";
    for (command, out) in [("verify", ""), ("record", " --out FILE")] {
        let usage = format!("Usage: confide {command} gpu {forms}{out}\n");
        assert!(stdout(&confide(&[command, "gpu", "--help"])).contains(&usage), "{command}");
        for words in [&[][..], &["--report", "a"], &["--report", "a", "--chain", "b"], &["--chain", "b"]] {
            let at = ["--at", "2026-11-01T00:00:00Z"];
            let refused = confide(&[&[command, "gpu"], &at[..], words].concat());
            assert_eq!(
                (status(&refused), stderr(&refused).contains(&usage)),
                (2, true),
                "{}",
                stderr(&refused)
            );
        }
    }
}

#[test]
fn what_no_guest_takes_is_refused_before_it_is_asked() {
    // Nobody listens there.
    let chat =
        |flag: &str, value: &str| confide(&["chat", "--url", "https://127.0.0.1:1", flag, value, "question"]);
    for value in ["-1", "-0.1", "2.1", "NaN", "inf", "warm", ""] {
        let refused = chat("--temperature", value);
        assert_eq!(status(&refused), 2, "{value}: {}", stderr(&refused));
        assert!(stderr(&refused).contains("expected a number from 0 to 2"), "{value}: {}", stderr(&refused));
    }
    for value in ["0", "-1", "4294967296", "many"] {
        assert_eq!(status(&chat("--max-tokens", value)), 2, "{value}");
    }
    for (flag, value) in [("--temperature", "0"), ("--temperature", "2"), ("--max-tokens", "1")] {
        let refused = chat(flag, value);
        assert!(stderr(&refused).contains("[dial_failed]"), "{flag} {value}: {}", stderr(&refused));
    }
}

#[test]
fn an_address_that_is_none_is_told_the_form() {
    for address in ["localhost:8787", "127.0.0.1", "8787", "::1:8787:", "http://127.0.0.1:8787"] {
        let words = ["proxy", "--upstream", "https://127.0.0.1:1", "--listen", address];
        let refused = confide(&words);
        let told = stderr(&refused);
        assert_eq!(status(&refused), 2, "{address}: {told}");
        assert!(told.contains("expected IP:PORT, such as 127.0.0.1:8787 or [::1]:8787"), "{told}");
    }
}

#[test]
fn completions_exist_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = confide(&["completions", shell]);
        assert_eq!(status(&output), 0, "{shell}");
        for word in ["verify", "replay", "collateral", "rim", "config"] {
            assert!(stdout(&output).contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(status(&confide(&["completions", "nonesuch"])), 2);
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = confide(&["man", "--dir", folder.path().to_str().unwrap()]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let mut built = confide::command();
    built.build();
    for (words, command) in all(&built, &["confide".to_owned()]) {
        let page = folder.path().join(format!("{}.1", words.join("-")));
        let text =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains(".SH"), "{}", page.display());
        let synopsis = text.split(".SH SYNOPSIS\n").nth(1).unwrap().split(".SH").next().unwrap();
        let synopsis = synopsis.replace('\\', "");
        let flags = command.get_arguments().filter(|argument| !argument.is_hide_set());
        for flag in flags.filter(|_| command.get_overridden_usage().is_none()) {
            assert!(synopsis.contains(&flag.to_string()), "{words:?} has no {flag}: {synopsis}");
        }
    }
    let lost = confide(&["man", "--dir", "/dev/null/folder"]);
    assert_eq!(status(&lost), 1);
}

/// Where no result is printed, what kept it from being made is, in the same form; people are told as well.
#[test]
fn a_failure_is_one_json_object_where_json_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("broken.toml"), "schema = 1\n").unwrap();
    std::fs::write(path("config.toml"), "polcy = \"a\"\n").unwrap();
    let (url, broken, config, none) =
        ("https://127.0.0.1:1", path("broken.toml"), path("config.toml"), path("none"));
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        command.args(words).env("NO_COLOR", "1").env("XDG_CONFIG_HOME", folder.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CONFIDE_")) {
            command.env_remove(name);
        }
        command.output().unwrap()
    };
    for (words, status, code) in [
        (&["verify", "--offline", url][..], 1, "dial_failed"),
        (&["verify", "--offline", "http://127.0.0.1:1"], 2, "plain_http_refused"),
        (&["verify", "--offline", url, "--config", &config], 2, "config_unknown_field"),
        (&["record", "--offline", url, "--out", &path("records.cbor")], 1, "dial_failed"),
        (&["chat", "--offline", "--url", url, "--policy", &broken, "question"], 30, "policy_malformed"),
        (&["inspect", &none], 1, "file_unreadable"),
        (&["inspect", &broken], 30, "document_format"),
        (&["config", "check", &config], 2, "config_unknown_field"),
        (&["config", "show", "--config", &none], 1, "file_unreadable"),
        (&["audit", &none], 1, "file_unreadable"),
        (&["audit", &path(""), "--policy", &none], 1, "file_unreadable"),
        (&["replay", &broken], 30, "record_malformed"),
    ] {
        let asked = run(&[words, &["--json"]].concat());
        let told = String::from_utf8(asked.stderr).unwrap();
        let out = String::from_utf8(asked.stdout).unwrap();
        assert_eq!(asked.status.code(), Some(status), "{words:?}: {told}");
        let printed: serde_json::Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"));
        let error = &printed["error"];
        assert_eq!(error["code"], code, "{words:?}: {out}");
        assert!(
            told.contains(&format!("{} [{code}]\n", error["message"].as_str().unwrap().trim_end())),
            "{words:?}: {told}{out}"
        );
        assert!(out.ends_with("}\n") && out.lines().count() == 1, "{out}");
        // For people alone nothing is printed.
        assert!(run(words).stdout.is_empty(), "{words:?}");
    }
    // A verdict that could not be had for want of a policy has a verdict's form, as of evidence from files.
    let words = ["verify", "--offline", url, "--policy", &broken];
    let asked = run(&[&words[..], &["--json"]].concat());
    let printed: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!((&printed["outcome"], &printed["code"]), (&"malformed".into(), &"policy_malformed".into()));
    assert_eq!((asked.status.code(), run(&words).stdout.is_empty()), (Some(30), true));
}
