//! A local endpoint of the OpenAI API whose every request travels over an attested channel.
//!
//! Programs that know nothing of attestation talk plain HTTP to it on loopback. It holds the authority of the person
//! who started it, so requests that a web page made a browser send are refused (`gate`).

mod accepting;
mod access;
mod codes;
mod events;
pub(crate) mod forward;
mod gate;
mod own;
mod passed;
mod server;

pub use access::Access;
pub use codes::CODES;
pub use server::{Exposure, Proxy, ProxyError};
