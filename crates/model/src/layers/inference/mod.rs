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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};
    use pulp::Arch;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Activation;
    use crate::layers::cpu_op::checks::{levels, random};

    fn inputs(shapes: [&[usize]; 3]) -> [Var; 3] {
        let rng = &mut ChaCha8Rng::seed_from_u64(4);
        shapes.map(|shape| random(shape, DType::F64, rng))
    }

    /// In f64, where rounding is far below the tolerance, and in f32.
    fn check(
        x: &Tensor,
        expected: &Tensor,
        of_f64: impl Fn(Arch) -> Prepared,
        of_f32: impl Fn(Arch) -> Prepared,
    ) {
        let largest = |x: &Tensor| x.abs()?.max_all()?.to_scalar::<f64>();
        for arch in levels() {
            let wide = of_f64(arch).forward(x).unwrap();
            let narrow = x.to_dtype(DType::F32).unwrap();
            let narrow = of_f32(arch).forward(&narrow).unwrap();
            let narrow = narrow.to_dtype(DType::F64).unwrap();
            for (found, tolerance) in [(wide, 1e-13), (narrow, 5e-6)] {
                let worst = largest(&(found - expected).unwrap()).unwrap();
                let allowed = tolerance * largest(expected).unwrap();
                assert!(worst <= allowed, "{arch:?}: {worst:e}, {allowed:e} allowed");
            }
        }
    }

    #[test]
    fn every_kind_of_vector_gives_the_same_fully_connected_layer() {
        for [rows, from, to] in [[1, 1, 1], [2, 30, 64], [7, 13, 79], [5, 40, 33]] {
            let vars = inputs([&[rows, from], &[to, from], &[to]]);
            let [x, weight, bias] = vars.each_ref().map(|var| var.as_detached_tensor());
            let sums = x.matmul(&weight.t().unwrap()).unwrap();
            let expected = sums.broadcast_add(&bias).unwrap().relu().unwrap();
            let relu = Activation::Relu;
            let of_f64 =
                |arch| Prepared::F64(Arc::new(Dense::new(arch, &weight, &bias, relu).unwrap()));
            let [weight, bias] = [&weight, &bias].map(|t| t.to_dtype(DType::F32).unwrap());
            let of_f32 =
                |arch| Prepared::F32(Arc::new(Dense::new(arch, &weight, &bias, relu).unwrap()));
            check(&x, &expected, of_f64, of_f32);
        }
    }

    #[test]
    fn every_kind_of_vector_gives_the_same_convolution() {
        // Images, height, width, channels, filters, side of the kernel, padding.
        for ([n, h, w, c, o, k, padding], pooled) in [
            ([2, 9, 8, 1, 20, 5, 0], true),
            ([1, 6, 7, 3, 70, 4, 1], true),
            ([3, 12, 12, 32, 64, 5, 0], true),
            ([2, 9, 11, 9, 21, 5, 2], true),
            ([3, 7, 6, 8, 5, 3, 1], true),
            ([2, 7, 6, 3, 33, 3, 1], false),
            ([17, 1, 2, 2, 3, 3, 1], false),
            ([2, 5, 8, 4, 9, 5, 2], false),
        ] {
            let vars = inputs([&[n, h, w, c], &[o, c, k, k], &[o]]);
            let [x, weight, bias] = vars.each_ref().map(|var| var.as_detached_tensor());
            let planes = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let sums = planes.conv2d(&weight, padding, 1, 1, 1).unwrap();
            let bias_of_planes = bias.reshape((1, o, 1, 1)).unwrap();
            let mut expected = sums.broadcast_add(&bias_of_planes).unwrap().relu().unwrap();
            if pooled {
                expected = expected.max_pool2d(2).unwrap();
            }
            let expected = expected.permute((0, 2, 3, 1)).unwrap();
            let relu = Activation::Relu;
            let of_f64 = |arch| {
                let layer = Convolution::new(arch, &weight, &bias, padding, pooled, relu);
                Prepared::F64(Arc::new(layer.unwrap().unwrap()))
            };
            let [weight, bias] = [&weight, &bias].map(|t| t.to_dtype(DType::F32).unwrap());
            let of_f32 = |arch| {
                let layer = Convolution::new(arch, &weight, &bias, padding, pooled, relu);
                Prepared::F32(Arc::new(layer.unwrap().unwrap()))
            };
            check(&x, &expected, of_f64, of_f32);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let vars = inputs([&[2, 3], &[4, 8, 5, 5], &[4]]);
        let [x, weight, bias] = vars.each_ref().map(|var| var.as_detached_tensor());
        let arch = Arch::new();
        let conv = Convolution::<f64>::new(arch, &weight, &bias, 0, true, Activation::Relu);
        let conv = Prepared::F64(Arc::new(conv.unwrap().unwrap()));
        let weight = weight.reshape((4, 200)).unwrap();
        let dense = Dense::<f64>::new(arch, &weight, &bias, Activation::Relu).unwrap();
        let dense = Prepared::F64(Arc::new(dense));
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F64, &Device::Cpu).unwrap();
        for (layer, x, problem) in [
            (&dense, x.clone(), "3 columns times 200 rows"),
            (&dense, zeros(&[1, 2, 100]), "an input of [1, 2, 100]"),
            (&conv, x, "images of [2, 3]"),
            (&conv, zeros(&[1, 6, 6, 7]), "7 channels"),
            (&conv, zeros(&[1, 6, 5, 8]), "6×5"),
        ] {
            let error = layer.forward(&x).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(conv.forward(&zeros(&[1, 6, 6, 8])).is_ok());
    }
}
