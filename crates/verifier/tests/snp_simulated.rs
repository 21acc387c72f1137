//! Simulated SEV-SNP platforms: for every rule a report that keeps it and one that breaks it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    reason = "tests"
)]

mod algorithms;
mod counting;
mod snp;

use algorithms::{AWS, RING};
use confide_policy::AppraisalPolicy;
use confide_simulator::{
    SimulatedSnp, SnpAuthority, SnpCertificate, SnpExtension, SnpKey, SnpLevels, SnpOptions, SnpProduct,
    SnpReport, SnpRevocationList, SnpSigningKey,
};
use confide_verifier::{AttestationResult, Outcome, Status, rules};
use counting::{COUNTING, documented, verifications};
use snp::{Case, DANGER, danger, status};
use std::collections::BTreeSet;

const NOW: u64 = 1_780_000_000;
const DAY: u64 = 86_400;

/// A guest's evidence before anything of it is signed.
#[derive(Debug)]
struct Setup {
    platform: SimulatedSnp,
    report: SnpReport,
    key: SnpCertificate,
    issuer: SnpCertificate,
    root: SnpCertificate,
    lists: Vec<SnpRevocationList>,
    policy: String,
    /// Bytes of the whole case, changed after signing.
    change: fn(&mut Case),
}

impl Setup {
    fn new(options: SnpOptions) -> Self {
        let platform = SimulatedSnp::new(options).unwrap();
        let report = platform.guest([7; 64]);
        let (key, issuer, root) = (platform.endorsement(), platform.issuer(), platform.root());
        let lists = vec![platform.revocation_list()];
        Self { platform, report, key, issuer, root, lists, policy: DANGER.to_owned(), change: |_| {} }
    }

    fn genoa() -> Self {
        Self::new(SnpOptions::at(NOW))
    }

    fn case(&self) -> Case {
        let mut case = Case {
            report: self.platform.report(&self.report),
            certificates: [&self.key, &self.issuer, &self.root].map(|one| one.sign().unwrap()).to_vec(),
            lists: self.lists.iter().map(|list| list.sign().unwrap()).collect(),
            seconds: NOW,
        };
        (self.change)(&mut case);
        case
    }

    fn appraise(&self) -> AttestationResult {
        self.case().appraise(&danger(&self.policy), &AWS)
    }

    /// Replaces the value of a field of the table `[snp]`.
    fn expect(&mut self, field: &str, value: &str) {
        let (before, table) = self.policy.split_once("[snp]\n").unwrap();
        let line = table.lines().find(|line| line.starts_with(&format!("{field} ="))).unwrap();
        self.policy = format!("{before}[snp]\n{}", table.replacen(line, &format!("{field} = {value}"), 1));
    }
}

fn options() -> SnpOptions {
    SnpOptions::at(NOW)
}

#[test]
fn every_product_kind_of_key_and_version_is_accepted_and_called_simulated() {
    for product in SnpProduct::ALL {
        for signing_key in [SnpSigningKey::Vcek, SnpSigningKey::Vlek] {
            let mut setup = Setup::new(SnpOptions { product, signing_key, ..options() });
            let mut case = setup.case();
            for version in 2..=5 {
                setup.report.version = version;
                case.report = setup.platform.report(&setup.report);
                let result = case.appraise(&danger(DANGER), &AWS);
                assert!(result.accepted(), "{product:?} {signing_key:?} {version}: {:?}", result.code);
                assert!(result.simulated && result.assumptions[0].starts_with("SIMULATED"));
                assert_eq!(result.to_json(), case.appraise(&danger(DANGER), &RING).to_json());
            }
        }
    }
}

#[test]
fn no_ordinary_policy_accepts_a_simulated_report() {
    for policy in [AppraisalPolicy::inspect(), AppraisalPolicy::client()] {
        let result = Setup::genoa().case().appraise(&policy, &AWS);
        assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("snp_root_anchor")));
        // Without the root, AMD's own stands in: it has not issued the simulator's.
        let mut case = Setup::genoa().case();
        case.certificates.pop();
        assert_eq!(case.appraise(&policy, &AWS).code, Some("snp_issuer_signature"));
    }
}

/// What breaks a rule: the code of the check that must fail first, what is wrong, and how to make it so.
type Broken = (&'static str, &'static str, fn(&mut Setup));

fn usage(bits: [u8; 2]) -> SnpExtension {
    SnpExtension { oid: vec![2, 5, 29, 15], critical: true, value: [&[3, 2], &bits[..]].concat() }
}

fn constraints(value: &[u8]) -> SnpExtension {
    SnpExtension { oid: vec![2, 5, 29, 19], critical: true, value: value.to_vec() }
}

fn unknown() -> SnpExtension {
    SnpExtension { oid: vec![1, 2, 3], critical: true, value: vec![5, 0] }
}

fn amd<'c>(certificate: &'c mut SnpCertificate, arcs: &[u64]) -> &'c mut SnpExtension {
    let oid = [&[1, 3, 6, 1, 4, 1, 3704, 1], arcs].concat();
    certificate.extension(&oid).unwrap()
}

