//! The IDX format, read and checked in one pass.
//!
//! A file is a magic number (0, 0, the type of a value, the number of dimensions), each dimension as
//! a big-endian u32, then the values. It may be gzip'd.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::DataError;

/// Images or labels that a file may hold; no set in this format has nearly as many.
pub const MOST: u32 = 10_000_000;

/// Bytes read at a time: a whole number of QMNIST's rows.
const CHUNK: usize = 64 * 1024;

/// The two kinds of file of a data set in MNIST's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Images of this many rows and columns, a byte each pixel.
    Images([u32; 2]),
    /// Labels, a byte each; or as QMNIST has them, rows of eight big-endian i32, of which the first
    /// is the label.
    Labels,
}

impl Contents {
    fn name(self) -> &'static str {
        match self {
            Self::Images(_) => "images",
            Self::Labels => "labels",
        }
    }

    fn layouts(self) -> &'static [Layout] {
        match self {
            Self::Images(_) => &[Layout::Images],
            Self::Labels => &[Layout::Labels, Layout::LabelRows],
        }
    }
}

/// How the values of a file are laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Images,
    Labels,
    LabelRows,
}

impl Layout {
    fn magic(self) -> [u8; 4] {
        match self {
            Self::Images => [0, 0, 8, 3],
            Self::Labels => [0, 0, 8, 1],
            Self::LabelRows => [0, 0, 0xc, 2],
        }
    }

    fn header_bytes(self) -> usize {
        4 + 4 * usize::from(self.magic()[3])
    }
}

/// An IDX file whose header is sound, and whose values are still to be read.
///
/// Errors call the file `path`. No more is ever unpacked than the header announces and one byte, so
/// that a gzip bomb costs nothing.
pub struct Reader<'a> {
    path: &'a Path,
    source: Box<dyn Read + 'a>,
    contents: Contents,
    layout: Layout,
    count: u32,
}

impl<'a> Reader<'a> {
    /// Reads the header. Gzip is recognised by its first two bytes, since browsers unpack files and
    /// keep the `.gz`.
    ///
    /// # Errors
    /// [`DataError::Format`] unless the file is one of `contents`, of 1 to [`MOST`] of them, and for
    /// damaged gzip; [`DataError::Read`] where `packed` fails.
    pub fn open(
        path: &'a Path,
        mut packed: impl BufRead + 'a,
        contents: Contents,
    ) -> Result<Self, DataError> {
        let start = packed.fill_buf().map_err(DataError::read(path))?;
        let mut source: Box<dyn Read + 'a> = match start.starts_with(&[0x1f, 0x8b]) {
            true => Box::new(MultiGzDecoder::new(packed)),
            false => Box::new(packed),
        };
        let mut magic = [0; 4];
        fill_header(path, &mut source, &mut magic, 0)?;
        let layout = layout_of(path, contents, magic)?;
        let mut sizes = vec![0; layout.header_bytes() - magic.len()];
        fill_header(path, &mut source, &mut sizes, magic.len())?;
        let sizes: Vec<u32> = sizes
            .chunks_exact(4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        check_sizes(path, contents, layout, &sizes)?;
        Ok(Self {
            path,
            source,
            contents,
            layout,
            count: sizes[0],
        })
    }

    /// Images or labels that the header announces.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Unpacks the values to `sink`, a byte for each pixel or label, and checks every byte on the way.
    ///
    /// # Errors
    /// [`DataError::Format`] where the file ends early or goes on, for a label outside 0..=255 and for
    /// damaged gzip; [`DataError::Read`] and [`DataError::Temporary`] where the file and `sink` fail.
    pub fn unpack(mut self, sink: &mut dyn Write) -> Result<(), DataError> {
        let header = self.layout.header_bytes() as u64;
        let body = u64::from(self.count).saturating_mul(self.item_bytes());
        let mut chunk = vec![0; CHUNK];
        let mut position = 0;
        while position < body {
            let wanted = (body - position).min(CHUNK as u64) as usize;
            let filled = fill(self.path, &mut self.source, &mut chunk[..wanted])?;
            if filled < wanted {
                let found = header + position + filled as u64;
                let whole = header + body;
                let problem =
                    format!("is cut short: {found} bytes unpacked of {whole}; fetch it again");
                return Err(DataError::format(self.path, problem));
            }
            let values = self.values(&chunk[..filled], position)?;
            sink.write_all(&values).map_err(|error| {
                let megabytes = (body as f64 / 1e6).ceil();
                let attempt = format!("unpack {} ({megabytes} MB)", self.path.display());
                DataError::temporary(&attempt)(error)
            })?;
            position += filled as u64;
        }
        // This read also makes gzip check its checksum.
        if fill(self.path, &mut self.source, &mut [0])? > 0 {
            let problem = format!(
                "goes on after the {} bytes that its header announces; fetch it again",
                header + body
            );
            return Err(DataError::format(self.path, problem));
        }
        Ok(())
    }

