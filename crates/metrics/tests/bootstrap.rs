//! Intervals of pairs, against the binomial and in a world whose truth is known.

use metrics::{ErrorRate, Interval, MetricsError, PairIntervals, pair_intervals};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const THRESHOLD: f64 = 0.5;

/// Pairs that are accepted, at distance 0, or not, at 1.
#[derive(Clone, Default)]
struct World {
    distances: Vec<f32>,
    similar: Vec<bool>,
    units: Vec<(u32, u32)>,
}

impl World {
    fn push(&mut self, similar: bool, error: bool, units: (u32, u32)) {
        self.distances.push(f32::from(similar == error));
        self.similar.push(similar);
        self.units.push(units);
    }

    fn intervals(&self) -> Result<PairIntervals, MetricsError> {
        pair_intervals(&self.distances, &self.similar, &self.units, THRESHOLD, 7)
    }

    fn error_rate(&self, similar: bool) -> ErrorRate {
        let of_kind = || (0..self.similar.len()).filter(|&pair| self.similar[pair] == similar);
        let wrong = of_kind().filter(|&pair| (self.distances[pair] == 1.0) == similar);
        ErrorRate::new(wrong.count(), of_kind().count())
    }
}

fn width(interval: Interval) -> f64 {
    interval.high - interval.low
}

fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected} ± {tolerance}"
    );
}

/// 1,000 pairs of each kind, of which every tenth and every fourth is wrong.
fn independent(units: fn(u32) -> (u32, u32)) -> World {
    let mut world = World::default();
    for pair in 0..1000 {
        world.push(true, pair % 10 == 0, units(2 * pair));
        world.push(false, pair % 4 == 0, units(2 * pair + 1));
    }
    world
}

#[test]
fn pairs_without_anything_in_common_get_the_interval_of_independent_ones() {
    let found = independent(|pair| (pair, pair)).intervals().unwrap();
    for (found, expected) in [
        (found.frr, ErrorRate::new(100, 1000)),
        (found.far, ErrorRate::new(250, 1000)),
    ] {
        assert_near(found.low, expected.low, 0.004);
        assert_near(found.high, expected.high, 0.004);
    }
    // One minus the mean of two independent rates, which is also the AUC of two distances.
    let deviation = ((0.1 * 0.9 + 0.25 * 0.75) / 1000.0_f64).sqrt() / 2.0;
    for found in [found.accuracy, found.auc] {
        assert_near(found.low, 0.825 - 1.96 * deviation, 0.002);
        assert_near(found.high, 0.825 + 1.96 * deviation, 0.002);
    }
    // FAR and FRR meet on the line from (FAR, FRR) to (1, 0): at FRR / (1 - FAR + FRR) below, or to
    // (0, 1) at FAR / (1 + FAR - FRR) where FAR is the larger: 0.25 / 1.15.
    assert!(found.eer.low < 0.25 / 1.15 && 0.25 / 1.15 < found.eer.high);
}

#[test]
fn two_units_of_its_own_make_a_pair_count_by_a_product() {
    // The variance of a number of draws is 1, that of the product of two is (1 + 1)² − 1 = 3.
    let one = independent(|pair| (pair, pair)).intervals().unwrap();
    let two = independent(|pair| (2 * pair, 2 * pair + 1));
    let two = two.intervals().unwrap();
    for (one, two) in [(one.frr, two.frr), (one.far, two.far)] {
        assert_near(width(two) / width(one), 3_f64.sqrt(), 0.15);
    }
}

