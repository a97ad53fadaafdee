//! What the program `train` is made of.
//!
//! [`run`] is the program. [`Trainer`] is its training step, from images and labels to updated
//! weights, for programs that measure it or train in a loop of their own; they should call
//! [`keep_freed_memory`] too. [`settings`] reads and checks the settings of a run.
//!
//! A module uses those above it alone:
//!
//! | module | what it has |
//! |---|---|
//! | `terminal` | what the program says, and how it is told to stop |
//! | `device` | where to compute |
//! | `settings` | every setting, once |
//! | `training` | a step: objective, optimiser, schedule |
//! | `judging` | how good a network is |
//! | `run` | a run's folder, log and checkpoints |
//! | `results` | summary, report, files for TensorBoard |
//! | `fit` | a run from its first step to its last |
//! | `commands` | the command line, a file a command |

mod commands;
mod device;
mod fit;
mod judging;
mod results;
mod run;
pub mod settings;
mod terminal;
mod training;

pub use commands::run;
pub use settings::{OptimiserConfig, Rule};
pub use training::{NotFinite, Objective, Snapshot, Trainer, keep_freed_memory};
