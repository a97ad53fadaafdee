//! What a training step is drawn from: pairs of images, or all images of a few classes.

mod m_per_class;
mod pair_pool;
mod pairs;
mod repeated;

use std::fmt::Debug;

pub use m_per_class::MPerClass;
pub use pair_pool::{Pair, balanced_pairs};
pub use pairs::{PairSampler, Pairing};
pub use repeated::Repeated;

use crate::{Turn, Turns};

/// Draws the images of any step of a run, the same whatever was drawn before.
pub trait Sampler: Debug + Send + Sync {
    /// The images of step `step`, and the labels that its loss takes.
    fn draw(&self, step: u64) -> Drawn;

    /// Number of images drawn from.
    fn images(&self) -> usize;

    /// Number of classes that are never drawn, for lack of images.
    fn left_out(&self) -> usize {
        0
    }

    /// The turns that make classes of their own.
    fn turns(&self) -> Turns {
        Turns::None
    }

    /// What was drawn, for an error message; `images` are those of a [`Drawn`].
    fn describe(&self, images: &[u32]) -> String;
}

/// The images of a step, by index; what the labels say is agreed between the sampler and the loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// P pairs: the first image of every pair, then the second of every pair, (2·P,), so that one
    /// pass through the shared weights embeds both sides. Of classes: the images, (N,).
    pub images: Vec<u32>,
    /// How each of them is turned, (2·P,) or (N,).
    pub turns: Vec<Turn>,
    /// P pairs: 1 for a similar pair, 0 for a dissimilar one, (P,). Of classes: each image's,
    /// which its turn has a part in, (N,).
    pub labels: Vec<u32>,
}
