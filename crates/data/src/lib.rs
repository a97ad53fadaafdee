//! Labelled images in, training pairs out.
//!
//! A [`Source`] names where images come from and loads them as a [`Dataset`]; a [`PairSampler`]
//! draws pairs of them, an [`MPerClassSampler`] images of a few classes; a [`PairLoader`] or a
//! [`ClassLoader`] turns what was drawn into batches of network input through a chain of
//! [`Transform`]s, on a thread of its own where asked. [`read_picture`] makes a user's picture look
//! like a training image, [`picture_folder`] reads a folder of them to train on. Everything random
//! comes from [`stream`].

mod digits;
mod error;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod hostile;
mod idx;
mod images;
mod loader;
mod m_per_class;
mod mnist_folder;
mod open_set;
mod pairs;
mod picture;
mod picture_folder;
mod pixel_file;
mod random;
mod source;
mod split;
mod transform;

pub use digits::digits;
pub use error::DataError;
pub use images::{ImageShape, LabelledImages};
pub use loader::{ClassBatch, ClassLoader, PairBatch, PairLoader, Prefetch, batch_of};
pub use m_per_class::MPerClassSampler;
pub use mnist_folder::mnist_folder;
pub use pairs::{Pair, PairSampler, Pairing, balanced_pairs};
pub use picture::{Framing, Picture, ink_side, is_picture_name, picture_from_bytes, read_picture};
pub use picture_folder::{FolderOptions, PictureFolder, Store, picture_folder};
pub use random::{Purpose, stream};
pub use source::{Dataset, Source};
pub use split::hold_out;
pub use transform::{
    Compose, Edge, Normalise, RandomBrightness, RandomFlip, RandomRotation, RandomShift, Scale,
    Transform, TransformConfig,
};
