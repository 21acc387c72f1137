//! Which of two editions of an object is the later one: a service that has fallen behind does not take back what is known.

use std::cmp::Ordering;
use std::fmt;

use confide_evidence::hex;
use confide_evidence::tdx::{QeIdentity, TcbInfo};
use confide_evidence::time::format_seconds;
use confide_evidence::x509::{Certificate, Crl};

use crate::object::{Object, Wanted};

/// One edition of an object that is issued again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edition {
    /// SubjectPublicKeyInfo of the root above it. Editions under different roots say nothing of each other: else whoever has
    /// a root of his own could bar the vendor's objects with a number that the vendor never reaches.
    root: Vec<u8>,
    /// `tcbEvaluationDataNumber`, or the number of a list (RFC 5280 section 5.2.3), big-endian without leading zeros.
    number: Option<Vec<u8>>,
    /// `issueDate` or thisUpdate, seconds since the Unix epoch.
    issued: i64,
}

impl Edition {
    /// The edition of an object that [`Wanted::check`] has read, under these certificates. `None` for certificates: each is
    /// what it is.
    pub(crate) fn of(wanted: Wanted, object: &Object, signers: &[Certificate]) -> Option<Self> {
        let (number, issued) = match wanted {
            Wanted::TcbInfo(..) => {
                let info = TcbInfo::parse(&object.tcb_info().ok()?.text).ok()?;
                (Some(info.tcb_evaluation_data_number.to_be_bytes().to_vec()), info.issue_date)
            }
            Wanted::QeIdentity(_) => {
                let identity = QeIdentity::parse(&object.qe_identity().ok()?.text).ok()?;
                (Some(identity.tcb_evaluation_data_number.to_be_bytes().to_vec()), identity.issue_date)
            }
            Wanted::RootCaCrl | Wanted::PckCrl(_) | Wanted::AmdCrl(..) => {
                let list = Crl::parse(&object.body).ok()?;
                (list.number, list.this_update)
            }
            Wanted::Vcek(..) | Wanted::AmdChain(..) => return None,
        };
        let number = number.map(|number| number.into_iter().skip_while(|byte| *byte == 0).collect());
        Some(Self { root: signers.last()?.spki.clone(), number, issued })
    }

    /// Whether another edition under the same root is later than this one: by its number, and under the same number, or
    /// where one has none, by its date.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        if self.root != other.root {
            return false;
        }
        let numbers = match (&self.number, &other.number) {
            (Some(own), Some(others)) => own.len().cmp(&others.len()).then_with(|| own.cmp(others)),
            _ => Ordering::Equal,
        };
        numbers.then(self.issued.cmp(&other.issued)) == Ordering::Less
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = &self.number {
            let digits = hex::encode(number);
            write!(f, "number 0x{} of ", if digits.is_empty() { "00" } else { digits.as_str() })?;
        }
        f.write_str(&format_seconds(self.issued))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edition(root: u8, number: Option<&[u8]>, issued: i64) -> Edition {
        Edition { root: vec![root], number: number.map(<[u8]>::to_vec), issued }
    }

    #[test]
    fn the_number_decides_and_then_the_date() {
        let kept = edition(1, Some(&[20]), 1000);
        for (older, found) in [
            (true, edition(1, Some(&[19]), 2000)),
            (true, edition(1, Some(&[]), 2000)),
            (true, edition(1, Some(&[20]), 999)),
            (true, edition(1, None, 999)),
            (false, kept.clone()),
            (false, edition(1, Some(&[20]), 1001)),
            (false, edition(1, Some(&[21]), 999)),
            (false, edition(1, Some(&[1, 0]), 999)),
            (false, edition(1, None, 1000)),
        ] {
            assert_eq!(found.is_older_than(&kept), older, "{found}");
        }
        assert!(edition(1, None, 1).is_older_than(&edition(1, None, 2)));
    }

    #[test]
    fn editions_under_different_roots_say_nothing_of_each_other() {
        let (own, others) = (edition(1, Some(&[1]), 1), edition(2, Some(&[2]), 2));
        assert!(!own.is_older_than(&others) && !others.is_older_than(&own));
    }

    #[test]
    fn an_edition_is_told_by_number_and_date() {
        assert_eq!(edition(1, Some(&[0x14]), 0).to_string(), "number 0x14 of 1970-01-01T00:00:00Z");
        assert_eq!(edition(1, Some(&[]), 0).to_string(), "number 0x00 of 1970-01-01T00:00:00Z");
        assert_eq!(edition(1, None, 0).to_string(), "1970-01-01T00:00:00Z");
    }
}
