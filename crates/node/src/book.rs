//! A value that outlives the process, written down without holding anybody up.
//!
//! A task writes the newest value whenever it has changed; changes that come
//! while it writes are written together, and what could not be written is
//! tried again. It is for what may be lost with a
//! crash of the last moment: names that were learnt, keys that were seen.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::home::{Home, HomeError, RETRY_PAUSE};

/// A value and a task that keeps it in a file of the home.
#[derive(Debug)]
pub(crate) struct Book<T> {
    value: watch::Sender<T>,
    writer: JoinHandle<()>,
}

impl<T> Book<T>
where
    T: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Reads what earlier lives wrote.
    ///
    /// # Errors
    ///
    /// [`HomeError`].
    pub(crate) fn open(home: Arc<Home>, file: &'static str) -> Result<Self, HomeError> {
        let (value, changes) = watch::channel(home.load(file)?.unwrap_or_default());
        #[expect(
            clippy::disallowed_methods,
            reason = "Book keeps the handle and awaits it in close"
        )]
        let writer = tokio::spawn(write(home, file, changes));
        Ok(Self { value, writer })
    }

    /// Looks at the value. Changing the book in `look` would never end.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.borrow())
    }

    /// Changes the value; `change` says whether there is something to write.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        self.value.send_if_modified(change);
    }

    /// Waits until everything is written that can be.
    pub(crate) async fn close(self) {
        drop(self.value);
        let _ = self.writer.await;
    }
}

async fn write<T>(home: Arc<Home>, file: &'static str, mut changes: watch::Receiver<T>)
where
    T: Clone + Serialize + Send + Sync + 'static,
{
    while changes.changed().await.is_ok() {
        while let Err(error) = write_newest(&home, file, &mut changes).await {
            tracing::error!(%error, "what was learnt cannot be written");
            if changes.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

async fn write_newest<T>(
    home: &Arc<Home>,
    file: &'static str,
    changes: &mut watch::Receiver<T>,
) -> Result<(), HomeError>
where
    T: Clone + Serialize + Send + Sync + 'static,
{
    let (home, value) = (Arc::clone(home), changes.borrow_and_update().clone());
    match tokio::task::spawn_blocking(move || home.store(file, &value)).await {
        Ok(written) => written,
        Err(error) => {
            tracing::error!(%error, "what was learnt was not written");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A test that waits longer than this has failed.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn what_was_changed_is_there_in_the_next_life() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        let book: Book<Vec<u32>> = Book::open(Arc::clone(&home), "numbers.json").expect("a book");
        for number in 1..=3 {
            book.change(|numbers| {
                numbers.push(number);
                true
            });
        }
        book.close().await;
        let book: Book<Vec<u32>> = Book::open(home, "numbers.json").expect("the book again");
        assert_eq!(book.read(Clone::clone), [1, 2, 3]);
        book.close().await;
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_when_that_is_possible_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        let book: Book<Vec<u32>> = Book::open(Arc::clone(&home), "numbers.json").expect("a book");
        // A folder where the new file would be written.
        let in_the_way = dir.path().join("numbers.new");
        std::fs::create_dir(&in_the_way).expect("a folder");
        book.change(|numbers| {
            numbers.push(1);
            true
        });
        tokio::task::yield_now().await;
        std::fs::remove_dir(&in_the_way).expect("an empty folder");
        let written = async {
            while home
                .load::<Vec<u32>>("numbers.json")
                .expect("a home")
                .is_none()
            {
                tokio::task::yield_now().await;
            }
        };
        let written = tokio::time::timeout(PATIENCE, written).await;
        written.expect("it is tried again");
        book.close().await;
    }

    #[tokio::test]
    async fn a_book_that_cannot_be_written_is_closed_all_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Arc::new(Home::open(dir.path()).expect("a home"));
        let book: Book<Vec<u32>> = Book::open(home, "numbers.json").expect("a book");
        std::fs::create_dir(dir.path().join("numbers.new")).expect("a folder");
        book.change(|numbers| {
            numbers.push(1);
            true
        });
        let closed = tokio::time::timeout(PATIENCE, book.close()).await;
        closed.expect("it gives up");
    }
}
