//! A registry's HTTP API, as a member asks it without a running node: with the
//! certificate of its data directory, and proof of the key in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;
use waymesh_net::control::http::Client;
use waymesh_net::control::{ProofRequest, ProxyEnvironment, Target, TlsTrust};
use waymesh_node::{Home, Membership};
use waymesh_proto::api::AgentRecord;
use waymesh_proto::control::Origin;
use waymesh_proto::http::{AGENTS_PATH, AUTHORIZATION_SCHEME};
use waymesh_proto::ids::{Name, SkillName};
use waymesh_proto::{Code, Fault};
use waymesh_trust::dpop;

use crate::clock::unix_ms;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Only this name.
    pub(crate) name: Option<Name>,
    /// Only those with this skill.
    pub(crate) skill: Option<SkillName>,
}

/// How the registry is reached, where the data directory does not say it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    /// Where it is.
    pub(crate) registry: Option<Origin>,
    /// A file of TLS authorities to trust.
    pub(crate) ca: Option<PathBuf>,
}

/// What the registry answers: one page of agents.
#[derive(Deserialize)]
struct Page {
    agents: Vec<AgentRecord>,
    #[serde(default)]
    next: Option<Name>,
}

/// Asks the registry for agents in the name of the node of a data directory, which must
/// not run meanwhile.
pub(crate) async fn agents(
    data_dir: &Path,
    way: &Way,
    wanted: &Wanted,
    limit: Duration,
) -> Result<Vec<AgentRecord>, Fault> {
    let home = Home::open(data_dir)?;
    let member = home.membership()?.ok_or_else(no_member)?;
    let target = target(&home, &member, way)?;
    let url = target.origin().clone();
    let certificate = format!("{AUTHORIZATION_SCHEME} {}", member.certificate);
    let pages = all_pages(target, &certificate, wanted, limit);
    timeout(limit, pages).await.map_err(|_| {
        let message = format!("the registry at {url} did not answer within {limit:?}");
        Fault::new(Code::RegistryUnreachable, message)
            .with_hint("check the address, and that `waymesh registry` runs there")
    })?
}

fn target(home: &Home, member: &Membership, way: &Way) -> Result<Target, Fault> {
    let mut trust = TlsTrust::default();
    if let Some(pin) = member.tls_pin {
        trust = trust.with_pin(pin.0);
    }
    if let Some(path) = &way.ca {
        let pem = std::fs::read(path).map_err(|error| {
            let message = format!("{} cannot be read: {error}", path.display());
            Fault::new(Code::Storage, message)
        })?;
        trust = trust.with_ca_pem(&pem).map_err(|error| error.fault())?;
    }
    let origin = way
        .registry
        .clone()
        .unwrap_or_else(|| member.registry.clone());
    let proxies = ProxyEnvironment::new(|variable| std::env::var(variable).ok());
    let target = Target::new(origin, &trust, &proxies).map_err(|error| error.fault())?;
    let (keypair, certificate) = (home.keypair().clone(), member.certificate.clone());
    Ok(
        target.with_prover(Arc::new(move |request: ProofRequest<'_>| {
            let asked = dpop::Request {
                method: request.method,
                url: request.url,
                certificate: Some(&certificate),
            };
            dpop::prove(&keypair, asked, request.nonce, rand::random(), unix_ms())
        })),
    )
}

async fn all_pages(
    target: Target,
    authorization: &str,
    wanted: &Wanted,
    limit: Duration,
) -> Result<Vec<AgentRecord>, Fault> {
    let mut client = Client::new(target);
    let mut all = Vec::new();
    let mut after: Option<Name> = None;
    loop {
        let mut query = Vec::new();
        query.extend(wanted.name.iter().map(|name| format!("name={name}")));
        query.extend(wanted.skill.iter().map(|skill| format!("skill={skill}")));
        query.extend(after.iter().map(|after| format!("after={after}")));
        let path = format!("{AGENTS_PATH}?{}", query.join("&"));
        let headers = [("authorization", authorization)];
        let body = client.get(&path, &headers, limit).await;
        let body = body.map_err(|error| error.fault())?;
        let page: Page = serde_json::from_slice(&body).map_err(|_| no_registry())?;
        all.extend(page.agents);
        match page.next {
            None => return Ok(all),
            // A registry that goes round in circles would never end.
            Some(next) if Some(&next) <= after.as_ref() => return Err(no_registry()),
            Some(next) => after = Some(next),
        }
    }
}

fn no_member() -> Fault {
    let message = "this node belongs to no mesh yet, so no registry answers it";
    Fault::new(Code::InviteRequired, message)
        .with_hint("start it once with an invite: waymesh node --invite @FILE")
}

fn no_registry() -> Fault {
    Fault::new(
        Code::RegistryUnreachable,
        "what answers there is no waymesh registry",
    )
    .with_hint("check the address, and that `waymesh registry` runs there")
}
