//! Build script of `loss-kernel`. With the feature `cuda` it compiles the kernels and writes the
//! bindings of their C interface; without it there is nothing to build.
//!
//! This file and `kernels` lie at the root of the repository; the crate has links to both, so that a
//! packed crate holds them where this script finds them: in the crate's folder, where cargo runs it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(sentence) = cuda::build() {
        // A line break would end what cargo shows.
        println!("cargo::error={}", sentence.replace('\n', " "));
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::env;
    use std::path::PathBuf;
    use std::process::Command;

    const INTERFACE: &str = "kernels/contrastive.h";
    const KERNELS: [&str; 2] = ["kernels/pairs.cu", "kernels/in_batch.cu"];
    const INCLUDED: [&str; 5] = [
        "kernels/element.cuh",
        "kernels/energy.cuh",
        "kernels/launch.cuh",
        "kernels/length.cuh",
        "kernels/team.cuh",
    ];

    /// Compute capabilities to make machine code for, without the dot. The last one's PTX, which
    /// the driver compiles, serves newer GPUs.
    const ARCHS: &str = "CONTRASTIVE_CUDA_ARCHS";
    const DEFAULT_ARCHS: &str = "80,90";

    /// The first that cudarc, candle's kernels and sm_90 can all do with.
    const OLDEST_TOOLKIT: u32 = 12;

    const HOW_TO_GET_IT: &str =
        "or run `scripts/setup-cuda.sh DIR` and `source DIR/env.sh` (docs/gpu.md)";

    pub fn build() -> Result<(), String> {
        for input in [INTERFACE].iter().chain(&KERNELS).chain(&INCLUDED) {
            println!("cargo::rerun-if-changed={input}");
        }
        for variable in [ARCHS, "NVCC", "LIBCLANG_PATH"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        check_nvcc()?;
        bind()?;
        compile()
    }

    fn check_nvcc() -> Result<(), String> {
        // As cc finds it.
        let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
        let output = Command::new(&nvcc)
            .arg("--version")
            .output()
            .map_err(|error| {
                format!(
                    "CUDA's compiler `{nvcc}` does not start ({error}): install the CUDA toolkit \
                     {OLDEST_TOOLKIT} or newer and put its bin folder on the PATH, {HOW_TO_GET_IT}"
                )
            })?;
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said
            .split_once("release ")
            .and_then(|(_, rest)| rest.split_once(','))
            .map_or("of unknown version", |(version, _)| version);
        let major = version.split('.').next().and_then(|text| text.parse().ok());
        match major {
            Some(OLDEST_TOOLKIT..) => Ok(()),
            _ => Err(format!(
                "the CUDA toolkit of `{nvcc}` is {version}, and {OLDEST_TOOLKIT} or newer is \
                 needed: install one and put its bin folder first on the PATH, {HOW_TO_GET_IT}"
            )),
        }
    }

    fn bind() -> Result<(), String> {
        clang_sys::load().map_err(|error| {
            format!(
                "libclang, with which bindgen reads kernels/contrastive.h, is missing: install it \
                 (Debian: libclang-dev) or name its folder in LIBCLANG_PATH, {HOW_TO_GET_IT}: \
                 {error}"
            )
        })?;
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
        bindgen::Builder::default()
            .header(INTERFACE)
            .allowlist_file(r".*contrastive\.h")
            .prepend_enum_name(false)
            .formatter(bindgen::Formatter::None)
            .generate()
            .map_err(|error| format!("bindgen cannot read kernels/contrastive.h: {error}"))?
            .write_to_file(out.join("ffi.rs"))
            .map_err(|error| format!("{}: {error}", out.join("ffi.rs").display()))
    }

    fn compile() -> Result<(), String> {
        let archs = env::var(ARCHS).unwrap_or_else(|_| DEFAULT_ARCHS.into());
        let archs: Vec<&str> = archs.split(',').map(str::trim).collect();
        let newest = match archs.last() {
            Some(newest) if archs.iter().all(|arch| is_arch(arch)) => newest,
            _ => {
                return Err(format!(
                    "{ARCHS} must be compute capabilities without the dot, such as \
                     `{DEFAULT_ARCHS}`, and is `{}`",
                    archs.join(",")
                ));
            }
        };
        let mut nvcc = cc::Build::new();
        nvcc.cuda(true)
            .cudart("static")
            .files(KERNELS)
            .opt_level(3)
            // Else the dev profile asks for unoptimised device code; profilers still get lines.
            .debug(false)
            .flag("-lineinfo");
        for arch in &archs {
            nvcc.flag(format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
        }
        nvcc.flag(format!(
            "-gencode=arch=compute_{newest},code=compute_{newest}"
        ));
        nvcc.try_compile("contrastive").map_err(|error| {
            format!(
                "nvcc does not compile the kernels for {ARCHS}={}: {error}",
                archs.join(",")
            )
        })?;
        // What libcudart_static needs.
        if cfg!(target_os = "linux") {
            for library in ["rt", "pthread", "dl"] {
                println!("cargo::rustc-link-lib=dylib={library}");
            }
        }
        Ok(())
    }

    /// `80`, `90a`.
    fn is_arch(text: &str) -> bool {
        let number = text.trim_end_matches(['a', 'f']);
        number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit())
    }
}
