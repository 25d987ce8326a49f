//! Network namespaces: made, entered, and gone again.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

/// Where iproute2 keeps namespaces with names.
const NAMESPACES: &str = "/run/netns";

/// What all names begin with; the process id follows.
const PREFIX: &str = "wm";

/// The one device of a namespace beside loopback.
const DEVICE: &str = "net0";

/// Packets that wait for the router; more are lost. Chosen: a burst of a full TCP window.
const DEVICE_QUEUE: u32 = 2_000;

/// How many this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace with loopback up, and nothing else.
    pub(crate) fn make(label: &str) -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        ip(&["netns", "add", &name])?;
        let path = Path::new(NAMESPACES).join(&name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let made = Self { name, file };
        made.configure("link set lo up\n")?;
        Ok(made)
    }

    /// Runs something inside, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = thread::scope(|scope| {
            let moved = scope.spawn(|| {
                self.enter()?;
                what()
            });
            moved.join()
        });
        match inside {
            Ok(outcome) => outcome,
            Err(_) => bail!("a thread in {} panicked", self.name),
        }
    }

    /// Moves this thread inside, for good.
    fn enter(&self) -> Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.file.as_fd(), network)
            .with_context(|| format!("entering {}", self.name))
    }

    /// Makes the device that is the only way out; the end that is given back is the internet's.
    pub(crate) fn make_device(&self, mtu: u16, addresses: &[IpAddr]) -> Result<SyncDevice> {
        let device = self.run(|| {
            let device = DeviceBuilder::new().name(DEVICE).mtu(mtu).enable(false);
            let device = device.build_sync().context("making a TUN device")?;
            device.set_nonblocking(true)?;
            Ok(device)
        })?;
        // No link-local address: there is no link.
        let mut script = format!(
            "link set {DEVICE} addrgenmode none\nlink set {DEVICE} txqueuelen {DEVICE_QUEUE} up\n"
        );
        for address in addresses {
            script += &added(*address);
        }
        self.configure(&script)?;
        Ok(device)
    }

    /// Takes the old addresses away and gives the new ones.
    pub(crate) fn readdress(&self, old: &[IpAddr], new: &[IpAddr]) -> Result<()> {
        let mut script = String::new();
        for address in old {
            script += &format!("addr del {}/{} dev {DEVICE}\n", address, prefix(*address));
        }
        for address in new {
            script += &added(*address);
        }
        self.configure(&script)
    }

    /// Sets the device's largest packet.
    pub(crate) fn set_mtu(&self, mtu: u16) -> Result<()> {
        self.configure(&format!("link set {DEVICE} mtu {mtu}\n"))
    }

    /// Runs lines of `ip` inside.
    fn configure(&self, lines: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting `ip` (iproute2)")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip in {}: {said}", self.name);
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left is swept by the next run.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(four) if four.is_private() => 24,
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 64,
    }
}

/// The lines that give an address, and the route that goes with it.
fn added(address: IpAddr) -> String {
    let (family, nodad) = match address {
        IpAddr::V4(_) => (4, ""),
        IpAddr::V6(_) => (6, " nodad"),
    };
    let prefix = prefix(address);
    let route = if family == 4 { "0.0.0.0/0" } else { "::/0" };
    format!("addr add {address}/{prefix} dev {DEVICE}{nodad}\nroute replace {route} dev {DEVICE}\n")
}

fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.context("starting `ip` (iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {said}", args.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Why the lab cannot run here, if so.
pub(crate) fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root");
    }
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .is_err()
    {
        return Some("there is no usable /dev/net/tun");
    }
    if ip(&["-V"]).is_err() {
        return Some("there is no `ip` (iproute2)");
    }
    None
}

/// Ends what dead runs left: their processes, then their namespaces.
pub(crate) fn sweep() -> Result<()> {
    let Ok(entries) = fs::read_dir(NAMESPACES) else {
        return Ok(());
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if maker(name).is_some_and(|pid| !is_lab(pid)) {
            end_processes(name);
            ip(&["netns", "del", name])?;
        }
    }
    Ok(())
}

/// The process that made a namespace of this name, if the lab did.
fn maker(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn is_lab(pid: u32) -> bool {
    let own: PathBuf = format!("/proc/{pid}/comm").into();
    fs::read_to_string(own).is_ok_and(|name| name.starts_with("waymesh-lab"))
}

fn end_processes(namespace: &str) {
    let Ok(pids) = ip(&["netns", "pids", namespace]) else {
        return;
    };
    let pids = pids.lines().filter_map(|line| line.trim().parse().ok());
    for pid in pids.filter_map(rustix::process::Pid::from_raw) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_process_id_are_the_labs() {
        assert_eq!(maker("wm123-host-a"), Some(123));
        for other in ["wm-host", "wmx-host", "host", "wm12", "vm12-host"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
