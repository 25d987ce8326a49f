//! The tables, version by version.

use rusqlite::Connection;

use super::StorageError;

/// The schema's version after all migrations, in SQLite's `user_version`.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Each brings the schema one version further; none is ever changed.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT;
    CREATE TABLE agents (
        name        TEXT PRIMARY KEY,
        agent_id    BLOB NOT NULL,
        incarnation INTEGER NOT NULL,
        skills      TEXT NOT NULL
    ) STRICT;
",
    // Names that were bound without a certificate prove nothing, and the mesh
    // was a random number.
    "
    DROP TABLE agents;
    DELETE FROM meta;
    CREATE TABLE agents (
        name        TEXT PRIMARY KEY,
        agent_id    BLOB NOT NULL,
        incarnation INTEGER NOT NULL,
        keys        BLOB NOT NULL,
        roles       TEXT NOT NULL,
        invite      BLOB,
        certificate TEXT NOT NULL,
        sealing     TEXT NOT NULL,
        skills      TEXT NOT NULL,
        rules       TEXT NOT NULL
    ) STRICT;
    CREATE TABLE admissions (
        invite   BLOB NOT NULL,
        agent_id BLOB NOT NULL,
        PRIMARY KEY (invite, agent_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE revocations (
        position   INTEGER PRIMARY KEY,
        agent_id   BLOB UNIQUE,
        invite     BLOB UNIQUE,
        revocation TEXT NOT NULL
    ) STRICT;
    CREATE TABLE joins (
        request      TEXT PRIMARY KEY,
        name         TEXT NOT NULL,
        agent_id     BLOB NOT NULL,
        join_request TEXT NOT NULL,
        address      TEXT NOT NULL,
        invite       BLOB,
        delegation   TEXT,
        asked_ms     INTEGER NOT NULL,
        decision     INTEGER NOT NULL,
        certificate  TEXT,
        reason       TEXT
    ) STRICT;
    CREATE TABLE codes (
        code    INTEGER PRIMARY KEY,
        ends_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE items (
        seq       INTEGER PRIMARY KEY,
        stored_ms INTEGER NOT NULL,
        pushed    INTEGER NOT NULL,
        header    BLOB NOT NULL,
        sealed    BLOB NOT NULL
    ) STRICT;
",
];

pub(super) fn migrate(db: &mut Connection) -> Result<(), StorageError> {
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        return Err(StorageError::Newer { found });
    }
    for (version, sql) in (1u32..).zip(MIGRATIONS).skip(found as usize) {
        let transaction = db.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
