//! Intel's PCS and PCCS, played by a local server, from simulated collateral and from recorded collateral.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use confide_endorser::{
    EndorserError, Intel, Limits, Origin, PckCa, ProxySettings, TdxPlatform, Trust, Update, now,
};
use confide_evidence::tdx::{MAX_CRL_ANSWER, MAX_SIGNED_ANSWER, TcbInfo, collateral_windows};
use confide_evidence::time::parse_rfc3339;
use confide_testkit::vendor::{
    ConnectProxy, Endpoint, FMSPC, Manner, Misdeed, Platform, TlsVersions, Vendor, Window,
};
use support::{LIMITS, Rig, code, intel};

const ALL: [Endpoint; 4] = [Endpoint::TcbInfo, Endpoint::QeIdentity, Endpoint::PckCrl, Endpoint::RootCaCrl];

#[tokio::test]
async fn what_is_fetched_is_what_was_served() {
    for manner in [Manner::Pcs, Manner::Pccs] {
        let rig = Rig::new(manner).await;
        assert_eq!(rig.asked, TdxPlatform { fmspc: FMSPC, ca: PckCa::Platform });
        assert_eq!(rig.fetch().await.unwrap(), rig.platform.served(), "{manner:?}");
        let mut requests = rig.vendor().requests();
        requests.sort();
        let root = match manner {
            Manner::Pcs => "/IntelSGXRootCA.der",
            Manner::Pccs => "/sgx/certification/v4/rootcacrl",
        };
        let mut expected = [
            root,
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            "/tdx/certification/v4/qe/identity?update=standard",
            "/tdx/certification/v4/tcb?fmspc=53494d000000&update=standard",
        ];
        expected.sort();
        assert_eq!(requests, expected, "{manner:?}");
    }
}

#[tokio::test]
async fn the_early_set_and_a_numbered_set_are_asked_for_by_name() {
    let early = Platform::new(|options| options.evaluation_data_number = 21).unwrap().served();
    let rig = Rig::new(Manner::Pcs).await;
    let _same = rig.vendor().clone().endorsing("early", early.clone());
    let endorser = rig.builder().build();
    let number = |update| {
        let endorser = &endorser;
        async move {
            let collateral = endorser.tdx(rig.asked, update, now()).await?;
            Ok::<_, EndorserError>(TcbInfo::parse(&collateral.tcb_info).unwrap().tcb_evaluation_data_number)
        }
    };
    assert_eq!(number(Update::Standard).await.unwrap(), 20);
    assert_eq!(number(Update::Early).await.unwrap(), 21);
    assert_eq!(number(Update::Number(21)).await.unwrap(), 21);
    assert_eq!(code(number(Update::Number(19)).await), "endorsement_not_found");
}

#[tokio::test]
async fn both_sets_are_fetched_where_the_early_one_is_to_be_had_and_another() {
    let rig = Rig::new(Manner::Pcs).await;
    let endorser = rig.builder().build();
    let both = || endorser.tdx(rig.asked, Update::Both, now());
    assert_eq!(both().await.unwrap(), rig.platform.served(), "the service has no early set");
    let vendor = rig.vendor().clone().endorsing("early", rig.platform.served());
    assert_eq!(both().await.unwrap().early, None, "the early set is the standard one");
    let next = Platform::new(|options| options.evaluation_data_number = 21).unwrap().served();
    let vendor = vendor.endorsing("early", next.clone());
    let found = both().await.unwrap();
    let early = found.early.clone().unwrap();
    assert_eq!((early.tcb_info, early.tcb_info_signature), (next.tcb_info.clone(), next.tcb_info_signature));
    assert_eq!(early.qe_identity, next.qe_identity);
    assert_eq!(found.tcb_info, rig.platform.served().tcb_info, "the verdict rests on the standard set");
    // Another signer's set cannot stand beside: the collateral has one chain for both.
    let mut other = next;
    other.tcb_info_issuer_chain = other.pck_crl_issuer_chain.clone();
    let _same = vendor.endorsing("early", other);
    assert_eq!(both().await.unwrap().early, None);
    rig.vendor().next(Endpoint::TcbInfo, Misdeed::Status(500, None));
    assert_eq!(code(both().await), "ok");
}

