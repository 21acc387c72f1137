//! Simulated manifests, checked by text, by signatures made with other code than the signer's, and by openssl.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the corpus lies in files")]

mod support;

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use confide_simulator::{
    CertificateFlaw, FlawedCertificate, GpuOptions, RIM_ROOT_SPKI_SHA256, RimActivity, RimFlaw, RimOptions,
    RimProduct, SimulatedGpu, SimulatedSwitch, Window, canonical_rim, rim_root_certificate,
};
use sha2::{Digest, Sha256, Sha384};
use support::{OpenSsl, corpus, decoded, driver_rim, rim_certificates};
use x509_parser::prelude::{FromDer, X509Certificate};

/// 2026-05-28.
const NOW: u64 = 1_780_000_000;

fn options(flaw: RimFlaw) -> RimOptions {
    let [driver, _] = SimulatedGpu::new(0).unwrap().rims(NOW);
    RimOptions { flaw, ..driver }
}

fn text(options: &RimOptions) -> String {
    String::from_utf8(options.encode().unwrap()).unwrap()
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    text.split_once(open).unwrap().1.split_once(close).unwrap().0
}

/// Whether DigestValue is the content's, and whether the first certificate's key has signed `SignedInfo`.
fn holds(text: &str) -> (bool, bool) {
    let canonical = canonical_rim(text);
    let digest = decoded(between(text, "<ds:DigestValue>", "</ds:DigestValue>"));
    let signature = decoded(between(text, "<ds:SignatureValue>", "</ds:SignatureValue>"));
    let leaf = decoded(between(text, "<ds:X509Certificate>", "</ds:X509Certificate>"));
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &*leaf.public_key().subject_public_key.data);
    (
        digest == Sha384::digest(canonical.content).to_vec(),
        key.verify(canonical.signed_info.as_bytes(), &signature).is_ok(),
    )
}

