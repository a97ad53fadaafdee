//! A training step: the network, what is minimised, and the optimiser.

mod batches;
mod divergence;
mod memory;
mod objective;
mod optimiser;
mod schedule;
mod trainer;

pub use batches::{AHEAD, loader};
pub use divergence::{MOST_ROLLBACKS, NotFinite, OnNan, ROLLBACK_RATE, collapsed};
pub use memory::keep_freed_memory;
pub use objective::Objective;
pub use optimiser::{Optimiser, Rule};
pub use schedule::Policy;
pub use trainer::Trainer;
