//! Settings from flags, environment and file, in this order, and `confide config`.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_testkit::guest::{self, Guest, Listening};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output};
use support::{status, stderr, stdout};

/// A folder of a user.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("confide")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Writes the user's configuration.
    fn configure(&self, text: &str) -> &Self {
        self.write("confide/config.toml", text);
        self
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        command.args(words).env("XDG_CONFIG_HOME", self.0.path()).env("NO_COLOR", "1");
        command.env("XDG_CACHE_HOME", self.path("cache")).current_dir(self.0.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CONFIDE_")) {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What `confide config show --json` says of a setting.
    fn shown(&self, name: &str, environment: &[(&str, &str)]) -> Value {
        let mut command = self.command(&["config", "show", "--json"]);
        let output = command.envs(environment.iter().copied()).output().unwrap();
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        support::json(&output)["settings"][name].clone()
    }
}

#[track_caller]
fn refused(output: &Output, expected: i32, words: &[&str]) {
    let told = stderr(output);
    assert_eq!(status(output), expected, "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?}: {told}");
    }
}

async fn listening() -> (Home, Listening) {
    let home = Home::new();
    home.write("danger-test.toml", &guest::policy("per-key", 300));
    (home, Guest::new(0).unwrap().listen().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_the_file_is_asked_by_every_command_about_guests() {
    let (home, guest) = listening().await;
    home.configure(&format!("url = \"{}\"\n", guest.url()));
    for words in [
        &["chat", "--danger-policy", "danger-test.toml", "question"][..],
        &["verify", "--danger-policy", "danger-test.toml"],
        &["record", "--danger-policy", "danger-test.toml", "--out", "record.cbor"],
    ] {
        let before = guest.guest.attestations();
        let output = home.run(words);
        assert_eq!((status(&output), guest.guest.attestations()), (0, before + 1), "{}", stderr(&output));
    }
    // The endpoint has its guest, too: what it lacks is a leave to listen there.
    let words = ["proxy", "--danger-policy", "danger-test.toml", "--listen", "0.0.0.0:0"];
    refused(&home.run(&words), 2, &["[listen_not_loopback]"]);
    // A form that asks no guest takes no guest.
    refused(&home.run(&["verify", "quote"]), 2, &["--quote <FILE>"]);
    refused(&home.run(&["record", "--danger-policy", "danger-test.toml"]), 2, &["--out <FILE>"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_comes_before_the_environment_and_that_before_the_file() {
    let (home, guest) = listening().await;
    home.configure("url = \"https://127.0.0.1:1\"\n");
    let words = ["verify", "--danger-policy", "danger-test.toml"];
    refused(&home.run(&words), 1, &["[dial_failed]"]);
    let output = home.command(&words).env("CONFIDE_URL", guest.url()).output().unwrap();
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let mut command = home.command(&["verify", &guest.url(), "--danger-policy", "danger-test.toml"]);
    let output = command.env("CONFIDE_URL", "https://127.0.0.1:1").output().unwrap();
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    // Empty, a variable is as if it were not there.
    let output = home.command(&words).env("CONFIDE_URL", "").output().unwrap();
    refused(&output, 1, &["[dial_failed]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_that_cannot_stand_beside_a_setting_takes_its_place() {
    let (home, guest) = listening().await;
    home.configure("policy = \"none.toml\"\nreferences = \"none.toml\"\n");
    refused(&home.run(&["verify", &guest.url()]), 1, &["none.toml", "[file_unreadable]"]);
    assert!(guest.guest.seen().is_empty());
    let output = home.run(&["verify", &guest.url(), "--danger-policy", "danger-test.toml"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
}

#[test]
fn what_is_dangerous_is_a_flag_alone() {
    let home = Home::new();
    for field in ["danger_policy = \"danger-x.toml\"", "danger_listen_anywhere = true", "[danger]\na = 1"] {
        home.configure(field);
        refused(
            &home.run(&["verify", "https://127.0.0.1:1"]),
            2,
            &["config.toml:1:", ": danger", "[setting_danger]"],
        );
        refused(&home.run(&["config", "check"]), 2, &["[setting_danger]"]);
    }
    home.configure("");
    for name in ["CONFIDE_DANGER_POLICY", "CONFIDE_DANGER_LISTEN_ANYWHERE"] {
        let output = home.command(&["verify", "https://127.0.0.1:1"]).env(name, "true").output().unwrap();
        refused(&output, 2, &[name, "[setting_danger]"]);
    }
    // A danger policy under the name of an ordinary one is refused as it is behind the flag.
    home.write("confide/policy.toml", &guest::policy("per-key", 300));
    home.configure("policy = \"policy.toml\"");
    refused(&home.run(&["verify", "https://127.0.0.1:1"]), 2, &["[danger_policy_flag]"]);
    refused(&home.run(&["config", "check"]), 2, &["[danger_policy_flag]"]);
}

#[test]
fn an_error_names_the_file_the_line_and_the_field() {
    let home = Home::new();
    for (text, code, words) in [
        (
            "\npolcy = \"a\"\n",
            "config_unknown_field",
            &["config.toml:2:1: polcy", "expected one of `url`, `upstreams`"][..],
        ),
        ("url = 1", "config_invalid", &["config.toml:1:7: url", "expected a string"]),
        ("url = \"a\nb\"", "config_syntax", &["config.toml:2:3: "]),
        ("\n\nlisten = \"localhost\"", "setting_invalid", &["config.toml:3: listen: ", "expected IP:PORT"]),
        ("update = \"weekly\"", "setting_invalid", &["config.toml:1: update: "]),
        ("temperature = 3.5", "setting_invalid", &["config.toml:1: temperature: ", "from 0 to 2"]),
        ("max_tokens = 0", "setting_invalid", &["config.toml:1: max_tokens: "]),
        (
            "max_in_flight = 0",
            "setting_invalid",
            &["config.toml:1: max_in_flight: ", "expected a whole number, 1 or more"],
        ),
        ("max_in_flight = -1", "config_invalid", &["config.toml:1:17: max_in_flight: "]),
        ("pccs = \"ftp://a\"", "setting_invalid", &["config.toml:1: pccs: "]),
    ] {
        home.configure(text);
        let checked = home.run(&["config", "check"]);
        refused(&checked, 2, &[words, &[&format!("[{code}]")]].concat());
    }
    // The command that uses a setting says the same; one that does not goes on.
    home.configure("listen = \"localhost\"");
    refused(&home.run(&["proxy", "--upstream", "https://127.0.0.1:1"]), 2, &["config.toml:1: listen: "]);
    assert_eq!(status(&home.run(&["policy", "check", "none.toml"])), 1);
    let mut command = home.command(&["proxy", "--upstream", "https://127.0.0.1:1"]);
    refused(&command.env("CONFIDE_LISTEN", "8787").output().unwrap(), 2, &["CONFIDE_LISTEN: listen: "]);
    let mut command = home.command(&["config", "check"]);
    refused(&command.env("CONFIDE_OFFLINE", "perhaps").output().unwrap(), 2, &["CONFIDE_OFFLINE: offline: "]);
}

/// The address may stand on a command line as a word of its own, and is an address all the same.
#[test]
fn the_address_of_a_guest_is_no_flag_and_no_subcommand() {
    let home = Home::new();
    let lines = [
        &["verify"][..],
        &["record", "--out", "record.cbor"],
        &["chat", "question"],
        &["proxy"],
        &["config", "check"],
    ];
    for (text, why) in [
        ("--help", "does not begin with https://"),
        ("-V", "does not begin with https://"),
        ("--offline", "does not begin with https://"),
        ("quote", "does not begin with https://"),
        ("help", "does not begin with https://"),
        ("127.0.0.1:1", "does not begin with https://"),
        ("http://127.0.0.1:1", "plain http is refused"),
        ("https://a@127.0.0.1:1", "user name"),
        ("https://127.0.0.1:1/--help", "path"),
        (" --help", "is not a URL"),
    ] {
        for words in lines {
            home.configure(&format!("\nurl = \"{text}\"\n"));
            let expected = ["config.toml:2: url: ", why, "expected https://HOST:PORT", "[setting_invalid]"];
            refused(&home.run(words), 2, &expected);
            home.configure("");
            let output = home.command(words).env("CONFIDE_URL", text).output().unwrap();
            refused(&output, 2, &["CONFIDE_URL: url: ", why, "[setting_invalid]"]);
            assert_eq!(stdout(&output), "", "{words:?}");
        }
    }
    // Whoever names a guest by flag is not held up by it.
    let mut command = home.command(&["verify", "https://127.0.0.1:1"]);
    refused(&command.env("CONFIDE_URL", "--help").output().unwrap(), 1, &["[dial_failed]"]);
}

#[cfg(unix)]
#[test]
fn an_address_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::new();
    let mut command = home.command(&["verify"]);
    let output = command.env("CONFIDE_URL", std::ffi::OsStr::from_bytes(b"https://\xff")).output().unwrap();
    refused(&output, 2, &["CONFIDE_URL: url: ", "[setting_invalid]"]);
}

#[test]
fn a_file_is_found_by_flag_variable_or_place() {
    let home = Home::new();
    home.configure("model = \"of the place\"");
    let of = |name: &str| home.write(name, &format!("model = \"of {name}\"")).display().to_string();
    let (flagged, named) = (of("flagged.toml"), of("named.toml"));
    assert_eq!(home.shown("model", &[])["value"], "of the place");
    assert_eq!(home.shown("model", &[("CONFIDE_CONFIG", &named)])["value"], "of named.toml");
    let mut command = home.command(&["--config", &flagged, "config", "show", "--json"]);
    let shown = support::json(&command.env("CONFIDE_CONFIG", &named).output().unwrap());
    assert_eq!(shown["file"], flagged);
    assert_eq!(
        shown["settings"]["model"],
        json!({ "value": "of flagged.toml", "from": { "file": flagged, "line": 1 } })
    );
    // One that is named must be there; the user's own need not be.
    let mut command = home.command(&["config", "show"]);
    refused(&command.env("CONFIDE_CONFIG", "none.toml").output().unwrap(), 1, &["none.toml"]);
    refused(&home.run(&["config", "show", "--config", "none.toml"]), 1, &["none.toml"]);
    std::fs::remove_file(home.path("confide/config.toml")).unwrap();
    let output = home.run(&["config", "show"]);
    assert!(status(&output) == 0 && stdout(&output).starts_with("file: none\n"), "{}", stdout(&output));
}

#[test]
fn settings_are_shown_with_where_they_come_from() {
    let home = Home::new();
    home.configure("offline = true\nupdate = 17\ncache = \"kept\"\npccs = \"https://pccs.example\"\npccs_certificate = \"pccs.pem\"\n");
    let file = home.path("confide/config.toml").display().to_string();
    let from = |line| json!({ "file": file, "line": line });
    assert_eq!(home.shown("offline", &[]), json!({ "value": "true", "from": from(1) }));
    assert_eq!(home.shown("update", &[]), json!({ "value": "17", "from": from(2) }));
    let beside = home.path("confide/kept").display().to_string();
    assert_eq!(home.shown("cache", &[]), json!({ "value": beside, "from": from(3) }));
    let environment = [("CONFIDE_OFFLINE", "0"), ("CONFIDE_CACHE", "elsewhere")];
    let of = |name: &str| json!({ "environment": name });
    assert_eq!(
        home.shown("offline", &environment),
        json!({ "value": "false", "from": of("CONFIDE_OFFLINE") })
    );
    assert_eq!(
        home.shown("cache", &environment),
        json!({ "value": "elsewhere", "from": of("CONFIDE_CACHE") })
    );
    // A certificate belongs to the service of the same place, and no other one is trusted by it.
    assert!(home.shown("pccs_certificate", &[]).is_object());
    assert!(home.shown("pccs_certificate", &[("CONFIDE_PCCS", "https://other.example")]).is_null());
    assert!(home.shown("policy", &[]).is_null());
    let text = stdout(&home.run(&["config", "show"]));
    assert!(text.contains(&format!("\noffline = true ({file}:1)\n")), "{text}");
    assert!(text.contains("\npolicy is not set: appraisal policy\n"), "{text}");
}

#[test]
fn check_reads_the_files_that_a_configuration_names() {
    let home = Home::new();
    home.write("good.toml", include_str!("../../../policies/client.toml"));
    let file = home.write("mine.toml", "policy = \"good.toml\"\nurl = \"https://guest.example:8443\"\n");
    let file = file.display().to_string();
    let output = home.run(&["config", "check", &file]);
    assert_eq!((status(&output), stdout(&output)), (0, format!("{file}: 2 settings: url, policy\n")));
    let output = home.run(&["config", "check", &file, "--json"]);
    assert_eq!(support::json(&output), json!({ "file": file, "settings": ["url", "policy"] }));
    home.write("good.toml", "name = 1");
    refused(&home.run(&["config", "check", &file]), 30, &["[policy_malformed]"]);
    home.write("mine.toml", "api_key_file = \"none\"");
    refused(&home.run(&["config", "check", &file]), 1, &["none", "[file_unreadable]"]);
    home.configure("");
    let mut command = home.command(&["config", "check"]);
    let output = command.env("CONFIDE_POLCY", "a").output().unwrap();
    assert_eq!(
        (status(&output), stderr(&output)),
        (0, "note: CONFIDE_POLCY is no setting of this program\n".to_owned())
    );
}

/// Without its whole a part would count for nothing, and nobody would be told.
#[test]
fn a_part_of_what_its_place_does_not_name_is_an_error() {
    let home = Home::new();
    let verify = ["verify", "--offline", "https://127.0.0.1:1"];
    for (part, whole, value) in
        [("references", "policy", "good.toml"), ("pccs_certificate", "pccs", "https://pccs.example")]
    {
        home.write("confide/good.toml", include_str!("../../../policies/client.toml"));
        let file = [
            &format!("config.toml:2: {part}: it belongs to {whole}, which the file does not name")[..],
            "[setting_invalid]",
        ];
        home.configure(&format!("\n{part} = \"a\"\n"));
        for words in [&verify[..], &["config", "check"], &["config", "show"]] {
            refused(&home.run(words), 2, &file);
        }
        // Nor does one of another place help it.
        let variable = |name: &str| format!("CONFIDE_{}", name.to_uppercase());
        let output = home.command(&verify).env(variable(whole), value).output().unwrap();
        refused(&output, 2, &file);
        // A command without the flag has no part in it.
        assert_eq!(status(&home.run(&["policy", "explain", "confide/good.toml"])), 0);
        home.configure("");
        let told = format!("{}: {part}: it belongs to {}, which is not set", variable(part), variable(whole));
        let output = home.command(&verify).env(variable(part), "a").output().unwrap();
        refused(&output, 2, &[&told, "[setting_invalid]"]);
        // Together with its whole it is taken, and what that says of the file is the next thing to be told.
        home.configure(&format!("{whole} = \"{value}\"\n{part} = \"none\"\n"));
        let told = format!("config.toml:2: {part}: ");
        let output = home.run(&["config", "check"]);
        refused(&output, 1, &[&told, "/confide/none: ", "[file_unreadable]"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_file_is_told_with_the_setting_that_names_it() {
    let home = Home::new();
    home.write("client.toml", include_str!("../../../policies/client.toml"));
    home.write("confide/broken.toml", "schema = 1\n");
    home.write("confide/list.toml", "[[instance]]\nurl = \"http://a\"\n");
    home.write("confide/words", "one two\n");
    home.write("confide/empty", "\n");
    let url = "https://127.0.0.1:1";
    let proxy = ["proxy", "--offline", "--listen", "0.0.0.0:0", "--upstream", url];
    let proxy_of_list = ["proxy", "--offline", "--listen", "0.0.0.0:0"];
    let verify = ["verify", "--offline", url];
    let chat = ["chat", "--offline", "--url", url, "question"];
    for (setting, value, words, code) in [
        ("policy", "none.toml", &verify[..], "file_unreadable"),
        ("policy", "broken.toml", &verify, "policy_malformed"),
        ("policy", "broken.toml", &["config", "check"], "policy_malformed"),
        ("upstreams", "none.toml", &proxy_of_list, "config_unreadable"),
        ("upstreams", "list.toml", &proxy_of_list, "config_invalid"),
        ("token_file", "none", &proxy, "file_unreadable"),
        ("token_file", "words", &proxy, "token_file"),
        ("upstream_key_file", "words", &proxy, "upstream_key_file"),
        ("api_key_file", "none", &chat, "file_unreadable"),
        ("api_key_file", "empty", &chat, "api_key_file"),
        ("record", "none/records.cbor", &chat, "file_unwritable"),
    ] {
        home.configure(&format!("\n{setting} = \"{value}\"\n"));
        let path = home.path("confide").join(value);
        let told = format!("config.toml:2: {setting}: {}", path.display());
        let output = home.run(words);
        refused(&output, status(&output), &[&told, &format!("[{code}]")]);
        assert_ne!(status(&output), 0);
        home.configure("");
        let variable = format!("CONFIDE_{}", setting.to_uppercase());
        let output = home.command(words).env(&variable, &path).output().unwrap();
        refused(&output, status(&output), &[&format!("{variable}: {setting}: {}", path.display())]);
    }
    // A flag's file is named by the flag, whatever settings there are.
    home.configure("policy = \"none.toml\"\n");
    let output = home.run(&["verify", "--offline", url, "--policy", "confide/broken.toml"]);
    assert!(stderr(&output).starts_with("error: confide/broken.toml: "), "{}", stderr(&output));
}

#[test]
fn the_proxy_takes_its_limit_of_requests_from_the_settings() {
    let home = Home::new();
    home.configure("max_in_flight = 7\n");
    assert_eq!(home.shown("max_in_flight", &[])["value"], "7");
    assert_eq!(home.shown("max_in_flight", &[("CONFIDE_MAX_IN_FLIGHT", "8")])["value"], "8");
    let proxy = ["proxy", "--offline", "--listen", "0.0.0.0:0", "--upstream", "https://127.0.0.1:1"];
    refused(&home.run(&proxy), 2, &["[listen_not_loopback]"]);
    let output = home.command(&proxy).env("CONFIDE_MAX_IN_FLIGHT", "none").output().unwrap();
    refused(&output, 2, &["CONFIDE_MAX_IN_FLIGHT: max_in_flight: ", "expected a whole number, 1 or more"]);
    refused(
        &home.run(&[&proxy[..], &["--max-in-flight", "0"]].concat()),
        2,
        &["expected a whole number, 1 or more"],
    );
}

#[test]
fn what_settings_there_are_stands_in_the_documentation() {
    let page = include_str!("../../../docs/configuration.md");
    for setting in &confide::SETTINGS {
        let row = format!("| `{}` | `{}` | {} |", setting.name, setting.variable(), setting.meaning);
        assert!(page.contains(&row), "docs/configuration.md lacks: {row}");
    }
    let rows = page.lines().filter(|line| line.contains("`CONFIDE_") && line.starts_with("| ")).count();
    assert_eq!(rows, confide::SETTINGS.len());
}

/// Of the commands that ask a guest: those that take its address.
#[test]
fn every_flag_is_a_setting_or_stands_among_those_that_are_none() {
    let page = include_str!("../../../docs/configuration.md");
    let (_, page) = page.split_once("## What is no setting").unwrap();
    let listed: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .flat_map(|line| line.split('|').nth(1).unwrap().split(','))
        .map(|flag| flag.trim().trim_matches('`').trim_start_matches("--"))
        .collect();
    let mut command = confide::command();
    command.build();
    let mut found = Vec::new();
    for name in ["verify", "record", "chat", "proxy"] {
        let command = command.find_subcommand(name).unwrap();
        for argument in command.get_arguments() {
            let (id, Some(flag)) = (argument.get_id().as_str(), argument.get_long()) else { continue };
            let is_setting = id == "upstream" || confide::SETTINGS.iter().any(|setting| setting.name == id);
            if !is_setting && !["help", "version"].contains(&flag) {
                assert!(listed.contains(&flag), "docs/configuration.md lacks --{flag} of {name}");
                found.push(flag.to_owned());
            }
        }
    }
    for flag in listed {
        assert!(found.iter().any(|found| found == flag), "--{flag} is a setting, or no flag");
    }
}

#[test]
fn check_tells_everything_that_is_wrong_with_the_files_that_it_names() {
    let home = Home::new();
    home.write("confide/list.toml", "[[instance]]\nurl = \"https://a\"\n[[instance]]\nurl = \"https://a\"\n");
    home.write("confide/words", "one two\n");
    home.write("confide/empty", "\n");
    home.write("confide/broken.toml", "schema = 1\n");
    let text = "upstreams = \"list.toml\"\npolicy = \"broken.toml\"\nlisten = \"localhost\"\ntoken_file = \"words\"\n\
        upstream_key_file = \"none\"\napi_key_file = \"empty\"\npccs = \"https://pccs.example\"\npccs_certificate = \"words\"\n";
    home.configure(text);
    let expected = [
        (3, "listen", "setting_invalid", None),
        (1, "upstreams", "instance_twice", Some("list.toml")),
        (2, "policy", "policy_malformed", Some("broken.toml")),
        (4, "token_file", "token_file", Some("words")),
        (5, "upstream_key_file", "file_unreadable", Some("none")),
        (6, "api_key_file", "api_key_file", Some("empty")),
        (8, "pccs_certificate", "endorser_certificate", Some("words")),
    ];
    let output = home.run(&["config", "check"]);
    assert_eq!(
        (status(&output), stdout(&output)),
        (2, String::new()),
        "the status of the first: {}",
        stderr(&output)
    );
    let told = stderr(&output);
    let printed = support::json(&home.run(&["config", "check", "--json"]));
    let faults = printed["faults"].as_array().unwrap();
    assert_eq!((faults.len(), &printed["error"]), (expected.len(), &faults[0]), "{told}");
    for ((line, setting, code, file), fault) in expected.into_iter().zip(faults) {
        let message = fault["message"].as_str().unwrap();
        let mut place = format!("config.toml:{line}: {setting}: ");
        if let Some(file) = file {
            place.push_str(&home.path("confide").join(file).display().to_string());
        }
        assert!(message.contains(&place) && fault["what_to_do"].is_string(), "{place}: {fault}");
        assert_eq!(fault["code"], code, "{fault}");
        assert!(told.contains(&place) && told.contains(&format!("[{code}]\n")), "{place} [{code}]: {told}");
    }
}

/// Of signed reference values the signature counts, and what was seen of them: `check` remembers nothing itself.
#[test]
fn check_holds_reference_values_against_the_policy() {
    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/references/");
    let home = Home::new();
    let values = std::fs::read_to_string(format!("{EXAMPLE}example.toml")).unwrap();
    let lines = values.lines().map(|line| match line.split_once(" = ") {
        Some(("issued", _)) => "issued = 2020-01-01\n".to_owned(),
        Some(("expires", _)) => "expires = 2099-12-31\n".to_owned(),
        _ => format!("{line}\n"),
    });
    let file = home.write("confide/values.toml", &lines.collect::<String>());
    let key = format!("{EXAMPLE}ed25519.key.pem");
    let signed = home.run(&["policy", "sign", "--key", &key, file.to_str().unwrap()]);
    assert_eq!(status(&signed), 0, "{}", stderr(&signed));
    let table = stdout(&signed).split_once("In policies:").unwrap().1.to_owned();
    let policy = include_str!("../../../policies/client.toml");
    home.write("confide/policy.toml", &format!("{policy}\n{table}"));
    home.configure("policy = \"policy.toml\"\nreferences = \"values.toml\"\n");
    let check =
        || home.command(&["config", "check"]).env("XDG_STATE_HOME", home.path("state")).output().unwrap();
    let good = check();
    assert_eq!(status(&good), 0, "{}", stderr(&good));
    assert!(!home.path("state").exists(), "nothing is written");
    let place = format!("config.toml:2: references: {}", file.display());
    let text = std::fs::read_to_string(&file).unwrap();
    home.write("confide/values.toml", &format!("{text}# changed\n"));
    refused(&check(), 2, &[&place, "[reference_signature]"]);
    home.write("confide/values.toml", &text);
    std::fs::remove_file(home.path("confide/values.toml.sig")).unwrap();
    refused(&check(), 1, &[&place, "[file_unreadable]"]);
    home.write("confide/policy.toml", policy);
    refused(&check(), 2, &[&place, "[references_not_asked]"]);
}

#[test]
fn the_proxy_takes_how_long_it_drains_and_what_it_logs_from_the_settings() {
    let home = Home::new();
    let proxy = ["proxy", "--offline", "--listen", "0.0.0.0:0", "--upstream", "https://127.0.0.1:1"];
    for (name, good, bad, why) in [
        (
            "drain_seconds",
            &["0", "3600"][..],
            &["3601", "-1", "soon"][..],
            "expected a whole number of seconds, 3600 at most",
        ),
        (
            "log_filter",
            &["off", "debug", "confide_client=trace,warn"],
            &["a=b=c"],
            "is not a list of levels or target=level",
        ),
        ("log_format", &["text", "json"], &["xml"], "is neither `text` nor `json`"),
    ] {
        let (flag, variable) =
            (format!("--{}", name.replace('_', "-")), format!("CONFIDE_{}", name.to_uppercase()));
        for value in good {
            refused(
                &home.command(&proxy).env(&variable, value).output().unwrap(),
                2,
                &["[listen_not_loopback]"],
            );
            refused(
                &home.run(&[&proxy[..], &[&format!("{flag}={value}")]].concat()),
                2,
                &["[listen_not_loopback]"],
            );
            assert_eq!(home.shown(name, &[(&variable, value)])["value"], *value);
        }
        for value in bad {
            let output = home.command(&proxy).env(&variable, value).output().unwrap();
            refused(&output, 2, &[&format!("{variable}: {name}: "), why, "[setting_invalid]"]);
            refused(&home.run(&[&proxy[..], &[&format!("{flag}={value}")]].concat()), 2, &[why]);
        }
    }
    home.configure("drain_seconds = 3601\n");
    refused(&home.run(&["config", "check"]), 2, &["config.toml:1: drain_seconds: "]);
}

/// What a library warns of would be lost without somebody who writes it down.
#[test]
fn what_libraries_warn_of_is_told_on_standard_error() {
    let home = Home::new();
    home.write("certificates.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let fetch = |words: &[&str]| {
        let mut command =
            home.command(&["collateral", "fetch", "--fmspc", "00806F050000", "--ca", "platform"]);
        let output = command
            .args(["--pccs", "https://127.0.0.1:1"])
            .args(words)
            .env("SSL_CERT_FILE", "certificates.pem")
            .output()
            .unwrap();
        assert_eq!(status(&output), 1);
        stderr(&output)
    };
    let told = fetch(&[]);
    assert!(
        told.contains(" WARN confide_endorser::trust: certificates of web authorities cannot be read "),
        "{told}"
    );
}
