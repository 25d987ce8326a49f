//! A registry whose disk is full: it refuses, says so, forgets nothing, and goes on when
//! there is room again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use waymesh_proto::Fault;
use waymesh_proto::api::{Detail, SendState};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Attach, Event, Outcome as Told, Verb, Wait};

use super::Outcome;
use super::letters::{LONG, send};
use crate::stage::{Places, Program, Reach, Stage, integrity};

/// The disk, as mount(8) reads it: small, and with room.
const SMALL: &str = "size=2m";
const LARGE: &str = "size=64m";

/// Messages that do not fit the small disk, and the size of each.
const MESSAGES: u64 = 100;
const MESSAGE_BYTES: usize = 32 * 1024;

/// Ids of requests that are no message of those.
const HASTY: u64 = 10_001;
const PRESENT: u64 = 10_002;
const LATE: u64 = 10_003;
const OTHERS: u64 = 20_000;

/// The life of a message that must end while the disk is full.
const HASTY_TTL: Duration = Duration::from_secs(3);

/// A disk in memory, mounted as long as this lives.
#[derive(Debug)]
struct Disk {
    folder: TempDir,
}

impl Disk {
    /// `None` when this process may not mount.
    fn mount() -> Result<Option<Self>> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let disk = ["-t", "tmpfs", "-o", SMALL, "tmpfs"];
        let mounted = Command::new("mount").args(disk).arg(folder.path()).output();
        Ok(match mounted {
            Ok(output) if output.status.success() => Some(Self { folder }),
            _ => None,
        })
    }

    fn make_room(&self) -> Result<()> {
        let remount = format!("remount,{LARGE}");
        let mut mount = Command::new("mount");
        let status = mount
            .args(["-o", &remount])
            .arg(self.folder.path())
            .status()?;
        ensure!(status.success(), "the disk cannot be made larger");
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Without it the folder stays, which is all that can be done.
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

pub(super) fn play(binary: &Path) -> Result<Outcome> {
    let Some(disk) = Disk::mount()? else {
        let why = "only root may mount a small disk";
        return Ok(Outcome::Skipped(why.to_owned()));
    };
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let places = Places {
        registry: disk.folder.path().join("registry"),
        authority: folder.path().join("authority"),
    };
    let mut stage = Stage::set_in(binary, folder, places)?;
    let absent: Name = "absent".parse()?;
    let present: Name = "present".parse()?;
    stage.register_node("absent", Reach::Mailbox)?.kill()?;
    let _present = stage.register_node("present", Reach::Mailbox)?;
    let mut receiver = stage.attach("present")?;
    receiver.ask(1, Verb::Attach(Attach::Own))?;
    let _sender = stage.register_node("sender", Reach::Mailbox)?;
    let mut sender = Sender {
        program: stage.attach("sender")?,
        states: BTreeMap::new(),
        asked: OTHERS,
    };

    for id in 0..MESSAGES {
        sender.send(id, &absent, MESSAGE_BYTES, LONG)?;
    }
    let reason = sender.refusal(&absent).context("waiting for a refusal")?;
    let stored = sender.count(SendState::Stored);
    ensure!(
        stored > 0 && stored < MESSAGES,
        "{stored} of {MESSAGES} fit the disk"
    );

    // Whoever is there is served without the disk.
    sender.send(PRESENT, &present, 10, LONG)?;
    let message = receiver
        .until(|event| matches!(event, Event::Message { .. }))
        .context("while the disk is full, waiting for a message to a present receiver")?;
    if let Event::Message {
        delivery: Some(delivery),
        ..
    } = message
    {
        receiver.ask(2, Verb::Ack { delivery })?;
    }
    sender
        .wait_for(PRESENT, SendState::Delivered)
        .context("while the disk is full, waiting for `delivered`")?;

    // What does not get in during its life is told to have failed.
    sender.send(HASTY, &absent, MESSAGE_BYTES, HASTY_TTL)?;
    sender
        .wait_for_end(HASTY)
        .context("while the disk is full, waiting for the end of a short life")?;
    let hasty = sender.states.get(&HASTY).copied();
    ensure!(
        matches!(hasty, Some(SendState::Expired | SendState::Unconfirmed)),
        "a message that found no room is told to be {hasty:?}"
    );

    stage.kill_registry()?;
    let found = integrity(stage.places())?;
    ensure!(
        found == "ok",
        "the database of the full disk is damaged: {found}"
    );
    let restarted = match stage.start_registry() {
        Ok(()) => "starts".to_owned(),
        Err(error) => match error.downcast_ref::<Fault>() {
            Some(fault) => format!("says {} when it is started", fault.code),
            None => return Err(error),
        },
    };
    disk.make_room()?;
    if stage.registry().is_ok_and(|registry| registry.is_running()) {
        stage.kill_registry()?;
    }
    stage.start_registry()?;

    let _absent = stage.register_node("absent", Reach::Mailbox)?;
    let mut taker = stage.attach("absent")?;
    let came = match take_all(&mut taker) {
        Ok(came) => came,
        Err(error) => bail!("with room again: {error:#}; {}", sender.summary(&absent)?),
    };
    sender.send(LATE, &present, 10, LONG)?;
    receiver
        .until(|event| matches!(event, Event::Message { .. }))
        .context("with room again, waiting for a new message")?;
    for id in 0..MESSAGES {
        sender
            .wait_for(id, SendState::Delivered)
            .context("with room again, waiting for `delivered`")?;
    }
    ensure!(
        came == MESSAGES,
        "{came} messages came instead of {MESSAGES}"
    );
    stage.kill_registry()?;
    let found = integrity(stage.places())?;
    ensure!(found == "ok", "the database is damaged: {found}");
    if let Some(line) = stage.panics()?.first() {
        bail!("a process panicked: {line}");
    }
    Ok(Outcome::Held(format!(
        "{stored} of {MESSAGES} messages fit; the sender was told: {reason}; one with a short \
         life ended as {hasty:?}; a registry that was killed then {restarted}; with room all \
         {came} came; lost 0, given twice 0; database ok"
    )))
}

/// Takes every message of the absent one; each must come once.
fn take_all(program: &mut Program) -> Result<u64> {
    let mut came = BTreeMap::new();
    program.mouth.tell(None, Verb::Attach(Attach::Own))?;
    while (came.len() as u64) < MESSAGES {
        let event = program
            .until(|event| matches!(event, Event::Message { .. }))
            .with_context(|| format!("after {} of {MESSAGES}", came.len()))?;
        if let Event::Message {
            delivery: Some(delivery),
            message_id,
            ..
        } = event
        {
            let before = came.insert(message_id, ());
            ensure!(before.is_none(), "{message_id} came twice");
            program.mouth.tell(None, Verb::Ack { delivery })?;
        }
    }
    Ok(came.len() as u64)
}

/// The program that sends, and what it was told last of each message.
#[derive(Debug)]
struct Sender {
    program: Program,
    states: BTreeMap<u64, SendState>,
    asked: u64,
}

impl Sender {
    fn send(&mut self, id: u64, to: &Name, bytes: usize, ttl: Duration) -> Result<()> {
        let payload = Payload::json(format!("\"{id} {}\"", "x".repeat(bytes)));
        let verb = send(to, payload, ttl, Wait::Delivered);
        Ok(self.program.mouth.tell(Some(id.into()), verb)?)
    }

    fn count(&self, state: SendState) -> u64 {
        self.states.values().filter(|seen| **seen == state).count() as u64
    }

    /// What the sender knows, for whoever looks into a failure.
    fn summary(&mut self, to: &Name) -> Result<String> {
        let reason = self.reason(to)?;
        let told = |state| {
            let mut ids = self.states.iter().filter(move |(_, seen)| **seen == state);
            (ids.next().map(|(id, _)| *id), ids.count() + 1)
        };
        let [queued, stored, delivered] =
            [SendState::Queued, SendState::Stored, SendState::Delivered].map(told);
        Ok(format!(
            "first and count of queued {queued:?}, stored {stored:?}, delivered {delivered:?}; {reason}"
        ))
    }

    /// What the node says of a peer.
    fn reason(&mut self, to: &Name) -> Result<String> {
        self.asked += 1;
        let id = self.asked;
        let list = Verb::ListPeers {
            attempts: Detail::Now,
        };
        self.program.mouth.tell(Some(id.into()), list)?;
        let answer = self.hear_until(|event| matches!(event, Event::PeerList { .. }))?;
        let Event::PeerList { peers, .. } = answer else {
            bail!("no list of peers");
        };
        let peer = peers.into_iter().find(|peer| peer.agent == *to);
        Ok(peer.map(|peer| peer.reason).unwrap_or_default())
    }

    /// Waits until the node says that the mailbox does not take what is sent to a peer.
    fn refusal(&mut self, to: &Name) -> Result<String> {
        loop {
            let reason = self.reason(to)?;
            if reason.contains("did not take") {
                return Ok(reason);
            }
            // Some news of a message, or the time that they take.
            if let Some(event) = self.program.ear.hear(Duration::from_millis(50))? {
                self.note(&event);
            }
        }
    }

    fn wait_for(&mut self, id: u64, state: SendState) -> Result<()> {
        self.wait_for_end(id)?;
        let last = self.states.get(&id);
        ensure!(last == Some(&state), "message {id} has ended as {last:?}");
        Ok(())
    }

    fn wait_for_end(&mut self, id: u64) -> Result<()> {
        while !self.states.get(&id).is_some_and(|state| state.is_final()) {
            self.hear_until(|event| matches!(event, Event::State { .. }))?;
        }
        Ok(())
    }

    fn hear_until(&mut self, is_it: impl Fn(&Event) -> bool) -> Result<Event> {
        let mut heard = Vec::new();
        let event = self.program.until(|event| {
            heard.extend(state_of(event));
            is_it(event)
        });
        self.states.extend(heard);
        event
    }

    fn note(&mut self, event: &Event) {
        self.states.extend(state_of(event));
    }
}

/// The message that an event tells of, and its state.
fn state_of(event: &Event) -> Option<(u64, SendState)> {
    match event {
        Event::State {
            id: Some(id),
            outcome: Told { state, .. },
            ..
        } => Some((id.as_str().parse().ok()?, *state)),
        _ => None,
    }
}
