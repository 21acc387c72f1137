//! Simulated GPU evidence, checked by byte offsets and by signatures made with other code than the encoders'.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey,
};
use confide_simulator::{
    CertificateFlaw, FlawedCertificate, FwidKey, GPU_ROOT_SPKI_SHA256, GpuChip, GpuOptions, NodeOptions,
    SimulatedGpu, SimulatedNode, SimulatedSwitch, SwitchOptions, Window, gpu_root_certificate,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

const NONCE: [u8; 32] = [0x5a; 32];

fn chain(gpu: &SimulatedGpu) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(gpu.chain_pem().as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn parsed(der: &CertificateDer<'static>) -> X509Certificate<'static> {
    X509Certificate::from_der(Box::leak(der.to_vec().into_boxed_slice())).unwrap().1
}

/// Opaque records in order, type and value.
fn opaque(report: &[u8]) -> Vec<(u16, &[u8])> {
    let record = usize::from(u16::from_le_bytes([report[42], report[43]]));
    let mut left = &report[37 + 8 + record + 32 + 2..report.len() - 96];
    let mut found = Vec::new();
    while let [a, b, c, d, rest @ ..] = left {
        let (value, more) = rest.split_at(usize::from(u16::from_le_bytes([*c, *d])));
        found.push((u16::from_le_bytes([*a, *b]), value));
        left = more;
    }
    found
}

/// The value of one opaque record.
fn field(report: &[u8], id: u16) -> Option<&[u8]> {
    opaque(report).into_iter().find(|(found, _)| *found == id).map(|(_, value)| value)
}

#[test]
fn the_options_of_a_hopper_give_the_same_bytes_as_ever() {
    let linked = GpuOptions {
        switch_pdis: vec![[1; 8], [2; 8]],
        report_fwid: None,
        feature_flag: 2,
        ..GpuOptions::hopper(3)
    };
    for (options, digest) in [
        (GpuOptions::hopper(0), "d03235fa4fa165e209caed055417368a1238c160b71acec565ec91b19af65ffd"),
        (GpuOptions::hopper(7), "68c161001e251633c260d5e88f16e06cd06fc1a3a755a7fe46e227317d00c0d3"),
        (linked, "723e8b10195afd81eba3d07e83e756a0ed843a9bdf55d2223f42007818564689"),
    ] {
        let gpu = SimulatedGpu::with_options(options).unwrap();
        let found = Sha256::digest([gpu.chain_pem().as_bytes(), &gpu.report(NONCE)].concat());
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest);
    }
}

#[test]
fn a_report_has_the_layout_of_a_hopper() {
    let report = SimulatedGpu::new(0).unwrap().report(NONCE);
    assert_eq!(report[..4], [0x11, 0xe0, 0x01, 0xff]);
    assert_eq!(report[4..36], NONCE);
    let response = &report[37..];
    assert_eq!(response[..8], [0x11, 0x60, 0, 0, 64, 0xc0, 0x0d, 0]);
    for index in 0..64 {
        let block = &response[8 + index * 55..8 + (index + 1) * 55];
        assert_eq!(block[..7], [index as u8 + 1, 1, 51, 0, 1, 48, 0]);
    }
    let opaque_at = 8 + 3520 + 32;
    let length = usize::from(u16::from_le_bytes([response[opaque_at], response[opaque_at + 1]]));
    assert_eq!(response.len(), opaque_at + 2 + length + 96);
    let mut opaque = &response[opaque_at + 2..][..length];
    let mut order = Vec::new();
    let mut records = BTreeMap::new();
    while !opaque.is_empty() {
        let id = u16::from_le_bytes([opaque[0], opaque[1]]);
        let size = usize::from(u16::from_le_bytes([opaque[2], opaque[3]]));
        order.push(id);
        records.insert(id, &opaque[4..4 + size]);
        opaque = &opaque[4 + size..];
    }
    assert_eq!(order, [6, 14, 15, 16, 17, 18, 19, 3, 4, 12, 13, 11, 20, 21, 34, 36]);
    assert_eq!(records[&3], b"580.95.05\0");
    assert_eq!((records[&21], records[&34], records[&36]), (&[0x55][..], &[1, 0][..], &[0, 0][..]));
    assert_eq!(records[&12].len(), 256);
    assert_eq!(records[&20], GpuOptions::hopper(0).certificate_fwid);
}

#[test]
fn the_leaf_key_signs_everything_before_the_signature() {
    let gpu = SimulatedGpu::new(0).unwrap();
    let report = gpu.report(NONCE);
    let (signed, signature) = report.split_at(report.len() - 96);
    let chain = chain(&gpu);
    let leaf = parsed(&chain[0]);
    let key =
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, leaf.public_key().subject_public_key.data.as_ref());
    key.verify(signed, signature).unwrap();
    let mut tampered = signed.to_vec();
    tampered[4] ^= 1;
    assert!(key.verify(&tampered, signature).is_err());
    assert!(key.verify(&tampered, &gpu.resign(&[&tampered, signature].concat())[tampered.len()..]).is_ok());
}

#[test]
fn a_leaf_certificate_ends_where_it_is_told_to() {
    let leaf_window = Window { from: 1_700_000_000, until: 1_800_000_000 };
    let options = GpuOptions { leaf_window, ..GpuOptions::hopper(0) };
    let usual = chain(&SimulatedGpu::new(0).unwrap());
    let told = chain(&SimulatedGpu::with_options(options).unwrap());
    assert_eq!(usual[1..], told[1..]);
    let window = |der| {
        let validity = parsed(der).validity().clone();
        (validity.not_before.timestamp(), validity.not_after.timestamp())
    };
    assert_eq!(window(&told[0]), (1_700_000_000, 1_800_000_000));
    assert_eq!(window(&usual[0]), window(&usual[1]));
}

/// Checks links, names and key usages of a chain: its certificates.
fn linked(pem: &str) -> Vec<X509Certificate<'static>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    assert_eq!(chain.len(), 5);
    assert_eq!(chain[4].as_ref(), gpu_root_certificate());
    let certificates: Vec<_> = chain.iter().map(parsed).collect();
    assert_eq!(<[u8; 32]>::from(Sha256::digest(certificates[4].public_key().raw)), GPU_ROOT_SPKI_SHA256);
    for (position, certificate) in certificates.iter().enumerate() {
        let issuer = certificates.get(position + 1).unwrap_or(certificate);
        assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
        let key = issuer.public_key().subject_public_key.data.as_ref();
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, key)
            .verify(certificate.tbs_certificate.as_ref(), certificate.signature_value.data.as_ref())
            .unwrap();
        assert!(certificate.subject().to_string().contains("SIMULATED"));
        let usage = certificate.key_usage().unwrap().unwrap().value;
        let constraints = certificate.basic_constraints().unwrap();
        assert_eq!(position == 0, usage.digital_signature());
        assert_eq!(position > 0, usage.key_cert_sign());
        assert_eq!(position > 0, constraints.is_some_and(|found| found.value.ca));
    }
    certificates
}

