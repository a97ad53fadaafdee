"""The networks of `model::LeNetConfig` in PyTorch, with the same names and shapes, and the loss."""

import torch
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


def contrastive_loss(embeddings, same, margin=1.0):
    """Hadsell's loss, the mean over P pairs; `embeddings` (2P, D) has all first sides first."""
    return pair_loss(*embeddings.chunk(2), same, margin)


def pair_loss(a, b, same, margin=1.0):
    """The same of the two sides, (P, D) each."""
    square = (a - b).square().sum(1)
    # PyTorch's gradient of a root is infinite at 0.
    hinge = (margin - (square + 1e-12).sqrt()).relu().square()
    return (same * square + (1 - same) * hinge).mean() / 2
