//! Answers what admins ask.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use waymesh_proto::control::Origin;
use waymesh_proto::{Code, Fault};

use super::api::{Order, Reply, Request, Status};
use crate::connection::Identity;
use crate::driver::Input;

/// How a registry is reached, as it is kept for the time while it is stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// The URL that nodes connect to; `None` before the first start.
    pub(crate) url: Option<Origin>,
    /// The pin of its TLS certificate, hexadecimal, when nodes need one.
    pub(crate) tls_pin: Option<String>,
}

impl Address {
    pub(crate) fn new(url: Origin, tls_pin: Option<[u8; 32]>) -> Self {
        Self {
            url: Some(url),
            tls_pin: tls_pin.map(|pin| HEXLOWER.encode(&pin)),
        }
    }
}

/// Whether the registry serves nodes beside admins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    /// It does.
    Yes,
    /// An admin command works on its database.
    No,
}

/// Answers for one registry. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    identity: Arc<Identity>,
    driver: mpsc::Sender<Input>,
    address: Address,
    running: Running,
}

impl Desk {
    pub(crate) const fn new(
        identity: Arc<Identity>,
        driver: mpsc::Sender<Input>,
        address: Address,
        running: Running,
    ) -> Self {
        Self {
            identity,
            driver,
            address,
            running,
        }
    }

    /// Answers one request. What it ordered is durable then.
    pub(crate) async fn answer(&self, request: Request) -> Result<Reply, Fault> {
        match request {
            Request::Status => Ok(Reply::Status(self.status())),
            Request::Order(order) => self.carry_out(order).await,
        }
    }

    fn status(&self) -> Status {
        Status {
            url: self.address.url.clone(),
            mesh: self.identity.mesh.get().copied(),
            registry: self.identity.keypair.registry_key(),
            tls_pin: self.address.tls_pin.clone(),
            running: self.running == Running::Yes,
        }
    }

    async fn carry_out(&self, order: Order) -> Result<Reply, Fault> {
        let (reply, answered) = oneshot::channel();
        let input = Input::Admin { order, reply };
        self.driver.send(input).await.map_err(|_| stopping())?;
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> Fault {
    Fault::new(Code::RegistryUnreachable, "the registry is stopping").with_hint("try again")
}
