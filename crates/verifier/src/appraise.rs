//! The two entry points: [`evaluate`] for data, [`appraise`] for authority.

use crate::boot_log;
use crate::check::{Checks, Rule, Stop};
use crate::cross_check;
use crate::document;
use crate::memo::{Learned, Memo};
use crate::nvidia::{self, Cpu, Node, PreparedDevices};
use crate::references::{Candidate, Columns};
use crate::result::{
    AttestationResult, CPU_ASSUMPTIONS, DEVICES_ASSUMPTION, DeviceResult, GPU_ASSUMPTIONS, Measurements,
    Outcome, PER_KEY_ASSUMPTION, Rejection, SIMULATED, SNP_ASSUMPTIONS, TdxMeasurements,
};
use crate::rules;
use crate::signature::Algorithms;
use crate::signed::{self, PreparedReferences, Taken};
use crate::snp;
use crate::tdx::{self, Means, PreparedCollateral, QuoteFindings};
use crate::text::Text;
use crate::witness::{Attested, Challenge};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::{
    CpuEvidence, DeviceEvidence, DeviceKind, Endorsements, EvidenceDocument, NvidiaEndorsements, Platform,
    TdxCollateral,
};
use confide_evidence::record::{NrasOpinion, RecordedChallenge, SecondOpinion, opinion_inputs};
use confide_evidence::tdx::{CollateralError, Padding, Quote};
use confide_evidence::time::{format_rfc3339, format_seconds, seconds};
use confide_evidence::transcript::Role;
use confide_policy::{AppraisalPolicy, Attest, Waived};
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// What is appraised.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A bare TDX quote, which zero bytes may follow.
    Quote(&'a [u8]),
    /// As [`Subject::Quote`], with the boot event log of its machine.
    QuoteWithLog {
        /// The quote.
        quote: &'a [u8],
        /// The log, which padding may follow.
        boot_log: &'a [u8],
    },
    /// A canonical evidence document.
    Document(&'a [u8]),
    /// A bare SEV-SNP attestation report.
    SnpReport(&'a [u8]),
    /// NVIDIA devices by themselves: GPUs, and the switches of their machine.
    Devices {
        /// The evidence.
        devices: &'a [DeviceEvidence],
        /// The nonce that each was asked with, in the order of the devices: one that is missing fits no report.
        nonces: &'a [[u8; 32]],
        /// Another time for manifests and the revocation of their signers. It exists for recorded sets whose endorsements
        /// were taken at another time, shows in the verdict, and the ends of what it is used for do not limit that.
        rim_at: Option<UnixTime>,
        /// What NVIDIA's attestation service says of the same devices. Where it is given it must hold and agree, whatever the
        /// policy says of its absence.
        nras: Option<&'a NrasOpinion>,
    },
}

/// Everything that a verdict rests on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The evidence.
    pub subject: Subject<'a>,
    /// Endorsements from elsewhere than the document. What is missing is taken from those stapled to it.
    pub endorsements: &'a Endorsements,
    /// Collateral that was prepared before; it takes the place of the collateral in `endorsements`. The answer is the
    /// same as with the collateral that it was made from.
    pub prepared: Option<&'a PreparedCollateral>,
    /// NVIDIA's endorsements that were parsed before; they take the place of those in `endorsements`. The answer is the same
    /// as with the endorsements that they were made from.
    pub prepared_devices: Option<&'a PreparedDevices>,
    /// What earlier appraisals have established. The answer is the same as without it.
    pub memo: Option<&'a Memo>,
    /// What another verifier found for the same quote, collateral and time, which it names by [`Inputs::opinion_digest`]:
    /// the collateral must stand in `endorsements` or be stapled, also where `prepared` takes its place. Where the opinion
    /// differs, or is of something else, evidence is rejected.
    pub second_opinion: Option<&'a SecondOpinion>,
    /// The signed file of reference values that the policy names.
    pub references: Option<&'a PreparedReferences>,
    /// The appraisal policy.
    pub policy: &'a AppraisalPolicy,
    /// What the relying party asked. Documents need one; bare quotes have none.
    pub challenge: Option<&'a RecordedChallenge>,
    /// Time of the appraisal.
    pub now: UnixTime,
    /// Signature algorithms.
    pub algorithms: &'a Algorithms,
}

impl Inputs<'_> {
    /// The other time of manifests, where there is one.
    fn rim_at(&self) -> Option<UnixTime> {
        match self.subject {
            Subject::Devices { rim_at, .. } => rim_at,
            _ => None,
        }
    }

    /// What NVIDIA's attestation service says, where it was asked.
    fn nras(&self) -> Option<&NrasOpinion> {
        match self.subject {
            Subject::Devices { nras, .. } => nras,
            _ => None,
        }
    }

    /// Digest of what a second opinion on this evidence is formed over ([`opinion_inputs`]): the TDX quote, the collateral
    /// that is given or else stapled, and the time. Nothing where one of them is missing.
    #[must_use]
    pub fn opinion_digest(&self) -> Option<Digest> {
        let given = self.endorsements.tdx.as_ref();
        let over = |quote: &[u8], collateral| opinion_inputs(quote, collateral, self.now.as_secs());
        match self.subject {
            Subject::Quote(quote) | Subject::QuoteWithLog { quote, .. } => Some(over(quote, given?)),
            Subject::Document(bytes) => {
                let document = EvidenceDocument::decode(bytes).ok()?;
                let stapled = document.endorsements.as_ref().and_then(|stapled| stapled.tdx.as_ref());
                match &document.cpu {
                    CpuEvidence::Tdx { quote } => Some(over(quote.as_bytes(), given.or(stapled)?)),
                    _ => None,
                }
            }
            Subject::SnpReport(_) | Subject::Devices { .. } => None,
        }
    }
}

