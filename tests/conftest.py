"""Fixtures: every instruction set, both layouts, random numbers, real data where it is."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import fastconv
from fastconv import _core
from fastconv.autograd.pending import calls
from tests.support import LAYOUTS

hypothesis.settings.register_profile(
    "fastconv", derandomize=True, deadline=None, max_examples=30, database=None
)
hypothesis.settings.load_profile("fastconv")


def pytest_report_header() -> list[str]:
    config = ", ".join(f"{key} {value}" for key, value in _core.build_config().items())
    return [
        f"fastconv {fastconv.__version__} from {Path(fastconv.__file__).parent}",
        f"core: {_core.isa()} of {', '.join(_core.available_isas())}; "
        f"{_core.get_num_threads()} threads; {config}",
    ]


@pytest.fixture(autouse=True)
def runtime_restored() -> Iterator[None]:
    """No test leaves its instruction set, thread count or algorithm to the next one."""
    isa, threads, algorithm = _core.isa(), _core.get_num_threads(), fastconv.get_algorithm()
    yield
    fastconv.set_algorithm(algorithm)
    _core.set_isa(isa)
    _core.set_num_threads(threads)


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest, runtime_restored: None) -> str:
    """Runs the test once with each instruction set this CPU has."""
    name: str = request.param
    _core.set_isa(name)
    assert _core.isa() == name
    return name


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by the test's own name: the same numbers alone, in any order, on any machine."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data sets, where $FASTCONV_DATA says."""
    named = os.environ.get("FASTCONV_DATA")
    if not named:
        pytest.skip("real data: set FASTCONV_DATA to a folder that holds mnist/")
    return Path(named)


Labelled = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def mnist(data_folder: Path) -> tuple[Labelled, Labelled]:
    if not (data_folder / "mnist").is_dir():
        pytest.skip("real data: $FASTCONV_DATA has no mnist/")
    return fastconv.data.mnist(data_folder / "mnist")


@pytest.fixture
def nothing_waits() -> Iterator[None]:
    """After the test no operation waits for what follows it, and no module is being called."""
    yield
    assert calls.waiting is None
    assert calls.inside is False
