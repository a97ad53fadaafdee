//! Changed copies of the kernels.

#![expect(unsafe_code, reason = "the kernels are C++")]

use std::fs;
use std::path::Path;
use std::process::Command;

use libloading::Library;

use crate::emulator::Kernels;

/// A file of `kernels/`, and what is replaced in it by what.
pub type Change = (&'static str, &'static str, &'static str);

/// One of the kernels' sources, with its change, compiled and loaded as a library.
///
/// # Panics
///
/// Where the file no longer has what is to be replaced, or the change does not compile.
pub fn compiled(unit: &str, (file, from, to): Change) -> Kernels {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let kernels = folder.path();
    for entry in fs::read_dir(tests.join("../../kernels")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), kernels.join(entry.file_name())).unwrap();
    }
    let source = fs::read_to_string(kernels.join(file)).unwrap();
    assert!(source.contains(from), "{file} no longer has {from:?}");
    fs::write(kernels.join(file), source.replace(from, to)).unwrap();
    let library = kernels.join("kernels.so");
    let output = Command::new(env!("KERNELS_CXX"))
        .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-x", "c++"])
        .args(env!("KERNELS_CXX_FLAGS").split(' '))
        // Else all copies would share one emulator.
        .args(["-fvisibility-inlines-hidden", "-Wl,-Bsymbolic"])
        .args(gnu_unique())
        .arg("-I")
        .arg(kernels)
        .arg("-I")
        .arg(tests.join("emulator"))
        .arg("-I")
        .arg(tests.join("src"))
        // One translation unit takes half the time of two.
        .arg("-include")
        .arg(kernels.join(unit))
        .arg(tests.join("src/emulator_probe.cpp"))
        .arg("-o")
        .arg(&library)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Thread-local state of the library would be freed after its code.
    // SAFETY: the library's initialisers do nothing.
    let library = unsafe { Library::new(&library) }.unwrap();
    Kernels::of(Box::leak(Box::new(library)))
}

/// Runs the checks over every other mutant: the compiler takes most of the time, so two tests, from 0
/// and from 1, share them.
///
/// # Panics
///
/// Where the checks let one pass.
pub fn assert_refused(
    mutants: &[(&str, Change)],
    start: usize,
    checked: impl Fn(Change) -> Result<(), String>,
) {
    let mut survivors = Vec::new();
    for (what, change) in mutants.iter().skip(start).step_by(2) {
        match checked(*change) {
            Ok(()) => survivors.push(what),
            Err(error) => println!("{what}: {error}"),
        }
    }
    assert!(survivors.is_empty(), "not refused: {survivors:#?}");
}

/// clang does not make such symbols and does not know the flag.
fn gnu_unique() -> Option<&'static str> {
    let version = Command::new(env!("KERNELS_CXX")).arg("--version").output();
    let version = String::from_utf8_lossy(&version.unwrap().stdout).into_owned();
    (!version.contains("clang")).then_some("-fno-gnu-unique")
}
