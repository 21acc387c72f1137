//! Appraisal of evidence documents: the quote, and everything that its report data covers.

use crate::appraise::{Inputs, Progress};
use crate::boot_log;
use crate::check::{Checks, Stop};
use crate::nvidia;
use crate::references::{Choice, Columns, Found, Of};
use crate::result::{HOST_TIME_ASSUMPTION, Outcome, UNNAMED_BROKER_ASSUMPTION};
use crate::rules;
use crate::tdx::{self, Recomputed};
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    Claims, CpuEvidence, DeviceKind, DocumentError, Egress, EgressMode, EvidenceDocument, KeySet, Volume,
};
use confide_evidence::event::{Boot, ServingEvents};
use confide_evidence::record::RecordedChallenge;
use confide_evidence::tdx::Padding;
use confide_evidence::time::{format_seconds, seconds};
use confide_evidence::transcript::{Binding, Role, Transcript, batch_leaf};
use confide_policy::{AppraisalPolicy, Batch, BrokerKey, ClaimsPolicy, Expect, ExpectReference, HexBytes};

/// Appraises a document for the challenge of the inputs.
pub(crate) fn appraise(bytes: &[u8], progress: &mut Progress<'_>) -> Result<EvidenceDocument, Stop> {
    let document = decode(bytes, progress)?;
    let quote_bytes = quote_of(&document, progress)?;
    let challenge = progress.inputs.challenge.ok_or_else(|| "no challenge was given".to_owned());
    let binding = challenge.and_then(|challenge| binding(challenge, &document, progress.inputs.policy));
    let binding = match binding {
        Ok(binding) => {
            progress.checks.pass(&rules::CHALLENGE, format!("role {}", binding.role()));
            binding
        }
        Err(actual) => {
            progress.checks.fail(&rules::CHALLENGE, actual);
            return Err(Stop);
        }
    };
    let quote = progress.parse_quote(quote_bytes, Padding::Refused)?;
    let stapled = document.endorsements.as_ref().and_then(|stapled| stapled.tdx.as_ref());
    let collateral = progress.inputs.endorsements.tdx.as_ref().or(stapled);
    progress.quote(&quote, collateral)?;
    let recomputed = recompute(&document, binding);
    let policy = progress.inputs.policy;
    let choice = {
        let mut columns = Columns::default();
        tdx::columns(&quote, policy, &mut columns);
        for Claimed { field, expected, found, of, .. } in claimed(&document.claims, &policy.claims) {
            columns.add(field, expected, found, of);
        }
        columns.choose(&progress.candidates())
    };
    choice.report(&mut progress.checks);
    progress.reference_set = choice.matched().map(ToString::to_string);
    tdx::reference_values(&quote, policy, &choice, Some(&recomputed), &mut progress.checks);
    let log = document.boot_log.as_ref().map(|log| log.as_bytes());
    boot_log::appraise(log, quote.report.rtmr, progress);
    contents(&document, &binding, &choice, progress);
    Ok(document)
}

fn decode(bytes: &[u8], progress: &mut Progress<'_>) -> Result<EvidenceDocument, Stop> {
    match EvidenceDocument::decode(bytes) {
        Ok(document) => {
            progress.checks.pass(&rules::DOCUMENT_FORMAT, format!("{} bytes", bytes.len()));
            Ok(document)
        }
        Err(error) => {
            let unsupported = matches!(error, DocumentError::Version(_));
            progress.outcome = Some(if unsupported { Outcome::Unsupported } else { Outcome::Malformed });
            progress.checks.fail(&rules::DOCUMENT_FORMAT, error.to_string());
            Err(Stop)
        }
    }
}

fn quote_of<'d>(document: &'d EvidenceDocument, progress: &mut Progress<'_>) -> Result<&'d [u8], Stop> {
    match &document.cpu {
        CpuEvidence::Tdx { quote } => {
            progress.platform = Some("tdx");
            progress.checks.pass(&rules::DOCUMENT_PLATFORM, "tdx");
            Ok(quote.as_bytes())
        }
        _ => {
            progress.platform = Some("sev-snp");
            progress.outcome = Some(Outcome::Unsupported);
            progress.checks.fail(&rules::DOCUMENT_PLATFORM, "sev-snp has no runtime register");
            Err(Stop)
        }
    }
}

