//! A registry that does what a test wants, and otherwise what an honest one does.
//!
//! It has its own key, as every registry has, and what nodes give it: their
//! certificates, their statements, their signals and items. It does not have
//! the mesh key. What it may do with all that is its [`Malice`].

mod house;
mod malice;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Duration, interval};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};
use waymesh_proto::control::{
    CONTROL_VERSION, Challenge, ClientMessage, Login, MeshKey, Nonce, Origin, PING_INTERVAL_MS,
    ServerMessage,
};
use waymesh_proto::mailbox::Assembly;
use waymesh_proto::{AgentId, Fault};
use waymesh_trust::Keypair;
use waymesh_trust::certificate::Cache;
use waymesh_trust::login::Gate;

pub(crate) use house::{House, header};
pub(crate) use malice::{Malice, receiver};

/// Messages that wait for a node. Chosen: more than any test makes.
const OUT_CAP: usize = 1_024;

/// The registry's key in every test.
pub(crate) fn registry_keypair() -> Keypair {
    Keypair::from_seed(&[7; 32])
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

/// A running one. It ends when it is dropped.
pub(crate) struct Hostile {
    pub(crate) origin: Origin,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

struct Desk {
    keypair: Keypair,
    mesh: MeshKey,
    origin: Origin,
    malice: Malice,
    house: Mutex<House>,
}

impl Desk {
    fn with<R>(&self, work: impl FnOnce(&mut House) -> R) -> R {
        work(&mut self.house.lock().expect("no test panics inside"))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hostile {
    pub(crate) async fn start(mesh: MeshKey, malice: Malice) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any_port).await.expect("a port");
        let origin = Origin::http(listener.local_addr().expect("an address"));
        let desk = Arc::new(Desk {
            keypair: registry_keypair(),
            mesh,
            origin: origin.clone(),
            malice,
            house: Mutex::default(),
        });
        #[expect(clippy::disallowed_methods, reason = "Hostile aborts it")]
        let task = tokio::spawn(listen(listener, Arc::clone(&desk)));
        Self { origin, desk, task }
    }

    /// Looks at what it knows, or changes it.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut House) -> R) -> R {
        self.desk.with(work)
    }

    /// Whether anything that it was told or given has these bytes in it.
    pub(crate) fn has_seen(&self, secret: &[u8]) -> bool {
        self.with(|house| {
            let mut seen = house.heard.iter();
            seen.any(|bytes| bytes.windows(secret.len()).any(|window| window == secret))
        })
    }
}

async fn listen(listener: TcpListener, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&desk)));
    }
}

/// One connection; it ends when anything is not as it should be.
async fn serve(stream: TcpStream, desk: Arc<Desk>) -> Option<()> {
    let mut ws = accept_async(stream).await.ok()?;
    let nonce = Nonce::from_bytes(rand_bytes());
    let honest = Challenge {
        version: CONTROL_VERSION,
        mesh: desk.mesh,
        registry: desk.keypair.registry_key(),
        nonce,
    };
    let challenge = (desk.malice.challenge)(honest);
    send(&mut ws, &ServerMessage::Challenge(challenge.clone())).await?;
    let member = loop {
        match receive(&mut ws).await? {
            ClientMessage::Login(login) => {
                (desk.malice.login)(&login);
                if let Some(code) = desk.malice.refusal {
                    let error = Fault::new(code, "so says a stranger");
                    send(&mut ws, &ServerMessage::Error { error }).await?;
                    return None;
                }
                break admit(&mut ws, &desk, &login, challenge.nonce).await?;
            }
            ClientMessage::Join(join) => {
                for answer in (desk.malice.join)(&join, &challenge) {
                    send(&mut ws, &answer).await?;
                }
            }
            _ => return None,
        }
    };
    let (out, queue) = mpsc::channel(OUT_CAP);
    desk.with(|house| house.connect(&desk.malice, member, out.clone()));
    for message in (desk.malice.greeting)(&desk.with(|house| house.clone()), member) {
        out.send(Message::Text(message.encode().into()))
            .await
            .ok()?;
    }
    talk(ws, queue, &desk, member).await;
    desk.with(|house| house.disconnect(&desk.malice, member, &out));
    Some(())
}

async fn admit(
    ws: &mut WebSocketStream<TcpStream>,
    desk: &Desk,
    login: &Login,
    nonce: Nonce,
) -> Option<AgentId> {
    let origins = [desk.origin.clone()];
    let gate = Gate {
        keypair: &desk.keypair,
        mesh: desk.mesh,
        origins: &origins,
        nonce,
    };
    match gate.verify(login, unix_ms(), &mut Cache::default()) {
        Ok(admission) => {
            let welcome = (desk.malice.welcome)(admission.welcome);
            send(ws, &ServerMessage::Welcome(welcome)).await?;
            desk.with(|house| house.register(login, &admission.member.roles));
            Some(login.agent_id)
        }
        Err(error) => {
            let error = error.fault();
            send(ws, &ServerMessage::Error { error }).await?;
            None
        }
    }
}

async fn talk(
    ws: WebSocketStream<TcpStream>,
    mut queue: mpsc::Receiver<Message>,
    desk: &Desk,
    member: AgentId,
) {
    let (mut sink, mut stream) = ws.split();
    let mut assembly = Assembly::default();
    let mut ping = interval(Duration::from_millis(PING_INTERVAL_MS));
    loop {
        tokio::select! {
            _ = ping.tick() => if sink.send(Message::Ping(Vec::new().into())).await.is_err() {
                return;
            },
            message = queue.recv() => match message {
                Some(message) => if sink.send(message).await.is_err() {
                    return;
                },
                None => return,
            },
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let message = ClientMessage::decode(text.as_bytes()).expect("nodes talk sense");
                    desk.with(|house| {
                        house.heard.push(text.as_bytes().to_vec());
                        house.hear(&desk.malice, member, message);
                    });
                }
                Some(Ok(Message::Binary(bytes))) => {
                    let item = assembly.handle(&bytes).expect("nodes talk sense");
                    desk.with(|house| {
                        house.heard.push(bytes.to_vec());
                        if let Some((_, item)) = item {
                            house.post(&desk.malice, member, item);
                        }
                    });
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
        }
    }
}

async fn send(ws: &mut WebSocketStream<TcpStream>, message: &ServerMessage) -> Option<()> {
    ws.send(Message::Text(message.encode().into())).await.ok()
}

async fn receive(ws: &mut WebSocketStream<TcpStream>) -> Option<ClientMessage> {
    loop {
        match ws.next().await?.ok()? {
            Message::Text(text) => {
                return Some(ClientMessage::decode(text.as_bytes()).expect("nodes talk sense"));
            }
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return None,
        }
    }
}

/// Bytes that differ from call to call; nothing here has to be secret.
fn rand_bytes() -> [u8; 32] {
    Keypair::from_seed(&[u8::try_from(unix_ms() % 251).expect("small"); 32])
        .sign("test", &unix_ms().to_be_bytes())
        .as_bytes()[..32]
        .try_into()
        .expect("32 bytes")
}
