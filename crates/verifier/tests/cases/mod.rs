//! The committed cases of the conformance suite, as files.
#![allow(dead_code, reason = "no test uses all of it")]

use confide_policy::AppraisalPolicy;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder below `fixtures`.
pub(crate) struct Suite(pub(crate) &'static str);

impl Suite {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(self.0)
    }

    /// The only case that is looked at, where the environment names one: that is how `cargo xtask test --stage mutants` asks
    /// whether it notices a fault.
    pub(crate) fn only() -> Option<String> {
        std::env::var("CONFIDE_CASE").ok()
    }

    /// All of its cases, by name.
    #[expect(
        clippy::disallowed_methods,
        reason = "fails where the crate's ban of reading files holds no longer"
    )]
    pub(crate) fn cases(&self) -> Vec<Value> {
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        folders
            .iter()
            .filter_map(|folder| std::fs::read_to_string(folder.join("case.json")).ok())
            .map(|text| serde_json::from_str(&text).unwrap())
            .filter(|case: &Value| Self::only().is_none_or(|name| case["name"] == *name))
            .collect()
    }

    /// A file that a case may name.
    pub(crate) fn named(&self, value: &Value) -> Option<Vec<u8>> {
        let name = value["file"].as_str()?;
        Some(std::fs::read(self.folder().join(name)).unwrap())
    }

    /// A file that a case names.
    pub(crate) fn file(&self, value: &Value) -> Vec<u8> {
        self.named(value).unwrap()
    }

    pub(crate) fn policy(&self, case: &Value) -> AppraisalPolicy {
        match case["policy"]["builtin"].as_str() {
            Some("inspect") => AppraisalPolicy::inspect(),
            Some("client") => AppraisalPolicy::client(),
            _ => {
                let text = String::from_utf8(self.file(&case["policy"])).unwrap();
                AppraisalPolicy::parse_recorded(&text).unwrap()
            }
        }
    }
}