/// Everything that a witness rests on but the challenge, which [`appraise`] consumes.
#[derive(Debug, Clone, Copy)]
pub struct Appraisal<'a> {
    /// The evidence document, canonical bytes.
    pub document: &'a [u8],
    /// As [`Inputs::endorsements`].
    pub endorsements: &'a Endorsements,
    /// As [`Inputs::prepared`].
    pub prepared: Option<&'a PreparedCollateral>,
    /// As [`Inputs::prepared_devices`].
    pub prepared_devices: Option<&'a PreparedDevices>,
    /// As [`Inputs::memo`].
    pub memo: Option<&'a Memo>,
    /// As [`Inputs::second_opinion`].
    pub second_opinion: Option<&'a SecondOpinion>,
    /// As [`Inputs::references`].
    pub references: Option<&'a PreparedReferences>,
    /// The appraisal policy.
    pub policy: &'a AppraisalPolicy,
    /// Time of the appraisal.
    pub now: UnixTime,
    /// Signature algorithms.
    pub algorithms: &'a Algorithms,
}

/// Fields whose waiver leaves open what a witness rests on: no policy but a danger policy accepts evidence by its rule `witness` then.
pub const NEVER_WAIVED: [&str; 9] = [
    "tdx.debug",
    "tdx.migratable",
    "tdx.mr_td",
    "tdx.rtmr0",
    "tdx.rtmr1",
    "tdx.rtmr2",
    "tdx.rtmr3",
    "tdx.report_data",
    "claims.events",
];

/// Appraises evidence to data that carries no authority.
///
/// # Errors
/// [`Rejection`] with the whole result for every outcome but acceptance.
pub fn evaluate(inputs: &Inputs<'_>) -> Result<AttestationResult, Rejection> {
    verdict(inputs).map(|(result, _)| result)
}

/// Appraises an evidence document for one challenge and mints the witness. Nothing else makes one.
///
/// The checks are those of [`evaluate`] on the same inputs. Among them, for documents: the policy leaves nothing open on
/// which a channel rests (report data, RTMR3 and runtime events are appraised, MRTD and RTMR0 to RTMR2 have reference
/// values, DEBUG and MIGRATABLE are off). Only a danger policy may waive these, and every output says so.
///
/// # Errors
/// [`Rejection`] with the whole result.
pub fn appraise(appraisal: &Appraisal<'_>, challenge: Challenge) -> Result<Attested, Rejection> {
    let Appraisal {
        document,
        endorsements,
        prepared,
        prepared_devices,
        memo,
        second_opinion,
        references,
        policy,
        now,
        algorithms,
    } = *appraisal;
    let recorded = challenge.recorded();
    let inputs = Inputs {
        subject: Subject::Document(document),
        endorsements,
        prepared,
        prepared_devices,
        memo,
        second_opinion,
        references,
        policy,
        challenge: Some(&recorded),
        now,
        algorithms,
    };
    let (result, accepted) = verdict(&inputs)?;
    match accepted {
        Some(Accepted { document, valid_until, endorsed_until }) => Ok(Attested {
            result,
            challenge,
            valid_until,
            endorsed_until,
            boot_id: document.boot_id,
            claims: document.claims,
            key_set: document.key_set,
        }),
        // An accepted document always carries its contents.
        None => Err(Rejection { result: Box::new(result) }),
    }
}

