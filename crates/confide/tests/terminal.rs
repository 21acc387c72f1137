//! `confide` on a terminal: a pseudo-terminal whose other end the test reads.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};
use support::Sample;

const ESCAPE: char = '\x1b';

/// Exit status and output of `confide verify quote`, on a terminal.
fn on_a_terminal(flags: &[String], no_color: Option<&str>) -> (i32, String) {
    let flags_of_terminals = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags_of_terminals).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let terminal = ioctl_tiocgptpeer(&controller, flags_of_terminals).unwrap();
    let mut command = command(flags, no_color);
    command.stdin(Stdio::null()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    // The command holds the terminal open, which ends when the program does.
    drop(command);
    let (mut controller, mut told) = (File::from(controller), Vec::new());
    // What a terminal without a program gives is an error, and what came before stands.
    if let Err(error) = controller.read_to_end(&mut told) {
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    }
    let status = child.wait().unwrap().code().unwrap();
    (status, String::from_utf8(told).unwrap().replace("\r\n", "\n"))
}

/// The same in a pipe.
fn in_a_pipe(flags: &[String], no_color: Option<&str>) -> (i32, String) {
    let output = command(flags, no_color).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

fn command(flags: &[String], no_color: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
    command.args(["verify", "quote"]).args(flags).env_remove("NO_COLOR");
    command.envs(no_color.map(|value| ("NO_COLOR", value)));
    command
}

/// Text without its colours.
fn plain(text: &str) -> String {
    let mut pieces = text.split(ESCAPE);
    let first = pieces.next().unwrap();
    let rest = pieces.map(|piece| piece.strip_prefix('[').unwrap().split_once('m').unwrap().1);
    std::iter::once(first).chain(rest).collect()
}

#[test]
fn a_verdict_is_coloured_on_a_terminal_alone_and_not_under_no_color() {
    let late = Sample::version_4().at("2030-01-01T00:00:00Z").flags();
    for (flags, status, first, colour) in
        [(Sample::version_4().flags(), 0, "ACCEPTED", "1;32"), (late, 10, "REJECTED (validity)", "1;31")]
    {
        let (piped_status, piped) = in_a_pipe(&flags, None);
        assert_eq!((piped_status, piped.lines().next().unwrap()), (status, first), "{piped}");
        assert!(!piped.contains(ESCAPE), "{piped}");
        // Empty, it is as if it were not there (no-color.org).
        for no_color in [None, Some("")] {
            let (found, told) = on_a_terminal(&flags, no_color);
            let word = first.split(' ').next().unwrap();
            assert_eq!(found, status, "{told}");
            assert!(told.starts_with(&format!("\x1b[{colour}m{word}\x1b[0m")), "{told:?}");
            assert_eq!(plain(&told), piped);
        }
        for no_color in ["1", "0"] {
            assert_eq!(on_a_terminal(&flags, Some(no_color)), (status, piped.clone()), "NO_COLOR={no_color}");
        }
        assert_eq!(in_a_pipe(&flags, Some("")), (status, piped));
    }
}

#[test]
fn an_error_is_coloured_on_a_terminal_alone_and_not_under_no_color() {
    let missing = ["--quote", "/nonexistent", "--at", "2030-01-01T00:00:00Z"].map(str::to_owned);
    let (status, piped) = in_a_pipe(&missing, None);
    assert!(status == 1 && piped.starts_with("error: /nonexistent: "), "{piped}");
    let (status, told) = on_a_terminal(&missing, None);
    assert!(status == 1 && told.starts_with("\x1b[31merror:\x1b[0m /nonexistent: "), "{told:?}");
    assert_eq!(plain(&told), piped);
    assert_eq!(on_a_terminal(&missing, Some("1")), (1, piped));
}
