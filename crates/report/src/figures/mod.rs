//! The figures of the report, a file each. A new one is a file with a function `figure` and a line
//! in [`all`].

pub mod chart;
pub mod confusion;
pub mod distances;
pub mod embedding_map;
pub mod loss_curves;
pub mod mistakes;
pub mod neighbours;
pub mod roc;

use anyhow::Result;

use crate::Report;
pub use chart::Figure;

/// Every figure, in the order of the page.
pub fn all(report: &Report) -> Result<Vec<Figure>> {
    [
        embedding_map::figure,
        loss_curves::figure,
        distances::figure,
        roc::figure,
        mistakes::figure,
        neighbours::figure,
        confusion::figure,
    ]
    .iter()
    .map(|figure| figure(report))
    .collect()
}
