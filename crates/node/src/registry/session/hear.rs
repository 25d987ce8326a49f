//! What the registry says: nothing of it reaches core that is not verified.

use std::time::Instant;

use waymesh_core::app::{Kept, RegistryEvent};
use waymesh_proto::control::{
    DecodeError, MemberRecord, Posted, PostedState, Returned, ServerMessage,
};
use waymesh_proto::ids::AgentId;
use waymesh_proto::mailbox::{Item, ItemHeader, Note};
use waymesh_proto::membership::{Extension, Revocation};
use waymesh_proto::signaling::SignedSignal;
use waymesh_proto::{Code, Fault};
use waymesh_trust::signal::SignalError;

use super::super::trouble::Trouble;
use super::super::{News, mail};
use super::complaints::Subject;
use super::{Outcome, Session};
use crate::client::unix_ms;
use crate::members::{Distrust, member};

impl Session<'_> {
    pub(super) async fn handle_text(&mut self, text: &str) -> Outcome {
        match ServerMessage::decode(text.as_bytes()) {
            Ok(message) => self.handle_message(message, text.len()).await,
            Err(DecodeError::UnknownType(kind)) => {
                self.desk.counters.messages_unknown.add();
                tracing::debug!(%kind, "the registry says what this version does not know");
                Ok(())
            }
            Err(error) => Err(Trouble::passing(error)),
        }
    }

    async fn handle_message(&mut self, message: ServerMessage, bytes: usize) -> Outcome {
        match message {
            ServerMessage::Records { agents } => {
                for record in agents {
                    self.handle_record(record).await?;
                }
                Ok(())
            }
            ServerMessage::Introduced { agents } => {
                self.handle_introduced(agents);
                Ok(())
            }
            ServerMessage::Found { id, agents, more } => {
                match self.finds.handle_part(id, agents, bytes, more) {
                    Some(outcome) => self.tell(RegistryEvent::Found { id, outcome }).await,
                    None => Ok(()),
                }
            }
            ServerMessage::Unknown { name } => {
                self.introductions.forget(&name);
                self.tell(RegistryEvent::Unknown { name }).await
            }
            ServerMessage::Signal { signal } => self.handle_signal(&signal).await,
            ServerMessage::Undeliverable { to, session, code } => {
                let event = RegistryEvent::Undeliverable { to, session, code };
                self.tell(event).await
            }
            ServerMessage::Posted { items } => {
                for posted in items {
                    self.tell(answered(posted)).await?;
                }
                Ok(())
            }
            ServerMessage::Returned { items } => {
                for Returned { item, code } in items {
                    self.tell(RegistryEvent::Returned { item, code }).await?;
                }
                Ok(())
            }
            ServerMessage::Revoked { revocations } => self.handle_revoked(&revocations).await,
            ServerMessage::Extended { extension } => self.handle_extended(&extension).await,
            ServerMessage::IceServers(servers) => {
                self.silence.handle_answer(Instant::now().into());
                self.send_news(News::Servers(servers)).await
            }
            ServerMessage::Error { error } => {
                // It may refuse the question, and is an answer to something at least.
                self.silence.handle_answer(Instant::now().into());
                self.handle_error(error)
            }
            ServerMessage::Challenge(_)
            | ServerMessage::Welcome(_)
            | ServerMessage::Pending { .. }
            | ServerMessage::Approved { .. } => {
                Err(Trouble::passing("the registry repeats the login"))
            }
        }
    }

    async fn handle_record(&mut self, record: MemberRecord) -> Outcome {
        let now_ms = unix_ms();
        match self.desk.members.meet(&record, now_ms) {
            Ok(verified) => {
                let member = member(&verified, Instant::now(), now_ms);
                let record = record.agent;
                self.tell(RegistryEvent::Record { record, member }).await
            }
            Err(distrust) => {
                let (name, fault) = (record.agent.name, distrust.fault());
                let id = distrust.proved_id();
                self.desk.counters.records_distrusted.add();
                self.complaints.tell(Subject::Record, fault.code, &fault);
                self.tell(RegistryEvent::Distrusted { name, id, fault })
                    .await
            }
        }
    }

    fn handle_introduced(&mut self, agents: Vec<MemberRecord>) {
        for record in agents {
            for _ in 0..self.introductions.add(record) {
                self.desk.counters.introductions_dropped.add();
            }
        }
    }

    async fn handle_signal(&mut self, signal: &SignedSignal) -> Outcome {
        let now_ms = unix_ms();
        match self.desk.members.verify_signal(signal, now_ms) {
            Ok((body, sender)) => {
                if self.desk.signals.hear(&body).is_err() {
                    self.desk.counters.signals_unasked.add();
                    tracing::debug!(from = %sender.name, "an answer to no offer is dropped");
                    return Ok(());
                }
                let from = member(&sender, Instant::now(), now_ms);
                self.tell(RegistryEvent::Signal { from, body }).await
            }
            Err(distrust) => {
                self.count_signal(&distrust);
                tracing::debug!(code = %distrust.code(), %distrust, "signal dropped");
                let sender = signal.decode_body().ok().map(|body| body.from);
                self.tell_distrust(&distrust, sender).await
            }
        }
    }

    fn count_signal(&self, distrust: &Distrust) {
        let counters = self.desk.counters;
        let counter = match distrust {
            Distrust::Signal(SignalError::Stale { .. }) => &counters.signals_stale,
            Distrust::Signal(
                SignalError::Body(_) | SignalError::WrongMesh { .. } | SignalError::NotForMe { .. },
            ) => &counters.signals_misdirected,
            Distrust::Signal(
                SignalError::BadSignature { .. }
                | SignalError::NotTheHolder { .. }
                | SignalError::Certificate(_),
            ) => &counters.signals_forged,
            _ => &counters.signals_distrusted,
        };
        counter.add();
    }

    pub(super) async fn handle_binary(&mut self, bytes: &[u8]) -> Outcome {
        match self.assembly.handle(bytes).map_err(Trouble::passing)? {
            None => Ok(()),
            Some((Some(note), item)) => self.handle_push(note, &item).await,
            Some((None, _)) => Err(Trouble::passing("the registry posts an item to a node")),
        }
    }

    async fn handle_push(&mut self, note: Note, item: &Item) -> Outcome {
        let keys = self.desk.sealing.all();
        let now = (Instant::now(), unix_ms());
        match mail::open((note, item), keys, self.desk.members, now) {
            Ok(opened) => {
                self.desk.counters.items_opened.add();
                self.tell(RegistryEvent::Item(opened)).await
            }
            Err(distrust) => self.refuse_item(item, &distrust).await,
        }
    }

    async fn refuse_item(&mut self, item: &Item, distrust: &Distrust) -> Outcome {
        self.desk.counters.items_refused.add();
        if matches!(distrust, Distrust::FormerKey { .. }) {
            self.desk.counters.items_former_key.add();
        }
        self.complaints
            .tell(Subject::Item, distrust.code(), distrust);
        let header = ItemHeader::decode(&item.header).ok();
        if let Some(header) = &header {
            let outcome = mail::answer(distrust);
            let place = (header.item, header.from);
            if self.settlements.add(place, outcome, None).is_err() {
                self.desk.counters.items_unsettled.add();
            }
        }
        let sender = header.map(|header| header.from);
        self.tell_distrust(distrust, sender).await
    }

    /// Tells core whom it is about, where that is proved. Who it says that it
    /// is from only narrows that down: a name may have had another holder.
    async fn tell_distrust(&self, distrust: &Distrust, sender: Option<AgentId>) -> Outcome {
        let Some(name) = distrust.proved_name().cloned() else {
            return Ok(());
        };
        let (id, fault) = (distrust.proved_id().or(sender), distrust.fault());
        self.tell(RegistryEvent::Distrusted { name, id, fault })
            .await
    }

    async fn handle_revoked(&mut self, revocations: &[Revocation]) -> Outcome {
        for revocation in revocations {
            match self.desk.members.handle_revocation(revocation) {
                Ok(None) => {}
                Ok(Some(event)) => self.tell(event).await?,
                Err(error) => {
                    self.desk.counters.revocations_forged.add();
                    self.complaints
                        .tell(Subject::Revocation, error.code(), &error);
                }
            }
        }
        let members = self.desk.members;
        self.introductions
            .forget_revoked(|id| members.is_revoked(id));
        members.check_own().map_err(Trouble::fatal)
    }

    async fn handle_extended(&mut self, extension: &Extension) -> Outcome {
        match self.desk.own.extend(extension, unix_ms()) {
            Ok(true) => {
                if let Err(error) = self.desk.home.store_membership(&self.desk.own.membership) {
                    tracing::error!(%error, "the extended certificate could not be kept");
                }
                self.desk.members.set_own(&self.desk.own.verified);
                self.tell_membership().await
            }
            Ok(false) => Ok(()),
            Err(error) => {
                self.desk.counters.extensions_refused.add();
                self.complaints
                    .tell(Subject::Extension, error.code(), &error);
                Ok(())
            }
        }
    }

    /// Where the registry cannot go on, it closes next; until then this is only a complaint.
    /// There are links to lose by now: the registry's word alone does not end
    /// them. That this node was revoked, it has to prove.
    fn handle_error(&mut self, error: Fault) -> Outcome {
        self.desk.counters.messages_refused.add();
        if error.code == Code::Revoked {
            self.desk.members.check_own().map_err(Trouble::fatal)?;
        }
        match Trouble::from_fault(error) {
            Trouble::Passing(fault) => {
                self.complaints.tell(Subject::Refusal, fault.code, &fault);
                Ok(())
            }
            trouble @ Trouble::Final(_) => Err(trouble.on_its_word()),
        }
    }
}

fn answered(posted: Posted) -> RegistryEvent {
    let outcome = match posted.state {
        PostedState::Stored => Ok(Kept::Stored),
        PostedState::Forwarded => Ok(Kept::Forwarded),
        PostedState::Refused { error } => Err(error),
    };
    let item = posted.item;
    RegistryEvent::Posted { item, outcome }
}
