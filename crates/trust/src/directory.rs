//! Directory records: what of the registry's word about an agent is proven.

use std::sync::Arc;

use waymesh_proto::control::{MemberRecord, MeshKey};
use waymesh_proto::{Code, Fault, Name};

use crate::certificate::{Cache, CertificateError, Verified};
use crate::sealing::{SealError, SealTo};

/// Why a record is not believed: the registry is mistaken or lies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The certificate does not hold.
    #[error("the registry's record of {name} has no valid certificate: {source}")]
    Certificate {
        /// The name in the record.
        name: Name,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The certificate is of another agent, or says something else of it.
    #[error("the registry's record of {name} does not match its certificate in the {what}")]
    Swapped {
        /// The name in the record.
        name: Name,
        /// What differs.
        what: &'static str,
    },
}

impl DirectoryError {
    /// The code to count it under.
    pub const fn code(&self) -> Code {
        match self {
            Self::Certificate { source, .. } => source.code(),
            Self::Swapped { .. } => Code::BadCertificate,
        }
    }

    /// The error that the user is told.
    pub fn fault(&self) -> Fault {
        let hint = match self {
            Self::Certificate { source, .. } => source.fault().hint,
            Self::Swapped { .. } => {
                Some("the registry is broken or acts against its mesh".to_owned())
            }
        };
        Fault {
            hint,
            ..Fault::new(self.code(), self.to_string())
        }
    }
}

/// What a record proves. Incarnation, presence and skills are the registry's word only.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who it is.
    pub member: Arc<Verified>,
    /// The key to seal messages to it with, or why there is none that holds.
    pub sealing: Result<SealTo, SealError>,
}

/// Checks a record of the registry's directory.
///
/// # Errors
/// The record must be dropped: its certificate does not hold, or is of somebody else.
pub fn verify(
    record: &MemberRecord,
    mesh: &MeshKey,
    now_ms: u64,
    cache: &mut Cache,
) -> Result<Entry, DirectoryError> {
    let name = || record.agent.name.clone();
    let member = cache.verify(&record.certificate, mesh, now_ms);
    let member = member.map_err(|source| DirectoryError::Certificate {
        name: name(),
        source,
    })?;
    let swapped = |what| DirectoryError::Swapped { name: name(), what };
    if record.agent.name != member.name {
        return Err(swapped("name"));
    }
    if record.agent.agent_id != member.agent_id {
        return Err(swapped("agent id"));
    }
    if record.agent.roles != member.roles {
        return Err(swapped("roles"));
    }
    let sealing = cache.verify_statement(&record.sealing, &member, now_ms);
    Ok(Entry { member, sealing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use waymesh_proto::Incarnation;
    use waymesh_proto::api::AgentRecord;

    fn record() -> MemberRecord {
        MemberRecord {
            agent: AgentRecord {
                name: name("alice"),
                agent_id: alice().agent_id(),
                incarnation: Incarnation::new(1),
                online: true,
                roles: vec![role("worker")],
                skills: Vec::new(),
            },
            certificate: certificate("alice", &alice()),
            sealing: sealing_statement(&sealing_key(4), &alice()),
        }
    }

    fn check(record: &MemberRecord) -> Result<Entry, DirectoryError> {
        verify(record, &mesh_key(), NOW_MS, &mut Cache::default())
    }

    #[test]
    fn a_record_proves_who_it_is_and_what_to_seal_with() {
        let entry = check(&record()).expect("a true record");
        assert_eq!(entry.member.name, name("alice"));
        let id = entry.sealing.map(|to| to.id);
        assert_eq!(id, Ok(sealing_key(4).id()));
    }

    #[test]
    fn a_registry_that_swaps_anything_is_found_out_and_the_name_told() {
        let changes: [fn(&mut MemberRecord); 4] = [
            |r| r.agent.name = name("bob"),
            |r| r.agent.agent_id = bob().agent_id(),
            |r| r.agent.roles = vec![role("admin")],
            |r| r.certificate = certificate("bob", &bob()),
        ];
        for change in changes {
            let mut swapped = record();
            change(&mut swapped);
            let error = check(&swapped).expect_err("a lie");
            assert_eq!(error.code(), Code::BadCertificate);
            assert!(error.to_string().contains(swapped.agent.name.as_str()));
            assert!(error.fault().hint.is_some());
        }
    }

    #[test]
    fn nothing_is_sealed_to_a_key_that_the_registry_made_up() {
        let mut swapped = record();
        swapped.sealing = sealing_statement(&sealing_key(66), &registry());
        let entry = check(&swapped).expect("the member is true");
        let code = entry.sealing.map_err(|e| e.code());
        assert_eq!(code, Err(Code::BadSignature));
    }
}
