//! Endorsements on disk: reused, refreshed, shared, and never trusted for being there.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use confide_endorser::{Cache, Endorser, EndorserBuilder, Limits, Network, Prune, Pruned, Update, now};
use confide_evidence::document::TdxCollateral;
use confide_evidence::hash::sha256;
use confide_evidence::x509::Certificate;
use confide_evidence::{hex, pem};
use confide_testkit::vendor::{Endpoint, Manner, Misdeed, Platform, PlatformOptions, Window};
use rustls_pki_types::UnixTime;
use support::{LIMITS, Log, Rig, code};
use tempfile::TempDir;

const OBJECTS: usize = 4;
const DAY: u64 = 86_400;

struct Kept {
    rig: Rig,
    folder: TempDir,
}

impl Kept {
    async fn new() -> Self {
        Self { rig: Rig::new(Manner::Pccs).await, folder: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> Cache {
        Cache::at(self.folder.path().join("endorsements"))
    }

    fn builder(&self) -> EndorserBuilder {
        self.rig.builder().cache(Some(self.cache()))
    }

    fn endorser(&self) -> Endorser {
        self.builder().build()
    }

    fn offline(&self) -> Endorser {
        self.builder().network(Network::Offline).build()
    }

    /// The files of one extension.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Ok(services) = fs::read_dir(self.cache().folder()) else { return found };
        for service in services.map(|service| service.unwrap().path()).filter(|path| path.is_dir()) {
            let files = fs::read_dir(service).unwrap().map(|file| file.unwrap().path());
            found.extend(files.filter(|path| path.extension().is_some_and(|one| one == extension)));
        }
        found.sort();
        found
    }

    fn objects(&self) -> Vec<PathBuf> {
        self.files("endorsement")
    }

    fn object(&self, name: &str) -> PathBuf {
        self.objects().into_iter().find(|path| path.to_string_lossy().contains(name)).unwrap()
    }

    fn asked(&self) -> usize {
        self.rig.vendor().requests().len()
    }

    /// An endorser that asks the service each time.
    fn stale(&self) -> Endorser {
        self.builder().fresh(Duration::ZERO).build()
    }

    /// The service has this from now on.
    fn serve(&self, collateral: TdxCollateral) {
        drop(self.rig.vendor().clone().endorsing("standard", collateral));
    }

    /// Asks and holds that what comes is what the service has.
    async fn get(&self, endorser: &Endorser) {
        assert_eq!(self.rig.ask(endorser).await.unwrap(), self.rig.platform.served());
    }
}

#[tokio::test]
async fn what_was_fetched_is_not_asked_for_again() {
    let kept = Kept::new().await;
    kept.get(&kept.endorser()).await;
    assert_eq!((kept.asked(), kept.objects().len()), (OBJECTS, OBJECTS));
    kept.get(&kept.endorser()).await;
    kept.get(&kept.offline()).await;
    assert_eq!(kept.asked(), OBJECTS);
    assert!(kept.files("new").is_empty());
}

#[tokio::test]
async fn files_are_for_their_user_alone() {
    let kept = Kept::new().await;
    kept.get(&kept.endorser()).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in kept.objects().iter().chain(&kept.files("lock")) {
        assert_eq!(mode(path), 0o600, "{}", path.display());
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
    assert_eq!(mode(kept.cache().folder()), 0o700);
}

#[tokio::test]
async fn offline_without_a_cache_there_is_nothing() {
    let kept = Kept::new().await;
    let error = kept.rig.ask(&kept.offline()).await.unwrap_err();
    assert_eq!(error.code(), "endorsement_offline");
    let uncached = kept.rig.builder().network(Network::Offline).build();
    assert_eq!(code(kept.rig.ask(&uncached).await), "endorsement_offline");
    assert_eq!(kept.asked(), 0, "nobody was asked");
}

#[tokio::test]
async fn another_platform_update_or_service_is_another_object() {
    let kept = Kept::new().await;
    kept.get(&kept.endorser()).await;
    let offline = kept.offline();
    let other = confide_endorser::TdxPlatform { fmspc: [1; 6], ..kept.rig.asked };
    assert_eq!(code(offline.tdx(other, Update::Standard, now()).await), "endorsement_offline");
    assert_eq!(code(offline.tdx(kept.rig.asked, Update::Early, now()).await), "endorsement_offline");
    let elsewhere = Rig::new(Manner::Pccs).await;
    let endorser = elsewhere.builder().cache(Some(kept.cache())).network(Network::Offline).build();
    assert_eq!(code(elsewhere.ask(&endorser).await), "endorsement_offline");
}

#[tokio::test]
async fn what_is_no_longer_fresh_is_asked_for_and_used_where_nobody_answers() {
    let kept = Kept::new().await;
    kept.get(&kept.stale()).await;
    kept.get(&kept.stale()).await;
    assert_eq!(kept.asked(), 2 * OBJECTS, "each is asked for again");
    for endpoint in [Endpoint::TcbInfo, Endpoint::QeIdentity, Endpoint::PckCrl, Endpoint::RootCaCrl] {
        kept.rig.vendor().always(endpoint, Misdeed::Status(404, None));
    }
    kept.get(&kept.stale()).await;
    assert_eq!(kept.asked(), 3 * OBJECTS);
}

#[tokio::test]
async fn what_is_over_is_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::with(Manner::Pcs, |options| {
        let from = options.windows.tcb_info.from;
        options.windows.tcb_info = Window { from, until: from + 2 * DAY };
    })
    .await;
    let kept = Kept { rig, folder };
    kept.get(&kept.endorser()).await;
    let later = UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() + 3 * DAY));
    let found = kept.offline().tdx(kept.rig.asked, Update::Standard, later).await;
    assert_eq!(code(found), "endorsement_offline");
    kept.rig.vendor().always(Endpoint::TcbInfo, Misdeed::Status(500, None));
    let found = kept.endorser().tdx(kept.rig.asked, Update::Standard, later).await;
    assert_eq!(code(found), "endorsement_unavailable");
    assert_eq!(kept.rig.vendor().count(Endpoint::QeIdentity), 1, "the others are still good");
}

