"""Times the loss over all pairs of a batch against pytorch-metric-learning's ContrastiveLoss.

Run through compare-metric-learning.sh. BINARY is the benchmark crates/loss-kernel/benches/in_batch.rs.

usage: compare-metric-learning.py BINARY [ROWS...]

The two coincide if pytorch-metric-learning uses squared distances, LpDistance(power=2): the loss is
then d² for similar and max(m − d², 0) for dissimilar pairs, twice that of the `legacy` variant. It
reduces the two kinds of pairs separately, with MeanReducer or, over losses above 0, with
AvgNonZeroReducer, and adds the results, where `balanced` averages them. So its loss and gradient are
four times ours. It normalises embeddings by default, as `normalised` does.

Values and gradients must agree before anything is timed. Time is the median of a forward and backward
pass over alternating rounds. Memory is the peak beyond what was held before: as counted by the
allocator for the Rust program, and as resident pages for Python. Exits 1 if the two disagree.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer

DIMENSIONS = 128
ROUNDS = 5
# At m = 1, few dissimilar pairs of unit vectors have a gradient; at m = 2, half of them do.
SETTINGS = [
    ("mean", 2.0, MeanReducer),
    ("mean", 1.0, MeanReducer),
    ("mean-non-zero", 1.0, AvgNonZeroReducer),
]


class Ours:
    def __init__(self, binary, folder, threads):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        # candle's own threads would spin while waiting, on the cores that are measured.
        environment["CANDLE_NUM_THREADS"] = "1"
        self.folder = folder
        self.process = subprocess.Popen(
            [binary, "--serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def give(self, embeddings, labels):
        (self.folder / "embeddings").write_bytes(embeddings.astype("<f4").tobytes())
        (self.folder / "labels").write_bytes(labels.astype("<i8").tobytes())

    def run(self, rows, reduction, margin):
        self.process.stdin.write(f"{rows} legacy {margin} {reduction}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != 3:
            sys.exit(f"the benchmark ended with {self.process.wait()}")
        value, seconds, peak = map(float, answer)
        return value, seconds, peak

    def gradient(self, rows):
        gradient = np.fromfile(self.folder / "gradient", "<f4")
        return gradient.reshape(rows, DIMENSIONS)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def resident(field):
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def theirs(loss, embeddings, labels):
    leaf = embeddings.clone().requires_grad_()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = resident("VmRSS")
    start = time.perf_counter()
    value = loss(leaf, labels)
    value.backward()
    seconds = time.perf_counter() - start
    return value.item(), leaf.grad, seconds, resident("VmHWM") - before


def check(rows, reduction, margin, expected, found):
    (value, gradient), (ours, of_ours) = expected, found
    # Compared by length, not per entry: of millions of dissimilar pairs, some have a d² within
    # rounding of the margin, and then one side has a gradient and the other has none.
    off = np.linalg.norm(4 * of_ours - gradient) / np.linalg.norm(gradient)
    # Theirs sums tens of millions of losses in f32.
    if abs(4 * ours - value) > 1e-4 * value or not off <= 1e-3:
        sys.exit(
            f"N = {rows}, {reduction}, margin {margin}: loss 4 x {ours}, theirs {value}; "
            f"gradients differ by {off:.1e} of their length"
        )


def main():
    binary = sys.argv[1]
    sizes = [int(rows) for rows in sys.argv[2:]] or [256, 512, 1024, 2048, 4096, 8192]
    generator = np.random.default_rng(1)
    print(f"D = {DIMENSIONS}, forward and backward; medians of {ROUNDS} alternating rounds")
    print("threads     N  reduction      margin    theirs      ours   ratio  MiB theirs / ours")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            ours = Ours(binary, Path(folder), threads)
            for rows in sizes:
                # Four images per class, around its centre.
                labels = generator.permutation(rows) % (rows // 4)
                centres = generator.standard_normal((rows // 4, DIMENSIONS))
                noise = generator.standard_normal((rows, DIMENSIONS))
                embeddings = (centres[labels] + noise).astype(np.float32)
                ours.give(embeddings, labels)
                x, y = torch.from_numpy(embeddings), torch.from_numpy(labels)
                for reduction, margin, reducer in SETTINGS:
                    loss = ContrastiveLoss(
                        neg_margin=margin, distance=LpDistance(power=2), reducer=reducer()
                    )
                    value, gradient, _, their_peak = theirs(loss, x, y)
                    found, _, our_peak = ours.run(rows, reduction, margin)
                    check(
                        rows,
                        reduction,
                        margin,
                        (value, gradient.numpy()),
                        (found, ours.gradient(rows)),
                    )
                    times = [
                        (theirs(loss, x, y)[2], ours.run(rows, reduction, margin)[1])
                        for _ in range(ROUNDS)
                    ]
                    slow, quick = (statistics.median(column) for column in zip(*times))
                    print(
                        f"{threads:7} {rows:5}  {reduction:14} {margin:5}"
                        f" {slow * 1e3:7.1f} ms {quick * 1e3:6.1f} ms {slow / quick:6.1f}"
                        f"  {their_peak / 2**20:7.0f} / {our_peak / 2**20:.1f}",
                        flush=True,
                    )
            ours.stop()


if __name__ == "__main__":
    main()
