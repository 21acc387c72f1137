//! What the endpoint answers itself: status, verdicts, metrics, health, and the models of several instances.

use super::codes::CODES;
use super::forward::{Answer, Fault, json};
use super::server::Endpoint;
use crate::appraised::Appraised;
use crate::error::ClientError;
use crate::fleet::{Fleet, Instance, InstanceState, InstanceView};
use confide_channel::{Moment, Verdict};
use confide_evidence::hex;
use confide_evidence::percent;
use confide_evidence::text::escape_json;
use confide_evidence::time::format_rfc3339;
use confide_service::metrics::{self, Kind, Page};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;

/// What is known of the endpoint and its instances.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    state: &'static str,
    /// The word where a verdict that holds is about simulated evidence.
    evidence: Option<&'static str>,
    uptime_seconds: u64,
    discovery: Option<String>,
    /// Why the discovery file is not used as it is now.
    discovery_error: Option<String>,
    models: Vec<String>,
    instances: Vec<InstanceStatus>,
}

#[derive(Serialize)]
struct InstanceStatus {
    instance: String,
    url: String,
    state: &'static str,
    reason: Option<Reason>,
    retry_in_seconds: Option<f64>,
    verdict: Option<Standing>,
    in_flight: usize,
    max_in_flight: usize,
    quarantines: u64,
    /// Refused appraisals beyond what is recorded of them.
    unrecorded_refusals: u64,
}

#[derive(Serialize)]
struct Reason {
    code: &'static str,
    message: String,
    what_to_do: Option<String>,
}

impl Reason {
    fn of(error: &ClientError) -> Self {
        let what_to_do = error.what_to_do().map(std::borrow::Cow::into_owned);
        Self { code: error.code(), message: error.to_string(), what_to_do }
    }

    /// Of a state that is no error of the instance.
    fn of_state(state: InstanceState) -> Option<Self> {
        if state != InstanceState::Overloaded {
            return None;
        }
        let code = "instance_overloaded";
        let listed = CODES.iter().find(|(known, ..)| *known == code);
        Some(Self {
            code,
            message: "it answered 503 or 429 and is left alone for the time that it asked for".to_owned(),
            what_to_do: listed.map(|(_, _, what_to_do)| (*what_to_do).to_owned()),
        })
    }
}

/// The verdict that holds.
#[derive(Serialize)]
struct Standing {
    simulated: bool,
    evidence: &'static str,
    policy: String,
    /// The name in its claims.
    model: String,
    manifest: String,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS key.
    spki: String,
    age_seconds: u64,
    valid_until: String,
    left_seconds: u64,
    /// Until when what endorses the evidence holds, which younger evidence does not prolong.
    collateral_until: String,
    collateral_left_seconds: u64,
    /// The other instances that showed the same key: this guest at other addresses.
    also_at: Vec<String>,
}

#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// SHA-256 of the model manifest, as attested.
    manifest: String,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// The word where a verdict that an attested instance rests on is about simulated evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attested: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<usize>,
}

/// What evidence is called in everything that rests on it.
fn evidence(simulated: bool) -> &'static str {
    if simulated { "SIMULATED" } else { "genuine" }
}

/// The word for evidence of which any is simulated.
fn any_simulated(verdicts: &[Arc<Verdict>]) -> Option<&'static str> {
    verdicts.iter().any(|verdict| verdict.result().simulated).then(|| evidence(true))
}

/// The verdicts that hold.
fn standing(fleet: &Fleet) -> Vec<Arc<Verdict>> {
    fleet.instances().iter().filter_map(|one| one.view().verdict).collect()
}

impl Health {
    fn of(status: &'static str) -> Self {
        Self { status, evidence: None, attested: None, instances: None }
    }
}

pub(super) fn status(endpoint: &Endpoint) -> Answer {
    let fleet = &endpoint.fleet;
    let evidence = any_simulated(&standing(fleet));
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        state: if endpoint.is_draining() { "draining" } else { "ready" },
        evidence,
        uptime_seconds: endpoint.started.elapsed().as_secs(),
        discovery: fleet.discovery().map(|file| file.display().to_string()),
        discovery_error: fleet.discovery_error(),
        models: fleet.models().into_iter().map(|(name, _)| name).collect(),
        instances: instances(fleet),
    };
    marked(json(StatusCode::OK, text(&status)), evidence.is_some())
}

