//! What the program `train` is made of.
//!
//! [`run`] is the program. [`Trainer`] is its training step, from images and labels to updated
//! weights, for whoever wants to measure it or to train in a loop of their own; such a program does
//! well to call [`keep_freed_memory`] too.

mod batches;
mod checkpoint;
mod cli;
mod config;
mod device;
mod embed;
mod environment;
mod evaluate;
mod evaluation;
mod events;
mod faults;
mod fit;
#[cfg(fuzzing)]
pub mod fuzzing;
mod in_batch;
mod interrupt;
mod memory;
mod metrics_log;
mod optimiser;
mod pictures;
mod plane;
mod program;
mod progress;
mod projector;
mod report;
mod run_folder;
mod run_report;
mod schedule;
mod search;
mod serve;
mod sheet;
mod summary;
mod trainer;
mod usage;
mod verify;
mod watch;

pub use memory::keep_freed_memory;
pub use optimiser::{OptimiserConfig, Rule};
pub use program::run;
pub use trainer::{Objective, Trainer};
