//! A virtual machine in QEMU.
//!
//! Everything is emulated: where `/dev/kvm` exists it need not work, and machines that offer one for other kernels than ours
//! hang. KVM is used where the environment asks for it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::debian::{self, Archive};
use crate::{cargo, process};

/// `CONFIDE_VM_ACCELERATOR=kvm` lets the processor run the guest itself.
const ACCELERATOR: &str = "CONFIDE_VM_ACCELERATOR";
/// QEMU 7.2 of Debian 12 gives guests no RDSEED, without which they draw no keys; that of the backports does.
const PACKAGE: &str = "qemu-system-x86";
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
/// Folders of QEMU's own files.
const DATA: &[&str] = &["usr/share/qemu", "usr/share/seabios"];
/// MiB of memory: the initial file system, twice while it is unpacked, and a model.
const MEMORY: u32 = 1024;
/// Where in memory the boot event log lies: between what the boot loader puts at the beginning and at the end.
pub(super) const LOG_ADDRESS: u64 = 0x1800_0000;
/// The size of the log's table, in KiB.
const LOG_KIB: u32 = 64;
/// The port that a guest listens on.
const GUEST_PORT: u16 = 8443;
/// The slot of the machine in which nothing is when it starts.
const FREE_SLOT: &str = "free";
/// The serial console, as QEMU's commands name it.
const CONSOLE: &str = "console";
/// The longest that QEMU may take to carry out a command.
const COMMAND_TIME: Duration = Duration::from_secs(30);

/// An unpacked QEMU.
pub(super) struct Emulator {
    root: PathBuf,
}

/// A disk: where its contents are, as QEMU names it, and the serial number by which the guest knows it.
pub(super) struct Disk {
    pub(super) source: String,
    pub(super) serial: &'static str,
    pub(super) writable: bool,
}

impl Disk {
    /// A file, read-only.
    pub(super) fn file(file: &Path, serial: &'static str) -> Self {
        Self { source: file.display().to_string(), serial, writable: false }
    }

    /// A file that the guest may write to.
    pub(super) fn writable(file: &Path, serial: &'static str) -> Self {
        Self { writable: true, ..Self::file(file, serial) }
    }

    /// What a service gives by NBD, read-only.
    pub(super) fn nbd(socket: &Path, serial: &'static str) -> Self {
        Self { source: format!("nbd+unix:///?socket={}", socket.display()), serial, writable: false }
    }
}

/// What a machine starts with.
pub(super) struct Launch<'a> {
    pub(super) kernel: &'a Path,
    pub(super) image: &'a Path,
    pub(super) command_line: &'a str,
    /// What the processor lacks, as QEMU's option `-cpu` has it: `,-FEATURE` for each.
    pub(super) lacks: &'a str,
    /// In the order in which the guest sees them: /dev/vda is the first.
    pub(super) disks: &'a [Disk],
    /// The quoting service's socket.
    pub(super) quoting: &'a Path,
    /// Where QEMU takes commands: a socket that it makes.
    pub(super) control: &'a Path,
    /// Has `log.bin` and `ccel.bin`, and takes `console.log`.
    pub(super) folder: &'a Path,
    /// The port on the loopback interface outside that leads to the guest's.
    pub(super) port: u16,
}

/// A running machine. It ends when its value is dropped.
pub(super) struct Machine {
    child: Child,
    /// What is typed at its serial console.
    input: ChildStdin,
    lines: Receiver<String>,
    console: PathBuf,
    control: PathBuf,
    started: Instant,
}

/// The kernel's command line: what a guest is started with, and measured by. A kernel that tests its timer finds it broken where
/// a busy host does not run the machine for as long as the test takes.
pub(super) fn command_line() -> String {
    format!(
        "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check ipv6.disable=1 memmap={LOG_KIB}K${LOG_ADDRESS:#x}"
    )
}

