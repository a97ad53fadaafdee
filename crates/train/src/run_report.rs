//! `report.html` of a run, from what the run folder and the data set hold.

use anyhow::Result;
use data::Dataset;

use crate::config::RunConfig;
use crate::evaluation::Assessment;
use crate::fit::{Line, read_metrics};
use crate::report::{Report, render};
use crate::run_folder::RunFolder;
use crate::summary::Summary;

/// Renders and writes the report.
pub fn write(
    run: &RunFolder,
    config: &RunConfig,
    dataset: &Dataset,
    assessment: &Assessment,
    summary: &Summary,
) -> Result<()> {
    let (mut train_loss, mut test_loss) = (Vec::new(), Vec::new());
    for line in read_metrics(run)? {
        match line {
            Line::Step { step, loss, .. } => train_loss.push((step, loss)),
            Line::Epoch { step, checkup, .. } => test_loss.push((step, checkup.test_loss)),
        }
    }
    let verification = &assessment.figures.verification;
    let distances = |similar: bool| -> Vec<f32> {
        let pairs = assessment.distances.iter().zip(&assessment.pairs);
        pairs
            .filter(|(_, pair)| pair.same == similar)
            .map(|(distance, _)| *distance)
            .collect()
    };
    let curve: Vec<(f64, f64)> = assessment
        .roc
        .points()
        .map(|point| (point.far, point.tar))
        .collect();
    let page = render(&Report {
        title: &format!("Siamese network on {}", dataset.name),
        facts: &facts(run, config, summary),
        results: &assessment.figures.rows(),
        train_loss: &train_loss,
        test_loss: &test_loss,
        embeddings: &assessment.test.values,
        dim: assessment.test.dim,
        labels: dataset.test.labels(),
        classes: dataset.test.classes(),
        roc: &curve,
        eer: verification.eer,
        operating_point: (
            assessment.roc.far_at(verification.threshold),
            1.0 - assessment.roc.frr_at(verification.threshold),
        ),
        similar: &distances(true),
        dissimilar: &distances(false),
        threshold: verification.threshold,
        margin: config.loss.margin.get(),
    })?;
    run.write("report.html", page.as_bytes())
}

fn facts(run: &RunFolder, config: &RunConfig, summary: &Summary) -> Vec<(String, String)> {
    let count = |set: &str| summary.images.get(set).copied().unwrap_or_default();
    let net = &config.net;
    let layers: Vec<String> = net
        .channels
        .iter()
        .map(|filters| format!("conv {filters}"))
        .chain(
            net.hidden
                .iter()
                .map(|hidden| format!("fc {}", hidden.units)),
        )
        .collect();
    let fact = |name: &str, value: String| (name.to_string(), value);
    let held_out = match &config.data.hold_out_classes[..] {
        [] => None,
        names => Some(fact(
            "classes",
            format!(
                "all figures and charts are of {}, which it was not trained on",
                names.join(", ")
            ),
        )),
    };
    let facts = vec![
        fact("data", summary.data.clone()),
        fact(
            "images",
            format!(
                "{} to train on, {} to choose the threshold on, {} to test on",
                count("train"),
                count("validation"),
                count("test")
            ),
        ),
        fact(
            "network",
            format!("{}, embedding {}", layers.join(", "), net.embedding),
        ),
        fact(
            "length",
            format!(
                "{} steps of {} ({:.1} epochs) in {:.0} s",
                summary.steps,
                config.batch_in_words(),
                summary.epochs,
                summary.seconds
            ),
        ),
        fact("device", summary.device.clone()),
        fact("seed", summary.seed.to_string()),
        fact("version", summary.version.clone()),
        fact(
            "to repeat it",
            format!("train fit --config {}", run.path("config.toml").display()),
        ),
    ];
    held_out.into_iter().chain(facts).collect()
}
