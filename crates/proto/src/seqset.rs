//! A set of sequence numbers: everything up to a cumulative mark, and ranges above it.
//!
//! Invariants: ranges are not empty, do not touch each other and lie above
//! `cumulative + 1`. Memory grows with the number of holes, never with the
//! number of members.

use std::collections::BTreeMap;

/// Sequence numbers that have been seen; they start at 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeqSet {
    cumulative: u64,
    ranges: BTreeMap<u64, u64>,
}

impl SeqSet {
    /// The highest number up to which every number is a member; 0 for none.
    pub const fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// The ranges above the cumulative mark, inclusive, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }

    /// How many holes there are below the highest member.
    pub fn holes(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the number is a member.
    pub fn contains(&self, seq: u64) -> bool {
        seq <= self.cumulative
            || self
                .ranges
                .range(..=seq)
                .next_back()
                .is_some_and(|(_, end)| *end >= seq)
    }

    /// Adds one number; false if it was a member already.
    pub fn insert(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        self.insert_range(seq, seq);
        true
    }

    /// Adds every number up to and including `seq`.
    pub fn insert_up_to(&mut self, seq: u64) {
        if seq > self.cumulative {
            self.insert_range(self.cumulative + 1, seq);
        }
    }

    /// Adds every number from `start` to `end`, inclusive. An empty range adds nothing.
    pub fn insert_range(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start.max(self.cumulative + 1), end);
        if start > end {
            return;
        }
        while let Some((s, e)) = self.touching(start, end) {
            self.ranges.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        if start == self.cumulative + 1 {
            self.cumulative = end;
        } else {
            self.ranges.insert(start, end);
        }
    }

    fn touching(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (s, e) = self.ranges.range(..=end.saturating_add(1)).next_back()?;
        (*e >= start.saturating_sub(1)).then_some((*s, *e))
    }

    /// Adds every member of another set.
    pub fn merge(&mut self, other: &Self) {
        self.insert_up_to(other.cumulative);
        for (start, end) in other.ranges() {
            self.insert_range(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_holds_exactly_what_was_inserted(inserts in prop::collection::vec((1u64..60, 0u64..6), 0..60)) {
            let mut set = SeqSet::default();
            let mut model = BTreeSet::new();
            for (start, more) in inserts {
                set.insert_range(start, start + more);
                model.extend(start..=start + more);
            }
            for seq in 1..80 {
                prop_assert_eq!(set.contains(seq), model.contains(&seq));
            }
            let mut previous = set.cumulative();
            prop_assert!(!set.contains(previous + 1));
            for (start, end) in set.ranges() {
                prop_assert!(start > previous + 1 && end >= start);
                previous = end;
            }
        }
    }
}
