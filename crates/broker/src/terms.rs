//! What keys are sealed for: all that the database says of a volume and that decides who gets them, or what is opened with them.
//!
//! A guest is told a volume's size, hash tree and header by the database, and is appraised by the policy in it. Each sealed value
//! has their digest in its associated data, so that it does not open where one of them was changed by whoever can write to the
//! database and has not the key-encryption key. What the broker changes itself it seals anew.

use confide_evidence::bytes::Digest;
use confide_evidence::hash::{length_prefixed, sha256};
use confide_release::{Profile, Secret, Verity, VolumeId};
use zeroize::Zeroizing;

use crate::kek::{Kek, KekError, Place};
use crate::store::{Resealed, StoreError, StoredVersion, Volume};

/// First field of the digest.
const DOMAIN: &[u8] = b"confide/broker-terms/v1";
/// The field of a keyslot secret, for [`Place`].
const SECRET: &str = "keyslot-secret";
/// The field of a token to format with, for [`Place`].
const TOKEN: &str = "format-token";

/// What the database says of a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) id: &'a VolumeId,
    pub(crate) profile: Profile,
    pub(crate) size: u64,
    pub(crate) verity: Option<Verity>,
    /// SHA-256 of the policy.
    pub(crate) policy: Digest,
    /// SHA-256 of the token to format with.
    pub(crate) token: Option<Digest>,
    pub(crate) revoked: bool,
}

impl<'a> Terms<'a> {
    /// Those of a volume.
    pub(crate) fn of(volume: &'a Volume) -> Self {
        Self {
            id: &volume.id,
            profile: volume.profile,
            size: volume.size,
            verity: volume.verity,
            policy: sha256(volume.policy.as_bytes()),
            token: volume.format.as_ref().map(|format| format.digest),
            revoked: volume.revoked_at.is_some(),
        }
    }

    /// The place of the keyslot secret of a generation whose header has this digest.
    pub(crate) fn secret(&self, generation: u64, header: Option<&Digest>) -> Place<'a> {
        self.place(generation, SECRET, header)
    }

    /// The place of the token.
    pub(crate) fn token(&self, generation: u64) -> Place<'a> {
        self.place(generation, TOKEN, None)
    }

    fn place(&self, generation: u64, field: &'static str, header: Option<&Digest>) -> Place<'a> {
        Place { volume: self.id.as_str(), generation, field, terms: self.digest(header) }
    }

    fn digest(&self, header: Option<&Digest>) -> Digest {
        let Self { id: _, profile, size, verity, policy, token, revoked } = self;
        let blocks = verity.map(|verity| verity.data_blocks.to_be_bytes());
        let root = verity.map(|verity| verity.root);
        let salt = verity.map(|verity| verity.salt);
        sha256(&length_prefixed(&[
            DOMAIN,
            profile.name().as_bytes(),
            &size.to_be_bytes(),
            root.as_ref().map_or(&[], |root| &root.0[..]),
            salt.as_ref().map_or(&[], |salt| &salt.0[..]),
            blocks.as_ref().map_or(&[], |blocks| &blocks[..]),
            &policy.0,
            token.as_ref().map_or(&[], |token| &token.0[..]),
            &[u8::from(*revoked)],
            header.map_or(&[], |header| &header.0[..]),
        ]))
    }
}

/// Opens the keyslot secret of a version.
///
/// # Errors
/// [`KekError`].
pub(crate) async fn open_secret(
    kek: &Kek,
    volume: &Volume,
    version: &StoredVersion,
) -> Result<Secret, KekError> {
    let sealed = version.secret.as_ref().ok_or(StoreError::Corrupt("a version without a secret"))?;
    let place = Terms::of(volume).secret(version.generation, version.header.as_ref());
    let bytes = kek.open(place, sealed).await?;
    let mut secret = Zeroizing::new([0; 64]);
    if bytes.len() != secret.len() {
        return Err(StoreError::Corrupt("a secret of another length").into());
    }
    secret.copy_from_slice(&bytes);
    Ok(Secret::new(secret))
}

/// Seals all that is sealed of a volume for other terms.
///
/// # Errors
/// [`KekError`].
pub(crate) async fn reseal(kek: &Kek, volume: &Volume, terms: &Terms<'_>) -> Result<Resealed, KekError> {
    let mut resealed = Resealed::default();
    let committed = volume.committed()?;
    for version in [Some(committed), volume.prepared()].into_iter().flatten() {
        let secret = open_secret(kek, volume, version).await?;
        let place = terms.secret(version.generation, version.header.as_ref());
        resealed.secrets.push((version.generation, kek.seal(place, secret.expose()).await?));
    }
    if let Some(token) = volume.format.as_ref().and_then(|format| format.token.as_ref()) {
        let token = kek.open(Terms::of(volume).token(committed.generation), token).await?;
        resealed.token = Some(kek.seal(terms.token(committed.generation), &token).await?);
    }
    Ok(resealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::bytes::Bytes;

    #[test]
    fn every_term_is_part_of_the_digest() {
        let id = "model".parse().unwrap();
        let verity = Verity { root: Bytes([1; 32]), salt: Bytes([2; 32]), data_blocks: 3 };
        let terms = Terms {
            id: &id,
            profile: Profile::Model,
            size: 4096,
            verity: Some(verity),
            policy: Bytes([4; 32]),
            token: Some(Bytes([5; 32])),
            revoked: false,
        };
        let header = Bytes([6; 32]);
        let others = [
            Terms { profile: Profile::State, ..terms },
            Terms { size: 4097, ..terms },
            Terms { verity: None, ..terms },
            Terms { verity: Some(Verity { root: Bytes([9; 32]), ..verity }), ..terms },
            Terms { verity: Some(Verity { salt: Bytes([9; 32]), ..verity }), ..terms },
            Terms { verity: Some(Verity { data_blocks: 9, ..verity }), ..terms },
            Terms { policy: Bytes([9; 32]), ..terms },
            Terms { token: None, ..terms },
            Terms { revoked: true, ..terms },
        ];
        let digest = terms.digest(Some(&header));
        for other in others {
            assert_ne!(other.digest(Some(&header)), digest, "{other:?}");
        }
        assert_ne!(terms.digest(None), digest);
        assert_ne!(terms.digest(Some(&Bytes([7; 32]))), digest);
    }
}
