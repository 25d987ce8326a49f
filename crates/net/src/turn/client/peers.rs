//! Whom the server relays to and from: permissions by IP address, channels by
//! address and port (RFC 8656 §9, §12), and what waits for them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::RelayFamily;

/// How long the server keeps a permission (RFC 8656 §9).
const PERMISSION_LASTS: Duration = Duration::from_secs(300);

/// Age at which a permission in use is asked for again; looked at every [`UPKEEP_EVERY`].
const PERMISSION_RENEW: Duration = Duration::from_secs(200);

/// How long the server keeps a channel (RFC 8656 §12).
const CHANNEL_LASTS: Duration = Duration::from_secs(600);

/// Age at which a channel in use is bound again.
const CHANNEL_RENEW: Duration = Duration::from_secs(400);

/// How long a channel's number goes to nobody else after its end (RFC 8656 §12).
const CHANNEL_REST: Duration = Duration::from_secs(300);

/// Clocks of two hosts and the way between them: so much before its end a
/// channel or permission is no longer counted on. Chosen.
const MARGIN: Duration = Duration::from_secs(10);

/// What was not used for so long is not renewed, and then forgotten. Chosen: as a permission lasts.
const IDLE: Duration = Duration::from_secs(300);

/// How long a refusal of a peer is believed. Chosen.
const REFUSED_FOR: Duration = Duration::from_secs(120);

/// How often what is known is looked through. Chosen.
pub(super) const UPKEEP_EVERY: Duration = Duration::from_secs(20);

/// Packets to one peer before a channel is bound for it: it saves 32 bytes a
/// packet, and a peer that is only tried needs none. Chosen.
const CHANNEL_AFTER: u32 = 3;

/// The numbers of channels (RFC 8656 §12).
pub(super) const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4FFF;

/// Most IP addresses at once; what is sent to a further one is dropped and
/// counted until an idle one is forgotten. Chosen: more than a node has links.
pub(super) const PEERS_MAX: usize = 4_096;

/// Payloads that wait for permissions, of all peers together; when it is full the
/// oldest is dropped and counted. Chosen: the handshakes of a few peers.
pub(super) const WAITING_MAX: usize = 64;

/// IP addresses in one request: it stays below 600 bytes. Chosen.
const BATCH_MAX: usize = 16;

/// Whom the server relays to and from.
#[derive(Debug, Default)]
pub(super) struct Peers {
    permissions: HashMap<IpAddr, Permission>,
    channels: HashMap<SocketAddr, Channel>,
    numbers: BTreeMap<u16, SocketAddr>,
    /// The next number that nobody has had, as an offset.
    fresh: u16,
    /// Numbers of forgotten channels, and when they may be given again.
    resting: VecDeque<(Instant, u16)>,
    to_ask: VecDeque<IpAddr>,
    /// To be asked for one by one: a request with one of them was refused.
    to_ask_alone: VecDeque<IpAddr>,
    to_bind: VecDeque<SocketAddr>,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
}

#[derive(Debug)]
struct Permission {
    granted: Option<Instant>,
    refused: Option<Instant>,
    asking: bool,
    used: Instant,
}

#[derive(Debug)]
struct Channel {
    number: Option<u16>,
    bound: Option<Instant>,
    binding: bool,
    packets: u32,
    used: Instant,
}

/// How a payload is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In short form, by this channel.
    Channel(u16),
    /// As an indication that names the peer.
    Indication,
    /// Not yet: it waits for a permission.
    Wait,
    /// Not at all: the server refuses the peer.
    Refused,
    /// Not at all: there are too many peers.
    NoRoom,
}

impl Permission {
    const fn new(now: Instant) -> Self {
        Self {
            granted: None,
            refused: None,
            asking: false,
            used: now,
        }
    }

    fn is_open(&self, now: Instant) -> bool {
        self.granted
            .is_some_and(|since| now < since + PERMISSION_LASTS - MARGIN)
    }

    fn is_refused(&self, now: Instant) -> bool {
        self.refused.is_some_and(|since| now < since + REFUSED_FOR)
    }
}

