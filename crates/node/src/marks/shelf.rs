//! The files of the marks: one a sender, each small and replaced whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use waymesh_core::app::Mark;
use waymesh_proto::class::Stream;
use waymesh_proto::ids::{AgentId, Incarnation};
use waymesh_proto::limits::{CLOCK_LEEWAY_MS, TTL_MAX_MS};
use waymesh_proto::seqset::SeqSet;

use crate::home::{HomeError, LEFTOVER, replace};

const FOLDER: &str = "marks";
const ENDING: &str = "json";

/// Senders whose marks are kept; the one that was marked longest ago makes
/// room. Chosen: some kilobytes each.
const SENDERS_MAX: usize = 4_096;

/// Lives of one sender whose marks are kept; the one that was marked longest
/// ago makes room. Chosen: a sender that restarts often loses only its own.
const LIVES_MAX: usize = 8;

/// How long marks matter after the last of a life: nothing that they mark can
/// be in a mailbox longer than a message lives.
const KEPT_MS: u64 = TTL_MAX_MS + CLOCK_LEEWAY_MS;

/// Number of a stream, its cumulative mark, the ranges above it.
type Consumed = (u8, u64, Vec<(u64, u64)>);

/// The marks of one life of a sender.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Life {
    /// When it was last marked, Unix time in milliseconds.
    marked_ms: u64,
    streams: Vec<Consumed>,
}

/// What a file holds.
type Lives = BTreeMap<u64, Life>;

/// All marks, in memory and in their files.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    senders: BTreeMap<AgentId, Lives>,
    /// Whose files differ from what is in memory.
    unwritten: BTreeSet<AgentId>,
}

impl Shelf {
    /// Reads the files and removes those that no longer matter.
    pub(super) fn open(dir: &Path, now_ms: u64) -> Result<Self, HomeError> {
        let folder = dir.join(FOLDER);
        let senders = read_all(&folder).map_err(|source| HomeError::Io {
            path: folder.clone(),
            source,
        })?;
        let mut shelf = Self {
            folder,
            senders,
            unwritten: BTreeSet::new(),
        };
        shelf.forget_old(now_ms);
        shelf.write()?;
        Ok(shelf)
    }

    pub(super) fn marks(&self) -> Vec<Mark> {
        let lives = self
            .senders
            .iter()
            .flat_map(|(from, lives)| lives.iter().map(move |(life, of)| (*from, *life, of)));
        lives
            .flat_map(|(from, life, of)| {
                of.streams.iter().filter_map(move |stream| {
                    Some(Mark {
                        from,
                        incarnation: Incarnation::new(life),
                        stream: Stream::from_number(stream.0)?,
                        consumed: set_of(stream.1, &stream.2),
                    })
                })
            })
            .collect()
    }

    /// Adds marks and writes what has changed; what could not be written is
    /// tried again the next time.
    pub(super) fn put(
        &mut self,
        marks: BTreeMap<(AgentId, Incarnation, Stream), SeqSet>,
        now_ms: u64,
    ) -> Result<(), HomeError> {
        for ((from, incarnation, stream), consumed) in marks {
            let lives = self.senders.entry(from).or_default();
            let life = lives.entry(incarnation.number()).or_default();
            life.marked_ms = now_ms;
            life.add(stream, consumed);
            if lives.len() > LIVES_MAX {
                remove_oldest(lives, |life| life.marked_ms);
            }
            self.unwritten.insert(from);
        }
        while self.senders.len() > SENDERS_MAX {
            let marked = |lives: &Lives| lives.values().map(|life| life.marked_ms).max();
            if let Some(sender) = remove_oldest(&mut self.senders, marked) {
                self.unwritten.insert(sender);
            }
        }
        self.write()
    }

