//! The table `[devices]`: GPUs and switches.

use crate::field::Listed;
use crate::{Expect, Floor, Floored, HardwareList, Machines, Require};
use confide_evidence::nvidia::{DriverVersion, Mode, VbiosVersion};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// Expectations of GPUs and switches, in an evidence document or by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePolicy {
    /// How many GPUs there are.
    pub gpu_count: Expect<u32>,
    /// The confidential-computing mode of each GPU, by its signed fields.
    pub mode: Expect<CcMode>,
    /// The lowest accepted driver of a GPU.
    pub driver_floor: Floor<DriverVersion>,
    /// Drivers of GPUs that are accepted, and that never are.
    pub driver: HardwareList<DriverVersion>,
    /// The lowest accepted VBIOS or switch firmware, for each branch.
    pub vbios_floor: Floor<VbiosFloors>,
    /// VBIOS and switch firmware versions that are accepted, and that never are.
    pub vbios: HardwareList<VbiosVersion>,
    /// Ids of opaque records that may stand in a report though this version does not know them.
    pub unknown_records: Expect<u16>,
    /// The firmware id of the report equals the certificate's.
    pub fwid: Require,
    /// Measurements equal a signed reference manifest's.
    pub rim: Require,
    /// Revocation status of device and manifest certificates is known and good.
    pub revocation: Require,
    /// No certificate of a device or manifest is on hold.
    pub not_on_hold: Require,
    /// Certificate fingerprints equal those of the `devices` runtime event.
    pub event: Require,
    /// Switches are appraised together with the GPUs that they link. A waiver is for switches without any GPU, and for
    /// nothing else that these name of each other. May be left away: then required.
    #[serde(default = "required")]
    pub switches_with_gpus: Require,
    /// Which devices are installed in which machine.
    #[serde(default)]
    pub machine: Machines,
    /// NVIDIA's attestation service has been asked and finds the same. Documents carry no such opinion: those with devices are
    /// refused where it is required.
    pub nras: Require,
}

/// What holds of a check that a policy does not name.
fn required() -> Require {
    Require::Required
}

/// The confidential-computing mode of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub enum CcMode {
    /// One GPU, passed through.
    #[serde(rename = "spt")]
    SinglePassthrough,
    /// Several GPUs with encrypted links between them.
    #[serde(rename = "mpt")]
    MultiPassthrough,
    /// Eight GPUs and four switches whose links are not encrypted.
    #[serde(rename = "ppcie")]
    ProtectedPcie,
    /// The report does not say, or says what this version does not know: the oldest drivers write neither field.
    #[serde(rename = "unknown")]
    Unknown,
}

impl From<Option<Mode>> for CcMode {
    fn from(mode: Option<Mode>) -> Self {
        match mode {
            Some(Mode::SinglePassthrough) => Self::SinglePassthrough,
            Some(Mode::MultiPassthrough) => Self::MultiPassthrough,
            Some(Mode::ProtectedPcie) => Self::ProtectedPcie,
            Some(Mode::Unknown(_)) | None => Self::Unknown,
        }
    }
}

impl CcMode {
    /// The mode's name in policies, events and verdicts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SinglePassthrough => "spt",
            Self::MultiPassthrough => "mpt",
            Self::ProtectedPcie => "ppcie",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for CcMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The lowest accepted version of each VBIOS branch, which its first two parts name: 96.00 is Hopper's, 96.10 the LS10
/// switch's, 97.00 Blackwell's. Branches are numbered independently: one that is not named is below every floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VbiosFloors(BTreeMap<[u8; 2], VbiosVersion>);

impl VbiosFloors {
    /// The floor of a version's branch, where the policy names one.
    #[must_use]
    pub fn of(&self, version: VbiosVersion) -> Option<VbiosVersion> {
        self.0.get(&version.branch()).copied()
    }
}

impl fmt::Display for VbiosFloors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("no version: the policy names no branch");
        }
        let floors: Vec<String> = self.0.values().map(ToString::to_string).collect();
        formatter.write_str(&floors.join(" or "))
    }
}

impl<'de> Deserialize<'de> for VbiosFloors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut floors = BTreeMap::new();
        for version in Vec::<VbiosVersion>::deserialize(deserializer)? {
            if floors.insert(version.branch(), version).is_some() {
                let [one, two] = version.branch();
                return Err(serde::de::Error::custom(format_args!(
                    "two floors for the branch {one:02X}.{two:02X}"
                )));
            }
        }
        Ok(Self(floors))
    }
}

impl Floored for DriverVersion {
    fn floors(&self) -> BTreeMap<String, Vec<u64>> {
        [("version".to_owned(), self.parts().into_iter().map(u64::from).collect())].into()
    }
}

impl Floored for VbiosFloors {
    fn floors(&self) -> BTreeMap<String, Vec<u64>> {
        let named = self.0.iter().map(|([one, two], version)| {
            (format!("{one:02X}.{two:02X}"), version.0.into_iter().map(u64::from).collect())
        });
        named.collect()
    }
}

