"""What the defaults make of a folder of pictures, beside pixels and beside PyTorch.

Run through compare-pictures.sh. Prints rows of a Markdown table: the equal error rate, the share of test
pictures whose nearest other shows the same class (P@1), and the error of 20-way one-shot classification,
within a group where the classes are in groups.

usage: compare-pictures.py TRAIN FOLDER [flags of `train fit`]

PyTorch has the same pictures in the same parts (data.csv), and the recipe of the run's config.toml:
network, loss over all pairs, batches, turned classes, shift and rotation, AdamW, cosine schedule. It trains
for as many steps as fit into the seconds that our run took, evaluations and head included, keeps the last
weights, and has no head. It uses channels_last, its fastest setting, and as many threads as there are cores.
"""

import csv
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
from PIL import Image
from pytorch_siamese import network
from torch.nn import functional as F

# What trial runs of the few-shot classification draw, and how many pairs are judged.
TRIALS, WAYS, PAIRS = 2000, 20, 20_000
# Steps whose time says how many fit.
PROBE = 30


def ours(program, folder, flags, run):
    command = [program, "fit", "--data", f"folder:{folder}", "--out", run, "--quiet", *flags]
    subprocess.run(command, check=True)
    shots = [program, "evaluate", run, "--one-shot", str(WAYS), "--json"]
    grouped = subprocess.run([*shots, "--within-groups"], capture_output=True, text=True)
    shots = grouped if grouped.returncode == 0 else subprocess.run(shots, capture_output=True, text=True)
    return json.loads((run / "summary.json").read_text()), shots, grouped.returncode == 0


def picture(path, shape):
    """A picture as the program prepares it, but for the resampling filter: (C, H, W), bytes."""
    channels, height, width = shape
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("L" if channels == 1 else "RGB")
    scale = min(width / image.width, height / image.height)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = tuple(int(value) for value in np.median(border, axis=0))
    framed = Image.new(image.mode, (width, height), ground if channels == 3 else ground[0])
    framed.paste(image.resize(size, Image.Resampling.BICUBIC), ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(framed).reshape(height, width, channels).transpose(2, 0, 1)


def parts(folder, listed, shape):
    """Images, labels and groups of the training and test pictures."""
    with open(listed, newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["class"] for row in rows})
    groups = [name.rsplit("/", 1)[0] if "/" in name else "" for name in classes]
    number = {name: i for i, name in enumerate(classes)}
    group = {name: i for i, name in enumerate(sorted(set(groups)))}
    trained = {row["class"] for row in rows if row["part"] == "train"}
    for part in ("train", "test"):
        # Test pictures of trained classes are the closed set's.
        chosen = [r for r in rows if r["part"] == part and (part == "train" or r["class"] not in trained)]
        images = np.stack([picture(folder / row["name"], shape) for row in chosen])
        labels = np.array([number[row["class"]] for row in chosen])
        yield torch.from_numpy(images), labels, np.array([group[groups[label]] for label in labels])


def augment(x, transform):
    n, _, _, side = x.shape
    angle = (torch.rand(n) * 2 - 1) * math.radians(transform["rotation"])
    cos, sin = angle.cos(), angle.sin()
    move = torch.randint(-transform["shift"], transform["shift"] + 1, (n, 2)) * (2 / side)
    rows = [torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), x.shape, align_corners=False)
    return F.grid_sample(x, grid, align_corners=False, padding_mode="border")


def batches(images, labels, config, rng):
    classes, samples = config["in_batch"]["classes_per_batch"], config["in_batch"]["samples_per_class"]
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    members = [which for which in members if len(which) >= samples]
    turns = {"none": 1, "mirror": 2, "quarter": 4, "both": 8}[config["data"]["turns"]]
    transform = config["transform"]
    while True:
        chosen = rng.permutation(len(members))[:classes]
        drawn = np.concatenate([rng.choice(members[c], samples, replace=False) for c in chosen])
        x = augment(images[drawn].float(), transform).unflatten(0, (len(chosen), samples))
        for i, turn in enumerate(rng.integers(0, turns, len(chosen))):
            turned = torch.rot90(x[i], int(turn % 4) if turns > 2 else 0, (2, 3))
            x[i] = turned.flip(3) if turn >= 4 or (turns == 2 and turn) else turned
        x = (x.flatten(0, 1) * transform["scale"] - transform["mean"]) / transform["std"]
        yield x.contiguous(memory_format=torch.channels_last), torch.arange(len(chosen)).repeat_interleave(samples)


def loss(embeddings, labels):
    """Hadsell's loss over all pairs, the mean over those that have one, both kinds alike."""
    one, other = torch.triu_indices(len(labels), len(labels), 1)
    square = (embeddings[one] - embeddings[other]).square().sum(1)
    same = labels[one] == labels[other]
    hinge = (1 - (square + 1e-12).sqrt()).relu().square()
    kinds = [square[same] / 2, hinge[~same] / 2]
    return sum(kind.sum() / (kind > 0).sum().clamp(min=1) for kind in kinds) / 2


