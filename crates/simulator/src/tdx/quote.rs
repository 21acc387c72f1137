//! Quotes of versions 4 and 5 with certification data of type 6 around type 5 (Intel TDX DCAP Quoting Library API, A.3 and
//! A.4).

use rcgen::{CertificateParams, IsCa};
use sha2::{Digest, Sha256};

use super::pck;
use super::platform::{QuoteForm, SimulatedPlatform};
use super::report::TdReport;
use crate::authority::Authority;
use crate::ecdsa::Curve;
use crate::keys::SigningKey;

/// Attestation key type ECDSA-256-with-P-256.
const ECDSA_P256: u16 = 2;
/// TEE type TDX.
const TDX: u32 = 0x81;
/// QE vendor id of Intel.
const INTEL_QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Certification data type: QE report certification data.
const QE_REPORT_CERTIFICATION: u16 = 6;
/// Certification data type: PCK certificate chain, PEM, leaf first.
const PCK_CHAIN: u16 = 5;

/// Length of the header and body of version 4.
const SIGNED: usize = 48 + 584;
/// Offset of the signature over them, behind the length of the signature data.
const SIGNATURE: usize = SIGNED + 4;
/// Offset of the QE report, behind signature, attestation key, type and size of the certification data.
const QE_REPORT: usize = SIGNATURE + 64 + 64 + 6;
/// Offset of the signature over the QE report.
const QE_SIGNATURE: usize = QE_REPORT + 384;

/// A way in which a quote is wrong although every signature that the flaw leaves alone still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuoteFlaw {
    /// The QE report commits to another attestation key than the one that signs.
    QeBinding,
    /// The half of the QE report's report data that must be zero is not.
    QeReportDataTail,
    /// The lowest bit of this byte of the QE report, one of 384, is another one before the report is signed.
    QeReportByte(usize),
    /// The QE report is signed by another key than the PCK certificate's.
    QeReportSigner,
    /// The PCK certificate is signed by another key than the PCK CA's.
    PckSigner,
    /// The report is signed by another key than the attestation key.
    QuoteSigner,
    /// The outer certification data says this type instead of 6.
    OuterCertificationType(u16),
    /// The inner certification data says this type instead of 5.
    InnerCertificationType(u16),
    /// The chain stands root first.
    ReversedChain,
    /// The chain ends at the intermediate.
    ChainWithoutRoot,
    /// The chain ends in a self-signed certificate of the root's name with another key.
    ForeignRoot,
    /// The header's QE vendor id is all zero.
    VendorId,
    /// The header names another version; the layout stays that of the platform's form.
    Version(u16),
    /// The body descriptor of a version 5 quote names another type.
    BodyType(u16),
    /// The body descriptor of a version 5 quote names another size, in bytes.
    BodySize(u32),
    /// The header names another TEE type.
    TeeType(u32),
    /// The header names another attestation key type.
    AttestationKeyType(u16),
}

/// Header, body, signature data.
pub(crate) fn encode(platform: &SimulatedPlatform, report: &TdReport, flaws: &[QuoteFlaw]) -> Vec<u8> {
    let options = &platform.options;
    let mut quote = header(options.quote_form, flaws);
    quote.extend(descriptor(options.quote_form, flaws));
    quote.extend(report.body(options));
    let signature_data = signature_data(platform, &quote, flaws);
    quote.extend((signature_data.len() as u32).to_le_bytes());
    quote.extend(signature_data);
    quote
}

/// A quote of version 4 with the signatures over header and body and over the QE report made anew, where it has them.
pub(crate) fn resign(platform: &SimulatedPlatform, quote: &[u8]) -> Vec<u8> {
    let mut quote = quote.to_vec();
    if quote.len() >= QE_SIGNATURE + 64 {
        let body = platform.attestation_key.sign(&quote[..SIGNED]);
        quote[SIGNATURE..SIGNATURE + 64].copy_from_slice(&body);
        let report = platform.pck_key.sign(&quote[QE_REPORT..QE_SIGNATURE]);
        quote[QE_SIGNATURE..QE_SIGNATURE + 64].copy_from_slice(&report);
    }
    quote
}

/// The 48-byte quote header.
fn header(form: QuoteForm, flaws: &[QuoteFlaw]) -> Vec<u8> {
    let (mut version, mut key_type) = (form.version(), ECDSA_P256);
    let (mut tee_type, mut vendor) = (TDX, INTEL_QE_VENDOR);
    for flaw in flaws {
        match flaw {
            QuoteFlaw::Version(value) => version = *value,
            QuoteFlaw::AttestationKeyType(value) => key_type = *value,
            QuoteFlaw::TeeType(value) => tee_type = *value,
            QuoteFlaw::VendorId => vendor = [0; 16],
            _ => {}
        }
    }
    let mut header = Vec::with_capacity(48);
    header.extend(version.to_le_bytes());
    header.extend(key_type.to_le_bytes());
    header.extend(tee_type.to_le_bytes());
    // QE SVN and PCE SVN: zero since version 4.
    header.extend([0; 4]);
    header.extend(vendor);
    // User data: the QE's id in Intel's quotes.
    header.extend([0; 20]);
    header
}

/// The 6-byte body descriptor of version 5.
fn descriptor(form: QuoteForm, flaws: &[QuoteFlaw]) -> Vec<u8> {
    let Some((mut kind, mut size)) = form.descriptor() else { return Vec::new() };
    for flaw in flaws {
        match flaw {
            QuoteFlaw::BodyType(value) => kind = *value,
            QuoteFlaw::BodySize(value) => size = *value,
            _ => {}
        }
    }
    [&kind.to_le_bytes()[..], &size.to_le_bytes()].concat()
}

