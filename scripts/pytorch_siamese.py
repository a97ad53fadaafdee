"""The networks of `model::NetworkConfig` in PyTorch, with the same names and shapes, and the loss."""

import torch
from torch import nn


class Network(nn.Module):
    """A trunk, which subclasses define, then fully connected layers."""

    def __init__(self, net, units):
        super().__init__()
        self.conv_activation = activation(net["conv_activation"])
        self.pool = nn.MaxPool2d(2)
        self.head = []
        for i, hidden in enumerate(net["hidden"], start=1):
            setattr(self, f"ip{i}", nn.Linear(units, hidden["units"]))
            self.head.append((f"ip{i}", activation(hidden["activation"])))
            units = hidden["units"]
        self.feat = nn.Linear(units, net["embedding"])

    def forward(self, x):
        x = self.trunk(x)
        for name, act in self.head:
            x = act(getattr(self, name)(x))
        return self.feat(x)


class LeNet(Network):
    def __init__(self, net):
        channels, height, width = net["input"]
        conv1, conv2 = net["channels"]
        super().__init__(net, conv2 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2))
        self.conv1 = nn.Conv2d(channels, conv1, 5)
        self.conv2 = nn.Conv2d(conv1, conv2, 5)

    def trunk(self, x):
        for conv in (self.conv1, self.conv2):
            x = self.pool(self.conv_activation(conv(x)))
        return x.flatten(1)


class SmallResNet(Network):
    def __init__(self, net):
        super().__init__(net, net["channels"][-1])
        inputs, self.stages = net["input"][0], []
        for i, filters in enumerate(net["channels"], start=1):
            stage = nn.Module()
            stage.conv = nn.Conv2d(inputs, filters, 3, padding=1)
            stage.residual1 = nn.Conv2d(filters, filters, 3, padding=1)
            stage.residual2 = nn.Conv2d(filters, filters, 3, padding=1)
            setattr(self, f"stage{i}", stage)
            self.stages.append(stage)
            inputs = filters

    def trunk(self, x):
        for stage in self.stages:
            x = self.pool(self.conv_activation(stage.conv(x)))
            residual = stage.residual2(self.conv_activation(stage.residual1(x)))
            x = self.conv_activation(x + residual)
        return x.mean((2, 3))


def network(net):
    """The network that a model file's header describes."""
    return {"lenet": LeNet, "small-resnet": SmallResNet}[net.get("trunk", "lenet")](net)


def activation(name):
    return {"linear": lambda x: x, "relu": torch.relu}[name]


def contrastive_loss(embeddings, same, margin=1.0):
    """Hadsell's loss, the mean over P pairs; `embeddings` (2P, D) holds the first sides, then the second."""
    return pair_loss(*embeddings.chunk(2), same, margin)


def pair_loss(a, b, same, margin=1.0):
    """The same, given the two sides separately, (P, D) each."""
    square = (a - b).square().sum(1)
    # PyTorch's gradient of the square root is infinite at 0.
    hinge = (margin - (square + 1e-12).sqrt()).relu().square()
    return (same * square + (1 - same) * hinge).mean() / 2
