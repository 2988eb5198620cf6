"""fastconv bench: right answers pass, wrong ones do not, and nothing is dropped in silence."""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, benchmark, models
from fastconv.benchmark import goals, memory
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
from fastconv.benchmark.networks import NETWORKS, sample, starting_value
from fastconv.benchmark.peers import (
    OURS,
    layouts,
    mnist_torch,
    numpy_im2col,
    torch_models,
    torch_style,
)
from fastconv.benchmark.race import Race, WrongAnswerError
from fastconv.benchmark.remote import Remote, RemoteError
from fastconv.benchmark.timing import Times, ratio
from fastconv.train import recipes


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


def test_who_contradicts_two_that_agree_is_left_out() -> None:
    task = find("lenet.c1@1:forward")
    remotes = [Remote("numpy", 1, label=label) for label in ("one", "other", "liar")]
    try:
        race = Race(task)
        for remote in remotes:
            remote.started()
            if remote is remotes[-1]:
                race.task = find("lenet.c1@128:forward")
            race.enter(remote, quick=True)
        assert [entry.remote.label for entry in race.entries] == ["one", "other"]
        (failure,) = race.failures
        assert "liar im2col" in failure
        assert "WrongAnswer: differs from the answer of one im2col and other im2col" in failure
    finally:
        for remote in remotes:
            remote.close()


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


# ------------------------------------------------------------------------------ networks, goals
@pytest.mark.parametrize("name", ["alexnet", "mobilenet_v2", "resnet18"])
def test_multiply_adds_are_those_of_the_summary(name: str) -> None:
    network = NETWORKS[name]
    said: list[str] = []
    getattr(models, name)().summary(network.input_shape, print_fn=said.append)
    assert f"Multiply-adds for one sample: {network.macs:,}" in said


def test_networks_at_any_batch_are_tasks() -> None:
    task = find("vgg19_bn@2:gradients0")
    assert (task.subject, task.batch, task.suite) == (NETWORKS["vgg19_bn"], 2, "networks")
    one = 2 * NETWORKS["vgg19_bn"].macs
    assert find("vgg19_bn@1:infer").flop == one
    assert 2.9 * one < find("vgg19_bn@1:train").flop < 3 * one
    with pytest.raises(KeyError):
        find("vgg20@1:train")


def test_starting_values_are_usable_and_repeat() -> None:
    w = starting_value(NETWORKS["resnet18"], "conv1.weight", (64, 3, 7, 7))
    assert w.std() == pytest.approx((2 / 147) ** 0.5, rel=0.02)
    np.testing.assert_array_equal(
        w, starting_value(NETWORKS["resnet18"], "conv1.weight", (64, 3, 7, 7))
    )
    assert sample(w).size <= 4096


@pytest.mark.parametrize(
    "name", ["alexnet", "googlenet", "mobilenet_v1", "mobilenet_v2", "resnet50"]
)
def test_pytorch_runs_our_networks(name: str) -> None:
    torch = pytest.importorskip("torch")
    network = NETWORKS[name]
    ours = getattr(models, name)(**network.arguments).eval()
    theirs = torch_models.build(torch, network).eval()
    assert {n: tuple(t.shape) for n, t in theirs.state_dict().items()} == {
        n: tuple(t.shape) for n, t in ours.state_dict().items()
    }
    torch_style.load_parameters(ours, network, fc.Tensor)
    torch_style.load_parameters(theirs, network, torch.from_numpy)
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    with fc.no_grad(), torch.no_grad():
        logits, expected = ours(fc.Tensor(x)).numpy(), theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_a_network_is_measured_with_its_memory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "rows.json"
    arguments = ["networks", "--rounds", "1", "--seconds", "0.001", "--peers", "none"]
    assert run(*arguments, "--filter", "mobilenet_v2@1:", "--json", str(file)) == 0
    assert "mobilenet_v2@1" in capsys.readouterr().out
    (row,) = json.loads(file.read_text())["rows"]
    assert row["contestants"][0]["memory"]["peak"] >= 0


def test_memory_peaks_begin_anew() -> None:
    if not memory.resident() or not memory.reset_peak():
        pytest.skip("this system does not tell")
    with mmap.mmap(-1, 64 << 20) as ballast:  # not from a heap, which may keep what is freed
        ballast.write(b"1" * len(ballast))
        high = memory.peak()
        assert high >= memory.resident() > len(ballast)
    assert memory.reset_peak()
    assert memory.peak() < high


def test_who_does_not_answer_in_time_is_ended() -> None:
    remote = Remote("numpy", 1)
    remote.started()
    handle, _ = remote.prepare(find("lenet.c1@1:forward"), "im2col")
    remote.patience = 0.05
    with pytest.raises(RemoteError, match=r"no answer within 0\.05 s"):
        remote.burst(handle, 60.0)
    assert not remote.alive
    remote.close()


