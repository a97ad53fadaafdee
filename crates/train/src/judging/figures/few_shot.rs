//! Few-shot classification of classes that the network was not trained on.

use anyhow::Result;
use metrics::{FewShot, MetricsError, Trials};

use super::Row;
use crate::judging::test_report::Judged;

/// Ways that papers report, of one shot.
const WAYS: [usize; 2] = [5, 20];
const TRIALS: usize = 1000;

/// For as many ways as there are classes for; none where a test class was trained on.
pub fn measure(judged: &Judged) -> Result<Vec<FewShot>> {
    let ways = WAYS.iter().filter(|_| judged.dataset.new_test_classes);
    let measured = ways.map(|&ways| {
        let trials = Trials {
            ways,
            shots: 1,
            trials: TRIALS,
            seed: judged.config.seed,
        };
        metrics::few_shot(judged.test, judged.dataset.test.labels(), None, trials)
    });
    let enough = measured.filter(|of| !matches!(of, Err(MetricsError::TooFewClasses { .. })));
    Ok(enough.collect::<Result<_, _>>()?)
}

pub fn rows(measured: &[FewShot]) -> Vec<Row<String>> {
    let row = |of: &FewShot| {
        let groups = match of.within_groups {
            true => ", within groups",
            false => "",
        };
        let Trials { ways, shots, .. } = of.trials;
        let shots = match shots {
            1 => "one".into(),
            shots => shots.to_string(),
        };
        (
            format!("{ways}-way {shots}-shot error"),
            format!("{}{groups}", of.error),
        )
    };
    measured.iter().map(row).collect()
}
