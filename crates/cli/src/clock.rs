//! The wall clock, and how moments and lengths of time are written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A moment as ISO 8601 in UTC to the second: `2026-11-20T13:06:22Z`.
pub(crate) fn iso(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a number of days after 1970-01-01, in the Gregorian
/// calendar: 146,097 days are 400 years, which begin on a 1st of March here so that
/// the leap day is the last of its year.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A length of time as people say it, in its two largest units: `6 d 23 h`, `4 min 2 s`.
pub(crate) fn spoken(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = time.as_secs();
    let mut parts = Vec::new();
    for (seconds, unit) in UNITS {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    if parts.is_empty() {
        return "less than 1 s".to_owned();
    }
    parts.join(" ")
}

/// How far away a moment is: `in 6 d 23 h`, or `4 min 2 s ago`.
pub(crate) fn from_now(unix_ms_then: u64, now_ms: u64) -> String {
    let far = spoken(Duration::from_millis(unix_ms_then.abs_diff(now_ms)));
    match unix_ms_then >= now_ms {
        true => format!("in {far}"),
        false => format!("{far} ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_its_date_and_time() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_179_982, "2026-11-20T13:06:22Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(iso(seconds * 1_000), text);
        }
    }

    #[test]
    fn a_length_of_time_has_its_two_largest_units() {
        let spoken = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(spoken(0), "less than 1 s");
        assert_eq!(spoken(59), "59 s");
        assert_eq!(spoken(242), "4 min 2 s");
        assert_eq!(spoken(86_400 + 59), "1 d");
        assert_eq!(spoken(7 * 86_400 - 1), "6 d 23 h");
        assert_eq!(from_now(61_000, 1_000), "in 1 min");
        assert_eq!(from_now(1_000, 61_000), "1 min ago");
    }
}
