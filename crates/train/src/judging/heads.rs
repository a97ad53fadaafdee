//! Which head a network is given after training, by images that it was not trained on.

use std::fmt;

use anyhow::Result;
use data::Dataset;
use model::Network;
use serde::{Deserialize, Serialize};
use verifier::embed_images;

use super::EvaluationPairs;
use super::distances::{distances, roc};
use crate::settings::RunConfig;

/// How the last layer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// It is as trained.
    None,
    /// The embeddings are whitened within a class.
    Whitening,
    /// It gives principal components of its own input, whitened within a class.
    WhitenedFeatures,
    /// It is a linear discriminant analysis of its own input.
    Lda,
    /// The same of the last maps of a residual network, cell by cell of a grid: it sees where things are.
    GridLda,
    /// The network's own embedding, joined by the same of the maps of every stage.
    StageLda,
}

/// The head that a network was given, and what it was chosen by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heads {
    /// The one it has.
    pub chosen: Head,
    /// Those that were tried, the network as trained first.
    pub validation: Vec<Candidate>,
}

/// How good a network is on the validation images with a head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The head.
    pub head: Head,
    /// Equal error rate on the validation pairs.
    pub eer: f64,
    /// Share of validation images whose nearest other shows the same class.
    pub p_at_1: f64,
}

impl Head {
    /// Its name in settings and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Whitening => "whitening",
            Self::WhitenedFeatures => "whitened-features",
            Self::Lda => "lda",
            Self::GridLda => "grid-lda",
            Self::StageLda => "stage-lda",
        }
    }
}

impl Candidate {
    /// Judges `net`, which has the head already.
    ///
    /// # Errors
    /// Whatever the network's device reports.
    pub fn new(
        head: Head,
        net: &Network,
        config: &RunConfig,
        dataset: &Dataset,
        pairs: &EvaluationPairs,
    ) -> Result<Self> {
        let images = &dataset.validation;
        let embeddings = embed_images(net, images, &config.transform.evaluation())?;
        let apart = distances(&embeddings, &pairs.validation);
        Ok(Self {
            head,
            eer: roc(&apart, &pairs.validation)?.eer().rate,
            p_at_1: metrics::precision_at_1(&embeddings, images.labels())?,
        })
    }

    /// Verdicts and searches that go wrong, on average. Not 1 − AUC, which is mostly about distances far
    /// from any threshold and says nothing of the nearest picture.
    fn error(&self) -> f64 {
        (self.eer + 1.0 - self.p_at_1) / 2.0
    }
}

impl Heads {
    /// The best of `validation`, whose first is the network as trained, on `images` images: the fitted head
    /// with the least errors, of equals the first.
    ///
    /// A fitted head is the better guess, so the network as trained has to win clearly, or else it is chance
    /// that chooses: by a twentieth of the errors, and by more than one image, whose own search weighs half
    /// and whose pairs are the other half.
    pub fn choose(validation: Vec<Candidate>, images: usize) -> Self {
        let trained = validation[0].error();
        let by_error = |a: &&Candidate, b: &&Candidate| a.error().total_cmp(&b.error());
        let fitted = validation[1..].iter().min_by(by_error);
        let holds = |fitted: &&Candidate| {
            let loss = fitted.error() - trained;
            loss <= trained / 20.0 || loss <= 1.0 / images as f64
        };
        Self {
            chosen: fitted.filter(holds).map_or(Head::None, |best| best.head),
            validation,
        }
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = |candidate: &Candidate| {
            format!(
                "{}: EER {:.2}%, P@1 {:.2}%",
                candidate.head.name(),
                100.0 * candidate.eer,
                100.0 * candidate.p_at_1
            )
        };
        let figures: Vec<String> = self.validation.iter().map(figures).collect();
        let chosen = self.chosen.name();
        write!(
            f,
            "{chosen} (on the validation images {})",
            figures.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen of the network as trained and both heads, each with its EER and P@1.
    fn chosen(none: (f64, f64), whitening: (f64, f64), lda: (f64, f64), images: usize) -> Head {
        let candidate = |head, (eer, p_at_1)| Candidate { head, eer, p_at_1 };
        let validation = vec![
            candidate(Head::None, none),
            candidate(Head::Whitening, whitening),
            candidate(Head::Lda, lda),
        ];
        Heads::choose(validation, images).chosen
    }

    #[test]
    fn the_best_head_is_chosen_unless_the_network_wins_clearly() {
        let (trained, better, worse) = ((0.2, 0.8), (0.1, 0.9), (0.3, 0.7));
        assert_eq!(chosen(trained, worse, better, 1000), Head::Lda);
        assert_eq!(chosen(trained, better, worse, 1000), Head::Whitening);
        assert_eq!(chosen(trained, better, (0.05, 0.9), 1000), Head::Lda);
        assert_eq!(chosen(trained, worse, worse, 1000), Head::None);
        assert_eq!(chosen(trained, trained, trained, 1000), Head::Whitening);
        // Verdicts and searches weigh alike.
        assert_eq!(chosen(trained, (0.1, 0.75), worse, 1000), Head::Whitening);
        assert_eq!(chosen(trained, (0.1, 0.65), worse, 1000), Head::None);
        // An error of 0.2: a twentieth of it is 0.01.
        assert_eq!(chosen(trained, (0.21, 0.792), worse, 1000), Head::Whitening);
        assert_eq!(chosen(trained, (0.21, 0.788), worse, 1000), Head::None);
        // A loss of 0.019 and of 0.021, and of 50 images one is 0.02.
        assert_eq!(chosen(trained, (0.2, 0.762), worse, 50), Head::Whitening);
        assert_eq!(chosen(trained, (0.2, 0.758), worse, 50), Head::None);
    }

    #[test]
    fn people_read_each_figure() {
        let candidate = |head, eer, p_at_1| Candidate { head, eer, p_at_1 };
        let heads = Heads {
            chosen: Head::Lda,
            validation: vec![
                candidate(Head::None, 0.2, 0.75),
                candidate(Head::Lda, 0.125, 0.8),
            ],
        };
        assert_eq!(
            heads.to_string(),
            "lda (on the validation images none: EER 20.00%, P@1 75.00%; lda: EER 12.50%, P@1 80.00%)"
        );
    }
}
