//! The registry of a data directory, as admin commands ask it: over its admin socket
//! while it runs, else through its database.

use std::path::PathBuf;
use std::time::Duration;

use data_encoding::HEXLOWER;
use tokio::time::timeout;
use waymesh_authority::Authority;
use waymesh_proto::api::AgentRecord;
use waymesh_proto::control::{MemberRecord, MeshKey, Origin, PairingCode};
use waymesh_proto::ids::{Name, RequestId};
use waymesh_proto::membership::{Certificate, Revocation};
use waymesh_proto::{Code, Fault};
use waymesh_registry::admin::{Client, Order, PendingJoin, Reply, Request, Status};

use crate::clock::unix_ms;
use crate::commands::Context;
use crate::settings::Home;

/// The registry that an admin has before them.
#[derive(Debug)]
pub(crate) struct Admin {
    client: Client,
    data_dir: PathBuf,
    limit: Duration,
}

impl Admin {
    /// Opens the registry whose data directory the command line names.
    pub(crate) async fn of(context: &Context) -> Result<Self, Fault> {
        Self::open(context.data_dir(Home::Registry)?, context.timeout).await
    }

    /// Opens the registry of a data directory.
    pub(crate) async fn open(data_dir: PathBuf, limit: Duration) -> Result<Self, Fault> {
        let client = within(limit, Client::open(&data_dir)).await?;
        Ok(Self {
            client,
            data_dir,
            limit,
        })
    }

    /// The folder that the authority is in unless another one is named.
    fn authority_dir(&self) -> PathBuf {
        self.data_dir.join("authority")
    }

    /// Where the registry is and whose.
    pub(crate) async fn status(&mut self) -> Result<Status, Fault> {
        match self.ask(Request::Status).await? {
            Reply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// Opens the authority over the registry's mesh. A registry that serves no mesh yet
    /// is given to the authority's, for ever; that is made if there is none.
    pub(crate) async fn founded(
        &mut self,
        status: &Status,
        authority_dir: Option<PathBuf>,
    ) -> Result<Authority, Fault> {
        if status.mesh.is_some() {
            return self.authority(status, authority_dir);
        }
        let dir = authority_dir.unwrap_or_else(|| self.authority_dir());
        let authority =
            Authority::open_or_create(&dir, unix_ms()).map_err(|error| error.fault())?;
        let mesh = authority.mesh_key();
        self.order(Order::Found { mesh }).await?;
        Ok(authority)
    }

    /// Where the authority over the registry's mesh is, and which mesh that is.
    pub(crate) fn authority_of(
        &self,
        status: &Status,
        authority_dir: Option<PathBuf>,
    ) -> Result<(PathBuf, MeshKey), Fault> {
        let mesh = status.mesh.ok_or_else(no_mesh)?;
        Ok((authority_dir.unwrap_or_else(|| self.authority_dir()), mesh))
    }

    /// Opens the authority over the registry's mesh, which must be there.
    pub(crate) fn authority(
        &self,
        status: &Status,
        authority_dir: Option<PathBuf>,
    ) -> Result<Authority, Fault> {
        let (dir, mesh) = self.authority_of(status, authority_dir)?;
        let authority = Authority::open(&dir, unix_ms()).map_err(|error| error.fault())?;
        authority
            .expect_mesh(&mesh)
            .map_err(|error| error.fault())?;
        Ok(authority)
    }

    /// The agents, all or those with a name.
    pub(crate) async fn agents(&mut self, name: Option<Name>) -> Result<Vec<AgentRecord>, Fault> {
        let members = self.members(name).await?;
        Ok(members.into_iter().map(|member| member.agent).collect())
    }

    /// The agents, all or those with a name, and what proves them.
    pub(crate) async fn members(&mut self, name: Option<Name>) -> Result<Vec<MemberRecord>, Fault> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let name = name.clone();
            match self
                .ask(Request::Order(Order::Agents { name, after }))
                .await?
            {
                Reply::Agents { agents, next: None } => {
                    all.extend(agents);
                    return Ok(all);
                }
                Reply::Agents { agents, next } => {
                    all.extend(agents);
                    after = next;
                }
                _ => return Err(unexpected()),
            }
        }
    }

