//! One member floods the registry with everything that it takes, by a program of its own
//! that keeps to no limit; others keep their service, and the flooder is told to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::Name;
use waymesh_proto::ipc::{Attach, Event, Verb, Wait};

use super::Outcome;
use super::flooder::{Flooder, Said};
use super::letters::{LONG, send};
use crate::stage::{Program, Reach, Stage};

/// Messages of the victims that are measured without and with the flood.
const MESSAGES: u64 = 200;

/// How long a flood may take until something is refused. Chosen far above what is expected.
const BEGIN: Duration = Duration::from_secs(60);

pub(super) fn play(binary: &Path) -> Result<Outcome> {
    let mut stage = Stage::set(binary)?;
    stage.register_node("absent", Reach::Mailbox)?.kill()?;
    let _anna = stage.register_node("anna", Reach::Mailbox)?;
    let _otto = stage.register_node("otto", Reach::Mailbox)?;
    let mut pair = Pair {
        sender: stage.attach("anna")?,
        receiver: stage.attach("otto")?,
        to: "otto".parse()?,
        sent: 0,
    };
    pair.receiver.ask(1, Verb::Attach(Attach::Own))?;
    let quiet = pair.p50()?;

    let is_over = Arc::new(AtomicBool::new(false));
    let victims = vec!["absent".parse()?, "otto".parse()?];
    let flooder = Flooder::enter(stage.invite(), "mallory".parse()?, victims)?;
    let (begun, begins) = sync_channel(1);
    let over = Arc::clone(&is_over);
    let flood = thread::spawn(move || flooder.flood(&over, &begun));
    let began = begins.recv_timeout(BEGIN);
    let loud = pair.p50();
    is_over.store(true, Ordering::Relaxed);
    let Ok(said) = flood.join() else {
        bail!("the flooder panicked");
    };
    let (loud, said) = (loud.context("while another member floods")?, said?);
    ensure!(
        began.is_ok(),
        "nothing was refused to the flooder: {said:?}"
    );
    let alive = stage.registry()?.is_running();
    ensure!(alive, "the registry has ended");
    if let Some(line) = stage.panics()?.first() {
        bail!("a process panicked: {line}");
    }
    let Said {
        sent,
        refused,
        closed,
    } = said;
    let ratio = loud.as_secs_f64() / quiet.as_secs_f64().max(1e-9);
    Ok(Outcome::Held(format!(
        "{MESSAGES} of {MESSAGES} delivered beside {sent} messages of a flood that was refused \
         {refused:?} and thrown out {closed} times; p50 {:.2} ms, without the flood {:.2} ms, ratio {ratio:.1}",
        ms(loud),
        ms(quiet),
    )))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Two members that want to go on as if nothing were.
#[derive(Debug)]
struct Pair {
    sender: Program,
    receiver: Program,
    to: Name,
    sent: u64,
}

impl Pair {
    /// Sends one message after the other and sees each delivered; gives the median time
    /// from sending to receiving.
    fn p50(&mut self) -> Result<Duration> {
        let times: Result<Vec<_>> = (0..MESSAGES).map(|_| self.one()).collect();
        let mut times = times?;
        times.sort();
        Ok(times[times.len() / 2])
    }

    fn one(&mut self) -> Result<Duration> {
        self.sent += 1;
        let payload = Payload::json(self.sent.to_string());
        let began = Instant::now();
        let verb = send(&self.to, payload.clone(), LONG, Wait::Queued);
        self.sender.mouth.tell(Some(self.sent.into()), verb)?;
        let event = self
            .receiver
            .until(|event| matches!(event, Event::Message { .. }))?;
        let took = began.elapsed();
        let Event::Message {
            delivery: Some(delivery),
            payload: came,
            ..
        } = event
        else {
            bail!("a message without a number");
        };
        ensure!(came == payload, "another message came than {}", self.sent);
        self.receiver.mouth.tell(None, Verb::Ack { delivery })?;
        self.sender.until(
            |event| matches!(event, Event::State { outcome, .. } if outcome.state.is_final()),
        )?;
        Ok(took)
    }
}
