use serde::{Deserialize, Serialize};

use crate::few_shot::first_alone_is_least;
use crate::query_errors::Cluster;
use crate::retrieval::check;
use crate::{Embeddings, MetricsError, QueryErrors, euclidean};

/// A given trial of one-shot classification: one embedding of each class, and queries.
#[derive(Debug, Clone, PartialEq)]
pub struct FixedTrial {
    /// An embedding of each class, (W, D).
    pub classes: Embeddings,
    /// The queries' embeddings, (Q, D).
    pub queries: Embeddings,
    /// Each query's class, a row of `classes`; (Q,).
    pub truth: Vec<u32>,
}

/// How often the queries of given trials go to a wrong class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FixedTrials {
    /// Number of trials.
    pub trials: usize,
    /// Classes in each trial; `None`, and left out of JSON, if the trials differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ways: Option<usize>,
    /// Share of queries that went to a wrong class; by chance 1 − 1/`ways`. The clusters of its
    /// interval are the trials, and all queries are taken for different ones.
    pub error: QueryErrors,
}

/// One-shot classification in given trials, such as Omniglot's 20 runs.
///
/// A query goes to the class whose embedding is nearest by Euclidean distance. It is right only if
/// that class alone is nearest. `seed` is that of the interval's resamples.
///
/// # Errors
///
/// [`MetricsError::Embeddings`], which names the trial by its place from 0, if there is not one truth
/// for each query, there is no query, the two sets differ in dimension, or a value is not finite;
/// [`MetricsError::Trials`] without a trial, for one with fewer than 2 classes and for a truth that is
/// no row of `classes`.
pub fn fixed_trials(trials: &[FixedTrial], seed: u64) -> Result<FixedTrials, MetricsError> {
    let Some(first) = trials.first() else {
        return Err(MetricsError::Trials("no trials: give 1 or more".into()));
    };
    let mut clusters = Vec::with_capacity(trials.len());
    for (place, trial) in trials.iter().enumerate() {
        trial.check(place)?;
        clusters.push(trial.judge());
    }
    let queries = clusters.iter().map(|cluster| cluster.queries).sum();
    let ways = first.classes.len();
    let alike = trials.iter().all(|trial| trial.classes.len() == ways);
    Ok(FixedTrials {
        trials: trials.len(),
        ways: alike.then_some(ways),
        error: QueryErrors::of_clusters(&clusters, queries, seed),
    })
}

impl FixedTrial {
    fn check(&self, place: usize) -> Result<(), MetricsError> {
        let ways = self.classes.len();
        let rows: Vec<u32> = (0..ways as u32).collect();
        check(&format!("trial {place}, classes"), &self.classes, &rows)?;
        let set = format!("trial {place}, queries");
        check(&set, &self.queries, &self.truth)?;
        let [of_class, of_query] = [&self.classes, &self.queries].map(Embeddings::dimension);
        if of_class != of_query {
            return Err(MetricsError::Embeddings(format!(
                "{set}: they have dimension {of_query}, the classes {of_class}"
            )));
        }
        let problem = if ways < 2 {
            format!("trial {place} has 1 class: it takes 2 or more")
        } else if let Some(truth) = self.truth.iter().find(|truth| **truth as usize >= ways) {
            format!("{set}: one is of class {truth}, but there are {ways}, numbered from 0")
        } else {
            return Ok(());
        };
        Err(MetricsError::Trials(problem))
    }

    fn judge(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for (query, &truth) in self.queries.rows().zip(&self.truth) {
            let distance = |class: &[f32]| f64::from(euclidean(query, class));
            let own = self.classes.row(truth as usize);
            let others = self.classes.rows().enumerate();
            let others = others.filter(|(row, _)| *row != truth as usize);
            let distances = others.map(|(_, class)| distance(class));
            let own = std::iter::once(distance(own));
            cluster.add(!first_alone_is_least(own.chain(distances)));
        }
        cluster
    }
}
