//! Which STUN and TURN servers there are, by those who know: the node that runs here, or the
//! registry, which tells members alone. What the node's own attempts gave comes with it.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::timeout;
use waymesh_node::Visit;
use waymesh_proto::api::NetworkStatus;
use waymesh_proto::ice::{IceServer, ServerTried};
use waymesh_proto::ids::Name;
use waymesh_proto::link::TriedCandidate;
use waymesh_proto::{Code, Fault};

use super::checks::{Check, State};
use super::subject::Subject;
use crate::sidecar::Sidecar;

/// How long the node has to say which servers it knows: what they give is asked for later.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Who has said which servers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// The node that runs on the data directory.
    Node,
    /// The registry, to the member of the data directory, whose node does not run.
    Registry,
    /// Nobody: they are looked for where a registry usually has them.
    Nobody,
}

/// What is known of servers before any is examined.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ServersFound {
    pub(super) source: Source,
    /// The member that was told.
    pub(super) agent: Option<Name>,
    /// How many URLs it was told.
    pub(super) urls: usize,
    /// The addresses that the node tells peers.
    pub(super) candidates: Vec<TriedCandidate>,
    /// What the servers gave the node.
    pub(super) tried: Vec<ServerTried>,
}

/// How a node stands with its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is connected, and was told what there is to tell.
    Registered,
    /// It is not connected, or not approved.
    Away,
}

/// Which servers there are, and who said so.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) check: Check<ServersFound>,
    /// Those of the registry; `None` where nobody has said.
    pub(super) servers: Option<Vec<IceServer>>,
    /// Those that the node was started with.
    pub(super) configured: Vec<IceServer>,
    node: Option<Sidecar>,
}

impl Told {
    /// Asks whoever knows.
    pub(super) async fn ask(subject: &Subject, limit: Duration) -> Self {
        let begun = Instant::now();
        if subject.registry.is_none() {
            let none = Check::skipped("no registry is named that could tell of any");
            return Self::nobody(none);
        }
        match Sidecar::attach(&subject.data_dir, limit).await {
            Ok(node) => Self::by_node(subject, node, limit, begun).await,
            Err(_) if subject.member.is_some() => Self::by_registry(subject, limit, begun).await,
            Err(_) => Self::nobody(unknown(
                "assumed on the registry's own port; who is no member is not told",
                begun,
            )),
        }
    }

    async fn by_node(
        subject: &Subject,
        mut node: Sidecar,
        limit: Duration,
        begun: Instant,
    ) -> Self {
        let hello = node.hello().clone();
        let wanted = subject.registry.as_ref().map(|r| r.origin.to_string());
        if hello.registry != wanted {
            let own = hello.registry.unwrap_or_else(|| "none".to_owned());
            let what = format!("assumed on the registry's own port; the node here uses {own}");
            return Self::nobody(unknown(what, begun));
        }
        // Who is not registered has no answer. What a registry tells comes before its answers.
        let own = Some(hello.agent.clone());
        let standing = match node.agents(own, None, limit).await {
            Ok(_) => Standing::Registered,
            Err(_) => Standing::Away,
        };
        match node.network(AT_ONCE, limit).await {
            Ok(status) => Self {
                node: Some(node),
                ..Self::of_node(hello.agent, status, standing, begun)
            },
            Err(fault) => Self::nobody(Check::failed(fault, begun)),
        }
    }

    /// What a node knows. One that is not registered may have been told earlier, or not yet.
    fn of_node(agent: Name, status: NetworkStatus, standing: Standing, begun: Instant) -> Self {
        let mut configured = status.servers;
        let servers = configured.split_off(status.configured.min(configured.len()));
        if servers.is_empty() && standing == Standing::Away {
            let what = format!(
                "assumed on the registry's own port; the node here, {agent}, is not registered \
                 and was told of none yet"
            );
            return Self {
                configured,
                ..Self::nobody(unknown(what, begun))
            };
        }
        Self {
            check: told(Source::Node, agent, &servers, begun),
            servers: Some(servers),
            configured,
            node: None,
        }
    }

