//! Keeps other web sites out.
//!
//! A page of another site can have its visitor's browser send a form here, and, by pointing a name
//! of its own at 127.0.0.1 (DNS rebinding), read the answers too. So the `Host` has to be loopback
//! where the server is, and a request with an `Origin` has to come from the very host it goes to.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::refusal::Refusal;

/// Lets a request through, or not; `loopback` says whether the server listens on loopback alone.
pub async fn guard(State(loopback): State<bool>, request: Request, next: Next) -> Response {
    let host = text(request.headers(), HOST).unwrap_or_default();
    if loopback && !is_loopback(host) {
        let why = "this service answers to localhost alone";
        return Refusal::new(StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    let foreign = text(request.headers(), ORIGIN).is_some_and(|origin| {
        origin
            .split_once("://")
            .is_none_or(|(_, from)| from != host)
    });
    if foreign {
        let why = "requests from other sites' pages are refused";
        return Refusal::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a `Host` header names this machine's loopback, with whatever port.
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
