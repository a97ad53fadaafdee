//! Keeps other web sites out, and whoever has no key.
//!
//! A page of another site can make its visitor's browser send a form to this server, and by pointing
//! a name of its own at 127.0.0.1 (DNS rebinding) can read the answers too. So a server that listens
//! on loopback only answers requests whose `Host` is loopback or has been allowed, and a request with an
//! `Origin` must come from the host that it is sent to, or from one that has been allowed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::{Access, without_port};
use crate::api_error::ApiError;

/// What the guards go by.
pub struct Rules {
    pub access: Access,
    /// Whether the server only listens on loopback.
    pub loopback: bool,
}

/// Lets a request through if it is sent to a right host, from a right page.
pub async fn guard(State(rules): State<Arc<Rules>>, request: Request, next: Next) -> Response {
    let Rules { access, loopback } = &*rules;
    let host = text(request.headers(), HOST).unwrap_or_default();
    let named = || is_loopback(host) || access.hosts.iter().any(|allowed| allowed.is(host));
    if *loopback && !named() {
        let why = "this service does not answer to this host name";
        return ApiError::new(StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    let foreign = text(request.headers(), ORIGIN).is_some_and(|origin| {
        let from = origin.split_once("://").map(|(_, from)| from);
        from != Some(host) && !access.origins.iter().any(|allowed| allowed.is(origin))
    });
    if foreign {
        let why = "requests from other sites' pages are refused";
        return ApiError::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// Lets a request through if it has the key, where there is one.
pub async fn ask_for_key(
    State(rules): State<Arc<Rules>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(key) = &rules.access.key else {
        return next.run(request).await;
    };
    let sent = text(request.headers(), AUTHORIZATION).and_then(|sent| sent.split_once(' '));
    match sent {
        Some((scheme, sent)) if scheme.eq_ignore_ascii_case("bearer") && key.is(sent.trim()) => {
            next.run(request).await
        }
        _ => {
            let why = "this service needs its API key, as the header Authorization: Bearer KEY";
            let mut response = ApiError::new(StatusCode::UNAUTHORIZED, why).into_response();
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            response
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a `Host` header names this machine's loopback, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let inside = name.strip_prefix('[').map(|rest| rest.strip_suffix(']'));
    let address = inside.unwrap_or(Some(name)).unwrap_or_default();
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn names_of_loopback_are_told_from_others() {
        for host in [
            "localhost",
            "LocalHost:8787",
            "127.0.0.1:1",
            "127.1.2.3",
            "[::1]:8787",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org:8787",
            "10.0.0.1",
            "[::2]",
            "[::1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
