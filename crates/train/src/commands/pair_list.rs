//! A list of pairs of pictures: a CSV file that a user has written, or `train verify`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use csv::StringRecord;
use data::{Picture, pixel_hash};
use metrics::{Embeddings, euclidean};

use crate::terminal::{Voice, usage};

/// A CSV file with the columns `a`, `b` and perhaps `same`, in any order and among others.
pub struct PairList {
    path: PathBuf,
    root: PathBuf,
    /// Each picture once, ascending.
    names: Vec<String>,
    /// At least one, in the order of the file.
    pub pairs: Vec<ListedPair>,
}

/// A pair of a list.
pub struct ListedPair {
    /// Where it is in the file, from 1.
    pub line: u64,
    /// The two, by their places among the list's pictures.
    pub pictures: [usize; 2],
    /// The truth; known for all pairs of a list or for none.
    pub same: Option<bool>,
}

impl PairList {
    /// Reads a list whose pictures are relative to `root`, or to the list's own folder.
    ///
    /// # Errors
    /// For a file that cannot be read, lacks a column or has no pairs, and for a line that is not a
    /// pair, which it names.
    pub fn read(path: &Path, root: Option<&Path>) -> Result<Self> {
        let rows = read_rows(path)?;
        let names: BTreeSet<&String> = rows.iter().flat_map(|row| &row.names).collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let place = |name: &String| names.partition_point(|earlier| earlier < name);
        let pairs = rows.iter().map(|row| ListedPair {
            line: row.line,
            pictures: [place(&row.names[0]), place(&row.names[1])],
            same: row.same,
        });
        Ok(Self {
            path: path.into(),
            root: root.or(path.parent()).unwrap_or(Path::new("")).into(),
            pairs: pairs.collect(),
            names,
        })
    }

    /// The list itself, as a person writes it.
    pub fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// The file of each picture.
    pub fn files(&self) -> Vec<PathBuf> {
        self.names.iter().map(|name| self.root.join(name)).collect()
    }

    /// What the list calls the two pictures of a pair.
    pub fn names(&self, pair: &ListedPair) -> [&str; 2] {
        pair.pictures.map(|picture| self.names[picture].as_str())
    }

    /// Which pairs are the same in truth; `None` if the list does not say.
    pub fn truth(&self) -> Option<Vec<bool>> {
        self.pairs.iter().map(|pair| pair.same).collect()
    }

    /// The distance of each pair; `embeddings` are those of [`files`](Self::files).
    pub fn distances(&self, embeddings: &Embeddings) -> Vec<f32> {
        let distance = |pair: &ListedPair| {
            let [a, b] = pair.pictures.map(|picture| embeddings.row(picture));
            euclidean(a, b)
        };
        self.pairs.iter().map(distance).collect()
    }
}

/// The pairs of a list that count: each once, and none of pictures that the model knows.
#[derive(Debug, Default)]
pub struct DistinctPairs {
    /// Their places in the list.
    pub places: Vec<usize>,
    /// The truth about each.
    pub same: Vec<bool>,
    /// The two pictures of each, by numbers that copies have in common.
    pub pictures: Vec<(u32, u32)>,
    /// How many of the others repeat one.
    pub repeated: usize,
    /// How many of the others are of a picture with itself.
    pub with_itself: usize,
    /// How many of the others have a picture that the model knows.
    pub known: usize,
}

impl DistinctPairs {
    /// Takes each pair of two pictures once, whichever is first and whatever their files are called,
    /// but no pair of which a picture is `known`; the list says which are the same. `pictures` are
    /// those of the list's [`files`](PairList::files): of the same pixels, they are one.
    ///
    /// # Errors
    /// For a list without the truth, and for one that contradicts itself.
    pub fn new(list: &PairList, pictures: &[Picture], known: &[bool]) -> Result<Self> {
        let here = list.display();
        let Some(truth) = list.truth() else {
            return Err(usage(format!(
                "{here} has no column same: it takes pairs whose truth is known, 1 for the same and 0 \
                 for different"
            )));
        };
        let numbers = numbers(pictures);
        // Of copies, one may be known by its file alone.
        let known = numbers.iter().zip(known).filter(|(_, known)| **known);
        let known: HashSet<u32> = known.map(|(&number, _)| number).collect();
        let mut counted = Self::default();
        let mut seen = HashMap::new();
        for (place, (pair, &same)) in list.pairs.iter().zip(&truth).enumerate() {
            let [a, b] = pair.pictures.map(|picture| numbers[picture]);
            if a == b {
                counted.with_itself += 1;
                continue;
            }
            let first = *seen.entry((a.min(b), a.max(b))).or_insert(place);
            if truth[first] != same {
                return Err(contradiction(list, &list.pairs[first], pair));
            }
            if first != place {
                counted.repeated += 1;
            } else if known.contains(&a) || known.contains(&b) {
                counted.known += 1;
            } else {
                counted.places.push(place);
                counted.same.push(same);
                counted.pictures.push((a, b));
            }
        }
        Ok(counted)
    }

