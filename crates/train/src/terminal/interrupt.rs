//! Ctrl-C, or a request to terminate (SIGTERM), as a wish: the step in hand is finished first. A
//! second one ends the program at once. SIGHUP is left alone, so that `nohup` works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What a shell sees of a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Whether Ctrl-C, or a request to terminate, has come.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over the signals.
    pub fn listen() -> Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down and raises it.
            flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&seen))
                .and_then(|_| flag::register(signal, Arc::clone(&seen)))
                .context("cannot listen for Ctrl-C")?;
        }
        Ok(Self(seen))
    }

    /// One that never comes.
    #[cfg(test)]
    pub fn never() -> Self {
        Self(Arc::default())
    }

    /// Whether to stop.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
