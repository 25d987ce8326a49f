//! Options that several verbs have: which processes are tried, with what, and in which
//! families of addresses.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use super::net::Sixth;

/// Which processes are tried, and with what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The binary whose processes are tried [default: `waymesh` beside this program]
    #[arg(long, value_name = "PATH")]
    waymesh: Option<PathBuf>,
    /// More arguments for all nodes
    #[arg(long = "node-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) node_args: Vec<OsString>,
    /// More arguments for the registry
    #[arg(long = "registry-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) registry_args: Vec<OsString>,
    /// Copies the logs of all processes to this folder, or to folders in it
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Prints lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// The binary whose processes are tried.
    pub(crate) fn binary(&self) -> Result<PathBuf> {
        crate::binary(self.waymesh.as_deref())
    }
}

/// Which addresses hosts have.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Families {
    /// Gives every host IPv6 too, with a firewall where there is a NAT for IPv4
    #[arg(long)]
    ipv6: bool,
}

impl Families {
    /// Whether hosts have IPv6.
    pub(crate) const fn sixth(self) -> Sixth {
        if self.ipv6 {
            Sixth::With
        } else {
            Sixth::Without
        }
    }
}
