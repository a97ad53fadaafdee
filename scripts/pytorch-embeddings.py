"""Checks a model file against PyTorch.

Builds the network that the file's header describes, loads the file's weights, embeds the images in a
second file, and compares the result with the embeddings stored there. Exits 1 if they differ by more
than 1e-5 of the largest value (or 1e-5 if that is below 1).

usage: pytorch-embeddings.py MODEL.safetensors EMBEDDINGS.safetensors

EMBEDDINGS holds `images` (N, C, H, W), the network's input, and `embeddings` (N, D).
"""

import json
import sys

import torch
from pytorch_siamese import network
from safetensors import safe_open
from safetensors.torch import load_file


def main(model_path, embeddings_path):
    with safe_open(model_path, framework="pt") as file:
        net = json.loads(file.metadata()["net"])
    model = network(net)
    model.load_state_dict(load_file(model_path))  # strict: no missing tensors, no extra ones
    model.eval()

    stored = load_file(embeddings_path)
    expected = stored["embeddings"]
    with torch.no_grad():
        found = model(stored["images"])
    if found.shape != expected.shape or len(expected) == 0:
        sys.exit(f"PyTorch's embeddings are {tuple(found.shape)}, stored {tuple(expected.shape)}")
    difference = (found - expected).abs().max().item()
    largest = expected.abs().max().item()
    allowed = 1e-5 * max(1.0, largest)
    print(
        f"torch {torch.__version__}: {len(expected)} embeddings, largest |value| {largest:.4g}, "
        f"largest difference {difference:.3g} (allowed {allowed:.3g})"
    )
    # `not <=` rather than `>`: a NaN must fail.
    if not difference <= allowed:
        sys.exit("the embeddings differ")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
