//! The committed certificate authorities: the roots and what stands below them.
//!
//! Certificates and private keys are read from `fixtures/simulator/`, where `cargo run -p confide-simulator
//! --example roots` once wrote them. The names given here must be those in the certificates, because an issuer's
//! name is written into what it signs; the crate's tests compare them.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose};

use crate::SimulatorError;
use crate::ecdsa::Curve;
use crate::keys::SigningKey;
use crate::{certificate, text};

/// SHA-256 of the SubjectPublicKeyInfo of the simulated SGX root.
pub const TDX_ROOT_SPKI_SHA256: [u8; 32] =
    array_from_hex(b"5a64ee24760b4f2be3e2f7f3c4556c228e04975dac8f08118d4ec7341e325ad6");

/// SHA-256 of the SubjectPublicKeyInfo of the simulated GPU device root.
pub const GPU_ROOT_SPKI_SHA256: [u8; 32] =
    array_from_hex(b"b99e2d03858af43ebaf9da17449f81a757709eefbebb88b0c57de1c9eed537d2");

/// SHA-256 of the SubjectPublicKeyInfo of the simulated root of reference integrity manifests.
pub const RIM_ROOT_SPKI_SHA256: [u8; 32] =
    array_from_hex(b"842be6e23e6d18d15b367504540c847b60d0899566f6376a1ced97e9e8de9c33");

/// SHA-256 of the SubjectPublicKeyInfo of the simulated authority of the attestation service whose key is on P-384.
pub const NRAS_EC_SPKI_SHA256: [u8; 32] =
    array_from_hex(b"7b2753af7e631d8afb4785c0bc0613d42c4135b2b9b1bc763c3ec2338ea3f302");

/// SHA-256 of the SubjectPublicKeyInfo of the simulated authority of the attestation service whose key is RSA.
pub const NRAS_RSA_SPKI_SHA256: [u8; 32] =
    array_from_hex(b"c59687ed7b219683c2117641a30a4a7da66a95a924d6f545e98a6eae8b4c6335");

/// The certificate of the latter, PEM.
pub(crate) const NRAS_RSA_PEM: &str = include_str!("../../../fixtures/simulator/nras-004.pem");
/// Its private key, PKCS#8 PEM. Public on purpose.
pub(crate) const NRAS_RSA_KEY: &str = include_str!("../../../fixtures/simulator/nras-004.key.pem");

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

/// The simulated root certificate of reference integrity manifests, DER.
#[must_use]
pub fn rim_root_certificate() -> &'static [u8] {
    include_bytes!("../../../fixtures/simulator/rim-root.der")
}

/// The certificate and the private key of this name in `fixtures/simulator/`, PEM.
macro_rules! committed {
    ($name:literal) => {
        (
            include_str!(concat!("../../../fixtures/simulator/", $name, ".pem")),
            include_str!(concat!("../../../fixtures/simulator/", $name, ".key.pem")),
        )
    };
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
    /// Hopper's CA below the device root; also above the switches' one, as in NVIDIA's hierarchy.
    GpuIdentity,
    /// Issuer of Hopper devices' own CAs.
    GpuProvisioner,
    /// The CA of GB100 below the device root.
    Gb100Identity,
    /// Issuer of GB100 devices' own CAs.
    Gb100Provisioner,
    /// The CA of GB20X below the device root.
    Gb20xIdentity,
    /// Issuer of GB20X devices' own CAs.
    Gb20xProvisioner,
    /// Issuer of LS10 switches' own CAs.
    Ls10Provisioner,
    /// Root of the hierarchy that signs reference integrity manifests.
    RimRoot,
    /// Second level of the manifests of GH100.
    RimGh100,
    /// Third level of the manifests of GH100: issuer of signers.
    RimGh100Issuer,
    /// Second level of the manifests of GB100.
    RimGb100,
    /// Third level of the manifests of GB100.
    RimGb100Issuer,
    /// Second level of the manifests of GB20X.
    RimGb20x,
    /// Third level of the manifests of GB20X.
    RimGb20xIssuer,
    /// Second level of the manifests of LS10.
    RimLs10,
    /// Third level of the manifests of LS10.
    RimLs10Issuer,
    /// Issuer of the attestation service's keys.
    Nras,
}

