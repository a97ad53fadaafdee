//! Few-shot classification, against trials worked by hand and against chance.

use metrics::{
    Embeddings, ErrorRate, FixedTrial, MetricsError, QueryErrors, Trials, few_shot, fixed_trials,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn on_a_line(values: &[f32]) -> Embeddings {
    Embeddings::new(values.to_vec(), 1).unwrap()
}

fn trials(ways: usize, shots: usize) -> Trials {
    Trials {
        ways,
        shots,
        trials: 1000,
        seed: 7,
    }
}

/// `each` images of each class.
fn labels(classes: u32, each: usize) -> Vec<u32> {
    let labels = (0..classes).flat_map(|class| std::iter::repeat_n(class, each));
    labels.collect()
}

fn error(values: &[f32], labels: &[u32], trials: Trials) -> QueryErrors {
    let found = few_shot(&on_a_line(values), labels, None, trials).unwrap();
    assert_eq!(found.trials, trials);
    assert_eq!(found.error.queries, trials.trials);
    found.error
}

#[test]
fn classes_far_apart_are_never_confused() {
    let labels = labels(8, 4);
    let values: Vec<f32> = (0..32).map(|i| (i / 4 * 100 + i % 4) as f32).collect();
    for (ways, shots) in [(2, 1), (5, 1), (8, 3)] {
        let error = error(&values, &labels, trials(ways, shots));
        assert_eq!((error.rate, error.errors, error.low), (0.0, 0, 0.0));
        // All 32 images were asked about.
        assert_eq!(error.high, ErrorRate::new(0, 32).high);
    }
}

#[test]
fn a_network_that_maps_all_to_one_point_is_always_wrong() {
    let labels = labels(8, 4);
    for (ways, shots) in [(2, 1), (5, 3)] {
        let error = error(&[0.1; 32], &labels, trials(ways, shots));
        assert_eq!((error.rate, error.errors, error.high), (1.0, 1000, 1.0));
    }
}

#[test]
fn more_trials_than_images_do_not_narrow_the_interval() {
    // Fifteen images; by hand 0 errors of 15 reach to z²/(15 + z²) = 20.39%.
    let labels = labels(5, 3);
    let values: Vec<f32> = (0..15).map(|i| (i / 3 * 100 + i % 3) as f32).collect();
    let many = Trials {
        trials: 1_000_000,
        ..trials(2, 1)
    };
    let never = error(&values, &labels, many);
    assert!((never.high - 0.2039).abs() < 1e-4, "{never:?}");

    // At one point all queries are wrong.
    let always = error(&[0.1; 15], &labels, trials(2, 1));
    assert!((always.low - 0.7961).abs() < 1e-4, "{always:?}");
}

#[test]
fn embeddings_without_any_order_are_as_good_as_chance() {
    let labels = labels(100, 20);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..2000 * 16).map(|_| rng.random()).collect();
    let embeddings = Embeddings::new(values, 16).unwrap();
    for ways in [2, 5, 20] {
        for shots in [1, 5] {
            let found = few_shot(&embeddings, &labels, None, trials(ways, shots)).unwrap();
            let chance = 1.0 - 1.0 / ways as f64;
            let QueryErrors { low, high, .. } = found.error;
            assert!(
                low <= chance && chance <= high,
                "{ways}, {shots}: {found:?}"
            );
        }
    }
}

#[test]
fn query_and_support_are_different_images_and_the_query_is_of_any_class() {
    // A query of class 0 has the other of 0 and 3 for its own, and is nearer to 1. One of class 1 is
    // at 0 from its own. So the errors are the queries of class 0.
    let error = error(&[0.0, 3.0, 1.0, 1.0], &[0, 0, 1, 1], trials(2, 1));
    assert!((450..550).contains(&error.errors), "{error:?}");
    // A quarter of the draws of two classes from these two are of the one, a quarter of the other.
    assert_eq!((error.low, error.high), (0.0, 1.0));
}

