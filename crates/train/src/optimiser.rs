//! SGD with momentum as Caffe has it, and AdamW. candle-nn's SGD has no momentum, and its AdamW
//! neither saves its state nor takes a rate for each parameter.

use anyhow::{Context, Result, ensure};
use candle_core::{Tensor, backprop::GradStore};
use model::{Parameter, Role};
use serde::{Deserialize, Serialize};

/// Which rule turns gradients into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// `v ← momentum·v + rate·(g + weight_decay·w)`, `w ← w − v`: the rate is inside the momentum,
    /// as in Caffe.
    Sgd,
    /// Loshchilov, Hutter 2019: decay beside the gradient, moments corrected for their start.
    AdamW,
}

/// An optimiser's settings; keys that a rule does not use are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// See [`Rule`].
    pub rule: Rule,
    /// The rate that the schedule starts from.
    pub learning_rate: f64,
    /// Pull of every parameter towards 0.
    pub weight_decay: f64,
    /// Factor on the rate of biases; Caffe's LeNet has 2, weights always have 1.
    pub bias_rate: f64,
    /// SGD: the share of the last step in the next.
    pub momentum: f64,
    /// AdamW: decay of the gradient's mean.
    pub beta1: f64,
    /// AdamW: decay of the gradient's mean square.
    pub beta2: f64,
    /// AdamW: added to the root of the mean square.
    pub epsilon: f64,
}

/// One parameter with what the rule remembers of it: the momentum, or the two moments.
struct Slot {
    parameter: Parameter,
    rate: f64,
    state: Vec<Tensor>,
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
        let memories = match config.rule {
            Rule::Sgd => 1,
            Rule::AdamW => 2,
        };
        let slots = parameters.iter().map(|parameter| {
            Ok(Slot {
                rate: match parameter.role {
                    Role::Weight => 1.0,
                    Role::Bias => config.bias_rate,
                },
                state: vec![parameter.var.zeros_like()?; memories],
                parameter: parameter.clone(),
            })
        });
        Ok(Self {
            config,
            slots: slots.collect::<Result<_>>()?,
            steps: 0,
        })
    }

    /// One step at the learning rate `rate`.
    pub fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        self.steps += 1;
        for slot in &mut self.slots {
            let name = &slot.parameter.name;
            let gradient = gradients
                .get(&slot.parameter.var)
                .with_context(|| format!("the loss does not depend on {name}"))?
                .detach();
            let weight = slot.parameter.var.as_detached_tensor();
            let (state, updated) = self.config.update(
                &weight,
                &gradient,
                &slot.state,
                rate * slot.rate,
                self.steps,
            )?;
            slot.state = state;
            slot.parameter.var.set(&updated)?;
        }
        Ok(())
    }

    /// What is remembered, by name.
    pub fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.slots.iter().flat_map(|slot| {
            let name = &slot.parameter.name;
            let named = move |(i, tensor)| (format!("{name}.{i}"), tensor);
            slot.state.iter().enumerate().map(named)
        })
    }

    /// Takes up what [`state`](Self::state) gave after `steps` steps.
    pub fn restore(
        &mut self,
        steps: u64,
        mut tensor: impl FnMut(&str) -> Result<Tensor>,
    ) -> Result<()> {
        for slot in &mut self.slots {
            for (i, state) in slot.state.iter_mut().enumerate() {
                let name = format!("{}.{i}", slot.parameter.name);
                let found = tensor(&name)?;
                ensure!(
                    found.dims() == state.dims() && found.dtype() == state.dtype(),
                    "{name} is {:?} {:?}, expected {:?} {:?}",
                    found.dims(),
                    found.dtype(),
                    state.dims(),
                    state.dtype()
                );
                *state = found;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

impl OptimiserConfig {
    /// The new state and the new weight after the `count`-th step.
    fn update(
        &self,
        weight: &Tensor,
        gradient: &Tensor,
        state: &[Tensor],
        rate: f64,
        count: u64,
    ) -> candle_core::Result<(Vec<Tensor>, Tensor)> {
        match self.rule {
            Rule::Sgd => {
                let pull = if self.weight_decay == 0.0 {
                    gradient.clone()
                } else {
                    (gradient + (weight * self.weight_decay)?)?
                };
                let velocity = ((&state[0] * self.momentum)? + (pull * rate)?)?;
                let weight = (weight - &velocity)?;
                Ok((vec![velocity], weight))
            }
            Rule::AdamW => {
                let (beta1, beta2) = (self.beta1, self.beta2);
                let mean = ((&state[0] * beta1)? + (gradient * (1.0 - beta1))?)?;
                let square = ((&state[1] * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
                let corrected = |beta: f64| 1.0 - beta.powf(count as f64);
                let step = rate / corrected(beta1);
                let root = (&square * (1.0 / corrected(beta2)))?.sqrt()?;
                let step = ((&mean * step)? / (root + self.epsilon)?)?;
                let weight = ((weight * (1.0 - rate * self.weight_decay))? - step)?;
                Ok((vec![mean, square], weight))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const SGD: OptimiserConfig = OptimiserConfig {
        rule: Rule::Sgd,
        learning_rate: 0.1,
        weight_decay: 0.0,
        bias_rate: 2.0,
        momentum: 0.9,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
    };

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
        close(&descend(SGD, Role::Weight, &[0.1, 0.05]), &[1.53, -0.765]);
    }

    #[test]
    fn biases_have_their_own_rate() {
        close(&descend(SGD, Role::Bias, &[0.1]), &[1.6, -0.8]);
    }

    #[test]
    fn sgd_decays_through_the_gradient() {
        let config = OptimiserConfig {
            weight_decay: 0.5,
            ..SGD
        };
        close(&descend(config, Role::Weight, &[0.1]), &[1.7, -0.85]);
    }

    #[test]
    fn adamw_takes_pytorchs_steps() {
        // w = torch.tensor([2., -1.], dtype=torch.float64, requires_grad=True)
        // o = torch.optim.AdamW([w], lr=0.1, weight_decay=0.01)
        // three times: o.zero_grad(); (0.5 * w * w).sum().backward(); o.step()   (torch 2.15.0)
        let config = OptimiserConfig {
            rule: Rule::AdamW,
            weight_decay: 0.01,
            ..SGD
        };
        let expected = [1.6949445151502027, -0.6989111847156934];
        close(&descend(config, Role::Weight, &[0.1; 3]), &expected);
    }

    #[test]
    fn a_restored_optimiser_goes_on_as_if_never_stopped() {
        for rule in [Rule::Sgd, Rule::AdamW] {
            let config = OptimiserConfig { rule, ..SGD };
            let whole = descend(config, Role::Weight, &[0.1; 4]);
            let parameter = parameter(Role::Weight);
            let mut optimiser = Optimiser::new(config, std::slice::from_ref(&parameter)).unwrap();
            for step in 0..4 {
                if step == 2 {
                    let saved: std::collections::HashMap<String, Tensor> = optimiser
                        .state()
                        .map(|(name, tensor)| (name, tensor.clone()))
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
