//! A simulated AMD platform: a chip or a cloud provider's machine with its signing key and certificates.

use super::certificate::{SnpAuthority, SnpCertificate, SnpExtension, SnpKey, endorsement_key, ia5, level};
use super::crl::SnpRevocationList;
use super::report::{SIGNED, SnpReport};
use crate::keys::{SigningKey, seeded};
use crate::{SimulatorError, Window};

const DAY: u64 = 86_400;
/// Length of R and of S in a report, in bytes.
const COORDINATE: usize = 72;

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnpProduct {
    /// 3rd generation EPYC.
    Milan,
    /// 4th generation EPYC.
    Genoa,
    /// 5th generation EPYC.
    Turin,
}

impl SnpProduct {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in certificates.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    fn cpuid(self) -> [u8; 3] {
        match self {
            Self::Milan => [0x19, 0x01, 0x01],
            Self::Genoa => [0x19, 0x11, 0x01],
            Self::Turin => [0x1a, 0x02, 0x01],
        }
    }

    /// First of the product's serial numbers.
    fn serial(self) -> u64 {
        match self {
            Self::Milan => 0x01_0000,
            Self::Genoa => 0x02_0000,
            Self::Turin => 0x03_0000,
        }
    }
}

/// A kind of signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnpSigningKey {
    /// The chip's.
    Vcek,
    /// The cloud provider's.
    Vlek,
}

/// Security patch levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnpLevels {
    /// Firmware microcontroller: Turin alone has it.
    pub fmc: u8,
    /// Boot loader.
    pub bootloader: u8,
    /// TEE.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl SnpLevels {
    /// The eight bytes of a TCB version, as the product lays them out.
    #[must_use]
    pub fn bytes(self, product: SnpProduct) -> [u8; 8] {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        match product {
            SnpProduct::Turin => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
            SnpProduct::Milan | SnpProduct::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
        }
    }
}

/// What a platform is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpOptions {
    /// Product.
    pub product: SnpProduct,
    /// Which key signs.
    pub signing_key: SnpSigningKey,
    /// Chooses chip id and key.
    pub seed: u64,
    /// Levels that the key was derived for.
    pub levels: SnpLevels,
    /// The cloud provider, in a VLEK's certificate.
    pub csp_id: String,
    /// Validity of the signing key's certificate and of revocation lists.
    pub window: Window,
}

impl SnpOptions {
    /// A platform at a time, Unix seconds.
    #[must_use]
    pub fn at(time: u64) -> Self {
        Self {
            product: SnpProduct::Genoa,
            signing_key: SnpSigningKey::Vcek,
            seed: 0,
            levels: SnpLevels { fmc: 1, bootloader: 10, tee: 2, snp: 27, microcode: 84 },
            csp_id: "CN=simulated.invalid".to_owned(),
            window: Window { from: time.saturating_sub(30 * DAY), until: time.saturating_add(30 * DAY) },
        }
    }
}

/// A simulated platform.
#[derive(Debug)]
pub struct SimulatedSnp {
    options: SnpOptions,
    key: SigningKey,
}

impl SimulatedSnp {
    /// A platform of these options.
    ///
    /// # Errors
    /// [`SimulatorError::Key`] where the library refuses a key.
    pub fn new(options: SnpOptions) -> Result<Self, SimulatorError> {
        let key = endorsement_key(options.seed)?;
        Ok(Self { options, key })
    }

    /// CHIP_ID: 64 bytes, of Turin 8 and zeros.
    #[must_use]
    pub fn chip_id(&self) -> [u8; 64] {
        let mut chip_id = [0; 64];
        let length = if self.options.product == SnpProduct::Turin { 8 } else { 48 };
        chip_id[..length].copy_from_slice(&seeded("SNP chip", self.options.seed)[..length]);
        chip_id
    }

    /// The report of a guest on this platform, with this report data.
    #[must_use]
    pub fn guest(&self, report_data: [u8; 64]) -> SnpReport {
        let Self { options, .. } = self;
        let tcb = options.levels.bytes(options.product);
        let vlek = options.signing_key == SnpSigningKey::Vlek;
        SnpReport {
            key_info: if vlek { 1 << 2 } else { 0 },
            cpuid: options.product.cpuid(),
            chip_id: if vlek { [0; 64] } else { self.chip_id() },
            current_tcb: tcb,
            reported_tcb: tcb,
            committed_tcb: tcb,
            launch_tcb: tcb,
            ..SnpReport::new(report_data)
        }
    }

    /// Signs a report: 1,184 bytes.
    #[must_use]
    pub fn report(&self, report: &SnpReport) -> Vec<u8> {
        let mut bytes = report.encode();
        let signature = self.key.sign(&bytes[..SIGNED]);
        for (at, number) in signature.chunks(48).enumerate() {
            let start = SIGNED + at * COORDINATE;
            let little_endian: Vec<u8> = number.iter().rev().copied().collect();
            bytes[start..start + 48].copy_from_slice(&little_endian);
        }
        bytes
    }

