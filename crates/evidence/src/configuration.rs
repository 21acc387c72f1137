//! The deciding configuration: every setting that decides what a guest does with a prompt, fixed before any key exists.

use serde::{Deserialize, Serialize};

use crate::bytes::Digest;
use crate::document::{EgressMode, Engine, encode_own};
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
    pub mode: EgressMode,
    /// SHA-256 of the egress policy; `None` when the phase is open.
    pub policy: Option<Digest>,
}

/// A volume and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRole {
    /// The volume's name.
    pub name: String,
    /// What it holds: `weights`, `code` or `state`.
    pub role: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_changes_the_digest() {
        let phase = EgressPhase { mode: EgressMode::Open, policy: None };
        let locked = EgressPhase { mode: EgressMode::Locked, policy: Some([1; 32].into()) };
        let engine = Engine { kind: "builtin".into(), flags: vec![], environment: vec![] };
        let egress = EgressPhases { boot: phase.clone(), serve: phase.clone() };
        let base = DecidingConfiguration { model: "m".into(), egress, engine, volumes: vec![] };
        let swapped = EgressPhases { boot: locked.clone(), serve: phase.clone() };
        let flags = Engine { flags: vec!["--x".into()], ..base.engine.clone() };
        let volume = VolumeRole { name: "v".into(), role: "weights".into() };
        let variants = [
            DecidingConfiguration { model: "n".into(), ..base.clone() },
            DecidingConfiguration { egress: swapped, ..base.clone() },
            DecidingConfiguration { egress: EgressPhases { boot: phase, serve: locked }, ..base.clone() },
            DecidingConfiguration { engine: flags, ..base.clone() },
            DecidingConfiguration { volumes: vec![volume], ..base.clone() },
        ];
        for variant in &variants {
            assert_ne!(variant.digest(), base.digest(), "{variant:?}");
        }
        assert_ne!(variants[1].digest(), variants[2].digest());
    }
}
