//! Numbered messages both ways without a pause, and what became of each: the measure of
//! what users notice of a fault.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use waymesh_proto::api::Detail;
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Attach, Event, Follow, Verb, Wait};
use waymesh_proto::link::Path;
use waymesh_proto::{Class, Priority};

use super::site::Door;
use super::watch::{At, Heard, Watch};

/// How long a message may take: longer than a fault.
const TTL: Duration = Duration::from_secs(3_600);

/// Between two messages of one direction. Chosen: a voice call's.
const EVERY: Duration = Duration::from_millis(20);

/// How long a path must last to count as steady.
const STEADY: Duration = Duration::from_secs(1);

/// How long the last messages may take after everything is well again.
const DRAIN: Duration = Duration::from_secs(60);

/// Whether a side sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    Speaks,
    Silent,
}

/// One direction: from one side to the other.
#[derive(Debug)]
struct Lane {
    voice: Voice,
    sent: Vec<Instant>,
    /// Number, moment and path of what came, in that order.
    came: Vec<(usize, Instant, Path)>,
    /// How often each number came.
    times: Vec<u32>,
    /// The highest number that came.
    highest: Option<usize>,
    disordered: u64,
    failed: BTreeMap<String, u64>,
}

/// Two nodes that send to each other all the time.
#[derive(Debug)]
pub(crate) struct Traffic {
    watch: Watch,
    names: [Name; 2],
    lanes: [Lane; 2],
    paths: [Option<(Path, Instant)>; 2],
    next: Instant,
    pace: Duration,
    padding: usize,
    /// The id of the last question.
    asked: u64,
}

/// What a fault did to both directions; of the worse one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Recovery {
    /// From the fault until a message that was sent after it had come, each way.
    pub(crate) again: Duration,
    /// The longest time without a message, counted from the fault.
    pub(crate) silence: Duration,
    /// The path of the first message again, of the later direction.
    pub(crate) by: Path,
    /// From the fault until a message that was sent after it had come by a link, each way.
    pub(crate) linked: Option<Duration>,
}

/// What became of all messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Toll {
    pub(crate) sent: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: u64,
    /// Messages that came after one that was sent later.
    pub(crate) disordered: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    /// From sending to arrival, sorted.
    pub(crate) delays: Vec<Duration>,
}

impl Toll {
    /// Whether every message came once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.disordered == 0 && self.failed.is_empty()
    }

    /// So many in a thousand messages took no longer; of few messages the slowest.
    pub(crate) fn delay(&self, of_thousand: usize) -> Duration {
        let no_longer = (self.delays.len() * of_thousand).div_ceil(1_000);
        let at = no_longer.saturating_sub(1);
        self.delays.get(at).copied().unwrap_or_default()
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            voice: Voice::Speaks,
            sent: Vec::new(),
            came: Vec::new(),
            times: Vec::new(),
            highest: None,
            disordered: 0,
            failed: BTreeMap::new(),
        }
    }

    fn arrived(&mut self, number: usize, moment: Instant, path: Path) {
        if self.times.len() <= number {
            self.times.resize(number + 1, 0);
        }
        let is_first = self.times[number] == 0;
        self.times[number] += 1;
        if is_first {
            if self.highest.is_some_and(|highest| highest > number) {
                self.disordered += 1;
            }
            self.highest = self.highest.max(Some(number));
            self.came.push((number, moment, path));
        }
    }

    /// What came of what was sent after a moment.
    fn since(&self, fault: Instant) -> impl Iterator<Item = (Instant, Path)> {
        let first = self.sent.partition_point(|sent| *sent < fault);
        let since = self
            .came
            .iter()
            .filter(move |(number, ..)| *number >= first);
        since.map(|(_, moment, path)| (*moment, *path))
    }

    /// The first of it.
    fn again(&self, fault: Instant) -> Option<(Instant, Path)> {
        self.since(fault).next()
    }

    /// When the first of it came by a link.
    fn linked(&self, fault: Instant) -> Option<Instant> {
        let mut since = self.since(fault);
        since.find_map(|(moment, path)| (path != Path::Mailbox).then_some(moment))
    }

    /// The longest time without an arrival that ended after a moment, counted from it.
    fn silence(&self, fault: Instant) -> Duration {
        let after = self.came.partition_point(|(_, moment, _)| *moment < fault);
        let moments = self.came[after..].iter().map(|(_, moment, _)| *moment);
        let mut last = fault;
        let mut longest = Duration::ZERO;
        for moment in moments {
            longest = longest.max(moment.saturating_duration_since(last));
            last = moment;
        }
        longest
    }

    fn is_empty(&self) -> bool {
        self.came.len() == self.sent.len()
    }
}

