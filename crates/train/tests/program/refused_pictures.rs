use image::GrayImage;

use crate::scratch::Scratch;

#[test]
fn a_picture_that_shows_nothing_usable_is_named() {
    let scratch = Scratch::with_run();
    let picture = GrayImage::from_fn(60, 60, |x, y| [((x * y) % 256) as u8].into());
    picture.save(scratch.path("good.png")).unwrap();
    let png = scratch.read("good.png");
    scratch.write("truncated.png", &png[..png.len() / 2]);
    scratch.write("text.png", "not a picture");
    scratch.write("empty.png", "");
    GrayImage::new(28, 28)
        .save(scratch.path("blank.png"))
        .unwrap();
    for (name, word) in [
        ("missing.png", "cannot read"),
        ("truncated.png", "cannot be read"),
        ("text.png", "as a picture"),
        ("empty.png", "as a picture"),
        ("blank.png", "blank"),
    ] {
        scratch.refuses(1, &format!("verify run good.png {name}"), &[name, word]);
        scratch.refuses(
            1,
            &format!("embed run {name} --out e.safetensors"),
            &[name, word],
        );
    }
}

#[test]
fn a_threshold_that_is_no_distance_is_named() {
    let scratch = Scratch::with_run();
    for threshold in ["nan", "inf"] {
        let line = format!("verify run a.png b.png --threshold {threshold}");
        scratch.refuses(2, &line, &["--threshold"]);
    }
}
