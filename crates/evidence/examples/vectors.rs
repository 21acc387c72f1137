//! Prints `docs/protocol/vectors.json`.
#![expect(clippy::print_stdout, reason = "a program that prints")]

#[path = "../tests/samples/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the integration tests")]
mod samples;
#[path = "../tests/samples/vectors.rs"]
#[allow(unreachable_pub, reason = "shared with the integration tests")]
mod vectors;

fn main() {
    print!("{}", vectors::file());
}
