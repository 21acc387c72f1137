//! Volumes and their versions.

use confide_evidence::bytes::{Bytes, Digest};
use confide_release::{Profile, Verity, VolumeId};
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::{Store, StoreError, signed, some_bytes, unsigned};

/// After this many seconds a rotation that is not committed is told as overdue: writing an image takes minutes.
const OVERDUE: u64 = 24 * 60 * 60;

/// What the broker knows of a volume. Keys are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The name.
    pub id: VolumeId,
    /// How it is protected.
    pub profile: Profile,
    /// Bytes of the opened device.
    pub size: u64,
    /// The hash tree of `model`.
    pub verity: Option<Verity>,
    /// Text of the appraisal policy.
    pub policy: String,
    /// Counts the changes of this volume.
    pub revision: u64,
    /// When it was added, Unix seconds.
    pub created_at: u64,
    /// When it was revoked, Unix seconds.
    pub revoked_at: Option<u64>,
    /// How a guest formats it, or has.
    pub format: Option<Format>,
    /// All versions, the oldest first.
    pub versions: Vec<StoredVersion>,
}

/// The token of a volume that is formatted by its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The sealed token; none once it was used.
    pub token: Option<Vec<u8>>,
    /// Its SHA-256.
    pub digest: Digest,
}

/// One version of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Counts rotations, from 1.
    pub generation: u64,
    /// Whether it is released.
    pub state: State,
    /// SHA-256 of the header.
    pub header: Option<Digest>,
    /// The sealed keyslot secret. A superseded version has none any more.
    pub secret: Option<Vec<u8>>,
    /// Since when it has this state, Unix seconds.
    pub since: u64,
}

/// What a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The one that holds.
    Committed,
    /// The one that a rotation writes.
    Prepared,
    /// One that a rotation has replaced, or that was given up.
    Superseded,
}

impl State {
    /// The word in the database and in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Prepared => "prepared",
            Self::Superseded => "superseded",
        }
    }

    fn read(name: &str) -> Result<Self, StoreError> {
        [Self::Committed, Self::Prepared, Self::Superseded]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or(StoreError::Corrupt("a state of a version"))
    }
}

impl Volume {
    /// The prepared version, where it has been one for more than a day.
    #[must_use]
    pub fn overdue(&self, now: u64) -> Option<&StoredVersion> {
        let open = self.prepared().filter(|_| self.revoked_at.is_none());
        open.filter(|prepared| now.saturating_sub(prepared.since) > OVERDUE)
    }

    /// The version that holds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where there is none.
    pub fn committed(&self) -> Result<&StoredVersion, StoreError> {
        self.find(State::Committed).ok_or(StoreError::Corrupt("a volume without a committed version"))
    }

    /// The version that a rotation writes.
    #[must_use]
    pub fn prepared(&self) -> Option<&StoredVersion> {
        self.find(State::Prepared)
    }

    /// The version with this header.
    #[must_use]
    pub fn of_header(&self, header: &Digest) -> Option<&StoredVersion> {
        self.versions.iter().rev().find(|version| version.header.as_ref() == Some(header))
    }

    /// The generation that comes next. None is given out twice.
    #[must_use]
    pub fn next_generation(&self) -> u64 {
        self.versions.last().map_or(1, |last| last.generation.saturating_add(1))
    }

    fn find(&self, state: State) -> Option<&StoredVersion> {
        self.versions.iter().find(|version| version.state == state)
    }
}

/// A volume to add.
#[derive(Debug)]
pub struct NewVolume<'a> {
    /// The name.
    pub id: &'a VolumeId,
    /// How it is protected.
    pub profile: Profile,
    /// Bytes of the opened device.
    pub size: u64,
    /// The hash tree of `model`.
    pub verity: Option<Verity>,
    /// Text of the appraisal policy.
    pub policy: &'a str,
    /// The first version.
    pub version: NewVersion<'a>,
    /// For a volume that its guest formats: the sealed token and its SHA-256.
    pub format: Option<(&'a [u8], Digest)>,
}

/// A version to add.
#[derive(Clone, Copy, Debug)]
pub struct NewVersion<'a> {
    /// Counts rotations, from 1.
    pub generation: u64,
    /// SHA-256 of the header.
    pub header: Option<Digest>,
    /// The sealed keyslot secret.
    pub secret: &'a [u8],
}