fn drop_amd(certificate: &mut SnpCertificate, arcs: &[u64]) {
    let oid = [&[1, 3, 6, 1, 4, 1, 3704, 1], arcs].concat();
    certificate.extensions.retain(|extension| extension.oid != oid);
}

const AUTHENTICITY: &[Broken] = &[
    ("snp_report_format", "version 6", |setup| setup.report.version = 6),
    ("snp_report_format", "version 1", |setup| setup.report.version = 1),
    ("snp_report_format", "another signature algorithm", |setup| setup.report.signature_algo = 2),
    ("snp_report_format", "truncated", |setup| setup.change = |case| case.report.truncate(1183)),
    ("snp_report_format", "a trailing byte", |setup| setup.change = |case| case.report.push(0)),
    ("snp_report_format", "R of more than 48 bytes", |setup| {
        setup.change = |case| case.report[0x2a0 + 48] = 1
    }),
    ("snp_report_format", "bytes behind S", |setup| setup.change = |case| case.report[0x49f] = 1),
    ("snp_endorsements_present", "no certificate", |setup| setup.change = |case| case.certificates.clear()),
    ("snp_endorsements_format", "a truncated certificate", |setup| {
        setup.change = |case| case.certificates[0].truncate(100)
    }),
    ("snp_endorsements_format", "a byte behind a certificate", |setup| {
        setup.change = |case| case.certificates[1].push(0)
    }),
    ("snp_endorsements_format", "a list that is none", |setup| {
        setup.change = |case| case.lists[0] = vec![0x30, 0]
    }),
    ("snp_endorsements_format", "four certificates", |setup| {
        setup.change = |case| {
            let other = Setup::new(SnpOptions { seed: 1, ..options() });
            case.certificates.push(other.key.sign().unwrap());
        }
    }),
    ("snp_endorsements_format", "five lists", |setup| {
        setup.change = |case| case.lists = vec![case.lists[0].clone(); 5]
    }),
    ("snp_chain_form", "no VCEK", |setup| setup.change = |case| drop(case.certificates.remove(0))),
    ("snp_chain_form", "no ASK", |setup| setup.change = |case| drop(case.certificates.remove(1))),
    ("snp_chain_form", "two VCEKs", |setup| {
        setup.change = |case| {
            let other = Setup::new(SnpOptions { seed: 1, ..options() });
            case.certificates[2] = other.key.sign().unwrap();
        }
    }),
    ("snp_chain_form", "an ASVK beside the ASK", |setup| {
        setup.change = |case| {
            let other = Setup::new(SnpOptions { signing_key: SnpSigningKey::Vlek, ..options() });
            case.certificates[2] = other.issuer.sign().unwrap();
        }
    }),
    ("snp_chain_form", "a VCEK by an ASVK", |setup| {
        setup.key.issuer = "SEV-VLEK-Genoa".to_owned();
        setup.issuer.subject = "SEV-VLEK-Genoa".to_owned();
    }),
    ("snp_chain_form", "an ASK of no known product", |setup| {
        setup.key.issuer = "SEV-Rome".to_owned();
        setup.issuer.subject = "SEV-Rome".to_owned();
    }),
    ("snp_chain_form", "an ASK of Genoa under the ARK of Milan", |setup| {
        setup.issuer.issuer = "ARK-Milan".to_owned();
        setup.root.subject = "ARK-Milan".to_owned();
        setup.root.issuer = "ARK-Milan".to_owned();
    }),
    ("snp_root_anchor", "a root with another key", |setup| {
        setup.root.key = SnpKey::Authority(SnpAuthority::Asvk)
    }),
    ("snp_root_signature", "a root that another key signed", |setup| setup.root.signer = SnpAuthority::Ask),
    ("snp_root_signature", "a root that is no authority", |setup| setup.root.extensions.truncate(1)),
    ("snp_issuer_signature", "an ASK that another key signed", |setup| {
        setup.issuer.signer = SnpAuthority::Asvk
    }),
    ("snp_issuer_signature", "an ASK that is no authority", |setup| setup.issuer.extensions.truncate(1)),
    ("snp_issuer_signature", "an ASK that may not sign certificates", |setup| {
        setup.issuer.extensions[0] = usage([7, 0x80])
    }),
    ("snp_issuer_signature", "an unknown critical extension", |setup| {
        setup.issuer.extensions.push(unknown())
    }),
    ("snp_issuer_signature", "a root without authorities below it", |setup| {
        setup.root.extensions[1] = constraints(&[0x30, 6, 1, 1, 0xff, 2, 1, 0])
    }),
    ("snp_key_signature", "a VCEK that another key signed", |setup| setup.key.signer = SnpAuthority::Asvk),
    ("snp_key_signature", "a VCEK that the root signed", |setup| setup.key.signer = SnpAuthority::Ark),
    ("snp_key_signature", "a VCEK that is an authority", |setup| {
        setup.key.extensions.push(constraints(&[0x30, 3, 1, 1, 0xff]))
    }),
    ("snp_key_signature", "a VCEK that may not sign", |setup| setup.key.extensions.push(usage([2, 0x04]))),
    ("snp_key_signature", "a VCEK with an RSA key", |setup| {
        setup.key.key = SnpKey::Authority(SnpAuthority::Ask)
    }),
    ("snp_key_signature", "an unknown critical extension", |setup| setup.key.extensions.push(unknown())),
    ("snp_crl_signature", "a list that another key signed", |setup| {
        setup.lists[0].signer = SnpAuthority::Ask
    }),
    ("snp_crl_signature", "a list of another product", |setup| {
        setup.lists[0].issuer = "ARK-Milan".to_owned()
    }),
    ("snp_crl_signature", "a second list that is foreign", |setup| {
        let mut list = setup.lists[0].clone();
        list.issuer = "ARK-Turin".to_owned();
        setup.lists.push(list);
    }),
    ("snp_crl_signature", "an unknown critical extension", |setup| setup.lists[0].extensions.push(unknown())),
    ("snp_crl_signature", "an unknown critical extension of an entry", |setup| {
        setup.lists[0].revoked.push(1);
        setup.lists[0].entry_extensions.push(unknown());
    }),
    ("snp_crl_signature", "an ASK that may not sign lists", |setup| {
        let list = SnpRevocationList {
            issuer: "SEV-Genoa".to_owned(),
            signer: SnpAuthority::Ask,
            ..setup.lists[0].clone()
        };
        setup.lists.push(list);
    }),
    ("snp_revocation", "no list", |setup| setup.lists.clear()),
    ("snp_revocation", "a revoked ASK", |setup| setup.lists[0].revoked = vec![1, setup.issuer.serial]),
    ("snp_revocation", "a revoked ASK in a second list", |setup| {
        let list = SnpRevocationList { revoked: vec![setup.issuer.serial], ..setup.lists[0].clone() };
        setup.lists.push(list);
    }),
    ("snp_revocation", "a revoked ASK, though the policy needs no list", |setup| {
        setup.expect("revocation", "{ waive = \"a test\" }");
        setup.lists[0].revoked = vec![setup.issuer.serial];
    }),
    ("snp_revocation", "a revoked root", |setup| setup.lists[0].revoked = vec![setup.root.serial]),
    ("snp_revocation", "a revoked VCEK", |setup| {
        setup.issuer.extensions[0] = usage([1, 0x06]);
        setup.key.serial = 77;
        let list = SnpRevocationList {
            issuer: "SEV-Genoa".to_owned(),
            signer: SnpAuthority::Ask,
            revoked: vec![77],
            ..setup.lists[0].clone()
        };
        setup.lists.push(list);
    }),
    ("snp_key_extensions", "no hardware id", |setup| drop_amd(&mut setup.key, &[4])),
    ("snp_key_extensions", "a short hardware id", |setup| amd(&mut setup.key, &[4]).value.truncate(8)),
    ("snp_key_extensions", "no level of the boot loader", |setup| drop_amd(&mut setup.key, &[3, 1])),
    ("snp_key_extensions", "a level of two bytes", |setup| {
        amd(&mut setup.key, &[3, 8]).value = vec![2, 2, 1, 0]
    }),
    ("snp_key_extensions", "a level in a longer form", |setup| {
        amd(&mut setup.key, &[3, 8]).value = vec![2, 2, 0, 84]
    }),
    ("snp_key_extensions", "a negative level", |setup| amd(&mut setup.key, &[3, 8]).value = vec![2, 1, 0x80]),
    ("snp_key_extensions", "a reserved level", |setup| amd(&mut setup.key, &[3, 5]).value = vec![2, 1, 1]),
    ("snp_key_extensions", "another structure version", |setup| {
        amd(&mut setup.key, &[1]).value = vec![2, 1, 1]
    }),
    ("snp_key_extensions", "an unknown product", |setup| {
        amd(&mut setup.key, &[2]).value = [&[0x16, 4], &b"Rome"[..]].concat()
    }),
    ("snp_key_extensions", "a product that is no text", |setup| amd(&mut setup.key, &[2]).value[2] = 0x80),
    ("snp_key_extensions", "a provider in a VCEK", |setup| {
        setup.key.extensions.push(SnpExtension::amd(&[5], vec![0x16, 1, b'x']))
    }),
    ("snp_key_extensions", "an extension of Turin", |setup| {
        setup.key.extensions.push(SnpExtension::amd(&[3, 9], vec![2, 1, 1]))
    }),
    ("snp_key_extensions", "an unknown extension of AMD's", |setup| {
        setup.key.extensions.push(SnpExtension::amd(&[6], vec![2, 1, 1]))
    }),
    ("snp_key_kind", "a VLEK's report under a VCEK", |setup| setup.report.key_info = 1 << 2),
    ("snp_key_kind", "an unsigned report", |setup| setup.report.key_info = 7 << 2),
    ("snp_key_kind", "a reserved signing key", |setup| setup.report.key_info = 2 << 2),
    ("snp_key_kind", "a masked chip key", |setup| setup.report.key_info = 1 << 1),
    ("snp_report_signature", "the report of another chip", |setup| {
        setup.platform = SimulatedSnp::new(SnpOptions { seed: 1, ..options() }).unwrap()
    }),
    ("snp_report_signature", "a measurement that was changed", |setup| {
        setup.change = |case| case.report[0x90] ^= 1
    }),
    ("snp_validity", "a VCEK that has expired", |setup| {
        setup.key.window.until = NOW - 1;
    }),
    ("snp_validity", "a VCEK of the future", |setup| setup.key.window.from = NOW + 1),
    ("snp_validity", "an ASK that has expired", |setup| setup.issuer.window.until = NOW - 1),
    ("snp_validity", "a root that has expired", |setup| setup.root.window.until = NOW - 1),
    ("snp_validity", "a list that has expired", |setup| setup.lists[0].window.until = NOW - 1),
    ("snp_validity", "a list of the future", |setup| setup.lists[0].window.from = NOW + 1),
    ("snp_validity", "a list without a next one", |setup| setup.lists[0].next_update = false),
];