#[tokio::test]
async fn old_objects_of_a_service_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::with(Manner::Pcs, |options| {
        let present = now().as_secs();
        options.windows.tcb_info = Window { from: present - 9 * DAY, until: present - DAY };
    })
    .await;
    let kept = Kept { rig, folder };
    assert_eq!(code(kept.rig.ask(&kept.endorser()).await), "endorsement_expired");
    assert!(kept.objects().iter().all(|path| !path.to_string_lossy().contains("tcb-info")));
}

/// A change of a platform's options.
type Change = fn(&mut PlatformOptions);

/// What makes an object older, or newer: its date is that of a day before, or its number another.
const EDITIONS: [(&str, Change, Change); 5] = [
    (
        "evaluation data number",
        |options| options.evaluation_data_number = 19,
        |options| {
            options.evaluation_data_number = 21;
            options.windows.tcb_info.from -= 60;
        },
    ),
    (
        "date of the TCB info",
        |options| options.windows.tcb_info.from -= DAY,
        |options| options.windows.tcb_info.from += 60,
    ),
    (
        "date of the QE identity",
        |options| options.windows.qe_identity.from -= DAY,
        |options| options.windows.qe_identity.from += 60,
    ),
    (
        "date of the PCK CRL",
        |options| options.windows.pck_crl.from -= DAY,
        |options| options.windows.pck_crl.from += 60,
    ),
    (
        "date of the root CA CRL",
        |options| options.windows.root_ca_crl.from -= DAY,
        |options| options.windows.root_ca_crl.from += 60,
    ),
];

