//! The guest's initial file system, built from our own binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cpio::Archive;
use super::kernel::{Kernel, Module};
use crate::process;

/// Where modules lie.
const MODULES: &str = "/usr/lib/modules";
/// What names them, in the order in which `confide-guest` loads them.
pub(super) const MODULE_LIST: &str = "/etc/confide/modules";
/// The measured configuration.
const CONFIGURATION: &str = "/etc/confide/guest.toml";
/// What endorses the platform, for the guest to staple.
pub(super) const COLLATERAL: &str = "/etc/confide/collateral.json";
/// The folders that `confide-guest` mounts something on.
const MOUNT_POINTS: &[&str] = &["/dev", "/proc", "/sys", "/run", "/tmp", "/volumes"];
/// Other programs that the guest runs: it renders its rules for the first, and makes file systems on its own volumes with the
/// second.
const PROGRAMS: &[&str] = &["/usr/sbin/nft", "/usr/sbin/mke2fs"];

/// What the guest needs of the kernel beside its image.
const OF_KERNEL: &[&str] = &[
    "virtio_blk",
    "virtio_net",
    "dm-mod",
    "dm-crypt",
    "dm-verity",
    "dm-integrity",
    "xts",
    "aes_generic",
    "aesni-intel",
    "authenc",
    "hmac",
    "sha256_generic",
    "sha512_generic",
    "ext4",
    "nfnetlink",
    "nf_tables",
    "nft_ct",
    "nft_log",
    "nft_chain_nat",
    "nft_redir",
    "nfnetlink_log",
    "tcp_diag",
    "udp_diag",
    "tsm",
];

/// What an image is made of.
pub(super) struct Contents<'a> {
    /// Our program.
    pub(super) guest: &'a Path,
    pub(super) kernel: &'a Kernel,
    /// The module in the place of a TDX guest's driver, or none.
    pub(super) tdx: Option<&'a Module>,
    /// The measured configuration; without one the guest looks for a disk.
    pub(super) configuration: Option<&'a str>,
    /// What endorses the platform, a file of this machine.
    pub(super) collateral: &'a Path,
}

/// Builds an image. The same contents give the same bytes.
///
/// # Errors
/// When something is missing on this machine.
pub(super) fn build(contents: &Contents<'_>, image: &Path) -> Result<()> {
    let mut archive = Archive::default();
    MOUNT_POINTS.iter().for_each(|folder| archive.folder(folder));
    add_stripped(&mut archive, "/init", contents.guest, image)?;
    for program in PROGRAMS {
        add_program(&mut archive, program)?;
    }
    let mut modules = contents.kernel.modules(OF_KERNEL)?;
    modules.extend(contents.tdx.cloned());
    add_modules(&mut archive, modules);
    if let Some(text) = contents.configuration {
        archive.data(CONFIGURATION, text);
    }
    let collateral = fs::read(contents.collateral).context("reading the collateral")?;
    archive.data(COLLATERAL, collateral);
    compress(&archive.encode(), image)
}

/// A program of ours without its symbols, at this path, and what it is linked with.
///
/// # Errors
/// When it cannot be read or stripped, or a library is missing.
pub(super) fn add_stripped(archive: &mut Archive, path: &str, program: &Path, image: &Path) -> Result<()> {
    archive.program(path, stripped(program, &image.with_extension("stripped"))?);
    add_libraries(archive, program)
}

/// A program or a library of this machine, at its path here, and what it is linked with.
///
/// # Errors
/// When it or a library is missing.
pub(super) fn add_program(archive: &mut Archive, program: &str) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("reading {program}"))?;
    archive.program(program, bytes);
    add_libraries(archive, Path::new(program))
}

/// Modules, and the list of them.
pub(super) fn add_modules(archive: &mut Archive, modules: Vec<Module>) {
    let mut list = String::new();
    for (name, bytes) in modules {
        let path = format!("{MODULES}/{name}");
        list.push_str(&format!("{path}\n"));
        archive.data(&path, bytes);
    }
    archive.data(MODULE_LIST, list);
}

/// A program's loader and libraries, at the paths at which they are looked for.
fn add_libraries(archive: &mut Archive, program: &Path) -> Result<()> {
    let listed = process::output(Command::new("ldd").arg(program))?;
    for library in libraries(&listed)? {
        let name = library.to_str().context("a library's path in UTF-8")?;
        if !archive.has(name) {
            let bytes = fs::read(&library).with_context(|| format!("reading {name}"))?;
            archive.program(name, bytes);
        }
    }
    Ok(())
}

/// The paths of `NAME => PATH (ADDRESS)` and `PATH (ADDRESS)` (ldd(1)).
fn libraries(listed: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in listed.lines() {
        let place = line.split_once("=>").map_or(line, |(_, place)| place).trim();
        match place.split(' ').next() {
            Some(path) if path.starts_with('/') => paths.push(PathBuf::from(path)),
            // The kernel gives this one.
            _ if line.contains("linux-vdso") => {}
            _ => bail!("a library is missing: {}", line.trim()),
        }
    }
    Ok(paths)
}

/// A program's bytes without its symbols.
fn stripped(program: &Path, scratch: &Path) -> Result<Vec<u8>> {
    process::run(Command::new("strip").args(["--strip-all", "-o"]).arg(scratch).arg(program))?;
    let bytes = fs::read(scratch).with_context(|| format!("reading {}", scratch.display()))?;
    fs::remove_file(scratch)?;
    Ok(bytes)
}

/// Writes the archive in the compressed form that the kernel unpacks fastest.
///
/// # Errors
/// When it cannot be written, or zstd is missing.
pub(super) fn compress(archive: &[u8], image: &Path) -> Result<()> {
    let plain = image.with_extension("cpio");
    fs::write(&plain, archive).with_context(|| format!("writing {}", plain.display()))?;
    let mut zstd = Command::new("zstd");
    zstd.args(["--quiet", "--force", "-3", "--threads=1", "--rm", "-o"]).arg(image).arg(&plain);
    let status = zstd.stdin(Stdio::null()).status().context("starting zstd")?;
    ensure!(status.success(), "zstd cannot write {}", image.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_read_from_ldd() {
        let listed = "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f0)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x7f1)\n";
        let paths = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(listed).unwrap(), paths);
        assert!(libraries("\tlibx.so => not found\n").is_err());
    }
}
