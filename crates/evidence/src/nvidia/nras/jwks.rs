//! The key set under which tokens are verified (RFC 7517).

use super::json::{Members, Text, base64url};
use super::token::{is_key_id, shortened};
use crate::pem;
use crate::x509::MAX_CERTIFICATE;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use thiserror::Error;

/// The largest key set accepted, in bytes. NVIDIA's of 32 keys has 79 KiB.
pub const MAX_JWKS: usize = 512 * 1024;
/// The most keys of a set. NVIDIA publishes 32 at once.
pub const MAX_JWKS_KEYS: usize = 128;

/// Why a key set could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Larger than [`MAX_JWKS`].
    #[error("a key set of {0} bytes, at most {MAX_JWKS} are accepted")]
    TooLarge(usize),
    /// Not the JSON of a key set.
    #[error("a key set that is no JSON of that form: {0}")]
    Json(String),
    /// No key, or more than [`MAX_JWKS_KEYS`].
    #[error("a key set of {0} keys, 1 to {MAX_JWKS_KEYS} are accepted")]
    Count(usize),
    /// A key whose member is missing, or of another type or form.
    #[error("key {index} of the set: {member} is missing or of another form")]
    Member {
        /// Its position, from 0.
        index: usize,
        /// The member.
        member: &'static str,
    },
    /// A key that is no JSON object, or names a member twice.
    #[error("key {index} of the set: {reason}")]
    Key {
        /// Its position, from 0.
        index: usize,
        /// The JSON reader's words.
        reason: String,
    },
    /// Two keys with one id.
    #[error("two keys of the set have the id {0:?}")]
    Duplicate(String),
}

/// A stored key set. Nothing in it is trusted before its certificates are held against a pinned authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

/// One key of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    /// Its id; no other key of the set has it.
    pub kid: String,
    /// The key; nothing where it is of another kind than tokens are signed with.
    pub key: Option<JwkKey>,
}

/// A key on P-384 with its certificate and that of who has issued it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwkKey {
    /// The uncompressed point: 0x04, x and y, 48 bytes each.
    pub point: [u8; 97],
    /// `x5c`: the key's certificate and its issuer's, DER.
    pub certificates: [Vec<u8>; 2],
}

impl Jwks {
    /// Reads a key set as NVIDIA publishes it, `{"keys": [{"kty": "EC", "crv": "P-384", "kid", "x", "y", "x5c"}]}`. Keys of
    /// another kind are kept without what they are; members that are not named here say nothing (RFC 7517 section 4).
    ///
    /// # Errors
    /// [`JwksError`].
    pub fn parse(json: &[u8]) -> Result<Self, JwksError> {
        if json.len() > MAX_JWKS {
            return Err(JwksError::TooLarge(json.len()));
        }
        let no_json = |error: serde_json::Error| JwksError::Json(error.to_string());
        let set: Members<'_> = serde_json::from_slice(json).map_err(no_json)?;
        let list = set.find("keys").ok_or_else(|| JwksError::Json("no keys".to_owned()))?;
        let list: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(no_json)?;
        if list.is_empty() || list.len() > MAX_JWKS_KEYS {
            return Err(JwksError::Count(list.len()));
        }
        let read = |(index, key): (usize, &RawValue)| Jwk::read(index, key.get());
        let keys: Vec<Jwk> = list.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let mut ids = BTreeSet::new();
        match keys.iter().find(|key| !ids.insert(&key.kid)) {
            Some(again) => Err(JwksError::Duplicate(shortened(&again.kid))),
            None => Ok(Self { keys }),
        }
    }

    /// The key with this id.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// The keys in the order of the set, 1 to [`MAX_JWKS_KEYS`].
    #[must_use]
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// How many keys there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }
}

impl Jwk {
    fn read(index: usize, json: &str) -> Result<Self, JwksError> {
        let key: Members<'_> = serde_json::from_str(json)
            .map_err(|error| JwksError::Key { index, reason: error.to_string() })?;
        let wrong = |member| JwksError::Member { index, member };
        let kid = key.text("kid").filter(|kid| is_key_id(kid)).ok_or_else(|| wrong("kid"))?.into_owned();
        let kind = key.text("kty").ok_or_else(|| wrong("kty"))?;
        if kind != "EC" {
            return Ok(Self { kid, key: None });
        }
        if key.text("crv").ok_or_else(|| wrong("crv"))? != "P-384" {
            return Ok(Self { kid, key: None });
        }
        let coordinate = |name| {
            let bytes = base64url(&key.text(name)?)?;
            <[u8; 48]>::try_from(bytes).ok()
        };
        let x = coordinate("x").ok_or_else(|| wrong("x"))?;
        let y = coordinate("y").ok_or_else(|| wrong("y"))?;
        let certificates = certificates(&key).ok_or_else(|| wrong("x5c"))?;
        let mut point = [0x04; 97];
        for (to, from) in point.iter_mut().skip(1).zip(x.into_iter().chain(y)) {
            *to = from;
        }
        Ok(Self { kid, key: Some(JwkKey { point, certificates }) })
    }
}

/// Exactly two certificates, in base64 with padding and without white space (RFC 7517 section 4.7).
fn certificates(key: &Members<'_>) -> Option<[Vec<u8>; 2]> {
    let [leaf, issuer]: [Text<'_>; 2] = key.read("x5c")?;
    let der = |Text(text): Text<'_>| {
        // The text is longer than its content, and no certificate is as long as its limit.
        let whole = text.len() <= 2 * MAX_CERTIFICATE
            && !text.contains(|one: char| one.is_whitespace() || one == '\0');
        if whole { pem::base64(&text).ok() } else { None }
    };
    Some([der(leaf)?, der(issuer)?])
}
