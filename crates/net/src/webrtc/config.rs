//! How an endpoint is set up, and how every session of the stack is.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use str0m::RtcConfig;
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use waymesh_proto::ice::IceServer;
use waymesh_proto::limits::FRAME_MAX_BYTES;

use super::window;
use crate::control::{ProxyEnvironment, TlsTrust};

/// Largest datagram that the stack makes, bytes: fits IPv6's least MTU of 1,280
/// (RFC 8200 §5) with its header, UDP's, and those of a TURN Send indication
/// to an IPv6 peer (RFC 8656 §11.1), so that no path is a black hole.
const DATAGRAM_MAX_BYTES: usize = 1_180;

/// Longest pause between two consent checks of a quiet pair. Halves the idle
/// CPU; liveness is core's, which is faster than any setting here. It also holds
/// NAT bindings, which are forgotten after 30 s and more (RFC 4787 §4.3 asks for 120 s).
pub(super) const STUN_RTO_MAX: Duration = Duration::from_secs(15);

/// Unanswered checks after which ICE gives a pair up: with [`STUN_RTO_MAX`]
/// about ten minutes, so that a link survives a sleep or an outage in which core
/// keeps it. Core ends what it does not want to keep.
const STUN_RETRANSMITS_MAX: usize = 45;

/// Which candidates are offered and used, as a browser's `iceTransportPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CandidatePolicy {
    /// All that are found.
    #[default]
    All,
    /// Relayed ones alone: peers do not learn this host's addresses.
    RelayOnly,
}

/// Where SCTP's handshake takes place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SctpHandshake {
    /// In the descriptions (draft-hancke-tsvwg-snap): two round trips less. A
    /// peer that does not know of it gets the other one.
    #[default]
    InDescriptions,
    /// After DTLS's, over the new link (RFC 9260 §5.1). To measure what the other saves.
    OnTheWire,
}

/// How an endpoint opens its socket and finds its candidates.
#[derive(Debug, Clone, Default)]
pub struct EndpointConfig {
    /// The address to bind to; none binds to all addresses of both IP families.
    pub ip: Option<IpAddr>,
    /// The UDP port; 0 lets the system choose.
    pub port: u16,
    /// Offers loopback addresses alone, for tests and for meshes on one machine.
    pub loopback_only: bool,
    /// Which candidates are offered and used.
    pub candidates: CandidatePolicy,
    /// Where SCTP's handshake takes place.
    pub sctp: SctpHandshake,
    /// STUN and TURN servers beside those that [`Endpoint::set_servers`](super::Endpoint::set_servers) tells.
    pub servers: Vec<IceServer>,
    /// Whom TLS trusts to vouch for TURN servers.
    pub tls: TlsTrust,
    /// The proxies on the way to TURN servers over TCP and TLS.
    pub proxies: ProxyEnvironment,
}

/// An endpoint could not open its socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket could not be opened or bound; another port or address may work.
    #[error("no UDP socket on port {port}: {source}")]
    Socket {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The crypto library made no certificate; nothing that the caller can do.
    #[error("no DTLS certificate could be made")]
    Certificate,
}

/// The configuration that every session starts from, with one certificate for all.
pub(super) fn template(sctp: SctpHandshake) -> Result<RtcConfig, BindError> {
    let crypto: Arc<CryptoProvider> = Arc::new(str0m::crypto::from_feature_flags());
    let certificate: DtlsCert = crypto
        .dtls_provider
        .generate_certificate()
        .ok_or(BindError::Certificate)?;
    let mut config = RtcConfig::new()
        .clear_codecs()
        .set_crypto_provider(crypto)
        .set_dtls_cert(certificate)
        .set_dtls_version(DtlsVersion::Dtls12)
        .set_snap_enabled(sctp == SctpHandshake::InDescriptions)
        .set_mtu(DATAGRAM_MAX_BYTES..=DATAGRAM_MAX_BYTES + 100)
        .set_sctp_max_buffered_amount(window::WINDOW_MAX_BYTES)
        .set_sctp_max_message_size(FRAME_MAX_BYTES as u32);
    config.set_max_stun_rto(STUN_RTO_MAX);
    config.set_max_stun_retransmits(STUN_RETRANSMITS_MAX);
    Ok(config)
}
