"""Trains for several minutes and reports whether memory, open files and speed stay constant.

usage: soak.py TRAIN SECONDS [FLAGS OF `train fit` …]

Reads the resident memory and the open files of the process from /proc (Linux) every second, and its
speed from its own metrics. Ignores the first tenth, in which caches fill, and compares the last quarter
of the rest with the first. Exits 1 if memory grows by more than 1%, or the number of open files at all.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def resident(process):
    """Resident memory in KiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {process} has no memory")


def quarters(values):
    """The medians of the first and of the last quarter, without the first tenth."""
    values = values[len(values) // 10 :]
    quarter = max(len(values) // 4, 1)
    return statistics.median(values[:quarter]), statistics.median(values[-quarter:])


def main(program, seconds, flags):
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [program, "fit", "--out", run, "--epochs", "100000", "--json", *flags]
        training = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        os.set_blocking(training.stdout.fileno(), False)
        end = time.monotonic() + seconds
        memory, files, steps = [], [], []
        while time.monotonic() < end:
            time.sleep(1)
            if training.poll() is not None:
                sys.exit(f"{program} ended with {training.returncode}")
            memory.append(resident(training.pid))
            files.append(len(os.listdir(f"/proc/{training.pid}/fd")))
            step = steps[-1][1] if steps else 0
            for line in iter(training.stdout.readline, ""):
                step = json.loads(line)["step"]
            steps.append((time.monotonic(), step))
        training.send_signal(signal.SIGINT)
        os.set_blocking(training.stdout.fileno(), True)
        training.communicate()
    # Each over many seconds, so that evaluations are spread evenly.
    marks = steps[:: max(len(steps) // 40, 1)]
    speeds = [(s2 - s1) / (t2 - t1) for (t1, s1), (t2, s2) in zip(marks, marks[1:])]
    print(f"{len(memory)} seconds, {steps[-1][1]} steps; medians of the first and the last quarter")
    failed = False
    for name, values, unit, most in [
        ("resident memory", [value / 1024 for value in memory], "MiB", 0.01),
        ("open files", files, "", 0.0),
        ("speed", speeds, "steps/s", None),
    ]:
        first, last = quarters(values)
        growth = last / first - 1
        grown = most is not None and growth > most
        failed |= grown
        print(f"{name}: {first:.1f} {unit} and {last:.1f} {unit}, {growth:+.2%}{' GROWS' if grown else ''}")
    sys.exit(failed)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
