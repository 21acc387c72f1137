//! The short form of mutation testing: a few known faults, put into a copy of the workspace, which is built once. Each is
//! there where a variable of the environment says so. The one of the verifier's own cases that is about what the fault breaks
//! must notice it, and must pass without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::test::{Tally, note, with_simulator};
use crate::{cargo, process};

/// A fault: an expression of one file, and what is put in its place.
#[derive(Debug)]
struct Fault {
    /// What is wrong with the appraisal then.
    what: &'static str,
    /// From the workspace root.
    file: &'static str,
    /// What stands in the file once, with `{}` for the expression.
    around: &'static str,
    sound: &'static str,
    faulty: &'static str,
    /// The test, and the case of `fixtures` that notices.
    test: &'static str,
    case: &'static str,
}

/// One for each kind of decision: a signature, a revocation, a TCB level, freshness, a measurement.
const FAULTS: &[Fault] = &[
    Fault {
        what: "the quote's signature may be anybody's",
        file: "crates/verifier/src/tdx.rs",
        around: "checks.need(&rules::QUOTE_SIGNATURE, {},",
        sound: "body",
        faulty: "body.or(Ok(()))",
        test: TDX,
        case: "quote_signature-by-another-key",
    },
    Fault {
        what: "a revoked PCK certificate passes, and any other is revoked",
        file: "crates/verifier/src/tdx.rs",
        around: "if {} {",
        sound: "contents.pck_crl.revokes(&pck.serial)",
        faulty: "!contents.pck_crl.revokes(&pck.serial)",
        test: TDX,
        case: "pck_revocation-revoked",
    },
    Fault {
        what: "a PCESVN below that of a TCB level reaches it",
        file: "crates/verifier/src/tcb.rs",
        around: "{}",
        sound: "pck.pce_svn >= level.tcb.pce_svn",
        faulty: "pck.pce_svn <= level.tcb.pce_svn",
        test: TDX,
        case: "tcb_status-pcesvn-below-every-level",
    },
    Fault {
        what: "a device's report may answer another nonce",
        file: "crates/verifier/src/nvidia/device.rs",
        around: "if {} {",
        sound: "self.report.nonce == expected",
        faulty: "self.report.nonce.len() == expected.len()",
        test: DEVICES,
        case: "device_nonce-another",
    },
    Fault {
        what: "a measurement that is none of its golden values equals them",
        file: "crates/verifier/src/nvidia/measurements.rs",
        around: "({}).then_some",
        sound: "!is_golden",
        faulty: "measurement.alternatives.is_empty()",
        test: DEVICES,
        case: "device_measurements-driver",
    },
];

/// The package that all of them are in.
const LIBRARY: &str = "crates/verifier/src/lib.rs";
/// Names the fault that is there: its place in [`FAULTS`].
const VARIABLE: &str = "CONFIDE_FAULT";

/// Names the only case that is looked at.
const CASE: &str = "CONFIDE_CASE";

const TDX: &str = "own_cases";
const DEVICES: &str = "own_device_cases";
/// What the test of cases is called in both.
const TEST: &str = "every_case_gets_the_verdict_that_it_expects";

/// What Cargo needs to build the test, and what the test reads.
const COPIED: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "crates", "fixtures", "policies", "tests"];

/// Sets the copy's artefacts apart from those of the tree: Cargo knows a workspace's own packages by their path within
/// the workspace, so that both would take each other's. Nothing else is built with this number, and packages of
/// registries are shared.
const CODEGEN_UNITS: u32 = 251;

/// Runs each fault's case without and with it.
///
/// # Errors
/// When the copy cannot be made or built, when a case fails without its fault, or when a fault no longer fits the sources.
pub(crate) fn run() -> Result<Tally> {
    let copy = Copy::new()?;
    copy.put_in(FAULTS)?;
    let tests = copy.build()?;
    let mut tally = Tally::default();
    for (number, fault) in FAULTS.iter().enumerate() {
        let test = tests.get(fault.test).with_context(|| format!("Cargo built no test {}", fault.test))?;
        let with = |number: String| {
            let mut command = Command::new(test);
            command.current_dir(copy.root.join("crates/verifier"));
            command.args(["--exact", TEST]).env(CASE, fault.case).env(VARIABLE, number);
            let output =
                command.output().with_context(|| format!("starting {}", process::shown(&command)))?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            noticed(&said, output.status.success(), fault.case)
                .with_context(|| format!("the case {} gave no verdict:\n{said}", fault.case))
        };
        ensure!(
            with(String::new())? == Noticed::No,
            "the case {} fails without a fault: mend it first",
            fault.case
        );
        tally = [tally, judged(fault, &with(number.to_string())?)].into_iter().sum();
    }
    Ok(tally)
}

/// One test for each fault, which passes where the fault is noticed.
fn judged(fault: &Fault, noticed: &Noticed) -> Tally {
    let Fault { what, file, .. } = fault;
    match noticed {
        Noticed::Yes => {
            note(format!("faults: noticed: {file}: {what}"));
            Tally::ONE
        }
        Noticed::No => {
            note(format!("faults: NOT noticed: {file}: {what}: add a case to fixtures/ that notices it"));
            Tally { failed: 1, ..Tally::default() }
        }
    }
}

/// Whether a fault's case noticed it.
#[derive(Debug, PartialEq, Eq)]
enum Noticed {
    Yes,
    No,
}

/// A copy of the workspace.
struct Copy {
    root: PathBuf,
    packages: Vec<String>,
}

