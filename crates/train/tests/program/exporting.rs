//! `train export`. That other programs understand the file is for `scripts/onnx-test.sh` to say.

use std::fs;

use data::Manifest;

use crate::scratch::Scratch;

#[test]
fn a_run_and_its_model_file_give_the_same_export() {
    let scratch = Scratch::with_run();
    let ended = scratch.succeeds("export run new/model.onnx");
    assert_eq!(ended.stderr, "wrote new/model.onnx\n");
    scratch.succeeds("export run/model.safetensors other.onnx --quiet");
    let bytes = scratch.read("new/model.onnx");
    assert!(bytes == scratch.read("other.onnx"));
    // It replaces what is there, as `embed` does.
    scratch.succeeds("export run other.onnx --pixels");
    assert!(bytes != scratch.read("other.onnx"));

    // Strings lie in the file as they are.
    let text = String::from_utf8_lossy(&bytes);
    let hash = Manifest::content_of(&scratch.path("run/model.safetensors")).unwrap();
    for part in [
        hash.as_str(),
        r#""colours":"grey","height":28,"width":28,"framing":"ink","scale":0.003921569,"#,
        r#""normalised_in_graph":false"#,
        "the longer side to 20",
        "euclidean",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn the_model_itself_is_never_replaced() {
    let scratch = Scratch::with_run();
    for target in ["run/model.safetensors", "run/../run/model.safetensors"] {
        let line = format!("export run {target}");
        scratch.refuses(2, &line, &[target, "is the model itself"]);
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let scratch = Scratch::with_run();
    let words = ["cannot load the model quick.toml", "safetensors"];
    scratch.refuses(1, "export quick.toml model.onnx", &words);
    scratch.refuses(
        1,
        "export nothing model.onnx",
        &["cannot load the model nothing"],
    );
    fs::remove_file(scratch.path("run/model.safetensors")).unwrap();
    let words = ["has no trained model yet", "--resume run"];
    scratch.refuses(2, "export run model.onnx", &words);
}