/// Value of the only extension that carries an FWID.
fn fwid_extension(leaf: &X509Certificate<'static>, oid: &str) -> &'static [u8] {
    let mut found =
        leaf.extensions().iter().filter(|found| found.oid.to_id_string().starts_with("2.23.133.5.4.1"));
    let extension = found.next().unwrap();
    assert!(found.next().is_none() && !extension.critical);
    assert_eq!(extension.oid.to_id_string(), oid);
    extension.value
}

#[test]
fn five_certificates_lead_to_the_committed_root() {
    let gpu = SimulatedGpu::new(3).unwrap();
    let certificates = linked(&gpu.chain_pem());
    assert_eq!(certificates[1].raw_serial(), [&[0x41][..], &gpu.pdi()].concat());
    let fwid = fwid_extension(&certificates[0], "2.23.133.5.4.1");
    assert_eq!(fwid.len(), 189, "as long as on genuine Hopper devices");
    assert!(fwid.ends_with(&GpuOptions::hopper(0).certificate_fwid));
    let der: Vec<_> = chain(&gpu).iter().map(|certificate| certificate.to_vec()).collect();
    assert_eq!(der, gpu.certificates());
}

#[test]
fn seeds_tell_devices_apart_and_name_them_again() {
    let (first, again, second) =
        (SimulatedGpu::new(1).unwrap(), SimulatedGpu::new(1).unwrap(), SimulatedGpu::new(2).unwrap());
    assert_ne!(first.pdi(), second.pdi());
    assert_eq!(first.pdi(), again.pdi());
    let key = |gpu: &SimulatedGpu| parsed(&chain(gpu)[0]).public_key().raw.to_vec();
    let serial = |gpu: &SimulatedGpu| parsed(&chain(gpu)[0]).raw_serial().to_vec();
    assert_eq!(key(&first), key(&again));
    assert_ne!(key(&first), key(&second));
    assert_ne!(serial(&first), serial(&second));
}

#[test]
fn knobs_change_the_report_alone_or_the_certificate_alone() {
    let options = GpuOptions { report_fwid: Some([9; 48]), ..GpuOptions::hopper(0) };
    let gpu = SimulatedGpu::with_options(options).unwrap();
    let report = gpu.report(NONCE);
    assert!(report.windows(48).any(|window| window == [9; 48]));
    assert!(!gpu.report(NONCE).windows(48).any(|window| window == GpuOptions::hopper(0).certificate_fwid));
    let options = GpuOptions { report_fwid: None, ..GpuOptions::hopper(0) };
    let shorter = SimulatedGpu::with_options(options).unwrap().report(NONCE);
    assert_eq!(shorter.len() + 52, report.len());
}

#[test]
fn a_report_has_the_layout_of_a_blackwell() {
    let order = [6, 14, 15, 16, 17, 18, 19, 3, 4, 12, 13, 11, 20, 33, 35, 34, 36];
    for (options, status, info) in
        [(GpuOptions::blackwell(0), [7, 7], &b"GB100\0"[..]), (GpuOptions::gb20x(0), [7, 0], &b"GB202\0"[..])]
    {
        let report = SimulatedGpu::with_options(options).unwrap().report(NONCE);
        assert_eq!(opaque(&report).iter().map(|(id, _)| *id).collect::<Vec<_>>(), order);
        assert_eq!(field(&report, 33), Some(&status[..]));
        assert_eq!(field(&report, 35), Some(info));
        assert_eq!(field(&report, 36), Some(&[0, 0][..]));
        // As long as a recorded one.
        assert_eq!(report.len(), 4140);
    }
}

#[test]
fn certificates_of_a_blackwell_carry_tcb_info() {
    for (options, family) in [(GpuOptions::blackwell(4), "GB100"), (GpuOptions::gb20x(4), "GB20X")] {
        let options = GpuOptions { tcb_flags: [0x90, 0, 0, 1], tcb_svn: 9, ..options };
        let fwid = options.certificate_fwid;
        let gpu = SimulatedGpu::with_options(options).unwrap();
        let certificates = linked(&gpu.chain_pem());
        let names = [
            format!("{family} A01 GSP FMC LF SIMULATED"),
            format!("{family} A01 GSP BROM SIMULATED"),
            format!("{family} Provisioner ICA 00000 SIMULATED"),
            format!("{family} Identity SIMULATED"),
        ];
        for (certificate, name) in certificates.iter().zip(names) {
            let found = certificate.subject().iter_common_name().next().unwrap().as_str().unwrap();
            assert_eq!(found, name);
        }
        assert_eq!(certificates[1].raw_serial(), [&[0x41][..], &gpu.pdi()].concat());
        let value = fwid_extension(&certificates[0], "2.23.133.5.4.1.1");
        assert_eq!(value.len(), 180, "as long as on genuine Blackwell devices");
        assert_eq!(value[3..11], *b"\x80\x06NVIDIA");
        assert_eq!(
            value[11..26],
            *format!("\u{81}\r{family} A01 GSP").chars().map(|c| c as u8).collect::<Vec<_>>()
        );
        assert_eq!(value[30..33], [0x83, 1, 9]);
        assert_eq!(value[56..104], fwid);
        assert_eq!(value[119..167], [0; 48]);
        assert_eq!(value[167..], [0x87, 5, 0, 0x90, 0, 0, 1, 0x88, 1, 0xc0, 0x89, 1, 0]);
    }
}

#[test]
fn a_report_has_the_layout_of_a_switch() {
    let switch = SimulatedSwitch::new(5).unwrap();
    let report = switch.report(NONCE);
    assert_eq!(report[..4], [0x11, 0xe0, 0x01, 0xff]);
    assert_eq!(report[37..45], [0x11, 0x60, 0, 0, 31, 0xa9, 0x06, 0]);
    let order: Vec<_> = opaque(&report).iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [6, 22, 12, 26, 23, 24, 25]);
    assert_eq!(field(&report, 6), Some(&b"96.10.73.00.01"[..]));
    assert_eq!(field(&report, 22), Some(&switch.pdi()[..]));
    assert_eq!(field(&report, 26).unwrap().len(), 128);
    assert_eq!(field(&report, 25), Some(&[1, 0][..]));
    // As long as a recorded one.
    assert_eq!(report.len(), 2172);

    let certificates = linked(&switch.chain_pem());
    assert_eq!(certificates[1].raw_serial(), [&[0x50][..], &switch.pdi()].concat());
    let name = |at: usize| certificates[at].subject().iter_common_name().next().unwrap().as_str().unwrap();
    let names: Vec<_> = (0..4).map(name).collect();
    assert_eq!(
        names,
        [
            "LS_10 A01 FSP FMC LF SIMULATED",
            "LS_10 A01 FSP BROM SIMULATED",
            "LS_10 Provisioner ICA 1 SIMULATED",
            "GH100 Identity SIMULATED"
        ]
    );
    assert_eq!(fwid_extension(&certificates[0], "2.23.133.5.4.1").len(), 189);
    let (signed, signature) = report.split_at(report.len() - 96);
    let key = certificates[0].public_key().subject_public_key.data.as_ref();
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).verify(signed, signature).unwrap();
    assert_eq!(switch.resign(&report), report);
    assert_ne!(SimulatedSwitch::new(6).unwrap().pdi(), switch.pdi());
}

