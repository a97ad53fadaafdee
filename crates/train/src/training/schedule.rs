//! The learning rate over the steps of a run; its formulas are in [`Policy`].

use std::f64::consts::PI;

use crate::settings::{Policy, Schedule};

impl Schedule {
    /// The factor on the optimiser's rate at `step` of `steps`, both counted from 0.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let at = step as f64;
        let factor = match self.policy {
            Policy::Constant => 1.0,
            Policy::Inv => (1.0 + self.gamma * at).powf(-self.power),
            Policy::Step => self.gamma.powf((step / self.step_size.max(1)) as f64),
            Policy::Cosine => {
                let span = steps.saturating_sub(self.warm_up).max(1) as f64;
                let progress = (step.saturating_sub(self.warm_up) as f64 / span).min(1.0);
                self.floor + (1.0 - self.floor) * (1.0 + (PI * progress).cos()) / 2.0
            }
        };
        factor * ((at + 1.0) / self.warm_up.max(1) as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Schedule = Schedule {
        policy: Policy::Constant,
        warm_up: 0,
        gamma: 0.0,
        power: 0.0,
        step_size: 1,
        floor: 0.0,
    };

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn inv_is_caffes() {
        let inv = Schedule {
            policy: Policy::Inv,
            gamma: 1e-4,
            power: 0.75,
            ..PLAIN
        };
        close(inv.factor(0, 50_000), 1.0);
        close(inv.factor(10_000, 50_000), 0.594_603_557_501_360_5); // 2^−0.75
        close(inv.factor(50_000, 50_000), 0.26084743001221455); // 6^−0.75
    }

    #[test]
    fn step_falls_at_multiples_of_its_size() {
        let step = Schedule {
            policy: Policy::Step,
            gamma: 0.1,
            step_size: 8,
            ..PLAIN
        };
        close(step.factor(7, 20), 1.0);
        close(step.factor(8, 20), 0.1);
        close(step.factor(16, 20), 0.01);
    }

    #[test]
    fn cosine_goes_from_all_to_the_floor() {
        let cosine = Schedule {
            policy: Policy::Cosine,
            floor: 0.02,
            ..PLAIN
        };
        close(cosine.factor(0, 100), 1.0);
        close(cosine.factor(50, 100), 0.51);
        close(cosine.factor(100, 100), 0.02);
        close(cosine.factor(150, 100), 0.02);
    }

    #[test]
    fn warm_up_rises_to_the_policys_rate() {
        let warm = Schedule {
            policy: Policy::Cosine,
            warm_up: 10,
            ..PLAIN
        };
        close(warm.factor(0, 110), 0.1);
        close(warm.factor(4, 110), 0.5);
        close(warm.factor(9, 110), 1.0);
        close(warm.factor(10, 110), 1.0);
        close(warm.factor(60, 110), 0.5);
    }
}
