//! Records: replayed to the same bytes, and to what `verify` gives where the inputs are changed.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_evidence::bytes::ByteString;
use confide_evidence::record::{Finding, Record, Subject, read_all};
use confide_testkit::gpu::GpuEvidence;
use std::path::{Path, PathBuf};
use support::{Sample, confide, run, status, stderr, stdout};

/// What a case does to a record.
type Change<'a> = Box<dyn Fn(&mut Record) + 'a>;

struct File {
    folder: tempfile::TempDir,
    sample: Sample,
}

impl File {
    /// A file with one record of a recorded quote.
    fn recorded() -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap(), sample: Sample::version_4() };
        assert_eq!(status(&file.append()), 0);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("appraisals.confide")
    }

    fn append(&self) -> std::process::Output {
        run(&["record", "quote"], self.sample.flags(), &["--json", "--out", self.path().to_str().unwrap()])
    }

    fn records(&self) -> Vec<Record> {
        read_all(&std::fs::read(self.path()).unwrap()).collect::<Result<_, _>>().unwrap()
    }

    /// Writes the records with their hashes recomputed.
    fn write(&self, mut records: Vec<Record>) {
        let mut bytes = Vec::new();
        let mut previous = confide_evidence::record::FIRST;
        for record in &mut records {
            record.prev = previous;
            previous = record.hash();
            bytes.extend(record.encode());
        }
        std::fs::write(self.path(), bytes).unwrap();
    }

    fn replay(&self, more: &[&str]) -> std::process::Output {
        run(&["replay", "--json"], vec![self.path().display().to_string()], more)
    }

    fn verify(&self, quote: &Path, time: &str, more: &[&str]) -> std::process::Output {
        let flags = self.sample.flags_with(quote, &self.sample.collateral, time);
        run(&["verify", "quote", "--json"], flags, more)
    }
}

#[test]
fn the_verdict_is_reproduced_byte_for_byte() {
    let file = File::recorded();
    let replayed = file.replay(&[]);
    assert_eq!(status(&replayed), 0, "{}", stderr(&replayed));
    assert_eq!(replayed.stdout, file.verify(&file.sample.quote, file.sample.time, &[]).stdout);
    assert_eq!(file.records()[0].outcome.as_deref().unwrap(), stdout(&replayed).trim_end());
    assert_eq!(file.records()[0].prev.0, [0; 32]);
}

#[test]
fn it_is_reproduced_from_the_inputs_not_from_the_stored_outcome() {
    let file = File::recorded();
    let expected = file.replay(&[]).stdout;
    let mut records = file.records();
    records[0].outcome = None;
    file.write(records);
    let replayed = file.replay(&[]);
    assert_eq!((status(&replayed), replayed.stdout), (0, expected));
}

