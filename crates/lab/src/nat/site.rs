//! Real processes in the lab's internet: a registry with a public address and TLS on port
//! 443, and members of its mesh in networks of their own.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use waymesh_proto::api::{Attempt, Detail, NetworkStatus};
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Event, Verb};
use waymesh_proto::link::CandidateKind;

use super::hosts::{Hosts, REGISTRY_NAME};
use super::kind::Kind;
use super::namespace::Namespace;
use super::net::{Host, Net, Sixth};
use super::weather::Weather;
use crate::stage::{self, Process, Program};

/// Where the registry is.
pub(crate) const REGISTRY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const HTTPS: u16 = 443;

/// Where it is after it moved.
pub(crate) const REGISTRY_MOVED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// By what nodes find the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundBy {
    Address,
    /// A name, which can get another address.
    Name,
}

/// How long a node waits for servers that is asked what they have given: the shortest time.
const AT_ONCE: Duration = Duration::from_millis(1);

/// What the models of a run begin with.
const SEED: u64 = 1;

/// A registry, and whoever joined its mesh.
#[derive(Debug)]
pub(crate) struct Site {
    binary: PathBuf,
    folder: TempDir,
    pub(crate) net: Net,
    pub(crate) registry_host: Host,
    registry_address: Ipv4Addr,
    registry_url: String,
    hosts: Option<Hosts>,
    registry: Option<Process>,
    registry_args: Vec<OsString>,
    invite: String,
    /// Of every line from now on.
    weather: Weather,
}

/// A node in a network.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    pub(crate) host: Host,
    pub(crate) node: Process,
}

/// Where programs find a node.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    socket: PathBuf,
}

impl Door {
    /// A program beside the node.
    pub(crate) fn attach(&self) -> Result<Program> {
        Program::attach(&self.socket).with_context(|| format!("attaching to {}", self.name))
    }
}

impl Door {
    /// What the node tried last to make links, newest first.
    pub(crate) fn attempts(&self) -> Result<Vec<String>> {
        let attempts = Detail::Attempts;
        let answer = self.attach()?.ask(1, Verb::ListPeers { attempts })?;
        let Event::PeerList { peers, .. } = answer else {
            bail!("{answer:?} is no list of peers");
        };
        let all = peers
            .into_iter()
            .flat_map(|peer| peer.attempts.unwrap_or_default());
        Ok(all.map(|attempt| told(&attempt)).collect())
    }

    /// The addresses that relays give the node now. It asks them as for a link.
    pub(crate) fn relays(&self) -> Result<Vec<SocketAddr>> {
        let timeout = AT_ONCE;
        let answer = self.attach()?.ask(1, Verb::Network { timeout })?;
        let Event::Result { payload, .. } = answer else {
            bail!("{answer:?} does not say what the network gives");
        };
        let status: NetworkStatus = serde_json::from_slice(&payload.bytes)?;
        let relayed = status
            .candidates
            .iter()
            .filter(|candidate| candidate.kind == CandidateKind::Relay);
        Ok(relayed.map(|candidate| candidate.address).collect())
    }
}

/// An attempt in one line.
fn told(attempt: &Attempt) -> String {
    let Attempt {
        age_ms,
        took_ms,
        role,
        purpose,
        outcome,
        reason,
        ..
    } = attempt;
    format!(
        "{age_ms:.0} ms ago {role:?} to {purpose:?}: {outcome:?} after {took_ms:.0} ms ({reason})"
    )
}

/// Every line's weather, so that a round trip between two hosts takes `rtt`.
pub(crate) fn round_trip(rtt: Duration) -> Weather {
    Weather {
        delay: rtt / 4,
        ..Weather::default()
    }
}

impl Site {
    /// Starts a registry with these arguments beside the usual ones, and makes an invite.
    pub(crate) fn set(
        binary: &Path,
        rtt: Duration,
        sixth: Sixth,
        found_by: FoundBy,
        registry_args: Vec<OsString>,
    ) -> Result<Self> {
        Self::set_at(binary, &[REGISTRY], rtt, sixth, found_by, registry_args)
    }

    /// The same on a host with these addresses, of which the first is the registry's.
    pub(crate) fn set_at(
        binary: &Path,
        addresses: &[Ipv4Addr],
        rtt: Duration,
        sixth: Sixth,
        found_by: FoundBy,
        registry_args: Vec<OsString>,
    ) -> Result<Self> {
        if !binary.is_file() {
            bail!(
                "there is no {}: build it, or name it with --waymesh",
                binary.display()
            );
        }
        let net = Net::start(SocketAddr::from((REGISTRY, HTTPS)), sixth, SEED)?;
        let registry_host = net.add_server("registry", addresses)?;
        let weather = round_trip(rtt);
        net.set_weather(&registry_host, weather);
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let (binary, hosts, registry_url) = match found_by {
            FoundBy::Address => (binary.to_owned(), None, format!("https://{REGISTRY}")),
            FoundBy::Name => {
                let (hosts, program) = Hosts::make(folder.path(), binary, REGISTRY)?;
                (program, Some(hosts), format!("https://{REGISTRY_NAME}"))
            }
        };
        let mut site = Self {
            binary,
            folder,
            net,
            registry_host,
            registry_address: REGISTRY,
            registry_url,
            hosts,
            registry: None,
            registry_args,
            invite: String::new(),
            weather,
        };
        site.start_registry()?;
        site.invite = site.make_invite()?;
        Ok(site)
    }

