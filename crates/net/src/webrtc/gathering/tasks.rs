//! What blocks or waits: the watch over this host's addresses and the resolving of names.
//! Each is a task that the endpoint owns; what they find comes back through one bounded queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc};
use waymesh_proto::ice::IceUrl;

use super::servers::is_udp;
use super::{Gathering, News, Notice};
use crate::webrtc::candidates::LocalCandidate;
use crate::webrtc::config::CandidatePolicy;
use crate::webrtc::interfaces::{Interfaces, Watch};
use crate::webrtc::names::{self, HostPort};
use crate::webrtc::relays::Kept;

/// What the tasks found and the endpoint has not taken; when it is full, they wait.
pub(super) const FOUND_CAP: usize = 64;

/// What a task found.
#[derive(Debug)]
pub(super) enum Found {
    /// The addresses may have changed to these.
    Interfaces(Interfaces),
    /// A name was resolved, or was not.
    Resolved(HostPort, Result<Vec<SocketAddr>, String>),
}

/// A task's way to the endpoint.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) found: mpsc::Sender<Found>,
    pub(super) woken: Arc<Notify>,
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
    pub(super) fn watch(&mut self) {
        if self.rules.loopback_only {
            return;
        }
        let (post, known) = (self.post.clone(), self.interfaces.clone());
        self.tasks.spawn(async move {
            let mut watch = Watch::start(known);
            loop {
                let found = Found::Interfaces(watch.changed().await);
                if post.send(found).await.is_err() {
                    break;
                }
            }
        });
    }

    /// Waits until [`Gathering::handle_found`] may find something. Cancel safe.
    pub(in crate::webrtc) async fn woken(&self) {
        self.post.woken.notified().await;
    }

    /// Takes what the tasks found.
    pub(in crate::webrtc) fn handle_found(&mut self, now: Instant) {
        while let Ok(found) = self.found.try_recv() {
            match found {
                Found::Interfaces(interfaces) => self.handle_interfaces(now, interfaces),
                Found::Resolved(name, answer) => {
                    let learned = self.names.handle_answer(now, &name, answer);
                    self.meet_addresses(now);
                    self.relays
                        .handle_resolved(now, &self.names, &name, learned);
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
        if !self.relays.is_empty() {
            self.hear_relays(now);
        }
    }

    fn handle_interfaces(&mut self, now: Instant, interfaces: Interfaces) {
        if interfaces == self.interfaces {
            // Perhaps another route.
            if self.is_wanted() {
                self.reflexive.ask_again(now);
            }
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
        self.names.make_old();
        self.reflexive.forget(now);
        if self.is_wanted() {
            self.ask_names(now);
            self.meet_addresses(now);
            self.reflexive.ask_again(now);
            let has_lost = before.iter().any(|a| !self.hosts.contains(a));
            let kept = if has_lost {
                Kept::On(&self.hosts)
            } else {
                Kept::All
            };
            self.relays.restart(now, &self.names, kept);
            self.hear_relays(now);
        } else {
            self.meet_servers(now);
        }
    }

    pub(super) fn ask_names(&mut self, now: Instant) {
        let urls: Vec<IceUrl> = self.urls().filter(|url| is_udp(url)).cloned().collect();
        for url in urls {
            if let Some(name) = self.names.question(now, &url) {
                let post = self.post.clone();
                self.tasks.spawn(async move {
                    let answer = names::resolve(&name).await;
                    // When the endpoint is gone, nobody waits.
                    let _ = post.send(Found::Resolved(name, answer)).await;
                });
            }
        }
    }
}
