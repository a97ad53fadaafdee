//! Where a test has a file operation fail: every write, sync and rename of a run passes here first.

use std::io;

/// Fails if it is this operation's turn to; in the program it never is.
#[cfg(not(test))]
#[inline]
pub fn operation(_: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use test::{fail, operation};

#[cfg(test)]
mod test {
    use super::io;
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static HIT: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Has the operation after `passing` others fail, as on a full disk, and all later ones too. Returns
    /// what `run` returns, and which operation was the first to fail.
    pub fn fail<T>(passing: u32, run: impl FnOnce() -> T) -> (T, Option<&'static str>) {
        LEFT.set(Some(passing));
        HIT.set(None);
        let result = run();
        LEFT.set(None);
        (result, HIT.get())
    }

    pub fn operation(name: &'static str) -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                HIT.set(HIT.get().or(Some(name)));
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
