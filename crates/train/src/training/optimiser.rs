//! SGD with momentum as Caffe has it, and AdamW. candle-nn's SGD has no momentum, and its AdamW
//! neither saves its state nor takes a rate for each parameter.

use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Storage, Tensor, bail};
use model::{Parameter, Role};
use num_traits::Float;

use super::NotFinite;
use crate::settings::{OptimiserConfig, Rule};

/// One parameter with what the rule remembers of it.
struct Slot {
    parameter: Parameter,
    rate: f64,
    /// The configuration's, or 0 for the gains and biases of a normalisation: the next layer takes back
    /// what their scale loses.
    weight_decay: f64,
    /// (1, n) for SGD, the momentum; (2, n) for AdamW, the moments; n values in the parameter.
    memory: Tensor,
}

/// Updates parameters in place.
pub struct Optimiser {
    config: OptimiserConfig,
    slots: Vec<Slot>,
    steps: u64,
}

impl Optimiser {
    /// With no steps taken: all that is remembered is 0.
    pub fn new(config: OptimiserConfig, parameters: &[Parameter]) -> Result<Self> {
        let rows = match config.rule {
            Rule::Sgd => 1,
            Rule::AdamW => 2,
        };
        let slots = parameters.iter().map(|parameter| {
            let var = &parameter.var;
            Ok(Slot {
                rate: match parameter.role {
                    Role::Weight | Role::Gain => 1.0,
                    Role::Bias | Role::Shift => config.bias_rate,
                },
                weight_decay: match parameter.role {
                    Role::Weight | Role::Bias => config.weight_decay,
                    Role::Gain | Role::Shift => 0.0,
                },
                memory: Tensor::zeros((rows, var.elem_count()), var.dtype(), var.device())?,
                parameter: parameter.clone(),
            })
        });
        Ok(Self {
            config,
            slots: slots.collect::<Result<_>>()?,
            steps: 0,
        })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step at the learning rate `rate`.
    ///
    /// # Errors
    /// On the CPU, [`NotFinite`] for a gradient that is not, before anything is changed. A GPU would
    /// have to be waited for: there it shows in a later loss.
    pub fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        for Slot { parameter, .. } in &self.slots {
            if let Some(gradient) = gradients.get(&parameter.var)
                && gradient.device().is_cpu()
            {
                let what = format!("the gradient of {}", parameter.name);
                NotFinite::check(anything_not_finite(gradient)?, &what, "")?;
            }
        }
        self.steps += 1;
        for slot in &mut self.slots {
            let Parameter { name, var, .. } = &slot.parameter;
            let gradient = gradients
                .get(var)
                .with_context(|| format!("the loss does not depend on {name}"))?
                .contiguous()?;
            let update = Update {
                config: OptimiserConfig {
                    weight_decay: slot.weight_decay,
                    ..self.config
                },
                rate: rate * slot.rate,
                count: self.steps,
            };
            if var.device().is_cpu() {
                slot.memory.inplace_op3(&gradient, var, &update)?;
                var.inplace_op2(&slot.memory, &update)?;
            } else {
                let (memory, weight) = update.composed(&slot.memory, &gradient, var)?;
                slot.memory = memory;
                var.set(&weight)?;
            }
        }
        Ok(())
    }

    /// What is remembered, by the parameter's name.
    pub fn state(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.slots
            .iter()
            .map(|slot| (slot.parameter.name.as_str(), &slot.memory))
    }

    /// Takes up what [`state`](Self::state) gave after `steps` steps.
    pub fn restore(
        &mut self,
        steps: u64,
        mut tensor: impl FnMut(&str) -> Result<Tensor>,
    ) -> Result<()> {
        for slot in &mut self.slots {
            let name = &slot.parameter.name;
            let found = tensor(name)?;
            let expected = &slot.memory;
            ensure!(
                found.dims() == expected.dims() && found.dtype() == expected.dtype(),
                "the memory of {name} is {:?} {:?}, expected {:?} {:?}",
                found.dims(),
                found.dtype(),
                expected.dims(),
                expected.dtype()
            );
            slot.memory = found;
        }
        self.steps = steps;
        Ok(())
    }
}

/// A value of a CPU tensor that is not finite, or 0.
fn anything_not_finite(tensor: &Tensor) -> Result<f64> {
    // All of a contiguous tensor before any, which the compiler makes wide instructions of.
    fn of<T: Float>(values: &[T]) -> f64 {
        if values
            .iter()
            .fold(true, |all, value| all & value.is_finite())
        {
            return 0.0;
        }
        let found = values.iter().find(|value| !value.is_finite());
        found.and_then(|value| value.to_f64()).unwrap_or(f64::NAN)
    }
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
        return Ok(0.0);
    };
    Ok(match storage {
        CpuStorage::F32(values) => of(&values[from..to]),
        CpuStorage::F64(values) => of(&values[from..to]),
        _ => 0.0,
    })
}

