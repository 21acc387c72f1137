//! Why there are no keys, or no connection.

use std::io;

/// Why keys cannot be drawn, or a connection cannot be accepted or bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The random source or the cryptographic library failed.
    #[error("cannot draw the guest's keys")]
    Keys,
    /// The certificate of the TLS key cannot be made.
    #[error("cannot certify the TLS key")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refuses the configuration.
    #[error("cannot configure TLS")]
    Configuration(#[source] rustls::Error),
    /// The peer did not complete the handshake.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// Keying material cannot be exported from the connection.
    #[error("cannot export keying material")]
    Exporter(#[source] rustls::Error),
    /// A ciphertext that was not made for this key.
    #[error("the ciphertext was not made for this key")]
    Decapsulation,
}
