//! Who may use the endpoint, and which key its guests are shown.

use confide_channel::{ApiKey, RequestError};
use confide_evidence::hash::sha256;
use http::{HeaderMap, header};
use std::fmt;
use zeroize::Zeroizing;

/// Who may use the endpoint, and which key its guests are shown.
#[derive(Debug, Default)]
pub struct Access {
    token: Option<Token>,
    guests: Option<GuestKey>,
}

/// The digest of what local programs must send: comparing digests takes the same time wherever they differ first.
struct Token([u8; 32]);

/// A whole `Authorization` value.
struct GuestKey(Zeroizing<Vec<u8>>);

impl Access {
    /// Everybody who reaches the endpoint may use it, and guests are shown what each program sends.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Local programs must send this bearer token (RFC 6750 section 2.1). It stays here: guests are never shown it.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(Token(digest(token.as_bytes())));
        self
    }

    /// Guests are shown this bearer token, whatever local programs send.
    ///
    /// # Errors
    /// [`RequestError::Header`] for a key with control characters.
    pub fn guests_key(mut self, key: &str) -> Result<Self, RequestError> {
        let value = Zeroizing::new([b"Bearer ", key.as_bytes()].concat());
        ApiKey::authorization(value.clone())?;
        self.guests = Some(GuestKey(value));
        Ok(self)
    }

    /// Whether a token is asked for.
    pub(super) fn is_guarded(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request may use the endpoint.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(Token(expected)) = &self.token else { return true };
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        bearer(value.as_bytes()).is_some_and(|token| digest(token) == *expected)
    }

    /// What guests are shown for a request.
    ///
    /// # Errors
    /// [`RequestError::Header`] for a value with control characters.
    pub(super) fn for_guests(&self, headers: &HeaderMap) -> Result<Option<ApiKey>, RequestError> {
        let value = match (&self.guests, &self.token) {
            (Some(GuestKey(value)), _) => Some(value.as_slice()),
            // What the program sent was the endpoint's own.
            (None, Some(_)) => None,
            (None, None) => headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()),
        };
        value.map(|value| ApiKey::authorization(Zeroizing::new(value.to_vec()))).transpose()
    }
}

/// The token of a bearer authorization; the scheme's name may be written in any case (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn digest(token: &[u8]) -> [u8; 32] {
    sha256(token).0
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Debug for GuestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_token_must_be_sent_once_and_whole() {
        let access = Access::open().token("s3cret");
        for given in ["Bearer s3cret", "bearer s3cret", "BEARER s3cret"] {
            assert!(access.admits(&headers(&[given])), "{given}");
        }
        for given in [
            &[][..],
            &[""],
            &["s3cret"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer s3cre"],
            &["Bearer s3cret "],
            &["Bearer s3crets"],
            &["Basic s3cret"],
            &["Bearer s3cret", "Bearer s3cret"],
        ] {
            assert!(!access.admits(&headers(given)), "{given:?}");
        }
        assert!(Access::open().admits(&headers(&[])));
        assert_eq!(format!("{access:?}"), "Access { token: Some(Token), guests: None }");
    }

    #[test]
    fn guests_are_shown_their_own_key_and_never_the_endpoints() {
        let given = headers(&["Bearer local"]);
        let shown = |access: &Access| access.for_guests(&given).unwrap().is_some();
        assert!(shown(&Access::open()));
        assert!(!shown(&Access::open().token("local")));
        assert!(shown(&Access::open().token("local").guests_key("sk-1").unwrap()));
        assert!(Access::open().guests_key("sk\n1").is_err());
    }
}
