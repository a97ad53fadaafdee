//! Batches of network input, made ahead of their use.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use rand_chacha::ChaCha8Rng;

use crate::{
    Compose, DataError, LabelledImages, MPerClassSampler, Pair, PairSampler, Purpose, Transform,
    stream,
};

/// Makes the batch of any step of a run.
#[derive(Debug)]
pub struct PairLoader {
    input: TrainingInput,
    sampler: PairSampler,
    pairs_per_batch: usize,
}

/// The input and the labels of one training step; P pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct PairBatch {
    /// The step it belongs to.
    pub step: u64,
    /// Which images are paired.
    pub pairs: Vec<Pair>,
    /// Network input (2·P, C, H, W): the first image of every pair, then the second of every pair,
    /// so that one pass through the shared weights embeds both sides.
    pub pixels: Vec<f32>,
    /// (P,): 1 for a similar pair, 0 for a dissimilar one.
    pub same: Vec<u8>,
}

impl PairLoader {
    /// Draws pairs of `images` with `sampler` and passes each side through `transform`, whose
    /// randomness comes from `seed`.
    ///
    /// # Errors
    /// [`DataError::OtherImages`] if the sampler was made for another number of images;
    /// [`DataError::Setting`] if `pairs_per_batch` is 0.
    pub fn new(
        images: Arc<LabelledImages>,
        sampler: PairSampler,
        transform: Compose,
        pairs_per_batch: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let input = TrainingInput::new(images, sampler.images(), transform, seed)?;
        if pairs_per_batch == 0 {
            return Err(DataError::Setting {
                name: "pairs per batch",
                found: "0".into(),
                expected: "1 or more",
            });
        }
        Ok(Self {
            input,
            sampler,
            pairs_per_batch,
        })
    }

    /// The batch of step `step`, the same whatever was made before.
    pub fn batch(&self, step: u64) -> PairBatch {
        let pairs = self.sampler.batch(step, self.pairs_per_batch);
        let firsts = pairs.iter().map(|pair| pair.first as usize);
        let seconds = pairs.iter().map(|pair| pair.second as usize);
        let pixels = self.input.pixels(step, firsts.chain(seconds));
        let same = pairs.iter().map(|pair| u8::from(pair.same)).collect();
        PairBatch {
            step,
            pairs,
            pixels,
            same,
        }
    }

    /// Makes the batches of steps `from_step` to `to_step`, the last excluded, in order on a thread of
    /// its own, at most `ahead` (and the one in hand) before they are asked for.
    pub fn prefetch(
        self: Arc<Self>,
        from_step: u64,
        to_step: u64,
        ahead: usize,
    ) -> Prefetch<PairBatch> {
        Prefetch::new(from_step..to_step, ahead, move |step| self.batch(step))
    }
}

/// Makes the batch of any step of a run with a loss over all pairs of a batch.
#[derive(Debug)]
pub struct ClassLoader {
    input: TrainingInput,
    sampler: MPerClassSampler,
}

/// The input and the labels of one training step; N images.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassBatch {
    /// The step it belongs to.
    pub step: u64,
    /// Which images these are, (N,).
    pub images: Vec<u32>,
    /// Network input (N, C, H, W).
    pub pixels: Vec<f32>,
    /// The class of each image, (N,).
    pub labels: Vec<u32>,
}

impl ClassLoader {
    /// Draws batches of `images` with `sampler` and passes each image through `transform`, whose
    /// randomness comes from `seed`.
    ///
    /// # Errors
    /// [`DataError::OtherImages`] if the sampler was made for another number of images.
    pub fn new(
        images: Arc<LabelledImages>,
        sampler: MPerClassSampler,
        transform: Compose,
        seed: u64,
    ) -> Result<Self, DataError> {
        let input = TrainingInput::new(images, sampler.images(), transform, seed)?;
        Ok(Self { input, sampler })
    }

