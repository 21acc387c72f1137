//! Our verdicts on signatures and chains against those of the crate `sev`: recorded reports and mutations of each.
//!
//! Both must agree but for what is listed in [`decided`], where we refuse and `sev` does not, and for [`MASKED`], where it
//! is the other way round.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test that reads the corpus and prints what it counted"
)]

mod algorithms;
mod corpus;
mod snp;

use algorithms::AWS;
use confide_evidence::snp::Report;
use confide_policy::AppraisalPolicy;
use confide_verifier::Status;
use corpus::{Corpus, Row};
use sev::certs::snp::{Certificate, Chain, Verifiable as _, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;
use snp::{Case, status};
use std::collections::{BTreeMap, BTreeSet};

/// Whether signature and chain hold, as `sev` sees it.
fn theirs(case: &Case, root: &[u8]) -> bool {
    let verified = || -> std::io::Result<()> {
        let chain = Chain {
            ca: ca::Chain {
                ark: Certificate::from_der(root)?,
                ask: Certificate::from_der(&case.certificates[1])?,
            },
            vek: Certificate::from_der(&case.certificates[0])?,
        };
        let report = AttestationReport::from_bytes(&case.report)?;
        (&chain, &report).verify()
    };
    verified().is_ok()
}

/// Whether signature and chain hold, as we see it.
fn ours(case: &Case) -> bool {
    let result = case.appraise(&AppraisalPolicy::inspect(), &AWS);
    status(&result, "snp_report_signature") == Some(Status::Pass)
}

const BEHIND_SIGNATURE: &str = "unsigned bytes behind the signature";
const BEHIND_R_AND_S: &str = "unsigned bytes behind R and S";
const RESERVED_TCB: &str = "reserved bytes of TCB versions";
const OUTER_ALGORITHM: &str = "the outer signature algorithm of a certificate";

/// Why we refuse what `sev` takes.
fn decided(mutation: Mutation, at: usize) -> Option<&'static str> {
    match mutation {
        // Nothing signs the 368 bytes behind R and S: `sev` reads past them. 56860 has them zero.
        Mutation::Report if (0x2a0 + 144..0x4a0).contains(&at) => Some(BEHIND_SIGNATURE),
        // R and S have 48 bytes each in fields of 72: the same.
        Mutation::Report if (0x2d0..0x2e8).contains(&at) || (0x318..0x330).contains(&at) => {
            Some(BEHIND_R_AND_S)
        }
        // `sev` writes the report anew before it verifies it, with zeros for the reserved bytes of TCB versions, whatever
        // came. We verify the bytes as they came.
        Mutation::Report if [0x38, 0x180, 0x1e0, 0x1f0].iter().any(|tcb| (*tcb..tcb + 8).contains(&at)) => {
            Some(RESERVED_TCB)
        }
        // `sev` verifies the certificate's inner algorithm, decoded and encoded again, and takes any outer one that names
        // RSASSA-PSS. RFC 5280 section 4.1.1.2 has both the same.
        Mutation::Certificate => Some(OUTER_ALGORITHM),
        Mutation::Report => None,
    }
}

/// What we take and `sev` refuses. A report of version 2 names no product, so that `sev` concludes from CHIP_ID how TCB
/// versions are laid out, and gives up where a VLEK's report masks it; it needs the layout to write the report anew before it
/// verifies it. We verify the bytes as they came, and take the product from the certificates.
const MASKED: &str = "version 2 with a masked CHIP_ID";

fn is_masked(case: &Case) -> bool {
    Report::parse(&case.report).is_ok_and(|report| report.version == 2 && report.masks_chip_id())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    Report,
    Certificate,
}

struct Tally {
    agreed: BTreeMap<bool, usize>,
    disagreed: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
}

impl Tally {
    fn compare(&mut self, case: &Case, root: &[u8], mutation: Option<(Mutation, usize)>, what: &str) {
        let (ours, theirs) = (ours(case), theirs(case, root));
        if ours == theirs {
            *self.agreed.entry(ours).or_default() += 1;
            return;
        }
        match mutation.and_then(|(mutation, at)| decided(mutation, at)) {
            _ if ours && is_masked(case) => *self.disagreed.entry(MASKED).or_default() += 1,
            Some(reason) if theirs => *self.disagreed.entry(reason).or_default() += 1,
            _ => self.unexplained.push(format!("{what} {mutation:x?}: ours {ours}, sev {theirs}")),
        }
    }
}

/// The certificate with this common name.
fn named(corpus: &Corpus, certificates: &[Row], common_name: &str) -> Vec<u8> {
    corpus.read(certificates.iter().find(|row| row.field("cn") == common_name).unwrap(), "file")
}

