//! A name for the registry that others can be given an address for: a hosts file that the
//! lab's processes see in place of this machine's, and nobody else.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The registry's name (RFC 6761 §6.2: nobody has it).
pub(crate) const REGISTRY_NAME: &str = "registry.test";

/// The file that is seen in place of this one.
const HOSTS: &str = "/etc/hosts";

/// The hosts file.
#[derive(Debug)]
pub(crate) struct Hosts {
    file: PathBuf,
}

impl Hosts {
    /// Makes the file, and a program beside it that runs the binary where the file is seen;
    /// the process id stays the same.
    ///
    /// # Errors
    ///
    /// When there is no hosts file here that another could be put over.
    pub(crate) fn make(folder: &Path, binary: &Path, address: Ipv4Addr) -> Result<(Self, PathBuf)> {
        ensure!(Path::new(HOSTS).is_file(), "there is no {HOSTS}");
        let hosts = Self {
            file: folder.join("hosts"),
        };
        hosts.point(address)?;
        let program = folder.join("waymesh");
        let text = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"{}\" {HOSTS} && exec \"{}\" \"$@\"' sh \"$@\"\n",
            hosts.file.display(),
            binary.display(),
        );
        fs::write(&program, text).context("writing a program")?;
        fs::set_permissions(&program, Permissions::from_mode(0o700))?;
        Ok((hosts, program))
    }

    /// Gives the registry's name this address. The file stays the same one, so that whoever
    /// sees it already sees this too.
    pub(crate) fn point(&self, address: Ipv4Addr) -> Result<()> {
        let text = format!("127.0.0.1 localhost\n{address} {REGISTRY_NAME}\n");
        fs::write(&self.file, text).with_context(|| format!("writing {}", self.file.display()))
    }
}
