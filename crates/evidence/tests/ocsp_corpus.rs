//! Every recorded OCSP answer is what the corpus' index says, under the key of its delegated responder.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that reads the corpus and prints what it counted"
)]

#[path = "support/nvidia_corpus.rs"]
mod corpus;
#[path = "support/x509_ocsp.rs"]
mod oracle;

use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use confide_evidence::nvidia::decoded;
use confide_evidence::ocsp::{CertStatus, HashAlgorithm, OcspResponse};
use confide_evidence::x509::{Certificate, KeyAlgorithm, OCSP_NO_CHECK, OCSP_SIGNING, SignatureAlgorithm};
use confide_evidence::{hex, pem, time};

/// Recorded answers: three about a device chain, four about those of its two RIMs.
const ANSWERS: usize = 7;
/// Single-byte mutations of each answer.
const MUTATIONS: usize = 600;

/// One recorded answer.
struct Recorded {
    name: String,
    der: Vec<u8>,
    /// The words of the index about it.
    computed: String,
}

fn recorded(folder: &Path) -> Vec<Recorded> {
    let index = std::fs::read_to_string(folder.join("INDEX.md")).unwrap();
    let google = folder.join("google-go-nvattest-tools");
    let lines = index.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let answers = lines.filter(|columns| columns.get(5) == Some(&"ocsp")).map(|columns| Recorded {
        name: columns[1].to_owned(),
        der: decoded(&std::fs::read(google.join(columns[1])).unwrap()).unwrap(),
        computed: columns[7].to_owned(),
    });
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers.len(), ANSWERS);
    answers
}

/// The certificates of the set that the answers are about: the device's chain and those of both RIMs.
fn certificates(folder: &Path) -> Vec<Certificate> {
    let set = folder.join("google-go-nvattest-tools/hopper-550.90.07-full");
    let mut ders = pem::certificates(&std::fs::read(set.join("chain.pem")).unwrap()).unwrap();
    for rim in ["NV_GPU_DRIVER_GH100_550.90.07.xml", "NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"] {
        let text = std::fs::read_to_string(set.join(rim)).unwrap();
        let ends = text.split("X509Certificate>").skip(1).step_by(2);
        ders.extend(ends.map(|body| pem::base64(body.split_once('<').unwrap().0).unwrap()));
    }
    assert_eq!(ders.len(), 5 + 4 + 4);
    ders.iter().map(|der| Certificate::parse(der).unwrap()).collect()
}

/// The word of the index behind a name.
fn word<'a>(computed: &'a str, name: &str) -> &'a str {
    computed.split_once(&format!("{name} ")).unwrap().1.split(' ').next().unwrap()
}

#[test]
fn recorded_answers_are_what_the_index_says() {
    let Some(folder) = corpus::folder_for("the fields of 7 recorded OCSP answers") else { return };
    let certificates = certificates(&folder);
    for Recorded { name, der, computed } in recorded(&folder) {
        let answer = OcspResponse::parse(&der).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [single] = &answer.responses[..] else { panic!("{name}: {:?}", answer.responses) };
        assert!(computed.starts_with("SUCCESSFUL GOOD "), "{name}");
        assert_eq!(single.status, CertStatus::Good, "{name}");
        assert_eq!(hex::encode(&single.cert_id.serial), word(&computed, "serial"), "{name}");
        let seconds = |field: &str| time::parse_seconds(word(&computed, field));
        assert_eq!(Some(single.this_update), seconds("thisUpdate"), "{name}");
        assert_eq!(single.next_update, seconds("nextUpdate"), "{name}");
        assert_eq!(answer.produced_at, single.this_update, "{name}");
        assert_eq!(single.cert_id.hash_algorithm, HashAlgorithm::Sha384, "{name}");
        assert_eq!(answer.nonce, None, "{name}");
        let responder = answer.responder_certificate().expect("a delegated responder");
        let named = computed.split_once("responder ").unwrap().1;
        assert!(responder.common_name.starts_with(named), "{name}: {}", responder.common_name);
        about_one_of(&certificates, &answer, &name);
    }
    eprintln!("{ANSWERS} recorded OCSP answers read, compared with the index and verified");
}

/// The answer is about one certificate of the set, its responder is delegated by that one's issuer, and it verifies.
fn about_one_of(certificates: &[Certificate], answer: &OcspResponse, name: &str) {
    let single = &answer.responses[0];
    let about = certificates.iter().find(|one| one.serial == single.cert_id.serial).expect(name);
    for issuer in certificates {
        let issued = issuer.subject == about.issuer;
        assert_eq!(single.cert_id.is_of(issuer), issued, "{name}: {}", issuer.common_name);
        assert_eq!(answer.single(&about.serial, issuer).is_some(), issued);
    }
    let issuer = certificates.iter().find(|issuer| issuer.subject == about.issuer).expect(name);
    let responder = answer.responder_certificate().expect(name);
    assert!(!certificates.iter().any(|other| answer.responder.is(other)), "{name}");
    assert_eq!(responder.issuer, issuer.subject, "{name}");
    assert!(responder.extended_key_usage.iter().any(|oid| oid == OCSP_SIGNING), "{name}");
    // Those of devices have it as a purpose, those of RIMs as the extension that RFC 6960 means.
    let purpose = responder.extended_key_usage.iter().any(|oid| oid == OCSP_NO_CHECK);
    assert_eq!(purpose, name.contains("gpu_certificate"), "{name}");
    assert_eq!(responder.extension(OCSP_NO_CHECK).is_some(), !purpose, "{name}");
    assert!(responder.has_ocsp_no_check() && !issuer.has_ocsp_no_check(), "{name}");
    assert_eq!(responder.key_algorithm, KeyAlgorithm::P384, "{name}");
    assert_eq!(answer.signature_algorithm, SignatureAlgorithm::EcdsaSha384, "{name}");
    assert!(verifies(responder, &answer.tbs, &answer.signature), "{name}");
    assert!(verifies(issuer, responder.tbs(), &responder.signature), "{name}");
    assert!(!verifies(issuer, &answer.tbs, &answer.signature), "{name}: another key");
}

fn verifies(signer: &Certificate, signed: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, &signer.public_key).verify(signed, signature).is_ok()
}

#[test]
fn recorded_answers_and_mutations_are_what_x509_ocsp_reads() {
    let Some(folder) = corpus::folder_for("7 recorded OCSP answers and 4200 mutations") else { return };
    let mut alike = 0;
    for Recorded { name, der, .. } in recorded(&folder) {
        assert!(oracle::read_alike(&der), "{name}");
        for at in 0..MUTATIONS {
            let mut changed = der.clone();
            // Most often in the head, where the structure is.
            let place = if at % 2 == 0 { at / 2 % der.len() } else { at * 7919 % der.len() };
            changed[place] ^= 1 << (at % 8);
            alike += usize::from(oracle::read_alike(&changed));
        }
    }
    eprintln!("{alike} of {} mutations of recorded OCSP answers read, and alike", ANSWERS * MUTATIONS);
    assert!(alike > ANSWERS);
}
