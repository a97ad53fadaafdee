//! Build script of `loss-kernel`. Without the feature `cuda` there is nothing to build.

fn main() {
    println!("cargo::rerun-if-changed=../../build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        println!(
            "cargo::error=the CUDA kernels of the contrastive loss are the next step and are not \
             in this version: build without `--features cuda`"
        );
    }
}
