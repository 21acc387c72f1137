//! Which model a request is for, and which instances have it.

use super::instance::Instance;
use confide_channel::Verdict;
use confide_policy::{AppraisalPolicy, Models};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest name of a model that an error repeats, in characters. Published names have under 100.
const MAX_SHOWN_MODEL: usize = 120;

/// The model of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelChoice<'a> {
    /// The name that the request gives.
    Named(&'a str),
    /// The request names none that can be read: any instance will do where all have the same model, and that is one of the
    /// policy's table, where it has one.
    Unnamed,
}

impl ModelChoice<'_> {
    /// Whether a verdict attests the model: its manifest is one that the policy lists under the name, or, where the policy
    /// has no table of models, its claims have this very name. Of a request that names none, whether the manifest is one
    /// that any name of the table stands for.
    pub(super) fn fits(self, policy: &AppraisalPolicy, verdict: &Verdict) -> bool {
        let attested = &verdict.claims().model;
        match (self, &policy.models) {
            (Self::Named(name), Some(models)) => models
                .manifests(name)
                .is_some_and(|digests| digests.iter().any(|digest| digest.0 == attested.manifest.0)),
            (Self::Named(name), None) => attested.name == name,
            (Self::Unnamed, Some(models)) => models.names(&attested.manifest.0).next().is_some(),
            (Self::Unnamed, None) => true,
        }
    }

    /// The name, or its beginning.
    pub(super) fn shown(self) -> Option<String> {
        match self {
            Self::Named(name) => Some(name.chars().take(MAX_SHOWN_MODEL).collect()),
            Self::Unnamed => None,
        }
    }
}

/// Whether verdicts attest different models.
pub(super) fn differ<'a>(verdicts: impl Iterator<Item = &'a Arc<Verdict>>) -> bool {
    let mut manifests = verdicts.map(|verdict| &verdict.claims().model.manifest);
    let Some(first) = manifests.next() else { return false };
    manifests.any(|manifest| manifest != first)
}

/// Whether no instance whatever can have the model: the policies have tables of models, in none of which the name stands
/// for anything.
pub(super) fn is_unknown(model: ModelChoice<'_>, instances: &[Arc<Instance>]) -> bool {
    let ModelChoice::Named(name) = model else { return false };
    let unknown = |one: &Arc<Instance>| {
        one.client().policy().models.as_ref().is_some_and(|models| !stands_for_any(models, name))
    };
    !instances.is_empty() && instances.iter().all(unknown)
}

fn stands_for_any(models: &Models, name: &str) -> bool {
    models.manifests(name).is_some_and(|digests| !digests.is_empty())
}

/// Whether an instance that is not attested now may have the model once it is. With a table of models that is any, where
/// the name stands for something: the policy's author expects such a guest. Without one the name may be anybody's
/// invention: an instance that was attested counts with the names that its verdicts attested, one that was never attested
/// counts while it is merely not reached, and not while its evidence is refused.
pub(super) fn may_have(model: ModelChoice<'_>, instance: &Instance) -> bool {
    let ModelChoice::Named(name) = model else { return true };
    let client = instance.client();
    match &client.policy().models {
        Some(models) => stands_for_any(models, name),
        None => client.pool().has_attested(name).unwrap_or_else(|| !instance.is_quarantined()),
    }
}

/// The names of all models that attested instances have, each with a verdict that attests it.
pub(super) fn all(instances: &[Arc<Instance>]) -> Vec<(String, Arc<Verdict>)> {
    let mut found = BTreeMap::new();
    for instance in instances {
        let Some(verdict) = instance.attested() else { continue };
        let model = &verdict.claims().model;
        match &instance.client().policy().models {
            Some(models) => {
                for name in models.names(&model.manifest.0) {
                    found.entry(name.to_owned()).or_insert_with(|| Arc::clone(&verdict));
                }
            }
            None => {
                found.entry(model.name.clone()).or_insert_with(|| Arc::clone(&verdict));
            }
        }
    }
    found.into_iter().collect()
}
