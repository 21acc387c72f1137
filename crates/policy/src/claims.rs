//! The table `[claims]`: what the guest says of itself.

use crate::field::Listed;
use crate::{BrokerKey, Expect, ExpectReference, HexBytes, Require};
use serde::Deserialize;

/// Expectations of the claims in an evidence document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimsPolicy {
    /// Static claims equal the runtime events that RTMR3 covers.
    pub events: Require,
    /// `locked` or `open`.
    pub egress_mode: Expect<String>,
    /// Digest of the egress policy, SHA-256.
    pub egress_policy: ExpectReference<HexBytes<32>>,
    /// Each egress rule must be in this set.
    pub egress_allowed: Expect<String>,
    /// Each egress rule that lets the host see or answer must be in this set.
    pub host_visible: Expect<String>,
    /// Digest of the model manifest, SHA-256.
    pub model: ExpectReference<HexBytes<32>>,
    /// `builtin` or `external`.
    pub engine: Expect<String>,
    /// Digest of the guest's deciding configuration, SHA-256.
    pub configuration: ExpectReference<HexBytes<32>>,
    /// Key of the broker that the guest obeys. A guest that obeys none has no key of a list.
    pub broker: Expect<BrokerKey>,
    /// Digest of the guest image, SHA-256.
    pub image: ExpectReference<HexBytes<32>>,
    /// Verity root of every volume that holds code or weights, SHA-256.
    pub verity_roots: ExpectReference<HexBytes<32>>,
    /// GPU development tools mode.
    pub gpu_dev_tools: Expect<bool>,
    /// GPU environment, `PROD` on real hardware.
    pub gpu_environment: Expect<String>,
}

impl ClaimsPolicy {
    /// Every expectation of the table, in the order of the type.
    pub(crate) fn listed(&self) -> [Listed<'_>; 13] {
        let Self {
            events,
            egress_mode,
            egress_policy,
            egress_allowed,
            host_visible,
            model,
            engine,
            configuration,
            broker,
            image,
            verity_roots,
            gpu_dev_tools,
            gpu_environment,
        } = self;
        [
            Listed::new(
                "claims.events",
                "event_claims",
                "the claims equal the runtime events that RTMR3 covers",
                events,
            ),
            Listed::new("claims.egress_mode", "egress_mode", "the egress mode", egress_mode),
            Listed::new(
                "claims.egress_policy",
                "egress_policy",
                "the SHA-256 of the egress policy",
                egress_policy,
            ),
            Listed::new(
                "claims.egress_allowed",
                "egress_allowed",
                "each egress rule of the serving phase",
                egress_allowed,
            ),
            Listed::new(
                "claims.host_visible",
                "egress_host_visible",
                "each egress rule that lets the host see or answer",
                host_visible,
            ),
            Listed::new("claims.model", "model_manifest", "the SHA-256 of the model manifest", model),
            Listed::new("claims.engine", "engine_kind", "the engine", engine),
            Listed::new(
                "claims.configuration",
                "configuration",
                "the SHA-256 of the guest's deciding configuration",
                configuration,
            ),
            Listed::new(
                "claims.broker",
                "guest_broker",
                "the key of the broker that the guest obeys",
                broker,
            ),
            Listed::new("claims.image", "image", "the SHA-256 of the guest image", image),
            Listed::new(
                "claims.verity_roots",
                "verity_roots",
                "the verity root of each volume that holds code or weights",
                verity_roots,
            ),
            Listed::new(
                "claims.gpu_dev_tools",
                "gpu_dev_tools",
                "whether the GPU's development tools are on",
                gpu_dev_tools,
            ),
            Listed::new("claims.gpu_environment", "gpu_environment", "the GPU environment", gpu_environment),
        ]
    }
}
