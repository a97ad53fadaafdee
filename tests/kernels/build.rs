//! Compiles the CUDA kernels for the CPU, with the emulator in `emulator`, and links them into the
//! tests, with the interface in Rust. `KERNELS_SANITIZED=1` does it with AddressSanitizer and UndefinedBehaviorSanitizer.

mod interface;

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=interface.rs");
    println!("cargo::rerun-if-changed=../../kernels");
    println!("cargo::rerun-if-changed=emulator");
    println!("cargo::rerun-if-changed=src/emulator_probe.cpp");
    println!("cargo::rerun-if-changed=src/emulator_probe.h");
    println!("cargo::rerun-if-env-changed=KERNELS_SANITIZED");
    println!("cargo::rustc-check-cfg=cfg(kernels_sanitized)");

    let mut flags = vec![
        "-Wno-unknown-pragmas",
        // A variant without a formula.
        "-Werror=switch",
        // It takes the fibers' jumps for stack overflows.
        "-U_FORTIFY_SOURCE",
        // Rust doesn't contract either; the formulas of both are compared bit by bit.
        "-ffp-contract=off",
    ];
    if env::var_os("KERNELS_SANITIZED").is_some() {
        println!("cargo::rustc-cfg=kernels_sanitized");
        // In front of all else, so that Rust's allocations too are AddressSanitizer's.
        println!("cargo::rustc-link-lib=dylib=asan");
        println!("cargo::rustc-link-lib=dylib=ubsan");
        flags.extend([
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "-g",
        ]);
    }
    let mut build = cc::Build::new();
    // The emulated kernels take minutes if they are not optimised.
    build.cpp(true).std("c++17").opt_level(2).flag("-xc++");
    for flag in &flags {
        build.flag(flag);
    }
    let compiler = build.get_compiler();
    if let Err(error) = Command::new(compiler.path()).arg("--version").output() {
        println!(
            "cargo::error=the kernel tests need a C++ compiler (g++): `{}` does not start, {error}; \
             on Debian and Ubuntu `apt install g++` brings one, elsewhere name yours in CXX",
            compiler.path().display()
        );
        return;
    }
    println!("cargo::rustc-env=KERNELS_CXX={}", compiler.path().display());
    println!("cargo::rustc-env=KERNELS_CXX_FLAGS={}", flags.join(" "));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let mut interface = interface::Interface::default();
    for header in ["../../kernels/contrastive.h", "src/emulator_probe.h"] {
        interface.read(&fs::read_to_string(header).expect(header));
    }
    let probe = out.join("interface_probe.cpp");
    fs::write(out.join("interface.rs"), interface.rust()).expect("OUT_DIR can be written");
    fs::write(&probe, interface.probe()).expect("OUT_DIR can be written");
    build
        .include("emulator")
        .include("../../kernels")
        .include("src")
        .file("../../kernels/pairs.cu")
        .file("../../kernels/in_batch.cu")
        .file("src/emulator_probe.cpp")
        .file(probe)
        .compile("kernels_on_cpu");
}
