//! Images: packing and rotating them where they lie.

use std::fs::{File, OpenOptions};
use std::path::Path;

use confide_evidence::bytes::Digest;
use confide_release::{Profile, VolumeId};
use confide_volume::pack::{self, Pack, Packed};
use confide_volume::{Draw, HeaderCopy, Hint, Image as Locked, VolumeError, rotate};

use crate::codes;
use crate::error::BrokerError;
use crate::owner::{Image, Owner};
use crate::store::{State, StoreError, Volume};

/// The digest of an image's header, which must be of this profile.
///
/// # Errors
/// [`BrokerError`].
pub(crate) fn header(path: &Path, profile: Profile) -> Result<Digest, BrokerError> {
    let mut file =
        File::open(path).map_err(|source| BrokerError::Unreadable { path: path.to_owned(), source })?;
    Ok(HeaderCopy::read(&mut file)?.primary(profile)?.digest())
}

/// Packs a folder into a new image and adds it as a volume. Where it cannot be added, the image is removed: nobody has its key.
///
/// # Errors
/// [`BrokerError`].
pub(crate) async fn create(
    owner: &Owner,
    id: &VolumeId,
    from: &Path,
    file: &Path,
    address: Option<&str>,
    policy: &str,
) -> Result<(), BrokerError> {
    owner.is_free(id).await?;
    let hint = address.map(|address| Hint::new(address, id.clone())).transpose()?;
    let mut draw = Draw::system();
    // Nobody else works on it until the broker holds it.
    let Packed { image: _locked, secret, header, size, verity } =
        pack::create(Pack { from, file, hint: hint.as_ref(), draw: &mut draw })?;
    let image = Image { header: Some(header), secret, size, verity: Some(verity) };
    let added = owner.add(id, Profile::Model, &image, policy).await;
    if added.is_err() {
        let removed = std::fs::remove_file(file);
        removed.map_err(|source| BrokerError::Unwritable { path: file.to_owned(), source })?;
    }
    added
}

/// Gives an image a new header and secret, as the next generation, and gives its number. What an earlier call left half done is
/// ended first: where its header was written, that is committed and no further one is made.
///
/// The image is locked before the database is asked: a rotation that is open there is then of no program that still runs on this
/// image. Another copy of it may be in work elsewhere; of two such rotations the one holds that is committed first, and the other one
/// changes nothing of it.
///
/// # Errors
/// [`BrokerError`]: `volume_locked` where another program works on the image, `volume_rolled_back` for an image that an earlier
/// rotation has replaced.
pub(crate) async fn rotate(owner: &Owner, id: &VolumeId, path: &Path) -> Result<u64, BrokerError> {
    let mut image = locked(path)?;
    let volume = owner.living(id).await?;
    let profile = volume.profile;
    if let Some(prepared) = volume.prepared() {
        let header = prepared.header.ok_or(StoreError::Corrupt("a prepared version without a header"))?;
        if rotate::written(&mut image, profile, &header)? {
            return commit(owner, &volume, &mut image, &header).await;
        }
        owner.abandon(id, prepared.generation).await?;
    }
    let committed = committed_header(&volume)?;
    rotate::read(&mut image)?.check(profile, &[committed]).map_err(|error| told(&volume, error))?;
    let standing = owner.begin(id, &committed).await?;
    let prepared = rotate::prepare(&mut image, profile, &committed, &standing.secret, &mut Draw::system())?;
    let header = prepared.header();
    owner.prepare(&standing.volume, &header, prepared.secret()).await?;
    rotate::write(&mut image, &prepared)?;
    commit(owner, &volume, &mut image, &header).await
}

/// Commits a header that is on the image, and leaves it there alone. That it is there is looked at once more: from the commit on
/// nothing else opens.
async fn commit(
    owner: &Owner,
    volume: &Volume,
    image: &mut Locked,
    header: &Digest,
) -> Result<u64, BrokerError> {
    if !rotate::written(image, volume.profile, header)? {
        let message = format!("the image of {} has lost the header that was written to it", volume.id);
        return Err(BrokerError::Volume { code: codes::VOLUME_HEADER, message });
    }
    let generation = owner.commit(&volume.id, header).await?;
    rotate::settle(image, volume.profile, header)?;
    Ok(generation)
}

