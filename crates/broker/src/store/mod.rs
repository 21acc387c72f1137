//! The database: SQLite, or PostgreSQL for several brokers on one.
//!
//! Statements are the same for both. Every change is one transaction together with the entry of the audit log that tells of
//! it, and transactions that write go one after the other: what was decided from a volume is written only where the volume
//! is still as it was read ([`Change`]).

mod schema;
mod volume;

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::record::FIRST;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Row as _, Transaction};

use crate::audit::{Entry, Note};
use crate::rate::Network;
pub use volume::{Change, Format, NewVersion, NewVolume, Resealed, State, StoredVersion, Volume};

/// How long a connection to the database is waited for.
const ACQUIRE: Duration = Duration::from_secs(10);
/// The part of all open challenges that an address may have. Wider networks have twice and four times as many.
const CHALLENGE_SHARES: u32 = 128;
/// Entries that are read of the log at a time.
const PAGE: i64 = 256;

/// Why the database does not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The address is neither `sqlite:` nor `postgres:`.
    #[error("expected a database at sqlite:PATH, without '%' and '#' in it, or at postgres://USER@HOST/NAME")]
    Address,
    /// The database was made by a later version of this program.
    #[error("the database has the schema {found}, this program knows those up to {known}")]
    Newer {
        /// The version of the database.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A row is not what this program writes.
    #[error("the database holds a row that this program does not write: {0}")]
    Corrupt(&'static str),
    /// As many challenges wait as may.
    #[error("as many challenges are open as may be")]
    Full,
    /// Somebody else has changed the volume meanwhile.
    #[error("the volume was changed meanwhile")]
    Conflict,
    /// A volume of this name is there already.
    #[error("there is a volume of this name")]
    Exists,
    /// No broker's database is there, where none is to be made.
    #[error("expected the database of a broker, found none at {place}")]
    Missing {
        /// The file of SQLite, or the address of PostgreSQL without role and password.
        place: String,
    },
    /// The database cannot be reached.
    #[error("the database at {place} cannot be opened")]
    Unreachable {
        /// The file of SQLite, or the address of PostgreSQL without role and password.
        place: String,
        /// What the database or the system said.
        #[source]
        source: sqlx::Error,
    },
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// What became of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// It was open, and is not any more: nobody else is told this.
    Now,
    /// Its time was over.
    Expired,
    /// It was never drawn, or has been used, or its time was over long ago.
    Unknown,
}

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// The database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    kind: Kind,
}

/// What becomes of a database that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    Made,
    Refused,
}

