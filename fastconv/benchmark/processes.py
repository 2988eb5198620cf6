"""Whole processes against the clock: imports, and MNIST from process start; sizes on disk."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .. import _core

TORCH_SCRIPT = Path(__file__).parent / "peers" / "mnist_torch.py"


def environment(python: str) -> dict[str, str]:
    """Of a child: this interpreter's children find the packages that this process finds.

    Bytecode is kept, as it is of installed packages: compiling every module is not what an import
    costs.
    """
    kept = {k: value for k, value in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if python != sys.executable:
        return kept
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**kept, "PYTHONPATH": path}


def seconds_of(
    command: Sequence[str],
    limit: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> float:
    """From the start of a process to its end.

    Raises:
        RuntimeError: it ended with another status than 0 (its last line of errors is quoted), or
            not within `limit` seconds.
    """
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit,
            env={**environment(command[0]), **(variables or {})},
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done within {limit:.0f} s") from None
    taken = time.perf_counter() - begin
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise RuntimeError(f"exit status {done.returncode}: {last}")
    return taken


# ----------------------------------------------------------------------------------------- imports
@dataclass
class Import:
    """What importing a package costs beyond NumPy, in an interpreter that has it."""

    package: str
    python: str = sys.executable
    seconds: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """One more round: `import numpy` alone, and with the package after it."""
        alone = seconds_of([self.python, "-c", "import numpy"])
        both = seconds_of([self.python, "-c", f"import numpy, {self.package}"])
        self.seconds.append(both - alone)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def installed(package: str, python: str = sys.executable) -> Path | None:
    """The folder of a package, where that interpreter has it."""
    spec = f"importlib.util.find_spec({package!r})"
    find = f"import importlib.util; print({spec}.submodule_search_locations[0])"
    command = [python, "-c", find]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(python))
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def race_imports(imports: Sequence[Import], rounds: int) -> None:
    for entry in imports:
        entry.measure()  # bytecode compiled, files in the page cache
        entry.seconds.clear()
    for _ in range(rounds):
        for entry in imports:
            entry.measure()


# ------------------------------------------------------------------------------------------- sizes
def files_of(folder: Path) -> list[Path]:
    """What a wheel of the package would hold."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return [file for file in found if "__pycache__" not in file.parts]


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in files_of(folder)) / 1e6


def wheel_megabytes(folder: Path) -> float:
    """Of the package's files and its core, which an editable install keeps elsewhere, compressed as
    in a wheel."""
    core = Path(_core.__file__)
    files = {file.relative_to(folder).as_posix(): file for file in files_of(folder)}
    files[core.name] = core
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files.items():
            archive.write(file, name)
    return len(packed.getvalue()) / 1e6


# ------------------------------------------------------------------------------------------- MNIST
@dataclass(frozen=True)
class Training:
    """LeNet-5 on MNIST until a test accuracy is reached, seeds in turn, in fresh processes."""

    data: str  # folder of MNIST
    percent: float = 99.0
    seeds: int = 5
    model: str = "lenet5"
    threads: int | None = None
    isa: str | None = None
    limit: float | None = None  # seconds for each process
    more: tuple[str, ...] = ()  # for the command line of fastconv

    def ours(self, seed: int) -> float:
        """Seconds of `fastconv train MODEL --until PERCENT`."""
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "fastconv", "train", self.model, "--data", self.data]
            command += ["--until", str(self.percent), "--seed", str(seed), *self.more]
            command += ["--save", str(Path(folder) / "mnist.safetensors")]
            command += ["--threads", str(self.threads)] if self.threads else []
            return seconds_of(command, self.limit, {"FASTCONV_ISA": self.isa} if self.isa else {})

    def _torch(self, python: str, options: tuple[str, ...], seed: int) -> float:
        """Seconds of the same network, schedule and data in PyTorch."""
        command = [python, str(TORCH_SCRIPT), "--data", self.data, "--seed", str(seed)]
        command += ["--until", str(self.percent), *options]
        command += ["--threads", str(self.threads)] if self.threads else []
        return seconds_of(command, self.limit)

    def race(
        self, python: str | None, said: Callable[[str], object]
    ) -> tuple[dict[str, list[float]], list[str]]:
        """Seconds by contestant, a seed at a time, and who failed; PyTorch in both memory formats.

        Raises:
            RuntimeError: fastconv failed.
        """
        contestants: dict[str, Callable[[int], float]] = {"fastconv": self.ours}
        if python is not None:
            formats = {"nchw": (), "channels_last": ("--channels-last",)}
            for name, options in formats.items():
                contestants[f"torch eager {name}"] = partial(self._torch, python, options)
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        failures = []
        for seed in range(self.seeds):
            for name in list(taken):
                try:
                    taken[name].append(contestants[name](seed))
                except RuntimeError as failure:
                    if name == "fastconv":
                        raise
                    del taken[name]
                    failures.append(f"{name} (mnist, seed {seed}): {failure}")
                    said(failures[-1])
                    continue
                said(f"seed {seed}: {name} {taken[name][-1]:.2f} s")
        return taken, failures
