//! Random bytes, and where they come from.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::VolumeError;

/// Where keys, salts and names come from.
pub struct Draw(Source);

enum Source {
    System,
    Seeded { seed: Zeroizing<[u8; 32]>, next: u64 },
}

impl Draw {
    /// The operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A seed, from which every key follows: for tests and images that must be made twice alike. Who knows the seed can open them.
    #[must_use]
    pub fn danger_seeded(seed: [u8; 32]) -> Self {
        Self(Source::Seeded { seed: Zeroizing::new(seed), next: 0 })
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), VolumeError> {
        let Source::Seeded { seed, next } = &mut self.0 else {
            return getrandom::fill(bytes).map_err(|_| VolumeError::Random);
        };
        for chunk in bytes.chunks_mut(32) {
            let block =
                Sha256::new().chain_update(seed.as_slice()).chain_update(next.to_be_bytes()).finalize();
            *next = next.saturating_add(1);
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], VolumeError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A UUID of version 4 (RFC 9562, section 5.4), in its text form.
    pub(crate) fn uuid(&mut self) -> Result<String, VolumeError> {
        let mut bytes: [u8; 16] = self.array()?;
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        (*version, *variant) = (*version & 0x0f | 0x40, *variant & 0x3f | 0x80);
        let text = confide_evidence::hex::encode(&bytes);
        let hyphened = text.chars().enumerate().flat_map(|(at, digit)| {
            let before = matches!(at, 8 | 12 | 16 | 20).then_some('-');
            before.into_iter().chain([digit])
        });
        Ok(hyphened.collect())
    }
}

impl fmt::Debug for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Draw::system()",
            Source::Seeded { .. } => "Draw::danger_seeded(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_and_no_two_blocks_alike() {
        let of = |seed| Draw::danger_seeded([seed; 32]).array::<96>().unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_ne!(of(1)[..32], of(1)[32..64]);
        assert_ne!(Draw::system().array::<32>().unwrap(), Draw::system().array::<32>().unwrap());
    }

    #[test]
    fn names_are_uuids_of_version_4() {
        let name = Draw::danger_seeded([1; 32]).uuid().unwrap();
        assert_eq!((name.len(), &name[14..15], &name[8..9], &name[23..24]), (36, "4", "-", "-"));
        assert!(matches!(&name[19..20], "8" | "9" | "a" | "b"));
    }
}
