//! Paths and headers of the registry's HTTP API (`spec/http.md`).

/// The agents that the registry knows; for members only.
pub const AGENTS_PATH: &str = "/v1/agents";

/// Whether the registry serves, and which it is; for everybody.
pub const HEALTH_PATH: &str = "/v1/health";

/// Counters for Prometheus; for programs on the same machine only.
pub const METRICS_PATH: &str = "/metrics";

/// Where a `POST` opens a long-poll session.
pub const POLL_PATH: &str = "/v1/poll";

/// Where a `POST` carries messages from the node to the registry.
pub const POLL_IN_PATH: &str = "/v1/poll/in";

/// Where a `GET` waits for messages from the registry to the node.
pub const POLL_OUT_PATH: &str = "/v1/poll/out";

/// Names the long-poll session of a request.
pub const SESSION_HEADER: &str = "waymesh-session";

/// Carries the proof that the sender holds a key (RFC 9449 §4.1).
pub const PROOF_HEADER: &str = "dpop";

/// Carries the nonce that the next proof must contain (RFC 9449 §8).
pub const PROOF_NONCE_HEADER: &str = "dpop-nonce";

/// The scheme of the `Authorization` header before a member's certificate (RFC 9449 §7.1).
pub const AUTHORIZATION_SCHEME: &str = "DPoP";
