//! Collateral to be stapled: refreshed ahead of its end, kept where nothing new is to be had, dropped when it is over.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use confide_endorser::{FindPlatform, Pace, Source, Staple, Stapler, Update, now};
use confide_evidence::document::TdxCollateral;
use confide_evidence::tdx::collateral_to_json;
use confide_testkit::vendor::{Endpoint, Manner, Misdeed, Platform, Window};
use support::{Log, Rig};

const DAY: u64 = 86_400;
const FAST: Pace = Pace { refresh: Duration::from_millis(200), retry: Duration::from_millis(50) };

fn service(rig: &Rig) -> Source {
    let asked = rig.asked;
    let endorser = Arc::new(rig.builder().fresh(Duration::ZERO).build());
    Source::Service { endorser, update: Update::Standard, platform: Arc::new(move || Ok(asked)) }
}

fn current(staple: &Staple) -> Option<TdxCollateral> {
    staple.current(now()).map(|collateral| TdxCollateral::clone(&collateral))
}

/// Waits until `done`.
async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for {what}");
}

#[tokio::test]
async fn a_staple_is_fetched_and_refreshed() {
    let rig = Rig::new(Manner::Pccs).await;
    let stapler = Stapler::new(service(&rig), FAST);
    let staple = stapler.staple();
    assert_eq!(current(&staple), None, "nothing is stapled before it is there");
    let running = tokio::spawn(stapler.run());
    until("the first staple", || current(&staple) == Some(rig.platform.served())).await;
    let newer = Platform::new(|options| options.evaluation_data_number = 21).unwrap().served();
    let _same = rig.vendor().clone().endorsing("standard", newer.clone());
    until("the newer one", || current(&staple) == Some(newer.clone())).await;
    running.abort();
}

#[tokio::test]
async fn what_is_stapled_stays_while_nothing_new_is_to_be_had_and_that_is_told_once() {
    let log = Log::default();
    let _guard = log.install();
    let rig = Rig::new(Manner::Pccs).await;
    let mut stapler = Stapler::new(service(&rig), FAST);
    let staple = stapler.staple();
    stapler.refresh().await;
    rig.vendor().always(Endpoint::TcbInfo, Misdeed::Status(404, None));
    let pauses = [stapler.refresh().await, stapler.refresh().await, stapler.refresh().await];
    assert!(pauses.is_sorted() && pauses[2] <= FAST.refresh, "{pauses:?}");
    assert_eq!(current(&staple), Some(rig.platform.served()));
    let told = log.lines();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("WARN") && told[0].contains("endorsement_not_found"), "{told:?}");
    rig.vendor().reform();
    stapler.refresh().await;
    assert!(log.lines()[1].contains("refreshed again"), "{:?}", log.lines());
}

#[tokio::test]
async fn what_is_over_is_not_stapled_and_that_is_told_once() {
    let log = Log::default();
    let _guard = log.install();
    let rig = Rig::with(Manner::Pccs, |options| {
        let present = now().as_secs();
        options.windows.qe_identity = Window { from: present - DAY, until: present + 2 };
    })
    .await;
    let mut stapler = Stapler::new(service(&rig), FAST);
    let staple = stapler.staple();
    stapler.refresh().await;
    assert!(current(&staple).is_some());
    until("its end", || current(&staple).is_none()).await;
    for _ in 0..3 {
        stapler.refresh().await;
    }
    let told = log.lines();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("endorsement_expired"), "{told:?}");
    assert!(told[1].contains("clients have to fetch it themselves"), "{told:?}");
}

#[tokio::test]
async fn a_file_needs_no_network_and_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collateral.json");
    let collateral =
        |number| Platform::new(|options| options.evaluation_data_number = number).unwrap().collateral;
    let (first, second) = (collateral(20), collateral(21));
    std::fs::write(&path, collateral_to_json(&first)).unwrap();
    let mut stapler = Stapler::new(Source::File(path.clone()), FAST);
    let staple = stapler.staple();
    stapler.refresh().await;
    assert_eq!(current(&staple), Some(first.clone()));
    for broken in ["", "{}", &"x".repeat(100)] {
        std::fs::write(&path, broken).unwrap();
        stapler.refresh().await;
        assert_eq!(current(&staple), Some(first.clone()), "{broken:?} takes nothing away");
    }
    std::fs::write(&path, collateral_to_json(&second)).unwrap();
    stapler.refresh().await;
    assert_eq!(current(&staple), Some(second));
}

#[tokio::test]
async fn what_may_not_be_stapled_is_told() {
    let log = Log::default();
    let _guard = log.install();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collateral.json");
    let present = now().as_secs();
    let over = Platform::new(|options| {
        options.windows.pck_crl = Window { from: present - 9 * DAY, until: present - DAY };
    });
    let mut large = Platform::new(|_| ()).unwrap().collateral;
    large.qe_identity_issuer_chain.push_str(&" ".repeat(2 * 1024 * 1024));
    let cases = [
        (None, "staple_unreadable"),
        (Some("{".to_owned()), "staple_malformed"),
        (Some(collateral_to_json(&over.unwrap().collateral)), "staple_not_valid"),
        (Some(collateral_to_json(&large)), "staple_too_large"),
    ];
    for (content, code) in cases {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let mut stapler = Stapler::new(Source::File(path.clone()), FAST);
        let staple = stapler.staple();
        stapler.refresh().await;
        assert_eq!(current(&staple), None, "{code}");
        assert!(log.lines().iter().any(|line| line.contains(code)), "{code}: {:?}", log.lines());
    }
}

#[tokio::test]
async fn a_platform_that_is_not_known_yet_is_asked_again() {
    let rig = Rig::new(Manner::Pccs).await;
    let (asked, times) = (rig.asked, Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&times);
    let platform: FindPlatform = Arc::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Err("the quoting service is busy".into()),
        _ => Ok(asked),
    });
    let endorser = Arc::new(rig.builder().fresh(Duration::ZERO).build());
    let mut stapler = Stapler::new(Source::Service { endorser, update: Update::Standard, platform }, FAST);
    let staple = stapler.staple();
    for _ in 0..3 {
        stapler.refresh().await;
    }
    assert_eq!(current(&staple), Some(rig.platform.served()));
    assert_eq!(times.load(Ordering::Relaxed), 2, "a platform does not change");
}
