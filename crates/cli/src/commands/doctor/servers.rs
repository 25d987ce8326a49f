//! The STUN and TURN servers to examine, and whose word it is that they are there.

use waymesh_net::turn::client::Credentials;
use waymesh_proto::control::Origin;
use waymesh_proto::ice::{IceScheme, IceServer, IceTransport, IceUrl};

use super::subject::Registry;

/// Whose word it is that a server is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The user has named it: it is to answer.
    User,
    /// The registry has told a member of it: it is to answer.
    Registry,
    /// Nobody's: a registry usually has one on its own port.
    Nobody,
    /// Nobody's, and a registry on this machine has one only if it was told to.
    NobodyHere,
}

impl Owner {
    /// Whether there may be no such server at all.
    pub(super) const fn is_assumed(self) -> bool {
        matches!(self, Self::Nobody | Self::NobodyHere)
    }
}

/// A STUN server to ask.
#[derive(Debug, Clone)]
pub(super) struct StunServer {
    pub(super) url: IceUrl,
    pub(super) owner: Owner,
}

impl StunServer {
    /// Whether the registry says that it is this server itself, at the very port that it is
    /// reached at.
    pub(super) fn is_of(&self, registry: &Origin) -> bool {
        self.owner == Owner::Registry
            && self.url.host() == registry.host()
            && self.url.port() == registry.port()
    }
}

/// A TURN server to ask, and with what.
#[derive(Debug, Clone)]
pub(super) struct TurnServer {
    pub(super) url: IceUrl,
    pub(super) credentials: Option<Credentials>,
    pub(super) owner: Owner,
}

/// All servers to examine.
#[derive(Debug, Clone, Default)]
pub(super) struct Servers {
    pub(super) stun: Vec<StunServer>,
    pub(super) turn: Vec<TurnServer>,
}

impl Servers {
    /// Adds servers of whoever has named them; a URL that is there already stays as it is.
    pub(super) fn add(&mut self, servers: &[IceServer], owner: Owner) {
        for server in servers {
            let credentials = match (&server.username, &server.credential) {
                (Some(username), Some(credential)) => Some(Credentials {
                    username: username.clone(),
                    credential: credential.clone(),
                }),
                _ => None,
            };
            for url in &server.urls {
                self.add_url(url.clone(), credentials.clone(), owner);
            }
        }
    }

    /// Adds those that a registry has on the port that it listens on, unless it was told
    /// otherwise.
    pub(super) fn assume(&mut self, registry: &Registry) {
        let owner = match registry.origin.is_loopback() {
            true => Owner::NobodyHere,
            false => Owner::Nobody,
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
            if let Ok(url) = IceUrl::new(scheme, &registry.host, registry.port, transport) {
                self.add_url(url, None, owner);
            }
        }
    }

    fn add_url(&mut self, url: IceUrl, credentials: Option<Credentials>, owner: Owner) {
        let is_known = self.turn.iter().any(|known| known.url == url)
            || self.stun.iter().any(|known| known.url == url);
        if is_known {
            return;
        }
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

#[cfg(test)]
mod tests {
    use waymesh_proto::ice::Credential;

    use super::*;

    #[test]
    fn a_stun_server_is_the_registry_by_its_own_word_host_and_port_alone() {
        let registry: Origin = "https://mesh.example".parse().expect("a URL");
        let is_of = |url: &str, owner| {
            let url = url.parse().expect("a URL");
            StunServer { url, owner }.is_of(&registry)
        };
        assert!(is_of("stun:mesh.example:443", Owner::Registry));
        assert!(!is_of("stun:mesh.example:3478", Owner::Registry));
        assert!(!is_of("stun:stun.example:443", Owner::Registry));
        for owner in [Owner::User, Owner::Nobody, Owner::NobodyHere] {
            assert!(!is_of("stun:mesh.example:443", owner), "{owner:?}");
        }
    }

    #[test]
    fn what_was_named_first_keeps_its_owner_and_credentials() {
        let url = |text: &str| text.parse::<IceUrl>().expect("a URL");
        let told = IceServer {
            urls: vec![url("turn:h:9"), url("stun:h:9")],
            username: Some("alice".into()),
            credential: Some(Credential::new("secret".into())),
        };
        let bare = IceServer {
            urls: vec![url("turn:h:9"), url("turns:other")],
            ..IceServer::default()
        };
        let mut servers = Servers::default();
        servers.add(&[told], Owner::Registry);
        servers.add(&[bare], Owner::User);
        let turn: Vec<_> = servers
            .turn
            .iter()
            .map(|server| (server.owner, server.credentials.is_some()))
            .collect();
        assert_eq!(turn, [(Owner::Registry, true), (Owner::User, false)]);
        assert_eq!(servers.stun.len(), 1);
    }
}
