use loss_kernel::{ContrastiveLoss, InBatchContrastiveLoss};

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// A loss of given pairs.
    Pairs(ContrastiveLoss),
    /// A loss of all pairs of a batch.
    InBatch(InBatchContrastiveLoss),
}

impl From<ContrastiveLoss> for Objective {
    fn from(loss: ContrastiveLoss) -> Self {
        Self::Pairs(loss)
    }
}

impl From<InBatchContrastiveLoss> for Objective {
    fn from(loss: InBatchContrastiveLoss) -> Self {
        Self::InBatch(loss)
    }
}
