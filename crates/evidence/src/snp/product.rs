//! Processor products, and the kinds of key that sign reports.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A product of AMD EPYC processors, by the name that the key distribution service gives it (57230, chapter 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Product {
    /// 3rd generation, "Zen 3".
    Milan,
    /// 4th generation, "Zen 4", among them Bergamo and Siena.
    Genoa,
    /// 5th generation, "Zen 5".
    Turin,
}

impl Product {
    /// All products, oldest first.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in certificates.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The product with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// The product of a processor by its combined CPUID family and model (56860, fields CPUID_FAM_ID and CPUID_MOD_ID).
    #[must_use]
    pub fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A kind of key that signs reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SigningKey {
    /// Versioned chip endorsement key: of one chip and one TCB version.
    Vcek,
    /// Versioned loaded endorsement key: of one cloud provider and one TCB version, the same for all its chips.
    Vlek,
}

impl SigningKey {
    /// The name in policies and verdicts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }

    /// The subject common name of the key's certificate (57230, section 3.1).
    #[must_use]
    pub fn common_name(self) -> &'static str {
        match self {
            Self::Vcek => "SEV-VCEK",
            Self::Vlek => "SEV-VLEK",
        }
    }

    /// The subject common name of the authority that issues it for a product: the ASK or ASVK.
    #[must_use]
    pub fn issuer_common_name(self, product: Product) -> String {
        match self {
            Self::Vcek => format!("SEV-{product}"),
            Self::Vlek => format!("SEV-VLEK-{product}"),
        }
    }
}

impl fmt::Display for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_and_model_choose_the_product() {
        for (family, model, product) in [
            (0x19, 0x01, Some(Product::Milan)),
            (0x19, 0x11, Some(Product::Genoa)),
            (0x19, 0xa0, Some(Product::Genoa)),
            (0x1a, 0x02, Some(Product::Turin)),
            (0x1a, 0x11, Some(Product::Turin)),
            (0x1a, 0x50, None),
            (0x19, 0x20, None),
            (0x17, 0x31, None),
            (0, 0, None),
        ] {
            assert_eq!(Product::from_cpuid(family, model), product, "{family:#x} {model:#x}");
        }
    }

    #[test]
    fn names_read_back() {
        for product in Product::ALL {
            assert_eq!(Product::from_name(product.name()), Some(product));
        }
        assert_eq!(Product::from_name("milan"), None);
        assert_eq!(SigningKey::Vlek.issuer_common_name(Product::Genoa), "SEV-VLEK-Genoa");
    }
}
