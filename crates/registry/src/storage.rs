//! The database: the mesh id and the agents that have taken a name.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use waymesh_core::registry::StoredAgent;
use waymesh_proto::{AgentId, Incarnation, MeshId};

/// The schema's version after all migrations, in SQLite's `user_version`.
const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Each brings the schema one version further; none is ever changed.
const MIGRATIONS: &[&str] = &["
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
"];

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// SQLite refused; the disk, the file or its owner is at fault.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer program has written it. Use that, or its backup.
    #[error(
        "the database has schema {found}, newer than {SCHEMA_VERSION}, which this program knows"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// A row does not hold what this program writes.
    #[error("the database holds a damaged {0}")]
    Damaged(&'static str),
}

/// An open database. What a method has stored is durable when it returns: WAL
/// with `synchronous=FULL`.
#[derive(Debug)]
pub(crate) struct Storage {
    db: Connection,
}

impl Storage {
    /// Opens the file, makes it if needed, and brings its schema up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let mut db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        migrate(&mut db)?;
        Ok(Self { db })
    }

    /// The mesh that this registry serves: `fresh` at the first start, the same ever after.
    pub(crate) fn mesh(&self, fresh: MeshId) -> Result<MeshId, StorageError> {
        let insert = "INSERT OR IGNORE INTO meta (key, value) VALUES ('mesh', ?1)";
        self.db.execute(insert, params![fresh.as_bytes()])?;
        let read = "SELECT value FROM meta WHERE key = 'mesh'";
        let bytes: Option<Vec<u8>> = self.db.query_row(read, [], |row| row.get(0)).optional()?;
        bytes
            .and_then(|b| b.try_into().ok())
            .map(MeshId::from_bytes)
            .ok_or(StorageError::Damaged("mesh id"))
    }

    /// Every agent that has ever taken a name.
    pub(crate) fn agents(&self) -> Result<Vec<StoredAgent>, StorageError> {
        let read = "SELECT name, agent_id, incarnation, skills FROM agents ORDER BY name";
        let mut statement = self.db.prepare(read)?;
        let rows = statement.query_map([], |row| {
            Ok(Row {
                name: row.get(0)?,
                agent_id: row.get(1)?,
                incarnation: row.get(2)?,
                skills: row.get(3)?,
            })
        })?;
        rows.map(|row| row?.agent()).collect()
    }

    /// Stores agents, all or none. A name never changes its agent here.
    pub(crate) fn store(&mut self, agents: &[StoredAgent]) -> Result<(), StorageError> {
        let upsert = "INSERT INTO agents (name, agent_id, incarnation, skills)
            VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (name) DO UPDATE SET
                incarnation = excluded.incarnation, skills = excluded.skills
            WHERE agent_id = excluded.agent_id";
        let transaction = self.db.transaction()?;
        {
            let mut statement = transaction.prepare_cached(upsert)?;
            for agent in agents {
                let skills = serde_json::to_string(&agent.skills)
                    .map_err(|_| StorageError::Damaged("skill"))?;
                let changed = statement.execute(params![
                    agent.name.as_str(),
                    agent.agent_id.as_bytes(),
                    agent.incarnation.number().cast_signed(),
                    skills
                ])?;
                if changed == 0 {
                    return Err(StorageError::Damaged("binding of a name"));
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

struct Row {
    name: String,
    agent_id: Vec<u8>,
    incarnation: i64,
    skills: String,
}

impl Row {
    fn agent(self) -> Result<StoredAgent, StorageError> {
        let damaged = || StorageError::Damaged("agent");
        let id = self.agent_id.try_into().map_err(|_| damaged())?;
        Ok(StoredAgent {
            name: self.name.parse().map_err(|_| damaged())?,
            agent_id: AgentId::from_bytes(id),
            incarnation: Incarnation::new(self.incarnation.cast_unsigned()),
            skills: serde_json::from_str(&self.skills).map_err(|_| damaged())?,
        })
    }
}

fn migrate(db: &mut Connection) -> Result<(), StorageError> {
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > SCHEMA_VERSION {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, key: u8, incarnation: u64) -> StoredAgent {
        StoredAgent {
            name: name.parse().expect("a name"),
            agent_id: AgentId::from_bytes([key; 32]),
            incarnation: Incarnation::new(incarnation),
            skills: Vec::new(),
        }
    }

    fn open(dir: &tempfile::TempDir) -> Result<Storage, StorageError> {
        Storage::open(&dir.path().join("db"))
    }

    #[test]
    fn agents_and_mesh_are_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let fresh = MeshId::from_bytes([1; 16]);
        let agents = vec![agent("a", 1, u64::MAX), agent("b", 2, 3)];
        let mut first = open(&dir).expect("a database");
        assert_eq!(first.mesh(fresh).expect("a mesh"), fresh);
        first.store(&agents).expect("a store");
        drop(first);
        let second = open(&dir).expect("a database");
        let other = MeshId::from_bytes([2; 16]);
        assert_eq!(second.mesh(other).expect("a mesh"), fresh);
        assert_eq!(second.agents().expect("agents"), agents);
    }

    #[test]
    fn the_binding_of_a_name_cannot_be_overwritten_and_nothing_of_the_batch_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut storage = open(&dir).expect("a database");
        storage.store(&[agent("a", 1, 1)]).expect("a store");
        assert!(
            storage
                .store(&[agent("b", 2, 1), agent("a", 2, 9)])
                .is_err()
        );
        assert_eq!(storage.agents().expect("agents"), [agent("a", 1, 1)]);
    }

    #[test]
    fn a_database_of_a_newer_program_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let storage = open(&dir).expect("a database");
        storage
            .db
            .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
            .expect("a version");
        drop(storage);
        assert!(matches!(open(&dir), Err(StorageError::Newer { .. })));
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("db"), [7; 4096]).expect("a write");
        assert!(matches!(open(&dir), Err(StorageError::Sqlite(_))));
    }
}
