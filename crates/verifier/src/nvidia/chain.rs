//! What device chains, manifest chains and responders' certificates have in common.

use crate::signature::SignatureFault;
use crate::tdx::{PROCESSED_EXTENSIONS, understood};
use confide_evidence::time::format_seconds;
use confide_evidence::x509::{Certificate, KeyAlgorithm, SignatureAlgorithm};

/// Key usage, basic constraints and the extended key usage, which says that a certificate is for answering.
pub(super) const RESPONDER_EXTENSIONS: &[&str] = &["2.5.29.15", "2.5.29.19", "2.5.29.37"];

/// Every certificate is issued by the next in name and signature, the root by itself; P-384 with SHA-384 throughout.
/// `verify` is given the position, the issuer and the subject.
pub(super) fn signatures(
    certificates: &[Certificate],
    verify: impl Fn(usize, &Certificate, &Certificate) -> Result<(), SignatureFault>,
) -> Result<String, String> {
    for (index, certificate) in certificates.iter().enumerate() {
        if certificate.key_algorithm != KeyAlgorithm::P384
            || certificate.signature_algorithm != SignatureAlgorithm::EcdsaSha384
        {
            return Err(format!("certificate {index} is not ECDSA P-384 with SHA-384"));
        }
    }
    let issuers = certificates.iter().skip(1).chain(certificates.last());
    for (index, (subject, issuer)) in certificates.iter().zip(issuers).enumerate() {
        if subject.issuer != issuer.subject {
            return Err(format!("certificate {index} names another issuer than {}", issuer.common_name));
        }
        verify(index, issuer, subject)
            .map_err(|fault| format!("certificate {index}: {}", fault.describe()))?;
    }
    Ok(format!("{} signatures", certificates.len()))
}

/// CA certificates above a leaf that signs, with no critical extension that is not looked at (RFC 5280 section 4.2).
pub(super) fn usage(certificates: &[Certificate]) -> Result<String, String> {
    for (index, certificate) in certificates.iter().enumerate() {
        understood(certificate, &PROCESSED_EXTENSIONS)
            .map_err(|what| format!("certificate {index}: {what}"))?;
        let fits = match index.checked_sub(1) {
            None => signer(certificate),
            Some(below) => authority(certificate, below),
        };
        fits.map_err(|what| format!("certificate {index} {what}"))?;
        if certificates.iter().skip(index.saturating_add(1)).any(|above| above.der == certificate.der) {
            return Err(format!("certificate {index} stands in the chain twice"));
        }
    }
    Ok(format!("a signing leaf below {} authorities", certificates.len().saturating_sub(1)))
}

/// A certificate for signatures of any purpose that is no authority's; else what is in the way.
fn signer(leaf: &Certificate) -> Result<(), String> {
    let wrong = if leaf.key_usage.is_some_and(|usage| usage.key_cert_sign) {
        "may sign certificates by its key usage, as a signer may not"
    } else if !signs(leaf) {
        "may not sign: its key usage lacks digitalSignature, or its basic constraints say that it is an authority's"
    } else if !leaf.extended_key_usage.is_empty() {
        // A key for answers or for TLS signs neither reports nor manifests.
        "is for certain purposes alone by its extended key usage"
    } else {
        return Ok(());
    };
    Err(wrong.to_owned())
}

/// A certificate for signatures that is no authority's.
pub(super) fn signs(certificate: &Certificate) -> bool {
    let signs = certificate.key_usage.is_some_and(|usage| usage.digital_signature);
    signs && !certificate.basic_constraints.is_some_and(|constraints| constraints.ca)
}

/// A CA that allows `below` further CAs beneath it; else what is in the way.
pub(super) fn authority(certificate: &Certificate, below: usize) -> Result<(), String> {
    let Some(constraints) = certificate.basic_constraints.filter(|constraints| constraints.ca) else {
        return Err("is no authority's by its basic constraints".to_owned());
    };
    let beneath = u32::try_from(below).unwrap_or(u32::MAX);
    if let Some(limit) = constraints.path_len.filter(|limit| *limit < beneath) {
        return Err(format!("allows {limit} authorities below it by its path length, {below} stand there"));
    }
    if !certificate.key_usage.is_some_and(|usage| usage.key_cert_sign) {
        return Err("may not sign certificates by its key usage".to_owned());
    }
    Ok(())
}

/// The time lies in every certificate's window. The windows need not nest: genuine leaves begin before their root.
pub(super) fn validity(certificates: &[Certificate], now: i64) -> Result<String, String> {
    for (index, certificate) in certificates.iter().enumerate() {
        let (from, until) = (certificate.not_before, certificate.not_after);
        if now < from || now > until {
            let (now, from, until) = (format_seconds(now), format_seconds(from), format_seconds(until));
            return Err(format!("at {now}, certificate {index} is valid from {from} to {until}"));
        }
    }
    Ok(format!("until {}", format_seconds(not_after(certificates))))
}

/// End of the first certificate to expire, seconds since the Unix epoch.
pub(super) fn not_after(certificates: &[Certificate]) -> i64 {
    certificates.iter().map(|certificate| certificate.not_after).min().unwrap_or(i64::MIN)
}
