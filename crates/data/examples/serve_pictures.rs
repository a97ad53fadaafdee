//! Reads pictures for a program that asks: our side of `scripts/compare-pillow.sh`.
//!
//! ```text
//! serve_pictures FOLDER RESULT
//! ```
//!
//! All files in `FOLDER` are read in the order of their names, letterboxed to 3x64x64 as a folder's are by
//! default. `RESULT` gets their pixels, (N, 3, 64, 64) in bytes. From then on each line of standard input has
//! them read again, answered by the seconds that it took. `RAYON_NUM_THREADS` sets the threads.

use std::error::Error;
use std::hint::black_box;
use std::io::BufRead;
use std::path::PathBuf;
use std::time::Instant;

use data::{FolderOptions, Picture, read_picture};
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [folder, result] = &arguments[..] else {
        return Err("usage: serve_pictures FOLDER RESULT".into());
    };
    let files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = files.collect::<Result<Vec<PathBuf>, std::io::Error>>()?;
    files.sort();
    let FolderOptions { shape, framing, .. } = FolderOptions::default();
    let read = || -> Result<Vec<Picture>, data::DataError> {
        let pictures = files
            .par_iter()
            .map(|path| read_picture(path, shape, framing));
        pictures.collect()
    };
    let pixels: Vec<u8> = read()?
        .into_iter()
        .flat_map(|picture| picture.pixels)
        .collect();
    std::fs::write(result, pixels)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        black_box(read()?);
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}
