//! Process 1 of an image: mounts, modules, a closed kernel; then the guest as its child, until that ends, and off.
//!
//! Process 1 holds no key, and after the start of the guest no privilege but to switch the machine off. It waits for whoever
//! ends, so that nothing of this program is left behind, and switches the machine off when the guest ends, for whatever reason:
//! there is no shell and no second try.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, wait};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::system::{RebootCommand, reboot};
use rustix::thread::CapabilitySet;

use super::THIS_PROGRAM;
use super::console::Console;
use super::error::BootError;
use super::{modules, privileges};
use crate::error::GuestError;

/// Whether this process was started by the kernel as the image's `/init`.
pub(crate) fn is_process_one() -> bool {
    let called = std::env::args_os().next();
    let init = called.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == "init"));
    std::process::id() == 1 && init
}

/// Boots the image, and never comes back but where the machine cannot be switched off.
pub(crate) fn run() -> ExitCode {
    // Without a console there is nobody to tell.
    let _ = mount_devices().map(|()| console());
    let mut said = Console::new();
    match begin(&mut said) {
        Ok(guest) => reap_until_end(&guest),
        Err(error) => said.failed(&GuestError::Boot(error)),
    }
    said.power_off();
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn begin(said: &mut Console) -> Result<Child, BootError> {
    mount_system()?;
    said.step("mounted");
    modules::load()?;
    mount_configfs()?;
    said.step("modules");
    close_kernel(said)?;
    said.step("hardened");
    let guest =
        start().map_err(|source| BootError::System { action: "start", path: THIS_PROGRAM.into(), source })?;
    // What is left to do here is to wait and to switch the machine off.
    privileges::keep(CapabilitySet::SYS_BOOT)?;
    Ok(guest)
}

/// The guest. The kernel gave this process what it did not understand of its command line as arguments and environment: the
/// guest gets none of it.
fn start() -> io::Result<Child> {
    Command::new(THIS_PROGRAM).arg("boot").env_clear().stdin(Stdio::null()).spawn()
}

/// Waits for every process that ends, until the guest does.
fn reap_until_end(guest: &Child) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, _))) if ended.as_raw_pid().unsigned_abs() == guest.id() => return,
            Ok(_) | Err(Errno::INTR) => {}
            // No child is left.
            Err(_) => return,
        }
    }
}

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

