//! `train evaluate --one-shot-trials`: trials that others have drawn, such as Omniglot's 20 runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use anyhow::{Context, Result};
use data::{Manifest, Part};
use metrics::FixedTrial;
use serde_json::json;
use verifier::Verifier;

use super::model::{UNKNOWN, known};
use crate::run::RunFolder;
use crate::terminal::{Voice, usage};

const LABELS: &str = "class_labels.txt";

/// Judges and prints the trials in `folder`, but for those with a picture that the run has used; `seed`
/// is that of the interval.
///
/// # Errors
/// For folders, lists and pictures that cannot be read, lists that do not fit their pictures, and where
/// no trial is left.
pub fn fixed_trials(
    run: &RunFolder,
    verifier: &Verifier,
    folder: &Path,
    seed: u64,
    voice: Voice,
) -> Result<()> {
    let listed = entries(folder, Path::is_dir)?;
    if ["training", "test"]
        .iter()
        .all(|part| folder.join(part).is_dir())
    {
        return Err(usage(format!(
            "{} is a trial itself: name the folder that it is in, {}",
            folder.display(),
            parent(folder).display()
        )));
    }
    let listed: Vec<Listed> = listed
        .into_iter()
        .map(Listed::of)
        .collect::<Result<_, _>>()?;
    if listed.is_empty() {
        return Err(usage(format!(
            "{} has no trials: each is a sub-folder with training/, test/ and {LABELS}",
            folder.display()
        )));
    }
    let manifest = run.manifest()?;
    if manifest.is_none() {
        voice.say(UNKNOWN);
    }
    let mut used = Used::default();
    let mut trials = Vec::new();
    for trial in listed {
        trials.extend(trial.judged(verifier, manifest.as_ref(), &mut used)?);
    }
    if trials.is_empty() {
        return Err(usage(format!(
            "{}: no trial is left, since each has pictures that the model was made with ({used})",
            folder.display()
        )));
    }
    if used.trials > 0 {
        voice.say(&format!(
            "note: trials left out, since they have pictures that the model was made with: {used}"
        ));
    }
    let found = metrics::fixed_trials(&trials, seed)?;
    let name = match found.ways {
        Some(ways) => format!("{ways}-way one-shot error"),
        None => "one-shot error".into(),
    };
    let (error, queries) = (found.error, found.error.queries);
    voice.give(format_args!(
        "{name:<28} {error}, {} in {}\n",
        count(queries, "picture"),
        count(found.trials, "trial")
    ))?;
    voice.emit(&json!({ "one_shot_trials": found }))
}

/// What is left out of the figures.
#[derive(Default)]
struct Used {
    trials: usize,
    /// In them, those that the model was made with.
    pictures: usize,
}

impl fmt::Display for Used {
    /// `2 trials with 3 such pictures`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trials = count(self.trials, "trial");
        write!(f, "{trials} with {}", count(self.pictures, "such picture"))
    }
}

/// `1 trial`, `2 trials`
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The folder that another is in.
fn parent(folder: &Path) -> PathBuf {
    match (folder.file_name(), folder.parent()) {
        (Some(_), Some(parent)) if parent.as_os_str().is_empty() => ".".into(),
        (Some(_), Some(parent)) => parent.into(),
        // `.` or the like.
        _ => folder.join(".."),
    }
}

/// A trial's files.
struct Listed {
    folder: PathBuf,
    /// A picture of each class.
    training: Vec<PathBuf>,
    test: Vec<PathBuf>,
    /// The place in `training` of the class of each in `test`.
    truth: Vec<u32>,
}

impl Listed {
    fn of(folder: PathBuf) -> Result<Self> {
        let part = |name| {
            let part = folder.join(name);
            let pictures = entries(&part, data::is_picture_name)?;
            Ok::<_, anyhow::Error>((part, pictures))
        };
        let ((training_folder, training), (test_folder, test)) = (part("training")?, part("test")?);
        if training.len() < 2 {
            return Err(usage(format!(
                "{} has {}: a trial has one of each class, of 2 classes or more",
                training_folder.display(),
                match training.len() {
                    0 => "no picture",
                    _ => "1 picture",
                }
            )));
        }
        if test.is_empty() {
            let test = test_folder.display();
            return Err(usage(format!("{test} has no pictures to classify")));
        }
        let truth = read_labels(&folder, &training, &test)?;
        Ok(Self {
            folder,
            training,
            test,
            truth,
        })
    }

