"""Importing fastconv: light, silent, from anywhere; and the names it promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import fastconv as fc
from tests.support import run_python

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch",
    "jax",
    "tensorflow",
    "keras",
    "matplotlib",
    "PIL",
    "pooch",
    "requests",
    "tqdm",
    "safetensors",
    "numpy.random",
    "numpy.ma",
    "asyncio",
    "unittest",
    "multiprocessing",
    "email",
    "http",
    "urllib.request",
    "ssl",
    "socket",
    "sqlite3",
)


def loaded_by(statement: str) -> set[str]:
    code = (
        "import sys, json, numpy\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_import_loads_no_heavy_packages() -> None:
    loaded = loaded_by("import fastconv")
    assert not loaded & set(HEAVY)
    assert len(loaded) < 60, sorted(loaded)
    lazy = {
        f"fastconv.{name}"
        for name in ("nn", "optim", "models", "data", "train", "cli", "benchmark")
    }
    assert not loaded & lazy


def test_networks_load_no_heavy_packages() -> None:
    """Building and running a network needs NumPy and fastconv, nothing else."""
    loaded = loaded_by(
        "import fastconv as fc, numpy as np\n"
        "from fastconv import models, optim\n"
        "m = models.lenet5(); m(fc.Tensor(np.zeros((1, 1, 28, 28), 'f4')))\n"
        "optim.SGD(m.parameters(), lr=1.0)"
    )
    assert not loaded & (set(HEAVY) - {"numpy.random"})
    assert not loaded & {"fastconv.cli", "fastconv.benchmark", "fastconv.data"}


def test_import_is_silent_and_warns_nothing() -> None:
    done = run_python("import warnings; warnings.simplefilter('error'); import fastconv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("where", ["root", "elsewhere"])
def test_works_from(where: str, tmp_path: Path) -> None:
    """Also from the repository's root, where the folder `fastconv` has the sources only."""
    code = (
        "import fastconv as fc; from fastconv import nn\n"
        "print(fc.__version__, nn.Linear(2, 1).weight.shape)"
    )
    done = run_python(code, cwd=ROOT if where == "root" else tmp_path)
    assert done.stdout.strip() == f"{fc.__version__} (1, 2)", done.stderr


def test_public_names_exist() -> None:
    """design.md's fixed points: users and checks rely on these names."""
    from fastconv import data, functional, models, nn, optim

    names = {
        fc: "Tensor no_grad save load manual_seed set_num_threads get_num_threads isa show_config",
        functional: "conv1d conv2d conv_transpose2d linear max_pool2d avg_pool2d pad flatten cat "
        "adaptive_avg_pool2d batch_norm local_response_norm dropout relu relu6 leaky_relu sigmoid "
        "tanh softmax log_softmax cross_entropy mse_loss binary_cross_entropy "
        "binary_cross_entropy_with_logits conv2d_backward max_pool2d_backward linear_backward",
        nn: "Module Sequential Conv1d Conv2d ConvTranspose2d Linear MaxPool2d AvgPool2d "
        "AdaptiveAvgPool2d BatchNorm1d BatchNorm2d LocalResponseNorm Dropout Flatten ReLU ReLU6 "
        "LeakyReLU Sigmoid Tanh Softmax Upsample CrossEntropyLoss MSELoss BCELoss "
        "BCEWithLogitsLoss",
        optim: "SGD RMSprop Adam AdamW Adagrad lr_scheduler",
        optim.lr_scheduler: "StepLR CosineAnnealingLR OneCycleLR",
        data: "mnist digits",
        models: "lenet5 lenet1 keras_mlp keras_convnet keras_convnet_no_pool",
    }
    for module, words in names.items():
        missing = [word for word in words.split() if not hasattr(module, word)]
        assert not missing, f"{module.__name__} lacks {missing}"


def test_all_lists_what_is_there() -> None:
    from fastconv import data, functional, models, nn, optim, train

    for module in (fc, data, functional, models, nn, optim, train):
        for name in module.__all__:
            assert getattr(module, name) is not None, f"{module.__name__}.{name}"


def test_ships_types() -> None:
    package = Path(fc.__file__).parent
    assert (package / "py.typed").is_file() and (package / "_core.pyi").is_file()


def test_stub_names_what_the_core_has() -> None:
    import ast

    tree = ast.parse((Path(fc.__file__).parent / "_core.pyi").read_text())
    stub = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    real = {name for name in dir(fc._core) if not name.startswith("_")}
    assert stub == real


def test_python_version_is_supported() -> None:
    assert sys.version_info >= (3, 10)


def test_subinterpreter_is_refused() -> None:
    """At once and with a clear error, before or after the main interpreter's import."""
    for before in ("", "import fastconv"):
        done = run_python(
            f"""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
{before}
number = interpreters.create()
try:
    print(interpreters.run_string(number, "import fastconv"))
except Exception as error:
    print(error)
import numpy as np
from fastconv import functional as F
print(F.conv2d(np.ones((20, 16, 9, 9), "f4"), np.ones((16, 16, 3, 3), "f4")).shape)
""",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "ImportError" in done.stdout and "subinterpreter" in done.stdout
        assert done.stdout.endswith("(20, 16, 7, 7)\n")
