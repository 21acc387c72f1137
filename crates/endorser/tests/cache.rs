//! Endorsements on disk: reused, refreshed, shared, and never trusted for being there.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use confide_endorser::{Cache, Endorser, EndorserBuilder, Limits, Network, Prune, Pruned, Update, now};
use confide_testkit::vendor::{Endpoint, Manner, Misdeed, Window};
use rustls_pki_types::UnixTime;
use support::{LIMITS, Rig, code};
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
    let stale = || kept.builder().fresh(Duration::ZERO).build();
    kept.get(&stale()).await;
    kept.get(&stale()).await;
    assert_eq!(kept.asked(), 2 * OBJECTS, "each is asked for again");
    for endpoint in [Endpoint::TcbInfo, Endpoint::QeIdentity, Endpoint::PckCrl, Endpoint::RootCaCrl] {
        kept.rig.vendor().always(endpoint, Misdeed::Status(404, None));
    }
    kept.get(&stale()).await;
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
