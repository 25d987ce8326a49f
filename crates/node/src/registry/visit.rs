//! A visit to the registry as the member of a data directory that no node runs on: log in,
//! ask for STUN and TURN servers, leave. Nothing that waits in the mailbox is taken.

use std::path::PathBuf;
use std::sync::Arc;

use waymesh_net::control::{ControlSocket, Message, ProxyEnvironment, Received, Target, TlsTrust};
use waymesh_proto::control::{ClientMessage, InstanceId, Origin, ServerMessage};
use waymesh_proto::ice::IceServers;
use waymesh_proto::{Code, Fault};

use super::dialog::{LOGIN_TIMEOUT, Passed, SEND_TIMEOUT};
use super::login::{Saying, Weight, Weights, log_in};
use super::own::Own;
use super::trouble::Trouble;
use crate::client::unix_ms;
use crate::home::Home;
use crate::members::Members;
use crate::membership::{Membership, Standing};
use crate::node::{self, StartError};
use crate::sealing_keys::SealingKeys;

/// Who visits the registry, and how it is reached.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The data directory of a member. It is locked meanwhile, as while a node runs on it.
    pub data_dir: PathBuf,
    /// The registry, if it is not where the membership says.
    pub registry: Option<Origin>,
    /// TLS authorities to trust too.
    pub authorities: TlsTrust,
    /// What is on the way to the registry.
    pub proxies: ProxyEnvironment,
}

impl Visit {
    /// Asks for the STUN and TURN servers that the registry names this member, with
    /// credentials. It is a life of the node as any other: peers may see it online for a
    /// moment, and its incarnation is the newest then.
    ///
    /// # Errors
    ///
    /// `identity_in_use` while a node runs on the directory, `invite_required` when it is no
    /// member's; what the registry or the way to it says.
    pub async fn servers(self) -> Result<IceServers, Fault> {
        let no_member = || {
            Fault::new(
                Code::InviteRequired,
                "there is no membership to log in with",
            )
        };
        // Before the directory is opened, which would make it one.
        Home::peek_membership(&self.data_dir)?.ok_or_else(no_member)?;
        let home = Arc::new(Home::open(&self.data_dir)?);
        let mut membership = home.membership()?.ok_or_else(no_member)?;
        if let Some(registry) = &self.registry {
            membership.registry = registry.clone();
        }
        let members = Arc::new(Members::open(&home)?);
        let asked = self.ask(&home, &members, membership).await;
        if let Some(members) = Arc::into_inner(members) {
            members.close().await;
        }
        asked
    }

    async fn ask(
        &self,
        home: &Arc<Home>,
        members: &Members,
        membership: Membership,
    ) -> Result<IceServers, Fault> {
        let now_ms = unix_ms();
        let target = self.target(home, &membership)?;
        let own = Own::new(home.keypair().clone(), membership, now_ms);
        let own = own.map_err(|error| error.fault())?;
        members.begin(*own.mesh());
        members.set_own(&own.verified);
        members.check_own()?;
        let sealing = SealingKeys::open(Arc::clone(home), now_ms)?;
        let saying = Saying {
            incarnation: home.next_incarnation(now_ms)?,
            instance: InstanceId::from_bytes(rand::random()),
            sealing: sealing.statement(&own.keypair, own.agent_id(), own.mesh()),
            introduce: false,
        };
        let weights = Weights {
            stranger: Weight::Final,
            refusal: Weight::Final,
        };
        let mut passed = Passed::default();
        let login = log_in(&target, &mut passed, &own, saying, weights, members);
        let mut socket = login.await.map_err(Trouble::into_fault)?.socket;
        let told = told_servers(&mut socket).await;
        socket.close().await;
        told
    }

    fn target(&self, home: &Home, membership: &Membership) -> Result<Target, Fault> {
        let standing = Standing::Member(membership.clone());
        node::target(&standing, &self.authorities, &self.proxies, home.keypair())
            .map_err(StartError::into)
    }
}

/// Asks, and hears past what the registry says to whoever comes online.
async fn told_servers(socket: &mut ControlSocket) -> Result<IceServers, Fault> {
    let question = Message::Text(ClientMessage::IceServers.encode());
    let sent = socket.send(question, SEND_TIMEOUT).await;
    sent.map_err(|error| error.fault())?;
    let answer = async {
        loop {
            let received = socket.receive().await;
            let Received::Text(text) = received.map_err(|error| error.fault())? else {
                continue;
            };
            let message = ServerMessage::decode(text.as_bytes()).map_err(Trouble::passing);
            match message.map_err(Trouble::into_fault)? {
                ServerMessage::IceServers(servers) => return Ok(servers),
                ServerMessage::Error { error } => return Err(error),
                _ => {}
            }
        }
    };
    let answer = tokio::time::timeout(LOGIN_TIMEOUT, answer).await;
    answer.unwrap_or_else(|_| {
        let message = "the registry does not say which servers there are";
        Err(Fault::new(Code::RegistryUnreachable, message))
    })
}