/// A step of one parameter. On the CPU its two halves are candle operations on whole tensors: one
/// pass over the memory, one over the parameter, and nothing allocated. As tensor arithmetic, which
/// every device has, AdamW takes 14 passes, each into a tensor of its own.
struct Update {
    config: OptimiserConfig,
    rate: f64,
    /// Steps taken, this one among them.
    count: u64,
}

impl Update {
    /// What is remembered after `gradient` was met at `weight`.
    fn remember<T: Float>(&self, memory: &mut [T], gradient: &[T], weight: &[T]) {
        let number = |value: f64| T::from(value).unwrap_or_else(T::nan);
        let c = &self.config;
        match c.rule {
            Rule::Sgd => {
                let (momentum, rate) = (number(c.momentum), number(self.rate));
                let decay = number(c.weight_decay);
                for ((v, &g), &w) in memory.iter_mut().zip(gradient).zip(weight) {
                    *v = momentum * *v + rate * (g + decay * w);
                }
            }
            Rule::AdamW => {
                let (beta1, beta2) = (number(c.beta1), number(c.beta2));
                let (fresh1, fresh2) = (number(1.0 - c.beta1), number(1.0 - c.beta2));
                let (means, squares) = memory.split_at_mut(gradient.len());
                for ((m, s), &g) in means.iter_mut().zip(squares).zip(gradient) {
                    *m = beta1 * *m + fresh1 * g;
                    *s = beta2 * *s + fresh2 * g * g;
                }
            }
        }
    }

    /// Moves `weight` by what is remembered.
    fn advance<T: Float>(&self, weight: &mut [T], memory: &[T]) {
        let number = |value: f64| T::from(value).unwrap_or_else(T::nan);
        let c = &self.config;
        match c.rule {
            Rule::Sgd => {
                for (w, &v) in weight.iter_mut().zip(memory) {
                    *w = *w - v;
                }
            }
            Rule::AdamW => {
                let corrected = |beta: f64| 1.0 - beta.powf(self.count as f64);
                let keep = number(1.0 - self.rate * c.weight_decay);
                let rate = number(self.rate / corrected(c.beta1));
                let scale = number(1.0 / corrected(c.beta2));
                let epsilon = number(c.epsilon);
                let (means, squares) = memory.split_at(weight.len());
                for ((w, &m), &s) in weight.iter_mut().zip(means).zip(squares) {
                    *w = keep * *w - rate * m / ((scale * s).sqrt() + epsilon);
                }
            }
        }
    }

    /// Both halves in tensor arithmetic: the memory and the weight after the step.
    fn composed(
        &self,
        memory: &Tensor,
        gradient: &Tensor,
        weight: &Tensor,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let c = &self.config;
        // Detached, or each step's memory would hold on to the graphs of all before.
        let gradient = gradient.detach().flatten_all()?;
        let w = weight.detach().flatten_all()?;
        let (memory, w) = match c.rule {
            Rule::Sgd => {
                let pull = (gradient + (&w * c.weight_decay)?)?;
                let v = ((memory.get(0)? * c.momentum)? + (pull * self.rate)?)?;
                (v.unsqueeze(0)?, (w - v)?)
            }
            Rule::AdamW => {
                let fresh = (&gradient * (1.0 - c.beta1))?;
                let m = ((memory.get(0)? * c.beta1)? + fresh)?;
                let fresh = (gradient.sqr()? * (1.0 - c.beta2))?;
                let s = ((memory.get(1)? * c.beta2)? + fresh)?;
                let corrected = |beta: f64| 1.0 - beta.powf(self.count as f64);
                let root = (&s * (1.0 / corrected(c.beta2)))?.sqrt()?;
                let pace = (&m * (self.rate / corrected(c.beta1)))?;
                let kept = (w * (1.0 - self.rate * c.weight_decay))?;
                let w = (kept - (pace / (root + c.epsilon)?)?)?;
                (Tensor::stack(&[m, s], 0)?, w)
            }
        };
        Ok((memory, w.reshape(weight.shape())?))
    }
}