#[tokio::test]
async fn an_older_object_does_not_replace_what_is_kept() {
    let windows = PlatformOptions::at(now().as_secs()).windows;
    for (what, older, newer) in EDITIONS {
        let rig = Rig::with(Manner::Pccs, |options| options.windows = windows).await;
        let kept = Kept { rig, folder: tempfile::tempdir().unwrap() };
        kept.get(&kept.stale()).await;
        let edition = |change: Change| {
            let changed = Platform::new(|options| {
                options.windows = windows;
                change(options);
            });
            changed.unwrap().served()
        };
        assert_ne!(edition(older), kept.rig.platform.served(), "{what}");
        let log = Log::default();
        {
            let _installed = log.install();
            kept.serve(edition(older));
            // The service is asked, and what was kept is used and stays.
            kept.get(&kept.stale()).await;
        }
        let told = log.lines();
        assert!(!told.is_empty() && told.iter().all(|line| line.contains("endorsement_older")), "{told:?}");
        assert!(told[0].contains("kept endorsement used"), "{what}: {told:?}");
        kept.get(&kept.offline()).await;
        kept.serve(edition(newer));
        assert_eq!(kept.rig.ask(&kept.stale()).await.unwrap(), edition(newer), "{what}");
        assert_eq!(kept.rig.ask(&kept.offline()).await.unwrap(), edition(newer), "{what}");
    }
}

#[tokio::test]
async fn an_older_object_is_refused_where_what_is_known_is_over() {
    let mut windows = PlatformOptions::at(now().as_secs()).windows;
    let (whole, present) = (windows, now().as_secs());
    windows.tcb_info.until = present + DAY;
    let rig = Rig::with(Manner::Pccs, |options| options.windows = windows).await;
    let kept = Kept { rig, folder: tempfile::tempdir().unwrap() };
    kept.get(&kept.endorser()).await;
    let older = Platform::new(|options| {
        options.windows = whole;
        options.evaluation_data_number = 19;
    });
    let older = older.unwrap().served();
    kept.serve(older.clone());
    let later = UnixTime::since_unix_epoch(Duration::from_secs(present + 2 * DAY));
    let ask = || {
        let endorser = kept.stale();
        let asked = kept.rig.asked;
        async move { endorser.tdx(asked, Update::Standard, later).await }
    };
    let error = ask().await.unwrap_err();
    assert_eq!(error.code(), "endorsement_older");
    assert!(error.to_string().contains("number 0x13 of ") && error.hint().contains("prune"), "{error}");
    kept.cache().prune(Prune::All).unwrap();
    assert_eq!(ask().await.unwrap(), older, "nothing later is known any more");
}

/// The SHA-256 of the key of the root that a chain ends in.
fn root_of(chain: &str) -> [u8; 32] {
    let root = pem::certificates(chain.as_bytes()).unwrap().pop().unwrap();
    sha256(&Certificate::parse(&root).unwrap().spki).0
}

/// The same TCB info, signed by a root that somebody made up.
fn under_another_root(mut collateral: TdxCollateral) -> TdxCollateral {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let root = rcgen::CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
    let signature = signer.sign(&SystemRandom::new(), collateral.tcb_info.as_bytes()).unwrap();
    collateral.tcb_info_signature.0.copy_from_slice(signature.as_ref());
    collateral.tcb_info_issuer_chain = pem::encode(&[root.clone(), root]);
    collateral
}

#[tokio::test]
async fn what_ends_in_another_root_does_not_replace_what_is_kept() {
    let kept = Kept::new().await;
    let genuine = kept.rig.platform.served();
    let stale = || {
        let roots = vec![root_of(&genuine.tcb_info_issuer_chain)];
        kept.builder().roots(roots).fresh(Duration::ZERO).build()
    };
    let foreign = under_another_root(genuine.clone());
    kept.serve(foreign.clone());
    assert_eq!(kept.rig.ask(&stale()).await.unwrap(), foreign, "whose root it is, the verifier says");
    kept.serve(genuine.clone());
    kept.get(&stale()).await;
    let later = under_another_root({
        let later = Platform::new(|options| options.evaluation_data_number = 21);
        later.unwrap().served()
    });
    let log = Log::default();
    {
        let _installed = log.install();
        kept.serve(TdxCollateral {
            tcb_info: later.tcb_info,
            tcb_info_signature: later.tcb_info_signature,
            tcb_info_issuer_chain: later.tcb_info_issuer_chain,
            ..genuine.clone()
        });
        kept.get(&stale()).await;
    }
    let told = log.lines();
    assert!(told.len() == 1 && told[0].contains("kept endorsement used"), "{told:?}");
    assert!(told[0].contains("endorsement_signature"), "{told:?}");
    // That one was made up does not let an older one in.
    let older = Platform::new(|options| options.evaluation_data_number = 19).unwrap().served();
    kept.serve(TdxCollateral {
        tcb_info: older.tcb_info,
        tcb_info_signature: older.tcb_info_signature,
        tcb_info_issuer_chain: older.tcb_info_issuer_chain,
        ..genuine.clone()
    });
    kept.get(&stale()).await;
}

