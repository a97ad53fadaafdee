//! What the tests that cross crates share.

pub mod compare;
pub mod gradient_check;
pub mod pairs;

/// The examples of the README and the book are compiled and run as tests.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/how-to.md")]
    struct HowTo;
    #[doc = include_str!("../../docs/design.md")]
    struct Design;
}
