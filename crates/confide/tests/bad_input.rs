//! What no command may be thrown off by: each file that a command reads, given as it should not be. Every command gives the
//! exit status and the stable code that its documentation promises, and none panics.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use confide_evidence::boot_log::MAX_BOOT_LOG;
use confide_evidence::document::{EvidenceDocument, MAX_DOCUMENT};
use confide_evidence::head::MAX_HEAD;
use confide_evidence::hex;
use confide_evidence::nvidia::{
    MAX_DECODED, MAX_EVIDENCE_LIST, MAX_JWKS, MAX_NRAS_ANSWER, MAX_REPORT, MAX_RIM,
};
use confide_evidence::ocsp::MAX_OCSP;
use confide_evidence::pem::{self, MAX_PEM};
use confide_evidence::snp::{MAX_FILE as MAX_SNP_FILE, REPORT};
use confide_evidence::tdx::{MAX_COLLATERAL, MAX_QUOTE};
use confide_evidence::x509::MAX_CRL;
use confide_policy::MAX_POLICY;
use confide_record::{APPRAISALS, MAX_FILE};
use confide_service::config::MAX_CONFIG;
use confide_simulator::{NrasDevice, NrasOptions, SimulatedGpu};
use confide_testkit::gpu::{GpuEvidence, evidence_list};
use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{Sample, status, stderr};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// The most bytes of cases of the conformance suite.
const MAX_CASES: usize = 64 * 1024 * 1024;
/// The most bytes of a signature file.
const MAX_SIGNATURE: usize = 1024;
/// The largest private key.
const MAX_KEY: usize = 16 * 1024;

/// Exit status and code; no code where the command did what it was asked.
type End = (i32, &'static str);

/// How one file of one command ends it.
struct Row {
    /// The words of the command; the file stands at `{}`, its folder at `{folder}`, or it is standard input where no word is
    /// either.
    words: Vec<String>,
    /// What the file is called.
    name: &'static str,
    /// The file as it should be.
    whole: Vec<u8>,
    /// The most bytes that are read of it.
    limit: usize,
    /// What the whole file leads to.
    good: End,
    empty: End,
    /// The first half of the file.
    cut: End,
    /// The file with one more byte.
    trailing: End,
    /// The file, filled up to a byte more than may be read.
    oversized: End,
    /// Bytes that are no text, and no beginning of any format.
    not_text: End,
    /// A folder in its place.
    folder: End,
    /// No such file.
    missing: End,
    /// Files that are bad in ways of their own: what is wrong, the bytes, the end.
    more: Vec<(&'static str, Vec<u8>, End)>,
}

/// What a folder in the place of a file, and a file that is missing, lead to everywhere.
const UNREADABLE: End = (1, "file_unreadable");
const GOOD: End = (0, "");
/// What a policy that cannot be read leads to.
const BAD_POLICY: End = (30, "policy_malformed");

impl Row {
    /// A row whose every bad file has one end.
    fn new(words: &[&str], whole: Vec<u8>, limit: usize, bad: End) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            name: "file.toml",
            whole,
            limit,
            good: GOOD,
            empty: bad,
            cut: bad,
            trailing: bad,
            oversized: bad,
            not_text: bad,
            folder: UNREADABLE,
            missing: UNREADABLE,
            more: Vec::new(),
        }
    }

    fn check(&self, folder: &Path) -> Vec<String> {
        let mut oversized = self.whole.clone();
        oversized.resize(self.limit + 1, b' ');
        let trailing = [&self.whole[..], b"\x01"].concat();
        let cases = [
            ("whole", Some(self.whole.clone()), self.good),
            ("empty", Some(Vec::new()), self.empty),
            ("cut", Some(self.whole[..self.whole.len() / 2].to_vec()), self.cut),
            ("one byte too many", Some(trailing), self.trailing),
            ("oversized", Some(oversized), self.oversized),
            ("0xff", Some(vec![0xff; 1000]), self.not_text),
            ("a folder", None, self.folder),
        ];
        let path = folder.join(self.name);
        let mut wrong = Vec::new();
        let more = self.more.iter().map(|(what, bytes, expected)| (*what, Some(bytes.clone()), *expected));
        // A folder comes last: no file can be written in its place.
        for (what, bytes, expected) in more.chain(cases) {
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => {
                    std::fs::remove_file(&path).unwrap();
                    std::fs::create_dir(&path).unwrap();
                }
            }
            wrong.extend(self.differs(&path, what, expected));
        }
        // Some commands put files into it.
        std::fs::remove_dir_all(&path).unwrap();
        if self.is_named() {
            wrong.extend(self.differs(&path, "missing", self.missing));
        }
        wrong
    }

    /// Whether a word names the file or its folder.
    fn is_named(&self) -> bool {
        self.words.iter().any(|word| word == "{}" || word == "{folder}")
    }

    fn differs(&self, path: &Path, what: &str, expected: End) -> Option<String> {
        let output = self.run(path);
        let found = (status(&output), code(&output));
        let said = stderr(&output);
        let as_expected = found == (expected.0, expected.1.to_owned()) && !said.contains("panicked");
        (!as_expected).then(|| format!("{:?}, {what}: {found:?}, not {expected:?}: {said}", self.words))
    }

    fn run(&self, path: &Path) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        let (name, folder) = (path.to_str().unwrap(), path.parent().unwrap());
        command.args(self.words.iter().map(|word| match word.as_str() {
            "{}" => name,
            "{folder}" => folder.to_str().unwrap(),
            word => word,
        }));
        command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", folder.join("cache"));
        let from = if self.is_named() { Path::new("/dev/null") } else { path };
        command.stdin(Stdio::from(File::open(from).unwrap())).output().unwrap()
    }
}

/// The code that a program was told: the error's in brackets, else the verdict's or the case's.
fn code(output: &Output) -> String {
    let said = stderr(output);
    let bracketed = said.lines().filter_map(|line| line.strip_suffix(']')?.rsplit_once('[')).next_back();
    if let Some((_, code)) = bracketed {
        return code.to_owned();
    }
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let codes = [&printed["code"], &printed["error"]["code"]];
    codes.iter().find_map(|code| code.as_str()).unwrap_or_default().to_owned()
}

