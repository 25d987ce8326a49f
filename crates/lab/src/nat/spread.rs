//! The median and the worst of some times, and what they are held against.

use std::fmt;
use std::time::Duration;

/// Both; `None` when there are no times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    /// The one in the middle; of an even number, the mean of the two in the middle.
    pub(crate) p50: Option<Duration>,
    pub(crate) max: Option<Duration>,
}

/// What times are to be, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The median.
    Median(Duration),
    /// Every one.
    Each(Duration),
}

impl Spread {
    pub(crate) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.collect();
        times.sort();
        let upper = times.get(times.len() / 2).copied();
        let p50 = match (upper, times.len() % 2) {
            (Some(upper), 0) => Some((times[times.len() / 2 - 1] + upper) / 2),
            _ => upper,
        };
        Self {
            p50,
            max: times.last().copied(),
        }
    }

    /// The goal, and whether it is met; nothing where there are no times.
    pub(crate) fn beside(self, goal: Goal) -> String {
        let (of, limit, time) = match goal {
            Goal::Median(limit) => ("p50", limit, self.p50),
            Goal::Each(limit) => ("max", limit, self.max),
        };
        let Some(time) = time else {
            return String::new();
        };
        let met = if time <= limit { "met" } else { "MISSED" };
        format!(" (goal: {of} {:.0} ms, {met})", ms(limit))
    }
}

impl Goal {
    pub(crate) const fn limit(self) -> Duration {
        match self {
            Self::Median(limit) | Self::Each(limit) => limit,
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} ms, max {} ms", shown(self.p50), shown(self.max))
    }
}

/// Milliseconds with one decimal.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// Whole milliseconds, or a dash.
pub(crate) fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.0}", ms(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(times: &[u64]) -> Spread {
        Spread::of(times.iter().copied().map(Duration::from_millis))
    }

    #[test]
    fn the_median_is_in_the_middle_however_few_times_there_are() {
        for (times, p50) in [
            (&[7][..], 7),
            (&[9, 1], 5),
            (&[9, 1, 2], 2),
            (&[1, 2, 4, 100], 3),
        ] {
            assert_eq!(spread(times).p50, Some(Duration::from_millis(p50)));
        }
        assert_eq!(spread(&[9, 1, 2]).max, Some(Duration::from_millis(9)));
        let nothing = spread(&[]);
        assert_eq!((nothing.p50, nothing.max), (None, None));
    }

    #[test]
    fn a_goal_is_met_at_its_limit_and_missed_beyond() {
        let at = |limit| Duration::from_millis(limit);
        let spread = spread(&[100, 200, 300]);
        assert!(
            spread
                .beside(Goal::Median(at(200)))
                .ends_with("200 ms, met)")
        );
        assert!(spread.beside(Goal::Median(at(199))).ends_with("MISSED)"));
        assert!(spread.beside(Goal::Each(at(300))).ends_with("300 ms, met)"));
        assert!(spread.beside(Goal::Each(at(299))).ends_with("MISSED)"));
    }
}
