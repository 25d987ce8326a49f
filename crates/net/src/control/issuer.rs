//! Who has issued a certificate, as its text says it: where TLS is intercepted, the name of
//! whoever does it. What is read here is believed by nobody.
//!
//! ```text
//! Certificate ::= SEQUENCE { SEQUENCE { [0] version OPTIONAL, serial INTEGER,
//!     signature SEQUENCE, issuer SEQUENCE OF SET OF SEQUENCE { type OID, value string }, … } … }
//! ```
//! (RFC 5280 §4.1)

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xA0;

/// The types of a name's parts that are shown, by how telling they are (X.520 §6.2.2, §6.4.1).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0A];

/// Longest name that is shown, characters. Chosen: a line.
const NAME_MAX_CHARS: usize = 80;

/// The issuer's common name, with its organization where it says one; `None` where the
/// certificate has neither, or is not one.
pub(super) fn issuer(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (mut rest, _) = expect(SEQUENCE, certificate)?;
    if rest.first() == Some(&VERSION) {
        (_, _, rest) = element(rest)?;
    }
    let (_, _, rest) = element(rest)?;
    let (_, rest) = expect(SEQUENCE, rest)?;
    let (name, _) = expect(SEQUENCE, rest)?;
    let (common, organization) = (part(name, COMMON_NAME), part(name, ORGANIZATION));
    match (common, organization) {
        (Some(common), Some(organization)) if common != organization => {
            Some(format!("{common} ({organization})"))
        }
        (Some(name), _) | (None, Some(name)) => Some(name),
        (None, None) => None,
    }
}

/// The text of the first part of a name that has this type.
fn part(mut name: &[u8], kind: &[u8]) -> Option<String> {
    while !name.is_empty() {
        let (set, rest) = expect(SET, name)?;
        name = rest;
        let (pair, _) = expect(SEQUENCE, set)?;
        let (oid, value) = expect(OID, pair)?;
        if oid == kind {
            let (_, text, _) = element(value)?;
            let text = String::from_utf8_lossy(text);
            let printable = text.chars().filter(|c| !c.is_control());
            let shown: String = printable.take(NAME_MAX_CHARS).collect();
            return (!shown.is_empty()).then_some(shown);
        }
    }
    None
}

/// What is in an element of this type, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, inner, rest) = element(bytes)?;
    (found == tag).then_some((inner, rest))
}

/// The first element (DER, X.690 §8.1): its type, what is in it, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (inner, rest) = rest.split_at_checked(length)?;
    Some((tag, inner, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

    fn issued_by(parts: &[(DnType, &str)]) -> Vec<u8> {
        let key = || KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, text) in parts {
            authority.distinguished_name.push(kind.clone(), *text);
        }
        let issuer = Issuer::new(authority, key());
        let leaf = CertificateParams::new(vec!["registry.example".to_owned()]);
        let leaf = leaf.expect("a name").signed_by(&key(), &issuer);
        leaf.expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_issuer_is_named_by_its_common_name_and_organization() {
        type Case<'a> = (&'a [(DnType, &'a str)], Option<&'a str>);
        let cases: [Case<'_>; 4] = [
            (
                &[
                    (DnType::OrganizationName, "Acme"),
                    (DnType::CommonName, "Web Gateway"),
                ],
                Some("Web Gateway (Acme)"),
            ),
            (&[(DnType::CommonName, "Prüfstelle")], Some("Prüfstelle")),
            (&[(DnType::OrganizationName, "Acme")], Some("Acme")),
            (&[(DnType::CountryName, "CH")], None),
        ];
        for (parts, expected) in cases {
            assert_eq!(issuer(&issued_by(parts)).as_deref(), expected);
        }
    }

    #[test]
    fn a_certificate_cut_off_anywhere_names_nobody_or_its_issuer() {
        let whole = issued_by(&[(DnType::CommonName, "Gateway")]);
        for end in 0..whole.len() {
            assert_eq!(issuer(&whole[..end]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = issuer(&bytes);
        }
    }
}