    fn forget_old(&mut self, now_ms: u64) {
        for (sender, lives) in &mut self.senders {
            let before = lives.len();
            lives.retain(|_, life| life.marked_ms.saturating_add(KEPT_MS) > now_ms);
            if lives.len() < before {
                self.unwritten.insert(*sender);
            }
        }
        self.senders.retain(|_, lives| !lives.is_empty());
    }

    fn write(&mut self) -> Result<(), HomeError> {
        while let Some(sender) = self.unwritten.first().copied() {
            let path = self.folder.join(sender.to_string()).with_extension(ENDING);
            let written = match self.senders.get(&sender) {
                Some(lives) => write_one(&path, lives),
                None => remove(&path),
            };
            written.map_err(|source| HomeError::Io { path, source })?;
            self.unwritten.remove(&sender);
        }
        Ok(())
    }
}

impl Life {
    fn add(&mut self, stream: Stream, mut consumed: SeqSet) {
        let number = stream.number();
        if let Some(known) = self.streams.iter_mut().find(|of| of.0 == number) {
            consumed.merge(&set_of(known.1, &known.2));
            *known = (number, consumed.cumulative(), consumed.ranges().collect());
        } else {
            let ranges = consumed.ranges().collect();
            self.streams.push((number, consumed.cumulative(), ranges));
        }
    }
}

fn set_of(cumulative: u64, ranges: &[(u64, u64)]) -> SeqSet {
    let mut set = SeqSet::default();
    set.insert_up_to(cumulative);
    for (start, end) in ranges {
        set.insert_range(*start, *end);
    }
    set
}

fn remove_oldest<K: Ord + Copy, V, A: Ord>(
    map: &mut BTreeMap<K, V>,
    age: impl Fn(&V) -> A,
) -> Option<K> {
    let oldest = map.iter().min_by_key(|(_, value)| age(value));
    let key = oldest.map(|(key, _)| *key)?;
    map.remove(&key);
    Some(key)
}

fn read_all(folder: &Path) -> io::Result<BTreeMap<AgentId, Lives>> {
    let make = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    make?;
    let mut senders = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_mark = path.extension().is_some_and(|ending| ending == ENDING);
        let sender = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        let Some(sender) = sender else {
            continue;
        };
        if path.extension().is_some_and(|ending| ending == LEFTOVER) {
            remove(&path)?;
        }
        if !is_mark {
            continue;
        }
        match serde_json::from_slice(&fs::read(&path)?) {
            Ok(lives) => {
                senders.insert(sender, lives);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "marks are damaged: messages may be given again");
            }
        }
    }
    Ok(senders)
}

