//! `cargo xtask fixtures`: writes the cases of a suite's folder anew from their recipes.
#![expect(clippy::print_stdout, reason = "a program that reports to a terminal")]

use std::path::PathBuf;

use anyhow::{Context, Result};
use confide_testkit::fixtures;

fn main() -> Result<()> {
    let suite = PathBuf::from(std::env::args_os().nth(1).context("usage: confide-fixtures FOLDER")?);
    let (made, there) = (fixtures::make_all(&suite)?, fixtures::read_all(&suite)?);
    for (path, bytes) in &made {
        if there.get(path) != Some(bytes) {
            let file = suite.join(path);
            std::fs::create_dir_all(file.parent().context("a file in a folder")?)?;
            std::fs::write(&file, bytes)?;
            println!("written: {}", file.display());
        }
    }
    for path in there.keys().filter(|path| !made.contains_key(*path)) {
        std::fs::remove_file(suite.join(path))?;
        println!("removed: {}", suite.join(path).display());
    }
    let bytes: usize = made.values().map(Vec::len).sum();
    println!("{} files, {bytes} bytes", made.len());
    Ok(())
}
