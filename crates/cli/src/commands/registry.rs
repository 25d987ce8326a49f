//! `waymesh registry`: who introduces the agents to each other, and keeps their mailboxes.

mod turn;

use std::net::SocketAddr;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use serde::Serialize;
use waymesh_proto::control::{MeshKey, Origin, RegistryKey};
use waymesh_proto::ice::IceUrl;
use waymesh_proto::{Code, Fault};
use waymesh_registry::{Registry, RegistryConfig, Tls};
use waymesh_trust::fingerprint;

use super::Context;
use crate::Outcome;
use crate::open_files;
use crate::output::{Look, Tell};
use crate::settings::{self, Home};
use crate::stop::{self, StdinGuard};

const EXAMPLES: &str = "\
Examples:
  waymesh registry                                  for this machine: 127.0.0.1:7700
  waymesh registry --listen 0.0.0.0:7700 --public-url https://mesh.example:7700
                                                    for others too, with TLS of its own
  waymesh registry --listen 0.0.0.0:443 --public-url https://mesh.example \\
      --tls-cert mesh.example.pem --tls-key mesh.example.key

It knows who is there and what they can do, passes on what two agents need to connect,
and keeps sealed messages for those that are away. It cannot read them, nor admit
anybody: that is done by waymesh invite, with a key that this process never opens.

Where two agents cannot reach each other it relays between them, encrypted end to end:
open its port for TCP and UDP, and UDP 49152-65535 (--relay-ports) for relayed traffic.

Without --tls-cert it makes a TLS key of its own wherever others can reach it, and
invites carry that key's pin.";

/// Run a registry, which introduces the agents to each other
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        env = "WAYMESH_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:7700",
        value_parser = settings::listen
    )]
    listen: SocketAddr,
    /// The URL that nodes connect to, when it is not the listening address
    #[arg(long, env = "WAYMESH_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Speak TLS on loopback too, with a key of its own
    #[arg(long)]
    tls: bool,
    /// Speak TLS with this certificate and its chain, PEM
    #[arg(
        long,
        env = "WAYMESH_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, PEM
    #[arg(
        long,
        env = "WAYMESH_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    turn: turn::TurnArgs,
    /// Stop when standard input closes, so that the registry never outlives its parent
    #[arg(long)]
    stdin_guard: bool,
}

#[derive(Debug, Serialize)]
struct Ready {
    event: &'static str,
    url: Origin,
    listen: SocketAddr,
    registry: RegistryKey,
    tls_pin: Option<String>,
    turn: Vec<IceUrl>,
    mesh: Option<MeshKey>,
    mesh_fingerprint: Option<String>,
    data_dir: PathBuf,
    version: &'static str,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut stopped = Box::pin(stop::requested(StdinGuard::from(args.stdin_guard))?);
    open_files::raise_limit();
    let data_dir = context.data_dir(Home::Registry)?;
    let config = RegistryConfig {
        listen: args.listen,
        data_dir: data_dir.clone(),
        tls: args.tls(),
        public_url: args.public_url,
        ice: args.turn.config(),
    };
    let mut registry = Registry::start(config)
        .await
        .map_err(|error| error.fault())?;
    context.out.tell(&Ready::new(&registry, data_dir));
    tokio::select! {
        () = registry.failed() => Err(Fault::new(
            Code::Internal,
            "a part of the registry has ended by itself; its log says why",
        )),
        () = &mut stopped => {
            registry.stop().await;
            Ok(Outcome::Done)
        }
    }
}

impl Args {
    /// What was chosen; `None` leaves the choice to the registry.
    fn tls(&self) -> Option<Tls> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ if self.tls => Some(Tls::SelfSigned),
            _ => None,
        }
    }
}

impl Ready {
    fn new(registry: &Registry, data_dir: PathBuf) -> Self {
        let mesh = registry.mesh();
        Self {
            event: "ready",
            url: registry.url().clone(),
            listen: registry.local_addr(),
            registry: registry.key(),
            tls_pin: registry.tls_pin().map(|pin| HEXLOWER.encode(&pin)),
            turn: registry.ice_urls().to_vec(),
            mesh,
            mesh_fingerprint: mesh.map(|mesh| fingerprint(mesh.as_bytes())),
            data_dir,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl Tell for Ready {
    fn text(&self, _: Look) -> String {
        let mesh = match &self.mesh_fingerprint {
            Some(fingerprint) => format!("it serves the mesh {fingerprint}"),
            None => "it serves no mesh yet: the first invite founds one".to_owned(),
        };
        let pin = match &self.tls_pin {
            Some(pin) => format!("\nits TLS key is {pin}, which invites pin"),
            None => String::new(),
        };
        let turn = match &self.turn[..] {
            [] => String::new(),
            urls => {
                let urls: Vec<_> = urls.iter().map(IceUrl::to_string).collect();
                format!("\nmembers are told of {}", urls.join(", "))
            }
        };
        format!(
            "the registry is at {}; {mesh}{pin}{turn}\nlet an agent in: waymesh invite --auto-approve --data-dir {}",
            self.url,
            self.data_dir.display(),
        )
    }
}
