//! TCB levels: which one a platform has reached, and what that means (Intel SGX/TDX PCS API v4, "TCB Info" and "Enclave
//! Identity"; Intel TDX DCAP Quote Verification Library for relaunch advice).

use crate::text::Text;
use confide_evidence::tdx::{
    IsvLevel, PckExtension, QeIdentity, SgxReport, TcbInfo, TcbLevel, TcbStatus, TdReport, TdxModule,
};
use confide_evidence::time::format_seconds;
use confide_policy::HexBytes;

/// The converged TCB status of platform, TDX module and quoting enclave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assessment {
    /// Nothing where no TCB level matches.
    pub(crate) status: Option<TcbStatus>,
    /// Date of the platform's TCB level, seconds since the Unix epoch.
    pub(crate) date: Option<i64>,
    /// Advisories of every level that counted, sorted.
    pub(crate) advisory_ids: Vec<String>,
    /// The status of each level that counted, and whether Intel names advisories of it.
    levels: Vec<(TcbStatus, bool)>,
    parts: Vec<String>,
    /// What would lift the platform to its best level.
    updates: Vec<String>,
}

impl Assessment {
    /// Intel's name of the status, or `NoMatchingTcbLevel`.
    pub(crate) fn status_name(&self) -> &'static str {
        self.status.map_or("NoMatchingTcbLevel", TcbStatus::name)
    }

    /// Notes a level that counts.
    fn count(&mut self, status: TcbStatus, advisory_ids: &[String]) {
        self.levels.push((status, !advisory_ids.is_empty()));
        self.advisory_ids.extend_from_slice(advisory_ids);
    }

    /// One sentence: the status and what it is made of.
    pub(crate) fn explain(&self) -> String {
        format!("{}: {}", self.status_name(), self.parts.join("; "))
    }

    /// Whether a part of the platform falls short for a reason that no advisory names, with a status that is not among
    /// these. What is known of the other parts then says nothing of it.
    pub(crate) fn falls_short_unnamed(&self, accepted: &[TcbStatus]) -> bool {
        let fine = |status: &TcbStatus| *status == TcbStatus::UpToDate || accepted.contains(status);
        self.levels.iter().any(|(status, named)| !named && !fine(status))
    }

    /// What to do about a status that the policy does not accept; nothing where the status is the best there is.
    pub(crate) fn remedy(&self) -> Option<String> {
        let (age, configuration, hardening) = self.status.map_or((Age::Outdated, false, false), parts);
        if (age, configuration, hardening) == (Age::Current, false, false) {
            return None;
        }
        let mut todo: Vec<&str> = self.updates.iter().map(String::as_str).collect();
        if age == Age::Relaunch {
            todo.push("stop the TD and start it again");
        }
        if configuration {
            todo.push("have the operator configure the platform as the advisories ask");
        }
        if hardening {
            todo.push("run software that is hardened as the advisories ask");
        }
        let acceptable = self.status.filter(|status| *status != TcbStatus::Revoked);
        let accept = acceptable
            .map(|status| format!("or accept {} in the policy for a while by a grace", status.name()));
        todo.extend(accept.as_deref());
        if todo.is_empty() {
            return None;
        }
        let advisories = match self.advisory_ids.as_slice() {
            [] => String::new(),
            ids => format!(" (advisories {})", ids.join(", ")),
        };
        Some(format!("{}{advisories}", todo.join(", ")))
    }
}

/// Whether the QE report is of the enclave that QE identity describes.
pub(crate) fn qe_matches(report: &SgxReport<'_>, identity: &QeIdentity) -> Result<Text, String> {
    if report.mr_signer != &identity.mr_signer {
        return Err(format!("MRSIGNER {}", HexBytes(*report.mr_signer)));
    }
    if report.isv_prod_id != identity.isv_prod_id {
        return Err(format!("ISVPRODID {}, expected {}", report.isv_prod_id, identity.isv_prod_id));
    }
    let misc_select = report.misc_select.to_le_bytes();
    if !equal_under(&identity.misc_select_mask, &misc_select, &identity.misc_select) {
        return Err(format!("MISCSELECT {:08x}", report.misc_select));
    }
    if !equal_under(&identity.attributes_mask, report.attributes, &identity.attributes) {
        return Err(format!("ATTRIBUTES {}", HexBytes(*report.attributes)));
    }
    let (product, version) = (report.isv_prod_id, report.isv_svn);
    Ok(Text::later(move || format!("ISVPRODID {product}, ISVSVN {version}")))
}

