//! TCB_VERSION: the security versions of a platform's firmware components.

use super::Product;
use std::fmt;

/// TCB_VERSION (56860, section 2.2): a security patch level for each component.
///
/// | byte | Milan, Genoa | Turin |
/// |---|---|---|
/// | 0 | boot loader | FMC |
/// | 1 | TEE | boot loader |
/// | 2 | reserved | TEE |
/// | 3 | reserved | SNP |
/// | 4, 5 | reserved | reserved |
/// | 6 | SNP | reserved |
/// | 7 | microcode | microcode |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcbVersion {
    /// Firmware microcontroller, of Turin.
    pub fmc: Option<u8>,
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Operating system of the security processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl TcbVersion {
    /// Reads the eight bytes of a report as the product lays them out. The second value is false where a reserved byte
    /// is not zero.
    #[must_use]
    pub fn from_bytes(product: Product, bytes: [u8; 8]) -> (Self, bool) {
        match (product, bytes) {
            (Product::Milan | Product::Genoa, [bootloader, tee, a, b, c, d, snp, microcode]) => {
                (Self { fmc: None, bootloader, tee, snp, microcode }, [a, b, c, d] == [0; 4])
            }
            (Product::Turin, [fmc, bootloader, tee, snp, a, b, c, microcode]) => {
                (Self { fmc: Some(fmc), bootloader, tee, snp, microcode }, [a, b, c] == [0; 3])
            }
        }
    }

    /// Whether every component is at least that of `floor`.
    #[must_use]
    pub fn reaches(&self, floor: &Self) -> bool {
        self.fmc >= floor.fmc
            && self.bootloader >= floor.bootloader
            && self.tee >= floor.tee
            && self.snp >= floor.snp
            && self.microcode >= floor.microcode
    }
}

impl fmt::Display for TcbVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(formatter, "FMC {fmc}, ")?;
        }
        let Self { bootloader, tee, snp, microcode, .. } = self;
        write!(formatter, "boot loader {bootloader}, TEE {tee}, SNP {snp}, microcode {microcode}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_product_has_its_layout() {
        let (milan, zero) = TcbVersion::from_bytes(Product::Milan, [4, 1, 0, 0, 0, 0, 0x18, 0xdb]);
        assert!(zero);
        assert_eq!(milan.to_string(), "boot loader 4, TEE 1, SNP 24, microcode 219");
        let (turin, zero) = TcbVersion::from_bytes(Product::Turin, [1, 2, 3, 4, 0, 0, 0, 0x51]);
        assert!(zero);
        assert_eq!(turin.to_string(), "FMC 1, boot loader 2, TEE 3, SNP 4, microcode 81");
        for (product, reserved) in [(Product::Milan, 2..6), (Product::Genoa, 2..6), (Product::Turin, 4..7)] {
            for at in 0..8 {
                let mut bytes = [0; 8];
                bytes[at] = 1;
                assert_eq!(
                    TcbVersion::from_bytes(product, bytes).1,
                    !reserved.contains(&at),
                    "{product} {at}"
                );
            }
        }
    }

    #[test]
    fn one_lower_component_is_below_a_floor() {
        for product in Product::ALL {
            let floor = TcbVersion::from_bytes(product, [5; 8]).0;
            assert!(floor.reaches(&floor));
            for at in 0..8 {
                let mut bytes = [5; 8];
                bytes[at] = 4;
                let lower = TcbVersion::from_bytes(product, bytes).0;
                assert_eq!(lower.reaches(&floor), lower == floor, "{product} {at}");
            }
        }
    }
}
