//! A trained network to look at a user's pictures with.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use model::weights;
use verifier::Verifier;

use crate::run_folder::RunFolder;

/// Opens a run folder's model, or a model file itself, on `device`.
pub fn open(path: &Path, device: &Device) -> Result<Verifier> {
    let (net, file) = if path.is_file() {
        weights::open(path, device)?
    } else {
        RunFolder::open(path)?.model(device)?
    };
    Ok(Verifier::new(net, file)?)
}
