//! Under which names, from where and with which key the service may be used.

use std::fmt;
use std::str::FromStr;

use axum::http::HeaderValue;
use subtle::ConstantTimeEq;

/// Who may use the service. The default is what a service for its own machine needs: no other names than
/// localhost, no other site's pages, no key.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Names that requests may be sent to, beside localhost. A service that does not listen on loopback
    /// takes any.
    pub hosts: Vec<Host>,
    /// Other sites whose pages may send requests.
    pub origins: Vec<Origin>,
    /// What comes before each path.
    pub prefix: PathPrefix,
    /// What clients have to know.
    pub key: Option<ApiKey>,
}

/// A text that is not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// The name or address in a URL, without a port: `example.org`, `192.0.2.1` or `[2001:db8::1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// Whether a `Host` header names it, with or without a port.
    pub(crate) fn is(&self, header: &str) -> bool {
        without_port(header).eq_ignore_ascii_case(&self.0)
    }
}

/// What a `Host` header says before the port.
pub(crate) fn without_port(header: &str) -> &str {
    let name = match header.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => header,
    };
    // An address in brackets may end in something like a port.
    match header.ends_with(']') {
        true => header,
        false => name,
    }
}

impl FromStr for Host {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bracketed = text.starts_with('[') && text.ends_with(']');
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let named = !text.is_empty() && text.chars().all(allowed);
        match named || bracketed {
            true => Ok(Self(text.into())),
            false => Err(Malformed(
                "a host is a name or an address, such as example.org or [2001:db8::1], without scheme, \
                 port and path",
            )),
        }
    }
}

/// Scheme, host and port of a site: `https://example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    pub(crate) fn is(&self, header: &str) -> bool {
        self.0 == header
    }
}

impl FromStr for Origin {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed(
            "an origin is http:// or https:// and a host, with a port unless it is the usual one, such as \
             https://example.org",
        );
        // As browsers send it.
        let text = text.to_ascii_lowercase();
        let host = text
            .strip_prefix("https://")
            .or(text.strip_prefix("http://"));
        match host {
            Some(host) if without_port(host).parse::<Host>().is_ok() => {
                HeaderValue::from_str(&text)
                    .map(Self)
                    .map_err(|_| malformed)
            }
            _ => Err(malformed),
        }
    }
}

/// What comes before each path: nothing, or `/` and names, such as `/verifier`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// As it was given: empty, or with a slash in front and none at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathPrefix {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let name = |name: &str| {
            !name.is_empty() && name != "." && name != ".." && name.chars().all(allowed)
        };
        match text.strip_prefix('/') {
            Some(names) if names.split('/').all(name) => Ok(Self(text.into())),
            _ => Err(Malformed(
                "a path prefix starts with a slash, ends without one, and has letters, digits and any of \
                 -._~ in between, such as /verifier",
            )),
        }
    }
}

/// A secret that clients send as `Authorization: Bearer KEY`. It is never shown.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// Compares in a time that says nothing about the key but its length.
    pub(crate) fn is(&self, sent: &str) -> bool {
        self.0.as_bytes().ct_eq(sent.as_bytes()).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(not shown)")
    }
}

impl FromStr for ApiKey {
    type Err = Malformed;

    /// Blanks and line ends around it are not part of it.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let key = text.trim();
        match key.len() >= 16 && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(key.into())),
            false => Err(Malformed(
                "an API key has 16 or more printable ASCII characters and no blanks; make one with \
                 `openssl rand -hex 32`",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_ports_and_cases() {
        let host: Host = "Example.org".parse().unwrap();
        assert!(host.is("example.org") && host.is("EXAMPLE.ORG:8787"));
        assert!(!host.is("example.org.net") && !host.is("www.example.org") && !host.is(""));
        let host: Host = "[2001:db8::1]".parse().unwrap();
        assert!(host.is("[2001:db8::1]") && host.is("[2001:DB8::1]:80"));
        assert!(!host.is("[2001:db8::1:80]"));
        for wrong in [
            "",
            "http://example.org",
            "example.org:80",
            "a/b",
            "a b",
            "*",
        ] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        let origin: Origin = "HTTPS://Example.org:8443".parse().unwrap();
        assert!(origin.is("https://example.org:8443") && !origin.is("https://example.org"));
        for wrong in [
            "",
            "*",
            "null",
            "example.org",
            "ftp://example.org",
            "https://a/",
            "https://",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn prefixes_are_plain_paths() {
        for right in ["/x", "/a/b.c-d_e~f"] {
            assert_eq!(right.parse::<PathPrefix>().unwrap().as_str(), right);
        }
        for wrong in ["", "/", "x", "/x/", "//x", "/..", "/{x}", "/a b", "/a?b"] {
            assert!(wrong.parse::<PathPrefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_compared_whole_and_never_shown() {
        let key: ApiKey = " 0123456789abcdef\n".parse().unwrap();
        assert!(key.is("0123456789abcdef"));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789abcdeF",
        ] {
            assert!(!key.is(wrong), "{wrong}");
        }
        assert!(!format!("{key:?}").contains("0123"));
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdéf",
        ] {
            assert!(wrong.parse::<ApiKey>().is_err(), "{wrong}");
        }
    }
}
