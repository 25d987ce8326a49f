//! Time to seal and to open a message, certificate and signatures included: what each
//! message by mailbox costs its sender and its receiver in computing.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waymesh_proto::ids::ItemId;
use waymesh_proto::limits::CERTIFICATE_LIFE_MS;
use waymesh_proto::mailbox::{ItemHeader, Keep};
use waymesh_proto::{Class, Incarnation};
use waymesh_trust::Keypair;
use waymesh_trust::certificate::{self, Cache, Member};
use waymesh_trust::sealing::{self, Content, SealingKey};

use super::Measure;
use super::rtt::{histogram, note};
use crate::error::BenchError;
use crate::figure::{Figure, Metric, Unit};
use crate::settings::Settings;

/// The size of the frame that is sealed.
const FRAME_BYTES: u32 = 1024;

pub(super) fn run(settings: &Settings) -> Result<Vec<Figure>, BenchError> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(failed)?;
    let now_ms = u64::try_from(since.as_millis()).map_err(failed)?;
    let [mesh, registry, sender, receiver] =
        [1, 2, 3, 4].map(|seed| Keypair::from_seed(&[seed; 32]));
    let member = |name: &str, keypair: &Keypair| -> Result<_, BenchError> {
        let member = Member {
            name: name.parse().map_err(failed)?,
            agent_id: keypair.agent_id(),
            rotations: Vec::new(),
            roles: Vec::new(),
            registry: registry.registry_key(),
            issued_ms: now_ms,
            expires_ms: now_ms + CERTIFICATE_LIFE_MS,
            renew_until_ms: now_ms + CERTIFICATE_LIFE_MS,
        };
        certificate::issue(&mesh, &member).map_err(failed)
    };
    let (mesh_key, mut cache) = (mesh.mesh_key(), Cache::default());
    let certificates = (member("sender", &sender)?, member("receiver", &receiver)?);
    let seal_key = |seed: u8| SealingKey::from_seed(&[seed; 32], now_ms + CERTIFICATE_LIFE_MS);
    let (own, theirs) = (seal_key(5), seal_key(6));
    let statement = theirs.statement(&receiver, receiver.agent_id(), &mesh_key, now_ms);
    let verified = certificate::verify(&certificates.1, &mesh_key, now_ms).map_err(failed)?;
    let to = sealing::verify_statement(&statement, &verified, now_ms).map_err(failed)?;
    let content = Content {
        from_incarnation: Incarnation::new(1),
        to_incarnation: None,
        issued_ms: now_ms,
        certificate: certificates.0,
        sealing: own.statement(&sender, sender.agent_id(), &mesh_key, now_ms),
        frame: vec![b'x'; FRAME_BYTES as usize],
    };
    let (mut seals, mut opens) = (histogram()?, histogram()?);
    for number in 0..u128::from(settings.sealed_messages) {
        let header = ItemHeader {
            item: ItemId::from_bytes(number.to_be_bytes()),
            from: sender.agent_id(),
            to: receiver.agent_id(),
            class: Class::Control,
            keep: Keep::Store,
            life_ms: 60_000,
            key: to.id,
        };
        let start = Instant::now();
        let item = sealing::seal(&content, &header, &mesh_key, &to, &sender).map_err(failed)?;
        note(&mut seals, start);
        let start = Instant::now();
        let keys = std::slice::from_ref(&theirs);
        sealing::open(
            &item,
            &mesh_key,
            keys,
            &receiver.agent_id(),
            now_ms,
            &mut cache,
        )
        .map_err(failed)?;
        note(&mut opens, start);
    }
    let us = |metric, nanos: u64| Figure {
        size_bytes: Some(FRAME_BYTES),
        ..Figure::alone(
            Measure::Sealing,
            metric,
            nanos as f64 / 1e3,
            Unit::Us,
            seals.len(),
        )
    };
    Ok(vec![
        us(Metric::SealP50, seals.value_at_quantile(0.50)),
        us(Metric::OpenP50, opens.value_at_quantile(0.50)),
    ])
}

fn failed(error: impl ToString) -> BenchError {
    BenchError::contestant("waymesh", error)
}