impl Peers {
    /// Forgets whoever is not of this family; gives how many payloads went with them.
    pub(super) fn keep(&mut self, family: RelayFamily) -> usize {
        self.permissions.retain(|ip, _| family.has(*ip));
        self.to_ask.retain(|ip| family.has(*ip));
        self.to_ask_alone.retain(|ip| family.has(*ip));
        self.channels.retain(|peer, _| family.has(peer.ip()));
        self.to_bind.retain(|peer| family.has(peer.ip()));
        let before = self.waiting.len();
        self.waiting.retain(|(peer, _)| family.has(peer.ip()));
        before - self.waiting.len()
    }

    /// Sees to it that there will be a permission for `ip`.
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) -> Way {
        if !self.permissions.contains_key(&ip) && self.permissions.len() >= PEERS_MAX {
            return Way::NoRoom;
        }
        let permission = self
            .permissions
            .entry(ip)
            .or_insert_with(|| Permission::new(now));
        permission.used = now;
        if permission.is_open(now) {
            return Way::Indication;
        }
        if permission.is_refused(now) {
            return Way::Refused;
        }
        if !permission.asking {
            permission.asking = true;
            self.to_ask.push_back(ip);
        }
        Way::Wait
    }

    /// How a payload for `peer` goes now.
    pub(super) fn way(&mut self, now: Instant, peer: SocketAddr) -> Way {
        let way = self.permit(now, peer.ip());
        if way != Way::Indication {
            return way;
        }
        if self.channels.len() >= PEERS_MAX && !self.channels.contains_key(&peer) {
            return Way::Indication;
        }
        let channel = self.channels.entry(peer).or_insert(Channel {
            number: None,
            bound: None,
            binding: false,
            packets: 0,
            used: now,
        });
        channel.used = now;
        channel.packets = channel.packets.saturating_add(1);
        if let (Some(number), Some(bound)) = (channel.number, channel.bound)
            && now < bound + CHANNEL_LASTS - MARGIN
        {
            return Way::Channel(number);
        }
        if channel.packets >= CHANNEL_AFTER && !channel.binding {
            channel.binding = true;
            self.to_bind.push_back(peer);
        }
        Way::Indication
    }

    /// Keeps a payload until its permission is there; gives back what it displaces.
    pub(super) fn wait(&mut self, peer: SocketAddr, bytes: &[u8]) -> usize {
        let displaced = usize::from(self.waiting.len() >= WAITING_MAX);
        self.waiting.drain(..displaced);
        self.waiting.push_back((peer, bytes.to_vec()));
        displaced
    }

    /// How many payloads wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes what waited for `ip`, in order.
    pub(super) fn take_waiting(&mut self, ip: IpAddr) -> Vec<(SocketAddr, Vec<u8>)> {
        let (now, later): (Vec<_>, Vec<_>) = self
            .waiting
            .drain(..)
            .partition(|(peer, _)| peer.ip() == ip);
        self.waiting = later.into();
        now
    }

    /// Takes everything that waits.
    pub(super) fn drop_waiting(&mut self) -> usize {
        self.waiting.drain(..).count()
    }

    /// The next permissions to ask for, in one request.
    pub(super) fn poll_permissions(&mut self) -> Option<Vec<IpAddr>> {
        if let Some(ip) = self.to_ask_alone.pop_front() {
            return Some(vec![ip]);
        }
        let count = self.to_ask.len().min(BATCH_MAX);
        (count > 0).then(|| self.to_ask.drain(..count).collect())
    }

    /// The next channel to bind. A peer for which there is no number goes on without.
    pub(super) fn poll_channel(&mut self, now: Instant) -> Option<(u16, SocketAddr)> {
        while let Some(peer) = self.to_bind.pop_front() {
            let known = self.channels.get(&peer).map(|channel| channel.number);
            let number = match known {
                Some(Some(number)) => Some(number),
                Some(None) => self.new_number(now),
                None => continue,
            };
            let Some(channel) = self.channels.get_mut(&peer) else {
                continue;
            };
            let Some(number) = number else {
                channel.binding = false;
                channel.packets = 0;
                continue;
            };
            channel.number = Some(number);
            self.numbers.insert(number, peer);
            return Some((number, peer));
        }
        None
    }

    fn new_number(&mut self, now: Instant) -> Option<u16> {
        let fresh = CHANNELS.start() + self.fresh;
        if CHANNELS.contains(&fresh) {
            self.fresh += 1;
            return Some(fresh);
        }
        let (free_at, number) = *self.resting.front()?;
        (free_at <= now).then(|| {
            self.resting.pop_front();
            number
        })
    }

    /// The server has granted these, counted from when they were asked for.
    pub(super) fn handle_permitted(&mut self, since: Instant, ips: &[IpAddr]) {
        for ip in ips {
            if let Some(permission) = self.permissions.get_mut(ip) {
                permission.asking = false;
                permission.refused = None;
                permission.granted = permission.granted.max(Some(since));
            }
        }
    }

    /// The server refuses these. One of several may be meant: then each is asked
    /// for alone, and nothing is given back.
    pub(super) fn handle_refused(&mut self, now: Instant, ips: &[IpAddr]) -> Option<IpAddr> {
        if let [ip] = *ips {
            let permission = self.permissions.get_mut(&ip)?;
            permission.asking = false;
            permission.granted = None;
            permission.refused = Some(now);
            return Some(ip);
        }
        self.to_ask_alone.extend(ips);
        None
    }

    /// No answer came: asked again where somebody waits or the old one is in use.
    pub(super) fn handle_unanswered(&mut self, ips: &[IpAddr]) {
        for ip in ips {
            let has_waiting = self.waiting.iter().any(|(peer, _)| peer.ip() == *ip);
            let Some(permission) = self.permissions.get_mut(ip) else {
                continue;
            };
            permission.asking = has_waiting || permission.granted.is_some();
            if permission.asking {
                self.to_ask.push_back(*ip);
            }
        }
    }

    /// The server has bound a channel, which renews the permission too.
    pub(super) fn handle_bound(&mut self, since: Instant, peer: SocketAddr) {
        self.handle_permitted(since, &[peer.ip()]);
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.binding = false;
            channel.bound = Some(since);
        }
    }

    /// A channel was not bound; the peer goes on without, and after some more
    /// packets it is tried again.
    pub(super) fn handle_not_bound(&mut self, peer: SocketAddr) {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.binding = false;
            channel.packets = 0;
        }
    }

    /// Who has this channel.
    pub(super) fn peer_of(&self, number: u16) -> Option<SocketAddr> {
        self.numbers.get(&number).copied()
    }

    /// Whether data of this peer is expected.
    pub(super) fn is_permitted(&self, ip: IpAddr) -> bool {
        self.permissions
            .get(&ip)
            .is_some_and(|p| p.granted.is_some() || p.asking)
    }

    /// Asks again for what is in use, forgets what is not.
    pub(super) fn upkeep(&mut self, now: Instant) {
        let mut renew: Vec<IpAddr> = Vec::new();
        for (ip, permission) in &mut self.permissions {
            let in_use = now < permission.used + IDLE;
            let is_due = permission
                .granted
                .is_some_and(|since| now >= since + PERMISSION_RENEW);
            if in_use && is_due && !permission.asking {
                permission.asking = true;
                renew.push(*ip);
            }
        }
        renew.sort_unstable();
        self.to_ask.extend(renew);
        self.permissions
            .retain(|_, p| p.asking || p.is_open(now) || now < p.used + IDLE);
        self.upkeep_channels(now);
    }

    fn upkeep_channels(&mut self, now: Instant) {
        let mut renew: Vec<SocketAddr> = Vec::new();
        let (numbers, resting) = (&mut self.numbers, &mut self.resting);
        self.channels.retain(|peer, channel| {
            let in_use = now < channel.used + IDLE;
            let is_due = channel.bound.is_some_and(|at| now >= at + CHANNEL_RENEW);
            if in_use && is_due && !channel.binding {
                channel.binding = true;
                renew.push(*peer);
            }
            let is_over = channel.bound.is_none_or(|at| now >= at + CHANNEL_LASTS);
            let keep = in_use || channel.binding || !is_over;
            if let (false, Some(number)) = (keep, channel.number) {
                numbers.remove(&number);
                resting.push_back((now + CHANNEL_REST, number));
            }
            keep
        });
        renew.sort_unstable();
        self.to_bind.extend(renew);
    }
}
