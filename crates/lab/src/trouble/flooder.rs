//! A member without a node that says as much as its connection carries, and what it is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use waymesh_net::control::{
    Carrier, CarrierChoice, ControlReceiver, ControlSender, ControlSocket, Message,
    ProxyEnvironment, Received, Target, TlsTrust,
};
use waymesh_proto::control::{
    Challenge, ClientMessage, InstanceId, MemberRecord, Nonce, PostedState, ServerMessage,
};
use waymesh_proto::ids::{ItemId, KeyId, MessageId, Name, SessionId};
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::mailbox::{Item, ItemHeader, Keep, encode_post};
use waymesh_proto::membership::Certificate;
use waymesh_proto::signaling::{Signal, SignalBody};
use waymesh_proto::{AgentId, Class, Code, Incarnation};
use waymesh_trust::invite::{Applicant, InviteSecret};
use waymesh_trust::login::{self, Who};
use waymesh_trust::sealing::{SealingKey, verify_statement};
use waymesh_trust::{Keypair, certificate, mesh_id, signal};

/// How long the registry may take for one step.
const LIMIT: Duration = Duration::from_secs(30);

/// What one batch has of everything, and the bytes of a post. Chosen: beyond each limit
/// within a second, if the connection carries it.
const POSTS: usize = 100;
const FINDS: usize = 100;
const SIGNALS: usize = 50;
const RESOLVES: usize = 20;
const POST_BYTES: usize = 1_024;

/// A member of the mesh and its victims.
#[derive(Debug)]
pub(super) struct Flooder {
    invite: InviteSecret,
    keypair: Keypair,
    name: Name,
    certificate: Certificate,
    victims: Vec<Name>,
}

/// What was said, and what the registry would not do.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) sent: u64,
    /// How often, by code.
    pub(super) refused: BTreeMap<String, u64>,
    /// Connections that the registry closed.
    pub(super) closed: u64,
}

/// Where a victim's mailbox is.
#[derive(Debug, Clone, Copy)]
struct Aim {
    id: AgentId,
    incarnation: Incarnation,
    key: KeyId,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

impl Flooder {
    /// Becomes a member by an invite.
    pub(super) fn enter(invite: &str, name: Name, victims: Vec<Name>) -> Result<Self> {
        let invite: waymesh_proto::membership::Invite = invite.parse()?;
        let invite = InviteSecret::parse(&invite)?;
        let keypair = Keypair::from_seed(&rand::random());
        let who = Applicant {
            name: name.clone(),
            agent_id: keypair.agent_id(),
            rotations: Vec::new(),
        };
        let certificate = invite.admit(&who, now_ms())?;
        Ok(Self {
            invite,
            keypair,
            name,
            certificate,
            victims,
        })
    }

    /// Floods until it is over, and connects again whenever it is thrown out; says when the
    /// first thing was refused.
    pub(super) fn flood(&self, is_over: &AtomicBool, begun: &SyncSender<()>) -> Result<Said> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut said = Said::default();
        while !is_over.load(Ordering::Relaxed) {
            runtime.block_on(self.connection(is_over, begun, &mut said))?;
        }
        Ok(said)
    }

    async fn connection(
        &self,
        is_over: &AtomicBool,
        begun: &SyncSender<()>,
        said: &mut Said,
    ) -> Result<()> {
        let target = Target::new(
            self.invite.registry.clone(),
            &TlsTrust::default(),
            &ProxyEnvironment::default(),
        )?;
        let choice = CarrierChoice::Only(Carrier::WebSocket);
        let mut socket = ControlSocket::connect(&target, choice, LIMIT).await?;
        let incarnation = Incarnation::new(now_ms());
        let ServerMessage::Challenge(challenge) = next(&mut socket).await? else {
            bail!("no challenge");
        };
        say(&mut socket, &self.login(incarnation, &challenge)?).await?;
        match next(&mut socket).await? {
            ServerMessage::Welcome(_) => {}
            other => bail!("no welcome: {other:?}"),
        }
        let aims = self.aim(&mut socket).await?;
        let (sender, receiver) = socket.split();
        let mut sent = 0;
        // Whoever ends first: the registry may close the connection at any moment.
        tokio::select! {
            () = self.talk(sender, &aims, incarnation, is_over, &mut sent) => {}
            () = listen(receiver, begun, said) => said.closed += 1,
        }
        said.sent += sent;
        Ok(())
    }

    fn login(&self, incarnation: Incarnation, challenge: &Challenge) -> Result<ClientMessage> {
        let now = now_ms();
        let agent_id = self.keypair.agent_id();
        let sealing = SealingKey::from_seed(&rand::random(), now + CERTIFICATE_LIFE_MS);
        let who = Who {
            name: self.name.clone(),
            agent_id,
            incarnation,
            instance: InstanceId::from_bytes(rand::random()),
            certificate: self.certificate.clone(),
            sealing: sealing.statement(&self.keypair, agent_id, &self.invite.mesh, now),
        };
        let nonce = Nonce::from_bytes(rand::random());
        let origin = &self.invite.registry;
        let (login, _) = login::answer(&self.keypair, &who, origin, challenge, None, nonce)?;
        Ok(ClientMessage::Login(login))
    }

