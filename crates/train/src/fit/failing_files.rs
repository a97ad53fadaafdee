//! Every file operation of a run fails once; whatever is then there has to be enough to go on from.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use data::LabelledImages;

use super::*;
use candle_core::Device;
use files::faults::fail_after;

use crate::settings::{Layers, Preset};

fn config(refit: bool) -> RunConfig {
    let settings = [
        &format!("training.refit={refit}"),
        "data.evaluation_pairs=40",
        "training.length=2 steps",
        "loss.kind=pairs",
        "training.pairs_per_batch=8",
        "training.log_every=1",
        "training.checkpoint_seconds=0",
        "training.keep_checkpoints=1",
        "training.on_nan=rollback",
        "net.channels=[4, 4]",
    ];
    let mut layers = Layers::new(Preset::Default);
    for setting in settings {
        layers = layers.assignment(setting).unwrap();
    }
    layers.finish().unwrap()
}

/// Few of the images, so that a run takes milliseconds; the validation classes count as new ones, which a
/// second training needs.
fn some_images(config: &RunConfig) -> Dataset {
    let all = load(config, LoadAs::default(), Voice::Quiet).unwrap();
    // They are in the order of their classes.
    let some = |images: &LabelledImages, count: usize| {
        let spread = (0..images.len()).step_by(images.len() / count);
        images.select(&Vec::from_iter(spread.take(count)))
    };
    Dataset {
        train: Arc::new(some(&all.train, 64)),
        validation: some(&all.validation, 40),
        test: some(&all.test, 40),
        new_validation_classes: true,
        ..all
    }
}

fn begin(config: &RunConfig, images: &Dataset, folder: &Path) -> Result<Outcome> {
    let fit = Fit::new(config.clone(), images.clone(), Some(folder), &Device::Cpu)?;
    fit.run(Voice::Quiet, &Interrupt::never())
}

fn resume(images: &Dataset, folder: &Path) -> Result<Outcome> {
    let run = RunFolder::open(folder)?;
    let fit = Fit::resume(run, &[], false, &Device::Cpu, |_, _| Ok(images.clone()))?;
    fit.run(Voice::Quiet, &Interrupt::never())
}

fn decided(folder: &Path) -> [Vec<u8>; 3] {
    let read = |name| fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    ["config.toml", "metrics.jsonl", "model.safetensors"].map(read)
}

/// The names in the run's folder and in those in it.
fn names(folder: &Path) -> Vec<String> {
    let folders = ["", "checkpoints", "report"].map(|name| folder.join(name));
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn whichever_file_operation_fails_the_run_goes_on_to_the_same_end() {
    goes_on_to_the_same_end(&config(false));
}

#[test]
fn so_it_does_with_a_second_training() {
    goes_on_to_the_same_end(&config(true));
}

fn goes_on_to_the_same_end(config: &RunConfig) {
    // In memory where it can be, since thousands of syncs of a disk take a minute.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let scratch = scratch.unwrap();
    let images = some_images(config);
    let whole = scratch.path().join("whole");
    begin(config, &images, &whole).unwrap();
    let second = whole.join("checkpoints/step-00000004.safetensors");
    assert_eq!(second.exists(), config.training.refit);

    let mut failed = Vec::new();
    for passing in 0.. {
        let folder = scratch.path().join(passing.to_string());
        let (ended, operation) = fail_after(passing, || begin(config, &images, &folder));
        let Some(operation) = operation else {
            assert!(ended.is_ok());
            break;
        };
        failed.push(operation);
        let case = format!("{operation}, after {passing} others");
        let Err(error) = ended else {
            panic!("{case}: nobody was told");
        };
        assert!(!format!("{error:#}").is_empty());
        // A run whose last operation was to tell the disk of its summary is whole.
        if !folder.join("summary.json").exists() {
            let ended = match folder.join("config.toml").exists() {
                true => resume(&images, &folder),
                false => begin(config, &images, &folder),
            };
            ended.unwrap_or_else(|error| panic!("{case}: {error:#}"));
        }
        assert!(decided(&folder) == decided(&whole), "{case}");
        assert_eq!(names(&folder), names(&whole), "{case}");
        fs::remove_dir_all(&folder).unwrap();
    }
    for operation in [
        "make the lock",
        "make the folder",
        "make the file",
        "write",
        "sync",
        "rename",
        "sync the folder",
        "append to the log",
        "sync the log",
        "remove",
    ] {
        assert!(failed.contains(&operation), "{operation} was never tried");
    }
}
