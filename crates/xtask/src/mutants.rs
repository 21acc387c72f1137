//! Mutation testing: small faults put into the appraisal, each of which a test must notice.
//!
//! A fault that no test notices is a missing test, or no fault: the latter are explained in
//! `docs/long-runs/mutants-explained.md`, and anything else fails the stage. This is the long form; in CI a few known
//! faults are put into a copy instead ([`crate::faults`]).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::test::{Length, Tally, note};
use crate::tool::Tool;
use crate::{cargo, faults, process};

const TOOL: Tool = Tool { name: "cargo-mutants", version: "27.1.0", arguments: &[] };

/// What is mutated together, and which tests must notice.
struct Shard {
    name: &'static str,
    package: &'static str,
    /// The packages whose tests must notice, with commas between.
    tested_by: &'static str,
    files: &'static [&'static str],
    /// The files of tests, beside the unit tests, that notice most of them: whatever these miss is put before `tests`.
    first: &'static [&'static str],
    tests: &'static [&'static str],
}

/// A shard of the verifier.
const fn verifier(
    name: &'static str,
    files: &'static [&'static str],
    tests: &'static [&'static str],
) -> Shard {
    Shard { name, package: "confide-verifier", tested_by: "confide-verifier", files, first: CASES, tests }
}

/// A shard of what is parsed: the appraisal's own cases must notice as well.
const fn evidence(
    name: &'static str,
    files: &'static [&'static str],
    first: &'static [&'static str],
    tests: &'static [&'static str],
) -> Shard {
    let tested_by = "confide-evidence,confide-verifier";
    Shard { name, package: "confide-evidence", tested_by, files, first, tests }
}

/// The appraisal first.
const SHARDS: &[Shard] = &[
    verifier("tcb", &["crates/verifier/src/tcb.rs"], TDX),
    verifier("tdx", &["crates/verifier/src/tdx.rs", "crates/verifier/src/tdx/*.rs"], TDX),
    verifier("appraise", &["crates/verifier/src/appraise.rs", "crates/verifier/src/document.rs"], TDX),
    verifier(
        "platform",
        &[
            "crates/verifier/src/platform.rs",
            "crates/verifier/src/references.rs",
            "crates/verifier/src/signed.rs",
        ],
        TDX,
    ),
    Shard {
        name: "snp",
        package: "confide-verifier",
        tested_by: "confide-verifier",
        files: &["crates/verifier/src/snp/*.rs"],
        first: &["own_snp_cases"],
        tests: SNP,
    },
    verifier("boot_log", &["crates/verifier/src/boot_log.rs"], TDX),
    verifier("cross_check", &["crates/verifier/src/cross_check.rs", "crates/verifier/src/memo.rs"], ALL),
    verifier("signature", &["crates/verifier/src/signature.rs"], ALL),
    verifier(
        "check",
        &[
            "crates/verifier/src/check.rs",
            "crates/verifier/src/result.rs",
            "crates/verifier/src/rules.rs",
            "crates/verifier/src/text.rs",
        ],
        ALL,
    ),
    verifier("ear", &["crates/verifier/src/ear.rs"], ALL),
    verifier("witness", &["crates/verifier/src/receipt.rs", "crates/verifier/src/witness.rs"], TDX),
    Shard {
        name: "nvidia",
        package: "confide-verifier",
        tested_by: "confide-verifier",
        files: &["crates/verifier/src/nvidia/*.rs"],
        first: DEVICE_CASES,
        tests: NVIDIA,
    },
    evidence("quote", &["crates/evidence/src/tdx/*.rs"], CASES, PARSERS),
    evidence(
        "x509",
        &["crates/evidence/src/x509.rs", "crates/evidence/src/pem.rs", "crates/evidence/src/time.rs"],
        CASES,
        PARSERS,
    ),
    evidence("boot_log_format", &["crates/evidence/src/boot_log/*.rs"], CASES, PARSERS),
    evidence("snp_report", &["crates/evidence/src/snp/*.rs"], CASES, PARSERS),
    evidence(
        "nvidia_format",
        &[
            "crates/evidence/src/nvidia/*.rs",
            "crates/evidence/src/nvidia/nras/*.rs",
            "crates/evidence/src/nvidia/rim/*.rs",
        ],
        DEVICE_CASES,
        DEVICE_PARSERS,
    ),
    evidence("ocsp", &["crates/evidence/src/ocsp.rs"], DEVICE_CASES, DEVICE_PARSERS),
    evidence(
        "document",
        &[
            "crates/evidence/src/bytes.rs",
            "crates/evidence/src/cbor.rs",
            "crates/evidence/src/configuration.rs",
            "crates/evidence/src/document.rs",
            "crates/evidence/src/event.rs",
            "crates/evidence/src/hash.rs",
            "crates/evidence/src/head.rs",
            "crates/evidence/src/hex.rs",
            "crates/evidence/src/manifest.rs",
            "crates/evidence/src/percent.rs",
            "crates/evidence/src/read.rs",
            "crates/evidence/src/receipt.rs",
            "crates/evidence/src/record.rs",
            "crates/evidence/src/shared.rs",
            "crates/evidence/src/text.rs",
            "crates/evidence/src/transcript.rs",
        ],
        &["formats", "own_cases"],
        DOCUMENTS,
    ),
    Shard {
        name: "policy",
        package: "confide-policy",
        tested_by: "confide-policy",
        files: &["crates/policy/src/*.rs", "crates/policy/src/egress/*.rs"],
        first: &[],
        tests: &["documentation"],
    },
];

