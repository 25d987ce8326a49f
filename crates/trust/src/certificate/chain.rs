//! The parts of a certificate's text, in their order, unverified.

use waymesh_proto::membership::{Certificate, Extension};

use super::error::CertificateError;
use crate::jwt::Typ;
use crate::rotation::Rotation;

/// What stands between two tokens of a chain.
const SEPARATOR: &str = "~";

/// The tokens of one certificate.
#[derive(Debug, Clone)]
pub(super) struct Parts<'a> {
    pub(super) delegation: Option<&'a str>,
    pub(super) member: &'a str,
    pub(super) extension: Option<&'a str>,
    pub(super) rotations: Vec<&'a str>,
}

fn malformed(why: impl ToString) -> CertificateError {
    CertificateError::Malformed(why.to_string())
}

impl<'a> Parts<'a> {
    pub(super) fn split(certificate: &'a Certificate) -> Result<Self, CertificateError> {
        let mut tokens = Vec::new();
        for token in certificate.as_str().split(SEPARATOR) {
            tokens.push((Typ::of(token).map_err(malformed)?, token));
        }
        let mut rest = tokens.as_slice();
        let mut take = |typ| {
            let ((first, token), after) = rest.split_first()?;
            (*first == typ).then(|| {
                rest = after;
                *token
            })
        };
        let delegation = take(Typ::Delegation);
        let member = take(Typ::Member).ok_or_else(|| malformed("it has no member token"))?;
        let extension = take(Typ::Extension);
        let rotations: Vec<_> = std::iter::from_fn(|| take(Typ::Rotation)).collect();
        if !rest.is_empty() {
            return Err(malformed("its tokens are not in their order"));
        }
        Ok(Self {
            delegation,
            member,
            extension,
            rotations,
        })
    }

    pub(super) fn join(&self) -> Result<Certificate, CertificateError> {
        let first = self.delegation.into_iter().chain([self.member]);
        let tokens: Vec<_> = first
            .chain(self.extension)
            .chain(self.rotations.iter().copied())
            .collect();
        tokens.join(SEPARATOR).parse().map_err(malformed)
    }
}

/// The certificate with this extension in place of the one that it had.
///
/// # Errors
/// The certificate is malformed or becomes too long. Nothing is verified.
pub fn with_extension(
    certificate: &Certificate,
    extension: &Extension,
) -> Result<Certificate, CertificateError> {
    let mut parts = Parts::split(certificate)?;
    parts.extension = Some(extension.as_str());
    parts.join()
}

/// The certificate with one more rotation behind those that it has.
///
/// # Errors
/// The certificate is malformed or becomes too long. Nothing is verified.
pub fn with_rotation(
    certificate: &Certificate,
    rotation: &Rotation,
) -> Result<Certificate, CertificateError> {
    let mut parts = Parts::split(certificate)?;
    parts.rotations.push(rotation.as_str());
    parts.join()
}

/// The rotations of a certificate, oldest first.
///
/// # Errors
/// The certificate is malformed. Nothing is verified.
pub fn rotations(certificate: &Certificate) -> Result<Vec<Rotation>, CertificateError> {
    let parts = Parts::split(certificate)?;
    let tokens = parts.rotations.into_iter();
    Ok(tokens.map(Rotation::from_token).collect())
}
