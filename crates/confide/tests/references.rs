//! Signed files of reference values: made by `confide policy sign` or OpenSSL, taken with `--references`, remembered.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_testkit::snp::SnpEvidence;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Sample, confide, json as parsed, run, status, stderr, stdout};

const INSPECT: &str = include_str!("../../../policies/inspect.toml");
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/references/");

/// A publisher with a key, a client with a policy and a memory, and a recorded quote.
struct Scene {
    folder: tempfile::TempDir,
    sample: Sample,
    measurements: Value,
}

impl Scene {
    fn new() -> Self {
        let sample = Sample::version_4();
        let measurements = parsed(&sample.verify(&["--json"]))["measurements"].clone();
        Self { folder: tempfile::tempdir().unwrap(), sample, measurements }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A file of reference values that the quote matches, written as `references.toml`.
    fn publish(&self, version: u64, more: &str) {
        let one = |field: &str| format!("{field} = [{}]\n", self.measurements[field]);
        let values: String = ["mr_td", "rtmr0", "rtmr1", "rtmr2"].map(one).concat();
        let text = format!(
            "format = \"confide-reference-values/1\"\nname = \"acme\"\nversion = {version}\nissued = 2025-01-01\nexpires = 2025-12-31\n{more}\n[reference.release-7]\n{values}"
        );
        std::fs::write(self.path("references.toml"), text).unwrap();
    }

    fn sign(&self, key: &str) -> Output {
        confide(&[
            "policy",
            "sign",
            "--key",
            &format!("{EXAMPLE}{key}.key.pem"),
            &self.text("references.toml"),
        ])
    }

    /// A policy that takes the measurements from the file, with the table that `policy sign` printed.
    fn trust(&self, signed: &Output) {
        assert_eq!(status(signed), 0, "{}", stderr(signed));
        let (_, table) =
            stdout(signed).split_once("In policies:").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let lines = INSPECT.lines().map(|line| match line.split_once(" = ") {
            Some((field @ ("mr_td" | "rtmr0" | "rtmr1" | "rtmr2"), _)) => {
                format!("{field} = {{ from = \"reference\" }}\n")
            }
            _ => format!("{line}\n"),
        });
        std::fs::write(self.path("policy.toml"), format!("{}{table}", lines.collect::<String>())).unwrap();
    }

    fn flags(&self) -> Vec<String> {
        [
            "--policy",
            &self.text("policy.toml"),
            "--references",
            &self.text("references.toml"),
            "--state",
            &self.text("state"),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn verify(&self) -> Output {
        let flags = self.flags();
        let more: Vec<&str> = flags.iter().map(String::as_str).chain(["--json"]).collect();
        self.sample.verify(&more)
    }

    fn code(&self) -> Value {
        parsed(&self.verify())["code"].clone()
    }
}

#[test]
fn a_signed_file_is_taken_under_keys_of_both_kinds() {
    let scene = Scene::new();
    for key in ["ed25519", "p256"] {
        scene.publish(7, "");
        scene.trust(&scene.sign(key));
        let output = scene.verify();
        let verdict = parsed(&output);
        assert_eq!(
            (status(&output), &verdict["reference_set"]),
            (0, &json!("release-7")),
            "{key}: {}",
            stderr(&output)
        );
        let tree = run(&["verify", "quote"], [scene.sample.flags(), scene.flags()].concat(), &[]);
        assert!(stdout(&tree).contains("├─ reference set: release-7\n"), "{}", stdout(&tree));
    }
}

#[test]
fn openssl_agrees_on_signatures_both_ways() {
    let scene = Scene::new();
    let (file, signature) = (scene.text("references.toml"), scene.text("references.toml.sig"));
    scene.publish(7, "");
    let openssl = |arguments: &[&str]| Command::new("openssl").args(arguments).output();
    if openssl(&["version"]).is_err() {
        println!("not run: 4 comparisons with OpenSSL, which is not installed");
        return;
    }
    let key = |name: &str| format!("{EXAMPLE}{name}");
    let (ed25519, p256) = (key("ed25519"), key("p256"));
    scene.trust(&scene.sign("ed25519"));
    let verified = openssl(&[
        "pkeyutl",
        "-verify",
        "-rawin",
        "-pubin",
        "-inkey",
        &format!("{ed25519}.pem"),
        "-in",
        &file,
        "-sigfile",
        &signature,
    ]);
    assert!(verified.unwrap().status.success());
    let made = openssl(&[
        "pkeyutl",
        "-sign",
        "-rawin",
        "-inkey",
        &format!("{ed25519}.key.pem"),
        "-in",
        &file,
        "-out",
        &signature,
    ]);
    assert!(made.unwrap().status.success());
    assert_eq!(status(&scene.verify()), 0);
    scene.trust(&scene.sign("p256"));
    let verified =
        openssl(&["dgst", "-sha256", "-verify", &format!("{p256}.pem"), "-signature", &signature, &file]);
    assert!(verified.unwrap().status.success());
    let made = openssl(&["dgst", "-sha256", "-sign", &format!("{p256}.key.pem"), "-out", &signature, &file]);
    assert!(made.unwrap().status.success());
    assert_eq!(status(&scene.verify()), 0);
}

#[test]
fn the_committed_example_is_signed_anew_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("example.toml");
    std::fs::copy(format!("{EXAMPLE}example.toml"), &copy).unwrap();
    let output =
        confide(&["policy", "sign", "--key", &format!("{EXAMPLE}ed25519.key.pem"), copy.to_str().unwrap()]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let committed = std::fs::read(format!("{EXAMPLE}example.toml.ed25519.sig")).unwrap();
    assert_eq!(std::fs::read(folder.path().join("example.toml.sig")).unwrap(), committed);
}

#[test]
fn an_older_file_is_refused_after_a_newer_one_was_accepted() {
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    assert_eq!(scene.code(), Value::Null);
    scene.publish(9, "");
    scene.sign("ed25519");
    assert_eq!(scene.code(), Value::Null);
    scene.publish(8, "");
    scene.sign("ed25519");
    assert_eq!(scene.code(), "reference_version");
    scene.publish(9, "# with other contents");
    scene.sign("ed25519");
    assert_eq!(scene.code(), "reference_version", "the number seen last, with other contents");
    scene.publish(9, "");
    scene.sign("ed25519");
    assert_eq!(scene.code(), Value::Null, "what was refused is not remembered");
    // Whose memory is elsewhere has seen nothing.
    scene.publish(8, "");
    scene.sign("ed25519");
    std::fs::rename(scene.path("state"), scene.path("gone")).unwrap();
    assert_eq!(scene.code(), Value::Null);
}

#[test]
fn what_is_refused_is_not_remembered() {
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    assert_eq!(scene.code(), Value::Null);
    scene.publish(99, "");
    assert_eq!(scene.code(), "reference_signature", "the signature is that of version 7");
    scene.sign("p256");
    assert_eq!(scene.code(), "reference_signature", "the key is another one");
    let text = std::fs::read_to_string(scene.path("references.toml")).unwrap();
    std::fs::write(
        scene.path("references.toml"),
        text.replace("expires = 2025-12-31", "expires = 2025-02-01"),
    )
    .unwrap();
    scene.sign("ed25519");
    assert_eq!(scene.code(), "reference_window");
    scene.publish(7, "");
    scene.sign("ed25519");
    assert_eq!(scene.code(), Value::Null);
}

#[test]
fn a_record_holds_the_file_and_what_had_been_seen() {
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    assert_eq!(scene.code(), Value::Null);
    let record = |version| {
        scene.publish(version, "");
        scene.sign("ed25519");
        let out = scene.text(&format!("record-{version}"));
        let flags = [scene.sample.flags(), scene.flags()].concat();
        let recorded = run(&["record", "quote", "--json"], flags, &["--out", &out]);
        (status(&recorded), recorded.stdout, out)
    };
    let (accepted, accepted_verdict, accepted_file) = record(7);
    let (refused, refused_verdict, refused_file) = record(6);
    assert_eq!((accepted, refused), (0, 10));
    for name in ["references.toml", "references.toml.sig", "policy.toml"] {
        std::fs::remove_file(scene.path(name)).unwrap();
    }
    std::fs::remove_dir_all(scene.path("state")).unwrap();
    for (file, expected, verdict) in
        [(accepted_file, 0, accepted_verdict), (refused_file, 10, refused_verdict)]
    {
        let replayed = confide(&["replay", "--json", &file]);
        assert_eq!((status(&replayed), replayed.stdout), (expected, verdict), "{file}");
    }
    let bytes = std::fs::read(scene.path("record-6")).unwrap();
    let record = confide_evidence::record::Record::decode(&bytes).unwrap();
    assert_eq!(record.references.unwrap().last_seen.unwrap().version, 7);
}

#[test]
fn many_processes_keep_one_memory() {
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(scene.code(), Value::Null));
        }
    });
    let state: Value =
        serde_json::from_slice(&std::fs::read(scene.path("state/references.json")).unwrap()).unwrap();
    assert_eq!((&state["series"][0]["name"], &state["series"][0]["version"]), (&json!("acme"), &json!(7)));
    assert_eq!(state["series"].as_array().unwrap().len(), 1);
    assert!(!scene.path("state/references.json.new").exists());
}

