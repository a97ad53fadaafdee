//! Use a trained network from Rust: do two pictures show the same thing, what is a picture's
//! embedding, and which pictures of a gallery are nearest to it?
//!
//! * [`Verifier`] opens a run folder or its `model.safetensors`, reads pictures as the network needs
//!   them, and returns a [`Verdict`] on two or the [`Embeddings`] of many.
//! * [`Gallery`] finds the nearest of many pictures, exactly, and keeps their embeddings in a file.
//! * [`embed_images`] embeds a whole data set; [`image_features`] stops before the last layer.
//!
//! Share a verifier or gallery between threads: both are `Send` and `Sync`. The work runs on rayon's
//! threads. Candle's own threads have nothing to do here but wait by spinning, so set the environment
//! variable `CANDLE_NUM_THREADS` to 1 before your program starts any thread.
//!
//! ```no_run
//! use verifier::{Device, Verifier};
//!
//! # fn main() -> Result<(), verifier::VerifierError> {
//! let verifier = Verifier::open("runs/digits-1", &Device::Cpu)?;
//! let a = verifier.read("docs/pictures/three.png")?;
//! let b = verifier.read("docs/pictures/another-three.jpg")?;
//! let verdict = verifier.verify(&a, &b)?;
//! println!("{} at distance {}", verdict.same, verdict.distance);
//! # Ok(())
//! # }
//! ```

mod embed;
mod error;
mod gallery;
mod verifier;

pub use candle_core::Device;
pub use data::Picture;
pub use embed::{embed_images, image_features};
pub use error::{Result, VerifierError};
pub use gallery::Gallery;
pub use metrics::{Embeddings, Neighbour, OperatingPoint, Verdict};
pub use model::ModelFile;
pub use verifier::Verifier;
