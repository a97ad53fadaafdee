//! What an operator needs: counters, other names and origins, a path prefix, a key; and bodies of JSON.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use serve::{Access, Limits};

use crate::running::{Arithmetic, Running, answer, parts, refused};

const KEY: &str = "0123456789abcdef";

fn running(access: Access) -> Running {
    Running::for_those(Arithmetic::default(), Limits::default(), access)
}

/// The head and the body of the answer to a request without a body.
fn ask(server: &Running, request: &str, headers: &[&str]) -> (String, String) {
    let mut stream = server.connect();
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("{request} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    parts(stream)
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap()
}

/// The values of a header.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let named = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value).collect()
}

fn post_json(server: &Running, path: &str, body: &str) -> (u16, Value) {
    let kind = "application/json; charset=utf-8";
    server.send(crate::running::head(path, kind, body.len()) + body)
}

#[test]
fn what_is_asked_is_counted() {
    let server = Running::quick();
    assert_eq!(server.post("/verify", &[("a", "1"), ("b", "2")]).0, 200);
    assert_eq!(server.post("/embed", &[("x", "1"); 3]).0, 200);
    assert_eq!(server.post("/verify", &[("a", "x"), ("b", "y")]).0, 422);
    assert_eq!(server.post("/embed", &[("x", "1e9")]).0, 413);
    assert_eq!(server.get("/nowhere/1").0, 404);
    assert_eq!(server.get("/nowhere/2").0, 404);
    let strange = ["Host: localhost"];
    assert_eq!(status(&ask(&server, "BREW /verify", &strange).0), "405");

    let (head, text) = ask(&server, "GET /metrics", &["Host: localhost"]);
    assert_eq!(status(&head), "200");
    let kind = values(&head, "content-type");
    assert_eq!(kind, ["text/plain; version=0.0.4; charset=utf-8"]);
    let requests = |labels: &str, count| format!("serve_http_requests_total{{{labels}}} {count}");
    for line in [
        &*requests(r#"method="POST",route="/verify",status="200""#, 1),
        &requests(r#"method="POST",route="/verify",status="422""#, 1),
        &requests(r#"method="POST",route="/embed",status="200""#, 1),
        &requests(r#"method="POST",route="/embed",status="413""#, 1),
        &requests(r#"method="GET",route="none",status="404""#, 2),
        &requests(r#"method="other",route="/verify",status="405""#, 1),
        r#"serve_http_request_duration_seconds_count{route="/verify"} 3"#,
        r#"serve_http_request_duration_seconds_bucket{route="/verify",le="+Inf"} 3"#,
        r#"serve_pictures_refused_total{reason="unreadable"} 2"#,
        r#"serve_pictures_refused_total{reason="too_large"} 1"#,
        // Of 2 and of 3 pictures.
        "serve_batch_pictures_count 2",
        "serve_batch_pictures_sum 5.0",
        r#"serve_batch_pictures_bucket{le="1"} 0"#,
        r#"serve_batch_pictures_bucket{le="2"} 1"#,
        r#"serve_batch_pictures_bucket{le="4"} 2"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
}

#[test]
fn another_name_is_answered_to_where_it_is_allowed() {
    let hosts = vec!["verifier.example.org".parse().unwrap()];
    let server = running(Access {
        hosts,
        ..Access::default()
    });
    let from = |headers: &[&str]| ask(&server, "GET /health", headers).0;
    let at = |host| from(&[host]);
    assert_eq!(status(&at("Host: verifier.example.org")), "200");
    assert_eq!(status(&at("Host: Verifier.Example.org:443")), "200");
    assert_eq!(status(&at("Host: localhost")), "200");
    assert_eq!(status(&at("Host: example.org")), "421");
    // Its own page, as a proxy passes it on.
    let own = [
        "Host: verifier.example.org",
        "Origin: https://verifier.example.org",
    ];
    assert_eq!(status(&from(&own)), "200");
    let other = ["Host: verifier.example.org", "Origin: https://example.org"];
    assert_eq!(status(&from(&other)), "403");
}

#[test]
fn another_sites_page_may_ask_where_it_is_allowed() {
    let server = running(Access {
        origins: vec!["https://example.org".parse().unwrap()],
        key: Some(KEY.parse().unwrap()),
        ..Access::default()
    });
    let preflight = |origin: &str| {
        let headers = [
            "Host: localhost",
            origin,
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,content-type",
        ];
        ask(&server, "OPTIONS /verify", &headers).0
    };
    // Browsers send no key with it.
    let head = preflight("Origin: https://example.org");
    assert_eq!(status(&head), "200");
    let origin = "access-control-allow-origin";
    assert_eq!(values(&head, origin), ["https://example.org"]);
    let methods = "access-control-allow-methods";
    assert_eq!(values(&head, methods), ["GET,POST"]);
    let headers = "access-control-allow-headers";
    assert_eq!(values(&head, headers), ["authorization,content-type"]);
    assert_eq!(values(&head, "access-control-max-age"), ["3600"]);
    assert_eq!(values(&head, "access-control-allow-credentials"), [""; 0]);
    for wrong in [
        "http://example.org",
        "https://example.org:8443",
        "https://www.example.org",
    ] {
        let head = preflight(&format!("Origin: {wrong}"));
        assert_eq!(status(&head), "403", "{wrong}");
        assert_eq!(values(&head, origin), [""; 0], "{wrong}");
    }

    let asked = ["Host: localhost", "Origin: https://example.org"];
    let key = format!("Authorization: Bearer {KEY}");
    let (head, _) = ask(&server, "GET /metrics", &[asked[0], asked[1], &key]);
    assert_eq!(status(&head), "200");
    assert_eq!(values(&head, origin), ["https://example.org"]);
    // The page may read that it needs the key.
    let (head, _) = ask(&server, "GET /metrics", &asked);
    assert_eq!(status(&head), "401");
    assert_eq!(values(&head, origin), ["https://example.org"]);
}

#[test]
fn all_paths_are_below_the_prefix() {
    let server = running(Access {
        prefix: "/tools/same".parse().unwrap(),
        ..Access::default()
    });
    assert_eq!(server.get("/tools/same/health").0, 200);
    assert_eq!(
        server
            .post("/tools/same/verify", &[("a", "1"), ("b", "1")])
            .0,
        200
    );
    for outside in ["/health", "/", "/tools/samehealth", "/tools"] {
        refused(server.get(outside), 404, outside);
    }
    let host = ["Host: localhost"];
    let (head, _) = ask(&server, "GET /tools/same", &host);
    assert_eq!(
        (status(&head), values(&head, "location")),
        ("308", vec!["/tools/same/"])
    );
    let (head, page) = ask(&server, "GET /tools/same/", &host);
    assert_eq!(status(&head), "200");
    // Relative to it, as are the page's requests.
    assert!(page.contains(r#"href="page.css""#) && page.contains(r#"src="page.js""#));
    let (_, text) = ask(&server, "GET /tools/same/metrics", &host);
    let counted = r#"serve_http_requests_total{method="POST",route="/verify",status="200"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[test]
fn pictures_are_taken_from_json_too() {
    let server = Running::quick();
    // 1, 3.5 and 2, with and without a data URL.
    let (status, verified) = post_json(&server, "/verify", r#"{"b": "My41", "a": "MQ=="}"#);
    assert_eq!((status, verified["distance"].as_f64()), (200, Some(2.5)));
    assert_eq!(verified["a"]["embedding"], json!([1.0]));
    let several = r#"{"pictures": ["MQ==", "data:image/png;base64,My41", "Mg=="]}"#;
    let (status, seen) = post_json(&server, "/embed", several);
    let seen: Vec<_> = (0..3)
        .map(|i| &seen["pictures"][i]["embedding"][0])
        .collect();
    assert_eq!(
        (status, seen),
        (200, vec![&json!(1.0), &json!(3.5), &json!(2.0)])
    );
    let (status, found) = post_json(&server, "/search?count=1", r#"{"picture": "Mg=="}"#);
    assert_eq!(
        (status, &found["neighbours"][0]["name"]),
        (200, &json!("2"))
    );

    let wrong = |path, body: &str| post_json(&server, path, body);
    refused(wrong("/verify", r#"{"a": "MQ=="}"#), 400, "fields a and b");
    refused(
        wrong("/verify", r#"{"a": "MQ==", "b": "M Q"}"#),
        400,
        "b is not base64",
    );
    refused(
        wrong("/verify", r#"{"a": "MQ==", "b": 1}"#),
        400,
        "a picture in base64",
    );
    refused(wrong("/verify", r#"{"a": "#), 400, "EOF");
    refused(wrong("/embed", r#"["MQ=="]"#), 400, "the JSON");
    refused(wrong("/embed", "{}"), 400, "one picture or more");
    let many = json!({ "x": vec!["MQ=="; 65] }).to_string();
    refused(wrong("/embed", &many), 422, "at most 64");
    // "none".
    let unreadable = r#"{"pictures": ["MQ==", "bm9uZQ=="]}"#;
    refused(wrong("/embed", unreadable), 422, "pictures[1] is no number");

    let limits = Limits {
        body: 2000,
        held: 0,
        ..Limits::default()
    };
    let server = Running::start(Duration::ZERO, limits);
    let fits = |length: usize| format!(r#"{{"x": "{}"}}"#, "MDAw".repeat((length - 9) / 4));
    assert_eq!(post_json(&server, "/embed", &fits(1997)).0, 200);
    refused(post_json(&server, "/embed", &fits(2001)), 413, "2000 bytes");
}

#[test]
fn without_the_key_there_is_the_page_and_no_more() {
    let server = running(Access {
        key: Some(KEY.parse().unwrap()),
        ..Access::default()
    });
    for open in ["/", "/page.css", "/page.js", "/health", "/openapi.json"] {
        assert_eq!(server.get(open).0, 200, "{open}");
    }
    let with = |request: &str, authorization: &str| {
        ask(&server, request, &["Host: localhost", authorization])
    };
    for request in [
        "GET /map",
        "GET /metrics",
        "POST /verify",
        "POST /embed",
        "POST /search",
    ] {
        let (head, body) = with(request, "X: y");
        assert_eq!(status(&head), "401", "{request}");
        assert_eq!(values(&head, "www-authenticate"), ["Bearer"]);
        assert!(
            body.contains("Authorization: Bearer KEY") && !body.contains(KEY),
            "{body}"
        );
    }
    for wrong in [
        "Authorization: 0123456789abcdef",
        "Authorization: Basic 0123456789abcdef",
        "Authorization: Bearer",
        "Authorization: Bearer ",
        "Authorization: Bearer 0123456789abcde",
        "Authorization: Bearer 0123456789abcdef0",
        "Authorization: Bearer 0123456789abcdeg",
    ] {
        assert_eq!(status(&with("GET /metrics", wrong).0), "401", "{wrong}");
    }
    let right = "Authorization: bearer 0123456789abcdef";
    assert_eq!(status(&with("GET /metrics", right).0), "200");

    let request = crate::running::form("/verify", &[("a", "1"), ("b", "1")]);
    let keyed = request.replacen("\r\n", &format!("\r\n{right}\r\n"), 1);
    let mut stream = server.connect();
    stream.write_all(keyed.as_bytes()).unwrap();
    assert_eq!(answer(stream).0, 200);
    refused(server.send(request), 401, "API key");
}
