//! `environment.jsonl`: what a run was trained by and on, a line for each sitting.

use serde::Serialize;

/// What decides a run's bits besides its configuration, and its speed.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// Steps that were done before the sitting.
    pub step: u64,
    version: &'static str,
    /// The program's commit, where it was built in a git checkout.
    commit: Option<&'static str>,
    features: Vec<&'static str>,
    profile: &'static str,
    os: &'static str,
    cpu: String,
    simd: &'static str,
    threads: usize,
    device: String,
    seed: u64,
}

impl Environment {
    /// Here and now.
    pub fn new(step: u64, device: String, seed: u64) -> Self {
        let features = [
            ("cpu", cfg!(feature = "cpu")),
            ("cuda", cfg!(feature = "cuda")),
            ("cudnn", cfg!(feature = "cudnn")),
            ("nccl", cfg!(feature = "nccl")),
            ("pretrained", cfg!(feature = "pretrained")),
        ];
        let features = features.into_iter();
        Self {
            step,
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("TRAIN_COMMIT"),
            features: features
                .filter_map(|(name, on)| on.then_some(name))
                .collect(),
            profile: match cfg!(debug_assertions) {
                true => "dev",
                false => "release",
            },
            os: std::env::consts::OS,
            cpu: cpu(),
            simd: simd(),
            threads: rayon::current_num_threads(),
            device,
            seed,
        }
    }
}

/// The processor's name, or what it is compiled for where the system does not tell.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim())
        .into()
}

/// The widest instructions that the kernels choose among.
fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "avx2+fma";
        }
        "sse2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "neon"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "scalar"
    }
}
