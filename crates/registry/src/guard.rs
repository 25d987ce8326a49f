//! Who may speak HTTP to the registry at all: programs, but no web page.
//!
//! Every page in a browser that reaches the registry's port can send requests
//! too. A browser says in `Origin` where a page is from (RFC 6454 §7), on
//! every WebSocket handshake; programs do not send it. A page whose own name
//! was made to lead here (DNS rebinding) is given away by its `Host`, which is
//! none of the registry's.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use waymesh_proto::control::Origin;
use waymesh_proto::http::PROOF_NONCE_HEADER;
use waymesh_proto::{Code, Fault};

use crate::http::{Front, HttpError};
use crate::server::Ends;

/// The URLs under which the sender of a request may have reached the registry.
#[derive(Debug, Clone)]
pub(crate) struct Own(Arc<[Origin]>);

impl Own {
    /// All of them.
    pub(crate) fn origins(&self) -> Arc<[Origin]> {
        Arc::clone(&self.0)
    }

    /// The URLs of a path; first the one that the request itself names.
    pub(crate) fn urls(&self, path: &str) -> impl Iterator<Item = String> {
        self.0.iter().map(move |origin| format!("{origin}{path}"))
    }
}

/// Lets a request through to its route, or answers it with `unauthorized` or
/// `wrong_registry`. Every answer has a nonce for the next proof.
pub(crate) async fn guard(
    State(front): State<Arc<Front>>,
    mut request: Request,
    next: Next,
) -> Response {
    let own = request
        .extensions()
        .get::<Ends>()
        .map(|ends| front.origins.at(ends.arrived))
        .unwrap_or_default();
    let mut response = match check(request.headers(), own) {
        Ok(own) => {
            request.extensions_mut().insert(own);
            next.run(request).await
        }
        Err(error) => {
            front.metrics.http_refused.add();
            error.into_response()
        }
    };
    let nonce = HeaderValue::try_from(front.proofs.nonce(Instant::now()));
    response.headers_mut().insert(
        PROOF_NONCE_HEADER,
        nonce.expect("base64url is visible ASCII"),
    );
    response
}

fn check(headers: &HeaderMap, own: Vec<Origin>) -> Result<Own, HttpError> {
    if headers.contains_key(header::ORIGIN) {
        let fault = Fault::new(Code::Unauthorized, "the registry does not serve web pages")
            .with_hint("connect with a program that sends no Origin header");
        return Err(HttpError::forbidden(fault));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
        (Some(Ok(host)), None) => reached(host, own),
        _ => None,
    }
    .ok_or_else(|| {
        let fault = Fault::new(
            Code::WrongRegistry,
            "the Host header is not an address of this registry",
        )
        .with_hint("use the URL that the registry prints at its start, or give it this one as --public-url");
        HttpError::new(StatusCode::MISDIRECTED_REQUEST, fault)
    })
}

/// The origins, that of the host first; `None` when it is of none. The default
/// port of either scheme may be left out.
fn reached(host: &str, mut own: Vec<Origin>) -> Option<Own> {
    let is_named = |origin: &Origin| {
        ["http", "https"]
            .iter()
            .filter_map(|scheme| format!("{scheme}://{host}").parse().ok())
            .any(|named: Origin| named == *origin)
    };
    let named = own.iter().position(is_named)?;
    own.swap(0, named);
    Some(Own(own.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<Origin> {
        ["https://mesh.example", "http://127.0.0.1:7700"]
            .map(|url| url.parse().expect("an origin"))
            .to_vec()
    }

    #[test]
    fn only_the_own_addresses_are_taken_for_a_host() {
        for host in ["127.0.0.1:7700", "mesh.example", "Mesh.Example:443"] {
            assert!(reached(host, own()).is_some(), "{host}");
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
            assert!(reached(host, own()).is_none(), "{host}");
        }
    }

    #[test]
    fn the_url_that_was_used_is_tried_first() {
        let own = reached("127.0.0.1:7700", own()).expect("an own address");
        let urls: Vec<_> = own.urls("/x").collect();
        assert_eq!(urls, ["http://127.0.0.1:7700/x", "https://mesh.example/x"]);
    }

    #[test]
    fn a_request_without_a_host_or_with_two_is_refused() {
        let mut headers = HeaderMap::new();
        assert!(check(&headers, own()).is_err());
        headers.append(header::HOST, "mesh.example".parse().expect("a value"));
        assert!(check(&headers, own()).is_ok());
        headers.append(header::HOST, "mesh.example".parse().expect("a value"));
        assert!(check(&headers, own()).is_err());
    }
}