impl Emulator {
    /// The QEMU of an earlier run, or that of the machine's mirror.
    ///
    /// # Errors
    /// When there is none and none can be fetched, or it does not start.
    pub(super) fn fetch() -> Result<Self> {
        let folder = cargo::root().join("target/vm/qemu");
        let root = folder.join("root");
        debian::once(&folder, "QEMU", |_| {
            println!("fetching QEMU");
            Archive::open()?.unpack_with_dependencies(PACKAGE, &root)
        })?;
        let emulator = Self { root };
        let version = process::line(emulator.command().arg("--version"))?;
        println!("{}", version.lines().next().unwrap_or_default());
        Ok(emulator)
    }

    /// Ends with this process, whatever ends it.
    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.root.join(PROGRAM));
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        command.env("LD_LIBRARY_PATH", &libraries).env("QEMU_MODULE_DIR", libraries.join("qemu"));
        for folder in DATA {
            command.arg("-L").arg(self.root.join(folder));
        }
        command
    }

    /// The machine without any device but its console, whose processor lacks these features.
    fn bare(&self, kernel: &Path, image: &Path, command_line: &str, lacks: &str) -> Result<Command> {
        let mut command = self.command();
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-chardev",
            &format!("stdio,id={CONSOLE},signal=off"),
            "-serial",
            &format!("chardev:{CONSOLE}"),
        ]);
        command.args(["-machine", "q35", "-smp", "1", "-m", &MEMORY.to_string()]);
        let (accelerator, processor) = accelerator()?;
        command.args(["-accel", accelerator, "-cpu", &format!("{processor}{lacks}")]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(image).args(["-append", command_line]);
        Ok(command)
    }

    /// Starts a machine without any device but its console, which `folder` takes.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub(super) fn start_bare(
        &self,
        (kernel, image, command_line): (&Path, &Path, &str),
        folder: &Path,
        control: &Path,
    ) -> Result<Machine> {
        Machine::spawn(self.bare(kernel, image, command_line, "")?, folder, control)
    }

    /// Starts a machine.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub(super) fn start(&self, launch: &Launch<'_>) -> Result<Machine> {
        let mut command = self.bare(launch.kernel, launch.image, launch.command_line, launch.lacks)?;
        // The first virtio device, so that its port has the name that the guest's module opens.
        let socket = launch.quoting.display();
        command.args([
            "-device",
            "virtio-serial-pci",
            "-chardev",
            &format!("socket,id=quoting,path={socket}"),
        ]);
        command.args(["-device", "virtserialport,chardev=quoting,name=quoting"]);
        for (place, disk) in launch.disks.iter().enumerate() {
            let (source, mode) = (&disk.source, if disk.writable { "off" } else { "on" });
            let drive =
                format!("if=none,id=disk{place},format=raw,cache=unsafe,readonly={mode},file={source}");
            let device = format!("virtio-blk-pci,drive=disk{place},serial={}", disk.serial);
            command.args(["-drive", &drive, "-device", &device]);
        }
        let forward = format!("user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:{}-:{GUEST_PORT}", launch.port);
        command.args(["-netdev", &forward, "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-device", &format!("pcie-root-port,id={FREE_SLOT},chassis=1")]);
        let table = format!(
            "sig=CCEL,rev=1,oem_id=SIMULA,oem_table_id=SIMULATE,data={}",
            launch.folder.join("ccel.bin").display()
        );
        let log = format!(
            "loader,file={},addr={LOG_ADDRESS:#x},force-raw=on",
            launch.folder.join("log.bin").display()
        );
        command.args(["-acpitable", &table, "-device", &log]);
        Machine::spawn(command, launch.folder, launch.control)
    }
}

/// Who runs the guest, and the processor. Without CMPXCHG16B: QEMU's emulation of it breaks flags where an interrupt meets it (7.2), and kernels with
/// it.
fn accelerator() -> Result<(&'static str, &'static str)> {
    match std::env::var(ACCELERATOR).as_deref() {
        Err(_) | Ok("tcg") => Ok(("tcg", "max,-cx16")),
        Ok("kvm") => Ok(("kvm", "host")),
        Ok(other) => bail!("{ACCELERATOR} is {other}, and must be tcg or kvm"),
    }
}

