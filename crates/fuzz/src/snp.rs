//! Honest simulated SEV-SNP evidence, whose parts the fuzzer changes.

use crate::guest::NOW;
use confide_evidence::bytes::ByteString;
use confide_evidence::document::SnpEndorsements;
use confide_simulator::{SimulatedSnp, SnpOptions, SnpReport};
use std::sync::LazyLock;

/// Length of what a report's signature covers.
pub(crate) const SIGNED: usize = confide_evidence::snp::SIGNED;

/// A platform, a report of it and what endorses that.
pub(crate) struct Honest {
    platform: SimulatedSnp,
    guest: SnpReport,
    pub(crate) report: Vec<u8>,
    pub(crate) endorsements: SnpEndorsements,
}

pub(crate) static HONEST: LazyLock<Honest> = LazyLock::new(|| Honest::of(SnpOptions::at(NOW)));

impl Honest {
    pub(crate) fn of(options: SnpOptions) -> Self {
        let platform = SimulatedSnp::new(options).expect("usual options");
        let guest = platform.guest([7; 64]);
        let certificates = platform.certificates().expect("usual certificates");
        let list = platform.revocation_list().sign().expect("a usual list");
        let endorsements = SnpEndorsements {
            certificates: certificates.map(ByteString).to_vec(),
            crls: vec![ByteString(list)],
        };
        let report = platform.report(&guest);
        Self { platform, guest, report, endorsements }
    }

    /// The same report with a signature of the platform's key, if it has a report's length.
    pub(crate) fn signed_anew(&self, report: &[u8]) -> Option<Vec<u8>> {
        let signed = report.get(..SIGNED).filter(|_| report.len() == self.report.len())?;
        let patches = signed.iter().copied().enumerate().collect();
        Some(self.platform.report(&SnpReport { patches, ..self.guest.clone() }))
    }
}