/// Writes a `model` image again under a new volume key, to a new file, as the next generation, and gives its number.
///
/// # Errors
/// [`BrokerError`]: `volume_verity` for an image with a block that is damaged or was changed. What is committed stays.
pub(crate) async fn reencrypt(
    owner: &Owner,
    id: &VolumeId,
    path: &Path,
    to: &Path,
) -> Result<u64, BrokerError> {
    let file =
        File::open(path).map_err(|source| BrokerError::Unreadable { path: path.to_owned(), source })?;
    let mut image = Locked::lock(file, path)?;
    let volume = owner.living(id).await?;
    if volume.profile != Profile::Model {
        let message = format!("{id} is a volume {}: only a volume model is encrypted anew", volume.profile);
        return Err(BrokerError::Volume { code: codes::VOLUME_SETTINGS, message });
    }
    let committed = committed_header(&volume)?;
    let standing = owner.begin(id, &committed).await?;
    let verity = volume.verity.as_ref().ok_or(StoreError::Corrupt("a volume model without a hash tree"))?;
    let whole = (volume.size, verity);
    let made = rotate::reencrypt(&mut image, to, &committed, &standing.secret, whole, &mut Draw::system());
    let mut made = made.map_err(|error| told(&volume, error))?;
    let kept = owner.prepare(&standing.volume, &made.header, &made.secret).await;
    if kept.is_err() {
        // Nobody has its key.
        let removed = std::fs::remove_file(to);
        removed.map_err(|source| BrokerError::Unwritable { path: to.to_owned(), source })?;
    }
    kept?;
    commit(owner, &volume, &mut made.image, &made.header).await
}

/// Gives an open rotation up, and leaves the image, where there is one, with the committed header alone.
///
/// # Errors
/// [`BrokerError`]: `volume_locked` where another program works on the image.
pub(crate) async fn abandon(owner: &Owner, id: &VolumeId, path: Option<&Path>) -> Result<u64, BrokerError> {
    let mut image = path.map(locked).transpose()?;
    let volume = owner.living(id).await?;
    let Some(generation) = volume.prepared().map(|prepared| prepared.generation) else {
        let message = format!("no rotation of {id} is under way");
        return Err(BrokerError::Volume { code: codes::ROTATION_MISSING, message });
    };
    let committed = committed_header(&volume)?;
    if let Some(image) = &mut image {
        // Before anything is given up: it may be another volume's.
        rotate::read(image)?.check(volume.profile, &[committed]).map_err(|error| told(&volume, error))?;
    }
    owner.abandon(id, generation).await?;
    if let Some(image) = &mut image {
        rotate::settle(image, volume.profile, &committed)?;
    }
    Ok(generation)
}

/// Takes an image to write to.
fn locked(path: &Path) -> Result<Locked, BrokerError> {
    let unopened = |source| BrokerError::ImageUnopened { path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(unopened)?;
    Ok(Locked::lock(file, path)?)
}

fn committed_header(volume: &Volume) -> Result<Digest, BrokerError> {
    let header = volume.committed()?.header;
    header.ok_or_else(|| BrokerError::Volume {
        code: codes::NOT_FORMATTED,
        message: format!("the volume {} has no header yet", volume.id),
    })
}

/// An error that says which generation an image is of, where that is known.
fn told(volume: &Volume, error: VolumeError) -> BrokerError {
    let known = match &error {
        VolumeError::RolledBack { found } => volume.of_header(found),
        _ => None,
    };
    match known {
        Some(version) if version.state == State::Superseded => BrokerError::Volume {
            code: codes::VOLUME_ROLLED_BACK,
            message: format!(
                "the image of {} is of generation {}, which a rotation has replaced",
                volume.id, version.generation
            ),
        },
        _ => error.into(),
    }
}