fn write_one(path: &Path, lives: &Lives) -> io::Result<()> {
    let json = serde_json::to_vec(lives)?;
    replace(path, &json)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn sender(n: usize) -> AgentId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        AgentId::from_bytes(bytes)
    }

    fn mark(n: usize, life: u64, up_to: u64) -> ((AgentId, Incarnation, Stream), SeqSet) {
        let mut consumed = SeqSet::default();
        consumed.insert_up_to(up_to);
        let key = (sender(n), Incarnation::new(life), Stream::Tasks);
        (key, consumed)
    }

    fn shelf(dir: &tempfile::TempDir, now_ms: u64) -> Shelf {
        Shelf::open(dir.path(), now_ms).expect("a shelf")
    }

    fn put(shelf: &mut Shelf, marks: Vec<((AgentId, Incarnation, Stream), SeqSet)>, now_ms: u64) {
        shelf
            .put(marks.into_iter().collect(), now_ms)
            .expect("room on the disk");
    }

    #[test]
    fn marks_of_a_stream_add_up_and_are_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut first = shelf(&dir, NOW_MS);
        put(&mut first, vec![mark(1, 5, 7)], NOW_MS);
        let (key, mut above) = mark(1, 5, 0);
        above.insert_range(9, 11);
        put(&mut first, vec![(key, above)], NOW_MS);
        let marks = shelf(&dir, NOW_MS).marks();
        let [mark] = marks.as_slice() else {
            panic!("{marks:?}")
        };
        assert_eq!(
            (mark.from, mark.incarnation),
            (sender(1), Incarnation::new(5))
        );
        assert_eq!(mark.consumed.cumulative(), 7);
        assert_eq!(mark.consumed.ranges().collect::<Vec<_>>(), [(9, 11)]);
    }

    #[test]
    fn marks_are_kept_as_long_as_a_message_may_live_and_no_longer() {
        let dir = tempfile::tempdir().expect("a directory");
        put(&mut shelf(&dir, NOW_MS), vec![mark(1, 5, 7)], NOW_MS);
        assert_eq!(shelf(&dir, NOW_MS + KEPT_MS - 1).marks().len(), 1);
        assert_eq!(shelf(&dir, NOW_MS + KEPT_MS).marks(), []);
        assert_eq!(
            fs::read_dir(dir.path().join(FOLDER))
                .expect("a folder")
                .count(),
            0
        );
    }

    #[test]
    fn as_many_lives_of_a_sender_as_the_limit_are_kept_and_one_more_costs_the_oldest() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut shelf = shelf(&dir, NOW_MS);
        for life in 0..LIVES_MAX as u64 {
            put(&mut shelf, vec![mark(1, life, 1)], NOW_MS + life);
        }
        put(&mut shelf, vec![mark(2, 0, 1)], NOW_MS);
        assert_eq!(shelf.marks().len(), LIVES_MAX + 1);
        put(&mut shelf, vec![mark(1, 99, 1)], NOW_MS + 99);
        let lives: Vec<_> = shelf.senders[&sender(1)].keys().copied().collect();
        assert_eq!(lives, (1..LIVES_MAX as u64).chain([99]).collect::<Vec<_>>());
    }

    #[test]
    fn as_many_senders_as_the_limit_are_kept_and_one_more_costs_the_oldest() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut all = shelf(&dir, NOW_MS);
        put(&mut all, vec![mark(0, 1, 1)], NOW_MS);
        put(
            &mut all,
            (1..SENDERS_MAX).map(|n| mark(n, 1, 1)).collect(),
            NOW_MS + 1,
        );
        assert_eq!(all.marks().len(), SENDERS_MAX);
        put(&mut all, vec![mark(SENDERS_MAX, 1, 1)], NOW_MS + 2);
        assert_eq!(all.marks().len(), SENDERS_MAX);
        assert!(!all.senders.contains_key(&sender(0)));
        assert_eq!(shelf(&dir, NOW_MS).marks().len(), SENDERS_MAX);
    }

    #[test]
    fn damaged_marks_of_one_sender_do_not_hold_up_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        put(
            &mut shelf(&dir, NOW_MS),
            vec![mark(1, 5, 7), mark(2, 5, 7)],
            NOW_MS,
        );
        let path = dir
            .path()
            .join(FOLDER)
            .join(sender(1).to_string())
            .with_extension(ENDING);
        fs::write(&path, b"{").expect("a file");
        // Nor does what a crash has left behind.
        let leftover = path.with_extension(LEFTOVER);
        fs::write(&leftover, b"{").expect("a file");
        let marks = shelf(&dir, NOW_MS).marks();
        assert_eq!(
            marks.iter().map(|mark| mark.from).collect::<Vec<_>>(),
            [sender(2)]
        );
        assert!(!leftover.exists());
    }

    #[test]
    fn what_could_not_be_written_is_written_the_next_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut shelf = shelf(&dir, NOW_MS);
        let folder = shelf.folder.clone();
        fs::remove_dir(&folder).expect("an empty folder");
        assert!(shelf.put([mark(1, 5, 7)].into(), NOW_MS).is_err());
        fs::create_dir(&folder).expect("the folder again");
        put(&mut shelf, vec![], NOW_MS);
        assert_eq!(self::shelf(&dir, NOW_MS).marks().len(), 1);
    }
}
