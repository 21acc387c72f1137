//! The committed certificate authorities: two roots and what stands directly below them.
//!
//! Certificates and private keys are read from `fixtures/simulator/`, where `cargo run -p confide-simulator
//! --example roots` once wrote them. The names given here must be those in the certificates, because an issuer's
//! name is written into what it signs; the crate's tests compare them.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose};

use crate::SimulatorError;
use crate::ecdsa::Curve;
use crate::keys::SigningKey;

/// SHA-256 of the SubjectPublicKeyInfo of the simulated SGX root.
pub const TDX_ROOT_SPKI_SHA256: [u8; 32] =
    array_from_hex(b"5a64ee24760b4f2be3e2f7f3c4556c228e04975dac8f08118d4ec7341e325ad6");

/// SHA-256 of the SubjectPublicKeyInfo of the simulated GPU device root.
pub const GPU_ROOT_SPKI_SHA256: [u8; 32] =
    array_from_hex(b"b99e2d03858af43ebaf9da17449f81a757709eefbebb88b0c57de1c9eed537d2");

/// 32 bytes from 64 lower-case hexadecimal digits.
pub(crate) const fn array_from_hex(digits: &[u8; 64]) -> [u8; 32] {
    const fn value(digit: u8) -> u8 {
        match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!("a lower-case hexadecimal digit"),
        }
    }
    let mut out = [0; 32];
    let mut index = 0;
    while index < 32 {
        out[index] = value(digits[2 * index]) << 4 | value(digits[2 * index + 1]);
        index += 1;
    }
    out
}

/// The simulated SGX root certificate, DER.
#[must_use]
pub fn tdx_root_certificate() -> &'static [u8] {
    include_bytes!("../../../fixtures/simulator/tdx-root.der")
}

/// The simulated GPU device root certificate, DER.
#[must_use]
pub fn gpu_root_certificate() -> &'static [u8] {
    include_bytes!("../../../fixtures/simulator/gpu-root.der")
}

/// The committed authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Root of the simulated Intel hierarchy.
    TdxRoot,
    /// Issuer of PCK certificates.
    PckCa,
    /// Signer of TCB info and QE identity.
    TcbSigning,
    /// Root of the simulated NVIDIA device hierarchy.
    GpuRoot,
    /// The product's CA below the device root.
    GpuIdentity,
    /// Issuer of the devices' own CAs.
    GpuProvisioner,
}

impl Authority {
    /// Certificate, PEM.
    pub(crate) fn pem(self) -> &'static str {
        match self {
            Self::TdxRoot => include_str!("../../../fixtures/simulator/tdx-root.pem"),
            Self::PckCa => include_str!("../../../fixtures/simulator/tdx-pck-ca.pem"),
            Self::TcbSigning => include_str!("../../../fixtures/simulator/tdx-tcb-signing.pem"),
            Self::GpuRoot => include_str!("../../../fixtures/simulator/gpu-root.pem"),
            Self::GpuIdentity => include_str!("../../../fixtures/simulator/gpu-identity.pem"),
            Self::GpuProvisioner => include_str!("../../../fixtures/simulator/gpu-provisioner.pem"),
        }
    }

    /// Private key, PKCS#8 PEM. Public on purpose.
    pub(crate) fn key_pem(self) -> &'static str {
        match self {
            Self::TdxRoot => include_str!("../../../fixtures/simulator/tdx-root.key.pem"),
            Self::PckCa => include_str!("../../../fixtures/simulator/tdx-pck-ca.key.pem"),
            Self::TcbSigning => include_str!("../../../fixtures/simulator/tdx-tcb-signing.key.pem"),
            Self::GpuRoot => include_str!("../../../fixtures/simulator/gpu-root.key.pem"),
            Self::GpuIdentity => include_str!("../../../fixtures/simulator/gpu-identity.key.pem"),
            Self::GpuProvisioner => include_str!("../../../fixtures/simulator/gpu-provisioner.key.pem"),
        }
    }

    /// What signs certificates and CRLs in this authority's name.
    pub(crate) fn issuer(self) -> Result<Issuer<'static, SigningKey>, SimulatorError> {
        Ok(self.issuer_with(self.key()?))
    }

    /// What signs in this authority's name with any key.
    pub(crate) fn issuer_with<S: rcgen::SigningKey>(self, key: S) -> Issuer<'static, S> {
        let mut params = CertificateParams::default();
        params.distinguished_name = self.name();
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Issuer::new(params, key)
    }

    /// The authority's own key.
    pub(crate) fn key(self) -> Result<SigningKey, SimulatorError> {
        let curve = match self {
            Self::TdxRoot | Self::PckCa | Self::TcbSigning => Curve::P256,
            Self::GpuRoot | Self::GpuIdentity | Self::GpuProvisioner => Curve::P384,
        };
        SigningKey::from_pem(curve, self.key_pem())
    }

    /// The subject name.
    pub(crate) fn name(self) -> DistinguishedName {
        match self {
            Self::TdxRoot => intel_style_name("SIMULATED SGX Root CA"),
            Self::PckCa => intel_style_name("SIMULATED SGX PCK Platform CA"),
            Self::TcbSigning => intel_style_name("SIMULATED SGX TCB Signing"),
            Self::GpuRoot => nvidia_style_name("SIMULATED Device Identity CA"),
            Self::GpuIdentity => nvidia_style_name("GH100 Identity SIMULATED"),
            Self::GpuProvisioner => nvidia_style_name("GH100 Provisioner ICA 1 SIMULATED"),
        }
    }
}

