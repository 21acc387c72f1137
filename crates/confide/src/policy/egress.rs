//! `confide policy check` of an egress policy.

use super::Form;
use crate::render;
use crate::status::Failure;
use confide_policy::egress::{EgressPolicy, NamePattern, Phase, Rule, To, Transport};
use serde_json::json;
use std::path::Path;

pub(super) fn check(file: &Path, policy: &EgressPolicy, form: Form) -> Result<(), Failure> {
    let (bootstrap, serving) = (policy.allowed(Phase::Bootstrap), policy.allowed(Phase::Serving));
    if form == Form::Json {
        super::print(&json!({
            "file": file.display().to_string(),
            "egress_policy": policy.name(),
            "digest": policy.digest().to_string(),
            "bootstrap": bootstrap,
            "serving": serving,
            "warnings": warnings(policy),
        }));
        return Ok(());
    }
    let count = format!("{} bootstrap rules, {} serving rules", bootstrap.len(), serving.len());
    render::prose(&format!("{}: egress policy {:?}, {count}", file.display(), policy.name()));
    render::prose(&format!("  digest: {}", policy.digest()));
    for warning in warnings(policy) {
        render::prose(&format!("  warning: {warning}"));
    }
    Ok(())
}

fn warnings(policy: &EgressPolicy) -> Vec<String> {
    let phases = [Phase::Bootstrap, Phase::Serving];
    phases
        .into_iter()
        .flat_map(|phase| policy.rules(phase).iter().flat_map(move |rule| of_rule(phase, rule)))
        .collect()
}

/// What the host gets from a rule, who else gets something, and whether anybody carries it out.
fn of_rule(phase: Phase, rule: &Rule) -> Vec<String> {
    let phase = phase.name();
    let mut warnings = Vec::new();
    if rule.is_host_visible() {
        warnings.push(format!("{phase}: the host sees or may answer {rule}"));
    }
    match &rule.to {
        To::Name { pattern: NamePattern::OneLabel(parent), .. } => {
            warnings
                .push(format!("{phase}: whoever can have a name below {parent} gets what {rule} lets out"));
        }
        To::Network { transport: Transport::Udp, .. } => {
            warnings.push(format!("{phase}: guests refuse {rule}: the egress broker carries TCP alone"));
        }
        _ => {}
    }
    warnings
}