fn file(name: &str) -> Vec<u8> {
    let path = format!("{ROOT}/{name}");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file of the cases about SEV-SNP.
fn snp_file(name: &str) -> String {
    format!("{ROOT}/fixtures/snp/{name}")
}

fn snp_report() -> String {
    snp_file("accept-version-3/report.bin")
}

/// Rows of one test.
struct Suite {
    rows: Vec<Row>,
    /// Folders with files that the rows name.
    kept: Vec<Box<dyn Any>>,
}

impl Suite {
    fn new(rows: Vec<Row>) -> Self {
        Self { rows, kept: Vec::new() }
    }

    /// The same, and what this holds stays until the rows are checked.
    fn keeping(mut self, kept: impl Any) -> Self {
        self.kept.push(Box::new(kept));
        self
    }

    /// Checks rows one after the other in a folder of their own.
    fn check(&self) {
        let folder = tempfile::tempdir().unwrap();
        let wrong: Vec<String> = self.rows.iter().flat_map(|row| row.check(folder.path())).collect();
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Makes each suite a test, and a list of all of them.
macro_rules! suites {
    ($($name:ident)*) => {
        const SUITES: &[fn() -> Suite] = &[$($name),*];

        mod suites {
            $(#[test]
            fn $name() {
                super::$name().check();
            })*
        }
    };
}

suites! {
    bad_files_of_verify_quote
    a_bad_event_log_is_rejected_whatever_it_is
    bad_files_of_verify_document_and_inspect
    bad_files_of_record_replay_and_inspect
    bad_files_of_reference_values
    bad_files_of_verify_snp_and_record_snp
    bad_files_of_verify_gpu
    bad_files_of_rim_fetch_and_rim_import
    bad_files_of_what_nvidias_service_says
    bad_input_of_rim_export
    bad_certificates_of_services
    bad_files_of_the_policy_commands
    bad_input_of_conformance
    bad_policies_of_replay
    bad_files_of_audit
    bad_files_of_the_proxy
    bad_files_of_the_commands_about_a_guest
    bad_files_of_reference_values_of_other_evidence
    bad_files_of_inspect
    bad_files_of_what_is_appended_to
    bad_reports_of_collateral_fetch
    bad_configurations
    bad_files_of_doctor
}

/// A command's words, and the name of a flag or of a file's place behind them.
type Argument = (Vec<String>, String);

/// What a file may be given to and no row is about, with the reason: of the command of these words and all below.
const WITHOUT_ROWS: &[(&[&str], &str, &str)] = &[
    (&[], "state", "a folder; tests/references.rs has what its file may be"),
    (&[], "cache", "a folder whose damaged files are as none; the endorser's tests/cache.rs has them"),
    (&["audit"], "out", "written alone, and only where there is nothing"),
    (&["collateral", "fetch"], "out", "written alone"),
    (&["collateral", "fetch"], "out_crl", "written alone"),
    (&["rim"], "folder", "a folder, which `bad_ids_and_stores_of_rim_commands` gives a file for"),
    (&["rim", "export"], "to", "a folder that is written to"),
    (&["conformance"], "base", "a folder; tests/conformance has what the files in it may be"),
    (
        &["doctor"],
        "danger_root",
        "a folder with files of a kernel, whose oddities the doctor's own tests have",
    ),
    (&["doctor"], "danger_nvml", "a library that is run, and no input"),
    (&["man"], "dir", "a folder that is written to"),
];

impl Row {
    /// The arguments that are given the file, as the program reads them.
    fn arguments(&self) -> Vec<Argument> {
        let words = ["confide"].into_iter().chain(self.words.iter().map(String::as_str));
        let matches = confide::command().try_get_matches_from(words);
        let matches = matches.unwrap_or_else(|error| panic!("{:?}: {error}", self.words));
        let (mut found, mut path, mut inner) = (Vec::new(), Vec::new(), Some(&matches));
        while let Some(level) = inner {
            for id in level.ids() {
                let Ok(Some(mut values)) = level.try_get_raw(id.as_str()) else { continue };
                if values.any(|value| value == "{}" || value == "{folder}") {
                    found.push((path.clone(), id.to_string()));
                }
            }
            inner = level.subcommand().map(|(name, level)| {
                path.push(name.to_owned());
                level
            });
        }
        found
    }
}

/// Every argument of the program that is the path of a file or a folder, by its type or by what its value is called. That of all
/// commands, `--config`, is the program's own.
fn paths(command: &clap::Command, words: &[String]) -> Vec<Argument> {
    let is_path = |argument: &&clap::Arg| {
        let named =
            |name: &clap::builder::Str| ["FILE", "DIR", "PATH", "PEM"].iter().any(|kind| name.contains(kind));
        argument.get_value_parser().type_id() == TypeId::of::<PathBuf>()
            || argument.get_value_names().is_some_and(|names| names.iter().any(named))
    };
    let own = command
        .get_arguments()
        .filter(is_path)
        .map(|argument| (words.to_vec(), argument.get_id().to_string()));
    let inner = command
        .get_subcommands()
        .flat_map(|inner| paths(inner, &[words, &[inner.get_name().to_owned()]].concat()));
    own.chain(inner).collect()
}

#[test]
fn every_file_of_every_command_has_a_row() {
    let given: BTreeSet<Argument> =
        SUITES.iter().flat_map(|suite| suite().rows).flat_map(|row| row.arguments()).collect();
    let all = paths(&confide::command(), &[]);
    let excepted = |(words, id): &Argument| {
        let below = |of: &[&str]| words.len() >= of.len() && words.iter().zip(of).all(|(a, b)| a == b);
        WITHOUT_ROWS.iter().find(|(of, name, _)| id == name && below(of))
    };
    let has_row = |argument: &Argument| {
        // The configuration file of all commands.
        argument.0.is_empty() && given.iter().any(|(_, id)| *id == argument.1) || given.contains(argument)
    };
    let missing: Vec<&Argument> =
        all.iter().filter(|argument| !has_row(argument) && excepted(argument).is_none()).collect();
    assert!(missing.is_empty(), "no row gives a bad file to {missing:#?}");
    for exception in WITHOUT_ROWS {
        let needed = all.iter().any(|argument| !has_row(argument) && excepted(argument) == Some(exception));
        assert!(needed, "{exception:?}: there is no such argument, or it has a row");
    }
    assert!(all.len() > 100, "{}", all.len());
}

fn words<'a>(flags: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    flags.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

fn bad_files_of_verify_quote() -> Suite {
    let sample = Sample::version_4();
    let (quote, collateral) = (sample.quote.to_str().unwrap(), sample.collateral.to_str().unwrap());
    let verify = |quote: &str, collateral: &str, more: &[&str]| {
        let words =
            ["verify", "quote", "--json", "--at", sample.time, "--quote", quote, "--collateral", collateral];
        words.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    // Without the padding, so that its half is no whole quote.
    let mut bytes = std::fs::read(quote).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 2);
    let of_quote = |words: Vec<String>| Row {
        not_text: (20, "quote_format"),
        ..Row::new(
            &words.iter().map(String::as_str).collect::<Vec<_>>(),
            bytes.clone(),
            MAX_QUOTE,
            (30, "quote_format"),
        )
    };
    let text = std::fs::read(collateral).unwrap();
    let of_collateral = |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Row::new(&words, text.clone(), MAX_COLLATERAL, (30, "collateral_file"))
    };
    let policy = |words: Vec<String>| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Row::new(&words, file("policies/inspect.toml"), MAX_POLICY, (30, "policy_malformed"))
    };
    let fetch = Row {
        good: (1, "endorsement_offline"),
        ..of_quote(["collateral", "fetch", "--offline", "--quote", "{}"].map(str::to_owned).to_vec())
    };
    Suite::new(vec![
        fetch,
        of_quote(verify("{}", collateral, &[])),
        of_collateral(verify(quote, "{}", &[])),
        of_collateral(verify(quote, collateral, &["--early-collateral", "{}"])),
        policy(verify(quote, collateral, &["--policy", "{}"])),
        Row {
            good: (10, "root_anchor"),
            ..danger_policies(Row::new(
                &words(&verify(quote, collateral, &["--danger-policy", "{}"]), &[]),
                file("policies/danger-simulator.toml"),
                MAX_POLICY,
                BAD_POLICY,
            ))
        },
    ])
}

/// The log of another machine: well formed, and not what a recorded quote's registers hold.
fn boot_log() -> Vec<u8> {
    EvidenceDocument::decode(&file(Document::FILE)).unwrap().boot_log.unwrap().as_bytes().to_vec()
}

fn a_bad_event_log_is_rejected_whatever_it_is() -> Suite {
    let sample = Sample::version_4();
    let flags = sample.flags();
    let words = words(&flags, &["--json", "--event-log", "{}"]);
    let words = [&["verify", "quote"][..], &words].concat();
    let log = boot_log();
    Suite::new(vec![Row {
        good: (10, "boot_log"),
        ..Row::new(&words, log, MAX_BOOT_LOG, (30, "boot_log_format"))
    }])
}

fn bad_files_of_verify_document_and_inspect() -> Suite {
    // Danger policies have to be called so.
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("danger-document.toml");
    std::fs::write(&policy, file(Document::POLICY)).unwrap();
    let danger = ["--danger-policy", policy.to_str().unwrap()];
    let document = Document::new();
    let row = |named: &str, more: &[&str], whole: Vec<u8>, limit: usize, bad: End| {
        let words = document.words(named, more);
        Row::new(&words.iter().map(String::as_str).collect::<Vec<_>>(), whole, limit, bad)
    };
    let (whole, collateral) = (file(Document::FILE), file(Document::COLLATERAL));
    let at = document.0["time"].as_str().unwrap();
    let bad_collateral = (30, "collateral_file");
    Suite::new(vec![
        danger_policies(row("", &["--danger-policy", "{}"], file(Document::POLICY), MAX_POLICY, BAD_POLICY)),
        Row {
            good: (10, "root_anchor"),
            ..policies(row("", &["--policy", "{}"], Vec::new(), 0, BAD_POLICY))
        },
        row("--document", &danger, whole.clone(), MAX_DOCUMENT, (30, "document_format")),
        row("--collateral", &danger, collateral.clone(), MAX_COLLATERAL, bad_collateral),
        row(
            "",
            &[&danger[..], &["--early-collateral", "{}"]].concat(),
            collateral.clone(),
            MAX_COLLATERAL,
            bad_collateral,
        ),
        Row::new(&["inspect", "{}"], whole, MAX_FILE, (30, "document_format")),
        Row::new(
            &["collateral", "show", "--json", "--at", at, "{}"],
            collateral,
            MAX_COLLATERAL,
            bad_collateral,
        ),
    ])
    .keeping(folder)
}

fn bad_files_of_inspect() -> Suite {
    let quote = std::fs::read(Sample::version_4().quote).unwrap();
    let report = std::fs::read(snp_report()).unwrap();
    let hopper = Hopper::new();
    let bad = (30, "document_format");
    // The size that a file may have is the same for all, and held by the rows of documents and records.
    let row = |whole: Vec<u8>| {
        let limit = whole.len() + 1000;
        Row::new(&["inspect", "{}"], whole, limit, bad)
    };
    // White space behind a text is a part of it.
    let text = |whole: Vec<u8>| Row { oversized: GOOD, ..row(whole) };
    Suite::new(vec![
        row(quote),
        row(report),
        row(hopper.evidence.devices[0].report.clone()),
        text(hopper.evidence.manifests[0].clone()),
        text(file(Document::COLLATERAL)),
        text(file("policies/inspect.toml")),
    ])
}

fn bad_files_of_record_replay_and_inspect() -> Suite {
    let sample = Sample::version_4();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.cbor");
    let flags = sample.flags();
    let record = |more: &[&str]| {
        let words = [&["record", "quote", "--json", "--out", out.to_str().unwrap()][..], more].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let recorded = support::confide(&record(&words(&flags, &[])));
    assert_eq!(status(&recorded), 0, "{}", stderr(&recorded));
    let whole = std::fs::read(&out).unwrap();
    let mut quote = std::fs::read(&sample.quote).unwrap();
    quote.truncate(quote.iter().rposition(|byte| *byte != 0).unwrap() + 2);
    let with = |quote: &str, collateral: &str| {
        let flags = sample.flags_with(Path::new(quote), Path::new(collateral), sample.time);
        record(&words(&flags, &[]))
    };
    let (of_quote, of_collateral) =
        (with("{}", sample.collateral.to_str().unwrap()), with(sample.quote.to_str().unwrap(), "{}"));
    let more = |more: &[&str]| record(&words(&flags, more));
    let (early, log, policy, danger) = (
        more(&["--early-collateral", "{}"]),
        more(&["--event-log", "{}"]),
        more(&["--policy", "{}"]),
        more(&["--danger-policy", "{}"]),
    );
    Suite::new(vec![
        Row {
            not_text: (20, "quote_format"),
            ..Row::new(&words(&of_quote, &[]), quote, MAX_QUOTE, (30, "quote_format"))
        },
        Row::new(
            &words(&of_collateral, &[]),
            std::fs::read(&sample.collateral).unwrap(),
            MAX_COLLATERAL,
            (30, "collateral_file"),
        ),
        Row::new(
            &words(&early, &[]),
            std::fs::read(&sample.collateral).unwrap(),
            MAX_COLLATERAL,
            (30, "collateral_file"),
        ),
        Row {
            good: (10, "boot_log"),
            ..Row::new(&words(&log, &[]), boot_log(), MAX_BOOT_LOG, (30, "boot_log_format"))
        },
        policies(Row::new(&words(&policy, &[]), Vec::new(), 0, BAD_POLICY)),
        Row {
            good: (10, "root_anchor"),
            ..danger_policies(Row::new(
                &words(&danger, &[]),
                file("policies/danger-simulator.toml"),
                MAX_POLICY,
                BAD_POLICY,
            ))
        },
        Row::new(&["replay", "--json", "{}"], whole.clone(), MAX_FILE, (30, "record_malformed")),
        // What is appended to: a file that is empty or missing becomes one of records, and a part of a record moves aside.
        Row {
            empty: GOOD,
            cut: GOOD,
            missing: GOOD,
            folder: (1, "file_unwritable"),
            ..Row::new(
                &[&["record", "quote", "--json", "--out", "{}"], &words(&flags, &[])[..]].concat(),
                whole.clone(),
                MAX_FILE,
                (30, "record_malformed"),
            )
        },
        Row::new(&["inspect", "{}"], whole, MAX_FILE, (30, "document_format")),
    ])
    .keeping(folder)
}

fn bad_files_of_what_is_appended_to() -> Suite {
    let sample = Sample::version_4();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.cbor").display().to_string();
    let flags = sample.flags();
    let recorded = support::confide(&[&["record", "quote", "--out", &out], &words(&flags, &[])[..]].concat());
    assert_eq!(status(&recorded), 0, "{}", stderr(&recorded));
    let whole = std::fs::read(&out).unwrap();
    let hopper = Hopper::new();
    let danger = folder.path().join("danger-snp.toml").display().to_string();
    std::fs::write(&danger, file("fixtures/snp/common/report.toml")).unwrap();
    let snp = [owned(&["record", "snp", "--out", "{}"]), of_report(&danger)].concat();
    let gpu = hopper.words(&["record", "gpu", "--out", "{}"], "neither", &[]);
    let [_, record, mut chat, mut proxy] = of_a_guest("{}");
    for (words, _) in [&mut chat, &mut proxy] {
        words.splice(1..1, owned(&["--record", "{}"]));
    }
    // A file that is empty or missing becomes one of records, and a part of a record moves aside.
    let row = |words: &[String], good: End| Row {
        good,
        empty: good,
        cut: good,
        missing: good,
        folder: (1, "file_unwritable"),
        // The size that a file may have is the same for all, and held by the row of `record quote`.
        ..Row::new(&self::words(words, &[]), whole.clone(), whole.len() + 1000, (30, "record_malformed"))
    };
    Suite::new(vec![
        row(&snp, GOOD),
        row(&gpu, GOOD),
        // A folder is one of records.
        Row { folder: record.1, ..row(&record.0, record.1) },
        Row { folder: chat.1, ..row(&chat.0, chat.1) },
        Row { folder: proxy.1, ..row(&proxy.0, proxy.1) },
    ])
    .keeping(folder)
    .keeping(hopper)
}

#[test]
fn a_file_that_holds_no_records_is_left_as_it_was() {
    let sample = Sample::version_4();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("notes.txt");
    std::fs::write(&out, "notes of somebody\n").unwrap();
    let (report, key, issuer) = (snp_report(), snp_file("common/key.der"), snp_file("common/issuer.der"));
    let snp = ["--at", "2026-10-01T00:00:00Z", "--report", &report, "--cert", &key, &issuer];
    let quote = sample.flags();
    for (what, flags) in [("quote", words(&quote, &[])), ("snp", snp.to_vec())] {
        let command = [&["record", what, "--json", "--out", out.to_str().unwrap()], &flags[..]].concat();
        let output = support::confide(&command);
        assert_eq!(
            (status(&output), code(&output).as_str()),
            (30, "record_malformed"),
            "{}",
            stderr(&output)
        );
        assert_eq!(std::fs::read(&out).unwrap(), b"notes of somebody\n");
    }
}

/// A signed file of reference values, and the table of policies that names its signer.
struct Signed {
    folder: tempfile::TempDir,
    text: String,
    table: String,
}

impl Signed {
    /// With one set of these registers' values.
    fn new(values: &str) -> Self {
        let text = format!(
            "format = \"confide-reference-values/1\"\nname = \"acme\"\nversion = 1\nissued = 2025-01-01\nexpires = 2026-12-31\n\n[reference.one]\n{values}"
        );
        let mut signed = Self { folder: tempfile::tempdir().unwrap(), text, table: String::new() };
        std::fs::write(signed.path("references.toml"), &signed.text).unwrap();
        let key = format!("{ROOT}/docs/protocol/references/ed25519.key.pem");
        let output = support::confide(&["policy", "sign", "--key", &key, &signed.path("references.toml")]);
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let said = support::stdout(&output);
        signed.table = said.split_once("In policies:").unwrap().1.to_owned();
        signed
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes this policy with the table, and gives its path.
    fn policy(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), format!("{text}\n{}", self.table)).unwrap();
        self.path(name)
    }

    /// What is wrong with the file, and with its signature: no byte of the file is read before that holds.
    fn rows(&self, words: &[String], good: End, bad: End) -> [Row; 2] {
        let (file, signature) = (self.path("references.toml"), self.path("references.toml.sig"));
        let row = |[file, signature]: [&str; 2], whole: Vec<u8>, limit: usize| {
            let state = self.path("state");
            let flags = ["--state", &state, "--references", file, "--references-signature", signature];
            Row { good, ..Row::new(&self::words(words, &flags), whole, limit, bad) }
        };
        [
            row(["{}", &signature], self.text.clone().into_bytes(), confide_policy::MAX_REFERENCE_FILE),
            row([&file, "{}"], std::fs::read(&signature).unwrap(), MAX_SIGNATURE),
        ]
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const REGISTERS: [&str; 4] = ["mr_td", "rtmr0", "rtmr1", "rtmr2"];

fn bad_files_of_reference_values() -> Suite {
    let sample = Sample::version_4();
    let measured = support::json(&sample.verify(&["--json"]))["measurements"].clone();
    let values: String = REGISTERS.map(|field| format!("{field} = [{}]\n", measured[field])).concat();
    let signed = Signed::new(&values);
    let inspect = String::from_utf8(file("policies/inspect.toml")).unwrap();
    let lines = inspect.lines().map(|line| match line.split_once(" = ") {
        Some((field, _)) if REGISTERS.contains(&field) => format!("{field} = {{ from = \"reference\" }}\n"),
        _ => format!("{line}\n"),
    });
    let policy = signed.policy("policy.toml", &lines.collect::<String>());
    let bad = (10, "reference_signature");
    let out = signed.path("out.cbor");
    let verify = [owned(&["verify", "quote", "--json", "--policy", &policy]), sample.flags()].concat();
    let record =
        [owned(&["record", "quote", "--json", "--out", &out, "--policy", &policy]), sample.flags()].concat();
    let rows = [verify, record].iter().flat_map(|words| signed.rows(words, GOOD, bad)).collect();
    Suite::new(rows).keeping(signed.folder)
}

fn bad_files_of_reference_values_of_other_evidence() -> Suite {
    let signed =
        Signed::new(&REGISTERS.map(|field| format!("{field} = [\"{}\"]\n", "00".repeat(48))).concat());
    let text = |name: &str| String::from_utf8(file(name)).unwrap();
    let hopper = Hopper::new();
    let snp = signed.policy("danger-snp.toml", &text("fixtures/snp/common/report.toml"));
    let gpu = signed.policy("danger-gpu.toml", &text("policies/danger-simulator.toml"));
    let document = signed.policy("danger-document.toml", &text("fixtures/tdx/common/document.toml"));
    let of_report = of_report(&snp);
    let of_report: Vec<&str> = of_report.iter().map(String::as_str).collect();
    let of_devices = hopper.words(&[], "neither", &[]);
    let of_devices: Vec<&str> = of_devices
        .iter()
        .map(|word| if word.ends_with("danger-gpu.toml") { &gpu } else { word.as_str() })
        .collect();
    let out = signed.path("out.cbor");
    let of_document = Document::new().words("neither", &["--danger-policy", &document]);
    let bad = (10, "reference_signature");
    let commands = [
        ([&["verify", "snp"], &of_report[..]].concat(), bad),
        ([&["record", "snp", "--out", &out], &of_report[..]].concat(), bad),
        ([&["verify", "gpu"], &of_devices[..]].concat(), bad),
        ([&["record", "gpu", "--out", &out], &of_devices[..]].concat(), bad),
        (of_document.iter().map(String::as_str).collect(), bad),
    ];
    let mut rows: Vec<Row> =
        commands.iter().flat_map(|(words, bad)| signed.rows(&owned(words), GOOD, *bad)).collect();
    // What a guest shows is not there yet when they are read.
    let client = signed.policy("client.toml", &text("policies/client.toml"));
    for (mut words, good) in of_a_guest(&signed.path("out.cbor")) {
        words.splice(1..1, owned(&["--policy", &client]));
        rows.extend(signed.rows(&words, good, good));
    }
    let (root, library) = (signed.path("machine"), signed.path("none"));
    let doctor = owned(&[
        "doctor",
        "--json",
        "--offline",
        "--danger-root",
        &root,
        "--danger-nvml",
        &library,
        "--policy",
        &client,
    ]);
    rows.extend(signed.rows(&doctor, (10, ""), (10, "")));
    Suite::new(rows).keeping(signed.folder).keeping(hopper)
}

/// A report and the endorsements of its key, under this danger policy.
fn of_report(policy: &str) -> Vec<String> {
    let certificates = ["key", "issuer", "root"].map(|name| snp_file(&format!("common/{name}.der")));
    let (list, report) = (snp_file("common/list.der"), snp_report());
    let mut flags = owned(&[
        "--json",
        "--at",
        Hopper::AT,
        "--danger-policy",
        policy,
        "--report",
        &report,
        "--crl",
        &list,
    ]);
    flags.push("--cert".to_owned());
    flags.extend(certificates);
    flags
}

/// The commands that ask a guest, without policy, and the end of each where all its files are right: nobody listens there, and
/// where the endpoint would listen is looked at after its files.
fn of_a_guest(out: &str) -> [(Vec<String>, End); 4] {
    let (url, dialled) = ("https://127.0.0.1:1", (1, "dial_failed"));
    [
        (owned(&["verify", "--json", "--offline", url]), dialled),
        (owned(&["record", "--offline", url, "--out", out]), dialled),
        (owned(&["chat", "--offline", "--url", url, "a question"]), dialled),
        (
            owned(&["proxy", "--offline", "--upstream", url, "--listen", "0.0.0.0:0"]),
            (2, "listen_not_loopback"),
        ),
    ]
}

/// An evidence document and all that its appraisal needs.
struct Document(serde_json::Value);

impl Document {
    const FILE: &str = "fixtures/tdx/accept-document/document.cbor";
    const COLLATERAL: &str = "fixtures/tdx/common/collateral.json";
    const POLICY: &str = "fixtures/tdx/common/document.toml";

    fn new() -> Self {
        Self(serde_json::from_slice(&file("fixtures/tdx/accept-document/case.json")).unwrap())
    }

    /// `verify document` but for its policy; what `named` names is the file that is tried.
    fn words(&self, named: &str, more: &[&str]) -> Vec<String> {
        let value = |name: &str| self.0["evidence"]["challenge"][name].as_str().unwrap().to_owned();
        let path = |flag: &str, name: &str| {
            if flag == named { "{}".to_owned() } else { format!("{ROOT}/{name}") }
        };
        let (document, collateral) = (path("--document", Self::FILE), path("--collateral", Self::COLLATERAL));
        let (nonce, exporter, spki) = (value("nonce"), value("exporter"), value("spki"));
        let flags = [
            &["verify", "document", "--json", "--offline", "--at", self.0["time"].as_str().unwrap()][..],
            &[
                "--document",
                &document,
                "--role",
                "serve",
                "--nonce",
                &nonce,
                "--exporter",
                &exporter,
                "--spki",
                &spki,
            ],
            // The rest goes with another source of collateral.
            if named == "--pccs-certificate" { &[] } else { &["--collateral", &collateral] },
            more,
        ];
        owned(&flags.concat())
    }
}

fn bad_files_of_verify_snp_and_record_snp() -> Suite {
    let folder = tempfile::tempdir().unwrap();
    let (policy, out) = (folder.path().join("danger-snp.toml"), folder.path().join("out.cbor"));
    std::fs::write(&policy, file("fixtures/snp/common/report.toml")).unwrap();
    let common = |name: &str| file(&format!("fixtures/snp/common/{name}"));
    let (report, chain) = (
        std::fs::read(snp_report()).unwrap(),
        ["key", "issuer", "root"].map(|name| common(&format!("{name}.der"))),
    );
    let pem = pem::encode(&chain).into_bytes();
    let authorities = folder.path().join("authorities.pem");
    std::fs::write(&authorities, &pem).unwrap();
    let (of_report, of_key) = ((30, "snp_report_format"), (30, "snp_certificate_file"));
    let of_list = (30, "snp_crl_file");
    let words = |command: &[&str], named: &str| -> Vec<String> {
        let path = |name: &'static str, path: String| if name == named { "{}".to_owned() } else { path };
        let policy = match named {
            "--policy" => ["--policy".to_owned(), "{}".to_owned()],
            _ => ["--danger-policy".to_owned(), path("--danger-policy", policy.display().to_string())],
        };
        let flags = [
            "--json".to_owned(),
            "--at".into(),
            Hopper::AT.into(),
            "--report".into(),
            path("--report", snp_report()),
            "--cert".into(),
            path("--cert", authorities.display().to_string()),
            "--crl".into(),
            path("--crl", snp_file("common/list.der")),
        ];
        command.iter().map(|word| (*word).to_owned()).chain(flags).chain(policy).collect()
    };
    let record = ["record", "snp", "--out", out.to_str().unwrap()];
    let mut rows = Vec::new();
    for command in [&["verify", "snp"][..], &record] {
        let row = |named: &str, whole: Vec<u8>, limit: usize, bad: End| {
            let words = words(command, named);
            Row::new(&words.iter().map(String::as_str).collect::<Vec<_>>(), whole, limit, bad)
        };
        rows.extend([
            Row {
                more: vec![
                    ("a version to come", changed(&report, 0, 6), (20, "snp_report_format")),
                    ("version 0", changed(&report, 0, 0), (20, "snp_report_format")),
                    ("a certificate", chain[0].clone(), of_report),
                    ("hexadecimal digits", hex::encode(&report).into_bytes(), of_report),
                ],
                ..row("--report", report.clone(), REPORT, of_report)
            },
            Row {
                more: vec![
                    ("DER", chain.concat(), GOOD),
                    ("a byte behind DER", [&chain.concat()[..], b"\x01"].concat(), of_key),
                    ("half of DER", chain[0][..chain[0].len() / 2].to_vec(), of_key),
                    ("no UTF-8 within", changed(&pem, 100, 0xff), of_key),
                    ("a report", report.clone(), of_key),
                    ("a list", common("list.der"), (30, "snp_endorsements_format")),
                ],
                ..row("--cert", pem.clone(), MAX_SNP_FILE, of_key)
            },
            Row {
                more: vec![
                    ("PEM that holds no list", pem.clone(), of_list),
                    ("no UTF-8 within", changed(&pem, 100, 0xff), of_list),
                    ("a report", report.clone(), of_list),
                    ("a certificate", chain[0].clone(), (30, "snp_endorsements_format")),
                ],
                ..row("--crl", common("list.der"), MAX_SNP_FILE, of_list)
            },
            Row { good: (10, "snp_root_anchor"), ..policies(row("--policy", Vec::new(), 0, BAD_POLICY)) },
            danger_policies(row(
                "--danger-policy",
                file("fixtures/snp/common/report.toml"),
                MAX_POLICY,
                BAD_POLICY,
            )),
        ]);
    }
    Suite::new(rows).keeping(folder)
}

/// The file with another byte in one place.
fn changed(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = byte;
    bytes
}

/// A row that is about `--policy`.
fn policies(row: Row) -> Row {
    Row { whole: file("policies/inspect.toml"), limit: MAX_POLICY, ..bad_policies(row) }
}

/// A row that is about `--danger-policy`, which takes files of certain names.
fn danger_policies(row: Row) -> Row {
    Row { name: "danger-file.toml", ..bad_policies(row) }
}

fn bad_policies(row: Row) -> Row {
    let inspect = file("policies/inspect.toml");
    let unknown = [&inspect[..], b"\n[unknown]\nfield = 1\n"].concat();
    let not_text = [&inspect[..], b"# \xff\n"].concat();
    let more = vec![
        ("no UTF-8 within", not_text, BAD_POLICY),
        ("a table that policies have not", unknown, BAD_POLICY),
        ("JSON", b"{\"format\": 1}".to_vec(), BAD_POLICY),
    ];
    Row { more, ..row }
}

/// A simulated Hopper's files, and the words that appraise it.
struct Hopper {
    folder: tempfile::TempDir,
    evidence: GpuEvidence,
}

impl Hopper {
    const TIME: u64 = 1_790_812_800;
    const AT: &str = "2026-10-01T00:00:00Z";
    const NONCE: [u8; 32] = [0x41; 32];

    fn new() -> Self {
        let evidence = GpuEvidence::hopper(Self::NONCE, Self::TIME).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let device = &evidence.devices[0];
        for (name, bytes) in [
            ("report", &device.report[..]),
            ("chain", device.chain.as_bytes()),
            ("list", evidence.list().as_bytes()),
            ("danger-gpu.toml", &file("policies/danger-simulator.toml")),
        ] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self { folder, evidence }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A store with the driver's manifest.
    fn store(&self) -> String {
        let (store, manifest) = (self.path("store"), self.path("NV_GPU_DRIVER_GH100_580.95.05.xml"));
        std::fs::create_dir(&store).unwrap();
        std::fs::write(&manifest, &self.evidence.manifests[0]).unwrap();
        let imported = support::confide(&["rim", "import", "--store", &store, &manifest]);
        assert_eq!(status(&imported), 0, "{}", stderr(&imported));
        store
    }

    /// The words of `command` about the device; what `named` names is the file that is tried.
    fn words(&self, command: &[&str], named: &str, more: &[&str]) -> Vec<String> {
        let path = |name: &str| match name {
            name if name == named => "{}".to_owned(),
            name => self.folder.path().join(name).display().to_string(),
        };
        let flags = match named {
            "list" => vec!["--evidence".to_owned(), path("list")],
            _ => {
                let nonce = hex::encode(&Self::NONCE);
                [
                    "--report".to_owned(),
                    path("report"),
                    "--chain".into(),
                    path("chain"),
                    "--nonce".into(),
                    nonce,
                ]
                .to_vec()
            }
        };
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let policy = match named {
            "--policy" => ["--policy".to_owned(), "{}".to_owned()],
            _ => ["--danger-policy".to_owned(), path("danger-gpu.toml")],
        };
        [own(command), own(&["--json", "--at", Self::AT]), flags, policy.to_vec(), own(more)].concat()
    }
}

fn bad_files_of_verify_gpu() -> Suite {
    let hopper = Hopper::new();
    let no_device = (30, "gpu_evidence_file");
    let row = |command: &[&str], named: &str, more: &[&str], whole: &[u8], limit: usize, bad: End| {
        let words = hopper.words(command, named, more);
        Row::new(&words.iter().map(String::as_str).collect::<Vec<_>>(), whole.to_vec(), limit, bad)
    };
    let GpuEvidence { devices, manifests, answers, lists } = &hopper.evidence;
    let (report, chain) = (&devices[0].report, devices[0].chain.as_bytes());
    let list = hopper.evidence.list();
    let danger = file("policies/danger-simulator.toml");
    let out = hopper.folder.path().join("out.confide");
    let record = ["record", "gpu", "--out", out.to_str().unwrap()];
    let verify = ["verify", "gpu"];
    let mut rows = Vec::new();
    for command in [&verify[..], &record] {
        rows.extend([
            row(command, "report", &[], report, 3 * MAX_REPORT, no_device),
            // Half a chain is PEM all the same; what stands behind a block is no part of it (RFC 7468, section 2).
            Row {
                cut: (30, "device_chain_format"),
                trailing: (30, "device_chain_format"),
                ..row(command, "chain", &[], chain, 3 * MAX_PEM, no_device)
            },
            row(command, "list", &[], list.as_bytes(), MAX_EVIDENCE_LIST, no_device),
            row(command, "rim", &["--rim", "{}"], &manifests[0], 3 * MAX_RIM, (30, "rim_format")),
            row(command, "ocsp", &["--ocsp", "{}"], &answers[0], 3 * MAX_OCSP, (30, "ocsp_format")),
            row(command, "crl", &["--crl", "{}"], &lists[0], MAX_DECODED, (30, "device_crl_format")),
            Row {
                good: (10, "device_root_anchor"),
                ..policies(row(command, "--policy", &[], &[], 0, BAD_POLICY))
            },
            danger_policies(row(command, "danger-gpu.toml", &[], &danger, MAX_POLICY, BAD_POLICY)),
        ]);
    }
    Suite::new(rows).keeping(hopper)
}

fn bad_files_of_rim_fetch_and_rim_import() -> Suite {
    let hopper = Hopper::new();
    let GpuEvidence { manifests, answers, lists, .. } = &hopper.evidence;
    let store = hopper.folder.path().join("store");
    let store = store.to_str().unwrap();
    let id = "NV_GPU_DRIVER_GH100_580.95.05";
    // Nobody listens there: what is accepted of the files ends with the fault of dialling.
    let url = "https://127.0.0.1:1";
    let reaches_nobody = (1, "endorsement_unreachable");
    let fetch = ["rim", "fetch", "--store", store, "--rim-service", url];
    let import = ["rim", "import", "--store", store, "{}"];
    let (no_device, unknown, no_rim) =
        ((30, "gpu_evidence_file"), (30, "store_file_unknown"), (30, "endorsement_malformed"));
    let pem = pem::encode(&[file("fixtures/snp/common/key.der")]).into_bytes();
    let imported = |whole: &[u8], limit: usize, bad: End| Row {
        // A folder is taken file by file; this one is empty.
        folder: unknown,
        missing: (1, "store_failed"),
        ..Row::new(&import, whole.to_vec(), limit, bad)
    };
    Suite::new(vec![
        Row {
            good: reaches_nobody,
            more: vec![
                ("no device", b"[]".to_vec(), no_device),
                ("an object", b"{}".to_vec(), no_device),
                ("a manifest", manifests[0].clone(), no_device),
            ],
            ..Row::new(
                &[&fetch[..], &["--evidence", "{}"]].concat(),
                hopper.evidence.list().into_bytes(),
                MAX_EVIDENCE_LIST,
                no_device,
            )
        },
        Row {
            good: reaches_nobody,
            ..Row::new(
                &[&fetch[..], &["--id", id, "--service-certificate", "{}"]].concat(),
                pem.clone(),
                MAX_PEM,
                (30, "endorser_certificate"),
            )
        },
        Row {
            empty: unknown,
            not_text: unknown,
            more: vec![
                ("of another name", manifests[1].clone(), (30, "endorsement_other_object")),
                ("another document", b"<html></html>".to_vec(), no_rim),
                ("no UTF-8 within", [&manifests[0][..100], b"\xff", &manifests[0][100..]].concat(), no_rim),
            ],
            name: "NV_GPU_DRIVER_GH100_580.95.05.xml",
            ..imported(&manifests[0], MAX_RIM, no_rim)
        },
        Row {
            more: vec![
                ("a certificate", file("fixtures/snp/common/key.der"), unknown),
                ("PEM", pem, unknown),
            ],
            ..imported(&answers[0], MAX_OCSP, unknown)
        },
        imported(&lists[0], MAX_CRL, unknown),
    ])
    .keeping(hopper)
}

#[test]
fn bad_ids_and_stores_of_rim_commands() {
    let hopper = Hopper::new();
    let store = hopper.folder.path().join("store");
    let fetch = ["rim", "fetch", "--store", store.to_str().unwrap(), "--rim-service", "https://127.0.0.1:1"];
    // Ids are no file's.
    let long = format!("NV_GPU_DRIVER_GH100_{}", "1".repeat(100));
    for id in
        ["", "../x", "NV_GPU_DRIVER_GH100_580.95.05/..", "nv_gpu_driver_gh100_580.95.05", "NV_GPU", &long]
    {
        let output = support::confide(&[&fetch[..], &["--id", id]].concat());
        assert_eq!(status(&output), 2, "{id}: {}", stderr(&output));
    }
    // A file in the place of a store.
    let list = hopper.folder.path().join("list");
    for command in ["list", "prune"] {
        let output = support::confide(&["rim", command, "--store", list.to_str().unwrap()]);
        assert_eq!((status(&output), code(&output).as_str()), (1, "store_failed"), "{}", stderr(&output));
    }
}

fn bad_files_of_what_nvidias_service_says() -> Suite {
    let hopper = Hopper::new();
    let device = NrasDevice::gpu(&SimulatedGpu::new(0).unwrap());
    let options = NrasOptions::new(Hopper::NONCE, Hopper::TIME, vec![device]);
    let (answer, jwks) = (options.answer().unwrap(), options.jwks().unwrap());
    for (name, bytes) in [("answer", &answer), ("jwks", &jwks)] {
        std::fs::write(hopper.folder.path().join(name), bytes).unwrap();
    }
    let path = |name: &str| hopper.folder.path().join(name).display().to_string();
    let (answer_path, jwks_path, out) = (path("answer"), path("jwks"), path("out.confide"));
    let bad = (30, "nras_format");
    let mut rows = Vec::new();
    for command in [&["verify", "gpu"][..], &["record", "gpu", "--out", &out]] {
        let row = |more: &[&str], whole: &str, limit: usize| {
            let words = hopper.words(command, "neither", more);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            Row::new(&words, whole.as_bytes().to_vec(), limit, bad)
        };
        rows.extend([
            Row {
                more: vec![
                    ("a key set", jwks.clone().into_bytes(), bad),
                    ("no answer", b"[]".to_vec(), bad),
                    ("no UTF-8 within", changed(answer.as_bytes(), 20, 0xff), bad),
                ],
                ..row(&["--nras", "{}", "--jwks", &jwks_path], &answer, MAX_NRAS_ANSWER)
            },
            Row {
                more: vec![
                    ("an answer", answer.clone().into_bytes(), bad),
                    ("no key", br#"{"keys": []}"#.to_vec(), bad),
                    ("no UTF-8 within", changed(jwks.as_bytes(), 20, 0xff), bad),
                ],
                ..row(&["--nras", &answer_path, "--jwks", "{}"], &jwks, MAX_JWKS)
            },
        ]);
    }
    Suite::new(rows).keeping(hopper)
}

fn bad_input_of_rim_export() -> Suite {
    let hopper = Hopper::new();
    let (store, to) = (hopper.store(), hopper.path("to"));
    let export = ["rim", "export", "--store", &store, "--to", &to];
    let no_device = (30, "gpu_evidence_file");
    Suite::new(vec![Row {
        // The store has the driver's manifest alone.
        good: (1, "store_rim_missing"),
        more: vec![
            ("no device", b"[]".to_vec(), no_device),
            ("a manifest", hopper.evidence.manifests[0].clone(), no_device),
        ],
        ..Row::new(
            &[&export[..], &["--evidence", "{}"]].concat(),
            hopper.evidence.list().into_bytes(),
            MAX_EVIDENCE_LIST,
            no_device,
        )
    }])
    .keeping(hopper)
}

#[test]
fn bad_ids_and_folders_of_rim_export() {
    let hopper = Hopper::new();
    let (store, to, list) = (hopper.store(), hopper.path("to"), hopper.path("list"));
    let export = ["rim", "export", "--store", &store, "--to", &to];
    let ended = |words: &[&str]| {
        let output = support::confide(words);
        (status(&output), code(&output))
    };
    assert_eq!(
        ended(&[&export[..], &["--id", "NV_GPU_DRIVER_GH100_580.95.05"]].concat()),
        (0, String::new())
    );
    for id in ["", "../x", "NV_GPU_DRIVER_GH100_580.95.05/..", "nv_gpu_driver_gh100_580.95.05", "NV_GPU"] {
        assert_eq!(ended(&[&export[..], &["--id", id]].concat()).0, 2, "{id}");
    }
    let failed = (1, "store_failed".to_owned());
    assert_eq!(ended(&["rim", "export", "--store", &store, "--to", &list]), failed);
    assert_eq!(ended(&["rim", "export", "--store", &list, "--to", &to]), failed);
}

#[test]
fn standard_input_is_given_once() {
    let sample = Sample::version_4();
    let (quote, collateral) = (sample.quote.to_str().unwrap(), sample.collateral.to_str().unwrap());
    let verify = |quote: &str, collateral: &str| {
        let words = ["verify", "quote", "--at", sample.time, "--quote", quote, "--collateral", collateral];
        let stdin = Stdio::from(File::open(&sample.quote).unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_confide")).args(words).stdin(stdin).output().unwrap();
        (status(&output), code(&output))
    };
    assert_eq!(verify("-", collateral), (0, String::new()));
    assert_eq!(verify("-", "-"), (2, "stdin_twice".to_owned()));
    assert_eq!(verify(quote, collateral), (0, String::new()));
}

#[test]
fn more_devices_or_files_than_are_taken_are_refused() {
    let hopper = Hopper::new();
    let device = hopper.evidence.devices[0].clone();
    let many = hopper.folder.path().join("many");
    std::fs::write(&many, evidence_list(&vec![device.clone(); 33])).unwrap();
    let full = hopper.folder.path().join("full");
    std::fs::write(&full, evidence_list(&vec![device; 32])).unwrap();
    let (many, full) = (many.to_str().unwrap(), full.to_str().unwrap());
    let verify = |evidence: &[&str], more: &[&str]| {
        let words = [&["verify", "gpu", "--json", "--at", Hopper::AT, "--evidence"], evidence, more].concat();
        let output = support::confide(&words);
        (status(&output), code(&output))
    };
    let told = |status: i32, code: &str| (status, code.to_owned());
    assert_eq!(verify(&[many], &[]), told(30, "gpu_evidence_file"));
    assert_eq!(verify(&[full, full], &[]), told(30, "gpu_evidence_file"));
    // As many devices as may be: what is wrong is another thing.
    assert_eq!(verify(&[full], &[]), told(10, "device_root_anchor"));
    for (flag, limit) in [("--rim", 32), ("--ocsp", 128), ("--crl", 32)] {
        let files = [&[flag][..], &vec![full; limit + 1]].concat();
        assert_eq!(verify(&[full], &files), told(2, "too_many_files"), "{flag}");
    }
    assert_eq!(verify(&vec![full; 257], &[]), told(2, "too_many_files"));
}

fn bad_certificates_of_services() -> Suite {
    let sample = Sample::version_4();
    let (quote, report) = (sample.quote.to_str().unwrap(), snp_report());
    let collateral: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&sample.collateral).unwrap()).unwrap();
    let pem = collateral["tcb_info_issuer_chain"].as_str().unwrap().as_bytes().to_vec();
    // Nobody is asked, and the cache is empty: what is accepted of the certificate ends there.
    let row = |words: &[&str]| Row {
        good: (1, "endorsement_offline"),
        ..Row::new(
            &[&["collateral", "fetch", "--offline"], words].concat(),
            pem.clone(),
            MAX_PEM,
            (30, "endorser_certificate"),
        )
    };
    let url = "https://127.0.0.1:1";
    let bad = (30, "endorser_certificate");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.cbor").display().to_string();
    let pccs = ["--pccs", url, "--pccs-certificate", "{}"];
    let offline = |words: &[&str]| Row {
        good: (1, "endorsement_offline"),
        ..Row::new(words, pem.clone(), MAX_PEM, bad)
    };
    let of_report =
        ["--offline", "--at", Hopper::AT, "--report", &report, "--kds", url, "--kds-certificate", "{}"];
    let document = Document::new().words("--pccs-certificate", &pccs);
    let mut rows = vec![
        row(&["--quote", quote, "--pccs", url, "--pccs-certificate", "{}"]),
        row(&["--report", &report, "--kds", url, "--kds-certificate", "{}"]),
        offline(
            &[&["verify", "quote", "--offline", "--at", sample.time, "--quote", quote], &pccs[..]].concat(),
        ),
        offline(&[&["verify", "snp"], &of_report[..]].concat()),
        offline(&[&["record", "snp", "--out", &out], &of_report[..]].concat()),
        // It staples its collateral.
        Row { good: (10, "root_anchor"), ..offline(&words(&document, &[])) },
    ];
    for (mut words, good) in of_a_guest(&out) {
        words.splice(1..1, owned(&pccs));
        rows.push(Row { good, ..offline(&self::words(&words, &[])) });
    }
    Suite::new(rows).keeping(folder)
}

fn bad_reports_of_collateral_fetch() -> Suite {
    let report = std::fs::read(snp_report()).unwrap();
    let bad = (30, "snp_report_format");
    Suite::new(vec![Row {
        good: (1, "endorsement_offline"),
        more: vec![("a certificate", file("fixtures/snp/common/key.der"), bad)],
        ..Row::new(&["collateral", "fetch", "--offline", "--json", "--report", "{}"], report, REPORT, bad)
    }])
}

fn bad_files_of_the_policy_commands() -> Suite {
    let bad = (30, "policy_malformed");
    let policy = || file("policies/inspect.toml");
    // Of an egress policy half may be one: line ends fill it up until its half ends behind an equals sign.
    let mut egress = file("policies/egress/example.toml");
    while egress[egress.len() / 2 - 1] != b'=' {
        egress.push(b'\n');
    }
    let inspect = format!("{ROOT}/policies/inspect.toml");
    let signing = format!("{ROOT}/docs/protocol/references/ed25519.key.pem");
    let key = std::fs::read(&signing).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let example = folder.path().join("example.toml");
    std::fs::write(&example, file("docs/protocol/references/example.toml")).unwrap();
    let at = "2026-01-01T00:00:00Z";
    Suite::new(vec![
        // Text behind a PEM block belongs to no key (RFC 7468, section 2).
        Row {
            trailing: GOOD,
            ..Row::new(
                &["policy", "sign", "--key", "{}", example.to_str().unwrap()],
                key,
                MAX_KEY,
                (30, "signing_key"),
            )
        },
        Row::new(
            &["policy", "sign", "--key", &signing, "{}"],
            file("docs/protocol/references/example.toml"),
            confide_policy::MAX_REFERENCE_FILE,
            (30, "reference_file_malformed"),
        ),
        Row::new(&["policy", "check", "--at", at, "{}"], policy(), MAX_POLICY, bad),
        Row::new(&["policy", "check", "--at", at, "{}"], egress, MAX_POLICY, bad),
        Row::new(&["policy", "explain", "{}"], policy(), MAX_POLICY, bad),
        Row::new(&["policy", "diff", &inspect, "{}"], policy(), MAX_POLICY, bad),
        Row::new(&["policy", "diff", "{}", &inspect], policy(), MAX_POLICY, bad),
    ])
    .keeping(folder)
}

fn bad_input_of_conformance() -> Suite {
    let base = format!("{ROOT}/fixtures/tdx");
    let whole = file("fixtures/tdx/accept-document/case.json");
    Suite::new(vec![Row::new(
        &["conformance", "--danger", "--base", &base],
        whole,
        MAX_CASES,
        (30, "case_malformed"),
    )])
}

fn bad_policies_of_replay() -> Suite {
    let sample = Sample::version_4();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let flags = sample.flags();
    let recorded = |file: &str, words: &[&str]| {
        let output = support::confide(&[&["record"], words, &["--out", file]].concat());
        assert_eq!(status(&output), 0, "{}", stderr(&output));
    };
    let (quote, report, danger) = (path("quote.cbor"), path("report.cbor"), path("danger-snp.toml"));
    recorded(&quote, &[&["quote"], &words(&flags, &[])[..]].concat());
    std::fs::write(&danger, file("fixtures/snp/common/report.toml")).unwrap();
    let (key, list) = (snp_file("common/key.der"), snp_file("common/list.der"));
    let certificates = [&key, &snp_file("common/issuer.der"), &snp_file("common/root.der")];
    let evidence = ["snp", "--at", Hopper::AT, "--report", &snp_report(), "--crl", &list, "--cert"];
    let certificates = certificates.map(String::as_str);
    recorded(&report, &[&evidence[..], &certificates, &["--danger-policy", &danger]].concat());
    Suite::new(vec![
        policies(Row::new(&["replay", "--json", &quote, "--policy", "{}"], Vec::new(), 0, BAD_POLICY)),
        danger_policies(Row::new(
            &["replay", "--json", &report, "--danger-policy", "{}"],
            file("fixtures/snp/common/report.toml"),
            MAX_POLICY,
            BAD_POLICY,
        )),
    ])
    .keeping(folder)
}

/// A folder of records with one appraisal under `policies/inspect.toml`, beside it keys and a head that one of them signed.
struct Records(tempfile::TempDir);

impl Records {
    fn new() -> Self {
        let records = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(records.path("records")).unwrap();
        let sample = Sample::version_4();
        let appraisals = format!("{}/{APPRAISALS}", records.path("records"));
        let flags = sample.flags();
        records.run(&[&["record", "quote", "--out", &appraisals], &words(&flags, &[])[..]].concat());
        for name in ["auditor", "other"] {
            let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            let public = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
            // RFC 8410 section 4.
            let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
            let public = [&prefix[..], public.public_key().as_ref()].concat();
            records.write(&format!("{name}.pem"), pem_of("PRIVATE KEY", key.as_ref()).as_bytes());
            records.write(&format!("{name}.pub"), pem_of("PUBLIC KEY", &public).as_bytes());
        }
        let (folder, key, head) =
            (records.path("records"), records.path("auditor.pem"), records.path("head"));
        records.run(&["audit", &folder, "--sign-head", &key, "--out", &head]);
        records
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn run(&self, words: &[&str]) {
        let output = support::confide(words);
        assert_eq!(status(&output), 0, "{words:?}: {}", stderr(&output));
    }
}

fn pem_of(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", pem::base64_text(der))
}

fn bad_files_of_audit() -> Suite {
    let records = Records::new();
    let (folder, head, public) = (records.path("records"), records.path("head"), records.path("auditor.pub"));
    let row = |words: &[&str], whole: &[u8], limit: usize, bad: End| {
        Row::new(&[&["audit", "--json"], words].concat(), whole.to_vec(), limit, bad)
    };
    // What is no policy of this build may have been one: every record under another text is a finding.
    let (other_policy, key, head_key) = ((10, ""), (30, "signing_key"), (30, "head_key"));
    let (appraisal, bad_head) = (records.read(&format!("records/{APPRAISALS}")), (30, "head_malformed"));
    let mut altered = records.read("head");
    *altered.last_mut().unwrap() ^= 1;
    let (altered_head, appraisals) = (altered.clone(), records.path(&format!("records/{APPRAISALS}")));
    // A head is written once: what signs as well as the whole key finds one there.
    let (out, is_there) = (records.path("out"), (1, "file_unwritable"));
    let no_folder =
        |whole: &[u8]| Row { good: UNREADABLE, empty: UNREADABLE, ..row(&["{}"], whole, 1000, UNREADABLE) };
    Suite::new(vec![
        Row {
            oversized: BAD_POLICY,
            not_text: BAD_POLICY,
            more: vec![
                ("no UTF-8 within", [&file("policies/inspect.toml")[..], b"# \xff\n"].concat(), BAD_POLICY),
                ("another policy", file("policies/client.toml"), other_policy),
            ],
            ..row(&[&folder, "--policy", "{}"], &file("policies/inspect.toml"), MAX_POLICY, other_policy)
        },
        Row {
            more: vec![
                ("a head that another key signed", altered, (10, "head_signature")),
                ("a key", records.read("auditor.pub"), bad_head),
                ("records", appraisal.clone(), bad_head),
            ],
            ..row(
                &[&folder, "--head", "{}", "--head-key", &public],
                &records.read("head"),
                MAX_HEAD,
                bad_head,
            )
        },
        // Text behind a PEM block belongs to no key (RFC 7468, section 2).
        Row {
            trailing: GOOD,
            more: vec![
                ("another key", records.read("other.pub"), (10, "head_signature")),
                ("a private key", records.read("auditor.pem"), head_key),
                ("a certificate", pem::encode(&[file("fixtures/snp/common/key.der")]).into_bytes(), head_key),
            ],
            ..row(
                &[&folder, "--head", &head, "--head-key", "{}"],
                &records.read("auditor.pub"),
                MAX_KEY,
                head_key,
            )
        },
        Row {
            trailing: is_there,
            more: vec![
                ("a public key", records.read("auditor.pub"), key),
                ("a certificate", file("fixtures/snp/common/key.der"), key),
            ],
            ..row(&[&folder, "--sign-head", "{}", "--out", &out], &records.read("auditor.pem"), MAX_KEY, key)
        },
        // The same head of the record file by itself.
        Row {
            more: vec![("a head that another key signed", altered_head, (10, "head_signature"))],
            ..Row::new(
                &["replay", "--json", &appraisals, "--head", "{}", "--head-key", &public],
                records.read("head"),
                MAX_HEAD,
                bad_head,
            )
        },
        Row {
            trailing: GOOD,
            more: vec![("another key", records.read("other.pub"), (10, "head_signature"))],
            ..Row::new(
                &["replay", "--json", &appraisals, "--head", &head, "--head-key", "{}"],
                records.read("auditor.pub"),
                MAX_KEY,
                head_key,
            )
        },
        // A file in the place of the folder, and a folder without records.
        no_folder(&appraisal),
        // The part of an entry is what a broken append leaves; the audit tells its length.
        Row {
            name: APPRAISALS,
            empty: GOOD,
            cut: GOOD,
            more: vec![
                ("twice the same", appraisal.repeat(2), (10, "")),
                ("a head", records.read("head"), (30, "")),
            ],
            ..row(&["{folder}"], &appraisal, appraisal.len() + 1000, (30, ""))
        },
    ])
    .keeping(records)
}

fn bad_files_of_the_proxy() -> Suite {
    // Where it would listen is looked at last: what is accepted of the files ends there.
    let (url, client) = ("https://127.0.0.1:1", format!("{ROOT}/policies/client.toml"));
    let good = (2, "listen_not_loopback");
    let common = ["proxy", "--offline", "--policy", &client, "--listen", "0.0.0.0:0"];
    let row = |words: &[&str], whole: &[u8], limit: usize, bad: End| Row {
        good,
        ..Row::new(&[&common, words].concat(), whole.to_vec(), limit, bad)
    };
    let instance = |fields: &str| format!("[[instance]]\n{fields}\n").into_bytes();
    let (syntax, unknown, invalid) =
        ((2, "config_syntax"), (2, "config_unknown_field"), (2, "config_invalid"));
    let list = instance("url = \"https://127.0.0.1:1\"");
    let secret = |words: &[&str], code: &'static str| Row {
        // Half a word is one, and white space belongs to none.
        cut: good,
        trailing: (30, code),
        more: vec![
            ("two words", b"one two".to_vec(), (30, code)),
            ("two lines", b"one\ntwo\n".to_vec(), (30, code)),
            ("white space", b" \n".to_vec(), (30, code)),
            ("no UTF-8 within", b"one\xff".to_vec(), (30, code)),
        ],
        ..row(&[&["--upstream", url], words].concat(), b"sk-0123456789\n", MAX_KEY, (30, code))
    };
    Suite::new(vec![
        Row {
            // A list of nobody may grow.
            empty: good,
            oversized: (2, "config_too_large"),
            not_text: (2, "config_not_utf8"),
            folder: (1, "config_unreadable"),
            missing: (1, "config_unreadable"),
            more: vec![
                ("no UTF-8 within", [&list[..], b"# \xff\n"].concat(), (2, "config_not_utf8")),
                ("JSON", b"{\"instance\": []}".to_vec(), syntax),
                ("another field", instance("url = \"https://127.0.0.1:1\"\nmodel = \"m\""), unknown),
                ("another table", b"[[guest]]\n".to_vec(), unknown),
                ("no address", instance(""), invalid),
                ("a number", instance("url = 1"), invalid),
                ("plain http", instance("url = \"http://127.0.0.1:1\""), invalid),
                ("twice the same", list.repeat(2), (2, "instance_twice")),
                (
                    "too many",
                    (0..129).flat_map(|at| instance(&format!("url = \"https://a{at}\""))).collect(),
                    (2, "too_many_instances"),
                ),
            ],
            ..row(&["--upstreams", "{}"], &list, MAX_CONFIG, syntax)
        },
        secret(&["--token-file", "{}"], "token_file"),
        secret(&["--upstream-key-file", "{}"], "upstream_key_file"),
    ])
}

fn bad_files_of_the_commands_about_a_guest() -> Suite {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.cbor").display().to_string();
    let mut rows = Vec::new();
    for (words, good) in of_a_guest(&out) {
        let row = |flag: &str| {
            let mut words = words.clone();
            words.splice(1..1, owned(&[flag, "{}"]));
            Row {
                good,
                ..Row::new(&self::words(&words, &[]), file("policies/client.toml"), MAX_POLICY, BAD_POLICY)
            }
        };
        rows.push(bad_policies(row("--policy")));
        let danger = Row { whole: file("policies/danger-simulator.toml"), ..row("--danger-policy") };
        rows.push(danger_policies(danger));
    }
    // What is a key is for the guest to say, which nobody reaches here.
    let (bad, dialled) = ((30, "api_key_file"), (1, "dial_failed"));
    let chat = ["chat", "--offline", "--url", "https://127.0.0.1:1", "--api-key-file", "{}", "a question"];
    rows.push(Row {
        good: dialled,
        cut: dialled,
        ..Row::new(&chat, b"sk-0123456789".to_vec(), MAX_KEY, bad)
    });
    Suite::new(rows).keeping(folder)
}

fn bad_configurations() -> Suite {
    let syntax = (2, "config_syntax");
    let row = |words: &[&str], good: End| Row {
        good,
        // Without a setting it is a configuration all the same.
        empty: good,
        oversized: (2, "config_too_large"),
        not_text: (2, "config_not_utf8"),
        more: vec![
            ("no UTF-8 within", b"offline = true\n# \xff\n".to_vec(), (2, "config_not_utf8")),
            ("JSON", b"{\"offline\": true}".to_vec(), syntax),
            ("another field", b"onlin = true\n".to_vec(), (2, "config_unknown_field")),
            ("a field twice", b"offline = true\noffline = true\n".to_vec(), syntax),
            ("text for a switch", b"offline = \"true\"\n".to_vec(), (2, "config_invalid")),
            ("a number for a path", b"policy = 1\n".to_vec(), (2, "config_invalid")),
            ("a value that the flag does not take", b"listen = \"localhost\"\n".to_vec(), good),
            ("something dangerous", b"danger_policy = \"danger-a.toml\"\n".to_vec(), (2, "setting_danger")),
        ],
        ..Row::new(words, b"offline = true\n".to_vec(), MAX_CONFIG, syntax)
    };
    let mut rows = vec![
        row(&["config", "check", "--json", "{}"], GOOD),
        row(&["config", "show", "--json", "--config", "{}"], GOOD),
    ];
    for row in &mut rows {
        // What the command that asks a guest does not look at, these do.
        let value = row.more.iter_mut().find(|(what, ..)| what.starts_with("a value")).unwrap();
        value.2 = (2, "setting_invalid");
    }
    let asking = ["--config", "{}", "verify", "--json", "--offline", "https://127.0.0.1:1"];
    rows.push(row(&asking, (1, "dial_failed")));
    Suite::new(rows)
}

fn bad_files_of_doctor() -> Suite {
    // A machine without anything, of which something is to be mended: every other one says the same.
    let machine = tempfile::tempdir().unwrap();
    let (root, library) =
        (machine.path().display().to_string(), machine.path().join("none").display().to_string());
    let doctor = ["doctor", "--json", "--offline", "--danger-root", &root, "--danger-nvml", &library];
    let pem = pem::encode(&[file("fixtures/snp/common/key.der")]).into_bytes();
    let row = |words: &[&str], whole: &[u8], limit: usize, bad: End| Row {
        good: (10, ""),
        ..Row::new(&[&doctor, words].concat(), whole.to_vec(), limit, bad)
    };
    let certificate = |words: &[&str]| Row {
        more: vec![
            ("DER", file("fixtures/snp/common/key.der"), (30, "endorser_certificate")),
            ("a report", std::fs::read(snp_report()).unwrap(), (30, "endorser_certificate")),
        ],
        ..row(words, &pem, MAX_PEM, (30, "endorser_certificate"))
    };
    let url = "https://127.0.0.1:1";
    Suite::new(vec![
        policies(row(&["--policy", "{}"], &[], 0, BAD_POLICY)),
        danger_policies(row(
            &["--danger-policy", "{}"],
            &file("policies/danger-simulator.toml"),
            MAX_POLICY,
            BAD_POLICY,
        )),
        certificate(&["--pccs", url, "--pccs-certificate", "{}"]),
        certificate(&["--rim-service", url, "--rim-service-certificate", "{}"]),
        // In the place of a folder: what it lacks must be mended on this machine in any case.
        Row {
            good: (10, ""),
            folder: (10, ""),
            missing: (10, ""),
            ..row(&["--rim-store", "{}"], &pem, MAX_PEM, (10, ""))
        },
    ])
    .keeping(machine)
}
