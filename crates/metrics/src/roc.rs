use crate::operating_point::{check_far, dissimilar_pairs_for};
use crate::{Calibration, ErrorRate, MetricsError, OperatingPoint, is_same};

/// A point of the ROC curve: the error rates at one threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// Pairs up to this distance are accepted, that is judged the same; −∞ if none is.
    pub threshold: f64,
    /// False accept rate: share of the dissimilar pairs that are accepted, in [0, 1]. Also called
    /// the false positive rate.
    pub far: f64,
    /// False reject rate: share of the similar pairs that are not accepted, in [0, 1]. Also called
    /// the false negative rate.
    pub frr: f64,
    /// True accept rate: share of the similar pairs that are accepted, in [0, 1]. Also called the
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

/// The receiver operating characteristic of pairs that are known to be similar or dissimilar (also:
/// positive or negative).
///
/// Pairs at equal distance get the same verdict at any threshold, so they make one step of the
/// curve together, and the order of the pairs does not matter.
#[derive(Debug, Clone)]
pub struct Roc {
    /// Ascending; the first accepts nothing, the last everything.
    steps: Vec<Step>,
    similar: usize,
    dissimilar: usize,
}

/// How many pairs a threshold of `distance` accepts.
#[derive(Debug, Clone, Copy)]
struct Step {
    distance: f32,
    similar: usize,
    dissimilar: usize,
}

impl Step {
    const NOTHING: Self = Self {
        distance: f32::NEG_INFINITY,
        similar: 0,
        dissimilar: 0,
    };
}

const NEEDED: &str = "a ROC needs at least one same and one different pair";

impl Roc {
    /// Sorts and counts N pairs, in O(N log N).
    ///
    /// `distances[i]` is the distance of pair `i`, and `similar[i]` says whether the pair is similar.
    ///
    /// # Errors
    ///
    /// [`MetricsError::Pairs`] if the lengths differ, there are no pairs, a distance is not finite, or
    /// the pairs are all similar or all dissimilar.
    pub fn new(distances: &[f32], similar: &[bool]) -> Result<Self, MetricsError> {
        let refused = |problem: String| Err(MetricsError::Pairs(problem));
        let pairs = similar.len();
        if distances.len() != pairs {
            return refused(format!(
                "{} distances but {pairs} truths: give one truth for each pair's distance",
                distances.len()
            ));
        }
        let Some(&first) = similar.first() else {
            return refused(format!("no pairs: {NEEDED}"));
        };
        if let Some(index) = distances.iter().position(|d| !d.is_finite()) {
            let value = distances[index];
            return refused(format!(
                "the distance of pair {index} is {value}: distances must be finite"
            ));
        }
        if similar.iter().all(|&s| s == first) {
            let kind = if first { "same" } else { "different" };
            return refused(format!("all {pairs} pairs are {kind} pairs: {NEEDED}"));
        }

        let mut pairs: Vec<(f32, bool)> = distances
            .iter()
            .copied()
            .zip(similar.iter().copied())
            .collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut roc = Self::without_pairs();
        roc.recount(
            pairs
                .into_iter()
                .map(|(distance, similar)| (distance, similar, 1)),
        );
        Ok(roc)
    }

    /// No curve yet, until [`recount`](Self::recount) says that it is one.
    pub(crate) fn without_pairs() -> Self {
        Self::of_steps(vec![Step::NOTHING])
    }

    /// Makes it the curve of pairs that are given by distance, whether they are similar and how often
    /// each counts, nearest first. Returns whether that is a curve: whether both kinds count.
    pub(crate) fn recount(&mut self, pairs: impl Iterator<Item = (f32, bool, usize)>) -> bool {
        let mut accepted = Step::NOTHING;
        self.steps.truncate(1);
        for (distance, similar, count) in pairs.filter(|pair| pair.2 > 0) {
            // `==`, not the sort's order, says what is a tie: -0 and 0 are one distance.
            if accepted.distance == distance {
                self.steps.pop();
            } else {
                accepted.distance = distance;
            }
            if similar {
                accepted.similar += count;
            } else {
                accepted.dissimilar += count;
            }
            self.steps.push(accepted);
        }
        (self.similar, self.dissimilar) = (accepted.similar, accepted.dissimilar);
        self.similar > 0 && self.dissimilar > 0
    }

    fn of_steps(steps: Vec<Step>) -> Self {
        let all = steps[steps.len() - 1];
        Self {
            steps,
            similar: all.similar,
            dissimilar: all.dissimilar,
        }
    }