impl Copy {
    fn new() -> Result<Self> {
        let root = cargo::root().join("target/faults/workspace");
        if root.exists() {
            std::fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        }
        std::fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
        for name in COPIED {
            let (from, to) = (cargo::root().join(name), root.join(name));
            copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        Ok(Self { root, packages: cargo::workspace_packages()? })
    }

    /// Puts faults into the copy, each there where [`VARIABLE`] names it.
    fn put_in(&self, faults: &[Fault]) -> Result<()> {
        for (number, fault) in faults.iter().enumerate() {
            let path = self.root.join(fault.file);
            write(&path, &fault.put_into(&read(&path)?, number)?)?;
        }
        let path = self.root.join(LIBRARY);
        write(&path, &format!("{}{}", read(&path)?, has_fault()))
    }

    /// Builds the tests, and tells their programs.
    fn build(&self) -> Result<BTreeMap<String, PathBuf>> {
        let mut command = with_simulator("test")?;
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", target());
        command.args(["--no-run", "--message-format=json", "--test", TDX, "--test", DEVICES]);
        for package in &self.packages {
            for setting in ["opt-level=0".to_owned(), format!("codegen-units={CODEGEN_UNITS}")] {
                command.arg(format!("--config=profile.dev.package.{package}.{setting}"));
            }
        }
        let mut tests = BTreeMap::new();
        let status = process::read_lines(&mut command, |line| {
            let message: Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(program) = message["executable"].as_str() {
                tests.insert(
                    message["target"]["name"].as_str().unwrap_or_default().to_owned(),
                    program.into(),
                );
            }
            // The parentheses around each fault are warned of.
            if message["message"]["level"] == "error" {
                eprint!("{}", message["message"]["rendered"].as_str().unwrap_or_default());
            }
        })?;
        process::require(&command, status)?;
        Ok(tests)
    }
}

impl Fault {
    /// The text, with the fault where [`VARIABLE`] names this number.
    fn put_into(&self, text: &str, number: usize) -> Result<String> {
        let Self { what, file, around, sound, faulty, .. } = self;
        let stands = around.replace("{}", sound);
        let either = format!("(if crate::has_fault({number}) {{ {faulty} }} else {{ {sound} }})");
        match text.matches(&stands).count() {
            1 => Ok(text.replace(&stands, &around.replace("{}", &either))),
            count => bail!(
                "the fault {what:?} no longer fits {file}, in which {stands:?} stands {count} times: write it anew in \
                 crates/xtask/src/faults.rs"
            ),
        }
    }
}

/// What tells the copy's verifier which fault it has.
fn has_fault() -> String {
    format!(
        "\nfn has_fault(number: usize) -> bool {{
    static FAULT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| std::env::var({VARIABLE:?}).unwrap_or_default());
    *FAULT == number.to_string()
}}\n"
    )
}

/// What a run of a case says of a fault; nothing where it did not run, or something else went wrong.
fn noticed(said: &str, success: bool, case: &str) -> Option<Noticed> {
    let Tally { passed, failed, .. } = said.lines().filter_map(Tally::of_line).sum();
    match (success, passed, failed) {
        (true, 1, 0) => Some(Noticed::No),
        (false, 0, 1) if said.contains(&format!("\"{case}\" ")) => Some(Noticed::Yes),
        _ => None,
    }
}

/// Where the tree is built: registry artefacts are taken from there.
fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    cargo::root().join(named)
}

/// A file, or a folder with all that is in it but build artefacts.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        std::fs::copy(from, to)?;
        return Ok(());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        if name != "target" {
            copy(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Fault = Fault {
        what: "a fault",
        file: "a.rs",
        around: "if {} ",
        sound: "a >= b",
        faulty: "a <= b",
        test: TDX,
        case: "a-case",
    };

    #[test]
    fn every_fault_fits_the_sources() {
        for fault in FAULTS {
            let text = read(&cargo::root().join(fault.file)).unwrap();
            assert_ne!(fault.put_into(&text, 0).unwrap(), text, "{fault:?}");
        }
    }

    #[test]
    fn a_fault_whose_text_is_gone_or_stands_twice_is_an_error_that_says_what_to_do() {
        assert_eq!(
            FAULT.put_into("if a >= b {}", 3).unwrap(),
            "if (if crate::has_fault(3) { a <= b } else { a >= b }) {}"
        );
        for (text, count) in [("if a > b {}", "0 times"), ("if a >= b {} if a >= b {}", "2 times")] {
            let error = FAULT.put_into(text, 3).unwrap_err().to_string();
            assert!(error.contains(count) && error.contains("write it anew"), "{error}");
        }
    }

    #[test]
    fn a_fault_is_noticed_by_its_case_and_by_nothing_else() {
        let summary = |word, passed, failed| {
            format!(
                "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
            )
        };
        let failed = |said: &str| noticed(&format!("{said}\n{}", summary("FAILED", 0, 1)), false, "a-case");
        assert_eq!(noticed(&summary("ok", 1, 0), true, "a-case"), Some(Noticed::No));
        assert_eq!(failed("2 wrong:\n\"a-case\" outcome: \"accepted\""), Some(Noticed::Yes));
        assert_eq!(failed("\"another-case\" outcome: \"accepted\""), None, "another case");
        assert_eq!(failed("thread panicked"), None, "broken in another way");
        assert_eq!(noticed(&summary("ok", 0, 0), true, "a-case"), None, "no test");
        assert_eq!(noticed("", false, "a-case"), None, "no program");
    }

    #[test]
    fn a_fault_that_nobody_notices_is_a_failure() {
        assert_eq!(judged(&FAULT, &Noticed::Yes), Tally::ONE);
        assert_eq!(judged(&FAULT, &Noticed::No).failed, 1);
    }
}
