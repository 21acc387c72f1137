//! What the simulated TDX module knows about one trust domain.

use sha2::{Digest, Sha384};

use super::boot_log::SimulatedBootLog;
use super::platform::{PlatformOptions, QuoteForm};

/// TD attribute SEPT_VE_DISABLE, bit 28: set in every ordinary production TD.
const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Extended features of a usual production TD: x87, SSE, AVX, AVX-512, PKRU, AMX.
const USUAL_XFAM: u64 = 0x0006_02e7;

/// Length of the extended body of TDX 1.5.
const EXTENDED_BODY: usize = 885;

/// SHA-384 of `SIMULATED ` and the name: a measurement of nothing.
#[must_use]
pub fn simulated_measurement(name: &str) -> [u8; 48] {
    Sha384::new().chain_update(b"SIMULATED ").chain_update(name).finalize().into()
}

/// The fields of a TD report that belong to the TD, not to the platform below it.
///
/// Field names are Intel's (TDX DCAP Quoting Library API, "TD Quote Body").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdMeasurements {
    /// TDATTRIBUTES; bit 0 is DEBUG, bit 28 SEPT_VE_DISABLE.
    pub td_attributes: [u8; 8],
    /// XFAM, the extended features that the TD may use.
    pub xfam: [u8; 8],
    /// MRTD, the measurement of the initial contents.
    pub mrtd: [u8; 48],
    /// MRCONFIGID, chosen by the host.
    pub mrconfigid: [u8; 48],
    /// MROWNER, chosen by the host.
    pub mrowner: [u8; 48],
    /// MROWNERCONFIG, chosen by the host.
    pub mrownerconfig: [u8; 48],
    /// RTMR0 to RTMR3.
    pub rtmr: [[u8; 48]; 4],
    /// MRSERVICETD, of TD 1.5 bodies.
    pub mrservicetd: [u8; 48],
    /// What the extended TD 1.5 body adds.
    pub extended: ExtendedMeasurements,
}

/// The fields of the extended TD 1.5 body that belong to the TD, in the order of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedMeasurements {
    /// VMID.
    pub vm_id: u8,
    /// TDID.
    pub td_id: [u8; 32],
    /// Hash over the device information.
    pub device_info: [u8; 48],
    /// Hash of the service TDs at the TD's creation.
    pub init_service_td: [u8; 48],
    /// Attributes of the service TD at the TD's creation.
    pub init_service_td_attributes: [u8; 8],
    /// CPUSVN at the TD's creation.
    pub init_cpu_svn: [u8; 16],
    /// TEE_TCB_SVN at the TD's creation.
    pub init_tee_tcb_svn: [u8; 16],
    /// FMSPC at the TD's creation.
    pub init_fmspc: [u8; 12],
    /// Hash of the service TDs now.
    pub current_service_td: [u8; 48],
    /// Attributes of the service TD now.
    pub current_service_td_attributes: [u8; 8],
}

impl Default for ExtendedMeasurements {
    /// A TD without service TDs: an id, and zero in every other field.
    fn default() -> Self {
        let mut td_id = [0; 32];
        td_id.copy_from_slice(&simulated_measurement("TDID")[..32]);
        Self {
            vm_id: 0,
            td_id,
            device_info: [0; 48],
            init_service_td: [0; 48],
            init_service_td_attributes: [0; 8],
            init_cpu_svn: [0; 16],
            init_tee_tcb_svn: [0; 16],
            init_fmspc: [0; 12],
            current_service_td: [0; 48],
            current_service_td_attributes: [0; 8],
        }
    }
}

impl ExtendedMeasurements {
    /// The 237 bytes that the extended body adds.
    fn encode(&self) -> Vec<u8> {
        [
            &[self.vm_id][..],
            &self.td_id,
            &self.device_info,
            &self.init_service_td,
            &self.init_service_td_attributes,
            &self.init_cpu_svn,
            &self.init_tee_tcb_svn,
            &self.init_fmspc,
            &self.current_service_td,
            &self.current_service_td_attributes,
        ]
        .concat()
    }
}

impl Default for TdMeasurements {
    /// An ordinary TD: no debug, MRTD as [`simulated_measurement`] of its name, RTMR0 to RTMR2 as the default
    /// [`SimulatedBootLog`] extends them, RTMR3 zero.
    fn default() -> Self {
        Self {
            td_attributes: SEPT_VE_DISABLE.to_le_bytes(),
            xfam: USUAL_XFAM.to_le_bytes(),
            mrtd: simulated_measurement("MRTD"),
            mrconfigid: [0; 48],
            mrowner: [0; 48],
            mrownerconfig: [0; 48],
            rtmr: SimulatedBootLog::default().replay(),
            mrservicetd: [0; 48],
            extended: ExtendedMeasurements::default(),
        }
    }
}