    /// Who waits to join.
    pub(crate) async fn pending(&mut self) -> Result<Vec<PendingJoin>, Fault> {
        match self.ask(Request::Order(Order::Pending)).await? {
            Reply::Pending { joins } => Ok(joins),
            _ => Err(unexpected()),
        }
    }

    /// The one who waits under this id.
    pub(crate) async fn pending_join(&mut self, request: &RequestId) -> Result<PendingJoin, Fault> {
        let joins = self.pending().await?;
        let found = joins.into_iter().find(|join| join.request == *request);
        found.ok_or_else(|| {
            Fault::new(Code::UnknownId, format!("nobody waits under {request}"))
                .with_hint("waymesh pending lists who waits; a node that has gone does not")
        })
    }

    /// Admits who waits.
    pub(crate) async fn approve(
        &mut self,
        request: RequestId,
        certificate: Certificate,
    ) -> Result<(), Fault> {
        self.order(Order::Approve {
            request,
            certificate,
        })
        .await
    }

    /// Turns away who waits.
    pub(crate) async fn reject(
        &mut self,
        request: RequestId,
        reason: Option<String>,
    ) -> Result<(), Fault> {
        self.order(Order::Reject { request, reason }).await
    }

    /// Ends a membership or an invite.
    pub(crate) async fn revoke(&mut self, revocation: Revocation) -> Result<(), Fault> {
        let revocations = vec![revocation];
        self.order(Order::Revoke { revocations }).await
    }

    /// Makes a pairing code.
    pub(crate) async fn pairing_code(&mut self, ttl_ms: u64) -> Result<PairingCode, Fault> {
        match self
            .ask(Request::Order(Order::PairingCode { ttl_ms }))
            .await?
        {
            Reply::PairingCode { code } => Ok(code),
            _ => Err(unexpected()),
        }
    }

    async fn order(&mut self, order: Order) -> Result<(), Fault> {
        match self.ask(Request::Order(order)).await? {
            Reply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Reply, Fault> {
        within(self.limit, self.client.ask(request)).await
    }
}

/// Where nodes connect to.
///
/// # Errors
///
/// `registry_unreachable` for a registry that was never started.
pub(crate) fn url(status: &Status) -> Result<Origin, Fault> {
    status.url.clone().ok_or_else(|| {
        let message = "this registry was never started, so nobody knows its URL";
        Fault::new(Code::RegistryUnreachable, message)
            .with_hint("start it first: waymesh registry --data-dir DIR")
    })
}

/// What nodes are to pin, where the registry's TLS certificate is its own.
///
/// # Errors
///
/// `internal` when the registry says what is no SHA-256.
pub(crate) fn tls_pin(status: &Status) -> Result<Option<[u8; 32]>, Fault> {
    let Some(text) = &status.tls_pin else {
        return Ok(None);
    };
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    let pin = bytes.and_then(|bytes| bytes.try_into().ok());
    pin.map(Some).ok_or_else(unexpected)
}

fn no_mesh() -> Fault {
    Fault::new(Code::NoMesh, "this registry serves no mesh yet")
        .with_hint("waymesh invite founds one, and makes an invite for its first node")
}

fn unexpected() -> Fault {
    Fault::new(
        Code::Internal,
        "the registry gave an answer of another kind",
    )
    .with_hint("use a registry and a program of the same version")
}

async fn within<T, E: Into<Fault>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Fault::new(
            Code::Timeout,
            format!("the registry did not answer within {limit:?}"),
        )
        .with_hint("give it longer with --timeout, or look at the registry's log")),
    }
}
