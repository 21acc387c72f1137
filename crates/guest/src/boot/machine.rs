//! What a boot does to the machine that it runs on, behind a narrow trait: the order of things is the same where no device is
//! touched.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use confide_attester::{Nature, entropy};
use confide_egress::plan::Ruleset;
use confide_egress::{BrokerCommand, Enforcement, Guard, NetworkThread};
use confide_evidence::bytes::Digest;
use confide_policy::egress::EgressPolicy;
use confide_release::{VolumeId, VolumeSecrets};
use confide_volume::{HeaderCopy, Hint, OpenVolume, VolumeError};
use rustix::mount::{MountFlags, mount};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::clock;
use super::error::BootError;
use super::privileges::{self, Needs};
use super::source::{DEVICE_TIME, LOOK};
use super::{THIS_PROGRAM, network};
use crate::config::{Config, Network, Volume};
use crate::supervision::Drops;

/// The program that makes file systems.
const MKE2FS: &str = "/usr/sbin/mke2fs";
/// User and group of the engine: nobody else's.
const ENGINE_USER: u32 = 1000;

/// The machine.
pub(crate) trait Machine {
    /// Brings up the network.
    fn set_up_network(&mut self, network: Option<&Network>) -> Result<(), BootError>;

    /// Has the processor give random numbers that no host has chosen, and the kernel take them.
    fn check_entropy(&mut self, nature: Nature) -> Result<(), BootError>;

    /// Sets the clock to the broker's time, Unix seconds, and has it counted by what no host sets.
    fn set_time(&mut self, time: u64, nature: Nature) -> Result<(), BootError>;

    /// Whether the time is still counted by that.
    fn check_clock(&mut self, nature: Nature) -> Result<(), BootError>;

    /// Puts the rules into force, for good.
    fn lock_egress(&mut self, rules: &Ruleset) -> Result<(), BootError>;

    /// Opens a volume whose secrets were released, checks all that can be checked of it, and mounts it.
    fn open(&mut self, volume: &Volume, secrets: &VolumeSecrets, broker: &str)
    -> Result<Unlocked, BootError>;

    /// Opens a volume under a random key, and mounts it.
    fn open_scratch(&mut self, volume: &Volume) -> Result<(), BootError>;

    /// Gives up what is no longer needed, for good.
    fn drop_privileges(&mut self, needs: Needs) -> Result<(), BootError>;

    /// The user as which the engine runs; this program's own where there is none.
    fn engine_user(&self) -> Option<u32>;

    /// Where the engine is started, and its network with it; this program's own where there is none.
    fn workload(&self) -> Option<NetworkThread>;

    /// What counts what is dropped.
    fn drops(&self) -> Drops;
}

/// A volume is open and mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unlocked {
    /// SHA-256 of all header and keyslot bytes that were used.
    pub(crate) header: Digest,
    /// Whether this boot has formatted it.
    pub(crate) fresh: Fresh,
}

/// Whether a volume was formatted just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// By this boot.
    Formatted,
    /// By an earlier one.
    Kept,
}

/// The virtual machine that this process runs in, as root.
pub(crate) struct VirtualMachine(Enforcement);

impl VirtualMachine {
    /// Keeps the machine to the rules of the policy's phase `bootstrap`, before it has a network.
    pub(crate) fn kept_to(policy: &EgressPolicy, bootstrap: &Ruleset) -> Result<Self, BootError> {
        Ok(Self(Enforcement::begin(policy, bootstrap)?))
    }

    /// Starts the egress broker for what the configuration lets through: this program, as a user of its own.
    pub(crate) fn start_broker(&mut self, config: &Config, nature: Nature) -> Result<(), BootError> {
        let mut arguments = vec!["egress-broker".into()];
        arguments.extend(config.log.arguments());
        if nature == Nature::Simulated {
            arguments.push("--simulated".into());
        }
        let command = BrokerCommand { program: THIS_PROGRAM.into(), arguments };
        let (text, digest) = (config.egress_text(), config.egress_policy().digest());
        Ok(self.0.start_broker(&command, text, digest)?)
    }

    /// What is to be heard from now on, without any privilege.
    pub(crate) fn guards(self) -> Vec<(&'static str, Guard)> {
        self.0.guards()
    }
}

impl Machine for VirtualMachine {
    fn set_up_network(&mut self, network: Option<&Network>) -> Result<(), BootError> {
        network::set_up(network)
    }

    fn check_entropy(&mut self, nature: Nature) -> Result<(), BootError> {
        check_entropy(nature)
    }

