//! Bits of TDATTRIBUTES, XFAM and SEAMATTRIBUTES by name (Intel TDX Module ABI Reference, ATTRIBUTES and XFAM; Intel SDM
//! volume 1, section 13.1, for state components).

use std::fmt;

/// Named bits of TDATTRIBUTES. KL was withdrawn from later versions of the specification; quotes of older modules have it.
const TD_ATTRIBUTES: &[(u32, &str)] = &[
    (0, "DEBUG"),
    (4, "HGS_PLUS_PROF"),
    (5, "PERF_PROF"),
    (6, "PMT_PROF"),
    (16, "ICSSD"),
    (17, "SERVTD_EXT"),
    (27, "LASS"),
    (28, "SEPT_VE_DISABLE"),
    (29, "MIGRATABLE"),
    (30, "PKS"),
    (31, "KL"),
    (62, "TPA"),
    (63, "PERFMON"),
];

/// Named bits of XFAM.
const XFAM: &[(u32, &str)] = &[
    (0, "X87"),
    (1, "SSE"),
    (2, "AVX"),
    (3, "BNDREG"),
    (4, "BNDCSR"),
    (5, "OPMASK"),
    (6, "ZMM_HI256"),
    (7, "HI16_ZMM"),
    (8, "PT"),
    (9, "PKRU"),
    (10, "PASID"),
    (11, "CET_U"),
    (12, "CET_S"),
    (13, "HDC"),
    (14, "UINTR"),
    (15, "LBR"),
    (16, "HWP"),
    (17, "TILECFG"),
    (18, "TILEDATA"),
    (19, "APX"),
];

/// TDATTRIBUTES: what the host may do to a TD, and which features it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TdAttributes(pub u64);

/// XFAM: which extended processor state a TD may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xfam(pub u64);

/// SEAMATTRIBUTES of the TDX module: no bit is defined, production modules have zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeamAttributes(pub u64);

impl TdAttributes {
    /// From the field's 8 bytes, little endian.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 8]) -> Self {
        Self(u64::from_le_bytes(*bytes))
    }

    /// The bits that no name is defined for.
    #[must_use]
    pub fn reserved(self) -> u64 {
        unnamed(self.0, TD_ATTRIBUTES)
    }

    /// Bit 0: the host can read the TD's memory.
    #[must_use]
    pub fn is_debug(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bit 29: a migration TD can move the TD to another platform.
    #[must_use]
    pub fn is_migratable(self) -> bool {
        self.0 & (1 << 29) != 0
    }

    /// Bit 17: the report's service TD fields are those of the extended service TD structure.
    #[must_use]
    pub fn has_extended_service_td(self) -> bool {
        self.0 & (1 << 17) != 0
    }
}

impl Xfam {
    /// From the field's 8 bytes, little endian.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 8]) -> Self {
        Self(u64::from_le_bytes(*bytes))
    }

    /// The bits that no name is defined for.
    #[must_use]
    pub fn reserved(self) -> u64 {
        unnamed(self.0, XFAM)
    }
}

impl SeamAttributes {
    /// From the field's 8 bytes, little endian.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 8]) -> Self {
        Self(u64::from_le_bytes(*bytes))
    }
}

/// The names of all set bits, `none` where there is none; a reserved bit is named by its number.
impl fmt::Display for TdAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(self.0, TD_ATTRIBUTES, f)
    }
}

/// As [`TdAttributes`].
impl fmt::Display for Xfam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(self.0, XFAM, f)
    }
}

/// As [`TdAttributes`].
impl fmt::Display for SeamAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_names(self.0, &[], f)
    }
}

fn unnamed(bits: u64, names: &[(u32, &str)]) -> u64 {
    names.iter().fold(bits, |left, (bit, _)| left & !mask(*bit))
}

fn mask(bit: u32) -> u64 {
    1_u64.checked_shl(bit).unwrap_or_default()
}

fn write_names(bits: u64, names: &[(u32, &str)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let set = (0..u64::BITS).filter(|bit| bits & mask(*bit) != 0);
    let mut separator = "";
    for bit in set {
        f.write_str(separator)?;
        match names.iter().find(|(named, _)| *named == bit) {
            Some((_, name)) => f.write_str(name)?,
            None => write!(f, "reserved bit {bit}")?,
        }
        separator = ", ";
    }
    if bits == 0 { f.write_str("none") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_td_attributes_is_named_or_reserved() {
        let named = TD_ATTRIBUTES.iter().fold(0, |bits, (bit, _)| bits | 1_u64 << bit);
        for bit in 0..64 {
            let attributes = TdAttributes(1 << bit);
            let reserved = attributes.reserved() != 0;
            assert_eq!(reserved, named & 1 << bit == 0, "bit {bit}");
            assert_eq!(attributes.to_string() == format!("reserved bit {bit}"), reserved, "bit {bit}");
        }
        assert_eq!(TdAttributes(!named).reserved(), !named);
        assert_eq!(TdAttributes(named).reserved(), 0);
    }

    #[test]
    fn td_attributes_are_named_in_the_order_of_their_bits() {
        let recorded = TdAttributes::from_bytes(&[0, 0, 0, 0x30, 0, 0, 0, 0x80]);
        assert_eq!(recorded.to_string(), "SEPT_VE_DISABLE, MIGRATABLE, PERFMON");
        assert!(recorded.is_migratable() && !recorded.is_debug() && !recorded.has_extended_service_td());
        assert!(TdAttributes(1).is_debug() && TdAttributes(1 << 17).has_extended_service_td());
        assert_eq!(TdAttributes(0).to_string(), "none");
        assert_eq!(TdAttributes(1 << 26 | 1).to_string(), "DEBUG, reserved bit 26");
    }

    #[test]
    fn xfam_and_seam_attributes_are_named() {
        let usual = Xfam::from_bytes(&[0xe7, 0x02, 0x06, 0, 0, 0, 0, 0]);
        assert_eq!(usual.to_string(), "X87, SSE, AVX, OPMASK, ZMM_HI256, HI16_ZMM, PKRU, TILECFG, TILEDATA");
        assert_eq!(usual.reserved(), 0);
        assert_eq!(Xfam(1 << 20 | 1 << 63).reserved(), 1 << 20 | 1 << 63);
        assert_eq!(SeamAttributes::from_bytes(&[0; 8]).to_string(), "none");
        assert_eq!(SeamAttributes(2).to_string(), "reserved bit 1");
    }
}
