//! Debian's kernel for virtual machines, and the test's own module for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::{self, Archive};
use crate::{cargo, process};

/// Depends on the newest kernel for virtual machines, whose name changes with each build.
const NEWEST: &str = "linux-image-cloud-amd64";
/// The compiler that the kernel was built by: modules must be built by the same one.
const COMPILER: &str = "gcc-12";
/// The module that plays a TDX guest's driver.
const SIMULATED: &str = "simulated_tdx_guest";
/// Where it is built.
const MODULE: &str = "target/vm/module";

/// An unpacked kernel.
pub(super) struct Kernel {
    /// Holds `boot` and `usr` of the packages.
    root: PathBuf,
    /// As in 6.12.95+deb12-cloud-amd64.
    release: String,
    /// Path of each module below the folder of modules, and what it needs.
    modules: BTreeMap<String, Vec<String>>,
    /// Names of the modules that the kernel's image contains.
    built_in: BTreeSet<String>,
}

/// A module: its file name and its bytes.
pub(super) type Module = (String, Vec<u8>);

impl Kernel {
    /// The kernel of an earlier run, or the newest one from the machine's mirror.
    ///
    /// # Errors
    /// When there is none and none can be fetched.
    pub(super) fn fetch() -> Result<Self> {
        let folder = cargo::root().join("target/vm/kernel");
        debian::once(&folder, "kernel", download)?;
        let (root, release) = (folder.join("root"), fs::read_to_string(folder.join("release"))?);
        let of_modules = root.join("usr/lib/modules").join(&release);
        let read = |name: &str| {
            let file = of_modules.join(name);
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
        };
        let modules = parse_dependencies(&read("modules.dep")?)?;
        let built_in = read("modules.builtin")?.lines().map(|path| module_name(path).to_owned()).collect();
        Ok(Self { root, release, modules, built_in })
    }

    /// The kernel's file, which a boot loader starts.
    pub(super) fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// As in 6.12.95+deb12-cloud-amd64.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// These modules and all that they need, in an order in which they can be loaded, but those that the kernel's image
    /// contains.
    ///
    /// # Errors
    /// When the kernel has no module of a name, or one cannot be read.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut paths = Vec::new();
        for name in names.iter().filter(|name| !self.built_in.contains(**name)) {
            let path = self.modules.keys().find(|path| module_name(path) == *name);
            let path = path.with_context(|| format!("the kernel {} has no module {name}", self.release))?;
            self.collect(path, &mut paths);
        }
        let mut seen = BTreeSet::new();
        paths.retain(|path| seen.insert(*path));
        let folder = self.root.join("usr/lib/modules").join(&self.release);
        let module =
            |path: &&str| Ok((format!("{}.ko", module_name(path)), read_module(&folder.join(path))?));
        paths.iter().map(module).collect()
    }

    /// What a module needs, then itself.
    fn collect<'a>(&'a self, path: &'a str, into: &mut Vec<&'a str>) {
        // modules.dep names the needs of needs too, and what is needed first last.
        into.extend(self.modules.get(path).into_iter().flatten().rev().map(String::as_str));
        into.push(path);
    }

    /// Builds the module that plays a TDX guest's driver, from `tests/vm/module`.
    ///
    /// # Errors
    /// When it does not compile.
    pub(super) fn build_simulated_tdx(&self) -> Result<()> {
        let folder = cargo::root().join(MODULE);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(cargo::root().join("tests/vm/module"))? {
            let from = entry?.path();
            let to = folder.join(from.file_name().context("a file with a name")?);
            // A file that is written anew is built anew.
            if fs::read(&from)? != fs::read(&to).unwrap_or_default() {
                fs::copy(&from, &to)?;
            }
        }
        let headers = self.root.join(format!("usr/src/linux-headers-{}", self.release));
        let mut make = Command::new("make");
        make.arg("--silent").arg("-C").arg(headers).arg(format!("M={}", folder.display()));
        process::run(make.args([&format!("CC={COMPILER}"), "modules"]))
    }

    /// The module that [`Self::build_simulated_tdx`] left.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn simulated_tdx(&self) -> Result<Module> {
        let name = format!("{SIMULATED}.ko");
        let bytes =
            fs::read(cargo::root().join(MODULE).join(&name)).with_context(|| format!("reading {name}"))?;
        Ok((name, bytes))
    }
}

