//! Runs the TURN server alone, to measure it beside another:
//!
//!     cargo run --release -p waymesh-registry --example relay -- 127.0.0.1:3478 SECRET 127.0.0.0/8
//!
//! It relays to the networks that are named, prints its counters every five
//! seconds, and ends when its input does.

use std::io::Read;
use std::time::Duration;

use waymesh_net::turn::server::RelaySecret;
use waymesh_registry::turn::{Limits, Relay, RelayConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(secret)) = (arguments.next(), arguments.next()) else {
        return Err("usage: relay ADDRESS SECRET [NETWORK]…".into());
    };
    let config = RelayConfig {
        listen: vec![listen.parse()?],
        other: None,
        relay_ips: Vec::new(),
        relay_ports: None,
        realm: "waymesh".into(),
        secret: RelaySecret::new(secret.as_bytes()),
        allow: arguments.map(|a| a.parse()).collect::<Result<_, _>>()?,
        limits: Limits {
            allocations: 100_000,
            allocations_per_member: 100_000,
            bytes_per_second: 100_000_000_000,
            burst_bytes: 100_000_000_000,
            strangers_per_second: 1_000_000,
            strangers_burst: 1_000_000,
            ..Limits::default()
        },
    };
    let relay = Relay::start(config)?;
    let handle = relay.handle();
    eprintln!("listening on {:?}", handle.addresses());
    let (ended, end) = std::sync::mpsc::sync_channel::<()>(0);
    let input = std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(ended);
    });
    while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) =
        end.recv_timeout(Duration::from_secs(5))
    {
        eprintln!("{:?}", handle.counters());
    }
    let _ = input.join();
    Ok(())
}