/// The role-dependent fields of the transcript, from the verifier's own challenge.
fn binding(
    challenge: &RecordedChallenge,
    document: &EvidenceDocument,
    policy: &AppraisalPolicy,
) -> Result<Binding, String> {
    let nonce = challenge.nonce;
    match (challenge.role, &document.batch) {
        (Role::Serve, None) => {
            let (exporter, tls_spki) = live_connection(challenge)?;
            Ok(Binding::Serve { nonce, exporter, tls_spki })
        }
        (Role::Serve | Role::Batch, Some(path)) => {
            if policy.freshness.batch == Batch::Refuse {
                return Err("a quote that several clients share, which the policy refuses".to_owned());
            }
            let (exporter, tls_spki) = live_connection(challenge)?;
            let root = path.root(&batch_leaf(&nonce, &exporter)).map_err(|error| error.to_string())?;
            Ok(Binding::Batch { root, tls_spki })
        }
        (Role::Batch, None) => Err("role batch without a batch path in the document".to_owned()),
        (Role::KeyRelease, None) => Ok(Binding::KeyRelease { nonce }),
        (Role::KeyRelease, Some(_)) => Err("role key-release with a batch path in the document".to_owned()),
    }
}

fn live_connection(challenge: &RecordedChallenge) -> Result<(Bytes<32>, Bytes<32>), String> {
    let bytes = |field: &[u8], name: &str| {
        <[u8; 32]>::try_from(field)
            .map(Bytes)
            .map_err(|_| format!("{name} of {} bytes, expected 32", field.len()))
    };
    let exporter = bytes(challenge.exporter.as_bytes(), "a TLS exporter")?;
    Ok((exporter, bytes(challenge.spki.as_bytes(), "an SPKI digest")?))
}

fn recompute(document: &EvidenceDocument, binding: Binding) -> Recomputed {
    let transcript = Transcript {
        binding,
        keyset: document.key_set.digest(),
        devices: confide_evidence::document::devices_digest(&document.devices),
        claims: document.claims.digest(),
        boot_id: document.boot_id,
    };
    Recomputed { report_data: transcript.report_data(), rtmr3: document.events.replay() }
}

/// What checks of devices say that the quote does not sign.
pub(crate) const NOT_COVERED: &str = "not reached: the quote's report data does not cover the devices";

/// Everything that the report data covers. These checks are independent: all run, but for those of devices, which cost
/// signatures, where the report data covers other ones.
fn contents(
    document: &EvidenceDocument,
    binding: &Binding,
    choice: &Choice<'_>,
    progress: &mut Progress<'_>,
) {
    let Inputs { policy, now, .. } = *progress.inputs;
    let role = binding.role();
    key_set(&document.key_set, role, seconds(now), policy, progress);
    events(document, role, policy, progress);
    claims(&document.claims, &policy.claims, choice, &mut progress.checks);
    gpus(document, role, policy, &mut progress.checks);
    if progress.checks.has_failed(&rules::REPORT_DATA) {
        // The devices are not those that the quote signs: their chains and signatures are worth no work.
        progress.devices = nvidia::not_covered(&document.devices, policy, &mut progress.checks);
        devices_event(document, role, policy, &mut progress.checks);
        return;
    }
    let stapled = document.endorsements.as_ref().and_then(|stapled| stapled.nvidia.as_ref());
    progress.devices(&document.devices, stapled, &|position| Some(binding.gpu_nonce(position)));
    devices_event(document, role, policy, &mut progress.checks);
}

/// Holds the devices against the event that the measured guest has extended. After the checks of the devices
/// themselves, which say more about a device that is not what it should be.
fn devices_event(document: &EvidenceDocument, role: Role, policy: &AppraisalPolicy, checks: &mut Checks) {
    if role == Role::KeyRelease {
        return;
    }
    let Ok(events) = document.events.serving(document.claims.egress.mode) else { return };
    if checks.has_failed(&rules::REPORT_DATA) {
        checks.not_run(&rules::DEVICES_EVENT, NOT_COVERED);
        return;
    }
    let found = nvidia::in_use(&document.devices, &events.devices.devices);
    checks.require(&rules::DEVICES_EVENT, &policy.devices.event, found);
}

fn key_set(keys: &KeySet, role: Role, now: i64, policy: &AppraisalPolicy, progress: &mut Progress<'_>) {
    let max_age = i64::try_from(policy.freshness.max_age_seconds.0).unwrap_or(i64::MAX);
    let mut end = now.saturating_add(max_age);
    match (role, keys) {
        (Role::KeyRelease, KeySet::Recipient(_)) => progress.checks.pass(&rules::KEY_SET, "a recipient key"),
        (Role::Serve | Role::Batch, KeySet::Serving(keys)) => {
            let not_after = i64::try_from(keys.not_after).unwrap_or(i64::MAX);
            end = end.min(not_after);
            let actual = format!("until {}", format_seconds(not_after));
            if now <= not_after {
                progress.checks.pass(&rules::KEY_SET, actual);
            } else {
                progress.checks.fail(&rules::KEY_SET, actual);
            }
        }
        _ => progress.checks.fail(&rules::KEY_SET, format!("a key set of another role than {role}")),
    }
    progress.fresh_until = Some(end);
}

