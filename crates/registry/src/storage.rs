//! The database: everything that the rules remember over restarts, and the
//! bytes of the items in the mailboxes.

mod load;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use waymesh_core::registry::{ItemSeq, Stored, Write};
use waymesh_proto::mailbox::Item;

use crate::clock::Clock;

/// How large the write-ahead log may stay after a burst, bytes. Chosen: as
/// much as may wait to be written.
const JOURNAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// SQLite refused; the disk, the file or its owner is at fault.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A newer program has written it. Use that, or its backup.
    #[error(
        "the database has schema {found}, newer than {known}, which this program knows",
        known = schema::VERSION
    )]
    Newer {
        /// Its version.
        found: u32,
    },
    /// A row does not hold what this program writes.
    #[error("the database holds a damaged {0}")]
    Damaged(&'static str),
}

/// An open database. What a method has written is durable when it returns: WAL
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
        db.pragma_update(None, "journal_size_limit", JOURNAL_KEPT_BYTES)?;
        schema::migrate(&mut db)?;
        Ok(Self { db })
    }

    /// Everything that the rules remember.
    pub(crate) fn load(&self, clock: Clock) -> Result<Stored, StorageError> {
        load::load(&self.db, clock)
    }

    /// Carries out all writes or none.
    pub(crate) fn write<'a>(
        &mut self,
        writes: impl IntoIterator<Item = &'a Write>,
        clock: Clock,
    ) -> Result<(), StorageError> {
        let transaction = self.db.transaction()?;
        for write in writes {
            write::write(&transaction, write, clock)?;
        }
        Ok(transaction.commit()?)
    }

    /// The bytes of an item; `None` when it is not there.
    pub(crate) fn item(&self, seq: ItemSeq) -> Result<Option<Item>, StorageError> {
        let read = "SELECT header, sealed FROM items WHERE seq = ?1";
        let mut statement = self.db.prepare_cached(read)?;
        let item = statement.query_row(params![seq.0.cast_signed()], |row| {
            let (header, sealed) = (row.get(0)?, row.get(1)?);
            Ok(Item { header, sealed })
        });
        Ok(item.optional()?)
    }

    /// From now on the marks of what was pushed may be behind, until
    /// [`Storage::end_run`]: after a crash everything counts as pushed.
    pub(crate) fn begin_run(&self) -> Result<(), StorageError> {
        self.db
            .execute("DELETE FROM meta WHERE key = 'ended'", [])?;
        Ok(())
    }

    /// Everything that was to be written is.
    pub(crate) fn end_run(&self) -> Result<(), StorageError> {
        let insert = "INSERT OR REPLACE INTO meta (key, value) VALUES ('ended', x'01')";
        self.db.execute(insert, [])?;
        Ok(())
    }

    /// Leaves room for so many more pages only, as a full disk does.
    #[cfg(test)]
    pub(crate) fn fill(&self, pages_left: u32) {
        let pages: u32 = self
            .db
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .expect("a count");
        self.db
            .pragma_update(None, "max_page_count", pages + pages_left)
            .expect("a limit");
    }
}
