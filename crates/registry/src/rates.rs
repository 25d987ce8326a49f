//! How often somebody may do something, each for itself.
//!
//! A token bucket a key, kept as the time when all that was done is paid for.
//! Whoever did nothing for a while is forgotten, so that the table stays
//! small; when even so it is full, nobody new may do anything until somebody
//! is forgotten.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one may do it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// In the long run.
    pub(crate) per_second: u32,
    /// At once after a pause.
    pub(crate) burst: u32,
    /// How many keys are remembered.
    pub(crate) keys_max: usize,
}

/// Who did how much, by `K`.
#[derive(Debug)]
pub(crate) struct Rates<K> {
    rate: Rate,
    /// When all that the key did is paid for.
    paid: Mutex<BTreeMap<K, Instant>>,
}

/// It was done too often.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooOften;

impl<K: Ord> Rates<K> {
    pub(crate) const fn new(rate: Rate) -> Self {
        let paid = Mutex::new(BTreeMap::new());
        Self { rate, paid }
    }

    /// Counts one time, or says that it is one too many.
    pub(crate) fn pay(&self, now: Instant, key: K) -> Result<(), TooOften> {
        let cost = Duration::from_secs(1) / self.rate.per_second;
        let mut all = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= self.rate.keys_max && !all.contains_key(&key) {
            all.retain(|_, paid| *paid > now);
            if all.len() >= self.rate.keys_max {
                return Err(TooOften);
            }
        }
        let paid = all.entry(key).or_insert(now);
        let next = (*paid).max(now) + cost;
        if next > now + cost * self.rate.burst {
            return Err(TooOften);
        }
        *paid = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
        keys_max: 2,
    };

    #[test]
    fn the_burst_passes_and_one_more_waits_for_its_part_of_a_second() {
        let (rates, start) = (Rates::new(RATE), Instant::now());
        for _ in 0..RATE.burst {
            assert_eq!(rates.pay(start, 1), Ok(()));
        }
        assert_eq!(rates.pay(start, 1), Err(TooOften));
        assert_eq!(rates.pay(start, 2), Ok(()), "each for itself");
        let later = start + Duration::from_millis(100);
        assert_eq!(rates.pay(later, 1), Ok(()));
        assert_eq!(rates.pay(later, 1), Err(TooOften));
    }

    #[test]
    fn a_full_table_takes_a_new_key_when_another_has_paid_for_all() {
        let (rates, start) = (Rates::new(RATE), Instant::now());
        for key in 0..RATE.keys_max {
            assert_eq!(rates.pay(start, key), Ok(()));
        }
        assert_eq!(rates.pay(start, 9), Err(TooOften));
        assert_eq!(rates.pay(start, 0), Ok(()), "whoever is known goes on");
        let later = start + Duration::from_millis(101);
        assert_eq!(rates.pay(later, 9), Ok(()));
    }
}