fn events(document: &EvidenceDocument, role: Role, policy: &AppraisalPolicy, progress: &mut Progress<'_>) {
    let (claims, checks) = (&document.claims, &mut progress.checks);
    let complete = match role {
        Role::KeyRelease => document.events.key_release().map(|_| None),
        Role::Serve | Role::Batch => document.events.serving(claims.egress.mode).map(Some),
    };
    let serving = match complete {
        Ok(serving) => {
            checks.pass(&rules::EVENT_LOG, format!("{} events", document.events.events().len()));
            serving
        }
        Err(error) => {
            checks.fail(&rules::EVENT_LOG, error.to_string());
            let why = "the runtime events are not those of this role";
            checks.not_run(&rules::EVENT_CLAIMS, why);
            checks.not_run(&rules::GUEST_BROKER, why);
            return;
        }
    };
    broker(document.events.boot(), &policy.claims.broker, checks);
    // The signed answer that gave the keys gave the time, too. Whose word that is, a policy without names cannot tell.
    progress.guest_time = serving.as_ref().and_then(|events| match &policy.claims.broker {
        _ if events.released.is_none() => Some(HOST_TIME_ASSUMPTION),
        Expect::Waive(_) => Some(UNNAMED_BROKER_ASSUMPTION),
        Expect::AnyOf(_) => None,
    });
    let differing = match (&serving, document.events.key_release()) {
        (Some(events), _) => differing(document, events),
        (None, Ok((boot, configuration))) => {
            let mut fields = Vec::new();
            note(&mut fields, "build", boot.build == claims.build);
            note(&mut fields, "boot id", boot.boot_id == document.boot_id);
            note(&mut fields, "configuration", configuration.digest == claims.configuration);
            fields
        }
        (None, Err(_)) => vec!["events"],
    };
    let found = if differing.is_empty() {
        Ok("equal".to_owned())
    } else {
        Err(format!("differing: {}", differing.join(", ")))
    };
    checks.require(&rules::EVENT_CLAIMS, &policy.claims.events, found);
}

/// Whose word the guest takes for the time, and who knows the keys of its volumes.
fn broker(boot: Option<&Boot>, expected: &Expect<BrokerKey>, checks: &mut Checks) {
    let measured = boot.and_then(|boot| boot.broker_key.as_ref()).map(ByteString::as_bytes);
    let found = match measured {
        None => Err("none: the guest obeys no broker".to_owned()),
        Some(der) => {
            BrokerKey::from_spki(der).ok_or_else(|| format!("no Ed25519 key, but {} other bytes", der.len()))
        }
    };
    match (found, expected) {
        (Ok(key), _) => checks.expect(&rules::GUEST_BROKER, expected, &key),
        (Err(what), Expect::AnyOf(_)) => checks.fail(&rules::GUEST_BROKER, what),
        (Err(what), Expect::Waive(reason)) => checks.waive(&rules::GUEST_BROKER, reason, what),
    }
}

fn note(fields: &mut Vec<&'static str>, field: &'static str, equal: bool) {
    if !equal {
        fields.push(field);
    }
}

/// Whether `names` are those of all volumes, each once, in any order.
fn are_named(volumes: &[Volume], names: &[String]) -> bool {
    let mut open: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    let mut released: Vec<&str> = names.iter().map(String::as_str).collect();
    open.sort_unstable();
    released.sort_unstable();
    open == released
}

