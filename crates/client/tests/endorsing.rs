//! A client of guests that staple no collateral, or some that is over.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use confide_client::{ALGORITHMS, Client, ClientError, Endorsing, PolicyText};
use confide_endorser::{
    Cache, Endorser, EndorserBuilder, Intel, Limits, Network, Origin, ProxySettings, Trust, Update,
};
use confide_evidence::document::{CpuEvidence, EvidenceDocument};
use confide_policy::Loaded;
use confide_record::Agreement;
use confide_testkit::guest::{self, Attestation, Guest, Listening};
use confide_testkit::vendor::{Endpoint, ListeningVendor, Manner, Misdeed, Vendor};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A guest and a service that endorses its platform.
struct Rig {
    guest: Listening,
    service: ListeningVendor,
}

impl Rig {
    async fn new(attestation: Attestation) -> Self {
        let guest = Guest::new(0).unwrap().attesting(attestation);
        let vendor = Vendor::new(Manner::Pcs).unwrap().endorsing("standard", guest.collateral().unwrap());
        Self { guest: guest.listen().await.unwrap(), service: vendor.listen().await.unwrap() }
    }

    fn builder(&self) -> EndorserBuilder {
        let base = self.service.url().parse().unwrap();
        let trust = Trust::pinned(self.service.vendor.certificate().as_bytes(), Path::new("x.pem")).unwrap();
        let origin = Origin { base, trust };
        let limits = Limits { attempts: 1, total: Duration::from_secs(10), ..Limits::default() };
        Endorser::builder()
            .intel(Intel::pcs_at(origin.clone(), origin))
            .limits(limits)
            .proxies(ProxySettings::none())
    }

    /// A client; with an endorser it fetches.
    fn client(&self, endorser: Option<EndorserBuilder>) -> Client {
        let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
        let builder = Client::builder(&self.guest.url(), policy).unwrap();
        match endorser {
            Some(endorser) => {
                builder.endorsing(Endorsing::new(Arc::new(endorser.build()), Update::Standard)).build()
            }
            None => builder.build(),
        }
    }

    fn asked(&self) -> usize {
        self.service.vendor.requests().len()
    }
}

fn code(outcome: Result<impl Sized, ClientError>) -> String {
    outcome.map_or_else(|error| error.code().to_owned(), |_| "ok".to_owned())
}

#[tokio::test]
async fn what_the_guest_does_not_staple_is_fetched() {
    for (attestation, without) in
        [(Attestation::Unstapled, "collateral_present"), (Attestation::StapledOver, "validity")]
    {
        let rig = Rig::new(attestation.clone()).await;
        assert_eq!(code(rig.client(None).verdict().await), without, "{attestation:?}");
        assert_eq!(rig.asked(), 0);
        let client = rig.client(Some(rig.builder()));
        assert_eq!(code(client.verdict().await), "ok", "{attestation:?}");
        assert_eq!(rig.asked(), 4);
        // Records keep what was fetched, so that they replay without a network.
        let appraised = client.latest_appraisal().unwrap();
        assert_eq!(appraised.endorsements.tdx, Some(rig.guest.guest.collateral().unwrap()));
        let replayed = appraised.recording().record(&appraised.result, None);
        assert_eq!(replayed.endorsements.tdx, appraised.endorsements.tdx);
    }
}

#[tokio::test]
async fn a_guest_that_staples_what_is_needed_makes_nobody_ask() {
    let rig = Rig::new(Attestation::Honest).await;
    assert_eq!(code(rig.client(Some(rig.builder())).verdict().await), "ok");
    assert_eq!(rig.asked(), 0);
}

#[tokio::test]
async fn a_service_that_fails_is_no_verdict_and_nothing_is_sent() {
    let rig = Rig::new(Attestation::Unstapled).await;
    rig.service.vendor.always(Endpoint::QeIdentity, Misdeed::Status(404, None));
    let error = rig.client(Some(rig.builder())).verdict().await.unwrap_err();
    assert_eq!((error.code(), error.exit_status()), ("endorsement_not_found", 1));
    let requests = rig.guest.guest.requests();
    assert!(requests.iter().all(|request| request.line.ends_with("/attestation")), "{requests:?}");
}

