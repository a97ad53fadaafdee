//! Time that the loss takes on a GPU, beside a copy that moves as many bytes.
//!
//! `cargo bench -p loss-kernel --features cuda --bench gpu -- [--out DIR]`
//!
//! Values and gradients are checked against the CPU before anything is timed. Forward and backward
//! are timed by events on the device's stream. A long copy is queued first and keeps the device busy
//! until everything up to the second event is queued, which is checked: so what is measured is what
//! the device needs, with none of the time in which the program prepares a launch, and with caches
//! that hold the copy's bytes. A batch of less than 1 MiB is run many times between two events, from
//! warm caches. A training step's share of the loss, forward and backward through candle's graph, is
//! timed as the program issues it.
//!
//! The loss over all pairs of a batch is checked and timed in the same way, f32. Its arithmetic is
//! counted as a multiply-add for each component of each pair, as a matrix product would take it, and
//! given as a share of the device's peak.
//!
//! Bytes counted: forward reads `a` and `b`, backward reads both and writes both gradients. The copy
//! beside each reads half as many and writes half as many.
//!
//! With `--out`, DIR gets `times.jsonl`, `in-batch.jsonl` and `check.safetensors`, inputs and results for
//! `scripts/compare-pytorch-gpu.py`.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::{CudaDevice, DType, Device, Tensor, Var};
use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags};
use cudarc::driver::{CudaEvent, CudaSlice};
use loss_kernel::{ContrastiveLoss, InBatchContrastiveLoss};

type Outcome<T> = Result<T, Box<dyn Error>>;

const SHAPES: [(usize, usize); 4] = [(1 << 20, 128), (1 << 16, 128), (1 << 20, 2), (64, 2)];
const TYPES: [DType; 2] = [DType::F32, DType::F16];

/// Images of a batch whose pairs are all used, and dimensions of their embeddings.
const IN_BATCH: [(usize, usize); 3] = [(1024, 128), (8192, 128), (32_768, 128)];

/// Batches that `check.safetensors` has.
const DUMPED: [(usize, usize); 2] = [(1000, 128), (64, 2)];

const ROUNDS: usize = 25;

/// Bytes of one of the copies that keep the device busy; 0.2 ms on an H100.
const DELAY: usize = 256 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let out = out_folder()?;
    let device = Device::new_cuda(0).map_err(|error| {
        format!("this benchmark needs a GPU, and there is none to use: {error}")
    })?;
    let mut gpu = Gpu::new(device.as_cuda_device()?)?;
    println!("{}", gpu.device.cuda_stream().context().name()?);
    if let Some(folder) = &out {
        dump(&device, &folder.join("check.safetensors"))?;
    }
    println!("     pairs  dim type      pass      time      copy  bandwidth  of the copy's");
    let mut lines = String::new();
    for (pairs, dim) in SHAPES {
        for dtype in TYPES {
            let batch = Batch::new(pairs, dim, dtype)?;
            batch.check(&device)?;
            for (pass, time, bytes, copy) in batch.time(&mut gpu, &device)? {
                let dtype = dtype.as_str();
                print!(
                    "{pairs:>10} {dim:>4} {dtype:>4} {pass:>9} {:>6.1} µs",
                    time * 1e6
                );
                println!(
                    " {:>6.1} µs {:>5.0} GB/s {:>14.1} %",
                    copy * 1e6,
                    bytes as f64 / time / 1e9,
                    100.0 * copy / time
                );
                lines += &format!(
                    "{{\"pairs\":{pairs},\"dim\":{dim},\"type\":\"{dtype}\",\"pass\":\"{pass}\",\
                     \"seconds\":{time:e},\"bytes\":{bytes},\"copy_seconds\":{copy:e}}}\n"
                );
            }
        }
    }
    if let Some(folder) = &out {
        fs::write(folder.join("times.jsonl"), lines)?;
    }
    let mut lines = String::new();
    println!("    images  dim      pass      time  pairs/s  of the peak");
    let peak = peak(&gpu)?;
    for (images, dim) in IN_BATCH {
        check_in_batch(&device, images.min(2048), dim)?;
        let pairs = (images * (images - 1) / 2) as f64;
        // Forward, and forward with the backward that computes all distances again.
        for (pass, passes, time) in time_in_batch(&mut gpu, &device, images, dim)? {
            println!(
                "{images:>10} {dim:>4} {pass:>9} {:>6.1} µs {:>8.2e} {:>10.1} %",
                time * 1e6,
                pairs / time,
                100.0 * passes * pairs * 2.0 * dim as f64 / time / peak
            );
            lines += &format!(
                "{{\"images\":{images},\"dim\":{dim},\"type\":\"f32\",\"pass\":\"{pass}\",\
                 \"seconds\":{time:e}}}\n"
            );
        }
    }
    if let Some(folder) = &out {
        fs::write(folder.join("in-batch.jsonl"), lines)?;
    }
    Ok(())
}

