//! One signed token: a JWS in its compact form (RFC 7515 section 3.1).

use super::json::{Members, base64url};
use crate::hex;
use serde::Deserialize;
use thiserror::Error;

/// The largest token accepted, in bytes. Recorded ones have under 3 KiB; one that lists every measurement as different has
/// under 32 KiB.
pub const MAX_NRAS_TOKEN: usize = 64 * 1024;
/// The longest key id accepted, in bytes. NVIDIA's have 70.
pub const MAX_KEY_ID: usize = 128;
/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// Why a token could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Larger than [`MAX_NRAS_TOKEN`].
    #[error("{0} bytes, at most {MAX_NRAS_TOKEN} are accepted")]
    TooLarge(usize),
    /// Not three parts between dots.
    #[error("not the three parts of a signed token")]
    Parts,
    /// A part that is not base64url without padding.
    #[error("the {0} is not base64url without padding")]
    Base64(&'static str),
    /// A part that is not a JSON object of different names.
    #[error("the {part}: {reason}")]
    Json {
        /// Header or claims.
        part: &'static str,
        /// The JSON reader's words.
        reason: String,
    },
    /// Signed in another way than with ES384, or not at all.
    #[error("signed with {0:?}: only ES384 is accepted, never none and no key that both sides share")]
    Algorithm(String),
    /// A header member that says how to read or trust the token.
    #[error("the header has {0:?}, expected alg, kid and typ alone")]
    HeaderMember(String),
    /// A header member of another type or content.
    #[error("the header's {0} is missing or of another form")]
    Header(&'static str),
    /// Not 96 bytes.
    #[error("a signature of {0} bytes, expected 96")]
    Signature(usize),
    /// A claim that is missing, or of another type or form.
    #[error("the claim {0} is missing or of another form")]
    Claim(&'static str),
    /// Claims of another version than 2.0 and 3.0.
    #[error("claims of version {0:?} are not supported")]
    Version(String),
}

impl TokenError {
    /// Whether it is a token of another kind, and not a broken one.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Algorithm(_) | Self::Version(_))
    }
}

/// A token of the form that NVIDIA signs. Nothing says yet that the signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The whole compact text, ASCII: what the overall token has the digest of.
    pub compact: String,
    /// Id of the key that is said to have signed it.
    pub kid: String,
    /// r ‖ s, 48 bytes each, big endian (RFC 7518 section 3.4).
    pub signature: [u8; 96],
    signed: usize,
}

impl Token {
    /// Splits a compact text into header, which must name ES384, claims, which are returned as text, and signature.
    pub(super) fn read(compact: &str) -> Result<(Self, String), TokenError> {
        if compact.len() > MAX_NRAS_TOKEN {
            return Err(TokenError::TooLarge(compact.len()));
        }
        let (signed, signature) = compact.rsplit_once('.').ok_or(TokenError::Parts)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Parts)?;
        if claims.contains('.') {
            return Err(TokenError::Parts);
        }
        // How it is signed comes first: a token without a signature is refused for that.
        let kid = key_id(&text("header", header)?)?;
        let claims = text("claims", claims)?;
        let signature = base64url(signature).ok_or(TokenError::Base64("signature"))?;
        let signature = signature.try_into().map_err(|found: Vec<u8>| TokenError::Signature(found.len()))?;
        Ok((Self { compact: compact.to_owned(), kid, signature, signed: signed.len() }, claims))
    }

    /// What is signed: header and claims as they stand in the compact text (RFC 7515 section 5.1).
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        self.compact.as_bytes().get(..self.signed).unwrap_or_default()
    }
}

fn text(part: &'static str, encoded: &str) -> Result<String, TokenError> {
    let bytes = base64url(encoded).ok_or(TokenError::Base64(part))?;
    String::from_utf8(bytes).map_err(|_| TokenError::Json { part, reason: "not UTF-8 text".to_owned() })
}

/// The key id of a header that says ES384 and nothing else that matters.
fn key_id(header: &str) -> Result<String, TokenError> {
    let header = members("header", header)?;
    let algorithm = header.text("alg").ok_or(TokenError::Header("alg"))?;
    if algorithm != "ES384" {
        return Err(TokenError::Algorithm(shortened(&algorithm)));
    }
    if let Some((name, _)) = header.iter().find(|(name, _)| !["alg", "kid", "typ"].contains(name)) {
        return Err(TokenError::HeaderMember(shortened(name)));
    }
    if header.find("typ").is_some() && header.text("typ").as_deref() != Some("JWT") {
        return Err(TokenError::Header("typ"));
    }
    let kid = header.text("kid").filter(|kid| is_key_id(kid)).ok_or(TokenError::Header("kid"))?;
    Ok(kid.into_owned())
}

/// Printable ASCII of a bounded length.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) fn members<'a>(part: &'static str, json: &'a str) -> Result<Members<'a>, TokenError> {
    serde_json::from_str(json).map_err(|error| TokenError::Json { part, reason: error.to_string() })
}

/// The beginning of a text that anybody may have chosen.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The claims that every token has: who says it, in answer to what, and when (RFC 7519 section 4.1, RFC 9711 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// `iss`.
    pub issuer: String,
    /// `eat_nonce`.
    pub nonce: [u8; 32],
    /// `iat`, seconds since the Unix epoch.
    pub issued_at: i64,
    /// `nbf`, seconds since the Unix epoch.
    pub not_before: i64,
    /// `exp`, seconds since the Unix epoch: from then on the token says nothing.
    pub expires: i64,
}

impl Stamp {
    pub(super) fn read(claims: &Members<'_>) -> Result<Self, TokenError> {
        let time = |name| {
            let seconds = claims.read::<i64>(name).filter(|seconds| (0..=LAST_SECOND).contains(seconds));
            seconds.ok_or(TokenError::Claim(name))
        };
        let nonce = claims.text("eat_nonce").and_then(|nonce| hex::decode_array(&nonce));
        Ok(Self {
            issuer: claims.text("iss").ok_or(TokenError::Claim("iss"))?.into_owned(),
            nonce: nonce.ok_or(TokenError::Claim("eat_nonce"))?,
            issued_at: time("iat")?,
            not_before: time("nbf")?,
            expires: time("exp")?,
        })
    }
}

/// A claim of this type.
pub(super) fn claim<'a, T: Deserialize<'a>>(
    claims: &Members<'a>,
    name: &'static str,
) -> Result<T, TokenError> {
    claims.read(name).ok_or(TokenError::Claim(name))
}
