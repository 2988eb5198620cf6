"""Training killed at random moments and resumed: does it end with the bits of a run never killed?

    python bench/kill_resume.py --kills 100 --seed 0

A worker trains a small network with everything that has a state: dropout, batch norm, random
shifts, a schedule, early stopping, a log. It saves a checkpoint after every step, so that many of
the kills come while one is written. Each time it is killed with SIGKILL it is started again, until
it comes to its end; then weights, history and log must be those of a worker that nobody disturbed,
and its folder must hold nothing else. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EPOCHS = 4


def work(folder: Path) -> None:
    """Trains, or goes on; writes a line as soon as a step is done, and the weights at the end."""
    import json

    import numpy as np

    import fastconv as fc
    from fastconv import data, nn, optim, train

    fc.set_num_threads(1)
    fc.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (400, 10, 10)).astype(np.uint8), rng.integers(0, 3, 400)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(256, 3),
    )
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    model.compile(optimizer, metrics=["accuracy"])
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS * 23)

    class Ready:
        def on_batch_end(self, step: int, logs: object) -> None:
            print(step, flush=True)

    run = folder / "run.safetensors"
    history = model.fit(
        x,
        y,
        epochs=EPOCHS,
        batch_size=16,
        validation_split=0.1,
        transform=data.RandomShift(1),
        verbose=0,
        callbacks=[
            train.StepScheduler(schedule),
            train.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
            train.CSVLogger(folder / "log.csv"),
            train.ModelCheckpoint(run, everything=True, save_freq=1),
            Ready(),
        ],
        resume=run if run.exists() else None,
    )
    fc.save(model.state_dict(), folder / "end.safetensors")
    (folder / "history.json").write_text(json.dumps(history.history))


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--work", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_until_done(folder: Path, rng: random.Random, longest: float, most: int) -> int:
    """Runs workers in a folder until one comes to its end; returns how many were killed."""
    kills = 0
    while True:
        worker = start(folder)
        assert worker.stdout is not None
        if kills < most and worker.stdout.readline():
            time.sleep(rng.uniform(0, longest))
            worker.kill()
        _, errors = worker.communicate()
        if worker.returncode == 0:
            return kills
        if worker.returncode > 0:
            raise RuntimeError(f"a worker failed after {kills} kills:\n{errors}")
        kills += 1


def results(folder: Path) -> dict[str, bytes]:
    """The files that must be the same; those that must not be there have their names only."""
    wanted = ("end.safetensors", "history.json", "log.csv")
    return {
        name: (folder / name).read_bytes() if name in wanted else b""
        for name in sorted(os.listdir(folder))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=0.25, help="seconds that a worker has")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(Path(args.work))
        return 0
    began, kills, runs, wrong = time.perf_counter(), 0, 0, 0
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root) / "whole"
        whole.mkdir()
        killed_until_done(whole, rng, 0.0, 0)
        expected = results(whole)
        while kills < args.kills:
            folder = Path(root) / f"killed{runs}"
            folder.mkdir()
            count = killed_until_done(folder, rng, args.longest, args.kills - kills)
            found = results(folder)
            different = sorted(
                name
                for name in {*expected, *found}
                if expected.get(name, None) != found.get(name, None)
            )
            print(f"run {runs}: {count} kills, {', '.join(different) or 'nothing'} different")
            kills, runs, wrong = kills + count, runs + 1, wrong + bool(different)
    print(
        f"{kills} kills in {runs} runs, seed {args.seed}: {wrong} runs ended differently; "
        f"{time.perf_counter() - began:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
