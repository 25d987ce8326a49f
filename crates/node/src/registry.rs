//! The connection to the registry, kept by a task of its own.
//!
//! ```text
//!  driver ──RegistryCommand──▶ link task ──control messages──▶ registry
//!         ◀──────News─────────           ◀────────────────────
//! ```
//!
//! The task connects, joins the mesh if the node is no member yet, proves who
//! the node is and checks who the registry is. It signs what core wants
//! signaled, seals what core wants posted, and believes the registry nothing:
//! records, signals and items reach core only with a certificate of the mesh
//! that holds. It decides nothing about links: when the registry is away, core
//! hears `Disconnected` and goes on with the links that it has, and the task
//! tries again.

mod dialog;
mod finds;
mod introductions;
mod join;
mod link;
mod login;
mod mail;
mod nudges;
mod own;
mod pace;
mod session;
mod settlements;
mod signals;
mod state;
#[cfg(test)]
mod tests;
mod trouble;
mod visit;
mod writer;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use waymesh_core::app::{RegistryCommand, RegistryEvent};
use waymesh_net::control::{Target, TlsTrust};
use waymesh_proto::control::PeerRules;
use waymesh_proto::ice::IceServers;
use waymesh_proto::{Code, Fault, Incarnation};

use crate::home::Home;
use crate::marks::MarkBook;
use crate::members::Members;
use crate::membership::Standing;
use crate::sealing_keys::SealingKeys;
use nudges::Nudges;

pub use join::PendingJoin;
#[cfg(test)]
pub(crate) use own::tests::example_member;
pub(crate) use state::Counters;
pub use state::CountersSnapshot;
pub use visit::Visit;

/// Commands that wait for the task; when it is full, core keeps the rest.
const DRIVER_TO_LINK_CAP: usize = 256;

/// News that wait for the driver; when it is full, the task reads no more from
/// the registry, which after a while counts the node as too slow.
const LINK_TO_DRIVER_CAP: usize = 256;

/// What a link is made with.
#[derive(Debug)]
pub(crate) struct LinkConfig {
    /// Where the registry is and how it is reached.
    pub(crate) target: Target,
    /// Whom TLS trusts to vouch for the registry.
    pub(crate) authorities: TlsTrust,
    /// What the node starts with.
    pub(crate) standing: Standing,
    /// Where its key and membership are.
    pub(crate) home: Arc<Home>,
    /// This life of the node.
    pub(crate) incarnation: Incarnation,
    /// Whether it wants to be told of others ahead of need.
    pub(crate) introduce: bool,
    /// The part of its policy that the registry is told.
    pub(crate) rules: PeerRules,
    /// The keys that messages to it are sealed with.
    pub(crate) sealing: SealingKeys,
    /// What it knows of others.
    pub(crate) members: Arc<Members>,
    /// What its applications have consumed.
    pub(crate) marks: Arc<MarkBook>,
}

/// What the task tells the driver.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all news are events, and a queue of them is short"
)]
pub(crate) enum News {
    /// For core.
    Event(RegistryEvent),
    /// An admin has to agree to this request.
    Pending(PendingJoin),
    /// The STUN and TURN servers to use from now on.
    Servers(IceServers),
    /// The registry is not connected, and is tried again.
    Away(Fault),
    /// The task has ended, because trying again would not help.
    Fatal(Fault),
}

/// The driver's end. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct RegistryLink {
    commands: Option<mpsc::Sender<RegistryCommand>>,
    news: mpsc::Receiver<News>,
    kept: Option<News>,
    wants_place: bool,
    counters: Arc<Counters>,
    nudges: Arc<Nudges>,
    task: Option<JoinHandle<()>>,
}

/// Room for one command.
#[derive(Debug)]
pub(crate) struct Place<'a>(mpsc::Permit<'a, RegistryCommand>);

impl Place<'_> {
    /// Hands the command to the task.
    pub(crate) fn send(self, command: RegistryCommand) {
        self.0.send(command);
    }
}

/// Starts the task on the current tokio runtime. It tries until it is closed
/// or trying again would not help.
pub(crate) fn spawn(config: LinkConfig) -> RegistryLink {
    let (commands, from_driver) = mpsc::channel(DRIVER_TO_LINK_CAP);
    let (to_driver, news) = mpsc::channel(LINK_TO_DRIVER_CAP);
    let counters = Arc::<Counters>::default();
    let nudges = Arc::<Nudges>::default();
    let link = link::Link::new(
        config,
        Arc::clone(&counters),
        Arc::clone(&nudges),
        to_driver,
    );
    #[expect(
        clippy::disallowed_methods,
        reason = "RegistryLink keeps the handle and awaits it in close"
    )]
    let task = tokio::spawn(link.run(from_driver));
    RegistryLink {
        commands: Some(commands),
        news,
        kept: None,
        wants_place: false,
        counters,
        nudges,
        task: Some(task),
    }
}

impl RegistryLink {
    /// Waits until there is news, or room again where [`RegistryLink::place`]
    /// found none (then it gives `None`). Cancel safe.
    pub(crate) async fn wait(&mut self) -> Option<News> {
        if self.kept.is_some() {
            return self.kept.take();
        }
        let (commands, wants_place) = (self.commands.as_ref(), self.wants_place);
        let room = async {
            match commands {
                Some(commands) if wants_place => drop(commands.reserve().await),
                _ => std::future::pending().await,
            }
        };
        if self.task.is_none() {
            return std::future::pending().await;
        }
        tokio::select! {
            news = self.news.recv() => match news {
                Some(news) => Some(news),
                None => Some(self.ended()),
            },
            () = room => {
                self.wants_place = false;
                None
            }
        }
    }

    /// Gives back what [`RegistryLink::wait`] gave, to be taken next.
    pub(crate) fn put_back(&mut self, news: Option<News>) {
        if news.is_some() {
            self.kept = news;
        }
    }

    /// The next news, if there are any.
    pub(crate) fn try_next(&mut self) -> Option<News> {
        let next = self.kept.take().or_else(|| self.news.try_recv().ok())?;
        if matches!(next, News::Fatal(_)) {
            self.task = None;
        }
        Some(next)
    }

    /// Room for a command; `None` while the queue is full.
    pub(crate) fn place(&mut self) -> Option<Place<'_>> {
        match self.commands.as_ref()?.try_reserve() {
            Ok(permit) => Some(Place(permit)),
            Err(mpsc::error::TrySendError::Full(())) => {
                self.wants_place = true;
                None
            }
            Err(mpsc::error::TrySendError::Closed(())) => None,
        }
    }

    /// What the task counts, as it counts it.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Has the task look whether its connection still carries anything, or
    /// connect at once: the network is another one.
    pub(crate) fn check(&self) {
        self.nudges.network_changed.notify_one();
    }

    /// Has the task ask for the STUN and TURN servers anew: their credentials are old.
    pub(crate) fn ask_servers(&self) {
        self.nudges.servers_refused.notify_one();
    }

    /// Says good-bye to the registry and ends the task. Events not taken are lost.
    pub(crate) async fn close(&mut self) {
        self.commands = None;
        self.news.close();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the registry's link ended badly");
        }
    }

    /// The task has ended without saying why: a fault of this program.
    fn ended(&mut self) -> News {
        self.task = None;
        let message = "the task that keeps the registry's connection ended by itself";
        News::Fatal(Fault::new(Code::Internal, message))
    }
}
