use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use pulp::Arch;

use super::Geometry;
use super::cpu::{self, Buffered, Wanted};
use crate::Activation;
use crate::layers::cpu_op::{contiguous, on_cpu};

/// One forward of the layer. It keeps which element won each window for the backward of that
/// forward, so every call of the layer makes its own.
pub(super) struct ConvPool {
    geometry: Geometry,
    activation: Activation,
    winners: OnceLock<Vec<u8>>,
}

impl ConvPool {
    pub(super) fn new(geometry: Geometry, activation: Activation) -> Self {
        Self {
            geometry,
            activation,
            winners: OnceLock::new(),
        }
    }

    fn forward<T: Buffered>(&self, inputs: [(&CpuStorage, &Layout); 3]) -> Result<CpuStorage> {
        let [x, filters, bias] = inputs;
        let (pooled, winners) = cpu::forward(
            Arch::new(),
            &self.geometry,
            self.activation,
            contiguous::<T>(x)?,
            contiguous::<T>(filters)?,
            contiguous::<T>(bias)?,
        );
        if self.winners.set(winners).is_err() {
            bail!("conv_pool: one op instance ran forward twice");
        }
        Ok(T::to_cpu_storage_owned(pooled))
    }

    fn backward<T: Buffered>(
        &self,
        [x, filters, bias, gradient]: [&Tensor; 4],
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(winners) = self.winners.get() else {
            bail!("conv_pool: backward before forward");
        };
        let wanted = Wanted {
            x: x.track_op(),
            filters: filters.track_op(),
            bias: bias.track_op(),
        };
        let gradients = {
            let (x, x_layout) = x.storage_and_layout();
            let (filters, filters_layout) = filters.storage_and_layout();
            let (gradient, gradient_layout) = gradient.storage_and_layout();
            cpu::backward(
                Arch::new(),
                &self.geometry,
                wanted,
                contiguous::<T>((on_cpu(&x)?, x_layout))?,
                contiguous::<T>((on_cpu(&filters)?, filters_layout))?,
                contiguous::<T>((on_cpu(&gradient)?, gradient_layout))?,
                winners,
            )
        };
        let tensor =
            |values: Vec<T>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((
            gradients.x.map(|g| tensor(g, x)).transpose()?,
            gradients.filters.map(|g| tensor(g, filters)).transpose()?,
            gradients.bias.map(|g| tensor(g, bias)).transpose()?,
        ))
    }
}

impl CustomOp3 for ConvPool {
    fn name(&self) -> &'static str {
        "conv-pool"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        filters: &CpuStorage,
        filters_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = [
            (x, x_layout),
            (filters, filters_layout),
            (bias, bias_layout),
        ];
        let pooled = match x {
            CpuStorage::F64(_) => self.forward::<f64>(inputs)?,
            _ => self.forward::<f32>(inputs)?,
        };
        let g = &self.geometry;
        let shape = (g.images, g.pooled_height(), g.pooled_width(), g.filters);
        Ok((pooled, shape.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        filters: &Tensor,
        bias: &Tensor,
        _pooled: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let tensors = [x, filters, bias, &gradient.contiguous()?];
        match x.dtype() {
            DType::F64 => self.backward::<f64>(tensors),
            _ => self.backward::<f32>(tensors),
        }
    }
}