def test_a_race_leaves_out_who_is_not_ready() -> None:
    task = find("lenet.c1@1:forward")
    first, late = Remote("numpy", 1), Remote("numpy", 1, label="late")
    try:
        for remote in (first, late):
            remote.started()
        race = Race(task, limit=0.3)
        race.enter(first, quick=True)
        time.sleep(0.3)
        race.enter(late, quick=True)
        race.run(rounds=5, seconds=0.001)
        assert [entry.name for entry in race.entries] == ["numpy im2col"]
        assert len(race.entries[0].times.rounds) == 1
        assert race.failures == ["late im2col (lenet.c1@1:forward): TimeLimit: no time is left"]
    finally:
        first.close()
        late.close()


def test_all_goes_on_where_it_stopped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    arguments = ["--all", "--quick", "--rounds", "1", "--seconds", "0.001", "--peers", "none"]
    assert run(*arguments, "--filter", "size", "--json", str(file)) == 0
    capsys.readouterr()
    assert run(*arguments, "--filter", "size|lenet5@1:", "--json", str(file)) == 0
    out = capsys.readouterr().out
    assert f"{file} has 1 of them" in out
    assert "[2/2" not in out  # the row of the first run stands
    assert "no peer took part" in out
    rows = json.loads(file.read_text())["rows"]
    assert set(rows) == {"size", "lenet5@1:infer"}
    rows["size"]["key"] = "another build"
    file.write_text(json.dumps({"rows": rows}))
    assert run(*arguments, "--filter", "size", "--json", str(file)) == 0
    assert f"{file} has 0 of them" in capsys.readouterr().out


def test_all_refuses_a_file_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    file.write_text('{"rows": [1]}')
    assert run("--all", "--peers", "none", "--filter", "size", "--json", str(file)) == 2
    assert "holds no rows of --all" in capsys.readouterr().err


def test_goals_are_met_or_named() -> None:
    def entry(seconds: float, ratio: float = 1.0) -> dict[str, object]:
        return {"name": "torch eager", "seconds": seconds, "ratio": ratio, "memory": {}}

    rows = {
        "lenet5@128:train": {
            "batch": 128,
            "flop": 5e8,
            "peak": 1e12,
            "ours": entry(0.001),
            "peer": entry(0.005, 5.0),
        },
        "mlp@128:train": {
            "batch": 128,
            "flop": 5e8,
            "peak": 1e12,
            "ours": entry(0.001),
            "peer": entry(0.001, 1.0),
        },
        "mnist": {"ours": entry(2.4), "peer": None},
        "import": {"error": "RuntimeError: exit status 1"},
    }
    lines = goals.lines(rows)
    assert len(lines) == len(goals.GOALS) + 1
    found = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")] for line in lines}
    assert found["LeNet-5 training step, batch 128"][2:-1] == [
        *("128,000 img/s", "25,600 img/s", "torch eager", "5.00x", "4.5x", "50 %", "yes")
    ]
    assert found["MNIST to 99 %, from process start"][2:6] == [
        *("2.4 s", "-", "no peer took part", "-")
    ]
    assert found["import beyond NumPy's own"][2] == "failed"
    assert goals.unmet(rows) == ["MLP 784-512-10 training step, batch 128 (1.00x)"]


def test_every_goal_can_be_measured() -> None:
    special = {"mnist", "import", "size"}
    assert {find(unit).id for unit in goals.chosen(None) if unit not in special} <= {
        task.id for task in TASKS
    }


def test_pytorch_trains_mnist_by_our_recipe() -> None:
    ours = recipes.recipe_for("lenet5", {}, until=True)
    assert (ours.optimizer, ours.batch_size, ours.epochs, ours.lr, ours.cycle) == (
        *("adam", mnist_torch.BATCH, mnist_torch.EPOCHS),
        *(mnist_torch.PEAK_RATE, mnist_torch.CYCLE),
    )
    assert ours.beta2 == mnist_torch.BETA2
    for share in (0.0, 0.05, 0.1, 0.25, 0.6, 1.0):
        assert mnist_torch.one_cycle(share) == pytest.approx(recipes.one_cycle(share, ours.rise))


def test_a_worker_imports_the_tree_it_is_given(tmp_path: Path) -> None:
    """Also beside an editable install, which answers before the path does."""
    tree = tmp_path / "fastconv"
    shutil.copytree(Path(fc.__file__).parent, tree, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_core.__file__, tree)
    remote = Remote(OURS, 1, tree=str(tmp_path))
    try:
        remote.started()
        assert Path(remote.describe()["folder"]).samefile(tree)
    finally:
        remote.close()