#[test]
fn devices_of_different_families_with_one_seed_share_nothing() {
    let hopper = SimulatedGpu::new(0).unwrap();
    let blackwell = SimulatedGpu::with_options(GpuOptions::blackwell(0)).unwrap();
    let switch = SimulatedSwitch::new(0).unwrap();
    let all = [hopper.certificates(), blackwell.certificates(), switch.certificates()];
    for position in [0, 1] {
        let certificates: Vec<_> = all.iter().map(|chain| parsed(&chain[position].clone().into())).collect();
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            assert_ne!(certificates[first].public_key().raw, certificates[second].public_key().raw);
            assert_ne!(certificates[first].raw_serial(), certificates[second].raw_serial());
        }
    }
    assert_ne!(hopper.pdi(), switch.pdi());
    assert_ne!(hopper.pdi(), blackwell.pdi());
}

#[test]
fn records_can_be_left_out_added_and_doubled() {
    let options = GpuOptions {
        omitted_records: vec![21, 34],
        added_records: vec![(200, vec![1, 2, 3]), (36, vec![0, 0])],
        ..GpuOptions::hopper(0)
    };
    let report = SimulatedGpu::with_options(options).unwrap().report(NONCE);
    let order: Vec<_> = opaque(&report).iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [6, 14, 15, 16, 17, 18, 19, 3, 4, 12, 13, 11, 20, 36, 200, 36]);
    let options = SwitchOptions {
        omitted_records: vec![25],
        added_records: vec![(200, Vec::new())],
        ..SwitchOptions::ls10(0)
    };
    let report = SimulatedSwitch::with_options(options).unwrap().report(NONCE);
    let order: Vec<_> = opaque(&report).iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [6, 22, 12, 26, 23, 24, 200]);
}

