//! The median and the worst of some times.

use std::fmt;
use std::time::Duration;

/// Both; `None` when there are no times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) p50: Option<Duration>,
    pub(crate) max: Option<Duration>,
}

impl Spread {
    pub(crate) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.collect();
        times.sort();
        Self {
            p50: times.get(times.len() / 2).copied(),
            max: times.last().copied(),
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