#[tokio::test]
async fn what_ends_in_a_named_root_has_files_of_its_own() {
    let kept = Kept::new().await;
    let roots = vec![root_of(&kept.rig.platform.served().tcb_info_issuer_chain)];
    let named = || kept.builder().roots(roots.clone());
    kept.get(&named().build()).await;
    let others = kept.builder().roots(Vec::new());
    assert_eq!(code(kept.rig.ask(&others.network(Network::Offline).build()).await), "endorsement_offline");
    kept.get(&kept.builder().roots(Vec::new()).build()).await;
    assert_eq!((kept.objects().len(), kept.cache().entries().unwrap().len()), (2 * OBJECTS, 2 * OBJECTS));
    for path in kept.objects() {
        if !path.to_string_lossy().contains("-of-another-root") {
            fs::remove_file(path).unwrap();
        }
    }
    let offline = named().network(Network::Offline).build();
    assert_eq!(code(kept.rig.ask(&offline).await), "endorsement_offline", "not where another's belong");
    assert_eq!(kept.cache().prune(Prune::All).unwrap().objects, OBJECTS);
}

/// One signature that does not hold.
type Forgery = fn(&mut TdxCollateral);

const FORGERIES: [(&str, Forgery); 6] = [
    ("tdx-tcb-info", |forged| forged.tcb_info_signature.0[7] ^= 1),
    ("tdx-qe-identity", |forged| forged.qe_identity_signature.0[7] ^= 1),
    ("pck-crl", |forged| *forged.pck_crl.0.last_mut().unwrap() ^= 1),
    ("root-ca-crl", |forged| *forged.root_ca_crl.0.last_mut().unwrap() ^= 1),
    // Signed, but by another key than that of the chain.
    ("tdx-tcb-info", |forged| forged.tcb_info_issuer_chain = forged.pck_crl_issuer_chain.clone()),
    ("tdx-qe-identity", |forged| {
        // The root in its own place and in that of the signer.
        let chain = pem::certificates(forged.qe_identity_issuer_chain.as_bytes()).unwrap();
        forged.qe_identity_issuer_chain = pem::encode(&[chain[1].clone(), chain[1].clone()]);
    }),
];

#[tokio::test]
async fn what_its_own_certificates_do_not_sign_is_not_kept() {
    for (object, forge) in FORGERIES {
        let kept = Kept::new().await;
        let mut forged = kept.rig.platform.served();
        forge(&mut forged);
        kept.serve(forged.clone());
        let log = Log::default();
        {
            let _installed = log.install();
            assert_eq!(kept.rig.ask(&kept.endorser()).await.unwrap(), forged, "the verifier says what it is");
        }
        let told = log.lines();
        assert!(told.len() == 1 && told[0].contains("endorsement not kept"), "{object}: {told:?}");
        assert!(told[0].contains("endorsement_signature"), "{object}: {told:?}");
        let is_of = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(object);
        assert!(kept.objects().len() == OBJECTS - 1 && !kept.objects().iter().any(is_of), "{object}");
        assert_eq!(code(kept.rig.ask(&kept.offline()).await), "endorsement_offline", "{object}");
        // An honest service is heard again.
        kept.serve(kept.rig.platform.served());
        kept.get(&kept.endorser()).await;
        kept.get(&kept.offline()).await;
    }
}

#[tokio::test]
async fn what_its_own_certificates_do_not_sign_does_not_replace_what_is_kept() {
    for (object, forge) in FORGERIES {
        let kept = Kept::new().await;
        kept.get(&kept.endorser()).await;
        let mut forged = kept.rig.platform.served();
        forge(&mut forged);
        kept.serve(forged);
        let log = Log::default();
        {
            let _installed = log.install();
            kept.get(&kept.stale()).await;
        }
        let told = log.lines();
        assert!(told.len() == 1 && told[0].contains("kept endorsement used"), "{object}: {told:?}");
        assert!(told[0].contains("endorsement_signature"), "{object}: {told:?}");
        kept.get(&kept.offline()).await;
    }
}

