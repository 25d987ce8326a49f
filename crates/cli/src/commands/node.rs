//! `waymesh node`: the sidecar that carries one agent's identity and links.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use waymesh_node::skills::Builtin;
use waymesh_node::{
    CandidatePolicy, Condition, EndpointConfig, Event, Home as NodeHome, Node, NodeConfig,
    NodeInfo, PendingJoin, Policy, Rule, Topology,
};
use waymesh_proto::ids::{AgentId, Incarnation, Name, RequestId};
use waymesh_proto::{Code, Fault};

use super::Context;
use super::ice_args::ServerArgs;
use crate::Outcome;
use crate::clock::{iso, spoken, unix_ms};
use crate::invitation::InviteSource;
use crate::output::{Look, Output, Tell};
use crate::settings::Home;
use crate::stop::{self, StdinGuard};

const EXAMPLES: &str = "\
Examples:
  waymesh node --name bob --invite @bob.invite --skill echo
  waymesh node --name bob --invite 123456 --registry https://mesh.example:7700
  waymesh node                                     again: it is a member and has its name
  waymesh node --allow role:ops --allow carol/echo --deny mallory

An invite is needed once; it is a secret, and everybody on a machine sees what stands on
a command line (ps): give it as @FILE, as - for standard input, or in WAYMESH_INVITE.
With six digits the registry's TLS key is trusted at first sight and pinned from then on:
compare both fingerprints that the node shows with those that the admin sees.

A rule is NAME, role:ROLE or * for anybody, and /SKILL behind it for that skill alone.
What is denied is denied; where anything is allowed, all else is denied.

The data directory holds the agent's key: the name belongs to it from its first use on.
Programs talk to the node through node.sock in that directory (JSON lines).";

/// Run a node: one agent's identity and links, for programs beside it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The agent's name: 1 to 63 characters of a-z, 0-9 and - [default: a member's own]
    #[arg(long, env = "WAYMESH_NAME")]
    name: Option<Name>,
    /// What to join with: an invite or six digits, @FILE to read it from, - for standard input
    #[arg(
        long,
        env = "WAYMESH_INVITE",
        hide_env_values = true,
        value_name = "INVITE|CODE|@FILE|-",
        value_parser = clap::builder::ValueParser::new(|text: &str| Ok::<_, std::convert::Infallible>(InviteSource::from(text)))
    )]
    invite: Option<InviteSource>,
    /// Where the registry is [default: where the invite says, or where it was]
    #[arg(long, env = "WAYMESH_REGISTRY", value_name = "URL")]
    registry: Option<String>,
    /// TLS authorities to trust too, PEM: where TLS is intercepted, or the registry's is private
    #[arg(long, env = "WAYMESH_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Offer a built-in skill: echo, wordcount or sleep; may be given several times
    #[arg(long = "skill", value_name = "SKILL")]
    skills: Vec<Builtin>,
    /// Let only these reach the agent; may be given several times
    #[arg(long = "allow", value_name = "RULE")]
    allow: Vec<Rule>,
    /// Let these not reach the agent; may be given several times
    #[arg(long = "deny", value_name = "RULE")]
    deny: Vec<Rule>,
    /// When links are made: on first use, at once to every agent, or never
    #[arg(long, env = "WAYMESH_TOPOLOGY", value_enum, default_value_t = When::OnDemand)]
    topology: When,
    /// Which addresses peers are told and links may use: all, or relayed ones alone, which
    /// hide this host's [default: all; ICE_TRANSPORT_POLICY is read too]
    #[arg(long, env = "WAYMESH_ICE_TRANSPORT_POLICY", value_enum)]
    ice_transport_policy: Option<Addresses>,
    #[command(flatten)]
    servers: ServerArgs,
    /// Stop when standard input closes, so that the node never outlives its parent
    #[arg(long)]
    stdin_guard: bool,
}

/// The variable that other programs name the policy by; the flag and
/// `WAYMESH_ICE_TRANSPORT_POLICY` go first.
const COMMON_POLICY: &str = "ICE_TRANSPORT_POLICY";

/// Which addresses links may use, as `iceTransportPolicy` of browsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Addresses {
    /// All that are found
    All,
    /// Relayed ones alone: peers do not learn this host's addresses
    Relay,
}

impl Addresses {
    /// What the variable of other programs says.
    fn common() -> Result<Self, Fault> {
        let Ok(text) = std::env::var(COMMON_POLICY) else {
            return Ok(Self::All);
        };
        <Self as clap::ValueEnum>::from_str(text.trim(), true).map_err(|_| {
            Fault::new(Code::Usage, format!("{COMMON_POLICY} is {text:?}"))
                .with_hint("set it to all or relay, or unset it")
        })
    }

    const fn candidates(self) -> CandidatePolicy {
        match self {
            Self::All => CandidatePolicy::All,
            Self::Relay => CandidatePolicy::RelayOnly,
        }
    }
}

/// When links are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    /// On first use
    #[value(name = "on_demand", alias = "on-demand")]
    OnDemand,
    /// At once, to every agent
    #[value(name = "full_mesh", alias = "full-mesh")]
    FullMesh,
    /// Never: all messages go sealed through the registry
    #[value(name = "mailbox_only", alias = "mailbox-only")]
    MailboxOnly,
}

#[derive(Debug, Serialize)]
struct Ready {
    event: &'static str,
    ipc: Option<PathBuf>,
    name: Name,
    agent_id: AgentId,
    incarnation: Incarnation,
    registry: String,
    version: &'static str,
}

/// An admin has to agree.
#[derive(Debug, Serialize)]
struct Pending {
    event: &'static str,
    name: Name,
    request: RequestId,
    fingerprint: String,
    mesh_fingerprint: String,
    registry: String,
}

