//! TCB levels: which one a platform has reached, and what that means (Intel SGX/TDX PCS API v4, "TCB Info" and "Enclave
//! Identity"; Intel TDX DCAP Quote Verification Library for relaunch advice).

use crate::text::Text;
use confide_evidence::hex;
use confide_evidence::tdx::{
    IsvLevel, PckExtension, QeIdentity, SgxReport, TcbInfo, TcbLevel, TcbStatus, TdReport, TdxModule,
};
use confide_evidence::time::format_seconds;
use confide_policy::HexBytes;
use std::fmt;

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
    parts: Vec<Part>,
    /// What would lift the platform to its best level.
    updates: Vec<Update>,
    /// The statuses at launch and now, where an update under the running TD has made it worse.
    worsened: Option<[TcbStatus; 2]>,
}

/// What a status is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Platform { status: TcbStatus, date: i64, short: Vec<Short> },
    PlatformBelowAll,
    NoModuleIdentity { major: u8 },
    Isv { what: &'static str, status: TcbStatus, svn: u16, best: u16 },
    IsvBelowAll { what: &'static str, svn: u16 },
    Present(Vec<Part>),
}

/// What an operator can update.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Update {
    Bios(Vec<Short>),
    Module(Vec<Short>),
    Isv { what: &'static str, svn: u16, best: u16 },
}

/// A component that lacks what the best level asks for. PCESVN has no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short {
    what: &'static str,
    at: Option<usize>,
    has: u16,
    needs: u16,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform { status, date, short } => {
                write!(f, "platform {} since the level of {}", status.name(), format_seconds(*date))?;
                if short.is_empty() { Ok(()) } else { write!(f, " ({})", joined(short, ", ")) }
            }
            Self::PlatformBelowAll => f.write_str("platform below every TCB level"),
            Self::NoModuleIdentity { major } => {
                write!(f, "no identity for TDX module major version {major}")
            }
            Self::Isv { what, status, svn, best } => {
                write!(f, "{what} {} with ISV SVN {svn}", status.name())?;
                if *status == TcbStatus::UpToDate { Ok(()) } else { write!(f, ", needs {best}") }
            }
            Self::IsvBelowAll { what, svn } => write!(f, "{what} ISV SVN {svn} is below every level"),
            Self::Present(parts) => write!(f, "the platform's present TCB: {}", joined(parts, ", ")),
        }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("have the operator update ")?;
        match self {
            Self::Bios(short) => write!(f, "BIOS and microcode: {}", joined(short, ", ")),
            Self::Module(short) => write!(f, "the TDX module: {}", joined(short, ", ")),
            Self::Isv { what, svn, best } => write!(f, "the {what}: ISV SVN {svn}, needs {best}"),
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if let Some(at) = self.at {
            write!(f, " {at}")?;
        }
        write!(f, " is {}, needs {}", self.has, self.needs)
    }
}

fn joined<T: fmt::Display>(list: &[T], between: &str) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
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
    pub(crate) fn explain(&self) -> Text {
        let (status, parts) = (self.status_name(), self.parts.clone());
        Text::later(move || format!("{status}: {}", joined(&parts, "; ")))
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
        let mut todo: Vec<String> = self.updates.iter().map(ToString::to_string).collect();
        if age == Age::Relaunch {
            todo.push("stop the TD and start it again".to_owned());
        }
        if configuration {
            todo.push("have the operator configure the platform as the advisories ask".to_owned());
        }
        if hardening {
            todo.push("run software that is hardened as the advisories ask".to_owned());
        }
        let acceptable = self.status.filter(|status| *status != TcbStatus::Revoked);
        todo.extend(
            acceptable
                .map(|status| format!("or accept {} in the policy for a while by a grace", status.name())),
        );
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
    if let Some(field) = unexplained(report) {
        return Err(format!("{field} is not zero"));
    }
    let (product, version) = (report.isv_prod_id, report.isv_svn);
    Ok(Text::later(move || format!("ISVPRODID {product}, ISVSVN {version}")))
}

