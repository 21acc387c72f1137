//! What a process that holds keys or prompts does first.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Closes this process to debuggers and core dumps: from here on no other process of the same user reads its memory
/// (ptrace(2), `/proc/PID/mem`), and a crash leaves no copy of it. Programs that it starts open themselves again.
///
/// # Errors
/// The kernel refuses.
pub fn close_to_debuggers() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(rustix::process::setrlimit(Resource::Core, nothing)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_process_is_not_dumped_and_cannot_be_opened_again_by_a_limit() {
        close_to_debuggers().unwrap();
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        close_to_debuggers().unwrap();
    }
}
