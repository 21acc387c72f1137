//! How many threads matrix products use.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What candle and rayon read.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Starts this program again with a fixed number of threads for matrix products, unless its environment has
/// one: all processors but one, which is left to TLS and HTTP. Call it first thing in `main`.
///
/// Without that variable candle reads `/proc/cpuinfo` before every product to count the processors, which makes
/// small models four times slower. Changing the environment of a running program would be unsafe.
///
/// Returns where the variable is set, or where the program cannot be started again: then it is only slow.
pub fn fix_thread_count() {
    if std::env::var_os(THREADS).is_some() {
        return;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.saturating_sub(1).max(1);
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let _failed = command.args(arguments).env(THREADS, threads.to_string()).exec();
}
