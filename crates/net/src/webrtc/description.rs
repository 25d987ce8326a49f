//! Checks a peer's SDP before the WebRTC stack sees it.
//!
//! The stack accepts far more than a link is: media, weak fingerprints, any
//! number of lines and candidates. What a link needs is little, so all else is
//! refused here (RFC 8841, RFC 8122).

use str0m::Candidate;
use str0m::change::{SdpAnswer, SdpOffer};
use waymesh_proto::limits::SIGNALING_MAX_BYTES;

use super::candidates::RemoteCandidates;

/// Longest candidate attribute, bytes: an IPv6 address twice, and a relay's extensions.
const CANDIDATE_MAX_BYTES: usize = 512;

/// Most lines in a description. Chosen: what browsers send for data alone is
/// about 20, and each candidate is one.
const LINES_MAX: usize = 256;

/// A peer's description that a link can be made from.
pub(super) struct Checked<'a> {
    sdp: &'a str,
    /// The candidates in it.
    pub(super) candidates: RemoteCandidates,
}

/// Checks a description's shape.
///
/// # Errors
///
/// What is wrong with it, in words for the peer's user.
pub(super) fn check(sdp: &str) -> Result<Checked<'_>, String> {
    if sdp.len() > SIGNALING_MAX_BYTES {
        return Err(format!("longer than {SIGNALING_MAX_BYTES} bytes"));
    }
    let (mut media, mut fingerprints) = (0, 0);
    let mut candidates = RemoteCandidates::default();
    for (number, line) in sdp.lines().enumerate() {
        if number >= LINES_MAX {
            return Err(format!("more than {LINES_MAX} lines"));
        }
        if line.starts_with("m=") {
            media += 1;
            check_media(line)?;
        } else if let Some(value) = line.strip_prefix("a=fingerprint:") {
            fingerprints += 1;
            if !value.to_ascii_lowercase().starts_with("sha-256 ") {
                return Err("a fingerprint that is not sha-256".into());
            }
        } else if let Some(attribute) = line
            .strip_prefix("a=")
            .filter(|a| a.starts_with("candidate:"))
        {
            note_candidate(&mut candidates, attribute)?;
        }
    }
    match (media, fingerprints) {
        (0, _) => Err("no m-line".into()),
        (1, 0) => Err("no fingerprint".into()),
        (1, _) => Ok(Checked { sdp, candidates }),
        _ => Err("more than one m-line".into()),
    }
}

fn check_media(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let is_application = words.next() == Some("m=application");
    let is_data_channel = words.nth(2) == Some("webrtc-datachannel");
    if is_application && is_data_channel {
        Ok(())
    } else {
        Err("an m-line that is not a data channel".into())
    }
}

fn note_candidate(candidates: &mut RemoteCandidates, attribute: &str) -> Result<(), String> {
    let candidate = read_candidate(attribute)?;
    if candidates.add(&candidate) {
        Ok(())
    } else {
        Err("too many candidates".into())
    }
}

/// Reads a `candidate:` attribute.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn read_candidate(attribute: &str) -> Result<Candidate, String> {
    if attribute.len() > CANDIDATE_MAX_BYTES {
        return Err(format!(
            "a candidate longer than {CANDIDATE_MAX_BYTES} bytes"
        ));
    }
    let attribute = attribute.strip_prefix("a=").unwrap_or(attribute);
    Candidate::from_sdp_string(attribute).map_err(|error| error.to_string())
}

impl Checked<'_> {
    /// Reads it as an offer.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn offer(&self) -> Result<SdpOffer, String> {
        SdpOffer::from_sdp_string(self.sdp).map_err(|error| error.to_string())
    }

    /// Reads it as an answer.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn answer(&self) -> Result<SdpAnswer, String> {
        SdpAnswer::from_sdp_string(self.sdp).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: &str =
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fingerprint:sha-256 AA:BB\r\n";

    #[test]
    fn a_description_needs_one_data_channel_line_and_a_sha_256_fingerprint() {
        assert!(check(LEAST).is_ok());
        assert!(check("").is_err());
        assert!(check(&LEAST.replace("application", "audio")).is_err());
        assert!(check(&LEAST.replace("webrtc-datachannel", "5000")).is_err());
        assert!(check(&LEAST.replace("sha-256", "sha-1")).is_err());
        assert!(check(&LEAST.replace("a=fingerprint", "a=print")).is_err());
        assert!(check(&format!("{LEAST}{LEAST}")).is_err());
    }

    #[test]
    fn the_most_candidates_pass_and_one_more_is_refused() {
        let line = "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n";
        let most = super::super::candidates::REMOTE_CANDIDATES_MAX;
        assert!(check(&format!("{LEAST}{}", line.repeat(most))).is_ok());
        assert!(check(&format!("{LEAST}{}", line.repeat(most + 1))).is_err());
    }

    #[test]
    fn a_description_of_the_largest_size_passes_and_one_byte_more_is_refused() {
        let fill = SIGNALING_MAX_BYTES - LEAST.len() - 2;
        let largest = format!("{LEAST}a={}", "x".repeat(fill));
        assert_eq!(largest.len(), SIGNALING_MAX_BYTES);
        assert!(check(&largest).is_ok());
        assert!(check(&format!("{largest}x")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,400}") {
            let _ = read_candidate(&text);
            if let Ok(checked) = check(&format!("{LEAST}{text}")) {
                let _ = checked.offer();
                let _ = checked.answer();
            }
        }
    }
}
