#![expect(unsafe_code, reason = "signals")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::scratch::Scratch;

/// `train serve` on a free port; it is killed if a test fails before it has stopped it.
pub struct Service(Option<Child>, String);

impl Service {
    pub fn start(scratch: &Scratch, flags: &str) -> Self {
        let mut child = scratch
            .command(&format!("serve run --port 0 --json {flags}"))
            .env_remove("TRAIN_API_KEY")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        Self(Some(child), said["address"].as_str().unwrap().into())
    }

    /// What a request with these header lines and no body is answered with.
    fn get(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.1).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The status and the JSON that a form with the pictures as its fields is answered with.
    pub fn post(&self, path: &str, fields: &[(&str, &Path)]) -> (String, Value) {
        let mut body = Vec::new();
        for (name, picture) in fields {
            let head = format!(
                "--edge\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\r\n"
            );
            body.extend(head.as_bytes());
            body.extend(std::fs::read(picture).unwrap());
            body.extend(b"\r\n");
        }
        body.extend(b"--edge--\r\n");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(&self.1).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().into();
        (status, serde_json::from_str(body).unwrap())
    }

    pub fn stop(mut self) -> (Option<i32>, String) {
        let child = self.0.take().unwrap();
        // SAFETY: it touches no memory; the child has not been waited for, so its number is its own.
        let sent = unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
        assert_eq!(sent, 0);
        let ended = child.wait_with_output().unwrap();
        (
            ended.status.code(),
            String::from_utf8(ended.stderr).unwrap(),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_service_gives_the_verdicts_that_the_command_gives() {
    let scratch = Scratch::with_run();
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures");
    let gallery = scratch.path("gallery/threes");
    std::fs::create_dir_all(&gallery).unwrap();
    std::fs::copy(pictures.join("three.png"), gallery.join("three.png")).unwrap();
    let three = &gallery.join("three.png");
    let seven = &scratch.path("seven.png");
    std::fs::copy(pictures.join("seven.png"), seven).unwrap();

    let service = Service::start(&scratch, "--gallery gallery");
    let (status, verified) = service.post("/verify", &[("a", three), ("b", seven)]);
    assert_eq!(status, "200", "{verified}");
    let command = "verify run gallery/threes/three.png seven.png --json";
    let said: Value = serde_json::from_str(&scratch.succeeds(command).stdout).unwrap();
    let bits = |value: &Value| (value.as_f64().unwrap() as f32).to_bits();
    assert_eq!(bits(&verified["distance"]), bits(&said["distance"]));
    assert_eq!(verified["threshold"], said["threshold"]);
    assert_eq!(verified["same"], said["same"]);
    let far = verified["far_at_threshold"].as_f64();
    assert!(
        far.is_some_and(|far| (0.0..=1.0).contains(&far)),
        "{verified}"
    );
    // The scratch run's embedding has four dimensions, so its map is a projection.
    assert_eq!(verified["a"]["embedding"].as_array().unwrap().len(), 4);
    assert_eq!(verified["a"]["place"].as_array().unwrap().len(), 2);

    let (_, found) = service.post("/search", &[("x", three)]);
    assert_eq!(found["neighbours"][0]["name"], "threes/three.png");
    assert_eq!(found["neighbours"][0]["distance"], 0.0);

    let text = scratch.path("quick.toml");
    let (status, refused) = service.post("/verify", &[("a", three), ("b", &text)]);
    assert_eq!(status, "422");
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("cannot be read as a picture"), "{error}");

    let (code, stderr) = service.stop();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

/// Pictures with a bent line each, no two alike, in files of several sizes.
fn write_lines(scratch: &Scratch, count: u32) -> Vec<PathBuf> {
    let line = |number: u32| {
        let mut picture = image::GrayImage::new(30 + number % 7, 40 + number % 5);
        for y in 5..35 {
            let x = 8 + (y * (number % 6) + number * number.abs_diff(y) / 8) / 16 % 15;
            for x in x..x + 2 + number % 3 {
                picture.put_pixel(x, y, [(200 + number) as u8].into());
            }
        }
        let path = scratch.path(&format!("{number}.png"));
        picture.save(&path).unwrap();
        path
    };
    (0..count).map(line).collect()
}

#[test]
fn many_at_once_get_the_bits_that_the_command_gives() {
    let scratch = Scratch::with_run();
    let pictures = write_lines(&scratch, 24);
    let pairs: Vec<(usize, usize)> = (0..24).flat_map(|a| (0..24).map(move |b| (a, b))).collect();
    let row = |(a, b): &(usize, usize)| format!("{a}.png,{b}.png\n");
    let list: String = pairs.iter().map(row).collect();
    scratch.write("pairs.csv", format!("a,b\n{list}"));
    let said = scratch
        .succeeds("verify run --pairs pairs.csv --json")
        .stdout;
    let bits = |value: &Value| (value.as_f64().unwrap() as f32).to_bits();
    let expected: Vec<_> = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|judged| (bits(&judged["distance"]), judged["verdict"] == "same"))
        .collect();
    assert_eq!(expected.len(), pairs.len());
    let distances: BTreeSet<_> = expected.iter().map(|(distance, _)| distance).collect();
    // One that was given to another request would be seen; a picture is at 0 from itself.
    assert_eq!(distances.len(), 24 * 23 / 2 + 1);

    let service = &Service::start(&scratch, "");
    let (next, pictures, expected) = (&AtomicUsize::new(0), &pictures, &expected);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while let Some(&(a, b)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fields = [("a", &*pictures[a]), ("b", &*pictures[b])];
                    let (status, answer) = service.post("/verify", &fields);
                    assert_eq!(status, "200", "{answer}");
                    let found = (bits(&answer["distance"]), answer["same"] == true);
                    assert_eq!(found, expected[a * 24 + b], "{a} and {b}");
                }
            });
        }
    });
}

