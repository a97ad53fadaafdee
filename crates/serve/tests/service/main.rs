//! The service as its clients see it: a real server on a free port, and bytes over sockets.

mod operation;
mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serve::Limits;

use crate::running::{Arithmetic, Running, answer, form, head, refused};

#[test]
fn a_thousand_requests_at_once_are_all_answered_rightly() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Both ends of each connection are this process's.
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(4096, |most| most.min(4096));
    let raised = Rlimit {
        current: Some(current),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();

    let server = Running::quick();
    let numbers = 0..1000;
    // All have sent their request before the first reads its answer.
    let asked: Vec<TcpStream> = numbers
        .clone()
        .map(|number| {
            let mut stream = server.connect();
            let request = form("/verify", &[("a", &number.to_string()), ("b", "0.25")]);
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    for (number, stream) in numbers.zip(asked) {
        let (status, answer) = answer(stream);
        assert_eq!(status, 200, "{number}: {answer}");
        let distance = (f64::from(number) - 0.25).abs();
        assert_eq!(answer["distance"].as_f64(), Some(distance), "{number}");
        assert_eq!(answer["same"].as_bool(), Some(distance <= 1.0), "{number}");
    }
}

#[test]
fn pictures_are_embedded_in_order_and_searched() {
    let server = Running::quick();
    let (status, answer) = server.post("/embed", &[("x", "3"), ("x", "1"), ("y", "2")]);
    let seen: Vec<_> = answer["pictures"].as_array().unwrap().iter().collect();
    let seen: Vec<_> = seen
        .iter()
        .map(|p| p["embedding"][0].as_f64().unwrap())
        .collect();
    assert_eq!((status, seen), (200, vec![3.0, 1.0, 2.0]));

    let (status, answer) = server.post("/search?count=2", &[("x", "1.75")]);
    assert_eq!(status, 200);
    assert_eq!(answer["neighbours"].as_array().unwrap().len(), 2);
    assert_eq!(answer["neighbours"][0]["name"], "2");
    assert_eq!(
        server.get("/health").1["model"]["fingerprint"],
        "arithmetic"
    );
}

#[test]
fn wrong_requests_are_told_what_is_wrong() {
    let server = Running::quick();
    refused(server.get("/nowhere"), 404, "/nowhere");
    refused(server.get("/verify"), 405, "does not take GET");
    refused(server.get("/map"), 404, "no map");
    refused(server.post("/health", &[]), 405, "does not take POST");
    refused(server.post("/verify", &[("a", "1")]), 400, "fields a and b");
    refused(
        server.post("/verify", &[("a", "1"), ("a", "1")]),
        400,
        "fields a and b",
    );
    let three = [("a", "1"), ("b", "1"), ("c", "1")];
    refused(server.post("/verify", &three), 422, "at most 2");
    refused(
        server.post("/verify", &[("a", "1"), ("b", "x")]),
        422,
        "b is no number",
    );
    refused(
        server.post("/verify", &[("a", "1"), ("b", "1e9")]),
        413,
        "b is too large",
    );
    refused(
        server.post("/verify", &[("a", "1"), ("b", "panic")]),
        500,
        "failed",
    );
    refused(server.post("/embed", &[]), 400, "one picture or more");
    refused(server.post("/embed", &[("x", "1"); 65]), 422, "at most 64");
    refused(server.post("/search", &[]), 400, "send a picture");
    refused(
        server.post("/search?count=0", &[("x", "1")]),
        400,
        "from 1 to 100",
    );
    refused(
        server.post("/search?count=many", &[("x", "1")]),
        400,
        "from 1 to 100",
    );
    refused(
        server.send(head("/verify", "text/plain", 0)),
        415,
        "multipart/form-data",
    );
    refused(
        server.send(head("/verify", "multipart/form-data", 0)),
        400,
        "boundary",
    );
    let kind = "multipart/form-data; boundary=edge";
    refused(server.send(head("/verify", kind, 7) + "garbage"), 400, "");
    // One right request among all these is still answered.
    assert_eq!(server.post("/verify", &[("a", "1"), ("b", "1")]).0, 200);
}

#[test]
fn bodies_over_the_limit_are_refused_announced_or_not() {
    let limits = Limits {
        body: 2000,
        ..Limits::default()
    };
    let server = Running::start(Duration::ZERO, limits);
    let kind = "multipart/form-data; boundary=edge";
    refused(server.send(head("/embed", kind, 2001)), 413, "2000 bytes");

    let long = "1".repeat(3000);
    let request = form("/embed", &[("x", &long)]);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let (head, _) = head.split_once("Content-Length").unwrap();
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    refused(server.send(chunked), 413, "2000 bytes");
}

#[test]
fn slow_clients_are_cut_off_and_hold_up_nobody() {
    let limits = Limits {
        head: Duration::from_millis(300),
        upload: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Running::start(Duration::ZERO, limits);
    let mut silent: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for (i, stream) in silent.iter_mut().enumerate() {
        // Nothing at all, or half a head.
        if i % 2 == 0 {
            stream
                .write_all(b"GET /health HTTP/1.1\r\nHost: local")
                .unwrap();
        }
    }
    assert_eq!(server.get("/health").0, 200);
    for mut stream in silent {
        // The end of the connection, long before hyper's own limit of 30 s; a read that times out is
        // an error.
        let soon = Some(Duration::from_secs(10));
        stream.set_read_timeout(soon).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"));
    }
    let request = form("/embed", &[("x", "1")]);
    refused(server.send(&request[..request.len() - 10]), 408, "to come");
}

#[test]
fn a_full_service_says_so() {
    let limits = Limits {
        wait: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = Running::start(Duration::from_secs(1), limits);
    let mut first = server.connect();
    first
        .write_all(form("/embed", &[("x", "1")]).as_bytes())
        .unwrap();
    thread::sleep(Duration::from_millis(300));
    refused(server.post("/embed", &[("x", "2")]), 503, "busy");
    assert_eq!(answer(first).0, 200);
}

/// For as long as the server takes to read what has been sent to it, several times over.
fn rest() {
    thread::sleep(Duration::from_millis(300));
}

/// A server whose embedding thread is held up by the batch of one request, which is returned too.
fn held_up(judge: &Arithmetic) -> (Running, TcpStream) {
    let server = Running::with(judge.clone(), Limits::default());
    let first = server.ask("/embed", &[("x", "0")]);
    while judge.batches.lock().unwrap().is_empty() {
        thread::yield_now();
    }
    (server, first)
}

#[test]
fn requests_that_wait_are_embedded_together() {
    let judge = Arithmetic::default();
    let held = judge.gate.lock().unwrap();
    let (server, first) = held_up(&judge);
    let waiting: Vec<_> = (0..10_u8)
        .map(|number| {
            let number = number.to_string();
            server.ask("/verify", &[("a", &number), ("b", "0.5")])
        })
        .collect();
    rest();
    drop(held);
    assert_eq!(answer(first).0, 200);
    for (number, stream) in waiting.into_iter().enumerate() {
        let (status, answer) = answer(stream);
        let distance = (number as f64 - 0.5).abs();
        assert_eq!((status, answer["distance"].as_f64()), (200, Some(distance)));
    }
    assert_eq!(*judge.batches.lock().unwrap(), [1, 20]);
}

#[test]
fn a_batch_ends_at_its_limit() {
    let judge = Arithmetic::default();
    let held = judge.gate.lock().unwrap();
    let limits = Limits {
        batch: 4,
        ..Limits::default()
    };
    let server = Running::with(judge.clone(), limits);
    let first = server.ask("/embed", &[("x", "0")]);
    rest();
    let waiting: Vec<_> = (0..3)
        .map(|_| server.ask("/embed", &[("x", "1"); 3]))
        .collect();
    rest();
    drop(held);
    assert_eq!(answer(first).0, 200);
    assert!(waiting.into_iter().all(|stream| answer(stream).0 == 200));
    assert_eq!(*judge.batches.lock().unwrap(), [1, 6, 3]);
}

#[test]
fn a_picture_that_fails_in_a_batch_fails_alone() {
    let judge = Arithmetic::default();
    let held = judge.gate.lock().unwrap();
    let (server, first) = held_up(&judge);
    let texts = ["1", "-1", "NaN", "none", "2"];
    let waiting = texts.map(|text| server.ask("/verify", &[("a", text), ("b", "1")]));
    rest();
    drop(held);
    assert_eq!(answer(first).0, 200);
    let [one, panicked, no_number, unreadable, two] = waiting.map(answer);
    assert_eq!((one.0, one.1["distance"].as_f64()), (200, Some(0.0)));
    assert_eq!((two.0, two.1["distance"].as_f64()), (200, Some(1.0)));
    refused(panicked, 500, "this request failed");
    refused(no_number, 500, "this request failed");
    refused(unreadable, 422, "a is no number");
    // All four that can be read, and then each of them alone.
    assert_eq!(*judge.batches.lock().unwrap(), [1, 8, 2, 2, 2, 2]);
    assert_eq!(server.post("/embed", &[("x", "1")]).0, 200);
}

#[test]
fn a_client_that_has_left_is_not_waited_for() {
    let judge = Arithmetic::default();
    let held = judge.gate.lock().unwrap();
    let (server, first) = held_up(&judge);
    let left = server.ask("/embed", &[("x", "1"), ("x", "2")]);
    let stayed = server.ask("/embed", &[("x", "3")]);
    rest();
    drop(left);
    rest();
    drop(held);
    assert_eq!(answer(first).0, 200);
    assert_eq!(answer(stayed).0, 200);
    assert_eq!(*judge.batches.lock().unwrap(), [1, 1]);
}

#[test]
fn requests_that_wait_are_answered_when_the_server_stops() {
    let judge = Arithmetic::default();
    let held = judge.gate.lock().unwrap();
    let (server, first) = held_up(&judge);
    let waiting: Vec<_> = (0..50_u8)
        .map(|number| server.ask("/embed", &[("x", &number.to_string())]))
        .collect();
    rest();
    server.stop.store(true, Ordering::Relaxed);
    rest();
    drop(held);
    drop(server);
    assert_eq!(answer(first).0, 200);
    for (number, stream) in waiting.into_iter().enumerate() {
        let (status, answer) = answer(stream);
        let seen = answer["pictures"][0]["embedding"][0].as_f64();
        assert_eq!((status, seen), (200, Some(number as f64)));
    }
}

#[test]
fn requests_in_hand_are_finished_when_the_server_stops() {
    let server = Running::start(Duration::from_secs(1), Limits::default());
    let mut stream = server.connect();
    stream
        .write_all(form("/embed", &[("x", "1")]).as_bytes())
        .unwrap();
    thread::sleep(Duration::from_millis(300));
    let address = server.address;
    drop(server);
    let (status, answer) = answer(stream);
    assert_eq!(
        (status, answer["pictures"][0]["embedding"][0].as_f64()),
        (200, Some(1.0))
    );
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn other_sites_get_nothing() {
    let server = Running::quick();
    let from = |host: &str, origin: &str| {
        server.send(format!(
            "GET /health HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: close\r\n\r\n"
        ))
    };
    refused(from("example.org", ""), 421, "does not answer to this host");
    refused(
        from("localhost:1", "Origin: http://example.org\r\n"),
        403,
        "other sites",
    );
    refused(from("localhost:1", "Origin: null\r\n"), 403, "other sites");
    assert_eq!(from("localhost:1", "Origin: http://localhost:1\r\n").0, 200);
}
