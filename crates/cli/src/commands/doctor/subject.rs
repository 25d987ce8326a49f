//! What is examined: the registry, whose its TLS is to be, and what the user names.

use std::path::PathBuf;
use std::sync::Arc;

use waymesh_net::control::{ProofRequest, ProxyEnvironment, Target, TlsTrust};
use waymesh_node::{Home as NodeHome, Membership};
use waymesh_proto::control::Origin;
use waymesh_proto::ice::IceServer;
use waymesh_proto::{Code, Fault};
use waymesh_trust::{Keypair, dpop};

use super::Args;
use crate::clock::unix_ms;
use crate::commands::Context;
use crate::settings::Home;

/// A registry to reach.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) origin: Origin,
    pub(super) host: String,
    pub(super) port: u16,
    /// Judges its TLS as a node does.
    pub(super) strict: Target,
    /// Reaches it: where no key is pinned, whatever key it shows.
    pub(super) target: Target,
    pub(super) pin: Option<[u8; 32]>,
}

/// All that is examined.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) data_dir: PathBuf,
    /// The membership in it.
    pub(super) member: Option<Membership>,
    pub(super) registry: Option<Registry>,
    /// The servers that the user names.
    pub(super) named: Vec<IceServer>,
    /// Whom the user trusts beside the system's authorities.
    pub(super) authorities: TlsTrust,
    /// The same with the registry's key, where it is pinned.
    pub(super) trust: TlsTrust,
    pub(super) proxies: ProxyEnvironment,
}

impl Subject {
    pub(super) fn new(args: Args, context: &Context) -> Result<Self, Fault> {
        let data_dir = context.data_dir(Home::Node)?;
        let member = NodeHome::peek_membership(&data_dir)?;
        let named = args.servers.servers()?;
        let mut authorities = TlsTrust::default();
        if let Some(path) = &args.ca {
            let pem = std::fs::read(path).map_err(|error| {
                let message = format!("{} cannot be read: {error}", path.display());
                Fault::new(Code::Storage, message)
                    .with_hint("--ca names a file of certificates in PEM form")
            })?;
            authorities = authorities
                .with_ca_pem(&pem)
                .map_err(|error| error.fault())?;
        }
        let proxies = ProxyEnvironment::new(|variable| std::env::var(variable).ok());
        let registry = registry(args.registry, member.as_ref(), &authorities, &proxies)?;
        if registry.is_none() && named.is_empty() {
            return Err(
                Fault::new(Code::Usage, "there is nothing to reach").with_hint(
                    "name a registry with --registry, or the --data-dir of a node that is a member",
                ),
            );
        }
        Ok(Self {
            data_dir,
            member,
            named,
            trust: match registry.as_ref().and_then(|registry| registry.pin) {
                Some(pin) => authorities.clone().with_pin(pin),
                None => authorities.clone(),
            },
            authorities,
            proxies,
            registry,
        })
    }
}

fn registry(
    named: Option<Origin>,
    member: Option<&Membership>,
    trust: &TlsTrust,
    proxies: &ProxyEnvironment,
) -> Result<Option<Registry>, Fault> {
    let Some(origin) = named.or_else(|| member.map(|member| member.registry.clone())) else {
        return Ok(None);
    };
    let pin = member.and_then(|member| member.tls_pin).map(|pin| pin.0);
    let (host, port) = (origin.host().to_owned(), origin.port());
    let judging = match pin {
        Some(pin) => trust.clone().with_pin(pin),
        None => trust.clone(),
    };
    let reaching = match pin {
        Some(_) => judging.clone(),
        None => trust.clone().with_first_use(),
    };
    let strict = Target::new(origin.clone(), &judging, proxies).map_err(|error| error.fault())?;
    let target = strict.trusting(&reaching).map_err(|error| error.fault())?;
    Ok(Some(Registry {
        origin,
        host,
        port,
        strict,
        target: target.with_prover(stranger()),
        pin,
    }))
}

/// Proves a key that was made for this: long-poll wants one, and nobody logs in with it.
fn stranger() -> waymesh_net::control::Prover {
    let keypair = Keypair::from_seed(&rand::random());
    Arc::new(move |request: ProofRequest<'_>| {
        let asked = dpop::Request {
            method: request.method,
            url: request.url,
            certificate: None,
        };
        dpop::prove(&keypair, asked, request.nonce, rand::random(), unix_ms())
    })
}
