//! The task's outer loop: join if need be, log in, serve, and again after a pause.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use waymesh_core::app::{RegistryCommand, RegistryEvent};
use waymesh_net::control::{Target, TlsTrust};
use waymesh_proto::control::{ClientMessage, InstanceId, PeerRules};
use waymesh_proto::ids::Incarnation;
use waymesh_proto::{Code, Fault, MessageId};
use waymesh_trust::certificate::CertificateError;

use super::dialog::Passed;
use super::join::{Joiner, Seen};
use super::login::{self, Entered, Saying, Weight, Weights};
use super::nudges::Nudges;
use super::own::Own;
use super::pace::Pace;
use super::session::{self, Desk};
use super::signals::Signals;
use super::state::Counters;
use super::trouble::{Ended, Trouble};
use super::{LinkConfig, News};
use crate::client::unix_ms;
use crate::home::Home;
use crate::marks::MarkBook;
use crate::members::Members;
use crate::membership::{Application, Membership, RegistryTls, Standing};
use crate::sealing_keys::SealingKeys;

/// The task's state over all connections.
#[derive(Debug)]
pub(super) struct Link {
    target: Target,
    home: Arc<Home>,
    standing: Standing,
    incarnation: Incarnation,
    instance: InstanceId,
    introduce: bool,
    rules: PeerRules,
    sealing: SealingKeys,
    members: Arc<Members>,
    marks: Arc<MarkBook>,
    /// Whom TLS trusts to vouch for the registry.
    authorities: TlsTrust,
    /// What is known of the registry since the node has asked to join.
    seen: Option<Seen>,
    /// Whether this process has been logged in: links may exist that no
    /// stranger on the registry's port may end.
    has_logged_in: bool,
    passed: Passed,
    signals: Signals,
    pace: Pace,
    /// Why the registry is away, as the log has said it.
    told_away: Option<Code>,
    counters: Arc<Counters>,
    nudges: Arc<Nudges>,
    news: mpsc::Sender<News>,
}

impl Link {
    pub(super) fn new(
        config: LinkConfig,
        counters: Arc<Counters>,
        nudges: Arc<Nudges>,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self {
            target: config.target,
            home: config.home,
            standing: config.standing,
            incarnation: config.incarnation,
            instance: InstanceId::from_bytes(rand::random()),
            introduce: config.introduce,
            rules: config.rules,
            sealing: config.sealing,
            members: config.members,
            marks: config.marks,
            authorities: config.authorities,
            seen: None,
            has_logged_in: false,
            passed: Passed::default(),
            signals: Signals::default(),
            pace: Pace::new(),
            told_away: None,
            counters,
            nudges,
            news,
        }
    }

