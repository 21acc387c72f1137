//! The short form of mutation testing: a few known faults, put into a copy of the workspace one after the other. The
//! verifier's own cases must notice each of them, and nothing in the copy without a fault.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::test::{Tally, note, with_simulator};
use crate::{cargo, process};

/// A fault: a text of one file that stands there once, and what is put in its place.
#[derive(Debug)]
struct Fault {
    /// What is wrong with the appraisal then.
    what: &'static str,
    /// From the workspace root.
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

/// One for each kind of decision: a signature, a revocation, a TCB level, freshness, a measurement.
const FAULTS: &[Fault] = &[
    Fault {
        what: "the quote's signature may be anybody's",
        file: "crates/verifier/src/tdx.rs",
        from: "checks.need(&rules::QUOTE_SIGNATURE, body,",
        to: "checks.need(&rules::QUOTE_SIGNATURE, body.or(Ok::<(), &str>(())),",
    },
    Fault {
        what: "a revoked PCK certificate passes, and any other is revoked",
        file: "crates/verifier/src/tdx.rs",
        from: "if contents.pck_crl.revokes(&pck.serial) {",
        to: "if !contents.pck_crl.revokes(&pck.serial) {",
    },
    Fault {
        what: "a PCESVN below that of a TCB level reaches it",
        file: "crates/verifier/src/tcb.rs",
        from: "pck.pce_svn >= level.tcb.pce_svn",
        to: "pck.pce_svn <= level.tcb.pce_svn",
    },
    Fault {
        what: "a device's report may answer another nonce",
        file: "crates/verifier/src/nvidia/device.rs",
        from: "if self.report.nonce == expected {",
        to: "if self.report.nonce.len() == expected.len() {",
    },
    Fault {
        what: "a measurement that is none of its golden values equals them",
        file: "crates/verifier/src/nvidia/measurements.rs",
        from: "(!measurement.alternatives.contains(actual)).then_some",
        to: "measurement.alternatives.is_empty().then_some",
    },
];

/// The verifier's tests that need no corpus.
const TESTS: [&str; 2] = ["own_cases", "own_device_cases"];

/// What Cargo needs to build the test, and what the test reads.
const COPIED: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "crates", "fixtures", "policies", "tests"];

/// Sets the copy's artefacts apart from those of the tree: Cargo knows a workspace's own packages by their path within
/// the workspace, so that both would take each other's. Nothing else is built with this number, and packages of
/// registries are shared.
const CODEGEN_UNITS: u32 = 251;

/// The most lines that are told of a run that went wrong.
const TOLD: usize = 40;

/// Runs the tests on the copy as it is and with each fault.
///
/// # Errors
/// When the copy cannot be made or built, when its tests fail without a fault, or when a fault no longer fits the sources.
pub(crate) fn run() -> Result<Tally> {
    let copy = Copy::new()?;
    if let Noticed::Yes { tests } = copy.test()? {
        bail!("{tests} tests of {TESTS:?} fail without a fault: mend them first\n{}", copy.told());
    }
    let mut tally = Tally::default();
    for fault in FAULTS {
        let tested = copy.with(fault, Copy::test);
        let noticed = tested.with_context(|| format!("the fault {:?} in {}", fault.what, fault.file))?;
        tally = [tally, judged(fault, &noticed)].into_iter().sum();
    }
    Ok(tally)
}

/// One test for each fault, which passes where the fault is noticed.
fn judged(fault: &Fault, noticed: &Noticed) -> Tally {
    let Fault { what, file, .. } = fault;
    match noticed {
        Noticed::Yes { .. } => {
            note(format!("faults: noticed: {file}: {what}"));
            Tally::ONE
        }
        Noticed::No => {
            note(format!("faults: NOT noticed: {file}: {what}: add a case to fixtures/ that notices it"));
            Tally { failed: 1, ..Tally::default() }
        }
    }
}

/// Whether tests noticed a fault.
#[derive(Debug, PartialEq, Eq)]
enum Noticed {
    Yes {
        /// How many of them.
        tests: u64,
    },
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

