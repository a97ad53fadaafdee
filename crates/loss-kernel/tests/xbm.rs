//! The memory of earlier batches.

use std::num::NonZeroUsize;

use candle_core::{DType, Device, Result, Tensor, Var};
use loss_kernel::{InBatchContrastiveLoss, LossError, XbmMemory};

const CPU: &Device = &Device::Cpu;

fn memory(capacity: usize) -> XbmMemory {
    XbmMemory::new(NonZeroUsize::new(capacity).unwrap())
}

/// Rows `from..to`, each of its number and its negative, with its number as the label.
fn batch(from: u32, to: u32) -> Result<(Tensor, Tensor)> {
    let values: Vec<f32> = (from..to).flat_map(|i| [i as f32, -(i as f32)]).collect();
    Ok((
        Tensor::from_vec(values, ((to - from) as usize, 2), CPU)?,
        Tensor::from_iter(from..to, CPU)?,
    ))
}

fn assert_holds(memory: &XbmMemory, from: u32, to: u32) -> Result<()> {
    let (embeddings, labels) = memory.references()?.expect("it is not empty");
    let (expected, of) = batch(from, to)?;
    assert_eq!(embeddings.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
    assert_eq!(labels.to_vec1::<u32>()?, of.to_vec1::<u32>()?);
    assert_eq!(memory.len(), (to - from) as usize);
    Ok(())
}

#[test]
fn the_latest_embeddings_are_kept_oldest_first() -> Result<()> {
    let mut memory = memory(5);
    assert!(memory.is_empty() && memory.references()?.is_none());
    // Fills up, forgets within a batch, whole batches, and is given more than it holds.
    for (from, to, oldest) in [(0, 2, 0), (2, 5, 0), (5, 6, 1), (6, 10, 5), (10, 30, 25)] {
        let (embeddings, labels) = batch(from, to)?;
        memory.push(&embeddings, &labels)?;
        assert_holds(&memory, oldest, to)?;
    }
    let (embeddings, labels) = batch(0, 0)?;
    memory.push(&embeddings, &labels)?;
    assert_holds(&memory, 25, 30)
}

#[test]
fn what_is_remembered_takes_no_gradient_and_does_not_change() -> Result<()> {
    let (embeddings, labels) = batch(0, 3)?;
    let var = Var::from_tensor(&embeddings)?;
    let mut memory = memory(8);
    memory.push(&var, &labels)?;
    let remembered = memory.references()?.expect("it is not empty");
    let loss = InBatchContrastiveLoss::default();
    let value = loss.forward_against(&var, &labels, &remembered.0, &remembered.1)?;
    let gradients = value.backward()?;
    assert!(gradients.get(&var).is_some());
    assert!(gradients.get(&remembered.0).is_none());
    var.set(&var.zeros_like()?)?;
    assert_holds(&memory, 0, 3)
}

#[test]
fn a_batch_of_another_kind_is_refused_and_changes_nothing() -> Result<()> {
    let mut memory = memory(4);
    let (embeddings, labels) = batch(0, 3)?;
    memory.push(&embeddings, &labels)?;
    let refused = |error: LossError, words: &str| {
        assert!(error.to_string().contains(words), "{error}");
    };
    let wide = Tensor::ones((3, 5), DType::F32, CPU)?;
    refused(memory.push(&wide, &labels).unwrap_err(), "5 dimensions");
    let exact = embeddings.to_dtype(DType::F64)?;
    refused(memory.push(&exact, &labels).unwrap_err(), "F64");
    let signed = labels.to_dtype(DType::I64)?;
    refused(memory.push(&embeddings, &signed).unwrap_err(), "I64");
    let few = labels.narrow(0, 0, 2)?;
    refused(memory.push(&embeddings, &few).unwrap_err(), "[2]");
    assert_holds(&memory, 0, 3)
}

#[test]
fn a_memory_filled_from_anothers_references_goes_on_as_it_does() -> Result<()> {
    let mut memory = memory(5);
    for (from, to) in [(0, 3), (3, 4), (4, 7)] {
        let (embeddings, labels) = batch(from, to)?;
        memory.push(&embeddings, &labels)?;
    }
    let (embeddings, labels) = memory.references()?.expect("it is not empty");
    let mut restored = self::memory(5);
    restored.push(&embeddings, &labels)?;
    let loss = InBatchContrastiveLoss::default();
    for (from, to) in [(7, 9), (9, 10), (10, 14), (14, 30)] {
        let (embeddings, labels) = batch(from, to)?;
        let [value, expected] = [&restored, &memory].map(|memory| {
            let (references, of) = memory.references().unwrap().expect("it is not empty");
            let value = loss.forward_against(&embeddings, &labels, &references, &of);
            value.unwrap().to_scalar::<f32>().unwrap().to_bits()
        });
        assert_eq!(value, expected);
        for memory in [&mut restored, &mut memory] {
            memory.push(&embeddings, &labels)?;
            assert_holds(memory, to.saturating_sub(5).max(2), to)?;
        }
    }
    Ok(())
}
