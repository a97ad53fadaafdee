"""A training step in PyTorch and here.

usage: compare-pytorch.py SERVE_STEPS [ROUNDS [NET]]

NET is `caffe`, 64 pairs through Caffe's Siamese LeNet; or, of 60 pairs of 32x32 pixels with group
normalisation and embeddings of 64 dimensions, `conv4` or `small-resnet`.

Forward, contrastive loss, backward, SGD with momentum; f32, on the CPU. Given the same weights and
batch, both sides must give

* the same loss, to a relative 1e-5;
* the same gradients, to 1e-4 of the largest entry of each;
* the same change of the weights after two steps, so with momentum, to 1e-3 of the largest entry.

Biases that move all embeddings together have a gradient of 0; there 1e-6 is allowed for rounding. In the
deeper networks, whose pools and ReLUs decide millions of times a step, some decide by rounding alone: there
gradients and changes may differ by 2e-2.

Then times ROUNDS (15) alternating rounds of 20 steps each, with 1 and with 2 threads. PyTorch runs
with default settings (eager) and with network and images in channels_last, its fastest form;
torch.compile needs a C++ compiler and gains nothing here. Ratios are taken within a round, so a busy
machine slows both sides.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from pytorch_siamese import contrastive_loss, network
from safetensors.torch import load_file, save_file

STEPS = 20
CAFFE = {
    "input": [1, 28, 28],
    "channels": [20, 50],
    "conv_activation": "linear",
    "hidden": [
        {"units": 500, "activation": "relu"},
        {"units": 10, "activation": "linear"},
    ],
    "embedding": 2,
}
NORMED = {"input": [1, 32, 32], "conv_activation": "relu", "norm": "group", "embedding": 64}
CONV4 = {"trunk": "conv4", "channels": [64] * 4, "hidden": []}
SMALL_RESNET = {
    "trunk": "small-resnet",
    "channels": [32, 64, 128],
    "hidden": [{"units": 128, "activation": "relu"}],
}
# Each with its pairs in a step, and by how much gradients and changes may differ.
NETS = {
    "caffe": (CAFFE, 64, (1e-4, 1e-3)),
    "conv4": (NORMED | CONV4, 60, (2e-2, 2e-2)),
    "small-resnet": (NORMED | SMALL_RESNET, 60, (2e-2, 2e-2)),
}


class Torch:
    def __init__(self, net, start, layout):
        self.net = network(net).to(memory_format=layout)
        self.net.load_state_dict({name: start[name] for name in self.net.state_dict()})
        self.images = start["images"].to(memory_format=layout)
        self.same = start["same"].float()
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)

    def step(self):
        self.optimiser.zero_grad()
        loss = contrastive_loss(self.net(self.images), self.same)
        loss.backward()
        self.optimiser.step()
        return loss

    def seconds(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - start


class Ours:
    def __init__(self, program, net, start_file, result_file, threads):
        # As in the program `train`: without candle's own threads.
        environment = {"RAYON_NUM_THREADS": str(threads), "CANDLE_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [program, json.dumps(net), start_file, result_file],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{program} failed")

    def seconds(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check(net, tolerances, start, result):
    def agree(what, found, expected, tolerance):
        worst = (found - expected).abs().max().item()
        allowed = max(tolerance * expected.abs().max().item(), 1e-6)
        # `not <=` rather than `>`: a NaN must fail.
        if not worst <= allowed:
            sys.exit(f"{what} differs by {worst:.3g}; {allowed:.3g} is allowed")
        return worst / allowed

    of_gradient, of_change = tolerances
    torch_side = Torch(net, start, torch.contiguous_format)
    loss = torch_side.step().detach()
    worst = [agree("the loss", result["loss"], loss, 1e-5)]
    for name, parameter in torch_side.net.named_parameters():
        found = result[f"gradient.{name}"]
        worst.append(agree(f"the gradient of {name}", found, parameter.grad, of_gradient))
    torch_side.step()
    for name, parameter in torch_side.net.named_parameters():
        found = result[f"after.{name}"] - start[name]
        moved = parameter.detach() - start[name]
        worst.append(agree(f"the change of {name}", found, moved, of_change))
    print(
        f"torch {torch.__version__}: loss {loss.item():.6f}; loss, gradients and the changes of two "
        f"steps agree; the largest difference is {100 * max(worst):.0f}% of what is allowed"
    )


def main(program, rounds=15, net="caffe"):
    net, pairs, tolerances = NETS[net]
    torch.manual_seed(1)
    start = {name: value.clone() for name, value in network(net).state_dict().items()}
    start["images"] = torch.rand(2 * pairs, *net["input"])
    start["same"] = torch.randint(0, 2, (pairs,), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        start_file, result_file = Path(folder) / "start", Path(folder) / "result"
        save_file(start, start_file)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            ours = Ours(program, net, start_file, result_file, threads)
            check(net, tolerances, start, load_file(result_file))
            sides = {
                "eager": Torch(net, start, torch.contiguous_format),
                "channels_last": Torch(net, start, torch.channels_last),
                "ours": ours,
            }
            for side in sides.values():
                side.seconds(STEPS)
            times = {name: [] for name in sides}
            for _ in range(int(rounds)):
                for name, side in sides.items():
                    # PyTorch's threads keep spinning for a while.
                    time.sleep(0.05)
                    times[name].append(side.seconds(STEPS) / STEPS * 1e3)
            ours.close()
            print(f"{threads} thread{'s'[: threads - 1]}, ms per step, medians of {rounds} rounds:")
            for name, values in times.items():
                ratios = sorted(value / our for value, our in zip(values, times["ours"]))
                print(
                    f"  {name:14} {median(values):6.2f}   {median(ratios):.2f} times ours "
                    f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
                )


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
