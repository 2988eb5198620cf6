"""Transfer learning: freezing and what it saves, another head, features of frozen layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data, models, nn, optim
from fastconv import functional as F
from fastconv.autograd import Node
from fastconv.data.preprocessing import TENSORFLOW
from tests.support import run_python, uniform


def small(**options: Any) -> Any:
    return models.cifar_resnet20(width=4, **options)


def trained(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


def values(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


# ---------------------------------------------------------------------------------------- freezing
def test_freezing_by_name_pattern_and_module() -> None:
    model = small()
    everything = trained(model)
    assert model.freeze() is model and trained(model) == []
    model.unfreeze("linear", "layer3.2.conv2.weight")
    assert trained(model) == ["layer3.2.conv2.weight", "linear.weight", "linear.bias"]
    model.unfreeze().freeze("layer[12]", model.layer3[0], "bn1.*", "*.bias")
    left = trained(model)
    assert left[0] == "conv1.weight" and left[-1] == "linear.weight"
    assert not [n for n in left if n.startswith(("layer1", "layer2", "layer3.0.", "bn1"))]
    assert "layer3.1.bn1.weight" in left and "layer3.1.bn1.bias" not in left
    assert trained(model.unfreeze()) == everything
    model.layer1.freeze("0.conv1")
    assert set(everything) - set(trained(model)) == {"layer1.0.conv1.weight"}


def test_unknown_names_list_near_ones() -> None:
    model = small()
    with pytest.raises(ValueError, match=r"\[freeze\] CifarResNet has no .* 'layr1'; .*layer1"):
        model.freeze("conv1", "layr1")
    with pytest.raises(ValueError, match=r"\[unfreeze\] .* 'classifier\.\*'; there are conv1, bn1"):
        model.unfreeze("classifier.*")
    with pytest.raises(ValueError, match=r"this Linear is no part of the CifarResNet"):
        model.freeze(nn.Linear(2, 2))


def test_optimisers_leave_frozen_parameters_alone(rng: np.random.Generator) -> None:
    """Also with momentum and decay from the time before, and gradients that were left."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = fc.Tensor(uniform(rng, 20, 3))
    for make in (optim.SGD, optim.Adam, optim.RMSprop):
        model.unfreeze()
        optimizer = make(model.parameters(), lr=0.1, weight_decay=0.1)
        model(x).sum().backward()
        optimizer.step()
        model(x).sum().backward()
        model.freeze("0")
        before = values(model)
        optimizer.step()
        for name, now in values(model).items():
            assert (now == before[name]).all() == name.startswith("0."), (make, name)