    /// The trial as it is judged; `None`, and counted in `used`, if the model was made with pictures
    /// of it.
    fn judged(
        self,
        verifier: &Verifier,
        manifest: Option<&Manifest>,
        used: &mut Used,
    ) -> Result<Option<FixedTrial>> {
        let read = |files: &[PathBuf]| -> Result<_> {
            let pictures = verifier.read_all(files);
            let pictures = pictures.with_context(|| format!("trial {}", self.folder.display()))?;
            let known = known(manifest, files, &pictures, Part::is_used)?;
            Ok((pictures, known.iter().filter(|known| **known).count()))
        };
        let (training, known_classes) = read(&self.training)?;
        let (test, known_queries) = read(&self.test)?;
        if known_classes + known_queries > 0 {
            used.trials += 1;
            used.pictures += known_classes + known_queries;
            return Ok(None);
        }
        Ok(Some(FixedTrial {
            classes: verifier.embed(&training)?,
            queries: verifier.embed(&test)?,
            truth: self.truth,
        }))
    }
}

/// For each picture of `test` the place of its class in `training`, from the trial's list.
fn read_labels(folder: &Path, training: &[PathBuf], test: &[PathBuf]) -> Result<Vec<u32>> {
    let list = folder.join(LABELS);
    let here = list.display();
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {here}"))?;
    let training = Places::of(folder, "training", training);
    let places = Places::of(folder, "test", test);
    let mut truth: Vec<Option<u32>> = vec![None; test.len()];
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    for (line, text) in text.lines().enumerate() {
        let at_line = |problem| usage(format!("{here}, line {}: {problem}", line + 1));
        let Some([query, class]) = two_paths(text).map_err(at_line)? else {
            continue;
        };
        let place = places.find(query).map_err(at_line)?;
        let class = training.find(class).map_err(at_line)? as u32;
        if truth[place].replace(class).is_some() {
            return Err(at_line(format!("`{query}` is named a second time")));
        }
    }
    let named = |(truth, path): (Option<u32>, &PathBuf)| {
        truth.ok_or_else(|| usage(format!("{here} does not name {}", path.display())))
    };
    truth.into_iter().zip(test).map(named).collect()
}

/// The paths in a line; `None` if it is blank.
fn two_paths(line: &str) -> Result<Option<[&str; 2]>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [] => Ok(None),
        [query, class] => Ok(Some([query, class])),
        _ => Err(format!(
            "`{line}` is not two paths with a space between, TEST_PATH TRAINING_PATH"
        )),
    }
}

/// Where pictures are in a list of them.
struct Places<'a> {
    trial: &'a Path,
    part: &'static str,
    places: HashMap<&'a Path, usize>,
}

impl<'a> Places<'a> {
    fn of(trial: &'a Path, part: &'static str, paths: &'a [PathBuf]) -> Self {
        let places = paths.iter().enumerate();
        let places = places.map(|(place, path)| (path.as_path(), place));
        Self {
            trial,
            part,
            places: places.collect(),
        }
    }

    /// By a path that is relative to the folder of all trials or to the trial's own.
    fn find(&self, written: &str) -> Result<usize, String> {
        let bases = [self.trial.parent(), Some(self.trial)];
        let place = |base: &Path| self.places.get(&*base.join(written)).copied();
        let found = bases.into_iter().flatten().find_map(place);
        found.ok_or_else(|| {
            let part = self.trial.join(self.part);
            format!("`{written}` is no picture in {}", part.display())
        })
    }
}

/// Paths of what is wanted in `folder` and not hidden, in the order of their names.
fn entries(folder: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut paths = list().with_context(|| format!("cannot look into {}", folder.display()))?;
    let hidden = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        // macOS puts the second one into archives.
        name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX"
    };
    paths.retain(|path| !hidden(path) && wanted(path));
    paths.sort_unstable();
    Ok(paths)
}