fn download(folder: &Path) -> Result<()> {
    let archive = Archive::open()?;
    let release = newest(&archive.show(NEWEST)?)?;
    let base = release.strip_suffix("-cloud-amd64").context("a kernel for virtual machines")?;
    println!("fetching Debian's kernel {release}");
    let root = folder.join("root");
    let packages = [
        format!("linux-image-{release}"),
        format!("linux-headers-{release}"),
        format!("linux-headers-{base}-common"),
        format!("linux-kbuild-{base}"),
    ];
    archive.unpack(&packages, &root)?;
    relocate(&root, &release)?;
    process::run(Command::new("/sbin/depmod").arg("-b").arg(&root).arg(&release))?;
    Ok(fs::write(folder.join("release"), release)?)
}

/// Lets the headers be used from another root than that of the system.
fn relocate(root: &Path, release: &str) -> Result<()> {
    let headers = root.join(format!("usr/src/linux-headers-{release}"));
    let makefile = headers.join("Makefile");
    let text = fs::read_to_string(&makefile).with_context(|| format!("reading {}", makefile.display()))?;
    let moved = text.replace("include /usr/src/", &format!("include {}/usr/src/", root.display()));
    ensure!(moved != text, "{} includes nothing from /usr/src", makefile.display());
    fs::write(&makefile, moved)?;
    let vmlinux = headers.join("vmlinux");
    if vmlinux.exists() {
        // It gives modules type information, which takes another tool to make.
        fs::remove_file(vmlinux)?;
    }
    Ok(())
}

/// The release of the kernel that the package of the newest one depends on.
fn newest(about: &str) -> Result<String> {
    let depends = about.lines().find_map(|line| line.strip_prefix("Depends: linux-image-"));
    let name = depends.and_then(|depends| depends.split([' ', ',']).next());
    Ok(name.with_context(|| format!("{NEWEST} depends on no kernel"))?.to_owned())
}

/// Reads `PATH: NEEDED NEEDED…` (modules.dep(5)).
fn parse_dependencies(text: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let line = |line: &str| {
        let (path, needed) = line.split_once(':').with_context(|| format!("no colon in {line:?}"))?;
        Ok((path.to_owned(), needed.split_whitespace().map(str::to_owned).collect()))
    };
    text.lines().map(line).collect()
}

/// The name of a module, as in `dm-crypt`, from its path.
fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(name, _)| name)
}

/// A module's bytes, uncompressed.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).output();
    let output = output.context("starting xz")?;
    ensure!(output.status.success(), "xz cannot read {}", path.display());
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernels_release_is_that_of_the_package_depended_on() {
        let about = "Package: linux-image-cloud-amd64\n\
            Depends: linux-image-6.12.1+deb12-cloud-amd64 (= 6.12.1-1)\n";
        assert_eq!(newest(about).unwrap(), "6.12.1+deb12-cloud-amd64");
        assert!(newest("Package: other\n").is_err());
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let text =
            "a/dm-crypt.ko.xz: a/dm-mod.ko.xz a/base.ko.xz\na/dm-mod.ko.xz: a/base.ko.xz\na/base.ko.xz:\n";
        let modules = parse_dependencies(text).unwrap();
        let built_in = BTreeSet::from(["ext4".to_owned()]);
        let kernel = Kernel { root: PathBuf::new(), release: String::new(), modules, built_in };
        let mut paths = Vec::new();
        kernel.collect("a/dm-crypt.ko.xz", &mut paths);
        assert_eq!(paths, ["a/base.ko.xz", "a/dm-mod.ko.xz", "a/dm-crypt.ko.xz"]);
        assert!(kernel.modules(&["ext4"]).unwrap().is_empty(), "it is part of the image");
        assert!(kernel.modules(&["nothing"]).is_err());
    }
}
