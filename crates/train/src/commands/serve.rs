//! `train serve`: verdicts over HTTP, and a page for people.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use data::{DataError, Picture, PictureProblem};
use report::pca::Plane;
use serde_json::json;
use serve::{Judge, JudgeError, Limits, Map, Model, Seen, Server, Verdict};
use verifier::{Gallery, Verifier, VerifierError};

use super::model::ModelArgs;
use crate::results::read_projector;
use crate::terminal::{Interrupt, tell, usage};

/// Flags of `train serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Port to listen on; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8787)]
    port: u16,
    /// Address to listen on. Any address but a loopback one opens the service to everyone who can
    /// reach this machine: there is no password and no encryption
    #[arg(long, value_name = "ADDRESS", default_value_t = std::net::Ipv4Addr::LOCALHOST.into())]
    listen: std::net::IpAddr,
    /// Folder of pictures, including sub-folders, for POST /search to search
    #[arg(long, value_name = "DIR")]
    gallery: Option<PathBuf>,
}

/// Serves until Ctrl-C.
///
/// # Errors
/// For a model without a threshold, a gallery that cannot be read, and an address that is taken.
pub fn serve(args: &ServeArgs) -> Result<()> {
    let (verifier, voice) = args.model.open()?;
    let Some(threshold) = verifier.threshold() else {
        return Err(usage("the model has no threshold, so it gives no verdicts"));
    };
    let gallery = match &args.gallery {
        Some(folder) => Some(Gallery::of_folder(&verifier, folder, None)?.0),
        None => None,
    };
    let map = read_map(args.model.path(), verifier.dimension())?;
    let judge = NetworkJudge {
        name: args.model.path().display().to_string(),
        threshold,
        verifier,
        gallery,
        map,
    };
    let asked = SocketAddr::new(args.listen, args.port);
    let server = Server::listen(asked, judge, Limits::default())?;
    let address = server.address();
    if !address.ip().is_loopback() {
        tell(format_args!(
            "warning: whoever reaches this machine at {address} can use the service: there is no \
             password and no encryption"
        ));
    }
    let interrupt = Interrupt::listen()?;
    voice.give(format_args!(
        "{} is served at http://{address}/; Ctrl-C stops it\n",
        args.model.path().display()
    ))?;
    voice.emit(&json!({ "address": address, "url": format!("http://{address}/") }))?;
    server.run(|| interrupt.requested());
    voice.say("stopped");
    Ok(())
}

/// A trained network as the service asks it.
struct NetworkJudge {
    name: String,
    threshold: f64,
    verifier: Verifier,
    gallery: Option<Gallery>,
    map: Option<(Map, Plane)>,
}

impl Judge for NetworkJudge {
    type Prepared = Picture;

    fn model(&self) -> Model {
        Model {
            name: self.name.clone(),
            input: self.verifier.shape().into(),
            embedding: self.verifier.dimension(),
            threshold: self.threshold,
            gallery: self.gallery.as_ref().map_or(0, Gallery::len),
            map: self.map.is_some(),
        }
    }

    fn prepare(&self, name: &str, bytes: &[u8]) -> Result<Picture, JudgeError> {
        self.verifier.decode(bytes, name).map_err(judge_error)
    }

    fn embed(&self, pictures: &[&Picture]) -> Result<Vec<Seen>, JudgeError> {
        let embeddings = self.verifier.embed(pictures).map_err(judge_error)?;
        let seen = embeddings.rows().zip(pictures).map(|(row, picture)| Seen {
            embedding: row.to_vec(),
            place: self.map.as_ref().map(|(_, plane)| place(plane, row)),
            treatment: picture.treatment_in_words(),
        });
        Ok(seen.collect())
    }

    fn verdict(&self, a: &[f32], b: &[f32]) -> Result<Verdict, JudgeError> {
        self.verifier.verdict(a, b).map_err(judge_error)
    }

    fn nearest(&self, embedding: &[f32], count: usize) -> Result<Vec<(String, f32)>, JudgeError> {
        let Some(gallery) = &self.gallery else {
            return Ok(Vec::new());
        };
        let found = gallery.search(embedding, count).map_err(judge_error)?;
        let neighbour = |(name, found): (&str, verifier::Neighbour)| (name.into(), found.distance);
        Ok(found.into_iter().map(neighbour).collect())
    }

    fn map(&self) -> Option<&Map> {
        self.map.as_ref().map(|(map, _)| map)
    }
}

fn judge_error(error: VerifierError) -> JudgeError {
    let kind = match &error {
        VerifierError::Picture(DataError::Picture {
            problem: PictureProblem::TooLarge { .. },
            ..
        }) => JudgeError::PictureTooLarge,
        VerifierError::Picture(_) => JudgeError::Picture,
        _ => JudgeError::Failed,
    };
    kind(format!("{:#}", anyhow::Error::new(error)))
}

fn place(plane: &Plane, embedding: &[f32]) -> [f32; 2] {
    let (x, y) = plane.place(embedding);
    [x as f32, y as f32]
}

/// The run's test images in the plane; `None` where it has left none.
fn read_map(run: &Path, dim: usize) -> Result<Option<(Map, Plane)>> {
    let Some(known) = read_projector(run, dim)? else {
        return Ok(None);
    };
    let rows: Vec<&[f32]> = known.embeddings.rows().collect();
    let plane = Plane::of(&rows, dim);
    let map = Map {
        points: rows.iter().map(|row| place(&plane, row)).collect(),
        labels: known.labels,
        classes: known.classes,
        projected: dim > 2,
    };
    Ok(Some((map, plane)))
}
