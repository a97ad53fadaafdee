//! Where a command computes: on the CPU or on a GPU.
//!
//! A flag and no key of `config.toml`: a configuration says what is computed, and repeats its run
//! on a machine without a GPU too. Where a run was computed is in its `summary.json`.

use std::str::FromStr;

use anyhow::Result;
use candle_core::Device;
use clap::Args;

use crate::terminal::{Voice, usage};

/// The flag that says where to compute.
#[derive(Clone, Copy, Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: `cpu`, `cuda`, `cuda:N` (GPU number N), or `auto` (the first GPU if this
    /// build supports one and there is one, otherwise the CPU)
    #[arg(long = "device", value_name = "DEVICE", default_value = "auto")]
    choice: DeviceChoice,
}

impl DeviceArgs {
    /// The device, opened once per command: to candle, two handles of one GPU are two devices.
    ///
    /// # Errors
    /// Where the flag names a GPU that cannot be used.
    pub fn open(self, voice: Voice) -> Result<Device> {
        match self.choice {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Cuda(number) => gpu(number),
            DeviceChoice::Auto if !cfg!(feature = "cuda") => Ok(Device::Cpu),
            DeviceChoice::Auto => gpu(0).or_else(|error| {
                voice.say(&format!("computing on the CPU: {error:#}"));
                Ok(Device::Cpu)
            }),
        }
    }
}

/// What `--device` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeviceChoice {
    /// The first GPU if the program was built for GPUs and there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, as CUDA counts them from 0.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => number(text)
                .map(Self::Cuda)
                .ok_or_else(|| "write auto, cpu, cuda or cuda:N, such as cuda:1".into()),
        }
    }
}

#[cfg(feature = "cuda")]
fn gpu(number: usize) -> Result<Device> {
    use anyhow::Context;
    use candle_core::cuda_backend::cudarc::driver::CudaContext;

    let count = CudaContext::device_count().context("CUDA finds no GPU")?;
    if usize::try_from(count).is_ok_and(|count| number >= count) {
        return Err(usage(format!(
            "there is no GPU cuda:{number}: CUDA finds {count} here, counted from cuda:0"
        )));
    }
    Device::new_cuda(number).with_context(|| format!("cannot use the GPU cuda:{number}"))
}

#[cfg(not(feature = "cuda"))]
fn gpu(_number: usize) -> Result<Device> {
    Err(usage(
        "this program was built without GPUs: build it with `cargo build -p train --features cuda`, \
         or use --device cpu",
    ))
}

/// `cpu`, or a GPU's number with its maker's name: `cuda:0 NVIDIA H100 80GB HBM3`.
pub fn name(device: &Device) -> String {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let stream = device.cuda_stream();
            let gpu = stream.context();
            let name = gpu.name().unwrap_or_default();
            format!("cuda:{} {name}", gpu.ordinal()).trim_end().into()
        }
        _ => "cpu".into(),
    }
}
