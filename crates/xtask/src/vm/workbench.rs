//! What every guest boots from, and what stands around it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::attacks;
use super::host;
use super::image::{self, Contents};
use super::kernel::{Kernel, Module};
use super::machine::Emulator;
use crate::programs::{Flavour, Programs, built_unit_tests};
use crate::{cargo, process, running};

/// The files of one run, below `target`: a folder for each lane.
pub(super) const RUN: &str = "vm/run";
/// A folder for each case that a lane has taken.
const TAKEN: &str = "vm/run/taken";

/// The programs, the kernel, the emulator, and a folder for the files of one run.
pub(super) struct Workbench {
    /// For what is outside: it judges SIMULATED evidence.
    pub(super) programs: Programs,
    /// `confide-guest` as it ships.
    guest: PathBuf,
    pub(super) kernel: Kernel,
    pub(super) emulator: Emulator,
    /// In the place of a TDX guest's driver.
    tdx: Module,
    /// When this run began, Unix seconds: platforms are up to date then.
    pub(super) time: u64,
    /// What endorses them.
    pub(super) collateral: PathBuf,
    /// The program of the tests that are run on the guest's kernel, where a case needs it.
    pub(super) attacks: [PathBuf; 2],
    pub(super) folder: PathBuf,
}

/// Digests that policies name, SHA-256 in hexadecimal.
pub(super) struct Digests {
    /// Of every deciding setting.
    pub(super) configuration: String,
    /// Of the egress policy.
    pub(super) egress: String,
}

/// What a guest is built with, beside our program and the kernel's modules.
#[derive(Clone, Copy)]
pub(super) enum Driver {
    /// The module that plays a TDX guest's.
    Simulated,
    /// None: configfs-tsm has no provider.
    Missing,
}

impl Workbench {
    /// Builds the programs and fetches what is not there yet.
    ///
    /// # Errors
    /// When something does not compile or cannot be fetched.
    pub(super) fn build() -> Result<()> {
        Programs::build(Flavour::Simulator)?;
        Programs::build(Flavour::Plain)?;
        Kernel::fetch()?.build_simulated_tdx()?;
        Emulator::fetch()?;
        Ok(())
    }

    /// Finds what [`Self::build`] left. Lanes run beside each other, each with files of its own.
    ///
    /// # Errors
    /// When something is missing.
    pub(super) fn open(lane: usize) -> Result<Self> {
        let programs = Programs::built(Flavour::Simulator);
        let guest = Programs::built(Flavour::Plain).folder().join("confide-guest");
        let kernel = Kernel::fetch()?;
        let tdx = kernel.simulated_tdx()?;
        let emulator = Emulator::fetch()?;
        println!("Linux {}", kernel.release());
        let folder = running::folder(&format!("{RUN}/{lane}"))?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock after 1970")?.as_secs();
        let collateral = folder.join("collateral.json");
        host::write_collateral(&programs, time, &collateral)?;
        let attacks = [attacks::PACKAGE, attacks::QUOTING].map(built_unit_tests);
        Ok(Self { programs, guest, kernel, emulator, tdx, time, collateral, attacks, folder })
    }

    /// Builds an image with this measured configuration, or with none: then the guest takes that of a disk.
    ///
    /// # Errors
    /// When something is missing on this machine.
    pub(super) fn image(&self, name: &str, driver: Driver, configuration: Option<&str>) -> Result<PathBuf> {
        let file = self.folder.join(format!("{name}.img"));
        let contents = Contents {
            guest: &self.guest,
            kernel: &self.kernel,
            tdx: match driver {
                Driver::Simulated => Some(&self.tdx),
                Driver::Missing => None,
            },
            configuration,
            collateral: &self.collateral,
        };
        image::build(&contents, &file)?;
        Ok(file)
    }

    /// What the guest's program says of a configuration, to be named in policies.
    ///
    /// # Errors
    /// When it would not take it.
    pub(super) fn digests(&self, configuration: &str) -> Result<Digests> {
        let file = self.folder.join("guest.toml");
        fs::write(&file, configuration)?;
        let text = process::output(Command::new(&self.guest).arg("check").arg("--config").arg(&file))?;
        let after = |label: &str| {
            let digest = text.lines().find_map(|line| line.strip_prefix(label));
            digest.map(str::to_owned).with_context(|| format!("no line {label:?} in {text:?}"))
        };
        Ok(Digests {
            configuration: after("configuration under boot: ")?,
            egress: after("egress policy under boot: ")?,
        })
    }

    /// Whether a case is this lane's: it is the first to ask.
    ///
    /// # Errors
    /// When that cannot be kept.
    pub(super) fn take(&self, name: &str) -> Result<bool> {
        let taken = cargo::root().join("target").join(TAKEN);
        fs::create_dir_all(&taken)?;
        match fs::create_dir(taken.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// An empty folder for one case.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn case(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }
}

/// A copy of a text file in which lines `SETTING = …` have other values.
///
/// # Errors
/// When the text has not exactly one line for each setting.
pub(super) fn with_settings(text: &str, settings: &[(&str, &str)]) -> Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (setting, value) in settings {
        let begin = format!("{setting} = ");
        let mut found = lines.iter_mut().filter(|line| line.starts_with(&begin));
        let line = found.next().with_context(|| format!("no line {begin}…"))?;
        anyhow::ensure!(found.next().is_none(), "more than one line {begin}…");
        *line = format!("{setting} = {value}");
    }
    Ok(lines.join("\n") + "\n")
}

/// A file's copy with one byte changed.
///
/// # Errors
/// When it cannot be read or written, or is shorter.
pub(super) fn flip(file: &Path, offset: u64) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&byte.map(|byte| byte ^ 1), offset)?;
    Ok(())
}
