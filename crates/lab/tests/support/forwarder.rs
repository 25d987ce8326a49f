//! A lossy network between two endpoints, in the same process: each end knows
//! the other only by a port of the forwarder, which passes datagrams on, late,
//! out of order, or not at all.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use waymesh_lab::dice::Dice;

/// What the forwarder does to datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Impairment {
    pub(crate) loss_per_mille: u32,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
}

/// Two ports: each node sends to the one of its number, and hears from it.
#[derive(Debug)]
pub(crate) struct Forwarder {
    ports: [UdpSocket; 2],
    /// Where each node is, learnt from its description.
    nodes: [Option<SocketAddr>; 2],
    impairment: Impairment,
    dice: Dice,
    waiting: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    serial: u64,
    pub(crate) is_cut: bool,
}

impl Forwarder {
    pub(crate) async fn bind(seed: u64, impairment: Impairment) -> io::Result<Self> {
        let ports = [
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        ];
        Ok(Self {
            ports,
            nodes: [None, None],
            impairment,
            dice: Dice::new(seed),
            waiting: BTreeMap::new(),
            serial: 0,
            is_cut: false,
        })
    }

    /// Rewrites the description of a node so that the other one sends to the forwarder.
    pub(crate) fn rewrite(&mut self, of: usize, sdp: &str) -> String {
        let mut lines = Vec::new();
        for line in sdp.lines() {
            match line.strip_prefix("a=candidate:") {
                None => lines.push(line.to_owned()),
                Some(candidate) if self.is_first_v4(of, candidate) => {
                    let port = self.ports[1 - of].local_addr().map_or(0, |a| a.port());
                    let mut words: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
                    words[4] = Ipv4Addr::LOCALHOST.to_string();
                    words[5] = port.to_string();
                    lines.push(format!("a=candidate:{}", words.join(" ")));
                }
                Some(_) => {}
            }
        }
        lines.join("\r\n") + "\r\n"
    }

    fn is_first_v4(&mut self, of: usize, candidate: &str) -> bool {
        let mut words = candidate.split(' ').skip(4);
        let address = words
            .next()
            .and_then(|ip| ip.parse::<Ipv4Addr>().ok())
            .zip(words.next());
        let Some((ip, port)) = address.and_then(|(ip, port)| Some((ip, port.parse::<u16>().ok()?)))
        else {
            return false;
        };
        self.nodes[of] = Some(SocketAddr::from((ip, port)));
        true
    }

    /// Waits until a datagram is at a port.
    pub(crate) async fn readable(&self) {
        tokio::select! {
            _ = self.ports[0].readable() => {}
            _ = self.ports[1].readable() => {}
        }
    }

    /// When the next datagram must be passed on.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }

    /// Takes in what has come and passes on what is due.
    pub(crate) fn run(&mut self, now: Instant) {
        let mut buffer = [0; 2_048];
        for from in [0, 1] {
            while let Ok((len, _)) = self.ports[from].try_recv_from(&mut buffer) {
                let lost = self.is_cut || self.dice.one_of_thousand(self.impairment.loss_per_mille);
                if !lost {
                    let at = now + self.impairment.delay + self.dice.below(self.impairment.jitter);
                    self.serial += 1;
                    self.waiting
                        .insert((at, self.serial), (1 - from, buffer[..len].to_vec()));
                }
            }
        }
        while let Some(entry) = self
            .waiting
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let (to, datagram) = entry.remove();
            if let Some(address) = self.nodes[to].filter(|_| !self.is_cut) {
                let _ = self.ports[to].try_send_to(&datagram, address);
            }
        }
    }
}