    /// The curve that [`calibration`](Self::calibration) has stored.
    ///
    /// # Errors
    ///
    /// [`MetricsError::Calibration`] if the columns are empty or differ in length, a distance is not
    /// finite or not above the one before, a count falls or is above 2⁵³, or no pair is similar or none
    /// dissimilar.
    pub fn from_calibration(calibration: &Calibration) -> Result<Self, MetricsError> {
        let Calibration {
            at: _,
            distance,
            same,
            different,
        } = calibration;
        let refused = |problem| Err(MetricsError::Calibration(problem));
        let (Some(&similar), Some(&dissimilar)) = (same.last(), different.last()) else {
            return refused("are empty");
        };
        if distance.len() != same.len() || distance.len() != different.len() {
            return refused("are not of one length");
        }
        if !distance.iter().all(|d| d.is_finite()) || distance.windows(2).any(|d| d[0] >= d[1]) {
            return refused("have distances that are not finite and ascending");
        }
        if !(same.is_sorted() && different.is_sorted()) {
            return refused("have a count that falls");
        }
        if similar == 0 || dissimilar == 0 {
            return refused("have pairs of one kind only");
        }
        // The products of two counts below have to fit into an i128.
        if similar.max(dissimilar) > 1 << 53 {
            return refused("count more than 2^53 pairs");
        }
        let mut steps = vec![Step::NOTHING];
        let rows = distance.iter().zip(same).zip(different);
        steps.extend(rows.map(|((&distance, &similar), &dissimilar)| Step {
            distance,
            similar: similar as usize,
            dissimilar: dissimilar as usize,
        }));
        Ok(Self::of_steps(steps))
    }

    /// The curve as columns small enough to be kept with a model, some thousand rows at most, beside
    /// the operating point that its threshold was chosen for.
    ///
    /// Steps are left out between which neither the number of false accepts nor that of false rejects
    /// changes by more than 1%. Below a hundred of either, every step that changes it is kept.
    pub fn calibration(&self, at: OperatingPoint) -> Calibration {
        let cell = |step: &Step| {
            let rung = |count: usize| ((1.0 + count as f64).ln() / 1.01f64.ln()) as u32;
            (rung(step.dissimilar), rung(self.similar - step.similar))
        };
        let mut columns = Calibration {
            at,
            ..Calibration::default()
        };
        for run in self.steps[1..].chunk_by(|a, b| cell(a) == cell(b)) {
            let ends = [run.first(), run.last().filter(|_| run.len() > 1)];
            for step in ends.into_iter().flatten() {
                columns.distance.push(step.distance);
                columns.same.push(step.similar as u64);
                columns.different.push(step.dissimilar as u64);
            }
        }
        columns
    }

    /// The number of similar pairs.
    pub fn similar(&self) -> usize {
        self.similar
    }

    /// The number of dissimilar pairs.
    pub fn dissimilar(&self) -> usize {
        self.dissimilar
    }

    /// The number of pairs.
    pub fn pairs(&self) -> usize {
        self.similar + self.dissimilar
    }

    /// Whether there are as many similar as dissimilar pairs.
    pub fn is_balanced(&self) -> bool {
        self.similar == self.dissimilar
    }

    /// The points of the curve, from the one that accepts nothing to the one that accepts all: one
    /// more than there are distinct distances.
    pub fn points(&self) -> impl ExactSizeIterator<Item = RocPoint> {
        self.steps.iter().map(|step| self.point(step))
    }

    /// Area under the curve of true over false accept rate, in [0, 1].
    ///
    /// The probability that a random similar pair is nearer than a random dissimilar pair, where a
    /// tie counts half.
    pub fn auc(&self) -> f64 {
        let twice_wins: u128 = self
            .steps
            .windows(2)
            .map(|step| {
                let dissimilar = step[1].dissimilar - step[0].dissimilar;
                // Twice the nearer similar pairs, and once the tied ones.
                let similar = step[0].similar + step[1].similar;
                dissimilar as u128 * similar as u128
            })
            .sum();
        twice_wins as f64 / (2 * self.similar as u128 * self.dissimilar as u128) as f64
    }