#[test]
fn changed_inputs_give_what_verify_gives_for_them() {
    let file = File::recorded();
    let original = file.records();
    let changed_quote = {
        let mut bytes = std::fs::read(&file.sample.quote).unwrap();
        bytes[200] ^= 1;
        bytes
    };
    let quote_path = file.folder.path().join("changed.quote");
    std::fs::write(&quote_path, &changed_quote).unwrap();
    let policy_text = include_str!("../../../policies/inspect.toml").replace("\"UpToDate\"", "\"OutOfDate\"");
    let policy_path = file.folder.path().join("changed.toml");
    std::fs::write(&policy_path, &policy_text).unwrap();
    let quote = &file.sample.quote;
    let cases: [(&str, Change<'_>, std::process::Output); 3] = [
        (
            "quote",
            Box::new(|record| record.subject = Subject::Quote(ByteString(changed_quote.clone()))),
            file.verify(&quote_path, file.sample.time, &[]),
        ),
        (
            "policy",
            Box::new(|record| record.policy.clone_from(&policy_text)),
            file.verify(quote, file.sample.time, &["--policy", policy_path.to_str().unwrap()]),
        ),
        (
            "time",
            Box::new(|record| record.time += 365 * 86_400),
            file.verify(quote, "2026-06-20T00:00:00Z", &[]),
        ),
    ];
    for (what, change, verified) in cases {
        assert_eq!(status(&verified), 10, "{what}");
        let mut records = original.clone();
        change(&mut records[0]);
        file.write(records.clone());
        let replayed = file.replay(&[]);
        assert_eq!(support::verdict(&replayed), stdout(&verified), "{what}");
        assert_eq!(status(&replayed), 10, "{what}");
        assert!(stderr(&replayed).contains("[replay_mismatch]"), "{what}: {}", stderr(&replayed));
        records[0].outcome = None;
        file.write(records);
        let replayed = file.replay(&[]);
        assert_eq!((replayed.stdout.clone(), status(&replayed)), (verified.stdout, 10), "{what}");
        assert!(!stderr(&replayed).contains("replay_mismatch"), "{what}");
    }
    // A policy that nobody can read, with a line that would be repeated whole.
    for text in ["nonsense".to_owned(), format!("x=\"{}", "A".repeat(900_000))] {
        std::fs::write(&policy_path, &text).unwrap();
        let verified = file.verify(quote, file.sample.time, &["--policy", policy_path.to_str().unwrap()]);
        let mut records = original.clone();
        records[0].policy = text;
        file.write(records);
        let replayed = file.replay(&[]);
        assert_eq!((status(&verified), status(&replayed)), (30, 30), "{}", stderr(&replayed));
        let (verdict, json) = (stdout(&verified), support::json(&verified));
        assert_eq!((&json["outcome"], &json["code"]), (&"malformed".into(), &"policy_malformed".into()));
        assert!(verdict.len() < 10_000 && stderr(&verified).len() < 10_000, "{}", verdict.len());
        assert_eq!(stdout(&replayed), verdict);
    }
}

#[test]
fn a_second_opinion_is_recorded_and_replayed_without_the_second_verifier() {
    let file = File { folder: tempfile::tempdir().unwrap(), sample: Sample::version_4() };
    let out = file.path();
    let more = ["--json", "--cross-check", "--out", out.to_str().unwrap()];
    let recorded = run(&["record", "quote"], file.sample.flags(), &more);
    assert_eq!(status(&recorded), 0, "{}", stderr(&recorded));
    let mut records = file.records();
    let opinion = records[0].second_opinion.clone().unwrap();
    assert_eq!(opinion.found, Finding::Status("UpToDate".into()));
    assert_eq!(opinion.verifier, "dcap-qvl 0.7.1");
    assert_eq!(file.replay(&[]).stdout, recorded.stdout);
    // Of other inputs the opinion says nothing, also where those are accepted by themselves.
    let mut later = file.records();
    later[0].time += 1;
    later[0].outcome = None;
    file.write(later);
    let replayed = file.replay(&[]);
    assert_eq!((status(&replayed), &support::json(&replayed)["code"]), (10, &"cross_check_inputs".into()));
    // What counts is what the record says, not what the second verifier would say now.
    records[0].second_opinion.as_mut().unwrap().found = Finding::Status("OutOfDate".into());
    records[0].outcome = None;
    file.write(records);
    let replayed = file.replay(&[]);
    assert_eq!(status(&replayed), 10);
    let verdict = support::json(&replayed);
    assert_eq!(verdict["code"], "cross_check_disagrees");
    let text = stdout(&replayed);
    assert!(text.contains("here TCB status UpToDate, dcap-qvl 0.7.1: TCB status OutOfDate"), "{text}");
}

#[test]
fn a_changed_outcome_is_a_mismatch() {
    let file = File::recorded();
    let mut records = file.records();
    records[0].outcome = records[0].outcome.take().map(|outcome| outcome.replace("UpToDate", "OutOfDate"));
    file.write(records);
    let replayed = file.replay(&[]);
    assert_eq!(status(&replayed), 10);
    assert!(stderr(&replayed).contains("[replay_mismatch]"), "{}", stderr(&replayed));
    // Programs read both: what the inputs give, and that something else was stored.
    let lines: Vec<serde_json::Value> =
        stdout(&replayed).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [verdict, error] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(
        (&verdict["outcome"], &error["error"]["code"]),
        (&"accepted".into(), &"replay_mismatch".into())
    );
}

#[test]
fn records_are_chained() {
    let file = File::recorded();
    assert_eq!(status(&file.append()), 0);
    let records = file.records();
    assert_eq!(records[1].prev, records[0].hash());
    assert_eq!(status(&file.replay(&[])), 0);
    let head = records[1].hash().to_string();
    assert_eq!(status(&file.replay(&["--head", &head])), 0);
    // The second record alone, and the file truncated after the first.
    std::fs::write(file.path(), records[1].encode()).unwrap();
    let replayed = file.replay(&[]);
    assert_eq!(status(&replayed), 10);
    assert!(stderr(&replayed).contains("[record_chain]"), "{}", stderr(&replayed));
    std::fs::write(file.path(), records[0].encode()).unwrap();
    assert_eq!(status(&file.replay(&[])), 0, "truncation shows against a head alone");
    let replayed = file.replay(&["--head", &head]);
    assert_eq!(status(&replayed), 10);
    assert!(stderr(&replayed).contains("[replay_head]"), "{}", stderr(&replayed));
    assert_eq!(status(&file.replay(&["--head", "no hash"])), 2);
}

#[test]
fn records_of_many_processes_are_one_chain() {
    let file = File::recorded();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(status(&file.append()), 0));
        }
    });
    assert_eq!(file.records().len(), 9);
    let replayed = file.replay(&[]);
    assert_eq!(status(&replayed), 0, "{}", stderr(&replayed));
}