/// `confide-evidence` and what is built on it for the tests.
const ON_EVIDENCE: [&str; 4] =
    ["confide-evidence", "confide-policy", "confide-verifier", "confide-simulator"];

/// The appraisal's own cases, two or more for each check.
const CASES: &[&str] = &["own_cases"];

/// Those of devices.
const DEVICE_CASES: &[&str] = &["own_device_cases"];

/// The tests of the verifier that take seconds and are about TDX.
const TDX: &[&str] =
    &["own_cases", "tdx_corpus", "documents", "attacks", "policy", "references", "memo", "boot_log"];

/// Those that are about SEV-SNP.
const SNP: &[&str] = &["snp_simulated", "snp_sev", "snp_corpus", "own_snp_cases"];

/// Those that are about NVIDIA devices.
const NVIDIA: &[&str] = &[
    "own_cases",
    "nvidia_simulated",
    "own_device_cases",
    "nvidia_corpus",
    "nvidia_endorsed",
    "documents",
    "memo_devices",
    "nvidia_nras",
];

/// Those of the parsers, and the appraisal's own cases.
const PARSERS: &[&str] = &["formats", "boot_log", "x509", "x509_corpus", "own_cases", "snp_simulated"];

/// Those of the parsers of devices' evidence and endorsements.
const DEVICE_PARSERS: &[&str] = &[
    "nvidia_corpus",
    "nvidia_lists",
    "nvidia_endorsed",
    "nvidia_simulated",
    "ocsp",
    "ocsp_corpus",
    "rim",
    "rim_corpus",
    "own_device_cases",
    "nvidia_nras",
];

/// Those of the formats of our own.
const DOCUMENTS: &[&str] = &["formats", "boot_log", "own_cases", "documents", "attacks", "references"];

/// All of the verifier's but the long comparison with dcap-qvl.
const ALL: &[&str] = &[
    "own_cases",
    "tdx_corpus",
    "documents",
    "attacks",
    "policy",
    "references",
    "memo",
    "boot_log",
    "snp_simulated",
    "snp_corpus",
    "nvidia_simulated",
    "own_device_cases",
    "nvidia_endorsed",
    "own_snp_cases",
    "snp_sev",
    "memo_devices",
    "nvidia_nras",
    "nvidia_corpus",
];

/// Names the shards to run, with commas between; without it all are run. A shard takes an hour or more.
const CHOSEN: &str = "CONFIDE_MUTANTS";

/// Why a mutant that no test notices is no fault.
const EXPLAINED: &str = "docs/long-runs/mutants-explained.md";