const CONSISTENCY: &[Broken] = &[
    ("snp_product_binding", "a report of Milan", |setup| setup.report.cpuid = [0x19, 1, 1]),
    ("snp_product_binding", "a report of no known product", |setup| setup.report.cpuid = [0x17, 0x31, 0]),
    ("snp_product_binding", "a VCEK of Milan in the chain of Genoa", |setup| {
        amd(&mut setup.key, &[2]).value = [&[0x16, 8], &b"Milan-B0"[..]].concat()
    }),
    ("snp_tcb_binding", "a VCEK of a lower level", |setup| {
        amd(&mut setup.key, &[3, 8]).value = vec![2, 1, 83 - 20]
    }),
    ("snp_tcb_binding", "a report of a lower level", |setup| setup.report.reported_tcb[6] -= 1),
    ("snp_hardware_id", "the VCEK of another chip", |setup| amd(&mut setup.key, &[4]).value[0] ^= 1),
    ("snp_tcb_order", "reported above current", |setup| setup.report.current_tcb[0] -= 1),
    ("snp_tcb_order", "committed above current", |setup| setup.report.committed_tcb[7] += 1),
    ("snp_tcb_order", "a committed version above the current one", |setup| {
        setup.report.committed_version[0] += 1
    }),
    ("snp_reserved", "bit 17 of POLICY zero", |setup| setup.report.policy ^= 1 << 17),
    ("snp_reserved", "bit 26 of POLICY", |setup| setup.report.policy |= 1 << 26),
    ("snp_reserved", "bit 8 of PLATFORM_INFO", |setup| setup.report.platform_info |= 1 << 8),
    ("snp_reserved", "bit 5 of the key information", |setup| setup.report.key_info |= 1 << 5),
    ("snp_reserved", "an author key's digest without the key", |setup| setup.report.author_key_digest[0] = 1),
    ("snp_reserved", "byte 4c", |setup| setup.report.patches.push((0x4c, 1))),
    ("snp_reserved", "byte 18b", |setup| setup.report.patches.push((0x18b, 1))),
    ("snp_reserved", "byte 188 of version 2", |setup| {
        setup.report.version = 2;
        setup.report.patches.push((0x188, 1));
    }),
    ("snp_reserved", "byte 1eb", |setup| setup.report.patches.push((0x1eb, 1))),
    ("snp_reserved", "byte 1ef", |setup| setup.report.patches.push((0x1ef, 1))),
    ("snp_reserved", "byte 1f8 of version 4", |setup| {
        setup.report.version = 4;
        setup.report.patches.push((0x1f8, 1));
    }),
    ("snp_reserved", "byte 29f", |setup| setup.report.patches.push((0x29f, 1))),
    ("snp_reserved", "a reserved byte of CURRENT_TCB", |setup| setup.report.current_tcb[2] = 1),
    ("snp_reserved", "a reserved byte of LAUNCH_TCB", |setup| setup.report.launch_tcb[5] = 1),
];

