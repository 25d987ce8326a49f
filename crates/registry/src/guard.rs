//! Who may speak HTTP to the registry at all: programs, but no web page.
//!
//! The registry listens on loopback, where every page in a browser of the same
//! machine can send requests too. A browser says in `Origin` where a page is
//! from (RFC 6454 §7), on every WebSocket handshake; programs do not send it.
//! A page whose own name was made to lead here (DNS rebinding) is given away
//! by its `Host`, which is none of the registry's.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use waymesh_proto::control::Origin;
use waymesh_proto::{Code, Fault};

use crate::http::{Front, HttpError};

/// Lets a request through to its route, or answers it with `unauthorized` or `wrong_registry`.
pub(crate) async fn guard(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    match check(request.headers(), &front.identity.origins) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            front.metrics.http_refused.add();
            error.into_response()
        }
    }
}

fn check(headers: &HeaderMap, own: &[Origin]) -> Result<(), HttpError> {
    if headers.contains_key(header::ORIGIN) {
        let fault = Fault::new(Code::Unauthorized, "the registry does not serve web pages")
            .with_hint("connect with a program that sends no Origin header");
        return Err(HttpError(StatusCode::FORBIDDEN, fault));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next().map(|host| host.to_str()), hosts.next()) {
        (Some(Ok(host)), None) if is_own(host, own) => Ok(()),
        _ => {
            let fault = Fault::new(
                Code::WrongRegistry,
                "the Host header is not an address of this registry",
            )
            .with_hint("use the URL that the registry prints at its start, or give it this one as --public-url");
            Err(HttpError(StatusCode::MISDIRECTED_REQUEST, fault))
        }
    }
}

/// Whether the host is that of one of the origins, with the default port of either scheme left out.
fn is_own(host: &str, own: &[Origin]) -> bool {
    ["http", "https"]
        .iter()
        .filter_map(|scheme| format!("{scheme}://{host}").parse().ok())
        .any(|origin: Origin| own.contains(&origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<Origin> {
        ["http://127.0.0.1:7700", "https://mesh.example"]
            .map(|url| url.parse().expect("an origin"))
            .to_vec()
    }

    #[test]
    fn only_the_own_addresses_are_taken_for_a_host() {
        for host in ["127.0.0.1:7700", "mesh.example", "Mesh.Example:443"] {
            assert!(is_own(host, &own()), "{host}");
        }
        for host in [
            "127.0.0.1",
            "127.0.0.1:7701",
            "evil.example:7700",
            "mesh.example:7700",
            "mesh.example.evil",
            "mesh.example/x",
            "x@mesh.example",
            "",
        ] {
            assert!(!is_own(host, &own()), "{host}");
        }
    }

    #[test]
    fn a_request_without_a_host_or_with_two_is_refused() {
        let mut headers = HeaderMap::new();
        let code = |headers: &HeaderMap| check(headers, &own()).err().map(|e| e.1.code);
        assert_eq!(code(&headers), Some(Code::WrongRegistry));
        headers.append(header::HOST, "mesh.example".parse().expect("a value"));
        assert_eq!(code(&headers), None);
        headers.append(header::HOST, "mesh.example".parse().expect("a value"));
        assert_eq!(code(&headers), Some(Code::WrongRegistry));
    }
}
