"""Recorded programs: the bits of eager runs, made anew when something changes, or not at all."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import _core, models, nn, optim
from fastconv import functional as F
from fastconv.program import MOST_PROGRAMS, _Recorded
from tests import operations
from tests.operations import OPERATIONS
from tests.support import array, assert_same_bits, dirty_arena, numpy, uniform

Make = Callable[[], nn.Module]


class ConvNet(nn.Sequential):
    """Convolution, batch norm, pooling of both kinds, dropout."""

    def __init__(self, momentum: float | None = 0.1) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8, momentum=momentum),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.3),
            nn.Conv2d(8, 6, 3, stride=2, bias=False),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 10),
        )


# Networks, the shape of a sample, and how many of them a step gets.
NETWORKS: dict[str, tuple[Make, tuple[int, ...], tuple[int, ...]]] = {
    "lenet": (models.lenet5, (1, 28, 28), (1, 7, 17, 64)),
    "convnet": (ConvNet, (3, 12, 12), (7, 17, 32)),
    "mlp": (models.keras_mlp, (784,), (1, 7, 17, 64)),
    "resnet18": (lambda: models.resnet18(num_classes=10), (3, 32, 32), (17,)),
    "mobilenet_v2": (lambda: models.mobilenet_v2(num_classes=10), (3, 32, 32), (7,)),
    "googlenet": (lambda: models.googlenet(num_classes=10), (3, 64, 64), (4,)),
}


def made(name: str) -> nn.Module:
    fc.manual_seed(3)
    return NETWORKS[name][0]()


def batch(name: str, count: int, seed: int = 0) -> tuple[fc.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    return fc.Tensor(uniform(rng, count, *NETWORKS[name][1])), rng.integers(0, 10, count)


def gradients(model: nn.Module) -> list[np.ndarray | None]:
    return [None if p.grad is None else p.grad.numpy().copy() for p in model.parameters()]


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert x.numpy().tobytes() == y.numpy().tobytes(), name


def main_output(outputs: Any) -> np.ndarray:
    return np.array((outputs[0] if isinstance(outputs, tuple) else outputs).numpy())


# --------------------------------------------------------------------------------- the same bits
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_have_the_bits_of_eager_steps(name: str) -> None:
    """Losses, outputs, gradients, parameters and running statistics, over several batches."""
    criterion = models.GoogLeNetLoss() if name == "googlenet" else nn.CrossEntropyLoss()
    runs = []
    for recorded in (False, True):
        model = made(name)
        step = fc.record_step(model, criterion)
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        seen: list[Any] = []
        for turn in range(3):
            for count in NETWORKS[name][2]:
                images, labels = batch(name, count, turn)
                optimizer.zero_grad()
                if recorded:
                    loss, outputs = step(images, labels)
                    assert step.reason is None
                else:
                    outputs = model(images)
                    loss = criterion(outputs, fc.Tensor(labels))
                    loss.backward()
                seen += [loss.numpy().copy(), main_output(outputs), *gradients(model)]
                optimizer.step()
        runs.append((model, seen))
    (eager_model, eager), (model, replayed) = runs
    for a, b in zip(eager, replayed, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_same_bits(a, b)
    assert_same_state(eager_model, model)


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_has_the_bits_of_the_model(name: str) -> None:
    model = made(name).eval()
    forward = fc.record(model)
    for turn in range(2):
        for count in (1, *NETWORKS[name][2]):
            images, _ = batch(name, count, turn)
            dirty_arena()
            with fc.no_grad():
                assert_same_bits(forward(images).numpy(), model(images).numpy())
            assert forward.reason is None


def test_autoencoder() -> None:
    fc.manual_seed(0)
    model = models.conv_autoencoder()
    step = fc.record_step(model, F.mse_loss)
    x = fc.Tensor(np.random.default_rng(0).random((17, 1, 28, 28), dtype=np.float32))
    seen = []
    for _ in range(3):
        model.zero_grad()
        loss, _ = step(x, x)
        seen.append([loss.numpy(), *gradients(model)])
    assert step.reason is None
    model.zero_grad()
    expected = F.mse_loss(model(x), x)
    expected.backward()
    for numbers in seen:
        for a, b in zip(numbers, [expected.detach().numpy(), *gradients(model)], strict=True):
            assert_same_bits(a, b)


# What looks at numbers or brings some from NumPy is no part of a program.
REPEATABLE = sorted(set(OPERATIONS) - {"conversion", "losses", "optimisers"})


@pytest.mark.parametrize("name", REPEATABLE)
def test_every_operation_can_be_replayed_on_other_values(
    name: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(operands: Callable[..., _core.Array]) -> list[_core.Array]:
        monkeypatch.setattr(operations, "weight", operands)
        return OPERATIONS[name](lambda *shape: operands(*shape, layout=layout))

    def drawn(seed: int) -> list[_core.Array]:
        rng, made = np.random.default_rng(seed), []

        def draw(*shape: int, layout: str = "plain") -> _core.Array:
            made.append(array(uniform(rng, *shape), layout))
            return made[-1].copy()  # operations may write into it

        run(draw)
        return made

    first, second = drawn(1), drawn(2)
    with _core.Recorder(first) as recorder:
        given = iter(first)
        program = recorder.finish(run(lambda *shape, layout="plain": next(given)))
        given = iter(second)
        expected = [numpy(y) for y in run(lambda *shape, layout="plain": next(given))]
    for y, z in zip(program.run(drawn(2), [5] * program.seeds), expected, strict=True):
        assert_same_bits(numpy(y), z)


# ------------------------------------------------------------------- what makes a new recording
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows with every recording that is made."""
    made: list[object] = []
    record = _Recorded._record

    def counted(self: Any, *arguments: Any) -> Any:
        made.append(self)
        return record(self, *arguments)

    monkeypatch.setattr(_Recorded, "_record", counted)
    return made