const POLICY: &[Broken] = &[
    ("snp_report_version", "version 4", |setup| {
        setup.expect("report_version", "{ any_of = [5] }");
        setup.report.version = 4;
    }),
    ("snp_product", "Genoa", |setup| setup.expect("product", "{ any_of = [\"Milan\", \"Turin\"] }")),
    ("snp_signing_key", "a VCEK", |setup| setup.expect("signing_key", "{ any_of = [\"VLEK\"] }")),
    ("snp_csp_id", "another provider", |setup| {
        let csp_id = "CN=elsewhere.invalid".to_owned();
        let policy = std::mem::take(&mut setup.policy);
        *setup = Setup::new(SnpOptions { signing_key: SnpSigningKey::Vlek, csp_id, ..options() });
        setup.policy = policy;
    }),
    ("snp_debug", "debug", |setup| setup.report.policy |= 1 << 19),
    ("snp_migration_agent", "migration", |setup| setup.report.policy |= 1 << 18),
    ("snp_smt", "no SMT", |setup| setup.report.policy &= !(1 << 16)),
    ("snp_single_socket", "a single socket", |setup| setup.report.policy |= 1 << 20),
    ("snp_cxl", "CXL", |setup| setup.report.policy |= 1 << 21),
    ("snp_aes_256_xts", "AES-256 XTS", |setup| setup.report.policy |= 1 << 22),
    ("snp_rapl_disabled", "RAPL off", |setup| setup.report.policy |= 1 << 23),
    ("snp_ciphertext_hiding", "ciphertext hiding", |setup| setup.report.policy |= 1 << 24),
    ("snp_page_swap_disabled", "page swap off", |setup| setup.report.policy |= 1 << 25),
    ("snp_abi", "a lower ABI version", |setup| {
        setup.expect("abi", "{ at_least = \"1.51\" }");
        setup.report.policy |= 0x0132;
    }),
    ("snp_guest_svn", "a lower SVN", |setup| setup.expect("guest_svn", "{ at_least = 1 }")),
    ("snp_vmpl", "VMPL 1", |setup| setup.report.vmpl = 1),
    ("snp_vmpl", "a report that the host asked for", |setup| setup.report.vmpl = u32::MAX),
    ("snp_platform_smt", "no SMT", |setup| setup.report.platform_info ^= 1),
    ("snp_platform_tsme", "TSME", |setup| setup.report.platform_info ^= 1 << 1),
    ("snp_platform_ecc", "no ECC", |setup| setup.report.platform_info ^= 1 << 2),
    ("snp_platform_rapl_disabled", "RAPL off", |setup| setup.report.platform_info ^= 1 << 3),
    ("snp_platform_ciphertext_hiding", "ciphertext hiding", |setup| setup.report.platform_info ^= 1 << 4),
    ("snp_platform_alias_check", "no alias check", |setup| setup.report.platform_info ^= 1 << 5),
    ("snp_platform_iommu_write_safe", "safe writes", |setup| setup.report.platform_info ^= 1 << 6),
    ("snp_platform_tio", "trusted I/O", |setup| setup.report.platform_info ^= 1 << 7),
    ("snp_reported_tcb", "no floor for the product", |setup| {
        setup.expect("reported_tcb", "{ at_least = {} }")
    }),
    ("snp_reported_tcb", "a higher floor", |setup| {
        setup.expect(
            "reported_tcb",
            "{ at_least = { Genoa = { bootloader = 10, tee = 2, snp = 27, microcode = 85 } } }",
        )
    }),
    ("snp_committed_tcb", "committed below the floor", |setup| setup.report.committed_tcb[0] -= 1),
    ("snp_current_tcb", "current below the floor", |setup| {
        setup.expect(
            "current_tcb",
            "{ at_least = { Genoa = { bootloader = 11, tee = 0, snp = 0, microcode = 0 } } }",
        )
    }),
    ("snp_launch_tcb", "launched below the floor", |setup| setup.report.launch_tcb[1] -= 1),
    ("snp_current_firmware", "an older build", |setup| {
        setup.report.current_version[0] = 39;
        setup.report.committed_version[0] = 39;
    }),
    ("snp_committed_firmware", "an older committed build", |setup| setup.report.committed_version[0] = 39),
    ("snp_provisional_firmware", "a newer build that is not committed", |setup| {
        setup.report.current_version[0] = 41;
    }),
    ("snp_provisional_firmware", "a newer level that is not committed", |setup| {
        setup.report.current_tcb[7] += 1;
    }),
    ("snp_launch_mitigations", "a missing bit", |setup| {
        setup.expect("launch_mitigations", "{ all_of = 1 }");
        setup.report.launch_mit_vector = 2;
    }),
    ("snp_launch_mitigations", "a report of version 4", |setup| {
        setup.expect("launch_mitigations", "{ all_of = 1 }");
        setup.report.version = 4;
    }),
    ("snp_current_mitigations", "a missing bit", |setup| {
        setup.expect("current_mitigations", "{ all_of = 0x40 }");
    }),
    ("snp_measurement", "another image", |setup| setup.report.measurement[47] ^= 1),
    ("snp_host_data", "host data", |setup| setup.report.host_data[31] = 1),
    ("snp_family_id", "a family", |setup| setup.report.family_id[15] = 1),
    ("snp_image_id", "an image", |setup| setup.report.image_id[15] = 1),
    ("snp_author_key", "an author key", |setup| setup.report.key_info |= 1),
    ("snp_id_key_digest", "an id key", |setup| setup.report.id_key_digest[47] = 1),
    ("snp_author_key_digest", "the digest of an author key", |setup| {
        setup.expect("author_key", "{ any_of = [true] }");
        setup.report.key_info |= 1;
        setup.report.author_key_digest[47] = 1;
    }),
    ("snp_report_id", "another guest", |setup| setup.report.report_id[0] ^= 1),
    ("snp_report_id_ma", "a migration agent", |setup| setup.report.report_id_ma[0] = 1),
    ("snp_masked_chip_id", "a masked chip id", |setup| {
        setup.expect("masked_chip_id", "{ any_of = [false] }");
        setup.report.chip_id = [0; 64];
    }),
    ("snp_chip_id", "another chip", |setup| setup.expect("chip_id", "{ any_of = [] }")),
    ("snp_chip_id", "a denied chip", |setup| {
        let chip_id: String = setup.report.chip_id.iter().map(|byte| format!("{byte:02x}")).collect();
        setup.expect("chip_id", &format!("{{ waive = \"a test\", deny = [\"{chip_id}\"] }}"));
    }),
    ("snp_chip_id", "a masked chip where one is denied", |setup| {
        setup.expect("chip_id", &format!("{{ waive = \"a test\", deny = [\"{}\"] }}", "ab".repeat(64)));
        setup.report.chip_id = [0; 64];
    }),
    ("snp_crl_age", "a list older than the limit", |setup| setup.expect("crl_age", "{ at_most_days = 29 }")),
    ("snp_crl_age", "an older second list", |setup| {
        let mut list = setup.lists[0].clone();
        list.window.from -= 5 * DAY;
        setup.lists.push(list);
    }),
    ("snp_crl_age", "no list", |setup| {
        setup.expect("revocation", "{ waive = \"a test\" }");
        setup.lists.clear();
    }),
    ("snp_report_data", "other report data", |setup| {
        setup.expect("report_data", &format!("{{ any_of = [\"{}\"] }}", "08".repeat(64)))
    }),
    ("snp_report_data", "no document to recompute it from", |setup| {
        setup.expect("report_data", "{ from = \"document\" }")
    }),
];

