use std::io;
use std::sync::Arc;

use axum::extract::State;
use tokio::sync::Semaphore;

use crate::judge::Judge;
use crate::limits::Limits;
use crate::pipeline::Pipeline;
use crate::telemetry::Telemetry;

/// Bytes for which one permit of [`Service::room`] stands: a semaphore only counts to 2^32.
pub const ROOM_UNIT: usize = 1024;

/// What every handler needs.
pub struct Service<J: Judge> {
    pub judge: Arc<J>,
    pub limits: Limits,
    /// For request bodies in memory, in units of [`ROOM_UNIT`] bytes.
    pub room: Arc<Semaphore>,
    pub pipeline: Pipeline<J>,
    pub telemetry: Arc<Telemetry>,
}

/// The service as a handler takes it.
pub type Shared<J> = State<Arc<Service<J>>>;

impl<J: Judge> Service<J> {
    /// Starts the threads that prepare and embed pictures.
    pub fn start(judge: J, limits: Limits) -> io::Result<Self> {
        let (judge, telemetry) = (Arc::new(judge), Arc::new(Telemetry::new()));
        // Twice: a body of JSON is there beside the pictures in it.
        let room = limits.held.max(2 * limits.body).div_ceil(ROOM_UNIT);
        Ok(Self {
            pipeline: Pipeline::new(Arc::clone(&judge), Arc::clone(&telemetry), &limits)?,
            judge,
            room: Arc::new(Semaphore::new(room)),
            limits,
            telemetry,
        })
    }
}