#[test]
fn a_memory_that_cannot_be_read_or_written_is_an_error() {
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    assert_eq!(scene.code(), Value::Null);
    let path = scene.path("state/references.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    for broken in [
        "",
        "{}",
        &whole.replace("state/1", "state/2"),
        &whole.replace("\"version\": 7", "\"version\": -7"),
        &whole[..whole.len() / 2],
    ] {
        std::fs::write(&path, broken).unwrap();
        let output = scene.verify();
        assert_eq!(status(&output), 30, "{broken}");
        assert!(stderr(&output).contains("[state_malformed]"), "{}", stderr(&output));
    }
    std::fs::remove_dir_all(scene.path("state")).unwrap();
    std::fs::write(scene.path("state"), "a file").unwrap();
    let output = scene.verify();
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).contains("[state_unwritable]"), "{}", stderr(&output));
}

#[test]
fn the_memory_is_in_the_users_state_folder_where_none_is_named() {
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    let flags = [scene.sample.flags(), scene.flags()[..4].to_vec()].concat();
    let with = |name: &str, value: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        command.args(["verify", "quote"]).args(&flags).env_remove("HOME").env_remove("XDG_STATE_HOME");
        command.env(name, value).output().unwrap()
    };
    assert_eq!(status(&with("XDG_STATE_HOME", &scene.path("xdg"))), 0);
    assert!(scene.path("xdg/confide/references.json").exists());
    assert_eq!(status(&with("HOME", &scene.path("home"))), 0);
    assert!(scene.path("home/.local/state/confide/references.json").exists());
    let nowhere = with("XDG_STATE_HOME", Path::new("relative"));
    assert_eq!(status(&nowhere), 2, "a relative path is ignored, as the XDG specification has it");
    assert!(stderr(&nowhere).contains("[state_folder]"), "{}", stderr(&nowhere));
}