#[test]
fn a_chain_can_be_that_of_another_chip() {
    let options = GpuOptions { certificate_chip: GpuChip::Gb20x, ..GpuOptions::blackwell(0) };
    let gpu = SimulatedGpu::with_options(options).unwrap();
    assert_eq!(field(&gpu.report(NONCE), 35), Some(&b"GB100\0"[..]));
    assert!(parsed(&chain(&gpu)[0]).subject().to_string().contains("GB20X"));
    assert_eq!(parsed(&chain(&gpu)[1]).raw_serial()[1..], gpu.pdi());
}

/// PDIs without repetition, in order.
fn distinct(bytes: &[u8]) -> Vec<[u8; 8]> {
    let mut pdis: Vec<[u8; 8]> = bytes.chunks(8).map(|pdi| pdi.try_into().unwrap()).collect();
    pdis.sort_unstable();
    pdis.dedup();
    pdis
}

/// PDIs in the BROM certificates' serial numbers, in order.
fn certified(chains: Vec<&[Vec<u8>]>) -> Vec<[u8; 8]> {
    let serial = |chain: &&[Vec<u8>]| parsed(&chain[1].clone().into()).raw_serial()[1..].to_vec();
    distinct(&chains.iter().map(serial).collect::<Vec<_>>().concat())
}