#[tokio::test]
async fn a_cache_that_ignores_the_number_is_noticed() {
    let rig = Rig::new(Manner::Pccs).await;
    let endorser = rig.builder().build();
    let found = endorser.tdx(rig.asked, Update::Number(19), now()).await;
    assert_eq!(code(found), "endorsement_other_object");
}

#[tokio::test]
async fn unknown_platforms_and_cas_are_not_found() {
    let rig = Rig::new(Manner::Pcs).await;
    let endorser = rig.builder().build();
    for asked in
        [TdxPlatform { fmspc: [1; 6], ..rig.asked }, TdxPlatform { ca: PckCa::Processor, ..rig.asked }]
    {
        let error = endorser.tdx(asked, Update::Standard, now()).await.unwrap_err();
        assert_eq!(error.code(), "endorsement_not_found");
        assert!(error.to_string().contains(&rig.service.address.to_string()), "{error}");
    }
}

/// A misdeed, done to every request of an endpoint: the code, and how often is asked.
fn misdeeds() -> Vec<(Endpoint, Misdeed, &'static str, usize)> {
    use Endpoint::{PckCrl, QeIdentity, RootCaCrl, TcbInfo};
    let text = |text: &str| Misdeed::Body(text.as_bytes().to_vec());
    let unsigned = "{\"tcbInfo\":{\"id\":\"TDX\"}}";
    let location = Some(("location", "https://other.example/".to_owned()));
    let mut all = Vec::new();
    for endpoint in ALL {
        all.extend([
            (endpoint, Misdeed::Status(404, None), "endorsement_not_found", 1),
            (endpoint, Misdeed::Status(410, None), "endorsement_not_found", 1),
            (endpoint, Misdeed::Status(400, None), "endorsement_refused", 1),
            (endpoint, Misdeed::Status(401, None), "endorsement_refused", 1),
            (endpoint, Misdeed::Status(204, None), "endorsement_refused", 1),
            (endpoint, Misdeed::Status(302, location.clone()), "endorsement_redirected", 1),
            (endpoint, Misdeed::Status(500, None), "endorsement_unavailable", 3),
            (endpoint, Misdeed::Status(504, None), "endorsement_unavailable", 3),
            (endpoint, Misdeed::Status(429, None), "endorsement_busy", 3),
            (endpoint, Misdeed::HangUp, "endorsement_unreachable", 3),
            (endpoint, Misdeed::Truncated, "endorsement_unreachable", 3),
            (endpoint, Misdeed::Cut, "endorsement_unreachable", 3),
            (endpoint, Misdeed::MediaType("text/html"), "endorsement_malformed", 1),
            (endpoint, Misdeed::ContentEncoding("gzip"), "endorsement_malformed", 1),
            (endpoint, Misdeed::Endless, "endorsement_too_large", 1),
            (endpoint, text(""), "endorsement_malformed", 1),
            (endpoint, text("{}"), "endorsement_malformed", 1),
            (endpoint, Misdeed::Body(vec![0xff; 100]), "endorsement_malformed", 1),
        ]);
        let most = match endpoint {
            TcbInfo | QeIdentity => MAX_SIGNED_ANSWER,
            _ => MAX_CRL_ANSWER,
        };
        all.push((endpoint, Misdeed::Announced(most + 1), "endorsement_too_large", 1));
        if endpoint != RootCaCrl {
            all.extend([
                (endpoint, Misdeed::RawChain, "endorsement_malformed", 1),
                (endpoint, Misdeed::ChainEncodedTwice, "endorsement_malformed", 1),
                (endpoint, Misdeed::NoChain, "endorsement_malformed", 1),
                (endpoint, Misdeed::TwoChains, "endorsement_malformed", 1),
            ]);
        }
    }
    all.push((TcbInfo, text(unsigned), "endorsement_malformed", 1));
    all.push((PckCrl, text("3082"), "endorsement_malformed", 1));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misdeed_has_its_code_and_only_what_passes_is_asked_again() {
    let cases = misdeeds();
    assert!(cases.len() > 80, "{}", cases.len());
    for (endpoint, misdeed, expected, asked) in cases {
        // A service of its own: a request that an earlier case gave up may still arrive at its service.
        let rig = Rig::new(Manner::Pcs).await;
        rig.vendor().always(endpoint, misdeed.clone());
        let error = rig.fetch().await.unwrap_err();
        assert_eq!(error.code(), expected, "{endpoint:?} {misdeed:?}: {error}");
        assert_eq!(rig.vendor().count(endpoint), asked, "{endpoint:?} {misdeed:?}");
        assert!(!error.hint().is_empty());
    }
    let rig = Rig::new(Manner::Pcs).await;
    rig.vendor().always(Endpoint::TcbInfo, Misdeed::NoChain);
    assert!(rig.fetch().await.is_err());
    rig.vendor().reform();
    assert_eq!(
        rig.fetch().await.unwrap(),
        rig.platform.served(),
        "and a service that is honest again is heard"
    );
}

#[tokio::test]
async fn answers_that_name_their_fault() {
    let rig = Rig::new(Manner::Pcs).await;
    for (misdeed, words) in [
        (Misdeed::RawChain, "tcb-info-issuer-chain: an issuer chain that is not URL-encoded"),
        (Misdeed::ChainEncodedTwice, "an issuer chain that is URL-encoded twice"),
        (Misdeed::NoChain, "without exactly one header field tcb-info-issuer-chain"),
        (Misdeed::MediaType("text/html; charset=utf-8"), "an answer of the type \"text/html\""),
        (Misdeed::Status(302, None), "a redirect (status 302), which is not followed"),
        (Misdeed::Body(b"{}".to_vec()), "missing field `tcbInfo` at line 1 column 2"),
    ] {
        rig.vendor().always(Endpoint::TcbInfo, misdeed);
        let error = rig.fetch().await.unwrap_err().to_string();
        assert!(error.starts_with("TCB info of FMSPC 53494d000000 (standard) from 127.0.0.1:"), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_fault_that_passes_is_not_told() {
    let rig = Rig::new(Manner::Pccs).await;
    for endpoint in ALL {
        rig.vendor().next(endpoint, Misdeed::Status(503, None));
        rig.vendor().next(endpoint, Misdeed::Truncated);
    }
    assert_eq!(rig.fetch().await.unwrap(), rig.platform.served());
    assert_eq!(rig.vendor().requests().len(), 12);
}

#[tokio::test]
async fn the_wish_to_wait_is_kept() {
    let rig = Rig::new(Manner::Pcs).await;
    rig.vendor().next(Endpoint::TcbInfo, Misdeed::Status(429, Some(("retry-after", "1".to_owned()))));
    let start = Instant::now();
    assert_eq!(rig.fetch().await.unwrap(), rig.platform.served());
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(rig.vendor().count(Endpoint::TcbInfo), 2);
}

#[tokio::test]
async fn a_wish_to_wait_longer_than_anybody_waits_ends_it_at_once() {
    let rig = Rig::new(Manner::Pcs).await;
    for status in [429, 503] {
        rig.vendor()
            .always(Endpoint::TcbInfo, Misdeed::Status(status, Some(("retry-after", "3600".to_owned()))));
        let start = Instant::now();
        let error = rig.fetch().await.unwrap_err();
        assert_eq!(error.code(), "endorsement_busy");
        assert!(error.to_string().ends_with("too many requests: come back after 3600 seconds"), "{error}");
        assert!(start.elapsed() < LIMITS.total / 2, "{:?}", start.elapsed());
    }
    assert_eq!(rig.vendor().count(Endpoint::TcbInfo), 2);
}

#[tokio::test]
async fn a_service_that_hangs_or_drips_is_left_in_time() {
    let rig = Rig::new(Manner::Pcs).await;
    let limits = Limits { attempt: Duration::from_millis(300), total: Duration::from_secs(2), ..LIMITS };
    let endorser = rig.builder().limits(limits).build();
    for misdeed in [Misdeed::Silent, Misdeed::Drip(Duration::from_millis(100))] {
        rig.vendor().always(Endpoint::QeIdentity, misdeed.clone());
        let start = Instant::now();
        assert_eq!(code(rig.ask(&endorser).await), "endorsement_timed_out", "{misdeed:?}");
        assert!(start.elapsed() < limits.total + Duration::from_secs(2), "{:?}", start.elapsed());
    }
    // A slow service that answers in time is heard.
    rig.vendor().always(Endpoint::QeIdentity, Misdeed::Late(Duration::from_millis(100)));
    assert_eq!(code(rig.ask(&endorser).await), "ok");
}

#[tokio::test]
async fn nobody_listens() {
    let rig = Rig::new(Manner::Pcs).await;
    let intel = rig.intel();
    let asked = rig.asked;
    drop(rig);
    let endorser = confide_endorser::Endorser::builder().intel(intel).limits(LIMITS).build();
    let error = endorser.tdx(asked, Update::Standard, now()).await.unwrap_err();
    assert_eq!(error.code(), "endorsement_unreachable");
}

#[tokio::test]
async fn objects_of_another_time_are_told_from_faults() {
    let present = now().as_secs();
    let (day, month) = (86_400, 30 * 86_400);
    let windows = [
        ("endorsement_expired", Window { from: present - month, until: present - day }),
        ("endorsement_not_yet_valid", Window { from: present + day, until: present + month }),
    ];
    for (expected, window) in windows {
        for part in 0..4 {
            let rig = Rig::with(Manner::Pcs, |options| {
                let windows = &mut options.windows;
                let parts = [
                    &mut windows.tcb_info,
                    &mut windows.qe_identity,
                    &mut windows.pck_crl,
                    &mut windows.root_ca_crl,
                ];
                *parts.into_iter().nth(part).unwrap() = window;
            })
            .await;
            assert_eq!(code(rig.fetch().await), expected, "part {part}");
        }
    }
    let rig = Rig::new(Manner::Pcs).await;
    let endorser = rig.builder().build();
    let past = parse_rfc3339("2024-01-01T00:00:00Z").unwrap();
    let found = endorser.tdx(rig.asked, Update::Standard, past).await;
    assert_eq!(code(found), "endorsement_not_yet_valid", "services have no past");
}

#[tokio::test]
async fn an_answer_about_another_platform_is_refused() {
    let rig = Rig::new(Manner::Pcs).await;
    let other = Platform::new(|options| options.tcb_info_fmspc = [9; 6]).unwrap().collateral;
    let signature = other.tcb_info_signature.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let body = format!("{{\"tcbInfo\":{},\"signature\":\"{signature}\"}}", other.tcb_info);
    rig.vendor().always(Endpoint::TcbInfo, Misdeed::Body(body.into_bytes()));
    let error = rig.fetch().await.unwrap_err();
    assert_eq!(error.code(), "endorsement_other_object");
    assert!(error.to_string().contains("about TDX 090909090909, not about TDX 53494d000000"), "{error}");
    // The root CA's list in place of the PCK CA's.
    rig.vendor().reform();
    let root = rig.platform.collateral.root_ca_crl.as_bytes().to_vec();
    rig.vendor().always(Endpoint::PckCrl, Misdeed::Body(root));
    assert_eq!(code(rig.fetch().await), "endorsement_other_object");
}

#[tokio::test]
async fn only_the_pinned_certificate_or_a_web_authority_is_trusted() {
    let rig = Rig::new(Manner::Pccs).await;
    let stranger = Vendor::new(Manner::Pccs).unwrap();
    let pinned = |pem: &str| Trust::pinned(pem.as_bytes(), std::path::Path::new("x.pem")).unwrap();
    for trust in [
        Trust::web(),
        pinned(stranger.certificate()),
        // The authority that issued the certificate is not the certificate.
        pinned(rig.vendor().authority()),
    ] {
        let origin = Origin { base: rig.service.url().parse().unwrap(), trust };
        let endorser = rig.builder().intel(Intel::pccs(origin)).build();
        assert_eq!(code(rig.ask(&endorser).await), "endorsement_tls");
    }
    assert_eq!(rig.vendor().requests().len(), 0);
    let both = [stranger.certificate(), rig.vendor().certificate()].concat();
    let origin = Origin { base: rig.service.url().parse().unwrap(), trust: pinned(&both) };
    let endorser = rig.builder().intel(Intel::pccs(origin)).build();
    assert_eq!(code(rig.ask(&endorser).await), "ok", "one of two pinned certificates");
}

#[tokio::test]
async fn a_service_of_tls_1_2_is_spoken_to() {
    let vendor = Vendor::speaking(Manner::Pcs, TlsVersions::Only12).unwrap();
    let rig = Rig::of(vendor, Manner::Pcs, |_| ()).await;
    assert_eq!(rig.fetch().await.unwrap(), rig.platform.served());
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_asked() {
    let rig = Rig::new(Manner::Pccs).await;
    let proxy = ConnectProxy::listen(200).await.unwrap();
    let through = |no_proxy: &'static str| {
        let url = proxy.url().replace("http://", "http://name:word@");
        let settings = ProxySettings::from_variables(|name| match name {
            "HTTPS_PROXY" => Some(url.clone()),
            "NO_PROXY" => Some(no_proxy.to_owned()),
            _ => None,
        });
        rig.builder().proxies(settings.unwrap()).build()
    };
    assert_eq!(rig.ask(&through("elsewhere.example")).await.unwrap(), rig.platform.served());
    let seen = proxy.seen();
    assert_eq!(seen.len(), 4);
    for head in &seen {
        let lower = head.to_ascii_lowercase();
        assert!(head.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", rig.service.address)), "{head}");
        // printf 'name:word' | base64
        assert!(lower.contains("proxy-authorization: basic bmftztp3b3jk\r\n"), "{head}");
    }
    assert_eq!(code(rig.ask(&through("127.0.0.0/8")).await), "ok");
    assert_eq!(proxy.seen().len(), 4, "NO_PROXY goes past it");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let rig = Rig::new(Manner::Pccs).await;
    for (status, asked) in [(407, 4), (403, 4), (502, 12)] {
        let proxy = ConnectProxy::listen(status).await.unwrap();
        let url = proxy.url().replace("http://", "http://name:secret@");
        let settings = ProxySettings::from_variables(|name| (name == "https_proxy").then(|| url.clone()));
        let endorser = rig.builder().proxies(settings.unwrap()).build();
        let error = rig.ask(&endorser).await.unwrap_err();
        assert_eq!(error.code(), "endorsement_proxy");
        let expected = format!("the proxy {} answered {status}", proxy.address);
        assert!(error.to_string().ends_with(&expected) && !error.to_string().contains("secret"), "{error}");
        assert!((1..=asked).contains(&proxy.seen().len()), "{:?}", proxy.seen());
    }
    assert_eq!(rig.vendor().requests().len(), 0);
}

#[tokio::test]
async fn windows_of_collateral_are_those_of_its_parts() {
    let present = now().as_secs();
    let short = Window { from: present - 10, until: present + 10 };
    let platform = Platform::new(|options| options.windows.qe_identity = short).unwrap();
    let windows = collateral_windows(&platform.collateral).unwrap();
    let parts: Vec<&str> = windows.iter().map(|window| window.part.as_str()).collect();
    assert_eq!(
        parts,
        [
            "TCB info",
            "QE identity",
            "root CA CRL",
            "PCK CRL",
            "certificate SIMULATED SGX TCB Signing",
            "certificate SIMULATED SGX Root CA",
            "certificate SIMULATED SGX PCK Platform CA",
        ]
    );
    let first = windows.iter().min_by_key(|window| window.until).unwrap();
    assert_eq!((first.part.as_str(), first.until), ("QE identity", i64::try_from(present + 10).unwrap()));
    let broken = |change: fn(&mut confide_evidence::document::TdxCollateral)| {
        let mut collateral = platform.collateral.clone();
        change(&mut collateral);
        collateral_windows(&collateral).is_err()
    };
    assert!(broken(|one| one.tcb_info.clear()));
    assert!(broken(|one| one.qe_identity.clear()));
    assert!(broken(|one| one.pck_crl = vec![0].into()));
    assert!(broken(|one| one.root_ca_crl = vec![0].into()));
    assert!(broken(|one| one.tcb_info_issuer_chain.clear()));
    assert!(broken(|one| one.pck_crl_issuer_chain.clear()));
}

mod corpus {
    //! Intel's own answers, where the recorded evidence stands beside the repository.

    use super::*;
    use confide_endorser::Endorser;
    use confide_evidence::bytes::{ByteString, Bytes};
    use confide_evidence::document::TdxCollateral;
    use confide_evidence::tdx::{Padding, Quote, SignedObject, qe_identity_answer, tcb_info_answer};
    use rustls_pki_types::UnixTime;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    fn folder() -> PathBuf {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
        std::env::var_os("CONFIDE_CORPUS").map_or(beside, PathBuf::from)
    }

    /// The certificates of a PEM chain, PEM.
    fn pem_chain(bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let end = "-----END CERTIFICATE-----";
        let begin = "-----BEGIN CERTIFICATE-----";
        let parts = text.split(begin).skip(1).filter_map(|part| part.split_once(end));
        parts.map(|(body, _)| format!("{begin}{body}{end}\n")).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn recorded_collateral_comes_through_services_unchanged() {
        let folder = folder();
        let Ok(table) = std::fs::read_to_string(folder.join("tdx-cases.tsv")) else {
            println!("not run: recorded collateral through services: no corpus at {}", folder.display());
            return;
        };
        let mut lines = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let names = lines.next().unwrap();
        let column = |name: &str| names.iter().position(|found| *found == name).unwrap();
        let columns = ["quote", "tcb_info", "qe_identity", "pck_crl", "root_crl", "signing_chain", "time"];
        let columns = columns.map(column);
        let mut seen = BTreeSet::new();
        let mut served = 0;
        for row in lines {
            let [quote, tcb_info, qe_identity, pck_crl, root_crl, signing_chain, time] =
                columns.map(|column| row[column]);
            // One row for each set of collateral.
            if !seen.insert([tcb_info, qe_identity, pck_crl, root_crl, signing_chain].join(" ")) {
                continue;
            }
            let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
            let (quote, tcb_info, qe_identity) = (read(quote), read(tcb_info), read(qe_identity));
            let quote = Quote::parse(&quote, Padding::Zeros).unwrap();
            let platform = TdxPlatform::of_quote(&quote).unwrap();
            let SignedObject { text: tcb_info, signature: tcb_info_signature } =
                tcb_info_answer(&tcb_info).unwrap();
            let SignedObject { text: qe_identity, signature: qe_identity_signature } =
                qe_identity_answer(&qe_identity).unwrap();
            let signing_chain = pem_chain(&read(signing_chain)).concat();
            let collateral = TdxCollateral {
                early: None,
                pck_crl: ByteString(read(pck_crl)),
                tcb_info,
                qe_identity,
                root_ca_crl: ByteString(read(root_crl)),
                tcb_info_signature: Bytes(tcb_info_signature.0),
                pck_crl_issuer_chain: pem_chain(quote.signature.pck_chain)[1..].concat(),
                pck_certificate_chain: None,
                qe_identity_signature,
                tcb_info_issuer_chain: signing_chain.clone(),
                qe_identity_issuer_chain: signing_chain,
            };
            let manner = if served % 2 == 0 { Manner::Pcs } else { Manner::Pccs };
            let vendor = Vendor::new(manner).unwrap().endorsing("standard", collateral.clone());
            let service = vendor.listen().await.unwrap();
            let endorser = Endorser::builder()
                .intel(intel(&service, manner))
                .limits(LIMITS)
                .proxies(ProxySettings::none())
                .build();
            let at = UnixTime::since_unix_epoch(Duration::from_secs(time.parse().unwrap()));
            match endorser.tdx(platform, Update::Standard, at).await {
                Ok(found) => assert_eq!(found, collateral, "{}", row[0]),
                // The corpus also has rows at times at which a part was not valid, and of another platform.
                Err(error) => assert!(
                    ["endorsement_expired", "endorsement_not_yet_valid", "endorsement_not_found"]
                        .contains(&error.code()),
                    "{}: {error}",
                    row[0]
                ),
            }
            served += 1;
        }
        println!("{served} sets of recorded collateral served");
        assert!(served > 50, "{served}");
    }
}
