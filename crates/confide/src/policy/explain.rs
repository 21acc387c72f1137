//! `confide policy explain`: what a policy accepts, in sentences.

use super::Form;
use crate::render;
use crate::status::{Failure, Status};
use confide_policy::{Field, Says};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// Tables in the order in which they are told, with their headings.
const TABLES: [(&str, &str); 9] = [
    ("danger", "Trust anchors"),
    ("tdx", "The TD and its platform"),
    ("snp", "An SEV-SNP report, where that is the evidence"),
    ("devices", "Devices"),
    ("claims", "What the guest says of itself"),
    ("reference", "Reference sets: evidence must match one of them as a whole"),
    ("signed_references", "The signed file of further reference sets"),
    ("freshness", "How long a verdict holds"),
    ("models", "Which models requests may name, each with the SHA-256 of its manifest"),
];

pub(super) fn run(file: &Path, form: Form) -> Result<Status, Failure> {
    let policy = super::read(file)?.policy;
    if form == Form::Json {
        let fields = policy.fields();
        let told = fields.iter().filter_map(|field| {
            let (path, code) = (&field.path, field.code);
            sentence(field).map(|sentence| json!({ "field": path, "check": code, "says": sentence }))
        });
        super::print(&json!({
            "policy": policy.name,
            "simulated": policy.danger.is_some(),
            "accepts": told.collect::<Vec<_>>(),
        }));
        return Ok(Status::Accepted);
    }
    render::prose(&format!("The policy {:?} accepts evidence where all of this holds.", policy.name));
    if let Some(danger) = &policy.danger {
        render::prose(&format!("It accepts SIMULATED evidence, which proves nothing: {}", danger.reason));
    }
    let fields = policy.fields();
    for (table, heading) in TABLES {
        let of_table = fields.iter().filter(|field| field.path.split('.').next() == Some(table));
        let sentences: Vec<String> = of_table.filter_map(sentence).collect();
        if sentences.is_empty() {
            continue;
        }
        render::prose(&format!("\n{heading}"));
        sentences.iter().for_each(|sentence| render::prose(&format!("- {sentence}")));
    }
    Ok(Status::Accepted)
}

/// One field; nothing where it says nothing.
fn sentence(field: &Field<'_>) -> Option<String> {
    let subject = &field.subject;
    let told = match field.says() {
        Says::Nothing => return None,
        Says::NoneOf(set) if set.is_empty() => return None,
        Says::AnyOf(set) if set.is_empty() => format!("{subject}: nothing is accepted"),
        Says::AnyOf(set) if set.len() == 1 => format!("{} {}", be(subject), listed(&set)),
        Says::AnyOf(set) => format!("{} one of {}", be(subject), listed(&set)),
        Says::NoneOf(set) => format!("{} not {}", be(subject), listed(&set)),
        Says::Recomputed => {
            format!(
                "{} what the verifier computes from the evidence document and its own challenge",
                be(subject)
            )
        }
        Says::Reference => format!("{} that of the reference set", be(subject)),
        Says::All => format!("{subject} may be any that there is"),
        Says::Grace { status, advisories, until } => {
            let open = match advisories.is_empty() {
                true => "no advisory is named".to_owned(),
                false => {
                    format!("nothing but {} and what other graces for it name is open", listed(&advisories))
                }
            };
            format!("until {until}, {subject} may also be {status} where {open} ({})", field.path)
        }
        Says::Required => subject.to_string(),
        Says::Waived(reason) => format!("not looked at: {subject} ({reason})"),
        Says::AtLeast(bound) => format!("{} at least {bound}", be(subject)),
        Says::Floors(floors) if floors.is_empty() => format!("{subject}: nothing is accepted"),
        Says::Floors(_) => format!("{} {}", be(subject), field.says()),
        Says::AtMost(bound) => format!("{} at most {bound}", be(subject)),
        Says::Choice { meaning, .. } => format!("{subject}: {meaning}"),
        other => format!("{subject}: {other}"),
    };
    Some(capitalised(&told))
}

/// A subject with its verb: an apposition ends with a comma, and a question is answered.
fn be(subject: &str) -> String {
    const PLURAL: [&str; 2] = ["the reserved bytes of ", "the attributes of "];
    match subject {
        _ if subject.starts_with("whether ") => format!("{subject}:"),
        _ if subject.contains(", ") => format!("{subject}, is"),
        _ if PLURAL.iter().any(|plural| subject.starts_with(plural)) => format!("{subject} are"),
        _ => format!("{subject} is"),
    }
}

fn listed(set: &BTreeSet<String>) -> String {
    set.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect::<String>() + ".",
        None => String::new(),
    }
}
