//! What a member is told: the servers, and credentials of its own for them.

use std::time::Duration;

use waymesh_proto::AgentId;
use waymesh_proto::control::Origin;
use waymesh_proto::ice::{IceScheme, IceServer, IceServers, IceTransport, IceUrl};

use super::{CheckedIce, TurnAccess};
use crate::turn::Issuer;

/// The registry's own server, as seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Makes the credentials for it.
    pub(crate) issuer: Issuer,
    /// Its UDP port, if that is not the registry's own port.
    pub(crate) udp_port: Option<u16>,
}

/// All servers.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    own: Option<Own>,
    stun: Vec<IceUrl>,
    external: Vec<IceServer>,
    access: Option<TurnAccess>,
}

impl Offer {
    /// What the configuration names, and the registry's own if it runs one.
    pub(crate) fn new(ice: CheckedIce, own: Option<Own>) -> Self {
        let (urls, access) = ice.external.unzip();
        Self {
            own,
            stun: ice.stun,
            external: by_host(urls.unwrap_or_default()),
            access,
        }
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_none() && self.stun.is_empty() && self.external.is_empty()
    }

    /// Every server for whoever reached the registry at this origin.
    pub(crate) fn urls(&self, origin: &Origin) -> Vec<IceUrl> {
        let others = self.external.iter().flat_map(|server| &server.urls);
        let others = self.stun.iter().chain(others).cloned();
        self.own_urls(origin).into_iter().chain(others).collect()
    }

    /// The registry's own servers for whoever reached it at this origin: the
    /// host is the one that has worked already.
    fn own_urls(&self, origin: &Origin) -> Vec<IceUrl> {
        let Some(own) = &self.own else {
            return Vec::new();
        };
        let (host, port) = (origin.host(), origin.port());
        let udp = own.udp_port.unwrap_or(port);
        let mut kinds = vec![
            (IceScheme::Stun, udp, IceTransport::Udp),
            (IceScheme::Turn, udp, IceTransport::Udp),
            (IceScheme::Turn, port, IceTransport::Tcp),
        ];
        if origin.is_tls() {
            kinds.push((IceScheme::Turns, port, IceTransport::Tcp));
        }
        let urls = kinds.into_iter();
        urls.filter_map(|(scheme, port, transport)| IceUrl::new(scheme, host, port, transport).ok())
            .collect()
    }

    /// What a member is told that reached the registry at this origin; its
    /// credentials are good until `ends_ms`, Unix milliseconds.
    pub(crate) fn servers(
        &self,
        origin: &Origin,
        agent: &AgentId,
        (now_ms, ends_ms): (u64, u64),
    ) -> IceServers {
        let ends = Duration::from_millis(ends_ms);
        let mut servers = Vec::new();
        let (relays, stun): (Vec<_>, Vec<_>) = self
            .own_urls(origin)
            .into_iter()
            .partition(|url| url.scheme().relays());
        servers.extend(without_credentials(stun));
        if let Some(own) = &self.own {
            let (username, credential) = own.issuer.issue(agent, ends);
            servers.push(IceServer {
                urls: relays,
                username: Some(username),
                credential: Some(credential),
            });
        }
        servers.extend(without_credentials(self.stun.clone()));
        servers.extend(self.external.iter().map(|server| IceServer {
            urls: server.urls.clone(),
            ..self.opened(agent, ends)
        }));
        IceServers {
            servers,
            lifetime_ms: self.has_ends().then(|| ends_ms.saturating_sub(now_ms)),
        }
    }

    /// Whether anything that is told ends.
    const fn has_ends(&self) -> bool {
        self.own.is_some() || matches!(self.access, Some(TurnAccess::Secret(_)))
    }

    fn opened(&self, agent: &AgentId, ends: Duration) -> IceServer {
        let (username, credential) = match &self.access {
            Some(TurnAccess::Secret(secret)) => secret.issue(agent, ends),
            Some(TurnAccess::Static { username, password }) => (username.clone(), password.clone()),
            None => return IceServer::default(),
        };
        IceServer {
            urls: Vec::new(),
            username: Some(username),
            credential: Some(credential),
        }
    }
}

fn without_credentials(urls: Vec<IceUrl>) -> Option<IceServer> {
    (!urls.is_empty()).then_some(IceServer {
        urls,
        ..IceServer::default()
    })
}

