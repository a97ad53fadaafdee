use std::fmt;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::ErrorRate;
use crate::bootstrap::middle;
use crate::error_rate::write_rate;

/// The share of queries that went to a wrong class, with a 95% confidence interval.
///
/// Queries of one class, or of one trial, are right or wrong together, so the interval is from a
/// cluster bootstrap: the clusters are drawn anew with replacement, 1,000 times, and its ends are the
/// 2.5% and 97.5% quantiles of the error rate. It is never narrower than Wilson's ([`ErrorRate`]) for as
/// many independent queries as there are different ones: an image that is asked about again tells
/// little more. With few clusters, say fewer than 20, the true interval is wider still.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QueryErrors {
    /// Errors as a share of `queries`, in [0, 1].
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Queries that went to a wrong class.
    pub errors: usize,
    /// Queries judged.
    pub queries: usize,
}

const RESAMPLES: usize = 1000;

/// Errors and queries of what is right or wrong together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cluster {
    pub errors: usize,
    pub queries: usize,
}

impl Cluster {
    pub fn add(&mut self, is_error: bool) {
        self.errors += usize::from(is_error);
        self.queries += 1;
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            errors: self.errors + other.errors,
            queries: self.queries + other.queries,
        }
    }

    fn rate(self) -> f64 {
        self.errors as f64 / self.queries as f64
    }
}

impl QueryErrors {
    /// Of clusters with a query or more each, `distinct` different ones in all. Without clusters the
    /// interval is [0, 1].
    pub(crate) fn of_clusters(clusters: &[Cluster], distinct: usize, seed: u64) -> Self {
        let all = clusters.iter().fold(Cluster::default(), Cluster::plus);
        let rate = ErrorRate::new(all.errors, all.queries).rate;
        let wilson = ErrorRate::new((rate * distinct as f64).round() as usize, distinct);
        let (mut low, mut high) = (wilson.low, wilson.high);
        if !clusters.is_empty() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // The trials are drawn from stream 0.
            rng.set_stream(1);
            let mut draw = || &clusters[rng.random_range(0..clusters.len())];
            let resample = |_| {
                let drawn = (0..clusters.len()).map(|_| draw());
                drawn.fold(Cluster::default(), Cluster::plus).rate()
            };
            let resampled = middle((0..RESAMPLES).map(resample).collect());
            low = low.min(resampled.low);
            high = high.max(resampled.high);
        }
        Self {
            rate,
            low,
            high,
            errors: all.errors,
            queries: all.queries,
        }
    }
}

impl fmt::Display for QueryErrors {
    /// `12.30% (10.10% to 14.80%)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rate(f, [self.rate, self.low, self.high])
    }
}
