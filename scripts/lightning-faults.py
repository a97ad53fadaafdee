"""Shows what PyTorch Lightning's checkpoints do under the faults of docs/reliability.md.

Trains a small network on shuffled batches with a checkpoint every few steps and `save_last`: once
undisturbed; killed with SIGKILL in the middle of an epoch and resumed from `last.ckpt`; resumed from a
truncated `last.ckpt`; with a loss that becomes NaN; and twice at the same time in one folder.

usage: lightning-faults.py
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

STEPS, EPOCH, EVERY, KILLED = 150, 50, 7, 83


class Network(L.LightningModule):
    def __init__(self, killed, diverges):
        super().__init__()
        self.killed, self.diverges = killed, diverges
        self.layers = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))

    def training_step(self, batch, _):
        if self.global_step == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        if self.diverges and self.global_step == KILLED:
            loss = loss * float("nan")
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def train(folder, resume, killed, diverges):
    warnings.filterwarnings("ignore")
    L.seed_everything(1, verbose=False)
    x = torch.randn(EPOCH * 32, 20)
    batches = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 32, shuffle=True)
    saving = ModelCheckpoint(folder, every_n_train_steps=EVERY, save_last=True, save_top_k=3, monitor="step", mode="max")
    trainer = L.Trainer(
        max_steps=STEPS, accelerator="cpu", callbacks=[saving], log_every_n_steps=1,
        logger=CSVLogger(folder, name="", version="log", flush_logs_every_n_steps=1),
        enable_progress_bar=False, enable_model_summary=False,
    )
    net = Network(killed, diverges)
    trainer.fit(net, batches, ckpt_path=Path(folder) / "last.ckpt" if resume else None)
    weights = b"".join(p.detach().numpy().tobytes() for p in net.parameters())
    finite = all(torch.isfinite(p).all() for p in net.parameters())
    print("WEIGHTS", hashlib.sha256(weights).hexdigest()[:16], "finite" if finite else "NOT FINITE")


def run(folder, *words):
    """(status, last line of output) of a process that trains."""
    command = [sys.executable, __file__, "train", folder, *words]
    ended = subprocess.run(command, capture_output=True, text=True)
    said = (ended.stdout if ended.returncode == 0 else ended.stderr).strip().splitlines()
    return ended.returncode, said[-1] if said else ""


def steps(folder):
    lines = (Path(folder) / "log/metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("step")
    return [int(line.split(",")[place]) for line in lines[1:]]


def main():
    print(f"Lightning {L.__version__}, PyTorch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        whole, killed, damaged = (str(Path(folder) / name) for name in ("whole", "killed", "damaged"))
        print("undisturbed:", *run(whole))
        status, _ = run(killed, "kill")
        shutil.copytree(killed, damaged)
        print(f"killed at step {KILLED} of {STEPS}: status {status}")
        print("  resumed:", *run(killed, "resume"))
        found = steps(killed)
        print(f"  its log has {len(found)} lines for steps {min(found)} to {max(found)}; undisturbed {len(steps(whole))}")
        last = Path(damaged) / "last.ckpt"
        last.write_bytes(last.read_bytes()[:-1000])
        others = sorted(path.name for path in Path(damaged).glob("*.ckpt") if path != last)
        print(f"newest truncated, with {', '.join(others)} beside it:", *run(damaged, "resume"))
        print("NaN loss:", *run(str(Path(folder) / "nan"), "nan"))
        both = [
            subprocess.Popen([sys.executable, __file__, "train", str(Path(folder) / "both")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for _ in range(2)
        ]
        print("two in one folder: statuses", *[process.wait() for process in both])


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        folder, words = sys.argv[2], sys.argv[3:]
        train(folder, "resume" in words, KILLED if "kill" in words else None, "nan" in words)
    else:
        main()