#[test]
fn more_shots_are_compared_by_their_mean() {
    // The means of two of class 0 are 1.5, 0 and −1.5 for the queries −3, 0 and 3, at 4.5, 0 and 4.5;
    // class 1 is at 4, 1 and 2. So 0 alone is right, which is nearer to 1 than to either of its own.
    let values = [-3.0, 0.0, 3.0, 1.0, 1.0, 1.0];
    let many = Trials {
        trials: 9000,
        ..trials(2, 2)
    };
    let error = error(&values, &[0, 0, 0, 1, 1, 1], many);
    assert!((2850..3150).contains(&error.errors), "{error:?}");
}

#[test]
fn a_trial_stays_within_a_group() {
    // Three groups, all classes of one at one point; the third has one class.
    let values = [0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 50.0, 50.0];
    let labels = labels(6, 2);
    let groups = [4, 4, 2, 2, 2, 0];
    let embeddings = on_a_line(&values);
    let judged = |groups| few_shot(&embeddings, &labels, groups, trials(2, 1)).unwrap();
    let (across, within) = (judged(None), judged(Some(&groups)));
    assert_eq!((within.error.errors, within.within_groups), (1000, true));
    // Of the 15 pairs of classes, 4 are within a group: an error of 4/15.
    assert!((220..314).contains(&across.error.errors), "{across:?}");

    let refusal = few_shot(&embeddings, &labels, Some(&groups), trials(4, 1)).unwrap_err();
    let expected = "4-way trials need 4 classes of 2 or more images each in one group; the largest \
                    group has 3";
    assert_eq!(refusal.to_string(), expected);
}

#[test]
fn a_group_is_drawn_as_often_as_it_has_classes() {
    // A group of 2 classes that are told apart, and one of 6 that are not: 3/4 go wrong.
    let labels = labels(8, 2);
    let values = Vec::from_iter((0..16).map(|image| if image < 2 { 1.0 } else { 0.0 }));
    let groups = [0, 0, 1, 1, 1, 1, 1, 1];
    let found = few_shot(&on_a_line(&values), &labels, Some(&groups), trials(2, 1));
    let errors = found.unwrap().error.errors;
    assert!((700..800).contains(&errors), "{errors}");
}

#[test]
fn the_seed_alone_chooses_the_trials() {
    let labels = labels(3, 2);
    // Of one class at a time every query is wrong, as its images lie on either side of those of the
    // next; the third is far away. If the trials are the same, each goes wrong once.
    let (torn, between, far) = ([0.0, 3.0], [1.0, 1.0], [90.0, 90.0]);
    let errors = |values: [[f32; 2]; 3]| error(values.as_flattened(), &labels, trials(3, 1)).errors;
    let each = [
        errors([torn, between, far]),
        errors([far, torn, between]),
        errors([between, far, torn]),
    ];
    assert_eq!(each.iter().sum::<usize>(), 1000, "{each:?}");

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..6).map(|_| rng.random()).collect();
    let with = |seed| {
        error(
            &values,
            &labels,
            Trials {
                seed,
                ..trials(3, 1)
            },
        )
    };
    assert_eq!(with(7), with(7));
    assert_ne!(with(7), with(8));
}

#[test]
fn what_no_trial_can_be_drawn_from_is_refused() {
    let refusal = |labels: &[u32], groups: Option<&[u32]>, trials| {
        let embeddings = on_a_line(&vec![0.0; labels.len()]);
        few_shot(&embeddings, labels, groups, trials).unwrap_err()
    };
    let labels = [0, 0, 1, 1, 2, 2, 2, 3];
    assert_eq!(
        refusal(&labels, None, trials(4, 1)).to_string(),
        "4-way trials need 4 classes of 2 or more images each; there are 3"
    );
    let expected = MetricsError::TooFewClasses {
        ways: 2,
        images: 3,
        found: 1,
        within_groups: false,
    };
    assert_eq!(refusal(&labels, None, trials(2, 2)), expected);
    let most = refusal(&labels, None, trials(2, usize::MAX));
    assert!(matches!(most, MetricsError::TooFewClasses { .. }));
    for (wrong, word) in [
        (trials(1, 1), "2 classes or more"),
        (trials(2, 0), "support images"),
        (
            Trials {
                trials: 0,
                ..trials(2, 1)
            },
            "no trials",
        ),
    ] {
        let refusal = refusal(&labels, None, wrong);
        assert!(matches!(&refusal, MetricsError::Trials(text) if text.contains(word)));
    }
    let no_group = refusal(&labels, Some(&[0, 0, 0]), trials(2, 1)).to_string();
    assert!(no_group.starts_with("class 3 has no group"), "{no_group}");
    let short = few_shot(&on_a_line(&[0.0]), &labels, None, trials(2, 1));
    assert!(matches!(short, Err(MetricsError::Embeddings(_))));
}

