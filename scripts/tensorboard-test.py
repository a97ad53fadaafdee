"""Reads a run folder with TensorBoard and compares the result with the run's other files."""

import io
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

TAGS = {
    "loss": "loss/train",
    "learning_rate": "learning_rate",
    "validation_loss": "loss/validation",
    "validation_auc": "auc/validation",
    "test_loss": "loss/test",
    "test_accuracy": "accuracy/test",
    "test_auc": "auc/test",
    "test_eer": "eer/test",
    "test_p_at_1": "p_at_1/test",
}


def check_fixture():
    """Checks that the program's own test expects the bytes that TensorBoard's writer writes."""
    first = Event(wall_time=100.0, file_version="brain.Event:2")
    second = Event(wall_time=250.0, step=300)
    second.summary.value.add(tag="loss/train", simple_value=0.5)
    second.summary.value.add(tag="learning_rate", simple_value=0.25)
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in (first, second):
        writer.write(event.SerializeToString())
    fixture = Path(__file__).parent.parent / "crates/train/tests/fixtures/events.hex"
    assert file.getvalue().hex() == fixture.read_text().strip(), (
        f"{fixture} should be\n{file.getvalue().hex()}"
    )


def expected(run):
    """(step, value) of each tag, from metrics.jsonl."""
    scalars = {tag: [] for tag in TAGS.values()}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        line = json.loads(line)
        for field, tag in TAGS.items():
            if field in line:
                scalars[tag].append((line["step"], line[field]))
    return scalars


def compare(source, tag, found, wanted):
    assert len(wanted) > 0, f"metrics.jsonl has nothing for {tag}"
    assert [step for step, _ in found] == [step for step, _ in wanted], f"{source}: steps of {tag}"
    for (step, value), (_, want) in zip(found, wanted):
        assert abs(value - want) <= 1e-6 * abs(want), f"{source}: {tag} at {step}: {value}, not {want}"


def check_reader(run, scalars):
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
    reader.Reload()
    assert set(reader.Tags()["scalars"]) == set(scalars), reader.Tags()["scalars"]
    for tag, wanted in scalars.items():
        events = reader.Scalars(tag)
        compare("reader", tag, [(e.step, e.value) for e in events], wanted)
        times = [e.wall_time for e in events]
        assert times == sorted(times), f"times of {tag}"


def check_server(run, scalars):
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tensorboard.main", "--logdir", str(run),
         "--host", "127.0.0.1", "--port", "0", "--load_fast", "false",
         "--samples_per_plugin", "scalars=1000000"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )
    try:
        said = ""
        while not (address := re.search(r"http://127\.0\.0\.1:\d+/", said)):
            line = server.stderr.readline()
            assert line, f"TensorBoard did not start:\n{said}"
            said += line
        address = address[0]

        def get(path, **query):
            url = f"{address}data/plugin/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read()

        # It starts serving before it has read everything.
        last = max(step for step, _ in scalars["learning_rate"])
        until = time.monotonic() + 60
        while True:
            runs = json.loads(get("scalars/tags"))
            if all(tag in runs.get(".", {}) for tag in scalars):
                points = {tag: json.loads(get("scalars/scalars", run=".", tag=tag)) for tag in scalars}
                if all(found and found[-1][1] == last for found in points.values()):
                    break
            assert time.monotonic() < until, f"TensorBoard does not find all scalars: {runs}"
            time.sleep(0.2)
        assert set(runs) == {"."} and set(runs["."]) == set(scalars), runs
        for tag, wanted in scalars.items():
            compare("server", tag, [(step, value) for _, step, value in points[tag]], wanted)

        (name,) = json.loads(get("projector/runs"))
        info = json.loads(get("projector/info", run=name))
        (embedding,) = info["embeddings"]
        tensor = embedding["tensorName"]
        shape = embedding["tensorShape"]
        rows = (run / "embeddings.tsv").read_text().splitlines()
        assert shape == [len(rows), len(rows[0].split("\t"))], shape
        # With two or more columns, the projector would take the first line as a header.
        labels = get("projector/metadata", run=name, name=tensor).decode().splitlines()
        assert labels == (run / "metadata.tsv").read_text().splitlines(), "labels"
        sprite = get("projector/sprite_image", run=name, name=tensor)
        assert sprite == (run / "sprite.png").read_bytes(), "sprite"
        values = get("projector/tensor", run=name, name=tensor, num_rows=len(rows))
        assert len(values) == 4 * shape[0] * shape[1], f"{len(values)} bytes of embeddings"
        width, height = (int.from_bytes(sprite[at : at + 4], "big") for at in (16, 20))
        across, down = (int(side) for side in embedding["sprite"]["singleImageDim"])
        columns = width // across
        assert (columns - 1) ** 2 < len(rows) <= columns * (height // down), (width, height)
    finally:
        server.terminate()
        server.wait(timeout=30)


run = Path(sys.argv[1])
check_fixture()
wanted = expected(run)
check_reader(run, wanted)
check_server(run, wanted)
points = sum(len(points) for points in wanted.values())
print(f"TensorBoard reads {points} scalars, the embeddings, their labels and images of {run}")
