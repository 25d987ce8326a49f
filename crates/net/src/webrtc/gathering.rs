//! Finds the candidates of this node: its own addresses, those that STUN servers
//! see, and relayed ones.
//!
//! What blocks or waits runs in tasks that this owns and that end with it; what
//! they find comes back through one bounded queue. Everything that is found is
//! kept for the next session and told once for those that are being made.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use waymesh_proto::ice::{IceServers, ServerTried};

use super::candidates::{HostRules, LocalCandidate};
use super::config::{CandidatePolicy, EndpointConfig};
use super::interfaces::{Interfaces, Watch};

/// What the tasks found and the endpoint has not taken; when it is full, they wait.
const FOUND_CAP: usize = 64;

/// What concerns the whole endpoint, not one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The addresses of this host, or those that others see, are not what they
    /// were: links may be dead without knowing it.
    NetworkChanged,
    /// A server refused its credentials: they are old, and new ones are needed.
    ServersRefused,
}

/// What a task found.
#[derive(Debug)]
enum Found {
    /// The addresses may have changed to these.
    Interfaces(Interfaces),
}

/// What the sessions must hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// A candidate to add and to tell peers of.
    Found(LocalCandidate),
    /// An address of this host is gone.
    Lost(LocalCandidate),
}

/// All that this node can offer.
#[derive(Debug)]
pub(super) struct Gathering {
    policy: CandidatePolicy,
    rules: HostRules,
    interfaces: Interfaces,
    hosts: Vec<SocketAddr>,
    told: IceServers,
    news: VecDeque<News>,
    notices: VecDeque<Notice>,
    found: mpsc::Receiver<Found>,
    post: Post,
    /// Ended when this is dropped.
    tasks: JoinSet<()>,
}

/// A task's way to the endpoint.
#[derive(Debug, Clone)]
struct Post {
    found: mpsc::Sender<Found>,
    woken: Arc<Notify>,
}

impl Post {
    /// An error when the endpoint is gone.
    async fn send(&self, found: Found) -> Result<(), mpsc::error::SendError<Found>> {
        self.found.send(found).await?;
        self.woken.notify_one();
        Ok(())
    }
}

impl Gathering {
    /// Lists the addresses, and watches them unless loopback alone counts.
    pub(super) fn start(config: &EndpointConfig, rules: HostRules) -> Self {
        let interfaces = Interfaces::list();
        let (found_in, found) = mpsc::channel(FOUND_CAP);
        let post = Post {
            found: found_in,
            woken: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        if !rules.loopback_only {
            let post = post.clone();
            tasks.spawn(async move {
                let watch = Watch::start();
                while post
                    .send(Found::Interfaces(watch.changed().await))
                    .await
                    .is_ok()
                {}
            });
        }
        Self {
            policy: config.candidates,
            hosts: rules.addresses(&interfaces),
            rules,
            interfaces,
            told: IceServers::default(),
            news: VecDeque::new(),
            notices: VecDeque::new(),
            found,
            post,
            tasks,
        }
    }

    /// The addresses of this host that the socket has, best first.
    pub(super) fn hosts(&self) -> &[SocketAddr] {
        &self.hosts
    }

    /// What a session that begins now offers.
    pub(super) fn candidates(&self) -> Vec<LocalCandidate> {
        match self.policy {
            CandidatePolicy::All => self
                .hosts
                .iter()
                .map(|a| LocalCandidate::host(*a))
                .collect(),
            CandidatePolicy::RelayOnly => Vec::new(),
        }
    }

    /// Which servers to use from now on.
    pub(super) fn set_servers(&mut self, _now: Instant, servers: IceServers) {
        self.told = servers;
    }

    /// What the servers gave up to now.
    pub(super) fn servers(&self, _now: Instant) -> Vec<ServerTried> {
        Vec::new()
    }

    /// Waits until [`Gathering::handle_found`] may find something. Cancel safe.
    pub(super) async fn woken(&self) {
        self.post.woken.notified().await;
    }

    /// Takes what the tasks found; false when it was nothing.
    pub(super) fn handle_found(&mut self) -> bool {
        let mut is_any = false;
        while let Ok(found) = self.found.try_recv() {
            is_any = true;
            match found {
                Found::Interfaces(interfaces) => self.handle_interfaces(interfaces),
            }
        }
        is_any
    }

    /// Takes what the sessions must hear.
    pub(super) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Takes what the owner of the endpoint must hear.
    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    fn handle_interfaces(&mut self, interfaces: Interfaces) {
        if interfaces == self.interfaces {
            return;
        }
        self.interfaces = interfaces;
        let hosts = self.rules.addresses(&self.interfaces);
        tracing::debug!(?hosts, "the addresses of this host have changed");
        let before = std::mem::replace(&mut self.hosts, hosts);
        if self.policy == CandidatePolicy::All {
            let new = self.hosts.iter().filter(|a| !before.contains(a));
            let new = new.map(|a| News::Found(LocalCandidate::host(*a)));
            let lost = before.iter().filter(|a| !self.hosts.contains(a));
            let lost = lost.map(|a| News::Lost(LocalCandidate::host(*a)));
            self.news.extend(new.chain(lost));
        }
        self.notice(Notice::NetworkChanged);
    }

    /// One that was not taken yet is enough.
    fn notice(&mut self, notice: Notice) {
        if !self.notices.contains(&notice) {
            self.notices.push_back(notice);
        }
    }
}
