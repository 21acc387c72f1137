//! The ids under which NVIDIA's service keeps RIMs.

use std::fmt;
use std::str::FromStr;

use confide_evidence::nvidia::{
    DeviceChain, DeviceKind, DriverVersion, Edition, Family, Report, Rim, VbiosVersion,
};

use crate::error::Fault;

/// The longest id accepted, in characters. Those of drivers and VBIOSes have at most 40.
pub const MAX_RIM_ID: usize = 96;
/// The longest part of an id that names a chip or a board, in characters. NVIDIA writes three to five.
const MAX_PART: usize = 16;

const HOPPER_DRIVER: &str = "NV_GPU_DRIVER_";
const BLACKWELL_DRIVER: &str = "NV_GPU_CC_DRIVER_";
const VBIOS: &str = "NV_GPU_VBIOS_";
/// Project, SKU and chip SKU of LS10: they stand in no report.
const SWITCH: &str = "NV_SWITCH_BIOS_5612_0002_890_";
const HOPPER: &str = "GH100";
/// What NVIDIA's own verifier takes for a Blackwell whose report has no CHIP_INFO.
const BLACKWELL: &str = "GB100";
const LS10: &str = "LS10";
/// Ends the names of files in which NVIDIA published VBIOS RIMs before there was the service.
const PRODUCTION: &str = "_PROD";

/// The id of a RIM: of a driver, a VBIOS or a switch's BIOS. It is capital letters, digits, `_` and `.`, and begins with
/// `NV_`: a file name, and a segment of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RimId {
    text: String,
    firmware: Firmware,
}

/// What the RIM of an id is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Firmware {
    Driver { chip: String, version: DriverVersion },
    Vbios(VbiosVersion),
    SwitchBios(VbiosVersion),
}

/// Why there is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RimIdError {
    /// Not the form of an id of a driver, a VBIOS or a switch's BIOS.
    #[error(
        "{0:?} is no id of a RIM, such as NV_GPU_DRIVER_GH100_580.95.05 or NV_GPU_VBIOS_1010_0200_882_96009F0001"
    )]
    Form(String),
    /// The report lacks a field that the id is made of.
    #[error("the report has no {0}, which the id of its RIM is made of")]
    Missing(&'static str),
    /// The leaf certificate is of no known chip.
    #[error("the leaf certificate {0:?} is of no known chip")]
    Family(String),
    /// The leaf certificate is of another kind of device than the report.
    #[error("the report is not of a {0}, of which the leaf certificate is")]
    Kind(&'static str),
}

impl RimId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id that the name of a file says, without its extension: the id itself, or as NVIDIA named published VBIOS RIMs,
    /// `1010_0200_882_96009F0001_PROD`.
    #[must_use]
    pub fn of_file_stem(stem: &str) -> Option<Self> {
        let published = || {
            let board = stem.strip_suffix(PRODUCTION)?.to_ascii_uppercase();
            format!("{VBIOS}{board}").parse().ok()
        };
        stem.parse().ok().or_else(published)
    }

    /// The id that a RIM's own fields make. `None` for a VBIOS: nothing in the document names its board.
    #[must_use]
    pub fn of_rim(rim: &Rim) -> Option<Self> {
        let Rim { product, colloquial_version: version, .. } = rim;
        let id = match rim.edition {
            Edition::Switch if product == LS10 => format!("{SWITCH}{}", undotted(version)),
            Edition::Switch => return None,
            Edition::Gpu => {
                let _: DriverVersion = version.parse().ok()?;
                let form = if product == HOPPER { HOPPER_DRIVER } else { BLACKWELL_DRIVER };
                format!("{form}{product}_{version}")
            }
        };
        id.parse().ok()
    }

    /// Whether a RIM is about what its id says. Asked for a driver by the id of another chip's form, the service gives a
    /// RIM that is rightly signed, of the other chip.
    ///
    /// # Errors
    /// [`Fault::Other`].
    pub(crate) fn check(&self, rim: &Rim) -> Result<(), Fault> {
        let edition = match rim.edition {
            Edition::Gpu => "GPU",
            Edition::Switch => "switch",
        };
        let Rim { product, colloquial_version: version, .. } = rim;
        let (asked, found) = match &self.firmware {
            Firmware::Driver { chip, version: asked } => {
                (format!("GPU {chip} {asked}"), format!("{edition} {product} {version}"))
            }
            // The id has the board and not the chip.
            Firmware::Vbios(asked) => (format!("GPU {asked}"), format!("{edition} {version}")),
            Firmware::SwitchBios(asked) => {
                (format!("switch {LS10} {asked}"), format!("{edition} {product} {version}"))
            }
        };
        if asked == found { Ok(()) } else { Err(Fault::Other { asked, found }) }
    }
}

