//! Files that say they are larger than they are, or unpack to more than they should: refused, with
//! next to no memory. A test binary of its own, since it counts for the whole process.

#[path = "../../crates/loss-kernel/tests/allocation/mod.rs"]
mod allocation;

use std::fs;
use std::io::Write;

use allocation::peak;
use candle_core::{Device, Result};
use data::{DataError, Framing, ImageShape, PictureProblem, mnist_folder, read_picture};
use flate2::{Compression, Crc, write::GzEncoder, write::ZlibEncoder};
use model::weights;

/// What reading in chunks and unpacking take.
const LITTLE: usize = 1 << 20;

fn idx(magic: u8, sizes: &[u32]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    [0, 0, 8, magic].into_iter().chain(sizes).collect()
}

/// The error, and the memory, of reading a folder whose training images are `bytes`.
fn folder_of(bytes: &[u8]) -> Result<(usize, DataError)> {
    let folder = tempfile::tempdir()?;
    for (name, header) in [
        ("train-labels-idx1-ubyte", idx(1, &[60_000])),
        ("t10k-images-idx3-ubyte", idx(3, &[10_000, 28, 28])),
        ("t10k-labels-idx1-ubyte", idx(1, &[10_000])),
    ] {
        fs::write(folder.path().join(name), header)?;
    }
    fs::write(folder.path().join("train-images-idx3-ubyte.gz"), bytes)?;
    let (bytes, result) = peak(|| Ok(mnist_folder(folder.path(), false)))?;
    Ok((bytes, result.expect_err("it must be refused")))
}

fn assert_little(bytes: usize) {
    assert!(bytes < LITTLE, "{bytes} bytes at once");
}

fn assert_format(error: &DataError, words: &str) {
    assert!(
        matches!(error, DataError::Format { problem, .. } if problem.contains(words)),
        "{error:?}"
    );
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut checksum = Crc::new();
    checksum.update(kind);
    checksum.update(content);
    let length = (content.len() as u32).to_be_bytes();
    [&length, &kind[..], content, &checksum.sum().to_be_bytes()].concat()
}

/// A PNG of one grey channel, whose pixels are `zeros` bytes.
fn png(width: u32, height: u32, zeros: usize) -> Result<Vec<u8>> {
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 0, 0, 0, 0],
    ]
    .concat();
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    pixels.write_all(&vec![0; zeros])?;
    Ok([
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &header),
        &chunk(b"IDAT", &pixels.finish()?),
        &chunk(b"IEND", &[]),
    ]
    .concat())
}

fn picture_of(bytes: &[u8]) -> Result<(usize, DataError)> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), bytes)?;
    let (bytes, result) = peak(|| {
        Ok(read_picture(
            file.path(),
            ImageShape::MNIST,
            Framing::Ink(20),
        ))
    })?;
    Ok((bytes, result.expect_err("it must be refused")))
}

fn assert_too_large(picture: &[u8]) -> Result<()> {
    let (bytes, error) = picture_of(picture)?;
    let refused = matches!(
        error,
        DataError::Picture {
            problem: PictureProblem::TooLarge { .. } | PictureProblem::Unreadable,
            ..
        }
    );
    assert!(refused, "{error}");
    assert_little(bytes);
    Ok(())
}

// One test: what others allocate meanwhile would be counted too.
#[test]
fn a_file_that_claims_or_unpacks_to_too_much_takes_next_to_no_memory() -> Result<()> {
    for (sizes, words) in [
        ([u32::MAX; 3], "MNIST's format requires"),
        ([60_000, u32::MAX, u32::MAX], "MNIST's format requires"),
        ([u32::MAX, 28, 28], "announces 4294967295 images"),
        ([60_000, 28, 28], "is cut short"),
    ] {
        let (bytes, error) = folder_of(&idx(3, &sizes))?;
        assert_format(&error, words);
        assert_little(bytes);
    }

    // 47 MB are expected, and 200 MB would come.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&idx(3, &[60_000, 28, 28]))?;
    bomb.write_all(&vec![0; 200_000_000])?;
    let (bytes, error) = folder_of(&bomb.finish()?)?;
    assert_format(&error, "goes on after");
    assert_little(bytes);

    for (width, height) in [
        (60_000, 60_000),
        (u32::MAX >> 1, u32::MAX >> 1),
        (8001, 8000),
    ] {
        assert_too_large(&png(width, height, 100)?)?;
    }
    // The pixels unpack to 200 MB where the header says 16 of them.
    let bomb = png(4, 4, 200_000_000)?;
    let (bytes, _) = picture_of(&bomb)?;
    // The file itself is read into memory that doubles as it grows.
    assert!(bytes < LITTLE + 2 * bomb.len(), "{bytes} bytes at once");
    // Start of image, of a frame of 65535×65535, of a scan; end.
    let jpeg = b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\xff\xd9";
    assert_too_large(jpeg)?;

    // A header of 2^63 bytes, of as many as are there, and one that nests.
    let nested = format!("{{\"__metadata__\":{}", "{\"a\":".repeat(50_000));
    for (length, rest) in [
        (1 << 63, ""),
        (u64::MAX, ""),
        (8, "        "),
        (nested.len() as u64, nested.as_str()),
        (
            99,
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,18446744073709551615]}}   ",
        ),
    ] {
        let file = [&u64::to_le_bytes(length), rest.as_bytes()].concat();
        let (bytes, result) = peak(|| Ok(weights::from_bytes(&file, &Device::Cpu)))?;
        assert!(result.is_err());
        assert_little(bytes);
    }
    Ok(())
}