    /// The batch of step `step`, the same whatever was made before.
    pub fn batch(&self, step: u64) -> ClassBatch {
        let images = self.sampler.batch(step);
        let indices = images.iter().map(|&image| image as usize);
        let pixels = self.input.pixels(step, indices.clone());
        let labels = indices
            .map(|image| self.input.images.labels()[image])
            .collect();
        ClassBatch {
            step,
            images,
            pixels,
            labels,
        }
    }

    /// Classes that have too few images to be in any batch.
    pub fn left_out(&self) -> usize {
        self.sampler.left_out()
    }

    /// As [`PairLoader::prefetch`].
    pub fn prefetch(
        self: Arc<Self>,
        from_step: u64,
        to_step: u64,
        ahead: usize,
    ) -> Prefetch<ClassBatch> {
        Prefetch::new(from_step..to_step, ahead, move |step| self.batch(step))
    }
}

/// The images that batches are drawn of, and what is done to them.
#[derive(Debug)]
struct TrainingInput {
    images: Arc<LabelledImages>,
    transform: Compose,
    seed: u64,
}

impl TrainingInput {
    /// For a sampler of `sampled` images.
    fn new(
        images: Arc<LabelledImages>,
        sampled: usize,
        transform: Compose,
        seed: u64,
    ) -> Result<Self, DataError> {
        if sampled != images.len() {
            return Err(DataError::OtherImages {
                sampler: sampled,
                images: images.len(),
            });
        }
        Ok(Self {
            images,
            transform,
            seed,
        })
    }

    /// Network input for the images at `indices`, in step `step`.
    fn pixels(&self, step: u64, indices: impl Iterator<Item = usize>) -> Vec<f32> {
        let mut rng = stream(self.seed, Purpose::Augmentation, step);
        transformed(&self.images, indices, &self.transform, &mut rng)
    }
}

/// Batches in order of their steps; see [`PairLoader::prefetch`]. Dropping it ends the thread.
///
/// A panic of the thread goes on in [`next`](Iterator::next).
#[derive(Debug)]
pub struct Prefetch<B> {
    batches: Option<Receiver<B>>,
    worker: Option<JoinHandle<()>>,
}

impl<B: Send + 'static> Prefetch<B> {
    fn new(steps: Range<u64>, ahead: usize, make: impl Fn(u64) -> B + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(ahead);
        let worker = thread::spawn(move || {
            for step in steps {
                if sender.send(make(step)).is_err() {
                    // The iterator was dropped.
                    return;
                }
            }
        });
        Self {
            batches: Some(receiver),
            worker: Some(worker),
        }
    }
}

impl<B> Iterator for Prefetch<B> {
    type Item = B;

