//! Every recorded RIM parses, and its digest and signature are what the corpus' index says of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[path = "support/rim_corpus.rs"]
mod corpus;
#[path = "support/rim.rs"]
mod made;

use confide_evidence::hex;
use confide_evidence::nvidia::{Activity, Edition, Rim, RimError, XmlFault};
use corpus::{RIMS, Verdict, judge};

#[test]
fn every_recorded_rim_is_judged_as_the_index_says() {
    let Some(folder) = corpus::folder("digests and signatures") else { return };
    let recorded = corpus::rims(&folder);
    assert_eq!(recorded.len(), RIMS);
    let mut good = 0;
    for item in recorded {
        let source = &item.source;
        // NVIDIA's sample of a debug signer: the leaf and an intermediate certificate, nothing above.
        if source.ends_with("rim-chain-to-other-root.xml") {
            let missing = RimError::Missing { element: "X509Data", missing: "X509Certificate" };
            assert_eq!(Rim::parse(&item.document), Err(missing), "{source}");
            continue;
        }
        let rim = Rim::parse(&item.document).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(judge(&rim), item.verdict, "{source}");
        good += usize::from(item.verdict == Verdict { digest: true, signature: true });
        assert_eq!(rim.colloquial_version, item.version, "{source}");
        let active = rim.measurements.iter().filter(|one| one.activity == Activity::Active).count();
        assert_eq!(active, item.active, "{source}");
        assert_eq!(rim.certificates[0].common_name, item.leaf, "{source}");
        assert_eq!(rim.measurements.len(), 64, "{source}");
        assert_eq!(rim.measurements.last().unwrap().index, 63, "{source}");
        assert_eq!(rim.name, rim.product, "{source}");
        assert_eq!(rim.edition == Edition::Switch, rim.product == "LS10", "{source}");
        assert_eq!((&*rim.version, &*rim.revision, rim.tag_id.len()), ("1.0", "r1", 96), "{source}");
    }
    assert_eq!(good, 31, "RIMs with digest and signature");
}

#[test]
fn a_recorded_rim_with_a_byte_of_its_content_changed_has_another_digest() {
    let Some(folder) = corpus::folder("changed content") else { return };
    for item in corpus::rims(&folder).iter().filter(|item| item.verdict.digest) {
        let Ok(genuine) = Rim::parse(&item.document) else { continue };
        let text = std::str::from_utf8(&item.document).unwrap();
        for (from, to) in [("\n    <ns0:Meta", "\n   <ns0:Meta"), ("active=\"False\"", "active=\"True\"")] {
            let rim = Rim::parse(text.replacen(from, to, 1).as_bytes()).unwrap();
            assert_ne!(rim.content, genuine.content, "{}", item.source);
            assert_eq!(rim.signed_info, genuine.signed_info, "{}", item.source);
            assert!(!judge(&rim).digest, "{}", item.source);
        }
    }
}

/// What Google's parser cases are cases of.
enum Of {
    /// The fragment's payload, or that it has none.
    Payload,
    /// What the fragment has in KeyInfo.
    KeyInfo,
    /// The fragment's Meta, or that it has none, as far as it is in the form of a RIM.
    Meta,
    /// The whole document.
    Document,
}

/// What must come of one: of a payload that is good, indices, activities and the first byte of each value.
enum Expected {
    Measurements(&'static [(u8, Activity, &'static [u8])]),
    Signed,
    Error(fn(&RimError) -> bool),
}

