//! `confide policy diff`: what changes, field by field, and in which direction.

use super::Form;
use crate::render;
use crate::status::{Failure, Status};
use confide_policy::{AppraisalPolicy, Change, Says};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn run(before: &Path, after: &Path, form: Form) -> Result<Status, Failure> {
    let (before, after) = (super::read(before)?.policy, super::read(after)?.policy);
    let (mut looser, mut stricter, mut other, mut reworded) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut listed = Vec::new();
    for (path, from, to) in pairs(&before, &after) {
        let (word, count) = match from.change_to(&to) {
            Change::Same => continue,
            Change::Looser => ("looser", &mut looser),
            Change::Stricter => ("stricter", &mut stricter),
            Change::Other => ("other", &mut other),
            Change::Reworded => ("reworded", &mut reworded),
        };
        *count = count.saturating_add(1);
        if form == Form::Text {
            render::prose(&format!("{word:<9} {path}: {}", told(&from, &to)));
        }
        let (from, to) = (from.to_string(), to.to_string());
        listed.push(json!({ "change": word, "field": path, "before": from, "after": to }));
    }
    match form {
        Form::Text => render::prose(&format!(
            "{:?} to {:?}: {looser} looser, {stricter} stricter, {other} other, {reworded} reworded",
            before.name, after.name
        )),
        Form::Json => super::print(&json!({ "before": before.name, "after": after.name, "changes": listed })),
    }
    Ok(if looser == 0 && other == 0 { Status::Accepted } else { Status::Rejected })
}

/// Every field of either policy, in the order of the first and then of the second. A field that one of them lacks says
/// nothing there.
fn pairs(before: &AppraisalPolicy, after: &AppraisalPolicy) -> Vec<(String, Says, Says)> {
    let (first, second) = (before.fields(), after.fields());
    let mut pairs = Vec::new();
    for field in &first {
        let same = second.iter().find(|other| other.path == field.path);
        pairs.push((field.path.to_string(), field.says(), same.map_or(Says::Nothing, |same| same.says())));
    }
    for field in second.iter().filter(|field| !first.iter().any(|other| other.path == field.path)) {
        pairs.push((field.path.to_string(), Says::Nothing, field.says()));
    }
    pairs
}

/// Of two sets what comes and goes; of everything else both.
fn told(from: &Says, to: &Says) -> String {
    let less = |one: &BTreeSet<String>, other: &BTreeSet<String>, sign: char| -> Vec<String> {
        one.difference(other).map(|value| format!("{sign} {value}")).collect()
    };
    match (from, to) {
        (Says::AnyOf(from), Says::AnyOf(to)) | (Says::NoneOf(from), Says::NoneOf(to)) => {
            [less(from, to, '-'), less(to, from, '+')].concat().join(", ")
        }
        _ => format!("{from} -> {to}"),
    }
}
