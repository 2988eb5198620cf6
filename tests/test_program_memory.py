"""Memory of recorded programs: what a run holds at a time, where results lie, what is made last."""

from __future__ import annotations

import numpy as np

import fastconv as fc
from fastconv import _core, nn, optim
from fastconv import functional as F
from tests.support import array, assert_same_bits, numpy, uniform
from tests.test_program import batch, gradients, made


def test_replays_allocate_nothing_new() -> None:
    fc.set_num_threads(1)
    model = made("lenet")
    step = fc.record_step(model, F.cross_entropy)
    images, labels = batch("lenet", 64)
    optimizer = optim.Adam(model.parameters())

    def train() -> None:
        optimizer.zero_grad()
        step(images, labels)
        optimizer.step()

    for _ in range(3):
        train()
    before = _core.arena_stats()
    for _ in range(10):
        train()
    after = _core.arena_stats()
    assert after["system_allocations"] == before["system_allocations"]
    assert after["bytes_in_use"] == before["bytes_in_use"]


def test_results_lie_where_operands_were_used_last() -> None:
    """In no memory that the caller, a constant or a later instruction reads."""
    ones, twos = np.ones((4 << 20,), np.float32), np.full((4 << 20,), 2, np.float32)
    x, constant = array(ones), array(twos)
    with _core.Recorder([x]) as recorder:
        a = _core.add(x, constant)  # 3
        b = _core.mul(a, a)  # 9: a is needed again
        c = _core.add(constant, b)  # 11
        d = _core.sub(c, b)  # 2
        view = d.reshape((2, 2 << 20))
        e = _core.add(d, a)  # 5: the view shares d's memory
        f = _core.mul(e, e)  # 25: e is used last, but twice
        program = recorder.finish([f, _core.relu(view)])
    del a, b, c, d, view, e, f
    _core.arena_release_cached()
    before = _core.arena_stats()
    values = array(ones)
    for _ in range(2):
        y, z = program.run([values], [])
        assert (numpy(y) == 25).all() and (numpy(z) == 2).all()
        assert (numpy(values) == 1).all() and (numpy(constant) == 2).all()
        del y, z
    after = _core.arena_stats()
    held = sum(after[k] - before[k] for k in ("bytes_in_use", "bytes_cached"))
    assert held < 4.5 * ones.nbytes, "values and at most three of the others"


def test_a_chain_needs_the_memory_of_one_result() -> None:
    x = array(np.ones((4 << 20,), np.float32))
    with _core.Recorder([x]) as recorder:
        y = _core.add(x, x)
        for _ in range(5):
            y = _core.mul(y, x)
        program = recorder.finish([y])
    del y
    _core.arena_release_cached()
    before = _core.arena_stats()
    (y,) = program.run([x], [])
    after = _core.arena_stats()
    assert (numpy(y) == 2).all()
    assert after["system_allocations"] == before["system_allocations"] + 1


def test_large_results_are_made_last() -> None:
    """Gradients of wide linear layers, behind those of the convolutions."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 600),
        nn.ReLU(),
        nn.Linear(600, 5),
    )
    step = fc.record_step(model, F.cross_entropy)
    x, labels = np.ones((17, 1, 8, 8), np.float32), np.arange(17) % 5
    step(x, labels)
    (program,) = step._programs.values()
    assert program is not None
    *_, last, _ = str(program.core).splitlines()
    assert "linear_backward_weight" in last
    assert str(program.core).count("linear_backward_weight") == 2
    expected = gradients(model)
    model.zero_grad()
    step(x, labels)
    for a, b in zip(gradients(model), expected, strict=True):
        assert_same_bits(a, b)


def test_nothing_is_put_off_past_a_change_of_its_operands() -> None:
    rng = np.random.default_rng(0)
    dy, x = (array(uniform(rng, 2, 300)) for _ in range(2))
    with _core.Recorder([dy, x]) as recorder:
        own = _core.add(x, x)
        dw = _core.linear_backward_weight(dy, own)
        _core.add_into(own, x)
        program = recorder.finish([dw, own])
    dw, own = program.run([dy, x], [])
    assert_same_bits(numpy(dw), numpy(_core.linear_backward_weight(dy, _core.add(x, x))))
    assert_same_bits(numpy(own), 3 * numpy(x))