fn instances(fleet: &Fleet) -> Vec<InstanceStatus> {
    let instances = fleet.instances();
    let views: Vec<(&Arc<Instance>, InstanceView)> = instances.iter().map(|one| (one, one.view())).collect();
    views.iter().map(|(one, view)| instance_status(one, view.clone(), &views)).collect()
}

/// The status of one of these instances.
fn instance_status(
    instance: &Arc<Instance>,
    InstanceView { state, reason, retry_in, verdict }: InstanceView,
    all: &[(&Arc<Instance>, InstanceView)],
) -> InstanceStatus {
    let reason = reason.as_ref().map(Reason::of).or_else(|| Reason::of_state(state));
    let now = Moment::now();
    let standing = verdict.map(|verdict| {
        let (result, model) = (verdict.result(), &verdict.claims().model);
        let same_key =
            |view: &InstanceView| view.verdict.as_ref().is_some_and(|one| one.spki() == verdict.spki());
        let elsewhere = all.iter().filter(|(one, view)| !Arc::ptr_eq(one, instance) && same_key(view));
        Standing {
            simulated: result.simulated,
            evidence: evidence(result.simulated),
            policy: result.policy.clone(),
            model: model.name.clone(),
            manifest: hex::encode(&model.manifest.0),
            spki: hex::encode(verdict.spki()),
            age_seconds: now.since(verdict.asked()).as_secs(),
            valid_until: format_rfc3339(verdict.valid_until()),
            left_seconds: verdict.left(now).as_secs(),
            collateral_until: format_rfc3339(verdict.endorsed_until()),
            collateral_left_seconds: verdict.endorsed_for(now).as_secs(),
            also_at: elsewhere.map(|(one, _)| one.id().to_owned()).collect(),
        }
    });
    InstanceStatus {
        instance: instance.id().to_owned(),
        url: instance.client().endpoint().to_string(),
        state: state.as_str(),
        reason,
        retry_in_seconds: retry_in.map(|time| time.as_secs_f64()),
        verdict: standing,
        in_flight: instance.in_flight(),
        max_in_flight: instance.max_in_flight(),
        quarantines: instance.meters.quarantines.value(),
        unrecorded_refusals: instance.client().unrecorded_refusals(),
    }
}

/// The last verdict about an instance, accepted or not.
pub(super) fn verdict(fleet: &Fleet, path: &str) -> Result<Answer, Fault> {
    let name = percent::decode(path.as_bytes()).and_then(|name| String::from_utf8(name).ok());
    let instances = fleet.instances();
    let instance = instances.iter().find(|one| Some(one.id()) == name.as_deref());
    let Some(instance) = instance else {
        let known: Vec<&str> = instances.iter().map(|one| one.id()).collect();
        let message = format!("there is no such instance, but {}", known.join(", "));
        return Err(Fault::refused(StatusCode::NOT_FOUND, "unknown_instance", &message));
    };
    let (latest, view) = (instance.client().latest_appraisal(), instance.view());
    // A guest behind several addresses is attested at one of them.
    let elsewhere = view.verdict.as_deref().filter(|verdict| match &latest {
        Some(own) => {
            own.result.accepted() && own.challenge.spki.as_bytes() == verdict.spki() && is_older(own, verdict)
        }
        None => true,
    });
    if let Some(result) = elsewhere.map(Verdict::result).or(latest.as_ref().map(|own| &own.result)) {
        let status = if result.accepted() { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
        return Ok(marked(json(status, result.to_json().into_bytes()), result.simulated));
    }
    let why = view.reason.map_or_else(|| view.state.as_str().to_owned(), |error| error.to_string());
    let message = format!("there is no verdict yet: {why}");
    Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, "upstream_error", "no_verdict", message))
}

