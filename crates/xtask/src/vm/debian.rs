//! Packages of Debian that are unpacked into folders of this project and never installed: apt works in folders of its own, from
//! the machine's own mirror of Debian 12 and of its backports. The system's packages and their sources stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, process};

/// The release.
pub(super) const RELEASE: &str = "bookworm";
/// What checks that the packages are Debian's.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt's view of the release and its backports.
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Asks the mirror what there is.
    ///
    /// # Errors
    /// When this machine's package sources name no mirror, or it does not answer.
    pub(super) fn open() -> Result<Self> {
        let folder = cargo::root().join("target/vm/apt");
        for one in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(one))?;
        }
        let archive = Self { folder };
        let mirror = mirror(&sources())?;
        let line = |suite: &str| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let text = line(RELEASE) + &line(&backports());
        fs::write(archive.folder.join("sources.list"), text)?;
        process::run(archive.apt("apt-get").args(["--quiet=2", "update"]))?;
        Ok(archive)
    }

    /// What the archive says of the newest version of a package.
    ///
    /// # Errors
    /// When it has none.
    pub(super) fn show(&self, package: &str) -> Result<String> {
        process::output(self.apt("apt-cache").args(["show", "--no-all-versions", &of_backports(package)]))
    }

    /// Unpacks these packages of the backports, without what they depend on.
    ///
    /// # Errors
    /// When one cannot be fetched or unpacked.
    pub(super) fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let fetched = self.empty("packages")?;
        let names = packages.iter().map(|package| of_backports(package));
        process::run(self.apt("apt-get").current_dir(&fetched).args(["--quiet=2", "download"]).args(names))?;
        extract_all(&fetched, root)
    }

    /// Unpacks a package of the backports with all that it depends on and this system lacks.
    ///
    /// # Errors
    /// When one cannot be fetched or unpacked.
    pub(super) fn unpack_with_dependencies(&self, package: &str, root: &Path) -> Result<()> {
        let fetched = self.empty("dependencies")?;
        fs::create_dir_all(fetched.join("partial"))?;
        let place = format!("Dir::Cache::archives={}", fetched.display());
        let mut command = self.apt("apt-get");
        command.args(["-o", &place, "-o", "Debug::NoLocking=true", "--quiet=2", "--yes"]);
        command.args(["--download-only", "--no-install-recommends", "install", &of_backports(package)]);
        process::run(command.args(["--target-release", &backports()]))?;
        extract_all(&fetched, root)
    }

    fn empty(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for setting in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["-o", &setting]);
        }
        command
    }
}

fn backports() -> String {
    format!("{RELEASE}-backports")
}

fn of_backports(package: &str) -> String {
    format!("{package}/{}", backports())
}

/// Unpacks all packages of a folder. In a system, /lib and others are links to folders of /usr.
fn extract_all(packages: &Path, root: &Path) -> Result<()> {
    for name in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        let link = root.join(name);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(format!("usr/{name}"), link)?;
        }
    }
    for package in fs::read_dir(packages)? {
        let package = package?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            // dpkg-deb itself would put folders in the place of the links.
            let mut tar = Command::new("sh");
            tar.args([
                "-ec",
                "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --keep-directory-symlink --directory \"$2\"",
                "sh",
            ]);
            process::run(tar.arg(&package).arg(root))?;
        }
    }
    fs::remove_dir_all(packages)?;
    Ok(())
}

/// The files that name this machine's package sources.
fn sources() -> Vec<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    files.extend(more.filter_map(|entry| Some(entry.ok()?.path())));
    files.sort();
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// The address of this machine's mirror of the release, from its package sources in either form (sources.list(5)).
fn mirror(sources: &[String]) -> Result<String> {
    match sources.iter().find_map(|text| one_line(text).or_else(|| stanza(text))) {
        Some(address) => Ok(address),
        None => bail!("this machine's package sources name no mirror of Debian {RELEASE}"),
    }
}

/// `deb [option=value] ADDRESS SUITE COMPONENT…`
fn one_line(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let words = line.trim().strip_prefix("deb ")?.trim_start();
        let words = words.strip_prefix('[').map_or(Some(words), |rest| Some(rest.split_once(']')?.1))?;
        let mut words = words.split_whitespace();
        let (address, suite) = (words.next()?, words.next()?);
        (suite == RELEASE && words.any(|word| word == "main")).then(|| address.to_owned())
    })
}

/// Stanzas of lines `Field: words`.
fn stanza(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_whitespace()
        };
        let wanted = field("Types").any(|word| word == "deb")
            && field("Suites").any(|word| word == RELEASE)
            && field("Components").any(|word| word == "main");
        wanted.then(|| field("URIs").next().map(str::to_owned)).flatten()
    })
}

/// Fetches something into a folder once: later runs find it complete.
///
/// # Errors
/// When it cannot be fetched; the error says what to do on a machine that reaches no mirror.
pub(super) fn once(folder: &Path, what: &str, fetch: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fetch(folder).with_context(|| {
        format!(
            "no {what} for virtual machines. Where no mirror of Debian {RELEASE} can be reached, run on another machine, in the \
             same folder: cargo xtask test --stage vm; and copy its {} here",
            folder.display()
        )
    })?;
    Ok(fs::write(complete, "")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_is_found_in_either_form() {
        let other = "Types: deb\nURIs: http://other.test/x\nSuites: nodistro\nComponents: main\n".to_owned();
        let security =
            "Types: deb\nURIs: http://a.test/security\nSuites: bookworm-security\nComponents: main\n";
        let stanzas = format!(
            "{security}\nTypes: deb\n# why\nURIs: http://b.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
        );
        assert_eq!(mirror(&[other.clone(), stanzas]).unwrap(), "http://b.test/debian");
        let lines = "# deb http://c.test/debian bookworm main\n\
            deb http://c.test/debian bookworm contrib\n\
            deb [arch=amd64 lang=none] http://d.test/debian bookworm contrib main\n";
        assert_eq!(mirror(&[lines.to_owned()]).unwrap(), "http://d.test/debian");
        assert!(mirror(&[other, "deb http://e.test/debian trixie main\n".to_owned()]).is_err());
    }
}
