//! `train verify`: do two pictures show the same thing?

use anyhow::Result;
use metrics::{euclidean, is_same};
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::pictures::Viewer;
use crate::progress::Voice;
use crate::usage::usage;

/// Says the distance and the verdict.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let voice = Voice::new(args.voice.quiet, args.voice.json);
    let viewer = Viewer::open(&args.run, &args.device.choice.open(voice)?)?;
    let threshold = match args.threshold.or(viewer.file.threshold) {
        Some(threshold) if threshold >= 0.0 && threshold.is_finite() => threshold,
        Some(threshold) => {
            return Err(usage(format!(
                "--threshold is {threshold}; a distance is 0 or more"
            )));
        }
        None => {
            return Err(usage(
                "the model has no threshold of its own: give one with --threshold",
            ));
        }
    };
    let paths = [args.first.clone(), args.second.clone()];
    let viewed = viewer.view(&paths)?;
    let (a, b) = viewed.embeddings.split_at(viewer.net.config().embedding);
    let distance = euclidean(a, b);
    let same = is_same(distance, threshold);
    for (path, treatment) in paths.iter().zip(&viewed.treatment) {
        voice.say(&format!("{}: {}", path.display(), treatment.join("; ")));
    }
    voice.give(format_args!(
        "{}: distance {distance:.4}, {} the threshold {threshold:.4}\n",
        if same { "the same" } else { "different" },
        if same { "within" } else { "beyond" },
    ))?;
    voice.emit(&json!({
        "same": same,
        "distance": distance,
        "threshold": threshold,
        "embeddings": [a, b],
        "treatment": viewed.treatment,
    }))
}
