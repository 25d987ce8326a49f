//! Counting words: what the built-in skill `wordcount` does, and what anybody can do
//! at home to check it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Largest JSON text of [`WordCount::counts`] in a reply, bytes: with the rest of the
/// reply it stays below the largest message (1 MiB).
const COUNTS_MAX_BYTES: usize = 960 * 1024;

/// How many words a text has, and how often each.
///
/// Words are what Unicode white space separates. Counted together are words that differ
/// only in case or in the punctuation around them: `The`, `the,` and `"the"` are all
/// `the`. A word of nothing but punctuation is counted as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordCount {
    /// All words.
    pub words: u64,
    /// How often each word occurs.
    pub counts: BTreeMap<String, u64>,
    /// How many of the rarest words were left out of `counts` to keep a reply small.
    #[serde(default)]
    pub omitted: u64,
}

/// Counts the words of a text.
pub fn count(text: &str) -> WordCount {
    let mut result = WordCount::default();
    for word in text.split_whitespace() {
        result.words += 1;
        *result.counts.entry(folded(word)).or_default() += 1;
    }
    result
}

/// A word as it is counted: in lower case, without punctuation around it.
fn folded(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    let bare = if bare.is_empty() { word } else { bare };
    bare.to_lowercase()
}

impl WordCount {
    /// Adds the counts of another part of the same text.
    pub fn merge(&mut self, other: Self) {
        self.words += other.words;
        self.omitted += other.omitted;
        for (word, times) in other.counts {
            *self.counts.entry(word).or_default() += times;
        }
    }

    /// The most frequent words, the most frequent first and equals by alphabet.
    pub fn top(&self, how_many: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.counts.iter().map(|(w, n)| (w.as_str(), *n)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(how_many);
        all
    }

    /// Leaves out the rarest words, as many as needed for the counts to fit one reply.
    #[must_use]
    pub fn fitting_a_message(self) -> Self {
        self.fitting(COUNTS_MAX_BYTES)
    }

    fn fitting(mut self, max_bytes: usize) -> Self {
        let mut room = max_bytes;
        let mut kept = BTreeMap::new();
        for (word, times) in self.top(self.counts.len()) {
            let Some(left) = room.checked_sub(json_len(word, times)) else {
                break;
            };
            room = left;
            kept.insert(word.to_owned(), times);
        }
        self.omitted += (self.counts.len() - kept.len()) as u64;
        self.counts = kept;
        self
    }
}

/// At most how long `"word":times,` is in JSON: quotes, colon and comma are 4 bytes, a
/// number at most 20 digits, and a control character is escaped in 6 bytes.
fn json_len(word: &str, times: u64) -> usize {
    let text: usize = word
        .chars()
        .map(|c| match c {
            '"' | '\\' => 2,
            c if c.is_control() => 6,
            c => c.len_utf8(),
        })
        .sum();
    let digits = times.checked_ilog10().unwrap_or(0) as usize + 1;
    text + digits + 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unicode_white_space_separates_words() {
        assert_eq!(count("").words, 0);
        assert_eq!(count(" \t\n\u{3000}").words, 0);
        assert_eq!(count("eins\u{00a0}zwei\u{2003}drei\u{0085}vier").words, 4);
        assert_eq!(
            count("a\u{200b}b").words,
            1,
            "a zero-width space is no white space"
        );
    }

    #[test]
    fn words_are_counted_without_case_and_punctuation() {
        let counted = count("The \"the\", THE! -- Über über.");
        assert_eq!(counted.top(2), [("the", 3), ("über", 2)]);
        assert_eq!(counted.counts.get("--"), Some(&1));
    }

    #[test]
    fn of_too_many_words_the_rarest_are_left_out_and_said_so() {
        let counted = count("a a a b b c").fitting(json_len("a", 3) + json_len("b", 2));
        assert_eq!(counted.words, 6);
        assert_eq!(counted.top(9), [("a", 3), ("b", 2)]);
        assert_eq!(counted.omitted, 1);
    }

    proptest! {
        #[test]
        fn the_counts_of_parts_add_up_to_the_count_of_the_whole(
            parts in proptest::collection::vec("\\PC*", 0..6)
        ) {
            let whole = count(&parts.join(" "));
            let mut merged = WordCount::default();
            for part in &parts {
                merged.merge(count(part));
            }
            prop_assert_eq!(&merged, &whole);
            prop_assert_eq!(whole.counts.values().sum::<u64>(), whole.words);
        }

        #[test]
        fn counts_that_fit_are_no_longer_than_allowed(text: String, max in 0_usize..200) {
            let fitted = count(&text).fitting(max);
            let json = serde_json::to_string(&fitted.counts).expect("JSON");
            prop_assert!(json.len() <= max + 2);
        }
    }
}
