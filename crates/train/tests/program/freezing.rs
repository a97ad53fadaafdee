//! A trunk that stays as it is while the layers after it are trained.

use std::fs;

use safetensors::SafeTensors;

use crate::scratch::Scratch;

/// The bytes of each tensor of a run's model.
fn tensors(scratch: &Scratch, run: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = scratch.read(&format!("{run}/model.safetensors"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.iter();
    let mut tensors: Vec<_> = tensors
        .map(|(name, view)| (name.to_string(), view.data().to_vec()))
        .collect();
    tensors.sort();
    tensors
}

#[test]
fn a_frozen_trunk_is_that_of_the_first_weights() {
    let scratch = Scratch::new();
    let fit = "fit --config quick.toml --quiet";
    scratch.succeeds(&format!("{fit} --out first --seed 2"));
    for (loss, run) in [("pairs", "whole"), ("in-batch", "all-pairs")] {
        scratch.succeeds(&format!(
            "{fit} --steps 30 --init first --freeze trunk --loss {loss} --out {run}"
        ));
        let mut moved = 0;
        for (before, after) in tensors(&scratch, "first")
            .iter()
            .zip(tensors(&scratch, run))
        {
            assert_eq!(before.0, after.0);
            let same = before.1 == after.1;
            assert_eq!(same, before.0.starts_with("conv"), "{loss}: {}", before.0);
            moved += usize::from(!same);
        }
        // A weight and a bias each of ip1 and feat.
        assert_eq!(moved, 4);
    }
    let part = "--out part --set training.checkpoint_seconds=0 --set training.keep_checkpoints=30";
    scratch.succeeds(&format!(
        "{fit} --steps 30 --init first --freeze trunk {part}"
    ));
    for step in 21..=30 {
        fs::remove_file(scratch.path(&format!("part/checkpoints/step-{step:08}.safetensors")))
            .unwrap();
    }
    for result in ["summary.json", "model.safetensors"] {
        fs::remove_file(scratch.path(&format!("part/{result}"))).unwrap();
    }
    // A checkpoint has the trunk too.
    fs::remove_dir_all(scratch.path("first")).unwrap();
    scratch.succeeds("fit --resume part --quiet");
    assert!(scratch.read("part/model.safetensors") == scratch.read("whole/model.safetensors"));
}

#[test]
fn a_trunk_that_is_frozen_as_it_was_drawn_is_noted() {
    let scratch = Scratch::new();
    let said = scratch
        .succeeds("fit --config quick.toml --steps 2 --freeze trunk --out run")
        .stderr;
    assert!(said.contains("stays as it was drawn"), "{said}");
    // Filters of 25 and 8·25 weights, and biases: 8·26 + 16·201; then 256·64 + 64 + 64·4 + 4.
    assert!(
        said.contains("20132 parameters (16708 of them trained)"),
        "{said}"
    );
    let notes = scratch.json("run/summary.json")["notes"].to_string();
    assert!(notes.contains("training.freeze"), "{notes}");
}
