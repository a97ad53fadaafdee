//! Splitting images class by class.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::DataError;
use crate::images::by_class;

/// Splits images at random, class by class, into indices (kept, held out), each in ascending order.
///
/// `fraction` of each class, rounded, is held out, but at least one image and never all; a class of
/// one image is kept. Errors call the fraction `name`.
///
/// # Errors
/// [`DataError::Setting`] unless 0 < `fraction` < 1.
pub(crate) fn hold_out<R: Rng + ?Sized>(
    labels: &[u32],
    fraction: f64,
    name: &'static str,
    rng: &mut R,
) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(DataError::Setting {
            name,
            found: fraction.to_string(),
            expected: "a fraction above 0 and below 1".into(),
        });
    }
    let (held_out, kept) = split_classes(labels, |members| {
        members.shuffle(rng);
        let wanted = (members.len() as f64 * fraction).round() as usize;
        wanted.max(1).min(members.len() - 1)
    });
    Ok((kept, held_out))
}

/// Divides each class's images in two, as indices in ascending order: `cut` may reorder a class, and
/// returns how many of its images, from the front, go to the first part.
pub(crate) fn split_classes(
    labels: &[u32],
    mut cut: impl FnMut(&mut [u32]) -> usize,
) -> (Vec<usize>, Vec<usize>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for mut members in by_class(labels) {
        let at = cut(&mut members);
        let members: Vec<usize> = members.into_iter().map(|image| image as usize).collect();
        first.extend_from_slice(&members[..at]);
        second.extend_from_slice(&members[at..]);
    }
    first.sort_unstable();
    second.sort_unstable();
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Purpose, stream};

    #[test]
    fn every_class_gives_its_share_and_no_image_is_in_both() {
        let labels: Vec<u32> = (0..1000).map(|i| u32::from(i >= 900)).collect();
        let mut rng = stream(1, Purpose::Split, 0);
        let (kept, held_out) = hold_out(&labels, 0.1, "validation", &mut rng).unwrap();
        assert_eq!(held_out.iter().filter(|&&i| labels[i] == 0).count(), 90);
        assert_eq!(held_out.iter().filter(|&&i| labels[i] == 1).count(), 10);
        let mut all = [kept, held_out].concat();
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..1000));
    }

    #[test]
    fn the_seed_alone_chooses_the_images() {
        let labels = vec![0; 100];
        let split = |seed| {
            hold_out(
                &labels,
                0.5,
                "validation",
                &mut stream(seed, Purpose::Split, 0),
            )
            .unwrap()
        };
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }

    #[test]
    fn small_classes_keep_an_image() {
        let labels = [0, 1, 1, 3, 3, 3];
        for fraction in [0.01, 0.99] {
            let mut rng = stream(1, Purpose::Split, 0);
            let (kept, _) = hold_out(&labels, fraction, "validation", &mut rng).unwrap();
            for class in [0, 1, 3] {
                assert!(kept.iter().any(|&i| labels[i] == class));
            }
        }
    }

    #[test]
    fn a_fraction_outside_zero_to_one_is_refused() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN] {
            let result = hold_out(
                &[0, 0],
                fraction,
                "validation",
                &mut stream(1, Purpose::Split, 0),
            );
            assert!(matches!(
                result,
                Err(DataError::Setting {
                    name: "validation",
                    ..
                })
            ));
        }
    }
}