#[tokio::test]
async fn a_whole_file_that_its_own_certificates_do_not_sign_is_as_none() {
    let kept = Kept::new().await;
    for object in ["tdx-tcb-info", "tdx-qe-identity", "pck-crl", "root-ca-crl"] {
        kept.get(&kept.endorser()).await;
        let path = kept.object(object);
        let text = fs::read_to_string(&path).unwrap();
        let (head, content) = text.split_once('\n').unwrap();
        let mut content: serde_json::Value = serde_json::from_str(content).unwrap();
        let mut body = pem::base64(content["body"].as_str().unwrap()).unwrap();
        // The last byte of a list's signature; the last digit of an answer's, before the quotation mark and the brace.
        let at = if object.starts_with("tdx") { body.len() - 3 } else { body.len() - 1 };
        body[at] =
            if object.starts_with("tdx") { b"10"[usize::from(body[at] == b'1')] } else { body[at] ^ 1 };
        content["body"] = pem::base64_text(&body).into();
        let content = content.to_string();
        let magic = head.split(' ').next().unwrap();
        let digest = hex::encode(&sha256(content.as_bytes()).0);
        fs::write(&path, format!("{magic} {digest}\n{content}\n")).unwrap();
        assert_eq!(kept.cache().entries().unwrap().len(), OBJECTS, "{object}: the file can be read");
        assert_eq!(code(kept.rig.ask(&kept.offline()).await), "endorsement_offline", "{object}");
        let before = kept.asked();
        kept.get(&kept.endorser()).await;
        assert_eq!(kept.asked(), before + 1, "{object}");
    }
}

