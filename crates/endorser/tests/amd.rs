//! AMD's Key Distribution Service, played by a local server, from simulated certificates and lists.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_endorser::{
    Amd, Cache, Endorser, EndorserBuilder, EndorserError, Network, ProxySettings, Prune, SnpKey, SnpPlatform,
    SnpPlatformError, now,
};
use confide_evidence::document::SnpEndorsements;
use confide_evidence::snp::{Product, Report};
use confide_evidence::x509::{MAX_CERTIFICATE, MAX_CRL};
use confide_testkit::snp::{SnpEvidence, SnpLevels, SnpOptions, SnpProduct, SnpSigningKey};
use confide_testkit::vendor::{Endpoint, ListeningVendor, Manner, Misdeed, Vendor, Window};
use std::time::Duration;
use support::{LIMITS, Log, code, origin};

const DAY: u64 = 86_400;
const ALL: [Endpoint; 3] = [Endpoint::Vcek, Endpoint::AmdChain, Endpoint::AmdCrl];

fn options() -> SnpOptions {
    SnpOptions::at(now().as_secs())
}

/// A service that endorses one platform.
struct Rig {
    service: ListeningVendor,
    evidence: SnpEvidence,
}

impl Rig {
    async fn new() -> Self {
        Self::of(options()).await
    }

    async fn of(options: SnpOptions) -> Self {
        let evidence = SnpEvidence::of(options).unwrap();
        let vendor = Vendor::new(Manner::Pcs).unwrap().endorsing_report(&evidence);
        Self { service: vendor.listen().await.unwrap(), evidence }
    }

    fn vendor(&self) -> &Vendor {
        &self.service.vendor
    }

    fn asked(&self) -> SnpPlatform {
        SnpPlatform::of_report(&Report::parse(&self.evidence.report).unwrap(), None).unwrap()
    }

    fn builder(&self) -> EndorserBuilder {
        let amd = Amd::kds_at(origin(&self.service));
        Endorser::builder().amd(amd).limits(LIMITS).proxies(ProxySettings::none())
    }

    async fn ask(&self, endorser: &Endorser) -> Result<SnpEndorsements, EndorserError> {
        endorser.snp(self.asked(), now()).await
    }

    /// Asks without a cache.
    async fn fetch(&self) -> Result<SnpEndorsements, EndorserError> {
        self.ask(&self.builder().build()).await
    }
}

fn bytes(endorsements: &SnpEndorsements) -> (Vec<&[u8]>, Vec<&[u8]>) {
    (
        endorsements.certificates.iter().map(|one| one.as_bytes()).collect(),
        endorsements.crls.iter().map(|one| one.as_bytes()).collect(),
    )
}

#[tokio::test]
async fn what_is_fetched_is_what_was_served() {
    for product in SnpProduct::ALL {
        for signing_key in [SnpSigningKey::Vcek, SnpSigningKey::Vlek] {
            let rig = Rig::of(SnpOptions { product, signing_key, ..options() }).await;
            let found = rig.fetch().await.unwrap();
            let SnpEvidence { certificates: [key, issuer, root], list, vcek, folder, .. } = &rig.evidence;
            let mut expected: Vec<&[u8]> = vec![issuer, root];
            let mut targets = vec![format!("{folder}/cert_chain"), format!("{folder}/crl")];
            if let Some(vcek) = vcek {
                expected.insert(0, key);
                targets.push(vcek.clone());
            }
            assert_eq!(bytes(&found), (expected, vec![&list[..]]), "{product:?} {signing_key:?}");
            let mut requests = rig.vendor().requests();
            requests.sort();
            targets.sort();
            assert_eq!(requests, targets, "{product:?} {signing_key:?}");
        }
    }
}

