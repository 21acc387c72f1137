//! `confide policy check`: waivers, graces, and what is surely not meant.

use super::{Form, egress};
use crate::input;
use crate::render;
use crate::status::Failure;
use confide_evidence::time::seconds;
use confide_policy::egress::EgressPolicy;
use confide_policy::{
    AppraisalPolicy, ExpectReference, Field, Name, ReferenceSet, SNP_REFERENCE_FIELDS, Says,
};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use std::path::Path;

/// Lists of what may be there, in which no entry is a choice and no mistake.
const MAY_BE_EMPTY: [&str; 3] = ["claims.egress_allowed", "claims.host_visible", "claims.verity_roots"];

pub(super) fn run(file: &Path, form: Form, now: UnixTime) -> Result<(), Failure> {
    let text = input::policy_text(file)?;
    if EgressPolicy::is_meant_by(&text) {
        return egress::check(file, &input::parse_egress(file, &text)?, form);
    }
    let policy = super::parse(file, text)?.policy;
    let (waivers, graces) = (policy.waivers(), &policy.tdx.grace);
    if form == Form::Json {
        let entry = |field: &str, says: &str| json!({ "field": field, "says": says });
        let waived: Vec<Value> = waivers.iter().map(|(field, reason)| entry(field, reason)).collect();
        let graces = graces.iter().map(|grace| {
            let field = grace.field();
            json!({ "field": field.path, "says": field.says().to_string(), "reason": grace.reason.to_string() })
        });
        super::print(&json!({
            "file": file.display().to_string(),
            "policy": policy.name,
            "waivers": waived,
            "graces": graces.collect::<Vec<_>>(),
            "warnings": warnings(&policy, seconds(now)),
        }));
        return Ok(());
    }
    let count = format!("{} waivers, {} graces", waivers.len(), graces.len());
    render::prose(&format!("{}: policy {:?}, {count}", file.display(), policy.name));
    for (field, reason) in &waivers {
        render::prose(&format!("  {field}: {reason}"));
    }
    for grace in graces {
        let field = grace.field();
        render::prose(&format!("  {}: {} ({})", field.path, field.says(), grace.reason));
    }
    for warning in warnings(&policy, seconds(now)) {
        render::prose(&format!("  warning: {warning}"));
    }
    Ok(())
}

/// What is surely not meant, or soon will not be.
fn warnings(policy: &AppraisalPolicy, now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for grace in policy.tdx.grace.iter().filter(|grace| grace.ended(now)) {
        warnings.push(format!(
            "the grace {:?} ended at {}: it accepts nothing any more",
            grace.name, grace.until
        ));
    }
    let fields = policy.fields();
    let empty = |field: &&Field<'_>| {
        matches!(field.says(), Says::AnyOf(set) if set.is_empty())
            && !MAY_BE_EMPTY.contains(&field.path.as_ref())
    };
    let empty: Vec<&str> = fields.iter().filter(empty).map(|field| field.path.as_ref()).collect();
    if !empty.is_empty() {
        warnings.push(format!("lists without a value accept nothing: {}", empty.join(", ")));
    }
    let taken = fields.iter().filter(|field| field.says() == Says::Reference);
    let taken: Vec<&str> = taken.map(|field| field.path.as_ref()).collect();
    if policy.signed_references.is_none() && policy.reference.is_empty() && !taken.is_empty() {
        let fields = taken.join(", ");
        warnings.push(format!("there is no reference set, so that nothing is accepted by: {fields}"));
    }
    for (name, set) in &policy.reference {
        warnings.extend(of_set(name, set, &taken));
    }
    if taken.is_empty() && policy.signed_references.is_some() {
        warnings.push("no field is taken from the signed file of reference values".to_owned());
    }
    warnings.extend(of_models(policy));
    warnings
}

/// Manifests that a request may be answered from by the table of models, and that no verdict accepts.
fn of_models(policy: &AppraisalPolicy) -> Vec<String> {
    let (Some(models), ExpectReference::AnyOf(accepted)) = (&policy.models, &policy.claims.model) else {
        return Vec::new();
    };
    let pairs = models.iter().flat_map(|(name, digests)| digests.iter().map(move |digest| (name, digest)));
    let refused = pairs.filter(|(_, digest)| !accepted.contains(digest));
    let told =
        |(name, digest)| format!("models: {name:?} stands for {digest}, which claims.model does not accept");
    refused.map(told).collect()
}

/// What a reference set lacks and what of it is not looked at. A set is of the platforms of which it has any field.
fn of_set(name: &Name, set: &ReferenceSet, taken: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    let names = set.names();
    let of_reports = names.iter().filter(|field| SNP_REFERENCE_FIELDS.contains(field)).count();
    let (of_report, of_guest) = (of_reports > 0, of_reports < names.len() || names.is_empty());
    let asked: Vec<&str> = taken
        .iter()
        .filter(|path| if path.starts_with("snp.") { of_report } else { of_guest })
        .filter_map(|path| path.rsplit('.').next())
        .collect();
    let lacking: Vec<&str> = asked.iter().copied().filter(|field| !set.has(field)).collect();
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        warnings.push(format!("the reference set {name} has no {lacking}: it matches nothing"));
    }
    for unused in names.into_iter().filter(|field| !asked.contains(field)) {
        warnings.push(format!(
            "{unused} of the reference set {name} is not looked at: the policy does not take it from reference sets"
        ));
    }
    warnings
}