#[tokio::test]
async fn damaged_files_are_as_none() {
    let kept = Kept::new().await;
    kept.get(&kept.endorser()).await;
    let path = kept.object("tcb-info");
    let whole = fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("a byte short", whole[..whole.len() - 1].to_vec()),
        ("more", [&whole[..], b"\n"].concat()),
        ("a bit of the content", flipped(whole.len() - 100)),
        ("a bit of the digest", flipped(30)),
        ("another form", text.replacen("-1 ", "-2 ", 1).into_bytes()),
        ("not text", vec![0xff; 1000]),
        ("too large", vec![b'a'; 3 * 1024 * 1024]),
    ];
    for (name, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        assert_eq!(code(kept.rig.ask(&kept.offline()).await), "endorsement_offline", "{name}");
        let before = kept.asked();
        kept.get(&kept.endorser()).await;
        assert_eq!(kept.asked(), before + 1, "{name}: one object is asked for again");
        assert_eq!(kept.objects().len(), OBJECTS);
    }
    // A whole file of another object under this name.
    fs::copy(kept.object("qe-identity"), &path).unwrap();
    assert_eq!(code(kept.rig.ask(&kept.offline()).await), "endorsement_offline");
    // A folder, and a link to a device that never ends.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(code(kept.rig.ask(&kept.offline()).await), "endorsement_offline");
    kept.get(&kept.endorser()).await;
    assert!(fs::symlink_metadata(&path).unwrap().is_file(), "the link was replaced, not followed");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_only_slower() {
    let kept = Kept::new().await;
    // A file where the folder should be: this holds also for a test that runs as root.
    fs::write(kept.cache().folder(), "").unwrap();
    for times in 1..=2 {
        kept.get(&kept.endorser()).await;
        assert_eq!(kept.asked(), times * OBJECTS);
    }
    assert_eq!(fs::read(kept.cache().folder()).unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_at_the_same_time_share_one_request() {
    let kept = Kept::new().await;
    for endpoint in [Endpoint::TcbInfo, Endpoint::QeIdentity, Endpoint::PckCrl, Endpoint::RootCaCrl] {
        kept.rig.vendor().always(endpoint, Misdeed::Late(Duration::from_millis(300)));
    }
    // Without a cache the tasks share the answer itself.
    for cache in [None, Some(kept.cache())] {
        let before = kept.asked();
        let endorser = Arc::new(kept.rig.builder().cache(cache).build());
        let asked = kept.rig.asked;
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let endorser = Arc::clone(&endorser);
                tokio::spawn(async move { endorser.tdx(asked, Update::Standard, now()).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), kept.rig.platform.served());
        }
        assert_eq!(kept.asked() - before, OBJECTS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_at_the_same_time_share_one_failure() {
    let kept = Kept::new().await;
    kept.rig.vendor().always(Endpoint::TcbInfo, Misdeed::Silent);
    let limits = Limits { attempts: 1, attempt: Duration::from_millis(500), ..LIMITS };
    let endorser = Arc::new(kept.builder().limits(limits).build());
    let asked = kept.rig.asked;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let endorser = Arc::clone(&endorser);
            tokio::spawn(async move { code(endorser.tdx(asked, Update::Standard, now()).await) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "endorsement_timed_out");
    }
    assert_eq!(kept.rig.vendor().count(Endpoint::TcbInfo), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_endorsers_of_one_cache_ask_once() {
    let kept = Kept::new().await;
    for endpoint in [Endpoint::TcbInfo, Endpoint::QeIdentity, Endpoint::PckCrl, Endpoint::RootCaCrl] {
        kept.rig.vendor().always(endpoint, Misdeed::Late(Duration::from_millis(300)));
    }
    let (one, other) = (kept.endorser(), kept.endorser());
    let (one, other) = tokio::join!(kept.rig.ask(&one), kept.rig.ask(&other));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(kept.asked(), OBJECTS);
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_stop_the_next() {
    let kept = Kept::new().await;
    kept.rig.vendor().next(Endpoint::TcbInfo, Misdeed::Silent);
    let endorser = kept.endorser();
    let patience = Duration::from_millis(300);
    assert!(tokio::time::timeout(patience, kept.rig.ask(&endorser)).await.is_err());
    kept.get(&endorser).await;
}

#[tokio::test]
async fn entries_tell_what_is_kept_and_until_when() {
    let kept = Kept::new().await;
    assert!(kept.cache().entries().unwrap().is_empty());
    kept.get(&kept.endorser()).await;
    fs::write(kept.object("qe-identity"), "damaged").unwrap();
    let entries = kept.cache().entries().unwrap();
    let parts: Vec<&str> = entries.iter().map(|entry| entry.window.part.as_str()).collect();
    assert_eq!(parts, ["PCK CRL", "root CA CRL", "TCB info of FMSPC 53494d000000 (standard)"]);
    for entry in &entries {
        assert!(entry.service.starts_with("pccs-127.0.0.1-"), "{}", entry.service);
        assert!(entry.window.until > entry.fetched && entry.window.from < entry.fetched, "{entry:?}");
    }
}

#[tokio::test]
async fn pruning_removes_what_is_over_or_all_and_no_file_of_others() {
    let kept = Kept::new().await;
    assert_eq!(kept.cache().prune(Prune::All).unwrap(), Pruned::default());
    kept.get(&kept.endorser()).await;
    let service = kept.objects()[0].parent().unwrap().to_owned();
    let foreign = [kept.cache().folder().join("note.txt"), service.join("note.txt")];
    for path in &foreign {
        fs::write(path, "mine").unwrap();
    }
    let seconds = i64::try_from(now().as_secs()).unwrap();
    assert_eq!(kept.cache().prune(Prune::Expired(seconds)).unwrap(), Pruned::default());
    assert_eq!(kept.objects().len(), OBJECTS);
    fs::write(kept.object("qe-identity"), "damaged").unwrap();
    assert_eq!(kept.cache().prune(Prune::Expired(seconds)).unwrap(), Pruned { objects: 1, bytes: 7 });
    let next_year = seconds + 365 * 86_400;
    assert_eq!(kept.cache().prune(Prune::Expired(next_year)).unwrap().objects, OBJECTS - 1);
    kept.get(&kept.endorser()).await;
    fs::write(service.join("x.new"), "left behind").unwrap();
    let pruned = kept.cache().prune(Prune::All).unwrap();
    assert_eq!(pruned.objects, OBJECTS);
    assert!(pruned.bytes > 1000);
    assert!(kept.files("lock").is_empty() && kept.files("new").is_empty());
    assert!(foreign.iter().all(|path| path.exists()));
}