/// Signature over header and body, attestation key, QE certification data.
fn signature_data(platform: &SimulatedPlatform, signed: &[u8], flaws: &[QuoteFlaw]) -> Vec<u8> {
    let other;
    let signer = if flaws.contains(&QuoteFlaw::QuoteSigner) {
        other = stranger("quote signer");
        &other
    } else {
        &platform.attestation_key
    };
    let mut outer_type = QE_REPORT_CERTIFICATION;
    for flaw in flaws {
        if let QuoteFlaw::OuterCertificationType(value) = flaw {
            outer_type = *value;
        }
    }
    let mut out = signer.sign(signed);
    out.extend(platform.attestation_key.public_point());
    out.extend(certification_data(outer_type, &qe_certification(platform, flaws)));
    out
}

/// Type, size, data.
fn certification_data(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = kind.to_le_bytes().to_vec();
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

/// QE report, its signature, QE authentication data, inner certification data.
fn qe_certification(platform: &SimulatedPlatform, flaws: &[QuoteFlaw]) -> Vec<u8> {
    let other;
    let signer = if flaws.contains(&QuoteFlaw::QeReportSigner) {
        other = stranger("QE report signer");
        &other
    } else {
        &platform.pck_key
    };
    let mut inner_type = PCK_CHAIN;
    for flaw in flaws {
        if let QuoteFlaw::InnerCertificationType(value) = flaw {
            inner_type = *value;
        }
    }
    let auth_data = &platform.options.qe.auth_data;
    let report = qe_report(platform, flaws);
    let mut out = report.clone();
    out.extend(signer.sign(&report));
    out.extend((auth_data.len() as u16).to_le_bytes());
    out.extend(auth_data);
    out.extend(certification_data(inner_type, chain(platform, flaws).as_bytes()));
    out
}

/// The quoting enclave's report, 384 bytes (Intel SDM volume 3D, REPORT structure without its MAC).
fn qe_report(platform: &SimulatedPlatform, flaws: &[QuoteFlaw]) -> Vec<u8> {
    let qe = &platform.options.qe;
    let mut report = Vec::with_capacity(384);
    report.extend(platform.options.sgx_svn);
    report.extend(qe.misc_select);
    report.extend([0; 28]);
    report.extend(qe.attributes);
    report.extend(qe.mr_enclave);
    report.extend([0; 32]);
    report.extend(qe.mr_signer);
    report.extend([0; 96]);
    report.extend(qe.isv_prod_id.to_le_bytes());
    report.extend(qe.isv_svn.to_le_bytes());
    report.extend([0; 60]);
    report.extend(qe_report_data(platform, flaws));
    for flaw in flaws {
        if let QuoteFlaw::QeReportByte(at) = flaw {
            report[*at] ^= 1;
        }
    }
    report
}

/// SHA-256(attestation key ‖ QE authentication data), then 32 zero bytes.
fn qe_report_data(platform: &SimulatedPlatform, flaws: &[QuoteFlaw]) -> [u8; 64] {
    let other = stranger("attestation key");
    let bound = if flaws.contains(&QuoteFlaw::QeBinding) { &other } else { &platform.attestation_key };
    let digest = Sha256::new()
        .chain_update(bound.public_point())
        .chain_update(&platform.options.qe.auth_data)
        .finalize();
    let mut data = [0; 64];
    data[..32].copy_from_slice(&digest);
    if flaws.contains(&QuoteFlaw::QeReportDataTail) {
        data[63] = 1;
    }
    data
}

/// The PCK chain, PEM, leaf first.
fn chain(platform: &SimulatedPlatform, flaws: &[QuoteFlaw]) -> String {
    let mut chain =
        vec![platform.pck_certificate.clone(), platform.pck_ca.clone(), Authority::TdxRoot.pem().into()];
    for flaw in flaws {
        match flaw {
            QuoteFlaw::ForeignRoot => chain[2] = foreign_root(),
            QuoteFlaw::ChainWithoutRoot => chain.truncate(2),
            QuoteFlaw::ReversedChain => chain.reverse(),
            QuoteFlaw::PckSigner => {
                let other = stranger("PCK signer");
                let certificate = pck::certificate(&platform.pck_key, &other, &platform.options);
                chain[0] =
                    certificate.expect("the platform's own certificate was made from the same options");
            }
            _ => {}
        }
    }
    chain.concat()
}

/// A self-signed certificate that bears the root's name and nobody's key.
fn foreign_root() -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = Authority::TdxRoot.name();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&stranger("foreign root")).expect("the parameters are complete").pem()
}

/// A key that belongs to no platform.
fn stranger(label: &str) -> SigningKey {
    SigningKey::derive(Curve::P256, label, u64::MAX).expect("a seed that the tests have tried")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tdx::{PlatformOptions, SimulatedTd};

    #[test]
    fn a_quote_signed_anew_is_the_quote() {
        let platform = SimulatedPlatform::new(PlatformOptions::at(1_790_812_800)).expect("usual options");
        let quote = platform.quote(&SimulatedTd::default().report([7; 64]));
        let mut broken = quote.clone();
        broken[SIGNATURE] ^= 1;
        broken[QE_SIGNATURE + 63] ^= 1;
        assert_eq!(platform.resign(&broken), quote);
        assert_eq!(platform.resign(&quote[..1000]), quote[..1000]);
    }
}
