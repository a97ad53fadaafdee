use crate::operating::different_pairs_for;
use crate::{ErrorRate, MetricsError};

/// The verdict on a pair: the same if its distance is at most the threshold.
///
/// The one rule for metrics and product alike. The threshold is an f64 so that it can lie between
/// any two f32 distances. A NaN on either side is not the same.
pub fn is_same(distance: f32, threshold: f64) -> bool {
    f64::from(distance) <= threshold
}

/// The error rates at one threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperatingPoint {
    /// Pairs up to this distance are accepted as the same; −∞ where none is.
    pub threshold: f64,
    /// False accept rate: share of the different pairs that are accepted, in [0, 1]. Also called
    /// the false positive rate.
    pub far: f64,
    /// False reject rate: share of the same pairs that are not accepted, in [0, 1]. Also called
    /// the false negative rate.
    pub frr: f64,
    /// True accept rate: share of the same pairs that are accepted, in [0, 1]. Also called the
    /// true positive rate.
    pub tar: f64,
}

/// Where false accepts and false rejects are equally frequent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EqualErrorRate {
    /// The common value of the two rates, in [0, 1].
    pub rate: f64,
    /// The threshold it belongs to, in units of distance.
    pub threshold: f64,
}

/// The receiver operating characteristic of pairs whose truth is known.
///
/// Pairs at equal distance get the same verdict at any threshold, so they make one step of the
/// curve together, and their order in the input does not matter.
#[derive(Debug, Clone)]
pub struct Roc {
    /// Ascending; the first accepts nothing, the last everything.
    steps: Vec<Step>,
    same: usize,
    different: usize,
}

/// A curve as three columns, a row for each step that is kept, nearest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RocColumns {
    /// Pairs up to this distance are accepted; ascending.
    pub distance: Vec<f32>,
    /// How many of the same pairs that are.
    pub same: Vec<u64>,
    /// How many of the different pairs.
    pub different: Vec<u64>,
}

/// How many pairs a threshold of `distance` accepts.
#[derive(Debug, Clone, Copy)]
struct Step {
    distance: f32,
    same: usize,
    different: usize,
}

