//! The tables, version by version.

use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::{Kind, Store, StoreError};

/// The statements that bring a schema to the next version. `BYTES` stands for the type of either database.
const VERSIONS: &[&[&str]] = &[&[
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value BYTES NOT NULL)",
    // With the networks that asked for it, in words.
    "CREATE TABLE challenges (
        nonce BYTES PRIMARY KEY,
        expires_at BIGINT NOT NULL,
        widest TEXT NOT NULL,
        middle TEXT NOT NULL,
        narrowest TEXT NOT NULL)",
    "CREATE INDEX challenges_end ON challenges (expires_at)",
    "CREATE TABLE volumes (
        id TEXT PRIMARY KEY,
        profile TEXT NOT NULL,
        size BIGINT NOT NULL,
        verity_root BYTES,
        verity_salt BYTES,
        verity_blocks BIGINT,
        policy TEXT NOT NULL,
        revision BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        revoked_at BIGINT,
        format_token BYTES,
        format_digest BYTES)",
    "CREATE TABLE versions (
        volume TEXT NOT NULL REFERENCES volumes (id),
        generation BIGINT NOT NULL,
        state TEXT NOT NULL,
        header BYTES,
        secret BYTES,
        since BIGINT NOT NULL,
        PRIMARY KEY (volume, generation))",
    "CREATE TABLE records (digest BYTES PRIMARY KEY, record BYTES NOT NULL)",
    "CREATE TABLE audit (seq BIGINT PRIMARY KEY, hash BYTES NOT NULL, entry BYTES NOT NULL)",
]];

/// Any number of ours: brokers that start at the same time change the schema one after the other.
const LOCK: &str = "SELECT 1 FROM pg_advisory_xact_lock(4841370213642)";

/// Whether a broker has begun this database. Anything that is no database is an error.
pub(super) async fn is_begun(connection: &mut AnyConnection, kind: Kind) -> Result<bool, sqlx::Error> {
    let statement = match kind {
        Kind::Sqlite => "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'",
        // By the role's own search path, as every statement here.
        Kind::Postgres => "SELECT COUNT(to_regclass('schema_version'))",
    };
    let tables: i64 = sqlx::query(statement).fetch_one(connection).await?.try_get(0)?;
    Ok(tables > 0)
}

impl Store {
    /// Brings the tables to the newest version.
    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        let mut transaction = match self.kind {
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            Kind::Postgres => self.pool.begin().await?,
        };
        if self.kind == Kind::Postgres {
            sqlx::query(LOCK).fetch_one(&mut *transaction).await?;
        }
        sqlx::query("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query("SELECT version FROM schema_version").fetch_optional(&mut *transaction).await?;
        let found: i64 = match row {
            Some(row) => row.try_get(0)?,
            None => {
                sqlx::query("INSERT INTO schema_version (version) VALUES (0)")
                    .execute(&mut *transaction)
                    .await?;
                0
            }
        };
        let known = i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX);
        let done = usize::try_from(found).map_err(|_| StoreError::Corrupt("a negative version"))?;
        let Some(open) = VERSIONS.get(done..) else { return Err(StoreError::Newer { found, known }) };
        let bytes = if self.kind == Kind::Sqlite { "BLOB" } else { "BYTEA" };
        for version in open {
            for statement in *version {
                // Texts of ours alone, with one of two words put in.
                let statement = AssertSqlSafe(statement.replace("BYTES", bytes));
                sqlx::query(statement).execute(&mut *transaction).await?;
            }
        }
        sqlx::query("UPDATE schema_version SET version = $1").bind(known).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}
