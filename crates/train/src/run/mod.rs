//! The folder of a run: its settings, its log, its checkpoints, what it was trained by.

mod environment;
mod folder;
mod log;

pub mod checkpoint;
pub use environment::Environment;
pub use folder::{Lock, MODEL, RunFolder, write_whole};
pub use log::{Line, MetricsLog, read_metrics};
