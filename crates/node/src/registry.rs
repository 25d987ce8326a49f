//! The connection to the registry, kept by a task of its own.
//!
//! ```text
//!  driver ──RegistryCommand──▶ link task ──control messages──▶ registry
//!         ◀──────News─────────           ◀────────────────────
//! ```
//!
//! The task connects, proves who the node is and checks who the registry is,
//! signs what core wants signaled and verifies what peers signal. It decides
//! nothing about links: when the registry is away, core hears `Disconnected`
//! and goes on with the links that it has, and the task tries again.

mod finds;
mod link;
mod session;
mod signals;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use waymesh_core::app::{RegistryCommand, RegistryEvent};
use waymesh_proto::control::Origin;
use waymesh_proto::{Code, Fault, Incarnation, Name};
use waymesh_trust::Keypair;
pub use waymesh_trust::login::Pin;

pub use state::{Counters, CountersSnapshot};

/// Commands that wait for the task; when it is full, core keeps the rest.
const DRIVER_TO_LINK_CAP: usize = 256;

/// News that wait for the driver; when it is full, the task reads no more from
/// the registry, which after a while counts the node as too slow.
const LINK_TO_DRIVER_CAP: usize = 256;

/// What a link is made with.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The registry's URL.
    pub url: String,
    /// The node's key.
    pub keypair: Keypair,
    /// The name that the agent wants.
    pub name: Name,
    /// This life of the node.
    pub incarnation: Incarnation,
    /// The registry that the node has known since an earlier login.
    pub pinned: Option<Pin>,
}

/// What the task tells the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// For core.
    Event(RegistryEvent),
    /// The first login succeeded: this registry is to be remembered.
    Pinned(Pin),
    /// The task has ended, because trying again would not help: `name_taken`,
    /// `identity_in_use`, `wrong_registry` or `registry_identity_changed`. Once
    /// a registry is known, only that registry itself can say so, but for the
    /// first login of a process, which finds out whether it still is there.
    Fatal(Fault),
}

/// The driver's end. Dropping it ends the task.
#[derive(Debug)]
pub struct RegistryLink {
    commands: Option<mpsc::Sender<RegistryCommand>>,
    news: mpsc::Receiver<News>,
    kept: Option<News>,
    wants_place: bool,
    counters: Arc<Counters>,
    task: Option<JoinHandle<()>>,
}

/// Room for one command.
#[derive(Debug)]
pub struct Place<'a>(mpsc::Permit<'a, RegistryCommand>);

impl Place<'_> {
    /// Hands the command to the task.
    pub fn send(self, command: RegistryCommand) {
        self.0.send(command);
    }
}

/// Starts the task on the current tokio runtime. It tries until it is closed
/// or the registry refuses it for good.
///
/// # Errors
/// The URL is not that of a registry, or not one that this version can reach.
pub fn spawn(config: LinkConfig) -> Result<RegistryLink, Fault> {
    let origin = origin_of(&config.url)?;
    let (commands, from_driver) = mpsc::channel(DRIVER_TO_LINK_CAP);
    let (to_driver, news) = mpsc::channel(LINK_TO_DRIVER_CAP);
    let counters = Arc::<Counters>::default();
    let link = link::Link::new(config, origin, Arc::clone(&counters), to_driver);
    #[expect(
        clippy::disallowed_methods,
        reason = "RegistryLink keeps the handle and awaits it in close"
    )]
    let task = tokio::spawn(link.run(from_driver));
    Ok(RegistryLink {
        commands: Some(commands),
        news,
        kept: None,
        wants_place: false,
        counters,
        task: Some(task),
    })
}

fn origin_of(url: &str) -> Result<Origin, Fault> {
    let hint = "give the URL that the registry prints at its start, such as http://127.0.0.1:7700";
    let origin: Origin = url
        .parse()
        .map_err(|e| Fault::new(Code::Usage, format!("{url:?} is {e}")).with_hint(hint))?;
    if origin.is_tls() {
        let message = "this version does not speak TLS to a registry";
        return Err(Fault::new(Code::NotSupportedYet, message).with_hint(hint));
    }
    Ok(origin)
}

impl RegistryLink {
    /// Waits until there is news, or room again where [`RegistryLink::place`]
    /// found none (then it gives `None`). Cancel safe.
    pub async fn wait(&mut self) -> Option<News> {
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
    pub fn put_back(&mut self, news: Option<News>) {
        if news.is_some() {
            self.kept = news;
        }
    }

    /// The next news, if there are any.
    pub fn try_next(&mut self) -> Option<News> {
        let next = self.kept.take().or_else(|| self.news.try_recv().ok())?;
        if matches!(next, News::Fatal(_)) {
            self.task = None;
        }
        Some(next)
    }

    /// Room for a command; `None` while the queue is full.
    pub fn place(&mut self) -> Option<Place<'_>> {
        match self.commands.as_ref()?.try_reserve() {
            Ok(permit) => Some(Place(permit)),
            Err(mpsc::error::TrySendError::Full(())) => {
                self.wants_place = true;
                None
            }
            Err(mpsc::error::TrySendError::Closed(())) => None,
        }
    }

    /// What the task has dropped, by reason.
    pub fn counters(&self) -> CountersSnapshot {
        self.counters.snapshot()
    }

    /// Says good-bye to the registry and ends the task. Events not taken are lost.
    pub async fn close(&mut self) {
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
