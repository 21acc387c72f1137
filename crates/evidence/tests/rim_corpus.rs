//! Every recorded RIM parses, and its digest and signature are what the corpus' index says of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[path = "support/rim_corpus.rs"]
mod corpus;

use confide_evidence::nvidia::{Activity, Edition, Rim, RimError};
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

#[test]
fn googles_cases_are_no_whole_rims_but_the_signed_one() {
    let Some(folder) = corpus::folder("Google's parser cases") else { return };
    let cases = corpus::cases(&folder);
    assert_eq!(cases.len(), corpus::CASES);
    for (name, document) in cases {
        let parsed = Rim::parse(&document);
        if name == "success_valid_rim.xml" {
            assert_eq!(judge(&parsed.unwrap()), Verdict { digest: true, signature: true }, "{name}");
            continue;
        }
        // Fragments without a signature, and a SAML response: what they show of a payload is refused or accepted in
        // a whole RIM by `tests/rim.rs`.
        assert!(!parsed.unwrap_err().is_unsupported(), "{name}");
    }
}
