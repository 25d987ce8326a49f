//! A node's side of its connection to the registry: it connects, notices
//! silence, and hands what arrives to core.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use waymesh_core::app::RegistryEvent;
use waymesh_core::backoff::{Backoff, REGISTRY_PAUSE_MAX};
use waymesh_proto::control::{ClientMessage, MemberRecord, SILENCE_MAX_MS, ServerMessage};
use waymesh_proto::error::{Code, Fault};
use waymesh_proto::ids::Name;
use waymesh_proto::limits::CLOCK_LEEWAY_MS;
use waymesh_proto::membership::Revocation;
use waymesh_proto::signaling::{Signal, SignedSignal};

use super::host::{host_of, id_of, life_number, name_of};
use super::mailroom::Mailroom;
use super::model::Life;
use super::registry::{Down, Up, Way};
use super::report::{Checked, Invariant, Violation, hold};
use super::{Due, World, papers, telling};

const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS);

/// A node's side of its connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: Option<u64>,
    pub(super) connected: bool,
    heard: Instant,
    backoff: Backoff,
    rng: SmallRng,
    pub(super) mailroom: Mailroom,
    /// Who was introduced on this connection.
    introductions: BTreeMap<Name, MemberRecord>,
    /// The registry has said that this node is a member no more.
    pub(super) is_over: bool,
}

impl Session {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            conn: None,
            connected: false,
            heard: now,
            backoff: Backoff::new(REGISTRY_PAUSE_MAX),
            rng: SmallRng::seed_from_u64(1),
            mailroom: Mailroom::default(),
            introductions: BTreeMap::new(),
            is_over: false,
        }
    }
}