    /// # Errors
    /// Unless there are pairs of both kinds.
    pub fn check_kinds(&self, list: &PairList) -> Result<()> {
        let [same, different] = self.kinds();
        if same == 0 || different == 0 {
            return Err(usage(format!(
                "{} has {same} same and {different} different pairs that count, and it takes both kinds; \
                 {} are listed twice, {} of a picture with itself, {} of pictures that the model was \
                 made with",
                list.display(),
                self.repeated,
                self.with_itself,
                self.known
            )));
        }
        Ok(())
    }

    /// Says how many pairs do not count, and why.
    pub fn tell_left_out(&self, voice: Voice) {
        for (pairs, why) in [
            (self.repeated, "listed before"),
            (self.with_itself, "of a picture with itself"),
            (self.known, "of pictures that the model was made with"),
        ] {
            if pairs > 0 {
                voice.say(&format!("pairs left out, since they are {why}: {pairs}"));
            }
        }
    }

    /// How many are the same, and how many are different.
    pub fn kinds(&self) -> [usize; 2] {
        let same = self.same.iter().filter(|same| **same).count();
        [same, self.same.len() - same]
    }
}

/// The same number for pictures of the same pixels.
fn numbers(pictures: &[Picture]) -> Vec<u32> {
    let mut numbers = HashMap::new();
    let number = |picture: &Picture| {
        let next = numbers.len() as u32;
        *numbers.entry(pixel_hash(&picture.pixels)).or_insert(next)
    };
    pictures.iter().map(number).collect()
}

/// That two pairs of the same pictures are said to be different things.
fn contradiction(list: &PairList, first: &ListedPair, second: &ListedPair) -> anyhow::Error {
    let ([a, b], [c, d]) = (list.names(first), list.names(second));
    usage(format!(
        "{}, lines {} and {}: {c} and {d} are the same pictures as {a} and {b}, but one line calls \
         them the same and the other different: remove the wrong line",
        list.display(),
        first.line,
        second.line
    ))
}

struct Row {
    line: u64,
    names: [String; 2],
    same: Option<bool>,
}

/// Where the columns are.
struct Columns {
    names: [usize; 2],
    same: Option<usize>,
}

fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let here = path.display();
    let cannot_read = || format!("cannot read {here}");
    let mut reader = csv::ReaderBuilder::new();
    let reader = reader.trim(csv::Trim::All).from_path(path);
    let mut reader = reader.with_context(cannot_read)?;
    let header = reader.headers().with_context(cannot_read)?;
    let columns = Columns::find(header).map_err(|problem| usage(format!("{here} {problem}")))?;
    let mut rows = Vec::new();
    for record in reader.records() {
        // Its text names the line.
        let record = record.with_context(cannot_read)?;
        let line = record.position().map_or(0, |position| position.line());
        let row = columns.row(line, &record);
        rows.push(row.map_err(|problem| usage(format!("{here}, line {line}: {problem}")))?);
    }
    if rows.is_empty() {
        return Err(usage(format!("{here} has no pairs")));
    }
    Ok(rows)
}

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, String> {
        let column = |name| header.iter().position(|found| found == name);
        let (Some(a), Some(b)) = (column("a"), column("b")) else {
            let found: Vec<&str> = header.iter().collect();
            return Err(format!(
                "has the columns {}; its first line must name a and b, and may name same",
                found.join(",")
            ));
        };
        Ok(Self {
            names: [a, b],
            same: column("same"),
        })
    }

    fn row(&self, line: u64, record: &StringRecord) -> Result<Row, String> {
        let same = self.same.map(|same| match &record[same] {
            "1" | "true" | "same" => Ok(true),
            "0" | "false" | "different" => Ok(false),
            found => Err(format!(
                "same is `{found}`; write 1 for the same and 0 for different"
            )),
        });
        let same = same.transpose()?;
        let names = self.names.map(|column| record[column].to_string());
        if names.iter().any(String::is_empty) {
            return Err("a picture has no name".into());
        }
        Ok(Row { line, names, same })
    }
}
