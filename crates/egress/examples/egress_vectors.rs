//! Prints `docs/protocol/egress-vectors.json`.
#![expect(clippy::print_stdout, reason = "a program that prints")]

#[path = "../tests/samples/mod.rs"]
#[allow(unreachable_pub, reason = "shared with the integration tests")]
mod samples;

fn main() {
    print!("{}", samples::file());
}
