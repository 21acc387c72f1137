//! Writes the seeds of every target into a folder, one folder for each: where `cargo fuzz` begins.
#![allow(clippy::disallowed_methods, missing_docs, reason = "a program that writes files")]

use confide_fuzz::{TARGETS, seeds};
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "target/fuzz-seeds".into()));
    for target in TARGETS {
        let folder = root.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (position, seed) in seeds::of(target.name).into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{position:02}")), seed)?;
        }
    }
    Ok(())
}
