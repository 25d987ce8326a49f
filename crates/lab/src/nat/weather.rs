//! What a line does to packets: delay, jitter, loss, reordering, a rate, a size, a cut.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use waymesh_lab::dice::Dice;

use super::Dropped;

/// One direction of a line. The default changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weather {
    /// One way.
    pub(crate) delay: Duration,
    /// Up to so much more; packets stay in order.
    pub(crate) jitter: Duration,
    /// So many packets in a thousand are lost.
    pub(crate) loss: u32,
    /// So many packets in a thousand come [`OVERTAKEN`] later, behind others.
    pub(crate) reorder: u32,
    /// Bytes a second; what does not fit waits, up to [`QUEUE_BYTES`].
    pub(crate) rate: Option<NonZeroU64>,
    /// The largest packet.
    pub(crate) mtu: Mtu,
    /// Nothing passes.
    pub(crate) cut: Cut,
}

/// The largest packet that passes, and what becomes of larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mtu {
    /// Any size.
    Any,
    /// The sender is told (RFC 1191, RFC 8201).
    Told(u16),
    /// Nobody is told.
    Silent(u16),
}

/// Whether a line works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    No,
    Yes,
}

/// How much later an overtaken packet comes. Chosen: some packets of a busy sender.
const OVERTAKEN: Duration = Duration::from_millis(10);

/// What waits for a line with a rate; more is lost. Chosen: a home router's buffer.
pub(crate) const QUEUE_BYTES: u64 = 256 * 1_024;

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0,
            reorder: 0,
            rate: None,
            mtu: Mtu::Any,
            cut: Cut::No,
        }
    }
}

/// Why a packet does not come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Dropped(Dropped),
    /// It is too big, and its sender is to be told the size that passes.
    TooBig(u16),
}

/// One direction of a line and what is under way on it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) weather: Weather,
    /// When the last byte that was accepted will have been sent.
    busy_until: Option<Instant>,
    /// When the last packet arrives.
    last: Option<Instant>,
}

impl Line {
    /// When a packet of this size arrives at the other end.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        bytes: usize,
        dice: &mut Dice,
    ) -> Result<Instant, Held> {
        let weather = self.weather;
        if weather.cut == Cut::Yes {
            return Err(Held::Dropped(Dropped::Cut));
        }
        match weather.mtu {
            Mtu::Told(mtu) if bytes > usize::from(mtu) => return Err(Held::TooBig(mtu)),
            Mtu::Silent(mtu) if bytes > usize::from(mtu) => {
                return Err(Held::Dropped(Dropped::TooBig));
            }
            _ => {}
        }
        if weather.loss > 0 && dice.one_of_thousand(weather.loss) {
            return Err(Held::Dropped(Dropped::Lost));
        }
        let sent = match weather.rate {
            Some(rate) => self.queue(now, bytes as u64, rate)?,
            None => now,
        };
        let at = sent + weather.delay + dice.below(weather.jitter);
        if weather.reorder > 0 && dice.one_of_thousand(weather.reorder) {
            return Ok(at + OVERTAKEN);
        }
        let at = self.last.map_or(at, |last| at.max(last));
        self.last = Some(at);
        Ok(at)
    }

    /// When the last byte will have been sent at this rate.
    fn queue(&mut self, now: Instant, bytes: u64, rate: NonZeroU64) -> Result<Instant, Held> {
        let begin = self.busy_until.map_or(now, |until| until.max(now));
        let waiting = (begin - now).as_nanos() * u128::from(rate.get()) / 1_000_000_000;
        if waiting + u128::from(bytes) > u128::from(QUEUE_BYTES) {
            return Err(Held::Dropped(Dropped::QueueFull));
        }
        let until = begin + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.get());
        self.busy_until = Some(until);
        Ok(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(weather: Weather) -> Line {
        Line {
            weather,
            ..Line::default()
        }
    }

    #[test]
    fn packets_come_late_but_in_order() {
        let (now, mut dice) = (Instant::now(), Dice::new(1));
        let mut line = line(Weather {
            delay: Duration::from_millis(25),
            jitter: Duration::from_millis(20),
            ..Weather::default()
        });
        let mut last = now;
        for _ in 0..100 {
            let at = line.admit(now, 100, &mut dice).expect("nothing is lost");
            assert!(at >= last && at >= now + Duration::from_millis(25));
            assert!(at < now + Duration::from_millis(45));
            last = at;
        }
    }

    #[test]
    fn so_many_are_lost_and_so_many_overtaken() {
        let (now, mut dice) = (Instant::now(), Dice::new(7));
        let weather = Weather {
            loss: 100,
            reorder: 100,
            ..Weather::default()
        };
        let mut line = line(weather);
        let came: Vec<_> = (0..10_000)
            .filter_map(|_| line.admit(now, 100, &mut dice).ok())
            .collect();
        assert!((8_800..9_200).contains(&came.len()), "{}", came.len());
        let late = came.iter().filter(|at| **at > now).count();
        assert!((800..1_000).contains(&late), "{late}");
    }

    #[test]
    fn a_rate_holds_and_its_queue_is_bounded() {
        let (now, mut dice) = (Instant::now(), Dice::new(1));
        let mut line = line(Weather {
            rate: NonZeroU64::new(QUEUE_BYTES),
            ..Weather::default()
        });
        let half = (QUEUE_BYTES / 2) as usize;
        let second = Duration::from_secs(1);
        assert_eq!(line.admit(now, half, &mut dice), Ok(now + second / 2));
        assert_eq!(line.admit(now, half, &mut dice), Ok(now + second));
        let full = Err(Held::Dropped(Dropped::QueueFull));
        assert_eq!(line.admit(now, 1, &mut dice), full);
        assert_eq!(
            line.admit(now + second, half, &mut dice),
            Ok(now + second + second / 2)
        );
    }

    #[test]
    fn what_is_too_big_is_told_or_not_and_a_cut_line_passes_nothing() {
        let (now, mut dice) = (Instant::now(), Dice::new(1));
        let mut of = |weather, bytes| line(weather).admit(now, bytes, &mut dice);
        let with = |mtu| Weather {
            mtu,
            ..Weather::default()
        };
        assert_eq!(of(with(Mtu::Told(1280)), 1280), Ok(now));
        assert_eq!(of(with(Mtu::Told(1280)), 1281), Err(Held::TooBig(1280)));
        assert_eq!(
            of(with(Mtu::Silent(1280)), 1281),
            Err(Held::Dropped(Dropped::TooBig))
        );
        let cut = Weather {
            cut: Cut::Yes,
            ..Weather::default()
        };
        assert_eq!(of(cut, 1), Err(Held::Dropped(Dropped::Cut)));
    }
}
