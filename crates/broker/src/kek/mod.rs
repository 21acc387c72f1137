//! Volume keys at rest: sealed under a key-encryption key, which the database never sees.
//!
//! The key comes from a file, from a systemd credential, or stays in HashiCorp Vault's transit engine. What is sealed is bound
//! to its place: volume, generation, field and what the database says of the volume are associated data, so that a row that is
//! moved or changed does not open.

mod vault;

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::hash::length_prefixed;
use confide_evidence::hex;
use zeroize::Zeroizing;

use crate::identity::{IdentityError, secret_file};
use crate::store::{Store, StoreError};
pub use vault::{Vault, VaultAddress, VaultError, VaultSettings};

/// First field of the associated data.
const DOMAIN: &[u8] = b"confide/broker-kek/v1";
/// First byte of what a key of our own seals.
const LOCAL: u8 = 1;
/// First byte of what Vault seals.
const VAULT: u8 = 2;
/// The largest key file, in bytes: 64 hexadecimal digits and a line end.
const MAX_KEY_FILE: u64 = 66;
/// What is sealed once for each database, so that another key is found before it seals anything.
const CHECK: &[u8; 32] = b"confide-broker key encryption ok";
/// Where that is kept.
const CHECK_NAME: &str = "kek-check";

/// Why nothing is sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KekError {
    /// The file of the key cannot be read, or others may read it.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// The file holds no key.
    #[error("{path}: expected a key-encryption key, 32 bytes or 64 hexadecimal digits")]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// 32 bytes that are all hexadecimal digits: what a cut leaves of 64 of them, and not of random bytes.
    #[error(
        "{path}: 32 hexadecimal digits are half a key-encryption key: expected 64 of them, or 32 random bytes"
    )]
    Half {
        /// The file.
        path: PathBuf,
    },
    /// What is in the database was sealed under another key, or for another place, or was changed.
    #[error(
        "what is in the database does not open under this key-encryption key: it is another one, or the row was changed"
    )]
    Wrong,
    /// What is in the database was sealed by another kind of key.
    #[error(
        "what is in the database was sealed by another kind of key-encryption key than the configuration names"
    )]
    Kind,
    /// What was sealed for one place opens for another one.
    #[error(
        "what was sealed for one place opens for another one: this Vault, or what stands before it, does not heed the field \
         associated_data of its transit engine, so that a row that is moved or changed would open"
    )]
    Unbound,
    /// The cryptographic library failed.
    #[error("nothing can be sealed")]
    Cryptography,
    /// Vault does not do what it is asked.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What something is sealed for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The volume; empty for the database itself.
    pub volume: &'a str,
    /// Its generation; 0 where there is none.
    pub generation: u64,
    /// Which field.
    pub field: &'static str,
    /// Digest of what the database says of the volume; 32 zero bytes for the database itself.
    pub terms: Digest,
}

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let Self { volume, generation, field, terms } = self;
        length_prefixed(&[DOMAIN, volume.as_bytes(), &generation.to_be_bytes(), field.as_bytes(), &terms.0])
    }
}

/// The key-encryption key.
pub enum Kek {
    /// AES-256-GCM in this process.
    Local(Box<RandomizedNonceKey>),
    /// A key that Vault keeps.
    Vault(Vault),
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "Kek::Local(..)",
            Self::Vault(_) => "Kek::Vault(..)",
        })
    }
}

