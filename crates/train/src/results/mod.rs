//! What a finished run leaves: its summary, its report, and files for TensorBoard.

mod page;
mod projector;
mod summary;
mod tensorboard;

use anyhow::Result;
use data::Dataset;

use crate::judging::TestReport;
use crate::run::RunFolder;
use crate::settings::RunConfig;

pub use projector::read as read_projector;
pub use summary::{ClassSizes, Summary};

/// Writes the report, the data behind its figures, and the files for TensorBoard.
///
/// # Errors
/// Where the folder cannot be read or written.
pub fn publish(
    run: &RunFolder,
    config: &RunConfig,
    dataset: &Dataset,
    test: &TestReport,
    summary: &Summary,
) -> Result<()> {
    projector::write(run, &test.embeddings, &dataset.test)?;
    tensorboard::write(run, summary)?;
    page::write(run, config, dataset, test, summary)
}