/// All of them, by name.
const GOOGLES: [(&str, Of, Expected); corpus::CASES] = {
    use Activity::{Active, Inactive};
    use Expected::{Error, Measurements, Signed};
    use RimError as E;
    [
        ("failure_duplicate_index.xml", Of::Payload, Error(|error| *error == E::DuplicateIndex(0))),
        ("failure_empty_payload.xml", Of::Payload, Error(|error| *error == E::NoMeasurement)),
        (
            "failure_hash_empty_namespace.xml",
            Of::Payload,
            Error(|error| *error == E::Alternatives { index: 0, said: 1, found: 0 }),
        ),
        (
            "failure_invalid_alternatives.xml",
            Of::Payload,
            Error(|error| value(error, "Resource", "alternatives", "xyz")),
        ),
        (
            "failure_invalid_base64_cert.xml",
            Of::KeyInfo,
            Error(|error| value(error, "X509Certificate", "base64", "invalid base64")),
        ),
        (
            "failure_invalid_cert_bytes.xml",
            Of::KeyInfo,
            Error(|error| matches!(error, E::Certificate { index: 0, .. })),
        ),
        ("failure_invalid_index.xml", Of::Payload, Error(|error| value(error, "Resource", "index", "abc"))),
        (
            "failure_invalid_pem_data.xml",
            Of::KeyInfo,
            Error(|error| value(error, "X509Certificate", "base64", "--- NOT A VALID CERTIFICATE ---")),
        ),
        ("failure_invalid_size.xml", Of::Payload, Error(|error| value(error, "Resource", "size", "abc"))),
        (
            "failure_missing_alternatives.xml",
            Of::Payload,
            Error(|error| missing(error, "Resource", "alternatives")),
        ),
        (
            "failure_missing_colloquial_version.xml",
            Of::Meta,
            Error(|error| missing(error, "Meta", "colloquialVersion")),
        ),
        (
            "failure_missing_hash.xml",
            Of::Payload,
            Error(|error| *error == E::Alternatives { index: 0, said: 1, found: 0 }),
        ),
        ("failure_missing_index.xml", Of::Payload, Error(|error| missing(error, "Resource", "index"))),
        (
            "failure_missing_meta.xml",
            Of::Meta,
            Error(|error| *error == E::Element { parent: "SoftwareIdentity", found: "Payload".to_owned() }),
        ),
        ("failure_missing_size.xml", Of::Payload, Error(|error| missing(error, "Resource", "size"))),
        (
            "failure_missing_x509_certificate.xml",
            Of::KeyInfo,
            Error(|error| missing(error, "X509Data", "X509Certificate")),
        ),
        ("failure_missing_x509_data.xml", Of::KeyInfo, Error(|error| missing(error, "KeyInfo", "X509Data"))),
        (
            "failure_no_payload.xml",
            Of::Payload,
            Error(|error| *error == E::Element { parent: "SoftwareIdentity", found: "Signature".to_owned() }),
        ),
        (
            "success_payload_multiple_alternatives.xml",
            Of::Payload,
            Measurements(&[(0, Active, &[0]), (12, Active, &[0, 0x75, 0x7d, 0xcb])]),
        ),
        (
            "success_payload_multiple_measurements.xml",
            Of::Payload,
            Measurements(&[(0, Active, &[0xa0]), (1, Inactive, &[0xa1])]),
        ),
        ("success_payload_single_measurement.xml", Of::Payload, Measurements(&[(0, Active, &[0])])),
        ("success_valid_rim.xml", Of::Document, Signed),
        // An answer of SAML: signed XML that is no RIM, and that begins with a declaration, which no RIM has.
        (
            "valid_signed_xml.xml",
            Of::Document,
            Error(|error| *error == E::Xml { offset: 0, fault: XmlFault::ProcessingInstruction }),
        ),
    ]
};

fn value(error: &RimError, of: &str, name: &str, text: &str) -> bool {
    matches!(error, RimError::Value { element, field, found } if (*element, *field, &**found) == (of, name, text))
}

fn missing(error: &RimError, of: &str, what: &str) -> bool {
    matches!(error, RimError::Missing { element, missing } if (*element, *missing) == (of, what))
}

/// The first element of this name, from its start tag to its end; nothing where there is none.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let from = text.find(&format!("<{name}"))?;
    let tag = text[from..].find('>')? + from + 1;
    if text[..tag].ends_with("/>") {
        return Some(&text[from..tag]);
    }
    let end = format!("</{name}>");
    Some(&text[from..text[tag..].find(&end)? + tag + end.len()])
}

