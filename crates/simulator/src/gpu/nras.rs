//! What NVIDIA's remote attestation service would answer about simulated devices, and the key set that it would publish.

use aws_lc_rs::hmac;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::device::SimulatedGpu;
use super::switch::SimulatedSwitch;
use crate::authority::{Authority, NRAS_RSA_KEY, NRAS_RSA_PEM, nvidia_style_name};
use crate::certificate::Fields;
use crate::ecdsa::Curve;
use crate::keys::{SigningKey, seeded_array};
use crate::text::{self, base64, date_time, hex, rfc3339};
use crate::{SimulatorError, Window};

/// How long an answer holds, in seconds.
const HOUR: u64 = 3600;
/// Around its use, in seconds: keys live for two days.
const DAY: u64 = 86_400;

/// Which of NVIDIA's authorities the issuer of the key's certificate is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NrasAuthority {
    /// Intermediate 005: P-384.
    #[default]
    Ec,
    /// Intermediate 004: RSA, 2048 bits, which signs with PKCS #1 v1.5 and SHA-256.
    Rsa,
}

/// What is wrong with an answer or its key set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NrasFlaw {
    /// Nothing.
    #[default]
    None,
    /// Another key signs the overall token.
    OverallSignature,
    /// Another key signs the devices' tokens.
    DeviceSignature,
    /// The tokens are signed with HS256 under the key `secret`, as NVIDIA's local tools do.
    SharedKey,
    /// As [`Self::SharedKey`], under the service's public key, for who takes that for a secret.
    SharedPublicKey,
    /// The tokens are not signed at all, and say so.
    Unsigned,
    /// The tokens name a key that the set does not have.
    UnknownKey,
    /// The set has another key than the certificate says, and that key signs.
    KeyOfAnotherCertificate,
    /// A self-made authority of the same name has issued the key's certificate.
    ForeignAuthority,
    /// The key's certificate stands under the authority's, and a self-made key has signed it.
    ForeignIssuer,
    /// The key's certificate is an authority's.
    KeyMayCertify,
    /// The tokens of the first two devices are exchanged.
    ExchangedTokens,
}

/// A device as the service sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NrasDevice {
    /// Whether it is a switch.
    pub switch: bool,
    /// `ueid`: the serial number of its leaf certificate, big endian.
    pub serial: Vec<u8>,
    /// `hwmodel`.
    pub model: String,
    /// Of a GPU.
    pub driver: Option<String>,
    /// VBIOS or firmware.
    pub firmware: String,
    /// Claims that are not the honest ones; nothing leaves a claim out.
    pub claims: Vec<(String, Option<Value>)>,
}

impl NrasDevice {
    /// Of a GPU.
    #[must_use]
    pub fn gpu(gpu: &SimulatedGpu) -> Self {
        let options = gpu.options();
        Self {
            switch: false,
            serial: serial(gpu.certificates()),
            model: "GH100 SIMULATED".to_owned(),
            driver: Some(options.driver_version.clone()),
            firmware: options.vbios_text(),
            claims: Vec::new(),
        }
    }

    /// Of a switch.
    #[must_use]
    pub fn switch(switch: &SimulatedSwitch) -> Self {
        Self {
            switch: true,
            serial: serial(switch.certificates()),
            model: "LS_10 SIMULATED".to_owned(),
            driver: None,
            firmware: switch.options().bios_version.clone(),
            claims: Vec::new(),
        }
    }
}

/// The content of the leaf's serial number, without the zero that DER may add.
fn serial(certificates: &[Vec<u8>]) -> Vec<u8> {
    let integer = Fields::of(&certificates[0]).serial;
    integer[2..].iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// One answer of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NrasOptions {
    /// The nonce of the request.
    pub nonce: [u8; 32],
    /// `iat` and `nbf`, Unix seconds; the answer holds for an hour.
    pub issued_at: u64,
    /// When the key's certificate is valid.
    pub key_window: Window,
    /// Who has issued it.
    pub authority: NrasAuthority,
    /// The devices of the request.
    pub devices: Vec<NrasDevice>,
    /// Claims of the overall token that are not the honest ones; nothing leaves a claim out.
    pub overall: Vec<(String, Option<Value>)>,
    /// What is wrong.
    pub flaw: NrasFlaw,
}

impl NrasOptions {
    /// An honest answer about these devices.
    #[must_use]
    pub fn new(nonce: [u8; 32], issued_at: u64, devices: Vec<NrasDevice>) -> Self {
        Self {
            nonce,
            issued_at,
            key_window: Window { from: issued_at.saturating_sub(DAY), until: issued_at.saturating_add(DAY) },
            authority: NrasAuthority::default(),
            devices,
            overall: Vec::new(),
            flaw: NrasFlaw::default(),
        }
    }

