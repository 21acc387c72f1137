//! Simulated quotes and collateral against the crate `dcap-qvl`, a verifier that shares no code with this project.

#![allow(clippy::unwrap_used, reason = "tests")]

use confide_simulator::{
    FMSPC, PckCa, PlatformOptions, QuoteFlaw, QuoteForm, Revocable, SimulatedPlatform, SimulatedTd, SvnLevel,
    TdMeasurements, Window, tdx_root_certificate,
};
use dcap_qvl::verify::{QuoteVerifier, VerifiedReport};

const NOW: u64 = 1_780_000_000;
const DAY: u64 = 86_400;
/// A TEE_TCB_SVN above the one that simulated platforms start their TDs with.
const NEWER: [u8; 16] = [13, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn options() -> PlatformOptions {
    PlatformOptions::at(NOW)
}

fn platform(options: PlatformOptions) -> SimulatedPlatform {
    SimulatedPlatform::new(options).unwrap()
}

fn verify(platform: &SimulatedPlatform, quote: &[u8], now: u64) -> Result<VerifiedReport, String> {
    let mut collateral: dcap_qvl::QuoteCollateralV3 =
        serde_json::from_str(&platform.collateral_json()).unwrap();
    // Without it the chain is the quote's own, which is what the flaws are about.
    collateral.pck_certificate_chain = None;
    QuoteVerifier::new(tdx_root_certificate().to_vec())
        .verify(quote, &collateral, now)
        .map_err(|error| format!("{error:#}"))
}

fn quote(platform: &SimulatedPlatform) -> Vec<u8> {
    platform.quote(&SimulatedTd::default().report([7; 64]))
}

#[test]
fn a_quote_verifies_and_its_fields_are_those_reported() {
    let platform = platform(options());
    let mut td = SimulatedTd::default();
    td.extend_rtmr3(&[3; 48]);
    let verified = verify(&platform, &platform.quote(&td.report([7; 64])), NOW).unwrap();
    assert_eq!(verified.status, "UpToDate");
    assert_eq!(verified.ppid, platform.ppid());
    let body = verified.report.as_td10().unwrap();
    assert_eq!(body.report_data, [7; 64]);
    assert_eq!(body.rt_mr3, td.rtmr3());
    assert_eq!(body.mr_td, td.measurements().mrtd);
    assert_eq!(body.rt_mr0, td.measurements().rtmr[0]);
    assert_eq!(body.td_attributes, td.measurements().td_attributes);
    assert_eq!(body.mr_seam, platform.options().seam.mrseam);
    let parsed = dcap_qvl::quote::Quote::parse(&quote(&platform)).unwrap();
    assert_eq!(dcap_qvl::intel::quote_fmspc(&parsed).unwrap(), FMSPC);
}

#[test]
fn quotes_of_version_5_verify_in_each_form_of_the_body() {
    for form in [QuoteForm::V5Td10, QuoteForm::V5Td15, QuoteForm::V5Td15Extended] {
        let platform = platform(PlatformOptions { quote_form: form, tee_tcb_svn_2: NEWER, ..options() });
        let td = SimulatedTd::default();
        let verified = verify(&platform, &platform.quote(&td.report([7; 64])), NOW).unwrap();
        assert_eq!(verified.status, "UpToDate", "{form:?}");
        let body = verified.report.as_td10().unwrap();
        assert_eq!((body.report_data, body.rt_mr2), ([7; 64], td.measurements().rtmr[2]), "{form:?}");
        let td15 = verified.report.as_td15().map(|body| (body.tee_tcb_svn2, body.mr_service_td));
        assert_eq!(td15, (form != QuoteForm::V5Td10).then_some((NEWER, [0; 48])), "{form:?}");
        let extended = verified.report.as_td15_ex().map(|body| (body.vmid, body.td_id));
        let expected = (0, td.measurements().extended.td_id);
        assert_eq!(extended, (form == QuoteForm::V5Td15Extended).then_some(expected), "{form:?}");
    }
}

#[test]
fn each_field_of_the_extended_body_lies_where_dcap_qvl_reads_it() {
    let platform = platform(PlatformOptions { quote_form: QuoteForm::V5Td15Extended, ..options() });
    let mut measurements = TdMeasurements::default();
    let extended = &mut measurements.extended;
    extended.device_info = [1; 48];
    extended.init_service_td = [2; 48];
    extended.init_service_td_attributes = [3; 8];
    extended.init_cpu_svn = [4; 16];
    extended.init_tee_tcb_svn = [5; 16];
    extended.init_fmspc = [6; 12];
    extended.current_service_td = [7; 48];
    extended.current_service_td_attributes = [8; 8];
    let quote = platform.quote(&SimulatedTd::new(measurements).report([0; 64]));
    let report = verify(&platform, &quote, NOW).unwrap().report;
    let body = report.as_td15_ex().unwrap();
    assert_eq!((body.dev_info, body.init_service_td_hash), ([1; 48], [2; 48]));
    assert_eq!((body.init_service_td_attributes, body.init_cpu_svn), ([3; 8], [4; 16]));
    assert_eq!((body.init_tee_tcb_svn, body.init_tee_fmspc), ([5; 16], [6; 12]));
    assert_eq!((body.cur_service_td_hash, body.cur_service_td_attributes), ([7; 48], [8; 8]));
}

#[test]
fn a_body_descriptor_that_does_not_fit_is_rejected() {
    let platform = platform(PlatformOptions { quote_form: QuoteForm::V5Td15, ..options() });
    let report = SimulatedTd::default().report([7; 64]);
    for flaw in [QuoteFlaw::BodyType(1), QuoteFlaw::BodyType(5), QuoteFlaw::BodySize(647)] {
        let quote = platform.flawed_quote(&report, std::slice::from_ref(&flaw));
        assert!(verify(&platform, &quote, NOW).is_err(), "{flaw:?}");
    }
}

#[test]
fn platforms_under_the_processor_ca_verify_and_can_be_revoked() {
    let processor = PlatformOptions { pck_ca: PckCa::Processor, ..options() };
    let platform_ = platform(processor.clone());
    assert_eq!(verify(&platform_, &quote(&platform_), NOW).unwrap().status, "UpToDate");
    for revoked in [Revocable::PckCertificate, Revocable::PckCa] {
        let platform = platform(PlatformOptions { revoked: vec![revoked], ..processor.clone() });
        let error = verify(&platform, &quote(&platform), NOW).unwrap_err();
        assert!(error.to_lowercase().contains("revoked"), "{revoked:?}: {error}");
    }
}

#[test]
fn every_tampered_region_is_rejected() {
    let platform = platform(options());
    let quote = quote(&platform);
    // Header, body, signature, attestation key, QE report, QE report signature, QE auth data.
    for offset in [40, 60, 180, 380, 600, 640, 720, 780, 1160, 1240] {
        let mut tampered = quote.clone();
        tampered[offset] ^= 1;
        assert!(
            verify(&platform, &tampered, NOW).is_err(),
            "the bit at byte {offset} is covered by no signature"
        );
    }
    assert!(verify(&platform, &quote, NOW).is_ok());
}

#[test]
fn levels_give_the_statuses_that_they_name() {
    for status in
        ["OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"]
    {
        let mut options = options();
        options.tcb_levels[0].verdict = SvnLevel::new(status, &["INTEL-SA-00837"]);
        let platform = platform(options);
        let verified = verify(&platform, &quote(&platform), NOW).unwrap();
        assert_eq!(verified.status, status);
        assert_eq!(verified.advisory_ids, ["INTEL-SA-00837"]);
    }
}

#[test]
fn short_svns_fall_to_lower_levels_or_to_none() {
    let mut older = options();
    older.sgx_svn[0] = 3;
    older.sgx_svn[1] = 3;
    let older = platform(older);
    assert_eq!(verify(&older, &quote(&older), NOW).unwrap().status, "OutOfDate");

    let mut module = options();
    module.tee_tcb_svn[0] = 7;
    let module = platform(module);
    assert_eq!(verify(&module, &quote(&module), NOW).unwrap().status, "OutOfDate");

    let mut none = options();
    none.pce_svn = 1;
    let none = platform(none);
    assert!(verify(&none, &quote(&none), NOW).unwrap_err().contains("No matching TCB level"));
}

#[test]
fn flawed_quotes_are_rejected() {
    let platform = platform(options());
    let flaws = [
        QuoteFlaw::QeBinding,
        QuoteFlaw::QeReportSigner,
        QuoteFlaw::QuoteSigner,
        QuoteFlaw::InnerCertificationType(4),
        QuoteFlaw::ReversedChain,
        QuoteFlaw::VendorId,
        QuoteFlaw::Version(6),
        QuoteFlaw::TeeType(0),
        QuoteFlaw::AttestationKeyType(3),
    ];
    let report = SimulatedTd::default().report([7; 64]);
    for flaw in flaws {
        let quote = platform.flawed_quote(&report, std::slice::from_ref(&flaw));
        assert!(verify(&platform, &quote, NOW).is_err(), "{flaw:?}");
    }
    // What a stricter verifier finds: dcap-qvl does not look, which shows that the rest of such a quote is in order.
    for flaw in [
        QuoteFlaw::OuterCertificationType(5),
        QuoteFlaw::QeReportDataTail,
        QuoteFlaw::ChainWithoutRoot,
        QuoteFlaw::ForeignRoot,
    ] {
        let quote = platform.flawed_quote(&report, std::slice::from_ref(&flaw));
        assert!(verify(&platform, &quote, NOW).is_ok(), "{flaw:?}");
    }
}

#[test]
fn endorsements_hold_inside_their_windows_only() {
    let past = Window { from: NOW - 60 * DAY, until: NOW - DAY };
    let future = Window { from: NOW + DAY, until: NOW + 60 * DAY };
    for window in [past, future] {
        let windows: [fn(&mut PlatformOptions) -> &mut Window; 3] = [
            |options| &mut options.windows.pck_certificate,
            |options| &mut options.windows.tcb_info,
            |options| &mut options.windows.qe_identity,
        ];
        for set in windows {
            let mut options = options();
            *set(&mut options) = window;
            let platform = platform(options);
            assert!(verify(&platform, &quote(&platform), NOW).is_err(), "{window:?}");
        }
    }
    let crls: [fn(&mut PlatformOptions) -> &mut Window; 2] =
        [|options| &mut options.windows.root_ca_crl, |options| &mut options.windows.pck_crl];
    for set in crls {
        let mut options = options();
        *set(&mut options) = past;
        let platform = platform(options);
        assert!(verify(&platform, &quote(&platform), NOW).is_err());
    }
}

#[test]
fn revoked_certificates_are_rejected() {
    for revoked in [Revocable::PckCertificate, Revocable::PckCa, Revocable::TcbSigning] {
        let mut options = options();
        options.revoked = vec![revoked];
        let platform = platform(options);
        let error = verify(&platform, &quote(&platform), NOW).unwrap_err();
        assert!(error.to_lowercase().contains("revoked"), "{revoked:?}: {error}");
    }
}

#[test]
fn another_platforms_collateral_does_not_help_a_foreign_root() {
    let platform = platform(options());
    let mut collateral: dcap_qvl::QuoteCollateralV3 =
        serde_json::from_str(&platform.collateral_json()).unwrap();
    collateral.pck_certificate_chain = None;
    let intel = QuoteVerifier::new_prod().verify(&quote(&platform), &collateral, NOW);
    assert!(intel.is_err(), "Intel's root must not accept a simulated quote");
}

#[test]
fn a_debug_td_is_refused() {
    let platform = platform(options());
    let mut measurements = TdMeasurements::default();
    measurements.td_attributes[0] |= 1;
    let quote = platform.quote(&SimulatedTd::new(measurements).report([7; 64]));
    assert!(verify(&platform, &quote, NOW).unwrap_err().contains("Debug"));
}

#[test]
fn an_empty_window_is_an_error() {
    let mut options = options();
    options.windows.pck_crl = Window { from: NOW, until: NOW };
    assert!(SimulatedPlatform::new(options).is_err());
    assert!(SimulatedPlatform::new(PlatformOptions::at(253_402_300_800)).is_err());
}

#[test]
fn platforms_of_different_seeds_are_different() {
    let first = platform(options());
    let second = platform(PlatformOptions { seed: 1, ..options() });
    assert_ne!(first.ppid(), second.ppid());
    assert!(
        verify(&second, &quote(&first), NOW).is_ok(),
        "the collateral endorses every platform of the TCB"
    );
    assert_ne!(first.collateral().pck_certificate_chain, second.collateral().pck_certificate_chain);
}