/// Operations in f32 a second: a multiply-add, two operations, in each lane and tick.
fn peak(gpu: &Gpu) -> Outcome<f64> {
    let context = gpu.device.cuda_stream().context().clone();
    let (major, minor) = context.compute_capability()?;
    // An A100 has half as many lanes as its successors and the desktop's cards.
    let lanes = if (major, minor) == (8, 0) { 64 } else { 128 };
    let attribute = |which| context.attribute(which);
    let units = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let kilohertz = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    Ok(2.0 * f64::from(lanes) * f64::from(units) * f64::from(kilohertz) * 1e3)
}

/// Embeddings about the margin apart, of a hundred classes.
fn in_batch(images: usize, dim: usize) -> Outcome<(Tensor, Tensor)> {
    let embeddings = Batch::new(images, dim, DType::F32)?.a;
    let labels = (0..images).map(|i| (i % 100) as u32).collect();
    Ok((embeddings, Tensor::from_vec(labels, images, &Device::Cpu)?))
}

fn check_in_batch(device: &Device, images: usize, dim: usize) -> Outcome<()> {
    let (embeddings, labels) = in_batch(images, dim)?;
    let results = |device: &Device| -> Outcome<[Vec<f32>; 2]> {
        let embeddings = Var::from_tensor(&embeddings.to_device(device)?)?;
        let loss = InBatchContrastiveLoss::default();
        let value = loss.forward(&embeddings, &labels.to_device(device)?)?;
        let gradients = value.backward()?;
        let gradient = gradients.get(&embeddings).ok_or("no gradient")?;
        Ok([vec![value.to_scalar()?], gradient.flatten_all()?.to_vec1()?])
    };
    for (found, expected) in results(device)?.iter().zip(&results(&Device::Cpu)?) {
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let worst = off.fold(0f32, f32::max);
        if found.iter().any(|x| x.is_nan()) || worst > 1e-4 * largest || largest == 0.0 {
            return Err(format!("all pairs of {images}: off by {worst} of {largest}").into());
        }
    }
    Ok(())
}

/// Of each pass its name, how often it takes each distance, and its median time in seconds.
fn time_in_batch(
    gpu: &mut Gpu,
    device: &Device,
    images: usize,
    dim: usize,
) -> Outcome<[(&'static str, f64, f64); 2]> {
    let (embeddings, labels) = in_batch(images, dim)?;
    let embeddings = Var::from_tensor(&embeddings.to_device(device)?)?;
    let labels = labels.to_device(device)?;
    let loss = InBatchContrastiveLoss::default();
    let (mut forwards, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        forwards.push(gpu.issued_time(4, || {
            loss.forward(&embeddings.detach(), &labels)?;
            Ok(())
        })?);
        steps.push(gpu.issued_time(4, || {
            loss.forward(&embeddings, &labels)?.backward()?;
            Ok(())
        })?);
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    };
    Ok([
        ("forward", 1.0, median(forwards)),
        ("step", 2.0, median(steps)),
    ])
}

/// DIR of `--out DIR`, made. Cargo adds `--bench`.
fn out_folder() -> Outcome<Option<PathBuf>> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    match (
        arguments.next().as_deref(),
        arguments.next(),
        arguments.next(),
    ) {
        (None, ..) => Ok(None),
        (Some("--out"), Some(folder), None) => {
            fs::create_dir_all(&folder)?;
            Ok(Some(folder.into()))
        }
        _ => Err("usage: gpu [--out DIR]".into()),
    }
}

