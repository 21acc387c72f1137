//! The command line, in either build.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use confide_simulator::{GpuOptions, NodeOptions, SimulatedNode};

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
    for command in ["serve", "boot", "check", "egress", "completions", "man"] {
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
    for (command, synopsis) in [("serve", " --config <FILE>\n"), ("man", " [--dir <DIR>]\n")] {
        let page = folder.path().join(format!("confide-guest-{command}.1"));
        let text = std::fs::read_to_string(page).unwrap().replace('\\', "");
        assert!(text.split(".SH SYNOPSIS").nth(1).unwrap().contains(synopsis), "{text}");
    }
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

/// The committed configuration with the source of endorsements that it names for `boot`.
fn for_a_boot(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("update = ") && !line.starts_with("cache = "));
    let text = lines.collect::<Vec<_>>().join("\n");
    let file = "source = \"file\"\nfile = \"/var/lib/confide/collateral.json\"";
    text.replacen("source = \"intel\"", file, 1)
}

#[test]
fn the_committed_configuration_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/guest.toml");
    let said = stdout(&["check", "--config", path]);
    assert!(said.lines().next().unwrap().ends_with(": valid"), "{said}");
    assert!(said.contains("configuration under serve: ") && said.contains("refused under boot: "), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("guest.toml");
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(&image, for_a_boot(&text)).unwrap();
    let said = stdout(&["check", "--config", image.to_str().unwrap()]);
    for named in ["configuration under serve: ", "configuration under boot: ", "egress policy under boot: "] {
        let digest = said.lines().find_map(|line| line.strip_prefix(named)).unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said}");
    }
}

/// Standard output and exit status of `egress`.
fn egress(arguments: &[&str]) -> (String, Option<i32>) {
    let output = run(&[&["egress"], arguments].concat());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/egress/example.toml");

#[test]
fn egress_test_names_the_rule_that_decides() {
    for (arguments, expected, status) in [
        (
            &["search.tools.example.com", "443"][..],
            "allowed: search.tools.example.com:443/tcp while serving, by the rule terminate search.tools.example.com:443\n\
             at most 8 connections at a time, 1048576 bytes a second, 104857600 bytes in all\n",
            0,
        ),
        (
            &["--phase", "bootstrap", "packages.example.org", "80"],
            "by the rule plain packages.example.org:80\nat most 64 connections at a time, 16777216 bytes a second, \
             1073741824 bytes in all\nthe host sees or may answer it\n",
            0,
        ),
        (&["--phase", "bootstrap", "198.51.100.7", "8080"], "by the rule tcp 198.51.100.0/24:8080,8443\n", 0),
        (
            &["models.example.com", "443"],
            "denied: models.example.com:443/tcp while serving: no rule of this phase is for this host [host_not_listed]\n",
            10,
        ),
        (&["search.tools.example.com", "80"], "[port_not_listed]\n", 10),
        (&["--protocol", "udp", "search.tools.example.com", "443"], "[protocol_not_listed]\n", 10),
        (&["::1", "443"], "denied: [::1]:443/tcp while serving", 10),
    ] {
        let (said, found) = egress(&[&["test", "--policy", POLICY], arguments].concat());
        assert!(said.contains(expected), "{said}\nexpected {expected}");
        assert_eq!(found, Some(status), "{arguments:?}");
    }
}

#[test]
fn egress_plan_is_what_boot_puts_into_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.toml");
    std::fs::write(&path, TDX.replace(":0", ":9443")).unwrap();
    let path = path.to_str().unwrap();
    let checked = stdout(&["check", "--config", path]);
    let digest = checked.lines().find_map(|line| line.strip_prefix("egress policy under boot: ")).unwrap();
    let (said, status) = egress(&["plan", "--config", path]);
    assert_eq!(status, Some(0));
    assert!(said.starts_with(&format!("# egress policy deny-all, serving: {digest}\n# rules: ")), "{said}");
    assert!(said.contains("tcp dport 9443 accept") && !said.contains("skuid"), "{said}");
    let of_policy = |phase| egress(&["plan", "--policy", POLICY, "--phase", phase]).0;
    let (bootstrap, serving) = (of_policy("bootstrap"), of_policy("serving"));
    assert!(bootstrap.contains("ip daddr 198.51.100.0/24 tcp dport { 8080, 8443 } accept"), "{bootstrap}");
    assert!(serving.contains("ip daddr 192.0.2.53 tcp dport 853 accept"), "{serving}");
    assert!(
        !serving.contains("198.51.100.0/24 tcp") && serving.contains("tcp dport 8443 accept"),
        "{serving}"
    );
    let (again, _) = egress(&["plan", "--policy", POLICY]);
    assert_eq!(again, serving, "the phase is serving where none is named");
    let (workload, _) = egress(&["plan", "--policy", POLICY, "--network", "workload"]);
    assert!(workload.contains("redirect to :15001") && !workload.contains("skuid"), "{workload}");
    let (alone, _) = egress(&["plan", "--config", path, "--network", "workload"]);
    assert!(alone.contains("policy drop;") && !alone.contains("redirect"), "{alone}");
}