#[test]
fn recorded_reports_and_their_mutations_agree_with_sev() {
    let Some(corpus) = Corpus::open("28 SEV-SNP reports and 150 mutations of each against sev") else {
        return;
    };
    let certificates = corpus.rows("snp-certificates.tsv");
    let reports = corpus.rows("snp-reports.tsv");
    let mut tally = Tally { agreed: BTreeMap::new(), disagreed: BTreeMap::new(), unexplained: Vec::new() };
    for row in reports.iter().filter(|row| row.field("expected").starts_with("accept")) {
        let name = row.field("file");
        let issuer = row.field("issuer");
        let root = named(&corpus, &certificates, &format!("ARK-{}", issuer.rsplit('-').next().unwrap()));
        let der = corpus.read(row, "vcek");
        let start = certificates.iter().find(|found| found.field("file") == row.field("vcek")).unwrap();
        let day = confide_evidence::time::parse_rfc3339(&format!("{}T00:00:00Z", start.field("not_before")))
            .unwrap();
        let case = Case {
            report: corpus.read(row, "file"),
            certificates: vec![der, named(&corpus, &certificates, issuer)],
            lists: Vec::new(),
            seconds: day.as_secs() + 2 * 86_400,
        };
        assert!(ours(&case), "{name}");
        if !is_masked(&case) {
            fields_agree(&case.report, name);
        }
        tally.compare(&case, &root, None, name);
        for at in (0..case.report.len()).step_by(11) {
            let mut mutated = case.clone();
            mutated.report[at] ^= 1 << (at % 8);
            tally.compare(&mutated, &root, Some((Mutation::Report, at)), name);
        }
        for position in 0..2 {
            for at in (position..case.certificates[position].len()).step_by(61) {
                let mut mutated = case.clone();
                mutated.certificates[position][at] ^= 1 << (at % 8);
                tally.compare(&mutated, &root, Some((Mutation::Certificate, at)), name);
            }
        }
    }
    println!("agreed: {:?}; decided: {:?}", tally.agreed, tally.disagreed);
    assert!(tally.unexplained.is_empty(), "{}", tally.unexplained.join("\n"));
    assert_eq!((tally.agreed[&true], tally.disagreed[MASKED]), (27, 1));
    assert_eq!(tally.disagreed.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from(KINDS));
}

/// The kinds of disagreement.
const KINDS: [&str; 5] = [BEHIND_SIGNATURE, BEHIND_R_AND_S, RESERVED_TCB, OUTER_ALGORITHM, MASKED];

#[test]
fn every_kind_of_disagreement_is_explained_and_decided_in_the_document() {
    let text = include_str!("../../../docs/differential.md");
    let section = text.split("\n## ").find(|section| section.starts_with("SEV-SNP reports")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let names: BTreeSet<&str> = rows.map(|row| row.split('`').next().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(KINDS));
}

/// Every field that both read is the same.
fn fields_agree(bytes: &[u8], name: &str) {
    let (ours, theirs) = (Report::parse(bytes).unwrap(), AttestationReport::from_bytes(bytes).unwrap());
    assert_eq!(ours.version, theirs.version, "{name}");
    assert_eq!(ours.guest_svn, theirs.guest_svn, "{name}");
    assert_eq!(ours.policy.allows_debug(), theirs.policy.debug_allowed(), "{name}");
    assert_eq!(ours.policy.allows_smt(), theirs.policy.smt_allowed(), "{name}");
    assert_eq!(ours.policy.allows_migration_agent(), theirs.policy.migrate_ma_allowed(), "{name}");
    assert_eq!(ours.policy.requires_single_socket(), theirs.policy.single_socket_required(), "{name}");
    assert_eq!(u64::from(ours.policy.abi().minor), theirs.policy.abi_minor(), "{name}");
    assert_eq!(ours.platform_info.0, u64::from(theirs.plat_info), "{name}");
    assert_eq!(ours.key_info.0, u32::from(theirs.key_info), "{name}");
    assert_eq!(ours.vmpl, theirs.vmpl, "{name}");
    assert_eq!((ours.family_id, ours.image_id), (&theirs.family_id, &theirs.image_id), "{name}");
    assert_eq!(ours.report_data, &theirs.report_data, "{name}");
    assert_eq!(ours.measurement, &theirs.measurement, "{name}");
    assert_eq!(ours.host_data, &theirs.host_data, "{name}");
    assert_eq!(ours.id_key_digest, &theirs.id_key_digest, "{name}");
    assert_eq!(ours.author_key_digest, &theirs.author_key_digest, "{name}");
    assert_eq!((ours.report_id, ours.report_id_ma), (&theirs.report_id, &theirs.report_id_ma), "{name}");
    assert_eq!(ours.family_model, theirs.cpuid_fam_id.zip(theirs.cpuid_mod_id), "{name}");
    assert_eq!(ours.stepping, theirs.cpuid_step, "{name}");
    assert_eq!(ours.chip_id, &theirs.chip_id, "{name}");
    assert_eq!(ours.current_firmware.to_string(), theirs.current.to_string(), "{name}");
    assert_eq!(ours.committed_firmware.to_string(), theirs.committed.to_string(), "{name}");
    assert_eq!(ours.launch_mitigations, theirs.launch_mit_vector, "{name}");
    assert_eq!(ours.current_mitigations, theirs.current_mit_vector, "{name}");
    let turin = ours.family_model.is_some_and(|(family, _)| family == 0x1a);
    let product =
        if turin { confide_evidence::snp::Product::Turin } else { confide_evidence::snp::Product::Milan };
    for (ours, theirs) in [
        (ours.current_tcb, theirs.current_tcb),
        (ours.reported_tcb, theirs.reported_tcb),
        (ours.committed_tcb, theirs.committed_tcb),
        (ours.launch_tcb, theirs.launch_tcb),
    ] {
        let (levels, _) = confide_evidence::snp::TcbVersion::from_bytes(product, ours);
        let ours = [levels.bootloader, levels.tee, levels.snp, levels.microcode];
        assert_eq!(ours, [theirs.bootloader, theirs.tee, theirs.snp, theirs.microcode], "{name}");
        assert_eq!(levels.fmc, theirs.fmc, "{name}");
    }
}
