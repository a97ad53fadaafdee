"""Times the loss over given pairs, forward and backward in f32, against PyTorch, eager and compiled.

Both sides make the same inputs from the same integer hash, and loss and gradients are compared before
anything is timed. Each round times every column in turn, so a busy machine slows them all. Prints
medians over the rounds, of times and of each round's ratios. Our side is measured by
`cargo bench -p loss-kernel --bench loss -- --serve`: the operation alone, and through candle's
`backward()`, which adds each gradient to a tensor of zeros. torch.compile needs a C++ compiler.

    python compare-pytorch-loss.py [--threads 1,2] [--rounds 7] [--sizes 64x2,65536x128]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pytorch_siamese import pair_loss
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
SIZES = "64x2,64x128,4096x2,4096x128,65536x2,65536x128,1048576x2,1048576x128"
ROWS_TO_COMPARE = 4096


def unit(start, count):
    """Uniform numbers from 24 bits of MurmurHash3's finaliser, as in benches/loss.rs."""
    h = np.arange(start, start + count, dtype=np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)


def inputs(n, d):
    scale = np.float32(2.4) / np.sqrt(np.float32(d))
    side = lambda start: torch.from_numpy((unit(start, n * d) - np.float32(0.5)) * scale)
    a = side(0).reshape(n, d).requires_grad_()
    b = side(n * d).reshape(n, d).requires_grad_()
    return a, b, torch.from_numpy(unit(2 * n * d, n).round())


def step(loss, a, b, same):
    a.grad = b.grad = None
    value = loss(a, b, same)
    value.backward()
    return value


class Ours:
    """The benchmark as a child process, since the number of threads is fixed at start."""

    def __init__(self, threads):
        self.child = subprocess.Popen(
            ["cargo", "bench", "--quiet", "-p", "loss-kernel", "--bench", "loss", "--", "--serve"],
            cwd=ROOT,
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, n, d, repeats, path="-"):
        self.child.stdin.write(f"{n} {d} {repeats} {path}\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().split()
        if len(answer) != 2:
            sys.exit(f"the benchmark of {n}x{d} answered {answer}")
        return [float(seconds) for seconds in answer]

    def end(self):
        self.child.stdin.close()
        self.child.wait()


def check(n, d, ours, columns, batch):
    """Exits if the loss or gradients of a column differ from ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/ours.safetensors"
        ours.seconds(n, d, 1, path)
        found = load_file(path)
    for name, loss in columns.items():
        value = step(loss, *batch).item()
        if abs(value - found["loss"]) > 1e-5 * value:
            sys.exit(f"{n}x{d}, {name}: loss {value}, ours {found['loss']}")
        for side, key in zip(batch, ("of_a", "of_b")):
            rows = side.grad[:: -(-n // ROWS_TO_COMPARE)].numpy()
            worst = np.abs(rows - found[key]).max()
            if not worst <= 1e-5 * np.abs(rows).max():
                sys.exit(f"{n}x{d}, {name}: gradients differ by {worst}")


def measure(n, d, ours, rounds):
    batch = inputs(n, d)
    torch._dynamo.reset()
    columns = {
        "eager": pair_loss,
        "compile": torch.compile(pair_loss, dynamic=False),
    }
    check(n, d, ours, columns, batch)
    repeats = min(2000, max(2, 4_000_000 // (n * d)))
    times = []
    for _ in range(rounds):
        row = []
        for loss in columns.values():
            # Not timed: a virtual machine's host may have reclaimed memory freed before the other
            # columns' turns. Ours does the same.
            step(loss, *batch)
            start = time.perf_counter()
            for _ in range(repeats):
                step(loss, *batch)
            row.append((time.perf_counter() - start) / repeats)
        times.append(row + ours.seconds(n, d, repeats))
    return np.array(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", default=SIZES)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, times in ms")
    print(
        "| threads | pairs | D | eager | compile | ours | ours, `backward()` | eager / ours "
        "| compile / ours | eager / ours, `backward()` | compile / ours, `backward()` |"
    )
    print("|" + "---|" * 11)
    for threads in map(int, arguments.threads.split(",")):
        torch.set_num_threads(threads)
        ours = Ours(threads)
        for size in arguments.sizes.split(","):
            n, d = map(int, size.split("x"))
            times = measure(n, d, ours, arguments.rounds)
            shown = [f"{1e3 * statistics.median(column):.4f}" for column in times.T]
            for own in (2, 3):
                for peer in (0, 1):
                    ratio = statistics.median(times[:, peer] / times[:, own])
                    shown.append(f"{ratio:.1f}")
            print(f"| {threads} | {n} | {d} | " + " | ".join(shown) + " |", flush=True)
        ours.end()


main()