/// Whether the TDX module's signer and SEAM attributes are those that TCB info has for its major version.
pub(crate) fn module_matches(report: &TdReport<'_>, info: &TcbInfo) -> Result<String, String> {
    let [_, major, ..] = *report.tee_tcb_svn;
    let module = module_for(info, major)
        .ok_or_else(|| format!("TCB info has no identity for TDX module major version {major}"))?;
    if report.mr_signer_seam != &module.mr_signer {
        return Err(format!("MRSIGNERSEAM {}", HexBytes(*report.mr_signer_seam)));
    }
    if !equal_under(&module.attributes_mask, report.seam_attributes, &module.attributes) {
        return Err(format!("SEAMATTRIBUTES {}", HexBytes(*report.seam_attributes)));
    }
    Ok(format!("TDX module major version {major}"))
}

fn module_for(info: &TcbInfo, major: u8) -> Option<&TdxModule> {
    if major == 0 { info.tdx_module.as_ref() } else { module_levels(info, major).map(|(module, _)| module) }
}

/// Identity and levels of modules with a major version above zero: `TDX_` and two hexadecimal digits, in any case.
fn module_levels(info: &TcbInfo, major: u8) -> Option<(&TdxModule, &[IsvLevel])> {
    let id = format!("TDX_{major:02x}");
    let identity =
        info.tdx_module_identities.iter().find(|identity| identity.id.eq_ignore_ascii_case(&id))?;
    Some((&identity.module, &identity.tcb_levels))
}

/// Finds the TCB levels of platform, TDX module and quoting enclave, and converges their statuses.
pub(crate) fn assess(
    report: &TdReport<'_>,
    qe_report: &SgxReport<'_>,
    pck: &PckExtension,
    info: &TcbInfo,
    identity: &QeIdentity,
) -> Assessment {
    let mut assessment = Assessment::default();
    let launch = platform_status(report.tee_tcb_svn, pck, info, &mut assessment);
    let enclave = isv_status("quoting enclave", qe_report.isv_svn, &identity.tcb_levels, &mut assessment);
    let current = match &report.td15 {
        None => Some(None),
        Some(td15) => {
            let mut unused = Assessment::default();
            let status = platform_status(td15.tee_tcb_svn_2, pck, info, &mut unused);
            if td15.tee_tcb_svn_2 != report.tee_tcb_svn {
                let parts = unused.parts.join(", ");
                assessment.parts.push(format!("the platform's present TCB: {parts}"));
            }
            status.map(Some)
        }
    };
    assessment.status = match (launch, enclave, current) {
        (Some(launch), Some(enclave), Some(current)) => {
            let launch = converge(launch, enclave);
            Some(current.map_or(launch, |current| relaunch(launch, converge(current, enclave))))
        }
        _ => None,
    };
    assessment.advisory_ids.sort();
    assessment.advisory_ids.dedup();
    assessment
}

/// The platform's level and, for modules with a major version above zero, the module's, converged.
fn platform_status(
    tee_tcb_svn: &[u8; 16],
    pck: &PckExtension,
    info: &TcbInfo,
    assessment: &mut Assessment,
) -> Option<TcbStatus> {
    let [minor, major, ..] = *tee_tcb_svn;
    let (sgx, tdx) = short_of_best(tee_tcb_svn, pck, info);
    if !sgx.is_empty() {
        assessment.updates.push(format!("have the operator update BIOS and microcode: {}", sgx.join(", ")));
    }
    if !tdx.is_empty() {
        assessment.updates.push(format!("have the operator update the TDX module: {}", tdx.join(", ")));
    }
    let platform = match info.tcb_levels.iter().find(|level| reached(level, tee_tcb_svn, pck)) {
        Some(level) => {
            assessment.count(level.tcb_status, &level.advisory_ids);
            assessment.date = Some(level.tcb_date);
            let short: Vec<String> = sgx.into_iter().chain(tdx).collect();
            let short = if short.is_empty() { String::new() } else { format!(" ({})", short.join(", ")) };
            assessment.parts.push(format!(
                "platform {} since the level of {}{short}",
                level.tcb_status.name(),
                format_seconds(level.tcb_date),
            ));
            level.tcb_status
        }
        None => {
            assessment.parts.push("platform below every TCB level".to_owned());
            return None;
        }
    };
    if major == 0 {
        return Some(platform);
    }
    let Some((_, levels)) = module_levels(info, major) else {
        assessment.parts.push(format!("no identity for TDX module major version {major}"));
        return None;
    };
    let module = isv_status("TDX module", u16::from(minor), levels, assessment)?;
    Some(converge(platform, module))
}

