//! Pixels as they are decoded.

use super::Size;

/// A picture of 8 bits a value: the channels of a pixel side by side, row by row.
pub(super) struct Raster {
    pub pixels: Vec<u8>,
    pub size: Size,
    /// 1 for grey, 3 for colour.
    pub channels: usize,
}

impl Raster {
    /// One channel after the other.
    pub fn into_planes(self) -> Vec<u8> {
        if self.channels == 1 {
            return self.pixels;
        }
        let plane = |channel| self.pixels[channel..].iter().step_by(self.channels);
        (0..self.channels).flat_map(plane).copied().collect()
    }

    /// The median of a channel over the picture's border.
    pub fn background(&self, channel: usize) -> u8 {
        background(&self.pixels, self.size, self.channels, channel)
    }
}

/// The median of one of `channels` over the border of a picture.
pub(super) fn background(pixels: &[u8], size: Size, channels: usize, channel: usize) -> u8 {
    let Size(width, height) = size;
    let mut border = Vec::with_capacity(2 * (width + height));
    for (y, row) in pixels.chunks_exact(width * channels).enumerate() {
        let columns = match y == 0 || y == height - 1 {
            true => 1,
            false => (width - 1).max(1),
        };
        border.extend(row[channel..].iter().step_by(columns * channels));
    }
    let middle = border.len() / 2;
    *border.select_nth_unstable(middle).1
}