impl Traffic {
    /// Begins to send both ways; `padding` bytes go along with each message.
    pub(crate) fn begin(doors: [&Door; 2], padding: usize) -> Result<Self> {
        let [one, other] = doors;
        let mut programs = [one.attach()?, other.attach()?];
        for program in &mut programs {
            program.ask(1, Verb::Attach(Attach::Own))?;
        }
        Ok(Self {
            watch: Watch::new(programs),
            names: [one.name.clone(), other.name.clone()],
            lanes: [Lane::new(), Lane::new()],
            paths: [None, None],
            next: Instant::now(),
            pace: EVERY,
            padding,
            asked: 0,
        })
    }

    /// Lets one side fall silent, or speak again.
    pub(crate) fn set_voice(&mut self, at: At, voice: Voice) {
        self.lanes[at].voice = voice;
    }

    /// Lets so much time pass between messages; gives what it was.
    pub(crate) fn set_pace(&mut self, pace: Duration) -> Duration {
        self.next = Instant::now() + pace;
        std::mem::replace(&mut self.pace, pace)
    }

    /// Sends and hears for a while.
    pub(crate) fn run(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        self.run_until(until, |_| false)
    }

    /// Sends and hears until then, or until something is so.
    pub(crate) fn run_until(
        &mut self,
        until: Instant,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        while Instant::now() < until && !is_so(self) {
            if Instant::now() >= self.next {
                self.send()?;
            }
            if let Some(heard) = self.watch.next(until.min(self.next))? {
                self.hear(heard)?;
            }
        }
        Ok(())
    }

    /// Waits until both sides have had one of these paths for a while; gives it, and when
    /// both had it.
    pub(crate) fn steady(&mut self, wanted: &[Path], limit: Duration) -> Result<(Path, Instant)> {
        for at in [0, 1] {
            let attempts = Detail::Now;
            self.asked += 1;
            self.watch
                .tell(at, self.asked, Verb::ListPeers { attempts })?;
        }
        let is_steady = |traffic: &Self| match traffic.common() {
            Some((path, since)) => wanted.contains(&path) && since.elapsed() >= STEADY,
            None => false,
        };
        self.run_until(Instant::now() + limit, is_steady)?;
        match self.common() {
            Some((path, since)) if wanted.contains(&path) => Ok((path, since)),
            _ => bail!("no steady path in time; the sides have {:?}", self.paths),
        }
    }

    /// The path that both sides use, and since when.
    fn common(&self) -> Option<(Path, Instant)> {
        match self.paths {
            [Some((one, since)), Some((other, later))] if one == other => {
                Some((one, since.max(later)))
            }
            _ => None,
        }
    }

    /// Sends and hears until messages that were sent after a moment come both ways.
    pub(crate) fn come_again(&mut self, moment: Instant, limit: Duration) -> Result<()> {
        let is_back = |traffic: &Self| {
            traffic
                .lanes
                .iter()
                .all(|lane| lane.again(moment).is_some())
        };
        self.run_until(moment + limit, is_back)?;
        ensure!(
            is_back(self),
            "no message that was sent after the fault came"
        );
        Ok(())
    }

    /// Sends and hears until messages sent after a fault come both ways, and by a link, and
    /// for a second more.
    ///
    /// # Errors
    ///
    /// When no such message comes within the limit.
    pub(crate) fn recover(&mut self, fault: Instant, limit: Duration) -> Result<Recovery> {
        let until = fault + limit;
        let is_back = |traffic: &Self| {
            let mut lanes = traffic.lanes.iter();
            lanes.all(|lane| lane.linked(fault).is_some())
        };
        self.run_until(until, is_back)?;
        self.run(STEADY)?;
        let again: Option<Vec<_>> = self.lanes.iter().map(|lane| lane.again(fault)).collect();
        let again = again.context("no message that was sent after the fault came")?;
        let (moment, by) = again
            .into_iter()
            .max_by_key(|(moment, _)| *moment)
            .context("two lanes")?;
        let linked = self.lanes.iter().map(|lane| lane.linked(fault));
        let linked = linked
            .collect::<Option<Vec<_>>>()
            .and_then(|all| all.into_iter().max());
        Ok(Recovery {
            again: moment.saturating_duration_since(fault),
            silence: self.silence(fault),
            by,
            linked: linked.map(|moment| moment.saturating_duration_since(fault)),
        })
    }

    /// The longest time without a message in either direction, counted from a moment.
    pub(crate) fn silence(&self, moment: Instant) -> Duration {
        let silences = self.lanes.iter().map(|lane| lane.silence(moment));
        silences.max().unwrap_or_default()
    }

    /// Sends no more, waits for what is under way, and counts.
    pub(crate) fn end(mut self) -> Result<Toll> {
        let until = Instant::now() + DRAIN;
        for at in [0, 1] {
            self.set_voice(at, Voice::Silent);
        }
        self.run_until(until, |traffic| traffic.lanes.iter().all(Lane::is_empty))?;
        let mut toll = Toll::default();
        for lane in &self.lanes {
            toll.sent += lane.sent.len();
            toll.lost += lane.sent.len() - lane.came.len();
            toll.disordered += lane.disordered;
            toll.duplicated += lane
                .times
                .iter()
                .map(|times| u64::from(times.saturating_sub(1)))
                .sum::<u64>();
            for (code, times) in &lane.failed {
                *toll.failed.entry(code.clone()).or_default() += times;
            }
            let took = lane
                .came
                .iter()
                .map(|(number, moment, _)| moment.saturating_duration_since(lane.sent[*number]));
            toll.delays.extend(took);
        }
        toll.delays.sort();
        Ok(toll)
    }