fn isv_status(what: &str, svn: u16, levels: &[IsvLevel], assessment: &mut Assessment) -> Option<TcbStatus> {
    let best = levels.iter().map(|level| level.tcb.isv_svn).max().unwrap_or_default();
    if svn < best {
        assessment.updates.push(format!("have the operator update the {what}: ISV SVN {svn}, needs {best}"));
    }
    let Some(level) = levels.iter().find(|level| level.tcb.isv_svn <= svn) else {
        assessment.parts.push(format!("{what} ISV SVN {svn} is below every level"));
        return None;
    };
    assessment.count(level.tcb_status, &level.advisory_ids);
    let short =
        if level.tcb_status == TcbStatus::UpToDate { String::new() } else { format!(", needs {best}") };
    assessment.parts.push(format!("{what} {} with ISV SVN {svn}{short}", level.tcb_status.name()));
    Some(level.tcb_status)
}

/// A level is reached when the SGX components and PCESVN of the PCK certificate and the TDX components of the report are
/// all at least the level's. Components 0 and 1 belong to the TDX module when its major version is not zero.
fn reached(level: &TcbLevel, tee_tcb_svn: &[u8; 16], pck: &PckExtension) -> bool {
    let skip = if tee_tcb_svn.get(1).is_some_and(|major| *major > 0) { 2 } else { 0 };
    at_least(&pck.components, &level.tcb.sgx)
        && pck.pce_svn >= level.tcb.pce_svn
        && tee_tcb_svn.iter().zip(&level.tcb.tdx).skip(skip).all(|(has, needs)| has >= needs)
}

fn at_least(has: &[u8; 16], needs: &[u8; 16]) -> bool {
    has.iter().zip(needs).all(|(has, needs)| has >= needs)
}

/// Which SGX components (with PCESVN) and which TDX components lack what the best level asks for.
fn short_of_best(tee_tcb_svn: &[u8; 16], pck: &PckExtension, info: &TcbInfo) -> (Vec<String>, Vec<String>) {
    let Some(best) = info.tcb_levels.first() else { return (Vec::new(), Vec::new()) };
    let skip = if tee_tcb_svn.get(1).is_some_and(|major| *major > 0) { 2 } else { 0 };
    let mut sgx = short("SGX component", 0, &pck.components, &best.tcb.sgx);
    if pck.pce_svn < best.tcb.pce_svn {
        sgx.push(format!("PCESVN is {}, needs {}", pck.pce_svn, best.tcb.pce_svn));
    }
    (sgx, short("TDX component", skip, tee_tcb_svn, &best.tcb.tdx))
}

fn short(what: &str, skip: usize, has: &[u8; 16], needs: &[u8; 16]) -> Vec<String> {
    let components = has.iter().zip(needs).enumerate().skip(skip);
    components
        .filter(|(_, (has, needs))| has < needs)
        .map(|(at, (has, needs))| format!("{what} {at} is {has}, needs {needs}"))
        .collect()
}

/// Whether two values are equal in every bit of the mask.
fn equal_under<const N: usize>(mask: &[u8; N], one: &[u8; N], other: &[u8; N]) -> bool {
    one.iter().zip(other).zip(mask).all(|((one, other), mask)| (one ^ other) & mask == 0)
}

/// The parts of a status: how old, whether configuration counts, whether software must be hardened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Current,
    Relaunch,
    Outdated,
    Revoked,
}

fn parts(status: TcbStatus) -> (Age, bool, bool) {
    match status {
        TcbStatus::UpToDate => (Age::Current, false, false),
        TcbStatus::SWHardeningNeeded => (Age::Current, false, true),
        TcbStatus::ConfigurationNeeded => (Age::Current, true, false),
        TcbStatus::ConfigurationAndSWHardeningNeeded => (Age::Current, true, true),
        TcbStatus::TDRelaunchAdvised => (Age::Relaunch, false, false),
        TcbStatus::TDRelaunchAdvisedConfigurationNeeded => (Age::Relaunch, true, false),
        TcbStatus::OutOfDate => (Age::Outdated, false, false),
        TcbStatus::OutOfDateConfigurationNeeded => (Age::Outdated, true, false),
        // A status that this version does not know is never better than revoked.
        _ => (Age::Revoked, false, false),
    }
}

