"""fastconv bench: right answers pass, wrong ones do not, and nothing is dropped in silence."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from fastconv import benchmark
from fastconv.benchmark.cases import (
    LENET5,
    TASKS,
    Conv,
    Task,
    conv_operands,
    error,
    find,
    parameters,
)
from fastconv.benchmark.peers import layouts, numpy_im2col
from fastconv.benchmark.race import Race, WrongAnswerError
from fastconv.benchmark.remote import Remote, RemoteError
from fastconv.benchmark.timing import Times, ratio


def run(*arguments: str, suite: str | None = None) -> int:
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser, suite)
    return benchmark.run(parser.parse_args(arguments))


def test_ids_are_unique_and_found() -> None:
    assert len({task.id for task in TASKS}) == len(TASKS)
    assert all(find(task.id) is task for task in TASKS)


def test_flops_of_a_known_network() -> None:
    convs = 2 * 28 * 28 * 6 * 25, 2 * 10 * 10 * 16 * 6 * 25
    dense = 2 * (400 * 120 + 120 * 84 + 84 * 10)
    assert LENET5.flop(1, training=False) == sum(convs) + dense
    assert LENET5.flop(1, training=True) == 3 * (sum(convs) + dense) - convs[0]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_numpy_passes_are_adjoint(groups: int, rng: np.random.Generator) -> None:
    conv = Conv("", 4, 9, 8, 8, 3, stride=2, padding=1, groups=groups)
    x = rng.standard_normal(conv.x_shape(3)).astype(np.float32)
    w = rng.standard_normal(conv.w_shape).astype(np.float32)
    dy = rng.standard_normal(conv.y_shape(3)).astype(np.float32)
    inner = np.vdot(dy, numpy_im2col.conv_forward(x, w, conv))
    assert np.vdot(x, numpy_im2col.conv_backward_input(dy, w, conv)) == pytest.approx(
        inner, rel=1e-4
    )
    assert np.vdot(w, numpy_im2col.conv_backward_weight(dy, x, conv)) == pytest.approx(
        inner, rel=1e-4
    )


@pytest.mark.parametrize("nhwc", [True, False])
def test_parameter_layouts_go_there_and_back(nhwc: bool) -> None:
    values = parameters(LENET5)
    back = layouts.to_torch(LENET5, layouts.from_torch(LENET5, values, nhwc), nhwc)
    for value, again in zip(values, back, strict=True):
        np.testing.assert_array_equal(value, again)


def test_ratio_is_formed_round_by_round() -> None:
    ours, theirs = Times([[1.0], [10.0], [1.0]]), Times([[2.0], [20.0], [2.0]])
    assert ratio(theirs, ours) == 2.0


def test_error_tells_wrong_from_rounded() -> None:
    task = find("lenet.c1@1:forward")
    y = numpy_im2col.prepare(task, "im2col").answer()["y"]
    spoiled = y.copy()
    spoiled.flat[7] += 0.01
    for other, agrees in ((y * np.float32(1 + 1e-7), True), (spoiled, False), (y[:, :-1], False)):
        distance, allowed = error(task, {"y": other}, {"y": y})
        assert (distance <= allowed) == agrees
    distance, allowed = error(task, {"y": np.full_like(y, np.nan)}, {"y": y})
    assert not distance <= allowed


def test_layers_agree_with_numpy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    arguments = ["--quick", "--rounds", "1", "--seconds", "0.001", "--threads", "1"]
    status = run(*arguments, "--peers", "numpy", "--filter", "lenet.c2@1:", "--json", str(file))
    out = capsys.readouterr().out
    assert status == 0, out
    written = json.loads(file.read_text())
    assert written["header"]["torch"] == "not asked"
    assert [row["task"] for row in written["rows"]] == [
        f"lenet.c2@1:{work}" for work in ("forward", "backward_input", "backward_weight")
    ]
    assert all(row["contestants"][1]["ratio"] > 0 for row in written["rows"])


@pytest.mark.parametrize("suite", ["train", "infer"])
def test_networks_agree_with_numpy(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rounds", "1", "--seconds", "0.001", "--peers", "numpy"]
    status = run(*arguments, "--filter", "lenet5|mlp", suite=suite)
    assert status == 0, capsys.readouterr().out


def test_a_wrong_answer_stops_the_row() -> None:
    task = find("lenet.c1@1:forward")
    honest, liar = Remote("numpy", 1), Remote("numpy", 1, label="liar")
    try:
        for remote in (honest, liar):
            assert remote.started() == {"numpy": np.__version__}
        race = Race(task)
        race.enter(honest, quick=True)
        other: Task = find("lenet.c1@128:forward")
        race.task = other  # the second one is asked something else
        with pytest.raises(WrongAnswerError, match="liar im2col differ"):
            race.enter(liar, quick=True)
    finally:
        honest.close()
        liar.close()


def test_a_missing_library_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("jax") is not None:
        pytest.skip("jax is installed")
    arguments = ["--quick", "--rounds", "1", "--seconds", "0.001", "--filter", "lenet.c1@1:forward"]
    assert run(*arguments, "--peers", "jax") == 0
    assert "not there: No module named 'jax'" in capsys.readouterr().out


def test_a_dead_worker_is_an_error_with_its_last_words() -> None:
    remote = Remote("numpy", 1)
    remote.started()
    remote._process.kill()
    with pytest.raises(RemoteError, match="ended with status"):
        remote.configurations(find("lenet.c1@1:forward"), quick=True)
    remote.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--filter", "no such row"], "matches no row"),
        (["--filter", "("], "no regular expression"),
        (["--peers", "caffe"], "no peer 'caffe'"),
        (["--peer-python", "jax"], "NAME=PATH"),
        (["--threads", "0"], "above 0"),
        (["--json", "no/such/folder.json"], "no such folder"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1


def test_operands_are_the_same_everywhere() -> None:
    # Every worker draws these for itself: the numbers are part of the contract.
    x, w = conv_operands(find("lenet.c1@1:forward"))
    assert x.shape == (1, 1, 28, 28)
    assert w.shape == (6, 1, 5, 5)
    assert abs(float(x.std()) - 1) < 0.1
    again, _ = conv_operands(find("lenet.c1@1:forward"))
    np.testing.assert_array_equal(x, again)
