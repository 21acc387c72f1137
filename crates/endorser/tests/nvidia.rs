//! NVIDIA's services, played by a local server, from simulated devices and their manifests, answers and lists.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_endorser::{
    Change, Endorser, EndorserBuilder, EndorserError, Kept, KeptKind, Limits, MAX_RIM_ANSWER, MAX_RIM_LIST,
    Network, Nvidia, NvidiaCrl, NvidiaObject, NvidiaStore, OcspSubject, ProxySettings, Refreshed, RimId,
    RimIdError, now, rim_ids,
};
use confide_evidence::hash::sha256;
use confide_evidence::nvidia::{DeviceChain, Report, Rim};
use confide_evidence::ocsp::MAX_OCSP;
use confide_evidence::x509::{Certificate, MAX_CRL};
use confide_evidence::{hex, pem};
use confide_simulator::{
    GpuOptions, GpuRevocationList, OcspFlaw, OcspOptions, RimOptions, RimProduct, SimulatedGpu,
    SimulatedNode, SimulatedSwitch,
};
use confide_testkit::vendor::{Endpoint, ListeningVendor, Manner, Misdeed, Vendor};
use der::Decode as _;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};
use support::{LIMITS, Log, origin};
use tempfile::TempDir;

const DAY: u64 = 86_400;

/// Services that endorse simulated devices, and a store to be filled.
struct Rig {
    service: ListeningVendor,
    node: SimulatedNode,
    folder: TempDir,
    /// When everything was signed.
    time: u64,
}

impl Rig {
    async fn new() -> Self {
        Self::of(SimulatedNode { gpus: vec![SimulatedGpu::new(0).unwrap()], switches: Vec::new() }).await
    }

    async fn of(node: SimulatedNode) -> Self {
        let time = now().as_secs();
        let vendor = Vendor::new(Manner::Pcs).unwrap().endorsing_node(&node, time).unwrap();
        let service = vendor.listen().await.unwrap();
        Self { service, node, folder: tempfile::tempdir().unwrap(), time }
    }

    fn vendor(&self) -> &Vendor {
        &self.service.vendor
    }

    fn store(&self) -> NvidiaStore {
        NvidiaStore::at(self.folder.path().join("store"))
    }

    fn builder(&self) -> EndorserBuilder {
        let origin = || origin(&self.service);
        let nvidia = Nvidia::public().rims_at(origin()).ocsp_at(origin()).crls_at(origin());
        Endorser::builder().nvidia(nvidia).limits(LIMITS).proxies(ProxySettings::none())
    }

    /// Asks the services each time.
    fn stale(&self) -> Endorser {
        self.builder().fresh(Duration::ZERO).build()
    }

    async fn refresh(&self, object: NvidiaObject<'_>) -> Result<Refreshed, EndorserError> {
        self.stale().refresh(&self.store(), object, now()).await
    }

    fn gpu(&self) -> &SimulatedGpu {
        &self.node.gpus[0]
    }

    fn chain(&self) -> DeviceChain {
        DeviceChain::parse(self.gpu().chain_pem().as_bytes()).unwrap()
    }

    /// The manifest of the driver.
    fn driver(&self) -> RimOptions {
        let [driver, _] = self.gpu().rims(self.time);
        driver
    }

    fn driver_id(&self) -> RimId {
        self.driver().id.parse().unwrap()
    }
}

fn code(result: &Result<Refreshed, EndorserError>) -> &'static str {
    result.as_ref().map_or_else(EndorserError::code, |_| "ok")
}

fn fetched(result: Result<Refreshed, EndorserError>) -> (Kept, Change) {
    match result.unwrap() {
        Refreshed::Fetched(kept, change) => (kept, change),
        other => panic!("{other:?}"),
    }
}

fn ids(report: &[u8], chain: &str) -> Result<Vec<String>, RimIdError> {
    let chain = DeviceChain::parse(chain.as_bytes()).unwrap();
    let found = rim_ids(&Report::parse(report).unwrap(), &chain)?;
    Ok(found.iter().map(ToString::to_string).collect())
}

