//! What NVIDIA says of a machine's GPUs and switches: manifests, OCSP answers and revocation lists from a folder. A guest
//! appraises its own devices with them, and staples them to its evidence; a broker gives them to guests.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use confide_evidence::document::{MAX_DEVICE_CRLS, MAX_OCSP_ANSWERS, MAX_RIMS, NvidiaEndorsements};
use confide_evidence::nvidia::{FileError, Rim, RimError, decoded};
use confide_evidence::ocsp::{OcspError, OcspResponse};
use confide_evidence::x509::{Crl, X509Error};

/// The most files of a folder: a document lists so many of all kinds, and of each kind no more than its own limit.
pub const MAX_GPU_FILES: usize = MAX_RIMS + MAX_OCSP_ANSWERS + MAX_DEVICE_CRLS;

/// The most bytes of a folder's files together, and so of what is stapled of them. Manifests have some 21 KiB, answers and
/// lists 1.3 KiB: eight GPUs and four switches need under 200 KiB. A document has 4 MiB, of which Intel's collateral and
/// the boot event log need their parts.
pub const MAX_GPU_STAPLE: usize = 1024 * 1024;

/// Why the endorsements of GPUs are not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuFolderError {
    /// The folder or one of its files cannot be read.
    #[error("{path}: endorsements of GPUs cannot be read")]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// More files than [`MAX_GPU_FILES`].
    #[error("{folder}: more than {MAX_GPU_FILES} files of endorsements")]
    TooMany {
        /// The folder.
        folder: PathBuf,
    },
    /// More files of one kind than a document lists.
    #[error("{folder}: {count} {kind}, at most {limit} are stapled")]
    TooManyOf {
        /// The folder.
        folder: PathBuf,
        /// What they are.
        kind: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More bytes than [`MAX_GPU_STAPLE`].
    #[error("{path}: with this file, the endorsements of GPUs have more than {MAX_GPU_STAPLE} bytes")]
    TooLarge {
        /// The file with which they are too large.
        path: PathBuf,
    },
    /// A manifest that cannot be read as one.
    #[error("{path}: no reference manifest")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: RimError,
    },
    /// A file that is neither XML nor DER in any encoding.
    #[error("{path}: neither a manifest, nor an OCSP answer or a revocation list")]
    Encoding {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FileError,
    },
    /// DER that is neither an answer nor a list.
    #[error("{path}: neither an OCSP answer ({ocsp}) nor a revocation list ({crl})")]
    Neither {
        /// The file.
        path: PathBuf,
        /// Why it is no answer.
        ocsp: OcspError,
        /// Why it is no list.
        crl: X509Error,
    },
}

impl GpuFolderError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "gpu_endorsements_unreadable",
            Self::TooMany { .. } | Self::TooManyOf { .. } | Self::TooLarge { .. } => {
                "gpu_endorsements_too_large"
            }
            Self::Manifest { .. } | Self::Encoding { .. } | Self::Neither { .. } => {
                "gpu_endorsements_invalid"
            }
        }
    }
}

