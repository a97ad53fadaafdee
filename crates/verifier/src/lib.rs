//! A trained network to use from Rust: do two pictures show the same thing, where in the embedding is
//! a picture, and which pictures of a gallery are nearest to it?
//!
//! * [`Verifier`] opens a run folder or its `model.safetensors`, reads pictures as the network needs
//!   them, and gives a [`Verdict`] on two or the [`Embeddings`] of many.
//! * [`Gallery`] finds the nearest of many pictures, exactly, and keeps their embeddings in a file.
//!
//! Both are `Send` and `Sync`: share one between threads. Work is done on rayon's threads; a program
//! of its own sets the environment variable `CANDLE_NUM_THREADS` to 1 before it starts a thread, for
//! candle's own threads, which have nothing to do here, wait by spinning.
//!
//! ```no_run
//! use verifier::Verifier;
//!
//! # fn main() -> Result<(), verifier::VerifierError> {
//! let verifier = Verifier::open("runs/digits-1")?;
//! let a = verifier.read("docs/pictures/three.png")?;
//! let b = verifier.read("docs/pictures/another-three.jpg")?;
//! let verdict = verifier.verify(&a, &b)?;
//! println!("{} at distance {}", verdict.same, verdict.distance);
//! # Ok(())
//! # }
//! ```

mod embeddings;
mod error;
mod gallery;
mod verifier;

pub use data::Picture;
pub use embeddings::Embeddings;
pub use error::{Result, VerifierError};
pub use gallery::{Gallery, Neighbour};
pub use metrics::OperatingRule;
pub use model::ModelFile;
pub use verifier::{Verdict, Verifier};