#[test]
fn gpus_and_switches_of_a_machine_list_what_their_certificates_say() {
    let node = SimulatedNode::ppcie(8, 4).unwrap();
    let gpus = certified(node.gpus.iter().map(SimulatedGpu::certificates).collect());
    let switches = certified(node.switches.iter().map(SimulatedSwitch::certificates).collect());
    assert_eq!((gpus.len(), switches.len()), (8, 4));
    for gpu in &node.gpus {
        let report = gpu.report(NONCE);
        assert_eq!((field(&report, 21), field(&report, 36)), (Some(&[0xaa][..]), Some(&[2, 0][..])));
        let links = field(&report, 22).unwrap();
        assert_eq!(links.len(), 18 * 8);
        let unreversed: Vec<u8> = links.chunks(8).flat_map(|pdi| pdi.iter().rev().copied()).collect();
        assert_eq!(distinct(&unreversed), switches);
        // As long as a recorded one whose driver version is as long.
        assert_eq!(report.len(), 4274 + "580.95.05".len() - "590.12".len());
    }
    let mut links = 0;
    for switch in &node.switches {
        let report = switch.report(NONCE);
        let (pdis, ports) = field(&report, 26).unwrap().split_at(64);
        assert_eq!(distinct(pdis), gpus);
        for gpu in 0..8 {
            links += ports.iter().filter(|port| **port == gpu).count();
        }
        assert!(ports.contains(&0xff));
    }
    assert_eq!(links, 8 * 18, "every link ends in a port");
    let another = SimulatedNode::with_options(NodeOptions::ppcie(100, 8, 4)).unwrap();
    assert!(another.gpus.iter().all(|gpu| !gpus.contains(&gpu.pdi())));
}

#[test]
fn machines_of_other_sizes_and_modes_can_be_made() {
    for (gpus, switches) in [(1, 1), (8, 2), (2, 3)] {
        let node = SimulatedNode::ppcie(gpus, switches).unwrap();
        let report = node.gpus[0].report(NONCE);
        assert_eq!(distinct(field(&report, 22).unwrap()).len(), switches);
        assert_eq!((node.gpus.len(), node.switches.len()), (gpus, switches));
    }
    let node = SimulatedNode::mpt(2).unwrap();
    assert!(node.switches.is_empty());
    for gpu in &node.gpus {
        let report = gpu.report(NONCE);
        assert_eq!((field(&report, 21), field(&report, 36)), (None, Some(&[1, 0][..])));
    }
}

/// Whether a certificate is signed by an issuer's P-384 key, over the hash that it names.
fn is_signed(subject: &X509Certificate<'static>, issuer: &X509Certificate<'static>) -> bool {
    let algorithm = match subject.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.4.3.2" => &ECDSA_P384_SHA256_ASN1,
        _ => &ECDSA_P384_SHA384_ASN1,
    };
    UnparsedPublicKey::new(algorithm, issuer.public_key().subject_public_key.data.as_ref())
        .verify(subject.tbs_certificate.as_ref(), subject.signature_value.data.as_ref())
        .is_ok()
}

/// A Hopper's chain with a flaw of the certificate at this position.
fn flawed(at: usize, flaw: CertificateFlaw) -> Vec<CertificateDer<'static>> {
    let options = GpuOptions { flawed: Some(FlawedCertificate { at, flaw }), ..GpuOptions::hopper(0) };
    chain(&SimulatedGpu::with_options(options).unwrap())
}

