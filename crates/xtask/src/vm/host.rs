//! What the host of guests does, by the program `confide-host`: quotes, SIMULATED ones, and tampering with disks and with
//! what a broker says.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::machine::LOG_ADDRESS;
use crate::process;
use crate::programs::Programs;

/// A running `confide-host`. It ends when its value is dropped.
pub(super) struct Helper {
    child: Child,
}

/// A service of the host that machines reach by a socket.
pub(super) struct Service {
    _helper: Helper,
    socket: PathBuf,
}

impl Helper {
    /// Starts a stand-in at `listen` for the broker at `broker`, which holds its key and replays what it says
    /// (`confide_testkit::replay`).
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn replaying(
        programs: &Programs,
        broker: SocketAddr,
        identity: &Path,
        listen: SocketAddr,
    ) -> Result<Self> {
        let mut command = programs.host();
        command.args(["replay", "--listen", &listen.to_string(), "--broker", &broker.to_string()]);
        Self::start(command.arg("--identity").arg(identity))
    }

    fn start(command: &mut Command) -> Result<Self> {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("starting {}", process::shown(command)))?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("standard output was piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        let helper = Self { child };
        ensure!(read.is_ok() && line == "listens\n", "{} does not listen", process::shown(command));
        Ok(helper)
    }
}

impl Service {
    /// Starts a quoting service that behaves as its program's option `--behaviour` says, `honest` being usual. Its platform is
    /// up to date at `time`, Unix seconds.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn quoting(programs: &Programs, behaviour: &str, time: u64, folder: &Path) -> Result<Self> {
        let mut command = programs.host();
        command.args(["quote", "--at", &time.to_string(), "--behaviour", behaviour]);
        Self::start(command, folder.join("quoting.sock"))
    }

    /// Starts a disk whose first bytes are those of `later` once they were read. Then the file `told` is there.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn swapped(
        programs: &Programs,
        first: &Path,
        later: &Path,
        beginning: u64,
        (folder, told): (&Path, &Path),
    ) -> Result<Self> {
        let mut command = programs.host();
        command.arg("swap").arg("--first").arg(first).arg("--later").arg(later);
        command.args(["--beginning", &beginning.to_string()]).arg("--told").arg(told);
        Self::start(command, folder.join("disk.sock"))
    }

    fn start(mut command: Command, socket: PathBuf) -> Result<Self> {
        if socket.exists() {
            // Of a boot before, in the same case.
            std::fs::remove_file(&socket)?;
        }
        let helper = Helper::start(command.arg("--socket").arg(&socket))?;
        Ok(Self { _helper: helper, socket })
    }

    /// Where machines reach it.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Whoever has ended already needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes what endorses the quoting service's platform at `time`, Unix seconds, as JSON.
///
/// # Errors
/// When it cannot be made.
pub(super) fn write_collateral(programs: &Programs, time: u64, file: &Path) -> Result<()> {
    process::run(programs.host().args(["collateral", "--at", &time.to_string(), "--out"]).arg(file))
}

/// Writes the event log of a launch to `log.bin` and `ccel.bin` of the folder, and returns what it is measured as: an object
/// of `mr_td` and `rtmr0` to `rtmr2`.
///
/// # Errors
/// When it cannot be measured.
pub(super) fn measure(
    programs: &Programs,
    kernel: &Path,
    image: &Path,
    command_line: &str,
    folder: &Path,
) -> Result<Value> {
    let mut command = programs.host();
    command.arg("measure").arg("--kernel").arg(kernel).arg("--initrd").arg(image);
    command.args(["--command-line", command_line, "--address", &LOG_ADDRESS.to_string()]);
    let text = process::line(command.arg("--folder").arg(folder))?;
    serde_json::from_str(&text).context("the measurements of a launch")
}

/// Lets a volume's headers name no cipher.
///
/// # Errors
/// When the file is no volume.
pub(super) fn null_cipher(programs: &Programs, volume: &Path) -> Result<()> {
    process::run(programs.host().arg("null-cipher").arg(volume))
}
