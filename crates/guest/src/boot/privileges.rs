//! What is given up before the guest talks to anybody but its broker.

use confide_egress::plan::SERVING_USER;
use rustix::io::{Errno, Result};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::error::BootError;

/// What the guest is still to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// To set the ready state of GPUs: NVIDIA's driver asks for CAP_SYS_ADMIN.
    pub(crate) gpus: bool,
    /// To listen on a port below 1024.
    pub(crate) low_port: bool,
}

/// Makes this thread one of [`SERVING_USER`], and gives up every capability of it but what `needs` asks for, what starts and ends the
/// engine as another user and what keeps memory locked; of the threads and programs that it starts from now on, too. None of them gets
/// any back.
///
/// # Errors
/// [`BootError::Privileges`].
pub(crate) fn drop_all_but(needs: Needs) -> std::result::Result<(), BootError> {
    become_user(SERVING_USER)
        .and_then(|()| shrink(kept(needs)))
        .map_err(|error| BootError::Privileges(error.into()))
}

/// Changes the user of this thread, who has every capability that the thread had.
fn become_user(user: u32) -> Result<()> {
    if geteuid().as_raw() == user {
        return Ok(());
    }
    let had = capabilities(None)?;
    set_keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_keep_capabilities(false)?;
    // The change of the user has left none in effect.
    set_capabilities(None, CapabilitySets { effective: had.permitted, ..had })
}

/// As [`drop_all_but`], for these capabilities.
///
/// # Errors
/// [`BootError::Privileges`].
pub(crate) fn keep(kept: CapabilitySet) -> std::result::Result<(), BootError> {
    shrink(kept).map_err(|error| BootError::Privileges(error.into()))
}

fn kept(needs: Needs) -> CapabilitySet {
    // Without the last one a limit on locked memory would hold again, and memory is locked as a whole.
    let mut kept =
        CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL | CapabilitySet::IPC_LOCK;
    if needs.gpus {
        kept |= CapabilitySet::SYS_ADMIN;
    }
    if needs.low_port {
        kept |= CapabilitySet::NET_BIND_SERVICE;
    }
    kept
}

fn shrink(kept: CapabilitySet) -> Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let had = capabilities(None)?.permitted;
    for capability in had.difference(kept).iter() {
        remove_capability_from_bounding_set(capability)?;
    }
    let permitted = had.intersection(kept);
    let inheritable = CapabilitySet::empty();
    let left = CapabilitySets { effective: permitted, permitted, inheritable };
    set_capabilities(None, left)?;
    match capabilities(None)? {
        found if found == left => Ok(()),
        _ => Err(Errno::PERM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{getgid, getgroups};
    use rustix::thread::no_new_privs;

    const NOTHING: Needs = Needs { gpus: false, low_port: false };

    #[test]
    fn a_thread_keeps_what_the_engine_needs_and_gets_nothing_back() {
        if !geteuid().is_root() {
            println!("not run: dropping capabilities: these tests do not run as root");
            return;
        }
        // A thread of its own, for capabilities are a thread's.
        let dropped = std::thread::spawn(|| {
            drop_all_but(NOTHING).unwrap();
            let sets = capabilities(None).unwrap();
            assert_eq!(sets.effective, sets.permitted);
            assert!(kept(NOTHING).contains(sets.permitted));
            assert!(sets.permitted.contains(CapabilitySet::SETUID), "what starts the engine is kept");
            assert_eq!((geteuid().as_raw(), getgid().as_raw()), (SERVING_USER, SERVING_USER));
            assert!(getgroups().unwrap().is_empty());
            assert!(sets.inheritable.is_empty() && no_new_privs().unwrap());
            let bounding = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = bounding.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap().to_owned();
            let bounding = CapabilitySet::from_bits_retain(u64::from_str_radix(&line, 16).unwrap());
            assert!(!bounding.intersects(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN));
            let more = CapabilitySets {
                effective: CapabilitySet::SYS_ADMIN,
                permitted: CapabilitySet::SYS_ADMIN,
                ..sets
            };
            assert!(set_capabilities(None, more).is_err());
            // Giving up what is gone is no error.
            drop_all_but(NOTHING).unwrap();
        });
        dropped.join().unwrap();
    }

    #[test]
    fn more_is_kept_only_for_gpus_and_low_ports() {
        assert!(!kept(NOTHING).intersects(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_BIND_SERVICE));
        assert!(kept(Needs { gpus: true, low_port: false }).contains(CapabilitySet::SYS_ADMIN));
        assert!(kept(Needs { gpus: false, low_port: true }).contains(CapabilitySet::NET_BIND_SERVICE));
    }
}
