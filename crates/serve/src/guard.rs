//! Keeps other web sites out.
//!
//! A page of another site can make its visitor's browser send a form to this server, and by pointing
//! a name of its own at 127.0.0.1 (DNS rebinding) can read the answers too. So a server that listens
//! on loopback only answers requests whose `Host` is loopback, and a request with an `Origin` must
//! come from the host that it is sent to.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api_error::ApiError;

/// Lets a request through or refuses it; `loopback`: the server only listens on loopback.
pub async fn guard(State(loopback): State<bool>, request: Request, next: Next) -> Response {
    let host = text(request.headers(), HOST).unwrap_or_default();
    if loopback && !is_loopback(host) {
        let why = "this service answers to localhost alone";
        return ApiError::new(StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    let foreign = text(request.headers(), ORIGIN).is_some_and(|origin| {
        origin
            .split_once("://")
            .is_none_or(|(_, from)| from != host)
    });
    if foreign {
        let why = "requests from other sites' pages are refused";
        return ApiError::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a `Host` header names this machine's loopback, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
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