    /// Bytes of an image or label in the file.
    fn item_bytes(&self) -> u64 {
        match (self.contents, self.layout) {
            (Contents::Images([rows, columns]), _) => u64::from(rows) * u64::from(columns),
            (Contents::Labels, Layout::LabelRows) => 32,
            (Contents::Labels, _) => 1,
        }
    }

    /// The pixels or labels in `bytes`, which come after `position` others.
    fn values<'b>(&self, bytes: &'b [u8], position: u64) -> Result<Cow<'b, [u8]>, DataError> {
        if self.layout != Layout::LabelRows {
            return Ok(bytes.into());
        }
        let label = |(row, bytes): (u64, &[u8])| {
            let label = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            u8::try_from(label).map_err(|_| {
                let problem =
                    format!("has the label {label} at position {row}; labels go from 0 to 255");
                DataError::format(self.path, problem)
            })
        };
        (position / 32..)
            .zip(bytes.chunks_exact(32))
            .map(label)
            .collect()
    }
}

/// Fills `buffer` with the header's bytes from `at` on.
fn fill_header(
    path: &Path,
    source: &mut dyn Read,
    buffer: &mut [u8],
    at: usize,
) -> Result<(), DataError> {
    let filled = fill(path, source, buffer)?;
    if filled == buffer.len() {
        return Ok(());
    }
    let problem = format!(
        "is cut short: {} bytes unpacked, where the header alone takes more; fetch it again",
        at + filled
    );
    Err(DataError::format(path, problem))
}

/// Reads until `buffer` is full or the source ends; the number of bytes read.
fn fill(path: &Path, source: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, DataError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(path, error)),
        }
    }
    Ok(filled)
}

/// A plain file's `read` reports none of these three kinds, gzip's nothing else of its own.
fn read_error(path: &Path, source: io::Error) -> DataError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if !matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof) {
        return DataError::read(path)(source);
    }
    DataError::Format {
        path: path.into(),
        problem: "is damaged: its gzip stream cannot be unpacked; fetch it again".into(),
        source: Some(source),
    }
}

fn layout_of(path: &Path, contents: Contents, found: [u8; 4]) -> Result<Layout, DataError> {
    let has_magic = |layout: &&Layout| layout.magic() == found;
    if let Some(layout) = contents.layouts().iter().find(has_magic) {
        return Ok(*layout);
    }
    let other = match contents {
        Contents::Images(_) => Contents::Labels,
        Contents::Labels => Contents::Images([0; 2]),
    };
    let problem = match other.layouts().iter().find(has_magic) {
        Some(_) => format!(
            "holds {}, not {}: the files of images and labels seem to be swapped",
            other.name(),
            contents.name()
        ),
        None => {
            let magic = contents.layouts()[0].magic();
            format!(
                "starts with the bytes {found:02x?}; this IDX file has to start with {magic:02x?} (1f 8b if gzip'd)"
            )
        }
    };
    Err(DataError::format(path, problem))
}

/// Checks a header's dimensions, of which the first is the count.
fn check_sizes(
    path: &Path,
    contents: Contents,
    layout: Layout,
    sizes: &[u32],
) -> Result<(), DataError> {
    let name = contents.name();
    let problem = match (contents, layout, sizes) {
        // Dimensions before the count: they tell another kind of data set.
        (Contents::Images(shape), _, &[_, rows, columns]) if shape != [rows, columns] => {
            let [r, c] = shape;
            format!("holds images of {rows}x{columns} pixels; MNIST's format requires {r}x{c}")
        }
        (_, Layout::LabelRows, &[_, columns]) if columns != 8 => {
            format!("holds labels in {columns} columns; QMNIST has 8")
        }
        (.., &[0, ..]) => format!("holds no {name}"),
        (.., &[count, ..]) if count > MOST => {
            format!("announces {count} {name}; at most {MOST} are read")
        }
        _ => return Ok(()),
    };
    Err(DataError::format(path, problem))
}
