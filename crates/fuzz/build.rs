//! Tells the crate how far it is optimised: times are asserted of optimised builds alone.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "how a build script speaks")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=CONFIDE_FUZZ_OPT_LEVEL={level}");
}
