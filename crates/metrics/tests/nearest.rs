//! The nearest embeddings of a probe, worked by hand.

use metrics::{Embeddings, MetricsError, Neighbour};

fn on_a_line() -> Embeddings {
    Embeddings::new(vec![4.0, -1.0, 1.0, 9.0, 1.0], 1).unwrap()
}

#[test]
fn the_nearest_come_first_and_of_equally_near_ones_the_lower_index() {
    let neighbour = |(index, distance)| Neighbour { index, distance };
    let all = [(1, 1.0), (2, 1.0), (4, 1.0), (0, 4.0), (3, 9.0)].map(neighbour);
    for k in 0..7 {
        let found = on_a_line().nearest(&[0.0], k).unwrap();
        assert_eq!(found, all[..k.min(5)]);
    }
}

#[test]
fn a_probe_that_does_not_fit_is_refused_by_what_is_wrong_with_it() {
    let refusal = |probe: &[f32]| on_a_line().nearest(probe, 1).unwrap_err();
    for (probe, problem) in [
        (&[1.0, 2.0][..], "the probe has 2 numbers, not 1"),
        (&[f32::NAN], "the probe has the number NaN"),
    ] {
        assert_eq!(refusal(probe), MetricsError::Embeddings(problem.into()));
    }
}