#[test]
fn the_ids_of_a_device_follow_from_its_report() {
    for options in [GpuOptions::hopper(0), GpuOptions::blackwell(0), GpuOptions::gb20x(0)] {
        let gpu = SimulatedGpu::with_options(options.clone()).unwrap();
        let found = ids(&gpu.report([1; 32]), &gpu.chain_pem()).unwrap();
        assert_eq!(found, [options.driver_rim_id(), options.vbios_rim_id()]);
    }
    let switch = SimulatedSwitch::new(0).unwrap();
    let found = ids(&switch.report([1; 32]), &switch.chain_pem()).unwrap();
    assert_eq!(found, [switch.options().rim_id()]);
}

#[test]
fn a_report_without_a_field_of_the_id_has_none() {
    for (field, name) in
        [(3, "DRIVER_VERSION"), (6, "VBIOS_VERSION"), (15, "CHIP_SKU"), (17, "PROJECT"), (18, "PROJECT_SKU")]
    {
        let options = GpuOptions { omitted_records: vec![field], ..GpuOptions::hopper(0) };
        let gpu = SimulatedGpu::with_options(options).unwrap();
        assert_eq!(ids(&gpu.report([1; 32]), &gpu.chain_pem()), Err(RimIdError::Missing(name)));
    }
    let without_chip = |options: GpuOptions| {
        let gpu = SimulatedGpu::with_options(GpuOptions { omitted_records: vec![35], ..options }).unwrap();
        ids(&gpu.report([1; 32]), &gpu.chain_pem())
    };
    assert!(without_chip(GpuOptions::blackwell(0)).unwrap()[0].starts_with("NV_GPU_CC_DRIVER_GB100_"));
    assert_eq!(without_chip(GpuOptions::gb20x(0)), Err(RimIdError::Missing("CHIP_INFO")));
}

#[test]
fn a_report_that_would_make_another_path_has_no_id() {
    for driver in ["../../x", "580.95.05/..", "580.95.05?x", "580"] {
        let options = GpuOptions { driver_version: driver.to_owned(), ..GpuOptions::hopper(0) };
        let gpu = SimulatedGpu::with_options(options).unwrap();
        let error = ids(&gpu.report([1; 32]), &gpu.chain_pem()).unwrap_err();
        assert!(matches!(error, RimIdError::Form(_)), "{driver}: {error}");
    }
    let (gpu, switch) = (SimulatedGpu::new(0).unwrap(), SimulatedSwitch::new(0).unwrap());
    assert_eq!(ids(&gpu.report([1; 32]), &switch.chain_pem()), Err(RimIdError::Kind("switch")));
    assert_eq!(ids(&switch.report([1; 32]), &gpu.chain_pem()), Err(RimIdError::Kind("GPU")));
}

#[tokio::test]
async fn what_is_fetched_is_what_was_served() {
    let node = SimulatedNode::ppcie(1, 1).unwrap();
    let rig = Rig::of(node).await;
    let time = rig.time;
    for options in rig.gpu().rims(time).into_iter().chain([rig.node.switches[0].rim(time)]) {
        let id: RimId = options.id.parse().unwrap();
        let (kept, change) = fetched(rig.refresh(NvidiaObject::Rim(&id)).await);
        assert_eq!(change, Change::Added);
        let document = options.encode().unwrap();
        assert!(fs::read(&kept.path).unwrap() == document);
        assert_eq!(kept.sha256, sha256(&document).0);
        let KeptKind::Rim { id: found, product, version, signer } = kept.kind else { panic!("{id}") };
        assert_eq!((found, product, version), (id.clone(), options.product, options.colloquial_version));
        assert!(signer.contains("SIMULATED"), "{signer}");
        assert_eq!(
            (kept.window.from, kept.window.until),
            (options.window.from as i64, options.window.until as i64)
        );
        assert_eq!(kept.fetched.unwrap().1, rig.service.address.to_string());
        assert!(rig.store().rims(&id).unwrap() == [Rim::parse(&document).unwrap()]);
    }
    let asked: Vec<String> = rig.vendor().requests();
    assert!(asked.iter().all(|target| target.starts_with("/v1/rim/NV_")), "{asked:?}");
    assert!(rig.vendor().posted().is_empty());
}