/// The result of a collateral file that cannot be read: malformed input, nothing appraised.
#[must_use]
pub fn malformed_collateral(
    error: &CollateralError,
    policy: &AppraisalPolicy,
    now: UnixTime,
) -> AttestationResult {
    malformed_file(&rules::COLLATERAL_FILE, error.to_string(), policy, now)
}

/// The result of an input file that cannot be read, by its rule: malformed input, nothing appraised.
#[must_use]
pub fn malformed_file(
    rule: &'static Rule,
    error: String,
    policy: &AppraisalPolicy,
    now: UnixTime,
) -> AttestationResult {
    let mut checks = Checks::default();
    checks.fail(rule, error);
    AttestationResult {
        outcome: Outcome::Malformed,
        code: checks.first_failure(),
        simulated: false,
        platform: None,
        policy: policy.name.clone(),
        time: format_rfc3339(now),
        rim_time: None,
        tcb_status: None,
        tcb_date: None,
        advisory_ids: Vec::new(),
        early_tcb_status: None,
        reference_set: None,
        pck: None,
        measurements: None,
        report_data: None,
        valid_until: None,
        platform_binding: None,
        devices: Vec::new(),
        checks: checks.into_list(),
        assumptions: CPU_ASSUMPTIONS.to_vec(),
    }
}

/// The contents of an accepted document.
struct Accepted {
    document: EvidenceDocument,
    valid_until: UnixTime,
    endorsed_until: UnixTime,
}

/// What an appraisal has found so far.
pub(crate) struct Progress<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) checks: Checks,
    pub(crate) platform: Option<&'static str>,
    pub(crate) quote: QuoteFindings,
    pub(crate) reference_set: Option<String>,
    pub(crate) measurements: Option<Measurements>,
    pub(crate) report_data: Option<Bytes<64>>,
    /// The earliest end of what the verdict rests on beside the evidence, seconds since the Unix epoch.
    pub(crate) endorsed_until: Option<i64>,
    /// Until when the evidence itself may be relied on, seconds since the Unix epoch.
    pub(crate) fresh_until: Option<i64>,
    pub(crate) devices: Vec<DeviceResult>,
    pub(crate) simulated_devices: bool,
    pub(crate) topology: bool,
    /// Why the guest's time is not to be trusted, where it is not.
    pub(crate) guest_time: Option<&'static str>,
    pub(crate) outcome: Option<Outcome>,
    /// What may be kept in the memo once the whole evidence has been accepted.
    learned: Option<Learned>,
}

fn verdict(inputs: &Inputs<'_>) -> Result<(AttestationResult, Option<Accepted>), Rejection> {
    let mut progress = Progress::new(inputs);
    let document = match inputs.subject {
        Subject::Quote(quote) => bare_quote(quote, None, &mut progress).map(|()| None),
        Subject::QuoteWithLog { quote, boot_log } => {
            bare_quote(quote, Some(boot_log), &mut progress).map(|()| None)
        }
        Subject::SnpReport(bytes) => snp::bare_report(bytes, &mut progress).map(|()| None),
        Subject::Devices { devices, nonces, .. } => {
            bare_devices(devices, nonces, &mut progress);
            Ok(None)
        }
        Subject::Document(bytes) => document::appraise(bytes, &mut progress).map(|document| {
            progress.witness_rules();
            Some(document)
        }),
    };
    let ends = [progress.valid_until(), progress.endorsed_until].map(time);
    let learned = progress.learned.take();
    if document.is_ok() {
        progress.untouched_waivers();
    } else {
        // Whoever stops has noted a failure; a verdict must not rest on that alone.
        progress.outcome = progress.outcome.or(Some(Outcome::Rejected));
    }
    let result = progress.finish();
    if !result.accepted() {
        return Err(Rejection { result: Box::new(result) });
    }
    if let (Some(memo), Some(learned)) = (inputs.memo, learned) {
        memo.keep(learned);
    }
    let [valid_until, endorsed_until] = ends;
    let accepted = document.ok().flatten().map(|document| Accepted { document, valid_until, endorsed_until });
    Ok((result, accepted))
}

