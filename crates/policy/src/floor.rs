//! Expectations of numbers: floors and required bits.

use crate::{Expectation, Reason, Says, form};
use confide_evidence::snp::{AbiVersion, FirmwareVersion, Product, TcbVersion};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A lowest accepted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Floor<T> {
    /// This value or a higher one.
    AtLeast(T),
    /// Not looked at, for this reason. Every verdict repeats the waiver.
    Waive(Reason),
}

/// Bits that must be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bits {
    /// Every bit of this mask; others may be set, too.
    AllOf(u64),
    /// Not looked at, for this reason.
    Waive(Reason),
}

/// The lowest accepted security patch levels, for each product: they are numbered independently. A product that is not
/// named is below every floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbFloors {
    /// Milan.
    #[serde(rename = "Milan")]
    pub milan: Option<Levels>,
    /// Genoa.
    #[serde(rename = "Genoa")]
    pub genoa: Option<Levels>,
    /// Turin.
    #[serde(rename = "Turin")]
    pub turin: Option<TurinLevels>,
}

/// Security patch levels of Milan and Genoa.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// Boot loader.
    pub bootloader: u8,
    /// TEE.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// Security patch levels of Turin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurinLevels {
    /// Firmware microcontroller.
    pub fmc: u8,
    /// Boot loader.
    pub bootloader: u8,
    /// TEE.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl TcbFloors {
    /// The floor of a product, where the policy names one.
    #[must_use]
    pub fn of(&self, product: Product) -> Option<TcbVersion> {
        let levels = |levels: Levels| {
            let Levels { bootloader, tee, snp, microcode } = levels;
            TcbVersion { fmc: None, bootloader, tee, snp, microcode }
        };
        match product {
            Product::Milan => self.milan.map(levels),
            Product::Genoa => self.genoa.map(levels),
            Product::Turin => self.turin.map(|levels| {
                let TurinLevels { fmc, bootloader, tee, snp, microcode } = levels;
                TcbVersion { fmc: Some(fmc), bootloader, tee, snp, microcode }
            }),
            _ => None,
        }
    }
}

/// A value with a floor, in the form in which policies are compared.
pub trait Floored: Debug {
    /// The numbers by name. What is not named is refused.
    fn floors(&self) -> BTreeMap<String, Vec<u64>>;
}

impl Floored for u32 {
    fn floors(&self) -> BTreeMap<String, Vec<u64>> {
        [("number".to_owned(), vec![u64::from(*self)])].into()
    }
}

impl Floored for AbiVersion {
    fn floors(&self) -> BTreeMap<String, Vec<u64>> {
        [("version".to_owned(), [self.major, self.minor].map(u64::from).to_vec())].into()
    }
}

impl Floored for FirmwareVersion {
    fn floors(&self) -> BTreeMap<String, Vec<u64>> {
        [("version".to_owned(), [self.major, self.minor, self.build].map(u64::from).to_vec())].into()
    }
}

impl Floored for TcbFloors {
    fn floors(&self) -> BTreeMap<String, Vec<u64>> {
        let mut floors = BTreeMap::new();
        for product in Product::ALL {
            let Some(TcbVersion { fmc, bootloader, tee, snp, microcode }) = self.of(product) else {
                continue;
            };
            let mut note = |component: &str, level: u8| {
                floors.insert(format!("{product} {component}"), vec![u64::from(level)]);
            };
            if let Some(fmc) = fmc {
                note("FMC", fmc);
            }
            note("boot loader", bootloader);
            note("TEE", tee);
            note("SNP", snp);
            note("microcode", microcode);
        }
        floors
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FloorForm<T> {
    at_least: Option<T>,
    waive: Option<Reason>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BitsForm {
    all_of: Option<u64>,
    waive: Option<Reason>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Floor<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = FloorForm::deserialize(deserializer)?;
        form::one([form.at_least.map(Self::AtLeast), form.waive.map(Self::Waive)], "at_least, waive")
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = BitsForm::deserialize(deserializer)?;
        form::one([form.all_of.map(Self::AllOf), form.waive.map(Self::Waive)], "all_of, waive")
    }
}

impl<T: Floored> Expectation for Floor<T> {
    fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AtLeast(_) => None,
        }
    }

    fn says(&self) -> Says {
        match self {
            Self::AtLeast(floor) => Says::Floors(floor.floors()),
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

impl Expectation for Bits {
    fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AllOf(_) => None,
        }
    }

    fn says(&self) -> Says {
        match self {
            Self::AllOf(mask) => {
                let bits = (0..u64::BITS).filter(|bit| mask >> bit & 1 != 0);
                Says::none_of(bits.map(|bit| format!("bit {bit} clear")))
            }
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;

    fn floors(text: &str) -> Floor<TcbFloors> {
        toml::from_str::<BTreeMap<String, _>>(text).unwrap().remove("tcb").unwrap()
    }

    #[test]
    fn floors_are_those_of_the_product() {
        let Floor::AtLeast(tcb) = floors(
            "tcb = { at_least = { Milan = { bootloader = 4, tee = 0, snp = 24, microcode = 219 }, \
             Turin = { fmc = 1, bootloader = 2, tee = 3, snp = 4, microcode = 5 } } }",
        ) else {
            panic!("a floor")
        };
        assert_eq!(
            tcb.of(Product::Milan).unwrap().to_string(),
            "boot loader 4, TEE 0, SNP 24, microcode 219"
        );
        assert_eq!(tcb.of(Product::Turin).unwrap().fmc, Some(1));
        assert_eq!(tcb.of(Product::Genoa), None);
    }

    #[test]
    fn raising_or_dropping_a_floor_is_stricter() {
        let low =
            floors("tcb = { at_least = { Milan = { bootloader = 4, tee = 0, snp = 24, microcode = 219 } } }");
        let high =
            floors("tcb = { at_least = { Milan = { bootloader = 4, tee = 0, snp = 25, microcode = 219 } } }");
        let none = floors("tcb = { at_least = {} }");
        assert_eq!(low.says().change_to(&high.says()), Change::Stricter);
        assert_eq!(low.says().change_to(&none.says()), Change::Stricter);
        assert_eq!(none.says().change_to(&floors("tcb = { waive = \"x\" }").says()), Change::Looser);
        assert_eq!(Bits::AllOf(1).says().change_to(&Bits::AllOf(3).says()), Change::Stricter);
    }

    #[test]
    fn a_component_that_a_product_does_not_have_is_refused() {
        let wrong = "tcb = { at_least = { Milan = { fmc = 1, bootloader = 4, tee = 0, snp = 24, microcode = 219 } } }";
        assert!(toml::from_str::<BTreeMap<String, Floor<TcbFloors>>>(wrong).is_err());
    }
}
