//! When the parts of collateral are valid.

use crate::document::TdxCollateral;
use crate::pem;
use crate::tdx::{CollateralError, QeIdentity, TcbInfo};
use crate::x509::{Certificate, Crl};

/// A part of collateral and its window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollateralWindow {
    /// What it is: `TCB info`, `certificate Intel SGX Root CA`.
    pub part: String,
    /// Start of validity (issueDate, thisUpdate, notBefore), seconds since the Unix epoch.
    pub from: i64,
    /// End of validity (nextUpdate, notAfter, both inclusive), seconds since the Unix epoch.
    pub until: i64,
}

impl CollateralWindow {
    /// Whether `at`, in seconds since the Unix epoch, lies in the window.
    #[must_use]
    pub fn contains(&self, at: i64) -> bool {
        (self.from..=self.until).contains(&at)
    }
}

/// The window of every signed part: TCB info, QE identity, both revocation lists, then each certificate of the issuer
/// chains once.
///
/// # Errors
/// [`CollateralError`] names the part that cannot be read.
pub fn collateral_windows(collateral: &TdxCollateral) -> Result<Vec<CollateralWindow>, CollateralError> {
    let tcb_info = TcbInfo::parse(&collateral.tcb_info)?;
    let qe_identity = QeIdentity::parse(&collateral.qe_identity)?;
    let mut windows = vec![
        window("TCB info", tcb_info.issue_date, tcb_info.next_update),
        window("QE identity", qe_identity.issue_date, qe_identity.next_update),
        crl_window("root CA CRL", collateral.root_ca_crl.as_bytes())?,
        crl_window("PCK CRL", collateral.pck_crl.as_bytes())?,
    ];
    let chains = [
        ("the issuer chain of TCB info", &collateral.tcb_info_issuer_chain),
        ("the issuer chain of the QE identity", &collateral.qe_identity_issuer_chain),
        ("the issuer chain of the PCK CRL", &collateral.pck_crl_issuer_chain),
    ];
    for (what, chain) in chains {
        for one in certificates(what, chain)? {
            if !windows.contains(&one) {
                windows.push(one);
            }
        }
    }
    Ok(windows)
}

/// The window of a revocation list.
///
/// # Errors
/// [`CollateralError::X509`]; [`CollateralError::NoNextUpdate`], for without it nothing says how old it may get.
pub fn crl_window(what: &'static str, der: &[u8]) -> Result<CollateralWindow, CollateralError> {
    let list = Crl::parse(der).map_err(|source| CollateralError::X509 { what, source })?;
    let until = list.next_update.ok_or(CollateralError::NoNextUpdate(what))?;
    Ok(window(what, list.this_update, until))
}

fn certificates(what: &'static str, chain: &str) -> Result<Vec<CollateralWindow>, CollateralError> {
    let chain =
        pem::certificates(chain.as_bytes()).map_err(|source| CollateralError::Chain { what, source })?;
    chain
        .iter()
        .map(|der| {
            let certificate =
                Certificate::parse(der).map_err(|source| CollateralError::X509 { what, source })?;
            let part = format!("certificate {}", certificate.common_name);
            Ok(CollateralWindow { part, from: certificate.not_before, until: certificate.not_after })
        })
        .collect()
}

fn window(part: &str, from: i64, until: i64) -> CollateralWindow {
    CollateralWindow { part: part.to_owned(), from, until }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_belong_to_the_window() {
        let window = window("x", 10, 20);
        for (at, inside) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(window.contains(at), inside, "{at}");
        }
    }
}
