"""Seconds until enough test pairs are judged correctly, here and in PyTorch, with the same recipe.

usage: time-to-accuracy.py TRAIN digits|mnist:DIR ACCURACY [flags of `train fit`]

The recipe is that of `train fit --print-config`: data and validation split, balanced pairs, rotation
and shift, normalisation, network and its initialisation, loss, AdamW, cosine schedule with warm-up.
After every epoch, both choose the threshold that is best for pairs of validation images and apply it
to the test pairs; the first epoch that reaches ACCURACY ends the run. The random numbers differ, so
the epoch may too. Both use all processors.

Time runs from the start of our process, and in PyTorch from after its import (a few seconds), so that
this is not counted; both include reading the data and evaluating. PyTorch rotates and shifts images as
one batch, which is faster than its data loader, and uses channels_last and the fused optimiser, its
fastest settings.
"""

import gzip
import json
import math
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import torch
from pytorch_siamese import LeNet, contrastive_loss
from torch.nn import functional as F

DIGITS = Path(__file__).parent.parent / "crates/data/digits"


def ours(program, flags, accuracy):
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = subprocess.Popen(
            [program, "fit", *flags, "--json", "--out", f"{folder}/run"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in run.stdout:
            line = json.loads(line)
            if "epoch" in line:
                yield time.perf_counter() - start, line["epoch"], line["test_accuracy"]
                if line["test_accuracy"] >= accuracy:
                    run.terminate()
                    break
        run.wait()


def idx(folder, name):
    path = folder / name
    bytes_ = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
    dimensions = bytes_[3]
    shape = np.frombuffer(bytes_, ">u4", dimensions, 4)
    return torch.from_numpy(np.frombuffer(bytes_, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy())


def load(source):
    """Images (N, 1, 28, 28) and labels (N,), for training and for testing."""
    if source == "digits":
        images, labels = (idx(DIGITS, f"{name}-ubyte") for name in ("images-idx3", "labels-idx1"))
        test = torch.zeros(len(labels), dtype=torch.bool)
        for label in labels.unique():
            members = (labels == label).nonzero().flatten()
            test[members[len(members) - (len(members) + 2) // 5 :]] = True
        parts = [(images[which], labels[which]) for which in (~test, test)]
    else:
        folder = Path(source.removeprefix("mnist:"))
        parts = [
            (idx(folder, f"{part}-images-idx3-ubyte"), idx(folder, f"{part}-labels-idx1-ubyte"))
            for part in ("train", "t10k")
        ]
    return [(images[:, None], labels.long()) for images, labels in parts]


class Pairs:
    """Balanced pairs of images: half similar, half dissimilar."""

    def __init__(self, labels):
        self.order = labels.argsort(stable=True)
        count = labels.bincount()
        start = count.cumsum(0) - count
        self.start, self.count = (of_class[labels[self.order]] for of_class in (start, count))

    def draw(self, pairs):
        first = torch.randint(len(self.order), (pairs,))
        same = (torch.arange(pairs) < pairs // 2).float()
        start, count = self.start[first], self.count[first]
        uniform = torch.rand(pairs, dtype=torch.float64)
        other = 1 + (uniform * (count - 1)).long()
        similar = start + (first - start + other) % count
        different = (uniform * (len(self.order) - count)).long()
        different += count * (different >= start)
        second = torch.where(same > 0, similar, different)
        return self.order[torch.cat([first, second])], same


def augment(images, shift, rotation):
    n, side = len(images), images.shape[-1]
    angle = (torch.rand(n) * 2 - 1) * math.radians(rotation)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).view(n, 2, 2)
    move = torch.randint(-shift, shift + 1, (n, 2, 1)) * (2 / (side - 1))
    grid = F.affine_grid(torch.cat([turn, -turn @ move], 2), images.shape, align_corners=True)
    return F.grid_sample(images, grid, align_corners=True)


def schedule(step, steps, settings):
    warm_up, floor = settings["warm_up"], settings["floor"]
    progress = min(max(step - warm_up, 0) / max(steps - warm_up, 1), 1)
    factor = floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
    return factor * min((step + 1) / max(warm_up, 1), 1)


def pytorch(config, accuracy):
    start = time.perf_counter()
    torch.manual_seed(config["seed"])
    transform, settings = config["transform"], config["optimiser"]
    (images, labels), (test_images, test_labels) = load(config["data"]["source"])
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        share = round(len(members) * config["data"]["validation"])
        held_out[members[torch.randperm(len(members))[:share]]] = True

    def normalised(raw):
        raw = (raw * transform["scale"] - transform["mean"]) / transform["std"]
        return raw.to(memory_format=torch.channels_last)

    judged = []
    for raw, its_labels in ((images[held_out], labels[held_out]), (test_images, test_labels)):
        judged.append((normalised(raw.float()), Pairs(its_labels).draw(config["data"]["evaluation_pairs"])))
    images, labels = images[~held_out].float(), labels[~held_out]

    net = LeNet(config["net"]).to(memory_format=torch.channels_last)
    for parameter in net.parameters():
        bound = math.sqrt(3 / parameter[0].numel()) if parameter.dim() > 1 else 0
        torch.nn.init.uniform_(parameter, -bound, bound)
    optimiser = torch.optim.AdamW(
        net.parameters(),
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )

    def distances(images, drawn):
        with torch.no_grad():
            embeddings = torch.cat([net(part) for part in images.split(256)])
        a, b = embeddings[drawn[0]].chunk(2)
        return (a - b).norm(dim=1), drawn[1] > 0

    def test_accuracy():
        (distance, same), (test_distance, test_same) = (distances(*each) for each in judged)
        distance, order = distance.sort()
        # Correct verdicts if the nearest k + 1 pairs are judged the same.
        right = (2 * same[order].long() - 1).cumsum(0)
        threshold = distance[right.argmax()]
        return ((test_distance <= threshold) == test_same).float().mean().item()

    pairs, batch = Pairs(labels), config["training"]["pairs_per_batch"]
    epoch = max(len(labels) // (2 * batch), 1)
    count, unit = config["training"]["length"].split()
    steps = int(count) * (epoch if unit == "epochs" else 1)
    for step in range(steps):
        which, same = pairs.draw(batch)
        input_ = normalised(augment(images[which], transform["shift"], transform["rotation"]))
        for group in optimiser.param_groups:
            group["lr"] = settings["learning_rate"] * schedule(step, steps, config["schedule"])
        optimiser.zero_grad()
        contrastive_loss(net(input_), same, config["loss"]["margin"]).backward()
        optimiser.step()
        if (step + 1) % epoch == 0 or step + 1 == steps:
            found = test_accuracy()
            yield time.perf_counter() - start, (step + 1) // epoch, found
            if found >= accuracy:
                return


def main(program, source, accuracy, *flags):
    accuracy, flags = float(accuracy), ["--data", source, *flags]
    text = subprocess.run(
        [program, "fit", *flags, "--print-config"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    config = tomllib.loads(text)
    recipe = [
        config["optimiser"]["rule"],
        config["optimiser"]["bias_rate"],
        config["schedule"]["policy"],
        config["data"]["pairing"],
        config["loss"]["variant"],
    ]
    if recipe != ["adam-w", 1.0, "cosine", "balanced", "hadsell"]:
        sys.exit(f"the recipe {recipe} is not implemented in PyTorch here")
    for name, epochs in (
        ("ours", ours(program, flags, accuracy)),
        (f"torch {torch.__version__}", pytorch(config, accuracy)),
    ):
        best = 0
        for seconds, epoch, found in epochs:
            best = max(best, found)
        reached = "reached" if best >= accuracy else f"NOT reached (best {best:.2%})"
        print(
            f"{name}: {accuracy:.2%} {reached} after {seconds:.1f} s, {epoch} epochs; "
            f"{60 * epoch / seconds:.1f} epochs per minute, evaluations included",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
