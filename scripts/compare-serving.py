"""Verdicts over HTTP, by FastAPI with ONNX Runtime and here.

usage: compare-serving.py TRAIN LOAD [ROUNDS [SECONDS]]

Trains the digits' default network for 300 steps, and writes 256 test images of 28x28 pixels as PNG files. Both
services get the same weights and the same preprocessing: such a picture is taken as it is, scaled and
normalised. Each answers 512 pairs in turn, with the verdicts of `train verify` on the same files and its distances
to 1e-5; the load generator checks every later answer too. One that is lost, late or wrong ends the comparison.

Then times ROUNDS (7) alternating rounds of SECONDS (3) with 1, 16 and 256 clients, each of which keeps a
connection and asks as soon as it has its answer: `train serve`, and uvicorn with 1 and with 2 workers. Ratios are
taken within a round, so a busy machine slows all sides. The load generator, one thread, shares the machine's cores
with the services.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

CLIENTS = 1, 16, 256
PICTURES, PAIRS = 256, 512
OURS = "train serve"


def header(file):
    with safe_open(file, "numpy") as opened:
        return opened.metadata()


def make(train, folder):
    """Trains the network and writes the pictures, the pairs with their verdicts, and the ONNX model."""
    run, rng = folder / "run", np.random.default_rng(1)
    fit = [train, "fit", "--quiet", "--device", "cpu", "--steps", "300", "--seed", "1", "--out", run]
    subprocess.run(fit, check=True)
    model = header(run / "model.safetensors")
    normalisation = json.loads(model["normalisation"])
    normalisation = {key: normalisation[key] for key in ("scale", "mean", "std")}
    subprocess.run([train, "export", run, folder / "model.onnx", "--quiet"], check=True)
    threshold = float(model["threshold"])
    (folder / "model.json").write_text(json.dumps(normalisation | {"threshold": threshold}))

    subprocess.run([train, "embed", run, "--quiet", "--out", folder / "images"], check=True)
    images = load_file(folder / "images")["images"][:PICTURES, 0].astype(np.float64)
    images = (images * normalisation["std"] + normalisation["mean"]) / normalisation["scale"]
    for i, image in enumerate(images):
        Image.fromarray(image.round().astype(np.uint8)).save(folder / f"{i}.png")
    with open(folder / "pairs.csv", "w", newline="") as file:
        pairs = rng.integers(len(images), size=(2 * PAIRS, 2))
        csv.writer(file).writerows([("a", "b"), *((f"{a}.png", f"{b}.png") for a, b in pairs)])
    judged = folder / "judged.csv"
    verify = [train, "verify", run, "--quiet", "--pairs", folder / "pairs.csv", "--out", judged]
    subprocess.run(verify, check=True)
    head, *rows = judged.read_text().splitlines()
    # Within rounding of the threshold either verdict is right.
    rows = [row for row in rows if abs(float(row.split(",")[2]) - threshold) > 1e-4]
    judged.write_text("\n".join([head, *rows[:PAIRS]]) + "\n")
    return run, judged


class Ours:
    def __init__(self, train, run):
        command = [train, "serve", run, "--port", "0", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = json.loads(self.process.stdout.readline())["address"]


class Peer:
    def __init__(self, folder, workers):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "uvicorn", "serving_peer:app", "--port", str(port)]
        command += ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools"]
        command += ["--log-level", "warning", "--no-access-log"]
        here = Path(__file__).parent
        environment = os.environ | {"MODEL": str(folder)}
        self.process = subprocess.Popen(command, cwd=here, env=environment)
        for _ in range(600):
            time.sleep(0.1)
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", port)) == 0:
                    # And for the other worker.
                    time.sleep(3)
                    return
        sys.exit("uvicorn does not start")


def ask(load, side, judged, clients, seconds):
    command = [load, side.address, judged, str(clients), str(seconds)]
    asked = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if asked.returncode:
        sys.exit(f"an answer is lost or wrong at {side.address}")
    return json.loads(asked.stdout)


def spread(values, form):
    values = sorted(values)
    low, middle, high = (format(value, form) for value in (values[0], median(values), values[-1]))
    return f"{middle} ({low} to {high})"


def main(train, load, rounds=7, seconds=3.0):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run, judged = make(train, folder)
        sides = {}
        try:
            sides[OURS] = Ours(train, run)
            for workers in (1, 2):
                name = f"FastAPI, {workers} worker{'s'[: workers - 1]}"
                sides[name] = Peer(folder, workers)
            compare(load, judged, sides, int(rounds), float(seconds))
        finally:
            for side in sides.values():
                side.process.send_signal(signal.SIGINT)
            for side in sides.values():
                side.process.wait()


def compare(load, judged, sides, rounds, seconds):
    for name, side in sides.items():
        answered = ask(load, side, judged, 16, 2)["answers"]
        if answered < PAIRS:
            sys.exit(f"{name} gave {answered} answers: not every pair is checked")
    print(f"all sides give the verdicts of `train verify`; medians of {rounds} rounds (lowest to highest)")
    most = {name: 0 for name in sides}
    for clients in CLIENTS:
        found = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                asked = ask(load, side, judged, clients, seconds)
                found[name].append(asked | {"rate": asked["answers"] / asked["seconds"]})
        print(f"{clients} client{'s'[: clients - 1]}:")
        for name in sides:
            values = {key: [one[key] for one in found[name]] for key in ("p50", "p99", "rate")}
            most[name] = max(most[name], median(values["rate"]))
            line = f"  {name}: p50 {spread(values['p50'], '.2f')} ms, p99 {spread(values['p99'], '.2f')} ms, "
            line += f"{spread(values['rate'], ',.0f')} verdicts a second"
            if name != OURS:
                both = list(zip(found[name], found[OURS]))
                for key in ("p50", "p99"):
                    ratios = [theirs[key] / ours[key] for theirs, ours in both]
                    line += f"; {key} {spread(ratios, '.2f')} times ours"
                ratios = [ours["rate"] / theirs["rate"] for theirs, ours in both]
                line += f"; ours gives {spread(ratios, '.2f')} times as many"
            print(line)
    for name, rate in most.items():
        print(f"{name}: at most {rate:,.0f} verdicts a second (median)")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
