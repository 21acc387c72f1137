//! The deciding configuration: every setting that decides what a guest does with a prompt, fixed before any key exists.

use serde::{Deserialize, Serialize};

use crate::bytes::Digest;
use crate::document::{Engine, encode_own};
use crate::hash::sha256;

/// Every deciding setting. Its digest is the payload of the event `configuration` and a static claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecidingConfiguration {
    /// The name under which the model is served.
    pub model: String,
    /// Both egress phases.
    pub egress: EgressPhases,
    /// Engine kind, flags and environment.
    pub engine: Engine,
    /// The volumes and what each is for.
    pub volumes: Vec<VolumeRole>,
    /// SHA-256 of the manifest of the only model that is served; any model where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
}

impl DecidingConfiguration {
    /// SHA-256 of the canonical encoding.
    pub fn digest(&self) -> Digest {
        sha256(&encode_own(self))
    }
}

/// What may leave the guest while it boots, and while it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressPhases {
    /// Until `egress-locked`, or for good where egress stays open.
    pub boot: EgressPhase,
    /// From then on.
    pub serve: EgressPhase,
}

/// One phase of [`EgressPhases`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressPhase {
    /// Whether an allowlist is in force.
    pub mode: PhaseMode,
    /// SHA-256 of the egress policy; `None` when the phase is open.
    pub policy: Option<Digest>,
}

/// Whether an allowlist is in force in a phase, and for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseMode {
    /// Only what the policy's phase `bootstrap` allows leaves the guest. Its process 1 can still change that.
    Bootstrap,
    /// Only what the policy's phase `serving` allows leaves the guest, and nobody can change that.
    Locked,
    /// Anything may leave the guest.
    Open,
}

/// A volume and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRole {
    /// The volume's name.
    pub name: String,
    /// What it holds: `weights`, `code`, `state` or `scratch`.
    pub role: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_changes_the_digest() {
        let phase = EgressPhase { mode: PhaseMode::Open, policy: None };
        let locked = EgressPhase { mode: PhaseMode::Locked, policy: Some([1; 32].into()) };
        let bootstrap = EgressPhase { mode: PhaseMode::Bootstrap, ..locked.clone() };
        let engine = Engine { kind: "builtin".into(), flags: vec![], environment: vec![] };
        let egress = EgressPhases { boot: phase.clone(), serve: phase.clone() };
        let base =
            DecidingConfiguration { model: "m".into(), egress, engine, volumes: vec![], manifest: None };
        let swapped = EgressPhases { boot: locked.clone(), serve: phase.clone() };
        let begun = EgressPhases { boot: bootstrap, serve: locked.clone() };
        let always = EgressPhases { boot: locked.clone(), serve: locked.clone() };
        let flags = Engine { flags: vec!["--x".into()], ..base.engine.clone() };
        let volume = VolumeRole { name: "v".into(), role: "weights".into() };
        let variants = [
            DecidingConfiguration { model: "n".into(), ..base.clone() },
            DecidingConfiguration { egress: swapped, ..base.clone() },
            DecidingConfiguration { egress: EgressPhases { boot: phase, serve: locked }, ..base.clone() },
            DecidingConfiguration { egress: begun, ..base.clone() },
            DecidingConfiguration { egress: always, ..base.clone() },
            DecidingConfiguration { engine: flags, ..base.clone() },
            DecidingConfiguration { volumes: vec![volume], ..base.clone() },
            DecidingConfiguration { manifest: Some([2; 32].into()), ..base.clone() },
        ];
        for (place, variant) in variants.iter().enumerate() {
            assert_ne!(variant.digest(), base.digest(), "{variant:?}");
            for other in &variants[..place] {
                assert_ne!(variant.digest(), other.digest(), "{variant:?}, {other:?}");
            }
        }
    }
}