impl Authority {
    /// Those that sign for devices and manifests of NVIDIA's kind.
    pub(crate) const NVIDIA_LIKE: [Self; 17] = [
        Self::GpuRoot,
        Self::GpuIdentity,
        Self::GpuProvisioner,
        Self::Gb100Identity,
        Self::Gb100Provisioner,
        Self::Gb20xIdentity,
        Self::Gb20xProvisioner,
        Self::Ls10Provisioner,
        Self::RimRoot,
        Self::RimGh100,
        Self::RimGh100Issuer,
        Self::RimGb100,
        Self::RimGb100Issuer,
        Self::RimGb20x,
        Self::RimGb20xIssuer,
        Self::RimLs10,
        Self::RimLs10Issuer,
    ];

    /// Certificate and private key, PEM.
    fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::TdxRoot => committed!("tdx-root"),
            Self::PckCa => committed!("tdx-pck-ca"),
            Self::TcbSigning => committed!("tdx-tcb-signing"),
            Self::GpuRoot => committed!("gpu-root"),
            Self::GpuIdentity => committed!("gpu-identity"),
            Self::GpuProvisioner => committed!("gpu-provisioner"),
            Self::Gb100Identity => committed!("gpu-identity-gb100"),
            Self::Gb100Provisioner => committed!("gpu-provisioner-gb100"),
            Self::Gb20xIdentity => committed!("gpu-identity-gb20x"),
            Self::Gb20xProvisioner => committed!("gpu-provisioner-gb20x"),
            Self::Ls10Provisioner => committed!("gpu-provisioner-ls10"),
            Self::RimRoot => committed!("rim-root"),
            Self::RimGh100 => committed!("rim-l2-gh100"),
            Self::RimGh100Issuer => committed!("rim-l3-gh100"),
            Self::RimGb100 => committed!("rim-l2-gb100"),
            Self::RimGb100Issuer => committed!("rim-l3-gb100"),
            Self::RimGb20x => committed!("rim-l2-gb20x"),
            Self::RimGb20xIssuer => committed!("rim-l3-gb20x"),
            Self::RimLs10 => committed!("rim-l2-ls10"),
            Self::RimLs10Issuer => committed!("rim-l3-ls10"),
            Self::Nras => committed!("nras-005"),
        }
    }

    /// Certificate, PEM.
    pub(crate) fn pem(self) -> &'static str {
        self.files().0
    }

    /// Certificate, DER.
    pub(crate) fn certificate(self) -> Vec<u8> {
        text::pem_content(self.pem())
    }

    /// Private key, PKCS#8 PEM. Public on purpose.
    pub(crate) fn key_pem(self) -> &'static str {
        self.files().1
    }

    /// The authority of NVIDIA's kind whose subject is this Name, DER.
    pub(crate) fn of_name(name: &[u8]) -> Result<Self, SimulatorError> {
        let mut all = Self::NVIDIA_LIKE.into_iter();
        let found = all.find(|authority| certificate::Fields::of(&authority.certificate()).subject == name);
        found.ok_or(SimulatorError::Authority)
    }

    /// What signs certificates and CRLs in this authority's name.
    pub(crate) fn issuer(self) -> Result<Issuer<'static, SigningKey>, SimulatorError> {
        Ok(self.issuer_with(self.key()?))
    }

    /// Another authority of NVIDIA's kind: the next of the list.
    pub(crate) fn sibling(self) -> Self {
        let mut after = Self::NVIDIA_LIKE.into_iter().skip_while(|authority| *authority != self).skip(1);
        after.next().unwrap_or(Self::GpuRoot)
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
            _ => Curve::P384,
        };
        SigningKey::from_pem(curve, self.key_pem())
    }

    /// The subject name.
    pub(crate) fn name(self) -> DistinguishedName {
        match self {
            Self::TdxRoot | Self::PckCa | Self::TcbSigning => intel_style_name(self.common_name()),
            _ => nvidia_style_name(self.common_name()),
        }
    }
}

