//! Every recorded evidence list is read whole, and every recorded file of evidence in its encoding.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test that reads the corpus and prints what it counted"
)]

#[path = "support/nvidia_corpus.rs"]
mod corpus;

use confide_evidence::document::DeviceKind;
use confide_evidence::nvidia::{
    Architecture, DeviceChain, DriverVersion, ListError, OperationalFlag, Report, VbiosVersion, decoded,
    device_of, evidence_list,
};
use confide_evidence::{hex, nvidia};

/// The recorded lists: file, architecture, devices.
const LISTS: [(&str, Architecture, usize); 11] = [
    ("nvidia-attestation-sdk/hopper-ppcie-590.12/evidence.json", Architecture::Hopper, 1),
    ("nvidia-attestation-sdk/evidence/hopper_evidence.json", Architecture::Hopper, 1),
    ("nvidia-attestation-sdk/evidence/hopper_evidence_cert_hold.json", Architecture::Hopper, 1),
    ("nvidia-attestation-sdk/evidence/multi_gpu_hopper.json", Architecture::Hopper, 4),
    ("nvidia-attestation-sdk/evidence/switch_evidence_ls10.json", Architecture::Ls10, 1),
    ("nvidia-attestation-sdk/evidence/multi_switch_ls10.json", Architecture::Ls10, 4),
    ("nvidia-nvtrust/ppcie-8gpu-4switch/gpu_evidence.json", Architecture::Hopper, 8),
    ("nvidia-nvtrust/ppcie-8gpu-4switch/switch_evidence.json", Architecture::Ls10, 4),
    ("derived/google-ppcie-gpu_evidence.json", Architecture::Hopper, 8),
    ("derived/google-ppcie-switch_evidence.json", Architecture::Ls10, 4),
    ("derived/google-mpt-gpu_evidence.json", Architecture::Blackwell, 8),
];

#[test]
fn recorded_lists_have_the_devices_of_the_index() {
    let Some(folder) = corpus::folder_for("11 recorded evidence lists") else { return };
    let mut devices = 0;
    for (file, arch, count) in LISTS {
        let list = evidence_list(&std::fs::read(folder.join(file)).unwrap());
        let list = list.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(list.len(), count, "{file}");
        for listed in list {
            assert_eq!((listed.arch, listed.device.kind), (arch, arch.kind()), "{file}");
            let report = Report::parse(listed.device.report.as_bytes()).unwrap();
            assert_eq!(*report.nonce, listed.nonce, "{file}");
            let chain = DeviceChain::parse(listed.device.chain.as_bytes()).unwrap();
            assert_eq!(chain.family().unwrap().kind(), report.kind, "{file}");
            let again = device_of(listed.device.report.as_bytes(), listed.device.chain.as_bytes()).unwrap();
            assert_eq!(again, listed.device, "{file}");
            devices += 1;
        }
    }
    eprintln!("{} recorded evidence lists with {devices} devices read", LISTS.len());
}

#[test]
fn every_list_of_the_index_is_compared() {
    let Some(folder) = corpus::folder_for("the count of evidence lists in the index") else { return };
    let index = std::fs::read_to_string(folder.join("INDEX.md")).unwrap();
    let mut section = "";
    for line in index.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, path, _, _, _, "evidence", _, computed, ..] = columns.as_slice() else { continue };
        let (_, _, count) = LISTS.iter().find(|(file, ..)| *file == format!("{section}{path}")).expect(path);
        assert!(computed.starts_with(&format!("{count} items; ")), "{path}");
    }
}

#[test]
fn recordings_of_python_objects_are_another_form() {
    let Some(folder) = corpus::folder_for("2 recordings of Google's") else { return };
    for file in ["ppcie-8gpu-4switch/test_ppcie_data.json", "blackwell-mpt-8gpu/test_mpt_data.json"] {
        let json = std::fs::read(folder.join("google-go-nvattest-tools").join(file)).unwrap();
        assert!(matches!(evidence_list(&json), Err(ListError::Json(_))), "{file}");
    }
}

#[test]
fn recorded_files_are_decoded_by_their_content() {
    let Some(folder) = corpus::folder_for("recorded reports and chains in files of their own") else {
        return;
    };
    let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for (set, report, kind) in [
        ("nvidia-attestation-sdk/hopper-spt-580.159.03", "report.hex", DeviceKind::NvidiaGpu),
        ("nvidia-attestation-sdk/blackwell-gb100-575.32", "report.hex", DeviceKind::NvidiaGpu),
        ("nvidia-attestation-sdk/ls10-96.10.55.00.01", "report.hex", DeviceKind::NvidiaSwitch),
        ("google-go-nvattest-tools/hopper-550.90.07-full", "report.bin", DeviceKind::NvidiaGpu),
        ("google-go-nvattest-tools/ls10-1234", "report.bin", DeviceKind::NvidiaSwitch),
    ] {
        let (report, chain) = (file(&format!("{set}/{report}")), file(&format!("{set}/chain.pem")));
        let device = device_of(&report, &chain).unwrap_or_else(|error| panic!("{set}: {error}"));
        assert_eq!(device.kind, kind, "{set}");
        assert_eq!(device.chain.as_bytes(), chain, "{set}");
        let hexadecimal = hex::encode(device.report.as_bytes());
        assert_eq!(decoded(hexadecimal.as_bytes()).as_ref(), Ok(&device.report.0), "{set}");
        let ders = decoded(&chain).unwrap();
        let of_ders = device_of(&report, &ders).unwrap();
        let [one, other] =
            [&of_ders, &device].map(|device| DeviceChain::parse(device.chain.as_bytes()).unwrap());
        assert_eq!(one, other, "{set}");
    }
}

#[test]
fn recorded_versions_and_flags_are_known() {
    let Some(folder) = corpus::folder("versions, unknown records and flags") else { return };
    let mut flags = 0;
    for item in corpus::items(&folder) {
        let report = Report::parse(&item.report).unwrap();
        assert!(report.opaque.unknown_ids().is_empty(), "{}", item.source);
        if let Some(driver) = report.opaque.driver_version {
            assert_eq!(driver.parse::<DriverVersion>().unwrap().to_string(), driver, "{}", item.source);
        }
        assert_eq!(report.opaque.driver_version.is_some(), report.kind == nvidia::DeviceKind::Gpu);
        let vbios = report.opaque.vbios_version.unwrap();
        assert_eq!(vbios.parse::<VbiosVersion>().unwrap().to_string(), vbios, "{}", item.source);
        let chain = DeviceChain::parse(&item.chain).unwrap();
        if let Some(nvidia::Fwid::TcbInfo(info)) = chain.fwid() {
            let expected = vec![OperationalFlag::NotConfigured, OperationalFlag::FixedWidth];
            assert_eq!(info.operational_flags(), Some(expected), "{}", item.source);
            flags += 1;
        }
    }
    assert!(flags > 0);
}
