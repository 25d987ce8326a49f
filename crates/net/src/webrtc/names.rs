//! Finds the addresses of STUN and TURN servers, in tasks of their own: a
//! resolver that is slow or silent holds up nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use waymesh_proto::ice::{ICE_SERVERS_MAX, ICE_URLS_MAX, IceUrl};

/// How long one question may take. Chosen: resolvers ask three times with 5 s each.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an answer is used before the name is asked for again. Chosen: the
/// least that names of servers live in practice.
const ANSWER_LIFE: Duration = Duration::from_secs(60);

/// How long after a failure the name is asked for again. Chosen.
const FAILURE_LIFE: Duration = Duration::from_secs(10);

/// Names that are known at a time; the rest is not asked for.
const NAMES_MAX: usize = ICE_SERVERS_MAX * ICE_URLS_MAX;

/// Addresses kept of a name: two of each family.
const ADDRESSES_MAX: usize = 4;

/// A host and its port.
pub(super) type HostPort = (String, u16);

/// What is known of servers' names.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<HostPort, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    addresses: Vec<SocketAddr>,
    failure: Option<String>,
    asked: Option<Instant>,
    answered: Option<Instant>,
}

/// What a name stands for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved<'a> {
    /// These addresses, of both families where there are both.
    Addresses(&'a [SocketAddr]),
    /// It is being asked for.
    Waiting,
    /// It cannot be resolved.
    Failed(&'a str),
}

/// What an answer says about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learned {
    /// It stands for other addresses than before.
    Others,
    /// It stands for the same ones.
    Same,
    /// It has none, or could not be resolved.
    Nothing,
}

impl Names {
    /// The question to ask now for a URL, if there is one: at first, and when
    /// what is known is old.
    pub(super) fn question(&mut self, now: Instant, url: &IceUrl) -> Option<HostPort> {
        let key = (url.host().to_owned(), url.port());
        if let Ok(ip) = key.0.parse::<IpAddr>() {
            let entry = self.known.entry(key).or_default();
            entry.addresses = vec![SocketAddr::new(ip, url.port())];
            return None;
        }
        if !self.known.contains_key(&key) && self.known.len() >= NAMES_MAX {
            return None;
        }
        let entry = self.known.entry(key.clone()).or_default();
        let life = match entry.failure {
            Some(_) => FAILURE_LIFE,
            None => ANSWER_LIFE,
        };
        let is_over = |at: Option<Instant>, life| at.is_none_or(|at: Instant| at + life <= now);
        let is_asked = !is_over(entry.asked, RESOLVE_TIMEOUT) && entry.answered < entry.asked;
        if is_asked || !is_over(entry.answered, life) {
            return None;
        }
        entry.asked = Some(now);
        Some(key)
    }

    /// Takes an answer.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        name: &HostPort,
        answer: Result<Vec<SocketAddr>, String>,
    ) -> Learned {
        let Some(entry) = self.known.get_mut(name) else {
            return Learned::Nothing;
        };
        entry.answered = Some(now);
        let found = match answer {
            Ok(addresses) => some_of_each_family(addresses),
            // What was known may still be right: a resolver is often the first to fail.
            Err(why) => {
                entry.failure = Some(why);
                return Learned::Nothing;
            }
        };
        entry.failure = found
            .is_empty()
            .then(|| "the name has no address".to_owned());
        let before = std::mem::replace(&mut entry.addresses, found);
        match entry.addresses.as_slice() {
            [] => Learned::Nothing,
            // Resolvers take turns with the order.
            now if sorted(now) == sorted(&before) => Learned::Same,
            _ => Learned::Others,
        }
    }

    /// What a URL's name stands for.
    pub(super) fn resolved(&self, url: &IceUrl) -> Resolved<'_> {
        let entry = self.known.get(&(url.host().to_owned(), url.port()));
        match entry {
            Some(entry) if !entry.addresses.is_empty() => Resolved::Addresses(&entry.addresses),
            Some(Entry {
                failure: Some(why), ..
            }) => Resolved::Failed(why),
            _ => Resolved::Waiting,
        }
    }

    /// The network is another one: everything is asked for again, and used until
    /// there is an answer.
    pub(super) fn make_old(&mut self) {
        for entry in self.known.values_mut() {
            (entry.asked, entry.answered) = (None, None);
        }
    }
}