    /// The answer, JSON as the service gives it.
    ///
    /// # Errors
    /// [`SimulatorError`] if a time or a key cannot be written.
    pub fn answer(&self) -> Result<String, SimulatorError> {
        let (mut bundle, mut digests) = (Map::new(), Map::new());
        let mut counts = [0_u32; 2];
        for device in &self.devices {
            let count = &mut counts[usize::from(device.switch)];
            let name = format!("{}-{count}", if device.switch { "SWITCH" } else { "GPU" });
            *count += 1;
            let token = self.token(self.device_claims(device)?, self.flaw == NrasFlaw::DeviceSignature)?;
            digests.insert(name.clone(), json!(["DIGEST", ["SHA-256", hex(&Sha256::digest(&token))]]));
            bundle.insert(name, token.into());
        }
        if self.flaw == NrasFlaw::ExchangedTokens {
            let mut tokens: Vec<Value> = bundle.values().cloned().collect();
            tokens.swap(0, 1);
            bundle.values_mut().zip(tokens).for_each(|(token, other)| *token = other);
        }
        let mut claims = self.stamp();
        claims.insert("sub".to_owned(), "NVIDIA-PLATFORM-ATTESTATION".into());
        claims.insert("x-nvidia-ver".to_owned(), "3.0".into());
        claims.insert("x-nvidia-overall-att-result".to_owned(), true.into());
        claims.insert("submods".to_owned(), digests.into());
        change(&mut claims, &self.overall);
        let overall = self.token(claims, self.flaw == NrasFlaw::OverallSignature)?;
        Ok(json!([["JWT", overall], bundle]).to_string())
    }

    /// The key set, JSON as the service publishes it.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn jwks(&self) -> Result<String, SimulatorError> {
        let kid = match self.flaw {
            NrasFlaw::UnknownKey => "nv-eat-kid-simulated-another".to_owned(),
            _ => self.kid(),
        };
        let certificates: Vec<String> = self.certificates()?.iter().map(|der| base64(der)).collect();
        let key = self.key(false)?;
        let (x, y) = key.public_point().split_at(48);
        let key = json!({
            "kty": "EC", "crv": "P-384", "kid": kid,
            "x": base64url(x), "y": base64url(y), "x5c": certificates,
        });
        Ok(json!({ "keys": [key] }).to_string())
    }

    fn kid(&self) -> String {
        let of = match self.authority {
            NrasAuthority::Ec => "ec",
            NrasAuthority::Rsa => "rsa",
        };
        format!("nv-eat-kid-simulated-{of}")
    }

    /// The key of the set, or another one.
    fn key(&self, another: bool) -> Result<SigningKey, SimulatorError> {
        let other = another || self.flaw == NrasFlaw::KeyOfAnotherCertificate;
        SigningKey::derive(Curve::P384, "NRAS key", u64::from(other))
    }

    /// The key's certificate and its issuer's, DER.
    fn certificates(&self) -> Result<[Vec<u8>; 2], SimulatorError> {
        let key = SigningKey::derive(Curve::P384, "NRAS key", 0)?;
        let leaf = self.leaf()?;
        let foreign = SigningKey::derive(Curve::P384, "NRAS authority of another", 0)?;
        Ok(match (self.authority, self.flaw) {
            (_, NrasFlaw::ForeignAuthority) => {
                let mut params = CertificateParams::default();
                params.distinguished_name = Authority::Nras.name();
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
                params.serial_number = Some(SerialNumber::from_slice(&[0x41]));
                let authority = params.self_signed(&foreign)?.der().to_vec();
                [leaf.signed_by(&key, &Authority::Nras.issuer_with(foreign))?.der().to_vec(), authority]
            }
            (_, NrasFlaw::ForeignIssuer) => [
                leaf.signed_by(&key, &Authority::Nras.issuer_with(foreign))?.der().to_vec(),
                Authority::Nras.certificate(),
            ],
            (NrasAuthority::Ec, _) => [
                leaf.signed_by(&key, &Authority::Nras.issuer()?)?.der().to_vec(),
                Authority::Nras.certificate(),
            ],
            (NrasAuthority::Rsa, _) => {
                let mut params = CertificateParams::default();
                params.distinguished_name = nvidia_style_name(NRAS_RSA_NAME);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
                let issuer = Issuer::new(params, KeyPair::from_pem(NRAS_RSA_KEY)?);
                [leaf.signed_by(&key, &issuer)?.der().to_vec(), text::pem_content(NRAS_RSA_PEM)]
            }
        })
    }

    /// The key's certificate: as NVIDIA's, its purposes are those of TLS.
    fn leaf(&self) -> Result<CertificateParams, SimulatorError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = nvidia_style_name("Attestation Service GPU GH100 SIMULATED");
        let mut serial: [u8; 20] = seeded_array("NRAS key serial", 0);
        serial[0] = serial[0] & 0x3f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = date_time(self.key_window.from)?;
        params.not_after = date_time(self.key_window.until)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if self.flaw == NrasFlaw::KeyMayCertify {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }
        Ok(params)
    }

    /// What every token says: who, in answer to what, and when.
    fn stamp(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), "https://nras.attestation.nvidia.com".into());
        claims.insert("eat_nonce".to_owned(), hex(&self.nonce).into());
        claims.insert("iat".to_owned(), self.issued_at.into());
        claims.insert("nbf".to_owned(), self.issued_at.into());
        claims.insert("exp".to_owned(), self.issued_at.saturating_add(HOUR).into());
        claims
    }

    fn device_claims(&self, device: &NrasDevice) -> Result<Map<String, Value>, SimulatorError> {
        let mut claims = self.stamp();
        let kind = if device.switch { "switch" } else { "gpu" };
        let mut add = |name: String, value: Value| claims.insert(name, value);
        add("ueid".to_owned(), decimal(&device.serial).into());
        add("oemid".to_owned(), "5703".into());
        add("hwmodel".to_owned(), device.model.clone().into());
        add("secboot".to_owned(), true.into());
        add("dbgstat".to_owned(), "disabled".into());
        add("measres".to_owned(), "success".into());
        add("x-nvidia-attestation-warning".to_owned(), Value::Null);
        for what in ["parsed", "nonce-match", "signature-verified", "cert-chain-fwid-match"] {
            add(format!("x-nvidia-{kind}-attestation-report-{what}"), true.into());
        }
        add(format!("x-nvidia-{kind}-arch-check"), true.into());
        add(
            format!("x-nvidia-{kind}-attestation-report-cert-chain"),
            json!({
                "x-nvidia-cert-status": "valid",
                "x-nvidia-cert-ocsp-status": "good",
                "x-nvidia-cert-expiration-date": rfc3339(self.issued_at.saturating_add(DAY))?,
                "x-nvidia-cert-revocation-reason": null,
            }),
        );
        if let Some(driver) = &device.driver {
            add(format!("x-nvidia-{kind}-driver-version"), driver.clone().into());
        }
        let firmware = if device.switch { "bios" } else { "vbios" };
        add(format!("x-nvidia-{kind}-{firmware}-version"), device.firmware.clone().into());
        change(&mut claims, &device.claims);
        Ok(claims)
    }

    /// The compact form of a JWS (RFC 7515 section 3.1), signed by the key of the set or another one.
    fn token(&self, claims: Map<String, Value>, another: bool) -> Result<String, SimulatorError> {
        let algorithm = match self.flaw {
            NrasFlaw::SharedKey | NrasFlaw::SharedPublicKey => "HS256",
            NrasFlaw::Unsigned => "none",
            _ => "ES384",
        };
        let header = json!({ "kid": self.kid(), "alg": algorithm });
        let [header, claims] = [header, claims.into()].map(|part| base64url(part.to_string().as_bytes()));
        let signed = format!("{header}.{claims}");
        let mac = |key: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes()).as_ref().to_vec()
        };
        let signature = match self.flaw {
            NrasFlaw::SharedKey => mac(b"secret"),
            NrasFlaw::SharedPublicKey => mac(self.key(false)?.public_point()),
            NrasFlaw::Unsigned => Vec::new(),
            _ => self.key(another)?.sign(signed.as_bytes()),
        };
        Ok(format!("{signed}.{}", base64url(&signature)))
    }
}

