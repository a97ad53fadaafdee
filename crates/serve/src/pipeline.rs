//! From picture files to embeddings: files are prepared side by side, and whatever is ready when the last
//! batch is done is embedded as the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Duration, Instant, timeout_at};

use crate::api_error::ApiError;
use crate::judge::{Judge, JudgeError, Seen};
use crate::limits::Limits;
use crate::telemetry::Telemetry;
use crate::upload::Upload;

type Answer = Result<Vec<Seen>, JudgeError>;

/// The threads that prepare pictures, the one that embeds them, and the queue in between.
pub struct Pipeline<J: Judge> {
    judge: Arc<J>,
    telemetry: Arc<Telemetry>,
    /// Threads of its own: on rayon's, a batch would wait for the pictures of later ones.
    threads: ThreadPool,
    /// Unbounded, but [`places`](Self::places) bounds what is in it.
    queue: mpsc::Sender<Job<J::Prepared>>,
    /// A permit for each picture from its preparation to its embedding.
    places: Arc<Semaphore>,
    most: usize,
    wait: Duration,
}

/// A request's pictures, ready to be embedded.
struct Job<P> {
    pictures: Vec<P>,
    /// Told when the request's turn has come.
    turn: Option<oneshot::Sender<()>>,
    reply: oneshot::Sender<Answer>,
    _places: Arc<OwnedSemaphorePermit>,
}

impl<P> Job<P> {
    fn answer(self, answer: Answer) {
        // A client that has left needs none.
        let _ = self.reply.send(answer);
    }
}

/// What the files of a request take, until the last of them is prepared, be it waited for or not.
struct Held {
    upload: Upload,
    _places: Arc<OwnedSemaphorePermit>,
}

impl<J: Judge> Pipeline<J> {
    /// Starts the threads.
    pub fn new(judge: Arc<J>, telemetry: Arc<Telemetry>, limits: &Limits) -> std::io::Result<Self> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(limits.preparing)
            .thread_name(|number| format!("prepare-{number}"))
            .build()
            .map_err(std::io::Error::other)?;
        let (queue, jobs) = mpsc::channel();
        let embedder = Embedder {
            judge: Arc::clone(&judge),
            telemetry: Arc::clone(&telemetry),
            most: limits.batch,
        };
        thread::Builder::new()
            .name("embed".into())
            .spawn(move || embedder.embed_all(&jobs))?;
        // A request must fit.
        let most = limits.waiting.max(limits.pictures).max(2);
        Ok(Self {
            judge,
            telemetry,
            threads,
            queue,
            places: Arc::new(Semaphore::new(most)),
            most,
            wait: limits.wait,
        })
    }

    /// The embeddings of a request's pictures, in order.
    pub async fn embed(&self, upload: Upload) -> Result<Vec<Seen>, ApiError> {
        let deadline = Instant::now() + self.wait;
        let busy = |_| ApiError::busy();
        let pictures = upload.pictures.len().min(self.most) as u32;
        let places = Arc::clone(&self.places).acquire_many_owned(pictures);
        let places = timeout_at(deadline, places).await.map_err(busy)?;
        let places = Arc::new(places.map_err(|_| ApiError::busy())?);
        let pictures = self.prepare(upload, Arc::clone(&places));
        let pictures = timeout_at(deadline, pictures).await.map_err(busy)??;
        let (turn, has_turn) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let job = Job {
            pictures,
            turn: Some(turn),
            reply,
            _places: places,
        };
        // Its other end lives as long as this one.
        self.queue.send(job).map_err(|_| failed())?;
        // An error if the job is gone, and then so is its answer.
        let _ = timeout_at(deadline, has_turn).await.map_err(busy)?;
        Ok(answer.await.map_err(|_| failed())??)
    }

    /// Prepares a request's pictures, each by itself: a thread that waited for another picture would take up
    /// a later request meanwhile, and not come back before that is done.
    async fn prepare(
        &self,
        upload: Upload,
        places: Arc<OwnedSemaphorePermit>,
    ) -> Result<Vec<J::Prepared>, JudgeError> {
        let count = upload.pictures.len();
        let held = Arc::new(Held {
            upload,
            _places: places,
        });
        let prepare = |index| {
            let held = Arc::clone(&held);
            self.start(move |judge: &J| {
                let (name, bytes): &(String, Vec<u8>) = &held.upload.pictures[index];
                judge.prepare(name, bytes)
            })
        };
        let answers: Vec<_> = (0..count).map(prepare).collect();
        let mut prepared = Vec::with_capacity(count);
        for answer in answers {
            let answer = answer.await.unwrap_or_else(|_| Err(failed()));
            prepared.push(answer.inspect_err(|error| self.telemetry.refusal(error)));
        }
        prepared.into_iter().collect()
    }

    /// Asks the judge something else, on one of the threads that prepare pictures.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&J) -> Result<T, JudgeError> + Send + 'static,
    ) -> Result<T, ApiError> {
        Ok(self.start(question).await.map_err(|_| failed())??)
    }

    /// Has a thread ask the judge, unless nobody waits for the answer by then.
    fn start<T: Send + 'static>(
        &self,
        question: impl FnOnce(&J) -> Result<T, JudgeError> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, JudgeError>> {
        let (reply, answer) = oneshot::channel();
        let judge = Arc::clone(&self.judge);
        self.threads.spawn(move || {
            if !reply.is_closed() {
                let _ = reply.send(guarded(|| question(&judge)));
            }
        });
        answer
    }
}

