//! A keyslot: the volume key, split and encrypted under a secret (LUKS2 On-Disk Format Specification 1.1.3, section 4).

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use confide_release::{Profile, Secret};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::draw::Draw;
use crate::error::VolumeError;
use crate::json::{CIPHER_KEY, ITERATIONS, KeyDigest, Keyslot, Metadata, SALT, STRIPES, area_size, key_size};
use crate::sectors::Sectors;

/// Bytes of a sector of a keyslot's area.
const SECTOR: usize = 512;

/// What a volume's sectors are encrypted with: 64 bytes for `model`, 96 for `state`. Overwritten with zeros when dropped, shown
/// nowhere, and never copied:
///
/// ```compile_fail
/// use confide_volume::VolumeKey;
/// fn copy<T: Clone>(_: T) {}
/// fn leak(key: VolumeKey) {
///     copy(key);
/// }
/// ```
/// ```
/// use confide_volume::VolumeKey;
/// fn copy<T: Clone>(_: T) {}
/// fn leak(key: VolumeKey) {
///     copy(&key);
/// }
/// ```
pub struct VolumeKey {
    profile: Profile,
    bytes: Zeroizing<Vec<u8>>,
}

impl VolumeKey {
    pub(crate) fn draw(profile: Profile, draw: &mut Draw) -> Result<Self, VolumeError> {
        let mut bytes = Zeroizing::new(vec![0; key_size(profile)]);
        draw.fill(&mut bytes)?;
        Ok(Self { profile, bytes })
    }

    /// The profile whose key this is.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The bytes, for the kernel's keyring and for tests alone.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// What encrypts the sectors of this volume.
    pub(crate) fn sectors(&self) -> Sectors {
        let key = self.bytes.first_chunk().expect("a volume key has at least the cipher's 64 bytes");
        Sectors::new(key)
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VolumeKey(..)")
    }
}

/// Opens a keyslot from its area.
pub(crate) fn open(
    profile: Profile,
    metadata: &Metadata,
    mut area: Zeroizing<Vec<u8>>,
    secret: &Secret,
) -> Result<VolumeKey, VolumeError> {
    area.truncate(material(profile));
    cipher(&metadata.keyslot, secret).decrypt(0, SECTOR, &mut area);
    let key = VolumeKey { profile, bytes: merge(&area, key_size(profile)) };
    let KeyDigest { salt, iterations, digest } = &metadata.digest;
    let count = counted(*iterations);
    // Compared in constant time.
    let verified = pbkdf2::verify(PBKDF2_HMAC_SHA256, count, salt, key.expose(), digest);
    verified.map(|()| key).map_err(|_| VolumeError::SecretWrong)
}

/// The area of a keyslot that opens under `secret`.
pub(crate) fn seal(
    keyslot: &Keyslot,
    key: &VolumeKey,
    secret: &Secret,
    draw: &mut Draw,
) -> Result<Vec<u8>, VolumeError> {
    let mut area = split(key.expose(), draw)?;
    cipher(keyslot, secret).encrypt(0, SECTOR, &mut area);
    area.resize(usize::try_from(area_size(key.profile)).expect("an area is small"), 0);
    Ok(std::mem::take(&mut area))
}

/// What tells this volume key from others.
pub(crate) fn digest(key: &VolumeKey, draw: &mut Draw) -> Result<KeyDigest, VolumeError> {
    let salt = draw.array::<SALT>()?;
    let mut digest = [0; SALT];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, counted(ITERATIONS), &salt, key.expose(), &mut digest);
    Ok(KeyDigest { salt, iterations: ITERATIONS, digest })
}

/// Bytes of the split key: a multiple of a sector for both profiles.
const fn material(profile: Profile) -> usize {
    key_size(profile).saturating_mul(STRIPES)
}

const _: () = assert!(material(Profile::Model).is_multiple_of(SECTOR));
const _: () = assert!(material(Profile::State).is_multiple_of(SECTOR));

