//! What the owner of volumes does: add, rotate, revoke. Each is one entry of the audit log.

use confide_evidence::bytes::Digest;
use confide_evidence::hash::sha256;
use confide_release::{Profile, Secret, Verity, VolumeId};
use zeroize::Zeroizing;

use crate::audit::{Note, What};
use crate::broker::now;
use crate::codes;
use crate::error::BrokerError;
use crate::kek::{Kek, KekError};
use crate::store::{Change, NewVersion, NewVolume, Resealed, State, Store, StoreError, Volume};
use crate::terms::{Terms, open_secret, reseal};

/// The database of volumes and the key under which theirs are sealed.
pub struct Owner {
    pub(crate) store: Store,
    pub(crate) kek: Kek,
}

/// What is known of an image.
#[derive(Debug)]
pub struct Image {
    /// SHA-256 of its header; none for a volume that its guest is to format.
    pub header: Option<Digest>,
    /// The keyslot secret.
    pub secret: Secret,
    /// Bytes of the opened device.
    pub size: u64,
    /// The hash tree of `model`.
    pub verity: Option<Verity>,
}

/// Where an image stands in a rotation.
#[derive(Debug)]
pub struct Standing {
    /// The volume.
    pub volume: Volume,
    /// The digest of the committed header.
    pub committed: Digest,
    /// The secret that opens it.
    pub secret: Secret,
}

impl Owner {
    /// Works on this database under this key.
    ///
    /// # Errors
    /// [`BrokerError`] where the key is not the database's.
    pub async fn new(store: Store, kek: Kek) -> Result<Self, BrokerError> {
        kek.check(&store).await?;
        Ok(Self { store, kek })
    }

