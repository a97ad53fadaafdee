//! The end of a run: the model, the results, the report.

use std::collections::BTreeMap;

use anyhow::Result;
use model::{ModelFile, Preprocessing, weights};

use super::{Ended, Fit, trunk};
use crate::device;
use crate::judging::{Head, TestReport};
use crate::results::{self, ClassSizes, Summary};
use crate::run::MODEL;

impl Fit {
    /// Judges, and writes the model and the results.
    ///
    /// `steps` were taken, and an epoch has `epoch`.
    pub(super) fn conclude(&self, ended: Ended, steps: u64, epoch: u64) -> Result<Summary> {
        let Ended {
            net,
            heads,
            kept,
            threshold,
            calibration,
        } = ended;
        let net = &net;
        let transform = &self.config.transform;
        let framing = self.config.data.source.framing(&self.dataset.train);
        let file = ModelFile {
            config: net.config().clone(),
            preprocessing: Preprocessing {
                scale: transform.scale,
                mean: transform.mean,
                std: transform.std,
                ink_side: framing.ink_side(),
            },
            threshold: Some(threshold),
            calibration: Some(calibration),
            head: (heads.as_ref().map(|heads| heads.chosen))
                .filter(|head| *head != Head::None)
                .map(|head| head.name().into()),
            classes: self.dataset.train.classes().to_vec(),
            version: env!("CARGO_PKG_VERSION").into(),
            pretrained: trunk::record(&self.config, self.trainer.net())?,
        };
        self.run.write(MODEL, &weights::to_bytes(net, &file)?)?;
        let test = TestReport::new(
            net,
            &transform.evaluation(),
            &self.config,
            &self.dataset,
            threshold,
        )?;
        let summary = Summary {
            figures: test.figures.clone(),
            data: self.dataset.name.clone(),
            images: BTreeMap::from([
                ("train".into(), self.dataset.train.len()),
                ("validation".into(), self.dataset.validation.len()),
                (
                    "test".into(),
                    match self.dataset.tests_validation {
                        true => 0,
                        false => self.dataset.test.len(),
                    },
                ),
            ]),
            classes: ClassSizes::of(&self.dataset.train)?,
            steps,
            weights_of_step: kept,
            refit_steps: self.progress.refit.as_ref().map(|refit| refit.steps),
            head: heads,
            notes: self.progress.notes.clone(),
            epochs: steps as f64 / epoch as f64,
            seconds: self.progress.seconds,
            images_per_second: (steps as f64 * self.config.images_per_batch() as f64)
                / self.progress.seconds,
            device: device::name(net.device()),
            seed: self.config.seed,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        results::publish(&self.run, &self.config, &self.dataset, &test, &summary)?;
        // Last, since it says that the run is finished.
        self.run.write(
            "summary.json",
            format!("{:#}\n", serde_json::to_value(&summary)?).as_bytes(),
        )?;
        Ok(summary)
    }
}
