//! A pretrained image encoder, an ONNX file, as the frozen trunk of a network: pictures to features, which a
//! head is trained on.
//!
//! * [`Encoder`] runs the file: pixels (3, H, W) to features (F,). It needs the crate feature `onnx`; without
//!   it, opening one is an error that says so.
//! * [`Preprocessing`] is what pictures go through before, read from the file that its makers put beside it
//!   ([`Known::beside`]) or given, and never guessed.
//! * [`Encoder::encode`] makes features of whole sets of images, on all cores, and keeps them in a
//!   [`Cache`].
//! * [`Record`] is what a model file says of its trunk: enough to find it again and to see that it is the
//!   same.

mod cache;
mod encoder;
#[cfg(feature = "onnx")]
mod engine;
#[cfg(not(feature = "onnx"))]
#[path = "no_engine.rs"]
mod engine;
mod error;
mod preprocessing;
mod record;

pub use cache::Cache;
pub use encoder::Encoder;
pub use error::{PretrainedError, Result};
pub use preprocessing::{ColourOrder, Known, Preprocessing};
pub use record::Record;