#[test]
fn errors_of_one_class_widen_the_interval() {
    // 10 of 100 similar pairs are wrong: one of each class, or all ten of a class.
    let world = |wrong: fn(u32, u32) -> bool| {
        let mut world = World::default();
        for class in 0..10 {
            for pair in 0..10 {
                world.push(true, wrong(class, pair), (class, class));
                world.push(false, false, (class, (class + 1 + pair % 9) % 10));
            }
        }
        world
    };
    let spread = world(|_, pair| pair == 0).intervals().unwrap().frr;
    assert_eq!(
        spread,
        Interval {
            low: 0.1,
            high: 0.1
        }
    );
    let gathered = world(|class, _| class == 0);
    // Of 10 draws each takes that class with 1/10: none does in 35% of the resamples, more than 2 do
    // in 7% and more than 3 in 1.3%.
    let found = gathered.intervals().unwrap().frr;
    assert_eq!(
        found,
        Interval {
            low: 0.0,
            high: 0.3
        }
    );
    assert!(width(found) > 2.0 * width_of(gathered.error_rate(true)));
}

fn width_of(rate: ErrorRate) -> f64 {
    rate.high - rate.low
}

#[test]
fn a_small_folder_keeps_at_least_wilsons_interval() {
    // 6 classes of 3 images: 18 similar pairs, 2 of them wrong, and all 135 dissimilar ones.
    let mut world = World::default();
    for a in 0..18 {
        for b in a + 1..18 {
            let units = (a / 3, b / 3);
            let similar = units.0 == units.1;
            world.push(
                similar,
                similar && (a == 0 && b == 1 || a == 9 && b == 11),
                units,
            );
        }
    }
    let intervals = world.intervals().unwrap();
    let frr = world.error_rate(true);
    assert_eq!((frr.errors, frr.pairs), (2, 18));
    let widened = frr.widened(intervals.frr);
    // Wilson's interval of 16 of 18 goes from 67.2% to 96.9%.
    assert!(
        1.0 - widened.high <= 0.6721 && 1.0 - widened.low >= 0.969,
        "{widened:?}"
    );
    assert_eq!((widened.rate, widened.errors), (frr.rate, 2));

    // Without errors the bootstrap has no width and Wilson's interval stays.
    assert_eq!(
        intervals.far,
        Interval {
            low: 0.0,
            high: 0.0
        }
    );
    let far = world.error_rate(false);
    assert_eq!(far.widened(intervals.far), far);
    // A wider one replaces both ends.
    let all = Interval {
        low: 0.0,
        high: 1.0,
    };
    let widened = frr.widened(all);
    assert_eq!((widened.low, widened.high), (0.0, 1.0));
}

#[test]
fn figures_without_errors_have_no_width() {
    let mut world = World::default();
    for class in 0..8 {
        world.push(true, false, (class, class));
        world.push(false, false, (class, (class + 1) % 8));
    }
    let found = world.intervals().unwrap();
    let [none, all] = [0.0, 1.0].map(|end| Interval {
        low: end,
        high: end,
    });
    let expected = PairIntervals {
        accuracy: all,
        far: none,
        frr: none,
        auc: all,
        eer: none,
    };
    assert_eq!(found, expected);
}

#[test]
fn similar_pairs_of_one_class_still_get_intervals() {
    // Their class is missing in a third of the resamples, which do not count.
    let mut world = World::default();
    for other in 1..9 {
        world.push(true, other % 2 == 0, (0, 0));
        world.push(false, other % 2 == 0, (0, other));
    }
    let found = world.intervals().unwrap();
    // They all count the same in the others.
    assert_eq!(
        found.frr,
        Interval {
            low: 0.5,
            high: 0.5
        }
    );
    assert!(found.far.low < 0.3 && found.far.high > 0.7, "{found:?}");
}

#[test]
fn the_auc_is_that_of_pairs_that_are_there_more_than_once() {
    // Two units make three outcomes. Drawn once each: the similar pairs at 1 and 3 and the dissimilar
    // one at 2 give 1 of 2 comparisons. Drawn otherwise: no dissimilar pair.
    let units = [(4, 4), (9, 9), (4, 9)];
    let found = pair_intervals(&[1.0, 3.0, 2.0], &[true, true, false], &units, 2.0, 1).unwrap();
    assert_eq!(
        found.auc,
        Interval {
            low: 0.5,
            high: 0.5
        }
    );
    assert_eq!(
        found.accuracy,
        Interval {
            low: 0.25,
            high: 0.25
        }
    );
    // At 1 FAR − FRR is −1/2, at 2 it is 1/2: halfway from FAR 0 to FAR 1.
    assert_eq!(
        found.eer,
        Interval {
            low: 0.5,
            high: 0.5
        }
    );
}