def test_one_recording_serves_until_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recordings(monkeypatch)
    model = ConvNet().eval()
    forward = fc.record(model)
    images = fc.Tensor(uniform(np.random.default_rng(0), 4, 3, 12, 12))

    def same(new: int) -> None:
        """Two calls agree with the model, and `new` recordings were made for them."""
        del made[:]
        for _ in range(2):
            fc.manual_seed(1)
            replayed = forward(images).numpy()
            fc.manual_seed(1)
            with fc.no_grad():
                assert_same_bits(replayed, model(images).numpy())
        assert len(made) == new
        assert forward.reason is None

    same(1)
    same(0)
    model.train()
    same(1)
    model[4].p = 0.9
    same(1)
    model.freeze("1")  # a frozen batch norm uses its running statistics
    same(1)
    model[9].weight.data = fc.Tensor(model[9].weight.numpy() * 2)
    same(1)
    model[2] = nn.Sigmoid()
    same(1)
    with fc.no_grad():
        model[9].weight.copy_(model[9].weight.numpy() * 3)
    model.load_state_dict(model.state_dict())
    fc.set_algorithm("direct")
    same(0)  # values in place, and what operations decide by themselves


def test_frozen_parameters_get_no_gradients() -> None:
    model = models.lenet5()
    step = fc.record_step(model, F.cross_entropy)
    images, labels = batch("lenet", 17)
    model.freeze("0", "3")
    for _ in range(2):
        step(images, labels)
    names = {name for name, p in model.named_parameters() if p.grad is None}
    assert names == {"0.weight", "0.bias", "3.weight", "3.bias"}
    model.unfreeze("3")
    step(images, labels)
    assert model[3].weight.grad is not None and step.reason is None
    assert model[0].weight.grad is None
    model[0].weight.requires_grad = True
    step(images, labels)
    assert model[0].weight.grad is not None and step.reason is None


def test_inputs_that_require_gradients_get_them() -> None:
    model = models.lenet5()
    step = fc.record_step(model, F.cross_entropy)
    values, labels = batch("lenet", 17)
    images = fc.Tensor(values)
    for _ in range(2):
        step(images, labels)
    images.requires_grad_()
    step(images, labels)
    assert "inputs require gradients" in str(step.reason)
    reached = images.grad
    images.grad = None
    F.cross_entropy(model(images), labels).backward()
    assert reached is not None and images.grad is not None
    assert_same_bits(reached.numpy(), images.grad.numpy())
    step(values, labels)
    assert step.reason is None


def test_gradients_add_up_as_in_backward() -> None:
    images, labels = batch("lenet", 17)
    sums = []
    for recorded in (False, True):
        model = made("lenet")
        step = fc.record_step(model, F.cross_entropy)
        for _ in range(3):
            if recorded:
                step(images, labels)
            else:
                F.cross_entropy(model(images), labels).backward()
        sums.append(gradients(model))
    for a, b in zip(*sums, strict=True):
        assert_same_bits(a, b)


def test_weights_used_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: fc.Tensor) -> fc.Tensor:
            return self.layer(F.relu(self.layer(x)))

    model = Twice()
    step = fc.record_step(model, F.mse_loss)
    x = fc.Tensor(uniform(np.random.default_rng(0), 20, 8))
    for _ in range(2):
        model.zero_grad()
        step(x, x)
    replayed = gradients(model)
    model.zero_grad()
    F.mse_loss(model(x), x).backward()
    for a, b in zip(replayed, gradients(model), strict=True):
        assert_same_bits(a, b)


def test_only_so_many_programs_are_kept() -> None:
    forward = fc.record(nn.ReLU())
    for count in range(1, MOST_PROGRAMS + 5):
        forward(fc.zeros(count, 3))
    assert len(forward._programs) == MOST_PROGRAMS


