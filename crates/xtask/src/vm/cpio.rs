//! An initial file system: a cpio archive of the form `newc` (Documentation/driver-api/early-userspace/buffer-format).
//!
//! The same contents give the same bytes: entries are sorted, belong to root and have no time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What lies at a path.
enum Entry {
    Folder,
    File { bytes: Vec<u8>, mode: u32 },
}

/// A tree of files. Paths are absolute.
#[derive(Default)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;

impl Archive {
    /// An empty folder, with those above it.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
        self.entries.entry(path.to_owned()).or_insert(Entry::Folder);
    }

    /// A file that can be run.
    pub(super) fn program(&mut self, path: &str, bytes: Vec<u8>) {
        self.file(path, bytes, PROGRAM);
    }

    /// A file that is read.
    pub(super) fn data(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.file(path, bytes.into(), DATA);
    }

    fn file(&mut self, path: &str, bytes: Vec<u8>, mode: u32) {
        if let Some((folder, _)) = path.trim_start_matches('/').rsplit_once('/') {
            self.folder(folder);
        }
        self.entries.insert(path.trim_start_matches('/').to_owned(), Entry::File { bytes, mode });
    }

    /// Whether something lies there.
    pub(super) fn has(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_start_matches('/'))
    }

    /// The archive's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            let (mode, bytes) = match entry {
                Entry::Folder => (FOLDER, &[][..]),
                Entry::File { bytes, mode } => (*mode, bytes.as_slice()),
            };
            append(&mut out, number + 1, mode, path, bytes);
        }
        append(&mut out, 0, 0, "TRAILER!!!", &[]);
        out
    }
}

/// One entry: a header of hexadecimal numbers, the name with its end, the bytes; name and bytes padded to four.
fn append(out: &mut Vec<u8>, number: usize, mode: u32, name: &str, bytes: &[u8]) {
    let links = if mode == FOLDER { 2 } else { 1 };
    let mut header = "070701".to_owned();
    // Number, mode, owner, group, links, time, size, device, device of a node, length of the name, checksum.
    let fields = [number, mode as usize, 0, 0, links, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
    for field in fields {
        write!(header, "{field:08X}").expect("a string takes everything");
    }
    out.extend(header.as_bytes());
    out.extend(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend(bytes);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_folders_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.data("/etc/a", "text");
        archive.program("/init", vec![1; 5]);
        archive.folder("/dev");
        let bytes = archive.encode();
        let text = String::from_utf8_lossy(&bytes);
        let places: Vec<usize> = ["dev\0", "etc\0", "etc/a\0", "init\0", "TRAILER!!!\0"]
            .map(|name| text.find(name).unwrap())
            .to_vec();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(text.matches("070701").count(), 5);
        assert!(archive.has("/etc") && !archive.has("/lib"));
    }

    #[test]
    fn a_header_has_the_fields_of_the_format() {
        let mut out = Vec::new();
        append(&mut out, 7, PROGRAM, "init", &[1, 2, 3, 4, 5]);
        let header = std::str::from_utf8(&out[..110]).unwrap();
        let field = |at: usize| usize::from_str_radix(&header[6 + 8 * at..14 + 8 * at], 16).unwrap();
        assert_eq!((field(0), field(1), field(4)), (7, 0o100_755, 1));
        assert_eq!((field(6), field(11)), (5, 5));
        assert_eq!(&out[110..115], b"init\0");
        assert_eq!((&out[116..121], out.len()), (&[1, 2, 3, 4, 5][..], 124));
    }
}