impl fmt::Display for RimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RimId {
    type Err = RimIdError;

    fn from_str(text: &str) -> Result<Self, RimIdError> {
        firmware(text)
            .map(|firmware| Self { text: text.to_owned(), firmware })
            .ok_or_else(|| RimIdError::Form(text.chars().take(MAX_RIM_ID).collect()))
    }
}

fn firmware(text: &str) -> Option<Firmware> {
    if text.len() > MAX_RIM_ID {
        return None;
    }
    let driver = [HOPPER_DRIVER, BLACKWELL_DRIVER].into_iter().find_map(|form| text.strip_prefix(form));
    if let Some((chip, version)) = driver.and_then(|rest| rest.split_once('_')) {
        let chip = part(chip)?.to_owned();
        return Some(Firmware::Driver { chip, version: version.parse().ok()? });
    }
    if let Some(version) = text.strip_prefix(SWITCH) {
        return Some(Firmware::SwitchBios(undotted_version(version)?));
    }
    let mut parts = text.strip_prefix(VBIOS)?.split('_');
    for _ in ["project", "project SKU", "chip SKU"] {
        part(parts.next()?)?;
    }
    let version = undotted_version(parts.next()?)?;
    parts.next().is_none().then_some(Firmware::Vbios(version))
}

/// A name of a chip or board.
fn part(text: &str) -> Option<&str> {
    let plain = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    (plain && (1..=MAX_PART).contains(&text.len())).then_some(text)
}

/// A version without its dots: ten hexadecimal digits.
fn undotted_version(text: &str) -> Option<VbiosVersion> {
    let pairs: [&[u8]; 5] = text.as_bytes().chunks(2).collect::<Vec<_>>().try_into().ok()?;
    let pairs: Option<Vec<&str>> = pairs.into_iter().map(|pair| std::str::from_utf8(pair).ok()).collect();
    let version = pairs?.join(".").parse().ok()?;
    (text.len() == 10).then_some(version)
}

fn undotted(version: &str) -> String {
    version.replace('.', "").to_ascii_uppercase()
}

