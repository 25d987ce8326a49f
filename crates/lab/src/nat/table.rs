//! Prints what each kind is, and what is possible between each two.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use waymesh_proto::link::Path;

use super::internet::GateConfig;
use super::kind::{Kind, Place};
use super::net::Sixth;
use super::probe::{self, Observed};
use super::proof;
use super::theory::Reach;

/// What the gates of a kind leave.
pub(crate) fn reach(kind: Kind) -> Reach {
    Reach::through(&gates(kind))
}

fn gates(kind: Kind) -> Vec<GateConfig> {
    kind.gates(&Place::new(0, probe::registry()))
}

pub(crate) const fn path_name(path: Path) -> &'static str {
    match path {
        Path::Direct => "direct",
        Path::Relay => "relay",
        Path::Mailbox => "mailbox",
    }
}

/// The best path between a host of one kind of network and one of another.
pub(crate) fn best_path(own: Kind, their: Kind, sixth: Sixth) -> Path {
    reach(own).best_path(reach(their), sixth)
}

/// Prints both.
pub(crate) fn print(sixth: Sixth) {
    for kind in proof::all() {
        println!("{:<20}{}", kind.name(), Observed::expected(&gates(*kind)));
    }
    if sixth == Sixth::With {
        println!();
        println!("IPv6 is filtered like IPv4, and translated by nobody.");
    }
    println!();
    print!("{:<20}", "");
    for kind in proof::all() {
        print!("{:<20}", kind.name());
    }
    println!();
    for own in proof::all() {
        print!("{:<20}", own.name());
        for their in proof::all() {
            print!("{:<20}", path_name(best_path(*own, *their, sixth)));
        }
        println!();
    }
}