#[test]
fn every_broken_rule_is_named() {
    let mut wrong = Vec::new();
    for (code, what, break_it) in [AUTHENTICITY, CONSISTENCY, POLICY].concat() {
        let mut setup = Setup::genoa();
        break_it(&mut setup);
        let result = setup.appraise();
        let outcome = match code {
            "snp_report_format" if what.contains("version") || what.contains("algorithm") => {
                Outcome::Unsupported
            }
            "snp_report_format" | "snp_endorsements_format" => Outcome::Malformed,
            _ => Outcome::Rejected,
        };
        if result.code != Some(code) || result.outcome != outcome {
            wrong.push(format!("{code}: {what}: {:?} {:?}", result.outcome, result.code));
        }
        let ring = setup.case().appraise(&danger(&setup.policy), &RING);
        assert_eq!(result.to_json(), ring.to_json(), "{code}: {what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_case_that_breaks_it_and_one_that_keeps_it() {
    let broken: BTreeSet<&str> =
        [AUTHENTICITY, CONSISTENCY, POLICY].concat().iter().map(|case| case.0).collect();
    let mut setup = Setup::genoa();
    // Expectations in place of the policy's waivers.
    setup.expect("report_data", &format!("{{ any_of = [\"{}\"] }}", "07".repeat(64)));
    setup.expect("masked_chip_id", "{ any_of = [false] }");
    let chip_id: String = setup.report.chip_id.iter().map(|byte| format!("{byte:02x}")).collect();
    setup.expect("chip_id", &format!("{{ any_of = [\"{chip_id}\"] }}"));
    let kept = setup.appraise();
    assert!(kept.accepted());
    for rule in rules::ALL.iter().filter(|rule| rule.code.starts_with("snp_")) {
        // Files are read by the program; absence shows in failure alone.
        if ["snp_certificate_file", "snp_crl_file"].contains(&rule.code) {
            continue;
        }
        assert!(broken.contains(rule.code), "no case breaks {}", rule.code);
        if rule.code != "snp_endorsements_present" {
            assert_eq!(status(&kept, rule.code), Some(Status::Pass), "{}", rule.code);
        }
    }
}

/// Values of a reference set, for a report of the default guest but for what differs.
fn reference(name: &str, values: &[(&str, String)]) -> String {
    let lines: String = values.iter().map(|(field, value)| format!("{field} = [\"{value}\"]\n")).collect();
    format!("\n[reference.{name}]\n{lines}")
}

/// A platform whose policy takes these fields from reference sets.
fn taking(fields: &[&str], sets: &str) -> Setup {
    let mut setup = Setup::genoa();
    for field in fields {
        setup.expect(field, "{ from = \"reference\" }");
    }
    setup.policy += sets;
    setup
}

/// The values of the default guest, by the names of the policy's fields.
fn own_values() -> [(&'static str, String); 6] {
    let report = Setup::genoa().report;
    let hex = confide_evidence::hex::encode;
    [
        ("measurement", hex(&report.measurement)),
        ("host_data", hex(&report.host_data)),
        ("family_id", hex(&report.family_id)),
        ("image_id", hex(&report.image_id)),
        ("id_key_digest", hex(&report.id_key_digest)),
        ("author_key_digest", hex(&report.author_key_digest)),
    ]
}

fn actual(result: &AttestationResult, code: &str) -> String {
    result.checks.iter().find(|check| check.code == code).unwrap().actual.to_string()
}

#[test]
fn a_report_that_matches_a_reference_set_as_a_whole_is_accepted() {
    let own = own_values();
    let fields = own.each_ref().map(|(field, _)| *field);
    assert_eq!(fields, confide_policy::SNP_REFERENCE_FIELDS);
    let mut other = own.clone();
    other[0].1 = "11".repeat(48);
    let td = format!("\n[reference.a-td]\nmr_td = [\"{}\"]\n", "11".repeat(48));
    let sets = [reference("release-1", &other), td, reference("release-2", &own)].concat();
    let result = taking(&fields, &sets).appraise();
    assert!(result.accepted(), "{:?}", result.code);
    assert_eq!(result.reference_set.as_deref(), Some("release-2"));
    assert_eq!(actual(&result, "reference_set"), "release-2 of the policy");
    for field in fields {
        let code = format!("snp_{field}");
        assert_eq!(status(&result, &code), Some(Status::Pass), "{code}");
        let check = result.checks.iter().find(|check| check.code == code).unwrap();
        assert!(
            check.expected.to_string().ends_with(", of the reference set release-2"),
            "{}",
            check.expected
        );
    }
    // Fields that the policy expects by itself do not matter to the choice, whatever sets say of them.
    let result =
        taking(&["measurement"], &reference("one", &[own[0].clone(), ("host_data", "22".repeat(32))]));
    assert_eq!(result.appraise().reference_set.as_deref(), Some("one"));
    // Nor does a policy that takes nothing from sets look at them.
    let result = taking(&[], &reference("one", &other)).appraise();
    assert_eq!((result.accepted(), result.reference_set), (true, None));
}

#[test]
fn a_report_that_matches_no_reference_set_is_refused() {
    let own = own_values();
    let [measurement, host_data, ..] = own.clone();
    let another = |(field, value): &(&'static str, String)| (*field, "11".repeat(value.len() / 2));
    let both = ["measurement", "host_data"];
    let mixture = [
        reference("release-1", &[measurement.clone(), another(&host_data)]),
        reference("release-2", &[another(&measurement), host_data.clone()]),
    ];
    let cases = [
        ("no set", taking(&both, ""), "there is no reference set"),
        ("a mixture of two sets", taking(&both, &mixture.concat()), "host_data, which is that of release-2"),
        (
            "a set without the field",
            taking(&both, &reference("r", std::slice::from_ref(&measurement))),
            "differs in host_data",
        ),
        (
            "sets of TDs alone",
            taking(&both, &format!("\n[reference.td]\nmr_td = [\"{}\"]\n", "11".repeat(48))),
            "differs in measurement; host_data",
        ),
    ];
    for (what, setup, told) in cases {
        let result = setup.appraise();
        assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("reference_set")), "{what}");
        assert!(
            actual(&result, "reference_set").contains(told),
            "{what}: {}",
            actual(&result, "reference_set")
        );
        assert_eq!(result.reference_set, None, "{what}");
    }
    for value in &own {
        let code = format!("snp_{}", value.0);
        let result = taking(&[value.0], &reference("other", &[another(value)])).appraise();
        assert_eq!(result.code, Some("reference_set"), "{code}");
        assert_eq!(status(&result, &code), Some(Status::Fail), "{code}");
    }
}

#[test]
fn after_the_signatures_all_checks_run() {
    let mut setup = Setup::genoa();
    setup.report.policy |= 1 << 19;
    setup.report.measurement[0] ^= 1;
    setup.report.vmpl = 2;
    setup.report.cpuid = [0x1a, 2, 1];
    let result = setup.appraise();
    for code in ["snp_product_binding", "snp_debug", "snp_vmpl", "snp_measurement"] {
        assert_eq!(status(&result, code), Some(Status::Fail), "{code}");
    }
    let codes: Vec<&str> = result.checks.iter().map(|check| check.code).collect();
    let distinct: BTreeSet<&str> = codes.iter().copied().collect();
    assert_eq!(codes.len(), distinct.len(), "each once");
}

#[test]
fn before_the_signatures_nothing_else_is_said() {
    let mut setup = Setup::genoa();
    setup.key.signer = SnpAuthority::Asvk;
    let result = setup.appraise();
    assert_eq!(result.code, Some("snp_key_signature"));
    assert_eq!(status(&result, "snp_report_signature"), Some(Status::NotRun));
    assert_eq!(status(&result, "snp_measurement"), None);
    assert_eq!(result.valid_until, None);
}

/// No window takes a signature's place: what the report says is compared outside of them, too.
#[test]
fn an_expired_report_of_another_image_fails_by_both() {
    let mut setup = Setup::genoa();
    setup.key.window.until = NOW - 1;
    setup.report.measurement = [0xee; 48];
    let result = setup.appraise();
    let failed = result.checks.iter().filter(|check| check.status == Status::Fail);
    assert_eq!(failed.map(|check| check.code).collect::<Vec<_>>(), ["snp_validity", "snp_measurement"]);
    assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("snp_validity")));
    assert_eq!(result.valid_until, None);
    for code in ["snp_tcb_binding", "snp_crl_age", "snp_reported_tcb", "snp_debug"] {
        assert_eq!(status(&result, code), Some(Status::Pass), "{code}");
    }
    setup.report.measurement = Setup::genoa().report.measurement;
    assert_eq!((setup.appraise().outcome, setup.appraise().code), (Outcome::Rejected, Some("snp_validity")));
}

