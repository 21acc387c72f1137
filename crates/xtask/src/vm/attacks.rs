//! The tests of egress that use a kernel, run on the guest's: process 1 loads its modules and starts the tests' program of
//! `confide-egress`, as root, in an initial file system that has what these tests run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::cpio::Archive;
use super::image::{self, MODULE_LIST};
use super::kernel::Kernel;
use super::machine::{self, Machine};
use crate::process;
use crate::test::{LACKING, Tally};

/// The package whose tests these are.
pub(super) const PACKAGE: &str = "confide-egress";
/// The package that asks for quotes over vsock, which this kernel has a transport of to itself.
pub(super) const QUOTING: &str = "confide-attester";
/// Which of the tests run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// Those that use a kernel. Of the broker's cases those are among them that try most: how it decides is no matter of a kernel.
    /// What takes minutes where every instruction is emulated is left out.
    OfAKernel,
    /// All of them.
    All,
}

impl Choice {
    /// The arguments of the tests' program.
    fn filters(self) -> &'static str {
        match self {
            Self::OfAKernel => {
                "--skip ten_thousand_ enforcement:: landlock:: plan:: seccomp:: broker_tests::redirected:: \
                 in_a_guest::requests_that_can_be_read_in_two_ways_reach_nobody \
                 in_a_guest::the_workload_learns_made_up_addresses_of_allowed_names_alone"
            }
            Self::All => "",
        }
    }

    /// The longest that they may take. The host may be busy.
    fn patience(self) -> Duration {
        match self {
            Self::OfAKernel => Duration::from_secs(400),
            Self::All => Duration::from_secs(2400),
        }
    }
}

/// What tests run, and process 1.
const PROGRAMS: &[&str] = &[
    "/usr/bin/bash",
    "/usr/bin/chmod",
    "/usr/bin/cp",
    "/usr/bin/head",
    "/usr/bin/mount",
    "/usr/bin/nsenter",
    "/usr/bin/python3",
    "/usr/bin/rm",
    "/usr/bin/setpriv",
    "/usr/bin/setsid",
    "/usr/bin/sh",
    "/usr/bin/sleep",
    "/usr/bin/timeout",
    "/usr/bin/true",
    "/usr/bin/unshare",
    "/usr/sbin/insmod",
    "/usr/sbin/ip",
    "/usr/sbin/nft",
];
/// Folders that something is mounted on, or put in.
const FOLDERS: &[&str] = &["/dev", "/proc", "/sys", "/run", "/tmp"];
/// What tests and process 1 expect at other places than [`PROGRAMS`] has it.
const OTHER_NAMES: &[(&str, &str)] = &[("/bin/sh", "/usr/bin/sh"), ("/bin/true", "/usr/bin/true")];
/// What programs of Python import here, beside what each imports.
const IMPORTS: &str = "import ctypes, fcntl, mmap, os, socket, struct, sys, time";
/// Modules of the kernel: what the rules need, and what is attacked by.
const MODULES: &[&str] = &[
    "nfnetlink",
    "nf_tables",
    "nft_ct",
    "nft_log",
    "nft_chain_nat",
    "nft_redir",
    "nfnetlink_log",
    "tcp_diag",
    "udp_diag",
    "veth",
    "vsock",
    "vsock_loopback",
];
/// Where the tests' programs lie.
const TESTS: &str = "/tests";
const QUOTING_TESTS: &str = "/quoting-tests";
/// What process 1 says when the tests have ended.
const ENDED: &str = "the tests have ended: ";

/// For the machine to end when its kernel reboots.
const END: Duration = Duration::from_secs(30);