/// The thread that embeds.
struct Embedder<J> {
    judge: Arc<J>,
    telemetry: Arc<Telemetry>,
    /// Pictures from which on a batch takes no further request.
    most: usize,
}

impl<J: Judge> Embedder<J> {
    /// Embeds what waits, until there is nobody left who could send more.
    fn embed_all(&self, queue: &mpsc::Receiver<Job<J::Prepared>>) {
        while let Ok(first) = queue.recv() {
            let (mut jobs, mut pictures) = (Vec::new(), 0);
            let mut next = Some(first);
            while let Some(mut job) = next {
                // Whoever has left, or has waited too long, is not waited for.
                if job.turn.take().is_some_and(|turn| turn.send(()).is_ok()) {
                    pictures += job.pictures.len();
                    jobs.push(job);
                }
                next = (pictures < self.most)
                    .then(|| queue.try_recv().ok())
                    .flatten();
            }
            self.embed_batch(jobs);
        }
    }

    fn embed_batch(&self, jobs: Vec<Job<J::Prepared>>) {
        let pictures: Vec<&J::Prepared> = jobs.iter().flat_map(|job| &job.pictures).collect();
        if pictures.is_empty() {
            return;
        }
        self.telemetry.batch(pictures.len());
        match embed(&*self.judge, &pictures) {
            Ok(seen) => {
                let mut seen = seen.into_iter();
                for job in jobs {
                    let own = seen.by_ref().take(job.pictures.len()).collect();
                    job.answer(finite(own));
                }
            }
            // Only the request that is at fault shall fail.
            Err(_) if jobs.len() > 1 => {
                jobs.into_iter().for_each(|job| self.embed_batch(vec![job]));
            }
            Err(error) => {
                for job in jobs {
                    job.answer(Err(error.clone()));
                }
            }
        }
    }
}

fn embed<J: Judge>(judge: &J, pictures: &[&J::Prepared]) -> Answer {
    let seen = guarded(|| judge.embed(pictures))?;
    if seen.len() == pictures.len() {
        return Ok(seen);
    }
    let (seen, given) = (seen.len(), pictures.len());
    let why = format!("the judge gave {seen} embeddings of {given} pictures");
    Err(JudgeError::Failed(why))
}

fn finite(seen: Vec<Seen>) -> Answer {
    let numbers = || seen.iter().flat_map(|seen| &seen.embedding);
    if numbers().all(|number| number.is_finite()) {
        return Ok(seen);
    }
    let why = "the network's embedding of a picture has numbers that are not finite";
    Err(JudgeError::Failed(why.into()))
}

/// Makes an error of a panic, so that it ends a request and not a thread that serves them all.
pub fn guarded<T>(ask: impl FnOnce() -> Result<T, JudgeError>) -> Result<T, JudgeError> {
    // A judge is only read, and what a broken question has made is dropped.
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| Err(failed()))
}

fn failed() -> JudgeError {
    JudgeError::Failed("it panicked".into())
}