/// The canonical form of what the simulator itself writes, made line by line rather than by reading XML: attributes
/// of the lines that NVIDIA leaves unsorted are put in order by hand.
fn content_by_hand(text: &str) -> String {
    let (before, after) = text.split_once("<ds:Signature ").unwrap();
    let content = before.to_owned() + after.rsplit_once("</ds:Signature>").unwrap().1;
    let attribute = |line: &str, name: &str| {
        let value = between(line, &format!(" {name}=\""), "\"");
        format!(" {name}=\"{value}\"")
    };
    let in_order = |line: &str, element: &str, names: &[&str]| {
        let attributes: String = names.iter().map(|name| attribute(line, name)).collect();
        format!("{}<ns0:{element}{attributes}></ns0:{element}>", &line[..line.find('<').unwrap()])
    };
    let line = |line: &str| {
        if line.contains("<ns0:Resource") {
            let count = line.matches(" ns2:Hash").count();
            let hashes: Vec<String> = (0..count).map(|at| format!("ns2:Hash{at}")).collect();
            let mut names = vec!["active", "alternatives", "index", "name", "size", "type"];
            names.extend(hashes.iter().map(String::as_str));
            in_order(line, "Resource", &names)
        } else if line.contains("<ns0:Meta") {
            let names = [
                "xmlns:ns1",
                "PayloadType",
                "colloquialVersion",
                "edition",
                "product",
                "revision",
                "ns1:BindingSpec",
                "ns1:BindingSpecVersion",
                "ns1:FirmwareManufacturer",
                "ns1:FirmwareManufacturerId",
                "ns1:PlatformManufacturerId",
                "ns1:PlatformManufacturerStr",
                "ns1:PlatformModel",
            ];
            in_order(line, "Meta", &names)
        } else if line.contains("<ns0:Entity") {
            in_order(line, "Entity", &["name", "role"])
        } else if line.starts_with("<SoftwareIdentity") {
            let names = [
                "xmlns",
                "xmlns:ns0",
                "xmlns:ns2",
                "corpus",
                "name",
                "patch",
                "supplemental",
                "tagId",
                "tagVersion",
                "version",
            ];
            let attributes: String = names.iter().map(|name| attribute(line, name)).collect();
            format!("<SoftwareIdentity{attributes}>")
        } else {
            line.to_owned()
        }
    };
    content.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_manifest_has_the_shape_of_nvidias() {
    let options = options(RimFlaw::None);
    assert_eq!(options.id, "NV_GPU_DRIVER_GH100_580.95.05");
    let text = text(&options);
    assert!(text.len() < 128 * 1024);
    assert!(text.starts_with(
        "<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" \
         xmlns:ns0=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" \
         xmlns:ns2=\"http://www.w3.org/2001/04/xmlenc#sha384\" corpus=\"false\" name=\"GH100\" "
    ));
    assert!(
        text.contains(" colloquialVersion=\"580.95.05\" edition=\"GPU\" product=\"GH100\" revision=\"r1\" ")
    );
    assert_eq!(text.matches("<ns0:Resource ").count(), 64);
    assert_eq!(text.matches(" active=\"True\" ").count(), 22);
    assert_eq!(rim_certificates(&text).len(), 4);
    assert!(text.contains("    </ns0:Payload>\n<ds:Signature xmlns:ds="));
    assert!(text.ends_with("</ds:Signature></SoftwareIdentity>"));
}

#[test]
fn digest_and_signature_hold_and_the_canonical_form_is_that_made_by_hand() {
    let gpu = SimulatedGpu::new(0).unwrap();
    let [driver, vbios] = gpu.rims(NOW);
    let switch = SimulatedSwitch::new(0).unwrap().rim(NOW);
    for options in [driver, vbios, switch] {
        let text = text(&options);
        assert_eq!(canonical_rim(&text).content, content_by_hand(&text), "{}", options.id);
        assert_eq!(holds(&text), (true, true), "{}", options.id);
        assert_eq!(text, self::text(&options), "the same options give the same bytes");
    }
}

#[test]
fn recorded_manifests_hold_under_the_same_canonical_form() {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                collect(&path, found);
            } else if matches!(extension, Some("xml" | "swidtag")) {
                found.push(path);
            }
        }
    }
    let Some(folder) = corpus("canonical form over recorded manifests") else { return };
    let mut files = Vec::new();
    collect(&folder, &mut files);
    let mut held = 0;
    for path in files {
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
        // What the index says is broken or is not a whole manifest.
        if name.contains("/negative/") || name.contains("/rim-parser-cases/") || name.contains("test_no_gpu")
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(holds(&text), (true, true), "{name}");
        held += 1;
    }
    assert!(held >= 20, "{held} manifests");
    eprintln!("{held} recorded manifests hold");
}

#[test]
fn an_edited_document_is_signed_anew() {
    let options = options(RimFlaw::None);
    let edited = text(&options).replace("revision=\"r1\"", "revision=\"r2\"");
    assert_eq!(holds(&edited), (false, true));
    let signed = String::from_utf8(options.resign(&edited).unwrap()).unwrap();
    assert!(signed.contains("revision=\"r2\""));
    assert_eq!(holds(&signed), (true, true));
    let edited = text(&options).replace("Reference URI=\"\"", "Reference URI=\"#x\"");
    assert_eq!(holds(&edited), (true, false));
    let signed = String::from_utf8(options.resign(&edited).unwrap()).unwrap();
    assert_eq!(holds(&signed), (true, true));
}

#[test]
fn flaws_break_what_they_say_and_nothing_else() {
    for (flaw, expected, certificates) in [
        (RimFlaw::Digest, (false, true), 4),
        (RimFlaw::Signature, (true, false), 4),
        (RimFlaw::SignerOfAnotherKey, (true, true), 4),
        (RimFlaw::ForeignRoot, (true, true), 4),
        (RimFlaw::SignerMayCertify, (true, true), 4),
        (RimFlaw::SignerIsAuthority, (true, true), 4),
        (RimFlaw::DebugIssuer, (true, true), 4),
        (RimFlaw::SwappedCertificates, (true, true), 4),
        (RimFlaw::WithoutRoot, (true, true), 3),
        (RimFlaw::FifthCertificate, (true, true), 5),
    ] {
        let text = text(&options(flaw));
        assert_eq!(holds(&text), expected, "{flaw:?}");
        let found = rim_certificates(&text);
        assert_eq!(found.len(), certificates, "{flaw:?}");
        assert_eq!(found, options(flaw).certificates().unwrap(), "{flaw:?}");
        assert_ne!(text, driver_rim(NOW), "{flaw:?}");
        let (_, leaf) = X509Certificate::from_der(&found[0]).unwrap();
        let usage = leaf.key_usage().unwrap().unwrap().value;
        assert_eq!(usage.digital_signature(), flaw != RimFlaw::SignerMayCertify, "{flaw:?}");
        let authority = leaf.basic_constraints().unwrap().is_some_and(|found| found.value.ca);
        assert_eq!(authority, flaw == RimFlaw::SignerIsAuthority, "{flaw:?}");
    }
}

