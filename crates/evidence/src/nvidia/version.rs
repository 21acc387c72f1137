//! Versions of drivers and of VBIOS, as reports write them: read strictly, so that a text and its value are one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most digits of one part of a driver's version. NVIDIA writes two or three.
const MAX_DIGITS: usize = 4;

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VersionError {
    /// Not the form of a driver's version.
    #[error("{0:?} is no driver version, such as 590.12 or 580.159.03")]
    Driver(String),
    /// Not the form of a VBIOS version.
    #[error("{0:?} is no VBIOS version, such as 96.00.A5.00.01")]
    Vbios(String),
}

/// The version of a driver: two or three decimal parts, the first without leading zeros, the others with at least two
/// digits, as in `545.00`, `590.12` and `580.159.03`. Ordered by the numbers; a missing part is before any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DriverVersion {
    branch: u16,
    major: u16,
    minor: Option<u16>,
}

impl DriverVersion {
    /// The parts in order: the branch first, two or three of them.
    #[must_use]
    pub fn parts(self) -> Vec<u16> {
        [Some(self.branch), Some(self.major), self.minor].into_iter().flatten().collect()
    }
}

impl FromStr for DriverVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        driver(text).ok_or_else(|| VersionError::Driver(shown(text)))
    }
}

fn driver(text: &str) -> Option<DriverVersion> {
    let mut parts = text.split('.');
    let branch = number(parts.next()?, 1)?;
    let major = number(parts.next()?, 2)?;
    let minor = match parts.next() {
        Some(part) => Some(number(part, 2)?),
        None => None,
    };
    parts.next().is_none().then_some(DriverVersion { branch, major, minor })
}

/// A number of at least `digits` digits, without leading zeros beyond them.
fn number(text: &str, digits: usize) -> Option<u16> {
    let padded = text.len() > digits && text.starts_with('0');
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = (digits..=MAX_DIGITS).contains(&text.len());
    (fits && decimal && !padded).then(|| text.parse().ok())?
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:02}", self.branch, self.major)?;
        match self.minor {
            Some(minor) => write!(formatter, ".{minor:02}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for DriverVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<DriverVersion> for String {
    fn from(version: DriverVersion) -> Self {
        version.to_string()
    }
}

/// The version of a VBIOS (GPU) or BIOS (switch): five bytes as pairs of upper-case hexadecimal digits, as in
/// `96.00.A5.00.01`. Ordered bytewise, which compares versions of one chip only: the first two bytes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VbiosVersion(pub [u8; 5]);

impl VbiosVersion {
    /// The first two bytes, which name the chip.
    #[must_use]
    pub fn branch(self) -> [u8; 2] {
        let Self([first, second, ..]) = self;
        [first, second]
    }
}

impl FromStr for VbiosVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        vbios(text).ok_or_else(|| VersionError::Vbios(shown(text)))
    }
}

fn vbios(text: &str) -> Option<VbiosVersion> {
    let bytes = text.split('.').map(pair).collect::<Option<Vec<u8>>>()?;
    Some(VbiosVersion(bytes.try_into().ok()?))
}

fn pair(text: &str) -> Option<u8> {
    let upper = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    (text.len() == 2 && upper).then(|| u8::from_str_radix(text, 16).ok())?
}

impl fmt::Display for VbiosVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d, e]) = self;
        write!(formatter, "{a:02X}.{b:02X}.{c:02X}.{d:02X}.{e:02X}")
    }
}

impl TryFrom<String> for VbiosVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<VbiosVersion> for String {
    fn from(version: VbiosVersion) -> Self {
        version.to_string()
    }
}

/// The beginning of a text that is none of ours, for an error.
fn shown(text: &str) -> String {
    text.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn driver_versions_are_ordered_by_their_numbers() {
        let texts = [
            "384.111",
            "535.86.09",
            "545.00",
            "550.54.14",
            "550.144.03",
            "580.95.05",
            "580.159.03",
            "590.12",
        ];
        let versions: Vec<DriverVersion> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(versions.is_sorted_by(|one, next| one < next));
        let shorter: DriverVersion = "590.12".parse().unwrap();
        assert!(shorter < "590.12.00".parse().unwrap());
    }

    #[test]
    fn texts_that_are_no_driver_version_are_refused() {
        for text in [
            "",
            "590",
            "590.",
            ".12",
            "590.1",
            "590.012",
            "0590.12",
            "590.12.1",
            "590.12.01.01",
            "590,12",
            "590.12 ",
            " 590.12",
            "590.+1",
            "590.1a",
            "59012.00",
            "590.12345",
            "590..12",
            "-590.12",
            "٥٩٠.12",
        ] {
            assert_eq!(text.parse::<DriverVersion>(), Err(VersionError::Driver(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn vbios_versions_are_five_upper_case_pairs_in_order() {
        let texts =
            ["96.00.5E.00.01", "96.00.74.00.20", "96.00.A5.00.01", "96.10.55.00.01", "97.00.88.00.0F"];
        let versions: Vec<VbiosVersion> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(versions.is_sorted_by(|one, next| one < next));
        for text in [
            "",
            "96.00.A5.00",
            "96.00.A5.00.01.00",
            "96.00.a5.00.01",
            "96.00.A5.00.1",
            "96.00.A5.00.+1",
            "9600A50001",
            "96.00.A5.00.01\0",
            "96.00.A5.00.001",
        ] {
            assert_eq!(text.parse::<VbiosVersion>(), Err(VersionError::Vbios(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn long_texts_are_shown_in_part() {
        let error = "9".repeat(5000).parse::<DriverVersion>().unwrap_err();
        assert_eq!(error, VersionError::Driver("9".repeat(32)));
    }

    #[test]
    fn json_has_versions_as_text() {
        let driver: DriverVersion = serde_json::from_str("\"580.159.03\"").unwrap();
        assert_eq!(serde_json::to_string(&driver).unwrap(), "\"580.159.03\"");
        assert!(serde_json::from_str::<DriverVersion>("\"580\"").is_err());
        let vbios: VbiosVersion = serde_json::from_str("\"96.00.A5.00.01\"").unwrap();
        assert_eq!(serde_json::to_string(&vbios).unwrap(), "\"96.00.A5.00.01\"");
        assert!(serde_json::from_str::<VbiosVersion>("960").is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(text in "[0-9A-Fa-f.]{0,18}") {
            if let Ok(version) = text.parse::<DriverVersion>() {
                prop_assert_eq!(version.to_string(), text.clone());
            }
            if let Ok(version) = text.parse::<VbiosVersion>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }

        #[test]
        fn every_vbios_has_a_text(bytes: [u8; 5]) {
            prop_assert_eq!(VbiosVersion(bytes).to_string().parse(), Ok(VbiosVersion(bytes)));
        }

        #[test]
        fn every_driver_has_a_text(branch in 0..1000_u16, major in 0..1000_u16, minor in prop::option::of(0..1000_u16)) {
            let version = DriverVersion { branch, major, minor };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }
    }
}