/// Runs every shard in the long form, and the few known faults in CI.
///
/// # Errors
/// When a mutant is neither noticed by a test nor explained; those of [`faults::run`].
pub(crate) fn run(length: Length) -> Result<Tally> {
    if length == Length::Ci {
        return faults::run();
    }
    let tool = TOOL.installed()?;
    let explained = explained()?;
    let mut tally = Tally::default();
    for shard in chosen(std::env::var(CHOSEN).ok().as_deref())? {
        let found = shard.run(&tool)?;
        let open: Vec<&String> = found.missed.iter().filter(|mutant| !explained.contains(*mutant)).collect();
        note(format!(
            "mutants: {}: {} caught, {} time out, {} do not compile, {} explained, {} open",
            shard.name,
            found.caught,
            found.timeout,
            found.unviable,
            found.missed.len() - open.len(),
            open.len()
        ));
        for mutant in &open {
            note(format!("mutants: open: {mutant}"));
        }
        tally = [tally, Tally { passed: found.caught as u64, failed: open.len() as u64, ..Tally::default() }]
            .into_iter()
            .sum();
    }
    Ok(tally)
}

/// The shards of these names, or all.
fn chosen(names: Option<&str>) -> Result<Vec<&'static Shard>> {
    let Some(names) = names else { return Ok(SHARDS.iter().collect()) };
    let known = || SHARDS.iter().map(|shard| shard.name).collect::<Vec<_>>().join(", ");
    let find = |name: &str| SHARDS.iter().find(|shard| shard.name == name);
    names
        .split(',')
        .map(|name| {
            find(name).with_context(|| format!("{CHOSEN}: {name:?} is no shard; there are {}", known()))
        })
        .collect()
}

/// What became of a shard's mutants.
struct Found {
    missed: Vec<String>,
    caught: usize,
    timeout: usize,
    unviable: usize,
}

impl Shard {
    fn run(&self, tool: &Path) -> Result<Found> {
        let out = cargo::root().join("target/mutants").join(self.name);
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir_all(&out)?;
        let list = |name: &str| lines(&out.join("mutants.out").join(name));
        self.put(&["--no-shuffle"], self.first, &out, tool)?;
        let (mut caught, unviable) = (list("caught.txt")?.len(), list("unviable.txt")?.len());
        if !(list("missed.txt")?.is_empty() && list("timeout.txt")?.is_empty()) {
            self.put(&["--no-shuffle", "--iterate"], self.tests, &out, tool)?;
            caught += list("caught.txt")?.len();
        }
        Ok(Found {
            missed: list("missed.txt")?.iter().map(|line| without_place(line)).collect(),
            caught,
            timeout: list("timeout.txt")?.len(),
            unviable,
        })
    }

    /// What is built anew for each mutant.
    fn often_built(&self) -> Vec<&'static str> {
        if self.package == ON_EVIDENCE[0] { ON_EVIDENCE.to_vec() } else { vec![self.package] }
    }

    /// Puts the shard's mutants before these tests; with `--iterate` those that none has noticed yet.
    fn put(&self, arguments: &[&str], tests: &[&str], out: &Path, tool: &Path) -> Result<()> {
        let mut command = Command::new(tool);
        command.current_dir(cargo::root()).arg("mutants").args(arguments).args(["--colors", "never"]);
        command.args(["--minimum-test-timeout", "120", "--package", self.package]);
        command.args(["--test-package", self.tested_by, "--output"]).arg(out);
        for file in self.files {
            command.args(["--file", file]);
        }
        for package in self.often_built() {
            // A mutant is built once and run once.
            for setting in ["opt-level=0", "debug=0"] {
                command.arg(format!("--cargo-arg=--config=profile.dev.package.{package}.{setting}"));
            }
        }
        // Behind `--` they would choose what is run, and every test of the packages would be linked for each mutant.
        command.arg("--cargo-arg=--lib");
        command.args(
            tests.iter().flat_map(|test| ["--cargo-arg=--test".to_owned(), format!("--cargo-arg={test}")]),
        );
        // A mutant is one changed function.
        command.env("CARGO_INCREMENTAL", "1");
        // The corpus lies beside the repository, not beside the copy that is mutated.
        command.env("CONFIDE_CORPUS", corpus());
        // All copies share what they do not mutate.
        command.env("CARGO_TARGET_DIR", cargo::root().join("target/mutants/build"));
        let status = command.status().with_context(|| format!("starting {}", process::shown(&command)))?;
        // 2: mutants were missed; 3: some timed out. Both are in the lists.
        ensure!(matches!(status.code(), Some(0 | 2 | 3)), "{} ended with {status}", process::shown(&command));
        Ok(())
    }
}

