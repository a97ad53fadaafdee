//! Batches of network input, made ahead of their use.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use rand_chacha::ChaCha8Rng;

use crate::{
    Compose, DataError, Drawn, ImageShape, LabelledImages, Purpose, Sampler, Transform, Turn,
    stream,
};

/// Makes the batch of any step of a run.
#[derive(Debug)]
pub struct Loader {
    images: Arc<LabelledImages>,
    sampler: Box<dyn Sampler>,
    transform: Compose,
    seed: u64,
}

/// The input of a training step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The step it belongs to.
    pub step: u64,
    /// Which images these are, (N,), as the sampler [drew](Drawn::images) them.
    pub images: Vec<u32>,
    /// Network input (N, C, H, W), or features (N, F) of images that have them.
    pub pixels: Vec<f32>,
    /// What the loss takes, as the sampler [labelled](Drawn::labels) it.
    pub labels: Vec<u32>,
}

impl Loader {
    /// Draws batches of `images` with `sampler` and passes each image through `transform`, whose
    /// randomness comes from `seed`.
    ///
    /// # Errors
    /// [`DataError::Images`] if the sampler was made for another number of images, [`DataError::Setting`]
    /// if it turns images by quarters that are not square.
    pub fn new(
        images: Arc<LabelledImages>,
        sampler: Box<dyn Sampler>,
        transform: Compose,
        seed: u64,
    ) -> Result<Self, DataError> {
        if sampler.images() != images.len() {
            return Err(DataError::Images(format!(
                "the sampler draws from {} images, but {} were given; make it from the same images' labels",
                sampler.images(),
                images.len()
            )));
        }
        sampler.turns().check(images.shape())?;
        Ok(Self {
            images,
            sampler,
            transform,
            seed,
        })
    }

    /// What draws the batches.
    pub fn sampler(&self) -> &dyn Sampler {
        &*self.sampler
    }

    /// The batch of step `step`, the same whatever was made before.
    pub fn batch(&self, step: u64) -> Batch {
        let Drawn {
            images,
            turns,
            labels,
        } = self.sampler.draw(step);
        let indices = images.iter().map(|&image| image as usize);
        let mut rng = stream(self.seed, Purpose::Augmentation, step);
        Batch {
            step,
            pixels: input_at(&self.images, indices.zip(turns), &self.transform, &mut rng),
            images,
            labels,
        }
    }

    /// Makes the batches of `steps` in order on a thread of its own, at most `ahead` (and the one in
    /// hand) before they are asked for.
    pub fn prefetch(self: Arc<Self>, steps: Range<u64>, ahead: usize) -> Prefetch {
        let (sender, receiver) = sync_channel(ahead);
        let worker = thread::spawn(move || {
            for step in steps {
                if sender.send(self.batch(step)).is_err() {
                    // The iterator was dropped.
                    return;
                }
            }
        });
        Prefetch {
            batches: Some(receiver),
            worker: Some(worker),
        }
    }
}

/// Batches in order of their steps; see [`Loader::prefetch`]. Dropping it ends the thread.
///
/// A panic of the thread goes on in [`next`](Iterator::next).
#[derive(Debug)]
pub struct Prefetch {
    batches: Option<Receiver<Batch>>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Prefetch {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let received = self.batches.as_ref()?.recv().ok();
        if received.is_none()
            && let Some(worker) = self.worker.take()
            && let Err(panic) = worker.join()
        {
            resume_unwind(panic);
        }
        received
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // The thread ends at its next send, which fails once the receiver is gone.
        self.batches = None;
        if let Some(worker) = self.worker.take() {
            // Nobody reads a batch any more; a panic of the thread is not worth a second one here.
            let _ = worker.join();
        }
    }
}

