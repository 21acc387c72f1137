//! Every recorded NVIDIA report and chain parses to the fields that the corpus' index gives for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

#[path = "support/nvidia_corpus.rs"]
mod corpus;

use confide_evidence::hex;
use confide_evidence::nvidia::{DeviceChain, DeviceKind, Family, Fwid, Mode, Report, ReportError, Toggle};
use serde_json::Value;

#[test]
fn recorded_reports_parse_to_the_indexed_fields() {
    let Some(folder) = corpus::folder("field comparison") else { return };
    let (mut reports, mut compared) = (0, 0);
    for item in corpus::items(&folder) {
        let report = Report::parse(&item.report).unwrap_or_else(|error| panic!("{}: {error}", item.source));
        let chain =
            DeviceChain::parse(&item.chain).unwrap_or_else(|error| panic!("{}: {error}", item.source));
        reports += 1;
        assert_eq!(report.signed.len() + 96, item.report.len(), "{}", item.source);
        assert_eq!(chain.family().unwrap().kind(), report.kind, "{}", item.source);
        assert_eq!(chain.pdi().unwrap().0, report.kind, "{}", item.source);
        let found = indexed_fields(&report, &chain, item.report.len());
        for (name, expected) in &item.expected {
            let Some((_, found)) = found.iter().find(|(field, _)| field == name) else { continue };
            assert_eq!(found, expected, "{}: {name}", item.source);
            compared += 1;
        }
    }
    eprintln!("{reports} recorded reports parsed, {compared} fields compared with the index");
    assert!(compared > 19 * 10);
}

/// The fields of a report in the words of the index.
fn indexed_fields(report: &Report<'_>, chain: &DeviceChain, length: usize) -> Vec<(&'static str, String)> {
    let opaque = &report.opaque;
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let toggle = |value: Option<Toggle>| match value {
        None => "-".to_owned(),
        Some(Toggle::Enabled) => "aa".to_owned(),
        Some(Toggle::Disabled) => "55".to_owned(),
    };
    let mode = match (opaque.feature_flag, report.mode()) {
        (None, _) => "nofield36",
        (Some(_), Some(Mode::SinglePassthrough)) => "SPT",
        (Some(_), Some(Mode::MultiPassthrough)) => "MPT",
        (Some(_), Some(Mode::ProtectedPcie)) => "PPCIE",
        (Some(_), other) => panic!("{other:?}"),
    };
    let board = match report.kind {
        DeviceKind::Switch => "LS10".to_owned(),
        DeviceKind::Gpu => {
            [opaque.project, opaque.project_sku, opaque.chip_sku].map(Option::unwrap_or_default).join("_")
        }
    };
    let fwid = match (opaque.fwid, chain.fwid().and_then(Fwid::digest)) {
        (None, _) => "absent",
        (Some(report), Some(certificate)) if report == certificate => "match",
        _ => "MISMATCH",
    };
    vec![
        ("len", length.to_string()),
        ("nonce", hex::encode(report.nonce)),
        ("driver", or_dash(opaque.driver_version)),
        ("vbios", or_dash(opaque.vbios_version.as_deref())),
        ("board", board),
        ("mode", mode.to_owned()),
        ("chip", or_dash(opaque.chip_info)),
        ("f21", toggle(opaque.protected_pcie)),
        ("nvdec", toggle(opaque.nvdec0)),
        ("fwid", fwid.to_owned()),
        ("leaf serial", hex::encode(&chain.leaf().serial)),
    ]
}

