//! Control connections over plain HTTP requests, where no WebSocket passes
//! (`spec/http.md`).
//!
//! A session is a carrier like a WebSocket: the same connection code runs over
//! it. What the node posts goes in, what a waiting `GET` takes comes out. Every
//! request proves the key that opened the session, so that its id alone is
//! worth nothing to whoever learns it.
//!
//! ```text
//!  POST in ──messages──▶ session ──Incoming──▶ connection ──▶ driver
//!  GET out ◀──messages── session ◀──Outlet──── connection ◀── driver
//! ```
//!
//! Invariant: a session is known by its id exactly as long as its connection
//! lasts or its last messages wait to be fetched.

mod routes;
mod session;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use waymesh_proto::{AgentId, PollId};

use crate::source::Source;
use session::{Carrier, Session};

pub(crate) use routes::{give_out, open, take_in};

/// Sessions at a time; one more is refused with `rate_limited`. Chosen: a
/// quarter of all control connections, since each costs more.
const SESSIONS_MAX: usize = 1_024;

/// Sessions of one address that is not this machine's. Chosen: a quarter, so
/// that several addresses are needed to take all.
const SOURCE_SESSIONS_MAX: usize = 256;

/// How long the last messages of a session that has ended wait for a `GET`.
/// Chosen: a round trip of a bad line.
const LINGER: Duration = Duration::from_secs(2);

/// All sessions, and the tasks that serve them.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<PollId, Entry>>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    source: Source,
}

/// There is no room for one more session.
#[derive(Debug, PartialEq, Eq)]
struct Full;

impl Sessions {
    /// Opens a session, which `serve` serves until it returns or nobody polls.
    fn open<F>(
        self: &Arc<Self>,
        id: PollId,
        key: AgentId,
        source: Source,
        serve: impl FnOnce(Carrier) -> F,
    ) -> Result<(), Full>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (session, carrier) = Session::new(key);
        let entry = Entry {
            session: Arc::clone(&session),
            source,
        };
        self.insert(id, entry)?;
        let connection = serve(carrier);
        let sessions = Arc::downgrade(self);
        let task = async move {
            connection.await;
            let _ = timeout(LINGER, session.emptied()).await;
            close(&sessions, id);
        };
        let mut tasks = self.tasks();
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a long-poll session failed; please report this");
            }
        }
        tasks.spawn(task);
        Ok(())
    }

    fn insert(&self, id: PollId, entry: Entry) -> Result<(), Full> {
        let mut open = self.lock();
        let of_source = || open.values().filter(|e| e.source == entry.source).count();
        let has_share = !entry.source.is_this_machine() && of_source() >= SOURCE_SESSIONS_MAX;
        if open.len() >= SESSIONS_MAX || has_share {
            return Err(Full);
        }
        open.insert(id, entry);
        Ok(())
    }

    fn find(&self, id: &PollId) -> Option<Arc<Session>> {
        self.lock().get(id).map(|entry| Arc::clone(&entry.session))
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends all of them. For when no request can come any more that would
    /// fetch their last messages.
    pub(crate) async fn end(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PollId, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(sessions: &Weak<Sessions>, id: PollId) {
    if let Some(sessions) = sessions.upgrade() {
        sessions.lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn opened(sessions: &Arc<Sessions>, number: u64, ip: &str) -> Result<(), Full> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let ip: IpAddr = ip.parse().expect("an address");
        let key = AgentId::from_bytes([1; 32]);
        sessions.open(
            PollId::from_bytes(id),
            key,
            Source::of(ip),
            |carrier| async {
                std::future::pending::<()>().await;
                drop(carrier);
            },
        )
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_one_session_more_is_refused() {
        let sessions = Arc::<Sessions>::default();
        for number in 0..SOURCE_SESSIONS_MAX as u64 {
            assert_eq!(opened(&sessions, number, "192.0.2.1"), Ok(()));
        }
        assert_eq!(opened(&sessions, 9_000, "192.0.2.1"), Err(Full));
        assert_eq!(opened(&sessions, 9_001, "192.0.2.2"), Ok(()));
    }

    #[tokio::test]
    async fn this_machine_may_have_all_sessions_and_one_more_is_refused() {
        let sessions = Arc::<Sessions>::default();
        for number in 0..SESSIONS_MAX as u64 {
            assert_eq!(opened(&sessions, number, "127.0.0.1"), Ok(()));
        }
        assert_eq!(opened(&sessions, 9_000, "127.0.0.1"), Err(Full));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_whose_connection_has_ended_is_forgotten() {
        let sessions = Arc::<Sessions>::default();
        let source = Source::of(IpAddr::from([127, 0, 0, 1]));
        let (id, key) = (PollId::from_bytes([1; 16]), AgentId::from_bytes([1; 32]));
        sessions
            .open(id, key, source, |_carrier| async {})
            .expect("room");
        assert!(
            sessions.find(&id).is_some(),
            "its last messages may be fetched"
        );
        let mut tasks = std::mem::take(&mut *sessions.tasks());
        while tasks.join_next().await.is_some() {}
        assert!(sessions.find(&id).is_none());
    }
}
