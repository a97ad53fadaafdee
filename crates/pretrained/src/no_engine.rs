//! In place of what runs ONNX files, where it is not built.

use crate::{Preprocessing, PretrainedError, Result};

/// There is none.
#[derive(Debug)]
pub enum Engine {}

impl Engine {
    pub fn new(_: &str, _: &[u8], _: &Preprocessing, _: &str) -> Result<Self> {
        Err(PretrainedError::NotBuilt)
    }

    pub fn run(&self, _: Vec<f32>) -> Result<Vec<f32>> {
        match *self {}
    }
}