/// The ids of the RIMs that a device's report is held against: of a GPU its driver's and its VBIOS', of a switch its BIOS'.
/// Nothing is verified: a report that lies gets RIMs that do not fit it.
///
/// # Errors
/// [`RimIdError`].
pub fn rim_ids(report: &Report<'_>, chain: &DeviceChain) -> Result<Vec<RimId>, RimIdError> {
    let family = chain.family().ok_or_else(|| RimIdError::Family(chain.leaf().common_name.clone()))?;
    if family.kind() != report.kind {
        return Err(RimIdError::Kind(match family.kind() {
            DeviceKind::Gpu => "GPU",
            DeviceKind::Switch => "switch",
        }));
    }
    let opaque = &report.opaque;
    let vbios = undotted(opaque.vbios_version.as_deref().ok_or(RimIdError::Missing("VBIOS_VERSION"))?);
    if family == Family::Ls10 {
        return Ok(vec![format!("{SWITCH}{vbios}").parse()?]);
    }
    let field =
        |value: Option<&str>, name| value.map(str::to_ascii_uppercase).ok_or(RimIdError::Missing(name));
    let driver = field(opaque.driver_version, "DRIVER_VERSION")?;
    let (project, sku, chip_sku) = (
        field(opaque.project, "PROJECT")?,
        field(opaque.project_sku, "PROJECT_SKU")?,
        field(opaque.chip_sku, "CHIP_SKU")?,
    );
    let form = match (family, opaque.chip_info) {
        (Family::Gh100, _) => format!("{HOPPER_DRIVER}{HOPPER}"),
        (_, Some(chip)) => format!("{BLACKWELL_DRIVER}{chip}"),
        (Family::Gb100, None) => format!("{BLACKWELL_DRIVER}{BLACKWELL}"),
        (Family::Gb20x | Family::Ls10, None) => return Err(RimIdError::Missing("CHIP_INFO")),
    };
    Ok(vec![
        format!("{form}_{driver}").parse()?,
        format!("{VBIOS}{project}_{sku}_{chip_sku}_{vbios}").parse()?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read() {
        for text in [
            "NV_GPU_DRIVER_GH100_535.86.09",
            "NV_GPU_DRIVER_GH100_590.12",
            "NV_GPU_CC_DRIVER_GB100_580.95.05",
            "NV_GPU_CC_DRIVER_GB202_580.95.05",
            "NV_GPU_VBIOS_1010_0200_882_96009F0001",
            "NV_GPU_VBIOS_G520_0202_885_96006D0027",
            "NV_SWITCH_BIOS_5612_0002_890_96105E0001",
        ] {
            assert_eq!(text.parse::<RimId>().unwrap().as_str(), text);
            assert_eq!(RimId::of_file_stem(text).unwrap().as_str(), text);
        }
        let published = RimId::of_file_stem("g520_0202_885_96006D0027_PROD").unwrap();
        assert_eq!(published.as_str(), "NV_GPU_VBIOS_G520_0202_885_96006D0027");
    }

    #[test]
    fn what_is_no_id_of_a_gpu_or_switch_is_refused() {
        let long = format!("NV_GPU_DRIVER_{}_590.12", "A".repeat(MAX_RIM_ID));
        for text in [
            "",
            "..",
            "NV_",
            "../NV_GPU_DRIVER_GH100_590.12",
            "NV_GPU_DRIVER_GH100_590.12/..",
            "NV_GPU_DRIVER_../GH100_590.12",
            "NV_GPU_DRIVER_GH100",
            "NV_GPU_DRIVER_GH100_",
            "NV_GPU_DRIVER__590.12",
            "NV_GPU_DRIVER_gh100_590.12",
            "NV_GPU_DRIVER_GH100_590.12 ",
            "NV_GPU_DRIVER_GH100_590.12_mismatch",
            "nv_gpu_driver_gh100_590.12",
            "NV_GPU_VBIOS_1010_0200_96009F0001",
            "NV_GPU_VBIOS_1010_0200_882_96009F00",
            "NV_GPU_VBIOS_1010_0200_882_96009F000100",
            "NV_GPU_VBIOS_1010_0200_882_96009f0001",
            "NV_GPU_VBIOS_1010_0200_882_96009F0001_PROD",
            "NV_GPU_VBIOS_1010_0200_882_96009F0001_1",
            "NV_GPU_VBIOS_1010__882_96009F0001",
            "NV_SWITCH_BIOS_5612_0002_891_96105E0001",
            "NV_NIC_FIRMWARE_CX7_28.39.4082-LTS_MCX713104AC-ADA",
            "NV_GPU_VBIOS_1010_0200_882_96009F00é",
            &long,
        ] {
            assert!(matches!(text.parse::<RimId>(), Err(RimIdError::Form(_))), "{text:?}");
        }
        assert_eq!(RimId::of_file_stem("1010_0200_882_96005E0001_test_no_gpu"), None);
        assert_eq!(RimId::of_file_stem("../../1010_0200_882_96005E0001_PROD"), None);
    }
}