/// URLs of one host are the same server by several transports.
fn by_host(urls: Vec<IceUrl>) -> Vec<IceServer> {
    let mut servers: Vec<IceServer> = Vec::new();
    for url in urls {
        let is_same = |server: &&mut IceServer| server.urls[0].host() == url.host();
        match servers.iter_mut().find(is_same) {
            Some(server) => server.urls.push(url),
            None => servers.push(IceServer {
                urls: vec![url],
                ..IceServer::default()
            }),
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ice::{IceConfig, TurnAuth};
    use waymesh_net::turn::server::RelaySecret;
    use waymesh_trust::Keypair;

    fn checked(config: &IceConfig) -> CheckedIce {
        let mut errors = Vec::new();
        let listen = "0.0.0.0:443".parse().expect("an address");
        let checked = config.check(listen, &mut errors);
        checked.unwrap_or_else(|| panic!("{errors:?}"))
    }

    fn own(udp_port: Option<u16>) -> Own {
        Own {
            issuer: Issuer::new(RelaySecret::new(b"secret"), []),
            udp_port,
        }
    }

    fn texts(urls: &[IceUrl]) -> Vec<String> {
        urls.iter().map(ToString::to_string).collect()
    }

    fn told(offer: &Offer, origin: &str) -> IceServers {
        let agent = Keypair::from_seed(&[1; 32]).agent_id();
        let origin = origin.parse().expect("an origin");
        offer.servers(&origin, &agent, (1_000_000, 1_060_500))
    }

    #[test]
    fn the_own_servers_are_at_the_host_that_the_node_has_reached() {
        let offer = Offer::new(checked(&IceConfig::default()), Some(own(None)));
        let list = told(&offer, "https://mesh.example");
        assert_eq!(texts(&list.servers[0].urls), ["stun:mesh.example:443"]);
        assert_eq!(
            texts(&list.servers[1].urls),
            [
                "turn:mesh.example:443?transport=udp",
                "turn:mesh.example:443?transport=tcp",
                "turns:mesh.example:443?transport=tcp",
            ]
        );
        let username = list.servers[1].username.as_deref().expect("a username");
        assert!(username.starts_with("1060:"), "{username}");
        assert_eq!(list.lifetime_ms, Some(60_500));
    }

    #[test]
    fn another_udp_port_is_told_and_without_tls_no_turns() {
        let offer = Offer::new(checked(&IceConfig::default()), Some(own(Some(3_478))));
        let list = told(&offer, "http://[::1]:7700");
        assert_eq!(texts(&list.servers[0].urls), ["stun:[::1]:3478"]);
        assert_eq!(
            texts(&list.servers[1].urls),
            [
                "turn:[::1]:3478?transport=udp",
                "turn:[::1]:7700?transport=tcp"
            ]
        );
    }

    #[test]
    fn servers_of_others_come_after_it_each_host_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secret");
        std::fs::write(&file, "north\n").expect("a file");
        let config = IceConfig {
            stun_urls: vec!["stun:s".into()],
            turn_urls: vec!["turn:t".into(), "turn:u".into(), "turns:t".into()],
            turn_auth: Some(TurnAuth::Secret { file }),
            ..IceConfig::default()
        };
        let offer = Offer::new(checked(&config), None);
        let list = told(&offer, "https://mesh.example");
        let urls: Vec<_> = list.servers.iter().map(|s| texts(&s.urls)).collect();
        assert_eq!(
            urls,
            [
                vec!["stun:s:3478"],
                vec!["turn:t:3478?transport=udp", "turns:t:5349?transport=tcp"],
                vec!["turn:u:3478?transport=udp"],
            ]
        );
        assert!(list.servers[0].username.is_none());
        assert!(list.servers[1].credential.is_some());
        assert_eq!(list.lifetime_ms, Some(60_500));
    }

    #[test]
    fn a_static_password_is_the_same_for_all_and_has_no_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let password_file = dir.path().join("password");
        std::fs::write(&password_file, "south").expect("a file");
        let config = IceConfig {
            turn_urls: vec!["turn:t".into()],
            turn_auth: Some(TurnAuth::Static {
                username: "all".into(),
                password_file,
            }),
            ..IceConfig::default()
        };
        let offer = Offer::new(checked(&config), None);
        let list = told(&offer, "https://mesh.example");
        assert_eq!(list.servers[0].username.as_deref(), Some("all"));
        let credential = list.servers[0].credential.as_ref();
        assert_eq!(credential.map(|c| c.reveal()), Some("south"));
        assert_eq!(list.lifetime_ms, None);
    }

    #[test]
    fn nothing_configured_and_nothing_run_is_nothing_to_tell() {
        let nothing = Offer::new(checked(&IceConfig::default()), None);
        assert!(nothing.is_empty());
        assert_eq!(told(&nothing, "https://h"), IceServers::default());
    }
}
