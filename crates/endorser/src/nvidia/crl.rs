//! The revocation lists that NVIDIA publishes for chains of devices and of RIMs.

use std::fmt;

use confide_evidence::nvidia::Family;

/// A revocation list that NVIDIA publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NvidiaCrl {
    /// Of the root of devices: on the identities of chips.
    DeviceRoot,
    /// Of the identity of Hopper, which LS10 has, too: on provisioners.
    Gh100Identity,
    /// Of the identity of Blackwell for data centres: on provisioners.
    Gb100Identity,
    /// Of the root of RIMs: on the authorities of products.
    RimRoot,
}

impl NvidiaCrl {
    /// All lists.
    pub const ALL: [Self; 4] = [Self::DeviceRoot, Self::Gh100Identity, Self::Gb100Identity, Self::RimRoot];

    /// The lists on certificates in chains of a family's devices. For the identity of GB20X none is known.
    #[must_use]
    pub fn of_family(family: Family) -> &'static [Self] {
        match family {
            Family::Gh100 | Family::Ls10 => &[Self::DeviceRoot, Self::Gh100Identity],
            Family::Gb100 => &[Self::DeviceRoot, Self::Gb100Identity],
            Family::Gb20x => &[Self::DeviceRoot],
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::DeviceRoot => "/crl/l1-root.crl",
            Self::Gh100Identity => "/crl/l2-gh100.crl",
            Self::Gb100Identity => "/crl/l2-gb100.crl",
            Self::RimRoot => "/crl-corim/l1-corim",
        }
    }

    /// The common name of its issuer.
    pub(super) fn issuer(self) -> &'static str {
        match self {
            Self::DeviceRoot => "NVIDIA Device Identity CA",
            Self::Gh100Identity => "NVIDIA GH100 Identity",
            Self::Gb100Identity => "NVIDIA GB100 Identity",
            Self::RimRoot => "NVIDIA CoRIM signing Root CA",
        }
    }

    /// Whether a list of an issuer of this common name is this one. The word NVIDIA is not compared: an authority of tests
    /// does not bear it.
    pub(super) fn is_issued_by(self, common_name: &str) -> bool {
        let words = self.issuer().strip_prefix("NVIDIA ").unwrap_or(self.issuer());
        common_name.contains(words)
    }
}

impl fmt::Display for NvidiaCrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CRL of {}", self.issuer())
    }
}
