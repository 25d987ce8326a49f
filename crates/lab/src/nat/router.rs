//! Moves packets between TUN devices and the [`Internet`]: one thread, which sleeps until
//! a host sends something or a packet under way arrives.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use tun_rs::SyncDevice;

use super::internet::{HostId, Internet};

/// Packets taken from one host before the next one's turn. Chosen: small against a queue.
const TURN: usize = 64;

/// The largest packet of IP.
const PACKET_BYTES: usize = 65_535;

/// Hosts that are looked at after one wait; the others are after the next.
const EVENTS: usize = 64;

/// Names the event that something was changed from outside.
const WAKE: u64 = u64::MAX;

struct Shared {
    internet: Mutex<Internet>,
    devices: Mutex<Devices>,
    poll: OwnedFd,
    wake: OwnedFd,
    is_over: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("internet", &self.internet)
            .finish_non_exhaustive()
    }
}

/// The hosts' devices, by the number that names their events.
type Devices = HashMap<u64, Arc<SyncDevice>>;

/// The running internet; dropped, it stops.
#[derive(Debug)]
pub(crate) struct Router {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// Starts to route.
    pub(crate) fn start(internet: Internet) -> Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&poll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let shared = Arc::new(Shared {
            internet: Mutex::new(internet),
            devices: Mutex::new(HashMap::new()),
            poll,
            wake,
            is_over: AtomicBool::new(false),
        });
        let routed = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("internet".into())
            .spawn(move || routed.route())
            .context("starting the router")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Connects a host's device.
    pub(crate) fn connect(&self, host: HostId, device: SyncDevice) -> Result<()> {
        let device = Arc::new(device);
        let key = EventData::new_u64(host.number());
        let mut devices = lock(&self.shared.devices);
        epoll::add(&self.shared.poll, &*device, key, EventFlags::IN)?;
        devices.insert(host.number(), device);
        Ok(())
    }

    /// Looks at the internet or changes it.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut Internet) -> T) -> T {
        let outcome = what(&mut lock(&self.shared.internet));
        self.shared.wake_up();
        outcome
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.wake_up();
        if let Some(thread) = self.thread.take() {
            // It has told its panic itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake_up(&self) {
        // Full means that it is woken already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn route(&self) {
        let mut scratch = vec![0; PACKET_BYTES];
        let mut devices = Devices::new();
        let mut events = Vec::with_capacity(EVENTS);
        let mut wait = None;
        while !self.is_over.load(Ordering::Relaxed) {
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.poll, room, wait.map(timespec).as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("waiting for packets: {error}"),
            }
            let mut internet = lock(&self.internet);
            for event in &events {
                let event: &epoll::Event = event;
                self.take_turn(event.data.u64(), &mut devices, &mut internet, &mut scratch);
            }
            internet.handle_timeout(Instant::now());
            while let Some((host, packet)) = internet.poll_arrival() {
                if let Some(device) = self.device(host.number(), &mut devices) {
                    // A host whose queue is full loses the packet, as any would.
                    let _ = device.send(packet.bytes());
                }
            }
            let next = internet.poll_timeout();
            wait = next.map(|at| at.saturating_duration_since(Instant::now()));
        }
    }

    /// Takes what a host has sent.
    fn take_turn(
        &self,
        key: u64,
        devices: &mut Devices,
        internet: &mut Internet,
        scratch: &mut [u8],
    ) {
        if key == WAKE {
            // Only that it was woken counts.
            let _ = rustix::io::read(&self.wake, &mut [0; 8][..]);
            return;
        }
        let Some(device) = self.device(key, devices) else {
            return;
        };
        let now = Instant::now();
        for _ in 0..TURN {
            // An error that lasts: the device is gone, with its namespace.
            let Ok(length) = device.recv(scratch) else {
                return;
            };
            let packet = scratch[..length].to_vec();
            internet.handle_packet(now, HostId::from_number(key), packet);
        }
    }

    /// A host's device, which may have been connected only now.
    fn device<'a>(&self, key: u64, devices: &'a mut Devices) -> Option<&'a SyncDevice> {
        if !devices.contains_key(&key) {
            devices.clone_from(&lock(&self.devices));
        }
        devices.get(&key).map(|device| &**device)
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    }
}
