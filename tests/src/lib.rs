//! What the tests that cross crates share.

pub mod compare;
pub mod gradient_check;
pub mod pairs;
