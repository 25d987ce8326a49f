//! `waymesh demo`: the main job on one machine in one command. A registry and four
//! agents, each a process of its own, share out the counting of a text's words.

mod cut;
mod process;
mod report;
mod stage;
mod text;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use waymesh_node::skills::wordcount::{WordCount, count};
use waymesh_proto::ids::Name;
use waymesh_proto::{Code, Fault};

use self::report::{Link, Ready, Summary, links_text};
use self::stage::{Actor, Stage};
use self::work::{Work, delegate};
use super::Context;
use crate::Outcome;
use crate::output::{Look, Tell, millis};
use crate::stop::{self, StdinGuard};

const COORDINATOR: &str = "coordinator";
const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

/// How many of the most frequent words are told.
const TOP_WORDS: usize = 10;

const EXAMPLES: &str = "\
Examples:
  waymesh demo                       counts the words of waymesh's own documents
  waymesh demo /usr/share/dict/words
  waymesh demo --json notes.txt      an object for each link and delegation, and a last `result`

It ends by itself within seconds and leaves no process and no file behind.";

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
    let mut stage = Stage::new()?;
    let played = tokio::select! {
        played = play(&mut stage, &text, args.file, context) => played,
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
    let out = context.out;
    let spinner = out.progress("starting a registry and four agents");
    let registry = stage.add_registry(context.timeout).await?;
    let names = names()?;
    let mut actors = stage.add_agents(&registry, &names, context.timeout).await?;
    spinner.finish_and_clear();
    out.tell(&Ready {
        event: "ready",
        registry,
        agents: names,
        file,
        bytes: text.len(),
    });
    let links = connect(&mut actors, context.timeout).await?;
    links.tell(context);
    let (coordinator, workers) = actors
        .split_first_mut()
        .ok_or_else(|| Fault::new(Code::Internal, "the demo has no agents"))?;
    let cut = cut::cut(text, workers.len());
    let mut work = delegate(coordinator, workers, &cut.parts, context.timeout, out).await?;
    for giant in &cut.giants {
        work.counted.merge(count(giant));
    }
    Ok(summary(&work, &count(text), &links.0, workers.len(), start))
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
            from.sidecar.ping(&to.name, limit).await?;
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

fn summary(
    work: &Work,
    local: &WordCount,
    links: &[Link],
    workers: usize,
    start: Instant,
) -> Summary {
    let counted = &work.counted;
    let matches_local =
        counted.words == local.words && (counted.omitted > 0 || counted.counts == local.counts);
    Summary {
        event: "result",
        ok: matches_local,
        total_words: counted.words,
        local_words: local.words,
        matches_local,
        links: links.len(),
        all_direct: work.not_direct == 0 && links.iter().all(Link::is_direct),
        delegations: work.delegations,
        workers,
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
