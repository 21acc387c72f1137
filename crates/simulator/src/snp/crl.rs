//! Revocation lists (RFC 5280 section 5), as AMD's root keys sign them.

use super::certificate::{SnpAuthority, SnpExtension, name, rsa_pss, time};
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
        let algorithm = rsa_pss(true);
        let list = |extensions: &[SnpExtension]| {
            let extensions: Vec<Vec<u8>> = extensions.iter().map(SnpExtension::der).collect();
            if extensions.is_empty() { Vec::new() } else { der::sequence(&extensions) }
        };
        let date = time(self.window.from)?;
        let entries: Vec<Vec<u8>> = self
            .revoked
            .iter()
            .map(|serial| der::sequence(&[der::integer(*serial), date.clone(), list(&self.entry_extensions)]))
            .collect();
        let extensions = list(&self.extensions);
        let body = der::sequence(&[
            der::integer(1),
            algorithm.clone(),
            name(&self.issuer),
            date,
            if self.next_update { time(self.window.until)? } else { Vec::new() },
            if entries.is_empty() { Vec::new() } else { der::sequence(&entries) },
            if extensions.is_empty() { Vec::new() } else { der::tagged(0xa0, &extensions) },
        ]);
        let signature = der::bits(&self.signer.sign(&body));
        Ok(der::sequence(&[body, algorithm, signature]))
    }
}
