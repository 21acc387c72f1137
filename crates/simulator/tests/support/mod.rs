//! The `openssl` program, a second implementation beside the encoders, and files for it.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "openssl reads files")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use confide_simulator::SimulatedGpu;

/// A folder of files that openssl reads, removed at the end.
pub(crate) struct OpenSsl {
    folder: PathBuf,
}

impl OpenSsl {
    /// A folder of this name, or a line that says how many cases are not run because there is no openssl.
    pub(crate) fn new(name: &str, cases: usize) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("not run: {cases} cases of {name}: no openssl here");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("confide-simulator-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Some(Self { folder })
    }

    /// Writes a file: its path.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes certificates, DER, as one PEM file: its path.
    pub(crate) fn certificates(&self, name: &str, certificates: &[Vec<u8>]) -> String {
        let pem: String = certificates.iter().map(|der| self.pem(der)).collect();
        self.file(name, pem.as_bytes())
    }

    fn pem(&self, der: &[u8]) -> String {
        let path = self.file("certificate.der", der);
        let (ok, text) = self.run(&format!("x509 -inform DER -in {path}"));
        assert!(ok, "{text}");
        text
    }

    /// Runs openssl with these words: whether it succeeded, and all that it printed.
    pub(crate) fn run(&self, words: &str) -> (bool, String) {
        let output = Command::new("openssl").args(words.split(' ')).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The certificates of a manifest, DER, as they stand in it.
pub(crate) fn rim_certificates(rim: &str) -> Vec<Vec<u8>> {
    rim.split("<ds:X509Certificate>")
        .skip(1)
        .map(|rest| decoded(rest.split_once("</ds:X509Certificate>").unwrap().0))
        .collect()
}

/// The bytes of base64 with white space.
pub(crate) fn decoded(base64: &str) -> Vec<u8> {
    let digit = |digit: u8| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let bits: Vec<bool> = base64
        .bytes()
        .filter_map(digit)
        .flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1 == 1))
        .collect();
    bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

/// The driver's manifest of a Hopper at this time, as text.
pub(crate) fn driver_rim(now_unix: u64) -> String {
    let [driver, _] = SimulatedGpu::new(0).unwrap().rims(now_unix);
    String::from_utf8(driver.encode().unwrap()).unwrap()
}

/// The NVIDIA part of the corpus, or a line that says what is not run.
pub(crate) fn corpus(what: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CONFIDE_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"), PathBuf::from);
    let folder = root.join("nvidia");
    if folder.join("INDEX.md").is_file() {
        return Some(folder);
    }
    eprintln!("not run: {what}: no corpus at {}", root.display());
    None
}
