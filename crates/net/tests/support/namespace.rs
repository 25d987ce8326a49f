//! A network namespace of the test's own, which is gone with it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Holds a namespace open, says when it is there, and ends with whoever started it.
const HOLDER: [&str; 4] = ["--net", "sh", "-c", "echo ready; exec cat"];

/// A namespace; dropped, it is gone when no socket of it is left.
pub(crate) struct Namespace(Child);

/// Says that a test was skipped; as root in CI nothing may be.
#[expect(clippy::print_stderr, reason = "a skipped test is loud")]
fn skip(why: &str) {
    let is_root = rustix::process::geteuid().is_root();
    let may_skip = !is_root || std::env::var_os("CI").is_none();
    assert!(may_skip, "SKIPPED as root in CI: {why}");
    eprintln!("SKIPPED: {why}");
}

impl Namespace {
    /// Moves this thread into a new namespace, in which loopback is up and `net0`,
    /// with a peer that is up too, has no address. `None`, loudly, where that cannot be.
    pub(crate) fn enter() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("network namespaces need root");
            return None;
        }
        let started = Command::new("unshare")
            .args(HOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let Ok(mut holder) = started else {
            skip("there is no `unshare` (util-linux)");
            return None;
        };
        let mut ready = String::new();
        let stdout = holder.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut ready);
        let entered = Self(holder);
        if read.is_err() || ready.is_empty() {
            skip("this system makes no network namespaces");
            return None;
        }
        let file = File::open(format!("/proc/{}/ns/net", entered.0.id())).expect("it runs");
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), network).expect("it is a namespace");
        entered.ip("link set lo up");
        entered.ip("link add net0 type veth peer name net1");
        entered.ip("link set net1 addrgenmode none up");
        entered.ip("link set net0 addrgenmode none up");
        Some(entered)
    }

    /// Runs `ip` inside, with these words.
    pub(crate) fn ip(&self, words: &str) {
        let ran = Command::new("ip").args(words.split(' ')).output();
        let ran = ran.expect("iproute2 is there");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "ip {words}: {said}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
