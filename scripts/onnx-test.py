"""Exports networks with every trunk, norm and head, and runs them in ONNX Runtime.

usage: onnx-test.py PROGRAM [RUN ...]

PROGRAM is `train`. It trains a few steps on pictures made here, once for each of CASES; RUNs are trained
already. Each model, and a copy of it with noise on all its weights, must pass ONNX's checker and give the
embeddings of `train embed` to 1e-5 of the largest, one picture at a time and seven at once, from
normalised images and from pixels.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

CASES = [
    "--trunk lenet --input 1x28x28 --head none",
    "--trunk lenet --input 3x31x22 --norm group --head none --normalised",
    "--trunk conv4 --head none --set net.hidden=[{units=9,activation='relu'},{units=5,activation='linear'}]",
    "--trunk conv4 --input 1x19x33 --norm none --set net.channels=[5,20,9] --head whitening",
    "--head none --normalised",
    "--norm none --input 3x27x21 --set net.grid=2 --head none",
    "--head whitened-features",
    "--head lda",
    "--head grid-lda",
    "--set net.every_stage=true --set net.grid=4 --head none",
]
CLASSES, PICTURES = 6, 8


def write_picture(path, pixels):
    """Writes (H, W, C) bytes as PNM."""
    height, width, channels = pixels.shape
    head = f"P{5 if channels == 1 else 6} {width} {height} 255\n"
    path.write_bytes(head.encode() + pixels.tobytes())


def write_folder(folder, rng):
    for number in range(CLASSES):
        of_class = folder / f"class {number}"
        of_class.mkdir(parents=True)
        base = rng.integers(0, 200, (24, 24, 3))
        for picture in range(PICTURES):
            pixels = base + rng.integers(0, 56, base.shape)
            write_picture(of_class / f"{picture}.ppm", pixels.astype(np.uint8))


def header(model):
    with safe_open(model, framework="numpy") as file:
        return file.metadata()


def with_noise(model, target, rng):
    """A residual block begins as the identity, and its weights would hardly count."""
    tensors = {
        name: values + rng.normal(0, 0.05, values.shape).astype(np.float32)
        for name, values in load_file(model).items()
    }
    save_file(tensors, target, header(model))


def check_metadata(graph, model, pixels):
    found, expected = {prop.key: prop.value for prop in graph.metadata_props}, header(model)
    for key in expected.keys() - {"format", "format_version"}:
        assert found[key] == expected[key], f"{key} is {found[key]}, not {expected[key]}"
    assert found["distance"] == "euclidean"
    assert found["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    steps = json.loads(found["preprocessing"])
    channels, height, width = json.loads(expected["input"])
    assert [steps["height"], steps["width"]] == [height, width]
    assert steps["colours"] == {1: "grey", 3: "rgb"}[channels]
    assert steps["normalised_in_graph"] == pixels
    normalisation = json.loads(expected["normalisation"])
    assert all(steps[key] == value for key, value in normalisation.items())
    assert found["preprocessing_steps"].endswith("."), found["preprocessing_steps"]
    assert graph.producer_name == expected["producer"] and graph.producer_version and graph.doc_string


def check(program, model, folder, rng):
    """The largest difference found, as a share of the largest value."""
    channels, height, width = json.loads(header(model)["input"])
    # On a black border: drawings on white would be inverted.
    pixels = np.zeros((7, height, width, channels), np.uint8)
    pixels[:, 1:-1, 1:-1] = rng.integers(0, 256, (7, height - 2, width - 2, channels))
    files = [folder / f"{number}.ppm" for number in range(len(pixels))]
    for file, picture in zip(files, pixels):
        write_picture(file, picture)

    def run(*arguments):
        subprocess.run([program, *arguments, "--quiet"], check=True)

    run("embed", model, *files, "--device", "cpu", "--out", folder / "embeddings")
    stored = load_file(folder / "embeddings")
    worst = 0
    for name, flags, values in ("images", [], stored["images"]), ("pixels", ["--pixels"], pixels):
        run("export", model, folder / "model.onnx", *flags)
        graph = onnx.load(folder / "model.onnx")
        onnx.checker.check_model(graph, full_check=True)
        check_metadata(graph, model, bool(flags))
        session = onnxruntime.InferenceSession(graph.SerializeToString())
        (given,), (returned,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.shape) == (name, ["N", *values.shape[1:]]), given
        expected = stored["embeddings"]
        assert (returned.name, returned.shape) == ("embeddings", ["N", expected.shape[1]]), returned
        for batch in 1, 7:
            parts = [session.run(None, {name: part})[0] for part in np.split(values, 7 // batch)]
            found = np.concatenate(parts)
            assert found.shape == expected.shape, found.shape
            difference = np.abs(found - expected).max() / np.abs(expected).max()
            # `not <=` rather than `>`: a NaN must fail.
            if not difference <= 1e-5:
                sys.exit(f"{model}: {name}, batches of {batch}: differ by {difference:.2g} of the largest")
            worst = max(worst, difference)
    return worst


def main(program, *runs):
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_folder(folder / "pictures", rng)
        fit = [program, "fit", "--data", f"folder:{folder / 'pictures'}", "--steps", "3", "--quiet"]
        fit += "--device cpu --split images --turns none --embedding 4 --set training.refit=false".split()
        fit += "--classes-per-batch 4 --samples-per-class 3".split()
        models = {run: Path(run) / "model.safetensors" for run in runs}
        for case in CASES:
            run = folder / case.replace("/", "")
            subprocess.run([*fit, *case.split(), "--out", run], check=True)
            models[case] = run / "model.safetensors"
        for name, model in models.items():
            noisy = folder / "noisy.safetensors"
            with_noise(model, noisy, rng)
            worst = max(check(program, file, folder, rng) for file in (model, noisy))
            print(f"{name}: embeddings agree to {worst:.1e} of the largest", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