#[test]
fn a_file_that_another_program_holds_is_refused_and_not_waited_for() {
    let file = File::recorded();
    let before = std::fs::read(file.path()).unwrap();
    let holder = std::fs::File::open(file.path()).unwrap();
    holder.try_lock().unwrap();
    let begun = std::time::Instant::now();
    let refused = file.append();
    assert_eq!(status(&refused), 1, "{}", stderr(&refused));
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it waits for the lock");
    let told = stderr(&refused);
    assert!(told.contains("[record_folder_in_use]"), "{told}");
    assert!(told.contains(file.path().to_str().unwrap()), "{told}");
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
    drop(holder);
    assert_eq!(status(&file.append()), 0);
}

#[test]
fn a_folder_in_the_place_of_a_file_is_told_what_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["replay", "inspect"] {
        let output = confide(&[command, folder.path().to_str().unwrap()]);
        let told = stderr(&output);
        assert_eq!(status(&output), 1, "{told}");
        assert!(told.contains("confide audit") && told.contains("appraisals.cbor"), "{told}");
    }
}

#[test]
fn faults_of_a_record_file_name_it() {
    let file = File::recorded();
    let path = file.path().display().to_string();
    std::fs::write(file.path(), "notes of somebody\n").unwrap();
    for output in [file.append(), file.replay(&[]), confide(&["inspect", &path])] {
        assert_eq!(status(&output), 30, "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("{path}: ")), "{}", stderr(&output));
    }
}

#[test]
fn a_record_that_nobody_could_read_is_not_written() {
    let file = File::recorded();
    let mut record = file.records().remove(0);
    record.evaluator = "x".repeat(confide_evidence::record::MAX_RECORD);
    let mut out = Vec::new();
    let refused = confide_record::append(&mut out, &record);
    assert!(matches!(refused, Err(confide_record::RecordError::Oversized(_))));
    assert!(out.is_empty());
}

/// Says that something was not shown here: the stages of `cargo xtask test` count lines of this form.
fn not_run(what: &str) {
    println!("not run: {what}");
}

#[test]
fn replay_needs_no_network() {
    let file = File::recorded();
    let expected = file.replay(&[]).stdout;
    let path = file.path().display().to_string();
    // The second form is for users who are not root.
    let refused = [&["--net"][..], &["--user", "--map-root-user", "--net"]].map(|flags| {
        let without = |program: &[&str]| {
            std::process::Command::new("unshare")
                .args(flags)
                .args(program)
                .output()
                .map_err(|error| error.to_string())
        };
        match without(&["true"]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Some(stderr(&output)),
            Err(error) => return Some(error),
        }
        let alone = without(&[env!("CARGO_BIN_EXE_confide"), "replay", "--json", &path]).unwrap();
        assert_eq!((status(&alone), alone.stdout == expected), (0, true), "{}", stderr(&alone));
        None
    });
    if refused.iter().all(Option::is_some) {
        not_run(&format!("replay without a network: unshare is not allowed here: {refused:?}"));
    }
}

/// A library that ends every program that reads the time of day or opens a socket, where `FORBID` names it.
const GUARD: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static void use(const char *what) {
    const char *forbidden = getenv("FORBID");
    if (!forbidden || !strstr(forbidden, what)) return;
    (void)!write(2, what, strlen(what));
    _exit(99);
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI) use("clock");
    return syscall(SYS_clock_gettime, clock, time);
}
int gettimeofday(struct timeval *restrict value, void *restrict zone) {
    use("clock");
    return syscall(SYS_gettimeofday, value, zone);
}
time_t time(time_t *value) {
    use("clock");
    return syscall(SYS_time, value);
}
int socket(int domain, int type, int protocol) {
    use("socket");
    return syscall(SYS_socket, domain, type, protocol);
}
"#;

