//! Reads the recorded NVIDIA evidence and the expectations of its `INDEX.md`.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the corpus lies in files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use confide_evidence::pem;
use serde_json::Value;

/// One report with the chain that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Path of the file in the corpus and position in it.
    pub(crate) source: String,
    /// SPDM request ‖ response.
    pub(crate) report: Vec<u8>,
    /// PEM, leaf first.
    pub(crate) chain: Vec<u8>,
    /// What the index says of it, by field name; empty for all but the first item of a file.
    pub(crate) expected: BTreeMap<String, String>,
    /// Whether report and chain belong together and verify.
    pub(crate) genuine: bool,
}

/// Number of reports in the corpus, which a test names when it cannot run.
pub(crate) const REPORTS: usize = 55;

/// The NVIDIA part of the corpus, or a line that says what is not run over all reports.
pub(crate) fn folder(what: &str) -> Option<PathBuf> {
    folder_for(&format!("{what} over {REPORTS} recorded NVIDIA reports"))
}

/// The NVIDIA part of the corpus, or a line that says what is not run.
pub(crate) fn folder_for(what: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CONFIDE_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"), PathBuf::from);
    let folder = root.join("nvidia");
    if folder.join("INDEX.md").is_file() {
        return Some(folder);
    }
    eprintln!("not run: {what}: no corpus at {}", root.display());
    None
}

/// Every report that the index lists.
pub(crate) fn items(folder: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    let index = std::fs::read_to_string(folder.join("INDEX.md")).unwrap();
    let mut section = PathBuf::new();
    for line in index.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = folder.join(name);
            continue;
        }
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, path, _, _, _, kind, _, computed, ..] = columns.as_slice() else { continue };
        let file = section.join(path);
        let found = match *kind {
            "report" => vec![single(&file)],
            "evidence" => evidence(&file),
            "gdata" => google(&file),
            _ => continue,
        };
        let (expected, genuine) = (fields(computed), !computed.contains("sig BAD"));
        for (position, (report, chain)) in found.into_iter().enumerate() {
            let name = file.strip_prefix(folder).unwrap().display();
            let expected = if position == 0 { expected.clone() } else { BTreeMap::new() };
            items.push(Item { source: format!("{name}#{position}"), report, chain, expected, genuine });
        }
    }
    assert_eq!(items.len(), REPORTS, "reports in the index");
    items
}

/// `name value` pairs of the index's `computed` column.
fn fields(computed: &str) -> BTreeMap<String, String> {
    let first = computed.split(['‖', ';']).find(|part| part.contains("nonce")).unwrap();
    let first = first.split_once("len ").unwrap().1;
    let mut fields: BTreeMap<String, String> = first
        .split(", ")
        .skip(1)
        .filter_map(|pair| pair.trim().rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    fields.insert("len".into(), first.split(',').next().unwrap().into());
    fields
}

/// A report in a file of its own, with the chain beside it or, for two broken ones, the chain that the index used.
fn single(file: &Path) -> (Vec<u8>, Vec<u8>) {
    let bytes = std::fs::read(file).unwrap();
    let report = match file.extension().and_then(|extension| extension.to_str()) {
        Some("hex") => confide_evidence::hex::decode(std::str::from_utf8(&bytes).unwrap().trim()).unwrap(),
        _ => bytes,
    };
    let root = file.parent().unwrap().parent().unwrap();
    let chain = match file.file_name().and_then(|name| name.to_str()).unwrap() {
        "report-bad-signature.hex" => root.join("hopper-535.86.09/chain.pem"),
        "switch-report-bad-signature.hex" => root.join("ls10-96.10.55.00.01/chain.pem"),
        _ => file.with_file_name("chain.pem"),
    };
    (report, std::fs::read(chain).unwrap())
}

/// NVIDIA's serialised evidence: a list of base64 reports and base64 PEM.
fn evidence(file: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let list: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    list.iter().map(|item| (decode(&item["evidence"]), decode(&item["certificate"]))).collect()
}

/// Google's recordings: Python objects as JSON.
fn google(file: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let gpus = all["gpus"].as_array().unwrap().iter().map(|gpu| {
        let chain = &gpu["CertificateChains"]["GpuAttestationCertificateChain"];
        (decode(&gpu["AttestationReport"]["py/b64"]), pems(chain))
    });
    let switches = all["nvswitches"].as_array().into_iter().flatten().map(|switch| {
        (decode(&switch["attestation_report"]["py/b64"]), pems(&switch["attestation_cert_chain"]))
    });
    gpus.chain(switches).collect()
}

fn pems(list: &Value) -> Vec<u8> {
    list.as_array().unwrap().iter().flat_map(|certificate| decode(&certificate["pem"])).collect()
}

fn decode(value: &Value) -> Vec<u8> {
    pem::base64(value.as_str().unwrap()).unwrap()
}