/// A TD's measurements together with the report data that its software chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    /// The measurements.
    pub measurements: TdMeasurements,
    /// REPORTDATA.
    pub report_data: [u8; 64],
}

impl TdReport {
    /// The TD quote body: 584 bytes of TDX 1.0, 648 of TDX 1.5, 885 of the extended form.
    pub(crate) fn body(&self, options: &PlatformOptions) -> Vec<u8> {
        let (td, seam) = (&self.measurements, &options.seam);
        let mut body = Vec::with_capacity(EXTENDED_BODY);
        body.extend(options.tee_tcb_svn);
        body.extend(seam.mrseam);
        body.extend(seam.mrsignerseam);
        body.extend(seam.attributes);
        body.extend(td.td_attributes);
        body.extend(td.xfam);
        for register in [td.mrtd, td.mrconfigid, td.mrowner, td.mrownerconfig] {
            body.extend(register);
        }
        body.extend(td.rtmr.as_flattened());
        body.extend(self.report_data);
        if matches!(options.quote_form, QuoteForm::V5Td15 | QuoteForm::V5Td15Extended) {
            body.extend(options.tee_tcb_svn_2);
            body.extend(td.mrservicetd);
        }
        if options.quote_form == QuoteForm::V5Td15Extended {
            body.extend(td.extended.encode());
        }
        body
    }
}

/// A running TD: its measurements, and RTMR3 that its software extends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulatedTd {
    measurements: TdMeasurements,
}

impl SimulatedTd {
    /// A TD that starts with these measurements.
    #[must_use]
    pub fn new(measurements: TdMeasurements) -> Self {
        Self { measurements }
    }

    /// RTMR3 := SHA-384(RTMR3 ‖ digest), as TDG.MR.RTMR.EXTEND does.
    pub fn extend_rtmr3(&mut self, digest: &[u8; 48]) {
        let rtmr3 = &mut self.measurements.rtmr[3];
        *rtmr3 = Sha384::new().chain_update(*rtmr3).chain_update(digest).finalize().into();
    }

    /// RTMR3 as it stands.
    #[must_use]
    pub fn rtmr3(&self) -> [u8; 48] {
        self.measurements.rtmr[3]
    }

    /// The measurements as they stand.
    #[must_use]
    pub fn measurements(&self) -> &TdMeasurements {
        &self.measurements
    }

    /// The report that a quote over `report_data` signs.
    #[must_use]
    pub fn report(&self, report_data: [u8; 64]) -> TdReport {
        TdReport { measurements: self.measurements.clone(), report_data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extending_rtmr3_folds_digests_from_zero() {
        let mut td = SimulatedTd::default();
        td.extend_rtmr3(&[1; 48]);
        td.extend_rtmr3(&[2; 48]);
        let first: [u8; 48] = Sha384::new().chain_update([0; 48]).chain_update([1; 48]).finalize().into();
        let second: [u8; 48] = Sha384::new().chain_update(first).chain_update([2; 48]).finalize().into();
        assert_eq!(td.rtmr3(), second);
    }

    #[test]
    fn fields_lie_at_the_offsets_of_the_format() {
        let mut measurements = TdMeasurements::default();
        for (index, register) in measurements.rtmr.iter_mut().enumerate() {
            *register = [index as u8 + 1; 48];
        }
        let report = TdReport { measurements: measurements.clone(), report_data: [9; 64] };
        let options = PlatformOptions::at(1_790_812_800);
        let body = report.body(&options);
        assert_eq!(body.len(), 584);
        // Offsets of tdx-evidence count the 48-byte header, which is not part of the body.
        assert_eq!(body[168 - 48..176 - 48], measurements.td_attributes);
        assert_eq!(body[184 - 48..232 - 48], measurements.mrtd);
        assert_eq!(body[376 - 48..376], [1; 48]);
        assert_eq!(body[520 - 48..568 - 48], [4; 48]);
        assert_eq!(body[568 - 48..], [9; 64]);
        let with = |quote_form| report.body(&PlatformOptions { quote_form, ..options.clone() });
        assert_eq!(with(QuoteForm::V5Td10), body);
        let td15 = with(QuoteForm::V5Td15);
        assert_eq!((&td15[..584], &td15[584..600], td15.len()), (&body[..], &options.tee_tcb_svn_2[..], 648));
        let extended = with(QuoteForm::V5Td15Extended);
        assert_eq!((&extended[..648], extended.len()), (&td15[..], EXTENDED_BODY));
        assert_eq!(extended[649..681], measurements.extended.td_id);
    }
}
