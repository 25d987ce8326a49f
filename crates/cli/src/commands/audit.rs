//! `waymesh audit`: every act of the authority, as its log tells and proves them.

use serde::Serialize;
use waymesh_authority::{Act, Entry, verify_audit};
use waymesh_proto::Fault;
use waymesh_proto::ids::Name;

use super::Context;
use super::invite::AuthorityArgs;
use crate::Outcome;
use crate::admin::Admin;
use crate::clock::iso;
use crate::output::{Look, Tell, or_dash, table};

const EXAMPLES: &str = "\
Examples:
  waymesh audit
  waymesh audit --json | jq -r 'select(.act == \"invite\") | .invite'

Every line has the hash of the one before it, and the end is signed by the mesh key: a
log that was changed or cut is told as an error. A line behind that end is shown as not
signed: its act was not done, and the next act drops it.";

/// Show and check every invite, approval, rejection and revocation there was
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    authority: AuthorityArgs,
}

/// One entry is one line of JSON; for people all are one table.
#[derive(Debug, Serialize)]
struct Log(Vec<Line>);

#[derive(Debug, Serialize)]
struct Line {
    time: String,
    #[serde(flatten)]
    entry: Entry,
    /// Whether the mesh key vouches for it; if not, the act was not done.
    signed: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut admin = Admin::of(context).await?;
    let status = admin.status().await?;
    let (dir, mesh) = admin.authority_of(&status, args.authority.authority_dir)?;
    let audit = verify_audit(&dir, &mesh)
        .map_err(|error| waymesh_authority::AuthorityError::from(error).fault())?;
    let signed = audit.entries.into_iter().map(|entry| (entry, true));
    let unsigned = audit.unsigned.map(|entry| (entry, false));
    let lines = signed.chain(unsigned);
    let log = Log(lines
        .map(|(entry, signed)| Line::new(entry, signed))
        .collect());
    if context.out.is_json() {
        log.0.iter().for_each(|line| context.out.tell(line));
    } else {
        context.out.tell(&log);
    }
    Ok(Outcome::Done)
}

impl Line {
    fn new(entry: Entry, signed: bool) -> Self {
        Self {
            time: iso(entry.time_ms),
            entry,
            signed,
        }
    }

    fn row(&self) -> Vec<String> {
        let (act, whom, more) = words(&self.entry.act);
        vec![
            self.entry.seq.to_string(),
            self.time.clone(),
            match self.signed {
                true => act.to_owned(),
                false => format!("not signed, not done: {act}"),
            },
            whom,
            more,
        ]
    }
}

/// What was done, to whom, and what else is to be known.
fn words(act: &Act) -> (&'static str, String, String) {
    match act {
        Act::Begin { mesh } => ("begin", mesh.to_string(), String::new()),
        Act::Invite {
            invite,
            names,
            count,
            pre_approved,
            expires_ms,
            ..
        } => {
            let names = match names {
                Some(names) => {
                    let names: Vec<_> = names.iter().map(Name::as_str).collect();
                    names.join(", ")
                }
                None => "any name".to_owned(),
            };
            let how = match pre_approved {
                true => "at once",
                false => "once approved",
            };
            let count = match count {
                Some(count) => format!("at most {count}"),
                None => "any number".to_owned(),
            };
            let until = iso(*expires_ms);
            let more = format!("for {names}, {count}, {how}, until {until}");
            ("invite", invite.to_string(), more)
        }
        Act::PairingCode { expires_ms } => {
            let more = format!("until {}", iso(*expires_ms));
            ("pairing code", String::new(), more)
        }
        Act::Approve {
            request,
            name,
            fingerprint,
            ..
        } => {
            let more = format!("request {request}, {fingerprint}");
            ("approve", name.to_string(), more)
        }
        Act::Reject { request, name, .. } => {
            ("reject", name.to_string(), format!("request {request}"))
        }
        Act::RevokeMember { agent_id, name } => {
            ("revoke", or_dash(name.as_ref()), agent_id.to_string())
        }
        Act::Dropped { sha256 } => ("drop", String::new(), format!("unsigned line {sha256}")),
        Act::RevokeInvite { invite } => ("revoke invite", invite.to_string(), String::new()),
    }
}

impl Tell for Line {
    fn text(&self, _: Look) -> String {
        self.row().join("  ")
    }
}

impl Tell for Log {
    fn text(&self, look: Look) -> String {
        let rows = self.0.iter().map(Line::row).collect();
        table(look, &["no.", "time", "act", "whom", "more"], rows)
    }
}