def test_copies_record_for_themselves() -> None:
    model = made("lenet")
    model.fast = fc.record(model)
    images, _ = batch("lenet", 2)
    expected = model.fast(images).numpy().copy()
    twin = copy.deepcopy(model)
    with fc.no_grad():
        model[11].weight.zero_()
    assert_same_bits(twin.fast(images).numpy(), expected)
    assert twin.fast.reason is None


# ----------------------------------------------------------------------- what cannot be recorded
class Looks(nn.Module):
    """Decides by a value."""

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        return x * 2 if x.sum() > 0 else x * 3


class Noisy(nn.Module):
    """Brings new values."""

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        return x + fc.randn(*x.shape)


class Counts(nn.Module):
    """Changes itself."""

    calls = 0

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        self.calls += 1
        return x * float(self.calls)


class Returns(nn.Module):
    """Something else than tensors."""

    def forward(self, x: fc.Tensor) -> Any:
        return {"x": x}


def hooked() -> nn.Module:
    model = nn.Sequential(nn.ReLU())
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Looks, "looks at values"),
        (Noisy, "from NumPy"),
        (Counts, "changes attributes"),
        (Returns, "returns dict"),
        (hooked, "hooks"),
        (lambda: ConvNet(momentum=None).train(), "looks at values"),
        (lambda: Recording(), "inside"),
    ],
)
def test_what_cannot_be_recorded_runs_as_ever(make: Make, why: str) -> None:
    model, twin = make(), make()
    twin.load_state_dict(model.state_dict())
    forward = fc.record(model)
    for sign in (1, -1, 1):
        x = fc.Tensor(sign * uniform(np.random.default_rng(0), 4, 3, 12, 12))
        fc.manual_seed(5)
        found = forward(x)
        fc.manual_seed(5)
        with fc.no_grad():
            expected = twin(x)
        if isinstance(found, dict):
            found, expected = found["x"], expected["x"]
        assert_same_bits(found.numpy(), expected.numpy())
        assert why in str(forward.reason)


class Recording(nn.Module):
    """A recording inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
        self.inner = fc.record(self.layer)

    def forward(self, x: fc.Tensor) -> fc.Tensor:
        return self.inner(x)


def test_tensors_outside_the_network_get_their_gradients() -> None:
    scale = fc.Tensor([2.0] * 4, requires_grad=True)
    model = nn.Linear(4, 4)
    step = fc.record_step(model, lambda y, target: F.mse_loss(y * scale.reshape(1, 4), target))
    x = fc.Tensor(np.ones((1, 4), np.float32))
    for _ in range(2):
        scale.grad = None
        step(x, x)
        assert scale.grad is not None and "no attribute" in str(step.reason)


def test_steps_under_no_grad_are_refused() -> None:
    step = fc.record_step(models.lenet5(), F.cross_entropy)
    with fc.no_grad(), pytest.raises(RuntimeError, match="no_grad"):
        step(*batch("lenet", 7))
    with pytest.raises(TypeError, match="Module"):
        fc.record(F.relu)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------- errors and memory
def test_errors_come_through_and_nothing_is_lost() -> None:
    model = made("lenet")
    step = fc.record_step(model, F.cross_entropy)
    images, labels = batch("lenet", 17)
    loss, outputs = step(images, labels)
    expected = gradients(model)
    gc.collect()
    before = _core.arena_stats()["bytes_in_use"]
    for _ in range(3):
        with pytest.raises(ValueError, match="label"):
            step(images, labels + 100)
    assert _core.arena_stats()["bytes_in_use"] == before
    model.zero_grad()
    again = step(images, labels)
    assert_same_bits(again[0].numpy(), loss.numpy())
    assert_same_bits(again[1].numpy(), outputs.numpy())
    for a, b in zip(gradients(model), expected, strict=True):
        assert_same_bits(a, b)


def test_programs_check_their_inputs() -> None:
    x = array(np.ones((2, 3), np.float32))
    with _core.Recorder([x]) as recorder:
        program = recorder.finish([_core.relu(x)])
    assert str(program) == "%1 = relu(%0)\nreturn %1"
    with pytest.raises(fc.ShapeError, match="input 0"):
        program.run([array(np.ones((3, 2), np.float32))], [])
    with pytest.raises(fc.ShapeError, match="lanes"):
        program.run([_core.to_lanes(x)], [])
    with pytest.raises(ValueError, match="expected 1 inputs"):
        program.run([], [])
    with pytest.raises(ValueError, match="0 seeds"):
        program.run([x], [1])


def test_one_program_in_several_threads() -> None:
    model = made("lenet").eval()
    forward = fc.record(model)
    batches = [batch("lenet", 17, seed)[0] for seed in range(8)]
    expected = [forward(x).numpy() for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for y, z in zip(pool.map(forward, batches), expected, strict=True):
                assert_same_bits(y.numpy(), z)
