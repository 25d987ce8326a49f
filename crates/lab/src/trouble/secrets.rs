//! What a registry must not know is neither in its files nor in its memory, while it
//! stores it, pushes it on, and sees others talk past it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use waymesh_lab::dice::Dice;
use waymesh_proto::Priority;
use waymesh_proto::api::{SendState, SkillSpec};
use waymesh_proto::envelope::Payload;
use waymesh_proto::ids::{Name, SkillName};
use waymesh_proto::ipc::{Attach, Event, Verb, Wait};
use waymesh_proto::link::Path as Route;

use super::Outcome;
use super::letters::{LONG, send};
use super::search::{Search, Wanted};
use crate::stage::{Program, Reach, Stage};

/// Letters of a secret. Chosen: nothing has it by chance.
const SECRET_LETTERS: u64 = 32;

/// How many of the texts must not be found; the others must.
const HIDDEN: usize = 4;

/// How long the link may take.
const LINK: Duration = Duration::from_secs(30);

/// How long calls of the skill that nobody has may take.
const CALL: Duration = Duration::from_secs(30);

/// Letters that nobody has written before.
fn secret(dice: &mut Dice) -> String {
    let letter = |_| char::from(*dice.pick(b"abcdefghijklmnopqrstuvwxyz"));
    (0..SECRET_LETTERS).map(letter).collect()
}

pub(super) fn play(binary: &Path) -> Result<Outcome> {
    let mut dice = Dice::new(rand::random());
    let [stored, pushed, linked, skill, planted] = std::array::from_fn(|_| secret(&mut dice));
    let receiver = format!("r{}", secret(&mut dice));
    let hidden = [
        Wanted::new("the message that is stored", &stored),
        Wanted::new("the message that was pushed", &pushed),
        Wanted::new("the message by link", &linked),
        Wanted::new("the name of the skill that was called", &skill),
    ];
    let known = [
        Wanted::new("the name of the absent receiver", &receiver),
        Wanted::new("the description of a skill", &planted),
    ];

    let mut stage = Stage::set(binary)?;
    stage.register_node(&receiver, Reach::Mailbox)?.kill()?;
    let _carol = stage.register_node("carol", Reach::Mailbox)?;
    let _bob = stage.register_node("bob", Reach::Links)?;
    let _alice = stage.register_node("alice", Reach::Links)?;
    let mut alice = stage.attach("alice")?;
    let (mut bob, mut carol) = (stage.attach("bob")?, stage.attach("carol")?);
    let offer = Verb::RegisterSkill(SkillSpec {
        name: "plain".parse()?,
        description: Some(planted),
        schema: None,
        idempotent: false,
    });
    bob.ask(1, offer)?;

    // By mailbox: one that is stored for ever, one that is taken.
    let (absent, to_bob, to_carol): (Name, _, _) =
        (receiver.parse()?, "bob".parse()?, "carol".parse()?);
    let done = alice.ask(1, send(&absent, payload(&stored), LONG, Wait::Stored))?;
    ensure!(
        state(&done) == Some(SendState::Stored),
        "not stored: {done:?}"
    );
    carol.ask(2, Verb::Attach(Attach::Own))?;
    let verb = send(&to_carol, payload(&pushed), LONG, Wait::Stored);
    alice.mouth.tell(Some(2.into()), verb)?;
    take(&mut carol, Route::Mailbox, &pushed)?;

    // By link.
    let connect = Verb::Connect {
        to: to_bob,
        timeout: LINK,
    };
    alice.ask(3, connect)?;
    bob.ask(2, Verb::Attach(Attach::Own))?;
    let to_bob: Name = "bob".parse()?;
    let verb = send(&to_bob, payload(&linked), LONG, Wait::Delivered);
    alice.mouth.tell(Some(4.into()), verb)?;
    take(&mut bob, Route::Direct, &linked)?;

    // Calls by link and by mailbox, of a skill that nobody has.
    let unknown: SkillName = skill.parse()?;
    for (id, to) in (5..).zip([&to_bob, &to_carol]) {
        let refused = alice.ask(id, call(to, &unknown, &linked));
        ensure!(refused.is_err(), "{to} has the skill {unknown}");
    }
    alice
        .mouth
        .tell(Some(7.into()), call(&absent, &unknown, &stored))?;
    let verb = send(&absent, payload(&stored), LONG, Wait::Stored);
    alice.ask(8, verb)?;

    let mut search = Search::default();
    let all: Vec<_> = hidden.into_iter().chain(known).collect();
    let pid = stage.registry()?.pid();
    if let Err(error) = search.memory(pid, &all) {
        return Ok(Outcome::Skipped(format!("{error:#}")));
    }
    let in_memory = search.found.len();
    for wanted in &all[HIDDEN..] {
        ensure!(
            search.has(wanted.what),
            "the search does not find {}",
            wanted.what
        );
    }
    let mut files = Search::default();
    files.files(&stage.places().registry.clone(), &all)?;
    for wanted in &all[HIDDEN..] {
        ensure!(
            files.has(wanted.what),
            "the search does not find {}",
            wanted.what
        );
    }
    for wanted in &all[..HIDDEN] {
        let mut both = search.found.iter().chain(&files.found);
        if let Some(found) = both.find(|found| found.what == wanted.what) {
            bail!(
                "{} is in the registry ({}, {})",
                found.what,
                found.form,
                found.place
            );
        }
    }
    Ok(Outcome::Held(format!(
        "{} MiB of memory and {} KiB of files searched for {HIDDEN} secrets in 9 forms each: none; \
         what must be there was found {in_memory} times in memory, {} in files",
        search.bytes >> 20,
        files.bytes >> 10,
        files.found.len(),
    )))
}

fn payload(text: &str) -> Payload {
    Payload::json(format!("\"{text}\""))
}

fn call(to: &Name, skill: &SkillName, args: &str) -> Verb {
    Verb::Call {
        to: to.clone(),
        skill: skill.clone(),
        payload: payload(args),
        timeout: CALL,
        idempotent: false,
        priority: Priority::Normal,
    }
}

const fn state(event: &Event) -> Option<SendState> {
    match event {
        Event::State { outcome, .. } => Some(outcome.state),
        _ => None,
    }
}

/// Takes one message, which must be this one and have come this way.
fn take(program: &mut Program, by: Route, text: &str) -> Result<()> {
    let event = program.until(|event| matches!(event, Event::Message { .. }))?;
    let Event::Message {
        delivery: Some(delivery),
        path,
        payload: came,
        ..
    } = event
    else {
        bail!("a message without a number");
    };
    ensure!(came == payload(text), "another message came");
    ensure!(path == by, "a message came by {path:?} instead of {by:?}");
    program.ask(100, Verb::Ack { delivery })?;
    Ok(())
}