    async fn by_registry(subject: &Subject, limit: Duration, begun: Instant) -> Self {
        let visit = Visit {
            data_dir: subject.data_dir.clone(),
            registry: subject.registry.as_ref().map(|r| r.origin.clone()),
            authorities: subject.authorities.clone(),
            proxies: subject.proxies.clone(),
        };
        let visited = timeout(limit, Box::pin(visit.servers())).await;
        let visited = visited.unwrap_or_else(|_| Err(late(limit)));
        match (visited, &subject.member) {
            (Ok(told_servers), Some(member)) => Self {
                check: told(
                    Source::Registry,
                    member.name.clone(),
                    &told_servers.servers,
                    begun,
                ),
                servers: Some(told_servers.servers),
                configured: Vec::new(),
                node: None,
            },
            (Ok(_), None) => Self::nobody(unknown("nobody is a member here", begun)),
            (Err(fault), _) => Self::nobody(Check::failed(in_use(fault), begun)),
        }
    }

    const fn nobody(check: Check<ServersFound>) -> Self {
        Self {
            check,
            servers: None,
            configured: Vec::new(),
            node: None,
        }
    }

    /// What the node's own attempts gave, once each has ended or `limit` is over.
    pub(super) async fn settled(self, limit: Duration) -> Check<ServersFound> {
        let Self {
            mut check, node, ..
        } = self;
        let (Some(mut node), Some(found)) = (node, &mut check.found) else {
            return check;
        };
        match node.network(limit, limit).await {
            Ok(status) => {
                found.candidates = status.candidates;
                found.tried = status.tried;
            }
            Err(fault) => {
                check.state = State::Unknown;
                check.what = format!("{}; then the node said: {}", check.what, fault.message);
            }
        }
        check
    }
}

fn told(source: Source, agent: Name, servers: &[IceServer], begun: Instant) -> Check<ServersFound> {
    let urls = servers.iter().map(|server| server.urls.len()).sum();
    let (state, what) = match (source, urls) {
        (Source::Node, 0) => (
            State::Failed,
            format!("the registry tells the node here, {agent}, of none"),
        ),
        (_, 0) => (State::Failed, format!("the registry tells {agent} of none")),
        (Source::Node, urls) => (
            State::Passed,
            format!("the node here, {agent}, was told {urls} URLs, and credentials"),
        ),
        (_, urls) => (
            State::Passed,
            format!("the registry tells {agent} {urls} URLs, and credentials"),
        ),
    };
    Check::new(state, what, begun).with(ServersFound {
        source,
        agent: Some(agent),
        urls,
        candidates: Vec::new(),
        tried: Vec::new(),
    })
}

fn unknown(what: impl Into<String>, begun: Instant) -> Check<ServersFound> {
    Check::new(State::Unknown, what, begun).with(ServersFound {
        source: Source::Nobody,
        agent: None,
        urls: 0,
        candidates: Vec::new(),
        tried: Vec::new(),
    })
}

fn late(limit: Duration) -> Fault {
    let message = format!("the registry has not told the servers within {limit:?}");
    Fault::new(Code::RegistryUnreachable, message).with_hint("see the checks of the way to it")
}

/// The directory is locked, but nobody answers at its socket.
fn in_use(fault: Fault) -> Fault {
    match fault.code {
        Code::IdentityInUse => fault.with_hint(
            "a node runs with this data directory but does not answer at its node.sock: run \
             doctor where that node runs, as its user",
        ),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> IceServer {
        IceServer {
            urls: vec![url.parse().expect("a URL")],
            ..IceServer::default()
        }
    }

    fn of_node(servers: &[&str], configured: usize, standing: Standing) -> Told {
        let status = NetworkStatus {
            servers: servers.iter().map(|url| server(url)).collect(),
            configured,
            ..NetworkStatus::default()
        };
        let agent = "alice".parse().expect("a name");
        Told::of_node(agent, status, standing, Instant::now())
    }

    #[test]
    fn a_node_that_is_not_registered_says_nothing_of_what_the_registry_has() {
        let own = "stun:own.example";
        for configured in [&[][..], &[own]] {
            let told = of_node(configured, configured.len(), Standing::Away);
            assert_eq!(told.check.state, State::Unknown);
            assert!(told.servers.is_none());
            assert_eq!(told.configured.len(), configured.len());
            let told = of_node(configured, configured.len(), Standing::Registered);
            assert_eq!(told.check.state, State::Failed);
            assert_eq!(told.servers, Some(Vec::new()));
        }
        // What it was told before its registry went away is good for a while.
        for standing in [Standing::Away, Standing::Registered] {
            let told = of_node(&[own, "turn:mesh.example"], 1, standing);
            assert_eq!(told.check.state, State::Passed);
            assert_eq!(told.configured, [server(own)]);
            assert_eq!(told.servers, Some(vec![server("turn:mesh.example")]));
        }
    }
}
