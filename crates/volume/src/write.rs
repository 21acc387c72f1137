//! The first MiB of a new volume: header twice, one keyslot.

use confide_evidence::bytes::Digest;
use confide_release::Secret;
use zeroize::Zeroizing;

use crate::binary::{Draft, Place};
use crate::draw::Draw;
use crate::error::VolumeError;
use crate::header::{HEADER_BYTES, HeaderCopy, KEYSLOTS};
use crate::json::{Hint, ITERATIONS, Keyslot, Metadata};
use crate::keyslot::{self, VolumeKey};

/// Bytes of the area of all keyslots of a new volume: up to its data.
const KEYSLOTS_SIZE: u64 = HEADER_BYTES.saturating_sub(KEYSLOTS);

/// What stands before the data of a new volume.
pub(crate) struct Beginning {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

/// Makes the beginning of a new volume, whose data begin at [`HEADER_BYTES`].
pub(crate) fn beginning(
    key: &VolumeKey,
    secret: &Secret,
    hint: Option<&Hint>,
    draw: &mut Draw,
) -> Result<Beginning, VolumeError> {
    let profile = key.profile();
    let keyslot = Keyslot { id: 0, offset: KEYSLOTS, salt: draw.array()?, iterations: ITERATIONS };
    let area = keyslot::seal(&keyslot, key, secret, draw)?;
    let metadata = Metadata {
        segment_offset: HEADER_BYTES,
        keyslots_size: KEYSLOTS_SIZE,
        keyslot,
        digest: keyslot::digest(key, draw)?,
        hint: hint.cloned(),
    };
    let draft = Draft::new(&draw.uuid()?, &metadata.to_json(profile));
    let mut bytes = Vec::new();
    for place in Place::BOTH {
        bytes.extend_from_slice(draft.at(place, &draw.array()?).as_slice());
    }
    bytes.extend(area);
    bytes.resize(usize::try_from(HEADER_BYTES).expect("1 MiB fits"), 0);
    let whole = bytes.clone().try_into().expect("the vector has this length");
    let digest = HeaderCopy::from_bytes(whole).primary(profile)?.digest();
    Ok(Beginning { bytes, digest })
}

/// A new secret of a keyslot.
pub(crate) fn secret(draw: &mut Draw) -> Result<Secret, VolumeError> {
    let mut bytes = Zeroizing::new([0; 64]);
    draw.fill(bytes.as_mut_slice())?;
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_release::Profile;

    const PROFILES: [Profile; 2] = [Profile::Model, Profile::State];

    #[test]
    fn a_new_volume_is_of_its_profile_alone_and_opens_from_each_copy() {
        for profile in PROFILES {
            let draw = &mut Draw::danger_seeded([1; 32]);
            let key = VolumeKey::draw(profile, draw).unwrap();
            let secret = secret(draw).unwrap();
            let hint = Hint::new("broker.example:8443", "weights".parse().unwrap()).unwrap();
            let made = beginning(&key, &secret, Some(&hint), draw).unwrap();
            let copy = HeaderCopy::from_bytes(made.bytes.clone().try_into().unwrap());
            for place in Place::BOTH {
                let header = copy.header(place, profile).unwrap();
                assert_eq!(header.digest(), made.digest, "the digest does not depend on the place");
                assert_eq!((header.hint(), header.data_offset()), (Some(&hint), HEADER_BYTES));
                assert_eq!(header.unlock(&secret).unwrap().expose(), key.expose());
            }
            let other = PROFILES.into_iter().find(|other| *other != profile).unwrap();
            let refused = copy.primary(other).unwrap_err();
            assert!(matches!(refused, VolumeError::Integrity { .. }), "{refused}");
        }
    }

    #[test]
    fn cryptsetup_accepts_a_new_header_of_each_profile_and_finds_its_volume_key() {
        use std::os::unix::fs::FileExt as _;
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for profile in PROFILES {
            let draw = &mut Draw::danger_seeded([2; 32]);
            let key = VolumeKey::draw(profile, draw).unwrap();
            let secret = secret(draw).unwrap();
            let made = beginning(&key, &secret, None, draw).unwrap();
            let image = std::fs::File::create(at("image")).unwrap();
            image.set_len(8 << 20).unwrap();
            image.write_all_at(&made.bytes, 0).unwrap();
            std::fs::write(at("secret"), secret.expose()).unwrap();
            let _ = std::fs::remove_file(at("key"));
            let cryptsetup = |arguments: &[&str]| {
                let mut command = std::process::Command::new("/usr/sbin/cryptsetup");
                command.args(arguments).arg("--key-file").arg(at("secret")).arg(at("image"));
                let output = command.output().expect("install cryptsetup-bin");
                assert!(output.status.success(), "{profile}: {output:?}");
            };
            cryptsetup(&["open", "--test-passphrase"]);
            let found = at("key");
            let found = found.to_str().unwrap();
            cryptsetup(&["-q", "luksDump", "--dump-volume-key", "--volume-key-file", found]);
            assert_eq!(std::fs::read(found).unwrap(), key.expose(), "{profile}");
        }
    }
}