/// Asks the system's resolver.
pub(super) async fn resolve(name: &HostPort) -> Result<Vec<SocketAddr>, String> {
    let asking = tokio::net::lookup_host((name.0.as_str(), name.1));
    match tokio::time::timeout(RESOLVE_TIMEOUT, asking).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(format!("the name cannot be resolved: {error}")),
        Err(_) => Err("the name's resolver does not answer".into()),
    }
}

fn some_of_each_family(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv4);
    v4.dedup();
    v6.dedup();
    v4.truncate(ADDRESSES_MAX / 2);
    v6.truncate(ADDRESSES_MAX / 2);
    v4.extend(v6);
    v4
}

fn sorted(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> IceUrl {
        text.parse().expect("a URL")
    }

    #[test]
    fn a_name_is_asked_for_once_and_again_when_the_answer_is_old() {
        let (mut names, now, url) = (Names::default(), Instant::now(), url("stun:a.example:7"));
        let name = names.question(now, &url).expect("the first question");
        assert_eq!(names.question(now, &url), None);
        assert_eq!(names.resolved(&url), Resolved::Waiting);
        let address = SocketAddr::from(([192, 0, 2, 1], 7));
        names.handle_answer(now, &name, Ok(vec![address]));
        assert_eq!(names.resolved(&url), Resolved::Addresses(&[address]));
        assert_eq!(names.question(now + ANSWER_LIFE / 2, &url), None);
        assert!(names.question(now + ANSWER_LIFE, &url).is_some());
        names.handle_answer(now, &name, Err("away".into()));
        assert_eq!(names.resolved(&url), Resolved::Addresses(&[address]));
    }

    #[test]
    fn an_answer_with_the_same_addresses_in_another_order_says_nothing_new() {
        let (mut names, now, url) = (Names::default(), Instant::now(), url("stun:a.example:7"));
        let name = names.question(now, &url).expect("the first question");
        let [a, b, c] = [1, 2, 3].map(|n| SocketAddr::from(([192, 0, 2, n], 7)));
        let mut learn = |answer| names.handle_answer(now, &name, answer);
        assert_eq!(learn(Err("away".into())), Learned::Nothing);
        assert_eq!(learn(Ok(vec![a, b])), Learned::Others);
        assert_eq!(learn(Ok(vec![b, a])), Learned::Same);
        assert_eq!(learn(Err("away".into())), Learned::Nothing);
        assert_eq!(learn(Ok(vec![a, b])), Learned::Same);
        assert_eq!(learn(Ok(vec![a, c])), Learned::Others);
        assert_eq!(learn(Ok(vec![])), Learned::Nothing);
        assert_eq!(learn(Ok(vec![a, c])), Learned::Others);
    }

    #[test]
    fn a_name_that_cannot_be_resolved_says_why_and_is_asked_for_again() {
        let (mut names, now, url) = (Names::default(), Instant::now(), url("turn:b.example"));
        let name = names.question(now, &url).expect("the first question");
        names.handle_answer(now, &name, Err("no such name".into()));
        assert_eq!(names.resolved(&url), Resolved::Failed("no such name"));
        assert_eq!(names.question(now + FAILURE_LIFE / 2, &url), None);
        assert!(names.question(now + FAILURE_LIFE, &url).is_some());
    }

    #[test]
    fn an_address_is_not_asked_for() {
        let (mut names, now, url) = (Names::default(), Instant::now(), url("stun:[::1]:7"));
        assert_eq!(names.question(now, &url), None);
        let address = "[::1]:7".parse().expect("an address");
        assert_eq!(names.resolved(&url), Resolved::Addresses(&[address]));
    }

    #[test]
    fn as_many_names_as_the_limit_are_asked_for_and_one_more_is_not() {
        let (mut names, now) = (Names::default(), Instant::now());
        let url = |n: usize| url(&format!("stun:h{n}.example"));
        assert!((0..NAMES_MAX).all(|n| names.question(now, &url(n)).is_some()));
        assert_eq!(names.question(now, &url(NAMES_MAX)), None);
    }
}
