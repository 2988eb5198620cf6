"""Instruction sets: the one that was asked for is the one that runs."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core
from tests.support import array, numpy, run_python


def test_available() -> None:
    names = _core.available_isas()
    assert names[0] == "scalar" and len(set(names)) == len(names)
    assert set(names) <= {"scalar", "avx2", "avx512"}
    built = _core.build_config()["isas"].split(", ")
    assert set(names) <= set(built)


def fingerprint() -> bytes:
    """-1 + (1 + e)^2: a fused multiply-add rounds it once, separate operations round twice."""
    x = np.tile(np.array([1, 1 + 2**-12], np.float32), (16, 1))
    w = np.array([[-1, 1 + 2**-12]], np.float32)
    y: np.ndarray = numpy(_core.linear(array(x, "lanes"), array(w), None)[0])
    return y.tobytes()


def test_forced_isa_computes() -> None:
    """Scalar code has no fused multiply-add, the others have: the bits show which one ran."""
    prints = {}
    for name in _core.available_isas():
        _core.set_isa(name)
        assert _core.isa() == fc.isa() == name
        prints[name] = fingerprint()
    fused = {prints[name] for name in prints if name != "scalar"}
    assert len(fused) <= 1 and prints["scalar"] not in fused


def test_widest_is_the_default() -> None:
    done = run_python("import fastconv; print(fastconv.isa())")
    assert done.stdout.strip() == _core.available_isas()[-1], done.stderr


@pytest.mark.parametrize("name", _core.available_isas())
def test_from_the_environment(name: str) -> None:
    done = run_python("import fastconv; print(fastconv.isa())", FASTCONV_ISA=name)
    assert done.stdout.strip() == name, done.stderr


@pytest.mark.parametrize("name", ["avx1024", "AVX2", "scalar,avx2"])
def test_wrong_name_in_the_environment(name: str) -> None:
    """The error names the variable, its value and the choices."""
    done = run_python("import fastconv; print(fastconv.isa())", FASTCONV_ISA=name)
    assert done.returncode == 1 and not done.stdout
    for word in ("FASTCONV_ISA", name, *_core.available_isas()):
        assert word in done.stderr


def test_wrong_name() -> None:
    before = _core.isa()
    with pytest.raises(ValueError, match=r'"sse9" cannot run here.*scalar'):
        _core.set_isa("sse9")
    assert _core.isa() == before


def test_fma_peak(isa: str) -> None:
    """A rate above what one core does without vectors and below what any CPU does."""
    assert 1e8 < _core.fma_peak(0.02) < 1e14


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    fc.show_config()
    text = capsys.readouterr().out
    for word in (fc.__version__, fc.isa(), str(fc.get_num_threads())):
        assert word in text