/// The first field with a value that neither QE identity nor anything else explains. Intel's quoting enclaves use neither
/// CET nor KSS, which their attributes say under the mask of QE identity: without them these fields are zero.
fn unexplained(report: &SgxReport<'_>) -> Option<&'static str> {
    let [behind_cet_attributes, behind_mr_enclave, behind_mr_signer, behind_config_svn] = report.reserved;
    let fields: [(&'static str, &[u8]); 9] = [
        ("CET_ATTRIBUTES", &[report.cet_attributes]),
        ("reserved byte behind CET_ATTRIBUTES", behind_cet_attributes),
        ("ISVEXTPRODID", report.isv_ext_prod_id),
        ("reserved byte behind MRENCLAVE", behind_mr_enclave),
        ("reserved byte behind MRSIGNER", behind_mr_signer),
        ("CONFIGID", report.config_id),
        ("CONFIGSVN", &report.config_svn.to_le_bytes()),
        ("reserved byte behind CONFIGSVN", behind_config_svn),
        ("ISVFAMILYID", report.isv_family_id),
    ];
    fields.into_iter().find(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).map(|(field, _)| field)
}

/// Whether the TDX module's signer and SEAM attributes are those that TCB info has for its major version.
pub(crate) fn module_matches(report: &TdReport<'_>, info: &TcbInfo) -> Result<Text, String> {
    let [_, major, ..] = *report.tee_tcb_svn;
    let module = module_for(info, major)
        .ok_or_else(|| format!("TCB info has no identity for TDX module major version {major}"))?;
    if report.mr_signer_seam != &module.mr_signer {
        return Err(format!("MRSIGNERSEAM {}", HexBytes(*report.mr_signer_seam)));
    }
    if !equal_under(&module.attributes_mask, report.seam_attributes, &module.attributes) {
        return Err(format!("SEAMATTRIBUTES {}", HexBytes(*report.seam_attributes)));
    }
    Ok(Text::later(move || format!("TDX module major version {major}")))
}

fn module_for(info: &TcbInfo, major: u8) -> Option<&TdxModule> {
    if major == 0 { info.tdx_module.as_ref() } else { module_levels(info, major).map(|(module, _)| module) }
}

/// Identity and levels of modules with a major version above zero: `TDX_` and two hexadecimal digits, in any case.
fn module_levels(info: &TcbInfo, major: u8) -> Option<(&TdxModule, &[IsvLevel])> {
    let is_for = |id: &str| {
        let (prefix, digits) = id.split_at_checked(4)?;
        Some(prefix.eq_ignore_ascii_case("TDX_") && hex::decode_array(digits)? == [major])
    };
    let mut identities = info.tdx_module_identities.iter();
    let identity = identities.find(|identity| is_for(&identity.id) == Some(true))?;
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
    let present = report.td15.as_ref().map(|td15| {
        let mut unused = Assessment::default();
        let reached = platform_status(td15.tee_tcb_svn_2, pck, info, &mut unused);
        if td15.tee_tcb_svn_2 != report.tee_tcb_svn {
            assessment.parts.push(Part::Present(unused.parts));
        }
        (td15.tee_tcb_svn_2, reached)
    });
    if let (Some(launch), Some(enclave)) = (launch, enclave) {
        assessment.status = match present {
            None => Some(converge(launch.status(), enclave)),
            // TCB info covers the TCB of the launch and not the present one.
            Some((_, None)) => None,
            Some((svn, Some(now))) => {
                assessment.worsened = worsened(launch.status(), now.status());
                let advised = relaunch(launch, enclave, sgx_status(pck, info), reaches_latest(svn, info));
                Some(converge(advised.unwrap_or(launch.status()), enclave))
            }
        };
    }
    assessment.advisory_ids.sort();
    assessment.advisory_ids.dedup();
    assessment
}

/// What one TEE_TCB_SVN reaches: the platform's level, and the TDX module's. A module of major version 0 has no levels of
/// its own and nothing is wrong with it by itself, as in Intel's library.
#[derive(Clone, Copy)]
struct Reached {
    platform: TcbStatus,
    module: TcbStatus,
}

impl Reached {
    fn status(self) -> TcbStatus {
        converge(self.platform, self.module)
    }
}

/// Both statuses, where the second one is worse in any part.
fn worsened(launch: TcbStatus, now: TcbStatus) -> Option<[TcbStatus; 2]> {
    (converge(launch, now) != launch).then_some([launch, now])
}

/// Whether the TCB that protects a TD now is no less than that of its launch, of which the TCB status speaks. Intel's
/// library looks at TEE_TCB_SVN_2 where it may advise a relaunch, and nowhere else.
pub(crate) fn present(report: &TdReport<'_>, assessment: &Assessment) -> Result<Text, String> {
    let launch = report.tee_tcb_svn;
    let Some(td15) = &report.td15 else {
        return Ok("a TD 1.0 report, which states the TCB of the launch alone".into());
    };
    let now = td15.tee_tcb_svn_2;
    if now == launch {
        return Ok("the same as at launch".into());
    }
    let shown = format!("{} now, {} at launch", HexBytes(*now), HexBytes(*launch));
    match assessment.worsened {
        _ if is_lower(now, launch) => Err(shown),
        Some([launch, now]) => Err(format!("{shown}: {} now, {} at launch", now.name(), launch.name())),
        None => Ok(shown.into()),
    }
}

/// Whether a TEE_TCB_SVN is below another in any component. The first one counts within a major version, which is the
/// second one.
fn is_lower(one: &[u8; 16], other: &[u8; 16]) -> bool {
    let ([minor, major, rest @ ..], [other_minor, other_major, other_rest @ ..]) = (one, other);
    (major, minor) < (other_major, other_minor) || rest.iter().zip(other_rest).any(|(one, other)| one < other)
}

/// The platform's level and, for modules with a major version above zero, the module's.
fn platform_status(
    tee_tcb_svn: &[u8; 16],
    pck: &PckExtension,
    info: &TcbInfo,
    assessment: &mut Assessment,
) -> Option<Reached> {
    let [minor, major, ..] = *tee_tcb_svn;
    let (sgx, tdx) = short_of_best(tee_tcb_svn, pck, info);
    if !sgx.is_empty() {
        assessment.updates.push(Update::Bios(sgx.clone()));
    }
    if !tdx.is_empty() {
        assessment.updates.push(Update::Module(tdx.clone()));
    }
    let platform = match info.tcb_levels.iter().find(|level| reached(level, tee_tcb_svn, pck)) {
        Some(level) => {
            assessment.count(level.tcb_status, &level.advisory_ids);
            assessment.date = Some(level.tcb_date);
            assessment.parts.push(Part::Platform {
                status: level.tcb_status,
                date: level.tcb_date,
                short: sgx.into_iter().chain(tdx).collect(),
            });
            level.tcb_status
        }
        None => {
            assessment.parts.push(Part::PlatformBelowAll);
            return None;
        }
    };
    if major == 0 {
        return Some(Reached { platform, module: TcbStatus::UpToDate });
    }
    let Some((_, levels)) = module_levels(info, major) else {
        assessment.parts.push(Part::NoModuleIdentity { major });
        return None;
    };
    let module = isv_status("TDX module", u16::from(minor), levels, assessment)?;
    Some(Reached { platform, module })
}

fn isv_status(
    what: &'static str,
    svn: u16,
    levels: &[IsvLevel],
    assessment: &mut Assessment,
) -> Option<TcbStatus> {
    let best = levels.iter().map(|level| level.tcb.isv_svn).max().unwrap_or_default();
    if svn < best {
        assessment.updates.push(Update::Isv { what, svn, best });
    }
    let Some(level) = levels.iter().find(|level| level.tcb.isv_svn <= svn) else {
        assessment.parts.push(Part::IsvBelowAll { what, svn });
        return None;
    };
    assessment.count(level.tcb_status, &level.advisory_ids);
    assessment.parts.push(Part::Isv { what, status: level.tcb_status, svn, best });
    Some(level.tcb_status)
}

/// A level is reached when the SGX components and PCESVN of the PCK certificate and the TDX components of the report are
/// all at least the level's. Components 0 and 1 belong to the TDX module when its major version is not zero.
fn reached(level: &TcbLevel, tee_tcb_svn: &[u8; 16], pck: &PckExtension) -> bool {
    let skip = if tee_tcb_svn.get(1).is_some_and(|major| *major > 0) { 2 } else { 0 };
    reached_by_sgx(level, pck)
        && tee_tcb_svn.iter().zip(&level.tcb.tdx).skip(skip).all(|(has, needs)| has >= needs)
}

fn reached_by_sgx(level: &TcbLevel, pck: &PckExtension) -> bool {
    let mut components = pck.components.iter().zip(&level.tcb.sgx);
    pck.pce_svn >= level.tcb.pce_svn && components.all(|(has, needs)| has >= needs)
}

/// The status of the first level that SGX components and PCESVN reach, whatever the TDX components.
fn sgx_status(pck: &PckExtension, info: &TcbInfo) -> Option<TcbStatus> {
    info.tcb_levels.iter().find(|level| reached_by_sgx(level, pck)).map(|level| level.tcb_status)
}

/// Whether a TEE_TCB_SVN has what the latest levels ask of the TDX module (component 0, or the module's own levels from
/// major version 1 on) and of component 2.
fn reaches_latest(tee_tcb_svn: &[u8; 16], info: &TcbInfo) -> bool {
    let Some(latest) = info.tcb_levels.first() else { return false };
    let ([minor, major, third, ..], [first_needed, _, third_needed, ..]) = (*tee_tcb_svn, latest.tcb.tdx);
    let needed = match major {
        0 => Some(u16::from(first_needed)),
        _ => module_levels(info, major)
            .and_then(|(_, levels)| levels.iter().map(|level| level.tcb.isv_svn).max()),
    };
    needed.is_some_and(|needed| u16::from(minor) >= needed) && third >= third_needed
}

/// Which SGX components (with PCESVN) and which TDX components lack what the best level asks for.
fn short_of_best(tee_tcb_svn: &[u8; 16], pck: &PckExtension, info: &TcbInfo) -> (Vec<Short>, Vec<Short>) {
    let Some(best) = info.tcb_levels.first() else { return (Vec::new(), Vec::new()) };
    let skip = if tee_tcb_svn.get(1).is_some_and(|major| *major > 0) { 2 } else { 0 };
    let mut sgx = short("SGX component", 0, &pck.components, &best.tcb.sgx);
    if pck.pce_svn < best.tcb.pce_svn {
        sgx.push(Short { what: "PCESVN", at: None, has: pck.pce_svn, needs: best.tcb.pce_svn });
    }
    (sgx, short("TDX component", skip, tee_tcb_svn, &best.tcb.tdx))
}

fn short(what: &'static str, skip: usize, has: &[u8; 16], needs: &[u8; 16]) -> Vec<Short> {
    let components = has.iter().zip(needs).enumerate().skip(skip);
    components
        .filter(|(_, (has, needs))| has < needs)
        .map(|(at, (has, needs))| Short { what, at: Some(at), has: (*has).into(), needs: (*needs).into() })
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

/// The status of a TD 1.5 that should be relaunched, if it should, by the rule of Intel's verification library
/// (`checkForRelaunch` in TDRelaunchCheck.cpp of the SGX and TDX DCAP Quote Verification Library): the TDX module is what
/// was out of date at launch, neither the quoting enclave nor the platform's SGX components are, and the platform has the
/// latest module by now (`latest`).
fn relaunch(launch: Reached, enclave: TcbStatus, sgx: Option<TcbStatus>, latest: bool) -> Option<TcbStatus> {
    let ((age, configuration, _), (sgx_age, sgx_configuration, _)) = (parts(launch.status()), parts(sgx?));
    let advised = launch.module == TcbStatus::OutOfDate
        && age == Age::Outdated
        && sgx_age == Age::Current
        && parts(enclave).0 == Age::Current
        && latest;
    advised.then(|| status(Age::Relaunch, configuration || sgx_configuration, false))
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
        let update = Update::Isv { what: "TDX module", svn: 3, best: 5 };
        let assessment = |status, updates: &[&Update]| Assessment {
            status,
            date: None,
            advisory_ids: vec!["INTEL-SA-1".to_owned(), "INTEL-SA-2".to_owned()],
            levels: Vec::new(),
            parts: Vec::new(),
            updates: updates.iter().copied().cloned().collect(),
            worsened: None,
        };
        let up_to_date = assessment(Some(UpToDate), &[]);
        assert_eq!(up_to_date.remedy(), None);
        let old = assessment(Some(OutOfDateConfigurationNeeded), &[&update]).remedy().unwrap();
        assert_eq!(
            old,
            "have the operator update the TDX module: ISV SVN 3, needs 5, \
             have the operator configure the platform as the advisories ask, \
             or accept OutOfDateConfigurationNeeded in the policy for a while by a grace (advisories INTEL-SA-1, INTEL-SA-2)"
        );
        let none = assessment(None, &[&update]).remedy().unwrap();
        assert_eq!(
            none,
            "have the operator update the TDX module: ISV SVN 3, needs 5 (advisories INTEL-SA-1, INTEL-SA-2)",
            "no status to accept"
        );
        let relaunch = assessment(Some(TDRelaunchAdvised), &[]).remedy().unwrap();
        assert!(
            relaunch.starts_with("stop the TD and start it again, or accept TDRelaunchAdvised"),
            "{relaunch}"
        );
    }

    #[test]
    fn relaunch_is_advised_where_intel_advises_it() {
        let launch = |platform, module| Reached { platform, module };
        for (launch, enclave, sgx, expected) in [
            (launch(UpToDate, OutOfDate), UpToDate, UpToDate, Some(TDRelaunchAdvised)),
            (launch(OutOfDate, OutOfDate), UpToDate, SWHardeningNeeded, Some(TDRelaunchAdvised)),
            (
                launch(ConfigurationNeeded, OutOfDate),
                UpToDate,
                UpToDate,
                Some(TDRelaunchAdvisedConfigurationNeeded),
            ),
            (
                launch(OutOfDate, OutOfDate),
                UpToDate,
                ConfigurationAndSWHardeningNeeded,
                Some(TDRelaunchAdvisedConfigurationNeeded),
            ),
            // Not the module, but the platform was outdated.
            (launch(OutOfDate, UpToDate), UpToDate, UpToDate, None),
            // A new launch leaves the platform's own components, and the quoting enclave, as they are.
            (launch(OutOfDate, OutOfDate), UpToDate, OutOfDate, None),
            (launch(OutOfDate, OutOfDate), UpToDate, Revoked, None),
            (launch(UpToDate, OutOfDate), OutOfDate, UpToDate, None),
            (launch(UpToDate, OutOfDate), Revoked, UpToDate, None),
            (launch(Revoked, OutOfDate), UpToDate, UpToDate, None),
            (launch(UpToDate, Revoked), UpToDate, UpToDate, None),
            (launch(UpToDate, UpToDate), UpToDate, UpToDate, None),
        ] {
            let found = |latest| relaunch(launch, enclave, Some(sgx), latest);
            let what = format!("{:?} {:?} {enclave:?} {sgx:?}", launch.platform, launch.module);
            assert_eq!(found(true), expected, "{what}");
            assert_eq!(found(false), None, "{what}, without the latest module");
        }
        assert_eq!(relaunch(launch(UpToDate, OutOfDate), UpToDate, None, true), None);
    }

    #[test]
    fn a_tee_tcb_svn_is_lower_by_any_component_and_the_minor_version_within_the_major() {
        let svn = |minor, major, third| {
            let mut svn = [0; 16];
            [svn[0], svn[1], svn[2]] = [minor, major, third];
            svn
        };
        let launch = svn(7, 1, 4);
        for (now, lower) in [
            (launch, false),
            (svn(8, 1, 4), false),
            (svn(7, 1, 5), false),
            (svn(1, 2, 4), false),
            (svn(6, 1, 4), true),
            (svn(9, 0, 4), true),
            (svn(8, 1, 3), true),
            (svn(1, 2, 3), true),
        ] {
            assert_eq!(is_lower(&now, &launch), lower, "{now:?}");
        }
    }

    #[test]
    fn a_present_status_that_is_worse_in_any_part_is_a_worse_one() {
        assert_eq!(worsened(OutOfDate, UpToDate), None);
        assert_eq!(worsened(UpToDate, UpToDate), None);
        assert_eq!(worsened(UpToDate, OutOfDate), Some([UpToDate, OutOfDate]));
        assert_eq!(worsened(OutOfDate, ConfigurationNeeded), Some([OutOfDate, ConfigurationNeeded]));
        assert_eq!(worsened(UpToDate, Revoked), Some([UpToDate, Revoked]));
    }
}