/// What is sealed of a volume, sealed anew because something else that it is bound to was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Keyslot secrets, by generation.
    pub secrets: Vec<(u64, Vec<u8>)>,
    /// The token to format with.
    pub token: Option<Vec<u8>>,
}

/// What is written together with an entry of the audit log. Changes of a volume are made to the revision that was read.
#[derive(Debug)]
pub enum Change<'a> {
    /// Nothing.
    None,
    /// Nothing, as long as these volumes are as they were.
    Unchanged(&'a [Volume]),
    /// A new volume.
    Add(NewVolume<'a>, u64),
    /// Another policy.
    Policy(&'a Volume, &'a str, &'a Resealed),
    /// A version beside the committed one.
    Prepare(&'a Volume, NewVersion<'a>, u64),
    /// The prepared version, which is of this generation, holds from now on. The secret of the one before is forgotten.
    Commit(&'a Volume, u64, u64),
    /// The prepared version, which is of this generation, is given up.
    Abandon(&'a Volume, u64, u64),
    /// Its guest has formatted the volume, with this header, for which the secret is sealed anew. The token is forgotten.
    Formatted(&'a Volume, Digest, &'a [u8], u64),
    /// The volume is released no more.
    Revoke(&'a Volume, &'a Resealed, u64),
}

impl Change<'_> {
    /// Whether something that was sealed is deleted, or replaced.
    pub(super) const fn forgets(&self) -> bool {
        matches!(
            self,
            Self::Policy(..) | Self::Commit(..) | Self::Abandon(..) | Self::Formatted(..) | Self::Revoke(..)
        )
    }

    pub(super) async fn make(&self, transaction: &mut Transaction<'static, Any>) -> Result<(), StoreError> {
        match self {
            Self::None => Ok(()),
            Self::Unchanged(volumes) => {
                for volume in *volumes {
                    unchanged(volume, transaction).await?;
                }
                Ok(())
            }
            Self::Add(volume, now) => add(volume, *now, transaction).await,
            Self::Policy(volume, text, resealed) => {
                advance(volume, transaction).await?;
                keep(volume, resealed, transaction).await?;
                sqlx::query("UPDATE volumes SET policy = $1 WHERE id = $2")
                    .bind(*text)
                    .bind(volume.id.as_str())
                    .execute(&mut **transaction)
                    .await?;
                Ok(())
            }
            Self::Prepare(volume, version, now) => {
                advance(volume, transaction).await?;
                insert(volume.id.as_str(), version, State::Prepared, *now, transaction).await
            }
            Self::Commit(volume, generation, now) => {
                let before = volume.committed()?.generation;
                advance(volume, transaction).await?;
                turn(volume, before, [State::Committed, State::Superseded], *now, transaction).await?;
                turn(volume, *generation, [State::Prepared, State::Committed], *now, transaction).await
            }
            Self::Abandon(volume, generation, now) => {
                advance(volume, transaction).await?;
                turn(volume, *generation, [State::Prepared, State::Superseded], *now, transaction).await
            }
            Self::Formatted(volume, header, secret, now) => {
                advance(volume, transaction).await?;
                sqlx::query("UPDATE volumes SET format_token = NULL WHERE id = $1")
                    .bind(volume.id.as_str())
                    .execute(&mut **transaction)
                    .await?;
                let set = "UPDATE versions SET header = $1, secret = $2, since = $3 \
                           WHERE volume = $4 AND state = $5 AND header IS NULL";
                let done = sqlx::query(set)
                    .bind(&header.0[..])
                    .bind(*secret)
                    .bind(signed(*now))
                    .bind(volume.id.as_str())
                    .bind(State::Committed.name())
                    .execute(&mut **transaction)
                    .await?;
                exactly_one(done.rows_affected())
            }
            Self::Revoke(volume, resealed, now) => {
                advance(volume, transaction).await?;
                keep(volume, resealed, transaction).await?;
                sqlx::query("UPDATE volumes SET revoked_at = $1 WHERE id = $2")
                    .bind(signed(*now))
                    .bind(volume.id.as_str())
                    .execute(&mut **transaction)
                    .await?;
                Ok(())
            }
        }
    }
}

/// Whether a volume is as it was read.
async fn unchanged(volume: &Volume, transaction: &mut Transaction<'static, Any>) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT revision FROM volumes WHERE id = $1")
        .bind(volume.id.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    match row {
        Some(row) if row.try_get::<i64, _>(0)? == signed(volume.revision) => Ok(()),
        _ => Err(StoreError::Conflict),
    }
}

/// Counts a change of a volume that is as it was read.
async fn advance(volume: &Volume, transaction: &mut Transaction<'static, Any>) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE volumes SET revision = revision + 1 WHERE id = $1 AND revision = $2")
        .bind(volume.id.as_str())
        .bind(signed(volume.revision))
        .execute(&mut **transaction)
        .await?;
    exactly_one(done.rows_affected())
}

/// Keeps what was sealed anew.
async fn keep(
    volume: &Volume,
    resealed: &Resealed,
    transaction: &mut Transaction<'static, Any>,
) -> Result<(), StoreError> {
    for (generation, secret) in &resealed.secrets {
        let done = sqlx::query("UPDATE versions SET secret = $1 WHERE volume = $2 AND generation = $3")
            .bind(&secret[..])
            .bind(volume.id.as_str())
            .bind(signed(*generation))
            .execute(&mut **transaction)
            .await?;
        exactly_one(done.rows_affected())?;
    }
    if let Some(token) = &resealed.token {
        sqlx::query("UPDATE volumes SET format_token = $1 WHERE id = $2")
            .bind(&token[..])
            .bind(volume.id.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

fn exactly_one(rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Gives a version that is in the first state the second one. What is superseded loses its secret.
async fn turn(
    volume: &Volume,
    generation: u64,
    [from, to]: [State; 2],
    now: u64,
    transaction: &mut Transaction<'static, Any>,
) -> Result<(), StoreError> {
    let statement = match to {
        State::Superseded => {
            "UPDATE versions SET state = $1, since = $2, secret = NULL WHERE volume = $3 AND state = $4 AND generation = $5"
        }
        _ => {
            "UPDATE versions SET state = $1, since = $2 WHERE volume = $3 AND state = $4 AND generation = $5"
        }
    };
    let done = sqlx::query(statement)
        .bind(to.name())
        .bind(signed(now))
        .bind(volume.id.as_str())
        .bind(from.name())
        .bind(signed(generation))
        .execute(&mut **transaction)
        .await?;
    exactly_one(done.rows_affected())
}

async fn add(
    volume: &NewVolume<'_>,
    now: u64,
    transaction: &mut Transaction<'static, Any>,
) -> Result<(), StoreError> {
    let there = sqlx::query("SELECT id FROM volumes WHERE id = $1")
        .bind(volume.id.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    if there.is_some() {
        return Err(StoreError::Exists);
    }
    let verity = volume.verity.as_ref();
    sqlx::query(
        "INSERT INTO volumes (id, profile, size, verity_root, verity_salt, verity_blocks, policy, revision, created_at, \
         format_token, format_digest) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, $10)",
    )
    .bind(volume.id.as_str())
    .bind(volume.profile.name())
    .bind(signed(volume.size))
    .bind(verity.map(|verity| verity.root.0.to_vec()))
    .bind(verity.map(|verity| verity.salt.0.to_vec()))
    .bind(verity.map(|verity| signed(verity.data_blocks)))
    .bind(volume.policy)
    .bind(signed(now))
    .bind(volume.format.map(|(token, _)| token.to_vec()))
    .bind(volume.format.map(|(_, digest)| digest.0.to_vec()))
    .execute(&mut **transaction)
    .await?;
    insert(volume.id.as_str(), &volume.version, State::Committed, now, transaction).await
}

async fn insert(
    id: &str,
    version: &NewVersion<'_>,
    state: State,
    now: u64,
    transaction: &mut Transaction<'static, Any>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO versions (volume, generation, state, header, secret, since) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(signed(version.generation))
    .bind(state.name())
    .bind(version.header.map(|header| header.0.to_vec()))
    .bind(version.secret)
    .bind(signed(now))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

const COLUMNS: &str = "SELECT id, profile, size, verity_root, verity_salt, verity_blocks, policy, revision, created_at, \
                       revoked_at, format_token, format_digest FROM volumes WHERE id = $1";

/// Each with the revision that its volume has at that moment.
const VERSIONS: &str = "SELECT generation, state, header, secret, since, \
                        (SELECT revision FROM volumes WHERE id = $1) AS revision \
                        FROM versions WHERE volume = $1 ORDER BY generation";
/// How often a volume is read again that is changed between its row and its versions.
const READS: u32 = 8;

impl Store {
    /// A volume with its versions, all of one moment: secrets open only with what they were sealed beside.
    ///
    /// # Errors
    /// [`StoreError`]: [`StoreError::Conflict`] where it is changed again and again meanwhile.
    pub async fn volume(&self, id: &VolumeId) -> Result<Option<Volume>, StoreError> {
        for _ in 0..READS {
            let row = sqlx::query(COLUMNS).bind(id.as_str()).fetch_optional(&self.pool).await?;
            let Some(row) = row else { return Ok(None) };
            let versions = sqlx::query(VERSIONS).bind(id.as_str()).fetch_all(&self.pool).await?;
            let revision: i64 = row.try_get("revision")?;
            let torn = |row: &AnyRow| Ok::<_, StoreError>(row.try_get::<i64, _>("revision")? != revision);
            if !versions.iter().map(torn).collect::<Result<Vec<_>, _>>()?.contains(&true) {
                let versions = versions.iter().map(version).collect::<Result<_, _>>()?;
                return volume(&row, versions).map(Some);
            }
        }
        Err(StoreError::Conflict)
    }

    /// The names of all volumes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn volume_ids(&self) -> Result<Vec<VolumeId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM volumes ORDER BY id").fetch_all(&self.pool).await?;
        rows.iter().map(id).collect()
    }
}

fn id(row: &AnyRow) -> Result<VolumeId, StoreError> {
    let name: String = row.try_get("id")?;
    VolumeId::try_from(name).map_err(|_| StoreError::Corrupt("the name of a volume"))
}

fn volume(row: &AnyRow, versions: Vec<StoredVersion>) -> Result<Volume, StoreError> {
    let profile: String = row.try_get("profile")?;
    let profile = [Profile::Model, Profile::State]
        .into_iter()
        .find(|known| known.name() == profile)
        .ok_or(StoreError::Corrupt("a profile"))?;
    let blocks: Option<i64> = row.try_get("verity_blocks")?;
    let verity = match (some_bytes(row, "verity_root")?, some_bytes(row, "verity_salt")?, blocks) {
        (Some(root), Some(salt), Some(blocks)) => Some(Verity { root, salt, data_blocks: unsigned(blocks)? }),
        (None, None, None) => None,
        _ => return Err(StoreError::Corrupt("half a hash tree")),
    };
    let digest: Option<Bytes<32>> = some_bytes(row, "format_digest")?;
    let token: Option<Vec<u8>> = row.try_get("format_token")?;
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    Ok(Volume {
        id: id(row)?,
        profile,
        size: unsigned(row.try_get("size")?)?,
        verity,
        policy: row.try_get("policy")?,
        revision: unsigned(row.try_get("revision")?)?,
        created_at: unsigned(row.try_get("created_at")?)?,
        revoked_at: revoked_at.map(unsigned).transpose()?,
        format: digest.map(|digest| Format { token, digest }),
        versions,
    })
}

fn version(row: &AnyRow) -> Result<StoredVersion, StoreError> {
    let state: String = row.try_get("state")?;
    Ok(StoredVersion {
        generation: unsigned(row.try_get("generation")?)?,
        state: State::read(&state)?,
        header: some_bytes(row, "header")?,
        secret: row.try_get("secret")?,
        since: unsigned(row.try_get("since")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in [State::Committed, State::Prepared, State::Superseded] {
            assert_eq!(State::read(state.name()).unwrap(), state);
        }
        assert!(State::read("prepared ").is_err());
    }

    #[test]
    fn generations_go_on_after_those_that_were_given_up() {
        let version = |generation, state| StoredVersion {
            generation,
            state,
            header: Some(Bytes([u8::try_from(generation).unwrap(); 32])),
            secret: None,
            since: 0,
        };
        let volume = Volume {
            id: "v".parse().unwrap(),
            profile: Profile::State,
            size: 1,
            verity: None,
            policy: String::new(),
            revision: 1,
            created_at: 0,
            revoked_at: None,
            format: None,
            versions: vec![version(1, State::Committed), version(2, State::Superseded)],
        };
        assert_eq!(volume.next_generation(), 3);
        assert_eq!(volume.committed().unwrap().generation, 1);
        assert!(volume.prepared().is_none());
        assert_eq!(volume.of_header(&Bytes([2; 32])).unwrap().state, State::Superseded);
    }
}