/// Network input (N, C, H, W) for evaluation, from the raw pixels (C, H, W) of N images of `shape`.
///
/// A chain with random parts gives the same result at every call.
pub fn input_of<'a>(
    shape: ImageShape,
    images: impl Iterator<Item = &'a [u8]>,
    transform: &Compose,
) -> Vec<f32> {
    let mut rng = stream(0, Purpose::Augmentation, 0);
    let images = images.map(|image| (image, Turn::default()));
    transformed(shape, images, transform, &mut rng)
}

/// As [`input_of`], for the images at `indices`.
///
/// # Panics
/// If an index is not below `images.len()`.
pub fn batch_of(
    images: &LabelledImages,
    indices: impl IntoIterator<Item = usize>,
    transform: &Compose,
) -> Vec<f32> {
    let mut rng = stream(0, Purpose::Augmentation, 0);
    let indices = indices.into_iter().map(|i| (i, Turn::default()));
    input_at(images, indices, transform, &mut rng)
}

/// Network input of the images at `indices`: their features where they have any, which nothing turns or
/// transforms; else their pixels, turned and transformed.
fn input_at(
    images: &LabelledImages,
    indices: impl Iterator<Item = (usize, Turn)>,
    transform: &Compose,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    match images.feature_dimension() {
        Some(_) => {
            let features = indices.filter_map(|(i, _)| images.features(i));
            features.flatten().copied().collect()
        }
        None => {
            let pixels = indices.map(|(i, turn)| (images.image(i), turn));
            transformed(images.shape(), pixels, transform, rng)
        }
    }
}

