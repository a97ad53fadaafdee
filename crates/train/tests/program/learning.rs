use std::collections::BTreeSet;

use crate::scratch::Scratch;

#[test]
fn three_hundred_steps_lift_a_network_far_above_an_untrained_one() {
    let scratch = Scratch::with_run();
    // A step at this rate moves no weight by more than 1e-12.
    scratch.succeeds("fit --config quick.toml --steps 1 --learning-rate 1e-12 --out untrained");
    let figure = |run: &str, path: &str| -> f64 {
        let summary = scratch.json(&format!("{run}/summary.json"));
        summary.pointer(path).unwrap().as_f64().unwrap()
    };
    // Measured: 0.63 and 0.93, 0.28 and 0.77, 0.60 and 0.86.
    for (path, untrained, trained) in [
        ("/verification/auc", 0.75, 0.9),
        ("/retrieval/p_at_1", 0.4, 0.7),
        ("/verification/accuracy", 0.7, 0.8),
    ] {
        let (before, after) = (figure("untrained", path), figure("run", path));
        assert!(
            before < untrained,
            "{path} of the untrained network: {before}"
        );
        assert!(after > trained, "{path} of the trained network: {after}");
    }
}

#[test]
fn each_preset_variant_and_pairing_trains_in_its_own_way() {
    let scratch = Scratch::new();
    let ways = [
        "--preset default",
        "--preset caffe --set optimiser.rule=sgd --set schedule.policy=inv",
        "--preset accurate --loss in-batch",
        "--variant legacy",
        "--variant squared",
        "--variant exponential-l1",
        "--variant exponential-l2",
        "--pairing uniform",
        "--pairing adjacent",
    ];
    let mut losses = BTreeSet::new();
    for (number, way) in ways.iter().enumerate() {
        let run = format!("run-{number}");
        scratch.succeeds(&format!(
            "fit --config quick.toml --steps 2 --quiet --out {run} {way}"
        ));
        let loss = scratch.json(&format!("{run}/summary.json"))["loss"]["test"].clone();
        assert!(
            losses.insert(loss.to_string()),
            "{way} trains as another does"
        );
    }
}