    fn send(&mut self) -> Result<()> {
        let now = Instant::now();
        // After a pause it goes on; it does not make up for it.
        self.next = (self.next + self.pace).max(now);
        for at in [0, 1] {
            if self.lanes[at].voice == Voice::Silent {
                continue;
            }
            let number = self.lanes[at].sent.len();
            let text = format!("[{number},{:?}]", "x".repeat(self.padding));
            self.lanes[at].sent.push(now);
            let verb = Verb::Send {
                to: self.names[1 - at].clone(),
                payload: Payload::json(text),
                class: Class::Control,
                priority: Priority::Normal,
                ttl: TTL,
                wait: Wait::Queued,
                follow: Follow::Failures,
            };
            self.watch.say(at, verb)?;
        }
        Ok(())
    }

    fn hear(&mut self, heard: Heard) -> Result<()> {
        let Heard { at, moment, event } = heard;
        match event {
            Event::Message {
                delivery,
                path,
                payload,
                ..
            } => {
                let text = std::str::from_utf8(&payload.bytes).unwrap_or_default();
                let number = text.trim_start_matches('[').split(',').next();
                let number = number.and_then(|number| number.parse().ok());
                let number = number.with_context(|| format!("{text:?} was never sent"))?;
                self.lanes[1 - at].arrived(number, moment, path);
                if let Some(delivery) = delivery {
                    self.watch.say(at, Verb::Ack { delivery })?;
                }
            }
            Event::State { outcome, .. } => {
                if let Some(fault) = outcome.error {
                    let failed = &mut self.lanes[at].failed;
                    *failed.entry(fault.code.to_string()).or_default() += 1;
                }
            }
            Event::Error { fault, .. } => {
                let failed = &mut self.lanes[at].failed;
                *failed.entry(fault.code.to_string()).or_default() += 1;
            }
            Event::Peer { peer, .. } => self.note(at, moment, &peer.agent, peer.path),
            Event::PeerList { peers, .. } => {
                for peer in peers {
                    self.note(at, moment, &peer.agent, peer.path);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, at: At, moment: Instant, about: &Name, path: Option<Path>) {
        if *about != self.names[1 - at] {
            return;
        }
        match path {
            Some(path) if self.paths[at].is_some_and(|(old, _)| old == path) => {}
            Some(path) => self.paths[at] = Some((path, moment)),
            None => self.paths[at] = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(sent: &[u64], came: &[(usize, u64)]) -> (Lane, Instant) {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut lane = Lane::new();
        lane.sent = sent.iter().map(|ms| at(*ms)).collect();
        for (number, ms) in came {
            lane.arrived(*number, at(*ms), Path::Direct);
        }
        (lane, begin)
    }

    #[test]
    fn traffic_is_there_again_with_the_first_message_sent_after_the_fault() {
        let (lane, begin) = lane(&[0, 20, 40, 60], &[(0, 5), (1, 300), (2, 320), (3, 321)]);
        let fault = begin + Duration::from_millis(30);
        let again = lane.again(fault).map(|(moment, _)| moment - fault);
        assert_eq!(again, Some(Duration::from_millis(290)));
        assert_eq!(lane.linked(fault), Some(fault + Duration::from_millis(290)));
        assert_eq!(lane.silence(fault), Duration::from_millis(270));
        assert!(lane.is_empty());
    }

    #[test]
    fn what_comes_twice_late_or_never_is_counted() {
        let (lane, _) = lane(&[0, 1, 2, 3], &[(0, 5), (2, 6), (1, 7), (2, 8)]);
        assert_eq!(lane.disordered, 1);
        let (behind, _) = self::lane(&[0, 1, 2], &[(2, 6), (0, 7), (1, 8)]);
        assert_eq!(behind.disordered, 2, "both come after one sent later");
        assert_eq!(lane.times, [1, 1, 2]);
        assert!(!lane.is_empty());
    }

    #[test]
    fn so_many_in_a_thousand_took_no_longer() {
        let toll = |count: u64| Toll {
            delays: (1..=count).map(Duration::from_millis).collect(),
            ..Toll::default()
        };
        let delays = |count| [500, 990, 1_000].map(|of| toll(count).delay(of).as_millis());
        assert_eq!(delays(1_000), [500, 990, 1_000]);
        assert_eq!(delays(4), [2, 4, 4]);
        assert_eq!(delays(1), [1, 1, 1]);
        assert_eq!(delays(0), [0, 0, 0]);
    }
}
