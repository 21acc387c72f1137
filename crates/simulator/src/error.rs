//! Why a simulated device cannot be made.

/// A device that the caller's options do not allow to exist.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// A certificate or CRL cannot be encoded from these options, for example because its window is empty.
    #[error("a certificate or CRL cannot be encoded")]
    Certificate(#[from] rcgen::Error),
    /// A time lies after the year 9999, which X.509 cannot express.
    #[error("{0} Unix seconds lie beyond the year 9999")]
    Time(u64),
    /// A certificate whose issuer or subject is none of the committed authorities of NVIDIA's kind.
    #[error("no committed authority bears this name")]
    Authority,
    /// A derived key was refused by the cryptographic library.
    #[error("a key cannot be derived")]
    Key,
}
