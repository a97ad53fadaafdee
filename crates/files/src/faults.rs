//! Lets a test fail any file operation of its thread.

use std::cell::Cell;
use std::io;

thread_local! {
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    static FIRST: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Lets `passing` file operations of `run` pass and fails all later ones, as a full disk would.
/// Returns what `run` returns, and which operation was the first to fail.
pub fn fail_after<T>(passing: u32, run: impl FnOnce() -> T) -> (T, Option<&'static str>) {
    LEFT.set(Some(passing));
    FIRST.set(None);
    let result = run();
    LEFT.set(None);
    (result, FIRST.get())
}

pub(crate) fn check(operation: &'static str) -> io::Result<()> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => {
            FIRST.set(FIRST.get().or(Some(operation)));
            Err(io::ErrorKind::StorageFull.into())
        }
        Some(left) => {
            LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}
