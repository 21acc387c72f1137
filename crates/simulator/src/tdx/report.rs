//! What the simulated TDX module knows about one trust domain.

use sha2::{Digest, Sha384};

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
    /// MRSERVICETD, in bodies of TDX 1.5.
    pub mrservicetd: [u8; 48],
}

impl Default for TdMeasurements {
    /// An ordinary TD: no debug, MRTD and RTMR0..2 as [`simulated_measurement`] of their names, RTMR3 zero.
    fn default() -> Self {
        Self {
            td_attributes: SEPT_VE_DISABLE.to_le_bytes(),
            xfam: USUAL_XFAM.to_le_bytes(),
            mrtd: simulated_measurement("MRTD"),
            mrconfigid: [0; 48],
            mrowner: [0; 48],
            mrownerconfig: [0; 48],
            rtmr: [
                simulated_measurement("RTMR0"),
                simulated_measurement("RTMR1"),
                simulated_measurement("RTMR2"),
                [0; 48],
            ],
            mrservicetd: [0; 48],
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
            body.resize(EXTENDED_BODY, 0);
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
        let body = with(QuoteForm::V5Td15);
        assert_eq!((body.len(), &body[584..600]), (648, &options.tee_tcb_svn_2[..]));
        assert_eq!(with(QuoteForm::V5Td15Extended).len(), 885);
    }
}