impl DevicePolicy {
    /// Every expectation of the table, in the order of the type.
    pub(crate) fn listed(&self) -> [Listed<'_>; 17] {
        let Self {
            gpu_count,
            mode,
            driver_floor,
            driver,
            vbios_floor,
            vbios,
            unknown_records,
            fwid,
            rim,
            revocation,
            not_on_hold,
            event,
            switches_with_gpus,
            machine,
            nras,
        } = self;
        [
            Listed::new("devices.gpu_count", "gpu_count", "the number of GPUs", gpu_count),
            Listed::new(
                "devices.mode",
                "device_cc_mode",
                "the confidential-computing mode of each GPU",
                mode,
            ),
            Listed::new(
                "devices.driver_floor",
                "device_driver_floor",
                "the version of each GPU's driver",
                driver_floor,
            ),
            Listed::new("devices.driver", "device_driver", "the driver of each GPU", &driver.allow),
            Listed::new("devices.driver.deny", "device_driver", "the driver of each GPU", &driver.deny),
            Listed::new(
                "devices.vbios_floor",
                "device_vbios_floor",
                "the version of each device's VBIOS or firmware",
                vbios_floor,
            ),
            Listed::new(
                "devices.vbios",
                "device_vbios",
                "the VBIOS or firmware of each device",
                &vbios.allow,
            ),
            Listed::new(
                "devices.vbios.deny",
                "device_vbios",
                "the VBIOS or firmware of each device",
                &vbios.deny,
            ),
            Listed::new(
                "devices.unknown_records",
                "device_unknown_records",
                "the id of each record in a device's report that this version does not know",
                unknown_records,
            ),
            Listed::new(
                "devices.fwid",
                "device_fwid",
                "the firmware id in each device's report is the one that its certificate names",
                fwid,
            ),
            Listed::new(
                "devices.rim",
                "device_rim",
                "each device's measurements equal those of signed reference manifests",
                rim,
            ),
            Listed::new(
                "devices.revocation",
                "device_revocation",
                "no certificate of a device's chain, or of the signers of its manifests, is revoked",
                revocation,
            ),
            Listed::new(
                "devices.not_on_hold",
                "device_hold",
                "no certificate of a device's chain, or of the signers of its manifests, is on hold",
                not_on_hold,
            ),
            Listed::new(
                "devices.event",
                "devices_event",
                "the devices are those that the guest measured into RTMR3",
                event,
            ),
            Listed::new(
                "devices.switches_with_gpus",
                "device_topology",
                "switches are appraised together with the GPUs that they link",
                switches_with_gpus,
            ),
            Listed::new(
                "devices.machine.devices",
                "device_registry",
                "each device, by the serial number of its BROM certificate and the PPID of the CPU that it is beside,",
                machine,
            ),
            Listed::new(
                "devices.nras",
                "nras",
                "NVIDIA's attestation service finds the same of the devices",
                nras,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppraisalPolicy, Change, Expectation as _};

    fn floors(text: &str) -> Result<VbiosFloors, String> {
        let table: Result<BTreeMap<String, VbiosFloors>, _> = toml::from_str(&format!("floors = {text}"));
        table.map_err(|error| error.to_string()).map(|mut table| table.remove("floors").unwrap())
    }

    #[test]
    fn a_vbios_is_held_against_the_floor_of_its_branch() {
        let floors = floors(r#"["96.00.74.00.01", "97.00.88.00.0F"]"#).unwrap();
        let version = |text: &str| text.parse::<VbiosVersion>().unwrap();
        assert_eq!(floors.of(version("96.00.9F.00.01")), Some(version("96.00.74.00.01")));
        assert_eq!(floors.of(version("97.00.00.00.00")), Some(version("97.00.88.00.0F")));
        assert_eq!(floors.of(version("96.10.73.00.01")), None);
        assert_eq!(floors.to_string(), "96.00.74.00.01 or 97.00.88.00.0F");
    }

    #[test]
    fn a_branch_has_one_floor() {
        let error = floors(r#"["96.00.74.00.01", "96.00.5E.00.01"]"#).unwrap_err();
        assert!(error.contains("two floors for the branch 96.00"), "{error}");
    }

    #[test]
    fn a_lower_floor_is_looser_and_so_is_one_branch_more() {
        let says = |text| Floor::AtLeast(floors(text).unwrap()).says();
        let one = says(r#"["96.00.74.00.01"]"#);
        assert_eq!(one.change_to(&says(r#"["96.00.5E.00.01"]"#)), Change::Looser);
        assert_eq!(one.change_to(&says(r#"["96.00.74.00.01", "97.00.00.00.00"]"#)), Change::Looser);
        assert_eq!(one.change_to(&says("[]")), Change::Stricter);
    }

    #[test]
    fn switches_need_their_gpus_unless_a_policy_says_otherwise() {
        let [client, inspect] = [AppraisalPolicy::client(), AppraisalPolicy::inspect()];
        assert_eq!(client.devices.switches_with_gpus, Require::Required);
        assert_eq!(inspect.devices.switches_with_gpus, Require::Required);
        let text = crate::INSPECT.replace("\nevent = ", "\nswitches_with_gpus = { waive = \"x\" }\nevent = ");
        let waived = AppraisalPolicy::parse(&text, crate::Loaded::Normally).unwrap();
        assert!(waived.waivers().contains(&("devices.switches_with_gpus".into(), "x")));
    }

    #[test]
    fn the_clients_policy_wants_a_mode_that_the_report_names() {
        let Expect::AnyOf(modes) = AppraisalPolicy::client().devices.mode else { panic!("modes by name") };
        assert!(!modes.contains(&CcMode::Unknown) && !modes.is_empty());
    }
}
