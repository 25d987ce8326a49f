//! `waymesh invite`: leave to join the mesh, printed alone.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use waymesh_authority::{Authority, NewInvite, RENEW_DEFAULT_MS};
use waymesh_proto::control::{MeshKey, Origin, PAIRING_CODE_LIFE_MS, PairingCode};
use waymesh_proto::ids::{InviteId, Name, Role};
use waymesh_proto::membership::Invite;
use waymesh_proto::{Code, Fault};
use waymesh_trust::fingerprint;

use super::Context;
use crate::admin::{self, Admin};
use crate::clock::{iso, unix_ms};
use crate::output::{Look, Tell};
use crate::{Outcome, settings};

const EXAMPLES: &str = "\
Examples:
  waymesh invite --auto-approve > bob.invite     one node may join, without asking again
  waymesh invite --auto-approve --reusable --ttl 7d
                                                 any number of nodes, for a week
  waymesh invite --name carol --role ops         only carol, and only once an admin approves
  waymesh invite --code                          six digits to read out; an admin approves

Six digits name nobody: a node that joins by them trusts the registry that it finds at the
URL, pins its TLS key, and is refused when that key is not the registry's. Who else answers
there shows other fingerprints: compare those of the mesh and of the node before approving.

The node takes it with --invite @bob.invite. An invite is a secret: whoever has it may
join as it allows. waymesh revoke --invite ID takes it back, with whom it let in by itself.
The first invite makes the authority, which holds the key of the mesh: keep it safe.";

/// How long an invite is good when nobody says.
const TTL_DEFAULT: Duration = Duration::from_secs(3_600);

/// How long a pairing code is good, at most and when nobody says.
const CODE_TTL_MAX: Duration = Duration::from_millis(PAIRING_CODE_LIFE_MS);

/// Where the mesh key is.
#[derive(Debug, clap::Args)]
pub(crate) struct AuthorityArgs {
    /// Where the mesh key is [default: `authority` in the registry's data directory]
    #[arg(long, env = "WAYMESH_AUTHORITY_DIR", value_name = "DIR")]
    pub(crate) authority_dir: Option<PathBuf>,
}

/// Make an invite, or a pairing code, for new nodes and print it alone
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    authority: AuthorityArgs,
    /// Let the node in at once; otherwise it waits for waymesh approve
    #[arg(long, conflicts_with = "code")]
    auto_approve: bool,
    /// Let any number of nodes in
    #[arg(long, conflicts_with_all = ["code", "count"])]
    reusable: bool,
    /// Let this many nodes in [default: 1, or as many as there are names]
    #[arg(long, value_name = "N", conflicts_with = "code")]
    count: Option<NonZeroU32>,
    /// How long it is good, as in 10m, 1h or 7d [default: 1h; a code: 5m, which is its most]
    #[arg(long, value_name = "TIME", value_parser = settings::invite_life)]
    ttl: Option<Duration>,
    /// Only for this name; may be given several times
    #[arg(long = "name", value_name = "NAME", conflicts_with = "code")]
    names: Vec<Name>,
    /// What its members are trusted with, for policies; may be given several times
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "code")]
    roles: Vec<Role>,
    /// Print six digits to be read out, in place of an invite
    #[arg(long)]
    code: bool,
}

/// What an invite is to allow.
#[derive(Debug)]
pub(super) struct Wish {
    names: Option<Vec<Name>>,
    roles: Vec<Role>,
    count: Option<NonZeroU32>,
    pre_approved: bool,
    life: Duration,
}

/// A new invite. No key is ever absent: what a pairing code does not have is null.
#[derive(Debug, Serialize)]
pub(super) struct Invited {
    ok: bool,
    pub(super) invite: Invite,
    code: Option<PairingCode>,
    id: InviteId,
    registry: Origin,
    mesh: MeshKey,
    pub(super) mesh_fingerprint: String,
    auto_approve: bool,
    reusable: bool,
    count: Option<NonZeroU32>,
    names: Option<Vec<Name>>,
    roles: Vec<Role>,
    expires: String,
}

