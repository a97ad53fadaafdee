"""What a training run spends outside its steps, in seconds and in those of the processors.

usage: run-costs.py PROGRAM LENGTH FIT_FLAGS ...
       run-costs.py pictures DIR

Runs `PROGRAM fit FIT_FLAGS --json` and takes the time at which each line arrives. The flags cut the run
short, but not before its second evaluation; what LENGTH steps, with the evaluations that come with them,
would take follows from it. A second training doubles the steps. On a busy machine the seconds of the
processors are the ones to compare.

`pictures` makes a folder of 10,000 PNG pictures of 96x96 in 500 classes.
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path


def kind(line):
    if "step" not in line:
        return "other"
    return "evaluation" if "validation_loss" in line else "step"


def processors(process):
    """Seconds that a program has run on all processors together."""
    # The name in brackets may have blanks.
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lines_of(command):
    """What happened, in order: (seconds, seconds of the processors), kind, step."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = []
    for line in process.stdout:
        line = json.loads(line)
        if kind(line) != "other":
            at = (time.perf_counter() - start, processors(process))
            lines.append((at, kind(line), line["step"]))
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed: run it without run-costs.py")
    return lines, (time.perf_counter() - start, used.ru_utime + used.ru_stime)


def measure(program, length, flags):
    with tempfile.TemporaryDirectory() as folder:
        lines, whole = lines_of([program, "fit", *flags, "--json", "--out", f"{folder}/run"])
    for unit, place in ("seconds", 0), ("of the processors", 1):
        print(f"{unit}:")
        show([(at[place], now, step) for at, now, step in lines], whole[place], length)


def show(lines, whole, length):
    spent, counted, evaluated = 0, 0, []
    for (before, earlier, since), (at, now, step) in zip(lines, lines[1:]):
        if now == "evaluation":
            evaluated.append((step, at - before, step - since))
        elif earlier == "step" and step > since:
            spent += at - before
            counted += step - since
    per_step = spent / counted
    # Not every step has a line, so some lie between the last line and an evaluation.
    evaluations = [seconds - steps * per_step for _, seconds, steps in evaluated]
    interval, once, taken = evaluated[0][0], evaluated[-1][0], lines[-1][2]
    rest = whole - taken * per_step - sum(evaluations)
    length, count = length * round(taken / once), length // interval
    per_evaluation = sum(evaluations) / len(evaluations)
    parts = {
        f"{length:,} steps of {per_step * 1e3:.2f} ms": length * per_step,
        f"{count} evaluations of {per_evaluation:.3f} s": count * per_evaluation,
        "start, end and between trainings": rest,
    }
    for name, seconds in parts.items():
        print(f"  {name:<36} {seconds:8.2f}")
    outside = sum(parts.values()) - length * per_step
    print(f"  {'outside the steps':<36} {outside:8.2f}, {outside / sum(parts.values()):.1%} of the run")


def png(size, pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + pixels[at : at + 3 * size] for at in range(0, len(pixels), 3 * size))
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make_pictures(folder, classes=500, pictures=20, size=96, block=12):
    """Each class has blocks of its own colours, which each picture changes."""
    rng = random.Random(1)
    cells = size // block
    for number in range(classes):
        of_class = Path(folder) / f"{number:03}"
        of_class.mkdir(parents=True)
        base = [rng.randrange(200) for _ in range(3 * cells * cells)]
        for picture in range(pictures):
            colours = bytes(value + rng.randrange(56) for value in base)
            rows = [colours[at : at + 3 * cells] for at in range(0, len(colours), 3 * cells)]
            wide = [b"".join(row[at : at + 3] * block for at in range(0, len(row), 3)) for row in rows]
            (of_class / f"{picture}.png").write_bytes(png(size, b"".join(row * block for row in wide)))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pictures", folder]:
            make_pictures(folder)
        case [program, length, *flags] if flags:
            measure(program, int(length), flags)
        case _:
            sys.exit(__doc__)