#[test]
fn openssl_builds_the_chains_that_should_hold_and_no_others() {
    let Some(openssl) = OpenSsl::new("rim-chains", 14) else { return };
    let root = openssl.certificates("root.pem", &[rim_root_certificate().to_vec()]);
    let verdict = |name: &str, certificates: &[Vec<u8>], at: u64| {
        let leaf = openssl.certificates(&format!("{name}-leaf.pem"), &certificates[..1]);
        let between = openssl.certificates(&format!("{name}-between.pem"), &certificates[1..3]);
        openssl.run(&format!("verify -attime {at} -CAfile {root} -untrusted {between} {leaf}")).0
    };
    for product in [RimProduct::Gh100, RimProduct::Gb100, RimProduct::Gb20x, RimProduct::Ls10] {
        let text = text(&RimOptions::new(product, "id", "1", NOW));
        let certificates = rim_certificates(&text);
        assert_eq!(certificates[3], rim_root_certificate(), "{product:?}");
        assert!(verdict(product.name(), &certificates, NOW), "{product:?}");
        assert!(!verdict(product.name(), &certificates, NOW + 366 * 86_400), "{product:?} after its signer");
        let family = if product == RimProduct::Gb20x { "GB20X" } else { product.name() };
        let (_, third) = X509Certificate::from_der(&certificates[1]).unwrap();
        assert!(third.subject().to_string().contains(&format!("Reference Value L3 {family}")), "{product:?}");
    }
    for flaw in [RimFlaw::ForeignRoot, RimFlaw::SignerOfAnotherKey] {
        assert!(!verdict(&format!("{flaw:?}"), &rim_certificates(&text(&options(flaw))), NOW), "{flaw:?}");
    }
    let debug = rim_certificates(&text(&options(RimFlaw::DebugIssuer)));
    assert!(verdict("debug", &debug, NOW), "its name is all that is wrong with it");
    let (_, third) = X509Certificate::from_der(&debug[1]).unwrap();
    assert!(third.subject().to_string().contains("Reference Value L3 GH100 001 Debug SIMULATED"));
    for (at, flaw, held) in [
        (2, CertificateFlaw::MayNotSignLists, true),
        (0, CertificateFlaw::UnknownCriticalExtension, false),
        (1, CertificateFlaw::NoAuthority, false),
        (2, CertificateFlaw::NoAuthorityBelow, false),
        (2, CertificateFlaw::MayNotCertify, false),
    ] {
        let wrong = RimOptions { flawed: Some(FlawedCertificate { at, flaw }), ..options(RimFlaw::None) };
        let text = text(&wrong);
        assert_eq!(holds(&text), (true, true), "{flaw:?}");
        assert_eq!(verdict(&format!("{flaw:?}"), &rim_certificates(&text), NOW), held, "{flaw:?} at {at}");
    }
    let foreign = rim_certificates(&text(&options(RimFlaw::ForeignRoot)));
    let own = openssl.certificates("foreign-root.pem", &foreign[3..]);
    let leaf = openssl.certificates("foreign-leaf.pem", &foreign[..1]);
    let between = openssl.certificates("foreign-between.pem", &foreign[1..3]);
    let (held, said) =
        openssl.run(&format!("verify -attime {NOW} -CAfile {own} -untrusted {between} {leaf}"));
    assert!(held, "the foreign chain holds under its own root: {said}");
}

#[test]
fn the_anchor_is_the_root_in_the_manifest() {
    let (_, root) = X509Certificate::from_der(rim_root_certificate()).unwrap();
    assert_eq!(<[u8; 32]>::from(Sha256::digest(root.public_key().raw)), RIM_ROOT_SPKI_SHA256);
}