/// Inputs and results of small batches, by `PAIRSxDIM.TYPE.NAME`.
fn dump(device: &Device, path: &Path) -> Outcome<()> {
    let mut tensors = HashMap::new();
    for (pairs, dim) in DUMPED {
        for dtype in TYPES {
            let batch = Batch::new(pairs, dim, dtype)?;
            batch.check(device)?;
            let Batch {
                a,
                b,
                same,
                grad_output,
            } = batch.to(device)?;
            let loss = ContrastiveLoss::default();
            let result = loss.forward(&a, &b, &same)?;
            let (of_a, of_b) = loss.gradient(&a, &b, &same, &grad_output)?;
            for (name, tensor) in [
                ("a", a),
                ("b", b),
                ("same", same),
                ("grad_output", grad_output),
                ("loss", result),
                ("of_a", of_a),
                ("of_b", of_b),
            ] {
                let name = format!("{pairs}x{dim}.{}.{name}", dtype.as_str());
                tensors.insert(name, tensor.contiguous()?);
            }
        }
    }
    Ok(candle_core::safetensors::save(&tensors, path)?)
}

/// Pairs, their labels and the gradient of their mean loss.
struct Batch {
    a: Tensor,
    b: Tensor,
    same: Tensor,
    grad_output: Tensor,
}

impl Batch {
    /// On the CPU: distances around the margin of 1, every other pair similar.
    fn new(pairs: usize, dim: usize, dtype: DType) -> Outcome<Self> {
        // Knuth's 64-bit linear congruential generator, its top 24 bits as a number in ±1.
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        };
        // The mean of (a − b)² is 2/3 of the square of this.
        let spread = (1.5 / dim as f32).sqrt();
        let mut side = || -> candle_core::Result<Tensor> {
            let values = (0..pairs * dim).map(|_| spread * random()).collect();
            Tensor::from_vec(values, (pairs, dim), &Device::Cpu)?.to_dtype(dtype)
        };
        let (a, b) = (side()?, side()?);
        let same: Vec<u8> = (0..pairs).map(|i| (i % 2) as u8).collect();
        Ok(Self {
            a,
            b,
            same: Tensor::from_vec(same, pairs, &Device::Cpu)?,
            // As a loss scale: a millionth of a gradient is below the least number of f16.
            grad_output: Tensor::new(pairs.min(1 << 15) as f32, &Device::Cpu)?.to_dtype(dtype)?,
        })
    }

    fn to(&self, device: &Device) -> candle_core::Result<Self> {
        Ok(Self {
            a: self.a.to_device(device)?,
            b: self.b.to_device(device)?,
            same: self.same.to_device(device)?,
            grad_output: self.grad_output.to_device(device)?,
        })
    }

    /// Loss and gradients on `device` against the CPU's.
    fn check(&self, device: &Device) -> Outcome<()> {
        let loss = ContrastiveLoss::default();
        let results = |batch: &Self| -> Outcome<[Tensor; 3]> {
            let value = loss.forward(&batch.a, &batch.b, &batch.same)?;
            let (of_a, of_b) =
                loss.gradient(&batch.a, &batch.b, &batch.same, &batch.grad_output)?;
            Ok([value, of_a, of_b])
        };
        let (found, expected) = (results(&self.to(device)?)?, results(self)?);
        // A few roundings, relative to the largest value.
        let tolerance = match self.a.dtype() {
            DType::F16 => 2f32.powi(-9),
            _ => 1e-5,
        };
        for (what, (found, expected)) in ["loss", "gradient of a", "gradient of b"]
            .into_iter()
            .zip(found.iter().zip(&expected))
        {
            let numbers = |t: &Tensor| -> candle_core::Result<Vec<f32>> {
                t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
            };
            let (found, expected) = (numbers(found)?, numbers(expected)?);
            let largest = expected
                .iter()
                .fold(0f32, |largest, x| largest.max(x.abs()));
            let allowed = tolerance * largest;
            let wrong = |(found, expected): &(&f32, &f32)| {
                let off = (*found - *expected).abs();
                off.is_nan() || off > allowed
            };
            if let Some((found, expected)) = found.iter().zip(&expected).find(wrong) {
                return Err(format!(
                    "{what} of {:?} {:?}: {found} on the GPU, {expected} on the CPU, and the \
                     largest is {largest}",
                    self.a.shape(),
                    self.a.dtype()
                )
                .into());
            }
            if largest == 0.0 {
                return Err(format!("{what}: nothing but zeros was compared").into());
            }
        }
        Ok(())
    }

    /// Of each pass its name, median time in seconds, bytes, and the median time of their copy.
    fn time(
        &self,
        gpu: &mut Gpu,
        device: &Device,
    ) -> Outcome<[(&'static str, f64, usize, f64); 3]> {
        let Self {
            a,
            b,
            same,
            grad_output,
        } = &self.to(device)?;
        let loss = ContrastiveLoss::default();
        let side = a.elem_count() * a.dtype().size_in_bytes();
        let (forward_bytes, backward_bytes) = (2 * side, 4 * side);
        let repeats = if side < 1 << 20 { 200 } else { 1 };
        let forward = || -> Outcome<()> {
            loss.forward(a, b, same)?;
            Ok(())
        };
        let backward = || -> Outcome<()> {
            loss.gradient(a, b, same, grad_output)?;
            Ok(())
        };
        let (a_var, b_var) = (Var::from_tensor(a)?, Var::from_tensor(b)?);
        let step = || -> Outcome<()> {
            loss.forward(&a_var, &b_var, same)?.backward()?;
            Ok(())
        };
        let stream = gpu.device.cuda_stream();
        let source = stream.alloc_zeros::<u8>(backward_bytes / 2)?;
        let mut target = stream.alloc_zeros::<u8>(backward_bytes / 2)?;
        let mut copy = |bytes: usize| -> Outcome<()> {
            let half = bytes / 2;
            let (source, mut target) = (source.slice(..half), target.slice_mut(..half));
            Ok(stream.memcpy_dtod(&source, &mut target)?)
        };
        let mut times: [Vec<f64>; 5] = Default::default();
        for _ in 0..ROUNDS {
            times[0].push(gpu.device_time(repeats, forward)?);
            times[1].push(gpu.device_time(repeats, || copy(forward_bytes))?);
            times[2].push(gpu.device_time(repeats, backward)?);
            times[3].push(gpu.device_time(repeats, || copy(backward_bytes))?);
            times[4].push(gpu.issued_time(20, step)?);
        }
        let [forward, forward_copy, backward, backward_copy, step] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        });
        Ok([
            ("forward", forward, forward_bytes, forward_copy),
            ("backward", backward, backward_bytes, backward_copy),
            (
                "step",
                step,
                forward_bytes + backward_bytes,
                forward_copy + backward_copy,
            ),
        ])
    }
}