#[derive(Debug, Serialize)]
struct Registered {
    event: &'static str,
    name: Name,
    registry: String,
}

/// The certificate ends soon and was not extended.
#[derive(Debug, Serialize)]
struct Expiring {
    event: &'static str,
    name: Name,
    remaining_ms: u64,
    expires: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let data_dir = context.data_dir(Home::Node)?;
    let guard = StdinGuard::from(args.stdin_guard);
    // First: whoever types it at a prompt may still interrupt.
    let config = config(args, data_dir)?;
    let mut stopped = Box::pin(stop::requested(guard)?);
    let node = Node::start(config).await?;
    context.out.tell(&Ready::new(node.info()));
    tokio::select! {
        fault = Box::pin(told(&node, context.out)) => Err(fault),
        () = &mut stopped => {
            node.stop().await;
            Ok(Outcome::Done)
        }
    }
}

fn config(args: Args, data_dir: PathBuf) -> Result<NodeConfig, Fault> {
    let name = match args.name {
        Some(name) => name,
        None => known_name(&data_dir)?,
    };
    let invite = args.invite.map(|source| source.read()).transpose()?;
    let addresses = args
        .ice_transport_policy
        .map_or_else(Addresses::common, Ok)?;
    let endpoint = EndpointConfig {
        candidates: addresses.candidates(),
        servers: args.servers.servers()?,
        ..EndpointConfig::default()
    };
    Ok(NodeConfig {
        invite,
        registry: args.registry,
        ca: args.ca,
        policy: Policy {
            allow: args.allow,
            deny: args.deny,
        },
        topology: match args.topology {
            When::OnDemand => Topology::OnDemand,
            When::FullMesh => Topology::FullMesh,
            When::MailboxOnly => Topology::MailboxOnly,
        },
        builtins: args.skills.into_iter().collect(),
        endpoint,
        ..NodeConfig::new(name, data_dir)
    })
}

/// The name that the member of a data directory has.
fn known_name(data_dir: &Path) -> Result<Name, Fault> {
    let member = NodeHome::peek_membership(data_dir)?;
    member.map(|member| member.name).ok_or_else(|| {
        Fault::new(Code::Usage, "a node that is no member yet needs a name")
            .with_hint("give it with --name, and an invite with --invite")
    })
}

/// Tells how the node is doing until it stops by itself; gives why it did.
async fn told(node: &Node, out: Output) -> Fault {
    let info = node.info();
    let (mut condition, mut events) = (node.condition(), node.client());
    let (mut pending, mut is_registered) = (None, false);
    loop {
        let now = condition.borrow_and_update().clone();
        match now {
            Condition::Pending(request) if pending.as_ref() != Some(&request) => {
                out.tell(&Pending::new(info, &request));
                pending = Some(request);
            }
            Condition::Registered if !is_registered => {
                is_registered = true;
                out.tell(&Registered::new(info));
            }
            Condition::Stopped(fault) => return fault.unwrap_or_else(stopped_by_itself),
            _ => {}
        }
        tokio::select! {
            changed = condition.changed() => match changed {
                Ok(()) => {}
                Err(_) => return stopped_by_itself(),
            },
            Some(event) = events.recv() => if let Event::CertificateExpiring { remaining } = event {
                out.tell(&Expiring::new(info, remaining));
            },
        }
    }
}

fn stopped_by_itself() -> Fault {
    Fault::new(Code::Internal, "the node has stopped by itself")
}

impl Ready {
    fn new(info: &NodeInfo) -> Self {
        Self {
            event: "ready",
            ipc: info.ipc.clone(),
            name: info.name.clone(),
            agent_id: info.agent_id,
            incarnation: info.incarnation,
            registry: info.registry.clone(),
            version: info.version,
        }
    }
}

impl Tell for Ready {
    fn text(&self, _: Look) -> String {
        let ipc = match &self.ipc {
            Some(path) => format!(", for programs on {}", path.display()),
            None => String::new(),
        };
        format!("{} ({}) is up{ipc}", self.name, self.agent_id)
    }
}

impl Pending {
    fn new(info: &NodeInfo, request: &PendingJoin) -> Self {
        Self {
            event: "pending",
            name: info.name.clone(),
            request: request.request.clone(),
            fingerprint: request.fingerprint.clone(),
            mesh_fingerprint: request.mesh_fingerprint.clone(),
            registry: info.registry.clone(),
        }
    }
}

impl Tell for Pending {
    fn text(&self, _: Look) -> String {
        format!(
            "{} waits for an admin to run: waymesh pending, then waymesh approve {}\n  \
             this node  {}\n  the mesh   {}\n\
             waymesh pending must show the admin the same two fingerprints",
            self.name, self.request, self.fingerprint, self.mesh_fingerprint
        )
    }
}

impl Registered {
    fn new(info: &NodeInfo) -> Self {
        Self {
            event: "registered",
            name: info.name.clone(),
            registry: info.registry.clone(),
        }
    }
}

impl Tell for Registered {
    fn text(&self, _: Look) -> String {
        format!("{} is registered at {}", self.name, self.registry)
    }
}

impl Expiring {
    fn new(info: &NodeInfo, remaining: Duration) -> Self {
        let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
        Self {
            event: "certificate_expiring",
            name: info.name.clone(),
            remaining_ms,
            expires: iso(unix_ms().saturating_add(remaining_ms)),
        }
    }
}

impl Tell for Expiring {
    fn text(&self, _: Look) -> String {
        format!(
            "the certificate of {} ends in {} and was not extended: is the registry reached? \
             else ask an admin for a new invite",
            self.name,
            spoken(Duration::from_millis(self.remaining_ms)),
        )
    }
}