/// The values of a report's blocks.
fn blocks(report: &[u8]) -> Vec<&[u8]> {
    let count = usize::from(report[37 + 4]);
    (0..count).map(|at| &report[37 + 8 + at * 55 + 7..][..48]).collect()
}

#[test]
fn manifests_match_the_report_of_their_device() {
    let devices = [
        (GpuOptions::hopper(0), 34, Some(35)),
        (GpuOptions { nvdec0: 0xaa, ..GpuOptions::hopper(0) }, 34, None),
        (GpuOptions::blackwell(0), 42, None),
        (GpuOptions::gb20x(0), 42, None),
    ];
    for (options, expected, uncompared) in devices {
        let gpu = SimulatedGpu::with_options(options).unwrap();
        let report = gpu.report([0; 32]);
        let blocks = blocks(&report);
        let [driver, vbios] = gpu.rims(NOW);
        let mut indices = Vec::new();
        for measurement in driver.measurements.iter().chain(&vbios.measurements) {
            if measurement.activity == RimActivity::Active {
                indices.push(measurement.index);
                let shown = blocks[usize::from(measurement.index)];
                let matches = measurement.alternatives.iter().any(|value| value == shown);
                assert_eq!(matches, uncompared != Some(measurement.index), "{}", measurement.index);
            }
        }
        assert_eq!(indices.len(), expected);
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), expected, "the manifests share no index");
    }
    let switch = SimulatedSwitch::new(0).unwrap();
    let report = switch.report([0; 32]);
    let blocks = blocks(&report);
    let rim = switch.rim(NOW);
    let active: Vec<_> =
        rim.measurements.iter().filter(|found| found.activity == RimActivity::Active).collect();
    assert_eq!(active.len(), 31);
    for measurement in active {
        let shown = blocks[usize::from(measurement.index)];
        assert!(measurement.alternatives.iter().any(|value| value == shown), "{}", measurement.index);
    }
}

#[test]
fn an_edited_measurement_changes_the_report_and_not_the_manifest() {
    let usual = SimulatedGpu::new(0).unwrap();
    let options = GpuOptions { measurements: [(9, [1; 48])].into(), ..GpuOptions::hopper(0) };
    let edited = SimulatedGpu::with_options(options).unwrap();
    assert_eq!(edited.rims(NOW), usual.rims(NOW));
    assert_eq!(blocks(&edited.report([0; 32]))[9], [1; 48]);
    assert_ne!(blocks(&usual.report([0; 32]))[9], [1; 48]);
}

#[test]
fn ids_are_those_of_nvidias_service() {
    let ids = |options| SimulatedGpu::with_options(options).unwrap().rims(NOW).map(|rim| rim.id);
    let hopper = ["NV_GPU_DRIVER_GH100_580.95.05", "NV_GPU_VBIOS_SIM0_0000_000_9600D00002"];
    assert_eq!(ids(GpuOptions::hopper(0)), hopper);
    let blackwell = ["NV_GPU_CC_DRIVER_GB100_590.48.01", "NV_GPU_VBIOS_SIM1_0000_000_9700D90035"];
    assert_eq!(ids(GpuOptions::blackwell(0)), blackwell);
    assert_eq!(ids(GpuOptions::gb20x(0))[0], "NV_GPU_CC_DRIVER_GB202_590.48.01");
    assert_eq!(SimulatedSwitch::new(0).unwrap().rim(NOW).id, "NV_SWITCH_BIOS_5612_0002_890_9610730001");
}

#[test]
fn another_products_signer_and_another_window_can_be_chosen() {
    let window = Window { from: 1_700_000_000, until: 1_700_000_001 };
    let options = RimOptions { signer: RimProduct::Ls10, window, ..options(RimFlaw::None) };
    let certificates = rim_certificates(&text(&options));
    let (_, leaf) = X509Certificate::from_der(&certificates[0]).unwrap();
    assert_eq!(leaf.validity().not_after.timestamp(), 1_700_000_001);
    assert!(leaf.issuer().to_string().contains("L3 LS10"));
}
