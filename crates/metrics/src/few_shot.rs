use std::collections::{BTreeMap, HashSet};
use std::iter;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::query_errors::Cluster;
use crate::retrieval::check;
use crate::{Embeddings, MetricsError, QueryErrors};

/// Which trials of few-shot classification are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trials {
    /// Classes in a trial, 2 or more.
    pub ways: usize,
    /// Support images of each class, 1 or more.
    pub shots: usize,
    /// Number of trials, 1 or more.
    pub trials: usize,
    /// The same seed draws the same trials, whatever the embeddings are.
    pub seed: u64,
}

/// How often a query goes to a wrong one of a few classes, of which a few images each are known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FewShot {
    /// The trials, one query each.
    #[serde(flatten)]
    pub trials: Trials,
    /// Whether all classes of a trial were of one group.
    pub within_groups: bool,
    /// Share of trials that went wrong; by chance 1 − 1/`ways`. The clusters of its interval are the
    /// classes of the queries, and its different queries are the images: more trials than these do not
    /// narrow it further.
    pub error: QueryErrors,
}

/// Few-shot classification of N labelled embeddings.
///
/// A trial draws `ways` classes, `shots` support images of each and one more image of one of them,
/// the query; each choice is uniform, and all images are distinct. The query goes to the class whose
/// prototype, the mean of its support embeddings, is nearest by Euclidean distance (Snell, Swersky and
/// Zemel, "Prototypical Networks for Few-shot Learning", 2017); with one shot, to the nearest support
/// image. It is right only if that class alone is nearest, so a network that maps all images to one
/// point is always wrong.
///
/// `labels` is (N,). A class with `shots` images or fewer is left out. With `groups`, where
/// `groups[label]` is the group of a class, all classes of a trial are of one group: that of a class
/// drawn uniformly from all that are in a group with `ways` or more. So each of them is in a trial
/// equally often, as it is without groups.
///
/// # Errors
///
/// [`MetricsError::Embeddings`] if there is not one label for each embedding, there are none, or a
/// value is not finite; [`MetricsError::Trials`] for fewer than 2 ways, no shot or no trial, and for a
/// label without a group; [`MetricsError::TooFewClasses`].
pub fn few_shot(
    embeddings: &Embeddings,
    labels: &[u32],
    groups: Option<&[u32]>,
    trials: Trials,
) -> Result<FewShot, MetricsError> {
    check("embeddings", embeddings, labels)?;
    trials.check()?;
    let mut source = Source::new(labels, groups, trials)?;
    let mut rng = ChaCha8Rng::seed_from_u64(trials.seed);
    let mut by_class: BTreeMap<u32, Cluster> = BTreeMap::new();
    let mut queries = HashSet::new();
    for _ in 0..trials.trials {
        let trial = source.draw(trials, &mut rng);
        queries.insert(trial.query);
        let query = embeddings.row(trial.query);
        let distances = trial.support.chunks_exact(trials.shots);
        let distances = distances.map(|images| to_prototype(query, embeddings, images));
        let cluster = by_class.entry(trial.class).or_default();
        cluster.add(!first_alone_is_least(distances));
    }
    let clusters: Vec<Cluster> = by_class.into_values().collect();
    Ok(FewShot {
        trials,
        within_groups: groups.is_some(),
        error: QueryErrors::of_clusters(&clusters, queries.len(), trials.seed),
    })
}

impl Trials {
    fn check(self) -> Result<(), MetricsError> {
        let problem = if self.ways < 2 {
            format!("a trial of {}: it takes 2 classes or more", self.ways)
        } else if self.shots == 0 {
            "no support images: a class takes 1 or more".into()
        } else if self.trials == 0 {
            "no trials: give 1 or more".into()
        } else {
            return Ok(());
        };
        Err(MetricsError::Trials(problem))
    }
}

/// The images of a trial.
struct Trial {
    query: usize,
    /// The query's.
    class: u32,
    /// Those of each class after those of another, the query's class first.
    support: Vec<usize>,
}

/// Where trials are drawn from.
struct Source {
    /// The groups with enough classes, of which each has enough images.
    groups: Vec<Vec<Class>>,
    /// For each class the place of its group.
    group_of_class: Vec<usize>,
}

struct Class {
    label: u32,
    images: Vec<usize>,
}

impl Source {
    fn new(labels: &[u32], groups: Option<&[u32]>, trials: Trials) -> Result<Self, MetricsError> {
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (image, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(image);
        }
        let mut by_group: BTreeMap<u32, Vec<Class>> = BTreeMap::new();
        for (label, images) in classes {
            let group = match groups {
                None => 0,
                Some(groups) => *groups.get(label as usize).ok_or_else(|| {
                    let count = groups.len();
                    MetricsError::Trials(format!("class {label} has no group: {count} are given"))
                })?,
            };
            if images.len() > trials.shots {
                let group = by_group.entry(group).or_default();
                group.push(Class { label, images });
            }
        }
        let mut groups_left: Vec<Vec<Class>> = by_group.into_values().collect();
        let found = groups_left.iter().map(Vec::len).max().unwrap_or_default();
        if found < trials.ways {
            return Err(MetricsError::TooFewClasses {
                ways: trials.ways,
                images: trials.shots.saturating_add(1),
                found,
                within_groups: groups.is_some(),
            });
        }
        groups_left.retain(|classes| classes.len() >= trials.ways);
        let places = groups_left.iter().enumerate();
        Ok(Self {
            group_of_class: places
                .flat_map(|(place, classes)| iter::repeat_n(place, classes.len()))
                .collect(),
            groups: groups_left,
        })
    }

    /// Draws all images before any is looked at: networks judged by one seed get the same trials.
    fn draw(&mut self, trials: Trials, rng: &mut ChaCha8Rng) -> Trial {
        let class = rng.random_range(0..self.group_of_class.len());
        let group = &mut self.groups[self.group_of_class[class]];
        // In random order, so the first is any of them.
        let (classes, _) = group.partial_shuffle(rng, trials.ways);
        let mut trial = Trial {
            query: 0,
            class: classes[0].label,
            support: Vec::with_capacity(trials.ways * trials.shots),
        };
        for (place, class) in classes.iter_mut().enumerate() {
            let wanted = trials.shots + usize::from(place == 0);
            let (images, _) = class.images.partial_shuffle(rng, wanted);
            trial.support.extend_from_slice(&images[..trials.shots]);
            if place == 0 {
                trial.query = images[trials.shots];
            }
        }
        trial
    }
}

/// The squared distance of a query from the mean of some embeddings, in f64.
fn to_prototype(query: &[f32], embeddings: &Embeddings, images: &[usize]) -> f64 {
    let mean = |column: usize| {
        let values = images.iter().map(|&image| embeddings.row(image)[column]);
        values.map(f64::from).sum::<f64>() / images.len() as f64
    };
    let square = |(column, &value)| (f64::from(value) - mean(column)).powi(2);
    query.iter().enumerate().map(square).sum()
}

/// Whether a query is right, of its distances from the classes, its own first.
pub(crate) fn first_alone_is_least(mut distances: impl Iterator<Item = f64>) -> bool {
    let own = distances.next();
    own.is_some_and(|own| distances.all(|other| own < other))
}