    /// Adds a volume. Without a header, the guest formats it at its first boot.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn add(
        &self,
        id: &VolumeId,
        profile: Profile,
        image: &Image,
        policy: &str,
    ) -> Result<(), BrokerError> {
        fits(profile, image)?;
        let token = match image.header {
            Some(_) => None,
            None => {
                let mut token = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *token).map_err(BrokerError::Random)?;
                Some(token)
            }
        };
        let terms = Terms {
            id,
            profile,
            size: image.size,
            verity: image.verity,
            policy: sha256(policy.as_bytes()),
            token: token.as_ref().map(|token| sha256(&**token)),
            revoked: false,
        };
        let sealed = self.kek.seal(terms.secret(1, image.header.as_ref()), image.secret.expose()).await?;
        let token = match (&token, terms.token) {
            (Some(token), Some(digest)) => Some((self.kek.seal(terms.token(1), &**token).await?, digest)),
            _ => None,
        };
        let time = now();
        let volume = NewVolume {
            id,
            profile,
            size: image.size,
            verity: image.verity,
            policy,
            version: NewVersion { generation: 1, header: image.header, secret: &sealed },
            format: token.as_ref().map(|(sealed, digest)| (sealed.as_slice(), *digest)),
        };
        let note = Note {
            volumes: vec![(id.to_string(), vec![1])],
            document: Some(terms.policy),
            ..Note::new(What::VolumeAdded, time)
        };
        self.append(note, id, Change::Add(volume, time)).await
    }

    /// A volume.
    ///
    /// # Errors
    /// [`BrokerError::Volume`] where there is none.
    pub async fn volume(&self, id: &VolumeId) -> Result<Volume, BrokerError> {
        let found = self.store.volume(id).await?;
        found.ok_or_else(|| refused(codes::VOLUME_UNKNOWN, format!("there is no volume {id}")))
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn volumes(&self) -> Result<Vec<Volume>, BrokerError> {
        let mut volumes = Vec::new();
        for id in self.store.volume_ids().await? {
            volumes.extend(self.store.volume(&id).await?);
        }
        Ok(volumes)
    }

    /// Gives a volume another policy.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn set_policy(&self, id: &VolumeId, policy: &str) -> Result<(), BrokerError> {
        let volume = self.living(id).await?;
        let terms = Terms { policy: sha256(policy.as_bytes()), ..Terms::of(&volume) };
        let resealed = reseal(&self.kek, &volume, &terms).await?;
        let note = Note {
            volumes: vec![(id.to_string(), Vec::new())],
            document: Some(terms.policy),
            ..Note::new(What::PolicyChanged, now())
        };
        self.append(note, id, Change::Policy(&volume, policy, &resealed)).await
    }

    /// Releases a volume no more, for good.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn revoke(&self, id: &VolumeId) -> Result<(), BrokerError> {
        let volume = self.living(id).await?;
        let time = now();
        let note =
            Note { volumes: vec![(id.to_string(), Vec::new())], ..Note::new(What::VolumeRevoked, time) };
        let resealed = match reseal(&self.kek, &volume, &Terms { revoked: true, ..Terms::of(&volume) }).await
        {
            // What does not open as it stands is released to nobody, and must not keep the owner from revoking it.
            Err(KekError::Wrong) => Resealed::default(),
            resealed => resealed?,
        };
        self.append(note, id, Change::Revoke(&volume, &resealed, time)).await
    }

    /// What a rotation begins with: a volume without one under way, whose image has the committed header.
    ///
    /// # Errors
    /// [`BrokerError::Volume`]: `volume_rolled_back` for an image that an earlier rotation has replaced.
    pub async fn begin(&self, id: &VolumeId, header: &Digest) -> Result<Standing, BrokerError> {
        let volume = self.living(id).await?;
        if let Some(prepared) = volume.prepared() {
            let message =
                format!("generation {} of the volume {id} is prepared already", prepared.generation);
            return Err(refused(codes::ROTATION_OPEN, message));
        }
        let version = volume.committed()?;
        let committed = self.of_image(&volume, header)?;
        if committed != version.generation {
            let message = format!("the image of {id} is not the committed one");
            return Err(refused(codes::VOLUME_HEADER, message));
        }
        let secret = open_secret(&self.kek, &volume, version).await?;
        Ok(Standing { committed: *header, secret, volume })
    }

    /// Keeps a version beside the committed one. From now on both are released.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn prepare(
        &self,
        volume: &Volume,
        header: &Digest,
        secret: &Secret,
    ) -> Result<u64, BrokerError> {
        if let Some(known) = volume.of_header(header) {
            let message = format!("generation {} has this header already", known.generation);
            return Err(refused(codes::VOLUME_HEADER, message));
        }
        let (id, generation, time) = (&volume.id, volume.next_generation(), now());
        let place = Terms::of(volume).secret(generation, Some(header));
        let sealed = self.kek.seal(place, secret.expose()).await?;
        let version = NewVersion { generation, header: Some(*header), secret: &sealed };
        let note = Note {
            volumes: vec![(id.to_string(), vec![generation])],
            ..Note::new(What::RotationPrepared, time)
        };
        self.append(note, id, Change::Prepare(volume, version, time)).await?;
        Ok(generation)
    }

    /// Makes the version with this header the one that holds, and forgets the secret of the one before. Once more changes
    /// nothing.
    ///
    /// # Errors
    /// [`BrokerError::Volume`]: `volume_rolled_back` for a header that a rotation has replaced.
    pub async fn commit(&self, id: &VolumeId, header: &Digest) -> Result<u64, BrokerError> {
        let volume = self.living(id).await?;
        let generation = self.of_image(&volume, header)?;
        if volume.committed()?.generation == generation {
            return match volume.prepared() {
                // What was prepared is another image.
                Some(_) => {
                    let message =
                        format!("the image of {id} has the committed header, and not the prepared one");
                    Err(refused(codes::VOLUME_HEADER, message))
                }
                None => Ok(generation),
            };
        }
        let time = now();
        let note = Note {
            volumes: vec![(id.to_string(), vec![generation])],
            ..Note::new(What::RotationCommitted, time)
        };
        self.append(note, id, Change::Commit(&volume, generation, time)).await?;
        Ok(generation)
    }

    /// Gives the prepared version up, where it is of this generation: another one is another rotation's.
    ///
    /// # Errors
    /// [`BrokerError::Volume`] where it is not prepared.
    pub async fn abandon(&self, id: &VolumeId, generation: u64) -> Result<(), BrokerError> {
        let volume = self.living(id).await?;
        if volume.prepared().is_none_or(|prepared| prepared.generation != generation) {
            let message = format!("no rotation of {id} to generation {generation} is under way");
            return Err(refused(codes::ROTATION_MISSING, message));
        }
        let time = now();
        let note = Note {
            volumes: vec![(id.to_string(), vec![generation])],
            ..Note::new(What::RotationAbandoned, time)
        };
        self.append(note, id, Change::Abandon(&volume, generation, time)).await
    }

    /// The generation that is released and has this header.
    fn of_image(&self, volume: &Volume, header: &Digest) -> Result<u64, BrokerError> {
        let id = &volume.id;
        match volume.of_header(header) {
            Some(version) if version.state == State::Superseded => {
                let newest = volume.committed()?.generation;
                let generation = version.generation;
                let message = if generation > newest {
                    format!("generation {generation} of {id} was given up; generation {newest} holds")
                } else {
                    format!(
                        "the image of {id} is of generation {generation}, which generation {newest} has replaced"
                    )
                };
                Err(refused(codes::VOLUME_ROLLED_BACK, message))
            }
            Some(version) => Ok(version.generation),
            None if volume.committed()?.header.is_none() => {
                Err(refused(codes::NOT_FORMATTED, format!("the volume {id} has no header yet")))
            }
            None => Err(refused(codes::VOLUME_HEADER, format!("the header is of no version of {id}"))),
        }
    }

    /// Whether a name can be given to a new volume.
    ///
    /// # Errors
    /// [`BrokerError::Volume`] where it is taken.
    pub(crate) async fn is_free(&self, id: &VolumeId) -> Result<(), BrokerError> {
        match self.store.volume(id).await? {
            None => Ok(()),
            Some(_) => Err(refused(codes::VOLUME_EXISTS, format!("there is a volume {id} already"))),
        }
    }

    /// A volume that is not revoked.
    pub(crate) async fn living(&self, id: &VolumeId) -> Result<Volume, BrokerError> {
        let volume = self.volume(id).await?;
        if volume.revoked_at.is_some() {
            return Err(refused(codes::VOLUME_REVOKED, format!("the volume {id} is revoked")));
        }
        Ok(volume)
    }

    async fn append(&self, note: Note, id: &VolumeId, change: Change<'_>) -> Result<(), BrokerError> {
        match self.store.append(note, &[], &change).await {
            Ok(_) => Ok(()),
            Err(StoreError::Exists) => {
                Err(refused(codes::VOLUME_EXISTS, format!("there is a volume {id} already")))
            }
            Err(StoreError::Conflict) => {
                Err(refused(codes::VOLUME_BUSY, format!("the volume {id} was changed meanwhile")))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn refused(code: &'static str, message: String) -> BrokerError {
    BrokerError::Volume { code, message }
}

/// Whether an image can be of a profile.
fn fits(profile: Profile, image: &Image) -> Result<(), BrokerError> {
    let wrong = match profile {
        Profile::Model if image.verity.is_none() => Some("a volume model has a hash tree"),
        Profile::Model if image.header.is_none() => Some("a volume model has a header"),
        Profile::State if image.verity.is_some() => Some("a volume state has no hash tree"),
        _ if image.size == 0 || !image.size.is_multiple_of(512) => Some("a size is a multiple of 512 bytes"),
        _ => None,
    };
    wrong.map_or(Ok(()), |message| Err(refused(codes::VOLUME_SETTINGS, message.to_owned())))
}
