//! What a guest staples to its evidence: from a service in the background, from a file without a network, or nothing.
#![cfg(feature = "danger-simulator")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, dead_code, reason = "tests")]

mod harness;

use std::time::{Duration, Instant};

use confide_client::ClientError;
use confide_evidence::document::{Endorsements, TdxCollateral};
use confide_evidence::tdx::collateral_to_json;
use confide_testkit::vendor::{Endpoint, ListeningVendor, Manner, Misdeed, Platform, Vendor};
use harness::{Connection, Guest};
use tempfile::TempDir;

/// Collateral of the simulated platform with this evaluation data number: the guest's own says 20.
fn collateral(number: u32) -> TdxCollateral {
    Platform::new(|options| options.evaluation_data_number = number).unwrap().served()
}

/// What is stapled to a document now.
async fn stapled(guest: &Guest) -> Option<TdxCollateral> {
    let (document, _) = Connection::open(guest.address).await.attest(1).await;
    let Endorsements { tdx, nvidia, snp } = document.endorsements?;
    assert_eq!((nvidia, snp), (None, None));
    tdx
}

/// Waits until this is stapled.
async fn until_stapled(guest: &Guest, expected: &TdxCollateral) {
    let start = Instant::now();
    while stapled(guest).await.as_ref() != Some(expected) {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", guest.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn code(outcome: Result<impl Sized, ClientError>) -> String {
    outcome.map_or_else(|error| error.code().to_owned(), |_| "ok".to_owned())
}

/// A service, and the table that names it.
async fn service(number: u32) -> (ListeningVendor, TempDir, String) {
    let vendor = Vendor::new(Manner::Pccs).unwrap().endorsing("standard", collateral(number));
    let service = vendor.listen().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pccs.pem");
    std::fs::write(&path, service.vendor.certificate()).unwrap();
    let table = format!(
        "[endorsements]\nsource = \"pccs\"\npccs = \"{}\"\npccs_certificate = \"{}\"\nrefresh_seconds = 1\n",
        service.url(),
        path.display()
    );
    (service, folder, table)
}

#[tokio::test]
async fn a_simulated_guest_staples_its_own_where_nothing_else_is_configured() {
    let guest = Guest::start("");
    let own = stapled(&guest).await.unwrap();
    assert!(own.tcb_info.contains("\"tcbEvaluationDataNumber\":20"));
    assert_eq!(code(guest.client().verdict().await), "ok");
}

#[tokio::test]
async fn a_guest_staples_and_refreshes_what_its_service_has() {
    let (service, _folder, table) = service(21).await;
    let guest = Guest::start(&table);
    until_stapled(&guest, &service_collateral(&service)).await;
    assert_eq!(code(guest.client().verdict().await), "ok", "and clients need nobody else");
    let newer = collateral(22);
    let _same = service.vendor.clone().endorsing("standard", newer.clone());
    until_stapled(&guest, &newer).await;
    // The service fails from now on: what there is stays.
    service.vendor.always(Endpoint::QeIdentity, Misdeed::Status(404, None));
    let asked = service.vendor.count(Endpoint::QeIdentity);
    let start = Instant::now();
    while service.vendor.count(Endpoint::QeIdentity) < asked + 2 {
        assert!(start.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stapled(&guest).await, Some(newer));
    let told = guest.log().lines().filter(|line| line.contains("not refreshed")).count();
    assert_eq!(told, 1, "{}", guest.log());
}

fn service_collateral(service: &ListeningVendor) -> TdxCollateral {
    service.vendor.collateral("standard").unwrap()
}

#[tokio::test]
async fn a_guest_serves_while_its_service_is_silent() {
    let (service, _folder, table) = service(21).await;
    for endpoint in [Endpoint::TcbInfo, Endpoint::QeIdentity, Endpoint::PckCrl, Endpoint::RootCaCrl] {
        service.vendor.always(endpoint, Misdeed::Silent);
    }
    let guest = Guest::start(&table);
    assert_eq!(stapled(&guest).await, None);
    assert_eq!(code(guest.client().verdict().await), "collateral_present", "clients have to fetch it");
}

#[tokio::test]
async fn a_file_is_stapled_from_the_first_connection_on_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collateral.json");
    std::fs::write(&path, collateral_to_json(&collateral(21))).unwrap();
    let first = confide_evidence::tdx::collateral_from_json(&std::fs::read(&path).unwrap()).unwrap();
    let table =
        format!("[endorsements]\nsource = \"file\"\nfile = \"{}\"\nrefresh_seconds = 1\n", path.display());
    let guest = Guest::start(&table);
    assert_eq!(stapled(&guest).await, Some(first));
    assert_eq!(code(guest.client().verdict().await), "ok");
    let newer = collateral(22);
    std::fs::write(&path, collateral_to_json(&newer)).unwrap();
    until_stapled(&guest, &newer).await;
}

#[tokio::test]
async fn a_guest_without_a_file_serves_and_says_so() {
    let guest = Guest::start("[endorsements]\nsource = \"file\"\nfile = \"/nonexistent/collateral.json\"\n");
    assert_eq!(stapled(&guest).await, None);
    assert!(guest.log().contains("staple_unreadable"), "{}", guest.log());
    assert!(guest.log().contains("clients have to fetch it themselves"), "{}", guest.log());
}

#[tokio::test]
async fn a_guest_with_a_bad_file_serves_and_staples_a_good_one_that_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("collateral.json");
    let whole = collateral_to_json(&collateral(21)).into_bytes();
    let good = confide_evidence::tdx::collateral_from_json(&whole).unwrap();
    let table =
        format!("[endorsements]\nsource = \"file\"\nfile = \"{}\"\nrefresh_seconds = 1\n", path.display());
    let mut oversized = whole.clone();
    oversized.resize(confide_evidence::tdx::MAX_COLLATERAL + 1, b' ');
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("one byte too many", [&whole[..], b"\x01"].concat()),
        ("oversized", oversized),
        ("0xff", vec![0xff; 1000]),
        ("another object", b"{}".to_vec()),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let guest = Guest::start(&table);
        assert_eq!(stapled(&guest).await, None, "{what}");
        assert!(guest.log().contains("staple_malformed"), "{what}: {}", guest.log());
        std::fs::write(&path, &whole).unwrap();
        until_stapled(&guest, &good).await;
        assert!(!guest.log().contains("panicked"), "{what}: {}", guest.log());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let guest = Guest::start(&table);
    assert_eq!(stapled(&guest).await, None, "a folder");
    assert!(guest.log().contains("staple_unreadable"), "a folder: {}", guest.log());
}

#[test]
fn a_certificate_that_cannot_be_read_is_told_before_the_boot() {
    let table = "[endorsements]\nsource = \"pccs\"\npccs = \"https://127.0.0.1:1\"\npccs_certificate = \"/nonexistent\"\n";
    let installation = harness::Installation::new(&harness::model_files(7), table);
    let output = harness::program().arg("serve").arg("--config").arg(installation.config()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("[pccs_certificate_unreadable]"), "{told}");
}
