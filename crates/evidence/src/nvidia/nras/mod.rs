//! Answers of NVIDIA's remote attestation service (NRAS): a detached EAT bundle (RFC 9711 section 5) of one overall token
//! and one token for each device, and the key set under which they are verified.
//!
//! Reading establishes no trust: the verifier holds signatures, keys, digests, nonces and devices against each other.

mod json;
mod jwks;
mod token;

use super::report::DeviceKind;
use crate::document::MAX_DEVICES;
use crate::hex;
use json::{Members, Text};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;
use token::{claim, members, shortened};

pub use json::MAX_NRAS_MEMBERS;
pub use jwks::{Jwk, JwkKey, Jwks, JwksError, MAX_JWKS, MAX_JWKS_KEYS};
pub use token::{MAX_KEY_ID, MAX_NRAS_TOKEN, Stamp, Token, TokenError};

/// The largest answer accepted, in bytes. The recorded one of a GPU has under 4 KiB: [`MAX_DEVICES`] have under 128 KiB.
pub const MAX_NRAS_ANSWER: usize = 512 * 1024;

/// Why an answer could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NrasError {
    /// Larger than [`MAX_NRAS_ANSWER`].
    #[error("an answer of {0} bytes, at most {MAX_NRAS_ANSWER} are accepted")]
    TooLarge(usize),
    /// Not `[["JWT", overall], {"GPU-0": token, …}]`.
    #[error("an answer that is no JSON of that form: {0}")]
    Json(String),
    /// Another kind of token than a JWT.
    #[error("an answer whose overall token is of the kind {0:?}, expected JWT")]
    Kind(String),
    /// No device, or more than [`MAX_DEVICES`].
    #[error("an answer about {0} devices, 1 to {MAX_DEVICES} are accepted")]
    Count(usize),
    /// A device that is called neither GPU-n nor SWITCH-n.
    #[error("an answer about {0:?}, expected names like GPU-0 and SWITCH-0")]
    Name(String),
    /// The overall token is about other devices than the bundle.
    #[error("an overall token about other devices than those whose tokens stand beside it")]
    Devices,
    /// One token is wrong.
    #[error("{token}: {source}")]
    Token {
        /// `overall token`, or the device's name.
        token: String,
        /// Why.
        source: TokenError,
    },
}

impl NrasError {
    /// Whether it is an answer of another kind, and not a broken one.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Token { source, .. } if source.is_unsupported())
    }
}

/// What NVIDIA's service answered about the devices of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NrasAnswer {
    /// The token about all of them.
    pub overall: Overall,
    /// One token for each, in the order of the bundle: as many as [`Overall::digests`], of the same names.
    pub devices: Vec<Submodule>,
}

/// The token about all devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overall {
    /// The token.
    pub token: Token,
    /// Who says it, and when.
    pub stamp: Stamp,
    /// `sub`.
    pub subject: String,
    /// `x-nvidia-overall-att-result`.
    pub result: bool,
    /// `submods`: the SHA-256 of each device's token.
    pub digests: BTreeMap<SubmoduleName, [u8; 32]>,
}

/// The token about one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// What the bundle calls it.
    pub name: SubmoduleName,
    /// The token.
    pub token: Token,
    /// Who says it, and when.
    pub stamp: Stamp,
    /// `ueid`: the serial number of the device's leaf certificate, big endian without leading zeros.
    pub serial: Vec<u8>,
    /// `measres`; the measurements are those of the manifests where it is `success`.
    pub measurements: String,
    /// Whether the report's signature holds.
    pub signature: bool,
    /// Every claim that speaks against the device, as `name value`.
    pub against: Vec<String>,
    /// Whether a certificate is on hold: `x-nvidia-attestation-warning` says something.
    pub warning: bool,
    /// The driver's version; of a GPU it is always there.
    pub driver: Option<String>,
    /// The version of VBIOS or firmware.
    pub firmware: String,
}

/// What an answer calls a device: its kind, and its place among the devices of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubmoduleName {
    kind: DeviceKind,
    place: u8,
}

impl SubmoduleName {
    fn parse(text: &str) -> Option<Self> {
        let (kind, place) = match text.split_once('-')? {
            ("GPU", place) => (DeviceKind::Gpu, place),
            ("SWITCH", place) => (DeviceKind::Switch, place),
            _ => return None,
        };
        let name = Self { kind, place: place.parse().ok()? };
        // Written as it is read: no sign, no leading zero.
        (name.to_string() == text).then_some(name)
    }

