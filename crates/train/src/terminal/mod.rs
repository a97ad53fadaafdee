//! The program and whoever started it: what it says, and how it is told to stop.

mod interrupt;
mod progress;
mod usage;
mod voice;

pub use interrupt::{INTERRUPTED, Interrupt};
pub use progress::{StepProgress, picture_bar};
pub use usage::{UsageError, usage};
pub use voice::{Voice, VoiceArgs, print, tell};
