//! Brokers that release keys and tell the time.

use crate::reference::ED25519_SPKI;
use confide_evidence::pem;
use serde::{Deserialize, Deserializer};
use std::fmt;

/// The identity key of a broker: Ed25519 (RFC 8410). It is written as `confide-broker identity show` prints it, in the standard base64 of
/// its DER SubjectPublicKeyInfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerKey(pub [u8; 32]);

impl BrokerKey {
    /// Reads the DER SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4).
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        der.strip_prefix(&ED25519_SPKI)?.try_into().ok().map(Self)
    }

    /// The DER SubjectPublicKeyInfo, 44 bytes.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        [&ED25519_SPKI[..], &self.0].concat()
    }
}

impl fmt::Display for BrokerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&pem::base64_text(&self.spki()))
    }
}

impl<'de> Deserialize<'de> for BrokerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let key = pem::base64(&text).ok().and_then(|der| Self::from_spki(&der));
        // Written in the one way that it is printed.
        key.filter(|key| key.to_string() == text).ok_or_else(|| {
            let expected = "an Ed25519 key in the base64 of its DER SubjectPublicKeyInfo, as confide-broker identity show prints it";
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &expected)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BrokerKey, String> {
        let table: toml::Table = toml::from_str(&format!("key = {text:?}")).unwrap();
        table["key"].clone().try_into().map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_written_as_the_broker_prints_it_and_in_no_other_way() {
        let text = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        let key = read(text).unwrap();
        assert_eq!((key.to_string().as_str(), BrokerKey::from_spki(&key.spki())), (text, Some(key)));
        let point = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
        for other in ["", &text[..56], &format!("{text} "), &text.replace('M', "N"), point, "0b0b"] {
            assert!(read(other).unwrap_err().contains("confide-broker identity show"), "{other}");
        }
    }
}