#[test]
fn every_field_of_the_policy_is_a_check_and_every_waiver_is_told() {
    // The inspecting policy's table, under the simulator's roots.
    let inspect = include_str!("../../../policies/inspect.toml");
    let table = inspect.split_once("[snp]\n").unwrap().1.split_once("\n[").unwrap().0;
    let (before, rest) = DANGER.split_once("[snp]\n").unwrap();
    let after = &rest[rest.find("\n[").unwrap()..];
    let text = format!("{before}[snp]\n{table}\n{after}");
    let (mut setup, policy) = (Setup::genoa(), danger(&text));
    setup.policy = text;
    setup.lists.clear();
    let result = setup.appraise();
    assert!(result.accepted(), "{:?}", result.code);
    let mut waived = 0;
    for field in policy.fields().iter().filter(|field| field.path.starts_with("snp.")) {
        let check = result.checks.iter().find(|check| Some(check.code) == field.code);
        let check = check.unwrap_or_else(|| panic!("{} drives no check", field.path));
        if field.path == "snp.chip_id.deny" {
            continue;
        }
        if let Some(reason) = field.waiver().filter(|_| field.path != "snp.csp_id") {
            let status = if field.path == "snp.revocation" { Status::NotRun } else { Status::Waived };
            assert_eq!(
                (check.status, &*check.expected),
                (status, &*format!("waived: {reason}")),
                "{}",
                field.path
            );
            waived += 1;
        } else {
            assert_eq!(check.status, Status::Pass, "{}", field.path);
        }
    }
    assert_eq!(waived, 42);
}