    /// The rate at which false accepts and false rejects are equally frequent.
    ///
    /// Along the curve FAR - FRR rises strictly from -1 to 1. Rate and threshold are interpolated
    /// linearly between the last point at which it is negative and the next. If the former accepts
    /// nothing, and so has no finite threshold, the threshold is the latter's.
    ///
    /// Being interpolated, it need not be the error rate of these pairs at any threshold.
    pub fn eer(&self) -> EqualErrorRate {
        // (FAR - FRR) · same · different, exact.
        let gap = |step: &Step| {
            let false_accepts = step.dissimilar as i128 * self.similar as i128;
            let false_rejects = (self.similar - step.similar) as i128 * self.dissimilar as i128;
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

    /// The threshold with the best [balanced accuracy](Self::balanced_accuracy_at) on these pairs, in
    /// units of distance.
    ///
    /// The best thresholds form one or more intervals, each from one distance to a later one. The
    /// result is the middle of the widest, and of the lowest if several are equally wide: mostly the
    /// midpoint between two neighbouring distances.
    ///
    /// If no threshold is better than chance, it accepts every pair and is the largest distance.
    pub fn best_threshold(&self) -> f64 {
        // To accept nothing, the first step, is no better than to accept everything: both are chance.
        let steps = &self.steps[1..];
        let last = steps.len() - 1;
        let best = steps.iter().map(|step| self.balance(step)).max();

        let (mut widest, mut threshold) = (f64::NEG_INFINITY, f64::NAN);
        let mut end = 0;
        for run in steps.chunk_by(|a, b| self.balance(a) == self.balance(b)) {
            end += run.len();
            let low = f64::from(run[0].distance);
            let high = f64::from(steps[end.min(last)].distance);
            if Some(self.balance(&run[0])) == best && high - low > widest {
                widest = high - low;
                threshold = low.midpoint(high);
            }
        }
        threshold
    }

    /// The largest distance at which the false accept rate is at most `most`.
    ///
    /// It is not the midpoint to the next distance: on a curve read from a calibration, that would
    /// accept pairs whose steps were left out. If no pair may be accepted, it is the next number below
    /// the smallest distance.
    ///
    /// # Errors
    ///
    /// [`MetricsError::OperatingPoint`] unless `most` is between 0 and 1, and
    /// [`MetricsError::TooFewPairs`] if there are fewer than ten dissimilar pairs for each one that
    /// may be accepted: the threshold would hang on a handful of pairs.
    pub fn threshold_at_far(&self, most: f64) -> Result<f64, MetricsError> {
        let needed = dissimilar_pairs_for(check_far(most)?);
        if self.dissimilar < needed {
            return Err(MetricsError::TooFewPairs {
                far: most,
                found: self.dissimilar,
                needed,
            });
        }
        let allowed = self
            .steps
            .partition_point(|step| step.dissimilar as f64 <= most * self.dissimilar as f64);
        Ok(match allowed {
            1 => f64::from(self.steps[1].distance).next_down(),
            _ => f64::from(self.steps[allowed - 1].distance),
        })
    }

    /// Share of the pairs with the right verdict at a threshold, in [0, 1].
    pub fn accuracy_at(&self, threshold: f64) -> f64 {
        let step = self.step_at(threshold);
        let correct = step.similar + (self.dissimilar - step.dissimilar);
        correct as f64 / self.pairs() as f64
    }

    /// The mean of true accept rate and true reject rate at a threshold, in [0, 1]: the accuracy if
    /// both kinds of pairs had the same weight. Chance is a half, however many pairs of each kind
    /// there are.
    pub fn balanced_accuracy_at(&self, threshold: f64) -> f64 {
        let most = 2 * self.similar as u128 * self.dissimilar as u128;
        self.balance(self.step_at(threshold)) as f64 / most as f64
    }

    /// False accept rate at a threshold: share of the dissimilar pairs that are accepted, in [0, 1].
    pub fn far_at(&self, threshold: f64) -> f64 {
        self.point(self.step_at(threshold)).far
    }

    /// The false accept rate at a threshold, with its interval.
    pub fn false_accepts_at(&self, threshold: f64) -> ErrorRate {
        ErrorRate::new(self.step_at(threshold).dissimilar, self.dissimilar)
    }

    /// The false reject rate at a threshold, with its interval.
    pub fn false_rejects_at(&self, threshold: f64) -> ErrorRate {
        ErrorRate::new(self.similar - self.step_at(threshold).similar, self.similar)
    }

    /// False reject rate at a threshold: share of the similar pairs that are not accepted, in [0, 1].
    pub fn frr_at(&self, threshold: f64) -> f64 {
        self.point(self.step_at(threshold)).frr
    }

    fn step_at(&self, threshold: f64) -> &Step {
        let accepted = self.steps[1..].partition_point(|step| is_same(step.distance, threshold));
        &self.steps[accepted]
    }

    /// (TAR + TRR) · same · different, exact.
    fn balance(&self, step: &Step) -> u128 {
        let rejected = self.dissimilar - step.dissimilar;
        step.similar as u128 * self.dissimilar as u128 + rejected as u128 * self.similar as u128
    }

    fn point(&self, step: &Step) -> RocPoint {
        RocPoint {
            threshold: f64::from(step.distance),
            far: step.dissimilar as f64 / self.dissimilar as f64,
            frr: (self.similar - step.similar) as f64 / self.similar as f64,
            tar: step.similar as f64 / self.similar as f64,
        }
    }
}