/// A new pairing code, with the keys of an invite.
#[derive(Debug, Serialize)]
struct Coded {
    ok: bool,
    invite: Option<Invite>,
    code: PairingCode,
    id: Option<InviteId>,
    registry: Origin,
    mesh: MeshKey,
    mesh_fingerprint: String,
    auto_approve: bool,
    reusable: bool,
    count: u32,
    names: Option<Vec<Name>>,
    roles: Option<Vec<Role>>,
    expires: String,
}

impl Tell for Invited {
    fn text(&self, _: Look) -> String {
        self.invite.to_string()
    }
}

impl Tell for Coded {
    fn text(&self, _: Look) -> String {
        self.code.to_string()
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Outcome, Fault> {
    let mut admin = Admin::of(context).await?;
    let authority_dir = args.authority.authority_dir.clone();
    if args.code {
        let life = args.ttl.unwrap_or(CODE_TTL_MAX);
        let coded = make_code(&mut admin, authority_dir, life).await?;
        context.out.tell(&coded);
    } else {
        let invited = make(&mut admin, authority_dir, args.wish()).await?;
        context.out.tell(&invited);
    }
    Ok(Outcome::Done)
}

impl Args {
    fn wish(self) -> Wish {
        let names = u32::try_from(self.names.len()).ok();
        let as_many = names.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        Wish {
            count: match self.reusable {
                true => None,
                false => Some(self.count.unwrap_or(as_many)),
            },
            names: (!self.names.is_empty()).then_some(self.names),
            roles: self.roles,
            pre_approved: self.auto_approve,
            life: self.ttl.unwrap_or(TTL_DEFAULT),
        }
    }
}

impl Wish {
    /// For any number of nodes of any name, let in at once.
    pub(super) const fn reusable(life: Duration) -> Self {
        Self {
            names: None,
            roles: Vec::new(),
            count: None,
            pre_approved: true,
            life,
        }
    }
}

/// Makes an invite; on first use the authority too, and the registry its.
pub(super) async fn make(
    admin: &mut Admin,
    authority_dir: Option<PathBuf>,
    wish: Wish,
) -> Result<Invited, Fault> {
    let status = admin.status().await?;
    let url = admin::url(&status)?;
    let mut authority = admin.founded(&status, authority_dir).await?;
    let new = NewInvite {
        url: url.clone(),
        registry: status.registry,
        tls_pin: admin::tls_pin(&status)?,
        names: wish.names,
        roles: wish.roles,
        count: wish.count,
        pre_approved: wish.pre_approved,
        ttl_ms: millis(wish.life),
        renew_ms: RENEW_DEFAULT_MS,
    };
    let secret = authority
        .invite(&new, unix_ms())
        .map_err(|error| error.fault())?;
    let invite = secret.encode().map_err(|error| error.fault())?;
    Ok(Invited {
        ok: true,
        invite,
        code: None,
        id: secret.grant.invite,
        registry: url,
        mesh: secret.mesh,
        mesh_fingerprint: fingerprint(secret.mesh.as_bytes()),
        auto_approve: secret.grant.pre_approved,
        reusable: secret.grant.count.is_none(),
        count: secret.grant.count,
        names: secret.grant.names,
        roles: secret.grant.roles,
        expires: iso(secret.grant.expires_ms),
    })
}

async fn make_code(
    admin: &mut Admin,
    authority_dir: Option<PathBuf>,
    life: Duration,
) -> Result<Coded, Fault> {
    if life > CODE_TTL_MAX {
        let message = "a pairing code is good for 5 minutes at most";
        return Err(Fault::new(Code::Usage, message)
            .with_hint("leave --ttl out, or make an invite, which may be good for longer"));
    }
    let status = admin.status().await?;
    let url = admin::url(&status)?;
    let mut authority: Authority = admin.founded(&status, authority_dir).await?;
    let (ttl_ms, now_ms) = (millis(life), unix_ms());
    authority
        .pairing_code(ttl_ms, now_ms)
        .map_err(|error| error.fault())?;
    let code = admin.pairing_code(ttl_ms).await?;
    let mesh = authority.mesh_key();
    Ok(Coded {
        ok: true,
        invite: None,
        code,
        id: None,
        registry: url,
        mesh,
        mesh_fingerprint: fingerprint(mesh.as_bytes()),
        auto_approve: false,
        reusable: false,
        count: 1,
        names: None,
        roles: None,
        expires: iso(now_ms.saturating_add(ttl_ms)),
    })
}

fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX)
}