#[test]
fn floors_hold_for_each_component() {
    for (product, floor) in [
        (SnpProduct::Genoa, "Genoa = { bootloader = 10, tee = 2, snp = 27, microcode = 84 }"),
        (SnpProduct::Turin, "Turin = { fmc = 1, bootloader = 10, tee = 2, snp = 27, microcode = 84 }"),
    ] {
        let low = SnpLevels { fmc: 1, bootloader: 10, tee: 2, snp: 27, microcode: 84 };
        let lower = [
            SnpLevels { fmc: 0, ..low },
            SnpLevels { bootloader: 9, ..low },
            SnpLevels { tee: 1, ..low },
            SnpLevels { snp: 26, ..low },
            SnpLevels { microcode: 83, ..low },
        ];
        for levels in lower.into_iter().chain([low]) {
            let mut setup = Setup::new(SnpOptions { product, levels, ..options() });
            for field in ["reported_tcb", "committed_tcb", "current_tcb", "launch_tcb"] {
                setup.expect(field, &format!("{{ at_least = {{ {floor} }} }}"));
            }
            let reaches = levels == low || product == SnpProduct::Genoa && levels.fmc == 0;
            let result = setup.appraise();
            assert_eq!(result.accepted(), reaches, "{product:?} {levels:?}: {:?}", result.code);
        }
    }
}

