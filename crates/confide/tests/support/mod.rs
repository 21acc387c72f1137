//! The built program, and recorded evidence that everybody has: the samples of the published crate `dcap-qvl`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `confide`.
pub(crate) fn confide<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_confide")).args(arguments).env("NO_COLOR", "").output().unwrap()
}

pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What is printed first: the verdict, behind which an error may stand.
pub(crate) fn verdict(output: &Output) -> String {
    stdout(output).split_inclusive('\n').next().unwrap_or_default().to_owned()
}

pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

/// A recorded quote, its collateral and a time at which both were valid.
pub(crate) struct Sample {
    pub(crate) quote: PathBuf,
    pub(crate) collateral: PathBuf,
    pub(crate) time: &'static str,
}

impl Sample {
    /// Version 4, TD 1.0 body.
    pub(crate) fn version_4() -> Self {
        Self::new("tdx_quote", "2025-06-20T00:00:00Z")
    }

    /// Version 5, extended TD 1.5 body.
    pub(crate) fn version_5() -> Self {
        Self::new("tdx_quote_td15ex", "2026-10-09T00:00:00Z")
    }

    /// The same evidence at another time.
    pub(crate) fn at(self, time: &'static str) -> Self {
        Self { time, ..self }
    }

    fn new(name: &str, time: &'static str) -> Self {
        let folder = package("dcap-qvl").join("sample");
        let sample = Self {
            quote: folder.join(name),
            collateral: folder.join(format!("{name}_collateral.json")),
            time,
        };
        assert!(sample.quote.exists(), "{}", sample.quote.display());
        sample
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        self.flags_with(&self.quote, &self.collateral, self.time)
    }

    pub(crate) fn flags_with(&self, quote: &Path, collateral: &Path, time: &str) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        ["--quote", &path(quote), "--collateral", &path(collateral), "--at", time]
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// `confide verify quote` with these flags and more.
    pub(crate) fn verify(&self, more: &[&str]) -> Output {
        run(&["verify", "quote"], self.flags(), more)
    }
}

pub(crate) fn run(command: &[&str], flags: Vec<String>, more: &[&str]) -> Output {
    let words = command.iter().map(|word| (*word).to_owned());
    let arguments: Vec<String> =
        words.chain(flags).chain(more.iter().map(|word| (*word).to_owned())).collect();
    confide(&arguments)
}

/// The folder of a dependency's source.
pub(crate) fn package(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Of other platforms not every package has been downloaded.
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let arguments = ["metadata", "--format-version", "1", "--offline"].into_iter().chain(platform);
    let output = Command::new(cargo).args(arguments).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let manifest =
        packages.iter().find(|package| package["name"] == name).unwrap()["manifest_path"].as_str().unwrap();
    Path::new(manifest).parent().unwrap().to_owned()
}
