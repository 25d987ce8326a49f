//! What is examined: the registry, whom its TLS is to be, and the servers to ask.

use std::sync::Arc;

use waymesh_net::control::{ProofRequest, ProxyEnvironment, Target, TlsTrust};
use waymesh_net::turn::client::Credentials;
use waymesh_node::{Home as NodeHome, Membership};
use waymesh_proto::control::Origin;
use waymesh_proto::ice::{IceScheme, IceTransport, IceUrl};
use waymesh_proto::{Code, Fault};
use waymesh_trust::{Keypair, dpop};

use super::Args;
use crate::clock::unix_ms;
use crate::commands::Context;
use crate::settings::Home;

/// A STUN server to ask.
#[derive(Debug, Clone)]
pub(super) struct StunServer {
    pub(super) url: IceUrl,
    pub(super) owner: Owner,
}

/// A TURN server to ask, and with what.
#[derive(Debug, Clone)]
pub(super) struct TurnServer {
    pub(super) url: IceUrl,
    pub(super) credentials: Option<Credentials>,
    pub(super) owner: Owner,
}

/// Whose a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The user has named it: it is to answer.
    User,
    /// The registry's own, which is to answer unless it was told not to be there.
    Registry,
    /// Of a registry on this machine, which has one only if it was told to.
    LocalRegistry,
}

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
    pub(super) registry: Option<Registry>,
    /// STUN servers, the registry's first.
    pub(super) stun: Vec<StunServer>,
    pub(super) turn: Vec<TurnServer>,
    pub(super) trust: TlsTrust,
    pub(super) proxies: ProxyEnvironment,
}

impl Subject {
    pub(super) fn new(args: Args, context: &Context) -> Result<Self, Fault> {
        let member = NodeHome::peek_membership(&context.data_dir(Home::Node)?)?;
        let named = args.servers.servers()?;
        let mut trust = TlsTrust::default();
        if let Some(path) = &args.ca {
            let pem = std::fs::read(path).map_err(|error| {
                let message = format!("{} cannot be read: {error}", path.display());
                Fault::new(Code::Storage, message)
            })?;
            trust = trust.with_ca_pem(&pem).map_err(|error| error.fault())?;
        }
        let proxies = ProxyEnvironment::new(|variable| std::env::var(variable).ok());
        let registry = registry(args.registry, member.as_ref(), &trust, &proxies)?;
        if registry.is_none() && named.is_empty() {
            return Err(
                Fault::new(Code::Usage, "there is nothing to reach").with_hint(
                    "name a registry with --registry, or the --data-dir of a node that is a member",
                ),
            );
        }
        let mut subject = Self {
            stun: Vec::new(),
            turn: Vec::new(),
            trust: match registry.as_ref().and_then(|registry| registry.pin) {
                Some(pin) => trust.with_pin(pin),
                None => trust,
            },
            proxies,
            registry,
        };
        subject.add_registrys_own();
        for server in named {
            let credentials = match (server.username, server.credential) {
                (Some(username), Some(credential)) => Some(Credentials {
                    username,
                    credential,
                }),
                _ => None,
            };
            for url in server.urls {
                subject.add(url, credentials.clone(), Owner::User);
            }
        }
        Ok(subject)
    }

    /// A registry has its own STUN and TURN server on the port that it listens on.
    fn add_registrys_own(&mut self) {
        let Some(registry) = &self.registry else {
            return;
        };
        let (host, port) = (registry.host.clone(), registry.port);
        let owner = match registry.origin.is_loopback() {
            true => Owner::LocalRegistry,
            false => Owner::Registry,
        };
        let mut kinds = vec![
            (IceScheme::Stun, IceTransport::Udp),
            (IceScheme::Turn, IceTransport::Udp),
            (IceScheme::Turn, IceTransport::Tcp),
        ];
        if registry.origin.is_tls() {
            kinds.push((IceScheme::Turns, IceTransport::Tcp));
        }
        for (scheme, transport) in kinds {
            if let Ok(url) = IceUrl::new(scheme, &host, port, transport) {
                self.add(url, None, owner);
            }
        }
    }

    fn add(&mut self, url: IceUrl, credentials: Option<Credentials>, owner: Owner) {
        if url.scheme().relays() {
            self.turn.push(TurnServer {
                url,
                credentials,
                owner,
            });
        } else {
            self.stun.push(StunServer { url, owner });
        }
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
