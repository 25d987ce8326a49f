//! Searches files and the memory of a process for texts, in every form that a program could
//! keep them in: as they are, in hex, in base64 wherever they stand in what is encoded.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use memchr::memmem::Finder;

/// Bytes of memory that are read at once. Chosen.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// A text in one form.
#[derive(Debug)]
struct Form {
    form: &'static str,
    finder: Finder<'static>,
}

/// A text to be searched for, in all its forms.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) what: &'static str,
    forms: Vec<Form>,
    longest: usize,
}

impl Wanted {
    pub(super) fn new(what: &'static str, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut forms = vec![
            ("plain", bytes.to_vec()),
            ("hex", HEXLOWER.encode(bytes).into_bytes()),
            ("HEX", HEXUPPER.encode(bytes).into_bytes()),
        ];
        for shift in 0..3 {
            for encoding in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
                forms.push((
                    "base64",
                    inner(&encoding.encode(&shifted(bytes, shift)), shift),
                ));
            }
        }
        let longest = forms
            .iter()
            .map(|(_, bytes)| bytes.len())
            .max()
            .unwrap_or(0);
        let forms = forms.into_iter().map(|(form, bytes)| Form {
            form,
            finder: Finder::new(&bytes).into_owned(),
        });
        Self {
            what,
            forms: forms.collect(),
            longest,
        }
    }

    /// The form that is in these bytes, if any.
    fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        let found = self
            .forms
            .iter()
            .find(|form| form.finder.find(bytes).is_some());
        found.map(|form| form.form)
    }
}

/// The text behind so many other bytes.
fn shifted(text: &[u8], shift: usize) -> Vec<u8> {
    [&vec![0; shift], text].concat()
}

/// What of the base64 of a shifted text depends on nothing else: without the first and the
/// last digits, in which other bytes may have a part.
fn inner(encoded: &str, shift: usize) -> Vec<u8> {
    let first = if shift == 0 { 0 } else { shift + 1 };
    encoded.as_bytes()[first..encoded.len() - 1].to_vec()
}

/// Something wanted that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) what: &'static str,
    pub(super) form: &'static str,
    pub(super) place: String,
}

/// What a search went through, and what it found there.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) bytes: u64,
    pub(super) found: Vec<Found>,
}

impl Search {
    /// Whether something was found.
    pub(super) fn has(&self, what: &str) -> bool {
        self.found.iter().any(|found| found.what == what)
    }

    fn look(&mut self, wanted: &[Wanted], bytes: &[u8], place: &str) {
        for wanted in wanted {
            if let Some(form) = wanted.find(bytes) {
                self.found.push(Found {
                    what: wanted.what,
                    form,
                    place: place.to_owned(),
                });
            }
        }
    }

    /// Searches every file below a folder.
    pub(super) fn files(&mut self, folder: &Path, wanted: &[Wanted]) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                self.files(&path, wanted)?;
            } else if kind.is_file() {
                let bytes = fs::read(&path)?;
                self.bytes += bytes.len() as u64;
                self.look(wanted, &bytes, &path.display().to_string());
            }
        }
        Ok(())
    }

    /// Searches all memory of a process that can be read. It goes on running.
    ///
    /// # Errors
    ///
    /// When this process may not read that one's memory.
    pub(super) fn memory(&mut self, pid: u32, wanted: &[Wanted]) -> Result<()> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("reading its maps")?;
        let memory = File::open(format!("/proc/{pid}/mem")).context("opening its memory")?;
        let overlap = wanted
            .iter()
            .map(|wanted| wanted.longest)
            .max()
            .unwrap_or(0);
        let mut piece = vec![0; PIECE_BYTES];
        for (region, mut from, to) in maps.lines().filter_map(region) {
            while from < to {
                let size = usize::try_from(to - from).map_or(PIECE_BYTES, |s| s.min(PIECE_BYTES));
                // A region may have gone since, and some can never be read.
                let Ok(read) = memory.read_at(&mut piece[..size], from) else {
                    break;
                };
                self.bytes += read as u64;
                self.look(wanted, &piece[..read], region);
                if read == 0 || read as u64 >= to - from {
                    break;
                }
                from += read.saturating_sub(overlap).max(1) as u64;
            }
        }
        Ok(())
    }
}

/// A line of `maps` (proc(5)) as the region's description, its begin and its end.
fn region(line: &str) -> Option<(&str, u64, u64)> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let is_readable = words.next()?.starts_with('r');
    let begin = u64::from_str_radix(from, 16).ok()?;
    let end = u64::from_str_radix(to, 16).ok()?;
    is_readable.then_some((line, begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "correct-horse-battery-staple";

    #[test]
    fn a_text_is_found_in_every_form_wherever_it_stands() {
        let wanted = Wanted::new("secret", SECRET);
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{SECRET}!?");
            let bytes = text.as_bytes();
            let forms = [
                text.clone(),
                HEXLOWER.encode(bytes),
                HEXUPPER.encode(bytes),
                BASE64_NOPAD.encode(bytes),
                BASE64URL_NOPAD.encode(bytes),
            ];
            for form in forms {
                assert!(wanted.find(form.as_bytes()).is_some(), "{form}");
            }
        }
        assert_eq!(wanted.find(b"correct-horse-battery"), None);
    }

    #[test]
    fn a_text_in_the_memory_of_a_process_is_found() {
        let planted = format!("{SECRET}-{}", std::process::id());
        let mut search = Search::default();
        let wanted = [Wanted::new("planted", &planted)];
        let read = search.memory(std::process::id(), &wanted);
        read.expect("a process may read its own memory");
        assert!(search.has("planted"));
    }
}