impl Machine {
    fn spawn(mut command: Command, folder: &Path, control: &Path) -> Result<Self> {
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", control.display())]);
        let (console, control) = (folder.join("console.log"), control.to_owned());
        let mut kept = File::create(&console).with_context(|| format!("creating {}", console.display()))?;
        let stderr = kept.try_clone()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("starting {}", process::shown(&command)))?;
        let input = child.stdin.take().expect("standard input was piped");
        let stdout = child.stdout.take().expect("standard output was piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                // What cannot be kept is still read.
                let _ = writeln!(kept, "[{:7.3}] {line}", started.elapsed().as_secs_f64());
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, input, lines, console, control, started })
    }

    /// Attaches another disk, of zeros, while the machine runs.
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub(super) fn attach_disk(&self) -> Result<()> {
        let zeros = json!({ "driver": "null-co", "node-name": "late", "size": 1 << 20, "read-zeroes": true });
        let disk = json!({ "driver": "virtio-blk-pci", "bus": FREE_SLOT, "drive": "late", "serial": "late" });
        self.command(&[
            json!({ "execute": "blockdev-add", "arguments": zeros }),
            json!({ "execute": "device_add", "arguments": disk }),
        ])
    }

    /// Sends a magic SysRq request over the serial console: a break, then its key.
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub(super) fn request_of_system(&mut self, key: char) -> Result<()> {
        self.command(&[json!({ "execute": "chardev-send-break", "arguments": { "id": CONSOLE } })])?;
        write!(self.input, "{key}")?;
        Ok(self.input.flush()?)
    }

    /// Presses keys of the machine's keyboard together, by their names in QEMU, and lets go of them.
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub(super) fn press(&self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.command(&[json!({ "execute": "send-key", "arguments": { "keys": keys } })])
    }

    /// Has QEMU carry out commands, one after the other (QEMU Machine Protocol).
    fn command(&self, commands: &[Value]) -> Result<()> {
        let stream = UnixStream::connect(&self.control).context("the socket of QEMU's commands")?;
        stream.set_read_timeout(Some(COMMAND_TIME))?;
        let mut answers = BufReader::new(stream.try_clone()?).lines();
        // Nothing else is taken before this.
        let begin = json!({ "execute": "qmp_capabilities" });
        for command in std::iter::once(&begin).chain(commands) {
            writeln!(&stream, "{command}")?;
            loop {
                let line = answers.next().context("QEMU ended the connection")??;
                let answer: Value = serde_json::from_str(&line).context("an answer of QEMU")?;
                ensure!(answer.get("error").is_none(), "QEMU refuses {command}: {answer}");
                if answer.get("return").is_some() {
                    break;
                }
                // Its greeting, or an event.
            }
        }
        Ok(())
    }

    /// Waits for an event of `confide-guest` that `wanted` takes.
    ///
    /// # Errors
    /// When the machine ends before, or `patience` does; with the end of the console.
    pub(super) fn wait<T>(
        &mut self,
        patience: Duration,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        self.wait_for_line(patience, |line| event(line).as_ref().and_then(&mut wanted))
    }

    /// Waits for a line on the console that `wanted` takes.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub(super) fn wait_for_line<T>(
        &mut self,
        patience: Duration,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("nothing within {} s on the console:\n{}", patience.as_secs(), self.console_end())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the machine ended too early:\n{}", self.console_end())
                }
            }
        }
    }

    /// Waits until the machine has ended by itself.
    ///
    /// # Errors
    /// When it has not within `patience`.
    pub(super) fn wait_for_end(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the machine still runs:\n{}", self.console_end());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// How long it has run.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Everything on the console so far.
    pub(super) fn console(&self) -> String {
        fs::read(&self.console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn console_end(&self) -> String {
        const LINES: usize = 40;
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whoever has ended already needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The JSON object of a line that is an event of `confide-guest`. The kernel's own messages may stand before it.
fn event(line: &str) -> Option<Value> {
    let place = line.find("{\"event\":")?;
    serde_json::from_str(line.get(place..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_on_the_console() {
        let found = event("[    2.1] x{\"event\":\"failed\",\"code\":\"a\"}").unwrap();
        assert_eq!(found["code"], "a");
        assert!(event("{\"level\":\"info\"}").is_none() && event("{\"event\":").is_none());
    }
}
