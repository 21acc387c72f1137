//! The conformance suite through `confide conformance`: JSON in, JSON out, as any implementation would be run.
//!
//! Cases: those of `fixtures/tdx`, `fixtures/snp` and `fixtures/nvidia`, made from text, and the recorded evidence of the corpus, where there is one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    missing_docs,
    reason = "tests"
)]

mod command;
mod completeness;
mod corpus;
mod fixtures;
mod program;
mod schema;