    fn set_time(&mut self, time: u64, nature: Nature) -> Result<(), BootError> {
        let fault = |source| BootError::System { action: "set", path: "the clock".into(), source };
        let seconds = i64::try_from(time).map_err(|_| fault(io::ErrorKind::InvalidData.into()))?;
        clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 })
            .map_err(|error| fault(error.into()))?;
        self.check_clock(nature)
    }

    fn check_clock(&mut self, nature: Nature) -> Result<(), BootError> {
        clock::check(nature)
    }

    fn lock_egress(&mut self, rules: &Ruleset) -> Result<(), BootError> {
        Ok(self.0.lock(rules)?)
    }

    fn open(
        &mut self,
        volume: &Volume,
        secrets: &VolumeSecrets,
        broker: &str,
    ) -> Result<Unlocked, BootError> {
        await_device(&volume.device, DEVICE_TIME)?;
        let fault = |source| BootError::Volume { volume: volume.name.clone(), source };
        let yet_to_be_formatted = secrets.versions.iter().find(|version| version.header.is_none());
        if let Some(version) = yet_to_be_formatted {
            let (device, size) = (&volume.device, secrets.size);
            let hint = Hint::new(broker, volume.name.clone()).map_err(fault)?;
            let formatted =
                confide_volume::format_state(device, &version.secret, Some(&hint), size, &volume.name);
            let (opened, header) = formatted.map_err(fault)?;
            make_file_system(&volume.name, opened.path())?;
            mount_at(volume, &opened, Options::WRITABLE)?;
            return Ok(Unlocked { header, fresh: Fresh::Formatted });
        }
        let (opened, header) = unlock(volume, secrets).map_err(fault)?;
        let options = if secrets.verity.is_some() { Options::READ_ONLY } else { Options::WRITABLE };
        mount_at(volume, &opened, options)?;
        Ok(Unlocked { header, fresh: Fresh::Kept })
    }

    fn open_scratch(&mut self, volume: &Volume) -> Result<(), BootError> {
        await_device(&volume.device, DEVICE_TIME)?;
        let fault = |source| BootError::Volume { volume: volume.name.clone(), source };
        let opened = confide_volume::open_scratch(&volume.device, &volume.name).map_err(fault)?;
        make_file_system(&volume.name, opened.path())?;
        mount_at(volume, &opened, Options::WRITABLE)
    }

    fn drop_privileges(&mut self, needs: Needs) -> Result<(), BootError> {
        let of_workload = self.0.workload().run(move || privileges::drop_all_but(needs));
        of_workload.map_err(BootError::Privileges)??;
        privileges::drop_all_but(needs)
    }

    fn engine_user(&self) -> Option<u32> {
        Some(ENGINE_USER)
    }

    fn workload(&self) -> Option<NetworkThread> {
        Some(self.0.workload().clone())
    }

    fn drops(&self) -> Drops {
        Drops { packets: Some(self.0.packets()), broker: self.0.broker(), ..Drops::default() }
    }
}

/// How a volume is mounted.
#[derive(Clone, Copy, Debug)]
struct Options {
    flags: MountFlags,
    data: Option<&'static CStr>,
}

impl Options {
    /// No program is run from a volume but the image's own, and no device or privilege comes from one.
    const WRITABLE: Self =
        Self { flags: MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC), data: None };

    /// The same, and nothing is written: the journal, if there is one, is not replayed.
    const READ_ONLY: Self =
        Self { flags: Self::WRITABLE.flags.union(MountFlags::RDONLY), data: Some(c"noload") };
}

/// Looks at the header's one copy, unlocks, and reads all of a volume under a verity root: what was altered is found now, and
/// not when it is used.
fn unlock(volume: &Volume, secrets: &VolumeSecrets) -> Result<(OpenVolume, Digest), VolumeError> {
    let device = &volume.device;
    let unreadable = |source| VolumeError::Io { action: "open", source };
    let copy = HeaderCopy::read(&mut File::open(device).map_err(unreadable)?)?;
    let released: Vec<Digest> = secrets.versions.iter().filter_map(|version| version.header).collect();
    let header = copy.check(secrets.profile, &released)?;
    let found = header.digest();
    let version = secrets.version(&found).ok_or(VolumeError::RolledBack { found })?;
    let key = header.unlock(&version.secret)?;
    let opened = match &secrets.verity {
        Some(verity) => {
            let opened =
                confide_volume::open_model(device, &header, &key, verity, secrets.size, &volume.name)?;
            confide_volume::verify_tree(opened.path(), |_| {})?;
            opened
        }
        None => confide_volume::open_state(device, &header, &key, secrets.size, &volume.name)?,
    };
    Ok((opened, found))
}

