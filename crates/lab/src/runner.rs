//! Plays many schedules on several threads and prints what came of them.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use waymesh_lab::world::report::{Counts, Invariant, Trace, Violation};
use waymesh_lab::world::{play, retell};

/// What to play.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) first: u64,
    pub(crate) schedules: u64,
    pub(crate) jobs: usize,
    pub(crate) keep_going: bool,
    pub(crate) trace: bool,
}

/// Why a schedule failed.
#[derive(Debug)]
enum Failure {
    Violation(Violation),
    Panic,
}

impl Failure {
    const fn invariant(&self) -> Option<Invariant> {
        match self {
            Self::Violation(violation) => Some(violation.invariant),
            Self::Panic => None,
        }
    }
}

/// How often an invariant failed, and the failure with the lowest seed.
#[derive(Debug)]
struct Kind {
    times: u64,
    seed: u64,
    failure: Failure,
}

#[derive(Debug, Default)]
struct Tally {
    counts: Counts,
    played: u64,
    /// A panic has no invariant.
    failures: BTreeMap<Option<Invariant>, Kind>,
}

pub(crate) fn run(order: &Order) -> ExitCode {
    let began = Instant::now();
    let tally = play_all(order);
    let seconds = began.elapsed().as_secs_f64();
    if order.trace {
        let (_, lines) = retell(order.first, Trace::whole());
        for line in lines {
            println!("{line}");
        }
    }
    summarize(&tally, seconds);
    for kind in tally.failures.values() {
        explain(kind, order);
    }
    if tally.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play_all(order: &Order) -> Tally {
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..order.jobs.max(1) {
            scope.spawn(|| {
                let mut own = Tally::default();
                while !failed.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= order.schedules {
                        break;
                    }
                    play_one(order.first.wrapping_add(number), &mut own);
                    if !own.failures.is_empty() && !order.keep_going {
                        failed.store(true, Ordering::Relaxed);
                    }
                }
                tally.lock().expect("no thread panics with it").add(own);
            });
        }
    });
    tally.into_inner().expect("no thread panics with it")
}

fn play_one(seed: u64, tally: &mut Tally) {
    tally.played += 1;
    let failure = match catch_unwind(AssertUnwindSafe(|| play(seed))) {
        Ok(Ok(counts)) => return tally.counts.add(&counts),
        Ok(Err(violation)) => Failure::Violation(violation),
        Err(_) => Failure::Panic,
    };
    tally.note(
        failure.invariant(),
        Kind {
            times: 1,
            seed,
            failure,
        },
    );
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.counts.add(&other.counts);
        self.played += other.played;
        for (invariant, kind) in other.failures {
            self.note(invariant, kind);
        }
    }

    fn note(&mut self, invariant: Option<Invariant>, kind: Kind) {
        match self.failures.entry(invariant) {
            Entry::Vacant(entry) => {
                entry.insert(kind);
            }
            Entry::Occupied(mut entry) => {
                let times = entry.get().times + kind.times;
                if kind.seed < entry.get().seed {
                    entry.insert(kind);
                }
                entry.get_mut().times = times;
            }
        }
    }
}

fn summarize(tally: &Tally, seconds: f64) {
    let Tally {
        counts: c, played, ..
    } = tally;
    let rate = *played as f64 / seconds.max(1e-9);
    println!(
        "world: {played} schedules in {seconds:.1} s ({rate:.0}/s), {} steps, {} frames",
        c.steps, c.frames
    );
    println!(
        "  {} messages: {} delivered, {} expired, {} refused, {} unconfirmed; {} came again, {} gaps told",
        c.sent, c.delivered, c.expired, c.refused, c.unconfirmed, c.redelivered, c.gaps
    );
    println!(
        "  {} calls: {} answered, {} ended as peer_lost",
        c.calls, c.answered, c.peer_lost
    );
    println!(
        "  {} faults, {} lives of nodes, {} ends of links",
        c.faults, c.lives, c.links
    );
    println!(
        "  mailbox: {} items posted, {} stored, {} forwarded, {} refused; {} pushed ({} again), {} taken, {} kept, {} put off, {} unreadable, {} denied, {} of acknowledgements",
        c.posted,
        c.stored,
        c.forwarded,
        c.posts_refused,
        c.pushed,
        c.pushed_again,
        c.taken,
        c.kept,
        c.put_off,
        c.unreadable,
        c.mail_denied,
        c.mailed_acks
    );
    println!(
        "  {} withdrawn, {} returned, {} expired there, {} replaced, {} of revoked members; {} messages told as stored",
        c.withdrawn, c.returned, c.items_expired, c.items_replaced, c.items_revoked, c.told_stored
    );
    println!(
        "  hand-over: {} peers to the mailbox, {} from there to a link; {} messages came by mailbox, {} by link ({} of them in the mailbox too), {} answers by mailbox",
        c.fell_to_mail,
        c.rose_to_link,
        c.given_by_mail,
        c.given_by_link,
        c.moved_to_link,
        c.answers_by_mail
    );
    println!(
        "  {} restarts of the registry ({} unwritten items died), {} full disks ({} writes failed), {} marks outlived their nodes, {} long absences, {} schedules without links",
        c.registry_lives,
        c.unwritten_lost,
        c.full_disks,
        c.writes_failed,
        c.marks_kept,
        c.absences,
        c.mail_only
    );
    println!(
        "  members: {} extensions, {} logins too late, {} ends announced, {} links ended with a certificate; {} revoked, heard {} times ({} from peers), {} orders failed; {} papers did not hold",
        c.extensions,
        c.expired_logins,
        c.expiries_announced,
        c.links_expired,
        c.revoked,
        c.revocations_heard,
        c.gossip,
        c.orders_failed,
        c.distrusted
    );
    println!(
        "  {} schedules with a hostile registry, {} lies",
        c.hostile, c.lies
    );
    println!(
        "  {} violations",
        tally.failures.values().map(|kind| kind.times).sum::<u64>()
    );
}

fn explain(kind: &Kind, order: &Order) {
    let seed = kind.seed;
    match &kind.failure {
        Failure::Violation(violation) => {
            if !order.trace && !order.keep_going {
                println!("the last events of seed {seed}:");
                for line in retell(seed, Trace::last()).1 {
                    println!("{line}");
                }
            }
            println!("VIOLATION of {violation}");
        }
        Failure::Panic => println!("PANIC in seed {seed}; see above"),
    }
    if kind.times > 1 {
        println!("({} times)", kind.times);
    }
    println!("replay: waymesh-lab world --seed {seed} --schedules 1 --trace");
}
