//! Why a policy is refused.

use crate::egress::{EGRESS_FORMAT, MAX_EGRESS_POLICY};
use crate::{MAX_POLICY, SCHEMA};
use thiserror::Error;

/// Why a policy could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Larger than [`MAX_POLICY`].
    #[error("a policy of {0} bytes, at most {MAX_POLICY} are accepted")]
    TooLarge(usize),
    /// Not TOML of the expected form. The message names line, column and field.
    #[error("{0}")]
    Toml(String),
    /// Another schema.
    #[error("policy schema {0}, this build reads {SCHEMA}")]
    Schema(u32),
    /// A waiver or danger table without a reason.
    #[error("{0} is waived without a reason")]
    NoReason(String),
    /// A waiver that only a danger policy may hold.
    #[error("{0} may be waived by a danger policy alone (a file named danger-*.toml)")]
    DangerousWaiver(String),
    /// A status that only a danger policy may accept.
    #[error("{0} accepts Revoked, which a danger policy alone may do (a file named danger-*.toml)")]
    AcceptsRevoked(String),
    /// A name that is empty or not unique.
    #[error("{field} {found:?} is empty or stands twice")]
    Name {
        /// The field.
        field: &'static str,
        /// The name.
        found: String,
    },
    /// A signed file of reference values without a key that may sign it.
    #[error("signed_references.keys is empty: no signature could be accepted")]
    NoKey,
    /// A danger policy behind the ordinary flag.
    #[error("a policy with a [danger] table is loaded by --danger-policy alone")]
    DangerNotAsked,
    /// An ordinary policy behind the danger flag.
    #[error("--danger-policy takes a policy with a [danger] table")]
    NotDanger,
    /// This build has no simulator feature.
    #[error("this build refuses danger policies: it was made without the danger-simulator feature")]
    DangerNotBuilt,
    /// A danger policy that does not name roots of every kind would mix simulator and vendor anchors.
    #[error(
        "a danger policy names tdx_root_spki_sha256, gpu_root_spki_sha256, rim_root_spki_sha256, nras_root_spki_sha256 and snp_root_spki_sha256: simulator and vendor anchors are not mixed"
    )]
    MixedAnchors,
    /// A vendor's root in a danger table.
    #[error("a danger policy names a vendor's root: simulator and vendor anchors are not mixed")]
    VendorAnchor,
    /// A name of a model that no request could give.
    #[error("models: the name {0:?} is empty, longer than 256 bytes or steers a terminal")]
    ModelName(String),
    /// A limit out of range.
    #[error("{field} is {found}, expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What is accepted.
        expected: &'static str,
    },
    /// Larger than [`MAX_EGRESS_POLICY`].
    #[error("an egress policy of {0} bytes, at most {MAX_EGRESS_POLICY} are accepted")]
    EgressTooLarge(usize),
    /// Another format than [`EGRESS_FORMAT`].
    #[error("format {0:?}, expected {EGRESS_FORMAT:?}")]
    EgressFormat(String),
    /// Two rules of one phase of which nothing says which decides.
    #[error("{phase}: {one:?} and {other:?} share a port: leave one of them, or give each its own ports")]
    EgressAmbiguous {
        /// The phase.
        phase: &'static str,
        /// A rule.
        one: String,
        /// Another one.
        other: String,
    },
    /// A serving rule that the bootstrap phase does not cover.
    #[error(
        "serving allows {0:?}, which bootstrap does not allow for all of its destinations and ports, in a mode as weak and with caps as high: serving is never wider"
    )]
    EgressServingWider(String),
    /// A name is allowed, and nobody knows its addresses.
    #[error("a rule has a name, and there is no table [dns] that says who is asked for its addresses")]
    EgressNoDns,
    /// Somebody would be asked, and no name is allowed.
    #[error("the table [dns] is there, and no rule has a name: remove it")]
    EgressIdleDns,
}