def test_frozen_batch_norm_keeps_its_statistics(rng: np.random.Generator) -> None:
    """In training mode it is what it is in evaluation, forward and backward; and back again."""
    norm = nn.BatchNorm2d(3)
    norm(fc.Tensor(uniform(rng, 20, 3, 4, 4)))  # statistics other than at the start
    with fc.no_grad():
        norm.weight.copy_(uniform(rng, 3))
    for n in (5, 20):
        x, dy = uniform(rng, n, 3, 4, 4), uniform(rng, n, 3, 4, 4)
        results = []
        for mode in ("eval", "frozen"):
            getattr(norm, "unfreeze" if mode == "eval" else "freeze")().train(mode == "frozen")
            before, input = values(norm), fc.Tensor(x, requires_grad=True)
            y = norm(input)
            y.backward(dy)
            assert norm.frozen == (norm.weight.grad is None) == (mode == "frozen")
            for name, now in values(norm).items():
                np.testing.assert_array_equal(now, before[name], err_msg=name)
            results.append((y.numpy(), input.grad.numpy()))
            norm.zero_grad()
        for theirs, ours in zip(*results, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    before = values(norm.unfreeze().train())
    norm(fc.Tensor(x))
    assert (values(norm)["running_mean"] != before["running_mean"]).all()
    assert not nn.BatchNorm2d(3, affine=False).frozen, "without parameters there is nothing to ask"
    norm.freeze("weight")
    assert not norm.frozen, "a bias that is trained"


def nodes(model: nn.Module, x: np.ndarray) -> int:
    """How many operations are recorded in a forward pass."""
    before = next(Node._ids)
    model.train()(fc.Tensor(x))
    return next(Node._ids) - before - 1


@pytest.mark.parametrize("n", [3, 16])
def test_a_frozen_beginning_records_nothing(n: int, rng: np.random.Generator) -> None:
    model, x = small(), uniform(rng, n, 3, 16, 16)
    whole = nodes(model, x)
    model.freeze("conv1", "bn1", "layer1", "layer2")
    third = nodes(model, x)
    assert 0.25 * whole < third < 0.45 * whole
    model.freeze("layer3")
    assert nodes(model, x) == 1, "the head alone"
    model.freeze()
    assert nodes(model, x) == 0


def test_frozen_layers_in_between_give_no_gradient_of_their_own(rng: np.random.Generator) -> None:
    """What is in front of them is trained as if they were not frozen."""
    model, x = small().eval(), uniform(rng, 16, 3, 16, 16)

    def gradients() -> dict[str, Any]:
        model.zero_grad()
        F.cross_entropy(model(fc.Tensor(x)), fc.Tensor(np.arange(16) % 10)).backward()
        return {name: p.grad for name, p in model.named_parameters()}

    free, frozen = gradients(), (model.freeze("layer2", "layer3"), gradients())[1]
    for name, grad in free.items():
        if name.startswith(("layer2", "layer3")):
            assert frozen[name] is None
        else:
            np.testing.assert_allclose(frozen[name].numpy(), grad.numpy(), rtol=1e-4, atol=1e-6)


def test_a_frozen_beginning_holds_no_activations() -> None:
    """What a pass leaves allocated until its backward pass, as the core counts it or the system."""
    code = """
import os, numpy as np, fastconv as fc
from fastconv import models
fc.set_num_threads(1)
model = models.cifar_resnet20(width=16).train()
if FROZEN:
    model.freeze("conv1", "bn1", "layer1", "layer2")
x = fc.Tensor(np.zeros((64, 3, 32, 32), np.float32))
def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
with fc.no_grad():
    model(x)
before = resident()
y = model(x)
print((resident() - before) / 2**20)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads Linux's memory counters")
    held = []
    for frozen in (False, True):
        done = run_python(f"FROZEN = {frozen}\n{code}")
        assert done.returncode == 0, done.stderr
        held.append(float(done.stdout))
    # 64 images, each layer's activations: 4 MiB a convolution in layer1, 2 in layer2, 1 in layer3.
    assert held[0] > 60 and held[1] < 0.4 * held[0], held


def test_finetuning_with_a_rate_for_each_group(rng: np.random.Generator) -> None:
    model = small(num_classes=2)
    model.freeze("conv1", "bn1", "layer1")
    before = values(model)
    groups = [
        {"params": [*model.layer2.parameters(), *model.layer3.parameters()], "lr": 1e-3},
        {"params": model.linear.parameters(), "lr": 1e-1},
    ]
    model.compile(optim.SGD(groups, lr=1e-2), metrics=["accuracy"])
    model.fit(uniform(rng, 40, 3, 16, 16), np.arange(40) % 2, epochs=2, batch_size=16, verbose=0)
    for name, now in values(model).items():
        same = (now == before[name]).all()
        assert same == name.startswith(("conv1", "bn1", "layer1")), name


# -------------------------------------------------------------------------------------------- heads
HEADS = {
    "alexnet": "classifier.6",
    "cifar_resnet20": "linear",
    "googlenet": "fc",
    "keras_mlp": "3",
    "lenet5": "11",
    "mobilenet_v1": "conv_preds",
    "mobilenet_v2": "classifier.1",
    "resnet18": "fc",
    "vgg11_bn": "classifier.6",
}


@pytest.mark.parametrize("name", HEADS)
def test_heads(name: str) -> None:
    from tests.test_models import made

    model = made(name)
    assert models.head_name(model) == HEADS[name]
    model.eval().freeze()
    before = models.head_name(model), model.get_submodule(HEADS[name])
    assert models.replace_head(model, 3, ["a", "b", "c"]) is model
    head = model.get_submodule(HEADS[name])
    assert type(head) is type(before[1]) and head.weight.shape[1:] == before[1].weight.shape[1:]
    assert len(head.weight) == len(head.bias) == 3 and not head.training
    assert model.architecture[1]["num_classes"] == 3 and model.classes == ["a", "b", "c"]
    heads = ["aux1.fc2", "aux2.fc2", "fc"] if name == "googlenet" else [HEADS[name]]
    assert trained(model) == [f"{head}.{kind}" for head in heads for kind in ("weight", "bias")]
    again = made(name, **model.architecture[1])
    assert [p.shape for p in again.parameters()] == [p.shape for p in model.parameters()]


def test_heads_that_do_not_fit() -> None:
    model = small()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=r"\[replace_head\] num_classes must be 1 or more"):
            models.replace_head(model, wrong)
    with pytest.raises(TypeError, match=r"num_classes must be an integer, got 2\.5"):
        models.replace_head(model, 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 classes for 3 outputs"):
        models.replace_head(model, 3, ["a", "b"])
    with pytest.raises(ValueError, match=r"trained layer has weights \(3, 5\), the new head \(3, "):
        models.replace_head(model, 3, trained=nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"bn1 is BatchNorm2d"):
        models.replace_head(model, 3, name="bn1")
    with pytest.raises(ValueError, match=r"last layer with parameters of .* is 1 \(BatchNorm1d\)"):
        models.head_name(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match=r"is none \(ReLU\)"):
        models.head_name(nn.ReLU())
    assert model.architecture[1]["num_classes"] == 10 and model.linear.weight.shape == (10, 16)
    models.replace_head(model, 3, name="linear")
    assert model.architecture[1]["num_classes"] == 3
    models.replace_head(model, 8, name="layer3.0.conv1")
    assert model.architecture is None, "no longer a network that could be built from its name"


# ----------------------------------------------------------------------------------------- features
@pytest.mark.parametrize("name", ["cifar_resnet20", "mobilenet_v1", "googlenet"])
def test_a_head_trained_on_features_is_the_networks(name: str, rng: np.random.Generator) -> None:
    """features -> Linear, and the network with that Linear as its head, say the same."""
    options = {"cifar_resnet20": {"width": 4}, "mobilenet_v1": {"width": 0.25}}.get(name, {})
    model = models.build(name, num_classes=7, **options).train()
    model.preprocessing = TENSORFLOW
    pictures = rng.integers(0, 256, (20, 3, 32, 32), np.uint8)
    before, modes = values(model), [module.training for module in model.modules()]
    features = models.extract_features(model, pictures, batch_size=16)
    assert [module.training for module in model.modules()] == modes
    for key, now in values(model).items():
        np.testing.assert_array_equal(now, before[key])
    size = {"cifar_resnet20": 16, "mobilenet_v1": 256, "googlenet": 1024}[name]
    assert features.shape == (20, size) and features.dtype == np.float32
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(size, 2))
    models.replace_head(model, 2, ["cat", "dog"], trained=head)
    x = pictures / np.float32(127.5) - 1
    with fc.no_grad():
        expected = head.eval()(fc.Tensor(features)).numpy()
        logits = model.eval()(fc.Tensor(x)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_features_of_loaders_layers_and_encoders(rng: np.random.Generator) -> None:
    model, x, y = small(), uniform(rng, 20, 3, 16, 16), np.arange(20)
    features, targets = models.extract_features(model, data.Loader(x, y, 8), with_targets=True)
    np.testing.assert_array_equal(targets, y)
    np.testing.assert_allclose(features, models.extract_features(model, x), rtol=1e-4, atol=1e-5)
    assert models.extract_features(model, x, until="").shape == (20, 10)
    assert models.extract_features(model, x, until="layer2").shape == (20, 4 * 16 * 16)
    autoencoder = models.conv_autoencoder(code_size=6)
    digits = rng.random((5, 1, 28, 28), np.float32)
    codes = models.extract_features(autoencoder.encoder, digits, until="")
    np.testing.assert_allclose(codes, autoencoder.encode(digits).numpy(), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="has no layer 'layer9'"):
        models.extract_features(model, x, until="layer9")
    with pytest.raises(ValueError, match="shuffle=False"):
        models.extract_features(model, data.Loader(x, y, shuffle=True))
    with pytest.raises(ValueError, match="gives no batch"):
        models.extract_features(model, data.Loader(x, y, 32, drop_last=True))
    with pytest.raises(fc.ShapeError, match=r"in layer .conv1. .*has 2 channels"):
        models.extract_features(model, x[:, :2])
    assert not model._forward_pre_hooks and not model.linear._forward_pre_hooks


def test_features_are_kept(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file for each combination of weights, data, scaling and layer."""
    model, x = small(), rng.integers(0, 256, (5, 3, 16, 16), np.uint8)
    runs = []
    monkeypatch.setattr(
        models.CifarResNet, "forward", lambda self, x: (runs.append(1), forward(self, x))[1]
    )

    def features(**options: Any) -> np.ndarray:
        found: np.ndarray = models.extract_features(model, x, tmp_path / "kept", **options)
        return found

    first = features()
    assert runs == [1]
    np.testing.assert_array_equal(features(), first, strict=True)
    np.testing.assert_array_equal(features(batch_size=5), first)
    kept, targets = features(with_targets=True)
    np.testing.assert_array_equal(kept, first)
    assert runs == [1] and targets.shape == (5,) and len(list((tmp_path / "kept").iterdir())) == 1
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    np.testing.assert_array_equal(features(), first)
    assert len(runs) == 2
    model.preprocessing = TENSORFLOW
    assert (features() != first).any()
    x = x[::-1]
    assert (features()[0] != first[0]).any()
    features(until="")
    with fc.no_grad():
        model.conv1.weight.copy_(model.conv1.weight.numpy() * 2)
    features()
    assert len(runs) == 6 and len(list((tmp_path / "kept").iterdir())) == 5
    loader = data.Loader(x, transform=lambda images, rng: images)
    with pytest.raises(ValueError, match="cannot be cached"):
        models.extract_features(model, loader, tmp_path)


forward = models.CifarResNet.forward


def test_features_of_a_folder(tmp_path: Path, rng: np.random.Generator) -> None:
    """Pictures that cannot be read are missing; a changed file is seen by the cache."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for label in ("cat", "dog"):
        (tmp_path / "x" / label).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
            image.fromarray(pixels).save(tmp_path / "x" / label / f"{i}.png")
    (tmp_path / "x" / "cat" / "1.png").write_bytes(b"no picture")
    model = small()
    model.preprocessing = fc.data.preprocessing.CIFAR10
    folder = data.ImageFolder(tmp_path / "x", model.preprocessing)
    with pytest.warns(data.BadImageWarning):
        features, targets = models.extract_features(
            model, folder, tmp_path / "kept", with_targets=True
        )
    assert features.shape == (5, 16) and targets.tolist() == [0, 0, 1, 1, 1]
    again = models.extract_features(model, folder, tmp_path / "kept")
    np.testing.assert_array_equal(again, features)
    pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
    image.fromarray(pixels).save(tmp_path / "x" / "cat" / "1.png")
    folder = data.ImageFolder(tmp_path / "x", model.preprocessing)
    assert models.extract_features(model, folder, tmp_path / "kept").shape == (6, 16)