#[test]
fn older_and_newer_certificates_write_their_algorithm_in_two_ways() {
    for trailer in [true, false] {
        let mut setup = Setup::genoa();
        for certificate in [&mut setup.key, &mut setup.issuer, &mut setup.root] {
            certificate.trailer = trailer;
        }
        assert!(setup.appraise().accepted());
    }
}

#[test]
fn a_list_of_the_issuer_speaks_of_signing_keys_alone() {
    let mut setup = Setup::genoa();
    setup.issuer.extensions[0] = usage([1, 0x06]);
    setup.key.serial = 77;
    let list = SnpRevocationList {
        issuer: "SEV-Genoa".to_owned(),
        signer: SnpAuthority::Ask,
        revoked: vec![setup.issuer.serial, 78],
        ..setup.lists[0].clone()
    };
    setup.lists.push(list);
    setup.lists[0].revoked = vec![77];
    let result = setup.appraise();
    assert!(result.accepted(), "serial numbers count under their issuer: {:?}", result.code);
}

#[test]
fn a_certificate_that_is_given_twice_counts_once() {
    let mut case = Setup::genoa().case();
    case.certificates.extend(case.certificates.clone());
    case.certificates.reverse();
    assert!(case.appraise(&danger(DANGER), &AWS).accepted());
}

#[test]
fn no_mutation_of_a_simulated_case_is_accepted() {
    let base = Setup::genoa().case();
    let policy = danger(DANGER);
    let mut mutations = 0;
    let mut refuse = |case: Case, what: &str, at: usize| {
        assert_ne!(case.appraise(&policy, &RING).outcome, Outcome::Accepted, "{what}, byte {at:#x}");
        mutations += 1;
    };
    for at in 0..base.report.len() {
        let mut case = base.clone();
        case.report[at] ^= 0x80 >> (at % 8);
        refuse(case, "report", at);
    }
    for position in 0..3 {
        for at in (position..base.certificates[position].len()).step_by(5) {
            let mut case = base.clone();
            case.certificates[position][at] ^= 0x20;
            refuse(case, "certificate", at);
        }
    }
    for at in 0..base.lists[0].len() {
        let mut case = base.clone();
        case.lists[0][at] ^= 0x04;
        refuse(case, "list", at);
    }
    println!("{mutations} mutations refused");
}

#[test]
fn an_appraisal_verifies_as_many_signatures_as_the_page_of_limits_says() {
    let setup = Setup::genoa();
    let mut case = setup.case();
    case.lists = vec![case.lists[0].clone(); confide_evidence::snp::MAX_CRLS];
    let policy = danger(DANGER);
    let counted = verifications(|| {
        let result = case.appraise(&policy, &COUNTING);
        assert_eq!((result.outcome, result.code), (Outcome::Accepted, None));
    });
    assert_eq!(counted, documented("signature verifications of an SEV-SNP report"));
}