/// Common name, organisation, locality, state and country, as in Intel's certificates.
pub(crate) fn intel_style_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "Confide SIMULATED platform");
    name.push(DnType::LocalityName, "Nowhere");
    name.push(DnType::StateOrProvinceName, "NA");
    name.push(DnType::CountryName, "XX");
    name
}

/// Country, organisation and common name, as in NVIDIA's certificates.
pub(crate) fn nvidia_style_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "XX");
    name.push(DnType::OrganizationName, "Confide SIMULATED device");
    name.push(DnType::CommonName, common_name);
    name
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use sha2::{Digest, Sha256};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    const ALL: [Authority; 6] = [
        Authority::TdxRoot,
        Authority::PckCa,
        Authority::TcbSigning,
        Authority::GpuRoot,
        Authority::GpuIdentity,
        Authority::GpuProvisioner,
    ];

    fn der(authority: Authority) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("the committed file is PEM")
    }

    #[test]
    fn every_committed_certificate_says_that_it_is_simulated_and_has_the_committed_key() {
        for authority in ALL {
            let der = der(authority);
            let (_, certificate) =
                X509Certificate::from_der(&der).expect("the committed file is a certificate");
            assert!(certificate.subject().to_string().contains("SIMULATED"), "{authority:?}");
            let key = authority.key().expect("the committed file is a key");
            assert_eq!(certificate.public_key().subject_public_key.data.as_ref(), key.der_bytes());
        }
    }

    #[test]
    fn issuers_sign_in_the_name_that_their_certificate_bears() {
        for authority in ALL {
            let issuer = authority.issuer().expect("the committed key loads");
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            let child = params.signed_by(issuer.key(), &issuer).expect("the parameters are complete");
            let (_, child) = X509Certificate::from_der(child.der()).expect("rcgen writes certificates");
            let der = der(authority);
            let (_, certificate) = X509Certificate::from_der(&der).expect("checked above");
            assert_eq!(child.issuer().as_raw(), certificate.subject().as_raw(), "{authority:?}");
        }
    }

    #[test]
    fn anchors_are_the_committed_roots() {
        let roots = [
            (Authority::TdxRoot, tdx_root_certificate(), TDX_ROOT_SPKI_SHA256),
            (Authority::GpuRoot, gpu_root_certificate(), GPU_ROOT_SPKI_SHA256),
        ];
        for (authority, root, spki_sha256) in roots {
            assert_eq!(root, der(authority).as_ref());
            let (_, certificate) = X509Certificate::from_der(root).expect("checked above");
            assert_eq!(certificate.issuer(), certificate.subject());
            assert_eq!(<[u8; 32]>::from(Sha256::digest(certificate.public_key().raw)), spki_sha256);
        }
    }
}
