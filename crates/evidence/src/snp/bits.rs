//! The bit fields of a report: guest policy, platform information, signing key information; versions.

use serde::{Deserialize, Deserializer};
use std::fmt;

/// POLICY: what the guest's owner allows the host (56860, section 4.3, "Guest Policy").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Bits 63 to 26: must be zero.
    const RESERVED: u64 = !0 << 26;
    /// Bit 17: must be one.
    const MUST_BE_ONE: u64 = 1 << 17;

    /// The lowest ABI version of firmware that may run the guest (bits 15 to 0).
    #[must_use]
    pub fn abi(self) -> AbiVersion {
        let [minor, major, ..] = self.0.to_le_bytes();
        AbiVersion { major, minor }
    }

    /// SMT (bit 16): the host may have SMT enabled.
    #[must_use]
    pub fn allows_smt(self) -> bool {
        bit(self.0, 16)
    }

    /// MIGRATE_MA (bit 18): the guest may be tied to a migration agent.
    #[must_use]
    pub fn allows_migration_agent(self) -> bool {
        bit(self.0, 18)
    }

    /// DEBUG (bit 19): the host can read and write the guest's memory.
    #[must_use]
    pub fn allows_debug(self) -> bool {
        bit(self.0, 19)
    }

    /// SINGLE_SOCKET (bit 20): the guest runs on one socket only.
    #[must_use]
    pub fn requires_single_socket(self) -> bool {
        bit(self.0, 20)
    }

    /// CXL_ALLOW (bit 21): CXL may be populated with devices or memory.
    #[must_use]
    pub fn allows_cxl(self) -> bool {
        bit(self.0, 21)
    }

    /// MEM_AES_256_XTS (bit 22): memory must be encrypted with AES-256 XTS.
    #[must_use]
    pub fn requires_aes_256_xts(self) -> bool {
        bit(self.0, 22)
    }

    /// RAPL_DIS (bit 23): the running average power limit must be off.
    #[must_use]
    pub fn requires_rapl_disabled(self) -> bool {
        bit(self.0, 23)
    }

    /// CIPHERTEXT_HIDING_DRAM (bit 24): ciphertext in memory must be hidden from the host.
    #[must_use]
    pub fn requires_ciphertext_hiding(self) -> bool {
        bit(self.0, 24)
    }

    /// PAGE_SWAP_DISABLE (bit 25): the host may not move or swap the guest's pages.
    #[must_use]
    pub fn disables_page_swap(self) -> bool {
        bit(self.0, 25)
    }

    /// Whether a reserved bit has another value than it must have.
    #[must_use]
    pub fn breaks_reserved_bits(self) -> bool {
        self.0 & Self::RESERVED != 0 || self.0 & Self::MUST_BE_ONE == 0
    }
}

/// PLATFORM_INFO: how the host's platform is configured (56860, ATTESTATION_REPORT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    /// Bits 63 to 8: reserved.
    const RESERVED: u64 = !0 << 8;

    /// SMT_EN (bit 0): SMT is enabled.
    #[must_use]
    pub fn smt(self) -> bool {
        bit(self.0, 0)
    }

    /// TSME_EN (bit 1): transparent secure memory encryption is enabled.
    #[must_use]
    pub fn tsme(self) -> bool {
        bit(self.0, 1)
    }

    /// ECC_EN (bit 2): memory has error correction.
    #[must_use]
    pub fn ecc(self) -> bool {
        bit(self.0, 2)
    }

    /// RAPL_DIS (bit 3): the running average power limit is off.
    #[must_use]
    pub fn rapl_disabled(self) -> bool {
        bit(self.0, 3)
    }

    /// CIPHERTEXT_HIDING_DRAM_EN (bit 4): ciphertext in memory is hidden from the host.
    #[must_use]
    pub fn ciphertext_hiding(self) -> bool {
        bit(self.0, 4)
    }

    /// ALIAS_CHECK_COMPLETE (bit 5): no two addresses name the same memory since the last reset (AMD-SB-3015).
    #[must_use]
    pub fn alias_check_complete(self) -> bool {
        bit(self.0, 5)
    }

    /// Bit 6: the IOMMU's writes into guest memory are safe (AMD-SB-3016).
    #[must_use]
    pub fn iommu_write_safe(self) -> bool {
        bit(self.0, 6)
    }

    /// TIO_EN (bit 7): trusted I/O is enabled.
    #[must_use]
    pub fn tio(self) -> bool {
        bit(self.0, 7)
    }

    /// Whether a reserved bit is set.
    #[must_use]
    pub fn breaks_reserved_bits(self) -> bool {
        self.0 & Self::RESERVED != 0
    }
}

/// The word at 0x48: which key signs the report, and whether there is an author key (56860, ATTESTATION_REPORT).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo(pub u32);

impl KeyInfo {
    /// Bits 31 to 5: must be zero.
    const RESERVED: u32 = !0 << 5;

    /// AUTHOR_KEY_EN (bit 0): AUTHOR_KEY_DIGEST has the digest of the author key.
    #[must_use]
    pub fn author_key(self) -> bool {
        self.0 & 1 != 0
    }