#[test]
fn what_is_no_egress_policy_or_destination_is_refused_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &[u8]| {
        let path = folder.path().join("egress.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = std::fs::read_to_string(POLICY).unwrap();
    let cases = [
        (b"\xff".to_vec(), 30, "not UTF-8 text [egress_policy_invalid]"),
        (b"name = \"x\"".to_vec(), 30, "missing field `format`"),
        (
            good.replace("policy/1", "policy/2").into_bytes(),
            30,
            "expected \"confide-egress-policy/1\" [egress_policy_invalid]",
        ),
        (good.replace("log =", "logs =").into_bytes(), 30, "unknown field `logs`"),
        (
            good.replace("connections = 8\n", "connections = 1000\n").into_bytes(),
            30,
            "[egress_serving_wider]",
        ),
        (
            good.replace("protocol = \"tcp\"", "protocol = \"udp\"").into_bytes(),
            2,
            "carries TCP alone: remove the rule [egress_policy_invalid]",
        ),
        (vec![b'#'; 300_000], 30, "at most 262144 are accepted [egress_policy_invalid]"),
    ];
    for (text, status, expected) in cases {
        let path = write(&text);
        for arguments in [&["plan", "--policy", &path][..], &["test", "--policy", &path, "a.example", "443"]]
        {
            let output = run(&[&["egress"], arguments].concat());
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains(expected), "{said}\nexpected {expected}");
            assert_eq!(output.status.code(), Some(status), "{said}");
            // The error, and what to do: an excerpt of the file is no part of a sentence.
            assert_eq!(said.lines().count(), 2, "{said}");
            assert!(output.stdout.is_empty() && !said.contains('\u{fffd}'), "{said}");
        }
    }
    let output = run(&["egress", "plan", "--policy", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("[egress_policy_unreadable]"));
    for arguments in [
        &["plan"][..],
        &["plan", "--policy", POLICY, "--config", "x"],
        &["plan", "--policy", POLICY, "--phase", "boot"],
        &["test", "--policy", POLICY, "A.example", "443"],
        &["test", "--policy", POLICY, "a.example.", "443"],
        &["test", "--policy", POLICY, "a.example", "0"],
        &["test", "--policy", POLICY, "a.example", "65536"],
        &["test", "--policy", POLICY, "a.example"],
        &["test", "a.example", "443"],
    ] {
        let output = run(&[&["egress"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn serve_refuses_what_only_boot_sets_up() {
    let tables = "[[volumes]]\nname = \"heap\"\nrole = \"scratch\"\ndevice = \"/dev/vdb\"\n";
    let egress = "[egress]\ninline = \"format = \\\"confide-egress-policy/1\\\"\\nname = \\\"x\\\"\\nlog = \\\"none\\\"\"\n";
    for tables in [tables, "[network]\naddress = \"10.0.2.15/24\"\n", egress] {
        assert_eq!(with_config("check", &format!("{TDX}{tables}")).0, Some(0));
        let (status, said) = with_config("serve", &format!("{TDX}{tables}"));
        assert_eq!(status, Some(2));
        assert!(said.contains("confide-guest boot") && said.contains("[boot_needed]"), "{said}");
    }
}

#[test]
fn a_boot_takes_endorsements_from_a_file_alone() {
    let volume = "[[volumes]]\nname = \"heap\"\nrole = \"scratch\"\ndevice = \"/dev/vdb\"\n";
    for service in ["source = \"intel\"\n", "source = \"pccs\"\npccs = \"https://pccs.example:8081\"\n"] {
        let service = format!("[endorsements]\n{service}");
        let (status, said) = with_config("check", &format!("{TDX}{service}{volume}"));
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("[endorsements_locked]") && said.contains("source = \"file\""), "{said}");
        // Where serve would take it, check says both.
        assert_eq!(with_config("check", &format!("{TDX}{service}")).0, Some(0));
        // The machine is left alone: nothing but the configuration was read.
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, format!("{TDX}{service}")).unwrap();
        let output = run(&["boot", "--config", disk.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let console = String::from_utf8(output.stdout).unwrap();
        assert_eq!(console.lines().count(), 1, "{console}");
        assert!(console.contains("\"endorsements_locked\""), "{console}");
    }
    let file = "[endorsements]\nsource = \"file\"\nfile = \"/c\"\n";
    assert_eq!(with_config("check", &format!("{TDX}{file}{volume}")).0, Some(0));
}

#[test]
fn off_the_image_an_egress_policy_is_checked_by_its_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.toml");
    let check = |table: &str| {
        std::fs::write(&path, format!("{TDX}[egress]\n{table}\n")).unwrap();
        run(&["check", "--config", path.to_str().unwrap()])
    };
    for table in
        ["policy = \"/etc/confide/not-of-this-machine.toml\"".to_owned(), format!("policy = \"{POLICY}\"")]
    {
        let output = check(&table);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("give the file's text in the field inline"), "{said}");
    }
    let text = std::fs::read_to_string(POLICY).unwrap();
    let output = check(&format!("inline = '''\n{text}'''"));
    let said = String::from_utf8(output.stdout).unwrap();
    let digest = said.lines().find_map(|line| line.strip_prefix("egress policy under boot: ")).unwrap();
    let (plan, _) = egress(&["plan", "--policy", POLICY]);
    assert!(plan.lines().next().unwrap().ends_with(digest), "{plan}");
    let (plan, _) = egress(&["plan", "--config", path.to_str().unwrap()]);
    assert!(plan.lines().next().unwrap().ends_with(digest), "{plan}");
}

#[test]
fn a_boot_that_fails_says_so_on_its_console_and_with_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    for (content, code) in [
        (&[TDX.as_bytes(), b"fast = true\n\0\0"].concat(), "config_unknown_field"),
        (&[TDX.as_bytes(), b"\0more"].concat(), "configuration_disk_invalid"),
        (&vec![b'#'; 64 * 1024 + 1], "configuration_disk_invalid"),
    ] {
        std::fs::write(&disk, content).unwrap();
        let output = run(&["boot", "--config", disk.to_str().unwrap()]);
        assert!(!output.status.success());
        let console = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<serde_json::Value> =
            console.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{console}");
        assert_eq!((&lines[0]["event"], &lines[0]["code"]), (&"failed".into(), &code.into()));
    }
}

#[test]
fn bad_configurations_are_told_by_boot() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let check = |what: &str, (status, code): End| {
        let output = run(&["boot", "--config", disk.to_str().unwrap()]);
        let (console, said) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let line: serde_json::Value = serde_json::from_str(&console).unwrap();
        let found = (output.status.code(), &line["event"], &line["code"]);
        assert_eq!(found, (Some(status), &"failed".into(), &code.into()), "{what}: {console}{said}");
        assert!(!said.contains("panicked"), "{what}: {said}");
    };
    let (invalid, text) = ((2, "config_invalid"), (2, "config_not_utf8"));
    let end = [TDX.as_bytes(), b"\0\0"].concat();
    for (what, bytes, expected) in [
        ("empty", Vec::new(), invalid),
        ("nothing but zeros", vec![0; 4096], invalid),
        ("cut", TDX.as_bytes()[..TDX.len() / 2].to_vec(), SYNTAX),
        ("one byte too many", [TDX.as_bytes(), b"\x01"].concat(), SYNTAX),
        ("0xff", vec![0xff; 1000], text),
        ("no UTF-8 within", [TDX.as_bytes(), b"# \xff\n\0"].concat(), text),
        ("a byte behind the end", [&end[..], b"\x01"].concat(), (2, "configuration_disk_invalid")),
        ("oversized", [&end[..], &vec![0; 64 * 1024]].concat(), (2, "configuration_disk_invalid")),
    ] {
        std::fs::write(&disk, bytes).unwrap();
        check(what, expected);
    }
    std::fs::remove_file(&disk).unwrap();
    check("missing", (1, "system_failed"));
    std::fs::create_dir(&disk).unwrap();
    check("a folder", (1, "system_failed"));
}

#[test]
fn without_tdx_the_platform_tdx_is_refused_and_nothing_else_takes_its_place() {
    if Path::new("/sys/kernel/config/tsm/report").exists() {
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

/// Exit status and code.
type End = (i32, &'static str);

/// Every form in which a file is not what it should be, and the file as it is; `None` is a folder in its place.
fn forms(whole: &[u8], limit: usize) -> [(&'static str, Option<Vec<u8>>); 7] {
    let mut oversized = whole.to_vec();
    oversized.resize(limit + 1, b' ');
    [
        ("whole", Some(whole.to_vec())),
        ("empty", Some(Vec::new())),
        ("cut", Some(whole[..whole.len() / 2].to_vec())),
        ("one byte too many", Some([whole, b"\x01"].concat())),
        ("oversized", Some(oversized)),
        ("0xff", Some(vec![0xff; 1000])),
        ("a folder", None),
    ]
}

/// Puts each form of a file, further ones and none at all at `path`, and holds what `command` says of it against `ends`, in
/// the order of [`forms`] and then of the missing file.
fn held(
    path: &Path,
    (whole, limit): (&[u8], usize),
    ends: [End; 8],
    more: Vec<(&'static str, Vec<u8>, End)>,
    command: &[&str],
) {
    let check = |what: &str, expected: End| {
        let output = run(command);
        let said = String::from_utf8(output.stderr).unwrap();
        let (status, code) = expected;
        let told = code.is_empty() || said.contains(&format!("[{code}]"));
        let as_expected = output.status.code() == Some(status) && told && !said.contains("panicked");
        assert!(as_expected, "{command:?}, {what}: {:?}, not {expected:?}: {said}", output.status.code());
    };
    for (what, bytes, expected) in more {
        std::fs::write(path, bytes).unwrap();
        check(what, expected);
    }
    for ((what, bytes), expected) in forms(whole, limit).into_iter().zip(ends) {
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => {
                std::fs::remove_file(path).unwrap();
                std::fs::create_dir(path).unwrap();
            }
        }
        check(what, expected);
    }
    std::fs::remove_dir(path).unwrap();
    check("missing", ends[7]);
}

const SYNTAX: End = (2, "config_syntax");
const UNREADABLE: End = (1, "config_unreadable");

#[test]
fn bad_configurations_are_told_by_check_and_serve() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.toml");
    // What is whole and names no GPUs ends with what this machine has not: the platform, or the model.
    let ends = |good: End| {
        let (large, text) = ((2, "config_too_large"), (2, "config_not_utf8"));
        [good, (2, "config_invalid"), SYNTAX, SYNTAX, large, text, UNREADABLE, UNREADABLE]
    };
    let more = || {
        let with = |text: &str| [TDX, text].concat().into_bytes();
        vec![
            ("no UTF-8 within", [TDX.as_bytes(), b"# \xff\n"].concat(), (2, "config_not_utf8")),
            ("JSON", b"{\"platform\": \"tdx\"}".to_vec(), SYNTAX),
            ("a field twice", with("name = \"m\"\n"), SYNTAX),
            ("a number for text", TDX.replace("\"m\"", "1").into_bytes(), (2, "config_invalid")),
            ("text for a number", with("[limits]\nrequests = \"many\"\n"), (2, "config_invalid")),
            (
                "nothing of what there must be some of",
                with("[limits]\nrequests = 0\n"),
                (2, "config_invalid"),
            ),
            ("a platform to come", TDX.replace("tdx", "sgx").into_bytes(), (2, "config_invalid")),
            ("GPUs without their policy", with("[gpus]\nendorsements = \"e\"\n"), (2, "config_invalid")),
            (
                "a folder that is a list",
                with("[gpus]\npolicy = \"p\"\nendorsements = []\n"),
                (2, "config_invalid"),
            ),
            ("another field of GPUs", with("[gpus]\nocsp = true\n"), (2, "config_unknown_field")),
        ]
    };
    let (file, limit) = (path.to_str().unwrap(), confide_service::config::MAX_CONFIG);
    let whole = (TDX.as_bytes(), limit);
    held(&path, whole, ends((0, "")), more(), &["check", "--config", file]);
    held(&path, whole, ends((1, "")), more(), &["serve", "--config", file]);
}

#[test]
fn bad_files_of_egress_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.toml");
    let file = path.to_str().unwrap();
    // Half of a policy may be one: line ends fill it up until its half ends behind an equals sign.
    let mut policy = std::fs::read(POLICY).unwrap();
    while policy[policy.len() / 2 - 1] != b'=' {
        policy.push(b'\n');
    }
    let (invalid, unreadable) = ((30, "egress_policy_invalid"), (1, "egress_policy_unreadable"));
    for (command, good) in [
        (&["egress", "plan", "--policy", file][..], (0, "")),
        (&["egress", "plan", "--phase", "bootstrap", "--network", "workload", "--policy", file], (0, "")),
        (&["egress", "test", "--policy", file, "search.tools.example.com", "443"], (0, "")),
        (&["egress", "test", "--policy", file, "none.example.com", "443"], (10, "host_not_listed")),
    ] {
        let more = vec![
            ("no UTF-8 within", [&policy[..], b"# \xff\n"].concat(), invalid),
            ("a table that policies have not", [&policy[..], b"[unknown]\nfield = 1\n"].concat(), invalid),
            ("an appraisal policy", include_bytes!("../../../policies/client.toml").to_vec(), invalid),
        ];
        let good = if good.0 == 10 { (10, "") } else { good };
        let ends = [good, invalid, invalid, invalid, invalid, invalid, unreadable, unreadable];
        held(&path, (&policy, 256 * 1024), ends, more, command);
    }
    let (large, text) = ((2, "config_too_large"), (2, "config_not_utf8"));
    let ends = [(0, ""), (2, "config_invalid"), SYNTAX, SYNTAX, large, text, UNREADABLE, UNREADABLE];
    let limit = confide_service::config::MAX_CONFIG;
    held(&path, (TDX.as_bytes(), limit), ends, Vec::new(), &["egress", "plan", "--config", file]);
}

#[test]
fn a_bad_certificate_of_the_caching_service_is_told_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let [path, config] = ["pccs.pem", "guest.toml"].map(|name| folder.path().join(name));
    let table = format!(
        "[endorsements]\nsource = \"pccs\"\npccs = \"https://127.0.0.1:1\"\npccs_certificate = \"{}\"\n",
        path.display()
    );
    std::fs::write(&config, format!("{TDX}{table}")).unwrap();
    let der = include_bytes!("../../../fixtures/snp/common/key.der").to_vec();
    let whole = confide_evidence::pem::encode(std::slice::from_ref(&der));
    let (bad, unreadable) = ((2, "endorser_certificate"), (1, "pccs_certificate_unreadable"));
    // What is whole ends with what this machine has not.
    let ends = [(1, ""), bad, bad, bad, bad, bad, unreadable, unreadable];
    let limit = confide_evidence::pem::MAX_PEM;
    let command = ["serve", "--config", config.to_str().unwrap()];
    held(&path, (whole.as_bytes(), limit), ends, vec![("DER", der, bad)], &command);
}

#[test]
fn bad_files_of_the_gpus_are_told_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let (client, danger) = ("policies/client.toml", "policies/danger-simulator.toml");
    let [client, danger] = [client, danger].map(|name| std::fs::read(root.join(name)).unwrap());
    let gpus =
        SimulatedNode::with_options(NodeOptions { gpus: vec![GpuOptions::hopper(0)], switches: Vec::new() });
    let manifest = gpus.unwrap().gpus[0].rims(1_790_812_800)[0].encode().unwrap();
    std::fs::create_dir(path("endorsements")).unwrap();
    let config = |policy: &str, endorsements: &str| {
        let (policy, endorsements) = (path(policy), path(endorsements));
        let tables = format!(
            "[gpus]\npolicy = \"{}\"\nendorsements = \"{}\"\n",
            policy.display(),
            endorsements.display()
        );
        std::fs::write(path("guest.toml"), format!("{TDX}{tables}")).unwrap();
    };
    let command = path("guest.toml").display().to_string();
    let command = ["serve", "--config", &command];
    // What is whole ends with what this machine has not.
    let good = (1, "");

    let (invalid, unreadable) = ((2, "gpu_policy_invalid"), (1, "gpu_policy_unreadable"));
    config("policy.toml", "endorsements");
    let more = vec![
        ("no UTF-8 within", [&client[..], b"# \xff\n"].concat(), invalid),
        ("a table that policies have not", [&client[..], b"[unknown]\nfield = 1\n"].concat(), invalid),
        ("JSON", b"{\"format\": 1}".to_vec(), invalid),
        ("a danger policy", danger, (2, "gpu_policy_danger")),
    ];
    let ends = [good, invalid, invalid, invalid, invalid, invalid, unreadable, unreadable];
    held(&path("policy.toml"), (&client, confide_policy::MAX_POLICY), ends, more, &command);

    std::fs::write(path("policy.toml"), &client).unwrap();
    let (invalid, large) = ((2, "gpu_endorsements_invalid"), (2, "gpu_endorsements_too_large"));
    let more = vec![
        ("a policy", client.clone(), invalid),
        ("another document", b"<html></html>".to_vec(), invalid),
        ("no UTF-8 within", [&manifest[..100], b"\xff", &manifest[100..]].concat(), invalid),
        ("a certificate", std::fs::read(root.join("fixtures/snp/common/key.der")).unwrap(), invalid),
    ];
    // A folder within the folder is none of its files, and a file that is gone neither.
    let ends = [good, invalid, invalid, invalid, large, invalid, good, good];
    held(&path("endorsements/manifest.xml"), (&manifest, 1024 * 1024), ends, more, &command);

    config("policy.toml", "policy.toml");
    let output = run(&command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("[gpu_endorsements_unreadable]"), "{said}");
}