#[tokio::test]
async fn the_responder_is_asked_about_one_certificate_of_its_issuer_without_a_nonce() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    for subject in OcspSubject::of_device(&chain) {
        let (kept, _) = fetched(rig.refresh(NvidiaObject::Ocsp(subject)).await);
        assert_eq!(kept.kind, KeptKind::Ocsp { serial: hex::encode(&subject.certificate.serial) });
        let (media_type, body) = rig.vendor().posted().pop().unwrap();
        assert_eq!(media_type, "application/ocsp-request");
        let request = x509_ocsp::OcspRequest::from_der(&body).unwrap();
        assert!(request.optional_signature.is_none());
        let asked = request.tbs_request;
        assert!(asked.request_extensions.is_none() && asked.requestor_name.is_none());
        let [one] = asked.request_list.as_slice() else { panic!("{asked:?}") };
        assert!(one.single_request_extensions.is_none());
        let cert = &one.req_cert;
        assert_eq!(cert.hash_algorithm.oid.to_string(), "2.16.840.1.101.3.4.2.2");
        let hashed =
            |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, bytes).as_ref().to_vec();
        assert_eq!(cert.issuer_name_hash.as_bytes(), hashed(&subject.issuer.subject));
        assert_eq!(cert.issuer_key_hash.as_bytes(), hashed(&subject.issuer.public_key));
        let serial = cert.serial_number.as_bytes();
        assert_eq!(serial.strip_prefix(&[0]).unwrap_or(serial), subject.certificate.serial);
    }
}

#[tokio::test]
async fn devices_and_manifests_are_asked_about_below_their_roots_and_never_leaves_of_devices() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    let names = |subjects: [OcspSubject<'_>; 3]| subjects.map(|one| one.certificate.common_name.clone());
    let [brom, provisioner, identity] = names(OcspSubject::of_device(&chain));
    assert!(brom.contains("BROM") && provisioner.contains("Provisioner") && identity.contains("Identity"));
    let rim = Rim::parse(&rig.driver().encode().unwrap()).unwrap();
    for subject in OcspSubject::of_rim(&rim) {
        assert!(matches!(rig.refresh(NvidiaObject::Ocsp(subject)).await, Ok(Refreshed::Fetched(..))));
    }
    let [leaf, brom, ..] = chain.certificates();
    let refused = rig.refresh(NvidiaObject::Ocsp(OcspSubject { certificate: leaf, issuer: brom })).await;
    assert_eq!(code(&refused), "endorsement_ocsp_refused");
}

#[tokio::test]
async fn the_certificates_of_a_switch_are_asked_about_as_those_of_a_gpu() {
    let rig = Rig::of(SimulatedNode::ppcie(1, 1).unwrap()).await;
    let switch = DeviceChain::parse(rig.node.switches[0].chain_pem().as_bytes()).unwrap();
    let rim = Rim::parse(&rig.node.switches[0].rim(rig.time).encode().unwrap()).unwrap();
    let subjects = OcspSubject::of_device(&switch).into_iter().chain(OcspSubject::of_rim(&rim));
    let mut names = Vec::new();
    for subject in subjects {
        let (kept, change) = fetched(rig.refresh(NvidiaObject::Ocsp(subject)).await);
        assert_eq!(change, Change::Added);
        assert_eq!(kept.kind, KeptKind::Ocsp { serial: hex::encode(&subject.certificate.serial) });
        names.push(subject.certificate.common_name.clone());
    }
    for (name, word) in names.iter().zip(["FSP BROM", "Provisioner", "Identity", "L4", "L3", "LS10 CA"]) {
        assert!(name.contains(word), "{names:?}");
    }
    assert_eq!((names.len(), rig.vendor().posted().len()), (6, 6));
}

