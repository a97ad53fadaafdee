//! The mean loss of pairs, half of them similar, whatever the network was trained on.

use std::collections::BTreeMap;

use anyhow::Result;
use data::{Purpose, balanced_pairs, stream};

use super::{Row, decimal};
use crate::judging::distances::mean_loss;
use crate::judging::test_report::Judged;

const TRAIN: &str = "train";
const TEST: &str = "test";

pub fn measure(judged: &Judged) -> Result<BTreeMap<String, f64>> {
    let config = judged.config;
    let loss = config.pair_loss();
    let mut losses = BTreeMap::from([(TEST.into(), mean_loss(judged.test, loss, judged.pairs)?)]);
    // Another data set than the run's has nothing that was trained on.
    if !judged.dataset.train.is_empty() {
        let train_pairs = balanced_pairs(
            judged.dataset.train.labels(),
            config.data.evaluation_pairs,
            &mut stream(config.seed, Purpose::TestPairs, 1),
        )?;
        losses.insert(TRAIN.into(), mean_loss(&judged.train, loss, &train_pairs)?);
    }
    Ok(losses)
}

pub fn rows(loss: &BTreeMap<String, f64>) -> Vec<Row> {
    let row = |(set, loss): (&String, &f64)| match set == TRAIN {
        true => ("loss, training pairs", decimal(*loss)),
        false => ("loss, test pairs", decimal(*loss)),
    };
    loss.iter().map(row).collect()
}
