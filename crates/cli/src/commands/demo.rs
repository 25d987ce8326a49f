//! `waymesh demo`: the main job on one machine in one command. A registry and four
//! agents that join by an invite, each a process of its own, share out the counting of a
//! text's words.

mod absent;
mod cut;
mod first;
mod process;
mod report;
mod stage;
mod text;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use waymesh_node::skills::wordcount::{WordCount, count};
use waymesh_proto::api::Via;
use waymesh_proto::ids::Name;
use waymesh_proto::{Code, Fault};

use self::report::{Absence, FirstAnswer, Link, Ready, Summary, links_text};
use self::stage::{Actor, Stage};
use self::work::{Work, delegate};
use super::Context;
use super::invite::{self, Wish};
use crate::Outcome;
use crate::admin::Admin;
use crate::output::{Look, Tell, millis};
use crate::stop::{self, StdinGuard};

const COORDINATOR: &str = "coordinator";
const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

/// How long the agents' invite is good. Chosen: far above what they need.
const INVITE_LIFE: Duration = Duration::from_secs(3_600);

/// How many of the most frequent words are told.
const TOP_WORDS: usize = 10;

const EXAMPLES: &str = "\
Examples:
  waymesh demo                       counts the words of waymesh's own documents
  waymesh demo /usr/share/dict/words
  waymesh demo --json notes.txt      an object for each link and delegation, and a last `result`
  waymesh demo --data-dir /tmp/demo  keeps what registry, authority and agents have stored

It ends by itself within seconds and leaves no process behind, and no file unless
--data-dir names a folder for them.";

/// See it work: a registry and four agents on this machine share out real work
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The text whose words are counted, UTF-8 [default: waymesh's own documents]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Stop when standard input closes
    #[arg(long)]
    stdin_guard: bool,
}

/// All links, told together as a table or one by one as JSON.
struct Links(Vec<Link>);

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let stopped = stop::requested(StdinGuard::from(args.stdin_guard))?;
    let text = text::read(args.file.as_deref())?;
    let mut stage = Stage::new(context.named_data_dir())?;
    let played = tokio::select! {
        played = Box::pin(play(&mut stage, &text, args.file, context)) => played,
        () = stopped => Err(Fault::new(Code::Cancelled, "the demo was stopped")),
    };
    stage.close().await?;
    let summary = played?;
    context.out.tell(&summary);
    Ok(match summary.ok {
        true => Outcome::Done,
        false => Outcome::Failed,
    })
}

async fn play(
    stage: &mut Stage,
    text: &str,
    file: Option<PathBuf>,
    context: &Context,
) -> Result<Summary, Fault> {
    let start = Instant::now();
    let (out, limit) = (context.out, context.timeout);
    let spinner = out.progress("starting a registry and four agents");
    let registry = stage.add_registry(limit).await?;
    let mesh_fingerprint = invite_agents(stage, limit).await?;
    let names = names()?;
    let mut actors = stage.add_agents(&registry, &names, limit).await?;
    spinner.finish_and_clear();
    out.tell(&Ready {
        event: "ready",
        registry: registry.clone(),
        mesh_fingerprint,
        agents: names,
        file,
        bytes: text.len(),
    });
    let (coordinator, workers) = cast(&mut actors)?;
    let stranger = workers.first().ok_or_else(no_agents)?;
    let first = first::ask(coordinator, stranger, limit).await?;
    out.tell(&first);
    let links = connect(&mut actors, limit).await?;
    links.tell(context);
    let (coordinator, workers) = cast(&mut actors)?;
    let cut = cut::cut(text, workers.len());
    let mut work = delegate(coordinator, workers, &cut.parts, limit, out).await?;
    for giant in &cut.giants {
        work.counted.merge(count(giant));
    }
    let absent = &workers.last().ok_or_else(no_agents)?.name;
    let absence = absent::write_to(absent, coordinator, stage, &registry, limit).await?;
    out.tell(&absence);
    let told = Told {
        first,
        links: links.0,
        absence,
        workers: workers.len(),
    };
    Ok(summary(&work, &count(text), told, start))
}

/// Makes the authority and an invite for all agents; gives the mesh's fingerprint.
async fn invite_agents(stage: &Stage, limit: Duration) -> Result<String, Fault> {
    let mut admin = Admin::open(stage.registry_dir(), limit).await?;
    let wish = Wish::reusable(INVITE_LIFE);
    let invited = invite::make(&mut admin, None, wish).await?;
    stage.keep_invite(&invited.invite)?;
    Ok(invited.mesh_fingerprint)
}

/// The first agent and those that work for it.
fn cast(actors: &mut [Actor]) -> Result<(&mut Actor, &[Actor]), Fault> {
    let (first, rest) = actors.split_first_mut().ok_or_else(no_agents)?;
    Ok((first, rest))
}

fn no_agents() -> Fault {
    Fault::new(Code::Internal, "the demo has no agents")
}

fn names() -> Result<Vec<Name>, Fault> {
    [COORDINATOR]
        .iter()
        .chain(&WORKERS)
        .map(|name| {
            name.parse()
                .map_err(|error| Fault::new(Code::Internal, format!("{error}")))
        })
        .collect()
}

/// Links every agent with every other and measures each link.
async fn connect(actors: &mut [Actor], limit: Duration) -> Result<Links, Fault> {
    let mut links = Vec::new();
    let mut rest = actors;
    while let Some((from, others)) = rest.split_first_mut() {
        for to in others.iter() {
            from.sidecar.connect(&to.name, limit).await?;
            from.sidecar.ping(&to.name, Via::InUse, limit).await?;
        }
        let peers = from.sidecar.peers(limit).await?;
        let mine = peers
            .into_iter()
            .filter(|peer| others.iter().any(|other| other.name == peer.agent));
        links.extend(mine.map(|peer| Link::new(from.name.clone(), peer)));
        rest = others;
    }
    Ok(Links(links))
}

impl Links {
    fn tell(&self, context: &Context) {
        if context.out.is_json() {
            self.0.iter().for_each(|link| context.out.tell(link));
        } else {
            context.out.tell(self);
        }
    }
}

impl serde::Serialize for Links {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Tell for Links {
    fn text(&self, look: Look) -> String {
        links_text(&self.0, look)
    }
}

/// What was told before the end.
struct Told {
    first: FirstAnswer,
    links: Vec<Link>,
    absence: Absence,
    workers: usize,
}

fn summary(work: &Work, local: &WordCount, told: Told, start: Instant) -> Summary {
    let counted = &work.counted;
    let matches_local =
        counted.words == local.words && (counted.omitted > 0 || counted.counts == local.counts);
    Summary {
        event: "result",
        ok: matches_local,
        total_words: counted.words,
        local_words: local.words,
        matches_local,
        links: told.links.len(),
        all_direct: work.not_direct == 0 && told.links.iter().all(Link::is_direct),
        delegations: work.delegations,
        workers: told.workers,
        first_answer_ms: told.first.elapsed_ms,
        first_answer_path: told.first.path,
        absence: told.absence.state,
        top_words: top_words(counted),
        elapsed_ms: millis(start.elapsed()),
    }
}

/// The most frequent words; what is nothing but punctuation, such as the bars of a table,
/// says nothing about a text.
fn top_words(counted: &WordCount) -> Vec<(String, u64)> {
    counted
        .top(counted.counts.len())
        .into_iter()
        .filter(|(word, _)| word.contains(char::is_alphanumeric))
        .take(TOP_WORDS)
        .map(|(word, times)| (word.to_owned(), times))
        .collect()
}
