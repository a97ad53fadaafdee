//! `train evaluate`: judges a trained network again.

use anyhow::{Context, Result};
use clap::Args;
use data::{Dataset, Source};
use metrics::OperatingPoint;
use verifier::Verifier;

use super::fixed_trials::fixed_trials;
use super::model::RunArgs;
use super::one_shot::OneShotArgs;
use crate::fit::{LoadAs, load};
use crate::judging::TestReport;
use crate::run::RunFolder;
use crate::settings::RunConfig;
use crate::terminal::{Voice, usage};

/// Flags of `train evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Evaluate on other images: `digits`, `mnist:DIR` or `folder:DIR` [default: the run's]
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
    /// With --data mnist:DIR, swap rows and columns of the images, as EMNIST needs
    #[arg(long, requires = "data")]
    transposed: bool,
    /// Skip pictures that cannot be read instead of stopping
    #[arg(long)]
    skip_corrupt: bool,
    /// Choose the threshold for another operating point, on the pairs that the model was calibrated
    /// on: `accuracy`, `eer` or `far=RATE`
    #[arg(long, value_name = "POINT")]
    at: Option<OperatingPoint>,
    #[command(flatten)]
    one_shot: OneShotArgs,
}

/// Judges a run's network on the test images of its data set or another.
///
/// # Errors
/// For a run that is not finished, and for images that cannot be judged.
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let (run, mut verifier, voice) = args.run.open()?;
    let mut config = run.config()?;
    if let Some(folder) = args.one_shot.fixed() {
        return fixed_trials(&run, &verifier, folder, config.seed, voice);
    }
    let of_run = config.data.source.clone();
    if let Some(source) = &args.data {
        config.data.source = source.parse::<Source>().map_err(usage)?;
        // How the run's own files were written says nothing of others.
        config.data.transposed = args.transposed;
    }
    config.data.skip_corrupt |= args.skip_corrupt;
    if let Some(rule) = args.at {
        verifier = verifier.at(rule)?;
    }
    let own = config.data.source == of_run;
    let (dataset, test, _) = judge(&verifier, &run, &config, own, voice)?;
    let mut figures = test.figures;
    if let Some(asked) = args
        .one_shot
        .measure(&test.embeddings, &dataset.test, config.seed)?
    {
        figures.few_shot = vec![asked];
    }
    voice.give(&figures)?;
    if let Some(advice) = figures.advice() {
        voice.say(&format!("note: {advice}"));
    }
    voice.emit(&figures)
}

/// Judges a run's network on the images that `config` names, the run's `own` or others: none that it was
/// trained on is tested on, and they are framed as it frames pictures. Gives the images, what is found, and
/// whether the images have changed since the run.
///
/// # Errors
/// For a run that is not finished, and for images that cannot be judged.
pub fn judge(
    verifier: &Verifier,
    run: &RunFolder,
    config: &RunConfig,
    own: bool,
    voice: Voice,
) -> Result<(Dataset, TestReport, bool)> {
    let threshold = verifier.threshold().with_context(|| {
        format!(
            "the model in {} has no threshold: its run was not finished",
            run.display()
        )
    })?;
    let before = run.manifest()?;
    let request = LoadAs {
        framing: Some(verifier.framing()),
        encoder: verifier.encoder(),
        grey_as_found: false,
        before: before.as_ref(),
        only_test: !own,
        trained: true,
    };
    let mut dataset = load(config, request, voice)?;
    let changes = before.as_ref().filter(|_| own);
    let changes = changes.map(|before| before.changes(&dataset.manifest));
    let changes = changes.filter(|changes| !changes.is_empty());
    let unknown = "the run has no data.csv, so nobody knows which images it was trained on: some of \
                   them may be among those tested on";
    let changed = changes.is_some();
    let changes = changes.map(|of| format!("{} has changed since the run: {of}", dataset.name));
    let unknown = before.is_none().then(|| unknown.to_string());
    dataset.notes.extend(changes.into_iter().chain(unknown));
    for note in &dataset.notes {
        voice.say(&format!("note: {note}"));
    }
    let mut config = config.clone();
    if let Some(calibration) = &verifier.model().calibration {
        config.calibration.at = calibration.at;
    }
    let transform = verifier.transform();
    let test = TestReport::new(verifier.net(), transform, &config, &dataset, threshold)?;
    Ok((dataset, test, changed))
}