    /// Runs until the driver closes its end or trying again would not help.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<RegistryCommand>) {
        let ended = loop {
            let (ended, since) = (self.attempt(&mut commands).await, Instant::now());
            match ended {
                Ok(()) => continue,
                Err(Trouble::Final(ended)) => break ended,
                Err(Trouble::Passing(fault)) => {
                    if let Err(ended) = self.tell_away(fault).await {
                        break ended;
                    }
                }
            }
            self.counters.failed_attempts.add();
            self.pace.handle_end(since, &mut rand::rng());
            if let Err(ended) = self.pause(&mut commands).await {
                break ended;
            }
        };
        if let Ended::Fatal(fault) = ended {
            // The driver may have gone at the same moment.
            let _ = self.news.send(News::Fatal(fault)).await;
        }
    }

    /// Says why the registry is away; in the log once for each reason, however often it is tried.
    async fn tell_away(&mut self, fault: Fault) -> Result<(), Ended> {
        let (registry, code) = (self.target.origin(), fault.code);
        if self.told_away.replace(code) == Some(code) {
            tracing::debug!(%code, why = %fault, %registry, "the registry is still not connected");
        } else {
            tracing::warn!(%code, why = %fault, %registry, "the registry is not connected; trying again until it is");
        }
        let told = self.news.send(News::Away(fault)).await;
        told.map_err(|_| Ended::ByDriver)
    }

    /// One connection from its first packet to its end; `Ok` when the node has
    /// become a member by it.
    async fn attempt(
        &mut self,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Result<(), Trouble> {
        let outcome = match self.standing.clone() {
            Standing::Applying(application) => self.join(&application, commands).await,
            Standing::Entering(membership) | Standing::Member(membership) => {
                Err(self.connect(membership, commands).await)
            }
        };
        outcome.map_err(|trouble| self.judge(trouble))
    }

    /// A newcomer has to know that there is nobody to trust at the registry's
    /// URL; a member has been there before, and comes back when the right one does.
    fn judge(&self, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Passing(fault) if fault.code == Code::UntrustedTls && !self.is_member() => {
                Trouble::fatal(fault)
            }
            trouble => trouble,
        }
    }

    const fn is_member(&self) -> bool {
        matches!(self.standing, Standing::Member(_))
    }

    /// TLS proves who the other side is before it says a word, and a newcomer
    /// has nothing to lose.
    fn weights(&self) -> Weights {
        Weights {
            stranger: match self.has_logged_in {
                true => Weight::Passing,
                false => Weight::Final,
            },
            refusal: match (self.is_member(), self.target.origin().is_tls()) {
                (false, _) => Weight::Final,
                (true, true) if self.has_logged_in => Weight::Twin,
                (true, true) => Weight::Final,
                (true, false) => Weight::Passing,
            },
        }
    }

    async fn join(
        &mut self,
        application: &Application,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Result<(), Trouble> {
        let mut joiner = Joiner {
            keypair: self.home.keypair(),
            application,
            seen: &mut self.seen,
        };
        let joining = joiner.join(&self.target, &mut self.passed, &self.news);
        let joined = offline(commands, &self.news, &self.counters, &self.marks, joining).await;
        if application.tls == RegistryTls::FirstUse {
            self.end_first_use()?;
        }
        let membership = joined.map_err(Trouble::Final)??;
        self.settle_in(membership);
        Ok(())
    }

    /// Whoever the registry was at the first connection, by a key that was
    /// trusted on first use or by an authority's word, is it from then on.
    fn end_first_use(&mut self) -> Result<(), Trouble> {
        if let Some(seen) = self.seen {
            let trust = seen.tls.trust(self.authorities.clone());
            let target = self.target.trusting(&trust);
            self.target = target.map_err(|error| Trouble::fatal(error.fault()))?;
        }
        Ok(())
    }

    /// The node is a member from now on, in its later lives too.
    fn settle_in(&mut self, membership: Membership) {
        if let Err(error) = self.home.store_membership(&membership) {
            tracing::error!(%error, "the membership could not be kept: the next start needs an invite again");
        }
        self.standing = Standing::Member(membership);
    }

    async fn connect(
        &mut self,
        membership: Membership,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Trouble {
        let keypair = self.home.keypair().clone();
        let mut own = match Own::new(keypair, membership, unix_ms()) {
            Ok(own) => own,
            Err(error) => return unusable(&error),
        };
        self.members.begin(*own.mesh());
        self.members.set_own(&own.verified);
        if let Err(revoked) = self.members.check_own() {
            return Trouble::fatal(revoked);
        }
        let entered = match self.log_in(&own, commands).await {
            Ok(entered) => entered,
            Err(trouble) => return trouble,
        };
        if matches!(self.standing, Standing::Entering(_)) {
            self.settle_in(own.membership.clone());
        }
        let trouble = self.serve(&mut own, entered, commands).await;
        self.standing = Standing::Member(own.membership);
        trouble
    }

    async fn log_in(
        &mut self,
        own: &Own,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Result<Entered, Trouble> {
        if let Err(error) = self.sealing.handle_time(unix_ms(), rand::random()) {
            tracing::error!(%error, "the sealing key cannot be replaced");
        }
        let saying = Saying {
            incarnation: self.incarnation,
            instance: self.instance,
            sealing: self
                .sealing
                .statement(&own.keypair, own.agent_id(), own.mesh()),
            introduce: self.introduce,
        };
        let (target, members, weights) = (&self.target, &self.members, self.weights());
        let login = login::log_in(target, &mut self.passed, own, saying, weights, members);
        let login = offline(commands, &self.news, &self.counters, &self.marks, login).await;
        login.map_err(Trouble::Final)?
    }

    async fn serve(
        &mut self,
        own: &mut Own,
        entered: Entered,
        commands: &mut mpsc::Receiver<RegistryCommand>,
    ) -> Trouble {
        self.counters.logins.add();
        self.has_logged_in = true;
        if self.told_away.take().is_some() {
            tracing::info!(registry = %self.target.origin(), "the registry is connected again");
        }
        let desk = Desk {
            own,
            sealing: &mut self.sealing,
            signals: &mut self.signals,
            incarnation: self.incarnation,
            home: &self.home,
            members: &self.members,
            marks: &self.marks,
            counters: &self.counters,
            nudges: &self.nudges,
            round_trip: entered.round_trip,
            news: &self.news,
        };
        let rules = ClientMessage::Rules(self.rules.clone());
        let since = Instant::now();
        let ending = session::serve(desk, entered.socket, rules, commands).await;
        self.pace
            .handle_session(since.elapsed(), ending.was_in_doubt);
        let trouble = ending.trouble;
        match self
            .news
            .send(News::Event(RegistryEvent::Disconnected))
            .await
        {
            Ok(()) => trouble,
            Err(_) => Trouble::Final(Ended::ByDriver),
        }
    }

    async fn pause(&self, commands: &mut mpsc::Receiver<RegistryCommand>) -> Result<(), Ended> {
        let Some(at) = self.pace.not_before() else {
            return Ok(());
        };
        // Another network may lead to the registry.
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = self.nudges.network_changed.notified() => {}
            }
        };
        offline(commands, &self.news, &self.counters, &self.marks, pause).await
    }
}

