//! The layers as they run where no gradient is wanted, with weights that no longer change.
//!
//! Each number of a result is a sum whose terms are added one by one in an order of their own, which
//! depends on the layer alone: not on how many images there are, where in the batch an image is, or
//! how many threads run. So an embedding has the same bits whatever it is computed with. What makes
//! it fast with few images as with many: vectors hold filters, of which there are always enough
//! ([`product`]), and a convolution of many channels is Winograd's ([`conv`]).
//!
//! A layer runs on the thread that calls it. [`Embedder`](crate::Embedder) gives each thread images of
//! its own.

mod conv;
mod dense;
mod product;

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};

use super::cpu_op::contiguous;
pub(crate) use conv::{Convolution, Room};
pub(crate) use dense::Dense;

/// What can be laid out for inference, its weights as they are.
pub(crate) trait Prepare {
    /// From now on `forward` gives no gradients, and results that do not depend on the batch.
    fn prepare(&mut self) -> Result<()>;
}

/// A layer laid out for inference.
pub(crate) trait Inference<T>: Send + Sync + 'static {
    /// The result of a tensor of shape `dims`, and its shape.
    fn forward(&self, x: &[T], dims: &[usize]) -> Result<(Vec<T>, Shape)>;
}

/// An [`Inference`] of either type, as a candle op without a gradient.
#[derive(Clone)]
pub(crate) enum Prepared {
    F32(Arc<dyn Inference<f32>>),
    F64(Arc<dyn Inference<f64>>),
}

impl Prepared {
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for Prepared {
    fn name(&self) -> &'static str {
        "inference"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = layout.dims();
        Ok(match self {
            Self::F32(layer) => storage(layer.forward(contiguous((x, layout))?, dims)?),
            Self::F64(layer) => storage(layer.forward(contiguous((x, layout))?, dims)?),
        })
    }
}

impl Debug for Prepared {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prepared")
    }
}

fn storage<T: WithDType>((values, shape): (Vec<T>, Shape)) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(values), shape)
}

/// What `layer`, a maker for either type, makes of a weight on the CPU: `Some` if it can be laid out.
macro_rules! prepared {
    ($weight:expr, $layer:expr) => {
        match $weight.dtype() {
            _ if !$weight.device().is_cpu() => None,
            candle_core::DType::F64 => {
                $layer?.map(|layer| Prepared::F64(std::sync::Arc::new(layer)))
            }
            _ => $layer?.map(|layer| Prepared::F32(std::sync::Arc::new(layer))),
        }
    };
}
pub(crate) use prepared;

/// All numbers of a tensor.
fn values<T: WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    tensor.flatten_all()?.to_vec1()
}
