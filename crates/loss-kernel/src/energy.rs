//! The loss of one pair and its derivative: the only place on the CPU that knows the formulas.
//!
//! A pair is two embeddings `a`, `b` and `y`, 1 for a similar pair and 0 for a dissimilar one. Its
//! loss depends on `a − b` only through one number `s`, so its gradient is that of `s` times a
//! scalar, the *slope*:
//!
//! | norm | `s` | `d` | `∂loss/∂a_k = −∂loss/∂b_k` |
//! |---|---|---|---|
//! | L2 | `Σ (a_k − b_k)²` | `√s` | `slope · (a_k − b_k)` |
//! | L1 | `Σ \|a_k − b_k\|` | `s` | `slope · sign(a_k − b_k)` |

use num_traits::{Float, cast};
use serde::{Deserialize, Serialize};

/// The variants are listed here and nowhere else on the CPU; `kernels/contrastive.h` has them in the
/// same order.
macro_rules! variants {
    ($(#[$of_all:meta])* pub enum Variant { $($(#[$of_one:meta])* $name:ident,)+ }) => {
        $(#[$of_all])*
        pub enum Variant {
            $($(#[$of_one])* $name,)+
        }

        impl Variant {
            /// Every variant, for tests and help texts.
            pub const ALL: [Self; [$(Self::$name),+].len()] = [$(Self::$name),+];

            /// `work` with a constant, so that a loop in it knows the formula.
            #[inline(always)]
            pub(crate) fn fixed<R>(self, work: impl FnOnce(Self) -> R) -> R {
                match self {
                    $(Self::$name => work(Self::$name),)+
                }
            }
        }
    };
}

variants! {
    /// How the distance of a pair becomes its loss. `d` is the distance, `m` the margin.
    ///
    /// | variant | similar | dissimilar |
    /// |---|---|---|
    /// | [`Hadsell`](Self::Hadsell) | `½·d²` | `½·max(m − d, 0)²` |
    /// | [`Legacy`](Self::Legacy) | `½·d²` | `½·max(m − d², 0)` |
    /// | [`Squared`](Self::Squared) | `½·d²` | `½·max(m − d², 0)²` |
    /// | [`ExponentialL1`](Self::ExponentialL1), [`ExponentialL2`](Self::ExponentialL2) | `(2/Q)·d²` | `2·Q·exp(−(2.77/Q)·d)` |
    ///
    /// The hinges are strict: at `d = m` a dissimilar pair has gradient 0. So it has at `d = 0`, where
    /// the distance has no derivative and every direction is as good as another.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Variant {
        /// Hadsell, Chopra, LeCun 2006, eq. 4; Caffe's `ContrastiveLossLayer` as it is by default.
        #[default]
        Hadsell,
        /// Caffe's `legacy_version: true`.
        Legacy,
        /// The margin against the squared distance, and the whole squared.
        Squared,
        /// Chopra, Hadsell, LeCun 2005 with the L1 distance, which the paper prefers. The margin is
        /// read as `Q`, the upper bound of the distance. The paper's label is 1 for an impostor pair;
        /// here, as everywhere in this crate, 1 is a similar pair.
        ExponentialL1,
        /// As [`ExponentialL1`](Self::ExponentialL1), with the Euclidean distance.
        ExponentialL2,
    }
}

/// Which sum over the components a variant's loss depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    L1,
    L2,
}

impl Norm {
    /// `work` with a constant, so that a loop in it has no branch.
    #[inline(always)]
    pub(crate) fn fixed<R>(self, work: impl FnOnce(Self) -> R) -> R {
        match self {
            Self::L1 => work(Self::L1),
            Self::L2 => work(Self::L2),
        }
    }

    /// What a component adds to `s`.
    #[inline(always)]
    pub(crate) fn term<T: Float>(self, difference: T) -> T {
        match self {
            Self::L1 => difference.abs(),
            Self::L2 => difference * difference,
        }
    }

    /// A component's gradient over the slope.
    #[inline(always)]
    pub(crate) fn direction<T: Float>(self, difference: T) -> T {
        match self {
            // `signum` gives 1 for 0.
            Self::L1 if difference.is_zero() => difference,
            Self::L1 => difference.signum(),
            Self::L2 => difference,
        }
    }
}

impl Variant {
    #[inline(always)]
    pub(crate) fn norm(self) -> Norm {
        match self {
            Self::ExponentialL1 => Norm::L1,
            _ => Norm::L2,
        }
    }

    /// Loss and slope of one pair, from `s` (see the module) and the margin `m`.
    ///
    /// Always inlined, as what it calls: the loop over the pairs becomes vector code around it.
    #[inline(always)]
    pub(crate) fn loss_and_slope<T: Float>(self, s: T, similar: bool, m: T) -> (T, T) {
        let zero = T::zero();
        let one = T::one();
        let two = one + one;
        let half = one / two;
        match (self, similar) {
            (Self::Hadsell | Self::Legacy | Self::Squared, true) => (half * s, one),
            (Self::Hadsell, false) => {
                let d = s.sqrt();
                let gap = hinge(m - d);
                (half * gap * gap, if d > zero { -gap / d } else { zero })
            }
            (Self::Legacy, false) => {
                let gap = hinge(m - s);
                (half * gap, if gap > zero { -one } else { zero })
            }
            (Self::Squared, false) => {
                let gap = hinge(m - s);
                (half * gap * gap, -two * gap)
            }
            (Self::ExponentialL2, true) => (two / m * s, (two + two) / m),
            (Self::ExponentialL1, true) => (two / m * s * s, (two + two) / m * s),
            (Self::ExponentialL1 | Self::ExponentialL2, false) => {
                let rate = constant::<T>(2.77);
                let d = if self.norm() == Norm::L1 { s } else { s.sqrt() };
                let decay = (-rate / m * d).exp();
                let derivative = -two * rate * decay;
                let slope = match self.norm() {
                    Norm::L1 => derivative,
                    Norm::L2 if d > zero => derivative / d,
                    Norm::L2 => zero,
                };
                (two * m * decay, slope)
            }
        }
    }
}

/// `max(gap, 0)`, except that a NaN stays one: a network that has diverged must be seen.
#[inline(always)]
fn hinge<T: Float>(gap: T) -> T {
    if gap <= T::zero() { T::zero() } else { gap }
}

#[inline(always)]
fn constant<T: Float>(value: f64) -> T {
    cast(value).unwrap_or_else(T::nan)
}
