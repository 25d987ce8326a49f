//! Cutting a text into parts that can be counted apart from each other.

/// Largest part, bytes. Chosen: with its JSON escapes, and with the counts of a part of
/// nothing but different words, it stays below the largest message (1 MiB).
pub(super) const PART_MAX_BYTES: usize = 64 * 1024;

/// Smallest part that is aimed at, bytes: below it a delegation costs more than it brings.
const PART_MIN_BYTES: usize = 512;

/// Parts that are aimed at for each worker, so that several are in flight at once.
const PARTS_A_WORKER: usize = 4;

/// What a text is cut into.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    /// The parts, in order; none has more than [`PART_MAX_BYTES`].
    pub(super) parts: Vec<&'a str>,
    /// Words that are longer than any part, and so cannot be delegated.
    pub(super) giants: Vec<&'a str>,
}

/// Cuts a text at white space, so that no word falls into two parts, into several parts
/// for each worker.
pub(super) fn cut(text: &str, workers: usize) -> Cut<'_> {
    let aim = text.len() / (workers * PARTS_A_WORKER).max(1);
    cut_at(
        text,
        aim.clamp(PART_MIN_BYTES, PART_MAX_BYTES),
        PART_MAX_BYTES,
    )
}

fn cut_at(text: &str, aim: usize, max: usize) -> Cut<'_> {
    let (mut parts, mut giants) = (Vec::new(), Vec::new());
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = end_of_part(rest, aim);
        let (part, behind) = rest.split_at(end);
        if part.len() > max {
            giants.push(part);
        } else {
            parts.push(part);
        }
        rest = behind.trim_start();
    }
    Cut { parts, giants }
}

/// Where the first part of a text ends: at the last white space within `aim` bytes, else
/// behind its first word. The text begins with a word.
fn end_of_part(text: &str, aim: usize) -> usize {
    if text.len() <= aim {
        return text.len();
    }
    let window = &text[..text.floor_char_boundary(aim)];
    window
        .rfind(char::is_whitespace)
        .or_else(|| text.find(char::is_whitespace))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use waymesh_node::skills::wordcount::{WordCount, count};

    fn counted(cut: &Cut<'_>) -> WordCount {
        let mut whole = WordCount::default();
        for part in cut.parts.iter().chain(&cut.giants) {
            whole.merge(count(part));
        }
        whole
    }

    #[test]
    fn no_word_falls_into_two_parts_and_none_is_lost() {
        let text = "zwei   wörter\u{2003}und äöü\n\nnoch\tmehr ".repeat(40);
        for aim in 1..60 {
            let cut = cut_at(&text, aim, 100);
            assert_eq!(counted(&cut), count(&text), "{aim}");
        }
    }

    #[test]
    fn a_word_longer_than_a_part_is_set_aside() {
        let giant = "ü".repeat(40);
        let text = format!("one {giant} two");
        let cut = cut_at(&text, 10, 20);
        assert_eq!(cut.parts, ["one", "two"]);
        assert_eq!(cut.giants, [giant.as_str()]);
    }

    #[test]
    fn a_text_without_words_has_no_parts() {
        assert!(cut("", 3).parts.is_empty());
        assert!(cut(" \n ", 3).parts.is_empty());
    }

    #[test]
    fn a_large_text_is_cut_into_parts_of_the_largest_size_and_not_more() {
        let text = "word ".repeat(1_000_000);
        let cut = cut(&text, 3);
        assert!(cut.parts.iter().all(|part| part.len() <= PART_MAX_BYTES));
        assert_eq!(cut.parts.len(), text.len().div_ceil(PART_MAX_BYTES));
    }

    #[test]
    fn every_worker_gets_several_parts_of_a_small_text() {
        let text = "word ".repeat(3_000);
        let parts = cut(&text, 3).parts.len();
        assert!((12..=15).contains(&parts), "{parts}");
    }
}