fn corpus() -> std::ffi::OsString {
    std::env::var_os("CONFIDE_CORPUS").unwrap_or_else(|| cargo::root().join("../shared/corpus").into())
}

fn lines(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// `FILE:LINE:COLUMN: WHAT` without line and column, which change with every edit.
fn without_place(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => mutant.to_owned(),
    }
}

/// The mutants that the page of explanations names, in backquotes at the start of a list's item.
fn explained() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(cargo::root().join(EXPLAINED))?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once("`: "))
        .map(|(mutant, _)| mutant.to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_named_without_its_line() {
        assert_eq!(
            without_place("crates/verifier/src/tcb.rs:12:3: replace a -> bool with true"),
            "crates/verifier/src/tcb.rs: replace a -> bool with true"
        );
    }

    #[test]
    fn every_file_of_verifier_policy_and_what_they_appraise_is_in_one_shard() {
        let shards_of = |file: &str| {
            let holds = |pattern: &&&str| match pattern.strip_suffix("*.rs") {
                Some(folder) => file.strip_prefix(folder).is_some_and(|name| !name.contains('/')),
                None => **pattern == file,
            };
            SHARDS.iter().flat_map(|shard| shard.files).filter(holds).count()
        };
        let mut files = Vec::new();
        let mut folders = ["verifier/src", "policy/src", "evidence/src"]
            .map(|name| cargo::root().join("crates").join(name))
            .to_vec();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        assert!(files.len() > 40, "{files:?}");
        for path in files {
            let file = path.strip_prefix(cargo::root()).unwrap().to_str().unwrap();
            // Nothing but the list of modules.
            let lists = ["crates/verifier/src/lib.rs", "crates/evidence/src/lib.rs"];
            let expected = usize::from(!lists.contains(&file));
            assert_eq!(shards_of(file), expected, "{file}");
        }
    }

    #[test]
    fn all_tests_of_the_verifier_are_named_but_the_long_comparison() {
        let folder = std::fs::read_dir(cargo::root().join("crates/verifier/tests")).unwrap();
        let files = folder.map(|entry| entry.unwrap().path());
        let mut there: BTreeSet<_> = files
            .filter(|path| path.extension().is_some_and(|end| end == "rs"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert!(there.remove("tdx_dcap_qvl"));
        let named: BTreeSet<_> = ALL.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(named, there);
    }

    #[test]
    fn shards_are_chosen_by_name() {
        let names =
            |text| chosen(text).map(|shards| shards.iter().map(|shard| shard.name).collect::<Vec<_>>());
        assert_eq!(names(None).unwrap().len(), SHARDS.len());
        assert_eq!(names(Some("snp,tcb")).unwrap(), ["snp", "tcb"]);
        let error = names(Some("tcb,nonesuch")).unwrap_err().to_string();
        assert!(error.contains("nonesuch") && error.contains("signature"), "{error}");
    }

    #[test]
    fn the_files_of_every_shard_exist_and_every_explanation_is_of_one() {
        for shard in SHARDS {
            for file in shard.files {
                let path = cargo::root().join(file.trim_end_matches("*.rs"));
                assert!(path.exists(), "{}", path.display());
            }
        }
        for mutant in explained().unwrap() {
            let file = mutant.split(':').next().unwrap().to_owned();
            assert!(cargo::root().join(&file).is_file(), "{mutant}");
        }
    }
}
