//! Marks as the session sees them: added now, written soon.

use super::*;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn mark(life: u64, up_to: u64) -> Mark {
    let mut consumed = SeqSet::default();
    consumed.insert_up_to(up_to);
    Mark {
        from: AgentId::from_bytes([1; 32]),
        incarnation: Incarnation::new(life),
        stream: Stream::Control,
        consumed,
    }
}

async fn written(book: &MarkBook, ticket: Ticket) {
    let mut written = book.written();
    let reached = written.wait_for(|reached| *reached >= ticket);
    let reached = tokio::time::timeout(PATIENCE, reached)
        .await
        .expect("in time");
    reached.expect("the task lives");
}

#[tokio::test]
async fn a_mark_is_in_its_file_when_its_ticket_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::open(dir.path()).expect("a home");
    let book = MarkBook::open(&home).expect("marks");
    let ticket = book.add(mark(1, 1));
    assert!(book.add(mark(2, 5)) > ticket);
    written(&book, ticket).await;
    // As if the process had died here.
    let marks = Shelf::open(dir.path(), unix_ms()).expect("a shelf").marks();
    assert!(marks.contains(&mark(1, 1)));
    let last = book.add(mark(1, 2));
    let reached = book.written();
    book.close().await;
    assert!(*reached.borrow() >= last);
    let again = MarkBook::open(&home).expect("marks");
    assert_eq!(again.known(), [mark(1, 2), mark(2, 5)]);
    again.close().await;
}

#[tokio::test]
async fn a_mark_that_cannot_be_written_is_not_called_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::open(dir.path()).expect("a home");
    let book = MarkBook::open(&home).expect("marks");
    std::fs::remove_dir(dir.path().join("marks")).expect("an empty folder");
    let ticket = book.add(mark(1, 1));
    let reached = book.written();
    book.close().await;
    assert!(*reached.borrow() < ticket);
}

#[tokio::test]
async fn a_mark_is_written_when_that_is_possible_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::open(dir.path()).expect("a home");
    let book = MarkBook::open(&home).expect("marks");
    let folder = dir.path().join("marks");
    std::fs::remove_dir(&folder).expect("an empty folder");
    let ticket = book.add(mark(1, 1));
    std::fs::create_dir(&folder).expect("the folder again");
    written(&book, ticket).await;
    book.close().await;
}
