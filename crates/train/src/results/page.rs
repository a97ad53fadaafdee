//! `report.html` of a run and the tables beside it, from what the run folder and the data set hold.

use anyhow::Result;
use data::Dataset;
use model::Trunk;
use report::{Report, TrainingImages, render};

use super::Summary;
use crate::judging::TestReport;
use crate::run::{Line, RunFolder, read_metrics};
use crate::settings::RunConfig;
use crate::training::preview;

/// Training images that the report shows at most, and how often each as a step sees it.
const SHOWN: (usize, usize) = (6, 4);

/// Renders and writes the report, and the data behind its figures in `report/`.
pub fn write(
    run: &RunFolder,
    config: &RunConfig,
    dataset: &Dataset,
    test: &TestReport,
    summary: &Summary,
) -> Result<()> {
    let (mut train_loss, mut test_loss) = (Vec::new(), Vec::new());
    for line in read_metrics(run)? {
        match line {
            Line::Step { step, loss, .. } => train_loss.push((step, loss)),
            Line::Rollback { .. } => {}
            Line::Epoch { step, metrics, .. } => test_loss.push((step, metrics.test_loss)),
        }
    }
    let verification = &test.figures.verification;
    let curve: Vec<(f64, f64)> = test
        .roc
        .points()
        .map(|point| (point.far, point.tar))
        .collect();
    let results = test.figures.rows();
    let results = results
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    let page = render(&Report {
        title: &format!("Siamese network on {}", dataset.name),
        facts: &facts(run, config, dataset, summary),
        notes: &notes(test, summary),
        config: &config.to_toml()?,
        results: &Vec::from_iter(results),
        train_loss: &train_loss,
        test_loss: &test_loss,
        embeddings: &test.embeddings,
        images: &dataset.test,
        roc: &curve,
        eer: verification.eer,
        operating_point: (
            test.roc.far_at(verification.threshold),
            1.0 - test.roc.frr_at(verification.threshold),
        ),
        pairs: &test.pairs,
        distances: &test.distances,
        threshold: verification.threshold,
        margin: config.loss.margin.get(),
        training: &training_images(config, dataset)?,
    })?;
    for table in page.tables {
        run.write(&format!("report/{}.csv", table.name), table.csv.as_bytes())?;
    }
    run.write("report.html", page.html.as_bytes())
}

/// Some of the training images as the network sees them, or why none are shown.
fn training_images(
    config: &RunConfig,
    dataset: &Dataset,
) -> Result<Result<TrainingImages, String>> {
    if config.net.trunk == Trunk::Onnx {
        return Ok(Err(
            "A pretrained trunk sees each training image as it is, without random transforms."
                .into(),
        ));
    }
    if dataset.train.is_empty() {
        return Ok(Err(format!(
            "The training images are not shown: none of them is left in {}.",
            dataset.name
        )));
    }
    let (images, copies) = SHOWN;
    Ok(Ok(TrainingImages {
        cells: preview(config, dataset, images, copies)?,
        columns: 1 + copies,
    }))
}

/// Those of the run, and what the figures say of the network.
fn notes(test: &TestReport, summary: &Summary) -> Vec<String> {
    let advice = test.figures.advice();
    summary.notes.iter().cloned().chain(advice).collect()
}

fn facts(
    run: &RunFolder,
    config: &RunConfig,
    dataset: &Dataset,
    summary: &Summary,
) -> Vec<(&'static str, String)> {
    let count = |set: &str| summary.images.get(set).copied().unwrap_or_default();
    let net = &config.net;
    let layer = net.trunk.layer();
    let filters = net
        .channels
        .iter()
        .map(|filters| format!("{layer} {filters}"));
    let units = net
        .hidden
        .iter()
        .map(|hidden| format!("fc {}", hidden.units));
    let layers: Vec<String> = filters.chain(units).collect();
    let tested = dataset.test.class_counts().into_iter();
    let tested: Vec<&str> = (tested.zip(dataset.test.classes()))
        .filter_map(|(count, name)| (count > 0).then_some(name.as_str()))
        .collect();
    let held_out = dataset.new_test_classes.then(|| {
        let note = match tested.len() {
            0..=20 => tested.join(", "),
            count => format!("{count} classes"),
        };
        let note = format!("all figures and charts are of {note}, which it was not trained on");
        ("classes", note)
    });
    let facts = vec![
        ("data", summary.data.clone()),
        (
            "images",
            format!(
                "{} to train on, {} to choose the threshold on, {} to test on",
                count("train"),
                count("validation"),
                count("test")
            ),
        ),
        ("trained on", summary.classes.to_string()),
        (
            "network",
            format!("{}, embedding {}", layers.join(", "), net.embedding),
        ),
        (
            "length",
            format!(
                "{} steps of {} ({:.1} epochs) in {:.0} s",
                summary.steps,
                config.batch_in_words(),
                summary.epochs,
                summary.seconds
            ),
        ),
        ("device", summary.device.clone()),
        ("seed", summary.seed.to_string()),
        ("version", summary.version.clone()),
        (
            "to repeat it",
            format!("train fit --config {}", run.path("config.toml").display()),
        ),
    ];
    let refit = summary.refit_steps.map(|steps| {
        let words = format!(
            "the last {steps} steps are a second training, from the start, on the validation images too; the \
             loss starts again after step {}",
            summary.steps - steps
        );
        ("trained twice", words)
    });
    let head = summary.head.as_ref();
    let head = head.map(|heads| ("head", heads.to_string()));
    (held_out.into_iter().chain(facts))
        .chain(refit)
        .chain(head)
        .collect()
}