    /// MASK_CHIP_KEY (bit 1): the firmware writes zeros in place of a signature.
    #[must_use]
    pub fn masks_chip_key(self) -> bool {
        self.0 & 2 != 0
    }

    /// SIGNING_KEY (bits 4 to 2): 0 VCEK, 1 VLEK, 7 none, others reserved.
    #[must_use]
    pub fn signing_key(self) -> u32 {
        self.0 >> 2 & 7
    }

    /// Whether a reserved bit is set.
    #[must_use]
    pub fn breaks_reserved_bits(self) -> bool {
        self.0 & Self::RESERVED != 0
    }
}

fn bit(value: u64, index: u32) -> bool {
    value >> index & 1 != 0
}

/// A version of the firmware's ABI, written `1.55`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbiVersion {
    /// Major version.
    pub major: u8,
    /// Minor version.
    pub minor: u8,
}

/// A version of the firmware, written `1.55.29`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion {
    /// Major version of the ABI.
    pub major: u8,
    /// Minor version of the ABI.
    pub minor: u8,
    /// Build number.
    pub build: u8,
}

impl FirmwareVersion {
    /// From the bytes of a report: build, minor, major.
    #[must_use]
    pub fn from_bytes([build, minor, major]: [u8; 3]) -> Self {
        Self { major, minor, build }
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl<'de> Deserialize<'de> for AbiVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [major, minor] = numbers(&String::deserialize(deserializer)?, "1.55")?;
        Ok(Self { major, minor })
    }
}

impl<'de> Deserialize<'de> for FirmwareVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [major, minor, build] = numbers(&String::deserialize(deserializer)?, "1.55.29")?;
        Ok(Self { major, minor, build })
    }
}

fn numbers<const N: usize, E: serde::de::Error>(text: &str, example: &str) -> Result<[u8; N], E> {
    let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
    parts
        .and_then(|parts| parts.try_into().ok())
        .ok_or_else(|| E::custom(format!("{text:?} is no version of the form {example}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bit and the function that reads it.
    type Bit<T> = (u32, fn(T) -> bool);

    #[test]
    fn bits_of_the_guest_policy() {
        let none = GuestPolicy(1 << 17);
        let bits: [Bit<GuestPolicy>; 9] = [
            (16, GuestPolicy::allows_smt),
            (18, GuestPolicy::allows_migration_agent),
            (19, GuestPolicy::allows_debug),
            (20, GuestPolicy::requires_single_socket),
            (21, GuestPolicy::allows_cxl),
            (22, GuestPolicy::requires_aes_256_xts),
            (23, GuestPolicy::requires_rapl_disabled),
            (24, GuestPolicy::requires_ciphertext_hiding),
            (25, GuestPolicy::disables_page_swap),
        ];
        for (index, read) in bits {
            assert!(!read(none) && read(GuestPolicy(none.0 | 1 << index)), "bit {index}");
            assert!(!GuestPolicy(none.0 | 1 << index).breaks_reserved_bits(), "bit {index}");
        }
        assert!(GuestPolicy(0).breaks_reserved_bits());
        for index in 26..64 {
            assert!(GuestPolicy(none.0 | 1 << index).breaks_reserved_bits(), "bit {index}");
        }
        assert_eq!(GuestPolicy(0x3_0137).abi().to_string(), "1.55");
    }

    #[test]
    fn bits_of_the_platform_information() {
        let bits: [Bit<PlatformInfo>; 8] = [
            (0, PlatformInfo::smt),
            (1, PlatformInfo::tsme),
            (2, PlatformInfo::ecc),
            (3, PlatformInfo::rapl_disabled),
            (4, PlatformInfo::ciphertext_hiding),
            (5, PlatformInfo::alias_check_complete),
            (6, PlatformInfo::iommu_write_safe),
            (7, PlatformInfo::tio),
        ];
        for (index, read) in bits {
            assert!(!read(PlatformInfo(0)) && read(PlatformInfo(1 << index)), "bit {index}");
            assert!(!PlatformInfo(1 << index).breaks_reserved_bits(), "bit {index}");
        }
        assert!((8..64).all(|index| PlatformInfo(1 << index).breaks_reserved_bits()));
    }

    #[test]
    fn bits_of_the_signing_key_information() {
        let info = KeyInfo(0b1_1101);
        assert!(info.author_key() && !info.masks_chip_key() && info.signing_key() == 7);
        assert!(KeyInfo(2).masks_chip_key() && !info.breaks_reserved_bits());
        assert!((5..32).all(|index| KeyInfo(1 << index).breaks_reserved_bits()));
    }

    #[test]
    fn versions_are_ordered_and_written_with_points() {
        let version = |text: &str| serde_json::from_str::<FirmwareVersion>(&format!("{text:?}"));
        assert_eq!(version("1.55.29").unwrap(), FirmwareVersion::from_bytes([29, 55, 1]));
        assert!(version("1.55.29").unwrap() < version("1.56.0").unwrap());
        for wrong in ["1.55", "1.55.256", "1.55.x", "", "1.55.29.1", "-1.0.0"] {
            assert!(version(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<AbiVersion>("\"1.55\"").unwrap() < AbiVersion { major: 2, minor: 0 });
    }
}