#[test]
fn reference_parses_of_nvidias_sdk_agree() {
    let Some(folder) = corpus::folder("comparison with NVIDIA's parser") else { return };
    let sdk = folder.join("nvidia-attestation-sdk");
    for (request, expected, source) in [
        ("spdm_req_parsed_output.json", "spdm_parsed_output.json", "hopper-spt-580.159.03/report.hex"),
        (
            "switch_spdm_req_parsed_output.json",
            "switch_spdm_parsed_output.json",
            "ls10-96.10.55.00.01/report.hex",
        ),
    ] {
        let items = corpus::items(&folder);
        let item = items.iter().find(|item| item.source.contains(source)).unwrap();
        let report = Report::parse(&item.report).unwrap();
        let expected = corpus_json(&sdk.join("expected-parse").join(expected));
        let hex = |value: &Value| hex::decode(value.as_str().unwrap().strip_prefix("0x").unwrap()).unwrap();
        let request = corpus_json(&sdk.join("expected-parse").join(request));
        let fields = ["SPDMVersion", "RequestResponseCode", "Param1", "Param2", "Nonce", "SlotIDParam"];
        let written: Vec<u8> = fields.iter().flat_map(|field| hex(&request[field])).collect();
        assert_eq!(written, item.report[..37], "{source}: the request as NVIDIA's parser reads it");
        assert_eq!(request.as_object().unwrap().len(), fields.len(), "{source}");
        assert_eq!(report.nonce.as_slice(), hex(&request["Nonce"]), "{source}");
        assert_eq!(report.blocks.len() as u64, expected["NumberOfBlocks"].as_u64().unwrap());
        assert_eq!(report.responder_nonce.as_slice(), hex(&expected["Nonce"]));
        assert_eq!(report.signature.as_slice(), hex(&expected["Signature"]));
        for block in &report.blocks {
            let value = &expected["MeasurementRecord"]["MeasurementBlocks"][block.index.to_string()];
            assert_eq!(block.value.as_slice(), hex(&value["DMTFSpecMeasurementValue"]), "{}", block.index);
        }
        let fields = &expected["OpaqueData"]["OpaqueDataField"];
        let by_name: [(&str, u16); 9] = [
            ("VBIOS_VERSION", 6),
            ("BOARD_ID", 14),
            ("CHIP_SKU", 15),
            ("PROJECT", 17),
            ("PROJECT_SKU", 18),
            ("DRIVER_VERSION", 3),
            ("FWID", 20),
            ("PROTECTED_PCIE_STATUS", 21),
            ("DEVICE_PDI", 22),
        ];
        let mut compared = 0;
        for (name, id) in by_name {
            let Some(Value::String(text)) = fields.get(format!("OPAQUE_FIELD_ID_{name}")) else { continue };
            let Some(value) = report.opaque.record(id) else { panic!("{source}: no record {id}") };
            let Some(digits) = text.strip_prefix("0x") else { continue };
            assert_eq!(value, hex::decode(digits).unwrap(), "{source}: {name}");
            compared += 1;
        }
        eprintln!("{source}: {compared} opaque fields compared with NVIDIA's parser");
        assert!(compared > 0, "{source}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the corpus lies in files")]
fn corpus_json(file: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn both_forms_of_the_firmware_id_occur() {
    let Some(folder) = corpus::folder("firmware id forms") else { return };
    let (mut composite, mut tcb_info) = (0, 0);
    for item in corpus::items(&folder) {
        let chain = DeviceChain::parse(&item.chain).unwrap();
        match chain.fwid().unwrap() {
            Fwid::Composite { spki, .. } => {
                assert_eq!(spki, &chain.brom().spki, "{}", item.source);
                composite += 1;
            }
            Fwid::TcbInfo(info) => {
                assert_eq!(info.vendor.as_deref(), Some("NVIDIA"));
                assert_eq!(info.fwids.len(), 2);
                assert_eq!(info.fwids[1], [0; 48]);
                assert_eq!(info.flags.as_deref(), Some(&[0, 0x80, 0, 0, 1][..]));
                assert!(matches!(chain.family(), Some(Family::Gb100 | Family::Gb20x)));
                tcb_info += 1;
            }
        }
    }
    eprintln!("{composite} CompositeDeviceID, {tcb_info} TcbInfo");
    assert!(composite > 0 && tcb_info > 0);
}

#[test]
fn topology_fields_of_one_machine_agree_with_certified_pdis() {
    let Some(folder) = corpus::folder("topology fields") else { return };
    let items = corpus::items(&folder);
    let machine: Vec<_> =
        items.iter().filter(|item| item.source.starts_with("nvidia-nvtrust/ppcie-8gpu-4switch/")).collect();
    assert_eq!(machine.len(), 12);
    let pdis = |kind: DeviceKind| -> Vec<[u8; 8]> {
        let chains = machine.iter().map(|item| DeviceChain::parse(&item.chain).unwrap().pdi().unwrap());
        let mut pdis: Vec<_> = chains.filter(|(found, _)| *found == kind).map(|(_, pdi)| pdi).collect();
        pdis.sort_unstable();
        pdis
    };
    for item in &machine {
        let report = Report::parse(&item.report).unwrap();
        let chain = DeviceChain::parse(&item.chain).unwrap();
        match report.kind {
            DeviceKind::Gpu => {
                let mut listed: Vec<[u8; 8]> = report.opaque.switch_pdis.unwrap().to_vec();
                listed.iter_mut().for_each(|pdi| pdi.reverse());
                listed.sort_unstable();
                listed.dedup();
                listed.retain(|pdi| *pdi != [0; 8]);
                assert_eq!(listed, pdis(DeviceKind::Switch));
            }
            DeviceKind::Switch => {
                assert_eq!(report.opaque.device_pdi, Some(&chain.pdi().unwrap().1));
                assert_eq!(report.opaque.lock_switch_status, Some(1));
                let mut listed = report.opaque.switch_gpus.unwrap().pdis.to_vec();
                listed.sort_unstable();
                assert_eq!(listed, pdis(DeviceKind::Gpu));
            }
        }
    }
}

#[test]
fn every_cut_and_every_extra_byte_is_refused() {
    let Some(folder) = corpus::folder("truncation") else { return };
    let items = corpus::items(&folder);
    let mut cut = 0;
    for item in items.iter().step_by(7) {
        for length in 0..item.report.len() {
            assert!(Report::parse(&item.report[..length]).is_err(), "{} cut to {length}", item.source);
            cut += 1;
        }
        let longer = [&item.report[..], &[0]].concat();
        assert_eq!(Report::parse(&longer).unwrap_err(), ReportError::TrailingBytes(1));
    }
    eprintln!("{cut} truncated reports refused");
}