#[test]
fn only_an_address_that_was_asked_for_is_open_to_the_network() {
    let scratch = Scratch::with_run();
    let service = Service::start(&scratch, "");
    assert!(service.1.starts_with("127.0.0.1:"), "{}", service.1);
    assert_eq!(service.stop().1, "");

    let service = Service::start(&scratch, "--listen 0.0.0.0");
    let (code, stderr) = service.stop();
    assert_eq!(code, Some(0));
    assert!(
        stderr.starts_with("warning: whoever reaches this machine"),
        "{stderr}"
    );
    scratch.write("key", "0123456789abcdef\n");
    let service = Service::start(&scratch, "--listen 0.0.0.0 --api-key-file key");
    let (_, stderr) = service.stop();
    assert!(
        stderr.starts_with("warning: what is sent to 0.0.0.0"),
        "{stderr}"
    );
}

#[test]
fn each_request_is_a_line_of_the_log() {
    let scratch = Scratch::with_run();
    let picture = &write_lines(&scratch, 1)[0];
    let service = Service::start(&scratch, "--log json --path-prefix /same");
    assert_eq!(service.post("/same/embed", &[("x", picture)]).0, "200");
    assert_eq!(service.post("/same/verify", &[("a", picture)]).0, "400");
    let (code, stderr) = service.stop();
    assert_eq!(code, Some(0));
    let lines = stderr
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    for (line, (route, status)) in lines.iter().zip([("/embed", 200), ("/verify", 400)]) {
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "request");
        assert_eq!(line["method"], "POST");
        assert_eq!(line["route"], route);
        assert_eq!(line["status"], status);
        let milliseconds = line["milliseconds"].as_f64().unwrap();
        assert!(milliseconds > 0.0 && milliseconds < 60e3);
        assert!(line["timestamp"].as_str().unwrap().starts_with("20"));
    }
    assert_eq!(lines.len(), 2, "{stderr}");
}

#[test]
fn a_key_is_asked_for_and_never_told() {
    let scratch = Scratch::with_run();
    let key = "correct-horse-battery";
    scratch.write("secret", format!("{key}\n"));
    let flags = "--log plain --api-key-file secret --allow-host a.example";
    let service = Service::start(&scratch, flags);
    let host = "Host: a.example\r\n";
    let refused = service.get("/metrics", host);
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    let right = format!("{host}Authorization: Bearer {key}\r\n");
    let metrics = service.get("/metrics", &right);
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    // Nor is what this machine's folders are called.
    let health = service.get("/health", host);
    let (_, body) = health.split_once("\r\n\r\n").unwrap();
    let health: Value = serde_json::from_str(body).unwrap();
    let fingerprint = health["model"]["fingerprint"].as_str().unwrap();
    assert!(fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let folder = scratch.path("run");
    assert!(
        !body.contains("\"run\"") && !body.contains(folder.to_str().unwrap()),
        "{body}"
    );
    let (_, stderr) = service.stop();
    assert!(
        stderr.contains("status=401") && stderr.contains("status=200"),
        "{stderr}"
    );
    assert!(!stderr.contains(key) && !metrics.contains(key) && !refused.contains(key));
}

#[test]
fn the_environment_may_have_the_key() {
    let scratch = Scratch::with_run();
    let short = scratch
        .command("serve run --port 0")
        .env("TRAIN_API_KEY", "short")
        .output()
        .unwrap();
    let said = String::from_utf8(short.stderr).unwrap();
    assert_eq!(short.status.code(), Some(2), "{said}");
    assert!(
        said.contains("TRAIN_API_KEY: an API key has 16 or more"),
        "{said}"
    );
    assert!(!said.contains("short"), "{said}");
}

#[test]
fn a_service_that_cannot_start_says_why() {
    let scratch = Scratch::with_run();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    scratch.refuses(
        1,
        &format!("serve run --port {port}"),
        &[&format!("cannot listen on 127.0.0.1:{port}: ")],
    );
    scratch.write("short", "0123456789abcde");
    let serve = |flags| format!("serve run --port 0 --api-key-file {flags}");
    scratch.refuses(2, &serve("short"), &["short: an API key has 16 or more"]);
    scratch.refuses(1, &serve("nowhere"), &["cannot read nowhere"]);
    for (flags, why) in [
        ("--allow-origin example.org", "an origin is http://"),
        ("--allow-host http://a", "a host is a name"),
        ("--path-prefix same/", "a path prefix starts with a slash"),
    ] {
        scratch.refuses_usage(&format!("serve run --port 0 {flags}"), &[why]);
    }
    std::fs::create_dir(scratch.path("empty")).unwrap();
    let line = "serve run --port 0 --gallery empty";
    scratch.refuses(1, line, &["empty has no pictures in it"]);
}
