"""The networks of `model::NetworkConfig` in PyTorch, with the same names and shapes, and the loss."""

import torch
from torch import nn


class Network(nn.Module):
    """A trunk, which subclasses define, then fully connected layers."""

    def __init__(self, net, units):
        super().__init__()
        self.conv_activation = activation(net["conv_activation"])
        self.normed = net.get("norm", "none") == "group"
        self.pool = nn.MaxPool2d(2)
        self.head = []
        for i, hidden in enumerate(net["hidden"], start=1):
            setattr(self, f"ip{i}", nn.Linear(units, hidden["units"]))
            self.head.append((f"ip{i}", activation(hidden["activation"])))
            units = hidden["units"]
        self.feat = nn.Linear(units, net["embedding"])

    def conv(self, module, name, *args, **kwargs):
        """Gives a module a convolution and, where the network has them, its norm."""
        conv = nn.Conv2d(*args, **kwargs)
        setattr(module, name, conv)
        if self.normed:
            setattr(module, f"{name}_norm", group_norm(conv.out_channels))

    def norm(self, module, name, x):
        return getattr(module, f"{name}_norm")(x) if self.normed else x

    def block(self, module, name, x):
        """Convolution, pool, norm, activation; without a norm, the activation before the pool, as is usual."""
        x = getattr(module, name)(x)
        if not self.normed:
            return self.pool(self.conv_activation(x))
        return self.conv_activation(self.norm(module, name, self.pool(x)))

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
        self.conv(self, "conv1", channels, conv1, 5)
        self.conv(self, "conv2", conv1, conv2, 5)

    def trunk(self, x):
        for name in ("conv1", "conv2"):
            x = self.block(self, name, x)
        return x.flatten(1)


class SmallResNet(Network):
    def __init__(self, net):
        grid, every_stage = net.get("grid", 1), net.get("every_stage", False)
        seen = net["channels"] if every_stage else net["channels"][-1:]
        super().__init__(net, sum(seen) * grid**2)
        self.grid, self.seen = grid, len(seen)
        inputs, self.stages = net["input"][0], []
        for i, filters in enumerate(net["channels"], start=1):
            stage = nn.Module()
            self.conv(stage, "conv", inputs, filters, 3, padding=1)
            self.conv(stage, "residual1", filters, filters, 3, padding=1)
            self.conv(stage, "residual2", filters, filters, 3, padding=1)
            setattr(self, f"stage{i}", stage)
            self.stages.append(stage)
            inputs = filters

    def trunk(self, x):
        maps = []
        for stage in self.stages:
            x = self.block(stage, "conv", x)
            residual = self.norm(stage, "residual1", stage.residual1(x))
            residual = stage.residual2(self.conv_activation(residual))
            x = self.conv_activation(x + self.norm(stage, "residual2", residual))
            maps.append(x)
        features = [nn.functional.adaptive_avg_pool2d(x, self.grid).flatten(1) for x in maps[-self.seen :]]
        return torch.cat(features, 1)


class Conv4(Network):
    def __init__(self, net):
        inputs, height, width = net["input"]
        filters = net["channels"]
        blocks = len(filters)
        super().__init__(net, filters[-1] * (height >> blocks) * (width >> blocks))
        self.names = [f"conv{i}" for i in range(1, blocks + 1)]
        for name, inputs, outputs in zip(self.names, [inputs, *filters], filters):
            self.conv(self, name, inputs, outputs, 3, padding=1)

    def trunk(self, x):
        for name in self.names:
            x = self.block(self, name, x)
        return x.flatten(1)


def group_norm(channels):
    """8 groups where 8 divides the channels, else their largest divisor below 8."""
    return nn.GroupNorm(next(groups for groups in range(8, 0, -1) if channels % groups == 0), channels)


def network(net):
    """The network that a model file's header describes."""
    return {"lenet": LeNet, "small-resnet": SmallResNet, "conv4": Conv4}[net.get("trunk", "lenet")](net)


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