    /// Looks the victims up.
    async fn aim(&self, socket: &mut ControlSocket) -> Result<Vec<Aim>> {
        for name in &self.victims {
            let name = name.clone();
            say(socket, &ClientMessage::Resolve { name }).await?;
        }
        let mut aims = Vec::new();
        while aims.len() < self.victims.len() {
            match next(socket).await? {
                ServerMessage::Records { agents } => {
                    for record in agents {
                        aims.push(self.aim_at(&record)?);
                    }
                }
                ServerMessage::Error { error } => bail!(error),
                _ => {}
            }
        }
        Ok(aims)
    }

    fn aim_at(&self, record: &MemberRecord) -> Result<Aim> {
        let now = now_ms();
        let member = certificate::verify(&record.certificate, &self.invite.mesh, now)?;
        Ok(Aim {
            id: member.agent_id,
            incarnation: record.agent.incarnation,
            key: verify_statement(&record.sealing, &member, now)?.id,
        })
    }

    /// Says everything again and again, without regard for what is answered.
    async fn talk(
        &self,
        mut sender: ControlSender,
        aims: &[Aim],
        incarnation: Incarnation,
        is_over: &AtomicBool,
        sent: &mut u64,
    ) {
        while !is_over.load(Ordering::Relaxed) {
            let batch = self.batch(aims, incarnation);
            let size = batch.len() as u64;
            if sender.send_all(batch, LIMIT).await.is_err() {
                return;
            }
            *sent += size;
            // Sending alone may never wait: let the other half hear.
            tokio::task::yield_now().await;
        }
    }

    fn batch(&self, aims: &[Aim], incarnation: Incarnation) -> Vec<Message> {
        let mut batch = Vec::new();
        for aim in aims {
            for _ in 0..POSTS {
                batch.extend(encode_post(&self.post(aim)).map(Message::Binary));
            }
            for seq in 0..SIGNALS {
                batch.push(text(&self.signal(aim, incarnation, seq as u64)));
            }
        }
        for _ in 0..FINDS {
            let id = MessageId::from_bytes(rand::random());
            let (name, skill) = (None, None);
            batch.push(text(&ClientMessage::Find { id, name, skill }));
        }
        for _ in 0..RESOLVES {
            let name = format!("nobody-{}", rand::random::<u64>());
            if let Ok(name) = name.parse() {
                batch.push(text(&ClientMessage::Resolve { name }));
            }
        }
        batch
    }

    /// An item that looks as if it were sealed.
    fn post(&self, aim: &Aim) -> Item {
        let header = ItemHeader {
            item: ItemId::from_bytes(rand::random()),
            from: self.keypair.agent_id(),
            to: aim.id,
            class: Class::Control,
            keep: Keep::Store,
            life_ms: CERTIFICATE_LIFE_MS,
            key: aim.key,
        };
        Item {
            header: header.encode(),
            sealed: vec![0x5a; POST_BYTES],
        }
    }

    fn signal(&self, aim: &Aim, incarnation: Incarnation, seq: u64) -> ClientMessage {
        let body = SignalBody {
            mesh: mesh_id(&self.invite.mesh),
            from: self.keypair.agent_id(),
            from_incarnation: incarnation,
            to: aim.id,
            to_incarnation: aim.incarnation,
            session: SessionId::from_bytes(rand::random()),
            seq,
            issued_ms: now_ms(),
            signal: Signal::Offer {
                sdp: "v=0".to_owned(),
            },
        };
        let signal = signal::sign(&self.keypair, &self.certificate, &body);
        ClientMessage::Signal { signal }
    }
}

/// Counts what is refused until the connection ends.
async fn listen(mut receiver: ControlReceiver, begun: &SyncSender<()>, said: &mut Said) {
    while let Ok(received) = receiver.receive().await {
        let Received::Text(text) = received else {
            continue;
        };
        for code in refusals(&text) {
            *said.refused.entry(code.to_string()).or_default() += 1;
            // Only the first one is waited for.
            let _ = begun.try_send(());
        }
    }
}

fn refusals(text: &str) -> Vec<Code> {
    match ServerMessage::decode(text.as_bytes()) {
        Ok(ServerMessage::Posted { items }) => items
            .into_iter()
            .filter_map(|posted| match posted.state {
                PostedState::Refused { error } => Some(error.code),
                _ => None,
            })
            .collect(),
        Ok(ServerMessage::Undeliverable { code, .. }) => vec![code],
        Ok(ServerMessage::Error { error }) => vec![error.code],
        _ => Vec::new(),
    }
}

fn text(message: &ClientMessage) -> Message {
    Message::Text(message.encode())
}

async fn say(socket: &mut ControlSocket, message: &ClientMessage) -> Result<()> {
    Ok(socket.send(text(message), LIMIT).await?)
}

async fn next(socket: &mut ControlSocket) -> Result<ServerMessage> {
    loop {
        let received = tokio::time::timeout(LIMIT, socket.receive()).await;
        match received.context("the registry says nothing")?? {
            Received::Text(text) => return Ok(ServerMessage::decode(text.as_bytes())?),
            Received::Binary(_) | Received::Alive => {}
        }
    }
}
