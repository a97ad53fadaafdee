use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{MetricsError, Roc, Verification};

/// A confidence interval at 95%.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Confidence intervals of the figures of a [`Verification`]: see [`pair_intervals`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairIntervals {
    /// Of the accuracy at the threshold, both kinds of pairs weighing the same.
    pub accuracy: Interval,
    /// Of the false accept rate at the threshold.
    pub far: Interval,
    /// Of the false reject rate at the threshold.
    pub frr: Interval,
    /// Of the area under the ROC curve.
    pub auc: Interval,
    /// Of the equal error rate.
    pub eer: Interval,
}

/// Intervals at 95% that know that pairs have images or classes in common, by resampling those.
///
/// `distances`, `similar` and `units` are (N,), one for each pair. `units` are the two things that a
/// pair joins and that would be others if the pairs were gathered anew: the ids of its classes, the
/// same twice for a similar pair, or of its images. Classes are the right choice where the figures
/// are to hold for classes that are new; images, where those of the same classes are.
///
/// Each of 1000 resamples draws as many units as there are, with replacement. A pair counts as often
/// as its unit was drawn or, if it joins two, as the product of both numbers. The interval goes from
/// the 2.5% to the 97.5% quantile of the resamples that have pairs of both kinds.
///
/// This is the pigeonhole bootstrap of Owen (Annals of Applied Statistics 1, 2007), with one draw for
/// both ends of a pair since they are of one population, as Davezies, D'Haultfœuille and Guyonvarch
/// (Annals of Statistics 49, 2021) have it for pairs. Bolle, Ratha and Pankanti (Computer Vision and
/// Image Understanding 93, 2004) resample subsets of the scores in biometrics for the same reason.
///
/// The intervals are too wide, by up to √3, where the pairs of a unit have little in common. They are
/// too narrow for some ten units or fewer and for rates near 0: without errors they have no width, so
/// widen Wilson's interval with them ([`ErrorRate::widened`](crate::ErrorRate::widened)).
///
/// Takes O(N) time for each resample, and O(N) memory on each thread. The result depends on `seed`,
/// but not on the number of threads.
///
/// # Errors
///
/// [`MetricsError::Pairs`] if the lengths differ, all pairs join the same unit, or as [`Roc::new`].
pub fn pair_intervals(
    distances: &[f32],
    similar: &[bool],
    units: &[(u32, u32)],
    threshold: f64,
    seed: u64,
) -> Result<PairIntervals, MetricsError> {
    const RESAMPLES: u64 = 1000;
    Roc::new(distances, similar)?;
    if units.len() != distances.len() {
        let (units, pairs) = (units.len(), distances.len());
        return Err(MetricsError::Pairs(format!(
            "units of {units} pairs but {pairs} distances: give the two units of each pair"
        )));
    }
    let pairs = Pairs::new(distances, similar, units);
    if pairs.units < 2 {
        return Err(MetricsError::Pairs(format!(
            "all {} pairs join one class or image with itself: an interval needs two or more",
            distances.len()
        )));
    }
    let worth: Vec<Verification> = (0..RESAMPLES)
        .into_par_iter()
        .map_init(Roc::without_pairs, |roc, resample| {
            let drawn = pairs.draw(seed, resample);
            let both_kinds = roc.recount(pairs.weighted(&drawn));
            both_kinds.then(|| Verification::new(roc, threshold))
        })
        .flatten_iter()
        .collect();
    if worth.is_empty() {
        let problem = "no resample has both same and different pairs: there are too few pairs";
        return Err(MetricsError::Pairs(problem.into()));
    }
    let interval = |figure: fn(&Verification) -> f64| middle(worth.iter().map(figure).collect());
    Ok(PairIntervals {
        accuracy: interval(|worth| worth.accuracy),
        far: interval(|worth| worth.far.rate),
        frr: interval(|worth| worth.frr.rate),
        auc: interval(|worth| worth.auc),
        eer: interval(|worth| worth.eer),
    })
}

/// From the 2.5% to the 97.5% quantile of a figure over resamples; there is at least one value.
pub(crate) fn middle(mut values: Vec<f64>) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    let tail = values.len() / 40;
    Interval {
        low: values[tail],
        high: values[values.len() - 1 - tail],
    }
}

/// Pairs, nearest first.
struct Pairs {
    pairs: Vec<Pair>,
    /// How many units they join.
    units: usize,
}

struct Pair {
    distance: f32,
    similar: bool,
    /// Below the number of units.
    units: [u32; 2],
}

impl Pairs {
    fn new(distances: &[f32], similar: &[bool], units: &[(u32, u32)]) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |unit| {
            let next = numbers.len() as u32;
            *numbers.entry(unit).or_insert(next)
        };
        let mut pairs: Vec<Pair> = distances
            .iter()
            .zip(similar)
            .zip(units)
            .map(|((&distance, &similar), &(a, b))| Pair {
                distance,
                similar,
                units: [number(a), number(b)],
            })
            .collect();
        pairs.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        let units = numbers.len();
        Self { pairs, units }
    }

    /// How often each unit is drawn.
    fn draw(&self, seed: u64, resample: u64) -> Vec<u32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(resample);
        let mut drawn = vec![0; self.units];
        for _ in 0..self.units {
            drawn[rng.random_range(0..self.units as u32) as usize] += 1;
        }
        drawn
    }

    /// Distance and kind of each pair, nearest first, and how often it counts.
    fn weighted(&self, drawn: &[u32]) -> impl Iterator<Item = (f32, bool, usize)> {
        self.pairs.iter().map(|pair| {
            let [a, b] = pair.units;
            let times = |unit| drawn[unit as usize] as usize;
            let weight = if a == b {
                times(a)
            } else {
                times(a) * times(b)
            };
            (pair.distance, pair.similar, weight)
        })
    }
}
