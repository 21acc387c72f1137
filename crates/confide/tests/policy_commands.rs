//! `confide policy check`, `diff` and `explain` as a user meets them.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use support::{confide, status, stderr, stdout};

const CLIENT: &str = include_str!("../../../policies/client.toml");

fn built_in(name: &str) -> String {
    format!("{}/../../policies/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

/// A folder with policies made of the client's.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The client's policy with lines changed and text behind it.
fn client(changes: &[(&str, &str)], more: &str) -> String {
    let mut text = CLIENT.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    format!("{text}\n{more}")
}

fn grace(until: &str) -> String {
    format!(
        "[[tdx.grace]]\nname = \"bios\"\nstatus = \"OutOfDate\"\nadvisories = [\"INTEL-SA-01397\"]\nuntil = {until}\nreason = \"in December\"\n"
    )
}

fn check(path: &Path, at: &str) -> String {
    let output = confide(&["policy", "check", "--at", at, path.to_str().unwrap()]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn check_tells_waivers_and_graces_and_warns_of_those_that_have_ended() {
    let folder = Folder::new();
    let path = folder.write("policy.toml", &client(&[], &grace("2026-12-31")));
    let told = check(&path, "2026-12-31T23:59:59Z");
    assert!(told.contains("policy \"client\", 37 waivers, 1 graces\n"), "{told}");
    assert!(
        told.contains("  tdx.mr_seam: the TDX module is appraised by its signer and TCB status\n"),
        "{told}"
    );
    assert!(
        told.contains(
            "  tdx.grace.bios: OutOfDate with INTEL-SA-01397 until 2026-12-31T23:59:59Z (in December)\n"
        ),
        "{told}"
    );
    let ended = "warning: the grace \"bios\" ended at 2026-12-31T23:59:59Z: it accepts nothing any more";
    assert!(!told.contains(ended), "{told}");
    assert!(check(&path, "2027-01-01T00:00:00Z").contains(ended));
    // Without a time, it is now.
    let past = folder.write("past.toml", &client(&[], &grace("2020-12-31")));
    let told = stdout(&confide(&["policy", "check", past.to_str().unwrap()]));
    assert!(told.contains("ended at 2020-12-31"), "{told}");
}

#[test]
fn check_warns_of_what_accepts_nothing_and_of_what_is_not_looked_at() {
    let folder = Folder::new();
    let at = "2026-10-01T00:00:00Z";
    let told = check(Path::new(&built_in("client")), at);
    assert!(
        told.contains("warning: there is no reference set, so that nothing is accepted by: tdx.mr_td"),
        "{told}"
    );
    let digest = "11".repeat(32);
    let set = format!("[reference.mine]\nmodel = [\"{digest}\"]\n");
    let told = check(&folder.write("partial.toml", &client(&[], &set)), at);
    assert!(told.contains("warning: the reference set mine has no mr_td, rtmr0"), "{told}");
    let changes = [("model = { from = \"reference\" }", "model = { any_of = [] }")];
    let told = check(&folder.write("unused.toml", &client(&changes, &set)), at);
    assert!(told.contains("warning: model of the reference set mine is not looked at"), "{told}");
    let nothing = told.lines().find(|line| line.contains("warning: lists without a value accept nothing: "));
    let named: Vec<&str> = nothing.unwrap().split([' ', ',']).collect();
    assert!(named.contains(&"claims.model"), "{told}");
    // A set of an SEV-SNP guest is held against the fields of the table [snp] alone, and one of a TD against the others.
    let report = format!("[reference.snp]\nmeasurement = [\"{}\"]\n", "22".repeat(48));
    let told = check(&folder.write("report.toml", &client(&[], &report)), at);
    assert!(!told.contains("reference set snp"), "{told}");
    let unused = format!("{report}host_data = [\"{digest}\"]\n");
    let told = check(&folder.write("host-data.toml", &client(&[], &unused)), at);
    assert!(told.contains("warning: host_data of the reference set snp is not looked at"), "{told}");
    let lacking = format!("[reference.snp]\nhost_data = [\"{digest}\"]\n");
    let told = check(&folder.write("no-measurement.toml", &client(&[], &lacking)), at);
    assert!(told.contains("warning: the reference set snp has no measurement: it matches nothing"), "{told}");
    let none = check(&folder.write("empty.toml", &client(&[], "[reference.none]\n")), at);
    assert!(none.contains("warning: the reference set none has no mr_td, rtmr0"), "{none}");
    let inspect = std::fs::read_to_string(built_in("inspect")).unwrap();
    let signed = "[signed_references]\nname = \"x\"\nkeys = [\"302a300506032b65700321001111111111111111111111111111111111111111111111111111111111111111\"]\nminimum_version = 1\nsets = \"all\"\n";
    let told = check(&folder.write("signed.toml", &format!("{inspect}\n{signed}")), at);
    assert!(told.contains("warning: no field is taken from the signed file"), "{told}");
}

#[test]
fn check_refuses_what_is_no_policy() {
    let folder = Folder::new();
    let revoked = [(
        "tcb_status = { any_of = [\"UpToDate\"] }\n# What",
        "tcb_status = { any_of = [\"Revoked\"] }\n# What",
    )];
    let no_key = "[signed_references]\nname = \"x\"\nkeys = []\nminimum_version = 1\nsets = \"all\"\n";
    for (what, text, word) in [
        ("revoked", client(&revoked, ""), "accepts Revoked"),
        ("no reason", client(&[], &grace("2026-12-31").replace("in December", " ")), "without a reason"),
        ("a name twice", client(&[], &grace("2026-12-31").repeat(2)), "stands twice"),
        ("no key", client(&[], no_key), "keys is empty"),
        ("a bad set name", client(&[], "[reference.\"a b\"]\n"), "a b"),
        ("an unknown value of a set", client(&[], "[reference.a]\nmrtd = []\n"), "mrtd"),
    ] {
        let output = confide(&["policy", "check", folder.write("bad.toml", &text).to_str().unwrap()]);
        assert_eq!(status(&output), 30, "{what}");
        assert!(stderr(&output).contains(word), "{what}: {}", stderr(&output));
    }
}

fn diff(before: &Path, after: &Path) -> (i32, String) {
    let output = confide(&["policy", "diff", before.to_str().unwrap(), after.to_str().unwrap()]);
    (status(&output), stdout(&output))
}

#[test]
fn diff_tells_the_direction_of_each_change() {
    let folder = Folder::new();
    let before = folder.write("before.toml", CLIENT);
    let cases: [(&str, String, i32, &str, &str); 14] = [
        ("nothing", CLIENT.to_owned(), 0, "", "0 looser, 0 stricter, 0 other, 0 reworded"),
        (
            "another order",
            client(
                &[(
                    "[\"e702060000000000\", \"e700060000000000\"]",
                    "[\"e700060000000000\", \"e702060000000000\"]",
                )],
                "",
            ),
            0,
            "",
            "0 looser",
        ),
        (
            "a status more",
            client(
                &[(
                    "tcb_status = { any_of = [\"UpToDate\"] }\n#",
                    "tcb_status = { any_of = [\"UpToDate\", \"OutOfDate\"] }\n#",
                )],
                "",
            ),
            10,
            "looser    tdx.tcb_status: + OutOfDate",
            "1 looser",
        ),
        (
            "a value less",
            client(&[("any_of = [1, 2, 4, 8]", "any_of = [1, 8]")], ""),
            0,
            "stricter  devices.gpu_count: - 2, - 4",
            "1 stricter",
        ),
        (
            "another value",
            client(&[("any_of = [\"builtin\"]", "any_of = [\"external\"]")], ""),
            10,
            "other     claims.engine: - builtin, + external",
            "1 other",
        ),
        (
            "another reason",
            client(&[("any platform that Intel certified", "whatever")], ""),
            0,
            "reworded  tdx.ppid: waived: any platform that Intel certified -> waived: whatever",
            "1 reworded",
        ),
        (
            "a platform denied",
            client(
                &[(
                    "any platform that Intel certified\", deny = []",
                    "any platform that Intel certified\", deny = [\"00112233445566778899aabbccddeeff\"]",
                )],
                "",
            ),
            0,
            "stricter  tdx.ppid.deny: + 00112233445566778899aabbccddeeff",
            "1 stricter",
        ),
        (
            "an earlier recovery",
            client(&[("at_least = 19", "at_least = 18")], ""),
            10,
            "looser    tdx.tcb_evaluation: at least 19 -> at least 18",
            "1 looser",
        ),
        (
            "a longer life",
            client(&[("max_age_seconds = 300", "max_age_seconds = 600")], ""),
            10,
            "looser    freshness.max_age_seconds: at most 300 -> at most 600",
            "1 looser",
        ),
        (
            "no batches",
            client(&[("batch = \"accept\"", "batch = \"refuse\"")], ""),
            0,
            "stricter  freshness.batch: accept -> refuse",
            "1 stricter",
        ),
        (
            "a grace",
            client(&[], &grace("2026-12-31")),
            10,
            "looser    tdx.grace.bios: nothing -> OutOfDate with INTEL-SA-01397 until 2026-12-31T23:59:59Z",
            "1 looser",
        ),
        (
            "a reference set",
            client(&[], &format!("[reference.mine]\nimage = [\"{}\"]\n", "11".repeat(32))),
            10,
            "looser    reference.mine.image: nothing -> any of 1111",
            "1 looser",
        ),
        (
            "a reference set of a report",
            client(&[], &format!("[reference.snp]\nmeasurement = [\"{}\"]\n", "11".repeat(48))),
            10,
            "looser    reference.snp.measurement: nothing -> any of 1111",
            "1 looser",
        ),
        (
            "host data of the reference set",
            client(
                &[(
                    "host_data = { any_of = [\"0000000000000000000000000000000000000000000000000000000000000000\"] }",
                    "host_data = { from = \"reference\" }",
                )],
                "",
            ),
            10,
            "other     snp.host_data: ",
            "1 other",
        ),
    ];
    for (what, text, expected, line, summary) in cases {
        let after = folder.write("after.toml", &text);
        let (code, told) = diff(&before, &after);
        assert_eq!(code, expected, "{what}: {told}");
        assert!(told.contains(line) && told.contains(summary), "{what}: {told}");
        let (_, back) = diff(&after, &before);
        let opposite = line.split_whitespace().next().map(|word| match word {
            "looser" => "stricter",
            "stricter" => "looser",
            other => other,
        });
        assert!(opposite.is_none_or(|word| back.starts_with(word)), "{what}: {back}");
    }
    let longer = folder.write("longer.toml", &client(&[], &grace("2027-12-31")));
    let shorter = folder.write("shorter.toml", &client(&[], &grace("2026-12-31")));
    assert_eq!(diff(&longer, &shorter).0, 0);
    assert_eq!(diff(&shorter, &longer).0, 10);
    let danger = PathBuf::from(built_in("danger-simulator"));
    let (code, told) = diff(&before, &danger);
    assert_eq!(code, 10);
    assert!(told.contains("other     danger.tdx_root_spki_sha256: "), "{told}");
}

#[test]
fn the_table_of_models_is_told_compared_and_held_against_what_is_accepted() {
    let folder = Folder::new();
    let (one, two) = ("11".repeat(32), "22".repeat(32));
    let accepting = format!("model = {{ any_of = [\"{one}\"] }}");
    let changes = [("model = { from = \"reference\" }", accepting.as_str())];
    let write = |name: &str, table: &str| folder.write(name, &client(&changes, table));
    let without = write("without.toml", "");
    let small = write("small.toml", &format!("[models]\nsmall = [\"{one}\"]\n"));
    let both = write("both.toml", &format!("[models]\nsmall = [\"{one}\"]\n\"a/b\" = [\"{two}\"]\n"));

    let explain = |path: &Path| {
        let told = stdout(&confide(&["policy", "explain", path.to_str().unwrap()]));
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let heading = "Which models requests may name, each with the SHA-256 of its manifest";
    let told = explain(&both);
    assert!(
        told.contains(&format!("{heading} - The model of a request is one of a/b = {two}, small = {one}.")),
        "{told}"
    );
    assert!(
        explain(&without).contains(&format!("{heading} - The model of a request may be any that there is."))
    );

    for (before, after, status, word) in [
        (&without, &small, 0, "stricter"),
        (&small, &both, 10, "looser"),
        (&both, &small, 0, "stricter"),
        (&small, &without, 10, "looser"),
    ] {
        let (found, told) = diff(before, after);
        assert_eq!(found, status, "{told}");
        assert!(told.contains(&format!("{word:<9} models: ")), "{told}");
    }
    let at = "2026-10-01T00:00:00Z";
    let refused = format!("warning: models: \"a/b\" stands for {two}, which claims.model does not accept");
    assert!(check(&both, at).contains(&refused), "{}", check(&both, at));
    assert!(!check(&small, at).contains("models:"));
    let empty = check(&write("empty.toml", "[models]\n"), at);
    let nothing = empty.lines().find(|line| line.contains("lists without a value accept nothing")).unwrap();
    assert!(nothing.contains("models"), "{empty}");
}

#[test]
fn explain_tells_every_field_in_a_sentence() {
    let folder = Folder::new();
    let sets =
        "[reference.mine]\nimage = [\"1111111111111111111111111111111111111111111111111111111111111111\"]\n";
    let changes = [(
        "any platform that Intel certified\", deny = []",
        "any platform that Intel certified\", deny = [\"00112233445566778899aabbccddeeff\"]",
    )];
    let path = folder.write("policy.toml", &client(&changes, &format!("{}{sets}", grace("2026-12-31"))));
    let output = confide(&["policy", "explain", path.to_str().unwrap()]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let told = stdout(&output);
    for sentence in [
        "- The TCB status is UpToDate.",
        "- Until 2026-12-31T23:59:59Z, the TCB status may also be OutOfDate where nothing but INTEL-SA-01397 and what other graces for it name is open (tdx.grace.bios).",
        "- The lower tcbEvaluationDataNumber of TCB info and QE identity is at least 19.",
        "- The age of TCB info in days is at most 14.",
        "- Not looked at: the platform by its PPID (any platform that Intel certified).",
        "- The platform by its PPID is not 00112233445566778899aabbccddeeff.",
        "- MRTD, the measurement of the TD's firmware, is that of the reference set.",
        "- MEASUREMENT, the launch digest, is that of the reference set.",
        "- RTMR3, the runtime events, is what the verifier computes from the evidence document and its own challenge.",
        "- VMPL, the privilege level of the requester, is 0.",
        "- The reserved bytes of the quote header are 00000000.",
        "- The attributes of service TDs are 0000000000000000.",
        "- Whether CHIP_ID is masked: false.",
        "- REPORTDATA is what the verifier computes from the evidence document and its own challenge.",
        "- No certificate of a device's chain, or of the signers of its manifests, is revoked.",
        "- Each egress rule that lets the host see or answer: nothing is accepted.",
        "- The image of the reference set mine is 1111111111111111111111111111111111111111111111111111111111111111.",
        "- A quote that several clients share: accepted.",
    ] {
        assert!(told.contains(&format!("{sentence}\n")), "{sentence}\n{told}");
    }
    let policy = confide_policy::AppraisalPolicy::parse(
        &std::fs::read_to_string(&path).unwrap(),
        confide_policy::Loaded::Normally,
    )
    .unwrap();
    let silent = 4; // The deny lists of tdx.fmspc, snp.chip_id, devices.driver and devices.vbios deny nothing.
    assert_eq!(told.lines().filter(|line| line.starts_with("- ")).count(), policy.fields().len() - silent);
    let output = confide(&["policy", "explain", &built_in("danger-simulator")]);
    assert!(stdout(&output).contains("SIMULATED"), "{}", stdout(&output));
}

#[test]
fn what_a_policy_says_moves_no_terminal() {
    let folder = Folder::new();
    let changes = [
        ("name = \"client\"", "name = \"\\u001b[2Jclient\""),
        ("any platform that", "\\u001b[2Jany platform that"),
    ];
    let path = folder.write("policy.toml", &client(&changes, ""));
    let path = path.to_str().unwrap();
    for arguments in [
        &["policy", "check", path][..],
        &["policy", "explain", path],
        &["policy", "diff", &built_in("client"), path],
    ] {
        let output = confide(arguments);
        assert!(stdout(&output).contains("\\u{1b}[2J"), "{arguments:?}: {}", stdout(&output));
        assert!(!stdout(&output).contains('\x1b'), "{arguments:?}");
    }
}

#[test]
fn every_command_about_policies_prints_json_where_asked() {
    let folder = Folder::new();
    let path = |path: PathBuf| path.display().to_string();
    let policy = path(folder.write("policy.toml", &client(&[], &grace("2026-12-31"))));
    let at = "2027-01-01T00:00:00Z";
    let checked = support::json(&confide(&["policy", "check", "--json", "--at", at, &policy]));
    assert_eq!((&checked["file"], &checked["policy"]), (&policy.clone().into(), &"client".into()));
    assert_eq!(checked["waivers"].as_array().unwrap().len(), 37);
    assert_eq!(checked["graces"][0]["reason"], "in December");
    let ended = "the grace \"bios\" ended at 2026-12-31T23:59:59Z: it accepts nothing any more";
    assert!(checked["warnings"].as_array().unwrap().contains(&ended.into()), "{checked}");

    let diff = confide(&["policy", "diff", "--json", &built_in("client"), &policy]);
    assert_eq!(status(&diff), 10, "{}", stderr(&diff));
    let changes = support::json(&diff)["changes"].clone();
    assert_eq!(changes.as_array().unwrap().len(), 1);
    assert_eq!((&changes[0]["change"], &changes[0]["field"]), (&"looser".into(), &"tdx.grace.bios".into()));

    let told = support::json(&confide(&["policy", "explain", "--json", &policy]));
    assert_eq!((&told["policy"], &told["simulated"]), (&"client".into(), &false.into()));
    let accepts = told["accepts"].as_array().unwrap();
    let text = stdout(&confide(&["policy", "explain", &policy]));
    assert!(accepts.len() > 50 && accepts.iter().all(|one| text.contains(one["says"].as_str().unwrap())));

    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/references/");
    let references =
        folder.write("a.toml", &std::fs::read_to_string(format!("{example}example.toml")).unwrap());
    let (key, references) = (format!("{example}ed25519.key.pem"), path(references));
    let signed = support::json(&confide(&["policy", "sign", "--json", "--key", &key, &references]));
    assert_eq!((&signed["signature"], &signed["version"]), (&format!("{references}.sig").into(), &3.into()));
    let text = stdout(&confide(&["policy", "sign", "--key", &key, &references]));
    assert!(text.contains(&format!("keys = [\"{}\"]\n", signed["key"].as_str().unwrap())), "{text}");
}

fn shipped(name: &str) -> String {
    format!("{}/../../policies/egress/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_takes_egress_policies_by_their_content_and_warns_of_what_the_host_sees() {
    let nothing = confide(&["policy", "check", &shipped("deny-all.toml")]);
    assert_eq!(status(&nothing), 0, "{}", stderr(&nothing));
    let told = stdout(&nothing);
    let head = "egress policy \"deny-all\", 0 bootstrap rules, 0 serving rules\n  digest: ";
    assert!(told.contains(head) && !told.contains("warning"), "{told}");
    let told = stdout(&confide(&["policy", "check", &shipped("example.toml")]));
    for expected in [
        "5 bootstrap rules, 1 serving rules\n",
        "  warning: bootstrap: the host sees or may answer passthrough mirror.example.org:443\n",
        "  warning: bootstrap: the host sees or may answer plain packages.example.org:80\n",
        "  warning: bootstrap: the host sees or may answer tcp 198.51.100.0/24:8080,8443\n",
        "  warning: bootstrap: whoever can have a name below tools.example.com gets what",
    ] {
        assert!(told.contains(expected), "{told}\nexpected {expected}");
    }
    assert_eq!(told.matches("warning").count(), 4, "{told}");
    let listed = support::json(&confide(&["policy", "check", "--json", &shipped("example.toml")]));
    assert_eq!(listed["egress_policy"], "example");
    assert_eq!(listed["serving"][0], "terminate search.tools.example.com:443");
    assert_eq!(listed["warnings"].as_array().unwrap().len(), 4);
}

#[test]
fn an_egress_policy_in_an_appraisal_policys_place_is_told_as_what_it_is() {
    let (egress, client) =
        (shipped("example.toml"), concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/client.toml"));
    for words in [&["policy", "explain", &egress][..], &["policy", "diff", client, &egress]] {
        let refused = confide(words);
        assert_eq!(status(&refused), 30, "{words:?}");
        let told = stderr(&refused);
        assert!(
            told.contains("expected an appraisal policy, found an egress policy [policy_malformed]"),
            "{told}"
        );
        assert!(told.contains("egress policies are for `confide policy check`"), "{told}");
    }
}

#[test]
fn check_refuses_an_egress_policy_that_is_none_with_its_code() {
    let folder = Folder::new();
    let good = std::fs::read_to_string(shipped("example.toml")).unwrap();
    for (from, to, code) in [
        ("log = \"drops\"", "log = \"some\"", "[policy_malformed]"),
        ("policy/1", "policy/2", "[policy_malformed]"),
        ("connections = 8\n", "connections = 1000\n", "[egress_serving_wider]"),
    ] {
        let path = folder.write("egress.toml", &good.replacen(from, to, 1));
        let output = confide(&["policy", "check", path.to_str().unwrap()]);
        assert_eq!(status(&output), 30, "{from}");
        assert!(stderr(&output).contains(code), "{}", stderr(&output));
    }
}