fn status(age: Age, configuration: bool, hardening: bool) -> TcbStatus {
    match (age, configuration, hardening) {
        (Age::Current, false, false) => TcbStatus::UpToDate,
        (Age::Current, false, true) => TcbStatus::SWHardeningNeeded,
        (Age::Current, true, false) => TcbStatus::ConfigurationNeeded,
        (Age::Current, true, true) => TcbStatus::ConfigurationAndSWHardeningNeeded,
        (Age::Relaunch, false, _) => TcbStatus::TDRelaunchAdvised,
        (Age::Relaunch, true, _) => TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
        (Age::Outdated, false, _) => TcbStatus::OutOfDate,
        (Age::Outdated, true, _) => TcbStatus::OutOfDateConfigurationNeeded,
        (Age::Revoked, ..) => TcbStatus::Revoked,
    }
}

/// The worse of two statuses in every part: neither replaces the other.
pub(crate) fn converge(one: TcbStatus, other: TcbStatus) -> TcbStatus {
    let ((age, configuration, hardening), (other_age, other_configuration, other_hardening)) =
        (parts(one), parts(other));
    status(age.max(other_age), configuration || other_configuration, hardening || other_hardening)
}

/// A TD that started on an outdated TCB of a platform that is current by now should be relaunched.
fn relaunch(launch: TcbStatus, current: TcbStatus) -> TcbStatus {
    let ((age, configuration, hardening), (current_age, current_configuration, _)) =
        (parts(launch), parts(current));
    if age == Age::Outdated && current_age == Age::Current {
        status(Age::Relaunch, configuration || current_configuration, hardening)
    } else {
        launch
    }
}

#[cfg(test)]
mod tests {
    use super::TcbStatus::*;
    use super::*;

    #[test]
    fn the_worse_status_counts() {
        for (one, other, expected) in [
            (UpToDate, UpToDate, UpToDate),
            (UpToDate, OutOfDate, OutOfDate),
            (SWHardeningNeeded, OutOfDate, OutOfDate),
            (ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
            (ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded),
            (ConfigurationNeeded, SWHardeningNeeded, ConfigurationAndSWHardeningNeeded),
            (OutOfDateConfigurationNeeded, Revoked, Revoked),
            (UpToDate, Revoked, Revoked),
        ] {
            assert_eq!(converge(one, other), expected, "{one:?} {other:?}");
            assert_eq!(converge(other, one), expected, "{other:?} {one:?}");
        }
    }

    #[test]
    fn the_remedy_names_what_is_short_and_the_advisories() {
        let assessment = |status, updates: &[&str]| Assessment {
            status,
            date: None,
            advisory_ids: vec!["INTEL-SA-1".to_owned(), "INTEL-SA-2".to_owned()],
            levels: Vec::new(),
            parts: Vec::new(),
            updates: updates.iter().map(ToString::to_string).collect(),
        };
        let up_to_date = assessment(Some(UpToDate), &[]);
        assert_eq!(up_to_date.remedy(), None);
        let old = assessment(Some(OutOfDateConfigurationNeeded), &["update the module"]).remedy().unwrap();
        assert_eq!(
            old,
            "update the module, have the operator configure the platform as the advisories ask, \
             or accept OutOfDateConfigurationNeeded in the policy for a while by a grace (advisories INTEL-SA-1, INTEL-SA-2)"
        );
        let none = assessment(None, &["update the module"]).remedy().unwrap();
        assert_eq!(none, "update the module (advisories INTEL-SA-1, INTEL-SA-2)", "no status to accept");
        let relaunch = assessment(Some(TDRelaunchAdvised), &[]).remedy().unwrap();
        assert!(
            relaunch.starts_with("stop the TD and start it again, or accept TDRelaunchAdvised"),
            "{relaunch}"
        );
    }

    #[test]
    fn relaunch_is_advised_when_the_platform_has_been_updated_since() {
        for (launch, current, expected) in [
            (OutOfDate, UpToDate, TDRelaunchAdvised),
            (OutOfDate, SWHardeningNeeded, TDRelaunchAdvised),
            (OutOfDateConfigurationNeeded, UpToDate, TDRelaunchAdvisedConfigurationNeeded),
            (OutOfDate, ConfigurationNeeded, TDRelaunchAdvisedConfigurationNeeded),
            (OutOfDate, OutOfDate, OutOfDate),
            (Revoked, UpToDate, Revoked),
            (UpToDate, OutOfDate, UpToDate),
        ] {
            assert_eq!(relaunch(launch, current), expected, "{launch:?} {current:?}");
        }
    }
}