impl Roc {
    /// Sorts and counts N pairs, in O(N log N).
    ///
    /// `distances[i]` is the distance of pair `i`, `same[i]` the truth about it.
    ///
    /// # Errors
    ///
    /// If the lengths differ, there is no pair, a distance is NaN or infinite, or all pairs are of
    /// one kind.
    pub fn new(distances: &[f32], same: &[bool]) -> Result<Self, MetricsError> {
        if distances.len() != same.len() {
            return Err(MetricsError::PairCount {
                distances: distances.len(),
                same: same.len(),
            });
        }
        let Some(&first) = same.first() else {
            return Err(MetricsError::NoPairs);
        };
        if let Some(index) = distances.iter().position(|d| !d.is_finite()) {
            return Err(MetricsError::NonFiniteDistance {
                index,
                value: distances[index],
            });
        }
        if same.iter().all(|&s| s == first) {
            return Err(MetricsError::OneKind {
                same: first,
                pairs: same.len(),
            });
        }

        let mut pairs: Vec<(f32, bool)> = distances
            .iter()
            .copied()
            .zip(same.iter().copied())
            .collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut accepted = Step {
            distance: f32::NEG_INFINITY,
            same: 0,
            different: 0,
        };
        let mut steps = vec![accepted];
        // `==`, not the sort's order, says what is a tie: -0 and 0 are one distance.
        for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
            let same = tied.iter().filter(|pair| pair.1).count();
            accepted.distance = tied[0].0;
            accepted.same += same;
            accepted.different += tied.len() - same;
            steps.push(accepted);
        }
        Ok(Self {
            steps,
            same: accepted.same,
            different: accepted.different,
        })
    }

    /// The curve that [`columns`](Self::columns) gave.
    ///
    /// # Errors
    ///
    /// If the columns differ in length, a distance is not finite or not above the one before, a count
    /// falls, or the last row has no pair of one kind.
    pub fn from_columns(columns: &RocColumns) -> Result<Self, MetricsError> {
        let RocColumns {
            distance,
            same,
            different,
        } = columns;
        let wrong = |problem| MetricsError::Columns { problem };
        let (Some(&all_same), Some(&all_different)) = (same.last(), different.last()) else {
            return Err(MetricsError::NoPairs);
        };
        if distance.len() != same.len() || distance.len() != different.len() {
            return Err(wrong("are not of one length"));
        }
        if !distance.iter().all(|d| d.is_finite()) || distance.windows(2).any(|d| d[0] >= d[1]) {
            return Err(wrong("have distances that are not finite and ascending"));
        }
        if !(same.is_sorted() && different.is_sorted()) {
            return Err(wrong("have a count that falls"));
        }
        if all_same == 0 || all_different == 0 {
            return Err(wrong("have pairs of one kind only"));
        }
        let mut steps = vec![Step {
            distance: f32::NEG_INFINITY,
            same: 0,
            different: 0,
        }];
        let rows = distance.iter().zip(same).zip(different);
        steps.extend(rows.map(|((&distance, &same), &different)| Step {
            distance,
            same: same as usize,
            different: different as usize,
        }));
        Ok(Self {
            steps,
            same: all_same as usize,
            different: all_different as usize,
        })
    }

    /// The curve as a table that is small enough to be kept with a model: at most some thousand rows.
    ///
    /// Left out are steps between which neither the number of false accepts nor that of false rejects
    /// changes by more than 1%; below a hundred of either, none that changes it is left out.
    pub fn columns(&self) -> RocColumns {
        let cell = |step: &Step| {
            let rung = |count: usize| ((1.0 + count as f64).ln() / 1.01f64.ln()) as u32;
            (rung(step.different), rung(self.same - step.same))
        };
        let mut columns = RocColumns::default();
        for alike in self.steps[1..].chunk_by(|a, b| cell(a) == cell(b)) {
            let ends = [alike.first(), alike.last().filter(|_| alike.len() > 1)];
            for step in ends.into_iter().flatten() {
                columns.distance.push(step.distance);
                columns.same.push(step.same as u64);
                columns.different.push(step.different as u64);
            }
        }
        columns
    }

    /// The number of pairs that are the same.
    pub fn same(&self) -> usize {
        self.same
    }

    /// The number of pairs that are different.
    pub fn different(&self) -> usize {
        self.different
    }

    /// The number of pairs.
    pub fn pairs(&self) -> usize {
        self.same + self.different
    }

    /// Whether there are as many same as different pairs.
    pub fn is_balanced(&self) -> bool {
        self.same == self.different
    }

    /// Every operating point, from the one that accepts nothing to the one that accepts all: one
    /// more than there are distinct distances.
    pub fn points(&self) -> impl ExactSizeIterator<Item = OperatingPoint> {
        self.steps.iter().map(|step| self.point(step))
    }

    /// Area under the curve of true over false accept rate, in [0, 1].
    ///
    /// The probability that a random same pair is nearer than a random different pair, a tie
    /// counting half.
    pub fn auc(&self) -> f64 {
        let twice_wins: u128 = self
            .steps
            .windows(2)
            .map(|step| {
                let different = step[1].different - step[0].different;
                // Twice the nearer same pairs, and once the tied ones.
                let same = step[0].same + step[1].same;
                different as u128 * same as u128
            })
            .sum();
        twice_wins as f64 / (2 * self.same as u128 * self.different as u128) as f64
    }

    /// The rate at which false accepts and false rejects are equally frequent.
    ///
    /// Along the curve FAR - FRR rises strictly from -1 to 1. Rate and threshold are interpolated
    /// linearly between the last operating point at which it is negative and the next. Where the
    /// former accepts nothing, and so has no finite threshold, the threshold is the latter's.
    ///
    /// As an interpolation, it need not be the error rate of these pairs at any threshold. For
    /// verdicts use [`best_threshold`](Self::best_threshold).
    pub fn eer(&self) -> EqualErrorRate {
        // (FAR - FRR) · same · different, exact.
        let gap = |step: &Step| {
            let false_accepts = step.different as i128 * self.same as i128;
            let false_rejects = (self.same - step.same) as i128 * self.different as i128;
            false_accepts - false_rejects
        };
        // At least 1 and within the curve: the first gap is negative and the last positive.
        let crossed = self.steps.partition_point(|step| gap(step) < 0);
        let [before, after] = [&self.steps[crossed - 1], &self.steps[crossed]];
        let weight = -gap(before) as f64 / (gap(after) - gap(before)) as f64;
        let [before, after] = [self.point(before), self.point(after)];
        EqualErrorRate {
            rate: before.far + weight * (after.far - before.far),
            threshold: if crossed == 1 {
                after.threshold
            } else {
                before.threshold + weight * (after.threshold - before.threshold)
            },
        }
    }

    /// The threshold with the best accuracy on these pairs, in units of distance.
    ///
    /// The best thresholds make one or more intervals, each from one distance to a later one; the
    /// middle of the widest is taken, the lowest of equally wide ones. Mostly this is the midpoint
    /// between two neighbouring distances.
    ///
    /// Where accepting all is better than all else, this is the largest distance; where accepting
    /// nothing is, the next number below the smallest.
    pub fn best_threshold(&self) -> f64 {
        let (nothing, steps) = (&self.steps[0], &self.steps[1..]);
        let last = steps.len() - 1;
        let best = steps.iter().map(|step| self.correct(step)).max();
        if Some(self.correct(nothing)) > best {
            return f64::from(steps[0].distance).next_down();
        }

        let (mut widest, mut threshold) = (f64::NEG_INFINITY, f64::NAN);
        let mut end = 0;
        for run in steps.chunk_by(|a, b| self.correct(a) == self.correct(b)) {
            end += run.len();
            let low = f64::from(run[0].distance);
            let high = f64::from(steps[end.min(last)].distance);
            if Some(self.correct(&run[0])) == best && high - low > widest {
                widest = high - low;
                threshold = low.midpoint(high);
            }
        }
        threshold
    }

    /// The largest distance at which the false accept rate is at most `most`.
    ///
    /// Not the midpoint to the next, which between [`columns`](Self::columns)' rows would let pairs
    /// pass that were left out.
    ///
    /// Where it accepts nothing, it is the next number below the smallest distance.
    ///
    /// # Errors
    ///
    /// [`MetricsError::FarRange`] unless `most` is between 0 and 1, and [`MetricsError::TooFewPairs`]
    /// if there are fewer different pairs than ten for each one that may pass: the threshold would
    /// hang on a handful of pairs.
    pub fn threshold_at_far(&self, most: f64) -> Result<f64, MetricsError> {
        if !(most > 0.0 && most < 1.0) {
            return Err(MetricsError::FarRange { found: most });
        }
        let needed = different_pairs_for(most);
        if self.different < needed {
            return Err(MetricsError::TooFewPairs {
                far: most,
                found: self.different,
                needed,
            });
        }
        let allowed = self
            .steps
            .partition_point(|step| step.different as f64 <= most * self.different as f64);
        Ok(match allowed {
            1 => f64::from(self.steps[1].distance).next_down(),
            _ => f64::from(self.steps[allowed - 1].distance),
        })
    }

    /// Share of the pairs with the right verdict at a threshold, in [0, 1].
    pub fn accuracy_at(&self, threshold: f64) -> f64 {
        self.correct(self.step_at(threshold)) as f64 / self.pairs() as f64
    }

    /// False accept rate at a threshold: share of the different pairs that pass for the same, in
    /// [0, 1].
    pub fn far_at(&self, threshold: f64) -> f64 {
        self.point(self.step_at(threshold)).far
    }

    /// The false accept rate at a threshold, with its interval.
    pub fn false_accepts_at(&self, threshold: f64) -> ErrorRate {
        ErrorRate::new(self.step_at(threshold).different, self.different)
    }

    /// The false reject rate at a threshold, with its interval.
    pub fn false_rejects_at(&self, threshold: f64) -> ErrorRate {
        ErrorRate::new(self.same - self.step_at(threshold).same, self.same)
    }

    /// False reject rate at a threshold: share of the same pairs that do not pass for the same,
    /// in [0, 1].
    pub fn frr_at(&self, threshold: f64) -> f64 {
        self.point(self.step_at(threshold)).frr
    }

    fn step_at(&self, threshold: f64) -> &Step {
        let accepted = self.steps[1..].partition_point(|step| is_same(step.distance, threshold));
        &self.steps[accepted]
    }

    fn correct(&self, step: &Step) -> usize {
        step.same + (self.different - step.different)
    }

    fn point(&self, step: &Step) -> OperatingPoint {
        OperatingPoint {
            threshold: f64::from(step.distance),
            far: step.different as f64 / self.different as f64,
            frr: (self.same - step.same) as f64 / self.same as f64,
            tar: step.same as f64 / self.same as f64,
        }
    }
}