/// The common name of the authority with an RSA key.
const NRAS_RSA_NAME: &str = "Attestation Service GPU Intermediate 004 SIMULATED";

fn change(claims: &mut Map<String, Value>, changes: &[(String, Option<Value>)]) {
    for (name, value) in changes {
        match value {
            Some(value) => claims.insert(name.clone(), value.clone()),
            None => claims.remove(name),
        };
    }
}

/// Base64url without padding (RFC 7515 section 2).
fn base64url(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// The decimal digits of a big-endian number.
fn decimal(bytes: &[u8]) -> String {
    let (mut left, mut digits) = (bytes.to_vec(), Vec::new());
    while left.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut left {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / 10) as u8;
            rest = value % 10;
        }
        digits.push(char::from(b'0' + rest as u8));
    }
    if digits.is_empty() { "0".to_owned() } else { digits.iter().rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal_digits() {
        assert_eq!((decimal(&[]), decimal(&[1, 0])), ("0".to_owned(), "256".to_owned()));
        assert_eq!(decimal(&[0xff; 8]), u64::MAX.to_string());
    }

    #[test]
    fn the_same_options_always_give_the_same_answer_and_key_set() {
        let gpu = SimulatedGpu::new(0).expect("a GPU");
        for authority in [NrasAuthority::Ec, NrasAuthority::Rsa] {
            let options = NrasOptions {
                authority,
                ..NrasOptions::new([7; 32], 1_780_000_000, vec![NrasDevice::gpu(&gpu)])
            };
            let made = || (options.answer().expect("an answer"), options.jwks().expect("a key set"));
            assert_eq!(made(), made());
        }
    }
}