impl World {
    /// A node connects, or tries to.
    pub(super) fn dial(&mut self, life: Life) {
        let host = &self.hosts[life.host];
        let done = host.session.conn.is_some() || host.session.is_over;
        if !self.model.lives.is_alive(life) || done {
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
        let host = &self.hosts[life.host];
        let certificate = host.certificate.clone();
        let sealing = papers::sealing_statement(life.host, host.key_generation);
        self.send_up(number, Up::Login(certificate, sealing));
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
        host.session.mailroom = Mailroom::default();
        host.session.introductions.clear();
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
        self.hosts[at].session.introductions.clear();
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
                let rules = self.hosts[life.host].plan.policy.peer_rules();
                self.send_up(number, Up::Message(ClientMessage::Rules(rules)));
                self.tell_node(life, RegistryEvent::Connected);
            }
            Down::Push(note, item) => self.hear_push(life, note, &item),
            Down::Message(message) => return self.hear_registry(life, message),
        }
        Ok(())
    }

    fn hear_registry(&mut self, life: Life, message: ServerMessage) -> Checked {
        match message {
            ServerMessage::Records { agents } => {
                for record in agents {
                    self.hear_record(life, record);
                }
            }
            ServerMessage::Introduced { agents } => {
                let named = agents
                    .into_iter()
                    .map(|record| (record.agent.name.clone(), record));
                self.hosts[life.host].session.introductions.extend(named);
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
            ServerMessage::Signal { signal } => self.hear_signal(life, signal),
            ServerMessage::Undeliverable { to, session, code } => {
                self.tell_node(life, RegistryEvent::Undeliverable { to, session, code });
            }
            ServerMessage::Posted { items } => {
                for posted in items {
                    self.hear_posted(life, posted)?;
                }
            }
            ServerMessage::Returned { items } => {
                for returned in items {
                    self.counts.returned += 1;
                    self.model.mails.handle_returned((life.host, returned.item));
                    let (item, code) = (returned.item, returned.code);
                    self.tell_node(life, RegistryEvent::Returned { item, code });
                }
            }
            ServerMessage::Revoked { revocations } => {
                for revocation in revocations {
                    if let Some(host) = self.papers.target(&revocation) {
                        self.model.members.handle_told(self.now, host);
                    }
                    self.hear_revocation(life, &revocation);
                }
            }
            ServerMessage::Extended { extension } => {
                let host = &mut self.hosts[life.host];
                let base = host.certificate.as_str().split('~').next();
                let text = format!("{}~{extension}", base.unwrap_or_default());
                if let Ok(certificate) = text.parse() {
                    host.certificate = certificate;
                }
                self.tell_membership(life);
            }
            ServerMessage::Error { error } => return self.hear_error(life, &error),
            // Nobody joins in the world, and its links need no servers.
            ServerMessage::IceServers(_)
            | ServerMessage::Challenge(_)
            | ServerMessage::Welcome(_)
            | ServerMessage::Pending { .. }
            | ServerMessage::Approved { .. } => {}
        }
        Ok(())
    }

    fn hear_error(&mut self, life: Life, error: &Fault) -> Checked {
        let host = life.host;
        let has_cause = match error.code {
            // Its login was held up on the way.
            Code::Timeout => true,
            // It logs in too often because the world does not leave it alone.
            Code::RateLimited => true,
            Code::Storage => true,
            Code::Revoked => {
                self.hosts[host].session.is_over = true;
                self.model.members.is_revoked(host)
            }
            Code::CertificateExpired => {
                self.counts.expired_logins += 1;
                self.hosts[host].plan.term.ends.is_some()
            }
            _ => false,
        };
        hold!(
            has_cause,
            NoSurprise,
            "the registry refused {life:?}, which is honest: {error:?}"
        );
        Ok(())
    }

    /// What the program does with a record before core: it verifies the papers.
    fn hear_record(&mut self, life: Life, record: MemberRecord) {
        let (now, at) = (self.now, life.host);
        let of = host_of(record.agent.agent_id);
        if !record.agent.online {
            self.model.lives.note_absent(now, of);
        }
        if of == at {
            return;
        }
        let clock_ms = self.papers.clock_ms(now, at);
        let key = papers::stated_key(&record.sealing, of);
        let verified = match (self.papers.verify(&record.certificate, clock_ms), key) {
            (Ok(claims), Some(key)) if claims.host == of => Ok((claims, key)),
            (Ok(_), _) => Err(Code::BadCertificate),
            (Err(code), _) => Err(code),
        };
        let host = &mut self.hosts[at];
        match verified {
            Ok(_) if host.known_revoked.contains(&of) => self.distrust(life, of, Code::Revoked),
            Ok((claims, key)) => {
                host.known_keys.insert(of, key);
                let known = host.known_lives.entry(of).or_default();
                *known = (*known).max(life_number(record.agent.incarnation));
                let member = self.papers.member(now, &claims, clock_ms);
                let record = record.agent;
                self.tell_node(life, RegistryEvent::Record { record, member });
            }
            Err(code) => self.distrust(life, of, code),
        }
    }

    /// What the program does when core looks a name up of which it has papers at hand.
    pub(super) fn tell_introduced(&mut self, life: Life, name: &Name) {
        let (now, at) = (self.now, life.host);
        let clock_ms = self.papers.clock_ms(now, at);
        let Some(record) = self.hosts[at].session.introductions.get(name) else {
            return;
        };
        let of = host_of(record.agent.agent_id);
        let claims = self.papers.verify(&record.certificate, clock_ms);
        let key = papers::stated_key(&record.sealing, of);
        let (Ok(claims), Some(key)) = (claims, key) else {
            return;
        };
        let host = &mut self.hosts[at];
        if claims.host != of || of == at || host.known_revoked.contains(&of) {
            return;
        }
        // Of two keys the program keeps the newer one, which came with a record or a letter.
        host.known_keys.entry(of).or_insert(key);
        self.counts.introduced += 1;
        let member = self.papers.member(now, &claims, clock_ms);
        self.tell_node(life, RegistryEvent::Introduced { member });
    }

    fn distrust(&mut self, life: Life, of: usize, code: Code) {
        self.counts.distrusted += 1;
        let name = name_of(of);
        let fault = Fault::new(code, format!("the papers of {name} do not hold"));
        let id = Some(id_of(of));
        self.tell_node(life, RegistryEvent::Distrusted { name, id, fault });
    }

    /// What the program does before core: only signals that verify, for this
    /// identity and of this time, pass.
    pub(super) fn hear_signal(&mut self, life: Life, signal: SignedSignal) {
        let (now, at) = (self.now, life.host);
        let Ok(body) = signal.decode_body() else {
            return;
        };
        if body.to != id_of(at) {
            return;
        }
        let clock_ms = self.papers.clock_ms(now, at);
        let from = host_of(body.from);
        match self.papers.verify(&signal.cert, clock_ms) {
            Err(code) => self.distrust(life, from, code),
            Ok(claims) if claims.host != from => {}
            Ok(_) if self.hosts[at].known_revoked.contains(&from) => {
                self.distrust(life, from, Code::Revoked);
            }
            Ok(_) if body.issued_ms.abs_diff(clock_ms) > CLOCK_LEEWAY_MS => {
                self.distrust(life, from, Code::ClockSkew);
            }
            Ok(claims) => {
                let known = self.hosts[at].known_lives.entry(from).or_default();
                *known = (*known).max(life_number(body.from_incarnation));
                if matches!(body.signal, Signal::Offer { .. }) {
                    self.office.keep_offer(at, signal);
                }
                let from = self.papers.member(now, &claims, clock_ms);
                self.tell_node(life, RegistryEvent::Signal { from, body });
            }
        }
    }

    /// The registry or a peer tells of a revocation; only what the authority stated counts.
    pub(super) fn hear_revocation(&mut self, life: Life, revocation: &Revocation) {
        let Some(host) = self.papers.target(revocation) else {
            return;
        };
        if self.hosts[life.host].known_revoked.insert(host) {
            self.counts.revocations_heard += 1;
            let event = RegistryEvent::Revoked {
                ids: vec![id_of(host)],
                revocations: vec![revocation.clone()],
            };
            self.tell_node(life, event);
        }
    }

    /// Core learns when its own certificate ends.
    pub(super) fn tell_membership(&mut self, life: Life) {
        let clock_ms = self.papers.clock_ms(self.now, life.host);
        let certificate = &self.hosts[life.host].certificate;
        if let Ok(claims) = self.papers.read(certificate) {
            let expires = self.papers.ends(self.now, &claims, clock_ms);
            let (now, host) = (self.now, &mut self.hosts[life.host]);
            host.ends = Some(expires);
            host.owed_notices.clear();
            if host.ends_soon(now) && expires > now {
                host.owed_notices = host.clients().collect();
            }
            self.tell_node(life, RegistryEvent::Membership { expires });
        }
    }

    pub(super) fn tell_node(&mut self, life: Life, event: RegistryEvent) {
        let now = self.now;
        self.trace.note(now - self.start, || {
            format!("{} learns {}", life.host, telling::registry_event(&event))
        });
        if matches!(event, RegistryEvent::Record { .. }) {
            self.hosts[life.host].shaken = Some(now);
        }
        if let Some(mesh) = &mut self.hosts[life.host].mesh {
            mesh.handle_registry(now, event);
        }
    }
}
