//! Every recorded boot event log parses and replays to the registers that the corpus table names.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the corpus lies in files")]

use confide_evidence::boot_log::BootLog;
use confide_evidence::hex;
use confide_evidence::tdx::{Padding, Quote};
use std::path::{Path, PathBuf};

const LOGS: usize = 14;

fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("CONFIDE_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"), PathBuf::from);
    if root.join("ccel.tsv").is_file() {
        return Some(root);
    }
    eprintln!("not run: {LOGS} recorded boot event logs: no corpus at {}", root.display());
    None
}

/// The recorded quote whose file name begins with these digits.
fn quote(root: &Path, prefix: &str) -> Option<Vec<u8>> {
    let folder = std::fs::read_dir(root.join("tdx/quotes/genuine")).unwrap();
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    folder.map(|entry| entry.unwrap().path()).find(named).map(|path| std::fs::read(path).unwrap())
}

#[test]
fn recorded_logs_replay_to_the_registers_of_the_table() {
    let Some(root) = corpus() else { return };
    let table = std::fs::read_to_string(root.join("ccel.tsv")).unwrap();
    let (mut read, mut compared) = (0, 0);
    for row in table.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [file, events, matches, prefixes, ..] = columns.as_slice() else { panic!("{row}") };
        let bytes = std::fs::read(root.join(file)).unwrap();
        let log = BootLog::parse(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(log.events().count(), events.parse::<usize>().unwrap(), "{file}");
        let replayed = log.replay();
        let shown: Vec<String> = replayed.iter().map(|register| hex::encode(&register[..6])).collect();
        assert_eq!(shown.join(" "), *prefixes, "{file}");
        read += 1;
        let Some((prefix, digits)) = matches.split_once(':') else { continue };
        let Some(quote) = quote(&root, prefix) else {
            eprintln!("{file}: the corpus does not have quote {prefix}");
            continue;
        };
        let quote = Quote::parse(&quote, Padding::Zeros).unwrap();
        let equal = quote.report.rtmr.iter().zip(&replayed).map(|(register, replayed)| *register == replayed);
        let found: String = equal.map(|equal| if equal { '1' } else { '0' }).collect();
        assert_eq!(found, digits, "{file} against quote {prefix}");
        compared += 1;
    }
    eprintln!("recorded boot event logs: {read} read, {compared} held against their quotes");
    assert_eq!((read, compared), (LOGS, 2));
}

#[test]
fn recorded_logs_lose_their_padding_and_nothing_else() {
    let Some(root) = corpus() else { return };
    for entry in std::fs::read_dir(root.join("ccel")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let whole = BootLog::parse(&bytes).unwrap();
        let bare = BootLog::parse(whole.bytes()).unwrap();
        assert_eq!((bare.padding(), bare.replay()), (0, whole.replay()));
        assert!(whole.events().eq(bare.events()));
    }
}
