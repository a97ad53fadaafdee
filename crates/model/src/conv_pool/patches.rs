use super::Geometry;
use super::cpu::Real;

/// im2col: writes the patch under the kernel at every position of every image as one row, in
/// (kh, kw, C) order. In NHWC one kernel row of a patch is one run of memory.
pub(super) fn gather<T: Real>(geometry: &Geometry, images: &[T], patches: &mut [T]) {
    if geometry.kernel[1] * geometry.channels == 5 {
        // LeNet's first layer: a length known to the compiler spares a call for five numbers.
        for_each_run(geometry, images.len(), |image, patch, _| {
            patches[patch..][..5].copy_from_slice(&images[image..][..5]);
        });
    } else {
        for_each_run(geometry, images.len(), |image, patch, run| {
            patches[patch..][..run].copy_from_slice(&images[image..][..run]);
        });
    }
}

/// col2im: adds every patch's gradient back onto the pixels it was taken from.
pub(super) fn scatter_add<T: Real>(geometry: &Geometry, patches: &[T], images: &mut [T]) {
    for_each_run(geometry, images.len(), |image, patch, run| {
        for (pixel, gradient) in images[image..][..run]
            .iter_mut()
            .zip(&patches[patch..][..run])
        {
            *pixel += *gradient;
        }
    });
}

/// Calls `visit(offset in the images, offset in the patches, length)` for every kernel row of
/// every patch.
fn for_each_run(
    geometry: &Geometry,
    images_len: usize,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let [kernel_height, kernel_width] = geometry.kernel;
    let run = kernel_width * geometry.channels;
    let row_len = geometry.width * geometry.channels;
    let mut patch_row = 0;
    for image in (0..images_len).step_by(geometry.image_len()) {
        for y in 0..geometry.conv_height() {
            for a in 0..kernel_height {
                let image_row = image + (y + a) * row_len;
                let mut patch = patch_row + a * run;
                for x in 0..geometry.conv_width() {
                    visit(image_row + x * geometry.channels, patch, run);
                    patch += geometry.patch_len();
                }
            }
            patch_row += geometry.conv_width() * geometry.patch_len();
        }
    }
}
