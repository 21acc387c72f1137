//! What fuzzers run: one plain function of bytes for every parser, and for the appraisal.
//!
//! A function must not panic, whatever the bytes, and takes at most [`LIMIT`]. What it asserts beside that stands in it:
//! what is read can be written again to the same bytes, a verdict's outcome and checks agree, it is the same with and
//! without a memo and prepared collateral, nothing is accepted that nobody signed.
//!
//! Two programs run the functions. `tests/fuzz` is a `cargo fuzz` folder, which needs a nightly toolchain and steers by
//! coverage. [`smoke`] runs on the stable toolchain: seeds and kept corpus, then random changes of them for a given time.

mod beside;
mod devices;
mod edits;
mod evaluate;
mod guest;
mod mutate;
mod parsers;
mod release;
mod rim;
pub mod seeds;
pub mod smoke;
mod snp;
mod volume;
mod ways;
mod wire;
pub mod worst;

use std::time::Duration;

/// The longest that any input of at most [`MAX_INPUT`] may take to be refused, in optimised builds.
pub const LIMIT: Duration = Duration::from_millis(250);

/// The largest input that the limit holds for, in bytes: the largest evidence document.
pub const MAX_INPUT: usize = confide_evidence::document::MAX_DOCUMENT;

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also of its folder of the corpus and its file in `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics where something is wrong.
    pub run: fn(&[u8]),
}

/// Everything to fuzz.
pub static TARGETS: &[Target] = &[
    Target { name: "quote", run: parsers::quote },
    Target { name: "certificate", run: parsers::certificate },
    Target { name: "crl", run: parsers::crl },
    Target { name: "ocsp", run: parsers::ocsp },
    Target { name: "pem", run: parsers::pem },
    Target { name: "collateral", run: parsers::collateral },
    Target { name: "tcb_info", run: parsers::tcb_info },
    Target { name: "qe_identity", run: parsers::qe_identity },
    Target { name: "pcs_answer", run: parsers::pcs_answer },
    Target { name: "document", run: parsers::document },
    Target { name: "events", run: parsers::events },
    Target { name: "boot_log", run: parsers::boot_log },
    Target { name: "claims", run: parsers::claims },
    Target { name: "key_set", run: parsers::key_set },
    Target { name: "record", run: parsers::record },
    Target { name: "receipt", run: parsers::receipt },
    Target { name: "kept_receipts", run: parsers::kept_receipts },
    Target { name: "signed_head", run: parsers::signed_head },
    Target { name: "manifest", run: parsers::manifest },
    Target { name: "request", run: parsers::request },
    Target { name: "policy", run: parsers::policy },
    Target { name: "egress_policy", run: parsers::egress_policy },
    Target { name: "references", run: parsers::references },
    Target { name: "text", run: parsers::text },
    Target { name: "nvidia_report", run: parsers::nvidia_report },
    Target { name: "nvidia_opaque", run: parsers::nvidia_opaque },
    Target { name: "nvidia_chain", run: parsers::nvidia_chain },
    Target { name: "evidence_list", run: parsers::evidence_list },
    Target { name: "nras_answer", run: parsers::nras_answer },
    Target { name: "nras_claims", run: parsers::nras_claims },
    Target { name: "nras_jwks", run: parsers::nras_jwks },
    Target { name: "rim", run: parsers::rim },
    Target { name: "rim_answer", run: parsers::rim_answer },
    Target { name: "rim_canonical", run: parsers::rim_canonical },
    Target { name: "snp_report", run: parsers::snp_report },
    Target { name: "snp_key", run: parsers::snp_key },
    Target { name: "snp_file", run: parsers::snp_file },
    Target { name: "cache_file", run: parsers::cache_file },
    Target { name: "reference_state", run: parsers::reference_state },
    Target { name: "volume_header", run: volume::header },
    Target { name: "volume_binary", run: volume::binary },
    Target { name: "release_message", run: release::message },
    Target { name: "release_request", run: release::request },
    Target { name: "release_answer", run: release::answer },
    Target { name: "volume_secrets", run: release::secrets },
    Target { name: "audit_entry", run: release::audit },
    Target { name: "dns", run: wire::dns },
    Target { name: "server_name", run: wire::server_name },
    Target { name: "proxied_request", run: wire::proxied },
    Target { name: "quoting_answer", run: wire::quoting_answer },
    Target { name: "discovery_file", run: wire::discovery },
    Target { name: "event_stream", run: wire::event_stream },
    Target { name: "api_body", run: wire::api_body },
    Target { name: "inspect", run: parsers::inspect },
    Target { name: "conformance_case", run: parsers::conformance_case },
    Target { name: "evaluate_bytes", run: evaluate::bytes },
    Target { name: "evaluate_quote", run: evaluate::quote },
    Target { name: "evaluate_log", run: evaluate::log },
    Target { name: "evaluate_collateral", run: evaluate::collateral },
    Target { name: "evaluate_document", run: evaluate::document },
    Target { name: "evaluate_snp", run: evaluate::snp },
    Target { name: "evaluate_snp_files", run: evaluate::snp_files },
    Target { name: "evaluate_devices", run: devices::devices },
    Target { name: "evaluate_device_files", run: devices::files },
    Target { name: "evaluate_references", run: beside::references },
    Target { name: "evaluate_opinion", run: beside::opinion },
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Whether this build is optimised, so that its times mean something.
#[must_use]
pub fn is_optimised() -> bool {
    matches!(env!("CONFIDE_FUZZ_OPT_LEVEL"), "2" | "3" | "s" | "z")
}

/// Runs the target of a name, with the limit of its time.
///
/// # Panics
/// Where the target finds something or takes too long, or no target has the name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("no target is called {name}"));
    let _ = smoke::checked(target, bytes);
}