#[test]
fn replay_reads_no_clock_and_opens_no_socket() {
    let file = File::recorded();
    let expected = file.replay(&[]).stdout;
    let (source, library) = (file.folder.path().join("guard.c"), file.folder.path().join("guard.so"));
    std::fs::write(&source, GUARD).unwrap();
    let built =
        std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).output();
    if !built.as_ref().is_ok_and(|built| built.status.success()) {
        return not_run(&format!("replay with clock and sockets forbidden: no C compiler: {built:?}"));
    }
    let guarded = |forbidden: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_confide"));
        let command = command.args(arguments).env("LD_PRELOAD", &library).env("FORBID", forbidden);
        let output = command.env("XDG_CACHE_HOME", file.folder.path()).output().unwrap();
        (output.status.code(), stderr(&output), output.stdout)
    };
    let replayed = guarded("clock socket", &["replay", "--json", file.path().to_str().unwrap()]);
    assert_eq!((replayed.0, replayed.1.as_str()), (Some(0), ""));
    assert_eq!(replayed.2, expected);
    // Commands that need the one or the other show that the library ends them.
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/inspect.toml");
    let (ended, said, _) = guarded("clock socket", &["policy", "check", policy]);
    assert_eq!((ended, said.as_str()), (Some(99), "clock"));
    let quote = file.sample.quote.to_str().unwrap();
    let fetch = ["collateral", "fetch", "--pccs", "https://127.0.0.1:9", "--quote", quote];
    let (ended, said, _) = guarded("socket", &fetch);
    assert_eq!((ended, said.as_str()), (Some(99), "socket"));
    let (ended, said, _) = guarded("", &fetch);
    assert_eq!(ended, Some(1), "{said}");
}

#[test]
fn bad_record_files_are_malformed() {
    let file = File::recorded();
    let bytes = std::fs::read(file.path()).unwrap();
    let cases: [(&str, Vec<u8>); 5] = [
        ("empty", vec![]),
        ("truncated", bytes[..bytes.len() - 1].to_vec()),
        ("trailing byte", [&bytes[..], &[0]].concat()),
        ("text", b"not a record".to_vec()),
        ("not UTF-8", vec![0xff; 64]),
    ];
    for (what, bytes) in cases {
        std::fs::write(file.path(), bytes).unwrap();
        let replayed = file.replay(&[]);
        assert_eq!(status(&replayed), 30, "{what}: {}", stderr(&replayed));
        assert!(stderr(&replayed).contains("[record_malformed]"), "{what}");
    }
    let missing = confide(&["replay", "/nonexistent/file"]);
    assert_eq!(status(&missing), 1);
}