    /// Starts the registry and waits until it listens.
    pub(crate) fn start_registry(&mut self) -> Result<()> {
        let listen = format!("{}:{HTTPS}", self.registry_address);
        let url = self.registry_url.as_str();
        let mut args: Vec<OsString> = ["registry", "--listen", &listen, "--public-url", url]
            .map(Into::into)
            .into();
        args.push("--data-dir".into());
        args.push(self.dir("registry").into());
        args.extend(self.registry_args.iter().cloned());
        let mut process = self.spawn(&self.registry_host, "registry", args)?;
        process.told("ready")?;
        self.registry = Some(process);
        Ok(())
    }

    /// Ends the registry without a word (SIGKILL).
    pub(crate) fn kill_registry(&mut self) -> Result<()> {
        let registry = self.registry.take();
        registry.context("the registry is not running")?.kill()
    }

    /// Gives the registry, which does not run now, a host with another address, and its name
    /// to that.
    pub(crate) fn move_registry(&mut self) -> Result<()> {
        let hosts = self.hosts.as_ref().context("the registry has no name")?;
        let address = if self.registry_address == REGISTRY {
            REGISTRY_MOVED
        } else {
            REGISTRY
        };
        self.net.move_server(&mut self.registry_host, address)?;
        hosts.point(address)?;
        self.registry_address = address;
        Ok(())
    }

    fn make_invite(&self) -> Result<String> {
        let args = ["invite", "--auto-approve", "--reusable", "--data-dir"].map(OsString::from);
        let args = args.into_iter().chain([self.dir("registry").into()]);
        let mut command = self.spawn(&self.registry_host, "invite", args)?;
        command.next()?.invite.context("`waymesh invite` made none")
    }

    /// Starts a process of the binary on a host.
    pub(crate) fn spawn(
        &self,
        host: &Host,
        name: &str,
        args: impl IntoIterator<Item = OsString> + Send,
    ) -> Result<Process> {
        self.spawn_in(&host.namespace, name, args)
    }

    fn spawn_in(
        &self,
        inside: &Namespace,
        name: &str,
        args: impl IntoIterator<Item = OsString> + Send,
    ) -> Result<Process> {
        let log = self.folder.path().join(format!("{name}.log"));
        let (binary, invite) = (&self.binary, &self.invite);
        inside.run(|| Process::spawn(name, binary, args, invite, &log))
    }

    /// Starts a node that offers `echo` in a new network, without waiting for it.
    pub(crate) fn begin_member(
        &mut self,
        name: &str,
        kind: Kind,
        more: &[OsString],
    ) -> Result<Member> {
        let host = self.net.add_host(name, kind)?;
        self.net.set_weather(&host, self.weather);
        let node = self.begin_node(&host, name, more)?;
        Ok(Member {
            name: name.parse()?,
            kind,
            host,
            node,
        })
    }

    /// Starts a node on a host that is there.
    pub(crate) fn begin_node(&self, host: &Host, name: &str, more: &[OsString]) -> Result<Process> {
        let args = ["node", "--name", name, "--skill", "echo", "--data-dir"].map(Into::into);
        let args = args.into_iter().chain([self.dir(name).into()]);
        self.spawn(host, name, args.chain(more.iter().cloned()))
    }

    /// Starts `waymesh doctor` in a namespace, with this data directory.
    pub(crate) fn begin_doctor(&self, inside: &Namespace, name: &str) -> Result<Process> {
        let args = ["doctor", "--registry", &self.registry_url, "--data-dir"].map(Into::into);
        let args = args.into_iter().chain([self.dir(name).into()]);
        self.spawn_in(inside, &format!("doctor-{name}"), args)
    }

    /// Starts a node and waits until it is registered.
    pub(crate) fn add_member(
        &mut self,
        name: &str,
        kind: Kind,
        more: &[OsString],
    ) -> Result<Member> {
        let mut member = self.begin_member(name, kind, more)?;
        member.node.told("registered")?;
        Ok(member)
    }

    /// How a member is found by whoever has no business with its process.
    pub(crate) fn door(&self, member: &Member) -> Door {
        Door {
            name: member.name.clone(),
            kind: member.kind,
            socket: self.dir(member.name.as_str()).join("node.sock"),
        }
    }

    /// What the registry makes the credentials of its relay of.
    pub(crate) fn turn_secret(&self) -> Result<Vec<u8>> {
        let path = self.dir("registry").join("turn.secret");
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Puts a member out.
    pub(crate) fn revoke(&self, name: &str) -> Result<()> {
        let args = ["revoke", name, "--data-dir"].map(OsString::from);
        let args = args.into_iter().chain([self.dir("registry").into()]);
        self.spawn(&self.registry_host, "revoke", args)?.next()?;
        Ok(())
    }

    /// Log lines of all processes that no run may have: panics.
    pub(crate) fn panics(&self) -> Result<Vec<String>> {
        stage::panics_in(self.folder.path())
    }

    /// Copies the logs of all processes to a folder.
    pub(crate) fn keep_logs(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        for log in stage::logs_in(self.folder.path())? {
            if let Some(name) = log.file_name() {
                fs::copy(&log, to.join(name))?;
            }
        }
        Ok(())
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