#[test]
fn a_flaw_changes_one_certificate_and_nothing_that_it_leaves_alone() {
    type Wrong = fn(&X509Certificate<'static>) -> bool;
    let honest = chain(&SimulatedGpu::new(0).unwrap());
    let usage = |of: &X509Certificate<'static>| *of.key_usage().unwrap().unwrap().value;
    let authority =
        |of: &X509Certificate<'static>| of.basic_constraints().unwrap().map(|found| found.value.clone());
    let cases: [(CertificateFlaw, &[usize], Wrong); 7] = [
        (CertificateFlaw::NoAuthority, &[1, 2, 3, 4], |of| !of.is_ca()),
        (CertificateFlaw::NoAuthorityBelow, &[2, 3, 4], |of| {
            of.basic_constraints().unwrap().unwrap().value.path_len_constraint == Some(0)
        }),
        (CertificateFlaw::MayNotCertify, &[1, 2, 3, 4], |of| {
            !of.key_usage().unwrap().unwrap().value.key_cert_sign()
        }),
        (CertificateFlaw::MayNotSignLists, &[2, 3, 4], |of| {
            !of.key_usage().unwrap().unwrap().value.crl_sign()
        }),
        (CertificateFlaw::UnknownCriticalExtension, &[0, 1, 2, 3, 4], |of| {
            let mut extensions = of.extensions().iter();
            extensions.any(|one| one.critical && one.oid.to_id_string() == "1.3.6.1.4.1.412")
        }),
        (CertificateFlaw::ForTlsServers, &[0], |of| {
            of.extended_key_usage().unwrap().is_some_and(|found| found.value.server_auth)
        }),
        (CertificateFlaw::OverSha256, &[0, 1, 2, 3, 4], |of| {
            of.signature_algorithm.algorithm.to_id_string() == "1.2.840.10045.4.3.2"
        }),
    ];
    for (flaw, places, is_wrong) in cases {
        for at in places {
            let chain = flawed(*at, flaw);
            for (position, (found, honest)) in chain.iter().zip(&honest).enumerate() {
                let (of, before) = (parsed(found), parsed(honest));
                assert!(position != *at || !is_wrong(&before) && is_wrong(&of), "{flaw:?} at {at}");
                if position != *at {
                    assert_eq!(found, honest, "{flaw:?} at {at}: certificate {position}");
                }
                // Who it is and whose key it has stays.
                assert_eq!(of.raw_serial(), before.raw_serial(), "{flaw:?} at {at}");
                assert_eq!((of.subject(), of.issuer()), (before.subject(), before.issuer()));
                assert_eq!(of.public_key(), before.public_key());
                let of_usage =
                    matches!(flaw, CertificateFlaw::MayNotCertify | CertificateFlaw::MayNotSignLists);
                assert!(of_usage || usage(&of) == usage(&before), "{flaw:?} at {at}");
                let of_authority =
                    matches!(flaw, CertificateFlaw::NoAuthority | CertificateFlaw::NoAuthorityBelow);
                assert!(
                    position >= 2 || of_authority || authority(&of) == authority(&before),
                    "{flaw:?} at {at}"
                );
            }
            let issuers = chain.iter().skip(1).chain(chain.last());
            for (subject, issuer) in chain.iter().zip(issuers) {
                assert!(is_signed(&parsed(subject), &parsed(issuer)), "{flaw:?} at {at}");
            }
        }
    }
}

#[test]
fn a_leaf_on_another_curve_and_a_root_that_stands_twice_can_be_made() {
    let honest = chain(&SimulatedGpu::new(0).unwrap());
    let leaf = flawed(0, CertificateFlaw::OnP256);
    assert_eq!(leaf[1..], honest[1..]);
    assert_eq!(parsed(&leaf[0]).public_key().subject_public_key.data.len(), 65, "a point of P-256");
    assert!(is_signed(&parsed(&leaf[0]), &parsed(&leaf[1])));
    let options = |flawed| GpuOptions { flawed: Some(flawed), ..GpuOptions::hopper(0) };
    let authority = FlawedCertificate { at: 2, flaw: CertificateFlaw::OnP256 };
    assert!(SimulatedGpu::with_options(options(authority)).is_err(), "authorities keep their keys");

    let twice = flawed(2, CertificateFlaw::BelowRoot);
    assert_eq!((&twice[..2], &twice[3..]), (&honest[..2], &[honest[4].clone(), honest[4].clone()][..]));
    let (provisioner, before) = (parsed(&twice[2]), parsed(&honest[2]));
    assert_eq!(provisioner.issuer(), parsed(&honest[4]).subject());
    assert_eq!((provisioner.subject(), provisioner.public_key()), (before.subject(), before.public_key()));
    assert!(is_signed(&provisioner, &parsed(&honest[4])));

    let other = GpuOptions { fwid_key: FwidKey::Another, ..GpuOptions::hopper(0) };
    let other = parsed(&chain(&SimulatedGpu::with_options(other).unwrap())[0]);
    let brom = parsed(&honest[1]);
    let names_brom = |leaf: &X509Certificate<'static>| {
        let found = fwid_extension(leaf, "2.23.133.5.4.1");
        found.windows(brom.public_key().raw.len()).any(|part| part == brom.public_key().raw)
    };
    assert!(names_brom(&parsed(&honest[0])) && !names_brom(&other));
}