fn is_older(appraised: &Appraised, verdict: &Verdict) -> bool {
    appraised.time < verdict.asked().wall()
}

/// The models of attested instances, as the OpenAI API lists them.
pub(super) fn models(fleet: &Fleet) -> Answer {
    let models = fleet.models();
    let simulated = models.iter().any(|(_, verdict)| verdict.result().simulated);
    let data =
        models.into_iter().map(|(id, verdict)| model(id, &verdict.claims().model.manifest.0)).collect();
    marked(json(StatusCode::OK, text(&ModelList { object: "list", data })), simulated)
}

/// One model, by its percent-encoded name.
pub(super) fn one_model(fleet: &Fleet, path: &str) -> Result<Answer, Fault> {
    let name = percent::decode(path.as_bytes()).and_then(|name| String::from_utf8(name).ok());
    let found = fleet.models().into_iter().find(|(id, _)| Some(id) == name.as_ref());
    let Some((id, verdict)) = found else {
        let message = "no attested instance has this model";
        return Err(Fault::refused(StatusCode::NOT_FOUND, "model_not_found", message));
    };
    let answer = json(StatusCode::OK, text(&model(id, &verdict.claims().model.manifest.0)));
    Ok(marked(answer, verdict.result().simulated))
}

fn model(id: String, manifest: &[u8; 32]) -> Model {
    Model { id, object: "model", created: 0, owned_by: "confide", manifest: hex::encode(manifest) }
}

fn marked(mut answer: Answer, simulated: bool) -> Answer {
    if simulated {
        answer.headers_mut().insert(super::forward::SIMULATED, HeaderValue::from_static("true"));
    }
    answer
}

/// The program runs.
pub(super) fn live() -> Answer {
    json(StatusCode::OK, text(&Health::of("live")))
}

/// The endpoint takes requests.
pub(super) fn ready(endpoint: &Endpoint) -> Answer {
    let (word, status) = match endpoint.is_draining() {
        false => ("ready", StatusCode::OK),
        true => ("draining", StatusCode::SERVICE_UNAVAILABLE),
    };
    json(status, text(&Health::of(word)))
}

/// A request would find an instance whose evidence is accepted.
pub(super) fn attested(fleet: &Fleet) -> Answer {
    let instances = fleet.instances();
    let counts =
        |view: &InstanceView| matches!(view.state, InstanceState::Attested | InstanceState::Overloaded);
    let attested: Vec<InstanceView> = instances.iter().map(|one| one.view()).filter(counts).collect();
    let (word, status) = match attested.len() {
        0 => ("unattested", StatusCode::SERVICE_UNAVAILABLE),
        _ => ("attested", StatusCode::OK),
    };
    let (count, verdicts) = (attested.len(), attested.into_iter().filter_map(|view| view.verdict));
    let evidence = any_simulated(&verdicts.collect::<Vec<_>>());
    let health =
        Health { evidence, attested: Some(count), instances: Some(instances.len()), ..Health::of(word) };
    marked(json(status, text(&health)), evidence.is_some())
}

/// The metrics, as Prometheus reads them.
pub(super) fn metrics(endpoint: &Endpoint) -> Answer {
    let mut answer = json(StatusCode::OK, page(&endpoint.fleet).into_bytes());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    marked(answer, any_simulated(&standing(&endpoint.fleet)).is_some())
}

