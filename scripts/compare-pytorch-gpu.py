"""Times PyTorch's contrastive loss on the GPU against ours.

usage: compare-pytorch-gpu.py DIR

DIR is the output of `cargo bench -p loss-kernel --features cuda --bench gpu -- --out DIR`. First checks
the usual PyTorch form of the loss, eager and with torch.compile, against the values and gradients in
DIR/check.safetensors; then times forward and backward at the shapes in DIR/times.jsonl. Needs only
PyTorch with CUDA. Exits 1 if a value differs, 2 if there is no GPU.

Device time is measured as in the benchmark: between two events, with the work queued behind a delay
that is checked to be long enough. Issued time is that of steps as fast as Python issues them.
"""

import json
import statistics
import sys
from pathlib import Path

import torch

TYPES = {"f32": torch.float32, "f16": torch.float16, "F32": torch.float32, "F16": torch.float16, "U8": torch.uint8}
# Relative to the largest value. PyTorch rounds every step to f16, ours only the result.
TOLERANCE = {"f32": 1e-5, "f16": 2**-7}
ROUNDS = 25


def contrastive_loss(a, b, same):
    distance = torch.linalg.vector_norm(a - b, dim=1)
    apart = (1 - distance).clamp(min=0)
    return torch.where(same, distance * distance, apart * apart).mean() / 2


def step(loss, a, b, same, grad_output):
    """The loss, and its gradients times `grad_output`."""
    value = loss(a, b, same)
    return value, *torch.autograd.grad(value, (a, b), grad_output)


def forms():
    """The loss, eager and compiled; compiled anew for the next shapes."""
    torch.compiler.reset()
    return {"eager": contrastive_loss, "compiled": torch.compile(contrastive_loss, dynamic=False)}


def load(path):
    """The tensors of a safetensors file, by name."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = bytearray(data[start + begin : start + end])
        tensors[name] = torch.frombuffer(values, dtype=TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def check(tensors, device):
    """Whether both forms agree with the values and gradients in the file."""
    good = True
    batches = {}
    for name, tensor in tensors.items():
        batch, _, name = name.rpartition(".")
        batches.setdefault(batch, {})[name] = tensor.to(device)
    for batch, t in batches.items():
        a, b = t["a"].requires_grad_(), t["b"].requires_grad_()
        for form, loss in forms().items():
            found = step(loss, a, b, t["same"].bool(), t["grad_output"])
            for name, found in zip(("loss", "of_a", "of_b"), found):
                expected = t[name].double()
                off = (found.detach().double() - expected).abs().max().item()
                largest = expected.abs().max().item()
                # A NaN must fail, and so must zeros alone, which would prove nothing.
                if not (largest > 0 and off <= TOLERANCE[batch.rpartition(".")[2]] * largest):
                    print(f"{form} {batch} {name}: off by {off:g}, largest value {largest:g}")
                    good = False
    if good:
        print(f"values and gradients agree on {', '.join(batches)}")
    return good and bool(batches)


class Clock:
    def __init__(self):
        self.start = torch.cuda.Event(enable_timing=True)
        self.end = torch.cuda.Event(enable_timing=True)
        self.cycles = 10_000_000

    def issued(self, work, repeats):
        """Seconds per step as issued."""
        self.start.record()
        for _ in range(repeats):
            work()
        self.end.record()
        self.end.synchronize()
        return self.start.elapsed_time(self.end) / 1e3 / repeats

    def device(self, work, repeats):
        """Seconds per step of device time."""
        while self.cycles < 2_000_000_000:
            torch.cuda._sleep(self.cycles)
            self.start.record()
            for _ in range(repeats):
                work()
            self.end.record()
            queued_in_time = not self.start.query()
            self.end.synchronize()
            if queued_in_time:
                return self.start.elapsed_time(self.end) / 1e3 / repeats
            self.cycles *= 2
        raise SystemExit("the work could not be queued within the second for which the device is kept busy")


def compare(times):
    """Prints a line for every shape, type and form."""
    clock = Clock()
    ours = {}
    for line in times.read_text().splitlines():
        row = json.loads(line)
        ours.setdefault((row["pairs"], row["dim"], row["type"]), {})[row["pass"]] = row["seconds"]
    print("     pairs  dim type   PyTorch    device      ours  ratio    issued      ours  ratio")
    for (pairs, dim, kind), passes in ours.items():
        torch.manual_seed(1)
        spread = (1.5 / dim) ** 0.5
        a, b = (
            (spread * (2 * torch.rand(pairs, dim, device="cuda") - 1)).to(TYPES[kind]).requires_grad_()
            for _ in range(2)
        )
        same = torch.arange(pairs, device="cuda") % 2 == 1
        grad_output = torch.tensor(float(min(pairs, 1 << 15)), device="cuda", dtype=TYPES[kind])
        # 20 steps of the eager form are about 500 launches; a queue holds 1024.
        repeats = 20 if pairs * dim < 1 << 18 else 1
        for form, loss in forms().items():
            work = lambda: step(loss, a, b, same, grad_output)  # noqa: E731
            for _ in range(3):
                work()
            device = statistics.median(clock.device(work, repeats) for _ in range(ROUNDS))
            issued = statistics.median(clock.issued(work, 20) for _ in range(ROUNDS))
            of_ours = passes["forward"] + passes["backward"]
            print(
                f"{pairs:>10} {dim:>4} {kind:>4} {form:>9} {device * 1e6:>6.1f} µs {of_ours * 1e6:>6.1f} µs "
                f"{device / of_ours:>6.2f} {issued * 1e6:>6.1f} µs {passes['step'] * 1e6:>6.1f} µs "
                f"{issued / passes['step']:>6.2f}",
                flush=True,
            )


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    if not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} does not find a GPU", file=sys.stderr)
        sys.exit(2)
    print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    if not check(load(folder / "check.safetensors"), "cuda"):
        sys.exit(1)
    compare(folder / "times.jsonl")


if __name__ == "__main__":
    main()