#[tokio::test]
async fn a_turin_chip_is_asked_about_by_eight_bytes_and_its_fmc() {
    let levels = SnpLevels { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 205 };
    let rig = Rig::of(SnpOptions { product: SnpProduct::Turin, levels, ..options() }).await;
    rig.fetch().await.unwrap();
    let requests = rig.vendor().requests();
    let vcek = requests.iter().find(|target| target.contains('?')).unwrap();
    let (path, query) = vcek.split_once('?').unwrap();
    assert_eq!(query, "fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=205");
    let id = path.strip_prefix("/vcek/v1/Turin/").unwrap();
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[tokio::test]
async fn unknown_chips_and_levels_are_not_found() {
    let rig = Rig::new().await;
    let endorser = rig.builder().build();
    let asked = rig.asked();
    let SnpKey::Vcek { chip_id, tcb } = asked.key else { panic!("{asked}") };
    for key in [SnpKey::Vcek { chip_id: [9; 64], tcb }, SnpKey::Vcek { chip_id, tcb: [9; 8] }, SnpKey::Vlek] {
        let error = endorser.snp(SnpPlatform { key, ..asked }, now()).await.unwrap_err();
        assert_eq!(error.code(), "endorsement_not_found");
        assert!(error.to_string().contains(&rig.service.address.to_string()), "{error}");
    }
    let milan = SnpPlatform { product: Product::Milan, ..asked };
    assert_eq!(code(endorser.snp(milan, now()).await), "endorsement_not_found");
}

/// A misdeed, done to every request of an endpoint: the code, and how often is asked.
fn misdeeds() -> Vec<(Endpoint, Misdeed, &'static str, usize)> {
    let text = |text: &str| Misdeed::Body(text.as_bytes().to_vec());
    let location = Some(("location", "https://other.example/".to_owned()));
    let mut all = Vec::new();
    for endpoint in ALL {
        let most = match endpoint {
            Endpoint::AmdCrl => MAX_CRL,
            _ => MAX_CERTIFICATE.max(confide_evidence::pem::MAX_PEM),
        };
        all.extend([
            (endpoint, Misdeed::Status(404, None), "endorsement_not_found", 1),
            (endpoint, Misdeed::Status(400, None), "endorsement_refused", 1),
            (endpoint, Misdeed::Status(302, location.clone()), "endorsement_redirected", 1),
            (endpoint, Misdeed::Status(500, None), "endorsement_unavailable", 3),
            (endpoint, Misdeed::Status(429, None), "endorsement_busy", 3),
            (endpoint, Misdeed::HangUp, "endorsement_unreachable", 3),
            (endpoint, Misdeed::Truncated, "endorsement_unreachable", 3),
            (endpoint, Misdeed::Cut, "endorsement_unreachable", 3),
            (endpoint, Misdeed::MediaType("text/html"), "endorsement_malformed", 1),
            (endpoint, Misdeed::ContentEncoding("gzip"), "endorsement_malformed", 1),
            (endpoint, Misdeed::Endless, "endorsement_too_large", 1),
            (endpoint, Misdeed::Announced(most + 1), "endorsement_too_large", 1),
            (endpoint, text(""), "endorsement_malformed", 1),
            (endpoint, text("captive portal"), "endorsement_malformed", 1),
            (endpoint, Misdeed::Body(vec![0x30, 0]), "endorsement_malformed", 1),
            (endpoint, Misdeed::Body(vec![0xff; 100]), "endorsement_malformed", 1),
        ]);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misdeed_has_its_code_and_only_what_passes_is_asked_again() {
    let evidence = SnpEvidence::of(options()).unwrap();
    for (endpoint, misdeed, expected, asked) in misdeeds() {
        // A service of its own: a request that an earlier case gave up may still arrive at its service.
        let vendor = Vendor::new(Manner::Pcs).unwrap().endorsing_report(&evidence);
        let rig = Rig { service: vendor.listen().await.unwrap(), evidence: evidence.clone() };
        rig.vendor().always(endpoint, misdeed.clone());
        let error = rig.fetch().await.unwrap_err();
        assert_eq!(error.code(), expected, "{endpoint:?} {misdeed:?}: {error}");
        assert_eq!(rig.vendor().count(endpoint), asked, "{endpoint:?} {misdeed:?}");
        assert!(!error.hint().is_empty());
        rig.vendor().reform();
        assert!(rig.fetch().await.is_ok(), "a service that is honest again is heard");
    }
}

#[tokio::test]
async fn a_fault_that_passes_is_not_told() {
    let rig = Rig::new().await;
    for endpoint in ALL {
        rig.vendor().next(endpoint, Misdeed::Status(503, None));
        rig.vendor().next(endpoint, Misdeed::Truncated);
    }
    assert!(rig.fetch().await.is_ok());
    assert_eq!(rig.vendor().requests().len(), 9);
}

#[tokio::test]
async fn an_answer_about_something_else_is_refused() {
    let rig = Rig::new().await;
    let own = options();
    let other = |options: SnpOptions| SnpEvidence::of(options).unwrap();
    let levels = SnpLevels { microcode: own.levels.microcode - 1, ..own.levels };
    let milan = other(SnpOptions { product: SnpProduct::Milan, ..own.clone() });
    let vlek = other(SnpOptions { signing_key: SnpSigningKey::Vlek, ..own.clone() });
    let pem = |certificates: &[Vec<u8>]| confide_evidence::pem::encode(certificates).into_bytes();
    let [key, issuer, root] = rig.evidence.certificates.clone();
    for (endpoint, body) in [
        (Endpoint::Vcek, other(SnpOptions { seed: 1, ..own.clone() }).certificates[0].clone()),
        (Endpoint::Vcek, other(SnpOptions { levels, ..own }).certificates[0].clone()),
        (Endpoint::Vcek, milan.certificates[0].clone()),
        (Endpoint::Vcek, vlek.certificates[0].clone()),
        (Endpoint::AmdChain, pem(&milan.certificates[1..])),
        (Endpoint::AmdChain, pem(&vlek.certificates[1..])),
        (Endpoint::AmdChain, pem(&[root.clone(), issuer.clone()])),
        (Endpoint::AmdChain, pem(&[key, issuer.clone(), root])),
        (Endpoint::AmdChain, pem(&[issuer])),
        (Endpoint::AmdCrl, milan.list),
    ] {
        rig.vendor().always(endpoint, Misdeed::Body(body));
        let error = rig.fetch().await.unwrap_err();
        assert_eq!(error.code(), "endorsement_other_object", "{endpoint:?}: {error}");
        rig.vendor().reform();
    }
}

#[tokio::test]
async fn objects_of_another_time_are_told_from_faults() {
    let present = now().as_secs();
    for (expected, window) in [
        ("endorsement_expired", Window { from: present - 30 * DAY, until: present - DAY }),
        ("endorsement_not_yet_valid", Window { from: present + DAY, until: present + 30 * DAY }),
    ] {
        // The window of the VCEK certificate and of the list.
        let rig = Rig::of(SnpOptions { window, ..options() }).await;
        assert_eq!(code(rig.fetch().await), expected);
    }
}

#[tokio::test]
async fn what_was_fetched_is_kept_under_its_service_and_used_offline() {
    let rig = Rig::new().await;
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().to_owned());
    let endorser = || rig.builder().cache(Some(cache.clone()));
    let fetched = rig.ask(&endorser().build()).await.unwrap();
    assert_eq!(rig.vendor().requests().len(), 3);
    assert_eq!(rig.ask(&endorser().build()).await.unwrap(), fetched);
    assert_eq!(rig.ask(&endorser().network(Network::Offline).build()).await.unwrap(), fetched);
    assert_eq!(rig.vendor().requests().len(), 3, "what is fresh is not asked for again");
    let entries = cache.entries().unwrap();
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().all(|entry| entry.service.starts_with("kds-127.0.0.1-")), "{entries:?}");
    assert_eq!(cache.prune(Prune::All).unwrap().objects, 3);
    let offline = endorser().network(Network::Offline).build();
    assert_eq!(code(rig.ask(&offline).await), "endorsement_offline");
}

/// What the service gives in place of an honest answer, and what is told of that.
fn unusable(rig: &Rig) -> Vec<(Endpoint, Vec<u8>, &'static str)> {
    let SnpEvidence { certificates: [key, issuer, root], list, .. } = rig.evidence.clone();
    let flipped = |der: &[u8]| {
        let mut der = der.to_vec();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    let pem = |certificates: &[Vec<u8>]| confide_evidence::pem::encode(certificates).into_bytes();
    let window = Window { from: options().window.from - DAY, ..options().window };
    let older = SnpEvidence::of(SnpOptions { window, ..options() }).unwrap().list;
    let mut all = vec![
        (Endpoint::AmdChain, pem(&[flipped(&issuer), root.clone()]), "endorsement_signature"),
        (Endpoint::AmdChain, pem(&[issuer, flipped(&root)]), "endorsement_signature"),
        (Endpoint::AmdCrl, flipped(&list), "endorsement_signature"),
        (Endpoint::AmdCrl, older, "endorsement_older"),
    ];
    if rig.evidence.vcek.is_some() {
        all.push((Endpoint::Vcek, flipped(&key), "endorsement_signature"));
    }
    all
}

#[tokio::test]
async fn what_is_kept_gives_way_to_nothing_unsigned_or_older() {
    for signing_key in [SnpSigningKey::Vcek, SnpSigningKey::Vlek] {
        let rig = Rig::of(SnpOptions { signing_key, ..options() }).await;
        for (endpoint, body, expected) in unusable(&rig) {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache::at(folder.path().to_owned());
            let endorser = || rig.builder().cache(Some(cache.clone())).fresh(Duration::ZERO);
            let honest = rig.ask(&endorser().build()).await.unwrap();
            let objects = cache.entries().unwrap().len();
            rig.vendor().always(endpoint, Misdeed::Body(body));
            let log = Log::default();
            {
                let _installed = log.install();
                assert_eq!(rig.ask(&endorser().build()).await.unwrap(), honest, "{endpoint:?} {expected}");
            }
            let told = log.lines();
            assert!(told.len() == 1 && told[0].contains(expected), "{endpoint:?}: {told:?}");
            let offline = endorser().network(Network::Offline).build();
            assert_eq!(rig.ask(&offline).await.unwrap(), honest, "{endpoint:?} {expected}");
            if expected == "endorsement_signature" {
                // With nothing kept it is passed on for the verifier to judge, and not kept. Under a chain that does not
                // hold nothing does.
                cache.prune(Prune::All).unwrap();
                assert_ne!(rig.ask(&endorser().build()).await.unwrap(), honest);
                let left = cache.entries().unwrap().len();
                assert!(left < objects, "{endpoint:?}: {left} of {objects}");
            }
            rig.vendor().reform();
        }
    }
}

#[test]
fn a_report_says_which_key_signs_it() {
    let of = |change: &dyn Fn(&mut Vec<u8>), named| {
        let mut bytes = SnpEvidence::at(1_780_000_000).unwrap().report;
        change(&mut bytes);
        SnpPlatform::of_report(&Report::parse(&bytes).unwrap(), named)
    };
    let genoa = of(&|_| (), None).unwrap();
    assert_eq!((genoa.product, genoa.to_string().as_str()), (Product::Genoa, "VCEK of Genoa"));
    assert_eq!(of(&|_| (), Some(Product::Genoa)), Ok(genoa));
    assert_eq!(
        of(&|_| (), Some(Product::Milan)),
        Err(SnpPlatformError::OtherProduct { report: Product::Genoa, named: Product::Milan })
    );
    let version_2 = |bytes: &mut Vec<u8>| bytes[0] = 2;
    assert_eq!(of(&version_2, None), Err(SnpPlatformError::NoProduct));
    assert_eq!(of(&version_2, Some(Product::Milan)).unwrap().product, Product::Milan);
    assert_eq!(of(&|bytes| bytes[0x188] = 0x17, None), Err(SnpPlatformError::UnknownProcessor(0x17, 0x11)));
    assert_eq!(of(&|bytes| bytes[0x1a0..0x1e0].fill(0), None), Err(SnpPlatformError::MaskedChipId));
    assert_eq!(of(&|bytes| bytes[0x48] = 1 << 2, None).unwrap().key, SnpKey::Vlek);
    assert_eq!(of(&|bytes| bytes[0x48] = 7 << 2, None), Err(SnpPlatformError::NotSigned(7)));
}
