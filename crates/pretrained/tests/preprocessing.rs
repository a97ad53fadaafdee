//! What the files beside an encoder say, as their makers mean it.

use std::fs;

use data::{Filter, Resize};
use pretrained::{ColourOrder, Known, Preprocessing};

/// What is read from a file of this name and text.
fn read(name: &str, text: &str) -> Result<Preprocessing, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    let known = Known::beside(&folder.path().join("trunk.onnx"));
    let (known, path) = known.map_err(|error| error.to_string())?.unwrap();
    assert!(path.ends_with(name));
    known.complete("there").map_err(|error| error.to_string())
}

const HUGGING_FACE: &str = "preprocessor_config.json";
const TIMM: &str = "config.json";

#[test]
fn dinov2_of_hugging_face() {
    let text = r#"{"crop_size": {"height": 224, "width": 224}, "do_center_crop": true,
        "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "BitImageProcessor",
        "image_std": [0.229, 0.224, 0.225], "resample": 3, "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 256}}"#;
    let expected = Preprocessing {
        size: [224, 224],
        resize: Resize::Shorter(256),
        interpolation: Filter::Bicubic,
        scale: 0.00392156862745098,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        colours: ColourOrder::Rgb,
    };
    assert_eq!(read(HUGGING_FACE, text), Ok(expected));
}

#[test]
fn a_vision_transformer_of_hugging_face_squashes() {
    let text = r#"{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": 224}"#;
    let found = read(HUGGING_FACE, text).unwrap();
    assert_eq!(found.size, [224, 224]);
    assert_eq!(found.resize, Resize::Exact([224, 224]));
    assert_eq!(found.interpolation, Filter::Bilinear);
    assert_eq!(found.scale, 1.0 / 255.0);
}

#[test]
fn sizes_as_hugging_face_writes_them() {
    let of = |rest: &str| {
        let text = format!(
            r#"{{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "resample": 0, {rest}}}"#
        );
        read(HUGGING_FACE, &text).map(|found| (found.size, found.resize))
    };
    let crop = r#""size": 256, "crop_size": 224, "do_center_crop": true"#;
    assert_eq!(of(crop), Ok(([224, 224], Resize::Shorter(256))));
    let both = r#""size": {"height": 240, "width": 320}"#;
    assert_eq!(of(both), Ok(([240, 320], Resize::Exact([240, 320]))));
    // ConvNeXt: small ones are cut, large ones are not.
    let small = r#""size": {"shortest_edge": 224}, "crop_pct": 0.875"#;
    assert_eq!(of(small), Ok(([224, 224], Resize::Shorter(256))));
    let large = r#""size": {"shortest_edge": 384}, "crop_pct": 0.875"#;
    assert_eq!(of(large), Ok(([384, 384], Resize::Exact([384, 384]))));
    let open = of(r#""size": {"shortest_edge": 224}"#).unwrap_err();
    assert!(open.contains("different sizes"), "{open}");
    let off = of(r#""size": 224, "do_resize": false"#).unwrap_err();
    assert!(off.contains("do_resize"), "{off}");
}

#[test]
fn efficientnet_of_timm() {
    let text = r#"{"architecture": "tf_efficientnet_lite0", "num_classes": 1000,
        "pretrained_cfg": {"input_size": [3, 224, 224], "fixed_input_size": false,
        "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "classifier": "classifier"}}"#;
    let expected = Preprocessing {
        size: [224, 224],
        resize: Resize::Shorter(256),
        interpolation: Filter::Bicubic,
        scale: 1.0 / 255.0,
        mean: [0.5; 3],
        std: [0.5; 3],
        colours: ColourOrder::Rgb,
    };
    assert_eq!(read(TIMM, text), Ok(expected));
    // 224 / 0.9 = 248.9
    let cropped = read(TIMM, &text.replace("0.875", "0.9")).unwrap();
    assert_eq!(cropped.resize, Resize::Shorter(248));
    let squashed = read(TIMM, &text.replace("center", "squash")).unwrap();
    assert_eq!(squashed.resize, Resize::Exact([256, 256]));
    let border = read(TIMM, &text.replace("center", "border")).unwrap_err();
    assert!(border.contains("`crop_mode` border"), "{border}");
}

#[test]
fn nothing_is_guessed() {
    let text = r#"{"size": 224, "resample": 2, "image_mean": [0.5, 0.5, 0.5]}"#;
    let error = read(HUGGING_FACE, text).unwrap_err();
    assert!(error.ends_with("has no `image_std`"), "{error}");
    for (name, text, words) in [
        (HUGGING_FACE, "[", "is not JSON"),
        (TIMM, r#"{"model_type": "vit"}"#, "has no `pretrained_cfg`"),
        (HUGGING_FACE, r#"{"size": "large"}"#, "`size` is"),
    ] {
        let error = read(name, text).unwrap_err();
        assert!(error.contains(name) && error.contains(words), "{error}");
    }
    let known = Known {
        size: Some([224, 224]),
        mean: Some([0.5; 3]),
        ..Known::default()
    };
    let error = known.clone().complete("here").unwrap_err().to_string();
    let words = "resize, interpolation, std missing";
    assert!(
        error.starts_with("here: ") && error.contains(words),
        "{error}"
    );
    assert_eq!(
        Known::beside(std::path::Path::new("no/such.onnx")).unwrap(),
        None
    );
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let known = Known {
        size: Some([224, 224]),
        resize: Some(Resize::Shorter(256)),
        interpolation: Some(Filter::Bicubic),
        mean: Some([0.5; 3]),
        std: Some([0.5; 3]),
        ..Known::default()
    };
    assert!(known.clone().complete("here").is_ok());
    let refused = |wrong: Known, words: &str| {
        let error = wrong.or(known.clone()).complete("here").unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    let default = Known::default;
    refused(
        Known {
            size: Some([0, 224]),
            ..default()
        },
        "the size is 0x224",
    );
    refused(
        Known {
            size: Some([288, 288]),
            ..default()
        },
        "a shorter side of 256",
    );
    refused(
        Known {
            resize: Some(Resize::Exact([256, 200])),
            ..default()
        },
        "256x200",
    );
    refused(
        Known {
            std: Some([0.5, 0.0, 0.5]),
            ..default()
        },
        "above 0",
    );
    refused(
        Known {
            scale: Some(f64::NAN),
            ..default()
        },
        "above 0",
    );
    refused(
        Known {
            mean: Some([0.5, f64::INFINITY, 0.5]),
            ..default()
        },
        "finite",
    );
}