/// The keyslot's cipher, whose key comes from the secret.
fn cipher(keyslot: &Keyslot, secret: &Secret) -> Sectors {
    let mut key = Zeroizing::new([0; CIPHER_KEY]);
    let count = counted(keyslot.iterations);
    pbkdf2::derive(PBKDF2_HMAC_SHA256, count, &keyslot.salt, secret.expose(), key.as_mut_slice());
    Sectors::new(&key)
}

fn counted(iterations: u32) -> NonZeroU32 {
    NonZeroU32::new(iterations).expect("the grammar has at least 1000 iterations")
}

/// Joins a split key (LUKS1 On-Disk Format Specification, section 2.4: AFmerge).
fn merge(material: &[u8], size: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; size]);
    let mut stripes = material.chunks_exact(size).peekable();
    while let Some(stripe) = stripes.next() {
        xor(&mut key, stripe);
        if stripes.peek().is_some() {
            diffuse(&mut key);
        }
    }
    key
}

/// Splits a key into random stripes, all of which it takes to join it again (AFsplit).
fn split(key: &[u8], draw: &mut Draw) -> Result<Zeroizing<Vec<u8>>, VolumeError> {
    let size = key.len();
    let mut material = Zeroizing::new(vec![0; size.saturating_mul(STRIPES)]);
    draw.fill(&mut material)?;
    let mut sum = Zeroizing::new(vec![0; size]);
    let last = STRIPES.saturating_sub(1);
    for (at, stripe) in material.chunks_exact_mut(size).enumerate() {
        if at == last {
            stripe.copy_from_slice(&sum);
            xor(stripe, key);
        } else {
            xor(&mut sum, stripe);
            diffuse(&mut sum);
        }
    }
    Ok(material)
}

/// Hashes a block, 32 bytes at a time, with the number of each.
fn diffuse(block: &mut [u8]) {
    for (at, part) in (0_u32..).zip(block.chunks_mut(32)) {
        let hash = Zeroizing::new(<[u8; 32]>::from(
            Sha256::new().chain_update(at.to_be_bytes()).chain_update(&*part).finalize(),
        ));
        for (to, from) in part.iter_mut().zip(hash.iter()) {
            *to = *from;
        }
    }
}

fn xor(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::new(Zeroizing::new([byte; 64]))
    }

    fn sealed(profile: Profile) -> (Metadata, VolumeKey, Vec<u8>) {
        let draw = &mut Draw::danger_seeded([3; 32]);
        let key = VolumeKey::draw(profile, draw).unwrap();
        let keyslot = Keyslot { id: 0, offset: 32768, salt: [5; 32], iterations: ITERATIONS };
        let area = seal(&keyslot, &key, &secret(1), draw).unwrap();
        let digest = digest(&key, draw).unwrap();
        let (segment_offset, keyslots_size) = (1 << 20, (1 << 20) - 32768);
        (Metadata { segment_offset, keyslots_size, keyslot, digest, hint: None }, key, area)
    }

    #[test]
    fn what_is_sealed_opens_with_its_secret_alone() {
        for profile in [Profile::Model, Profile::State] {
            let (metadata, key, area) = sealed(profile);
            let opened = open(profile, &metadata, Zeroizing::new(area.clone()), &secret(1)).unwrap();
            assert_eq!(opened.expose(), key.expose());
            let wrong = open(profile, &metadata, Zeroizing::new(area), &secret(2)).map(drop);
            assert!(matches!(wrong, Err(VolumeError::SecretWrong)));
        }
    }

    #[test]
    fn one_changed_bit_of_any_stripe_is_another_key() {
        let (metadata, _, area) = sealed(Profile::Model);
        for at in [0, 64, 128_000, 255_999] {
            let mut area = area.clone();
            area[at] ^= 1;
            let opened = open(Profile::Model, &metadata, Zeroizing::new(area), &secret(1)).map(drop);
            assert!(matches!(opened, Err(VolumeError::SecretWrong)), "{at}");
        }
    }

    #[test]
    fn no_key_is_shown() {
        let (_, key, _) = sealed(Profile::Model);
        assert_eq!(format!("{key:?}"), "VolumeKey(..)");
    }
}