/// Which series somebody asks for is nobody else's business.
#[test]
fn the_memory_is_readable_by_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    assert_eq!(status(&scene.verify()), 0);
    let state = scene.path("state");
    assert_eq!(mode(&state), 0o700);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["references.json", "references.lock"]);
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }

    // What an interrupted run of a program with another habit left behind does not stay open.
    let left = state.join("references.json.new");
    std::fs::write(&left, "").unwrap();
    std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o644)).unwrap();
    scene.publish(8, "");
    scene.trust(&scene.sign("ed25519"));
    assert_eq!(status(&scene.verify()), 0);
    assert_eq!(mode(&state.join("references.json")), 0o600);
}

#[test]
fn wrong_use_has_its_exit_status() {
    let scene = Scene::new();
    scene.publish(7, "");
    scene.trust(&scene.sign("ed25519"));
    let references = scene.text("references.toml");
    let unasked = scene.sample.verify(&["--references", &references]);
    assert_eq!(status(&unasked), 2);
    assert!(stderr(&unasked).contains("[references_not_asked]"), "{}", stderr(&unasked));
    let missing = scene.sample.verify(&["--json", "--policy", &scene.text("policy.toml")]);
    assert_eq!((status(&missing), &parsed(&missing)["code"]), (10, &json!("reference_file")));
    std::fs::remove_file(scene.path("references.toml.sig")).unwrap();
    assert_eq!(status(&scene.verify()), 1);
    let elsewhere = scene.text("elsewhere");
    scene.sign("ed25519");
    std::fs::rename(scene.path("references.toml.sig"), &elsewhere).unwrap();
    let flags = [scene.flags(), vec!["--references-signature".to_owned(), elsewhere]].concat();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert_eq!(status(&scene.sample.verify(&flags)), 0);
}

#[test]
fn only_a_file_of_reference_values_is_signed_and_only_with_a_fit_key() {
    let scene = Scene::new();
    scene.publish(7, "maximum = 8");
    let output = scene.sign("ed25519");
    assert_eq!(status(&output), 30);
    assert!(stderr(&output).contains("[reference_file_malformed]") && stderr(&output).contains("maximum"));
    assert!(!scene.path("references.toml.sig").exists());
    scene.publish(7, "");
    for bad in [b"no key".to_vec(), vec![], std::fs::read(format!("{EXAMPLE}ed25519.pem")).unwrap()] {
        std::fs::write(scene.path("key"), bad).unwrap();
        let output =
            confide(&["policy", "sign", "--key", &scene.text("key"), &scene.text("references.toml")]);
        assert_eq!(status(&output), 30);
        assert!(stderr(&output).contains("[signing_key]"), "{}", stderr(&output));
    }
}

