//! Measures links over loopback: set-up, round trip, one-way rate.
//!
//! `cargo run --release -p waymesh-net --example link_bench`
//! Two endpoints, each on a thread of its own; CPU time is that of both.

#![expect(clippy::print_stdout, reason = "a measurement prints what it measured")]

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use waymesh_net::webrtc::{Endpoint, EndpointConfig, SendError};
use waymesh_proto::class::Class;
use waymesh_proto::ids::LinkId;
use waymesh_proto::link::{LinkCommand, LinkEvent};

const SETUPS: u64 = 200;
const ECHOES: usize = 20_000;
const ONE_WAY: Duration = Duration::from_secs(3);

/// One end of the bench: an endpoint and the way to the other end's signaling.
struct End {
    endpoint: Endpoint,
    out: Sender<LinkCommand>,
    inbox: Receiver<LinkCommand>,
}

impl End {
    /// Runs the endpoint until it has an event.
    async fn event(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.endpoint.poll_event() {
                return event;
            }
            self.endpoint.flush();
            let deadline = self
                .endpoint
                .poll_timeout()
                .unwrap_or_else(|| Instant::now() + ONE_WAY);
            tokio::select! {
                _ = self.endpoint.readable() => {
                    self.endpoint.receive(Instant::now()).expect("the socket lives");
                }
                Some(command) = self.inbox.recv() => {
                    self.endpoint.handle_command(Instant::now(), command);
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.endpoint.handle_timeout(Instant::now());
                }
            }
        }
    }

    /// Like [`End::event`], but passes descriptions on by itself.
    async fn next(&mut self) -> LinkEvent {
        loop {
            let command = match self.event().await {
                LinkEvent::Offered { link, sdp } => LinkCommand::Accept { link, sdp },
                LinkEvent::Answered { link, sdp } => LinkCommand::Answer { link, sdp },
                event => return event,
            };
            if self.out.send(command).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn main() {
    let (to_b, inbox_b) = channel(16);
    let (to_a, inbox_a) = channel(16);
    let b = std::thread::spawn(move || on_runtime(echo(to_a, inbox_b)));
    on_runtime(measure(to_b, inbox_a));
    drop(b);
}

fn on_runtime(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work);
}

fn end(out: Sender<LinkCommand>, inbox: Receiver<LinkCommand>) -> End {
    let config = EndpointConfig {
        loopback_only: true,
        ..EndpointConfig::default()
    };
    End {
        endpoint: Endpoint::bind(config).expect("a port"),
        out,
        inbox,
    }
}

/// Sends frames of `tasks` back, swallows those of `control`.
async fn echo(out: Sender<LinkCommand>, inbox: Receiver<LinkCommand>) {
    let mut end = end(out, inbox);
    loop {
        if let LinkEvent::Frame {
            link,
            class: Class::Tasks,
            bytes,
        } = end.next().await
        {
            end.endpoint
                .send(Instant::now(), link, Class::Tasks, &bytes)
                .expect("an echo fits");
        }
    }
}

async fn measure(out: Sender<LinkCommand>, inbox: Receiver<LinkCommand>) {
    let mut end = end(out, inbox);
    let link = set_up(&mut end).await;
    round_trips(&mut end, link).await;
    for bytes in [1024, 16 * 1024] {
        one_way(&mut end, link, bytes).await;
    }
    println!("counters {:?}", end.endpoint.counters());
}

async fn set_up(end: &mut End) -> LinkId {
    let mut took = Vec::new();
    let first_rss = resident_kib();
    for number in 1..=SETUPS {
        let link = LinkId::new(number);
        let begin = Instant::now();
        end.endpoint
            .handle_command(begin, LinkCommand::Offer { link });
        while !matches!(end.next().await, LinkEvent::Up { .. }) {}
        took.push(begin.elapsed());
    }
    let per_pair = (resident_kib() - first_rss) / SETUPS;
    print_quantiles("set-up", took);
    end.endpoint.flush();
    println!("memory: {per_pair} KiB a pair (both sides)");
    idle(end).await;
    for number in 2..=SETUPS {
        let link = LinkId::new(number);
        end.endpoint
            .handle_command(Instant::now(), LinkCommand::Close { link });
    }
    LinkId::new(1)
}

async fn idle(end: &mut End) {
    let before = cpu();
    let _ = tokio::time::timeout(Duration::from_secs(10), end.next()).await;
    println!(
        "idle: {:?} of CPU in 10 s for {SETUPS} pairs",
        cpu() - before
    );
}

async fn round_trips(end: &mut End, link: LinkId) {
    let mut took = Vec::new();
    for _ in 0..ECHOES {
        let begin = Instant::now();
        end.endpoint
            .send(begin, link, Class::Tasks, &[7; 256])
            .expect("room for one");
        while !matches!(end.next().await, LinkEvent::Frame { .. }) {}
        took.push(begin.elapsed());
    }
    print_quantiles("round trip 256 B", took);
}

async fn one_way(end: &mut End, link: LinkId, bytes: usize) {
    let frame = vec![9; bytes];
    let (begin, cpu_before) = (Instant::now(), cpu());
    let mut sent = 0;
    while begin.elapsed() < ONE_WAY {
        match end
            .endpoint
            .send(Instant::now(), link, Class::Control, &frame)
        {
            Ok(()) => sent += 1,
            Err(SendError::WouldBlock) => {
                while !matches!(end.next().await, LinkEvent::Writable { .. }) {}
            }
            Err(error) => panic!("{error}"),
        }
    }
    // All but one window of what was sent has been acknowledged by now.
    let megabytes = (sent * bytes) as f64 / 1e6;
    let (wall, cpu) = (
        begin.elapsed().as_secs_f64(),
        (cpu() - cpu_before).as_secs_f64(),
    );
    println!(
        "one way {bytes} B: {:.1} MB/s, {:.0} messages/s, {:.1} MB per CPU-second",
        megabytes / wall,
        f64::from(sent as u32) / wall,
        megabytes / cpu
    );
}

fn print_quantiles(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: p50 {:?} p90 {:?} p99 {:?} max {:?}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// User and system time of the process, from `/proc/self/stat` (proc(5)), in ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or("0 kB");
    line.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}