impl Kek {
    /// The key of a file: 32 bytes, or 64 hexadecimal digits in one line. Nobody but its user may read it. 32 bytes that are all
    /// hexadecimal digits are taken for neither: of random bytes they are none, once in 2^113 keys.
    ///
    /// # Errors
    /// [`KekError::File`], [`KekError::Invalid`], [`KekError::Half`].
    pub fn read(path: &Path) -> Result<Self, KekError> {
        let invalid = || KekError::Invalid { path: path.to_owned() };
        let bytes = secret_file(path, MAX_KEY_FILE).map_err(|error| match error {
            IdentityError::Invalid { .. } => invalid(),
            error => error.into(),
        })?;
        let key = match bytes.len() {
            32 if bytes.iter().all(u8::is_ascii_hexdigit) => {
                return Err(KekError::Half { path: path.to_owned() });
            }
            32 => Zeroizing::new(bytes.to_vec()),
            _ => {
                let text = std::str::from_utf8(&bytes).map_err(|_| invalid())?;
                let key = hex::decode(text.trim_end()).map(Zeroizing::new).ok_or_else(invalid)?;
                if key.len() != 32 {
                    return Err(invalid());
                }
                key
            }
        };
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| KekError::Cryptography)?;
        Ok(Self::Local(Box::new(key)))
    }

    /// Seals a secret for one place.
    ///
    /// # Errors
    /// [`KekError::Cryptography`], [`KekError::Vault`].
    pub async fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Vec<u8>, KekError> {
        let data = place.associated_data();
        match self {
            Self::Local(key) => {
                let length = secret.len().saturating_add(AES_256_GCM.tag_len());
                let mut sealed = Zeroizing::new(Vec::with_capacity(length));
                sealed.extend_from_slice(secret);
                let nonce = key
                    .seal_in_place_append_tag(Aad::from(&data), &mut *sealed)
                    .map_err(|_| KekError::Cryptography)?;
                Ok([&[LOCAL][..], nonce.as_ref().as_slice(), &sealed].concat())
            }
            Self::Vault(vault) => {
                let sealed = vault.encrypt(secret, &data).await?;
                Ok([&[VAULT][..], sealed.as_bytes()].concat())
            }
        }
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`KekError::Wrong`], [`KekError::Kind`], [`KekError::Vault`].
    pub async fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KekError> {
        let data = place.associated_data();
        match (self, sealed.split_first()) {
            (Self::Local(key), Some((&LOCAL, rest))) => {
                let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(KekError::Wrong)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KekError::Wrong)?;
                let mut bytes = Zeroizing::new(sealed.to_vec());
                let length = key
                    .open_in_place(nonce, Aad::from(&data), &mut bytes)
                    .map_err(|_| KekError::Wrong)?
                    .len();
                bytes.truncate(length);
                Ok(bytes)
            }
            (Self::Vault(vault), Some((&VAULT, rest))) => {
                let text = std::str::from_utf8(rest).map_err(|_| KekError::Wrong)?;
                vault.decrypt(text, &data).await.map_err(|error| match error {
                    VaultError::Undecipherable => KekError::Wrong,
                    error => error.into(),
                })
            }
            (_, Some((&(LOCAL | VAULT), _))) => Err(KekError::Kind),
            _ => Err(KekError::Wrong),
        }
    }

    /// Whether this is the key that the database was begun with, and binds what it seals to its place. The first key that is held
    /// against a database becomes that.
    ///
    /// # Errors
    /// [`KekError`]: [`KekError::Wrong`] and [`KekError::Kind`] for another one, [`KekError::Unbound`].
    pub async fn check(&self, store: &Store) -> Result<(), KekError> {
        let place = Place { volume: "", generation: 0, field: CHECK_NAME, terms: Bytes([0; 32]) };
        let kept = match store.setting(CHECK_NAME).await? {
            Some(kept) => kept,
            None => store.keep_setting(CHECK_NAME, &self.seal(place, CHECK).await?).await?,
        };
        if self.open(place, &kept).await?.as_slice() != CHECK {
            return Err(KekError::Wrong);
        }
        match self.open(Place { generation: 1, ..place }, &kept).await {
            Err(KekError::Wrong) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(KekError::Unbound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt as _;

    const PLACE: Place<'_> = Place { volume: "model", generation: 3, field: "secret", terms: Bytes([1; 32]) };

    fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o400).open(&path).unwrap().write_all(bytes).unwrap();
        (folder, path)
    }

    fn kek(byte: u8) -> Kek {
        Kek::read(&written(&[byte; 32]).1).unwrap()
    }

    #[tokio::test]
    async fn a_secret_opens_at_its_place_alone() {
        let kek = kek(1);
        let sealed = kek.seal(PLACE, b"secret").await.unwrap();
        assert_eq!(kek.open(PLACE, &sealed).await.unwrap().as_slice(), b"secret");
        for other in [
            Place { volume: "state", ..PLACE },
            Place { generation: 4, ..PLACE },
            Place { field: "token", ..PLACE },
            Place { terms: Bytes([2; 32]), ..PLACE },
        ] {
            assert!(matches!(kek.open(other, &sealed).await, Err(KekError::Wrong)), "{other:?}");
        }
    }

    #[tokio::test]
    async fn another_key_and_changed_bytes_do_not_open() {
        let sealed = kek(1).seal(PLACE, b"secret").await.unwrap();
        assert!(matches!(kek(2).open(PLACE, &sealed).await, Err(KekError::Wrong)));
        for place in 1..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(matches!(kek(1).open(PLACE, &changed).await, Err(KekError::Wrong)), "byte {place}");
        }
        for length in 0..sealed.len() {
            assert!(kek(1).open(PLACE, &sealed[..length]).await.is_err(), "{length} bytes");
        }
        let vaults = [&[VAULT][..], b"vault:v1:x"].concat();
        assert!(matches!(kek(1).open(PLACE, &vaults).await, Err(KekError::Kind)));
    }

    #[tokio::test]
    async fn the_same_secret_is_never_sealed_to_the_same_bytes() {
        let kek = kek(1);
        assert_ne!(kek.seal(PLACE, b"s").await.unwrap(), kek.seal(PLACE, b"s").await.unwrap());
    }

    #[test]
    fn a_key_has_32_bytes_or_64_digits() {
        let digits = "0f".repeat(32);
        for good in [&[7; 32][..], digits.as_bytes(), format!("{digits}\n").as_bytes()] {
            assert!(Kek::read(&written(good).1).is_ok());
        }
        for wrong in [&[7; 31][..], &[7; 33], b"", &digits.as_bytes()[1..], &[b'f'; 67]] {
            assert!(matches!(Kek::read(&written(wrong).1), Err(KekError::Invalid { .. })), "{wrong:?}");
        }
        for half in
            [digits.as_bytes()[..32].to_vec(), vec![b'7'; 32], b"ABCDEF0123456789abcdef0123456789".to_vec()]
        {
            assert!(matches!(Kek::read(&written(&half).1), Err(KekError::Half { .. })), "{half:?}");
        }
        // One byte that is no digit, and the others may be what they are.
        let mut raw = digits.into_bytes();
        raw.truncate(32);
        raw[31] = b'g';
        assert!(Kek::read(&written(&raw).1).is_ok());
    }
}