/// Builds an image that runs the tests, and then waits.
///
/// # Errors
/// When something is missing on this machine.
pub(super) fn build(
    [tests, quoting]: &[PathBuf; 2],
    kernel: &Kernel,
    image: &Path,
    choice: Choice,
) -> Result<()> {
    let mut archive = Archive::default();
    FOLDERS.iter().for_each(|folder| archive.folder(folder));
    image::add_stripped(&mut archive, TESTS, tests, image)?;
    image::add_stripped(&mut archive, QUOTING_TESTS, quoting, image)?;
    for program in PROGRAMS {
        image::add_program(&mut archive, program)?;
    }
    for (name, program) in OTHER_NAMES {
        archive.program(name, std::fs::read(program).with_context(|| format!("reading {program}"))?);
    }
    for file in python()? {
        let name = file.to_str().context("a path in UTF-8")?;
        if name.ends_with(".so") {
            image::add_program(&mut archive, name)?;
        } else {
            archive.data(name, std::fs::read(&file).with_context(|| format!("reading {name}"))?);
        }
    }
    archive.data("/etc/passwd", "root:x:0:0:root:/:/usr/bin/sh\n");
    image::add_modules(&mut archive, kernel.modules(MODULES)?);
    archive.program("/init", process_1(choice).into_bytes());
    image::compress(&archive.encode(), image)
}

/// The files of Python's library that [`IMPORTS`] takes.
fn python() -> Result<Vec<PathBuf>> {
    let files =
        "print(*sorted(f for m in sys.modules.values() if (f := getattr(m, '__file__', None))), sep='\\n')";
    let mut python = Command::new("/usr/bin/python3");
    let listed = process::output(python.args(["-I", "-c", &format!("{IMPORTS}\n{files}")]))?;
    Ok(listed.lines().map(PathBuf::from).collect())
}

/// The script that the kernel starts.
fn process_1(choice: Choice) -> String {
    let filters = choice.filters();
    format!(
        "#!/usr/bin/sh\n\
         export PATH=/usr/sbin:/usr/bin\n\
         mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs dev /dev\n\
         while read -r module; do insmod \"$module\"; done < {MODULE_LIST}\n\
         ip link set lo up\n\
         {QUOTING_TESTS} --show-output vsock::tests:: && {TESTS} --test-threads=1 --show-output {filters}\n\
         echo \"{ENDED}$?\"\n\
         while :; do sleep 60; done\n"
    )
}

/// The kernel's command line: that of guests, but with IPv6, so that it can be tried to get out by it.
pub(super) fn command_line() -> String {
    machine::command_line().replace(" ipv6.disable=1", "")
}

/// Waits until the tests have ended; all of them must have run, whole, and held.
///
/// # Errors
/// When one did not.
pub(super) fn judge(machine: &mut Machine, choice: Choice) -> Result<()> {
    let (mut summaries, mut lacking) = (Vec::new(), Vec::new());
    let status = machine.wait_for_line(choice.patience(), |line| {
        summaries.extend(Tally::of_line(line));
        // The kernel's own messages may stand before it.
        if LACKING.iter().any(|begin| line.contains(begin)) {
            lacking.push(line.to_owned());
        }
        line.split_once(ENDED).map(|(_, status)| status.to_owned())
    })?;
    let held = summaries.iter().all(|tally| tally.failed == 0 && tally.ignored == 0);
    ensure!(status == "0" && held, "{status}: {summaries:?}\n{}", machine.console());
    ensure!(
        summaries.len() == 2 && summaries.iter().all(|tally| tally.passed > 0),
        "both programs must run tests: {choice:?}: {summaries:?}"
    );
    ensure!(lacking.is_empty(), "a kernel that has everything lacks something:\n{}", lacking.join("\n"));
    let passed: u64 = summaries.iter().map(|tally| tally.passed).sum();
    println!("{passed} tests of {QUOTING} and {PACKAGE} held on the guest's kernel");
    // Nobody has closed this kernel: it does what the console asks, as that of a guest must not.
    machine.request_of_system('b')?;
    machine
        .wait_for_end(END)
        .context("this kernel obeys no request on its console, so that no guest's refusal shows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_that_of_guests_with_ipv6() {
        assert!(machine::command_line().contains("ipv6.disable=1"));
        assert!(!command_line().contains("ipv6") && command_line().contains("console=ttyS0"));
    }
}
