//! From labelled images to batches of network input.
//!
//! 1. A [`Source`] names where images come from and loads them as a [`Dataset`].
//! 2. A [`Sampler`] draws what a training step needs: pairs ([`PairSampler`]), or images of a few
//!    classes whose pairs are all used ([`MPerClass`]).
//! 3. A [`Loader`] turns what was drawn into batches of network input through a chain of
//!    [`Transform`]s, on a thread of its own where asked.
//!
//! [`read_picture`] makes a user's picture look like a training image; [`input_of`] makes network input
//! of it. Everything random comes from [`stream`].

mod dataset;
mod error;
mod file;
mod images;
mod loader;
mod manifest;
mod picture;
mod pixel_file;
mod random;
mod samplers;
mod sources;
mod transform;
mod turns;

pub use dataset::{Dataset, Part, SplitBy, SplitOptions};
pub use error::{DataError, PictureProblem};
pub use images::{ImageFile, ImageShape, LabelledImages, pixel_hash};
pub use loader::{Batch, Loader, Prefetch, batch_of, input_of};
pub use manifest::{DataChanges, ImageRecord, Manifest};
pub(crate) use picture::read_picture_hashed;
pub use picture::{
    Filter, Framing, Picture, Resize, Size, Treatment, is_picture_name, picture_from_bytes,
    read_picture,
};
pub use random::{Purpose, stream};
pub use samplers::{
    Drawn, MPerClass, Pair, PairSampler, Pairing, Repeated, Sampler, balanced_pairs,
};
pub use sources::{
    FolderOptions, Loaded, Source, Store, digits, idx, mnist_folder, picture_folder,
};
pub use transform::{
    Compose, Edge, Normalise, RandomAffine, RandomBrightness, RandomContrast, RandomErasing,
    RandomFlip, RandomHue, RandomRotation, RandomSaturation, RandomShift, RandomVerticalFlip,
    Scale, Transform, TransformConfig,
};
pub use turns::{Turn, Turns};