fn mount_devices() -> Result<(), BootError> {
    mount_new("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, None)
}

fn mount_system() -> Result<(), BootError> {
    mount_new("proc", "/proc", NO_PROGRAMS, None)?;
    mount_new("sysfs", "/sys", NO_PROGRAMS, None)?;
    for folder in ["/run", "/tmp"] {
        mount_new("tmpfs", folder, NO_PROGRAMS, Some(c"mode=0755,size=16m"))?;
    }
    Ok(())
}

/// Quotes are asked for below it.
fn mount_configfs() -> Result<(), BootError> {
    mount_new("configfs", "/sys/kernel/config", NO_PROGRAMS, None)
}

fn mount_new(
    kind: &'static str,
    folder: &'static str,
    flags: MountFlags,
    data: Option<&std::ffi::CStr>,
) -> Result<(), BootError> {
    let fault = |source| BootError::System { action: "mount", path: folder.into(), source };
    if kind != "configfs" {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    match mount(kind, folder, kind, flags, data) {
        // The kernel was there before.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(fault(error.into())),
    }
}

/// Nothing is read from the console; all that this program and its children say goes there.
fn console() -> io::Result<()> {
    dup2_stdin(File::open("/dev/null")?)?;
    let console = OpenOptions::new().write(true).open("/dev/console")?;
    dup2_stdout(&console)?;
    Ok(dup2_stderr(&console)?)
}

/// A setting of the kernel below `/proc/sys`, its value, and whether every kernel has it.
struct Setting(&'static str, &'static str, Presence);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// A kernel without it is not closed.
    Required,
    /// A kernel without it lacks what would have to be closed.
    Optional,
}

const SETTINGS: &[Setting] = &[
    Setting("kernel/modules_disabled", "1", Presence::Optional),
    Setting("kernel/kexec_load_disabled", "1", Presence::Optional),
    Setting("kernel/sysrq", "0", Presence::Optional),
    Setting("kernel/core_pattern", "|/bin/false", Presence::Required),
    Setting("kernel/dmesg_restrict", "1", Presence::Required),
    Setting("kernel/kptr_restrict", "2", Presence::Required),
    Setting("kernel/unprivileged_bpf_disabled", "1", Presence::Optional),
    Setting("kernel/yama/ptrace_scope", "3", Presence::Optional),
    Setting("user/max_user_namespaces", "0", Presence::Optional),
];

/// Keeps everybody out of the kernel from now on, this program included.
fn close_kernel(said: &mut Console) -> Result<(), BootError> {
    // Ctrl-Alt-Delete comes from the host.
    reboot(RebootCommand::CadOff).map_err(|error| BootError::NotHardened {
        setting: "Ctrl-Alt-Delete".into(),
        source: error.into(),
    })?;
    close(Path::new("/proc/sys"), said)?;
    refuse_swap(Path::new("/proc/swaps"))
}

fn close(settings: &Path, said: &mut Console) -> Result<(), BootError> {
    for Setting(name, value, presence) in SETTINGS {
        let setting = settings.join(name);
        match OpenOptions::new().write(true).open(&setting) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && *presence == Presence::Optional => {
                said.lacks(name);
            }
            opened => {
                let written = opened.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
                // A kernel may take a value and keep another.
                let kept = written.and_then(|()| fs::read_to_string(&setting));
                let kept = kept.and_then(|kept| match kept.trim_end() == *value {
                    true => Ok(()),
                    false => {
                        Err(io::Error::other(format!("it is {:?} instead of {value:?}", kept.trim_end())))
                    }
                });
                kept.map_err(|source| BootError::NotHardened { setting, source })?;
            }
        }
    }
    Ok(())
}

/// The kernel's list has a head, and a line for each device. A kernel without swap has no list.
fn refuse_swap(list: &Path) -> Result<(), BootError> {
    match fs::read_to_string(list) {
        Ok(text) => match text.lines().nth(1) {
            Some(line) => Err(BootError::Swap { found: line.to_owned() }),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BootError::System { action: "read", path: list.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("swaps");
        refuse_swap(&list).unwrap();
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        fs::write(&list, head).unwrap();
        refuse_swap(&list).unwrap();
        fs::write(&list, format!("{head}/dev/vdc   partition\t1048572\t0\t-2\n")).unwrap();
        let refused = refuse_swap(&list).unwrap_err();
        assert_eq!(refused.code(), "swap_active");
        assert!(refused.to_string().contains("/dev/vdc"));
    }

    #[test]
    fn every_setting_is_made_and_a_kernel_without_a_required_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for Setting(name, ..) in SETTINGS {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let told = folder.path().join("told");
        let mut said = Console::on(Box::new(fs::File::create(&told).unwrap()));
        close(folder.path(), &mut said).unwrap();
        assert_eq!(fs::read_to_string(&told).unwrap(), "");
        for Setting(name, value, _) in SETTINGS {
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), *value, "{name}");
        }
        fs::remove_file(folder.path().join("kernel/sysrq")).unwrap();
        close(folder.path(), &mut said).unwrap();
        let lacks = "{\"event\":\"lacks\",\"setting\":\"kernel/sysrq\"}\n";
        assert_eq!(fs::read_to_string(&told).unwrap(), lacks);
        // A kernel that takes a value and keeps another.
        fs::write(folder.path().join("kernel/modules_disabled"), "10").unwrap();
        assert_eq!(close(folder.path(), &mut said).unwrap_err().code(), "kernel_not_closed");
        fs::write(folder.path().join("kernel/modules_disabled"), "1").unwrap();
        fs::remove_file(folder.path().join("kernel/dmesg_restrict")).unwrap();
        assert_eq!(close(folder.path(), &mut said).unwrap_err().code(), "kernel_not_closed");
    }

    #[test]
    fn this_test_is_not_process_one() {
        assert!(!is_process_one());
    }
}