    /// What the device is.
    #[must_use]
    pub fn kind(self) -> DeviceKind {
        self.kind
    }
}

impl fmt::Display for SubmoduleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Gpu => "GPU",
            DeviceKind::Switch => "SWITCH",
        };
        write!(formatter, "{kind}-{}", self.place)
    }
}

/// `[["JWT", overall], {"GPU-0": token, …}]`.
type Bundle<'a> = ((Text<'a>, Text<'a>), Members<'a>);

impl NrasAnswer {
    /// Reads an answer: JSON `[["JWT", overall], {"GPU-0": token, …}]`, claims of version 2.0 or 3.0. Tokens that are signed
    /// in another way than with ES384 are refused by name: those of NVIDIA's local tools have a key that everybody knows, or
    /// none.
    ///
    /// # Errors
    /// [`NrasError`]; one that a token causes names it.
    pub fn parse(json: &[u8]) -> Result<Self, NrasError> {
        if json.len() > MAX_NRAS_ANSWER {
            return Err(NrasError::TooLarge(json.len()));
        }
        let ((Text(kind), Text(overall)), devices): Bundle<'_> =
            serde_json::from_slice(json).map_err(|error| NrasError::Json(error.to_string()))?;
        if kind != "JWT" {
            return Err(NrasError::Kind(shortened(&kind)));
        }
        let overall = Overall::read(&overall)?;
        let devices = submodules(&devices)?;
        let named = devices.iter().all(|device| overall.digests.contains_key(&device.name));
        if !named || devices.len() != overall.digests.len() {
            return Err(NrasError::Devices);
        }
        Ok(Self { overall, devices })
    }
}

fn submodules(bundle: &Members<'_>) -> Result<Vec<Submodule>, NrasError> {
    let count = bundle.iter().count();
    if count == 0 || count > MAX_DEVICES {
        return Err(NrasError::Count(count));
    }
    let read = |(name, value): (&str, &RawValue)| {
        let name = SubmoduleName::parse(name).ok_or_else(|| NrasError::Name(shortened(name)))?;
        let no_text = |error: serde_json::Error| NrasError::Json(error.to_string());
        let Text(compact) = serde_json::from_str(value.get()).map_err(no_text)?;
        Submodule::read(name, &compact).map_err(|source| NrasError::Token { token: name.to_string(), source })
    };
    bundle.iter().map(read).collect()
}

impl Overall {
    fn read(compact: &str) -> Result<Self, NrasError> {
        let of_token = |source| NrasError::Token { token: "overall token".to_owned(), source };
        let (token, text) = Token::read(compact).map_err(of_token)?;
        let claims = members("claims", &text).map_err(of_token)?;
        let version: Text<'_> = claim(&claims, "x-nvidia-ver").map_err(of_token)?;
        if !["2.0", "3.0"].contains(&version.0.as_ref()) {
            return Err(of_token(TokenError::Version(shortened(&version.0))));
        }
        let Text(subject) = claim(&claims, "sub").map_err(of_token)?;
        let digests: Members<'_> = claim(&claims, "submods").map_err(of_token)?;
        Ok(Self {
            stamp: Stamp::read(&claims).map_err(of_token)?,
            subject: subject.into_owned(),
            result: claim(&claims, "x-nvidia-overall-att-result").map_err(of_token)?,
            digests: digests_of(&digests)?,
            token,
        })
    }
}