/// Reads every file of a folder, but for those whose name begins with a dot. Each is recognised by its content: XML is a
/// manifest; answers and lists are DER, PEM, hexadecimal or base64. Nobody has judged them.
///
/// # Errors
/// [`GpuFolderError`]: also for more than [`MAX_GPU_FILES`] files and [`MAX_GPU_STAPLE`] bytes.
pub fn gpu_endorsements(folder: &Path) -> Result<NvidiaEndorsements, GpuFolderError> {
    let mut found = NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims: Vec::new() };
    let mut left = MAX_GPU_STAPLE;
    for path in files(folder)? {
        let bytes = content(&path, left)?;
        left = left.saturating_sub(bytes.len());
        sort(path, bytes, &mut found)?;
    }
    for (kind, count, limit) in [
        ("manifests", found.rims.len(), MAX_RIMS),
        ("OCSP answers", found.ocsp.len(), MAX_OCSP_ANSWERS),
        ("revocation lists", found.crls.len(), MAX_DEVICE_CRLS),
    ] {
        if count > limit {
            return Err(GpuFolderError::TooManyOf { folder: folder.to_owned(), kind, count, limit });
        }
    }
    Ok(found)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, GpuFolderError> {
    let unreadable = |source| GpuFolderError::Unreadable { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // Where a volume is swapped as a whole, its files are links into a hidden folder.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let kind = match std::fs::metadata(&path) {
            Ok(kind) => kind,
            Err(source) => return Err(GpuFolderError::Unreadable { path, source }),
        };
        if !kind.is_file() {
            continue;
        }
        if files.len() == MAX_GPU_FILES {
            return Err(GpuFolderError::TooMany { folder: folder.to_owned() });
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

fn content(path: &Path, most: usize) -> Result<Vec<u8>, GpuFolderError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|source| GpuFolderError::Unreadable { path: path.to_owned(), source })?;
    if bytes.len() > most {
        return Err(GpuFolderError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Puts a file where it belongs.
fn sort(path: PathBuf, bytes: Vec<u8>, found: &mut NvidiaEndorsements) -> Result<(), GpuFolderError> {
    if is_xml(&bytes) {
        return match Rim::parse(&bytes) {
            Ok(_) => {
                found.rims.push(bytes.into());
                Ok(())
            }
            Err(source) => Err(GpuFolderError::Manifest { path, source }),
        };
    }
    let der = match decoded(&bytes) {
        Ok(der) => der,
        Err(source) => return Err(GpuFolderError::Encoding { path, source }),
    };
    match (OcspResponse::parse(&der), Crl::parse(&der)) {
        // That a responder has no answer is an answer; whether it does is for the appraisal.
        (Ok(_) | Err(OcspError::Unsuccessful(_)), _) => found.ocsp.push(der.into()),
        (_, Ok(_)) => found.crls.push(der.into()),
        (Err(ocsp), Err(crl)) => return Err(GpuFolderError::Neither { path, ocsp, crl }),
    }
    Ok(())
}

/// XML begins with `<`, behind a byte order mark and white space.
fn is_xml(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    text.trim_ascii_start().starts_with(b"<")
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_simulator::{GpuRevocationList, OcspOptions, SimulatedGpu, ocsp_unauthorized};

    const NOW: u64 = 1_790_812_800;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn refusal(files: &[(&str, &[u8])]) -> (String, &'static str) {
        let folder = folder(files);
        let error = gpu_endorsements(folder.path()).unwrap_err();
        (error.to_string().replace(&format!("{}/", folder.path().display()), ""), error.code())
    }

    #[test]
    fn files_are_recognised_by_their_content() {
        let gpu = SimulatedGpu::new(0).unwrap();
        let manifest = gpu.rims(NOW)[0].encode().unwrap();
        let answer = OcspOptions::good(NOW).answer(&gpu.certificates()[1]).unwrap();
        let list = GpuRevocationList::empty(NOW).sign(&gpu.certificates()[2]).unwrap();
        let digits: String = list.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = folder(&[
            ("a.bin", &manifest),
            ("b.xml", &answer),
            ("c.ocsp", digits.as_bytes()),
            ("d.crl", &ocsp_unauthorized()),
            (".hidden", b"anything"),
        ]);
        std::fs::create_dir(folder.path().join("folder.xml")).unwrap();
        let found = gpu_endorsements(folder.path()).unwrap();
        assert_eq!(found.rims, [manifest.into()]);
        assert_eq!(found.ocsp, [answer.into(), ocsp_unauthorized().into()]);
        assert_eq!(found.crls, [list.into()]);
    }

    #[test]
    fn an_empty_folder_has_nothing_and_a_missing_one_is_an_error() {
        let empty = folder(&[]);
        let found = gpu_endorsements(empty.path()).unwrap();
        assert_eq!((found.rims.len(), found.ocsp.len(), found.crls.len()), (0, 0, 0));
        let error = gpu_endorsements(&empty.path().join("none")).unwrap_err();
        assert_eq!(error.code(), "gpu_endorsements_unreadable");
        assert!(error.to_string().contains("/none: "), "{error}");
    }

    #[test]
    fn a_link_to_nothing_is_named() {
        let folder = folder(&[]);
        std::os::unix::fs::symlink("nothing", folder.path().join("link.xml")).unwrap();
        let error = gpu_endorsements(folder.path()).unwrap_err();
        assert_eq!(error.code(), "gpu_endorsements_unreadable");
        assert!(error.to_string().contains("/link.xml: "), "{error}");
    }

    #[test]
    fn a_file_that_is_none_of_the_three_is_named() {
        for bytes in [&b"<html></html>"[..], b"\xef\xbb\xbf\n<?xml", b"a text", b"", b"\x30\x03\x02\x01\x01"]
        {
            let (told, code) = refusal(&[("z.der", bytes)]);
            assert!(told.starts_with("z.der: "), "{told}");
            assert_eq!(code, "gpu_endorsements_invalid", "{told}");
        }
    }

    #[test]
    fn files_beyond_the_bounds_are_refused() {
        let list = GpuRevocationList::empty(NOW);
        let list = list.sign(&SimulatedGpu::new(0).unwrap().certificates()[2]).unwrap();
        let names: Vec<String> = (0..=MAX_GPU_FILES).map(|number| format!("{number:03}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &list[..])).collect();
        assert!(gpu_endorsements(folder(&files[..MAX_DEVICE_CRLS]).path()).is_ok());
        let (told, code) = refusal(&files[..=MAX_DEVICE_CRLS]);
        assert_eq!(code, "gpu_endorsements_too_large");
        assert!(told.contains("33 revocation lists, at most 32"), "{told}");
        let (told, code) = refusal(&files);
        assert_eq!(code, "gpu_endorsements_too_large");
        assert!(told.contains("more than 192 files"), "{told}");
        let long = vec![b' '; MAX_GPU_STAPLE - list.len()];
        let (told, code) = refusal(&[("a", &list), ("b", &[&long[..], b" "].concat())]);
        assert_eq!(code, "gpu_endorsements_too_large");
        assert!(told.starts_with("b: "), "{told}");
        assert_eq!(refusal(&[("a", &list), ("b", &long)]).1, "gpu_endorsements_invalid", "white space alone");
    }
}