#[test]
fn inspect_shows_records_without_appraising_them() {
    let file = File::recorded();
    let shown = confide(&["inspect", "--json", file.path().to_str().unwrap()]);
    assert_eq!(status(&shown), 0, "{}", stderr(&shown));
    assert!(stdout(&shown).contains("\"evaluator\":\"confide-verifier"), "{}", stdout(&shown));
    let bad = confide(&["inspect", "/dev/null"]);
    assert_eq!(status(&bad), 30);
}

#[test]
fn replay_and_inspect_call_simulated_evidence_so() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let policy = |from: &str, name: &str| {
        std::fs::copy(format!("{root}/{from}"), path(name)).unwrap();
        path(name)
    };
    let gpu = GpuEvidence::hopper([0x41; 32], 1_790_812_800).unwrap();
    std::fs::write(path("gpus.json"), gpu.list()).unwrap();
    let file = |name: &str| format!("{root}/fixtures/{name}");
    let snp = |name: &str| file(&format!("snp/common/{name}.der"));
    let (of_quote, of_report) = (
        policy("fixtures/tdx/common/quote.toml", "danger-quote.toml"),
        policy("fixtures/snp/common/report.toml", "danger-report.toml"),
    );
    let of_gpus = policy("policies/danger-simulator.toml", "danger-gpus.toml");
    let collateral = file("tdx/common/collateral.json");
    let (quote, broken) =
        (file("tdx/accept-v4/quote.bin"), file("tdx/quote_signature-mrtd-flipped/quote.bin"));
    let report = file("snp/accept-version-3/report.bin");
    let quoted = |quote: &str| {
        ["quote", "--quote", quote, "--collateral", &collateral, "--danger-policy", &of_quote]
            .map(str::to_owned)
    };
    let cases: [(&str, Vec<String>, &str); 4] = [
        ("a quote", quoted(&quote).to_vec(), "SIMULATED ACCEPTED"),
        ("a refused quote", quoted(&broken).to_vec(), "SIMULATED REJECTED (quote_signature)"),
        (
            "a report",
            [
                "snp",
                "--report",
                &report,
                "--cert",
                &snp("key"),
                &snp("issuer"),
                &snp("root"),
                "--crl",
                &snp("list"),
            ]
            .into_iter()
            .chain(["--danger-policy", &of_report])
            .map(str::to_owned)
            .collect(),
            "SIMULATED ACCEPTED",
        ),
        (
            "a GPU",
            ["gpu", "--evidence", &path("gpus.json"), "--danger-policy", &of_gpus]
                .map(str::to_owned)
                .to_vec(),
            "SIMULATED ACCEPTED",
        ),
    ];
    for (what, words, first) in cases {
        let out = path(what);
        let recorded = run(&["record"], words, &["--at", "2026-10-01T00:00:00Z", "--out", &out]);
        assert_eq!(stdout(&recorded).lines().next(), Some(first), "{what}: {}", stderr(&recorded));
        let replayed = confide(&["replay", &out]);
        assert_eq!(stdout(&replayed), stdout(&recorded), "{what}: {}", stderr(&replayed));
        let shown = stdout(&confide(&["inspect", &out]));
        assert_eq!(shown.lines().next(), Some("simulated: SIMULATED"), "{what}: {shown}");
        let shown = support::json(&confide(&["inspect", "--json", &out]));
        assert_eq!(shown["simulated"], "SIMULATED", "{what}");
    }
    // Without a record, names say it.
    let shown = stdout(&confide(&["inspect", &quote]));
    for line in ["0: SIMULATED SGX PCK Platform CA", "1: SIMULATED SGX Root CA"] {
        assert!(shown.contains(&format!("\npck_certificate.issuers.{line}\n")), "{shown}");
    }
    let shown = stdout(&confide(&["inspect", &file("tdx/accept-document/document.cbor")]));
    for line in
        ["claims.gpus.environment: SIMULATED", "cpu.decoded.pck_certificate.issuers.1: SIMULATED SGX Root CA"]
    {
        assert!(shown.contains(&format!("\n{line}\n")), "{shown}");
    }
}

