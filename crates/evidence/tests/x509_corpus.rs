//! Recorded certificates and revocation lists, and mutations of them, read as `x509-parser` reads them.
//!
//! Both are walked by this crate itself; names, times, keys and algorithms in them are read by x509-parser.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that reads the corpus and prints what it counted"
)]

use confide_evidence::pem;
use confide_evidence::x509::{Certificate, Crl};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::nom;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate, X509Version};

/// Single-byte mutations of each file.
const MUTATIONS: usize = 400;

fn corpus(not_run: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let folder = std::env::var_os("CONFIDE_CORPUS").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder.join("tdx"));
    }
    println!("not run: {not_run}: no corpus at {}", folder.display());
    None
}

fn files(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, end, found);
        } else if path.to_str().unwrap().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
}

/// The bytes themselves and mutations of them, the same in every run.
fn mutations(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let changed = (0..MUTATIONS).map(|at| {
        let mut changed = bytes.to_vec();
        // Strides over the whole, most often in the head, where the structure is.
        let place = if at % 2 == 0 { at / 2 % bytes.len() } else { at * 7919 % bytes.len() };
        changed[place] ^= 1 << (at % 8);
        changed
    });
    [bytes.to_vec()].into_iter().chain(changed)
}

#[test]
fn revocation_lists_are_what_x509_parser_reads() {
    let Some(folder) = corpus("every revocation list") else { return };
    let mut paths = Vec::new();
    files(&folder, ".crl.der", &mut paths);
    let (mut lists, mut read) = (0, 0);
    for path in &paths {
        for der in mutations(&std::fs::read(path).unwrap()) {
            let Ok(ours) = Crl::parse(&der) else { continue };
            let (rest, theirs) = match CertificateRevocationList::from_der(&der) {
                Ok(read) => read,
                // They decode the contents of extensions, which are critical or count for nothing.
                Err(nom::Err::Error(X509Error::InvalidExtensions)) => continue,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            let tbs = &theirs.tbs_cert_list;
            assert!(rest.is_empty(), "{}", path.display());
            assert_eq!(ours.tbs, tbs.as_ref(), "{}", path.display());
            assert_eq!(ours.signature, theirs.signature_value.data.as_ref());
            assert_eq!(ours.issuer, tbs.issuer.as_raw());
            assert_eq!(ours.this_update, tbs.this_update.timestamp());
            assert_eq!(ours.next_update, tbs.next_update.map(|time| time.timestamp()));
            let serials: BTreeSet<Vec<u8>> = tbs
                .revoked_certificates
                .iter()
                .map(|entry| entry.raw_serial().iter().copied().skip_while(|byte| *byte == 0).collect())
                .collect();
            assert_eq!(ours.entries().map(|(serial, _)| serial.to_vec()).collect::<BTreeSet<_>>(), serials);
            assert_eq!(ours.entries().len(), tbs.revoked_certificates.len());
            assert!(serials.iter().all(|serial| ours.revokes(serial)));
            assert!(!ours.revokes(b"no serial number of Intel"));
            let critical = |extension: &&x509_parser::extensions::X509Extension<'_>| extension.critical;
            let entries = tbs.revoked_certificates.iter().flat_map(|entry| entry.extensions());
            let all = theirs.extensions().iter().chain(entries).filter(critical);
            assert_eq!(ours.critical_extensions.len(), all.count());
            read += 1;
        }
        lists += 1;
    }
    println!("{lists} revocation lists, {read} of them and their mutations read alike");
    assert!(lists > 5 && read > lists);
}

#[test]
fn certificates_are_what_x509_parser_reads() {
    let Some(folder) = corpus("every signing certificate") else { return };
    let mut paths = Vec::new();
    files(&folder, ".pem", &mut paths);
    let mut ders = BTreeSet::new();
    for path in &paths {
        ders.extend(pem::certificates(&std::fs::read(path).unwrap()).unwrap_or_default());
    }
    let mut read = 0;
    for der in ders.iter().flat_map(|der| mutations(der)) {
        let Ok(ours) = Certificate::parse(&der) else { continue };
        let theirs = match X509Certificate::from_der(&der) {
            Ok((_, theirs)) => theirs,
            Err(nom::Err::Error(X509Error::InvalidX509Name)) => continue,
            Err(error) => panic!("{}: {error}", ours.common_name),
        };
        let (mut basic, mut usage) = (None, None);
        for extension in theirs.tbs_certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(found) => {
                    basic = Some((found.ca, found.path_len_constraint));
                }
                ParsedExtension::KeyUsage(found) => {
                    usage = Some((found.digital_signature(), found.key_cert_sign(), found.crl_sign()));
                }
                _ => {}
            }
        }
        let ours_basic = ours.basic_constraints.map(|found| (found.ca, found.path_len));
        let ours_usage =
            ours.key_usage.map(|found| (found.digital_signature, found.key_cert_sign, found.crl_sign));
        assert_eq!((ours_basic, ours_usage), (basic, usage), "{}", ours.common_name);
        let tbs = &theirs.tbs_certificate;
        assert_eq!(tbs.version, X509Version::V3);
        assert_eq!((ours.tbs(), &ours.signature[..]), (tbs.as_ref(), theirs.signature_value.data.as_ref()));
        assert_eq!(ours.subject, tbs.subject.as_raw());
        // Of an issuer's name they leave away what they cannot read; it is compared with a subject's, which is read.
        assert!(ours.issuer.starts_with(tbs.issuer.as_raw()), "{}", ours.common_name);
        let name = tbs.subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        assert_eq!(ours.common_name, name.unwrap_or_default());
        let number: Vec<u8> = theirs.raw_serial().iter().copied().skip_while(|byte| *byte == 0).collect();
        assert_eq!(ours.serial, number);
        let (from, to) = (tbs.validity.not_before, tbs.validity.not_after);
        assert_eq!((ours.not_before, ours.not_after), (from.timestamp(), to.timestamp()));
        let key = &tbs.subject_pki;
        assert_eq!((&ours.spki[..], &ours.public_key[..]), (key.raw, key.subject_public_key.data.as_ref()));
        assert_eq!(theirs.signature_algorithm, tbs.signature);
        let extensions: Vec<(String, bool, &[u8])> =
            tbs.extensions().iter().map(|one| (one.oid.to_id_string(), one.critical, one.value)).collect();
        let found = ours.extensions.iter().map(|one| (one.oid.to_string(), one.critical, &one.value[..]));
        assert_eq!(found.collect::<Vec<_>>(), extensions);
        read += 1;
    }
    println!("{} certificates, {read} of them and their mutations read alike", ders.len());
    assert!(ders.len() > 2 && read > ders.len());
}