/// The own certificate is of no use: for now when a clock is wrong, else for good.
fn unusable(error: &CertificateError) -> Trouble {
    match error {
        CertificateError::NotYetValid { .. } => Trouble::Passing(error.fault()),
        _ => Trouble::fatal(error.fault()),
    }
}

/// Runs a future while the registry is away: what core wants is answered or
/// dropped meanwhile, because core asks again after `Connected`. Marks are
/// written: an application has what they mark.
async fn offline<T>(
    commands: &mut mpsc::Receiver<RegistryCommand>,
    news: &mpsc::Sender<News>,
    counters: &Counters,
    marks: &MarkBook,
    future: impl Future<Output = T>,
) -> Result<T, Ended> {
    tokio::pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return Ok(output),
            command = commands.recv() => match command {
                None => return Err(Ended::ByDriver),
                Some(RegistryCommand::Find { id, .. }) => {
                    counters.commands_offline.add();
                    if news.send(unreachable_answer(id)).await.is_err() {
                        return Err(Ended::ByDriver);
                    }
                }
                Some(
                    RegistryCommand::Settle {
                        mark: Some(mark), ..
                    }
                    | RegistryCommand::Mark(mark),
                ) => _ = marks.add(mark),
                Some(_) => counters.commands_offline.add(),
            },
        }
    }
}

/// The answer to a find that the registry will not give.
pub(super) fn unreachable_answer(id: MessageId) -> News {
    let fault = Fault::new(
        Code::RegistryUnreachable,
        "the registry is not connected at the moment",
    )
    .with_hint("the node tries again by itself; check that the registry runs");
    let outcome = Err(fault);
    News::Event(RegistryEvent::Found { id, outcome })
}