impl Store {
    /// Connects to `sqlite:PATH`, which is made where it is missing, or to `postgres://USER@HOST/NAME`, and brings its schema
    /// up to date. At most `connections` connections are open at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(url: &str, connections: u32) -> Result<Self, StoreError> {
        Self::connect(url, connections, Absent::Made).await
    }

    /// The same for a database that a broker has begun: none is made, and an address that is wrong is told.
    ///
    /// # Errors
    /// [`StoreError`]: [`StoreError::Missing`] where there is no database, or one without a broker's tables.
    pub async fn open_existing(url: &str, connections: u32) -> Result<Self, StoreError> {
        Self::connect(url, connections, Absent::Refused).await
    }

    async fn connect(url: &str, connections: u32, absent: Absent) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let kind = kind(url)?;
        let place = place(url, kind)?;
        let url = match kind {
            Kind::Postgres => url.to_owned(),
            Kind::Sqlite => {
                match absent {
                    Absent::Made => own(&place)?,
                    Absent::Refused if matches!(Path::new(&place).try_exists(), Ok(false)) => {
                        return Err(StoreError::Missing { place });
                    }
                    Absent::Refused => {}
                }
                let mode = if url.contains('?') { "&mode=rw" } else { "?mode=rw" };
                format!("{url}{mode}")
            }
        };
        // A pool asks again until its time is over: this says at once that a file is no database, or a server not there.
        let unreachable = |source| StoreError::Unreachable { place: place.clone(), source };
        let first = tokio::time::timeout(ACQUIRE, AnyConnection::connect(&url)).await;
        let slow = |_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()));
        let mut first = first.unwrap_or_else(slow).map_err(unreachable)?;
        let begun = schema::is_begun(&mut first, kind).await.map_err(unreachable)?;
        first.close().await?;
        if !begun && absent == Absent::Refused {
            return Err(StoreError::Missing { place });
        }
        let mut options = AnyPoolOptions::new().max_connections(connections.max(1)).acquire_timeout(ACQUIRE);
        if kind == Kind::Sqlite {
            options = options.after_connect(|connection, _| {
                Box::pin(async move {
                    // WAL: readers wait for nobody. FULL: what was committed survives a loss of power.
                    // Secure delete: what is deleted is overwritten.
                    let pragmas = [
                        "PRAGMA journal_mode = WAL",
                        "PRAGMA synchronous = FULL",
                        "PRAGMA secure_delete = ON",
                    ];
                    for pragma in pragmas {
                        sqlx::query(pragma).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            });
        }
        let store = Self { pool: options.connect(&url).await?, kind };
        store.migrate().await?;
        Ok(store)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Opens a challenge for `peer` until `expires_at`, and forgets those whose time was over a minute before `now`. All times are
    /// in Unix seconds.
    ///
    /// # Errors
    /// [`StoreError::Full`] where `most` are open, or as many as the networks of this peer may have of them.
    pub async fn issue(
        &self,
        nonce: &Bytes<32>,
        expires_at: u64,
        now: u64,
        most: u32,
        peer: IpAddr,
    ) -> Result<(), StoreError> {
        let forgotten = signed(now.saturating_sub(60));
        sqlx::query("DELETE FROM challenges WHERE expires_at < $1")
            .bind(forgotten)
            .execute(&self.pool)
            .await?;
        let networks = Network::of(peer);
        let [widest, middle, narrowest] = networks.map(|(network, _)| network.to_string());
        let open = sqlx::query(
            "SELECT COUNT(*), COUNT(CASE WHEN widest = $2 THEN 1 END), COUNT(CASE WHEN middle = $3 THEN 1 END), \
             COUNT(CASE WHEN narrowest = $4 THEN 1 END) FROM challenges WHERE expires_at >= $1",
        )
        .bind(signed(now))
        .bind(&widest)
        .bind(&middle)
        .bind(&narrowest)
        .fetch_one(&self.pool)
        .await?;
        let share = (most / CHALLENGE_SHARES).max(1);
        let shares = networks.map(|(_, shares)| share.saturating_mul(shares));
        for (column, most) in [most].into_iter().chain(shares).enumerate() {
            if open.try_get::<i64, _>(column)? >= i64::from(most) {
                return Err(StoreError::Full);
            }
        }
        sqlx::query(
            "INSERT INTO challenges (nonce, expires_at, widest, middle, narrowest) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&nonce.0[..])
        .bind(signed(expires_at))
        .bind(&widest)
        .bind(&middle)
        .bind(&narrowest)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Uses a challenge up. Of all who ask, at whichever broker, one is told [`Consumed::Now`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn consume(&self, nonce: &Bytes<32>, now: u64) -> Result<Consumed, StoreError> {
        let mut taken = sqlx::query("DELETE FROM challenges WHERE nonce = $1 RETURNING expires_at")
            .bind(&nonce.0[..])
            .fetch_all(&self.pool)
            .await?;
        match taken.pop() {
            None => Ok(Consumed::Unknown),
            Some(row) if row.try_get::<i64, _>(0)? < signed(now) => Ok(Consumed::Expired),
            Some(_) => Ok(Consumed::Now),
        }
    }

    /// A value that is kept under a name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Keeps a value under a name that has none yet, and gives the one that it has then.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn keep_setting(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(value)
            .execute(&self.pool)
            .await?;
        self.setting(name).await?.ok_or(StoreError::Corrupt("a setting vanished"))
    }

    /// Writes an entry of the audit log with its records, and makes the change that it tells of; all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where a volume is not at the revision of the change any more; [`StoreError::Exists`].
    pub async fn append(
        &self,
        note: Note,
        records: &[Vec<u8>],
        change: &Change<'_>,
    ) -> Result<Entry, StoreError> {
        let mut transaction = self.begin().await?;
        change.make(&mut transaction).await?;
        let last = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&mut *transaction)
            .await?;
        let (seq, prev) = match last {
            Some(row) => (unsigned(row.try_get(0)?)?.saturating_add(1), bytes(&row, "hash")?),
            None => (0, FIRST),
        };
        let digests = records.iter().map(|record| crate::audit::record_digest(record)).collect();
        let entry = note.entry(seq, prev, digests);
        for (digest, record) in entry.records.iter().zip(records) {
            sqlx::query(
                "INSERT INTO records (digest, record) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
            )
            .bind(&digest.0[..])
            .bind(&record[..])
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query("INSERT INTO audit (seq, hash, entry) VALUES ($1, $2, $3)")
            .bind(signed(seq))
            .bind(&entry.hash().0[..])
            .bind(entry.encode())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        if change.forgets() {
            self.empty_log_of_changes().await;
        }
        Ok(entry)
    }

    /// SQLite writes a change to the file `-wal` and into the database later, where it overwrites what was deleted. This does it
    /// at once. PostgreSQL has no such call: `VACUUM` comes when it comes.
    async fn empty_log_of_changes(&self) {
        if self.kind == Kind::Postgres {
            return;
        }
        let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool).await;
        match done.and_then(|row| row.try_get::<i64, _>(0)) {
            Ok(0) => {}
            Ok(_) => tracing::warn!(
                "somebody reads the database: a secret that was deleted stays in its files meanwhile"
            ),
            Err(error) => {
                tracing::warn!(%error, "a secret that was deleted stays in the database's files for now")
            }
        }
    }

    /// At most 256 entries of the audit log from one on: position, stored hash and encoding of each.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn entries(&self, from: u64) -> Result<Vec<(u64, Digest, Vec<u8>)>, StoreError> {
        let rows = sqlx::query("SELECT seq, hash, entry FROM audit WHERE seq >= $1 ORDER BY seq LIMIT $2")
            .bind(signed(from))
            .bind(PAGE)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((unsigned(row.try_get(0)?)?, bytes(row, "hash")?, row.try_get(2)?)))
            .collect()
    }

    /// The record of an appraisal.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn record(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT record FROM records WHERE digest = $1")
            .bind(&digest.0[..])
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// A transaction that writes, after all others that do.
    async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        match self.kind {
            Kind::Sqlite => Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?),
            Kind::Postgres => {
                let mut transaction = self.pool.begin().await?;
                sqlx::query("LOCK TABLE audit IN EXCLUSIVE MODE").execute(&mut *transaction).await?;
                Ok(transaction)
            }
        }
    }
}