/// A RIM made from text with what a fragment has in the place of its own. Placeholders of a size and of hashes, which Google's
/// parser does not look into, get the form of real ones.
fn whole(of: &Of, fragment: &str) -> String {
    let rim = made::RIM.as_str();
    match of {
        Of::Payload => {
            let mut payload = element(fragment, "ns0:Payload").unwrap_or_default().to_owned();
            for placeholder in ["size=\"10\"", "size=\"20\""] {
                payload = payload.replace(placeholder, "size=\"48\"");
            }
            for (placeholder, byte) in [("hash0", "a0"), ("hash1", "a1"), ("hashA", "aa")] {
                let value = format!("\"{}\"", byte.repeat(48));
                payload = payload.replace(&format!("\"{placeholder}\""), &value);
            }
            rim.replace(element(rim, "ns0:Payload").unwrap(), &payload)
        }
        Of::KeyInfo => {
            let own = element(rim, "ds:KeyInfo").unwrap();
            let mut given = element(fragment, "KeyInfo").unwrap().to_owned();
            for name in ["KeyInfo", "X509Data", "X509Certificate"] {
                given = given.replace(&format!("<{name}>"), &format!("<ds:{name}>"));
                given = given.replace(&format!("</{name}>"), &format!("</ds:{name}>"));
            }
            // A RIM has four certificates: where the fragment has fewer, the RIM's own follow.
            let count = given.matches("<ds:X509Certificate>").count();
            let certificate = element(own, "ds:X509Certificate").unwrap();
            let more = certificate.repeat(if count == 0 { 0 } else { 4 - count });
            rim.replace(own, &given.replace("</ds:X509Data>", &format!("{more}</ds:X509Data>")))
        }
        Of::Meta => {
            let own = element(rim, "ns0:Meta").unwrap();
            assert_eq!(element(fragment, "Meta").unwrap_or("<Meta />"), "<Meta />");
            let without = own.replace(" colloquialVersion=\"599.99\"", "");
            rim.replace(own, if fragment.contains("<Meta") { &without } else { "" })
        }
        Of::Document => fragment.to_owned(),
    }
}

#[test]
fn googles_cases_in_whole_rims_give_their_values_or_their_own_errors() {
    let Some(folder) = corpus::folder("Google's parser cases") else { return };
    let cases = corpus::cases(&folder);
    assert_eq!(cases.len(), corpus::CASES);
    for (name, of, expected) in &GOOGLES {
        let (_, document) = cases.iter().find(|(found, _)| found == name).unwrap();
        let fragment = std::str::from_utf8(document).unwrap();
        if !matches!(of, Of::Document) {
            assert!(!Rim::parse(document).unwrap_err().is_unsupported(), "{name}: a fragment is no RIM");
        }
        let text = whole(of, fragment);
        match (expected, Rim::parse(text.as_bytes())) {
            (Expected::Signed, Ok(rim)) => {
                assert_eq!(judge(&rim), Verdict { digest: true, signature: true }, "{name}");
            }
            (Expected::Measurements(expected), Ok(rim)) => {
                let found: Vec<_> =
                    rim.measurements.iter().map(|one| (one.index, one.activity, &one.alternatives)).collect();
                assert_eq!(found.len(), expected.len(), "{name}");
                for ((index, activity, alternatives), (of, is, values)) in found.iter().zip(*expected) {
                    assert_eq!((index, activity), (of, is), "{name}");
                    assert!(alternatives.iter().map(|value| &value[0]).eq(*values), "{name}: index {index}");
                    assert!(alternatives.iter().all(|value| text.contains(&hex::encode(value))), "{name}");
                }
                // Its signature is over another payload.
                assert_eq!(judge(&rim), Verdict { digest: false, signature: true }, "{name}");
            }
            (Expected::Error(is), Err(error)) => {
                assert!(is(&error), "{name}: {error:?}");
                assert!(!error.is_unsupported(), "{name}");
            }
            (_, found) => panic!("{name}: {found:?}"),
        }
    }
}