#[test]
fn intervals_are_the_same_bits_for_any_number_of_threads() {
    let world = clustered(&mut ChaCha8Rng::seed_from_u64(3));
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| world.intervals().unwrap())
    };
    assert_eq!(with(1), with(4));
    let World {
        distances,
        similar,
        units,
    } = &world;
    let other = pair_intervals(distances, similar, units, THRESHOLD, 8).unwrap();
    assert_ne!(other, with(1));
}

#[test]
fn pairs_that_give_no_interval_are_refused() {
    let refusal = |units: &[(u32, u32)]| {
        let found = pair_intervals(&[1.0, 2.0], &[true, false], units, 1.0, 1);
        found.unwrap_err().to_string()
    };
    assert_eq!(
        refusal(&[(0, 0)]),
        "units of 1 pairs but 2 distances: give the two units of each pair"
    );
    assert_eq!(
        refusal(&[(5, 5), (5, 5)]),
        "all 2 pairs join one class or image with itself: an interval needs two or more"
    );
    let found = pair_intervals(&[1.0], &[true], &[(0, 1)], 1.0, 1);
    assert!(matches!(found, Err(MetricsError::Pairs(_))));
}

const CLASSES: u32 = 40;

/// Pairs whose errors cluster: each class has its own rate of false rejects and, for each of its
/// dissimilar pairs, half of a rate of false accepts, all from the beta distribution of 1 and 4, whose
/// mean is 1/5.
fn clustered(rng: &mut ChaCha8Rng) -> World {
    // Its distribution function is 1 − (1 − x)⁴.
    let mut rates = || -> Vec<f64> {
        let rate = |_| 1.0 - rng.random::<f64>().powf(0.25);
        (0..CLASSES).map(rate).collect()
    };
    let (frr, far) = (rates(), rates());
    let mut world = World::default();
    for a in 0..CLASSES {
        for _ in 0..20 {
            world.push(true, rng.random_bool(frr[a as usize]), (a, a));
        }
        for b in a + 1..CLASSES {
            let rate = (far[a as usize] + far[b as usize]) / 2.0;
            world.push(false, rng.random_bool(rate), (a, b));
        }
    }
    world
}

#[test]
fn intervals_cover_the_truth_where_wilsons_does_not() {
    const TRIALS: usize = 200;
    let mut rng = ChaCha8Rng::seed_from_u64(2007);
    let [
        mut accuracy,
        mut auc,
        mut far,
        mut frr,
        mut wilson_far,
        mut wilson_frr,
    ] = [0; 6];
    for _ in 0..TRIALS {
        let world = clustered(&mut rng);
        let found = world.intervals().unwrap();
        let covers = |interval: Interval, truth: f64| {
            usize::from(interval.low <= truth && truth <= interval.high)
        };
        let wilson = |similar| {
            let ErrorRate { low, high, .. } = world.error_rate(similar);
            Interval { low, high }
        };
        accuracy += covers(found.accuracy, 0.8);
        // Of two distances: both right, or half where one is wrong: 0.64 + 0.32 / 2.
        auc += covers(found.auc, 0.8);
        far += covers(found.far, 0.2);
        frr += covers(found.frr, 0.2);
        wilson_far += covers(wilson(false), 0.2);
        wilson_frr += covers(wilson(true), 0.2);
    }
    for covered in [accuracy, auc, far, frr] {
        let share = covered as f64 / TRIALS as f64;
        assert!(
            (0.88..=0.99).contains(&share),
            "{accuracy} {auc} {far} {frr}"
        );
    }
    for covered in [wilson_far, wilson_frr] {
        let share = covered as f64 / TRIALS as f64;
        assert!(share < 0.8, "{wilson_far} {wilson_frr}");
    }
}
