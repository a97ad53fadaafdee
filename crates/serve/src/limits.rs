use std::thread::available_parallelism;
use std::time::Duration;

/// How much a client, or all clients together, may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes in a request's body.
    pub body: usize,
    /// Bytes of request bodies in memory at a time; further requests wait.
    pub held: usize,
    /// Pictures in a request for embeddings.
    pub pictures: usize,
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Pictures prepared at a time, each on a thread of its own.
    pub preparing: usize,
    /// Pictures that are being prepared, wait to be embedded or are embedded; further requests wait.
    pub waiting: usize,
    /// Pictures of a batch from which on no further request is added to it.
    pub batch: usize,
    /// How long a request's head may take to arrive, and a connection may be idle.
    pub head: Duration,
    /// How long a request's body may take to arrive.
    pub upload: Duration,
    /// How long a request may wait for its turn.
    pub wait: Duration,
    /// How long running requests may take to finish when the server stops.
    pub stopping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            body: 16 << 20,
            held: 256 << 20,
            pictures: 64,
            // Below the 1,024 open files that many systems allow a program.
            connections: 512,
            preparing: cores,
            waiting: 1024,
            // More would be no faster, and answered later.
            batch: 32 * cores,
            head: Duration::from_secs(10),
            upload: Duration::from_secs(30),
            wait: Duration::from_secs(60),
            stopping: Duration::from_secs(30),
        }
    }
}
