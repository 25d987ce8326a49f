//! A value that outlives the process, written down without holding anybody up.
//!
//! A task writes the newest value whenever it has changed; changes that come
//! while it writes are written together. It is for what may be lost with a
//! crash of the last moment: names that were learnt, keys that were seen.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::home::{Home, HomeError};

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

    /// Waits until everything is written.
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
        let value = changes.borrow_and_update().clone();
        let home = Arc::clone(&home);
        let written = tokio::task::spawn_blocking(move || home.store(file, &value)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "what was learnt could not be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