/// Classes at 0 and 10, and queries.
fn fixed(queries: &[(f32, u32)]) -> FixedTrial {
    let (queries, truth): (Vec<f32>, Vec<u32>) = queries.iter().copied().unzip();
    FixedTrial {
        classes: on_a_line(&[0.0, 10.0]),
        queries: on_a_line(&queries),
        truth,
    }
}

#[test]
fn a_query_of_a_fixed_trial_goes_to_the_nearest_class_and_a_tie_is_an_error() {
    let found = fixed_trials(
        &[fixed(&[(1.0, 0), (1.0, 1), (9.0, 1), (5.0, 0), (5.0, 1)])],
        1,
    );
    let found = found.unwrap();
    assert_eq!((found.trials, found.ways), (1, Some(2)));
    assert_eq!((found.error.errors, found.error.queries), (3, 5));
    // One trial has nothing to resample.
    let wilson = ErrorRate::new(3, 5);
    assert_eq!(
        (found.error.low, found.error.high),
        (wilson.low, wilson.high)
    );
    let mut other = fixed(&[(1.0, 0)]);
    other.classes = on_a_line(&[0.0, 10.0, 20.0]);
    let mixed = fixed_trials(&[fixed(&[(1.0, 0)]), other], 1).unwrap();
    assert_eq!(mixed.ways, None);
}

#[test]
fn the_interval_knows_that_queries_of_a_trial_go_together() {
    let (right, wrong) = ([(1.0, 0); 100], [(1.0, 1); 100]);
    let together = Vec::from_iter((0..10).map(|trial| match trial < 5 {
        true => fixed(&right),
        false => fixed(&wrong),
    }));
    // The wrong ones of ten drawn trials are binomial: 1.1% have 1 or fewer, 5.5% have 2 or fewer.
    let found = fixed_trials(&together, 1).unwrap().error;
    assert_eq!((found.rate, found.low, found.high), (0.5, 0.2, 0.8));

    // Where each trial is one query, they are independent.
    let apart = Vec::from_iter((0..1000).map(|trial| fixed(&[(1.0, u32::from(trial % 4 == 0))])));
    let found = fixed_trials(&apart, 1).unwrap().error;
    let wilson = ErrorRate::new(250, 1000);
    assert!(found.low <= wilson.low && wilson.low - found.low < 0.004);
    assert!(found.high >= wilson.high && found.high - wilson.high < 0.004);
}

#[test]
fn fixed_trials_that_do_not_fit_together_are_refused() {
    let sound = || fixed(&[(1.0, 0)]);
    type Spoil = fn(&mut FixedTrial);
    let spoilt: [(Spoil, &str); 6] = [
        (|t| t.truth[0] = 2, "class 2"),
        (|t| t.truth.clear(), "trial 1, queries"),
        (|t| t.classes = on_a_line(&[0.0]), "1 class"),
        (|t| t.classes = on_a_line(&[]), "trial 1, classes"),
        (|t| t.queries = on_a_line(&[f32::NAN]), "NaN"),
        (
            |t| t.queries = Embeddings::new(vec![0.0; 2], 2).unwrap(),
            "dimension 2",
        ),
    ];
    for (spoil, word) in spoilt {
        let mut trial = sound();
        spoil(&mut trial);
        let refusal = fixed_trials(&[sound(), trial], 1).unwrap_err().to_string();
        assert!(refusal.contains(word), "{refusal}");
    }
    assert!(fixed_trials(&[], 1).is_err());
}
