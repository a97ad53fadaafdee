"""Checks a model file against PyTorch.

Builds the network that the file's header describes, loads the file's weights, embeds the images of
a second file and compares with the embeddings stored beside them. Exits 1 if they differ by more
than 1e-5 of the largest embedding (1e-5 where that is below 1).

usage: pytorch-embeddings.py MODEL.safetensors EMBEDDINGS.safetensors

EMBEDDINGS holds `images` (N, C, H, W), as the network takes them, and `embeddings` (N, D).
"""

import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn


class LeNet(nn.Module):
    def __init__(self, net):
        super().__init__()
        channels, height, width = net["input"]
        conv1, conv2 = net["channels"]
        self.conv1 = nn.Conv2d(channels, conv1, 5)
        self.conv2 = nn.Conv2d(conv1, conv2, 5)
        self.pool = nn.MaxPool2d(2)
        self.conv_activation = activation(net["conv_activation"])
        units = conv2 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
        self.head = []
        for i, hidden in enumerate(net["hidden"], start=1):
            setattr(self, f"ip{i}", nn.Linear(units, hidden["units"]))
            self.head.append((f"ip{i}", activation(hidden["activation"])))
            units = hidden["units"]
        self.feat = nn.Linear(units, net["embedding"])

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            x = self.pool(self.conv_activation(conv(x)))
        x = x.flatten(1)
        for name, act in self.head:
            x = act(getattr(self, name)(x))
        return self.feat(x)


def activation(name):
    return {"linear": lambda x: x, "relu": torch.relu}[name]


def main(model_path, embeddings_path):
    with safe_open(model_path, framework="pt") as file:
        net = json.loads(file.metadata()["net"])
    model = LeNet(net)
    model.load_state_dict(load_file(model_path))  # strict: no tensor missing, none left over
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