fn transformed<'a>(
    shape: ImageShape,
    images: impl Iterator<Item = (&'a [u8], Turn)>,
    transform: &Compose,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let mut pixels = Vec::with_capacity(images.size_hint().0 * shape.values());
    for (image, turn) in images {
        let start = pixels.len();
        pixels.extend(image.iter().map(|&pixel| f32::from(pixel)));
        turn.apply(&mut pixels[start..], shape);
        transform.apply(&mut pixels[start..], shape, rng);
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MPerClass, PairSampler, Pairing, TransformConfig, Turns};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SHAPE: ImageShape = ImageShape {
        channels: 1,
        height: 4,
        width: 4,
    };

    /// 40 images in 4 classes; image i is filled with i.
    fn images() -> Arc<LabelledImages> {
        let pixels = (0..40).flat_map(|i| [i; 16]).collect();
        let labels = (0..40).map(|i| i % 4).collect();
        let classes = ["a", "b", "c", "d"].map(String::from).to_vec();
        Arc::new(LabelledImages::new(SHAPE, pixels, labels, classes).unwrap())
    }

    fn loader(transform: Compose) -> Arc<Loader> {
        let images = images();
        let sampler = PairSampler::new(images.labels(), Pairing::Balanced, 6, 1).unwrap();
        Arc::new(Loader::new(images, Box::new(sampler), transform, 1).unwrap())
    }

    fn augmented() -> Compose {
        let config = TransformConfig {
            shift: 1,
            rotation: 30.0,
            ..TransformConfig::default()
        };
        config.train()
    }

    #[test]
    fn a_batch_holds_all_first_sides_then_all_second_sides() {
        let batch = loader(Compose::default()).batch(3);
        let images = batch.images.iter();
        let expected: Vec<f32> = images.flat_map(|&image| [image as f32; 16]).collect();
        assert_eq!(batch.pixels, expected);
        assert_eq!(batch.labels, [1, 1, 1, 0, 0, 0]);
        let (firsts, seconds) = batch.images.split_at(6);
        for (i, (first, second)) in firsts.iter().zip(seconds).enumerate() {
            assert_eq!(first % 4 == second % 4, i < 3, "pair {i}");
        }
    }

    #[test]
    fn augmentation_depends_on_the_step_alone() {
        let (one, other) = (loader(augmented()), loader(augmented()));
        let later = one.batch(9);
        one.batch(0);
        assert_eq!(one.batch(9), later);
        assert_eq!(other.batch(9), later);
        let plain = loader(TransformConfig::default().train()).batch(9);
        assert_eq!(plain.images, later.images);
        assert_ne!(plain.pixels, later.pixels);
    }

    #[test]
    fn prefetched_batches_are_those_made_on_the_spot() {
        let loader = loader(augmented());
        for ahead in [0, 1, 4] {
            let fetched: Vec<Batch> = Arc::clone(&loader).prefetch(5..25, ahead).collect();
            let made: Vec<Batch> = (5..25).map(|step| loader.batch(step)).collect();
            assert_eq!(fetched, made);
        }
    }

    #[test]
    fn dropping_the_iterator_ends_its_thread() {
        let loader = loader(Compose::default());
        let mut batches = Arc::clone(&loader).prefetch(0..u64::MAX, 2);
        assert_eq!(batches.next().map(|batch| batch.step), Some(0));
        drop(batches);
        // The thread's own handle on the loader is gone.
        assert_eq!(Arc::strong_count(&loader), 1);
    }

    /// Counts its calls and panics at one of them.
    #[derive(Debug)]
    struct PanicAt(usize, AtomicUsize);

    impl Transform for PanicAt {
        fn apply(&self, _: &mut [f32], _: ImageShape, _: &mut ChaCha8Rng) {
            assert!(
                self.1.fetch_add(1, Ordering::Relaxed) != self.0,
                "the transform failed"
            );
        }
    }

    #[test]
    fn a_panic_of_the_thread_reaches_the_reader() {
        // Batches of 12 images: the third one fails.
        let transform = Compose::new(vec![Box::new(PanicAt(30, AtomicUsize::new(0)))]);
        let mut batches = loader(transform).prefetch(0..10, 1);
        assert_eq!(batches.next().map(|batch| batch.step), Some(0));
        assert_eq!(batches.next().map(|batch| batch.step), Some(1));
        let panic = catch_unwind(AssertUnwindSafe(|| batches.next())).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the transform failed"));
        assert_eq!(batches.next(), None);
    }

    #[test]
    fn a_batch_is_what_its_sampler_draws_with_labels_and_augmentation_of_the_step() {
        let images = images();
        let loader = |transform| {
            let sampler = MPerClass::new(images.labels(), 3, 2, 1).unwrap();
            let sampler = Box::new(sampler);
            Arc::new(Loader::new(Arc::clone(&images), sampler, transform, 1).unwrap())
        };
        let plain = loader(Compose::default()).batch(7);
        let drawn = MPerClass::new(images.labels(), 3, 2, 1).unwrap().draw(7);
        assert_eq!(plain.images, drawn.images);
        for (at, &image) in plain.images.iter().enumerate() {
            assert_eq!(plain.pixels[16 * at..][..16], [image as f32; 16]);
            assert_eq!(plain.labels[at], image % 4);
        }
        let augmented = loader(augmented());
        let made: Vec<Batch> = (5..15).map(|step| augmented.batch(step)).collect();
        assert_eq!(made[2].images, plain.images);
        assert_ne!(made[2].pixels, plain.pixels);
        let fetched: Vec<Batch> = augmented.prefetch(5..15, 2).collect();
        assert_eq!(fetched, made);
    }

    #[test]
    fn images_are_turned_before_their_transforms() {
        // 40 images of 2×2 in 4 classes, all pixels different.
        let shape = ImageShape {
            channels: 1,
            height: 2,
            width: 2,
        };
        let labels: Vec<u32> = (0..40).map(|i| i % 4).collect();
        let classes = ["a", "b", "c", "d"].map(String::from).to_vec();
        let images = LabelledImages::new(shape, (0..160).collect(), labels, classes).unwrap();
        let images = Arc::new(images);
        let sampler = || {
            let sampler = MPerClass::new(images.labels(), 3, 2, 1).unwrap();
            Box::new(sampler.with_turns(Turns::Quarter))
        };
        let transform = Compose::new(vec![Box::new(crate::RandomShift {
            max: 1,
            edge: crate::Edge::Repeat,
        })]);
        let plain = Loader::new(Arc::clone(&images), sampler(), Compose::default(), 1).unwrap();
        let shifted = Loader::new(Arc::clone(&images), sampler(), transform, 1).unwrap();
        for step in 0..10 {
            let (batch, drawn) = (plain.batch(step), sampler().draw(step));
            assert_eq!(batch.labels, drawn.labels);
            for (at, &image) in batch.images.iter().enumerate() {
                let [a, b, c, d] = [0, 1, 2, 3].map(|pixel| (4 * image + pixel) as f32);
                // By number: as it is, then a quarter counter-clockwise each.
                let turned = [[a, b, c, d], [b, d, a, c], [d, c, b, a], [c, a, d, b]];
                let number = batch.labels[at] as usize % 4;
                assert_eq!(batch.pixels[4 * at..][..4], turned[number]);
                assert_eq!(batch.labels[at] / 4, image % 4);
            }
            // The same images, turned the same way; then shifted.
            let mut rng = stream(1, Purpose::Augmentation, step);
            let mut pixels = batch.pixels;
            for image in pixels.chunks_exact_mut(4) {
                shifted.transform.apply(image, shape, &mut rng);
            }
            assert_eq!(shifted.batch(step).pixels, pixels);
        }
    }

    #[test]
    fn images_that_are_not_square_are_not_turned_by_quarters() {
        let shape = ImageShape {
            channels: 1,
            height: 2,
            width: 8,
        };
        let square = images();
        let labels = square.labels().to_vec();
        let classes = square.classes().to_vec();
        let images = LabelledImages::new(shape, square.pixels().into(), labels, classes).unwrap();
        let sampler = PairSampler::new(images.labels(), Pairing::Balanced, 6, 1).unwrap();
        let sampler = Box::new(sampler.with_turns(Turns::Both));
        let loader = Loader::new(Arc::new(images), sampler, Compose::default(), 1);
        let error = loader.unwrap_err().to_string();
        assert!(
            error.starts_with("turns is both; it has to be none or mirror"),
            "{error}"
        );
    }

    #[test]
    fn an_evaluation_batch_follows_its_indices() {
        let images = images();
        let scale = TransformConfig {
            scale: 2.0,
            mean: 1.0,
            std: 1.0,
            ..TransformConfig::default()
        };
        let pixels = batch_of(&images, 3..5, &scale.evaluation());
        assert_eq!(pixels, [[5.0; 16], [7.0; 16]].concat());
        let pixels = batch_of(&images, [4, 3], &scale.evaluation());
        assert_eq!(pixels, [[7.0; 16], [5.0; 16]].concat());
    }

    #[test]
    fn features_are_network_input_as_they_are() {
        let plain = images();
        let features = (0..40).flat_map(|i| [i as f32, -0.5]).collect();
        let with = LabelledImages::clone(&plain).with_features(features, 2);
        let images = Arc::new(with.unwrap());
        assert_eq!(
            batch_of(&images, [4, 3], &augmented()),
            [4.0, -0.5, 3.0, -0.5]
        );
        let sampler = PairSampler::new(images.labels(), Pairing::Balanced, 6, 1).unwrap();
        let batch = Loader::new(images, Box::new(sampler), augmented(), 1)
            .unwrap()
            .batch(3);
        let expected = batch.images.iter().flat_map(|&image| [image as f32, -0.5]);
        assert_eq!(batch.pixels, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_sampler_of_other_images_is_refused() {
        let images = images();
        let labels = &images.labels()[1..];
        let pairs = PairSampler::new(labels, Pairing::Uniform, 6, 1).unwrap();
        let classes = MPerClass::new(labels, 3, 2, 1).unwrap();
        let samplers: [Box<dyn Sampler>; 2] = [Box::new(pairs), Box::new(classes)];
        for sampler in samplers {
            let loader = Loader::new(Arc::clone(&images), sampler, Compose::default(), 1);
            let error = loader.unwrap_err().to_string();
            let expected = "the sampler draws from 39 images, but 40 were given";
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
