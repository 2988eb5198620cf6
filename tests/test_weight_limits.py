"""Weights from anybody: the header chooses no network larger than the file, values are numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import models, nn
from tests.support import assert_same_bits, run_python
from tests.test_models import made
from tests.test_weights import failure, small

HEADERS = {
    "another": ("vgg16", {}),
    "other_arguments": ("vgg16", {"num_classes": 1000}),
    "large": ("lenet5", {"num_classes": 2**31}),
    "larger": ("lenet5", {"num_classes": 2**70}),
    "wide": ("mobilenet_v2", {"width": 1e300}),
    "narrow": ("mobilenet_v2", {"width": 0.0}),
    "many": ("cifar_resnet110", {"width": 10**5}),
    "high": ("dense_autoencoder", {"size": 10**6}),
    "negative": ("lenet5", {"num_classes": -1}),
    "bool": ("lenet5", {"num_classes": True}),
    "text": ("lenet5", {"num_classes": "10"}),
    "none": ("lenet5", {"in_channels": None}),
    "unknown": ("lenet5", {"depth": 3}),
    "path": ("lenet5", {"weights": "/dev/zero"}),
    "variant": ("lenet5", {"variant": "new"}),
    "list": ("lenet5", [1, 2]),
    "name": (["lenet5"], {}),
    "escape": ("\x1b[2J", {}),
}

LIMITED = """
import resource, sys
from fastconv import models, CorruptFileError
import safetensors, hashlib, json
here = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + (100 << 20), resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    try: models.load(path)
    except ValueError as error: print(type(error).__name__, str(error)[:300].replace("\\n", " "))
"""


def test_no_network_is_built_that_is_larger_than_its_file(tmp_path: Path) -> None:
    """Whatever the header says: within 100 MB, and with an error that says what is wrong."""
    paths = []
    for name, (architecture, arguments) in HEADERS.items():
        header = json.dumps({"architecture": architecture, "arguments": arguments})
        paths.append(tmp_path / name)
        fc.save(models.lenet5().state_dict(), paths[-1], {"fastconv": header})
    done = run_python(f"import sys; sys.argv[1:] = {[str(p) for p in paths]!r}\n{LIMITED}")
    lines = done.stdout.splitlines()
    assert len(lines) == len(HEADERS), done.stderr
    for name, line in zip(HEADERS, lines, strict=True):
        assert line.startswith("ValueError" if name == "escape" else "CorruptFileError"), line
        assert str(tmp_path / name) in line and "\x1b" not in line


def test_more_outputs_than_a_file_has(tmp_path: Path) -> None:
    """The user's own arguments: what was asked, what the file has, and what to do."""
    models.save(models.lenet5(), tmp_path / "x")
    with pytest.raises(ValueError, match=r"num_classes=999: it was saved with num_classes=10\. Bu"):
        models.lenet5(num_classes=999, weights=tmp_path / "x")
    with pytest.raises(ValueError, match=r"Only 11 differs: the weights are for 10 outputs"):
        models.lenet5(num_classes=5, weights=tmp_path / "x")
    with pytest.raises(ValueError, match=r'variant must be "modern"'):
        models.lenet5(variant="x", weights=tmp_path / "x")


def test_numbers_that_stand_for_others(tmp_path: Path) -> None:
    """A width of 1 instead of 1.0, 0 instead of False: as the network was built."""
    saved = models.mobilenet_v1(num_classes=2, width=1, dropout=0)
    models.save(saved, tmp_path / "x")
    assert models.load(tmp_path / "x").architecture == saved.architecture
    models.save(made("googlenet", num_classes=2, aux_logits=0), tmp_path / "x")
    assert models.load(tmp_path / "x").architecture[1]["aux_logits"] == 0


@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v1", "cifar_resnet20", "tiny_vgg"])
def test_a_network_is_as_large_as_its_file(name: str, tmp_path: Path) -> None:
    """Nothing is counted twice while it is built."""
    saved = made(name)
    models.save(saved, tmp_path / "x")
    loaded = models.load(tmp_path / "x").state_dict()
    for key, tensor in saved.state_dict().items():
        assert_same_bits(loaded[key].numpy(), tensor.numpy())


def test_values_that_are_no_numbers_change_nothing() -> None:
    """Text, objects, complex numbers; NaN for an integer. The shapes all fit."""
    model = small()
    state = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    last = list(state)[-1]
    counted = next(name for name in state if name.endswith("num_batches_tracked"))
    for kind in ("U3", object, complex):
        changed = {name: np.zeros_like(value) for name, value in state.items()}
        text = failure(model, {**changed, last: np.zeros(state[last].shape, kind)})
        assert f"wrong values  {last}: numbers are expected, got" in text
    text = failure(model, {**state, counted: np.array(np.nan, np.float32)})
    assert "int64 has neither NaN nor infinity" in text
    assert "\\x1b" in failure(model, {**state, "\x1b[2J": np.zeros(1)})
    failure(nn.Sequential(nn.Linear(2, 2)), {"0.weight": np.zeros((2, 2)), "0.bias": np.zeros(())})


def test_ctrl_c_leaves_all_or_nothing() -> None:
    """A signal that comes while values are copied is handled before or after, not in between."""
    done = run_python(
        "import os, signal, threading, time, numpy as np\n"
        "from fastconv import nn\n"
        "model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(60)])\n"
        "states = [{n: np.full(t.shape, v, 'f4') for n, t in model.state_dict().items()}\n"
        "          for v in (0, 1)]\n"
        "interrupted = 0\n"
        "def press():\n"
        "    time.sleep(0.002)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "for turn in range(40):\n"
        "    thread = threading.Thread(target=press)\n"
        "    try:\n"
        "        thread.start()\n"
        "        for _ in range(20):\n"
        "            for state in states: model.load_state_dict(state)\n"
        "        time.sleep(0.05)\n"
        "    except KeyboardInterrupt:\n"
        "        interrupted += 1\n"
        "    tensors = model.state_dict().values()\n"
        "    values = {float(v) for t in tensors for v in np.unique(t.numpy())}\n"
        "    assert turn == 0 or len(values) == 1, values\n"
        "    thread.join()\n"
        "print(interrupted)\n"
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