fn page(fleet: &Fleet) -> String {
    let instances = fleet.instances();
    let views: Vec<(&Arc<Instance>, InstanceView)> = instances.iter().map(|one| (one, one.view())).collect();
    let mut page = Page::default();
    let mut family =
        page.family("confide_instance_state", Kind::Gauge, "1 for the state that an instance is in.");
    for (one, view) in &views {
        for state in InstanceState::ALL {
            let labels = [("instance", one.id()), ("state", state.as_str())];
            family.value(&labels, u8::from(state == view.state));
        }
    }
    if fleet.discovery().is_some() {
        let help = "1 where the discovery file is used as it is now, 0 where what it said before goes on.";
        let used = u8::from(fleet.discovery_error().is_none());
        page.family("confide_discovery_used", Kind::Gauge, help).value(&[], used);
    }
    let mut family = page.family("confide_in_flight", Kind::Gauge, "Requests under way.");
    for one in instances.iter() {
        family.value(&[("instance", one.id())], one.in_flight());
    }
    let now = Moment::now();
    let standing = || views.iter().filter_map(|(one, view)| Some((one.id(), view.verdict.as_ref()?)));
    let mut family =
        page.family("confide_verdict_age_seconds", Kind::Gauge, "Age of the verdict that holds.");
    for (id, verdict) in standing() {
        family.value(&[("instance", id)], now.since(verdict.asked()).as_secs_f64());
    }
    let help = "1 for the kind of evidence that the verdict is about that holds.";
    let mut family = page.family("confide_verdict_evidence", Kind::Gauge, help);
    for (id, verdict) in standing() {
        family.value(&[("instance", id), ("evidence", evidence(verdict.result().simulated))], 1);
    }
    let help = "Time until the verdict ends: by its own age or with the first window of its collateral.";
    let mut family = page.family("confide_verdict_left_seconds", Kind::Gauge, help);
    for (id, verdict) in standing() {
        family.value(&[("instance", id)], verdict.left(now).as_secs_f64());
    }
    let help = "Time until what endorses the evidence ends: younger evidence does not prolong it, younger collateral does.";
    let mut family = page.family("confide_collateral_left_seconds", Kind::Gauge, help);
    for (id, verdict) in standing() {
        family.value(&[("instance", id)], verdict.endorsed_for(now).as_secs_f64());
    }
    let mut family = page.family(
        "confide_verdicts_total",
        Kind::Counter,
        "Appraisals by outcome and code of the first failed check.",
    );
    for one in instances.iter() {
        for ([outcome, code], count) in one.meters.verdicts.values() {
            family.value(&[("instance", one.id()), ("outcome", outcome), ("code", code)], count);
        }
    }
    let help = "Attempts to attest that came to no appraisal, by code.";
    let mut family = page.family("confide_attestation_errors_total", Kind::Counter, help);
    for one in instances.iter() {
        for ([code], count) in one.meters.errors.values() {
            family.value(&[("instance", one.id()), ("code", code)], count);
        }
    }
    let mut family = page.family(
        "confide_failovers_total",
        Kind::Counter,
        "Requests that went on to another instance, by reason.",
    );
    for one in instances.iter() {
        for ([reason], count) in one.meters.failovers.values() {
            family.value(&[("instance", one.id()), ("reason", reason)], count);
        }
    }
    counters(&mut page, &instances);
    let help = "From the question for evidence to the verdict.";
    let mut family = page.family("confide_attestation_seconds", Kind::Histogram, help);
    for one in instances.iter() {
        family.histogram(&[("instance", one.id())], &one.meters.attestation);
    }
    let help = "From the request's last byte to the head of its answer.";
    let mut family = page.family("confide_first_byte_seconds", Kind::Histogram, help);
    for one in instances.iter() {
        family.histogram(&[("instance", one.id())], &one.meters.first_byte);
    }
    page.into_text()
}

fn counters(page: &mut Page, instances: &[Arc<Instance>]) {
    let mut family = |name, help, value: fn(&Instance) -> u64| {
        let mut family = page.family(name, Kind::Counter, help);
        for one in instances {
            family.value(&[("instance", one.id())], value(one));
        }
    };
    family("confide_quarantines_total", "How often a quarantine began.", |one| {
        one.meters.quarantines.value()
    });
    let help = "Refused appraisals beyond what is recorded of them.";
    family("confide_unrecorded_refusals_total", help, |one| one.client().unrecorded_refusals());
    let help = "Bytes of requests' bodies that guests answered.";
    family("confide_sent_bytes_total", help, |one| one.meters.sent.value());
    let help = "Bytes of answers' bodies.";
    family("confide_received_bytes_total", help, |one| one.meters.received.value());
}

fn text(value: &impl Serialize) -> Vec<u8> {
    escape_json(serde_json::to_string(value).expect("strings and numbers always serialise")).into_bytes()
}
