//! Simulated OCSP responses and revocation lists, judged by openssl.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "openssl judges responses at the time of the day")]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use confide_simulator::{
    GpuCrlFlaw, GpuCrlHash, GpuRevocationList, OcspFlaw, OcspHash, OcspOptions, OcspStatus, SimulatedGpu,
    SimulatedSwitch, SimulatorError, Window, ocsp_unauthorized,
};
use support::{OpenSsl, driver_rim, rim_certificates};

/// openssl compares a response's times with the clock alone.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Two chains, leaf first: of a device and of a manifest's signer.
fn chains(at: u64) -> [Vec<Vec<u8>>; 2] {
    [SimulatedGpu::new(0).unwrap().certificates().to_vec(), rim_certificates(&driver_rim(at))]
}

/// Every certificate that a responder answers for, with the certificates from its issuer to the root.
fn served(at: u64) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
    let [device, rim] = chains(at);
    let switch = SimulatedSwitch::new(0).unwrap().certificates().to_vec();
    // The leaf is not served, and of a switch's chain the first authorities alone are others than a GPU's.
    let mut all = Vec::new();
    for (chain, first, last) in [(&device, 1, 4), (&rim, 0, 3), (&switch, 1, 3)] {
        for position in first..last {
            all.push((chain[position].clone(), chain[position + 1..].to_vec()));
        }
    }
    all
}

/// What openssl says about a response, with the issuer's chain as the only trust.
fn judged(
    openssl: &OpenSsl,
    response: &[u8],
    certificate: &[u8],
    above: &[Vec<u8>],
    hash: OcspHash,
) -> (bool, String) {
    let respin = openssl.file("response.der", response);
    let checked = openssl.certificates("checked.pem", &[certificate.to_vec()]);
    let issuer = openssl.certificates("issuer.pem", &above[..1]);
    let between = openssl.certificates("between.pem", above);
    let root = openssl.certificates("root.pem", &above[above.len() - 1..]);
    let hash = match hash {
        OcspHash::Sha1 => "sha1",
        OcspHash::Sha256 => "sha256",
        OcspHash::Sha384 => "sha384",
    };
    let (ok, said) = openssl.run(&format!(
        "ocsp -respin {respin} -no_nonce -issuer {issuer} -{hash} -cert {checked} -CAfile {root} \
         -verify_other {between}"
    ));
    (ok && said.contains("Response verify OK"), said)
}

#[test]
fn openssl_accepts_an_answer_for_each_certificate_that_is_served() {
    let at = now();
    let served = served(at);
    assert_eq!(served.len(), 8);
    let Some(openssl) = OpenSsl::new("ocsp-served", served.len()) else { return };
    for (certificate, above) in served {
        for hash in [OcspHash::Sha1, OcspHash::Sha256, OcspHash::Sha384] {
            let response = OcspOptions { hash, ..OcspOptions::good(at) }.answer(&certificate).unwrap();
            let (verified, said) = judged(&openssl, &response, &certificate, &above, hash);
            assert!(verified && said.contains(": good"), "{hash:?}: {said}");
        }
    }
}

#[test]
fn openssl_reads_every_status() {
    let at = now();
    let (certificate, above) = served(at).remove(3);
    let Some(openssl) = OpenSsl::new("ocsp-status", 5) else { return };
    let good = OcspOptions::good(at);
    for (options, words) in [
        (good.clone(), ": good"),
        (OcspOptions { status: OcspStatus::Unknown, ..good.clone() }, ": unknown"),
        (OcspOptions::revoked(at, None), ": revoked"),
        (OcspOptions::revoked(at, Some(1)), "Reason: keyCompromise"),
        (OcspOptions::revoked(at, Some(6)), "Reason: certificateHold"),
    ] {
        let response = options.answer(&certificate).unwrap();
        let (verified, said) = judged(&openssl, &response, &certificate, &above, OcspHash::Sha384);
        assert!(verified && said.contains(words), "{words}: {said}");
    }
}

#[test]
fn openssl_refuses_what_the_flaws_break() {
    let at = now();
    let (certificate, above) = served(at).remove(3);
    let Some(openssl) = OpenSsl::new("ocsp-flaws", 15) else { return };
    let good = OcspOptions::good(at);
    let flawed = |flaw| OcspOptions { flaw, ..good.clone() };
    let expired = Window { from: at - 200, until: at - 100 };
    for (options, holds) in [
        (good.clone(), true),
        (OcspOptions { nonce: Some(vec![7; 16]), ..good.clone() }, true),
        // openssl does not ask for it; it only says that the responder's own certificate need not be checked.
        (flawed(OcspFlaw::ResponderWithoutNoCheck), true),
        (flawed(OcspFlaw::ResponderOfAnotherAuthority), false),
        (flawed(OcspFlaw::ResponderOfAnotherKey), false),
        (flawed(OcspFlaw::ResponderWithoutUsage), false),
        (flawed(OcspFlaw::ResponderOfAnotherUsage), false),
        (flawed(OcspFlaw::Signature), false),
        (flawed(OcspFlaw::WithoutCertificate), false),
        (flawed(OcspFlaw::Unauthorized), false),
        (OcspOptions { responder_window: expired, ..good.clone() }, false),
        (OcspOptions { this_update: at - 90_000, next_update: Some(at - 3_600), ..good.clone() }, false),
    ] {
        let response = options.answer(&certificate).unwrap();
        let (verified, said) = judged(&openssl, &response, &certificate, &above, OcspHash::Sha384);
        let accepted = verified && said.contains(": good") && !said.contains("Status times invalid");
        assert_eq!(accepted, holds, "{options:?}: {said}");
    }
    for flaw in [OcspFlaw::Serial, OcspFlaw::IssuerName, OcspFlaw::IssuerKey] {
        let response = flawed(flaw).answer(&certificate).unwrap();
        let (_, said) = judged(&openssl, &response, &certificate, &above, OcspHash::Sha384);
        assert!(!said.contains(": good"), "{flaw:?}: {said}");
    }
}