def trained(config, images, labels, steps):
    torch.manual_seed(config["seed"])
    net = network(config["net"]).to(memory_format=torch.channels_last)
    for name, parameter in net.named_parameters():
        if name.endswith("residual2_norm.weight"):
            torch.nn.init.zeros_(parameter)
    settings, schedule = config["optimiser"], config["schedule"]
    rate, warm_up, floor = settings["learning_rate"], schedule["warm_up"], schedule["floor"]
    groups = [
        {"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate, fused=True)
    drawn = batches(images, labels, config, np.random.default_rng(config["seed"]))
    for step in range(steps):
        left = floor + (1 - floor) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate * left * min((step + 1) / warm_up, 1)
        x, y = next(drawn)
        optimiser.zero_grad()
        loss(net(x), y).backward()
        optimiser.step()
    return net


@torch.no_grad()
def embed(net, images, transform):
    scaled = (images.float() * transform["scale"] - transform["mean"]) / transform["std"]
    return torch.cat([net(x.contiguous(memory_format=torch.channels_last)) for x in scaled.split(256)]).double().numpy()


def figures(embeddings, labels, groups, within):
    """EER, P@1 and the one-shot error."""
    rng = np.random.default_rng(1)
    squares = (embeddings**2).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * embeddings @ embeddings.T, 0))
    one, other = np.triu_indices(len(labels), 1)
    same = labels[one] == labels[other]
    kinds = []
    for kind in (same, ~same):
        which = np.flatnonzero(kind)
        which = rng.permutation(which)[: PAIRS // 2]
        kinds.append(np.sort(apart[one[which], other[which]]))
    thresholds = np.concatenate(kinds)
    rejected = 1 - np.searchsorted(kinds[0], thresholds, "right") / len(kinds[0])
    accepted = np.searchsorted(kinds[1], thresholds, "right") / len(kinds[1])
    at = np.abs(rejected - accepted).argmin()
    np.fill_diagonal(apart, np.inf)
    p_at_1 = (labels[apart.argmin(1)] == labels).mean()
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    wrong = trials = 0
    while trials < TRIALS:
        pool = labels if not within else labels[groups == groups[rng.integers(len(groups))]]
        ways = rng.permutation(np.unique(pool))[:WAYS]
        if len(ways) < WAYS:
            if len(np.unique(labels)) < WAYS or not within:
                return (rejected[at] + accepted[at]) / 2, p_at_1, None
            continue
        support = [rng.choice(members[way]) for way in ways]
        place = rng.integers(WAYS)
        query = rng.choice(np.setdiff1d(members[ways[place]], support))
        wrong += apart[query, support].argmin() != place
        trials += 1
    return (rejected[at] + accepted[at]) / 2, p_at_1, wrong / trials


def row(name, eer, p_at_1, one_shot, note=""):
    shots = "" if one_shot is None else f"{one_shot:.1%}"
    print(f"| {name} | {eer:.1%} | {p_at_1:.1%} | {shots} | {note} |", flush=True)


def main(program, folder, *flags):
    folder = Path(folder)
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        summary, shots, within = ours(program, folder, flags, run)
        config = tomllib.loads((run / "config.toml").read_text())
        train, test = parts(folder, run / "data.csv", config["net"]["input"])
    few = json.loads(shots.stdout)["few_shot"] if shots.returncode == 0 else []
    error = [s["error"]["errors"] / s["error"]["queries"] for s in few]
    tested = f"{summary['tested_on']['images']} pictures of {summary['tested_on']['classes']} new classes"
    print(f"{tested}; trained on {summary['images']['train']} of {summary['classes']['trained']}\n")
    print(f"| | EER | P@1 | 20-way one-shot error{' within a group' if within else ''} | |\n|---|---|---|---|---|")
    for name in ("pixels", "whitened"):
        classic = summary["classics"][name]
        row({"whitened": "whitened pixels"}.get(name, name), classic["eer"], classic["p_at_1"], None)
    trained(config, *train[:2], PROBE)  # the first steps take longer
    started = time.perf_counter()
    trained(config, *train[:2], PROBE)
    steps = max(int(summary["seconds"] * PROBE / (time.perf_counter() - started)), 1)
    started = time.perf_counter()
    net = trained(config, *train[:2], steps)
    seconds = time.perf_counter() - started
    found = figures(embed(net, test[0], config["transform"]), *test[1:], within)
    row("PyTorch, same recipe", *found, f"{steps} steps, {seconds:.0f} s")
    head = (summary.get("head") or {}).get("chosen", "none")
    note = f"{summary['steps']} steps, {summary['seconds']:.0f} s, head {head}"
    verification, retrieval = summary["verification"], summary["retrieval"]
    row("here", verification["eer"], retrieval["p_at_1"], error[0] if error else None, note)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
