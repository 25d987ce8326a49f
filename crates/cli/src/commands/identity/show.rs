//! Who a node is, by what its data directory holds and what it says itself.

use std::path::PathBuf;

use serde::Serialize;
use waymesh_node::{Home, Membership};
use waymesh_proto::Fault;
use waymesh_proto::control::{MeshKey, Origin};
use waymesh_proto::ids::{AgentId, Incarnation, InviteId, KeyId, Name, Role};
use waymesh_trust::certificate::{self, Verified};
use waymesh_trust::fingerprint;

use super::nobody;
use crate::Outcome;
use crate::clock::{from_now, iso, unix_ms};
use crate::commands::Context;
use crate::output::{Look, Tell, or_dash};
use crate::sidecar::Sidecar;

/// Everything that is known; what is not is null.
#[derive(Debug, Serialize)]
struct Shown {
    ok: bool,
    name: Option<Name>,
    agent_id: AgentId,
    fingerprint: String,
    key: AgentId,
    rotations: u32,
    roles: Option<Vec<Role>>,
    mesh: Option<MeshKey>,
    mesh_fingerprint: Option<String>,
    invite: Option<InviteId>,
    certificate_expires: Option<String>,
    certificate_renewable_until: Option<String>,
    certificate_error: Option<Fault>,
    sealing_key: Option<KeyId>,
    sealing_key_expires: Option<String>,
    registry: Option<Origin>,
    tls_pin: Option<String>,
    data_dir: PathBuf,
    running: bool,
    incarnation: Option<Incarnation>,
    #[serde(skip)]
    expires_ms: Option<u64>,
}

pub(super) async fn run(data_dir: PathBuf, context: &Context) -> Result<Outcome, Fault> {
    let agent_id = Home::peek(&data_dir)?.ok_or_else(|| nobody(&data_dir))?;
    let member = Home::peek_membership(&data_dir)?;
    let sealing = Home::peek_sealing(&data_dir)?;
    let node = Sidecar::attach(&data_dir, context.timeout).await.ok();
    let hello = node.as_ref().map(Sidecar::hello);
    let mut shown = Shown {
        ok: true,
        name: hello.map(|hello| hello.agent.clone()),
        agent_id,
        fingerprint: fingerprint(agent_id.as_bytes()),
        key: agent_id,
        rotations: 0,
        roles: None,
        mesh: None,
        mesh_fingerprint: None,
        invite: None,
        certificate_expires: None,
        certificate_renewable_until: None,
        certificate_error: None,
        sealing_key: sealing.map(|key| key.id),
        sealing_key_expires: sealing.map(|key| iso(key.expires_ms)),
        registry: None,
        tls_pin: None,
        data_dir,
        running: hello.is_some(),
        incarnation: hello.map(|hello| hello.incarnation),
        expires_ms: None,
    };
    if let Some(member) = member {
        shown.add_membership(member);
    }
    context.out.tell(&shown);
    Ok(Outcome::Done)
}

impl Shown {
    fn add_membership(&mut self, member: Membership) {
        match certificate::verify_renewable(&member.certificate, &member.mesh, unix_ms()) {
            Ok(verified) => self.add_certificate(verified),
            Err(error) => self.certificate_error = Some(error.fault()),
        }
        self.name = Some(member.name);
        self.key = member.key;
        self.mesh = Some(member.mesh);
        self.mesh_fingerprint = Some(fingerprint(member.mesh.as_bytes()));
        self.registry = Some(member.registry);
        self.tls_pin = member.tls_pin.map(|pin| pin.to_string());
    }

    fn add_certificate(&mut self, verified: Verified) {
        self.rotations = verified.rotations;
        self.roles = Some(verified.roles);
        self.invite = verified.invite;
        self.expires_ms = Some(verified.expires_ms);
        self.certificate_expires = Some(iso(verified.expires_ms));
        self.certificate_renewable_until = Some(iso(verified.renew_until_ms));
    }

    fn sealing_key(&self) -> String {
        match (&self.sealing_key, &self.sealing_key_expires) {
            (Some(id), Some(expires)) => format!("{id}, good until {expires}"),
            _ => or_dash(None::<KeyId>),
        }
    }

    fn certificate(&self) -> String {
        match (self.expires_ms, &self.certificate_error) {
            (Some(ms), _) => format!(
                "ends {} ({}), may be extended until {}",
                or_dash(self.certificate_expires.as_ref()),
                from_now(ms, unix_ms()),
                or_dash(self.certificate_renewable_until.as_ref()),
            ),
            (None, Some(fault)) => fault.message.clone(),
            (None, None) => "none: it needs an invite".to_owned(),
        }
    }
}

impl Tell for Shown {
    fn text(&self, _: Look) -> String {
        let roles = self.roles.as_ref().map(|roles| {
            let roles: Vec<_> = roles.iter().map(Role::as_str).collect();
            roles.join(", ")
        });
        let roles = roles.filter(|roles| !roles.is_empty());
        let rows = [
            ("name", or_dash(self.name.as_ref())),
            ("agent id", self.agent_id.to_string()),
            ("fingerprint", self.fingerprint.clone()),
            ("key", format!("{} ({} changes)", self.key, self.rotations)),
            ("roles", or_dash(roles)),
            ("mesh", or_dash(self.mesh_fingerprint.as_ref())),
            ("certificate", self.certificate()),
            ("sealing key", self.sealing_key()),
            ("registry", or_dash(self.registry.as_ref())),
            ("folder", self.data_dir.display().to_string()),
            (
                "running",
                if self.running { "yes" } else { "no" }.to_owned(),
            ),
            ("incarnation", or_dash(self.incarnation)),
        ];
        let lines: Vec<_> = rows
            .iter()
            .map(|(word, value)| format!("{word:<13}{value}"))
            .collect();
        lines.join("\n")
    }
}