#[test]
fn replay_and_inspect_call_genuine_evidence_simulated_nowhere() {
    let file = File::recorded();
    let path = file.path().display().to_string();
    let replayed = stdout(&confide(&["replay", &path]));
    assert!(replayed.starts_with("ACCEPTED\n") && !replayed.contains("SIMULATED"), "{replayed}");
    let shown = stdout(&confide(&["inspect", &path]));
    assert!(shown.starts_with("simulated: false\n") && !shown.contains("SIMULATED"), "{shown}");
    let shown = stdout(&confide(&["inspect", file.sample.quote.to_str().unwrap()]));
    assert!(shown.contains("\npck_certificate.issuers.1: Intel SGX Root CA\n"), "{shown}");
    // A record without its verdict says nothing of it.
    let mut records = file.records();
    records[0].outcome = None;
    file.write(records);
    let shown = stdout(&confide(&["inspect", &path]));
    assert!(shown.starts_with("simulated: null\n"), "{shown}");
}

#[test]
fn a_file_that_is_no_record_file_is_told_so_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let quote = std::fs::read(&Sample::version_4().quote).unwrap();
    for (bytes, words) in [
        (&quote[..], "record 0: "),
        (b"notes of somebody\n", "record 0: "),
        (b"\x01", "wrong shape: expected map, found an item with initial byte 0x01"),
        (b"\xa0", "wrong shape: missing field "),
        (b"\xa1\x64prev\x01", "wrong shape: "),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let replayed = confide(&["replay", path.to_str().unwrap()]);
        let told = stderr(&replayed);
        assert_eq!(status(&replayed), 30, "{told}");
        assert!(told.contains("this is no record file: ") && told.contains(words), "{told}");
        assert!(!told.contains("Core(") && !told.contains("Custom(") && !told.contains('{'), "{told}");
    }
}

/// What a program that was killed amid an append leaves.
#[test]
fn a_record_file_that_ends_with_a_part_of_a_record_says_what_to_do_and_is_healed_by_the_next_record() {
    let file = File::recorded();
    assert_eq!(status(&file.append()), 0);
    let whole = std::fs::read(file.path()).unwrap();
    let (one, cut) = (whole.len() / 2, whole.len() - 100);
    std::fs::write(file.path(), &whole[..cut]).unwrap();
    let replayed = file.replay(&[]);
    let told = stderr(&replayed);
    assert_eq!(status(&replayed), 30, "{told}");
    assert!(told.contains(": record 1: ") && told.contains("record to the file once more"), "{told}");

    let appended = file.append();
    let told = stderr(&appended);
    assert_eq!(status(&appended), 0, "{told}");
    assert!(
        told.starts_with(&format!("note: moved {} bytes that are part of no entry to ", cut - one)),
        "{told}"
    );
    let aside: Vec<PathBuf> = std::fs::read_dir(file.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| *path != file.path())
        .collect();
    let [aside] = aside.as_slice() else { panic!("{aside:?}") };
    assert!(aside.to_str().unwrap().contains("/appraisals.confide.torn-"), "{}", aside.display());
    assert_eq!(std::fs::read(aside).unwrap(), whole[one..cut]);
    assert_eq!(std::fs::read(file.path()).unwrap(), whole);
    assert_eq!(status(&file.replay(&[])), 0);
}