/// A simulated SEV-SNP report with its endorsements as files, and the policy that accepts it, with its measurement and host
/// data taken from the file of reference values.
struct Report {
    scene: Scene,
}

impl Report {
    fn new() -> Self {
        let scene = Scene::new();
        let evidence = SnpEvidence::at(1_780_000_000).unwrap();
        let chain = confide_evidence::pem::encode(&evidence.certificates);
        for (name, bytes) in
            [("report", evidence.report), ("chain", chain.into_bytes()), ("list", evidence.list)]
        {
            std::fs::write(scene.path(name), bytes).unwrap();
        }
        Self { scene }
    }

    fn publish(&self, version: u64, measurement: &str) {
        let zeros = "0".repeat(64);
        let text = format!(
            "format = \"confide-reference-values/1\"\nname = \"acme\"\nversion = {version}\nissued = 2026-01-01\nexpires = 2026-12-31\n\n[reference.release-8]\nmeasurement = [\"{measurement}\"]\nhost_data = [\"{zeros}\"]\n"
        );
        std::fs::write(self.scene.path("references.toml"), text).unwrap();
    }

    fn trust(&self, signed: &Output) {
        assert_eq!(status(signed), 0, "{}", stderr(signed));
        let told = stdout(signed);
        let table = told.split_once("In policies:").unwrap().1;
        let (before, snp) = DANGER.split_once("[snp]\n").unwrap();
        let lines = snp.lines().map(|line| match line.split_once(" = ") {
            Some((field @ ("measurement" | "host_data"), _)) => {
                format!("{field} = {{ from = \"reference\" }}\n")
            }
            _ => format!("{line}\n"),
        });
        let text = format!("{before}[snp]\n{}{table}", lines.collect::<String>());
        std::fs::write(self.scene.path("danger-report.toml"), text).unwrap();
    }

    fn flags(&self) -> Vec<String> {
        let text = |name: &str| self.scene.text(name);
        let mut flags = vec!["--report".to_owned(), text("report"), "--cert".into(), text("chain")];
        flags.extend(["--crl".into(), text("list"), "--at".into(), "2026-05-29T00:00:00Z".into()]);
        flags.extend(["--danger-policy".into(), text("danger-report.toml"), "--state".into(), text("state")]);
        flags.extend(["--references".into(), text("references.toml"), "--json".into()]);
        flags
    }

    fn verify(&self) -> Output {
        run(&["verify", "snp"], self.flags(), &[])
    }
}

const DANGER: &str = include_str!("../../../policies/danger-simulator.toml");

#[test]
fn a_report_is_held_against_a_signed_file_and_no_older_one_is_taken() {
    let report = Report::new();
    let genuine = DANGER.lines().find_map(|line| line.strip_prefix("measurement = { any_of = [\"")).unwrap();
    let genuine = genuine.split('"').next().unwrap();
    report.publish(8, genuine);
    report.trust(&report.scene.sign("ed25519"));
    let output = report.verify();
    let verdict = parsed(&output);
    assert_eq!(
        (status(&output), &verdict["reference_set"]),
        (0, &json!("release-8")),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    // The record has the file, and its replay finds the same.
    let out = report.scene.text("appraisals.confide");
    let recorded = run(&["record", "snp"], report.flags(), &["--out", &out]);
    assert_eq!((status(&recorded), &recorded.stdout), (0, &output.stdout), "{}", stderr(&recorded));
    let replayed = confide(&["replay", "--json", &out]);
    assert_eq!((status(&replayed), &replayed.stdout), (0, &output.stdout), "{}", stderr(&replayed));
    // Another measurement, a broken signature, an older version.
    report.publish(9, &"11".repeat(48));
    assert_eq!(status(&report.scene.sign("ed25519")), 0);
    assert_eq!(parsed(&report.verify())["code"], "reference_set");
    report.publish(8, genuine);
    assert_eq!(parsed(&report.verify())["code"], "reference_signature");
    assert_eq!(status(&report.scene.sign("ed25519")), 0);
    assert_eq!(parsed(&report.verify())["code"], "reference_version", "version 9 was seen");
    // Without the file that the policy names there is nothing to hold the report against.
    let mut flags = report.flags();
    let at = flags.iter().position(|flag| flag == "--references").unwrap();
    flags.drain(at..at + 2);
    let at = flags.iter().position(|flag| flag == "--state").unwrap();
    flags.drain(at..at + 2);
    assert_eq!(parsed(&run(&["verify", "snp"], flags, &[]))["code"], "reference_file");
}