#[test]
fn a_response_has_the_form_of_nvidias() {
    let at = now();
    let (certificate, above) = served(at).remove(0);
    let Some(openssl) = OpenSsl::new("ocsp-form", 1) else { return };
    let response = OcspOptions::good(at).answer(&certificate).unwrap();
    assert_eq!(
        response,
        OcspOptions::good(at).answer(&certificate).unwrap(),
        "the same options, the same bytes"
    );
    let path = openssl.file("response.der", &response);
    let root = openssl.certificates("root.pem", &above[above.len() - 1..]);
    let (_, said) = openssl.run(&format!("ocsp -respin {path} -resp_text -noverify -CAfile {root}"));
    for words in [
        "Hash Algorithm: sha384",
        "Serial Number: 41",
        "Cert Status: good",
        "Next Update:",
        "Signature Algorithm: ecdsa-with-SHA384",
        "OCSP Responder GH100 Provisioner ICA 1 SIMULATED",
        "OCSP Signing",
        "OCSP No Check",
        "Digital Signature",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn leaf_certificates_are_not_served() {
    let [device, _] = chains(now());
    let answer = OcspOptions::good(now()).answer(&device[0]);
    assert!(matches!(answer, Err(SimulatorError::Authority)));
    assert_eq!(ocsp_unauthorized(), [0x30, 3, 0x0a, 1, 6]);
}

#[test]
fn a_chain_has_an_answer_for_all_but_its_root_and_a_devices_leaf() {
    let at = now();
    let [device, rim] = chains(at);
    let good = OcspOptions::good(at);
    let each = |chain: &[Vec<u8>]| chain.iter().map(|found| good.answer(found).unwrap()).collect::<Vec<_>>();
    assert_eq!(good.answers(&device).unwrap(), each(&device[1..4]));
    assert_eq!(good.answers(&rim).unwrap(), each(&rim[..3]));
    assert!(good.answers(&[]).unwrap().is_empty());
}

/// Every authority that signs lists, with what it has issued.
fn issued(at: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    served(at).into_iter().map(|(certificate, above)| (above[0].clone(), certificate)).collect()
}

#[test]
fn openssl_verifies_the_lists_of_every_authority() {
    let at = now();
    let issued = issued(at);
    let Some(openssl) = OpenSsl::new("crl-authorities", issued.len()) else { return };
    for (issuer, certificate) in issued {
        for hash in [GpuCrlHash::Sha256, GpuCrlHash::Sha384] {
            let list = GpuRevocationList { hash, ..GpuRevocationList::of(&certificate, Some(6), at) };
            let path = openssl.file("list.der", &list.sign(&issuer).unwrap());
            let authority = openssl.certificates("issuer.pem", std::slice::from_ref(&issuer));
            let (ok, said) = openssl.run(&format!("crl -inform DER -in {path} -CAfile {authority} -text"));
            assert!(ok && said.contains("verify OK"), "{said}");
            let name = match hash {
                GpuCrlHash::Sha256 => "ecdsa-with-SHA256",
                GpuCrlHash::Sha384 => "ecdsa-with-SHA384",
            };
            for words in [name, "Certificate Hold", "X509v3 CRL Number", "X509v3 Authority Key Identifier"] {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
    }
}

#[test]
fn openssl_refuses_revoked_certificates_and_lists_that_do_not_hold() {
    let at = now();
    let [device, _] = chains(at);
    let Some(openssl) = OpenSsl::new("crl-verdicts", 7) else { return };
    // The identity CA, which the root has issued.
    let (root, certificate) = (&device[4], &device[3]);
    let trusted = openssl.certificates("root.pem", std::slice::from_ref(root));
    let checked = openssl.certificates("checked.pem", std::slice::from_ref(certificate));
    let other = GpuRevocationList::of(&device[2], Some(1), at);
    let day = 86_400;
    for (list, words) in [
        (GpuRevocationList::empty(at), "OK"),
        (other, "OK"),
        (GpuRevocationList::of(certificate, Some(1), at), "certificate revoked"),
        (GpuRevocationList::of(certificate, None, at), "certificate revoked"),
        (
            GpuRevocationList { flaw: GpuCrlFlaw::Signature, ..GpuRevocationList::empty(at) },
            "CRL signature failure",
        ),
        (
            GpuRevocationList { flaw: GpuCrlFlaw::UnknownCriticalExtension, ..GpuRevocationList::empty(at) },
            "unhandled critical CRL extension",
        ),
        (
            GpuRevocationList {
                window: Window { from: at - 60 * day, until: at - day },
                ..GpuRevocationList::empty(at)
            },
            "CRL has expired",
        ),
    ] {
        let der = openssl.file("list.der", &list.sign(root).unwrap());
        let pem = openssl.file("list.pem", b"");
        assert!(openssl.run(&format!("crl -inform DER -in {der} -out {pem}")).0);
        let (_, said) = openssl.run(&format!("verify -crl_check -CAfile {trusted} -CRLfile {pem} {checked}"));
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(list.sign(root).unwrap(), list.sign(root).unwrap(), "the same options, the same bytes");
    }
    let unknown = GpuRevocationList::empty(at).sign(&device[0]);
    assert!(matches!(unknown, Err(SimulatorError::Authority)));
}
