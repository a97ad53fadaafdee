//! A trainer's state as the bytes of a checkpoint.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;

use super::Trainer;

/// The header's entry for the CRC-32C of the file, taken with zeros in place of the checksum.
const CHECKSUM: &str = "crc32c";
const NO_CHECKSUM: &str = "00000000";
/// The header's entry for what the caller adds.
const PROGRESS: &str = "progress";

/// The tensors of a memory of earlier batches that is not empty.
const EMBEDDINGS: &str = "memory.embeddings";
const LABELS: &str = "memory.labels";

/// The state of a [`Trainer`] after some steps: weights, what the optimiser remembers, and embeddings of
/// earlier batches. It names no
/// device: a trainer on any can take it up.
#[derive(Debug)]
pub struct Snapshot {
    bytes: Vec<u8>,
    progress: String,
}

impl Snapshot {
    /// Reads what [`Trainer::snapshot`] wrote.
    ///
    /// # Errors
    /// For bytes that are not, to the last bit, as they were written.
    pub fn read(mut bytes: Vec<u8>) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let entry = |name: &str| header.metadata().as_ref()?.get(name).cloned();
        let checksum = entry(CHECKSUM).context("its header has no checksum")?;
        let place = place_of(&bytes, &checksum).context("its header has no checksum")?;
        bytes[place..][..checksum.len()].fill(b'0');
        let found = format!("{:08x}", crc32c::crc32c(&bytes));
        ensure!(
            found == checksum,
            "its checksum is {found}, and was {checksum} when it was written"
        );
        let progress =
            entry(PROGRESS).context("its header does not say how far the run had come")?;
        Ok(Self { bytes, progress })
    }

    /// What was written with it.
    pub fn progress(&self) -> &str {
        &self.progress
    }
}

impl Trainer {
    /// The bytes of a checkpoint: safetensors with the weights, the optimiser's memory and, in the
    /// header, `progress` and a checksum.
    ///
    /// # Errors
    /// Whatever candle reports for the device.
    pub fn snapshot(&self, progress: &str) -> Result<Vec<u8>> {
        let weights = self
            .net()
            .parameters()
            .iter()
            .map(|parameter| (format!("net.{}", parameter.name), parameter.var.as_tensor()));
        let moments = self
            .optimiser
            .state()
            .map(|(name, moments)| (format!("optimiser.{name}"), moments));
        let memory = match &self.memory {
            Some(memory) => memory.embeddings.references()?,
            None => None,
        };
        let memory = memory.iter().flat_map(|(embeddings, labels)| {
            [
                (EMBEDDINGS.to_string(), embeddings),
                (LABELS.to_string(), labels),
            ]
        });
        // Fetched here: `serialize` would panic where a GPU fails.
        let tensors = weights
            .chain(moments)
            .chain(memory)
            .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?)))
            .collect::<Result<Vec<_>>>()?;
        sealed(tensors, progress)
    }

    /// Takes up a state that a trainer of the same configuration had after `steps` steps.
    ///
    /// # Errors
    /// For a tensor that is missing or of another shape or type. The trainer is then of no more use.
    pub fn restore(&mut self, snapshot: &Snapshot, steps: u64) -> Result<()> {
        let device = self.net().device();
        let tensors = candle_core::safetensors::load_buffer(&snapshot.bytes, device)?;
        let tensor = |name: String| -> Result<Tensor> {
            let found = tensors.get(&name);
            found.cloned().with_context(|| format!("{name} is missing"))
        };
        for parameter in self.net().parameters() {
            let found = tensor(format!("net.{}", parameter.name))?;
            ensure!(
                found.dims() == parameter.var.dims(),
                "{} is {:?} there and {:?} in the run's configuration",
                parameter.name,
                found.dims(),
                parameter.var.dims(),
            );
            parameter.var.set(&found)?;
        }
        if let Some(memory) = &mut self.memory {
            memory.clear();
            if let Some(embeddings) = tensors.get(EMBEDDINGS) {
                memory
                    .embeddings
                    .push(embeddings, &tensor(LABELS.into())?)?;
            }
        }
        self.optimiser
            .restore(steps, |name| tensor(format!("optimiser.{name}")))
    }
}

fn sealed(tensors: Vec<(String, Tensor)>, progress: &str) -> Result<Vec<u8>> {
    let header = HashMap::from([
        (PROGRESS.to_string(), progress.to_string()),
        (CHECKSUM.to_string(), NO_CHECKSUM.to_string()),
    ]);
    let mut bytes =
        safetensors::serialize(tensors, Some(header)).context("putting a checkpoint together")?;
    let checksum = format!("{:08x}", crc32c::crc32c(&bytes));
    let place = place_of(&bytes, NO_CHECKSUM).context("the header has no place for a checksum")?;
    bytes[place..][..checksum.len()].copy_from_slice(checksum.as_bytes());
    Ok(bytes)
}

/// Where `checksum` stands in the header.
fn place_of(bytes: &[u8], checksum: &str) -> Option<usize> {
    let entry = format!("\"{CHECKSUM}\":\"{checksum}\"");
    let found = bytes
        .windows(entry.len())
        .position(|window| window == entry.as_bytes())?;
    Some(found + entry.len() - 1 - checksum.len())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// A sealed checkpoint of one tensor, after `step` steps.
    fn written(step: u64) -> Vec<u8> {
        let weight = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
        sealed(vec![("net.feat.bias".into(), weight)], &step.to_string()).unwrap()
    }

    proptest! {
        #[test]
        fn a_checkpoint_is_taken_as_it_was_written_or_refused(
            step: u64,
            changes in vec(any::<(Index, u8)>(), 0..6),
            end: Option<Index>,
        ) {
            let whole = written(step);
            let mut bytes = whole.clone();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len()));
            }
            let same = bytes == whole;
            match Snapshot::read(bytes) {
                Ok(read) => prop_assert!(same && read.progress() == step.to_string()),
                Err(error) => prop_assert!(!same, "{:#}", error),
            }
        }

        #[test]
        fn bytes_that_are_no_checkpoint_are_refused(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(Snapshot::read(bytes).is_err());
        }
    }
}
