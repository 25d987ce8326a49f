//! Directory records: what of the registry's word about an agent is proven.

use std::sync::Arc;

use waymesh_proto::control::{MemberRecord, MeshKey};
use waymesh_proto::{Code, Fault, Name};

use crate::certificate::{Cache, CertificateError, Verified};
use crate::sealing::{self, SealError, SealTo};

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
    let sealing = sealing::verify_statement(&record.sealing, &member, now_ms);
    Ok(Entry { member, sealing })
}
