//! `train serve`: verdicts over HTTP, and a page for people.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use data::DataError;
use serde_json::json;
use serve::{Judge, JudgeError, Limits, Map, Model, Seen, Server, Verdict};
use verifier::{Gallery, Verifier, VerifierError};

use crate::cli::ServeArgs;
use crate::interrupt::Interrupt;
use crate::pictures;
use crate::plane::Plane;
use crate::progress::{Voice, tell};
use crate::usage::usage;

/// Serves until Ctrl-C.
pub fn serve(args: &ServeArgs) -> Result<()> {
    let voice = Voice::new(args.voice.quiet, args.voice.json);
    let verifier = pictures::open(&args.run, &args.device.choice.open(voice)?)?;
    let Some(threshold) = verifier.threshold() else {
        return Err(usage("the model has no threshold, so it gives no verdicts"));
    };
    let gallery = match &args.gallery {
        Some(folder) => Some(Gallery::of_folder(&verifier, folder, None)?.0),
        None => None,
    };
    let map = read_map(&args.run, verifier.dimension())?;
    let judge = NetworkJudge {
        name: args.run.display().to_string(),
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
            "warning: whoever reaches this machine at {address} can use the service: it has neither \
             passwords nor encryption"
        ));
    }
    let interrupt = Interrupt::listen()?;
    voice.give(format_args!(
        "{} is served at http://{address}/; Ctrl-C stops it\n",
        args.run.display()
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

    fn embed(&self, pictures: &[(String, Vec<u8>)]) -> Result<Vec<Seen>, JudgeError> {
        let decode = |(name, bytes): &(String, Vec<u8>)| self.verifier.decode(bytes, name);
        let decoded: Result<Vec<_>, _> = pictures.iter().map(decode).collect();
        let decoded = decoded.map_err(judge_error)?;
        let embeddings = self.verifier.embed(&decoded).map_err(judge_error)?;
        let seen = embeddings.rows().zip(decoded).map(|(row, picture)| Seen {
            embedding: row.to_vec(),
            place: self.map.as_ref().map(|(_, plane)| place(plane, row)),
            treatment: picture.treatment,
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
        VerifierError::Picture(DataError::PictureTooLarge { .. }) => JudgeError::PictureTooLarge,
        VerifierError::Picture(_) => JudgeError::Picture,
        _ => JudgeError::Failed,
    };
    kind(format!("{:#}", anyhow::Error::new(error)))
}

fn place(plane: &Plane, embedding: &[f32]) -> [f32; 2] {
    let (x, y) = plane.place(embedding);
    [x as f32, y as f32]
}

/// The run's test images in the plane, from the files for the embedding projector; `None` where
/// there are none, as beside a bare model file.
fn read_map(run: &Path, dim: usize) -> Result<Option<(Map, Plane)>> {
    let files = ["embeddings.tsv", "metadata.tsv"].map(|name| run.join(name));
    if !files.iter().all(|file| file.is_file()) {
        return Ok(None);
    }
    let [rows, names] = files.each_ref().map(|file| {
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    });
    let (rows, names) = (rows?, names?);
    let (mut values, mut labels, mut classes) = (Vec::new(), Vec::new(), Vec::<String>::new());
    for (number, row) in rows.lines().enumerate() {
        let before = values.len();
        for value in row.split('\t') {
            let value: f32 = value
                .parse()
                .with_context(|| format!("{}, line {}", files[0].display(), number + 1))?;
            values.push(value);
        }
        ensure!(
            values.len() - before == dim,
            "{}, line {}: {} numbers, and the model's embedding has {dim}",
            files[0].display(),
            number + 1,
            values.len() - before
        );
    }
    for name in names.lines() {
        let label = classes.iter().position(|class| class == name);
        labels.push(label.unwrap_or_else(|| {
            classes.push(name.to_owned());
            classes.len() - 1
        }) as u32);
    }
    ensure!(
        labels.len() * dim == values.len(),
        "{} has {} rows and {} has {}",
        files[0].display(),
        values.len() / dim,
        files[1].display(),
        labels.len()
    );
    if labels.is_empty() {
        return Ok(None);
    }
    let rows: Vec<&[f32]> = values.chunks_exact(dim).collect();
    let plane = Plane::of(&rows, dim);
    let map = Map {
        points: rows.iter().map(|row| place(&plane, row)).collect(),
        labels,
        classes,
        projected: dim > 2,
    };
    Ok(Some((map, plane)))
}