fn differing(document: &EvidenceDocument, events: &ServingEvents<'_>) -> Vec<&'static str> {
    let claims = &document.claims;
    let mut fields = Vec::new();
    note(&mut fields, "build", events.boot.build == claims.build);
    note(&mut fields, "boot id", events.boot.boot_id == document.boot_id);
    note(&mut fields, "configuration", events.configuration.digest == claims.configuration);
    note(&mut fields, "model manifest", events.model.manifest == claims.model.manifest);
    let volumes = events.volumes.map_or(&[][..], |volumes| &volumes.volumes);
    note(&mut fields, "volumes", volumes == claims.volumes);
    let released = events.released.map_or(&[][..], |released| &released.volumes);
    note(&mut fields, "released volumes", are_named(&claims.volumes, released));
    let locked = match events.egress_locked {
        Some(locked) => {
            claims.egress.policy == Some(locked.policy) && claims.egress.ruleset == Some(locked.ruleset)
        }
        None => claims.egress.policy.is_none() && claims.egress.ruleset.is_none(),
    };
    note(&mut fields, "egress", locked);
    fields
}

fn claims(claims: &Claims, policy: &ClaimsPolicy, choice: &Choice<'_>, checks: &mut Checks) {
    let mode = match claims.egress.mode {
        EgressMode::Locked => "locked",
        EgressMode::Open => "open",
    };
    checks.expect(&rules::EGRESS_MODE, &policy.egress_mode, &mode.to_owned());
    allowed(&policy.egress_allowed, &claims.egress, checks);
    each(&rules::EGRESS_HOST_VISIBLE, &policy.host_visible, &claims.egress.host_visible, checks);
    checks.expect(&rules::ENGINE_KIND, &policy.engine, &claims.engine.kind);
    for Claimed { rule, expected, found, of, .. } in claimed(claims, policy) {
        choice.expect(rule, expected, &found, of, checks);
    }
    if claims.gpus.count > 0 {
        checks.expect(&rules::GPU_DEV_TOOLS, &policy.gpu_dev_tools, &claims.gpus.dev_tools);
        checks.expect(&rules::GPU_ENVIRONMENT, &policy.gpu_environment, &claims.gpus.environment);
    }
}

/// A claim that reference sets have values for.
struct Claimed<'p> {
    field: &'static str,
    rule: &'static crate::Rule,
    expected: &'p ExpectReference<HexBytes<32>>,
    found: Found<32>,
    of: Of<32>,
}

fn claimed<'p>(claims: &Claims, policy: &'p ClaimsPolicy) -> [Claimed<'p>; 5] {
    let one = |field, rule, expected, value: Option<Bytes<32>>, of| Claimed {
        field,
        rule,
        expected,
        found: Found::One(value.map(|value| HexBytes(value.0))),
        of,
    };
    let roots = claims.volumes.iter().filter_map(|volume| volume.verity_root);
    [
        one("egress_policy", &rules::EGRESS_POLICY, &policy.egress_policy, claims.egress.policy, |set| {
            &set.egress_policy
        }),
        one("model", &rules::MODEL_MANIFEST, &policy.model, Some(claims.model.manifest), |set| &set.model),
        one(
            "configuration",
            &rules::CONFIGURATION,
            &policy.configuration,
            Some(claims.configuration),
            |set| &set.configuration,
        ),
        one("image", &rules::IMAGE, &policy.image, claims.build.image, |set| &set.image),
        Claimed {
            field: "verity_roots",
            rule: &rules::VERITY_ROOTS,
            expected: &policy.verity_roots,
            found: Found::Each(roots.map(|root| HexBytes(root.0)).collect()),
            of: |set| &set.verity_roots,
        },
    ]
}

/// An open guest lets out what no list names.
fn allowed(expected: &Expect<String>, egress: &Egress, checks: &mut Checks) {
    match (expected, egress.mode) {
        (Expect::AnyOf(_), EgressMode::Open) => {
            checks.fail(&rules::EGRESS_ALLOWED, "everything: egress is open")
        }
        _ => each(&rules::EGRESS_ALLOWED, expected, &egress.allowed, checks),
    }
}

/// Every value found must be in the policy's set.
fn each<T: PartialEq + std::fmt::Display>(
    rule: &'static crate::Rule,
    expected: &Expect<T>,
    actual: &[T],
    checks: &mut Checks,
) {
    let listed = || match actual {
        [] => "none".to_owned(),
        _ => actual.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    match expected {
        Expect::Waive(reason) => checks.waive(rule, reason, listed()),
        Expect::AnyOf(values) => match actual.iter().find(|value| !values.contains(value)) {
            Some(unknown) => checks.fail(rule, format!("{unknown}, which the policy does not list")),
            None => checks.pass(rule, listed()),
        },
    }
}

fn gpus(document: &EvidenceDocument, role: Role, policy: &AppraisalPolicy, checks: &mut Checks) {
    let gpus = document.devices.iter().filter(|device| device.kind == DeviceKind::NvidiaGpu).count();
    let count = u32::try_from(gpus).unwrap_or(u32::MAX);
    checks.expect(&rules::GPU_COUNT, &policy.devices.gpu_count, &count);
    let claimed = &document.claims.gpus;
    if claimed.count != u64::from(count) {
        let actual = format!("claims say {}, the document has {count}", claimed.count);
        checks.fail(&rules::GPU_CLAIMS, actual);
    } else if role != Role::KeyRelease && count > 0 && !claimed.ready {
        checks.fail(&rules::GPU_CLAIMS, "the ready state is not set");
    } else {
        checks.pass(&rules::GPU_CLAIMS, format!("{count} GPUs"));
    }
}
