//! `train serve`: verdicts over HTTP, and a page for people.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use data::{DataError, Picture, PictureProblem};
use report::pca::Plane;
use serde_json::json;
use serve::{
    Access, ApiKey, Host, Judge, JudgeError, Limits, Map, Model, Origin, PathPrefix, Seen, Server,
    Verdict,
};
use tracing_subscriber::filter::LevelFilter;
use verifier::{Gallery, Verifier, VerifierError};

use super::model::ModelArgs;
use crate::results::read_projector;
use crate::terminal::{Interrupt, Voice, tell, usage};

/// Flags of `train serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Port to listen on; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8787)]
    port: u16,
    /// Address to listen on. Any address but a loopback one opens the service to everyone who can
    /// reach this machine: there is no encryption, and without an API key no password
    #[arg(long, value_name = "ADDRESS", default_value_t = std::net::Ipv4Addr::LOCALHOST.into())]
    listen: std::net::IpAddr,
    /// Folder of pictures, including sub-folders, for POST /search to search
    #[arg(long, value_name = "DIR")]
    gallery: Option<PathBuf>,
    /// Answer requests to this host name too, beside localhost: the one under which a reverse proxy is
    /// reached. Can be repeated
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<Host>,
    /// Let the pages of another site send requests (CORS), such as https://example.org. Can be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<Origin>,
    /// Put all paths below this one, such as /verifier
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<PathPrefix>,
    /// File with the key that clients have to send as `Authorization: Bearer KEY` [default: the
    /// environment variable TRAIN_API_KEY; without one there is no key]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Form of the log on standard error, a line a request [default: plain; errors alone with --quiet
    /// and --json]
    #[arg(long, value_name = "FORM")]
    log: Option<LogForm>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogForm {
    /// For people
    Plain,
    /// A JSON object a line
    Json,
}

/// The environment variable that has the API key where no file has it.
const KEY_VARIABLE: &str = "TRAIN_API_KEY";

impl ServeArgs {
    fn access(&self) -> Result<Access> {
        Ok(Access {
            hosts: self.allow_host.clone(),
            origins: self.allow_origin.clone(),
            prefix: self.path_prefix.clone().unwrap_or_default(),
            key: self.key()?,
        })
    }

    fn key(&self) -> Result<Option<ApiKey>> {
        let (text, place) = match &self.api_key_file {
            Some(file) => {
                let place = file.display().to_string();
                let text = fs::read_to_string(file);
                (text.with_context(|| format!("cannot read {place}"))?, place)
            }
            None => match env::var_os(KEY_VARIABLE) {
                // What is not Unicode is not ASCII, and refused as such.
                Some(text) => (text.to_string_lossy().into(), KEY_VARIABLE.into()),
                None => return Ok(None),
            },
        };
        let key = text.parse().map_err(|e| usage(format!("{place}: {e}")))?;
        Ok(Some(key))
    }

    /// Sends the service's log to standard error.
    fn log_to_stderr(&self, voice: Voice) {
        let level = match (self.log, voice) {
            (None, Voice::Json | Voice::Quiet) => LevelFilter::ERROR,
            _ => LevelFilter::INFO,
        };
        let log = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(false);
        match self.log {
            Some(LogForm::Json) => log.json().flatten_event(true).init(),
            _ => log.init(),
        }
    }
}

/// Serves until Ctrl-C.
///
/// # Errors
/// For a model without a threshold, a gallery or key that cannot be read, and an address that is taken.
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
        fingerprint: verifier.fingerprint()?.to_owned(),
        threshold,
        verifier,
        gallery,
        map,
    };
    let asked = SocketAddr::new(args.listen, args.port);
    let access = args.access()?;
    let (prefix, has_key) = (access.prefix.clone(), access.key.is_some());
    let server = Server::listen(asked, judge, Limits::default(), access)?;
    let address = server.address();
    if !address.ip().is_loopback() {
        tell(match has_key {
            true => {
                format!("warning: what is sent to {address} is not encrypted, nor is the API key")
            }
            false => format!(
                "warning: whoever reaches this machine at {address} can use the service: there is no \
                 password (--api-key-file) and no encryption"
            ),
        });
    }
    args.log_to_stderr(voice);
    let url = format!("http://{address}{}/", prefix.as_str());
    let interrupt = Interrupt::listen()?;
    voice.give(format_args!(
        "{} is served at {url}; Ctrl-C stops it\n",
        args.model.path().display()
    ))?;
    voice.emit(&json!({ "address": address, "url": url }))?;
    server.run(|| interrupt.requested());
    voice.say("stopped");
    Ok(())
}

/// A trained network as the service asks it.
struct NetworkJudge {
    fingerprint: String,
    threshold: f64,
    verifier: Verifier,
    gallery: Option<Gallery>,
    map: Option<(Map, Plane)>,
}

impl Judge for NetworkJudge {
    type Prepared = Picture;

    fn model(&self) -> Model {
        Model {
            fingerprint: self.fingerprint.clone(),
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