    /// Does something while a fault is in the copy.
    fn with<T>(&self, fault: &Fault, act: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let path = self.root.join(fault.file);
        let sound = read(&path)?;
        write(&path, &fault.put_into(&sound)?)?;
        let done = act(self);
        write(&path, &sound)?;
        done
    }

    fn test(&self) -> Result<Noticed> {
        let mut command = with_simulator("test")?;
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", target()).arg("--no-fail-fast");
        command.args(TESTS.iter().flat_map(|test| ["--test", test]));
        for package in &self.packages {
            for setting in ["opt-level=0".to_owned(), format!("codegen-units={CODEGEN_UNITS}")] {
                command.arg(format!("--config=profile.dev.package.{package}.{setting}"));
            }
        }
        let output = command.output().with_context(|| format!("starting {}", process::shown(&command)))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout);
        write(&self.log(), &format!("{said}{}", text(&output.stderr)))?;
        let broken = || format!("{TESTS:?} counted no test; a fault must compile\n{}", self.told());
        noticed(&said, output.status.success()).with_context(broken)
    }

    /// What the tests print, and the compiler.
    fn log(&self) -> PathBuf {
        self.root.with_file_name("log.txt")
    }

    /// The end of it.
    fn told(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TOLD)..].join("\n")
    }
}

impl Fault {
    /// The text with the fault.
    fn put_into(&self, text: &str) -> Result<String> {
        let Self { what, file, from, to } = self;
        match text.matches(from).count() {
            1 => Ok(text.replace(from, to)),
            count => bail!(
                "the fault {what:?} no longer fits {file}, in which {from:?} stands {count} times: write it anew in \
                 crates/xtask/src/faults.rs"
            ),
        }
    }
}

/// What a run of tests says of a fault; nothing where no test ran.
fn noticed(said: &str, success: bool) -> Option<Noticed> {
    let Tally { passed, failed, .. } = said.lines().filter_map(Tally::of_line).sum();
    match (success, passed, failed) {
        (true, 1.., 0) => Some(Noticed::No),
        (false, _, 1..) => Some(Noticed::Yes { tests: failed }),
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

    const FAULT: Fault = Fault { what: "a fault", file: "a.rs", from: "a >= b", to: "a <= b" };

    #[test]
    fn every_fault_fits_the_sources() {
        for fault in FAULTS {
            let text = read(&cargo::root().join(fault.file)).unwrap();
            assert_ne!(fault.put_into(&text).unwrap(), text, "{fault:?}");
        }
    }

    #[test]
    fn a_fault_whose_text_is_gone_or_stands_twice_is_an_error_that_says_what_to_do() {
        assert_eq!(FAULT.put_into("if a >= b {}").unwrap(), "if a <= b {}");
        for (text, count) in [("if a > b {}", "0 times"), ("a >= b && a >= b", "2 times")] {
            let error = FAULT.put_into(text).unwrap_err().to_string();
            assert!(error.contains(count) && error.contains("write it anew"), "{error}");
        }
    }

    #[test]
    fn a_fault_is_noticed_by_a_failed_test_and_by_nothing_else() {
        let summary = |word, passed, failed| {
            format!(
                "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
            )
        };
        assert_eq!(noticed(&summary("ok", 3, 0), true), Some(Noticed::No));
        assert_eq!(noticed(&summary("FAILED", 1, 2), false), Some(Noticed::Yes { tests: 2 }));
        assert_eq!(noticed(&summary("ok", 0, 0), true), None, "no test");
        assert_eq!(noticed("error: could not compile", false), None, "no program");
        assert_eq!(noticed(&summary("ok", 3, 0), false), None, "broken in another way");
    }

    #[test]
    fn a_fault_that_nobody_notices_is_a_failure() {
        assert_eq!(judged(&FAULT, &Noticed::Yes { tests: 1 }), Tally::ONE);
        assert_eq!(judged(&FAULT, &Noticed::No).failed, 1);
    }
}
