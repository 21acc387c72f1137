//! Revocation lists (RFC 5280 section 5), as AMD's root keys sign them.

use super::certificate::{SnpAuthority, SnpExtension, name, rsa_pss};
use crate::crl::ListBody;
use crate::{SimulatorError, Window, der};

/// A revocation list before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpRevocationList {
    /// Issuer common name, as in `ARK-Milan`.
    pub issuer: String,
    /// The key that signs.
    pub signer: SnpAuthority,
    /// thisUpdate and nextUpdate.
    pub window: Window,
    /// Whether nextUpdate is written.
    pub next_update: bool,
    /// Serial numbers.
    pub revoked: Vec<u64>,
    /// Extensions of every entry.
    pub entry_extensions: Vec<SnpExtension>,
    /// Extensions of the list.
    pub extensions: Vec<SnpExtension>,
}

impl SnpRevocationList {
    /// Signs: the list, DER.
    ///
    /// # Errors
    /// [`SimulatorError::Time`] for a window beyond the year 9999.
    pub fn sign(&self) -> Result<Vec<u8>, SimulatorError> {
        let list = |extensions: &[SnpExtension]| {
            let extensions: Vec<Vec<u8>> = extensions.iter().map(SnpExtension::der).collect();
            if extensions.is_empty() { Vec::new() } else { der::sequence(&extensions) }
        };
        let date = der::time(self.window.from)?;
        let entries: Vec<Vec<u8>> = self
            .revoked
            .iter()
            .map(|serial| der::sequence(&[der::integer(*serial), date.clone(), list(&self.entry_extensions)]))
            .collect();
        let body = ListBody {
            algorithm: rsa_pss(true),
            issuer: name(&self.issuer),
            this_update: self.window.from,
            next_update: self.next_update.then_some(self.window.until),
            entries,
            extensions: list(&self.extensions),
        };
        body.sign(|body| self.signer.sign(body))
    }
}
