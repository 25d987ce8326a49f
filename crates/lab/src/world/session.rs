//! A node's side of its connection to the registry: it connects, notices
//! silence, and hands what arrives to core.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use waymesh_core::app::RegistryEvent;
use waymesh_core::backoff::{Backoff, REGISTRY_PAUSE_MAX};
use waymesh_proto::control::{SILENCE_MAX_MS, ServerMessage};
use waymesh_proto::error::Code;
use waymesh_proto::ids::Name;
use waymesh_proto::signaling::{Signal, SignedSignal};

use super::host::{host_of, id_of};
use super::model::Life;
use super::registry::{Down, Up, Way};
use super::report::{Checked, Invariant, Violation, hold};
use super::{Due, World, telling};

const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

/// A node's side of its connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: Option<u64>,
    pub(super) connected: bool,
    heard: Instant,
    backoff: Backoff,
    rng: SmallRng,
}

impl Session {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            conn: None,
            connected: false,
            heard: now,
            backoff: Backoff::new(REGISTRY_PAUSE_MAX),
            rng: SmallRng::seed_from_u64(1),
        }
    }
}

impl World {
    /// A node connects, or tries to.
    pub(super) fn dial(&mut self, life: Life) {
        let host = &self.hosts[life.host];
        if !self.model.lives.is_alive(life) || host.session.conn.is_some() {
            return;
        }
        if !self.office.up || host.way != Way::Open {
            return self.dial_later(life);
        }
        let number = self.office.open(self.now, life);
        let session = &mut self.hosts[life.host].session;
        session.conn = Some(number);
        session.heard = self.now;
        self.send_up(number, Up::Open);
        self.send_up(number, Up::Login);
        self.later(self.now + SILENCE_MAX, Due::Silence { life, conn: number });
    }

    fn dial_later(&mut self, life: Life) {
        let now = self.now;
        let session = &mut self.hosts[life.host].session;
        session.backoff.handle_failure(now, &mut session.rng);
        let at = session.backoff.not_before().unwrap_or(now);
        self.later(at, Due::Dial { life });
    }

    /// The node finds that its connection is over, and connects again.
    fn lose_session(&mut self, life: Life, conn: u64) {
        if !self.model.lives.is_alive(life) || self.hosts[life.host].session.conn != Some(conn) {
            return;
        }
        let now = self.now;
        self.trace.note(now - self.start, || {
            format!("{} lost the registry", life.host)
        });
        let host = &mut self.hosts[life.host];
        host.session.conn = None;
        if std::mem::take(&mut host.session.connected)
            && let Some(mesh) = &mut host.mesh
        {
            mesh.handle_registry(now, RegistryEvent::Disconnected);
        }
        self.model.lives.set_registered(now, life.host, false);
        self.dial_later(life);
    }

    /// The node looks whether it has heard of the registry.
    pub(super) fn check_silence(&mut self, life: Life, conn: u64) {
        if !self.model.lives.is_alive(life) || self.hosts[life.host].session.conn != Some(conn) {
            return;
        }
        let dead_at = self.hosts[life.host].session.heard + SILENCE_MAX;
        if dead_at <= self.now {
            self.send_up(conn, Up::Closed);
            self.lose_session(life, conn);
        } else {
            self.later(dead_at, Due::Silence { life, conn });
        }
    }

    /// A node dies: what its connection does depends on how it dies.
    pub(super) fn abandon_session(&mut self, at: usize, notices: bool) {
        if let Some(conn) = self.hosts[at].session.conn.take()
            && notices
        {
            self.send_up(conn, Up::Closed);
        }
    }

    /// Something of the registry arrives at a node.
    pub(super) fn land_down(&mut self, number: u64, down: Down) -> Checked {
        let Some(conn) = self.office.conns.get_mut(&number) else {
            return Ok(());
        };
        let life = conn.life;
        if !self.model.lives.is_alive(life) || self.hosts[life.host].session.conn != Some(number) {
            return Ok(());
        }
        if self.hosts[life.host].way == Way::Silent || !conn.waiting_down.is_empty() {
            conn.waiting_down.push_back(down);
            return Ok(());
        }
        let now = self.now;
        self.hosts[life.host].session.heard = now;
        match down {
            Down::Ping => self.send_up(number, Up::Pong),
            Down::Closed => self.lose_session(life, number),
            Down::Welcome => {
                self.model.lives.set_registered(now, life.host, true);
                let session = &mut self.hosts[life.host].session;
                session.connected = true;
                session.backoff.reset();
                self.tell_node(life, RegistryEvent::Connected);
            }
            Down::Message(message) => return self.hear_registry(life, message),
        }
        Ok(())
    }

    fn hear_registry(&mut self, life: Life, message: ServerMessage) -> Checked {
        match message {
            ServerMessage::Records { agents } => {
                for record in agents {
                    if !record.online {
                        self.model
                            .lives
                            .note_absent(self.now, host_of(record.agent_id));
                    }
                    self.tell_node(life, RegistryEvent::Record(record));
                }
            }
            ServerMessage::Unknown { name } => {
                self.tell_node(life, RegistryEvent::Unknown { name })
            }
            ServerMessage::Found { id, agents, more } => {
                hold!(!more, Presence, "five agents do not fit one answer");
                self.tell_node(
                    life,
                    RegistryEvent::Found {
                        id,
                        outcome: Ok(agents),
                    },
                );
            }
            ServerMessage::Signal { from_name, signal } => {
                self.hear_signal(life, from_name, signal)
            }
            ServerMessage::Undeliverable { to, session } => {
                self.tell_node(life, RegistryEvent::Undeliverable { to, session });
            }
            // Its login was held up on the way.
            ServerMessage::Error { error } if error.code == Code::Timeout => {}
            ServerMessage::Error { error } => {
                return Err(Violation::new(
                    Invariant::NoSurprise,
                    format!("the registry refused {life:?}, which is honest: {error:?}"),
                ));
            }
            ServerMessage::Challenge(_) | ServerMessage::Welcome(_) => {}
        }
        Ok(())
    }

    /// What the program does before core: only signals for this identity pass.
    pub(super) fn hear_signal(&mut self, life: Life, from_name: Name, signal: SignedSignal) {
        let Ok(body) = signal.decode_body() else {
            return;
        };
        if body.to != id_of(life.host) {
            return;
        }
        if matches!(body.signal, Signal::Offer { .. }) {
            self.office.keep_offer(life.host, from_name.clone(), signal);
        }
        self.tell_node(life, RegistryEvent::Signal { from_name, body });
    }

    fn tell_node(&mut self, life: Life, event: RegistryEvent) {
        let now = self.now;
        self.trace.note(now - self.start, || {
            format!("{} learns {}", life.host, telling::registry_event(&event))
        });
        if let Some(mesh) = &mut self.hosts[life.host].mesh {
            mesh.handle_registry(now, event);
        }
    }
}
