//! Faults under real processes that exchange messages without a pause: how long traffic
//! stops, and that nothing is lost, doubled or out of order.

mod addresses;
mod away;
mod guests;
mod lines;
mod relays;
mod report;
mod scene;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::kind::Kind;
use super::options::Options;
use super::spread::Goal;
use report::{Finding, Report};

/// How soon traffic is to be there again in half of all cases. A goal of the project.
const AGAIN_GOAL: Duration = Duration::from_millis(1_500);

/// Which faults to bring about, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The faults [default: all]
    #[arg(value_enum)]
    names: Vec<Fault>,
    /// The networks of the pair, as symmetric:none [default: what a fault is about]
    #[arg(long, value_parser = super::kind::pair)]
    kinds: Option<(Kind, Kind)>,
    /// How often each fault happens to a pair
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Lets so much time pass from one fault to the next, as in 5s
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = super::duration)]
    every: Duration,
    /// Faults that are tried at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// Sleeps ten minutes where else forty seconds are enough
    #[arg(long)]
    long: bool,
    #[command(flatten)]
    options: Options,
}

/// Something that happens to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The NAT before one of them forgets everything
    NatFlush,
    /// One of them moves to another network: another private and another public address
    NetworkChange,
    /// The line of one of them is cut for five seconds
    CutHeal,
    /// A NAT maps anew every three seconds
    Rebinding,
    /// A tenth of all packets is lost, both ways
    Loss,
    /// Round trips take 300 ms
    Rtt300,
    /// Nothing larger than 1280 bytes passes, and nobody is told
    Mtu1280,
    /// Nothing gets from one of them to the other, but back, and to the registry
    Asymmetric,
    /// The path dies while the registry is gone; the path comes back first
    RegistryGone,
    /// The same; the registry comes back first
    RegistryBack,
    /// One of them is stopped for forty seconds
    Asleep,
    /// The STUN server that nodes were given is silent, and another has no address
    SilentStun,
    /// The relay that they use is killed; another is there
    RelayDeath,
    /// The registry relays, is killed, and comes back after a second
    RegistryKilled,
    /// Credentials for the relay end every four seconds
    TurnExpiry,
    /// The registry relays, is killed, and is then at another address with the same name
    RegistryMoved,
    /// UDP is blocked while they have a direct link, and is free again later
    UdpBlockedLater,
    /// One of them uses relays alone, from where TCP to port 443 alone gets out, and its NAT forgets
    RelayOnly,
    /// A stranger floods the relay that they use
    TurnFlood,
    /// A stranger, or one who was put out, wants an allocation
    TurnStranger,
    /// A member wants to relay to private addresses
    RelayPrivate,
}

/// How long a sleep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    Short,
    Long,
}

/// What all faults are tried with.
#[derive(Debug)]
pub(crate) struct Conditions {
    pub(crate) binary: PathBuf,
    pub(crate) kinds: Option<(Kind, Kind)>,
    pub(crate) runs: u16,
    /// How long after a fault the next one happens at the earliest.
    pub(crate) every: Duration,
    pub(crate) sleep: Sleep,
    pub(crate) options: Options,
}

impl Fault {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// From when its times are counted.
    pub(crate) const fn clock(self) -> &'static str {
        match self {
            Self::NatFlush | Self::RelayOnly => "from when the NAT forgot",
            Self::NetworkChange => "from before the addresses changed",
            Self::CutHeal => "from when the line was whole again",
            Self::Asymmetric => "from when the direction was cut",
            Self::RegistryGone => "from when the path was whole again",
            Self::RegistryBack => "from before the registry was started again",
            Self::Asleep => "from when it woke",
            Self::RelayDeath => "from before the relay was killed",
            Self::RegistryKilled | Self::RegistryMoved => "from before the registry was killed",
            Self::UdpBlockedLater => "from when UDP was blocked",
            Self::Rebinding
            | Self::Loss
            | Self::Rtt300
            | Self::Mtu1280
            | Self::SilentStun
            | Self::TurnExpiry
            | Self::TurnFlood
            | Self::TurnStranger
            | Self::RelayPrivate => "nothing stops",
        }
    }

    /// How soon traffic is to be there again, where the project has a goal.
    pub(crate) const fn goal(self) -> Option<Goal> {
        match self {
            Self::NatFlush | Self::NetworkChange | Self::RelayDeath => {
                Some(Goal::Median(AGAIN_GOAL))
            }
            _ => None,
        }
    }

    fn play(self, conditions: &Conditions) -> Result<Finding> {
        match self {
            Self::NatFlush => addresses::flush(conditions),
            Self::NetworkChange => addresses::change(conditions),
            Self::Rebinding => addresses::rebinding(conditions),
            Self::CutHeal => lines::cut(conditions),
            Self::Loss => lines::loss(conditions),
            Self::Rtt300 => lines::far(conditions),
            Self::Mtu1280 => lines::narrow(conditions),
            Self::Asymmetric => lines::one_way(conditions),
            Self::RegistryGone => away::path_first(conditions),
            Self::RegistryBack => away::registry_first(conditions),
            Self::Asleep => away::asleep(conditions),
            Self::SilentStun => away::silent_stun(conditions),
            Self::RelayDeath => relays::death(conditions),
            Self::RegistryKilled => relays::registry(conditions),
            Self::RegistryMoved => relays::moved(conditions),
            Self::UdpBlockedLater => lines::no_udp(conditions),
            Self::RelayOnly => relays::only(conditions),
            Self::TurnExpiry => relays::expiry(conditions),
            Self::TurnFlood => relays::flood(conditions),
            Self::TurnStranger => guests::stranger(conditions),
            Self::RelayPrivate => guests::private(conditions),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let conditions = Conditions {
        binary: args.options.binary()?,
        kinds: args.kinds,
        runs: args.runs,
        every: args.every,
        sleep: if args.long { Sleep::Long } else { Sleep::Short },
        options: args.options.clone(),
    };
    let faults = if args.names.is_empty() {
        Fault::value_variants()
    } else {
        &args.names
    };
    let report = Report::new(args.options.json);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..usize::from(args.jobs).min(faults.len()) {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    report.tell(*fault, fault.play(&conditions));
                }
            });
        }
    });
    Ok(report.code())
}
