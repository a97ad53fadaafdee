//! The readers as `fuzz/` calls them, without a file system between.

use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device};
use data::{Purpose, stream};
use model::Network;

use crate::checkpoint;
use crate::config::{Overlay, Preset};
use crate::trainer::Trainer;

/// Reads `text` as a file of settings, lays `assignments` over it, and gives the whole configuration
/// as TOML.
///
/// # Errors
/// As `train fit --config` and `--set`.
pub fn configuration<'a>(
    text: &str,
    assignments: impl IntoIterator<Item = &'a str>,
) -> Result<String> {
    let overlay = Overlay::new(Preset::Default)?.text(Path::new("fuzzed"), text)?;
    let mut assignments = assignments.into_iter();
    assignments
        .try_fold(overlay, Overlay::assignment)?
        .finish()?
        .to_toml()
}

/// Restores a trainer of a network of a few weights from a checkpoint whose checksum is yet to be put
/// in: no fuzzer would guess it.
///
/// # Errors
/// As `train fit --resume` finds in a damaged checkpoint.
pub fn checkpoint(bytes: &[u8]) -> Result<()> {
    let mut bytes = bytes.to_vec();
    checkpoint::seal(&mut bytes)?;
    let (bytes, progress) = checkpoint::check(bytes)?;
    let mut config = Preset::Default.config();
    config.net.channels = vec![1, 1];
    config.net.hidden.clear();
    config.net.embedding = 1;
    let mut rng = stream(1, Purpose::Initialisation, 0);
    let net = Network::new(config.net.clone(), DType::F32, &Device::Cpu, &mut rng)?;
    let mut trainer = Trainer::new(net, config.objective(), config.optimiser)?;
    checkpoint::put(&bytes, Path::new("fuzzed"), &mut trainer, progress.step)
}
