//! A training step: the network, what is minimised, and the optimiser.

mod batches;
mod divergence;
mod memory;
mod objective;
mod optimiser;
mod preview;
mod schedule;
mod snapshot;
mod trainer;

pub use batches::{AHEAD, loader, refits};
pub use divergence::{MOST_ROLLBACKS, NotFinite, ROLLBACK_RATE, collapsed};
pub use memory::keep_freed_memory;
pub use objective::Objective;
use optimiser::Optimiser;
pub use preview::preview;
pub use snapshot::Snapshot;
pub use trainer::Trainer;