/// A time that is known, or the beginning of all time: what rests on nothing is over.
fn time(seconds: Option<i64>) -> UnixTime {
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn bare_quote(bytes: &[u8], log: Option<&[u8]>, progress: &mut Progress<'_>) -> Result<(), Stop> {
    let quote = progress.parse_quote(bytes, Padding::Zeros)?;
    if quote.padding > 0 {
        progress.checks.pass(&rules::QUOTE_PADDING, format!("{} zero bytes", quote.padding));
    }
    let collateral = progress.inputs.endorsements.tdx.as_ref();
    progress.quote(&quote, collateral)?;
    let policy = progress.inputs.policy;
    let mut columns = Columns::default();
    tdx::columns(&quote, policy, &mut columns);
    let choice = columns.choose(&progress.candidates());
    choice.report(&mut progress.checks);
    progress.reference_set = choice.matched().map(ToString::to_string);
    tdx::reference_values(&quote, policy, &choice, None, &mut progress.checks);
    boot_log::appraise(log, quote.report.rtmr, progress);
    Ok(())
}

/// Devices without a CPU's evidence.
fn bare_devices(devices: &[DeviceEvidence], nonces: &[[u8; 32]], progress: &mut Progress<'_>) {
    let gpus = devices.iter().filter(|device| device.kind == DeviceKind::NvidiaGpu).count();
    let expected = &progress.inputs.policy.devices.gpu_count;
    progress.checks.expect(&rules::GPU_COUNT, expected, &u32::try_from(gpus).unwrap_or(u32::MAX));
    if devices.is_empty() {
        // Nothing was shown: nothing is accepted, whatever the policy waives.
        progress.outcome = Some(Outcome::Malformed);
        progress.checks.fail(&rules::GPU_EVIDENCE_FILE, "no device");
        return;
    }
    let given = |position: u32| nonces.get(usize::try_from(position).unwrap_or(usize::MAX)).copied();
    progress.devices(devices, None, &given);
    if progress.inputs.references.is_some() {
        // No reference value is about a device: but what was given is what the policy names, or refused.
        progress.candidates();
    }
}

impl<'a> Progress<'a> {
    fn new(inputs: &'a Inputs<'a>) -> Self {
        Self {
            inputs,
            checks: Checks::default(),
            platform: None,
            quote: QuoteFindings::default(),
            reference_set: None,
            measurements: None,
            report_data: None,
            endorsed_until: None,
            fresh_until: None,
            devices: Vec::new(),
            simulated_devices: false,
            topology: false,
            guest_time: None,
            outcome: None,
            learned: None,
        }
    }
}

impl<'a> Progress<'a> {
    /// Appraises devices, with the endorsements of the inputs or else those that are stapled.
    pub(crate) fn devices(
        &mut self,
        devices: &[DeviceEvidence],
        stapled: Option<&NvidiaEndorsements>,
        nonce: &dyn Fn(u32) -> Option<[u8; 32]>,
    ) {
        let Inputs { policy, now, algorithms, memo, prepared_devices, .. } = *self.inputs;
        let (made, noted);
        let mut to_keep = None;
        let prepared = match (prepared_devices, self.inputs.endorsements.nvidia.as_ref().or(stapled), memo) {
            (Some(prepared), ..) => prepared,
            (None, Some(given), Some(memo)) if memo.takes(given) => {
                noted = memo.devices(given);
                to_keep = Some(&noted);
                &*noted.prepared
            }
            (None, given, _) => {
                made = given.map(PreparedDevices::new).unwrap_or_default();
                &made
            }
        };
        let node = Node {
            devices,
            nonce,
            cpu: match self.inputs.subject {
                Subject::Devices { .. } => Cpu::NoEvidence,
                _ => Cpu::Tdx(self.quote.pck.as_ref().map(|pck| pck.ppid.0)),
            },
            prepared,
            policy,
            algorithms,
            now: seconds(now),
            rim_at: self.inputs.rim_at().map(seconds),
            nras: self.inputs.nras(),
        };
        let found = nvidia::appraise_devices(&node, &mut self.checks);
        if let (Some(machine), Some(noted)) = (found.machine, to_keep) {
            self.learned.get_or_insert_default().devices(machine, noted);
        }
        self.simulated_devices = found.simulated;
        self.topology = found.topology;
        self.devices = found.devices;
        self.outcome = self.outcome.or(found.outcome);
        self.endorsed_until = [self.endorsed_until, found.valid_until].into_iter().flatten().min();
    }

    /// Until when the verdict holds, seconds since the Unix epoch.
    fn valid_until(&self) -> Option<i64> {
        [self.endorsed_until, self.fresh_until].into_iter().flatten().min()
    }

    /// The reference sets that evidence may match.
    pub(crate) fn candidates(&mut self) -> Vec<Candidate<'a>> {
        let Inputs { policy, references, now, .. } = *self.inputs;
        let Taken { candidates, until } = signed::take(policy, references, seconds(now), &mut self.checks);
        self.endorsed_until = [self.endorsed_until, until].into_iter().flatten().min();
        candidates
    }

    /// Parses a quote and notes its fields.
    pub(crate) fn parse_quote<'q>(&mut self, bytes: &'q [u8], padding: Padding) -> Result<Quote<'q>, Stop> {
        match Quote::parse(bytes, padding) {
            Ok(quote) => {
                self.platform = Some("tdx");
                self.measurements = Some(Measurements::Tdx(Box::new(measurements(&quote))));
                self.report_data = Some(Bytes(*quote.report.report_data));
                let version = quote.version;
                self.checks.pass(&rules::QUOTE_FORMAT, Text::later(move || format!("version {version}")));
                Ok(quote)
            }
            Err(error) => {
                let outcome = if error.is_unsupported() { Outcome::Unsupported } else { Outcome::Malformed };
                self.outcome = Some(outcome);
                self.checks.fail(&rules::QUOTE_FORMAT, error.to_string());
                Err(Stop)
            }
        }
    }

    /// Appraises a quote's authenticity and TCB with the prepared collateral or else `collateral`.
    pub(crate) fn quote(
        &mut self,
        quote: &Quote<'_>,
        collateral: Option<&TdxCollateral>,
    ) -> Result<(), Stop> {
        let Inputs { policy, algorithms, prepared, memo, now, .. } = *self.inputs;
        let made;
        let prepared = match (prepared, collateral) {
            (Some(prepared), _) => prepared,
            (None, Some(collateral)) => {
                made = self.prepare(collateral);
                &made
            }
            (None, None) => {
                // A quote that nobody has signed lacks more than collateral.
                tdx::origin(quote, policy, algorithms, &mut self.checks, &mut self.quote.simulated)?;
                self.checks.fail(&rules::COLLATERAL_PRESENT, "none");
                return Err(Stop);
            }
        };
        let means = Means { policy, now: seconds(now), algorithms, memo };
        let (findings, ended) = tdx::appraise_quote(quote, prepared, &means, &mut self.checks);
        self.endorsed_until = findings.valid_until;
        if let Some(platform) = &findings.platform
            && memo.is_some()
        {
            self.learned.get_or_insert_default().platform(quote, platform);
        }
        self.quote = findings;
        cross_check::compare(
            self.quote.tcb_status,
            self.inputs.second_opinion,
            || self.inputs.opinion_digest(),
            &policy.tdx.cross_check,
            &mut self.checks,
        );
        ended
    }

    /// Prepares collateral, or takes what an earlier appraisal has prepared from the same bytes.
    fn prepare(&mut self, collateral: &TdxCollateral) -> Arc<PreparedCollateral> {
        let Inputs { policy, algorithms, memo, .. } = *self.inputs;
        if let Some(known) = memo.and_then(|memo| memo.collateral(collateral, &policy.tdx_roots())) {
            return known;
        }
        let made = Arc::new(PreparedCollateral::new(collateral, policy, algorithms));
        if memo.is_some() {
            self.learned.get_or_insert_default().collateral(collateral, &made);
        }
        made
    }

    /// Whether the policy leaves nothing open that a witness rests on.
    fn witness_rules(&mut self) {
        let policy = self.inputs.policy;
        let mut open = Vec::new();
        policy.each_waived(Platform::Tdx, |Waived { path, .. }| {
            if NEVER_WAIVED.contains(&path) {
                open.push(format!("{path} waived"));
            }
        });
        if policy.admits_debug_or_migration() {
            open.push("a TD that the host can debug or migrate is admitted".to_owned());
        }
        match &policy.danger {
            _ if open.is_empty() => self.checks.pass(&rules::WITNESS, "nothing is left open"),
            Some(danger) => {
                self.checks.waive(&rules::WITNESS, &danger.reason.as_str().into(), open.join(", "));
            }
            None => self.checks.fail(&rules::WITNESS, open.join(", ")),
        }
    }

    /// Shows the waivers of what this evidence has nothing of: a loosened policy shows in every verdict. What a policy
    /// says of the other platform is no part of it.
    fn untouched_waivers(&mut self) {
        let platform = match self.inputs.subject {
            Subject::SnpReport(_) => Platform::SevSnp,
            Subject::Quote(_) | Subject::QuoteWithLog { .. } | Subject::Document(_) => Platform::Tdx,
            Subject::Devices { .. } => return self.untouched_device_waivers(),
        };
        let looked_at = self.checks.codes();
        let mut last = 0;
        // Fields and rules have about the same order: each search goes on where the one before ended.
        let mut rules = rules::ALL.iter().cycle();
        self.inputs.policy.each_waived(platform, |Waived { code, reason, .. }| {
            if looked_at.may_have(code)
                && let Some(place) = self.checks.place_of(code, last)
            {
                last = place;
                return;
            }
            if let Some(rule) = rules.by_ref().take(rules::ALL.len()).find(|rule| rule.code == code) {
                self.checks.waive(rule, reason, "this evidence has nothing of it");
            }
        });
    }

    /// How the devices are tied to the CPU's evidence and to each other.
    fn platform_binding(&self) -> Option<&'static str> {
        match self.inputs.subject {
            _ if self.devices.iter().all(|device| device.facts.is_none()) => None,
            // Where report data is waived, the quote may be of another exchange than theirs.
            Subject::Document(_) if !self.checks.has_passed(&rules::REPORT_DATA) => None,
            Subject::Document(_) if self.checks.has_passed(&rules::DEVICE_REGISTRY) => {
                Some("registered_hardware")
            }
            _ if self.topology => Some("topology"),
            // No CPU's evidence covers them.
            Subject::Devices { .. } => None,
            _ => Some("shared_transcript"),
        }
    }

    /// As [`Self::untouched_waivers`], of devices by themselves: no CPU's table and no claim is about them.
    fn untouched_device_waivers(&mut self) {
        for Waived { code, reason, .. } in self.inputs.policy.waived_of_devices() {
            if !self.checks.has(code)
                && let Some(rule) = rules::ALL.iter().find(|rule| rule.code == code)
            {
                self.checks.waive(rule, reason, "this evidence has nothing of it");
            }
        }
    }

    /// Whether further connections may go without an attestation of their own.
    fn is_ridden_on(&self) -> bool {
        let Inputs { subject, challenge, policy, .. } = self.inputs;
        let boots = challenge.is_some_and(|challenge| challenge.role == Role::KeyRelease);
        matches!(subject, Subject::Document(_)) && !boots && policy.freshness.attest == Attest::PerKey
    }

    fn finish(self) -> AttestationResult {
        let simulated = self.quote.simulated || self.simulated_devices;
        let code = self.checks.first_failure();
        let outcome = match (self.outcome, code) {
            (Some(outcome), _) => outcome,
            (None, Some(_)) => Outcome::Rejected,
            (None, None) => Outcome::Accepted,
        };
        let mut assumptions = Vec::new();
        if simulated {
            assumptions.push(SIMULATED);
        }
        match self.inputs.subject {
            Subject::Devices { .. } => assumptions.push(DEVICES_ASSUMPTION),
            _ if self.platform == Some("sev-snp") => assumptions.extend(SNP_ASSUMPTIONS),
            _ => assumptions.extend(CPU_ASSUMPTIONS),
        }
        if !self.devices.is_empty() {
            assumptions.extend(GPU_ASSUMPTIONS);
        }
        if self.is_ridden_on() {
            assumptions.push(PER_KEY_ASSUMPTION);
        }
        assumptions.extend(self.guest_time);
        let (platform_binding, valid_until) = (self.platform_binding(), self.valid_until());
        AttestationResult {
            outcome,
            code,
            simulated,
            platform: self.platform,
            policy: self.inputs.policy.name.clone(),
            time: format_rfc3339(self.inputs.now),
            rim_time: self.inputs.rim_at().map(format_rfc3339),
            tcb_status: self.quote.tcb_status,
            tcb_date: self.quote.tcb_date.map(format_seconds),
            advisory_ids: self.quote.advisory_ids,
            early_tcb_status: self.quote.early_tcb_status,
            reference_set: self.reference_set,
            pck: self.quote.pck,
            measurements: self.measurements,
            report_data: self.report_data,
            valid_until: (outcome == Outcome::Accepted).then(|| valid_until.map(format_seconds)).flatten(),
            platform_binding,
            devices: self.devices,
            checks: self.checks.into_list(),
            assumptions,
        }
    }
}

