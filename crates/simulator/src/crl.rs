//! The body of a certificate revocation list of version 2 (RFC 5280 section 5.1), of any issuer and algorithm.

use crate::{SimulatorError, der};

/// TBSCertList before it is encoded.
pub(crate) struct ListBody {
    /// AlgorithmIdentifier, DER.
    pub(crate) algorithm: Vec<u8>,
    /// Issuer, a Name, DER.
    pub(crate) issuer: Vec<u8>,
    /// thisUpdate, Unix seconds.
    pub(crate) this_update: u64,
    /// nextUpdate, left out where there is none.
    pub(crate) next_update: Option<u64>,
    /// Revoked certificates, each DER.
    pub(crate) entries: Vec<Vec<u8>>,
    /// Extensions, DER; empty to leave them out.
    pub(crate) extensions: Vec<u8>,
}

impl ListBody {
    /// The list, DER, with what `sign` makes of its body as the content of the signature's bits.
    pub(crate) fn sign(self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<Vec<u8>, SimulatorError> {
        let body = der::sequence(&[
            der::integer(1),
            self.algorithm.clone(),
            self.issuer,
            der::time(self.this_update)?,
            self.next_update.map(der::time).transpose()?.unwrap_or_default(),
            if self.entries.is_empty() { Vec::new() } else { der::sequence(&self.entries) },
            if self.extensions.is_empty() { Vec::new() } else { der::tagged(0xa0, &self.extensions) },
        ]);
        let signature = der::bits(&sign(&body));
        Ok(der::sequence(&[body, self.algorithm, signature]))
    }
}
