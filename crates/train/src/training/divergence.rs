//! Numbers that no training can go on from.

/// The factor on the learning rate for each rollback.
pub const ROLLBACK_RATE: f64 = 0.5;

/// More would leave less than a thousandth of the rate.
pub const MOST_ROLLBACKS: usize = 10;

/// Below this share of the margin, no distance among the validation pairs tells anything: two images
/// of a class are further apart in any network that has learned.
const COLLAPSED: f64 = 1e-3;

/// A loss or a gradient that is NaN or infinite.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what} is {value} {place}: the network has diverged; a smaller optimiser.learning_rate may \
     help{more}"
)]
pub struct NotFinite {
    /// `the loss`, or `the gradient of conv1.weight`.
    pub what: String,
    /// NaN, or an infinity.
    pub value: f64,
    /// `at step 7`.
    pub place: String,
    /// What else there is to say of it.
    pub more: String,
}

impl NotFinite {
    /// Lets a finite `value` pass.
    pub fn check(value: f64, what: &str, place: impl Into<String>) -> Result<(), Self> {
        if value.is_finite() {
            return Ok(());
        }
        Err(Self {
            what: what.into(),
            value,
            place: place.into(),
            more: String::new(),
        })
    }
}

/// Whether a network maps all images to nearly one point, judged by pairs of them.
pub fn collapsed(distances: &[f32], margin: f64) -> bool {
    let largest = distances.iter().copied().fold(0.0, f32::max);
    f64::from(largest) < COLLAPSED * margin
}
