//! `confide` on a terminal: a pseudo-terminal whose other end the test reads.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use support::Sample;

const ESCAPE: char = '\x1b';

/// The end that a test holds, and the end that a program has.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let terminal = ioctl_tiocgptpeer(&controller, flags).unwrap();
    (controller.into(), terminal)
}

/// Exit status and output of `confide verify quote`, on a terminal.
fn on_a_terminal(flags: &[String], no_color: Option<&str>) -> (i32, String) {
    let (mut controller, terminal) = terminal();
    let mut command = command(flags, no_color);
    command.stdin(Stdio::null()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    // The command holds the terminal open, which ends when the program does.
    drop(command);
    let mut told = Vec::new();
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

/// The first line that a terminal is told by a program that waits for its input; the program is ended then.
fn told_while_it_waits(command: &mut Command) -> String {
    let (controller, terminal) = terminal();
    // A pipe that nobody writes to, and nobody closes.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    let (send, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = BufReader::new(controller).read_line(&mut text);
        let _ = send.send(read.map(|_| text));
    });
    let line = line.recv_timeout(Duration::from_secs(30));
    child.kill().unwrap();
    child.wait().unwrap();
    line.expect("it is told nothing").unwrap().trim_end().to_owned()
}

/// A file that gives nothing until somebody writes to it.
fn pipe(path: &Path) -> String {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    path.display().to_string()
}

#[test]
fn a_terminal_is_told_of_work_on_records_and_cases_that_takes_long() {
    let folder = tempfile::tempdir().unwrap();
    let (file, records) = (pipe(&folder.path().join("records.cbor")), folder.path().join("records"));
    std::fs::create_dir(&records).unwrap();
    pipe(&records.join("appraisals.cbor"));
    let records = records.display().to_string();
    let url = "https://127.0.0.1:1";
    for (words, expected) in [
        (&["replay", &file][..], format!("… appraising every record of {file} again")),
        (&["audit", &records], format!("… verifying every record and receipt of {records}")),
        (&["conformance"], "… appraising the cases of standard input".to_owned()),
        (
            &["chat", "--offline", "--url", url, "--record", &file, "question"],
            format!("… following the records of {file} to their end"),
        ),
        (
            &["proxy", "--offline", "--upstream", url, "--listen", "127.0.0.1:0", "--record", &records],
            format!("… following the records of {records} to their end"),
        ),
        (
            &["record", "--offline", url, "--out", &file],
            format!("… following the records of {file} to their end"),
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        command.args(words).env("XDG_CONFIG_HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
        assert_eq!(told_while_it_waits(&mut command), expected, "{words:?}");
    }
}