/// Whether `url` is the address of a database, by its text alone.
///
/// # Errors
/// [`StoreError::Address`].
pub(crate) fn check_address(url: &str) -> Result<(), StoreError> {
    place(url, kind(url)?).map(drop)
}

fn kind(url: &str) -> Result<Kind, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Ok(Kind::Sqlite),
        Some(("postgres" | "postgresql", _)) => Ok(Kind::Postgres),
        _ => Err(StoreError::Address),
    }
}

/// Where the database is, for a person: the whole path of the file, or the address without role, password and options.
fn place(url: &str, kind: Kind) -> Result<String, StoreError> {
    let (scheme, rest) = url.split_once(':').ok_or(StoreError::Address)?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let place = rest.split('?').next().unwrap_or_default();
    if kind == Kind::Postgres {
        let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
        return Ok(format!("{scheme}://{host}"));
    }
    if place.is_empty() || place.contains(['%', '#']) || place == ":memory:" {
        return Err(StoreError::Address);
    }
    // A relative path begins at the working folder: it shows in what is told.
    let whole = std::path::absolute(place).unwrap_or_else(|_| place.into());
    Ok(whole.display().to_string())
}

/// Makes the file of a new database, for its user alone: SQLite gives the files beside it the same permissions.
fn own(place: &str) -> Result<(), StoreError> {
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(place) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Unreachable { place: place.to_owned(), source: sqlx::Error::Io(error) })
        }
        _ => Ok(()),
    }
}

/// A time or a count for the database, whose numbers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt("a negative number"))
}

/// A column of exactly `N` bytes.
fn bytes<const N: usize>(row: &AnyRow, column: &str) -> Result<Bytes<N>, StoreError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    Bytes::try_from(bytes).map_err(|_| StoreError::Corrupt("bytes of another length"))
}

/// The same where there may be none.
fn some_bytes<const N: usize>(row: &AnyRow, column: &str) -> Result<Option<Bytes<N>>, StoreError> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    let short = |_| StoreError::Corrupt("bytes of another length");
    bytes.map(|bytes| Bytes::try_from(bytes).map_err(short)).transpose()
}
