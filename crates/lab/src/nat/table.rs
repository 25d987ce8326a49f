//! Prints what each kind is, and what is possible between each two.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use waymesh_proto::link::Path;

use super::kind::{Kind, Place};
use super::probe::{self, Observed};
use super::proof;
use super::theory::Reach;

/// What the gates of a kind leave.
pub(crate) fn reach(kind: Kind) -> Reach {
    Reach::through(&kind.gates(&Place::new(0, probe::registry())))
}

pub(crate) const fn path_name(path: Path) -> &'static str {
    match path {
        Path::Direct => "direct",
        Path::Relay => "relay",
        Path::Mailbox => "mailbox",
    }
}

/// Prints both.
pub(crate) fn print() {
    for kind in proof::all() {
        println!("{:<20}{}", kind.name(), Observed::expected(reach(*kind)));
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
            print!("{:<20}", path_name(reach(*own).best_path(reach(*their))));
        }
        println!();
    }
}