    /// The certificate of the signing key.
    #[must_use]
    pub fn endorsement(&self) -> SnpCertificate {
        let SnpOptions { product, signing_key, seed, window, .. } = self.options.clone();
        let (subject, signer) = match signing_key {
            SnpSigningKey::Vcek => ("SEV-VCEK", SnpAuthority::Ask),
            SnpSigningKey::Vlek => ("SEV-VLEK", SnpAuthority::Asvk),
        };
        SnpCertificate {
            subject: subject.to_owned(),
            issuer: issuer_name(product, signing_key),
            serial: 0,
            window,
            key: SnpKey::Endorsement { seed },
            signer,
            trailer: false,
            extensions: self.extensions(),
        }
    }

    /// The certificate of the ASK or ASVK.
    #[must_use]
    pub fn issuer(&self) -> SnpCertificate {
        let SnpOptions { product, signing_key, .. } = self.options;
        let (offset, key) = match signing_key {
            SnpSigningKey::Vcek => (1, SnpAuthority::Ask),
            SnpSigningKey::Vlek => (0x101, SnpAuthority::Asvk),
        };
        SnpCertificate::authority(
            issuer_name(product, signing_key),
            root_name(product),
            product.serial() + offset,
            [key, SnpAuthority::Ark],
            AUTHORITIES,
        )
    }

    /// The certificate of the root key.
    #[must_use]
    pub fn root(&self) -> SnpCertificate {
        let product = self.options.product;
        let name = root_name(product);
        SnpCertificate::authority(name.clone(), name, product.serial(), [SnpAuthority::Ark; 2], AUTHORITIES)
    }

    /// Signing key, issuer and root, signed.
    ///
    /// # Errors
    /// As [`SnpCertificate::sign`].
    pub fn certificates(&self) -> Result<[Vec<u8>; 3], SimulatorError> {
        Ok([self.endorsement().sign()?, self.issuer().sign()?, self.root().sign()?])
    }

    /// The root's revocation list, without an entry.
    #[must_use]
    pub fn revocation_list(&self) -> SnpRevocationList {
        SnpRevocationList {
            issuer: root_name(self.options.product),
            signer: SnpAuthority::Ark,
            window: self.options.window,
            next_update: true,
            revoked: Vec::new(),
            entry_extensions: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// AMD's extensions, in the order of genuine certificates (57230, section 3.1).
    fn extensions(&self) -> Vec<SnpExtension> {
        let SnpOptions { product, signing_key, levels, csp_id, .. } = &self.options;
        let turin = *product == SnpProduct::Turin;
        let stepping =
            if *product == SnpProduct::Milan && *signing_key == SnpSigningKey::Vcek { "-B0" } else { "" };
        let one = |arcs: &[u64], value| SnpExtension::amd(arcs, value);
        let mut extensions =
            vec![one(&[1], level(u8::from(turin))), one(&[2], ia5(&format!("{}{stepping}", product.name())))];
        if turin {
            extensions.push(one(&[3, 9], level(levels.fmc)));
        }
        extensions.push(one(&[3, 1], level(levels.bootloader)));
        extensions.push(one(&[3, 2], level(levels.tee)));
        if !turin {
            extensions.push(one(&[3, 4], level(0)));
        }
        extensions.extend([5, 6, 7].map(|last| one(&[3, last], level(0))));
        extensions.push(one(&[3, 3], level(levels.snp)));
        extensions.push(one(&[3, 8], level(levels.microcode)));
        extensions.push(match signing_key {
            SnpSigningKey::Vcek => {
                let chip_id = self.chip_id();
                one(&[4], if turin { chip_id[..8].to_vec() } else { chip_id.to_vec() })
            }
            SnpSigningKey::Vlek => one(&[5], ia5(csp_id)),
        });
        extensions
    }
}

/// 2020-10-22 to 2045-10-22, as ARK-Milan's.
const AUTHORITIES: Window = Window { from: 1_603_386_224, until: 2_392_304_624 };

fn root_name(product: SnpProduct) -> String {
    format!("ARK-{}", product.name())
}

fn issuer_name(product: SnpProduct, signing_key: SnpSigningKey) -> String {
    match signing_key {
        SnpSigningKey::Vcek => format!("SEV-{}", product.name()),
        SnpSigningKey::Vlek => format!("SEV-VLEK-{}", product.name()),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::SNP_ROOT_SPKI_SHA256;

    #[test]
    fn certificates_say_that_they_are_simulated_and_the_root_is_the_pinned_one() {
        for product in SnpProduct::ALL {
            for signing_key in [SnpSigningKey::Vcek, SnpSigningKey::Vlek] {
                let options = SnpOptions { product, signing_key, ..SnpOptions::at(1_780_000_000) };
                let platform = SimulatedSnp::new(options).expect("the seed gives a key");
                for der in platform.certificates().expect("the windows are short") {
                    let (rest, certificate) = X509Certificate::from_der(&der).expect("a certificate");
                    assert!(rest.is_empty());
                    assert!(certificate.subject().to_string().contains("SIMULATED"));
                }
                let spki = platform.root().spki().expect("an authority's key");
                assert_eq!(<[u8; 32]>::from(Sha256::digest(spki)), SNP_ROOT_SPKI_SHA256);
            }
        }
    }

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let platform = || SimulatedSnp::new(SnpOptions::at(1_780_000_000)).expect("the seed gives a key");
        let bytes = |platform: SimulatedSnp| {
            let report = platform.report(&platform.guest([1; 64]));
            (platform.certificates().expect("the windows are short"), report)
        };
        assert_eq!(bytes(platform()), bytes(platform()));
    }
}
