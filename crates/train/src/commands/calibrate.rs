//! `train calibrate`: chooses the threshold on pairs of the user's own.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use data::{Manifest, Part, Picture, pixel_hash};
use metrics::{ErrorRate, OperatingPoint, Roc};
use model::{ModelFile, weights};
use serde::Serialize;

use super::model::ModelArgs;
use super::pair_list::{DistinctPairs, PairList};
use crate::run::{RunFolder, write_whole};
use crate::terminal::usage;

/// Flags of `train calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// CSV file with columns `a`, `b` and `same` (1 or 0): pairs of pictures that the model was not
    /// trained on
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Folder that the paths in the CSV file are relative to [default: the folder of the file]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Choose the threshold for this operating point: `accuracy`, `eer` or `far=RATE` [default: the
    /// one that the model's threshold was chosen for]
    #[arg(long, value_name = "POINT")]
    at: Option<OperatingPoint>,
    /// Write the calibrated model to a file of its own [default: replace the model file]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the model again with the threshold that suits a list of pairs, and says how good that is.
///
/// # Errors
/// For pictures or a list that cannot be read, a list that no threshold can be chosen on, a run in
/// training, and a file that cannot be written.
pub fn calibrate(args: &CalibrateArgs) -> Result<()> {
    let target = args.out.clone().unwrap_or_else(|| args.model.file());
    let run = RunFolder::of_model(&target);
    // Keeps other programs from training in it.
    let _lock = run.as_ref().map(RunFolder::lock).transpose()?;
    let (verifier, voice) = args.model.open()?;
    let known = verifier.model().calibration.as_ref();
    let at = args.at.or(known.map(|known| known.at)).unwrap_or_default();

    let list = PairList::read(&args.pairs, args.root.as_deref())?;
    let files = list.files();
    let pictures = verifier.read_all(&files)?;
    let known = args
        .model
        .known(&files, &pictures, Part::is_trained, voice)?;
    let counted = DistinctPairs::new(&list, &pictures, &known)?;
    counted.check_kinds(&list)?;
    counted.tell_left_out(voice);
    let distances = list.distances(&verifier.embed(&pictures)?);
    let distances: Vec<f32> = counted.places.iter().map(|&pair| distances[pair]).collect();
    let roc = Roc::new(&distances, &counted.same)
        .with_context(|| format!("{}: no threshold can be chosen", list.display()))?;
    let threshold = at.threshold(&roc).map_err(|error| {
        usage(format!(
            "{}: {error}: list more different pairs, or name another operating point with --at",
            list.display()
        ))
    })?;

    let file = ModelFile {
        threshold: Some(threshold),
        calibration: Some(roc.calibration(at)),
        ..verifier.model().clone()
    };
    write_whole(&target, &weights::to_bytes(verifier.net(), &file)?)?;
    if let Some(run) = run {
        let used = counted.places.iter().map(|&pair| list.pairs[pair].pictures);
        let used: BTreeSet<usize> = used.flatten().collect();
        remember(&run, used.into_iter().map(|i| (&files[i], &pictures[i])))?;
    }

    voice.say(&format!("wrote {}", target.display()));

    let [same, different] = counted.kinds();
    let chosen = Chosen {
        at,
        threshold,
        previous_threshold: verifier.threshold(),
        same,
        different,
        repeated: counted.repeated,
        with_itself: counted.with_itself,
        trained_on: counted.known,
        far: roc.false_accepts_at(threshold),
        frr: roc.false_rejects_at(threshold),
    };
    voice.give(&chosen)?;
    voice.emit(&chosen)
}

/// The threshold, what it was chosen on and what it is worth there.
#[derive(Serialize)]
struct Chosen {
    at: OperatingPoint,
    threshold: f64,
    previous_threshold: Option<f64>,
    same: usize,
    different: usize,
    repeated: usize,
    with_itself: usize,
    trained_on: usize,
    far: ErrorRate,
    frr: ErrorRate,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.previous_threshold.map(|t| format!("was {t:.4}"));
        let before = before.unwrap_or("there was none".into());
        writeln!(
            f,
            "threshold {:.4} ({before}), chosen for {} on {} same and {} different pairs",
            self.threshold, self.at, self.same, self.different
        )?;
        writeln!(
            f,
            "false accepts {}, false rejects {} on these pairs (95% intervals)",
            self.far, self.frr
        )
    }
}

/// Records in a run that the threshold was chosen on these pictures, so that none gives figures later;
/// a run that does not record its images stays without.
fn remember<'a>(
    run: &RunFolder,
    pictures: impl Iterator<Item = (&'a PathBuf, &'a Picture)>,
) -> Result<()> {
    let Some(mut manifest) = run.manifest()? else {
        return Ok(());
    };
    for (file, picture) in pictures {
        let content = Manifest::content_of(file)?;
        let name = file.display().to_string();
        manifest.add_calibrated(name, content, pixel_hash(&picture.pixels));
    }
    run.write_manifest(&manifest)
}