impl Authority {
    /// The common name of the subject.
    pub(crate) fn common_name(self) -> &'static str {
        match self {
            Self::TdxRoot => "SIMULATED SGX Root CA",
            Self::PckCa => "SIMULATED SGX PCK Platform CA",
            Self::TcbSigning => "SIMULATED SGX TCB Signing",
            Self::GpuRoot => "SIMULATED Device Identity CA",
            Self::GpuIdentity => "GH100 Identity SIMULATED",
            Self::GpuProvisioner => "GH100 Provisioner ICA 1 SIMULATED",
            Self::Gb100Identity => "GB100 Identity SIMULATED",
            Self::Gb100Provisioner => "GB100 Provisioner ICA 00000 SIMULATED",
            Self::Gb20xIdentity => "GB20X Identity SIMULATED",
            Self::Gb20xProvisioner => "GB20X Provisioner ICA 00000 SIMULATED",
            Self::Ls10Provisioner => "LS_10 Provisioner ICA 1 SIMULATED",
            Self::RimRoot => "SIMULATED CoRIM signing Root CA",
            Self::RimGh100 => "Reference Value GH100 CA SIMULATED",
            Self::RimGh100Issuer => "Reference Value L3 GH100 001 SIMULATED",
            Self::RimGb100 => "Reference Value GB1XX CA 001 SIMULATED",
            Self::RimGb100Issuer => "Reference Value L3 GB100-CC 001 SIMULATED",
            Self::RimGb20x => "Reference Value GB2XX CA 001 SIMULATED",
            Self::RimGb20xIssuer => "Reference Value L3 GB20X-CC 001 SIMULATED",
            Self::RimLs10 => "Reference Value LS10 CA SIMULATED",
            Self::RimLs10Issuer => "Reference Value L3 LS10 001 SIMULATED",
            Self::Nras => "Attestation Service GPU Intermediate 005 SIMULATED",
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

    fn all() -> impl Iterator<Item = Authority> {
        [Authority::TdxRoot, Authority::PckCa, Authority::TcbSigning]
            .into_iter()
            .chain(Authority::NVIDIA_LIKE)
            .chain([Authority::Nras])
    }

    fn der(authority: Authority) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("the committed file is PEM")
    }

    #[test]
    fn every_committed_certificate_says_that_it_is_simulated_and_has_the_committed_key() {
        for authority in all() {
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
        for authority in all() {
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
    fn authorities_of_nvidias_kind_are_found_by_the_name_in_their_certificate() {
        for authority in Authority::NVIDIA_LIKE {
            let der = der(authority);
            let (_, certificate) = X509Certificate::from_der(&der).expect("checked above");
            let found = Authority::of_name(certificate.subject().as_raw());
            assert_eq!(found.expect("it is one of them"), authority);
        }
        assert!(matches!(Authority::of_name(b"another"), Err(SimulatorError::Authority)));
    }

    #[test]
    fn anchors_are_the_committed_roots() {
        let roots = [
            (Authority::TdxRoot, tdx_root_certificate(), TDX_ROOT_SPKI_SHA256),
            (Authority::GpuRoot, gpu_root_certificate(), GPU_ROOT_SPKI_SHA256),
            (Authority::RimRoot, rim_root_certificate(), RIM_ROOT_SPKI_SHA256),
        ];
        for (authority, root, spki_sha256) in roots {
            assert_eq!(root, der(authority).as_ref());
            assert_eq!(root, authority.certificate());
            let (_, certificate) = X509Certificate::from_der(root).expect("checked above");
            assert_eq!(certificate.issuer(), certificate.subject());
            assert_eq!(<[u8; 32]>::from(Sha256::digest(certificate.public_key().raw)), spki_sha256);
        }
    }

    #[test]
    fn authorities_of_the_attestation_service_are_the_committed_ones() {
        let rsa = CertificateDer::from_pem_slice(NRAS_RSA_PEM.as_bytes()).expect("the committed file is PEM");
        for (der, spki_sha256) in [(rsa, NRAS_RSA_SPKI_SHA256), (der(Authority::Nras), NRAS_EC_SPKI_SHA256)] {
            let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
            assert!(certificate.subject().to_string().contains("SIMULATED"));
            assert_eq!(<[u8; 32]>::from(Sha256::digest(certificate.public_key().raw)), spki_sha256);
        }
    }
}
