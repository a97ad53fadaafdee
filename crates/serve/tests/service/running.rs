//! A server of a judge that is no network, and its clients.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use serve::{Access, Judge, JudgeError, Limits, Map, Model, Seen, Server, Verdict};

/// Takes a picture's bytes for a number in text, and that number for its embedding.
#[derive(Clone, Default)]
pub struct Arithmetic {
    pub takes: Duration,
    /// Whoever holds it holds up the embedding.
    pub gate: Arc<Mutex<()>>,
    /// Pictures of each batch, in order.
    pub batches: Arc<Mutex<Vec<usize>>>,
}

/// A number that can be read, but not embedded.
pub const PANICS: f32 = -1.0;

impl Judge for Arithmetic {
    type Prepared = f32;

    fn model(&self) -> Model {
        Model {
            fingerprint: "arithmetic".into(),
            input: [1, 28, 28],
            embedding: 1,
            threshold: 1.0,
            gallery: 3,
            map: false,
        }
    }

    fn prepare(&self, name: &str, bytes: &[u8]) -> Result<f32, JudgeError> {
        let text = std::str::from_utf8(bytes).ok();
        match text.and_then(|text| text.parse().ok()) {
            Some(number) if number >= 1e6 => {
                Err(JudgeError::PictureTooLarge(format!("{name} is too large")))
            }
            Some(number) => Ok(number),
            None if bytes == b"panic" => panic!("as asked"),
            None => Err(JudgeError::Picture(format!("{name} is no number"))),
        }
    }

    fn embed(&self, pictures: &[&f32]) -> Result<Vec<Seen>, JudgeError> {
        self.batches.lock().unwrap().push(pictures.len());
        // A batch that panicked left nothing broken.
        drop(self.gate.lock());
        thread::sleep(self.takes);
        let see = |&&number: &&f32| {
            assert_ne!(number, PANICS, "as asked");
            Seen {
                embedding: vec![number],
                place: None,
                treatment: Vec::new(),
            }
        };
        Ok(pictures.iter().map(see).collect())
    }

    fn verdict(&self, a: &[f32], b: &[f32]) -> Result<Verdict, JudgeError> {
        let distance = (a[0] - b[0]).abs();
        Ok(Verdict {
            same: distance <= 1.0,
            distance,
            threshold: 1.0,
            far_at_threshold: None,
        })
    }

    fn nearest(&self, embedding: &[f32], count: usize) -> Result<Vec<(String, f32)>, JudgeError> {
        let neighbour = |number: u8| {
            let distance = (f32::from(number) - embedding[0]).abs();
            (number.to_string(), distance)
        };
        let mut found: Vec<_> = (0..3).map(neighbour).collect();
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        found.truncate(count);
        Ok(found)
    }

    fn map(&self) -> Option<&Map> {
        None
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start(takes: Duration, limits: Limits) -> Self {
        let judge = Arithmetic {
            takes,
            ..Arithmetic::default()
        };
        Self::with(judge, limits)
    }

    pub fn with(judge: Arithmetic, limits: Limits) -> Self {
        Self::for_those(judge, limits, Access::default())
    }

    pub fn for_those(judge: Arithmetic, limits: Limits, access: Access) -> Self {
        let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let server = Server::listen(any, judge, limits, access).unwrap();
        let address = server.address();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || server.run(|| seen.load(Ordering::Relaxed)));
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    pub fn quick() -> Self {
        Self::start(Duration::ZERO, Limits::default())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // A test that waits for ever says less than one that fails.
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    pub fn send(&self, request: impl AsRef<[u8]>) -> (u16, Value) {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).unwrap();
        answer(stream)
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
    }

    /// Sends a request and does not wait for its answer.
    pub fn ask(&self, path: &str, fields: &[(&str, &str)]) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(form(path, fields).as_bytes()).unwrap();
        stream
    }

    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        self.send(form(path, fields))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

pub fn form(path: &str, fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, text) in fields {
        body += "--edge\r\nContent-Disposition: form-data; ";
        body += &format!("name=\"{name}\"; filename=\"{name}\"\r\n\r\n{text}\r\n");
    }
    body += "--edge--\r\n";
    format!(
        "{}{body}",
        head(path, "multipart/form-data; boundary=edge", body.len())
    )
}

pub fn head(path: &str, kind: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// The head and the body of an answer.
pub fn parts(mut stream: TcpStream) -> (String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{text:?}"));
    (head.to_owned(), body.to_owned())
}

/// The status and the JSON of an answer, `Null` if it is none.
pub fn answer(stream: TcpStream) -> (u16, Value) {
    let (head, body) = parts(stream);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(&body).unwrap_or_default())
}

pub fn refused((status, answer): (u16, Value), expected: u16, why: &str) {
    let error = answer["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{status}: {answer}"));
    assert_eq!(status, expected, "{error}");
    assert!(error.contains(why), "{error:?} does not say {why:?}");
}
