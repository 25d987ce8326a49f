//! Where the hostile registry departs from honesty: every step that it can
//! take otherwise, each honest at first.

use waymesh_proto::control::{
    Challenge, Join, Login, MemberRecord, Posted, ServerMessage, Welcome,
};
use waymesh_proto::mailbox::{Item, Note};
use waymesh_proto::signaling::SignedSignal;
use waymesh_proto::{AgentId, Code};

use super::House;

/// An item, to whom it is pushed, and what is noted on it.
pub(crate) type Push = (AgentId, Note, Item);

/// Answers to a request to join.
type JoinHook = Box<dyn Fn(&Join, &Challenge) -> Vec<ServerMessage> + Send + Sync>;

type Hook<A, B> = Box<dyn Fn(A) -> B + Send + Sync>;
type HouseHook<A, B> = Box<dyn Fn(&House, A) -> B + Send + Sync>;

/// What it does at each step, given what an honest registry would do.
pub(crate) struct Malice {
    /// What it challenges with.
    pub(crate) challenge: Hook<Challenge, Challenge>,
    /// Sees a login.
    pub(crate) login: Box<dyn Fn(&Login) + Send + Sync>,
    /// What it refuses every login with.
    pub(crate) refusal: Option<Code>,
    /// How it proves itself.
    pub(crate) welcome: Hook<Welcome, Welcome>,
    /// What it answers to a request to join.
    pub(crate) join: JoinHook,
    /// What it says first to a node that has logged in.
    pub(crate) greeting: HouseHook<AgentId, Vec<ServerMessage>>,
    /// The records that it gives out in place of one.
    pub(crate) record: HouseHook<MemberRecord, Vec<MemberRecord>>,
    /// The signals that it passes on in place of one, and to whom.
    pub(crate) signal: HouseHook<SignedSignal, Vec<(AgentId, SignedSignal)>>,
    /// What it says of a posted item.
    pub(crate) posted: Hook<Posted, Vec<Posted>>,
    /// The items that it pushes in place of one.
    pub(crate) push: HouseHook<Push, Vec<Push>>,
}

/// The receiver that a signal names.
pub(crate) fn receiver(signal: &SignedSignal) -> AgentId {
    signal.decode_body().expect("a body").to
}

impl Malice {
    /// None at all.
    pub(crate) fn none() -> Self {
        Self {
            challenge: Box::new(|honest| honest),
            login: Box::new(|_| {}),
            refusal: None,
            welcome: Box::new(|honest| honest),
            join: Box::new(|_, _| Vec::new()),
            greeting: Box::new(|_, _| Vec::new()),
            record: Box::new(|_, honest| vec![honest]),
            signal: Box::new(|_, honest| vec![(receiver(&honest), honest)]),
            posted: Box::new(|honest| vec![honest]),
            push: Box::new(|_, honest| vec![honest]),
        }
    }

    pub(crate) fn challenge(
        mut self,
        evil: impl Fn(Challenge) -> Challenge + Send + Sync + 'static,
    ) -> Self {
        self.challenge = Box::new(evil);
        self
    }

    pub(crate) fn login(mut self, spy: impl Fn(&Login) + Send + Sync + 'static) -> Self {
        self.login = Box::new(spy);
        self
    }

    pub(crate) fn refusal(mut self, code: Code) -> Self {
        self.refusal = Some(code);
        self
    }

    pub(crate) fn welcome(
        mut self,
        evil: impl Fn(Welcome) -> Welcome + Send + Sync + 'static,
    ) -> Self {
        self.welcome = Box::new(evil);
        self
    }

    pub(crate) fn join(
        mut self,
        evil: impl Fn(&Join, &Challenge) -> Vec<ServerMessage> + Send + Sync + 'static,
    ) -> Self {
        self.join = Box::new(evil);
        self
    }

    pub(crate) fn greeting(
        mut self,
        evil: impl Fn(&House, AgentId) -> Vec<ServerMessage> + Send + Sync + 'static,
    ) -> Self {
        self.greeting = Box::new(evil);
        self
    }

    pub(crate) fn record(
        mut self,
        evil: impl Fn(&House, MemberRecord) -> Vec<MemberRecord> + Send + Sync + 'static,
    ) -> Self {
        self.record = Box::new(evil);
        self
    }

    pub(crate) fn signal(
        mut self,
        evil: impl Fn(&House, SignedSignal) -> Vec<(AgentId, SignedSignal)> + Send + Sync + 'static,
    ) -> Self {
        self.signal = Box::new(evil);
        self
    }

    pub(crate) fn posted(
        mut self,
        evil: impl Fn(Posted) -> Vec<Posted> + Send + Sync + 'static,
    ) -> Self {
        self.posted = Box::new(evil);
        self
    }

    pub(crate) fn push(
        mut self,
        evil: impl Fn(&House, Push) -> Vec<Push> + Send + Sync + 'static,
    ) -> Self {
        self.push = Box::new(evil);
        self
    }
}