/// `{"GPU-0": ["DIGEST", ["SHA-256", hexadecimal digits]], …}` (RFC 9711 section 4.2.18.1.2).
fn digests_of(submods: &Members<'_>) -> Result<BTreeMap<SubmoduleName, [u8; 32]>, NrasError> {
    let mut digests = BTreeMap::new();
    for (name, value) in submods.iter() {
        let name = SubmoduleName::parse(name).ok_or_else(|| NrasError::Name(shortened(name)))?;
        let found: Result<(Text<'_>, (Text<'_>, Text<'_>)), _> = serde_json::from_str(value.get());
        let digest = match &found {
            Ok((Text(kind), (Text(hash), Text(digits)))) if kind == "DIGEST" && hash == "SHA-256" => {
                hex::decode_array(digits)
            }
            _ => None,
        };
        let source = TokenError::Claim("submods");
        let digest = digest.ok_or(NrasError::Token { token: "overall token".to_owned(), source })?;
        digests.insert(name, digest);
    }
    Ok(digests)
}

/// Claims by which the kinds of devices differ.
struct Names {
    nonce: &'static str,
    signature: &'static str,
    driver: &'static str,
    firmware: &'static str,
}

const GPU: Names = Names {
    nonce: "x-nvidia-gpu-attestation-report-nonce-match",
    signature: "x-nvidia-gpu-attestation-report-signature-verified",
    driver: "x-nvidia-gpu-driver-version",
    firmware: "x-nvidia-gpu-vbios-version",
};
const SWITCH: Names = Names {
    nonce: "x-nvidia-switch-attestation-report-nonce-match",
    signature: "x-nvidia-switch-attestation-report-signature-verified",
    driver: "x-nvidia-switch-driver-version",
    firmware: "x-nvidia-switch-bios-version",
};
/// What a certificate on hold is told by.
const WARNING: &str = "x-nvidia-attestation-warning";

impl Submodule {
    fn read(name: SubmoduleName, compact: &str) -> Result<Self, TokenError> {
        let (token, text) = Token::read(compact)?;
        let claims = members("claims", &text)?;
        let names = match name.kind {
            DeviceKind::Gpu => GPU,
            DeviceKind::Switch => SWITCH,
        };
        let serial = claims.text("ueid").and_then(|ueid| number(&ueid)).ok_or(TokenError::Claim("ueid"))?;
        let Text(measurements) = claim(&claims, "measres")?;
        // What speaks against a device where it is not as it should be must be there.
        for name in ["secboot", "dbgstat", names.nonce] {
            claims.find(name).ok_or(TokenError::Claim(name))?;
        }
        let version = |name| claims.text(name).map(Cow::into_owned).ok_or(TokenError::Claim(name));
        let driver = match name.kind {
            DeviceKind::Gpu => Some(version(names.driver)?),
            DeviceKind::Switch => claims.text(names.driver).map(Cow::into_owned),
        };
        let warning =
            claims.find(WARNING).is_some_and(|value| !["null", "false", "\"\""].contains(&value.get()));
        Ok(Self {
            name,
            stamp: Stamp::read(&claims)?,
            serial,
            measurements: shortened(&measurements),
            signature: claim(&claims, names.signature)?,
            against: against(&claims),
            warning,
            driver,
            firmware: version(names.firmware)?,
            token,
        })
    }
}

/// Every claim that speaks against the device. Of the claims that NVIDIA documents each boolean one is true where all is well:
/// one that is false counts also where this version does not know it.
fn against(claims: &Members<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in claims.iter() {
        let bad = match name {
            WARNING => false,
            "measres" => value.get() != "\"success\"",
            "dbgstat" => value.get() != "\"disabled\"",
            "secboot" => value.get() != "true",
            _ if name.ends_with("-cert-chain") => !is_good_chain(value.get()),
            _ => name.starts_with("x-nvidia-") && value.get() == "false",
        };
        if bad {
            found.push(shortened(&format!("{name} {}", value.get())));
        }
    }
    found
}

/// Whether the certificates of a chain are valid and answered for.
fn is_good_chain(json: &str) -> bool {
    let Ok(chain) = serde_json::from_str::<Members<'_>>(json) else { return false };
    chain.text("x-nvidia-cert-status").as_deref() == Some("valid")
        && chain.text("x-nvidia-cert-ocsp-status").as_deref() == Some("good")
}

/// The bytes of a decimal number below 2^256, big endian without leading zeros; nothing where it is written in another way
/// than the shortest.
fn number(decimal: &str) -> Option<Vec<u8>> {
    let shortest = !decimal.is_empty() && (decimal == "0" || !decimal.starts_with('0'));
    if !shortest || decimal.len() > 78 {
        return None;
    }
    let mut bytes = [0_u8; 32];
    for letter in decimal.bytes() {
        let digit = char::from(letter).to_digit(10)?;
        let mut carry = u16::try_from(digit).ok()?;
        for byte in bytes.iter_mut().rev() {
            let [high, low] = u16::from(*byte).wrapping_mul(10).wrapping_add(carry).to_be_bytes();
            *byte = low;
            carry = u16::from(high);
        }
        if carry != 0 {
            return None;
        }
    }
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

#[cfg(test)]
mod tests;