/// The device, what keeps it busy, and two events with a time.
struct Gpu {
    device: CudaDevice,
    start: CudaEvent,
    end: CudaEvent,
    delays: usize,
    source: CudaSlice<u8>,
    target: CudaSlice<u8>,
}

impl Gpu {
    fn new(device: &CudaDevice) -> Outcome<Self> {
        let stream = device.cuda_stream();
        let event = || {
            stream
                .context()
                .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
        };
        Ok(Self {
            device: device.clone(),
            start: event()?,
            end: event()?,
            delays: 8,
            source: stream.alloc_zeros(DELAY)?,
            target: stream.alloc_zeros(DELAY)?,
        })
    }

    /// Seconds that the device needs for one of `repeats` runs of `work`.
    fn device_time(
        &mut self,
        repeats: usize,
        mut work: impl FnMut() -> Outcome<()>,
    ) -> Outcome<f64> {
        let stream = self.device.cuda_stream();
        // At 4096 the device is busy for a second.
        while self.delays <= 4096 {
            for _ in 0..self.delays {
                stream.memcpy_dtod(&self.source, &mut self.target)?;
            }
            self.start.record(&stream)?;
            for _ in 0..repeats {
                work()?;
            }
            self.end.record(&stream)?;
            let queued_in_time = !self.start.try_is_complete()?;
            let seconds = f64::from(self.start.elapsed_ms(&self.end)?) / 1e3;
            if queued_in_time {
                return Ok(seconds / repeats as f64);
            }
            self.delays *= 2;
        }
        Err("the work cannot be queued in the second that the device is kept busy: it waits for the \
             device, or the machine is overloaded"
            .into())
    }

    /// Seconds from one to the next of `repeats` runs of `work`, issued as fast as the program can.
    fn issued_time(&self, repeats: usize, work: impl Fn() -> Outcome<()>) -> Outcome<f64> {
        let stream = self.device.cuda_stream();
        work()?;
        self.start.record(&stream)?;
        for _ in 0..repeats {
            work()?;
        }
        self.end.record(&stream)?;
        Ok(f64::from(self.start.elapsed_ms(&self.end)?) / 1e3 / repeats as f64)
    }
}
