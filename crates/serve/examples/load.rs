//! Asks a service for verdicts from many clients at once: the load of `scripts/compare-serving.sh`.
//!
//! ```text
//! load ADDRESS PAIRS.csv CLIENTS SECONDS
//! ```
//!
//! `PAIRS.csv` has the columns `a`, `b` (pictures in its folder), `distance` and `verdict`, as
//! `train verify --pairs` writes it. Each client keeps one connection to `ADDRESS` (such as
//! `127.0.0.1:8787`) and sends `POST /verify` with a pair as soon as it has the answer to the one before.
//! Every answer must have status 200, the verdict of the list, and its distance to 1e-5. Prints, as JSON, the
//! answers, the seconds from first to last, and the median and 99th percentile of the milliseconds each took.
//! One thread does all of it, so that the service has the other cores.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Bytes, to_bytes};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

/// A request's body, and its right answer.
struct Pair {
    form: Bytes,
    distance: f64,
    same: bool,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, list, clients, seconds] = &arguments[..] else {
        return Err("usage: load ADDRESS PAIRS.csv CLIENTS SECONDS".into());
    };
    let pairs = Arc::new(read(Path::new(list))?);
    let clients: usize = clients.parse()?;
    let time = Duration::from_secs_f64(seconds.parse()?);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let taken = runtime.enable_all().build()?.block_on(async {
        let start = Instant::now();
        let mut asking = JoinSet::new();
        for client in 0..clients {
            let first = client * pairs.len() / clients;
            asking.spawn(ask(
                address.clone(),
                Arc::clone(&pairs),
                first,
                start + time,
            ));
        }
        let mut taken = Vec::new();
        while let Some(asked) = asking.join_next().await {
            taken.extend(asked??);
        }
        Ok::<_, Failure>((taken, start.elapsed()))
    });
    let (mut taken, elapsed) = taken?;
    taken.sort();
    let at = |share: f64| {
        let rank = (share * taken.len() as f64).ceil() as usize;
        taken[rank.max(1) - 1].as_secs_f64() * 1e3
    };
    println!(
        "{}",
        json!({ "answers": taken.len(), "seconds": elapsed.as_secs_f64(), "p50": at(0.5), "p99": at(0.99) })
    );
    Ok(())
}

fn read(list: &Path) -> Result<Vec<Pair>, Failure> {
    let text = fs::read_to_string(list)?;
    let folder = list.parent().ok_or("no folder")?;
    let pair = |line: &str| {
        let [a, b, distance, verdict] = line.split(',').collect::<Vec<_>>()[..] else {
            return Err(Failure::from(format!(
                "not a, b, distance and verdict: {line}"
            )));
        };
        let mut form = Vec::new();
        for (field, name) in [("a", a), ("b", b)] {
            let head = format!(
                "--edge\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\""
            );
            form.extend(head.as_bytes());
            form.extend(b"\r\nContent-Type: image/png\r\n\r\n");
            form.extend(fs::read(folder.join(name))?);
            form.extend(b"\r\n");
        }
        form.extend(b"--edge--\r\n");
        Ok(Pair {
            form: form.into(),
            distance: distance.parse()?,
            same: verdict == "same",
        })
    };
    text.lines().skip(1).map(pair).collect()
}

/// One client: how long each of its requests took.
async fn ask(
    address: String,
    pairs: Arc<Vec<Pair>>,
    first: usize,
    end: Instant,
) -> Result<Vec<Duration>, Failure> {
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let mut taken = Vec::new();
    for pair in pairs.iter().cycle().skip(first) {
        let start = Instant::now();
        if start >= end {
            break;
        }
        let request = Request::post("/verify")
            .header("Host", &address)
            .header("Content-Type", "multipart/form-data; boundary=edge")
            .body(axum::body::Body::from(pair.form.clone()))?;
        connection.ready().await?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = to_bytes(axum::body::Body::new(body), 1 << 20).await?;
        taken.push(start.elapsed());
        let answer: Value = serde_json::from_slice(&body)?;
        let off = answer["distance"]
            .as_f64()
            .map(|found| (found - pair.distance).abs());
        let right = head.status == StatusCode::OK
            && off.is_some_and(|off| off <= 1e-5)
            && answer["same"] == pair.same;
        if !right {
            let (status, expected) = (head.status, pair.distance);
            return Err(format!("{status} {answer}, where the distance is {expected}").into());
        }
    }
    Ok(taken)
}