fn measurements(quote: &Quote<'_>) -> TdxMeasurements {
    let report = &quote.report;
    let [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmr.map(|rtmr| Bytes(*rtmr));
    TdxMeasurements {
        mr_td: Bytes(*report.mr_td),
        rtmr0,
        rtmr1,
        rtmr2,
        rtmr3,
        mr_seam: Bytes(*report.mr_seam),
        mr_signer_seam: Bytes(*report.mr_signer_seam),
        mr_config_id: Bytes(*report.mr_config_id),
        mr_owner: Bytes(*report.mr_owner),
        mr_owner_config: Bytes(*report.mr_owner_config),
        mr_service_td: report.td15.as_ref().map(|td15| Bytes(*td15.mr_service_td)),
        td_attributes: Bytes(*report.td_attributes),
        xfam: Bytes(*report.xfam),
        seam_attributes: Bytes(*report.seam_attributes),
        tee_tcb_svn: Bytes(*report.tee_tcb_svn),
        tee_tcb_svn_2: report.td15.as_ref().map(|td15| Bytes(*td15.tee_tcb_svn_2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_policy::{CLIENT, Loaded};

    fn witness_under(policy: &AppraisalPolicy) -> crate::check::Check {
        let inputs = Inputs {
            subject: Subject::Document(&[]),
            endorsements: &Endorsements::default(),
            prepared: None,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy,
            challenge: None,
            now: UnixTime::since_unix_epoch(std::time::Duration::from_secs(0)),
            algorithms: &crate::signature::tests::algorithms(),
        };
        let mut progress = Progress::new(&inputs);
        progress.witness_rules();
        progress.checks.into_list().remove(0)
    }

    #[test]
    fn an_ordinary_policy_that_leaves_the_binding_open_has_no_witness() {
        use crate::check::Status;
        let policy = |text: &str| AppraisalPolicy::parse(text, Loaded::Normally).unwrap();
        assert_eq!(witness_under(&policy(CLIENT)).status, Status::Pass);
        for field in ["migratable", "mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "report_data", "events"] {
            let line = CLIENT.lines().find(|line| line.starts_with(&format!("{field} ="))).unwrap();
            let open = CLIENT.replacen(line, &format!("{field} = {{ waive = \"a test\" }}"), 1);
            let check = witness_under(&policy(&open));
            assert_eq!(check.status, Status::Fail, "{field}");
            assert!(check.actual.contains(field), "{}", check.actual);
        }
        for field in ["debug", "migratable"] {
            let open = CLIENT.replacen(
                &format!("{field} = {{ any_of = [false] }}"),
                &format!("{field} = {{ any_of = [false, true] }}"),
                1,
            );
            assert_ne!(open, CLIENT);
            assert_eq!(witness_under(&policy(&open)).status, Status::Fail, "{field}");
        }
    }
}