/// Keys are drawn from the kernel's random numbers, which no host has chosen only where the processor's own are among them: so they
/// are drawn here, and put there. A simulated platform has no keys worth guarding.
pub(crate) fn check_entropy(nature: Nature) -> Result<(), BootError> {
    match nature {
        Nature::Simulated => {
            tracing::warn!(
                "SIMULATED: whether the processor gives random numbers by RDSEED is not looked at"
            );
            Ok(())
        }
        Nature::Hardware => {
            let seed = entropy::rdseed().ok_or(BootError::NoRdseed)?;
            let fault = |source| BootError::System { action: "seed", path: "/dev/random".into(), source };
            entropy::mix(&seed).map_err(fault)
        }
    }
}

fn await_device(device: &Path, patience: Duration) -> Result<(), BootError> {
    let begun = Instant::now();
    while !device.exists() {
        if begun.elapsed() > patience {
            let seconds = patience.as_secs();
            return Err(BootError::DeviceMissing { device: device.to_owned(), seconds });
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn make_file_system(volume: &VolumeId, device: &Path) -> Result<(), BootError> {
    let mut mke2fs = Command::new(MKE2FS);
    mke2fs.args(["-q", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0,nodiscard"]).arg(device);
    run(mke2fs).map_err(|reason| BootError::FileSystem { volume: volume.clone(), reason })
}

fn mount_at(volume: &Volume, opened: &OpenVolume, options: Options) -> Result<(), BootError> {
    let Options { flags, data } = options;
    let fault =
        |source| BootError::Mount { volume: volume.name.clone(), mount: volume.mount.clone(), source };
    fs::create_dir_all(&volume.mount).map_err(fault)?;
    mount(opened.path(), &volume.mount, "ext4", flags, data).map_err(|error| fault(error.into()))
}

/// Runs a program of the image without a variable of the environment.
fn run(mut command: Command) -> Result<(), String> {
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}: {}", output.status, said.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_platform_needs_no_rdseed_and_any_other_does() {
        check_entropy(Nature::Simulated).unwrap();
        let found = check_entropy(Nature::Hardware).map_err(|error| error.code().to_owned());
        let expected = if entropy::rdseed().is_some() { Ok(()) } else { Err("rdseed_missing".to_owned()) };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_device_is_waited_for_until_its_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("vda");
        let refused = await_device(&device, Duration::from_millis(50)).unwrap_err();
        assert_eq!(refused.code(), "device_missing");
        assert!(refused.to_string().contains("vda"), "{refused}");
        let late = {
            let device = device.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                File::create(device).unwrap();
            })
        };
        await_device(&device, Duration::from_secs(60)).unwrap();
        late.join().unwrap();
    }

    /// In a mount namespace of its own. The kernel shows what a mount may do, whatever file system is on it.
    #[test]
    fn nothing_on_a_volume_is_run_is_a_device_or_gives_a_privilege() {
        const INSIDE: &str = "CONFIDE_TEST_MOUNTS";
        let name = "boot::machine::tests::nothing_on_a_volume_is_run_is_a_device_or_gives_a_privilege";
        if std::env::var_os(INSIDE).is_some() {
            for (options, expected) in [(Options::WRITABLE, "rw"), (Options::READ_ONLY, "ro")] {
                let folder = tempfile::tempdir().unwrap();
                mount("none", folder.path(), "tmpfs", options.flags, None).unwrap();
                let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
                let of_folder = |line: &&str| line.split(' ').nth(1) == folder.path().to_str();
                let line = mounts.lines().find(of_folder).unwrap();
                let shown: Vec<&str> = line.split(' ').nth(3).unwrap().split(',').collect();
                for option in [expected, "nosuid", "nodev", "noexec"] {
                    assert!(shown.contains(&option), "{option}: {line}");
                }
            }
            assert_eq!((Options::WRITABLE.data, Options::READ_ONLY.data), (None, Some(c"noload")));
            return;
        }
        let mut command = Command::new("unshare");
        command.arg("-rm").arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        let output = match command.env(INSIDE, "1").output() {
            Ok(output) => output,
            Err(error) => {
                println!("not run: a mount namespace for the options of volumes: {error}");
                return;
            }
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("unshare: ") {
            println!("not run: a mount namespace for the options of volumes: {said}");
            return;
        }
        assert!(output.status.success(), "{said}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }

    #[test]
    fn what_a_program_says_is_told() {
        let mut failing = Command::new("/bin/sh");
        failing.args(["-c", "printf 'line one\\nline two\\n' >&2; exit 3"]);
        let said = run(failing).unwrap_err();
        assert!(said.contains("exit status: 3: line one"), "{said}");
        assert!(run(Command::new("/nonexistent/program")).unwrap_err().contains("/nonexistent/program"));
        let mut environment = Command::new("/bin/sh");
        environment.args(["-c", "test -z \"$CARGO_MANIFEST_DIR\""]).env("CARGO_MANIFEST_DIR", "x");
        run(environment).unwrap();
    }
}