    fn next(&mut self) -> Option<B> {
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

impl<B> Drop for Prefetch<B> {
    fn drop(&mut self) {
        // The thread ends at its next send, which fails once the receiver is gone.
        self.batches = None;
        if let Some(worker) = self.worker.take() {
            // A panic nobody will read a batch after is not worth a second one here.
            let _ = worker.join();
        }
    }
}

/// Network input (N, C, H, W) for the images at `indices`, for evaluation.
///
/// A chain with random parts gives the same result at every call.
///
/// # Panics
/// If an index is not below `images.len()`.
pub fn batch_of(
    images: &LabelledImages,
    indices: impl IntoIterator<Item = usize>,
    transform: &Compose,
) -> Vec<f32> {
    let mut rng = stream(0, Purpose::Augmentation, 0);
    transformed(images, indices, transform, &mut rng)
}

fn transformed(
    images: &LabelledImages,
    indices: impl IntoIterator<Item = usize>,
    transform: &Compose,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let indices = indices.into_iter();
    let mut pixels = Vec::with_capacity(indices.size_hint().0 * images.shape().values());
    for i in indices {
        let start = pixels.len();
        pixels.extend(images.image(i).iter().map(|&pixel| f32::from(pixel)));
        transform.apply(&mut pixels[start..], images.shape(), rng);
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageShape, Pairing, TransformConfig};
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

    fn loader(transform: Compose) -> Arc<PairLoader> {
        let images = images();
        let sampler = PairSampler::new(images.labels(), Pairing::Balanced, 1).unwrap();
        Arc::new(PairLoader::new(images, sampler, transform, 6, 1).unwrap())
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
        let firsts = batch.pairs.iter().map(|pair| pair.first);
        let seconds = batch.pairs.iter().map(|pair| pair.second);
        let expected: Vec<f32> = firsts
            .chain(seconds)
            .flat_map(|image| [image as f32; 16])
            .collect();
        assert_eq!(batch.pixels, expected);
        assert_eq!(batch.same, [1, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn augmentation_depends_on_the_step_alone() {
        let (one, other) = (loader(augmented()), loader(augmented()));
        let later = one.batch(9);
        one.batch(0);
        assert_eq!(one.batch(9), later);
        assert_eq!(other.batch(9), later);
        let plain = loader(TransformConfig::default().train()).batch(9);
        assert_eq!(plain.pairs, later.pairs);
        assert_ne!(plain.pixels, later.pixels);
    }

    #[test]
    fn prefetched_batches_are_those_made_on_the_spot() {
        let loader = loader(augmented());
        for ahead in [0, 1, 4] {
            let fetched: Vec<PairBatch> = Arc::clone(&loader).prefetch(5, 25, ahead).collect();
            let made: Vec<PairBatch> = (5..25).map(|step| loader.batch(step)).collect();
            assert_eq!(fetched, made);
        }
    }

    #[test]
    fn dropping_the_iterator_ends_its_thread() {
        let loader = loader(Compose::default());
        let mut batches = Arc::clone(&loader).prefetch(0, u64::MAX, 2);
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
        let mut batches = loader(transform).prefetch(0, 10, 1);
        assert_eq!(batches.next().map(|batch| batch.step), Some(0));
        assert_eq!(batches.next().map(|batch| batch.step), Some(1));
        let panic = catch_unwind(AssertUnwindSafe(|| batches.next())).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the transform failed"));
        assert_eq!(batches.next(), None);
    }

    #[test]
    fn a_class_batch_is_what_its_sampler_draws_with_labels_and_augmentation_of_the_step() {
        let images = images();
        let loader = |transform| {
            let sampler = MPerClassSampler::new(images.labels(), 3, 2, 1).unwrap();
            Arc::new(ClassLoader::new(Arc::clone(&images), sampler, transform, 1).unwrap())
        };
        let plain = loader(Compose::default()).batch(7);
        let drawn = MPerClassSampler::new(images.labels(), 3, 2, 1).unwrap();
        assert_eq!(plain.images, drawn.batch(7));
        for (at, &image) in plain.images.iter().enumerate() {
            assert_eq!(plain.pixels[16 * at..][..16], [image as f32; 16]);
            assert_eq!(plain.labels[at], image % 4);
        }
        let augmented = loader(augmented());
        let made: Vec<ClassBatch> = (5..15).map(|step| augmented.batch(step)).collect();
        assert_eq!(made[2].images, plain.images);
        assert_ne!(made[2].pixels, plain.pixels);
        let fetched: Vec<ClassBatch> = augmented.prefetch(5, 15, 2).collect();
        assert_eq!(fetched, made);
        let sampler = MPerClassSampler::new(&images.labels()[1..], 3, 2, 1).unwrap();
        let other = ClassLoader::new(images, sampler, Compose::default(), 1);
        assert!(matches!(
            other,
            Err(DataError::OtherImages { sampler: 39, .. })
        ));
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
    fn a_loader_that_could_not_make_batches_is_refused() {
        let images = images();
        let sampler = |labels: &[u32]| PairSampler::new(labels, Pairing::Uniform, 1).unwrap();
        let result = PairLoader::new(
            Arc::clone(&images),
            sampler(&images.labels()[1..]),
            Compose::default(),
            6,
            1,
        );
        assert!(matches!(
            result,
            Err(DataError::OtherImages {
                sampler: 39,
                images: 40
            })
        ));
        let sampler = sampler(images.labels());
        let result = PairLoader::new(images, sampler, Compose::default(), 0, 1);
        assert!(matches!(result, Err(DataError::Setting { .. })));
    }
}