#[tokio::test]
async fn the_lists_of_a_family_are_fetched() {
    let rig = Rig::new().await;
    let family = rig.chain().family().unwrap();
    for list in NvidiaCrl::of_family(family).iter().chain([&NvidiaCrl::RimRoot]) {
        let (kept, _) = fetched(rig.refresh(NvidiaObject::Crl(*list)).await);
        let KeptKind::Crl { issuer } = kept.kind else { panic!("{list}") };
        assert!(issuer.contains("SIMULATED"), "{issuer}");
    }
    let missing = rig.refresh(NvidiaObject::Crl(NvidiaCrl::Gb100Identity)).await;
    assert_eq!(code(&missing), "endorsement_not_found");
}

#[tokio::test]
async fn the_list_of_ids_has_those_of_gpus_and_switches_sorted() {
    let rig = Rig::of(SimulatedNode::ppcie(1, 1).unwrap()).await;
    let found = rig.stale().rim_ids().await.unwrap();
    assert_eq!(found.len(), 3, "the network card's is left away: {found:?}");
    assert!(found.is_sorted());
    for (misdeed, expected) in [
        (Misdeed::Body(b"{\"ids\":{}}".to_vec()), "endorsement_malformed"),
        (Misdeed::Announced(MAX_RIM_LIST + 1), "endorsement_too_large"),
        (Misdeed::Status(404, None), "endorsement_not_found"),
    ] {
        rig.vendor().always(Endpoint::RimIds, misdeed);
        assert_eq!(rig.stale().rim_ids().await.unwrap_err().code(), expected);
    }
    let offline = rig.builder().network(Network::Offline).build();
    assert_eq!(offline.rim_ids().await.unwrap_err().code(), "endorsement_offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misdeed_has_its_code_and_only_what_passes_is_asked_again() {
    let rig = Rig::new().await;
    let (id, chain) = (rig.driver_id(), rig.chain());
    let [brom, ..] = OcspSubject::of_device(&chain);
    let location = Some(("location", "https://other.example/".to_owned()));
    let text = |text: &str| Misdeed::Body(text.as_bytes().to_vec());
    for (object, endpoint, most) in [
        (NvidiaObject::Rim(&id), Endpoint::Rim, MAX_RIM_ANSWER),
        (NvidiaObject::Ocsp(brom), Endpoint::Ocsp, MAX_OCSP),
        (NvidiaObject::Crl(NvidiaCrl::DeviceRoot), Endpoint::NvidiaCrl, MAX_CRL),
    ] {
        for (misdeed, expected, asked) in [
            (Misdeed::Status(404, None), "endorsement_not_found", 1),
            (Misdeed::Status(400, None), "endorsement_refused", 1),
            (Misdeed::Status(401, None), "endorsement_refused", 1),
            (Misdeed::Status(302, location.clone()), "endorsement_redirected", 1),
            (Misdeed::Status(500, None), "endorsement_unavailable", 3),
            (Misdeed::Status(429, None), "endorsement_busy", 3),
            (Misdeed::HangUp, "endorsement_unreachable", 3),
            (Misdeed::Truncated, "endorsement_unreachable", 3),
            (Misdeed::MediaType("text/html"), "endorsement_malformed", 1),
            (Misdeed::ContentEncoding("gzip"), "endorsement_malformed", 1),
            (Misdeed::Endless, "endorsement_too_large", 1),
            (Misdeed::Announced(most + 1), "endorsement_too_large", 1),
            (text(""), "endorsement_malformed", 1),
            (text("captive portal"), "endorsement_malformed", 1),
            (Misdeed::Body(vec![0x30, 0]), "endorsement_malformed", 1),
        ] {
            let before = rig.vendor().count(endpoint);
            rig.vendor().always(endpoint, misdeed.clone());
            let refused = rig.refresh(object).await;
            assert_eq!(code(&refused), expected, "{object} {misdeed:?}: {refused:?}");
            assert_eq!(rig.vendor().count(endpoint) - before, asked, "{object} {misdeed:?}");
            let error = refused.unwrap_err();
            assert!(!error.hint().is_empty());
            assert!(error.to_string().contains(&rig.service.address.to_string()), "{error}");
            rig.vendor().reform();
        }
        assert!(rig.store().entries().unwrap().is_empty(), "nothing that was refused is kept");
    }
    assert!(rig.refresh(NvidiaObject::Rim(&id)).await.is_ok(), "services that are honest again are heard");
}

#[tokio::test]
async fn services_that_hang_are_left_in_time() {
    let rig = Rig::new().await;
    let limits = Limits { attempt: Duration::from_millis(300), total: Duration::from_millis(700), ..LIMITS };
    let endorser = rig.builder().limits(limits).build();
    rig.vendor().always(Endpoint::Rim, Misdeed::Silent);
    rig.vendor().always(Endpoint::Ocsp, Misdeed::Drip(Duration::from_millis(100)));
    let (id, chain) = (rig.driver_id(), rig.chain());
    let [brom, ..] = OcspSubject::of_device(&chain);
    for object in [NvidiaObject::Rim(&id), NvidiaObject::Ocsp(brom)] {
        let start = Instant::now();
        let found = endorser.refresh(&rig.store(), object, now()).await;
        assert_eq!(code(&found), "endorsement_timed_out", "{object}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

/// The service's answer about a manifest, changed.
fn changed(id: &RimId, document: &[u8], change: impl FnOnce(&mut Value)) -> Misdeed {
    let mut answer = json!({
        "id": id.as_str(),
        "rim": pem::base64_text(document),
        "sha256": hex::encode(&sha256(document).0),
        "last_updated": "2026-01-30T09:05:11.595000",
        "rim_format": "TCG",
        "request_id": "54922519-b87e-4057-b323-33b9a2bb9743",
    });
    change(&mut answer);
    Misdeed::Body(answer.to_string().into_bytes())
}

#[tokio::test]
async fn an_answer_with_another_manifest_than_its_id_and_digest_say_is_refused() {
    let rig = Rig::new().await;
    let (id, driver) = (rig.driver_id(), rig.driver());
    let document = driver.encode().unwrap();
    let set = |field: &'static str, value: Value| {
        changed(&id, &document, |answer| {
            answer[field] = value;
        })
    };
    let encoded = |options: RimOptions| options.encode().unwrap();
    let [_, vbios] = rig.gpu().rims(rig.time);
    let blackwell =
        RimOptions::new(RimProduct::Gb100, &driver.id, &driver.colloquial_version, now().as_secs());
    let swapped = |options: RimOptions| changed(&id, &encoded(options), |_| ());
    let unsupported = String::from_utf8(document.clone()).unwrap().replace("\"direct\"", "\"indirect\"");
    for (misdeed, expected) in [
        (changed(&id, &document, |_| ()), "ok"),
        (set("last_updated", Value::Null), "ok"),
        (set("another_field", json!(1)), "ok"),
        (set("id", json!("NV_GPU_DRIVER_GH100_550.90.07")), "endorsement_other_object"),
        (set("id", json!(driver.id.to_lowercase())), "endorsement_other_object"),
        (set("sha256", json!(hex::encode(&[7; 32]))), "endorsement_digest"),
        (set("sha256", json!("")), "endorsement_digest"),
        (set("rim_format", json!("CORIM")), "endorsement_unsupported"),
        (changed(&id, unsupported.as_bytes(), |_| ()), "endorsement_unsupported"),
        (set("rim", json!("not base64!")), "endorsement_malformed"),
        (set("rim", Value::Null), "endorsement_malformed"),
        (changed(&id, b"<SoftwareIdentity/>", |_| ()), "endorsement_malformed"),
        (changed(&id, &[document.clone(), vec![b' '; 200_000]].concat(), |_| ()), "endorsement_too_large"),
        (swapped(blackwell), "endorsement_other_object"),
        (
            swapped(RimOptions { colloquial_version: "550.90.07".into(), ..driver.clone() }),
            "endorsement_other_object",
        ),
        (swapped(RimOptions { edition: "SWITCH".into(), ..driver.clone() }), "endorsement_other_object"),
        (swapped(vbios), "endorsement_other_object"),
    ] {
        rig.vendor().always(Endpoint::Rim, misdeed.clone());
        let found = rig.refresh(NvidiaObject::Rim(&id)).await;
        assert_eq!(code(&found), expected, "{misdeed:?}: {found:?}");
        fs::remove_dir_all(rig.store().folder()).unwrap_or_default();
    }
}

#[tokio::test]
async fn the_driver_of_one_chip_under_the_id_of_another_is_refused() {
    // The service has been seen to do this: rightly signed, of the other product.
    let rig = Rig::of(SimulatedNode {
        gpus: vec![SimulatedGpu::with_options(GpuOptions::blackwell(0)).unwrap()],
        switches: Vec::new(),
    })
    .await;
    let blackwell = rig.driver();
    let hoppers: RimId = format!("NV_GPU_DRIVER_GH100_{}", blackwell.colloquial_version).parse().unwrap();
    let document = blackwell.encode().unwrap();
    let _same = rig.vendor().clone().rim(hoppers.as_str(), &document);
    let refused = rig.refresh(NvidiaObject::Rim(&hoppers)).await;
    assert_eq!(code(&refused), "endorsement_other_object");
    let id = rig.driver_id();
    assert_eq!(code(&rig.refresh(NvidiaObject::Rim(&id)).await), "ok");
}

#[tokio::test]
async fn an_ocsp_answer_about_something_else_is_refused() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    let [_, provisioner, identity] = OcspSubject::of_device(&chain);
    let time = now().as_secs();
    let about = |certificate: &Certificate, change: &dyn Fn(&mut OcspOptions)| {
        let mut options = OcspOptions::good(time);
        change(&mut options);
        options.answer(&certificate.der).unwrap()
    };
    let asked = provisioner.certificate;
    let ago = |days: u64| {
        move |options: &mut OcspOptions| {
            options.this_update = time - days * DAY;
            options.next_update = Some(time - (days - 1) * DAY);
        }
    };
    for (answer, expected) in [
        (about(asked, &|_| ()), "ok"),
        (about(asked, &|options| options.this_update = time + 60), "ok"),
        (about(asked, &|options| *options = OcspOptions::revoked(time, Some(6))), "ok"),
        (about(identity.certificate, &|_| ()), "endorsement_other_object"),
        (about(asked, &|options| options.flaw = OcspFlaw::Serial), "endorsement_other_object"),
        (about(asked, &|options| options.flaw = OcspFlaw::IssuerName), "endorsement_other_object"),
        (about(asked, &|options| options.flaw = OcspFlaw::IssuerKey), "endorsement_other_object"),
        (about(asked, &ago(2)), "endorsement_expired"),
        // Without a next update it is of its moment alone.
        (
            about(asked, &|options| (options.this_update, options.next_update) = (time - 60, None)),
            "endorsement_expired",
        ),
        (about(asked, &|options| options.this_update = time + DAY), "endorsement_not_yet_valid"),
        (vec![0x30, 3, 0x0a, 1, 6], "endorsement_ocsp_refused"),
        (vec![0x30, 3, 0x0a, 1, 1], "endorsement_ocsp_refused"),
        (vec![0x30, 3, 0x0a, 1, 3], "endorsement_unavailable"),
        (vec![0x30, 3, 0x0a, 1, 2], "endorsement_unavailable"),
        (vec![0x30, 3, 0x0a, 1, 4], "endorsement_malformed"),
    ] {
        fs::remove_dir_all(rig.store().folder()).unwrap_or_default();
        rig.vendor().always(Endpoint::Ocsp, Misdeed::Body(answer));
        let found = rig.refresh(NvidiaObject::Ocsp(provisioner)).await;
        assert_eq!(code(&found), expected, "{found:?}");
    }
}

#[tokio::test]
async fn a_list_of_another_issuer_or_time_is_refused() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    let [.., identity, root] = chain.certificates();
    let time = now().as_secs();
    let list = |issuer: &Certificate, at: u64| GpuRevocationList::empty(at).sign(&issuer.der).unwrap();
    for (body, expected) in [
        (list(root, time), "ok"),
        (list(identity, time), "endorsement_other_object"),
        (list(root, time - 90 * DAY), "endorsement_expired"),
        (list(root, time + 90 * DAY), "endorsement_not_yet_valid"),
        (root.der.clone(), "endorsement_malformed"),
    ] {
        fs::remove_dir_all(rig.store().folder()).unwrap_or_default();
        rig.vendor().always(Endpoint::NvidiaCrl, Misdeed::Body(body));
        let found = rig.refresh(NvidiaObject::Crl(NvidiaCrl::DeviceRoot)).await;
        assert_eq!(code(&found), expected, "{found:?}");
    }
}

#[tokio::test]
async fn issues_of_one_id_are_kept_side_by_side() {
    let rig = Rig::new().await;
    let (id, first) = (rig.driver_id(), rig.driver());
    let (kept, change) = fetched(rig.refresh(NvidiaObject::Rim(&id)).await);
    assert_eq!(change, Change::Added);
    let (same, change) = fetched(rig.refresh(NvidiaObject::Rim(&id)).await);
    assert_eq!((&same.path, change), (&kept.path, Change::Known));
    let mut second = first.clone();
    second.window.from += DAY;
    second.measurement(7).unwrap().alternatives = vec![[7; 48]];
    let second = second.encode().unwrap();
    let _same = rig.vendor().clone().rim(id.as_str(), &second);
    let (other, change) = fetched(rig.refresh(NvidiaObject::Rim(&id)).await);
    assert_eq!(change, Change::Added);
    assert!(fs::read(&kept.path).unwrap() == first.encode().unwrap(), "nothing was replaced");
    assert!(fs::read(&other.path).unwrap() == second);
    assert_eq!(rig.store().rims(&id).unwrap().len(), 2);
    assert_eq!(rig.store().entries().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_fresh_is_not_asked_for_and_what_is_kept_stands_in_for_a_service_that_fails() {
    let rig = Rig::new().await;
    let (id, chain) = (rig.driver_id(), rig.chain());
    let [brom, ..] = OcspSubject::of_device(&chain);
    let list = NvidiaCrl::Gh100Identity;
    let objects = [NvidiaObject::Rim(&id), NvidiaObject::Ocsp(brom), NvidiaObject::Crl(list)];
    let offline = rig.builder().network(Network::Offline).build();
    for object in objects {
        let before = rig.vendor().requests().len();
        let missing = offline.refresh(&rig.store(), object, now()).await;
        assert_eq!(code(&missing), "endorsement_offline");
        assert_eq!(rig.vendor().requests().len(), before);
        rig.refresh(object).await.unwrap();
        let asked = rig.vendor().requests().len();
        for endorser in [rig.builder().build(), rig.builder().network(Network::Offline).build()] {
            let found = endorser.refresh(&rig.store(), object, now()).await.unwrap();
            assert!(matches!(found, Refreshed::Kept(_)), "{object}: {found:?}");
        }
        assert_eq!(rig.vendor().requests().len(), asked, "{object}");
        for endpoint in [Endpoint::Rim, Endpoint::Ocsp, Endpoint::NvidiaCrl] {
            rig.vendor().always(endpoint, Misdeed::Status(404, None));
        }
        let log = Log::default();
        {
            let _installed = log.install();
            let found = rig.refresh(object).await.unwrap();
            let Refreshed::Instead(_, fault) = &found else { panic!("{object}: {found:?}") };
            assert_eq!(fault.code(), "endorsement_not_found");
        }
        assert!(log.lines()[0].contains("kept endorsement used"), "{:?}", log.lines());
        rig.vendor().reform();
        fs::remove_dir_all(rig.store().folder()).unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_over_stands_in_for_nothing() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    let [brom, ..] = OcspSubject::of_device(&chain);
    rig.refresh(NvidiaObject::Ocsp(brom)).await.unwrap();
    let later = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() + 3 * DAY));
    let offline = rig.builder().network(Network::Offline).build();
    let found = offline.refresh(&rig.store(), NvidiaObject::Ocsp(brom), later).await;
    assert_eq!(code(&found), "endorsement_offline");
    rig.vendor().always(Endpoint::Ocsp, Misdeed::Status(500, None));
    let found = rig.builder().build().refresh(&rig.store(), NvidiaObject::Ocsp(brom), later).await;
    assert_eq!(code(&found), "endorsement_unavailable");
}