/// What a record then holds is what the guest showed, which is refused for want of collateral.
#[tokio::test]
async fn an_appraisal_without_the_collateral_that_no_service_gave_is_recorded() {
    for (attestation, code) in
        [(Attestation::Unstapled, "collateral_present"), (Attestation::StapledOver, "validity")]
    {
        let rig = Rig::new(attestation.clone()).await;
        rig.service.vendor.always(Endpoint::QeIdentity, Misdeed::Status(404, None));
        let records = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&records);
        let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
        let client = Client::builder(&rig.guest.url(), policy)
            .unwrap()
            .endorsing(Endorsing::new(Arc::new(rig.builder().build()), Update::Standard))
            .record_appraisals(move |appraised| {
                kept.lock().unwrap().push(appraised.recording().record(&appraised.result, None));
                Ok(())
            })
            .build();
        assert_eq!(self::code(client.verdict().await), "endorsement_not_found", "{attestation:?}");
        let records = records.lock().unwrap();
        assert_eq!(records.len(), 1, "{attestation:?}");
        let replayed = confide_record::replay(0, &records[0], &ALGORITHMS).unwrap();
        assert_eq!((replayed.agreement, replayed.result.code), (Agreement::Same, Some(code)));
    }
}

/// Whoever answers in a guest's place must not choose what this machine asks Intel for.
#[tokio::test]
async fn nobody_is_asked_about_a_quote_that_no_platform_has_signed() {
    let rig = Rig::new(Attestation::Unstapled).await;
    let honest = rig.client(None);
    assert_eq!(code(honest.verdict().await), "collateral_present");
    let mut document = EvidenceDocument::decode(&honest.latest_appraisal().unwrap().document).unwrap();
    let CpuEvidence::Tdx { quote } = &mut document.cpu else { panic!("no TDX document") };
    // A byte of MRTD.
    quote.0[200] ^= 1;
    let _ = rig.guest.guest.clone().attesting(Attestation::Fixed(document.encode().unwrap()));
    let client = rig.client(Some(rig.builder()));
    assert_eq!((code(client.verdict().await), rig.asked()), ("quote_signature".to_owned(), 0));

    // A quote of a platform that the policy's root has certified, under a policy with another root.
    let _ = rig.guest.guest.clone().attesting(Attestation::Unstapled);
    let policy = PolicyText::parse(confide_policy::CLIENT.to_owned(), Loaded::Normally).unwrap();
    let endorsing = Endorsing::new(Arc::new(rig.builder().build()), Update::Standard);
    let client = Client::builder(&rig.guest.url(), policy).unwrap().endorsing(endorsing).build();
    assert_eq!((code(client.verdict().await), rig.asked()), ("root_anchor".to_owned(), 0));

    let client = rig.client(Some(rig.builder()));
    assert_eq!((code(client.verdict().await), rig.asked()), ("ok".to_owned(), 4), "the control");
}

/// A service that is away is no evidence against a guest: what rests on its earlier evidence stays to its end.
#[tokio::test]
async fn a_renewal_for_which_no_service_answers_revokes_nothing() {
    let rig = Rig::new(Attestation::Honest).await;
    // Renewed in the last quarter of its time, which is reckoned in whole seconds.
    let policy = PolicyText::parse(guest::policy("per-key", 12), Loaded::AsDanger).unwrap();
    let (sender, mut appraised) = tokio::sync::mpsc::unbounded_channel();
    let client = Client::builder(&rig.guest.url(), policy)
        .unwrap()
        .endorsing(Endorsing::new(Arc::new(rig.builder().build()), Update::Standard))
        .on_appraisal(move |appraised| {
            let _ = sender.send(appraised.result.code);
        })
        .build();
    client.verdict().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // One channel on loan, a second one idle, which is asked for new evidence.
    let (lease, idle) = (client.lease().await.unwrap(), client.lease().await.unwrap());
    drop(idle);
    let _ = rig.guest.guest.clone().attesting(Attestation::Unstapled);
    rig.service.vendor.always(Endpoint::QeIdentity, Misdeed::Status(404, None));
    assert_eq!(appraised.recv().await.unwrap(), None);
    assert_eq!(appraised.recv().await.unwrap(), Some("collateral_present"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!lease.verdict().left(confide_channel::Moment::now()).is_zero(), "not revoked");
}

#[tokio::test]
async fn offline_the_verifier_says_what_is_missing() {
    let rig = Rig::new(Attestation::Unstapled).await;
    let folder = tempfile::tempdir().unwrap();
    let cached = || rig.builder().cache(Some(Cache::at(folder.path().to_owned())));
    let offline = || Some(cached().network(Network::Offline));
    assert_eq!(code(rig.client(offline()).verdict().await), "collateral_present");
    assert_eq!(code(rig.client(Some(cached())).verdict().await), "ok");
    assert_eq!(code(rig.client(offline()).verdict().await), "ok", "from the cache");
    assert_eq!(rig.asked(), 4);
}

#[tokio::test]
async fn other_evidence_is_refused_as_before() {
    let rig = Rig::new(Attestation::ForeignSigner).await;
    assert_eq!(code(rig.client(Some(rig.builder())).verdict().await), "quote_signature");
    let rig = Rig::new(Attestation::Fixed(vec![0])).await;
    assert_eq!(code(rig.client(Some(rig.builder())).verdict().await), "document_format");
    assert_eq!(rig.asked(), 0);
}
