//! Guest, proxy and attacker as running processes on the loopback interface. Each ends when its value is dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::programs::Programs;
use crate::{cargo, process};

/// A simulated guest's configuration.
const GUEST: &str = "deploy/guest-simulated.toml";

/// A port that the system chooses.
const ANY_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// A process that said where it listens.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Running {
    /// A guest on the simulated platform that serves the tiny model; its log goes to `folder`.
    ///
    /// # Errors
    /// When it ends before it serves.
    pub(crate) fn guest(programs: &Programs, folder: &Path) -> Result<Self> {
        Self::guest_at(ANY_PORT, programs, folder)
    }

    /// As [`Self::guest`], on an address that an earlier guest had.
    ///
    /// # Errors
    /// When it ends before it serves.
    pub(crate) fn guest_at(address: SocketAddr, programs: &Programs, folder: &Path) -> Result<Self> {
        Self::configured(address, "", programs, folder)
    }

    /// As [`Self::guest`], on any port or on this one, with `more` at the end of its configuration, in the table
    /// `[simulated]`.
    ///
    /// # Errors
    /// When it ends before it serves.
    pub(crate) fn guest_with(
        place: Option<SocketAddr>,
        more: &str,
        programs: &Programs,
        folder: &Path,
    ) -> Result<Self> {
        Self::configured(place.unwrap_or(ANY_PORT), more, programs, folder)
    }

    fn configured(address: SocketAddr, more: &str, programs: &Programs, folder: &Path) -> Result<Self> {
        let sample = std::fs::read_to_string(cargo::root().join(GUEST)).context(GUEST)?;
        let configuration = folder.join("guest.toml");
        let text = sample.replace("127.0.0.1:8443", &address.to_string());
        std::fs::write(&configuration, text + more)?;
        let mut command = programs.guest();
        command.arg("serve").arg("--config").arg(&configuration);
        Self::start(&mut command, &folder.join("guest.log"), json_address)
    }

    /// A proxy in front of the guest at `guest`, under a danger policy.
    ///
    /// # Errors
    /// When it ends before it listens.
    pub(crate) fn proxy(
        programs: &Programs,
        guest: SocketAddr,
        policy: &Path,
        folder: &Path,
    ) -> Result<Self> {
        Self::proxy_of(&[guest], &[], programs, policy, folder)
    }

    /// As [`Self::proxy`], in front of several guests, with further arguments.
    ///
    /// # Errors
    /// When it ends before it listens.
    pub(crate) fn proxy_of(
        guests: &[SocketAddr],
        more: &[&OsStr],
        programs: &Programs,
        policy: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let mut command = programs.confide();
        command.args(["proxy", "--listen", "127.0.0.1:0"]);
        for guest in guests {
            command.args(["--upstream", &format!("https://{guest}")]);
        }
        command.args(more).arg("--danger-policy").arg(policy);
        Self::start(&mut command, &folder.join("proxy.log"), json_address)
    }

    /// A broker with this configuration, under danger policies; its log goes to `folder`.
    ///
    /// # Errors
    /// When it ends before it listens.
    pub(crate) fn broker(programs: &Programs, configuration: &Path, folder: &Path) -> Result<Self> {
        let mut command = programs.broker();
        command.args(["serve", "--danger-simulator", "--config"]).arg(configuration);
        Self::start(&mut command, &folder.join("broker.log"), json_address)
    }

    /// An attacker that uses the evidence of the guest at `honest`.
    ///
    /// # Errors
    /// When it ends before it listens.
    pub(crate) fn attacker(
        programs: &Programs,
        attack: &str,
        honest: SocketAddr,
        folder: &Path,
    ) -> Result<Self> {
        let mut command = programs.attacker();
        command.args(["--attack", attack, "--honest", &honest.to_string()]);
        Self::start(&mut command, &folder.join("attacker.log"), |line| Ok(line.trim().parse()?))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    /// When it has.
    pub(crate) fn require_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("ended with {status}"),
            None => Ok(()),
        }
    }

    /// Its resident memory, in KiB.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no resident memory")?;
        Ok(kib.parse()?)
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Whoever has ended already needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Closes its standard input and returns what it says before it ends.
    pub(crate) fn finish(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest)?;
        self.child.wait()?;
        Ok(rest)
    }

    /// Starts a program and waits for the line on its standard output that names its address.
    fn start(command: &mut Command, log: &Path, read: impl Fn(&str) -> Result<SocketAddr>) -> Result<Self> {
        let shown = process::shown(command);
        let stderr = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output was piped"));
        let mut line = String::new();
        let address = stdout.read_line(&mut line).map_err(Into::into).and_then(|_| read(&line));
        match address {
            Ok(address) => Ok(Self { child, stdout, address }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(log).unwrap_or_default();
                Err(error.context(format!("{shown} did not say where it listens\n{log}")))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An empty folder under `target` for one task's files.
///
/// # Errors
/// When it cannot be emptied or made.
pub(crate) fn folder(task: &str) -> Result<PathBuf> {
    let folder = cargo::root().join("target").join(task);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The address in a line such as `{"event": "ready", "listen": "127.0.0.1:8787"}`, or `"https://127.0.0.1:8443"`.
fn json_address(line: &str) -> Result<SocketAddr> {
    let ready: Value =
        serde_json::from_str(line).with_context(|| format!("expected a JSON line, got {line:?}"))?;
    let listen = ready["listen"].as_str().context("no address")?;
    let address = listen.trim_start_matches("https://");
    address.parse().with_context(|| format!("{listen} is no address"))
}
