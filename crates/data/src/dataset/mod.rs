//! A source's images, divided into those to train on, to choose a threshold on and to test on.

mod open_set;
mod split;

use std::sync::Arc;

pub(crate) use split::{hold_out, split_classes};

use crate::LabelledImages;

/// What an image is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// To train on.
    Train,
    /// To choose the threshold on.
    Validation,
    /// To test on.
    Test,
}

/// Images to train on, to choose a threshold on, and to test on.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The source as the user writes it.
    pub name: String,
    /// Training images that are not held out; shared, since batches are made on another thread.
    pub train: Arc<LabelledImages>,
    /// Training images held out.
    pub validation: LabelledImages,
    /// The source's own test images; in an [open set](Self::open_set) those of the held-out classes.
    pub test: LabelledImages,
    /// In an open set, the test images of the classes trained on.
    pub closed_test: Option<LabelledImages>,
    /// What the source left out, a sentence each.
    pub notes: Vec<String>,
}
