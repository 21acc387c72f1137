//! The table `[devices]`: GPUs and switches.

use crate::field::Listed;
use crate::{Expect, Require};
use serde::Deserialize;

/// Expectations of the devices in an evidence document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePolicy {
    /// How many GPUs there are.
    pub gpu_count: Expect<u32>,
    /// The firmware id of the report equals the certificate's.
    pub fwid: Require,
    /// Measurements equal a signed reference manifest's.
    pub rim: Require,
    /// Revocation status of device certificates is known and good.
    pub revocation: Require,
    /// Certificate fingerprints equal those of the `devices` runtime event.
    pub event: Require,
}

impl DevicePolicy {
    /// Every expectation of the table, in the order of the type.
    pub(crate) fn listed(&self) -> [Listed<'_>; 5] {
        let Self { gpu_count, fwid, rim, revocation, event } = self;
        [
            Listed::new("devices.gpu_count", "gpu_count", "the number of GPUs", gpu_count),
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
                "no certificate of a device's chain is revoked",
                revocation,
            ),
            Listed::new(
                "devices.event",
                "devices_event",
                "the devices are those that the guest measured into RTMR3",
                event,
            ),
        ]
    }
}