impl InplaceOp3 for Update {
    fn name(&self) -> &'static str {
        "optimiser-remember"
    }

    fn cpu_fwd(
        &self,
        memory: &mut CpuStorage,
        memory_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<()> {
        let at = [memory_layout, gradient_layout, weight_layout].map(Layout::contiguous_offsets);
        let [Some(m), Some(g), Some(w)] = at.map(|at| at.map(|(from, to)| from..to)) else {
            bail!("optimiser: a tensor is not contiguous");
        };
        match (memory, gradient, weight) {
            (CpuStorage::F32(memory), CpuStorage::F32(gradient), CpuStorage::F32(weight)) => {
                self.remember(&mut memory[m], &gradient[g], &weight[w]);
            }
            (CpuStorage::F64(memory), CpuStorage::F64(gradient), CpuStorage::F64(weight)) => {
                self.remember(&mut memory[m], &gradient[g], &weight[w]);
            }
            _ => bail!("optimiser: parameters and gradients must be f32 or f64 throughout"),
        }
        Ok(())
    }
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        "optimiser-advance"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        memory: &CpuStorage,
        memory_layout: &Layout,
    ) -> candle_core::Result<()> {
        let at = [weight_layout, memory_layout].map(Layout::contiguous_offsets);
        let [Some(w), Some(m)] = at.map(|at| at.map(|(from, to)| from..to)) else {
            bail!("optimiser: a tensor is not contiguous");
        };
        match (weight, memory) {
            (CpuStorage::F32(weight), CpuStorage::F32(memory)) => {
                self.advance(&mut weight[w], &memory[m]);
            }
            (CpuStorage::F64(weight), CpuStorage::F64(memory)) => {
                self.advance(&mut weight[w], &memory[m]);
            }
            _ => bail!("optimiser: parameters and gradients must be f32 or f64 throughout"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use std::collections::HashMap;

    fn sgd() -> OptimiserConfig {
        OptimiserConfig {
            learning_rate: 0.1,
            ..OptimiserConfig::caffe()
        }
    }

    fn parameter(role: Role) -> Parameter {
        Parameter {
            name: "p".into(),
            role,
            var: Var::new(&[2.0f64, -1.0], &Device::Cpu).unwrap(),
        }
    }

    /// Steps down `½·w²`, whose gradient is `w`, and returns where it ends.
    fn descend(config: OptimiserConfig, role: Role, rates: &[f64]) -> Vec<f64> {
        let parameter = parameter(role);
        let mut optimiser = Optimiser::new(config, std::slice::from_ref(&parameter)).unwrap();
        for &rate in rates {
            let loss = (parameter.var.sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
            optimiser.step(&loss.backward().unwrap(), rate).unwrap();
        }
        parameter.var.to_vec1().unwrap()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-12,
                "{found} is not {expected}"
            );
        }
    }

    #[test]
    fn sgd_keeps_the_rate_inside_the_momentum() {
        // v = 0.1·2 = 0.2, w = 1.8; then at half the rate v = 0.9·0.2 + 0.05·1.8 = 0.27, w = 1.53.
        close(&descend(sgd(), Role::Weight, &[0.1, 0.05]), &[1.53, -0.765]);
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named_and_changes_nothing() {
        for factor in [f64::NAN, f64::INFINITY] {
            let parameter = parameter(Role::Weight);
            let mut optimiser = Optimiser::new(sgd(), std::slice::from_ref(&parameter)).unwrap();
            let loss = parameter.var.affine(factor, 0.0).unwrap().sum_all();
            let gradients = loss.unwrap().backward().unwrap();
            let error = optimiser.step(&gradients, 0.1).unwrap_err();
            assert!(error.to_string().contains("the gradient of p"), "{error}");
            assert_eq!(parameter.var.to_vec1::<f64>().unwrap(), [2.0, -1.0]);
        }
    }

    #[test]
    fn biases_have_their_own_rate() {
        close(&descend(sgd(), Role::Bias, &[0.1]), &[1.6, -0.8]);
    }

    #[test]
    fn sgd_decays_through_the_gradient() {
        let config = OptimiserConfig {
            weight_decay: 0.5,
            ..sgd()
        };
        close(&descend(config, Role::Weight, &[0.1]), &[1.7, -0.85]);
    }

    #[test]
    fn a_normalisation_does_not_decay() {
        for rule in [Rule::Sgd, Rule::AdamW] {
            let decay = |weight_decay| OptimiserConfig {
                rule,
                weight_decay,
                ..sgd()
            };
            for (role, as_if) in [(Role::Gain, Role::Weight), (Role::Shift, Role::Bias)] {
                let found = descend(decay(0.5), role, &[0.1, 0.1]);
                close(&found, &descend(decay(0.0), as_if, &[0.1, 0.1]));
            }
        }
    }

    #[test]
    fn adamw_takes_pytorchs_steps() {
        // w = torch.tensor([2., -1.], dtype=torch.float64, requires_grad=True)
        // o = torch.optim.AdamW([w], lr=0.1, weight_decay=0.01)
        // three times: o.zero_grad(); (0.5 * w * w).sum().backward(); o.step()   (torch 2.15.0)
        let config = OptimiserConfig {
            rule: Rule::AdamW,
            weight_decay: 0.01,
            ..sgd()
        };
        let expected = [1.6949445151502027, -0.6989111847156934];
        close(&descend(config, Role::Weight, &[0.1; 3]), &expected);
    }

    #[test]
    fn tensor_arithmetic_takes_the_steps_of_the_cpus_own_operations() {
        for (rule, dtype, tolerance) in [
            (Rule::Sgd, DType::F32, 1e-6),
            (Rule::Sgd, DType::F64, 1e-14),
            (Rule::AdamW, DType::F32, 1e-6),
            (Rule::AdamW, DType::F64, 1e-14),
        ] {
            let config = OptimiserConfig {
                rule,
                weight_decay: 0.01,
                ..sgd()
            };
            let ramp = Tensor::arange(0f64, 12.0, &Device::Cpu).unwrap();
            let ramp = ramp.reshape((3, 4)).unwrap();
            let parameter = Parameter {
                name: "p".into(),
                role: Role::Weight,
                var: Var::from_tensor(&ramp.cos().unwrap().to_dtype(dtype).unwrap()).unwrap(),
            };
            let var = &parameter.var;
            let mut optimiser = Optimiser::new(config, std::slice::from_ref(&parameter)).unwrap();
            let mut weight = var.as_detached_tensor().copy().unwrap();
            let mut memory = optimiser.slots[0].memory.copy().unwrap();
            for count in 1..=5 {
                let rate = 0.1 / count as f64;
                let slopes = (&ramp * count as f64).unwrap().sin().unwrap();
                let slopes = slopes.to_dtype(dtype).unwrap();
                let loss = (var.as_tensor() * &slopes).unwrap().sum_all().unwrap();
                let gradients = loss.backward().unwrap();
                let update = Update {
                    config,
                    rate,
                    count,
                };
                let gradient = gradients.get(var).unwrap();
                (memory, weight) = update.composed(&memory, gradient, &weight).unwrap();
                optimiser.step(&gradients, rate).unwrap();
            }
            for (what, found, expected) in [
                ("weight", &weight, var.as_tensor()),
                ("memory", &memory, &optimiser.slots[0].memory),
            ] {
                assert_eq!(found.dims(), expected.dims());
                let worst = (found - expected)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .max_all()
                    .unwrap();
                let worst = worst.to_dtype(DType::F64).unwrap().to_scalar::<f64>();
                let worst = worst.unwrap();
                assert!(worst <= tolerance, "{what}, {rule:?}, {dtype:?}: {worst:e}");
            }
        }
    }

    /// Or a run would take more memory with every step.
    #[test]
    fn tensor_arithmetic_keeps_no_graph() {
        for rule in [Rule::Sgd, Rule::AdamW] {
            let config = OptimiserConfig { rule, ..sgd() };
            let var = parameter(Role::Weight).var;
            let memory = Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap();
            let update = Update {
                config,
                rate: 0.1,
                count: 1,
            };
            let gradient = var.sqr().unwrap();
            assert!(gradient.track_op());
            let (memory, weight) = update.composed(&memory, &gradient, &var).unwrap();
            assert!(!memory.track_op() && !weight.track_op(), "{rule:?}");
        }
    }

    #[test]
    fn a_restored_optimiser_goes_on_as_if_never_stopped() {
        for rule in [Rule::Sgd, Rule::AdamW] {
            let config = OptimiserConfig { rule, ..sgd() };
            let whole = descend(config, Role::Weight, &[0.1; 4]);
            let parameter = parameter(Role::Weight);
            let mut optimiser = Optimiser::new(config, std::slice::from_ref(&parameter)).unwrap();
            for step in 0..4 {
                if step == 2 {
                    let saved: HashMap<String, Tensor> = optimiser
                        .state()
                        .map(|(name, memory)| (name.to_string(), memory.clone()))
                        .collect();
                    optimiser = Optimiser::new(config, std::slice::from_ref(&parameter)).unwrap();
                    optimiser
                        .restore(2, |name| Ok(saved[name].clone()))
                        .unwrap();
                }
                let loss = (parameter.var.sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
                optimiser.step(&loss.backward().unwrap(), 0.1).unwrap();
            }
            assert_eq!(parameter.var.to_vec1::<f64>().unwrap(), whole, "{rule:?}");
        }
    }
}