#[test]
fn another_time_shows_what_is_over_by_then() {
    let file = File::recorded();
    let late = ["--at", "2030-01-01T00:00:00Z"];
    let shown = file.replay(&late);
    assert_eq!(status(&shown), 10, "{}", stderr(&shown));
    let shown = support::json(&shown);
    assert_eq!((&shown["record"], &shown["hash"]), (&0.into(), &file.records()[0].hash().to_string().into()));
    let verified = support::json(&file.verify(&file.sample.quote, late[1], &[]));
    assert_eq!(shown["after"], verified);
    assert_eq!(shown["before"], support::json(&file.replay(&[])));
    let changes = shown["changes"].as_array().unwrap();
    let change = |field: &str, check: Option<&str>| {
        let of = |one: &&serde_json::Value| one["field"] == field && one["check"].as_str() == check;
        let found = changes.iter().find(of).unwrap_or_else(|| panic!("{field}: {changes:?}"));
        (found["before"].clone(), found["after"].clone())
    };
    assert_eq!(change("outcome", None), ("accepted".into(), "rejected".into()));
    assert_eq!(change("code", None), (serde_json::Value::Null, "validity".into()));
    assert_eq!(change("time", None), (file.sample.time.into(), late[1].into()));
    assert_eq!(change("status", Some("validity")), ("pass".into(), "fail".into()));
    assert!(changes.iter().all(|one| one["check"] != "mr_td"), "what is the same is not told");

    let path = file.path().display().to_string();
    let text = stdout(&confide(&["replay", &path, "--at", late[1]]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "record 0: ACCEPTED -> REJECTED (validity)");
    assert!(lines.contains(&"  outcome: accepted -> rejected"), "{text}");
    let check = lines.iter().position(|line| *line == "  check validity").unwrap();
    assert_eq!(lines[check + 1], "    status: pass -> fail", "{text}");
    let ear = confide(&["replay", &path, "--at", late[1], "--format", "ear"]);
    assert!(stdout(&ear).contains("\"submods\""), "{}", stdout(&ear));
}

#[test]
fn another_policy_shows_what_it_changes_and_the_same_one_nothing() {
    let file = File::recorded();
    assert_eq!(status(&file.append()), 0);
    let inspect = include_str!("../../../policies/inspect.toml");
    let policy = |name: &str, text: &str| {
        let path = file.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let same = policy("same.toml", inspect);
    let shown = stdout(&confide(&["replay", &file.path().display().to_string(), "--policy", &same]));
    let nothing = |index| format!("record {index}: ACCEPTED -> ACCEPTED\n  nothing changes\n");
    assert_eq!(shown, nothing(0) + &nothing(1));
    let other = policy("other.toml", &inspect.replace("\"UpToDate\"", "\"OutOfDate\""));
    let shown = file.replay(&["--policy", &other]);
    assert_eq!(status(&shown), 10, "{}", stderr(&shown));
    let each: Vec<serde_json::Value> =
        stdout(&shown).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(each.len(), 2);
    for (index, shown) in each.iter().enumerate() {
        assert_eq!(shown["record"], index);
        assert_eq!(shown["after"]["code"], "tcb_status");
        let changed = shown["changes"].as_array().unwrap();
        assert!(changed.iter().any(|one| one["check"] == "tcb_status" && one["field"] == "expected"));
    }
    // The two together, and a policy that is none or of the other kind.
    let path = file.path().display().to_string();
    let both = confide(&["replay", &path, "--policy", &same, "--at", "2030-01-01T00:00:00Z"]);
    assert!(stdout(&both).starts_with("record 0: ACCEPTED -> REJECTED (validity)\n"), "{}", stdout(&both));
    for (flag, policy, expected, code) in [
        ("--policy", policy("broken.toml", "name = 1"), 30, "policy_malformed"),
        ("--policy", file.folder.path().join("missing.toml").display().to_string(), 1, "file_unreadable"),
        ("--danger-policy", same.clone(), 2, "danger_policy_name"),
    ] {
        let refused = confide(&["replay", &path, flag, &policy]);
        assert_eq!(status(&refused), expected, "{flag} {policy}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(&format!("[{code}]")), "{}", stderr(&refused));
    }
}

#[test]
fn a_record_that_was_altered_is_compared_with_nothing() {
    let file = File::recorded();
    let mut records = file.records();
    records[0].outcome = records[0].outcome.take().map(|outcome| outcome.replace("UpToDate", "OutOfDate"));
    file.write(records);
    let refused = file.replay(&["--at", "2030-01-01T00:00:00Z"]);
    let printed = support::json(&refused);
    assert_eq!((status(&refused), &printed["error"]["code"]), (10, &"replay_mismatch".into()));
    assert!(printed.get("changes").is_none() && stdout(&refused).lines().count() == 1, "{printed}");
    assert!(stderr(&refused).contains("[replay_mismatch]"), "{}", stderr(&refused));
}
